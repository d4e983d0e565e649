//! A master: one supervised `ssh -M` process, one authenticated connection.
//!
//! Its life: launched → ready → ended. From its launch on, a task of its own (the supervisor) holds
//! the process, waits for its end, notes why, and removes what it leaves. Whoever holds the
//! [`Master`] asks the supervisor to end it; dropping the last handle asks too. A master is ready
//! when that was proven: its socket is there, the process behind the socket is our child, and the
//! server ran a command. "Ready" is what `connect` returns; a master that never got there is ended
//! by the drop of its handle.

mod account;
mod closing;
mod sessions;
mod several;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use nix::unistd::{Pid, getpgid};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

pub(crate) use account::Account;

use super::args::{self, MasterPlan};
use super::diagnosis;
use super::ends::{self, Accounts};
use super::hop::Way;
use super::lane::Lanes;
use super::launch::Launch;
use super::program::Program;
use super::resolve::{self, call_failed};
use super::route::Route;
use super::runtime::{Runtime, local};
use super::silent::{self, Silent};
use super::supervisor::{End, Notes, Supervisor, log_of};
use super::trace::{Step, Trace};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::{Host, Login};
use crate::text::plain;
use crate::transport::Sessions;
use account::{First, Fruitless};
use closing::SUPERVISOR_GONE;

/// How often a launching master is looked at. A login takes some hundred milliseconds, and nothing
/// tells when the socket is bound.
const LOOK: Duration = Duration::from_millis(3);
/// How long a server may take to tell of the key that it has accepted. It does so at once.
const TELLING: Duration = Duration::from_secs(1);
/// How far ssh's limit for a login is behind ours: of two that end at once either could be told.
const BEHIND: Duration = Duration::from_secs(1);
/// How long the reason of an end is waited for, once something of it was heard.
const DYING: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) struct Master {
    /// Where another one would be made, and how.
    host: Host,
    route: Arc<Route>,
    program: Arc<Program>,
    runtime: Arc<Runtime>,
    socket: PathBuf,
    pid: u32,
    /// Who listens on the socket: it, or the ssh that it has started where it is a script.
    listener: AtomicU32,
    ended: watch::Receiver<Option<End>>,
    /// Asks the supervisor to end it; so does dropping it.
    kill: mpsc::UnboundedSender<()>,
    next_session: AtomicU64,
    call_timeout: Duration,
    notes: Arc<Notes>,
    /// An [`Account`].
    account: AtomicU8,
    /// In microseconds; 0 before the first one.
    echo_took: AtomicU64,
    /// `ssh -O check` was called for it.
    was_asked: AtomicBool,
    /// What is written to a shell arrives at the bootstrap.
    input_proven: AtomicBool,
    /// The session that has proven the login, until somebody has taken it. A std mutex: held for a
    /// look.
    first: Mutex<Option<First>>,
    /// What it goes over, which is held for as long.
    way: Option<Arc<Way>>,
    /// What an account without a shell has answered to the proof.
    no_shell: OnceLock<String>,
    lanes: Arc<Lanes>,
    /// What is known of its server. A std mutex: held for a look.
    sessions: Mutex<Sessions>,
    /// Where it is remembered what the accounts of such servers are like.
    remembered: Arc<Accounts>,
}

