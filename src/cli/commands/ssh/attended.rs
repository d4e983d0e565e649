//! ssh as a child of ours, for commands that have no terminal.
//!
//! The child has our standard streams themselves, so nothing that the command reads or writes
//! passes through this process. It waits for two things. A signal that ends us ends the remote
//! command first, which ssh over a shared connection does not do. And where the server opens no
//! session on the connection, ssh logs in by itself and complains of the connection: those lines
//! are not the caller's, and are left out.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::timeout;

use crate::cli::failure::NOT_RUN;
use crate::openssh::{Client, Program};
use crate::pool::signals;

/// Those that end a program, and that ssh itself handles.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// How long the end of the remote command is waited for.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long ssh may take to end when it was told to.
const GRACE: Duration = Duration::from_secs(5);

/// The descriptors beyond the standard ones that this process was started with. ssh closes them at
/// its start, and whoever waits for their ends waits for us.
pub(super) fn inherited() -> Vec<OwnedFd> {
    let Ok(listed) = std::fs::read_dir("/dev/fd") else { return Vec::new() };
    let numbers: Vec<RawFd> =
        listed.flatten().filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
    let is_open = |number: &RawFd| {
        // SAFETY: it looks at a number, which need not be a descriptor.
        *number > 2 && unsafe { nix::libc::fcntl(*number, nix::libc::F_GETFD) } >= 0
    };
    // That of the list itself is closed by now.
    // SAFETY: nothing was opened by this process before, so these are nobody else's.
    numbers
        .into_iter()
        .filter(is_open)
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
}

/// A client of a shared connection.
pub(super) struct Attended<'a> {
    pub socket: &'a Path,
    /// What it is asked to run; empty for a shell.
    pub command: &'a str,
    /// Its command can be ended from another session.
    pub ends: bool,
    /// The caller has said where ssh's own messages are to go.
    pub has_log: bool,
}

/// Takes ssh's own messages; removed when this is dropped.
pub(super) struct Log(Option<(PathBuf, pipe::Receiver)>);

impl Log {
    pub(super) fn arguments(&self) -> Vec<OsString> {
        self.0.iter().flat_map(|(path, _)| ["-E".into(), path.clone().into_os_string()]).collect()
    }

    fn remove(&self) {
        if let Some((path, _)) = &self.0 {
            // It is gone with its directory when the agent has ended.
            let _ = std::fs::remove_file(path);
        }
    }

    /// Passes on what ssh says, line by line. Completes never.
    ///
    /// Cancel safe.
    async fn pass_on(&mut self, lines: &mut Lines) {
        if let Some((_, pipe)) = &mut self.0 {
            while let Ok(1..) = pipe.read_buf(&mut lines.bytes).await {
                lines.pass_on();
            }
        }
        std::future::pending().await
    }

    /// Passes on the rest of what an ssh has said that has ended.
    fn finish(self, lines: &mut Lines) {
        self.remove();
        if let Some((_, pipe)) = self.0 {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = nix::unistd::read(&pipe, &mut buffer) {
                lines.bytes.extend_from_slice(&buffer[..read]);
            }
        }
        lines.pass_on();
        let rest = std::mem::take(&mut lines.bytes);
        write(&rest);
    }
}

/// What ssh says, in lines.
#[derive(Default)]
struct Lines {
    /// Of a line that is not whole yet.
    bytes: Vec<u8>,
    /// ssh has said that it gets no session on the connection.
    alone: bool,
}

impl Lines {
    fn pass_on(&mut self) {
        let Some(end) = self.bytes.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = self.bytes.split_off(end + 1);
        let whole = std::mem::replace(&mut self.bytes, rest);
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            if is_of_the_connection(line) {
                self.alone = true;
            } else {
                write(line);
            }
        }
    }
}

fn write(bytes: &[u8]) {
    // Nobody may be there to read it.
    let _ = io::stderr().write_all(bytes);
}

/// What ssh says when it gets no session on a shared connection, before it logs in by itself.
fn is_of_the_connection(line: &[u8]) -> bool {
    line.starts_with(b"mux_client_") || line.starts_with(b"Control socket connect(")
}

