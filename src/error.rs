//! What can go wrong, in the words of a caller.
//!
//! Every error is one line that names the host, what was tried, why it failed and, where there is
//! something to do, what. Errors are cheap to clone: several callers can wait for one login, and
//! all of them hear why it failed.

use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ConfigError;
use crate::host::{HostError, PoolKey};
use crate::openssh::texts;
use crate::running::Remote;

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
    #[error("{host}: command was killed by a signal{}", last_words(stderr))]
    Killed {
        /// The host's name.
        host: String,
        /// Its standard error, trimmed.
        stderr: String,
    },

    /// The local system refused something: no more processes or descriptors, for instance.
    #[error("{}{what}: {}", if host.is_empty() { String::new() } else { format!("{host}: ") }, plain(source))]
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
        !matches!(
            self,
            Error::Lost { .. }
                | Error::TimedOut { .. }
                | Error::OutputLimit { .. }
                | Error::Failed { .. }
                | Error::Killed { .. }
        )
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

/// The causes of a failed connect that can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// The server did not accept any key.
    Authentication,
    /// The server's key is another than the known one.
    HostKeyChanged,
    /// The server's key is not known, and the configuration asks for known keys only.
    HostKeyUnknown,
    /// The server's key, or the one that signed for it, is marked as revoked.
    HostKeyRevoked,
    /// The server's certificate is not valid for this host now, and its key alone is not known.
    HostCertificate,
    /// Nothing listens there.
    Refused,
    /// No answer within `connect_timeout`.
    TimedOut,
    /// No route to the host or its network.
    Unreachable,
    /// The name cannot be resolved.
    Name,
    /// The identity file is missing, unreadable or readable by others.
    KeyFile,
    /// Client and server share no algorithm.
    Algorithms,
    /// The server dropped the connection before the login (sshd's `MaxStartups` and
    /// `PerSourcePenalties` do that).
    ServerBusy,
    /// Too many logins to this account have failed in the last ten minutes, of other aliases or
    /// keys for instance: one more could get it locked, and is not tried.
    TooManyFailures,
    /// There is no ssh program.
    SshMissing,
    /// ssh does not know an option, or its configuration file has an error.
    BadOption,
    /// Something on this side: no directory for sockets, no process, a path that is too long.
    Local,
    /// Anything else; ssh's own words tell.
    Other,
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
    #[cfg(feature = "cli")]
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
            advice: advice.filter(|advice| Some(&**advice) != texts::of_kind(self.kind)),
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

    pub(crate) fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Whether it counts towards what gets an account locked.
    pub(crate) fn is_counted(&self) -> bool {
        self.dropped || self.refused || self.kind.is_permanent()
    }

    /// The same, for a caller for whom nothing was tried.
    pub(crate) fn remembered(mut self, tried_ago: Duration, next_try_in: Duration) -> Self {
        let remedy = Remedy::Call;
        self.remembered = Some(Box::new(Remembered { tried_ago, next_try_in, remedy }));
        self
    }

    /// The same, for who has the program and not the library.
    #[cfg(feature = "cli")]
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
    /// the host; the text of [`Error::Connect`] has the name itself.
    pub fn advice(&self) -> Option<&str> {
        self.advice.as_deref().or_else(|| texts::of_kind(self.kind))
    }

    /// What to do about this very cause, where it is told from others of its kind.
    #[cfg(feature = "cli")]
    pub(crate) fn own_advice(&self) -> Option<&str> {
        self.advice.as_deref()
    }

    /// Kind, line and advice, of a host with this name.
    pub(crate) fn told_of(&self, host: &str) -> String {
        let what = format!("{}: {}", self.kind.label(), self.detail);
        let advised = match self.advice() {
            Some(advice) => format!("{what} ({})", texts::for_host(advice, host)),
            None => what,
        };
        match self.remembered.as_deref() {
            None => advised,
            Some(Remembered { tried_ago, next_try_in, remedy }) => {
                let (ago, next) = (Rough(*tried_ago), Rough(*next_try_in));
                let remedy = match remedy {
                    Remedy::Call => "`Pool::reset`".to_owned(),
                    #[cfg(feature = "cli")]
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
        f.write_str(&self.told_of(texts::HOST))
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

/// Text from a server or a shell, made fit for a terminal and a log: one line, no control
/// characters.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\t' | '\n' | '\r' => out.push(' '),
            // Bidirectional overrides reorder what is displayed around them.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Bytes for `{:?}`: in quotes, escaped, and of what is long only both ends and the length.
pub(crate) struct Text<'a>(pub &'a [u8]);

impl Text<'_> {
    /// How many bytes of each end are shown. What is not longer than both is shown whole.
    const END: usize = 500;
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            f.write_char('"')?;
            for chunk in bytes.utf8_chunks() {
                write!(f, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())?;
            }
            f.write_char('"')
        };
        let length = self.0.len();
        if length <= 2 * Self::END {
            return quoted(f, self.0);
        }
        // Where a character begins, or where there is none: it goes on for three bytes at most.
        let boundary = |at: usize| {
            let goes_on = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
            at + self.0[at..].iter().take(3).take_while(goes_on).count()
        };
        let (head, tail) =
            (&self.0[..boundary(Self::END)], &self.0[boundary(length - Self::END)..]);
        quoted(f, head)?;
        f.write_str(" … ")?;
        quoted(f, tail)?;
        write!(f, " ({length} bytes)")
    }
}

