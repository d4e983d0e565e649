//! A master: one supervised `ssh -M` process, one authenticated connection.
//!
//! Its life: launched → ready → ended. From its launch on, a task of its own (the supervisor) holds
//! the process, waits for its end, notes why, and removes what it leaves. Whoever holds the
//! [`Master`] asks the supervisor to end it; dropping the last handle asks too. A master is ready
//! when that was proven: its socket is there, the process behind the socket is our child, and the
//! server ran a command. "Ready" is what `connect` returns; a master that never got there is ended
//! by the drop of its handle.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::args::{self, MasterPlan};
use super::bootstrap::{self, Group, Marker};
use super::diagnosis;
use super::examine::Limit;
use super::program::{self, Program};
use super::resolve::{self, call_failed};
use super::route::Route;
use super::runtime::{Runtime, local};
use super::session::{self, Log, Session};
use super::sight::{self, Sight};
use super::supervisor::{CLOSED, End, How, Notes, Supervisor, log_of, runs};
use super::trace::{Step, Trace};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::{Host, Login, Variables};
use crate::text::plain;
use crate::transport::{
    self, Input, Marker as _, NotEnded, NotOpened, Script, Session as _, SessionEnd, Streams,
};

/// How often a launching master is looked at. A login takes some hundred milliseconds, and nothing
/// tells when the socket is bound.
const LOOK: Duration = Duration::from_millis(3);
/// How long the reason of an end is waited for, once something of it was heard.
const DYING: Duration = Duration::from_millis(200);
/// Said where the task that watched a master was stopped from outside.
const SUPERVISOR_GONE: &str = "the runtime that the pool lived in was shut down";
/// How often it is looked whether a master was alive when a session had ended, where the first look
/// does not tell, and how long after one another. A dying master needs a few milliseconds from the
/// closing of its sockets to its end, and one that nobody can see at the moment ends as quickly.
/// Looks are counted and not time: where the whole machine stands still, no time has passed for the
/// master.
const MOST_LOOKS: usize = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long the words of commands that have just begun are waited for when the connection is
/// closed.
const BEGINNING: Duration = Duration::from_millis(100);

/// So much of what an account prints is looked through for the answer to an echo. No start-up file
/// prints that much.
const MOST_NOISE: u64 = 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Master {
    /// Where another one would be made, and how.
    host: Host,
    route: Arc<Route>,
    program: Arc<Program>,
    runtime: Arc<Runtime>,
    socket: PathBuf,
    pid: u32,
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
    /// What is written to a shell arrives at the bootstrap.
    input_proven: AtomicBool,
}

/// What runs on the other side when a session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// A shell that the bootstrap works in. → Shell (when a command has not begun there)
    Posix,
    /// A shell, and another one: csh, fish.
    Shell,
    /// Something that does not answer an echo, such as a forced command.
    Silent,
}

impl Account {
    const ALL: [Account; 3] = [Account::Posix, Account::Shell, Account::Silent];
}

/// What a login needs beyond its host.
pub(super) struct Launch<'a> {
    pub program: &'a Arc<Program>,
    pub runtime: &'a Arc<Runtime>,
    pub connect_timeout: Duration,
    pub deadline: Instant,
    /// Who watches.
    pub trace: Option<&'a Trace>,
}

