//! Commands in the manner of `std::process`.
//!
//! [`Command`] collects what to run and how; [`Command::output`], [`Command::status`] and
//! [`Command::spawn`] run it. What reaches the remote shell is one text, put together here and
//! nowhere else: arguments are escaped, shell text is taken as it is.

pub(crate) mod child;
pub(crate) mod escape;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "cli")]
use crate::agent::Client;
use crate::command::child::Child;
use crate::command::escape::escape;
use crate::error::{Error, PartialOutput};
use crate::execution::attempts::{Attempts, Excess, pump};
use crate::host::{Host, PoolKey, shortened};
use crate::openssh::{Input, OpenSsh, Script};
use crate::text::Text;
use crate::{Pool, policy};

/// How a command ended: with a status of its own, or by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus(Option<i32>);

impl ExitStatus {
    pub(crate) fn exited(code: i32) -> Self {
        ExitStatus(Some(code))
    }

    pub(crate) fn killed() -> Self {
        ExitStatus(None)
    }

    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self.0 == Some(0)
    }

    /// The status that it exited with, 0 to 255, or `None` when a signal ended it. (Which one,
    /// OpenSSH's multiplexing does not tell.)
    pub fn code(self) -> Option<i32> {
        self.0
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "exit status: {code}"),
            None => f.write_str("killed by a signal"),
        }
    }
}

/// What a finished command left.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Every byte of its standard output.
    pub stdout: Vec<u8>,
    /// Every byte of its standard error; nothing of ssh's own is mixed in.
    pub stderr: Vec<u8>,
}

/// As that of `std::process::Output`, text where it is text; what is long is cut, and its length
/// said.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("status", &self.status)
            .field("stdout", &Text(&self.stdout))
            .field("stderr", &Text(&self.stderr))
            .finish()
    }
}

/// What a command reads as its standard input.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdin {
    /// Nothing: end of input at once. The default.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// What the caller writes to [`Child::stdin`]; for [`Command::spawn`] only.
    Piped,
}

/// Not the bytes: they may well be a password.
impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stdin::Empty => f.write_str("Empty"),
            Stdin::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Stdin::Piped => f.write_str("Piped"),
        }
    }
}

