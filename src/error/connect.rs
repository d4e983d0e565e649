//! Why a connection could not be made.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::advice;
use super::kind::kinds;
use crate::text::printable;

kinds! {
    /// The causes of a failed connect that can be told apart.
    ConnectErrorKind {
        /// The server did not accept any key.
        Authentication = "authentication",
        /// The server's key is another than the known one.
        HostKeyChanged = "host_key_changed",
        /// The server's key is not known, and the configuration asks for known keys only.
        HostKeyUnknown = "host_key_unknown",
        /// The server's key, or the one that signed for it, is marked as revoked.
        HostKeyRevoked = "host_key_revoked",
        /// The server's certificate is not valid for this host now, and its key alone is not known.
        HostCertificate = "host_certificate",
        /// Nothing listens there.
        Refused = "refused",
        /// No answer within `connect_timeout`.
        TimedOut = "timed_out",
        /// No route to the host or its network.
        Unreachable = "unreachable",
        /// The name cannot be resolved.
        Name = "name",
        /// The identity file is missing, unreadable or readable by others.
        KeyFile = "key_file",
        /// Client and server share no algorithm.
        Algorithms = "algorithms",
        /// The server dropped the connection before the login (sshd's `MaxStartups` and
        /// `PerSourcePenalties` do that).
        ServerBusy = "server_busy",
        /// Too many logins to this account have failed in the last ten minutes, of other aliases or
        /// keys for instance: one more could get it locked, and is not tried.
        TooManyFailures = "too_many_failures",
        /// There is no ssh program.
        SshMissing = "ssh_missing",
        /// ssh does not know an option, or its configuration file has an error.
        BadOption = "bad_option",
        /// Something on this side: no directory for sockets, no process, a path that is too long.
        Local = "local",
        /// Anything else; ssh's own words tell.
        Other = "other",
    }
}

impl ConnectErrorKind {
    /// Trying again by itself cannot help: somebody has to change something first.
    pub(crate) fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::Authentication
                | Self::HostKeyChanged
                | Self::HostKeyUnknown
                | Self::HostKeyRevoked
                | Self::HostCertificate
        )
    }

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Authentication => "authentication failed",
            Self::HostKeyChanged => "the host key has changed",
            Self::HostKeyUnknown => "the host key is unknown",
            Self::HostKeyRevoked => "the host key is revoked",
            Self::HostCertificate => "the host's certificate is not valid",
            Self::Refused => "connection refused",
            Self::TimedOut => "timed out",
            Self::Unreachable => "unreachable",
            Self::Name => "name not resolved",
            Self::KeyFile => "bad identity file",
            Self::Algorithms => "no common algorithm",
            Self::ServerBusy => "the server dropped the login",
            Self::TooManyFailures => "too many failed logins",
            Self::SshMissing => "no ssh program",
            Self::BadOption => "bad ssh configuration",
            Self::Local => "local failure",
            Self::Other => "ssh failed",
        }
    }
}

/// Why a connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    kind: ConnectErrorKind,
    detail: String,
    lines: Arc<[String]>,
    /// Where that is another one than of all of this kind.
    advice: Option<Cow<'static, str>>,
    /// The server has closed the connection after the login.
    dropped: bool,
    /// The server has refused the login, whatever was wrong here (a key file, for instance).
    refused: bool,
    /// It was a jump host's: nothing was tried at the host itself.
    of_a_hop: bool,
    /// Nothing was tried for whoever hears this.
    remembered: Option<Box<Remembered>>,
}

/// What is told with a failure that is not a fresh one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Remembered {
    tried_ago: Duration,
    next_try_in: Duration,
    remedy: Remedy,
}

/// What has it tried now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Remedy {
    /// A call of this library.
    Call,
    /// A command, for this host.
    Command(String),
}

impl ConnectError {
    /// `detail` is the one line that says it best; `lines` are ssh's own last ones. Control
    /// characters are taken out of both.
    pub(crate) fn new(kind: ConnectErrorKind, detail: impl AsRef<str>, lines: Vec<String>) -> Self {
        let lines = lines.iter().map(|line| printable(line)).collect();
        ConnectError {
            kind,
            detail: printable(detail.as_ref()),
            lines,
            advice: None,
            dropped: false,
            refused: false,
            of_a_hop: false,
            remembered: None,
        }
    }

    /// The same, with this advice in place of that of its kind.
    pub(crate) fn advising(self, advice: Option<impl Into<Cow<'static, str>>>) -> Self {
        let advice = advice.map(|advice| match advice.into() {
            Cow::Borrowed(advice) => Cow::Borrowed(advice),
            Cow::Owned(advice) => Cow::Owned(printable(&advice)),
        });
        ConnectError {
            advice: advice.filter(|advice| Some(&**advice) != advice::of_kind(self.kind)),
            ..self
        }
    }

    /// The same, with another line for people.
    pub(crate) fn with_detail(self, detail: impl AsRef<str>) -> Self {
        ConnectError { detail: printable(detail.as_ref()), ..self }
    }

    /// The same, where the server has refused the login.
    pub(crate) fn refused(mut self) -> Self {
        self.refused = true;
        self
    }

    /// The same, where the server has closed the connection after the login.
    pub(crate) fn dropped(mut self) -> Self {
        self.dropped = true;
        self
    }

    /// The same, as the reason why hosts behind a jump host cannot be reached.
    pub(crate) fn of_a_hop(mut self) -> Self {
        self.of_a_hop = true;
        self
    }

