//! Asking the agent: for a connection, or for the answer to a question about its master (`-O`).

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::command_line::{CommandLine, Opt};
use super::configuration::{self, SessionSettings};
use super::forwards::Forwarding;
use super::session::SessionRequest;
use super::supervised::{Ending, Supervised};
use super::{Plain, RESOLVING, RealSsh, Reason};
use crate::agent::Client;
use crate::agent::protocol::Connected;
use crate::host::Host;
use crate::openssh;

/// How long the agent may take to say which connections it has.
const ANSWER: Duration = Duration::from_secs(5);
/// What the agent may take beyond the time of a login.
const GRACE: Duration = Duration::from_secs(1);

/// A command line that can go over a connection of the agent.
pub(crate) struct Request<'a> {
    words: &'a [OsString],
    line: CommandLine<'a>,
    host: Host,
    /// What the settings say of the host and the line does not.
    arguments: Vec<OsString>,
    timeout: Option<Duration>,
    forwarding: Option<Forwarding>,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        words: &'a [OsString],
        line: CommandLine<'a>,
        host: Host,
        arguments: Vec<OsString>,
        timeout: Option<Duration>,
    ) -> Self {
        Request { words, line, host, arguments, timeout, forwarding: None }
    }

    pub(super) fn forwarding(self, forwarding: Option<Forwarding>) -> Self {
        Request { forwarding, ..self }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    pub(super) fn line(&self) -> &CommandLine<'a> {
        &self.line
    }

    /// What the settings say of the host and the line does not.
    pub(super) fn arguments(&self) -> &[OsString] {
        &self.arguments
    }

    /// What is forwarded, where the line wants nothing else.
    pub(crate) fn forwards(&self) -> Option<Forwarding> {
        self.forwarding.clone()
    }

    /// Plain ssh after all.
    pub(crate) fn plain(self, reason: impl ToString) -> Plain {
        Plain { arguments: self.arguments, reason: reason.to_string() }
    }

    /// The question about the master that the line is, if it is one.
    pub(crate) fn question(&self) -> Option<Question> {
        Question::of(&self.line)
    }

    /// The masters of the connections that the caller's next command would use; they answer the
    /// question.
    ///
    /// # Errors
    ///
    /// Why the agent gives no answer.
    pub(crate) async fn masters(
        &self,
        question: Question,
        client: &Client,
    ) -> Result<Vec<u32>, Reason> {
        match timeout(ANSWER, client.masters(&self.host, question != Question::Check)).await {
            Ok(Ok(Ok(masters))) if masters.pids.is_empty() => {
                Err("the agent has no such connection".to_owned())
            }
            Ok(Ok(Ok(masters))) => Ok(masters.pids),
            Ok(Ok(Err(refused))) => Err(refused.error.message),
            Ok(Err(no)) => Err(no.to_string()),
            Err(_) => Err(format!("the agent has not answered within {ANSWER:?}")),
        }
    }

    /// Has the agent connect, and hold a session of the connection for this process.
    ///
    /// The agent is waited for no longer than its login may take, and half of the time that the
    /// caller gives a login.
    ///
    /// # Errors
    ///
    /// Why it is plain ssh that has to do it.
    pub(crate) async fn connect(&self, client: &Client) -> Result<Shared, Reason> {
        let settings = self.session_settings().await?;
        let connected = self.connected_within(client, true, settings.limit).await?;
        let has_log = |option: &Opt| matches!(option, Opt::Value(b'E', _) | Opt::Flag(b'y'));
        Ok(Shared {
            socket: connected.control_path(),
            is_forced: connected.forced,
            command: SessionRequest::of(&self.line, settings).command_without_terminal(),
            has_log: self.line.options.iter().any(has_log),
            words: [&self.arguments, self.words].concat(),
        })
    }

    /// Has the agent connect, for what has no session.
    pub(super) async fn connected(&self, client: &Client) -> Result<(), Reason> {
        self.connected_within(client, false, self.timeout).await.map(drop)
    }

    async fn connected_within(
        &self,
        client: &Client,
        hold: bool,
        limit: Option<Duration>,
    ) -> Result<Connected, Reason> {
        let patience = client.config().connect_timeout.saturating_add(GRACE);
        // When it cannot connect in this time, ssh may still do it in its own: together that has to
        // be less than twice that.
        let patience = limit.map_or(patience, |limit| patience.min(limit / 2));
        match timeout(patience, client.connect(&self.host, hold, false)).await {
            Ok(connected) => connected.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the agent has not connected within {patience:?}")),
        }
    }

    /// What ssh's configuration wants of the session.
    async fn session_settings(&self) -> Result<SessionSettings, Reason> {
        let is_worth_asking = configuration::is_worth_asking(self.host.get_config_file())
            || self.host.get_options().any(|(option, _)| configuration::is_of_interest(option));
        if !is_worth_asking {
            return Ok(SessionSettings { limit: self.timeout, ..SessionSettings::default() });
        }
        let ssh = RealSsh::find().map_err(|error| error.to_string())?;
        let asked = [&self.arguments, self.words].concat();
        let resolved = ssh.program().resolved(asked, Instant::now() + RESOLVING).await;
        let resolved = resolved.ok_or("ssh -G fails")?;
        self.settings_of(&resolved)
    }

    pub(super) fn settings_of(&self, resolved: &str) -> Result<SessionSettings, Reason> {
        let has_display = std::env::var_os("DISPLAY").is_some_and(|display| !display.is_empty());
        let mut settings = configuration::settings_of(resolved, has_display)?;
        settings.limit = settings.limit.or(self.timeout);
        Ok(settings)
    }
}

