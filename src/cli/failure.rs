//! How the program ends when it does not end well.

use std::fmt::Display;
use std::process::ExitCode;

use super::output::messages::{complain, one_line};
use crate::error::{ConnectErrorKind, Error};
use crate::host::Host;
use crate::text::{plain, without_host};

/// The command timed out, as timeout(1) says it.
pub(super) const TIMED_OUT: u8 = 124;
/// The command could not be run, as ssh(1) says it.
pub(super) const NOT_RUN: u8 = 255;
/// Wrong usage or configuration, as clap says it.
pub(super) const USAGE: u8 = 2;
/// Whoever read our output has gone away, as a shell says it of a program that SIGPIPE ended.
const NOBODY_READS: u8 = 128 + 13;
/// Ctrl-C, as a shell says it of a program that SIGINT ended.
const INTERRUPTED: u8 = 128 + 2;

/// How the program ends when it does not end well.
pub(super) enum Failure {
    /// One line, and the status 2.
    Usage(String),
    /// One line that names the host, and a status.
    Host { host: String, text: String, status: u8 },
    /// One line, and the status 255: what ran may well have done its work.
    Output(String),
    /// Nothing to say: nobody listens.
    NobodyReads,
    /// As by SIGINT; all is said.
    Interrupted,
}

impl Failure {
    /// Says what there is to say, and gives the status.
    pub(super) fn end(self) -> ExitCode {
        match self {
            Failure::Usage(message) => fail(one_line(&message), USAGE),
            Failure::Output(message) => fail(one_line(&message), NOT_RUN),
            Failure::NobodyReads => ExitCode::from(NOBODY_READS),
            Failure::Interrupted => ExitCode::from(INTERRUPTED),
            Failure::Host { host, text, status } => {
                fail(one_line(&format!("{host}: {text}")), status)
            }
        }
    }

    pub(super) fn of(host: &str, error: &Error) -> Self {
        Failure::Host { host: host.to_owned(), text: told(error, host), status: status_of(error) }
    }

    /// Tells, if it is the time limit that was reached, what sets that.
    pub(super) fn limited_by(self, setting: &str) -> Self {
        match self {
            Failure::Host { host, text, status: TIMED_OUT } => {
                Failure::Host { host, text: format!("{text} ({setting})"), status: TIMED_OUT }
            }
            other => other,
        }
    }

    pub(super) fn of_host(host: &Host, error: &impl Display, status: u8) -> Self {
        let host = host.name().to_owned();
        Failure::Host { text: without_host(error, &host), host, status }
    }
}

pub(super) fn status_of(error: &Error) -> u8 {
    if matches!(error, Error::TimedOut { .. }) { TIMED_OUT } else { NOT_RUN }
}

pub(super) fn fail(message: impl Display, status: u8) -> ExitCode {
    complain(message);
    ExitCode::from(status)
}

pub(super) fn cannot_read(error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot read stdin: {}", plain(error)))
}

pub(super) fn cannot_print(error: &std::io::Error) -> Failure {
    cannot_write("stdout", error)
}

pub(super) fn cannot_write(stream: &str, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::Output(format!("cannot write to {stream}: {}", plain(error))),
    }
}

/// The error, and what a user of the program can look at that a caller of the library may not have.
pub(super) fn told(error: &Error, host: &str) -> String {
    without_host(error, host) + &place_to_look(error, host)
}

/// What of a user's files may be wrong, in parentheses.
pub(super) fn place_to_look(error: &Error, host: &str) -> String {
    match error {
        // Where one of the files has an address for the host, it is that which cannot be resolved.
        Error::Connect { source, .. }
            if source.kind() == ConnectErrorKind::Name
                && error.to_string().contains(&format!(" hostname {host}:")) =>
        {
            format!(
                " (neither [hosts] of the TOML file nor the ssh_config has an address for \"{host}\")"
            )
        }
        _ => String::new(),
    }
}
