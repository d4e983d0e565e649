//! What can go wrong, in the words of a caller.
//!
//! Every error is one line that names the host, what was tried, why it failed and, where there is
//! something to do, what. Errors are cheap to clone: several callers can wait for one login, and
//! all of them hear why it failed.

pub(crate) mod advice;
mod connect;
mod kind;
mod remote;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

pub use connect::{ConnectError, ConnectErrorKind};
pub use kind::ErrorKind;
pub use remote::Remote;

use crate::config::ConfigError;
use crate::host::{HostError, PoolKey};
use crate::text::{Text, plain, printable};

/// What is known of a command that has ended without a status. Which signal it was, or whether it
/// was one, OpenSSH's multiplexing does not tell.
pub(crate) const NO_STATUS: &str =
    "command ended without a status (a signal killed it, or the server tells none)";

/// The error of this crate's functions.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A host's name, address, user, port, path or option is not acceptable. Nothing was started.
    #[error(transparent)]
    Host(#[from] HostError),

    /// A setting is not valid. Nothing was started.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// There is no `ssh` to run.
    #[error("no ssh program found in PATH: install the OpenSSH client (Debian: openssh-client)")]
    SshNotFound,

    /// A command contains what no shell can be given (a NUL byte, or a bad name of a variable).
    /// Nothing was started.
    #[error("{host}: cannot run the command: {reason}")]
    InvalidCommand {
        /// The host that it was meant for.
        host: String,
        /// What is wrong with it.
        reason: String,
    },

    /// No connection could be made.
    #[error("{host}: cannot connect: {}", source.told_of(host))]
    Connect {
        /// The host's name.
        host: String,
        /// Why, with ssh's own words.
        source: ConnectError,
    },

    /// All connections were taken for as long as the caller was ready to wait (`acquire_timeout`).
    #[error("Connection pool exhausted for {key} (max: {max})")]
    Exhausted {
        /// Whose connections.
        key: PoolKey,
        /// `max_connections`.
        max: usize,
        /// The last failure to make another connection, if that is what kept the pool small.
        last_failure: Option<ConnectError>,
    },

    /// The pool, or this host's part of it, was closed.
    #[error("{host}: the pool is closed")]
    Closed {
        /// The host's name.
        host: String,
    },

    /// The command never started, and trying again did not help within its time. It is safe to run
    /// it again.
    #[error("{host}: the command was not started: {reason}")]
    NeverStarted {
        /// The host's name.
        host: String,
        /// Why the session could not be opened.
        reason: String,
    },

    /// sudo did not run the command: the password is wrong or there is none, or the host's sudoers
    /// do not allow it. The command never started.
    #[error("{host}: sudo did not run the command: {reason}")]
    Sudo {
        /// The host's name.
        host: String,
        /// Why not, in sudo's own words where there are any.
        reason: String,
    },

    /// Something cannot be forwarded: this machine or the server does not listen.
    #[error("{host}: cannot forward: {reason}")]
    Forward {
        /// The host's name.
        host: String,
        /// What, and why not.
        reason: String,
    },

    /// The connection was lost while the command ran. Whether it finished is unknown.
    #[error("{host}: connection lost while the command ran: {reason}")]
    Lost {
        /// The host's name.
        host: String,
        /// What is known about the end of the connection.
        reason: String,
        /// What had arrived until then.
        partial: Arc<PartialOutput>,
    },

    /// The command took longer than its timeout. It was ended, if that was possible.
    #[error("{host}: command timed out after {after:?}{remote}")]
    TimedOut {
        /// The host's name.
        host: String,
        /// The timeout.
        after: Duration,
        /// What became of it on the other side.
        remote: Remote,
        /// What had arrived until then.
        partial: Arc<PartialOutput>,
    },

    /// The command wrote more than `max_output` bytes to one of its streams. It was ended, if that
    /// was possible.
    #[error("{host}: command wrote more than {limit} bytes to {stream}{remote}")]
    OutputLimit {
        /// The host's name.
        host: String,
        /// `"stdout"` or `"stderr"`.
        stream: &'static str,
        /// The limit in bytes.
        limit: usize,
        /// What became of it on the other side.
        remote: Remote,
        /// The output up to the limit.
        partial: Arc<PartialOutput>,
    },

    /// From `exec` (and from [`HostResources::of`](crate::resources::HostResources::of)) only: the
    /// command ended with a status other than 0. Its text does not name the host.
    #[error("Command failed with code {code}{}", last_words(stderr))]
    Failed {
        /// The host's name.
        host: String,
        /// The remote command's exit status, 1 to 255.
        code: i32,
        /// Its standard error, trimmed.
        stderr: String,
    },

    /// From [`Pool::exec`](crate::Pool::exec) only: the command was ended by a signal on the remote
    /// side.
    #[error("{host}: {}{}", NO_STATUS, last_words(stderr))]
    Killed {
        /// The host's name.
        host: String,
        /// Its standard error, trimmed.
        stderr: String,
    },

    /// The local system refused something: no more processes or descriptors, for instance.
    #[error("{}{what}: {}", named(host), plain(source))]
    Io {
        /// The host's name; empty where it was for no host.
        host: String,
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl Error {
    pub(crate) fn io(host: &str, what: &'static str, source: io::Error) -> Self {
        Error::Io { host: host.to_owned(), what, source: Arc::new(source) }
    }

    /// Whether the command provably did not run, so that running it again cannot do anything twice.
    pub fn never_started(&self) -> bool {
        match self {
            Error::Host(_)
            | Error::Config(_)
            | Error::SshNotFound
            | Error::InvalidCommand { .. }
            | Error::Connect { .. }
            | Error::Exhausted { .. }
            | Error::Closed { .. }
            | Error::NeverStarted { .. }
            | Error::Sudo { .. }
            | Error::Forward { .. }
            | Error::Io { .. } => true,
            Error::Lost { .. }
            | Error::TimedOut { .. }
            | Error::OutputLimit { .. }
            | Error::Failed { .. }
            | Error::Killed { .. } => false,
        }
    }
}

/// What a command had written when it was given up.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PartialOutput {
    /// Bytes of standard output.
    pub stdout: Vec<u8>,
    /// Bytes of standard error.
    pub stderr: Vec<u8>,
}

/// As that of [`Output`](crate::Output).
impl fmt::Debug for PartialOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartialOutput")
            .field("stdout", &Text(&self.stdout))
            .field("stderr", &Text(&self.stderr))
            .finish()
    }
}

