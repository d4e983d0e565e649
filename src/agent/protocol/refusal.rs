//! Why a request was not done.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ended::Streams;
use super::result::{CommandResult, Failure};
use crate::error::{ConnectError, ConnectErrorKind, Error, PartialOutput, Remote};
use crate::files::{FileError, FileErrorKind};
use crate::host::Host;

/// What an answer that is no success has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub error: Box<Problem>,
    /// Of a command whose output is collected: its result, as that of one that has ended.
    #[serde(flatten, skip_deserializing)]
    pub result: Option<Box<CommandResult>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    #[serde(flatten)]
    pub cause: Cause,
    /// One line: host, what was tried, why it failed.
    pub message: String,
    /// Whether the command provably did not run.
    pub never_started: bool,
    /// What had been written until then, where the answer has all output.
    #[serde(flatten)]
    pub partial: Streams,
}

/// Why something was not done. Those of an [`Error`] have the words of its
/// [`kind`](Error::kind).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Cause {
    /// The request is not one, or has a value that is not valid.
    Invalid,
    /// There is no such path.
    NotFound,
    /// The path is there, but not with this method.
    WrongMethod,
    /// The request has begun, and did not come to its end in time.
    TooSlow,
    /// The request is longer than the agent takes.
    TooLarge,
    /// More commands, or pools with different settings, than the agent takes.
    TooMany,
    /// More clients than the agent takes.
    TooManyClients,
    /// The agent is about to end: another one can be asked in a moment.
    Leaving,
    /// The agent is of another version than the client.
    OtherVersion,
    /// More has to be known of the client's place: these variables, by names and patterns, or all
    /// of the environment.
    Place {
        variables: std::collections::BTreeSet<String>,
        whole: bool,
    },
    /// The client stands where the agent cannot: with another root, in other namespaces, with other
    /// ids.
    Elsewhere,
    Connect {
        host: String,
        cause: ConnectErrorKind,
        detail: String,
        /// What to do about it, with `HOST` for the name of the host.
        #[serde(default)]
        advice: Option<String>,
        #[serde(default)]
        ssh_output: Vec<String>,
        /// Nothing was tried for this answer: how long ago it was, and when it will be again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tried_ms_ago: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_try_in_ms: Option<u64>,
    },
    Exhausted {
        host: String,
        port: u16,
        max_connections: usize,
    },
    Closed {
        host: String,
    },
    NeverStarted {
        host: String,
        reason: String,
    },
    Forward {
        host: String,
        reason: String,
    },
    Lost {
        host: String,
        reason: String,
    },
    TimedOut {
        host: String,
        after_ms: u64,
        /// Why it may still run there; null when it was ended.
        may_live_on: Option<String>,
    },
    OutputLimit {
        host: String,
        stream: String,
        limit_bytes: usize,
        may_live_on: Option<String>,
    },
    /// Something on this machine: no more processes or descriptors, for instance.
    Local {
        host: String,
        reason: String,
    },
    /// A file of a host cannot be read or written. Nothing of it is left under the name.
    File {
        host: String,
        path: String,
        file_cause: String,
        reason: String,
    },
}