impl Master {
    /// Logs in and proves the connection; an account that is known to be silent is not asked to run
    /// anything, and without this knowledge no account is. Dropping the future ends what it had
    /// started.
    pub(super) async fn connect(
        host: &Host,
        route: &Arc<Route>,
        launch: Launch<'_>,
        silent: Option<&Silent>,
        way: Option<Arc<Way>>,
    ) -> Result<Self, ConnectError> {
        let Launch { program, deadline, connect_timeout, trace, sessions, .. } = launch;
        let version = program.version(deadline).await.map_err(|e| call_failed("ssh -V", &e))?;
        let defaults = resolve::defaults(&launch, host, route).await?;
        let socket = launch.runtime.fresh_path();
        let plan = MasterPlan {
            socket: &socket,
            config_file: route.config_file.as_deref(),
            connect_timeout: route.answer.connect_timeout().unwrap_or(connect_timeout + BEHIND),
            version,
            proxy: way.as_deref().map(|way| way.command.as_os_str()),
            defaults: &defaults,
            asks: host.login().askpass.is_some() || route.asks,
            log_level: if trace.is_some() { Trace::LOG_LEVEL } else { "INFO" },
            tells_ends: sessions != Sessions::Several,
        };
        let arguments = args::master(host, &plan);
        let mut master = Self::launch(&launch, route, socket, arguments, host)?;
        master.way = way;
        if let Some(silent) = silent {
            master.remembered = silent.accounts();
        }
        tracing::debug!(pid = master.pid, "login started");
        match timeout_at(deadline, master.become_ready(silent, trace)).await {
            Ok(Ok(())) => Ok(master),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let stage = if master.socket.exists() {
                    "logged in, but the server ran no command"
                } else {
                    "no login"
                };
                let stderr = diagnosis::read_tail(&log_of(&master.socket), 0).unwrap_or_default();
                let stage = match host.login().limit {
                    None => format!("{stage} within {connect_timeout:?} (connect_timeout)"),
                    Some(limit) => format!("{stage} within {limit:?}"),
                };
                let detail = match diagnosis::waits_for(&stderr, route.answer.has_proxy()) {
                    Some(last) => format!("{stage}; ssh's last word: {last}"),
                    None => stage,
                };
                Err(ConnectError::new(
                    ConnectErrorKind::TimedOut,
                    detail,
                    diagnosis::last_lines(&stderr),
                ))
            }
        }
    }

    fn launch(
        launch: &Launch<'_>,
        route: &Arc<Route>,
        socket: PathBuf,
        args: Vec<std::ffi::OsString>,
        host: &Host,
    ) -> Result<Self, ConnectError> {
        let login = host.login();
        let log = log_of(&socket);
        let stderr = Runtime::create_file(&log).map_err(|error| {
            local(format!("cannot create {}: {}", log.display(), plain(&error)))
        })?;
        let mut command = launch.program.command(args);
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(stderr);
        route.prepare(&mut command);
        set_askpass(&mut command, login, route.asks);
        // The guard makes it the leader of a session, and with that of a process group.
        let (child, tenancy) = launch
            .runtime
            .spawn(&mut command)
            .map_err(|error| local(format!("cannot start ssh: {}", plain(&error))))?;
        let pid = tenancy.pid();
        let (ended_sender, ended) = watch::channel(None);
        let (kill, kill_receiver) = mpsc::unbounded_channel();
        let notes = Arc::new(Notes::default());
        let supervisor = Supervisor {
            child,
            pid,
            socket: socket.clone(),
            notes: Arc::clone(&notes),
            tenancy,
            kill: kill_receiver,
            ended: ended_sender,
        };
        tokio::spawn(supervisor.run());
        if let Some(trace) = launch.trace {
            trace.begin(&log_of(&socket));
        }
        Ok(Master {
            host: host.clone(),
            route: Arc::clone(route),
            program: Arc::clone(launch.program),
            runtime: Arc::clone(launch.runtime),
            socket,
            pid,
            listener: AtomicU32::new(pid),
            ended,
            kill,
            next_session: AtomicU64::new(0),
            call_timeout: launch.connect_timeout,
            notes,
            account: AtomicU8::new(Account::Silent as u8),
            echo_took: AtomicU64::new(0),
            was_asked: AtomicBool::new(false),
            input_proven: AtomicBool::new(false),
            first: Mutex::default(),
            way: None,
            no_shell: OnceLock::new(),
            lanes: Arc::new(Lanes::new(launch.lanes)),
            sessions: Mutex::new(launch.sessions),
            remembered: Arc::default(),
        })
    }

    async fn become_ready(
        &self,
        silent: Option<&Silent>,
        trace: Option<&Trace>,
    ) -> Result<(), ConnectError> {
        let done = |step| trace.into_iter().for_each(|trace| trace.done(step));
        let mut ended = self.ended.clone();
        let socket_appears = async {
            while !self.socket.exists() {
                sleep(LOOK).await;
            }
        };
        tokio::select! {
            end = ended.wait_for(Option::is_some) => {
                let end = end.ok().and_then(|end| end.clone());
                let (stderr, reason) = end.as_ref().map_or(("", SUPERVISOR_GONE), |end| (&end.stderr, &end.reason));
                let error = diagnosis::connect_failure(stderr, reason);
                return Err(if end.is_some_and(|end| end.by_server) { error.dropped() } else { error });
            }
            () = socket_appears => {}
        }
        done(Step::Listening);
        let never = Instant::now() + self.call_timeout;
        let check = async {
            let checked = self.is_behind_its_socket(never).await;
            done(Step::Answered);
            checked
        };
        let learn = async {
            let Some(silent) = silent else { return Ok(Account::Silent) };
            // Its only session is for a command.
            if self.sessions() == Sessions::One {
                let known = self.remembered.of(&self.host);
                return Ok(known.map_or(Account::Shell, Account::of));
            }
            let log = self.log_of_login().await;
            if self.sessions() == Sessions::Unknown && ends::is_for_several(&log) {
                self.set_sessions(Sessions::Several);
            }
            let account = match silent.contains(&self.host, &log) {
                true => Ok(Account::Silent),
                false => self.open_first().await,
            };
            if let Ok(Account::Silent) = account {
                silent.insert(&self.host, &log);
            }
            if let Ok(account) = account
                && self.sessions() == Sessions::Unknown
            {
                self.remembered.insert(&self.host, account as u8);
            }
            account
        };
        let (check, account) = tokio::join!(check, learn);
        check.map_err(|reason| ConnectError::new(ConnectErrorKind::Other, reason, Vec::new()))?;
        match account {
            Ok(account) => {
                if account != Account::Posix {
                    tracing::info!(
                        pid = self.pid,
                        ?account,
                        "no POSIX shell: commands go as arguments, without standby"
                    );
                }
                self.account.store(account as u8, Ordering::Relaxed);
            }
            Err(Fruitless::Refused(reason)) => {
                let reason = format!(
                    "logged in, but the server opens no session: {reason} (is its MaxSessions 0?)"
                );
                return Err(ConnectError::new(ConnectErrorKind::Other, reason, Vec::new()));
            }
            Err(Fruitless::Failed(reason)) => {
                let reason = format!("logged in, but no session could be opened: {reason}");
                let error = ConnectError::new(ConnectErrorKind::Other, reason, Vec::new());
                // The session may have heard of the end before its reason was known.
                let by_server = timeout(DYING, self.ended()).await.is_ok_and(|end| end.by_server);
                return Err(if by_server { error.dropped() } else { error });
            }
        }
        done(Step::Echoed);
        // What it has said until now (a banner, a new host key) is not why it will end.
        let said = std::fs::metadata(log_of(&self.socket)).map_or(0, |log| log.len());
        self.notes.ready_at.store(said, Ordering::Relaxed);
        Ok(())
    }

    /// What ssh has logged up to the login, and what the server tells of it at once.
    async fn log_of_login(&self) -> String {
        let give_up = Instant::now() + TELLING;
        loop {
            let log = diagnosis::read_tail(&log_of(&self.socket), 0).unwrap_or_default();
            if !silent::is_about_to_tell(&log) || give_up <= Instant::now() {
                return log;
            }
            sleep(LOOK).await;
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether this process is ours, or an ssh that our script has started: a child is the leader
    /// of a process group.
    fn is_ours(&self, pid: u32) -> bool {
        let raw = |pid: u32| Pid::from_raw(pid.cast_signed());
        let is_ours = pid == self.pid || getpgid(Some(raw(pid))) == Ok(raw(self.pid));
        if is_ours {
            self.listener.store(pid, Ordering::Relaxed);
        }
        is_ours
    }

    /// The process that listens on its socket.
    fn listener(&self) -> u32 {
        self.listener.load(Ordering::Relaxed)
    }

    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// A path in the pool's private directory that nothing has used before.
    pub(super) fn fresh_path(&self) -> PathBuf {
        self.runtime.fresh_path()
    }

    pub(crate) fn program(&self) -> &std::path::Path {
        self.program.path()
    }

    /// Where its control socket is.
    pub(crate) fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// How long the last echo over it took, from the start of its client to the answer.
    pub(crate) fn last_echo(&self) -> Option<Duration> {
        match self.echo_took.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros)),
        }
    }

    pub(crate) fn account(&self) -> Account {
        Account::of(self.account.load(Ordering::Relaxed))
    }

    /// How something that is no shell has ended, and what it said then, where that was seen.
    pub(crate) fn no_shell(&self) -> Option<&str> {
        self.no_shell.get().map(String::as_str)
    }

    /// What is known of its server.
    pub(crate) fn sessions(&self) -> Sessions {
        *self.sessions.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    pub(super) fn set_sessions(&self, sessions: Sessions) {
        *self.sessions.lock().unwrap_or_else(|poison| poison.into_inner()) = sessions;
    }

    pub(super) fn is_silent(&self) -> bool {
        self.account() == Account::Silent
    }
}

/// Who is asked what ssh wants to know.
fn set_askpass(command: &mut tokio::process::Command, login: &Login, asks: bool) {
    match &login.askpass {
        // As the caller has it. ssh has no terminal here, where a caller's ssh would take the
        // program by itself.
        None if asks => drop(command.env("SSH_ASKPASS_REQUIRE", "force")),
        // Where a DISPLAY is set, ssh would open a window to ask for a passphrase.
        None => drop(command.env("SSH_ASKPASS_REQUIRE", "never")),
        Some(askpass) => {
            command.env("SSH_ASKPASS_REQUIRE", "force").env("SSH_ASKPASS", &askpass.program);
            command.envs(askpass.environment.iter().map(|(name, value)| (name, value)));
        }
    }
}
