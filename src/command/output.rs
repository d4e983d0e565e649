//! What a command reads, and what it leaves.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, PartialOutput};
use crate::host::Host;
use crate::text::Text;

/// How a command ended: with a status of its own, or by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus(Option<i32>);

impl ExitStatus {
    /// That of a command that exited with this status. For who implements a
    /// [`Runner`](crate::Runner).
    pub fn exited(code: i32) -> Self {
        ExitStatus(Some(code))
    }

    /// That of a command that a signal ended.
    pub fn killed() -> Self {
        ExitStatus(None)
    }

    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self.0 == Some(0)
    }

    /// The status that it exited with, 0 to 255, or `None` when a signal ended it. (Which one,
    /// OpenSSH's multiplexing does not tell.)
    pub fn code(self) -> Option<i32> {
        self.0
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "exit status: {code}"),
            None => f.write_str("ended without a status"),
        }
    }
}

/// What a finished command left.
#[derive(Clone, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Every byte of its standard output.
    pub stdout: Vec<u8>,
    /// Every byte of its standard error; nothing of ssh's own is mixed in.
    pub stderr: Vec<u8>,
}

/// As that of `std::process::Output`, text where it is text; what is long is cut, and its length
/// said.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("status", &self.status)
            .field("stdout", &Text(&self.stdout))
            .field("stderr", &Text(&self.stderr))
            .finish()
    }
}

/// What a command reads as its standard input.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdin {
    /// Nothing: end of input at once. The default.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// What the caller writes to [`Child::stdin`](super::Child::stdin); for
    /// [`Command::spawn`](super::Command::spawn) only.
    Piped,
}

/// Not the bytes: they may well be a password.
impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stdin::Empty => f.write_str("Empty"),
            Stdin::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Stdin::Piped => f.write_str("Piped"),
        }
    }
}

impl Output {
    /// What a command left that has ended so, or the error with what it has written until then.
    pub(crate) fn of(
        end: Result<ExitStatus, Error>,
        written: PartialOutput,
    ) -> Result<Self, Error> {
        match end {
            Ok(status) => {
                let PartialOutput { stdout, stderr } = written;
                Ok(Output { status, stdout, stderr })
            }
            Err(Error::Lost { host, reason, .. }) => {
                Err(Error::Lost { host, reason, partial: Arc::new(written) })
            }
            Err(Error::TimedOut { host, after, remote, .. }) => {
                Err(Error::TimedOut { host, after, remote, partial: Arc::new(written) })
            }
            Err(error) => Err(error),
        }
    }
}

impl Stdin {
    /// The bytes that a command reads whose input nobody writes.
    pub(crate) fn bytes(self, host: &Host) -> Result<Arc<[u8]>, Error> {
        match self {
            Stdin::Empty => Ok(Arc::default()),
            Stdin::Bytes(bytes) => Ok(bytes),
            Stdin::Piped => Err(Error::InvalidCommand {
                host: host.name().to_owned(),
                reason: "a piped stdin needs spawn, which gives the pipe".to_owned(),
            }),
        }
    }
}

impl From<&[u8]> for Stdin {
    fn from(bytes: &[u8]) -> Self {
        Stdin::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Stdin {
    fn from(bytes: Vec<u8>) -> Self {
        Stdin::Bytes(bytes.into())
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Stdin {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}
