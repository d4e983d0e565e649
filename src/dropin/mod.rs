//! What an ssh command line asks for, and how it goes over a connection of the agent.
//!
//! [`command_line`] reads the words as ssh does, [`options`] knows what ssh's options are to a
//! shared connection, [`overrides`] and [`request`] make of them the host that the agent is asked
//! for, [`session`] says what runs there, [`forwards`] what is forwarded where nothing runs,
//! [`configuration`] looks whether the ssh_config wants what
//! a shared connection does not have. [`connection`] asks the agent, and [`program`] is the real ssh
//! that goes over the connection. A command that has no terminal is [`supervised`]: ssh is our child
//! then, and a signal ends the remote command, too.
//!
//! Whatever goes wrong on the way, the end is [`Plain`] ssh with the caller's own words: it fails
//! where ssh fails, and says it as ssh does. This room writes nothing of its own and ends no
//! process; only what a supervised ssh says passes through it.

mod command_line;
mod configuration;
mod connection;
mod forwards;
mod messages;
mod options;
mod overrides;
mod paths;
mod program;
mod request;
mod session;
mod supervised;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use command_line::{CommandLine, Opt, ParseError, UnknownOptions};
pub(crate) use connection::{Question, Request, Shared};
pub(crate) use forwards::Forwarding;
pub(crate) use program::RealSsh;
use request::HostRequest;
pub(crate) use supervised::Ending;

use crate::config::Config;
use crate::host::{Host, HostError};
use crate::openssh;

/// How long `ssh -G` may take: a configuration can run programs.
const RESOLVING: Duration = Duration::from_secs(5);

/// Why it is plain ssh that has to do it.
type Reason = String;

/// Plain ssh, which logs in by itself.
#[derive(Debug)]
pub(crate) struct Plain {
    /// What stands before the caller's words.
    pub arguments: Vec<OsString>,
    pub reason: String,
}

/// How a command line goes on.
pub(crate) enum Route<'a> {
    Plain(Plain),
    /// Plain ssh; what stands before the caller's words is for ssh to find out.
    Unclear(Unclear<'a>),
    /// Over a connection of the agent, if the agent has one.
    Agent(Box<Request<'a>>),
}

/// What the settings of the program say.
pub(crate) struct Settings<'a> {
    pub config: &'a Config,
    /// Whether the agent may be asked.
    pub agent: bool,
    /// The path of the agent with the caller's keys (`SSH_AUTH_SOCK`).
    pub auth_sock: Option<&'a str>,
}

/// A call of ssh.
pub(crate) struct Invocation<'a> {
    words: &'a [OsString],
    ssh_config: Option<&'a Path>,
    options: Vec<Opt>,
    line: Result<CommandLine<'a>, ParseError>,
}

impl<'a> Invocation<'a> {
    /// `words` are those behind `ssh`; `ssh_config` is the file that this program was given.
    pub(crate) fn parse(words: &'a [OsString], ssh_config: Option<&'a Path>) -> Self {
        let (options, line) = command_line::parse(words);
        Invocation { words, ssh_config, options, line }
    }

    /// Whether the caller wants to read what ssh does.
    pub(crate) fn is_verbose(&self) -> bool {
        self.options.contains(&Opt::Flag(b'v'))
    }

    /// Plain ssh, for a line that names no host: no settings need to be read for it.
    pub(crate) fn without_host(&self) -> Option<Plain> {
        match &self.line {
            Err(error @ (ParseError::NoDestination | ParseError::MissingValue(_))) => {
                Some(self.plain(error))
            }
            _ => None,
        }
    }

    /// Plain ssh, knowing nothing of the host.
    pub(crate) fn plain(&self, reason: impl ToString) -> Plain {
        Plain { arguments: self.file(), reason: reason.to_string() }
    }

    /// Decides how it goes on.
    pub(crate) fn route(&self, settings: &Settings<'_>) -> Route<'a> {
        let known = |name: &str| self.known(settings.config, name);
        let line = match &self.line {
            Ok(line) => line,
            Err(error) => return self.route_of_unknown(error, known),
        };
        let HostRequest { host, additions, timeout, forwarding } =
            match HostRequest::of(line, known, settings.auth_sock) {
                Ok(request) => request,
                Err(reason) => return Route::Plain(self.plain(reason)),
            };
        let arguments = openssh::of_host(&additions);
        match host {
            _ if !settings.agent => Route::Plain(Plain {
                arguments,
                reason: "without the agent, as it was asked for".to_owned(),
            }),
            Err(reason) => Route::Plain(Plain { arguments, reason }),
            Ok(host) => {
                let request = Request::new(self.words, line.clone(), host, arguments, timeout);
                Route::Agent(Box::new(request.forwarding(forwarding)))
            }
        }
    }

    /// Plain ssh for a line with a letter that is not known. Whether that letter has a value
    /// decides which word is the host. ssh knows it, and is asked where the settings say something
    /// of one of them.
    fn route_of_unknown(
        &self,
        error: &ParseError,
        known: impl Fn(&str) -> Result<Host, HostError>,
    ) -> Route<'a> {
        let readings: Vec<_> = [UnknownOptions::AreFlags, UnknownOptions::HaveValues]
            .into_iter()
            .filter_map(|unknown| {
                let line = command_line::parse_with(self.words, unknown).1.ok()?;
                let additions = HostRequest::of(&line, &known, None).ok()?.additions;
                Some((additions.name().to_owned(), openssh::of_host(&additions)))
            })
            .collect();
        let plain = self.plain(error);
        match readings.iter().all(|(_, facts)| facts.is_empty() || *facts == plain.arguments) {
            true => Route::Plain(plain),
            false => Route::Unclear(Unclear { words: self.words, readings, plain }),
        }
    }

    /// The host of this name as the settings have it.
    fn known(&self, config: &Config, name: &str) -> Result<Host, HostError> {
        let host = config.host(name)?;
        match self.ssh_config {
            Some(file) => host.config_file(file),
            None => Ok(host),
        }
    }

    /// `-F FILE`, where this program was given one. It comes before what the caller says, and of
    /// several files ssh takes the last one.
    fn file(&self) -> Vec<OsString> {
        let file = self.ssh_config.iter();
        file.flat_map(|file| ["-F".into(), file.as_os_str().to_owned()]).collect()
    }
}

/// A line of which ssh has to say which word is the host.
pub(crate) struct Unclear<'a> {
    words: &'a [OsString],
    /// Names of hosts, each with what the settings say of it.
    readings: Vec<(String, Vec<OsString>)>,
    plain: Plain,
}

impl Unclear<'_> {
    /// Plain ssh where it cannot be asked.
    pub(crate) fn unsettled(self) -> Plain {
        self.plain
    }

    /// Asks ssh.
    ///
    /// # Cancel safety
    ///
    /// The ssh that is asked ends when this is dropped.
    pub(crate) async fn settle(self) -> Plain {
        let Unclear { words, readings, mut plain } = self;
        let Ok(ssh) = RealSsh::find() else { return plain };
        let asked = [&plain.arguments[..], words].concat();
        let resolved = ssh.program().resolved(asked, Instant::now() + RESOLVING).await;
        let host = resolved.as_deref().and_then(configuration::host_of);
        let is_host = |name: &str| host.is_some_and(|host| host.eq_ignore_ascii_case(name));
        if let Some((_, facts)) = readings.into_iter().find(|(name, _)| is_host(name)) {
            plain.arguments = facts;
        }
        plain
    }
}
