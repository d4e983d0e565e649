//! The public face: [`Pool`] and [`Lease`].

mod connection_info;
mod forwards;
mod hops;
mod runner;
mod sessions;
pub(crate) mod signals;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use tokio::time::Instant;

pub use connection_info::ConnectionInfo;
pub use forwards::{Forward, ForwardEvent, ForwardEvents, ForwardStatus};

use crate::command::{Command, Output, Runner as _};
use crate::config::{PoolConfig, SessionReuse};
use crate::error::Error;
use crate::host::place::Place;
use crate::host::{Caller, Host, PoolKey};
use crate::openssh::{
    self, LaneSettings, LoginLimit, Master, OpenSsh, Program, Resolver, SshVersion,
};
use crate::policy::{self, Capacity, Core, Stats};
use crate::transport::NotResolved;

/// How long commands that run may take to finish when a pool is closed without another word.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A pool of authenticated connections to any number of hosts.
///
/// It is a handle: clones are the same pool, and cheap. Connections are made when a command needs
/// one and live in the tokio runtime that was entered then. When the last handle, lease and child
/// are dropped, the connections end.
#[derive(Clone)]
pub struct Pool {
    core: Arc<Core<OpenSsh>>,
    forwards: Arc<forwards::Registry>,
}

impl Pool {
    /// A pool with these settings. Starts no process; connections are made when they are needed.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a setting out of its bounds, [`Error::SshNotFound`] when there is no
    /// `ssh` on PATH.
    pub fn new(config: PoolConfig) -> Result<Self, Error> {
        Self::with_ledger(config, Arc::default())
    }

    /// A pool whose failed logins are counted together with those of others.
    pub(crate) fn with_ledger(
        config: PoolConfig,
        ledger: Arc<policy::Ledger>,
    ) -> Result<Self, Error> {
        config.validate()?;
        let program = Program::find().map_err(|_| Error::SshNotFound)?;
        Ok(Self::with(Some(program), Arc::default(), ledger, config))
    }

