//! The server as the pool sees it, through the proxy, and as it is in truth.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sshpool::Host;
use tempfile::TempDir;

use crate::common::sshd::Sshd;
use crate::job::MARK;
use crate::proxy::Proxy;

pub struct Lab {
    pub sshd: Sshd,
    pub proxy: Proxy,
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
        let sshd = Sshd::builder().start();
        let proxy = Proxy::start(sshd.port());
        let lab = Lab { sshd, proxy, directory };
        let known = fs::read_to_string(lab.sshd.known_hosts()).expect("the server has one");
        let (own, seen) = (format!("]:{} ", lab.sshd.port()), format!("]:{} ", lab.proxy.port()));
        fs::write(lab.file("known_hosts"), known.replace(&own, &seen))
            .expect("a file in a new directory");
        let config = format!(
            "Host lab\n    HostName 127.0.0.1\n    Port {}\n    User {}\n    IdentityFile \"{}\"\n    IdentitiesOnly yes\n    \
             UserKnownHostsFile \"{}\"\n    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n",
            lab.proxy.port(),
            lab.sshd.user(),
            lab.sshd.identity_file().display(),
            lab.file("known_hosts").display(),
        );
        fs::write(lab.file("ssh_config"), config).expect("a file in a new directory");
        lab
    }

    /// Where pools make the directories of their sockets.
    pub fn sockets(directory: &Path) -> PathBuf {
        directory.join("run")
    }

    pub fn own_sockets(&self) -> PathBuf {
        Lab::sockets(self.directory.path())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The server, behind the proxy. A connection on which nothing comes is given up after so many
    /// seconds, and as many again.
    pub fn host(&self, keepalive: usize) -> Host {
        Host::new("lab")
            .and_then(|host| host.config_file(self.file("ssh_config")))
            .and_then(|host| host.option("ServerAliveInterval", keepalive.to_string()))
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
        let look = format!(
            "for file in $(grep -lsE '{MARK}={round}-' /proc/[0-9]*/environ); do pid=${{file#/proc/}}; \
             id=$(tr '\\0' '\\n' 2>/dev/null <$file | sed -n 's/^{MARK}=//p'); \
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