impl Refusal {
    /// Of the request itself, or of the agent.
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        let message = message.into();
        let problem = Problem { cause, message, never_started: true, partial: Streams::default() };
        Refusal { error: Box::new(problem), result: None }
    }

    /// Of a frame of a command that ran already.
    pub(crate) fn in_a_frame(message: String) -> Self {
        let mut refusal = Refusal::new(Cause::Invalid, message);
        refusal.error.never_started = false;
        refusal
    }

    /// Of a command whose output is collected; what is not about a command stays as it is.
    pub(crate) fn with_result(mut self, host: &str, elapsed: Duration) -> Self {
        // Where it was resolved it has a name, whatever was written for it.
        let host = match &self.error.cause {
            Cause::Connect { host, .. }
            | Cause::Exhausted { host, .. }
            | Cause::Closed { host }
            | Cause::NeverStarted { host, .. }
            | Cause::Forward { host, .. }
            | Cause::Lost { host, .. }
            | Cause::TimedOut { host, .. }
            | Cause::OutputLimit { host, .. }
            | Cause::File { host, .. }
            | Cause::Local { host, .. } => host.clone(),
            Cause::Invalid => host.to_owned(),
            Cause::NotFound
            | Cause::WrongMethod
            | Cause::TooSlow
            | Cause::TooLarge
            | Cause::TooMany
            | Cause::TooManyClients
            | Cause::Leaving
            | Cause::OtherVersion
            | Cause::Place { .. }
            | Cause::Elsewhere => return self,
        };
        let mut problem = self.error.clone();
        let (stdout, stderr) = std::mem::take(&mut problem.partial).bytes();
        let (partial, failure) = (PartialOutput { stdout, stderr }, Failure::Error(problem));
        let result = CommandResult::failed(&host, failure, partial, elapsed);
        self.result = Some(Box::new(result));
        self
    }

    /// Of a command whose output is with the client already.
    pub(crate) fn without_output(mut self) -> Self {
        self.error.partial = Streams::default();
        self
    }

    pub(crate) fn of(error: &Error, host: &str) -> Self {
        let host = host.to_owned();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // Who reads this has no pool to call.
        let error = &match error {
            Error::Connect { host: name, source } => {
                Error::Connect { host: name.clone(), source: source.clone().for_program(&host) }
            }
            other => other.clone(),
        };
        let left = |remote: &Remote| match remote {
            Remote::Ended => None,
            Remote::MayLiveOn(reason) => Some(reason.to_string()),
        };
        let mut output = Streams::default();
        if let Error::Lost { partial, .. }
        | Error::TimedOut { partial, .. }
        | Error::OutputLimit { partial, .. } = error
        {
            output = Streams::both(partial.stdout.clone(), partial.stderr.clone());
        }
        let cause = match error {
            Error::Host(_) | Error::Config(_) | Error::InvalidCommand { .. } => Cause::Invalid,
            Error::Connect { source, .. } => Cause::Connect {
                host,
                cause: source.kind(),
                detail: source.detail().to_owned(),
                advice: source.advice().map(str::to_owned),
                ssh_output: source.ssh_output().to_vec(),
                tried_ms_ago: source.tried_ago().map(ms),
                next_try_in_ms: source.next_try_in().map(ms),
            },
            Error::Exhausted { key, max, .. } => Cause::Exhausted {
                host: key.name().to_owned(),
                port: key.port(),
                max_connections: *max,
            },
            Error::Closed { .. } => Cause::Closed { host },
            // A client leads the conversation with sudo by itself.
            Error::NeverStarted { reason, .. } | Error::Sudo { reason, .. } => {
                Cause::NeverStarted { host, reason: reason.clone() }
            }
            Error::Forward { reason, .. } => Cause::Forward { host, reason: reason.clone() },
            Error::Lost { reason, .. } => Cause::Lost { host, reason: reason.clone() },
            Error::TimedOut { after, remote, .. } => Cause::TimedOut {
                host,
                after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                may_live_on: left(remote),
            },
            Error::OutputLimit { stream, limit, remote, .. } => Cause::OutputLimit {
                host,
                stream: (*stream).to_owned(),
                limit_bytes: *limit,
                may_live_on: left(remote),
            },
            Error::SshNotFound | Error::Io { .. } | Error::Failed { .. } | Error::Killed { .. } => {
                let text = error.to_string();
                let reason = text.strip_prefix(&format!("{host}: ")).unwrap_or(&text).to_owned();
                Cause::Local { host, reason }
            }
        };
        let (message, never_started) = (error.to_string(), error.never_started());
        let problem = Problem { cause, message, never_started, partial: output };
        Refusal { error: Box::new(problem), result: None }
    }

    /// Of a file that cannot be read or written there.
    pub(crate) fn of_file(error: &FileError, host: &str) -> Self {
        let (path, reason) = match error {
            FileError::Remote { path, text, .. } | FileError::Local { path, text, .. } => {
                (path.to_string_lossy().into_owned(), text.clone())
            }
            FileError::Run(error) => return Refusal::of(error, host),
        };
        let file_cause = error.kind().map_or("other", FileErrorKind::as_str).to_owned();
        let cause = Cause::File { host: host.to_owned(), path, file_cause, reason };
        let mut refusal = Refusal::new(cause, error.to_string());
        refusal.error.never_started = false;
        refusal
    }

    /// Another agent can be asked in a moment.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.error.cause, Cause::Leaving)
    }

    /// What the pool of this process would have given.
    pub(crate) fn into_error(self, host: &Host) -> Error {
        let Problem { cause, message, partial, .. } = *self.error;
        let name = host.name().to_owned();
        let remote = |left: Option<String>| match left {
            None => Remote::Ended,
            Some(reason) => Remote::MayLiveOn(reason.into()),
        };
        let (stdout, stderr) = partial.bytes();
        let partial = Arc::new(PartialOutput { stdout, stderr });
        match cause {
            Cause::Connect {
                cause,
                detail,
                advice,
                ssh_output,
                tried_ms_ago,
                next_try_in_ms,
                ..
            } => {
                let mut source = ConnectError::new(cause, detail, ssh_output).advising(advice);
                if let (Some(ago), Some(next)) = (tried_ms_ago, next_try_in_ms) {
                    let (ago, next) = (Duration::from_millis(ago), Duration::from_millis(next));
                    source = source.remembered(ago, next).for_program(&name);
                }
                Error::Connect { host: name, source }
            }
            Cause::Exhausted { max_connections, .. } => {
                Error::Exhausted { key: host.key(), max: max_connections, last_failure: None }
            }
            Cause::Closed { .. } => Error::Closed { host: name },
            Cause::NeverStarted { reason, .. } => Error::NeverStarted { host: name, reason },
            Cause::Forward { reason, .. } => Error::Forward { host: name, reason },
            Cause::Lost { reason, .. } => Error::Lost { host: name, reason, partial },
            Cause::TimedOut { after_ms, may_live_on, .. } => Error::TimedOut {
                host: name,
                after: Duration::from_millis(after_ms),
                remote: remote(may_live_on),
                partial,
            },
            Cause::OutputLimit { stream, limit_bytes, may_live_on, .. } => Error::OutputLimit {
                host: name,
                stream: if stream == "stderr" { "stderr" } else { "stdout" },
                limit: limit_bytes,
                remote: remote(may_live_on),
                partial,
            },
            Cause::Invalid => {
                let prefix = format!("{name}: cannot run the command: ");
                let reason = message.strip_prefix(&prefix).unwrap_or(&message).to_owned();
                Error::InvalidCommand { host: name, reason }
            }
            Cause::File { reason, .. } | Cause::Local { reason, .. } => {
                Error::io(&name, "the agent", io::Error::other(reason))
            }
            Cause::NotFound
            | Cause::WrongMethod
            | Cause::TooSlow
            | Cause::TooLarge
            | Cause::TooMany
            | Cause::TooManyClients
            | Cause::Leaving
            | Cause::Place { .. }
            | Cause::Elsewhere
            | Cause::OtherVersion => Error::NeverStarted { host: name, reason: message },
        }
    }
}