    /// A pool for callers in other places, each with an ssh of its own.
    pub(crate) fn for_others(
        config: PoolConfig,
        resolver: Arc<Resolver>,
        ledger: Arc<policy::Ledger>,
    ) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self::with(Program::find().ok(), resolver, ledger, config))
    }

    fn with(
        program: Option<Program>,
        resolver: Arc<Resolver>,
        ledger: Arc<policy::Ledger>,
        config: PoolConfig,
    ) -> Self {
        let limit = LoginLimit {
            connect_timeout: config.connect_timeout,
            is_set: config.connect_timeout_is_set(),
        };
        let lanes = LaneSettings {
            max_age: config.session_max_age,
            is_fast: config.session_reuse == SessionReuse::Fast,
        };
        let transport = OpenSsh::new(program, resolver, limit, lanes);
        let shares_hops = config.share_jump_hosts;
        let core = Arc::new(Core::new(transport, config, capacity(), ledger));
        if shares_hops {
            core.transport().share_hops(Arc::new(hops::OfPool(Arc::downgrade(&core))));
        }
        Pool { core, forwards: Arc::default() }
    }

    /// The host as it is reached from its caller's place. Where nobody is connected to it, the
    /// caller's ssh-agent is asked again what it holds: it is what a login would go by.
    pub(crate) async fn resolve(&self, host: &Host) -> Result<Host, NotResolved> {
        self.core.resolve(host).await
    }

    /// Runs shell text and gives what it wrote to stdout, without trailing white space. Bytes that
    /// are not UTF-8 are replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when its status is not 0, [`Error::Killed`] when a signal ended it; else
    /// as [`Command::output`].
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`].
    pub async fn exec(&self, host: &Host, command: impl Into<OsString>) -> Result<String, Error> {
        checked(host, self.shell(host, command).output().await?)
    }

    /// A command to run a program; arguments are added to it, and escaped.
    pub fn command(&self, host: &Host, program: impl AsRef<OsStr>) -> Command {
        Command::program(self.shared(), host, program)
    }

    /// A command that is shell text, with pipes, variables and all that. Never put into it what
    /// somebody else wrote: that is what [`command`](Self::command) is for.
    pub fn shell(&self, host: &Host, text: impl Into<OsString>) -> Command {
        Command::shell(self.shared(), host, text)
    }

    /// Waits for a connection and holds it, to run several commands on the same one. A lease counts
    /// as one of the connection's `sessions_per_connection`: run one command at a time on it.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Exhausted`] after `acquire_timeout`, [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future leaves the queue. A login that it caused goes on, for the
    /// next caller.
    pub async fn acquire(&self, host: &Host) -> Result<Lease, Error> {
        let host = self.core.resolve_here(host).await?;
        let inner = self.core.acquire(&host).await?;
        inner.takes();
        Ok(Lease { inner: Arc::new(inner), pool: self.clone(), host: Arc::new(host) })
    }

    /// What has been counted, over all hosts.
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }

    /// What has been counted, by `name:port`.
    pub fn stats_by_host(&self) -> BTreeMap<PoolKey, Stats> {
        self.core.stats_by_host()
    }

    /// The connections that are there, by host and slot.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.core.facts().into_iter().map(ConnectionInfo::of).collect()
    }

    /// The settings.
    pub fn config(&self) -> &PoolConfig {
        self.core.config()
    }

    /// What the ssh program says of itself.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it cannot be run.
    pub async fn ssh_version(&self) -> Result<SshVersion, Error> {
        let deadline = Instant::now() + self.config().connect_timeout;
        let program = self.core.transport.program(&Place::own()).map_err(|_| Error::SshNotFound)?;
        let version = program.version(deadline).await;
        version.cloned().map_err(|error| Error::io("", "cannot run ssh -V", error))
    }

    /// Forgets that logins to this host's key, and to its account, have failed: the next caller
    /// tries at once.
    ///
    /// After a failed login callers hear of it at once, without another one: for 200 ms, doubling
    /// with each failure in a row to 30 s (2 s where the server was busy). Failures that can get an
    /// account locked have longer pauses
    /// ([`Authentication`](crate::ConnectErrorKind::Authentication),
    /// [`HostKeyChanged`](crate::ConnectErrorKind::HostKeyChanged),
    /// [`HostKeyUnknown`](crate::ConnectErrorKind::HostKeyUnknown), and connections that the server
    /// closes before anything has run on them): 1 s, 30 s, 2 min; and an account sees at most 4 of
    /// them in any ten minutes, whatever hosts and keys they came from. When what could mend such a
    /// failure changes, the next caller has it tried at once: `known_hosts`, the keys and
    /// configuration files, the keys in the ssh-agent. What was mended on the server nobody can
    /// see: that is what this is for.
    pub fn reset(&self, host: &Host) {
        // What keeps a host behind a hop away may be that of the hop.
        let mut hosts = vec![host.clone()];
        while let Some(host) = hosts.pop() {
            let known = self.core.hosts(&host.key());
            hosts.extend(known.iter().chain([&host]).filter_map(openssh::hop_of));
            self.core.reset(&host);
        }
    }

    /// Closes the connections of this host's key. Callers in its queue get [`Error::Closed`],
    /// commands that run have 5 s to finish. Later calls connect again, to the address that their
    /// host then has.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the closing goes on by itself; dropping the future only stops waiting for it.
    pub async fn close_host(&self, host: &Host) {
        self.core.close_host(&host.key(), CLOSE_PATIENCE).await;
    }

    /// The process ids of the connections on which this host's next command could run, the one used
    /// last first.
    pub(crate) fn masters(&self, host: &Host) -> Vec<u32> {
        self.core.connections(host).iter().map(|master| master.pid()).collect()
    }

    /// No new session is opened on the connections of this host; what runs on them goes on.
    pub(crate) fn retire(&self, host: &Host) {
        self.core.retire(host);
    }

    /// As [`close_host`](Self::close_host), with another time for the commands that run. They are
    /// cut off and ended then.
    ///
    /// # Cancel safety
    ///
    /// As [`close_host`](Self::close_host).
    pub async fn close_host_within(&self, host: &Host, patience: Duration) {
        self.core.close_host(&host.key(), patience).await;
    }

    /// Closes the pool for good: [`close_within`](Self::close_within) 5 seconds.
    pub async fn close(&self) {
        self.close_within(CLOSE_PATIENCE).await;
    }

    /// Closes the pool for good. Nothing new is begun, callers that queue get [`Error::Closed`],
    /// commands that run have `patience` to finish and are cut off then. When this returns, no
    /// process, socket or directory of the pool is left.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the closing goes on by itself; dropping the future only stops waiting for it.
    /// Called again, it waits for the same end, which comes sooner when this `patience` is shorter.
    pub async fn close_within(&self, patience: Duration) {
        // In this order: from the first on no forward is begun.
        tokio::join!(self.core.close(patience), self.forwards.end());
    }

    /// From now on SIGINT and SIGTERM close this pool (running commands are cut off) and then end
    /// the process as the signal would have. Nothing of that happens unless it is asked for here;
    /// [`global`] asks.
    ///
    /// A signal that the process has ignored from its start, as under nohup, stays ignored.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the system refuses the handler or the thread that waits for it.
    pub fn close_on_signals(&self) -> Result<(), Error> {
        signals::close_on_signals(Arc::downgrade(&self.core))
            .map_err(|error| Error::io("", "cannot handle SIGINT and SIGTERM", error))
    }

    pub(crate) fn core(&self) -> &Arc<Core<OpenSsh>> {
        &self.core
    }

    /// Somebody else has a handle, a lease or a command of it.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.core) > 1
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// A connection that is held. Dropping it gives it back.
#[derive(Clone)]
pub struct Lease {
    inner: Arc<policy::Lease<OpenSsh>>,
    pool: Pool,
    host: Arc<Host>,
}