/// A question to the master of a connection (`-O`) that the agent can answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Check,
    /// No further session, as with `Exit`.
    Stop,
    Exit,
}

impl Question {
    fn of(line: &CommandLine<'_>) -> Option<Self> {
        let mut asked = line.options.iter().filter_map(|option| match option {
            Opt::Value(b'O', what) => Some(what),
            _ => None,
        });
        match (asked.next()?.to_str()?, asked.next()) {
            ("check", None) => Some(Question::Check),
            ("stop", None) => Some(Question::Stop),
            ("exit", None) => Some(Question::Exit),
            _ => None,
        }
    }

    /// The answer, as ssh says it on stderr.
    pub(crate) fn answer(self, masters: &[u32]) -> String {
        match self {
            Question::Check => {
                format!("Master running (pid={})\r\n", masters.first().unwrap_or(&0))
            }
            Question::Stop => "Stop listening request sent.\r\n".to_owned(),
            Question::Exit => "Exit request sent.\r\n".to_owned(),
        }
    }
}

/// A connection of the agent, for a command line.
pub(crate) struct Shared {
    pub socket: PathBuf,
    /// Whatever is asked for there may run a forced command.
    is_forced: bool,
    /// What runs without a terminal, empty for a shell.
    command: Option<String>,
    has_log: bool,
    /// What the settings say of the host, and the caller's words.
    words: Vec<OsString>,
}

impl Shared {
    /// What ssh is called with, to become it.
    pub(crate) fn arguments(&self) -> Vec<OsString> {
        [openssh::over(&self.socket), self.words.clone()].concat()
    }

    /// Whether ssh has to be a child: there is no terminal from which the command would be ended.
    pub(crate) fn is_supervised(&self) -> bool {
        self.command.is_some()
    }

    /// Runs ssh as a child, to its end.
    ///
    /// # Errors
    ///
    /// When ssh cannot be started.
    pub(crate) async fn supervise(&self, ssh: &RealSsh) -> io::Result<Ending> {
        let supervised = Supervised {
            socket: &self.socket,
            command: self.command.as_deref().unwrap_or_default(),
            // A forced command must not run once more, only because it has to be ended.
            can_be_ended: !self.is_forced,
            has_log: self.has_log,
        };
        supervised.run(ssh, &self.words).await
    }
}
