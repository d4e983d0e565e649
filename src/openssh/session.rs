//! A session: one spawned `ssh -S` process, one remote command.
//!
//! Its end is never ambiguous. ssh gives 255 for a command that exited with 255, for one that a signal killed, for a lost connection and
//! for a session that was never opened; with `-E FILE` its own log tells these apart, and is read when the status is not 0. Whether a
//! command without an exit status was killed or lost, and whether all output of one with a status has arrived, is told by the master:
//! it must have outlived the session.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::bootstrap::{Marker, Script};
use super::diagnosis::{self, SessionLog};
use super::master::Master;
use super::runtime::Claim;
use super::supervisor::Counted;

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SessionEnd {
    /// With this status of the remote command, 255 included.
    Exited(i32),
    /// A signal killed the remote command; the connection lives.
    Killed,
    /// It started, or may have, and the connection was lost.
    Lost(String),
    /// Somebody killed the local ssh; the connection lives.
    ClientKilled(String),
    /// The server would not open one more session. The command was not executed; the connection lives.
    Refused(String),
    /// The master could not be reached. The command was not executed.
    NotReached(String),
    /// Opened ahead of need, it ended before it had taken its command. The command was not executed; the connection lives.
    NotBegun,
}

/// What a command is to read.
#[derive(Clone, Copy)]
pub(crate) enum Input<'a> {
    /// This, and nothing behind it.
    Bytes(&'a [u8]),
    /// What somebody writes.
    Piped,
}

/// What the smallest pipe holds: so much can be written before anybody reads, and without waiting.
const PIPE: usize = 4096;

impl Input<'_> {
    /// The input of a process that reads `preface` first; all of it in a pipe already, where it fits.
    pub(super) fn behind(self, preface: &str) -> io::Result<Stdio> {
        match self {
            Input::Bytes([]) if preface.is_empty() => Ok(Stdio::null()),
            Input::Bytes(bytes) if preface.len() + bytes.len() <= PIPE => {
                let (reader, mut writer) = io::pipe()?;
                writer.write_all(preface.as_bytes())?;
                writer.write_all(bytes)?;
                Ok(Stdio::from(reader))
            }
            Input::Bytes(_) | Input::Piped => Ok(Stdio::piped()),
        }
    }
}

/// Our ends of a session's three streams.
pub(crate) struct Streams {
    /// Not there where all that there is to read is in the pipe already.
    pub stdin: Option<ChildStdin>,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
    /// What takes the sign that the command has begun out of `stdout`. A command that is an argument gives none.
    pub marker: Option<Marker>,
}

impl Streams {
    /// What is to be written to `stdin` before the command's own input.
    pub(crate) fn preface<'a>(&self, script: &'a Script) -> &'a [u8] {
        if self.marker.is_some() { script.line().as_bytes() } else { b"" }
    }
}

/// Dropping it ends the local process. The remote command notices only when it reads or writes.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    log: Log,
    /// What the bootstrap prints when it has its command; nothing where the command was an argument.
    marker: Option<Marker>,
    /// It was opened before the command was known.
    ahead: bool,
    /// Given back behind the child, which is dropped first.
    _claims: (Counted, Claim),
}

/// Why there is no session. The command was not executed.
#[derive(Debug)]
pub(crate) enum NotOpened {
    /// The directory of the control sockets is gone, and with it the way to the master.
    NoDirectory(io::Error),
    /// No ssh could be started.
    NoProcess(io::Error),
}

/// The file of ssh's own messages, removed with its session. It is there before ssh is: one that is missing at the end was there when the
/// command ran.
#[derive(Debug)]
pub(super) struct Log(PathBuf);

impl Log {
    pub(super) fn create(path: PathBuf) -> Result<Self, NotOpened> {
        match std::fs::File::create_new(&path) {
            Ok(_) => Ok(Log(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(NotOpened::NoDirectory(error)),
            // No descriptor, no room: the connection is as good as before.
            Err(error) => Err(NotOpened::NoProcess(error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // It is gone when somebody else has removed its directory.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Session {
    pub(super) fn spawn(
        mut command: Command,
        log: Log,
        claims: (Counted, Claim),
        stdin: Stdio,
        marker: Option<Marker>,
    ) -> Result<Self, NotOpened> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(NotOpened::NoProcess)?;
        Ok(Session { child, log, marker, ahead: false, _claims: claims })
    }

    /// The same, as one that was opened before its command was known.
    pub(super) fn ahead(self) -> Self {
        Session { ahead: true, ..self }
    }

    /// Whether it has not ended.
    pub(super) fn is_there(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether the session of a command that is an argument was opened.
    pub(crate) fn was_opened(&self) -> bool {
        diagnosis::read_tail(&self.log.0, 0).is_some_and(|log| diagnosis::was_opened(&log))
    }

    /// The streams, once.
    pub(crate) fn take_streams(&mut self) -> Streams {
        const ONCE: &str = "they were piped, and nobody has taken them";
        Streams {
            stdin: self.child.stdin.take(),
            stdout: self.child.stdout.take().expect(ONCE),
            stderr: self.child.stderr.take().expect(ONCE),
            marker: self.marker.take(),
        }
    }

    /// Waits for its end.
    ///
    /// Cancel safe: dropped and called again, it gives the same.
    pub(crate) async fn wait(&mut self, master: &Master) -> SessionEnd {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return SessionEnd::Lost(format!("the local ssh cannot be waited for: {error}")),
        };
        let end = match status.code() {
            Some(0) => SessionEnd::Exited(0),
            Some(code) => classify(&self.log.0, code),
            None => SessionEnd::ClientKilled(format!("the local ssh ended ({status})")),
        };
        match end {
            // ssh passes a status on as soon as it has come, and output that was still on its way when the connection went is missing.
            SessionEnd::Exited(_) | SessionEnd::Killed | SessionEnd::ClientKilled(_) => {
                master.outlived().await.map_or_else(SessionEnd::Lost, |()| end)
            }
            end => end,
        }
    }

    /// The end of a session whose command has not begun: a shell ended before. With a command that it was opened for that is what plain ssh
    /// tells, too (a start-up file that exits); but the next one is told to the shell as an argument. One that was opened ahead of need may
    /// have been there for too long (`TMOUT`).
    pub(crate) fn not_begun(&self, end: SessionEnd, master: &Master) -> SessionEnd {
        match end {
            SessionEnd::Exited(_) | SessionEnd::Killed if self.ahead => SessionEnd::NotBegun,
            SessionEnd::Exited(_) | SessionEnd::Killed => {
                master.takes_arguments();
                end
            }
            end => end,
        }
    }
}

/// What a status other than 0 means. Only what ssh's log confirms was the remote command's own.
fn classify(log: &Path, code: i32) -> SessionEnd {
    let Some(log) = diagnosis::read_tail(log, 0) else {
        return SessionEnd::Lost("somebody has removed the log of the local ssh".to_owned());
    };
    match diagnosis::session_log(&log, code) {
        SessionLog::Exited => SessionEnd::Exited(code),
        SessionLog::Refused(reason) => SessionEnd::Refused(reason),
        SessionLog::NotReached(reason) => SessionEnd::NotReached(reason),
        SessionLog::StartedAndEnded => SessionEnd::Killed,
        // Among others: a disk that is full has no room for the log, and a broken ssh writes none.
        SessionLog::Unknown(reason) => SessionEnd::Lost(format!("{reason} (its status is {code})")),
    }
}
