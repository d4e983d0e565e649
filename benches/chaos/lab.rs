//! The server as the pool sees it, through the proxy, and as it is in truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sshpool::Host;
use tempfile::TempDir;

use crate::disk::{self, Disk};
use crate::job::MARK;
use crate::sudo;
use crate::support::common::proxy::Proxy;
use crate::support::common::sshd::Sshd;
use crate::support::pooled;

pub struct Lab {
    pub disk: Option<Disk>,
    pub sshd: Sshd,
    pub proxy: Proxy,
    ssh_config: PathBuf,
    pub hop: Sshd,
    /// In which the same server is behind the hop.
    over_hop: PathBuf,
    directory: TempDir,
}

/// What the record says of one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub starts: usize,
    pub ends: usize,
}

impl Lab {
    /// `directory` is for this process alone. Below it are the directories of the pools' sockets.
    pub fn new(directory: TempDir) -> Lab {
        let sshd = disk::add(Sshd::builder()).start();
        sudo::set_up(&sshd);
        let disk = Disk::of(&sshd);
        let proxy = Proxy::before(&sshd);
        let ssh_config = proxy.ssh_config(&sshd);
        let hop = Sshd::builder().start();
        let read = |path| std::fs::read_to_string(path).expect("it is there");
        let (server, jump) = (read(ssh_config.clone()), read(hop.ssh_config()));
        let jump = jump.replace("Host lab\n", "Host hop\n    ServerAliveInterval 2\n");
        let over_hop = directory.path().join("over_hop");
        std::fs::write(&over_hop, format!("{server}    ProxyJump hop\n{jump}")).expect("a file");
        Lab { disk, sshd, proxy, ssh_config, hop, over_hop, directory }
    }

    /// Where pools make the directories of their sockets.
    pub fn sockets(directory: &Path) -> PathBuf {
        directory.join("run")
    }

    pub fn own_sockets(&self) -> PathBuf {
        Lab::sockets(self.directory.path())
    }

    /// The server, behind the proxy and perhaps the hop. A connection on which nothing comes is
    /// given up after so many seconds, and as many again.
    pub fn host(&self, keepalive: usize, is_over_hop: bool) -> Host {
        pooled::host_of(if is_over_hop { &self.over_hop } else { &self.ssh_config })
            .option("ServerAliveInterval", keepalive.to_string())
            .and_then(|host| host.option("ServerAliveCountMax", "2"))
            .expect("a valid host")
    }

    /// The file that the commands of one round write to, as the server's shell is told of it.
    pub fn record(round: &str) -> String {
        format!("\"$HOME/chaos-{round}\"")
    }

    /// What the record of a round says. Lines that no command writes are in the second list.
    pub fn read_record(&self, round: &str) -> (BTreeMap<String, Entry>, Vec<String>) {
        let record = Lab::record(round);
        let read = self.sshd.exec(&format!("[ ! -e {record} ] || cat {record}"));
        assert!(read.status.success(), "the record cannot be read: {read:?}");
        let (mut entries, mut foreign) = (BTreeMap::<String, Entry>::new(), Vec::new());
        for line in read.stdout.lines() {
            match line.split_once(' ') {
                None => entries.entry(line.to_owned()).or_default().starts += 1,
                Some((id, "end")) => entries.entry(id.to_owned()).or_default().ends += 1,
                Some(_) => foreign.push(line.to_owned()),
            }
        }
        (entries, foreign)
    }

    /// The commands of a round that have a process on the server: their ids, and the processes'
    /// own.
    pub fn living(&self, round: &str) -> BTreeMap<String, Vec<u32>> {
        let mark = MARK.as_str();
        let look = format!(
            "for file in $(grep -lsE '{mark}={round}-' /proc/[0-9]*/environ); do pid=${{file#/proc/}}; \
             id=$(tr '\\0' '\\n' 2>/dev/null <$file | sed -n 's/^{mark}=//p'); \
             [ -z \"$id\" ] || echo \"${{pid%/environ}} $id\"; done; :"
        );
        let seen = self.sshd.exec(&look);
        assert!(seen.status.success(), "the server's processes cannot be seen: {seen:?}");
        let mut living = BTreeMap::<String, Vec<u32>>::new();
        for (pid, id) in seen.stdout.lines().filter_map(|line| line.split_once(' ')) {
            living.entry(id.to_owned()).or_default().push(pid.parse().expect("a number"));
        }
        living
    }

    /// As [`living`](Self::living), when none lives any more or at the latest after `patience`.
    pub fn still_living(&self, round: &str, patience: Duration) -> BTreeMap<String, Vec<u32>> {
        let start = Instant::now();
        loop {
            let living = self.living(round);
            if living.is_empty() || start.elapsed() >= patience {
                return living;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Ends what is left of a round on the server.
    pub fn end(&self, living: &BTreeMap<String, Vec<u32>>) {
        let pids: Vec<String> = living.values().flatten().map(u32::to_string).collect();
        if !pids.is_empty() {
            // What has ended in the meantime is no failure.
            self.sshd.exec(&format!("kill -s KILL {} 2>/dev/null; :", pids.join(" ")));
        }
    }
}