impl Master {
    /// Logs in and proves the connection; an account that is known to be silent is not asked to run
    /// anything. Dropping the future ends what it had started.
    pub(super) async fn connect(
        host: &Host,
        route: &Arc<Route>,
        launch: Launch<'_>,
        is_silent: bool,
    ) -> Result<Self, ConnectError> {
        let Launch { program, deadline, connect_timeout, trace, .. } = launch;
        let version = program.version(deadline).await.map_err(|e| call_failed("ssh -V", &e))?;
        let defaults = resolve::defaults(&launch, host, route).await?;
        let socket = launch.runtime.fresh_path();
        let plan = MasterPlan {
            socket: &socket,
            config_file: route.config_file.as_deref(),
            connect_timeout: route.answer.connect_timeout().unwrap_or(connect_timeout),
            version,
            defaults: &defaults,
            asks: host.login().askpass.is_some() || route.asks,
            log_level: if trace.is_some() { Trace::LOG_LEVEL } else { "INFO" },
        };
        let arguments = args::master(host, &plan);
        let master = Self::launch(&launch, route, socket, arguments, host)?;
        tracing::debug!(pid = master.pid, "login started");
        match timeout_at(deadline, master.become_ready(is_silent, trace)).await {
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
            ended,
            kill,
            next_session: AtomicU64::new(0),
            call_timeout: launch.connect_timeout,
            notes,
            account: AtomicU8::new(Account::Silent as u8),
            echo_took: AtomicU64::new(0),
            input_proven: AtomicBool::new(false),
        })
    }

    async fn become_ready(
        &self,
        is_silent: bool,
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
            match is_silent {
                true => Echo::Answer(Account::Silent),
                false => self.echo(&bootstrap::probe()).await,
            }
        };
        let (check, echo) = tokio::join!(check, learn);
        check.map_err(|reason| ConnectError::new(ConnectErrorKind::Other, reason, Vec::new()))?;
        match echo {
            Echo::Answer(account) => {
                if account != Account::Posix {
                    tracing::info!(
                        pid = self.pid,
                        ?account,
                        "no POSIX shell: commands go as arguments, without standby"
                    );
                }
                self.account.store(account as u8, Ordering::Relaxed);
            }
            Echo::Refused(reason) => {
                let reason = format!(
                    "logged in, but the server opens no session: {reason} (is its MaxSessions 0?)"
                );
                return Err(ConnectError::new(ConnectErrorKind::Other, reason, Vec::new()));
            }
            Echo::Failed(reason) => {
                let reason = format!("logged in, but no session could be opened: {reason}");
                let error = ConnectError::new(ConnectErrorKind::Other, reason, Vec::new());
                // The echo may have heard of the end before its reason was known.
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

    /// Proves that a command could run now: the master answers for itself, and the server runs an
    /// echo. `Err` says what did not work.
    pub(crate) async fn probe(&self) -> Result<(), String> {
        let deadline = Instant::now() + self.call_timeout;
        self.check(deadline).await?;
        if self.is_silent() {
            return Ok(());
        }
        match timeout_at(deadline, self.echo(&bootstrap::echo())).await {
            // A refusal is an answer of the server too.
            Ok(Echo::Answer(_) | Echo::Refused(_)) => Ok(()),
            Ok(Echo::Failed(reason)) => Err(reason),
            Err(_) => Err(format!("no answer from the server within {:?}", self.call_timeout)),
        }
    }

    /// The part of a probe that asks nothing of the server.
    pub(crate) async fn answers(&self) -> Result<(), String> {
        self.check(Instant::now() + self.call_timeout).await
    }

    /// Whether the master behind the socket is our child and answers. Says nothing about the
    /// server.
    pub(super) async fn check(&self, deadline: Instant) -> Result<(), String> {
        if let Some(reason) = self.end_reason() {
            return Err(reason);
        }
        let finished = self.call("check", deadline).await?;
        match diagnosis::check_pid(&finished.stderr) {
            Some(pid) if pid == self.pid => Ok(()),
            Some(pid) => Err(format!("another process ({pid}) answers on the control socket")),
            None => {
                Err(diagnosis::master_end(&finished.stderr, "the control master does not answer"))
            }
        }
    }

    /// Whether our child is who listens on the socket. The system knows, and that costs no process;
    /// what else `ssh -O check` would say the echo says, too.
    async fn is_behind_its_socket(&self, deadline: Instant) -> Result<(), String> {
        let listener = tokio::net::UnixStream::connect(&self.socket).await;
        match listener.and_then(|stream| stream.peer_cred()).ok().and_then(|peer| peer.pid()) {
            Some(pid) if pid == self.pid.cast_signed() => Ok(()),
            // It has ended, or the system does not tell.
            _ => self.check(deadline).await,
        }
    }

    /// A session that prints a word, and what it tells of the account.
    async fn echo(&self, command: &str) -> Echo {
        let started = Instant::now();
        let mut session =
            match self.spawn(command, Input::Bytes(b""), "", None, &Variables::default()) {
                Ok(session) => session,
                Err(why) => return Echo::Failed(why.to_string()),
            };
        let Streams { stdout, mut stderr, .. } = session.take_streams();
        let mut text = Vec::new();
        // A forced command may write for ever. Then the session is ended, and not only its output:
        // a server that was told that one stream is not read any more does not read the other one
        // either, and what runs there would wait.
        let read = async {
            // A pipe does not fail; if it ever does, the word is missing, and that is the answer.
            let _ = stdout.take(MOST_NOISE).read_to_end(&mut text).await;
            if text.len() as u64 == MOST_NOISE { Err(()) } else { Ok(()) }
        };
        let mut sink = tokio::io::sink();
        let stderr = async { Ok(tokio::io::copy(&mut stderr, &mut sink).await) };
        let end = match tokio::try_join!(read, stderr, async { Ok(session.wait(self).await) }) {
            Ok((.., end)) => end,
            Err(()) => {
                drop(session);
                SessionEnd::Killed
            }
        };
        match end {
            SessionEnd::Exited(_) | SessionEnd::Killed | SessionEnd::NotBegun => {
                let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.echo_took.store(micros.max(1), Ordering::Relaxed);
                let killed = end == SessionEnd::Killed && (text.len() as u64) < MOST_NOISE;
                Echo::Answer(if bootstrap::marker().take_from(&mut text) {
                    Account::Posix
                } else if bootstrap::has_word(&text) {
                    Account::Shell
                } else if killed {
                    // That was bad luck, and is not remembered.
                    Account::Shell
                } else {
                    Account::Silent
                })
            }
            SessionEnd::Refused(reason) => Echo::Refused(reason),
            SessionEnd::NotReached(reason)
            | SessionEnd::Lost(reason)
            | SessionEnd::ClientKilled(reason) => Echo::Failed(reason),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
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
        Account::ALL[usize::from(self.account.load(Ordering::Relaxed))]
    }

    pub(super) fn is_silent(&self) -> bool {
        self.account() == Account::Silent
    }

    /// How many sessions the server opens on this connection at once, found out by opening them one
    /// after another up to so many. They wait for input and do nothing, and they end with it.
    /// `others` says how many wait in standby.
    ///
    /// `None` where what runs in a session is not ours to choose. `Err` says what else came in
    /// between.
    pub(crate) async fn most_sessions(
        &self,
        most: usize,
        others: impl Fn() -> usize,
    ) -> Option<Result<Limit, String>> {
        let mut opened = Vec::new();
        let mut refused = false;
        while opened.len() + others() < most {
            let session = match self.account() {
                Account::Posix => self.bootstrap(Input::Piped, ""),
                Account::Shell => {
                    self.spawn("cat >/dev/null", Input::Piped, "", None, &Variables::default())
                }
                Account::Silent => return None,
            };
            let mut session = match session {
                Ok(session) => session,
                Err(why) => return Some(Err(why.to_string())),
            };
            // Taken before it is waited for, which would close the input.
            let streams = session.take_streams();
            match session.opened(self).await {
                Ok(()) => {
                    opened.push((session, streams));
                    refused = false;
                }
                // The server may not have noticed yet that a command before has ended.
                Err(SessionEnd::Refused(_)) if !refused => {
                    refused = true;
                    sleep(BEGINNING).await;
                }
                Err(SessionEnd::Refused(_)) => return Some(Ok(Limit::Is(opened.len() + others()))),
                Err(end) => return Some(Err(format!("{end:?}"))),
            }
        }
        Some(Ok(Limit::AtLeast(opened.len() + others())))
    }

    /// Whether commands go as arguments, and no session can be opened before its command is known.
    pub(crate) fn is_plain(&self) -> bool {
        self.account() != Account::Posix
    }

    /// Finds out, once, whether a start-up file takes what is written to a shell. A command with an
    /// input of its own cannot: it would wait for its line, and that would wait for somebody to
    /// write.
    pub(crate) async fn prove_input(&self) {
        if self.is_plain() || self.input_proven.load(Ordering::Relaxed) {
            return;
        }
        let script = Script::new(String::new());
        let Ok(mut session) = self.bootstrap(Input::Bytes(b""), bootstrap::line_of(&script)) else {
            return;
        };
        let Streams { mut stdout, .. } = session.take_streams();
        let ended = timeout(self.call_timeout, async {
            // A pipe does not fail; if it ever does, the word is missing, and that is the answer.
            let mut text = (&mut stdout).take(MOST_NOISE);
            let _ = tokio::io::copy(&mut text, &mut tokio::io::sink()).await;
            session.wait(self).await
        })
        .await;
        match ended {
            Ok(_) if stdout.has_begun() => self.input_proven.store(true, Ordering::Relaxed),
            Ok(end) => drop(session.not_begun(end, self)),
            // The command itself will find out.
            Err(_) => {}
        }
    }

    /// The bootstrap did not work this time: it is not tried again on this connection.
    pub(super) fn takes_arguments(&self) {
        tracing::warn!(
            pid = self.pid,
            "the account's shell ended before a command had begun; the next ones go as arguments"
        );
        self.account.store(Account::Shell as u8, Ordering::Relaxed);
    }

    /// Starts a session for this command. On a POSIX account it takes the command from its input.
    pub(crate) fn open(
        &self,
        script: &Script,
        input: Input<'_>,
        variables: &Variables,
    ) -> Result<Session, NotOpened> {
        if self.notes.draining.load(Ordering::Relaxed) {
            return Err(NotOpened::Closing);
        }
        match self.account() {
            Account::Posix => self.bootstrap_with(input, bootstrap::line_of(script), variables),
            Account::Shell | Account::Silent => {
                self.spawn(script.text(), input, "", None, variables)
            }
        }
    }

    /// Starts a session for a command that nobody has yet; none where the account does not allow
    /// that or no process can be started.
    pub(crate) fn standby(&self, variables: &Variables) -> Option<Session> {
        // Whoever closes waits for all processes when the connection has ended. So this one is
        // counted first: then it is waited for, or the end is seen here.
        let _counted = self.runtime.claim();
        if self.is_plain() || !self.is_alive() {
            return None;
        }
        match self.bootstrap_with(Input::Piped, "", variables) {
            Ok(session) => Some(session.ahead()),
            Err(why) => {
                tracing::debug!(pid = self.pid, ?why, "no session in standby");
                None
            }
        }
    }

    /// A session of ours, which sends no variables.
    pub(super) fn bootstrap(&self, input: Input<'_>, line: &str) -> Result<Session, NotOpened> {
        self.bootstrap_with(input, line, &Variables::default())
    }

    fn bootstrap_with(
        &self,
        input: Input<'_>,
        line: &str,
        variables: &Variables,
    ) -> Result<Session, NotOpened> {
        self.spawn(&*bootstrap::BOOTSTRAP, input, line, Some(bootstrap::marker()), variables)
    }

    fn spawn(
        &self,
        command: impl AsRef<std::ffi::OsStr>,
        input: Input<'_>,
        preface: &str,
        marker: Option<Marker>,
        variables: &Variables,
    ) -> Result<Session, NotOpened> {
        let stdin = session::input_behind(preface, input).map_err(NotOpened::NoProcess)?;
        let number = self.next_session.fetch_add(1, Ordering::Relaxed);
        let mut log = self.socket.clone().into_os_string();
        log.push(format!(".{number}"));
        let log = Log::create(log.into())?;
        let forwards = self.route.answer.forwards_agent();
        let arguments =
            args::session(&self.socket, log.path(), command.as_ref(), variables, forwards);
        let mut command = self.program.client(arguments);
        command.envs(&variables.0);
        let group = marker.as_ref().map_or_else(Group::none, |marker| marker.group().clone());
        let claims = (self.notes.counted(group.clone()), self.runtime.claim());
        Session::spawn(command, log, claims, stdin, marker, group)
    }

    /// Whether the connection was there when a session on it had ended, so that the session's end
    /// and all its output are the command's. `Err` says why it was not.
    ///
    /// [`sight`] says why a master that listens was alive when the session had ended. One that
    /// listens no more has lost its connection, and ends; or it was told to drain, and ends later
    /// (tests `a_loss_is_told_though_a_status_had_come`, `c6_…`).
    pub(super) async fn outlived(&self) -> Result<(), String> {
        let seen = Instant::now();
        // Since when it is known to leave by itself.
        let mut leaves = None;
        for _ in 0..MOST_LOOKS {
            match sight::look(self.pid, &self.socket) {
                Sight::Listens => return Ok(()),
                Sight::IsLeaving if self.notes.heard.load(Ordering::Relaxed) => {}
                Sight::IsLeaving => drop(leaves.get_or_insert_with(Instant::now)),
                Sight::Unseen => {}
            }
            if timeout(LOOK_AGAIN, self.ended()).await.is_ok() {
                break;
            }
        }
        match self.ended.borrow().as_ref() {
            Some(End { how: How::Drained, .. }) => Ok(()),
            // Until then it was alive, unless it was leaving already.
            Some(End { how: How::Asked(at), .. })
                if *at > seen && leaves.is_none_or(|leaves| *at < leaves) =>
            {
                Ok(())
            }
            Some(End { reason, .. }) => Err(reason.clone()),
            // Its supervisor can be in a runtime that nobody drives.
            None if !runs(Pid::from_raw(self.pid.cast_signed())) => {
                Err("the control master has ended".to_owned())
            }
            // Somebody else has told it to drain.
            None => Ok(()),
        }
    }

    /// Why a command was lost that was ended because the connection is being closed.
    pub(super) fn why_commands_end(&self) -> Option<&'static str> {
        self.notes.ends_commands.load(Ordering::Relaxed).then_some(CLOSED)
    }

    /// Whether the process runs at this instant. The system knows of its end a moment before the
    /// supervisor does.
    pub(crate) fn is_alive(&self) -> bool {
        self.end_reason().is_none() && runs(Pid::from_raw(self.pid.cast_signed()))
    }

    /// Completes when the process has ended, and says why.
    pub(crate) async fn ended(&self) -> transport::End {
        let mut ended = self.ended.clone();
        // Without a supervisor (its runtime was shut down) the process is gone as well: it dies
        // with its handle.
        let _ = ended.wait_for(Option::is_some).await;
        let reason = self.end_reason().unwrap_or_else(|| SUPERVISOR_GONE.to_owned());
        let by_server = self.ended.borrow().as_ref().is_some_and(|end| end.by_server);
        transport::End { reason, by_server }
    }

    /// A session has run on it.
    pub(super) fn ran(&self) {
        self.notes.has_run.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_run(&self) -> bool {
        self.notes.has_run.load(Ordering::Relaxed)
    }

    /// Why it ended, if it has.
    pub(super) fn end_reason(&self) -> Option<String> {
        self.ended.borrow().as_ref().map(|end| end.reason.clone())
    }

    /// Ends it: with patience, sessions that run may finish within it, and no new ones are taken;
    /// without, at once. Returns when the process is gone.
    pub(crate) async fn close(&self, patience: Duration) {
        if self.end_reason().is_none() && !patience.is_zero() {
            let deadline = Instant::now() + patience;
            if timeout_at(deadline, self.drain()).await.is_err() {
                tracing::debug!(
                    pid = self.pid,
                    "sessions still run at the deadline and are cut off"
                );
            }
        }
        self.end_what_runs().await;
        // The supervisor has ended already when the process has.
        let _ = self.kill.send(());
        self.ended().await;
    }

    /// Ends the commands that run: cutting the connection would leave them behind.
    async fn end_what_runs(&self) {
        if !self.is_alive() {
            return;
        }
        // The word of a command that has just begun may be on its way.
        let _ = timeout(BEGINNING, async {
            while !self.notes.all_known() {
                sleep(LOOK).await;
            }
        })
        .await;
        let groups = self.notes.running();
        if groups.is_empty() {
            return;
        }
        self.notes.ends_commands.store(true, Ordering::Relaxed);
        let ending = async {
            match self.end_groups(None, &groups).await {
                Err(NotEnded::Refused) => self.end_groups_from_elsewhere(&groups).await,
                outcome => outcome,
            }
        };
        match timeout(transport::ENDING, ending).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(
                pid = self.pid,
                ?why,
                "commands may live on behind a connection that is closed"
            ),
            Err(_) => tracing::warn!(
                pid = self.pid,
                "commands may live on behind a connection that is closed: no answer"
            ),
        }
    }

    /// Where the commands take all sessions that the server opens on one connection another one is
    /// made, for this alone.
    async fn end_groups_from_elsewhere(&self, groups: &[i32]) -> Result<(), NotEnded> {
        let deadline = Instant::now() + self.call_timeout;
        let launch = Launch {
            program: &self.program,
            runtime: &self.runtime,
            connect_timeout: self.call_timeout,
            deadline,
            trace: None,
        };
        // Nothing is proven of it: that would take a session.
        let other = Self::connect(&self.host, &self.route, launch, true).await;
        let other = other.map_err(|error| NotEnded::NotHere(error.to_string()))?;
        let outcome = other.end_groups(None, groups).await;
        let _ = other.kill.send(());
        other.ended().await;
        outcome
    }

    /// Takes no new sessions and waits until the last one has ended: ours, and then what others run
    /// over its socket. As long as ours run it listens on, so that they can be ended. Called again,
    /// it goes on waiting.
    async fn drain(&self) {
        self.notes.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            _ = self.ended() => return,
            () = self.notes.last_session() => {}
        }
        if !self.notes.heard.load(Ordering::Relaxed) {
            let told = self.call("stop", Instant::now() + self.call_timeout).await;
            self.notes
                .heard
                .store(told.is_ok_and(|finished| finished.code == Some(0)), Ordering::Relaxed);
        }
        // Where there is no way to tell it nothing of ours is left on it.
        if self.notes.heard.load(Ordering::Relaxed) {
            self.ended().await;
        }
    }

    async fn call(&self, operation: &str, deadline: Instant) -> Result<program::Finished, String> {
        let args = args::control(&self.socket, operation);
        let called = self.program.call_with(args, deadline, self.runtime.claim()).await;
        called.map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => "the control master does not answer".to_owned(),
            _ => format!("cannot start ssh -O {operation}: {error}"),
        })
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

enum Echo {
    /// A session ran, and tells what the account is like.
    Answer(Account),
    /// The connection lives, and has no session to spare.
    Refused(String),
    Failed(String),
}
