//! Commands in the manner of `std::process`.
//!
//! [`Command`] collects what to run and how; [`Command::output`], [`Command::status`] and
//! [`Command::spawn`] ask its [`Runner`] for it. What reaches the remote shell is one text, put
//! together here and nowhere else: arguments are escaped, shell text is taken as it is.

mod child;
pub(crate) mod escape;
mod output;
mod runner;
mod sudo;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use child::{Child, ChildEnds, ChildStderr, ChildStdin, ChildStdout};
pub use output::{ExitStatus, Output, Stdin};
pub use runner::{Pending, Request, Runner, Timeout};
pub(crate) use sudo::end_all_by_sudo;
pub use sudo::{Password, PasswordError, Sudo};

use crate::error::Error;
use crate::host::{Host, shortened};
use escape::escape;

/// What to run on a host, and how. Made by [`Pool::command`](crate::Pool::command),
/// [`Pool::shell`](crate::Pool::shell), the same methods of a [`Lease`](crate::Lease) and of any
/// [`Runner`].
///
/// The remote side runs it with the account's login shell. Arguments are escaped so that sh, dash,
/// bash, zsh, ksh, BusyBox and fish give the program exactly what was said here; [`env`](Self::env)
/// and [`current_dir`](Self::current_dir) need one of these shells too.
#[derive(Clone)]
#[must_use = "a command does nothing until output, status or spawn is awaited"]
pub struct Command {
    runner: Arc<dyn Runner>,
    host: Arc<Host>,
    text: Vec<u8>,
    problem: Option<String>,
    env: Vec<(OsString, OsString)>,
    current_dir: Option<PathBuf>,
    stdin: Stdin,
    timeout: Timeout,
    max_output: Option<usize>,
    fresh_session: bool,
    is_subsystem: bool,
}

/// Not the text and not the values of the environment, which `std::process::Command` shows: secrets
/// belong there, and `{:?}` ends in logs.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<&OsStr> = self.env.iter().map(|(name, _)| name.as_os_str()).collect();
        f.debug_struct("Command")
            .field("host", &format_args!("{}", self.host.key()))
            .field("text", &format_args!("{} bytes", self.text.len()))
            .field("env", &env)
            .field("current_dir", &self.current_dir)
            .field("stdin", &self.stdin)
            .field("timeout", &self.timeout)
            .field("max_output", &self.max_output)
            .finish_non_exhaustive()
    }
}

impl Command {
    /// A command to run a program on a host.
    pub fn program(runner: Arc<dyn Runner>, host: &Host, program: impl AsRef<OsStr>) -> Self {
        let mut command = Self::shell(runner, host, OsString::new());
        command.push_word(program.as_ref());
        command
    }

    /// A command that is shell text.
    pub fn shell(runner: Arc<dyn Runner>, host: &Host, text: impl Into<OsString>) -> Self {
        let text = text.into().into_vec();
        let problem = text.contains(&0).then(|| "a command cannot contain a NUL byte".to_owned());
        Command {
            runner,
            host: Arc::new(host.clone()),
            text,
            problem,
            env: Vec::new(),
            current_dir: None,
            stdin: Stdin::Empty,
            timeout: Timeout::Default,
            max_output: None,
            fresh_session: false,
            is_subsystem: false,
        }
    }

    /// A subsystem of the server, whose name is all that is said of it.
    pub(crate) fn subsystem(
        runner: Arc<dyn Runner>,
        host: &Host,
        name: impl Into<OsString>,
    ) -> Self {
        Command { is_subsystem: true, fresh_session: true, ..Self::shell(runner, host, name) }
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
        self.timeout = timeout.into().map_or(Timeout::Never, Timeout::After);
        self
    }

    /// Runs it in a session that has run no other command, and that runs no other one, whatever the
    /// pool's `session_reuse` is.
    pub fn fresh_session(mut self) -> Self {
        self.fresh_session = true;
        self
    }

    /// Runs it as another user of the host, by sudo.
    ///
    /// The other user's `/bin/sh` has the whole text then, not the login shell of the account. It
    /// stands in the process list of the host and in sudo's log, with what [`env`](Self::env) sets.
    /// No shell of the user is kept for another command: that is for a runner that is made once
    /// ([`Sudo::over`]).
    pub fn sudo(mut self, sudo: &Sudo) -> Self {
        self.runner = sudo.clone().reuse(false).over(&*self.runner);
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
    pub async fn output(self) -> Result<Output, Error> {
        let (runner, request) = self.into_request()?;
        runner.output(request).await
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
    pub async fn status(self) -> Result<ExitStatus, Error> {
        let (runner, request) = self.into_request()?;
        runner.status(request).await
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
    pub async fn spawn(self) -> Result<Child, Error> {
        let (runner, request) = self.into_request()?;
        runner.spawn(request).await
    }

    /// As [`spawn`](Self::spawn), for a caller that reads both streams to their ends, or ends the
    /// command. So the command may have a session that runs one command after another: there a
    /// stream cannot be closed before its end without the other commands.
    pub(crate) async fn spawn_and_read(self) -> Result<Child, Error> {
        let (runner, request) = self.into_request()?;
        runner.spawn(Request { is_read_to_end: true, ..request }).await
    }

    /// Who runs it, and what is asked for.
    fn into_request(mut self) -> Result<(Arc<dyn Runner>, Request), Error> {
        let text = self.script()?;
        let Command { runner, host, stdin, timeout, max_output, .. } = self;
        let request = Request {
            host,
            text,
            is_subsystem: self.is_subsystem,
            stdin,
            timeout,
            max_output,
            fresh_session: self.fresh_session,
            is_read_to_end: false,
        };
        Ok((runner, request))
    }

    /// The text for the remote shell.
    fn script(&mut self) -> Result<OsString, Error> {
        if let Some(reason) = self.problem.take() {
            return Err(Error::InvalidCommand { host: self.host.name().to_owned(), reason });
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
        Ok(OsString::from_vec(text))
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
