//! A server behind a network that both fail when they are told to, and a pool that has to bear it.

use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use sshpool::{Host, Lease, Pool, PoolConfig};
use tokio::time::{Instant, sleep, timeout};

use super::common::proxy::Proxy;
use super::common::sshd::Sshd;
use super::pooled::{PATIENCE, config, host_of, kill, pool, processes_with, send};

/// Enough for a login where many tests run at once.
pub const CONNECT: Duration = Duration::from_secs(5);
pub const COMMAND: Duration = Duration::from_secs(3);
/// What a busy machine may need beyond a bound of the pool's.
pub const MARGIN: Duration = Duration::from_secs(20);

/// A server behind a network, and a pool that uses it.
pub struct Scene {
    pub sshd: Sshd,
    pub proxy: Proxy,
    pub pool: Pool,
    pub host: Host,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server runs and says nothing.
    Frozen,
    /// The network lets nothing through.
    Swallowed,
    /// The network lets little through.
    Throttled,
    /// The network resets all connections.
    Reset,
    /// The network refuses new connections.
    Refused,
    /// The server dies with all that runs on it, and comes back later.
    Rebooted,
    MasterStopped,
    MasterKilled,
}

impl Scene {
    pub fn new() -> Scene {
        Scene::with(|_| (), |host| host)
    }

    pub fn with(
        settings: impl FnOnce(&mut PoolConfig),
        options: impl FnOnce(Host) -> Host,
    ) -> Scene {
        let sshd = Sshd::builder().start();
        let proxy = Proxy::before(&sshd);
        let host = options(host_of(&proxy.ssh_config(&sshd)));
        let mut config = config().connect_timeout(CONNECT).command_timeout(COMMAND);
        settings(&mut config);
        Scene { sshd, proxy, pool: pool(config), host }
    }

    pub fn begin(&self, fault: Fault) {
        match fault {
            Fault::Frozen => self.sshd.freeze(),
            Fault::Swallowed => self.proxy.swallow(),
            Fault::Throttled => self.proxy.throttle(100),
            Fault::Reset => self.proxy.reset(),
            Fault::Refused => self.proxy.refuse(),
            Fault::Rebooted => {
                self.sshd.kill();
                self.proxy.refuse();
            }
            Fault::MasterStopped => self.masters().for_each(|pid| send(pid, Signal::SIGSTOP)),
            Fault::MasterKilled => self.masters().for_each(kill),
        }
    }

    pub fn end(&self, fault: Fault) {
        match fault {
            Fault::Frozen => self.sshd.thaw(),
            Fault::Swallowed | Fault::Throttled => self.proxy.pass(),
            Fault::Refused => self.proxy.accept(),
            Fault::Rebooted => {
                self.sshd.restart();
                self.proxy.accept();
            }
            // A stopped master is the pool's to get rid of.
            Fault::Reset | Fault::MasterStopped | Fault::MasterKilled => {}
        }
    }

    /// The control masters of this pool: no other process is started with this ssh_config for long.
    pub fn masters(&self) -> impl Iterator<Item = u32> {
        let config =
            self.host.get_config_file().expect("it was given one").to_string_lossy().into_owned();
        let pids = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        pids.filter(move |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(" -M ") && line.contains(&config)
        })
    }

    /// How often a command of this name ran.
    pub fn ran(&self, name: &str) -> usize {
        let ran = self.sshd.exec("cat ~/ran 2>/dev/null").stdout;
        ran.lines().filter(|line| *line == name).count()
    }

    /// Runs commands until one succeeds.
    pub async fn recovers(&self) {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.pool.exec(&self.host, "echo again").await {
                Ok(again) => return assert_eq!(again, "again"),
                Err(error) => assert!(Instant::now() < end, "it does not recover: {error}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Closes the pool, which has recovered, and looks at what is left.
    pub async fn leaves_nothing(&self) {
        let lease = self.pool.acquire(&self.host).await.expect("it works again");
        let directory = directory_of(&lease);
        assert!(directory.is_dir());
        drop(lease);
        self.closes(Duration::ZERO, directory).await;
    }

    pub async fn closes(&self, patience: Duration, directory: PathBuf) {
        told_within(patience, self.pool.close_within(patience)).await;
        assert_eq!(processes_with(&directory.to_string_lossy()), [""; 0]);
        assert!(!directory.exists());
        let stats = self.pool.stats();
        assert_eq!((stats.total_connections, stats.open_sessions, stats.waiting), (0, 0, 0));
        assert_eq!(self.masters().count(), 0);
    }
}

/// The command that is known by this name to have run.
pub fn recorded(name: &str) -> String {
    format!("echo {name} >>~/ran; ")
}

/// Where the sockets of a pool are: its masters are told.
pub fn directory_of(lease: &Lease) -> PathBuf {
    let line = std::fs::read(format!("/proc/{}/cmdline", lease.master_pid())).expect("it runs");
    let mut words = line.split(|&byte| byte == 0).skip_while(|word| *word != b"-S").skip(1);
    let socket =
        PathBuf::from(String::from_utf8_lossy(words.next().expect("it has a socket")).into_owned());
    socket.parent().expect("it is in a directory").to_owned()
}

/// The outcome, which must come within a bound of the pool's.
#[track_caller]
pub fn told_within<F: Future>(bound: Duration, outcome: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let told = timeout(bound + MARGIN, outcome).await;
        told.unwrap_or_else(|_| {
            panic!("{caller}: nobody was told within {bound:?}, nor {MARGIN:?} later")
        })
    }
}