/// The beginning of a message about this host; nothing where it is about none.
fn named(host: &str) -> String {
    if host.is_empty() { String::new() } else { format!("{host}: ") }
}

/// The end of a command's stderr for a message of one line: its last lines are what says why it
/// failed.
fn last_words(stderr: &str) -> String {
    const MOST: usize = 500;
    let text = stderr.trim();
    let mut start = text.len().saturating_sub(MOST);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    let cut = if start > 0 { "…" } else { "" };
    if text.is_empty() {
        return String::new();
    }
    format!(": {cut}{}", printable(&text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_reads_as_the_contract_says() {
        let error =
            Error::Failed { host: "web1".into(), code: 2, stderr: "ls: cannot access 'x'".into() };
        assert_eq!(error.to_string(), "Command failed with code 2: ls: cannot access 'x'");
    }

    #[test]
    fn an_error_shows_output_as_text() {
        let partial = Arc::new(PartialOutput { stdout: b"half".into(), stderr: Vec::new() });
        let error = Error::TimedOut {
            host: "web1".into(),
            after: Duration::from_secs(1),
            remote: Remote::Ended,
            partial,
        };
        assert_eq!(
            format!("{error:?}"),
            r#"TimedOut { host: "web1", after: 1s, remote: Ended, partial: PartialOutput { stdout: "half", stderr: "" } }"#
        );
    }

    #[test]
    fn a_long_stderr_keeps_its_end_whole() {
        let stderr = format!("{}ü the reason", "ä".repeat(1000));
        let words = last_words(&stderr);
        assert!(
            words.ends_with("ü the reason") && words.starts_with(": …") && words.len() < 520,
            "{words}"
        );
    }
}
