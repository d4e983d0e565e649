//! The result of a command, as the API gives it and as `exec --json` and `run --json` print it.

use std::time::Duration;

use serde::Serialize;

use super::ended::Streams;
use super::refusal::{Problem, Refusal};
use crate::command::Output;
use crate::error::{Error, ErrorKind, NO_STATUS, PartialOutput};

/// The result of a command on one host.
#[derive(Debug, Serialize)]
pub(crate) struct CommandResult {
    pub host: String,
    /// The status of the command, 0 to 255; null where `failure` says why there is none.
    pub exit_code: Option<i32>,
    /// What the command wrote, or had written until it was given up.
    #[serde(flatten)]
    pub streams: Streams,
    /// From the request to the end, a login included.
    pub elapsed_ms: u64,
    pub failure: Option<Failure>,
}

/// Why a command has no status.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Failure {
    Error(Box<Problem>),
    /// What is not an [`Error`].
    Other {
        kind: &'static str,
        message: String,
        never_started: bool,
        host: String,
    },
}

impl Failure {
    pub(crate) fn other(kind: &'static str, host: &str, message: &str) -> Self {
        let message = format!("{host}: {message}");
        Failure::Other { kind, message, never_started: false, host: host.to_owned() }
    }

    /// A signal has ended the command.
    pub(crate) fn killed(host: &str) -> Self {
        Failure::other(ErrorKind::Killed.as_str(), host, NO_STATUS)
    }

    /// `hint` is behind the message of the error.
    pub(crate) fn of(error: &Error, host: &str, hint: &str) -> Self {
        let mut problem = Refusal::of(error, host).without_output().error;
        problem.message.push_str(hint);
        Failure::Error(problem)
    }
}

impl CommandResult {
    /// Of a command that has ended.
    pub(crate) fn ended(host: &str, output: Output, elapsed: Duration) -> Self {
        let exit_code = output.status.code();
        let failure = exit_code.is_none().then(|| Failure::killed(host));
        let streams = Streams::both(output.stdout, output.stderr);
        CommandResult {
            host: host.to_owned(),
            exit_code,
            streams,
            elapsed_ms: ms(elapsed),
            failure,
        }
    }

    /// Of a command that has no status of its own.
    pub(crate) fn failed(
        host: &str,
        failure: Failure,
        partial: PartialOutput,
        elapsed: Duration,
    ) -> Self {
        CommandResult {
            host: host.to_owned(),
            exit_code: None,
            streams: Streams::both(partial.stdout, partial.stderr),
            elapsed_ms: ms(elapsed),
            failure: Some(failure),
        }
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::error::{ConnectError, ConnectErrorKind, Remote};
    use crate::host::Host;

    #[test]
    fn a_refusal_has_the_word_of_the_error() {
        let host = || "web1".to_owned();
        let (reason, partial) = ("why".to_owned(), Arc::<PartialOutput>::default());
        let key = Host::new("web1").expect("it is a name").key();
        let source = ConnectError::new(ConnectErrorKind::Refused, "no", Vec::new());
        let errors = [
            Error::InvalidCommand { host: host(), reason: reason.clone() },
            Error::Connect { host: host(), source },
            Error::Exhausted { key, max: 5, last_failure: None },
            Error::Closed { host: host() },
            Error::NeverStarted { host: host(), reason: reason.clone() },
            Error::Forward { host: host(), reason: reason.clone() },
            Error::Lost { host: host(), reason, partial: Arc::clone(&partial) },
            Error::TimedOut {
                host: host(),
                after: Duration::ZERO,
                remote: Remote::Ended,
                partial: Arc::clone(&partial),
            },
            Error::OutputLimit {
                host: host(),
                stream: "stdout",
                limit: 1,
                remote: Remote::Ended,
                partial,
            },
            Error::SshNotFound,
        ];
        let mut seen: Vec<ErrorKind> = Vec::new();
        for error in &errors {
            let refusal = serde_json::to_value(Refusal::of(error, "web1")).expect("text keys");
            assert_eq!(refusal["error"]["kind"], error.kind().as_str());
            seen.push(error.kind());
        }
        // Two are of `Pool::exec` only, and sudo is led by the client.
        seen.extend([ErrorKind::Failed, ErrorKind::Killed, ErrorKind::Sudo]);
        assert!(ErrorKind::ALL.iter().all(|kind| seen.contains(kind)), "{seen:?}");
    }
}