/// What the system says, without its number and without a path that the message names already.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error ").map_or(&*text, |(words, _)| words).to_owned()
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
    use rstest::rstest;

    #[rstest]
    #[case("plain text", "plain text")]
    #[case("two\r\nlines\r\n", "two  lines")]
    #[case("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}")]
    #[case("a\u{202e}b", "a\\u{202e}b")]
    #[case("grün", "grün")]
    fn text_from_elsewhere_is_made_printable(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(printable(text), expected);
    }

    #[test]
    fn a_failed_command_reads_as_the_contract_says() {
        let error =
            Error::Failed { host: "web1".into(), code: 2, stderr: "ls: cannot access 'x'".into() };
        assert_eq!(error.to_string(), "Command failed with code 2: ls: cannot access 'x'");
    }

    #[rstest]
    #[case::text(b"a \"b\"\n\tgr\xc3\xbcn", r#""a \"b\"\n\tgrün""#)]
    #[case::no_text(b"\x1b\xff\0a\xc3", r#""\u{1b}\xff\0a\xc3""#)]
    #[case::nothing(b"", r#""""#)]
    fn output_is_shown_as_text(#[case] bytes: &[u8], #[case] expected: &str) {
        assert_eq!(format!("{:?}", Text(bytes)), expected);
    }

    #[rstest]
    #[case::whole(1000, "a", "a", 1000, None)]
    #[case::one_too_long(1001, "a", "a", 500, Some(500))]
    #[case::large(1 << 20, "a", "a", 500, Some(500))]
    // 500 is no multiple of 3: the character at the cut stays whole in front, and is left out
    // behind.
    #[case::wide(3000, "€", "€", 167, Some(166))]
    #[case::not_even_text(3000, "\u{80}", "\\x80", 503, Some(497))]
    fn long_output_is_cut_and_its_length_said(
        #[case] length: usize,
        #[case] piece: &str,
        #[case] shown: &str,
        #[case] head: usize,
        #[case] tail: Option<usize>,
    ) {
        // The second byte of U+0080 alone is the middle of a character that has no beginning.
        let piece = if piece == "\u{80}" { &piece.as_bytes()[1..] } else { piece.as_bytes() };
        let expected = match tail {
            None => format!("\"{}\"", shown.repeat(head)),
            Some(tail) => {
                format!("\"{}\" … \"{}\" ({length} bytes)", shown.repeat(head), shown.repeat(tail))
            }
        };
        assert_eq!(format!("{:?}", Text(&piece.repeat(length / piece.len()))), expected);
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
        #[cfg(feature = "cli")]
        assert_eq!(
            error.for_program("h1").to_string(),
            format!("connection refused: x ({text}; \"sshpool warm h1\" tries now)")
        );
    }
}
