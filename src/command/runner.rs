//! The seam between commands and who runs them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Child, Command, ExitStatus, Output, Stdin};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::Host;

/// What a [`Runner`] gives: a future that may live as long as the runner.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Runs commands on hosts. A [`Pool`](crate::Pool) does, over its own connections; a
/// [`Lease`](crate::Lease) does, on the connection that it holds; the client of the agent does,
/// over the agent's connections; a test may have one of its own.
///
/// A [`Command`] holds a runner and knows no more of it. So everything that is made of commands
/// ([`docker`](crate::docker), [`resources`](crate::resources), [`on_each`](crate::on_each)) works
/// over any runner.
///
/// # Cancel safety
///
/// A future that is dropped before it has completed ends its command, here and there, as far as the
/// runner can.
pub trait Runner: Send + Sync {
    /// A handle to the same runner.
    fn shared(&self) -> Arc<dyn Runner>;

    /// Runs a command to its end, and gives its status and everything that it wrote.
    ///
    /// # Errors
    ///
    /// As [`Command::output`].
    fn output(&self, request: Request) -> Pending<'_, Output>;

    /// Runs a command to its end. What it writes is thrown away.
    ///
    /// # Errors
    ///
    /// As [`Command::status`].
    fn status(&self, request: Request) -> Pending<'_, ExitStatus>;

    /// Starts a command and gives its streams.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`].
    fn spawn(&self, request: Request) -> Pending<'_, Child>;

    /// A runner whose commands run on one connection to this host, which it holds until its last
    /// handle is dropped. The host of a request has no meaning to it.
    ///
    /// # Errors
    ///
    /// As [`Pool::acquire`](crate::Pool::acquire).
    fn lease(&self, host: &Host) -> Pending<'_, Arc<dyn Runner>>;

    /// Whether commands on this host run in a shell, as far as the login to it has shown. An
    /// account that is for sftp alone has none. Connects where there is no connection.
    ///
    /// # Errors
    ///
    /// As [`Pool::acquire`](crate::Pool::acquire).
    fn has_shell(&self, _: &Host) -> Pending<'_, bool> {
        Box::pin(async { Ok(true) })
    }

    /// The settings that hold where a request says nothing: its limits of time and of output.
    fn defaults(&self) -> PoolConfig {
        PoolConfig::default()
    }
}

impl dyn Runner + '_ {
    /// A command to run a program; arguments are added to it, and escaped.
    pub fn command(&self, host: &Host, program: impl AsRef<OsStr>) -> Command {
        Command::program(self.shared(), host, program)
    }

    /// A command that is shell text. Never put into it what somebody else wrote: that is what
    /// `command` is for.
    pub fn shell(&self, host: &Host, text: impl Into<OsString>) -> Command {
        Command::shell(self.shared(), host, text)
    }
}

impl fmt::Debug for dyn Runner + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runner")
    }
}

/// What a runner is asked for.
#[derive(Clone)]
#[non_exhaustive]
pub struct Request {
    /// Where the command runs.
    pub host: Arc<Host>,
    /// The text for the account's shell. It may contain secrets: `{:?}` does not show it.
    pub text: OsString,
    /// The text is the name of a subsystem of the server's, such as sftp, and no command.
    pub is_subsystem: bool,
    /// What the command reads.
    pub stdin: Stdin,
    /// How long it may take, from its start to its end.
    pub timeout: Timeout,
    /// How many bytes of stdout, and of stderr, are captured at most; `None` for the runner's
    /// default. For [`Runner::output`] only.
    pub max_output: Option<usize>,
    /// The command gets a session that has run no other one, and that runs no other one.
    pub fresh_session: bool,
    /// Whoever spawns it reads both streams to their ends, or ends the command. For
    /// [`Runner::spawn`] only.
    pub(crate) is_read_to_end: bool,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("host", &self.host)
            .field("text", &format_args!("{} bytes", self.text.len()))
            .field("is_subsystem", &self.is_subsystem)
            .field("stdin", &self.stdin)
            .field("timeout", &self.timeout)
            .field("max_output", &self.max_output)
            .field("fresh_session", &self.fresh_session)
            .finish()
    }
}

/// How long a command may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Timeout {
    /// As long as the runner's settings say, where the command is run to its end
    /// (`command_timeout`); without a limit, where it is spawned.
    #[default]
    Default,
    /// So long.
    After(Duration),
    /// Without a limit.
    Never,
}

impl Timeout {
    /// The limit, where this is the default.
    pub fn or(self, default: Option<Duration>) -> Option<Duration> {
        match self {
            Timeout::Default => default,
            Timeout::After(limit) => Some(limit),
            Timeout::Never => None,
        }
    }
}