impl Attended<'_> {
    /// A FIFO beside the control socket: ssh closes all descriptors that it inherits.
    pub(super) fn log(&self) -> Log {
        if self.has_log {
            return Log(None);
        }
        Log(self.fifo())
    }

    #[cfg(target_os = "linux")]
    fn fifo(&self) -> Option<(PathBuf, pipe::Receiver)> {
        use nix::sys::stat::Mode;
        let path = self.socket.with_file_name(format!("said-{}", std::process::id()));
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).ok()?;
        // Open for both, it is at its end only when we say so.
        match pipe::OpenOptions::new().read_write(true).open_receiver(&path) {
            Ok(pipe) => Some((path, pipe)),
            Err(_) => {
                let _ = std::fs::remove_file(path);
                None
            }
        }
    }

    /// Elsewhere such a FIFO is at its end before ssh has opened it.
    #[cfg(not(target_os = "linux"))]
    fn fifo(&self) -> Option<(PathBuf, pipe::Receiver)> {
        None
    }

    /// Runs ssh to its end.
    pub(super) async fn run(
        &self,
        program: &Program,
        arguments: &[OsString],
        environment: &[(&str, OsString)],
        mut log: Log,
    ) -> io::Result<ExitCode> {
        let mut caught = Vec::new();
        for ending in ENDING.into_iter().filter(|ending| !signals::is_ignored(*ending)) {
            caught.push((ending, signal(SignalKind::from_raw(ending as i32))?));
        }
        let started = Instant::now();
        let child = program.start(arguments, environment);
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                log.remove();
                return Err(error);
            }
        };
        let mut lines = Lines::default();
        let ended = tokio::select! {
            status = child.wait() => Ok(status?),
            () = log.pass_on(&mut lines) => unreachable!("it completes never"),
            signal = next(&mut caught) => Err(signal),
        };
        let code = match ended {
            Ok(status) => match status.code() {
                Some(code) => ExitCode::from(u8::try_from(code).unwrap_or(NOT_RUN)),
                None => {
                    log.finish(&mut lines);
                    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
                    let signal = signal.and_then(|number| Signal::try_from(number).ok());
                    signals::end_as_by(signal.unwrap_or(Signal::SIGKILL));
                }
            },
            Err(signal) => {
                let client = Client { socket: self.socket, started, command: self.command };
                let alone = lines.alone || !self.ends;
                let ends = async {
                    if alone {
                        return;
                    }
                    let ended = async {
                        let found = client.find(program).await?;
                        if !found.is_sure() {
                            let_go(&mut child, signal).await;
                        }
                        client.end(program, &found).await
                    };
                    if let Err(why) = ended.await {
                        tracing::debug!(%why, "the remote command may go on");
                    }
                };
                tokio::select! {
                    _ = timeout(PATIENCE, ends) => {}
                    // Whoever sends another one waits for nothing.
                    _ = next(&mut caught) => {}
                }
                let_go(&mut child, signal).await;
                // As ssh says it.
                ExitCode::from(NOT_RUN)
            }
        };
        log.finish(&mut lines);
        Ok(code)
    }
}

/// Has ssh end, unless it has ended with its command.
async fn let_go(child: &mut Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
    let _ = timeout(GRACE, child.wait()).await;
}

/// The next of these signals.
async fn next(caught: &mut [(Signal, Signals)]) -> Signal {
    std::future::poll_fn(|context| {
        let come = caught
            .iter_mut()
            .find_map(|(signal, stream)| stream.poll_recv(context).is_ready().then_some(*signal));
        come.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "mux_client_request_session: session request failed: Session open refused by peer\r\n",
        true
    )]
    #[case("Control socket connect(/run/x/0): Connection refused\r\n", true)]
    #[case("Warning: Permanently added 'x' to the list of known hosts.\r\n", false)]
    #[case("lab@x: Permission denied (publickey).\r\n", false)]
    fn lines_of_the_connection(#[case] line: &str, #[case] expected: bool) {
        assert_eq!(is_of_the_connection(line.as_bytes()), expected);
    }
}