impl Lease {
    /// As [`Pool::exec`], on this connection.
    ///
    /// # Errors
    ///
    /// As [`Pool::exec`]; and [`Error::NeverStarted`] when this very connection is gone: another
    /// one is not taken in its place.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`].
    pub async fn exec(&self, command: impl Into<OsString>) -> Result<String, Error> {
        checked(&self.host, self.shell(command).output().await?)
    }

    /// As [`Pool::command`], on this connection.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::program(self.shared(), &self.host, program)
    }

    /// As [`Pool::shell`], on this connection.
    pub fn shell(&self, text: impl Into<OsString>) -> Command {
        Command::shell(self.shared(), &self.host, text)
    }

    /// Gives the connection back; so does dropping the lease. A command that still runs on it keeps
    /// it until its end.
    pub fn release(self) {}

    /// The connection itself.
    pub(crate) fn master(&self) -> Arc<Master> {
        Arc::clone(self.inner.connection())
    }

    /// The process id of the connection's control master, for logs and tests.
    pub fn master_pid(&self) -> u32 {
        self.inner.connection().pid()
    }

    /// Its control socket, for other programs that can use one: `ssh -S`, and with it git, rsync or
    /// scp. What they open there takes sessions of the server that the pool does not know of; hold
    /// the lease as long as they run. A client without its master logs in by itself unless it is
    /// kept from that (`-o ProxyCommand=false`).
    pub fn control_path(&self) -> &std::path::Path {
        self.inner.connection().socket()
    }

    /// The same lease, for commands of this caller.
    pub(crate) fn for_caller(self, caller: Caller) -> Self {
        let host = Arc::unwrap_or_clone(self.host).for_caller(caller);
        Lease { host: Arc::new(host), ..self }
    }

    /// Whether whatever is asked for there runs a forced command, or may.
    pub(crate) fn is_silent(&self) -> bool {
        self.inner.connection().account() == crate::openssh::Account::Silent
    }

    /// What an account without a shell has answered, where it was asked.
    pub(crate) fn no_shell(&self) -> Option<&str> {
        self.inner.connection().no_shell()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("host", &self.host.key())
            .field("pid", &self.master_pid())
            .finish_non_exhaustive()
    }
}

/// What this machine and this process bear.
fn capacity() -> Capacity {
    // A login waits for the network and the server for a good part of its time. With four for each
    // core 20 servers on a machine with two took 1.17 of what ssh takes for all at once, with ten
    // 1.02 (medians of ten runs each).
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let logins = 10 * cores;
    let openings = cores.div_ceil(2);
    // Four pipes and a handle to wait by. Half of the descriptors that this process may have is for
    // everything else.
    const DESCRIPTORS: u64 = 5;
    let standbys = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((limit, _)) => usize::try_from(limit / 2 / DESCRIPTORS).unwrap_or(usize::MAX),
        Err(_) => 0,
    };
    Capacity { logins, standbys, openings }
}

fn checked(host: &Host, output: Output) -> Result<String, Error> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    match output.status.code() {
        Some(0) => Ok(text(&output.stdout)),
        Some(code) => {
            Err(Error::Failed { host: host.name().to_owned(), code, stderr: text(&output.stderr) })
        }
        None => Err(Error::Killed { host: host.name().to_owned(), stderr: text(&output.stderr) }),
    }
}

/// The pool of this process, made on first use from the environment variables (see
/// [`PoolConfig::from_env`]). It is closed by SIGINT and SIGTERM. Its connections live in the
/// runtime that first used them.
///
/// # Errors
///
/// As [`Pool::new`], and [`Error::Config`] for an environment variable that is not valid. The next
/// call tries again.
pub fn global() -> Result<Pool, Error> {
    static GLOBAL: Mutex<Option<Pool>> = Mutex::new(None);
    let mut global = GLOBAL.lock().unwrap_or_else(|poison| poison.into_inner());
    if let Some(pool) = &*global {
        return Ok(pool.clone());
    }
    let pool = Pool::new(PoolConfig::from_env()?)?;
    pool.close_on_signals()?;
    Ok(global.insert(pool).clone())
}