    /// Nothing was tried at the host itself.
    pub(crate) fn is_of_a_hop(&self) -> bool {
        self.of_a_hop
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Whether it counts towards what gets an account locked.
    pub(crate) fn is_counted(&self) -> bool {
        !self.of_a_hop && (self.dropped || self.refused || self.kind.is_permanent())
    }

    /// Whether something here, or at the server, has to be mended first.
    pub(crate) fn is_watched(&self) -> bool {
        use ConnectErrorKind::{BadOption, KeyFile};
        !self.of_a_hop && (self.kind.is_permanent() || matches!(self.kind, BadOption | KeyFile))
    }

    /// Whether the server has too much to do.
    pub(crate) fn is_busy(&self) -> bool {
        !self.of_a_hop && self.kind == ConnectErrorKind::ServerBusy
    }

    /// The same, for a caller for whom nothing was tried.
    pub(crate) fn remembered(mut self, tried_ago: Duration, next_try_in: Duration) -> Self {
        let remedy = Remedy::Call;
        self.remembered = Some(Box::new(Remembered { tried_ago, next_try_in, remedy }));
        self
    }

    /// The same, for who has the program and not the library.
    pub(crate) fn for_program(mut self, host: &str) -> Self {
        if let Some(remembered) = &mut self.remembered {
            remembered.remedy = Remedy::Command(host.to_owned());
        }
        self
    }

    /// How long ago that was, where it was not tried again for this caller. `None` for a failure
    /// that has just happened.
    pub fn tried_ago(&self) -> Option<Duration> {
        self.remembered.as_ref().map(|remembered| remembered.tried_ago)
    }

    /// When the next caller will have it tried again, counted from the moment of this answer.
    /// `None` for a failure that has just happened.
    pub fn next_try_in(&self) -> Option<Duration> {
        self.remembered.as_ref().map(|remembered| remembered.next_try_in)
    }

    /// The cause.
    pub fn kind(&self) -> ConnectErrorKind {
        self.kind
    }

    /// What somebody can do about it, where there is something. `HOST` in it stands for the name of
    /// the host; the text of [`Error::Connect`](crate::Error::Connect) has the name itself.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref().or_else(|| advice::of_kind(self.kind))
    }

    /// What to do about this very cause, where it is told from others of its kind.
    pub(crate) fn own_advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// Kind, line and advice, of a host with this name.
    pub(crate) fn told_of(&self, host: &str) -> String {
        let what = format!("{}: {}", self.kind.label(), self.detail);
        let advised = match self.advice() {
            Some(advice) => format!("{what} ({})", advice::for_host(advice, host)),
            None => what,
        };
        match self.remembered.as_deref() {
            None => advised,
            Some(Remembered { tried_ago, next_try_in, remedy }) => {
                let (ago, next) = (Rough(*tried_ago), Rough(*next_try_in));
                let remedy = match remedy {
                    Remedy::Call => "`Pool::reset`".to_owned(),
                    Remedy::Command(host) => format!("\"sshpool warm {host}\""),
                };
                format!("{advised} (tried {ago} ago; next try in {next}; {remedy} tries now)")
            }
        }
    }

    /// The one line that says it best, without the kind and the advice.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// The last lines that ssh wrote, oldest first, without control characters. Empty when ssh was
    /// not started.
    pub fn ssh_output(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told_of(advice::HOST))
    }
}

impl std::error::Error for ConnectError {}

/// A time as people say it.
struct Rough(Duration);

impl fmt::Display for Rough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0..1000 => write!(f, "{millis} ms"),
            1000..120_000 => write!(f, "{} s", millis.div_ceil(1000)),
            _ => write!(f, "{} min", millis.div_ceil(60_000)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_connect_error_says_kind_reason_and_advice() {
        let error = ConnectError::new(
            ConnectErrorKind::Authentication,
            "lab@127.0.0.1: Permission denied (publickey).\r\n",
            vec!["a\u{1b}b".into()],
        );
        assert_eq!(
            error.to_string(),
            "authentication failed: lab@127.0.0.1: Permission denied (publickey). (check user and key with `ssh -v`)"
        );
        assert_eq!(error.ssh_output(), ["a\\u{1b}b"]);
    }

    #[rstest]
    #[case(12_000, 18_000, "tried 12 s ago; next try in 18 s")]
    #[case(5, 999, "tried 5 ms ago; next try in 999 ms")]
    #[case(1_001, 119_001, "tried 2 s ago; next try in 120 s")]
    #[case(0, 120_001, "tried 0 ms ago; next try in 3 min")]
    fn a_remembered_failure_says_when(#[case] ago: u64, #[case] next: u64, #[case] text: &str) {
        let (ago, next) = (Duration::from_millis(ago), Duration::from_millis(next));
        let fresh = ConnectError::new(ConnectErrorKind::Refused, "x", Vec::new());
        assert_eq!((fresh.tried_ago(), fresh.next_try_in()), (None, None));
        assert_eq!(fresh.to_string(), "connection refused: x");
        let error = fresh.remembered(ago, next);
        assert_eq!((error.tried_ago(), error.next_try_in()), (Some(ago), Some(next)));
        assert_eq!(
            error.to_string(),
            format!("connection refused: x ({text}; `Pool::reset` tries now)")
        );
        assert_eq!(
            error.for_program("h1").to_string(),
            format!("connection refused: x ({text}; \"sshpool warm h1\" tries now)")
        );
    }
}