impl From<&[u8]> for Stdin {
    fn from(bytes: &[u8]) -> Self {
        Stdin::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Stdin {
    fn from(bytes: Vec<u8>) -> Self {
        Stdin::Bytes(bytes.into())
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Stdin {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

/// What to run on a host, and how. Made by [`Pool::command`], [`Pool::shell`],
/// [`Lease::command`](crate::Lease::command) and [`Lease::shell`](crate::Lease::shell).
///
/// The remote side runs it with the account's login shell. Arguments are escaped so that sh, dash,
/// bash, zsh, ksh, BusyBox and fish give the program exactly what was said here; [`env`](Self::env)
/// and [`current_dir`](Self::current_dir) need one of these shells too.
#[derive(Clone)]
#[must_use = "a command does nothing until output, status or spawn is awaited"]
pub struct Command {
    place: Place,
    text: Vec<u8>,
    problem: Option<String>,
    env: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
    stdin: Stdin,
    timeout: Limit,
    max_output: Option<usize>,
}

/// Not the text and not the values of the environment, which `std::process::Command` shows: secrets
/// belong there, and `{:?}` ends in logs.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<&OsStr> = self.env.iter().map(|(name, _)| name.as_os_str()).collect();
        f.debug_struct("Command")
            .field("host", &format_args!("{}", self.place.as_host().key()))
            .field("text", &format_args!("{} bytes", self.text.len()))
            .field("env", &env)
            .field("current_dir", &self.current_dir)
            .field("stdin", &self.stdin)
            .field("timeout", &self.timeout)
            .field("max_output", &self.max_output)
            .finish_non_exhaustive()
    }
}

/// Who runs commands.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Pool(Pool),
    #[cfg(feature = "cli")]
    Agent(Arc<Client>),
}

impl Way {
    pub(crate) fn shell(&self, host: &Host, text: impl Into<OsString>) -> Command {
        Command::new(self.place(host), text.into())
    }

    pub(crate) fn command(&self, host: &Host, program: &str) -> Command {
        self.shell(host, "").word(program.as_ref())
    }

    fn place(&self, host: &Host) -> Place {
        let host = Arc::new(host.clone());
        match self {
            Way::Pool(pool) => Place::Here(Target::Pool(pool.clone(), host)),
            #[cfg(feature = "cli")]
            Way::Agent(client) => Place::Agent(Arc::clone(client), host),
        }
    }

    #[cfg(feature = "cli")]
    pub(crate) fn config(&self) -> &crate::PoolConfig {
        match self {
            Way::Pool(pool) => pool.config(),
            Way::Agent(client) => client.config(),
        }
    }
}

/// Who runs a command.
#[derive(Clone)]
enum Place {
    Here(Target),
    #[cfg(feature = "cli")]
    Agent(Arc<Client>, Arc<Host>),
}

impl Place {
    fn as_host(&self) -> &Host {
        match self {
            Place::Here(target) => target.as_host(),
            #[cfg(feature = "cli")]
            Place::Agent(_, host) => host,
        }
    }
}

/// Where the command gets its connection from.
#[derive(Clone)]
pub(crate) enum Target {
    /// Any connection to this host.
    Pool(Pool, Arc<Host>),
    /// The one that a lease holds.
    Lease(Pool, Arc<policy::Lease<OpenSsh>>, Arc<Host>),
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    /// What the pool's configuration says, where that applies.
    Default,
    Set(Option<Duration>),
}

impl Command {
    pub(crate) fn program(target: Target, program: &OsStr) -> Self {
        Self::shell(target, OsString::new()).word(program)
    }

    pub(crate) fn shell(target: Target, text: OsString) -> Self {
        Self::new(Place::Here(target), text)
    }

    fn word(mut self, word: &OsStr) -> Self {
        self.push_word(word);
        self
    }

    fn new(place: Place, text: OsString) -> Self {
        let text = text.into_vec();
        let problem = text.contains(&0).then(|| "a command cannot contain a NUL byte".to_owned());
        Command {
            place,
            text,
            problem,
            env: Vec::new(),
            current_dir: None,
            stdin: Stdin::Empty,
            timeout: Limit::Default,
            max_output: None,
        }
    }

    /// Adds one argument, which arrives at the program as it is here, whatever bytes it has (but
    /// for NUL).
    ///
    /// On a command made of shell text it is appended to the text, escaped.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.text.push(b' ');
        self.push_word(arg.as_ref());
        self
    }

    /// Adds several arguments.
    pub fn args<S: AsRef<OsStr>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, |command, arg| command.arg(arg))
    }

    /// Sets an environment variable for the command. The name must be letters, digits and `_`, not
    /// starting with a digit.
    ///
    /// The value is part of the text that the remote shell is given, and as such in no process list
    /// where the account has a POSIX shell.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let bytes = name.as_bytes();
        if bytes.first().is_none_or(u8::is_ascii_digit) || !bytes.iter().all(is_word) {
            let name = shortened(&format!("{name:?}"));
            self.complain(format!("{name} is not a name for an environment variable"));
        } else if value.as_bytes().contains(&0) {
            self.complain(format!("the value of {name:?} cannot contain a NUL byte"));
        }
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets several environment variables.
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(
        self,
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        vars.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Changes to this directory first. If that fails, the command does not run, and the status and
    /// the text on stderr are the shell's.
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        let directory = directory.as_ref();
        let bytes = directory.as_os_str().as_bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            let directory = shortened(&format!("{directory:?}"));
            self.complain(format!("{directory} cannot be a directory"));
        }
        self.current_dir = Some(directory.to_owned());
        self
    }

    /// Sets what the command reads. Empty by default.
    pub fn stdin(mut self, stdin: impl Into<Stdin>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Limits the time from the start of the command to its end; `None` is no limit.
    ///
    /// Without this call it is `command_timeout` of the pool for [`output`](Self::output) and
    /// [`status`](Self::status), and no limit for [`spawn`](Self::spawn), whose output may well be
    /// endless. The time spent waiting for a connection does not count.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = Limit::Set(timeout.into());
        self
    }

    /// Limits the captured bytes of stdout, and of stderr; by default `max_output` of the pool. For
    /// [`output`](Self::output) only.
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = Some(bytes);
        self
    }

    /// Runs the command to its end and gives its status and everything that it wrote.
    ///
    /// # Errors
    ///
    /// A status other than 0 is not an error here. See [`Error`] for what is;
    /// [`Error::never_started`] tells whether it is safe to run the command again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command, here and there, in the background: its process group
    /// gets TERM, and KILL two seconds later. Where the account has no POSIX shell only the local
    /// ssh is ended, and what runs there may live on until it reads or writes.
    #[cfg_attr(
        not(feature = "cli"),
        expect(
            clippy::infallible_destructuring_match,
            reason = "there are two places with an agent"
        )
    )]
    pub async fn output(mut self) -> Result<Output, Error> {
        let target = match self.place.clone() {
            Place::Here(target) => target,
            #[cfg(feature = "cli")]
            Place::Agent(agent, host) => {
                let default = Some(agent.config().command_timeout);
                let (exec, input) = self.for_agent(&agent, &host, default)?;
                let input = match input {
                    Stdin::Empty => Arc::default(),
                    Stdin::Bytes(bytes) => bytes,
                    Stdin::Piped => return Err(piped_needs_spawn(host.name())),
                };
                let limit = self.max_output.unwrap_or(agent.config().max_output);
                return agent.output(&host, &exec, input, limit).await;
            }
        };
        let limit = self.max_output.unwrap_or(target.pool().config().max_output);
        let mut partial = PartialOutput::default();
        let status = self.run(&target, Some(limit), &mut partial).await?;
        Ok(Output { status, stdout: partial.stdout, stderr: partial.stderr })
    }

    /// What the agent is asked for.
    #[cfg(feature = "cli")]
    fn for_agent(
        &mut self,
        agent: &Client,
        host: &Host,
        default: Option<Duration>,
    ) -> Result<(crate::agent::wire::Exec, Stdin), Error> {
        let text = self.prepare()?.into_text();
        let timeout = match self.timeout {
            Limit::Default => default,
            Limit::Set(timeout) => timeout,
        };
        let input = std::mem::take(&mut self.stdin);
        let reads = input != Stdin::Empty;
        Ok((crate::agent::wire::Exec::new(host, text, reads, timeout, agent.origin()), input))
    }

    /// Runs the command to its end and gives its status. What it writes is thrown away.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output), but for the limit of output.
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn status(mut self) -> Result<ExitStatus, Error> {
        match self.place.clone() {
            Place::Here(target) => self.run(&target, None, &mut PartialOutput::default()).await,
            #[cfg(feature = "cli")]
            Place::Agent(agent, _) => {
                if let Limit::Default = self.timeout {
                    self.timeout = Limit::Set(Some(agent.config().command_timeout));
                }
                let mut child = self.spawn().await?;
                let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
                let thrown_away = async {
                    let (mut out, mut err) = (tokio::io::sink(), tokio::io::sink());
                    // It does not fail; if it ever does, there is nothing more to come.
                    let _ = tokio::join!(
                        tokio::io::copy(stdout.as_mut().expect("not taken yet"), &mut out),
                        tokio::io::copy(stderr.as_mut().expect("not taken yet"), &mut err),
                    );
                };
                thrown_away.await;
                child.wait().await
            }
        }
    }

    /// Starts the command and gives its streams. Returns when the command has begun on the server
    /// (where the account has no POSIX shell: when the server has opened its session).
    ///
    /// # Errors
    ///
    /// Those of getting a connection and a session on it, and of everything that can happen before
    /// the command begins. What happens later, [`Child::wait`] tells.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it completes starts nothing, or ends what was started as far as
    /// dropping a [`Child`] does.
    #[cfg_attr(
        not(feature = "cli"),
        expect(
            clippy::infallible_destructuring_match,
            reason = "there are two places with an agent"
        )
    )]
    pub async fn spawn(mut self) -> Result<Child, Error> {
        let target = match self.place.clone() {
            Place::Here(target) => target,
            #[cfg(feature = "cli")]
            Place::Agent(agent, host) => {
                let (exec, input) = self.for_agent(&agent, &host, None)?;
                return agent.spawn(&host, &exec, input).await;
            }
        };
        let script = self.prepare()?;
        let timeout = match self.timeout {
            Limit::Default => None,
            Limit::Set(timeout) => timeout,
        };
        Child::start(target, script, std::mem::take(&mut self.stdin), timeout).await
    }

    /// One attempt after the other until the command has started, and then to its end. Without a
    /// limit the output is thrown away.
    #[tracing::instrument(name = "command", level = "debug", skip_all, fields(host = %target.key()))]
    async fn run(
        &mut self,
        target: &Target,
        limit: Option<usize>,
        partial: &mut PartialOutput,
    ) -> Result<ExitStatus, Error> {
        let script = self.prepare()?;
        let input = match std::mem::take(&mut self.stdin) {
            Stdin::Empty => Arc::default(),
            Stdin::Bytes(bytes) => bytes,
            Stdin::Piped => return Err(piped_needs_spawn(target.host())),
        };
        let timeout = match self.timeout {
            Limit::Default => Some(target.pool().config().command_timeout),
            Limit::Set(timeout) => timeout,
        };
        let mut attempts = Attempts::new(target, timeout);
        loop {
            *partial = PartialOutput::default();
            let mut running = attempts.session(&script, Input::Bytes(&input)).await?;
            let pump = pump(&mut running, &script, &input, limit, partial);
            let end = match attempts.within(pump).await {
                Ok(Ok(end)) => end,
                Ok(Err(Excess { stream, limit })) => {
                    let remote = running.end().await;
                    let partial = Arc::new(std::mem::take(partial));
                    return Err(Error::OutputLimit {
                        host: attempts.host(),
                        stream,
                        limit,
                        remote,
                        partial,
                    });
                }
                Err(after) => {
                    tracing::debug!(?after, "timed out");
                    attempts.timed_out(running.lease());
                    let remote = running.end().await;
                    let partial = Arc::new(std::mem::take(partial));
                    return Err(Error::TimedOut { host: attempts.host(), after, remote, partial });
                }
            };
            tracing::debug!(?end, "session ended");
            if let Some(ended) = attempts.judge(end, running)? {
                return ended.map_err(|reason| Error::Lost {
                    host: attempts.host(),
                    reason,
                    partial: Arc::new(std::mem::take(partial)),
                });
            }
        }
    }

    /// The text for the remote shell.
    fn prepare(&mut self) -> Result<Script, Error> {
        if let Some(reason) = self.problem.take() {
            return Err(Error::InvalidCommand {
                host: self.place.as_host().name().to_owned(),
                reason,
            });
        }
        let mut text = Vec::new();
        if let Some(directory) = &self.current_dir {
            let directory = directory.as_os_str().as_bytes();
            // A relative name that starts with a dash would be an option, and `--` is not known to
            // every shell's cd.
            let dot: &[u8] = if directory.starts_with(b"-") { b"./" } else { b"" };
            text.extend_from_slice(b"cd ");
            escape(&[dot, directory].concat(), &mut text);
            text.extend_from_slice(b" || exit; ");
        }
        for (name, value) in &self.env {
            text.extend_from_slice(b"export ");
            text.extend_from_slice(name.as_bytes());
            text.push(b'=');
            escape(value.as_bytes(), &mut text);
            text.extend_from_slice(b"; ");
        }
        text.extend_from_slice(&self.text);
        Ok(Script::new(OsString::from_vec(text)))
    }

    fn push_word(&mut self, word: &OsStr) {
        if word.as_bytes().contains(&0) {
            self.complain("an argument cannot contain a NUL byte".to_owned());
        }
        escape(word.as_bytes(), &mut self.text);
    }

    fn complain(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}

fn piped_needs_spawn(host: &str) -> Error {
    let reason = "a piped stdin needs spawn, which gives the pipe".to_owned();
    Error::InvalidCommand { host: host.to_owned(), reason }
}

impl Target {
    pub(crate) fn pool(&self) -> &Pool {
        match self {
            Target::Pool(pool, _) | Target::Lease(pool, ..) => pool,
        }
    }

    pub(crate) fn key(&self) -> PoolKey {
        self.as_host().key()
    }

    pub(crate) fn as_host(&self) -> &Host {
        match self {
            Target::Pool(_, host) | Target::Lease(_, _, host) => host,
        }
    }

    pub(crate) fn host(&self) -> &str {
        self.as_host().name()
    }
}
