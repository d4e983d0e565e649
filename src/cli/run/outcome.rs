//! How a command ended on a host: for the summary, for JSON and for the exit status.

use std::time::Duration;

use crate::agent::Failure;
use crate::cli::failure::{NOT_RUN, TIMED_OUT, place_to_look, told};
use crate::command::ExitStatus;
use crate::error::{ConnectErrorKind, Error, ErrorKind};
use crate::host::Host;

/// The end of a command on one host.
pub(super) enum End {
    Ended(ExitStatus),
    Failed(Error),
    /// The output cannot be written into its file, for this reason.
    NotWritten(String),
    /// It was ended because the whole run was.
    Stopped,
}

/// Why it did not succeed, as the summary tells it and in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    Exit(i32),
    Killed,
    TooMuch,
    TimedOut(Duration),
    NotWritten,
    Lost,
    NotStarted(&'static str),
    Connect(&'static str),
    Stopped,
}

impl Cause {
    /// For this program to end with.
    fn status(&self) -> u8 {
        match self {
            Cause::Exit(_) | Cause::Killed | Cause::TooMuch | Cause::Stopped => 1,
            Cause::TimedOut(_) => TIMED_OUT,
            Cause::NotWritten | Cause::Lost | Cause::NotStarted(_) | Cause::Connect(_) => NOT_RUN,
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cause::Exit(code) => write!(f, "exit {code}"),
            Cause::Killed => f.write_str("ended without a status"),
            Cause::TooMuch => f.write_str("wrote too much"),
            Cause::TimedOut(after) => write!(f, "timed out after {after:?}"),
            Cause::NotWritten => f.write_str("output not written"),
            Cause::Lost => f.write_str("connection lost"),
            Cause::NotStarted(why) => f.write_str(why),
            Cause::Connect(why) => write!(f, "cannot connect ({why})"),
            Cause::Stopped => f.write_str("ended by Ctrl-C"),
        }
    }
}

/// The status of the run: that of the worst.
pub(super) fn worst<'a>(causes: impl IntoIterator<Item = &'a Cause>) -> u8 {
    causes.into_iter().map(Cause::status).max().unwrap_or(0)
}

impl End {
    /// None when it succeeded.
    pub(super) fn cause(&self) -> Option<Cause> {
        Some(match self {
            End::Ended(status) if status.success() => return None,
            End::Ended(status) => status.code().map_or(Cause::Killed, Cause::Exit),
            End::NotWritten(_) => Cause::NotWritten,
            End::Stopped => Cause::Stopped,
            End::Failed(error) => match error {
                Error::Connect { source, .. } => Cause::Connect(source.kind().label()),
                Error::TimedOut { after, .. } => Cause::TimedOut(*after),
                Error::OutputLimit { .. } => Cause::TooMuch,
                Error::Lost { .. } => Cause::Lost,
                Error::Exhausted { .. } => Cause::NotStarted("connections exhausted"),
                Error::SshNotFound => Cause::NotStarted("no ssh program"),
                Error::Killed { .. } => Cause::Killed,
                Error::Failed { code, .. } => Cause::Exit(*code),
                Error::Sudo { .. } => Cause::NotStarted("sudo"),
                Error::Host(_)
                | Error::Config(_)
                | Error::InvalidCommand { .. }
                | Error::Closed { .. }
                | Error::NeverStarted { .. }
                | Error::Forward { .. }
                | Error::Io { .. } => Cause::NotStarted("not started"),
            },
        })
    }

    /// What is wrong in words, where a status alone does not tell.
    pub(super) fn error(&self, host: &Host) -> Option<String> {
        match self {
            End::Ended(status) => super::super::relay::killed(*status),
            End::NotWritten(reason) => Some(reason.clone()),
            End::Stopped => Some("ended by Ctrl-C".to_owned()),
            End::Failed(error) => Some(told(error, host.name()) + limit_of(error)),
        }
    }

    /// What is wrong, for programs.
    pub(super) fn failure(&self, host: &Host) -> Option<Failure> {
        let name = host.name();
        let message = self.error(host)?;
        Some(match self {
            End::Ended(_) => Failure::killed(name),
            End::NotWritten(_) => Failure::other("not_written", name, &message),
            End::Stopped => Failure::other("stopped", name, &message),
            End::Failed(error) => {
                let hint = place_to_look(error, name) + limit_of(error);
                Failure::of(error, name, &hint)
            }
        })
    }

    /// The word for it that `--json` had before `failure`. It goes with the next release.
    pub(super) fn old_kind(&self) -> Option<&'static str> {
        Some(match self {
            End::Ended(status) if status.code().is_some() => return None,
            End::Ended(_) => "killed",
            End::NotWritten(_) => "not_written",
            End::Stopped => "stopped",
            End::Failed(error) => match error {
                Error::Connect { source, .. } => match source.kind() {
                    ConnectErrorKind::TimedOut => "connect_timeout",
                    ConnectErrorKind::Other => "connect",
                    kind => kind.as_str(),
                },
                Error::TimedOut { .. } => "timeout",
                Error::SshNotFound => "ssh_missing",
                error => match error.kind() {
                    kind @ (ErrorKind::OutputLimit
                    | ErrorKind::Lost
                    | ErrorKind::Exhausted
                    | ErrorKind::Local) => kind.as_str(),
                    _ => "not_started",
                },
            },
        })
    }
}

/// What sets the limit that was reached.
fn limit_of(error: &Error) -> &'static str {
    match error {
        Error::TimedOut { .. } => " (-t, or command_timeout in the settings)",
        Error::OutputLimit { .. } => " (max_output in the settings; --out DIR has no limit)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const EXIT: Cause = Cause::Exit(255);
    const TIME: Cause = Cause::TimedOut(Duration::from_secs(1));
    const CONNECT: Cause = Cause::Connect("connection refused");

    #[rstest]
    #[case(&[], 0)]
    #[case(&[EXIT, Cause::Killed, Cause::TooMuch], 1)]
    #[case(&[EXIT, TIME, Cause::Killed], 124)]
    #[case(&[CONNECT, TIME, EXIT], 255)]
    #[case(&[Cause::Lost, EXIT], 255)]
    fn the_worst_decides(#[case] causes: &[Cause], #[case] status: u8) {
        assert_eq!(worst(causes), status);
    }
}
