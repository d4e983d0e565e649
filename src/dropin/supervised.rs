//! ssh as a child of ours, for commands that have no terminal.
//!
//! The child has our standard streams themselves, so nothing that the command reads or writes
//! passes through this process. It waits for two things. A signal that ends us ends the remote
//! command first, which ssh over a shared connection does not do. And where the server opens no
//! session on the connection, ssh logs in by itself and complains of the connection: those lines
//! are not the caller's, and are left out.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
pub(super) use tokio::signal::unix::Signal as Signals;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::RealSsh;
use super::messages::{Lines, MessageLog};
use crate::openssh::{self, Client};
use crate::pool::signals;

/// Those that end a program, and that ssh itself handles.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// How long the end of the remote command is waited for.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long ssh may take to end when it was told to.
const GRACE: Duration = Duration::from_secs(5);

/// A command on a shared connection.
pub(super) struct Supervised<'a> {
    pub socket: &'a Path,
    /// What ssh is asked to run; empty for a shell.
    pub command: &'a str,
    /// The command can be ended from another session.
    pub can_be_ended: bool,
    /// The caller has said where ssh's own messages go.
    pub has_log: bool,
}

/// How ssh has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(u8),
    Killed(Signal),
    /// A signal to this process has ended the command.
    Interrupted,
}

impl Supervised<'_> {
    /// Runs ssh to its end, with `words` behind what leads over the connection.
    ///
    /// # Errors
    ///
    /// When ssh cannot be started.
    pub(super) async fn run(&self, ssh: &RealSsh, words: &[OsString]) -> io::Result<Ending> {
        let mut caught = catch(&ENDING)?;
        let mut log = match self.has_log {
            true => MessageLog::none(),
            false => MessageLog::beside(self.socket),
        };
        let started = Instant::now();
        let arguments = [&openssh::over(self.socket), &log.arguments()[..], words].concat();
        let mut child = ssh.start(&arguments)?;
        let mut lines = Lines::default();
        let ended = tokio::select! {
            status = child.wait() => Ok(status?),
            () = log.pass_on(&mut lines) => unreachable!("it completes never"),
            signal = next(&mut caught) => Err(signal),
        };
        let ending = match ended {
            Ok(status) => match status.code() {
                Some(code) => Ending::Exited(u8::try_from(code).unwrap_or(u8::MAX)),
                None => {
                    let signal = status.signal().and_then(|number| Signal::try_from(number).ok());
                    Ending::Killed(signal.unwrap_or(Signal::SIGKILL))
                }
            },
            Err(signal) => {
                let ends_command = self.can_be_ended && !lines.logs_in;
                tokio::select! {
                    _ = timeout(PATIENCE, async {
                        if ends_command {
                            self.end_command(ssh, started, &mut child, signal).await;
                        }
                    }) => {}
                    // Whoever sends another one waits for nothing.
                    _ = next(&mut caught) => {}
                }
                let_go(&mut child, signal).await;
                Ending::Interrupted
            }
        };
        log.finish(&mut lines);
        Ok(ending)
    }

    async fn end_command(
        &self,
        ssh: &RealSsh,
        started: Instant,
        child: &mut Child,
        signal: Signal,
    ) {
        let client = Client { socket: self.socket, started, command: self.command };
        let ended = async {
            let found = client.find(ssh.program()).await?;
            if !found.is_sure() {
                let_go(child, signal).await;
            }
            client.end(ssh.program(), &found).await
        };
        if let Err(why) = ended.await {
            tracing::debug!(%why, "the remote command may go on");
        }
    }
}

/// Has ssh end, unless it has ended with its command.
async fn let_go(child: &mut Child, signal: Signal) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
    let _ = timeout(GRACE, child.wait()).await;
}

/// Takes these signals from now on, but for those that are ignored.
pub(super) fn catch(wanted: &[Signal]) -> io::Result<Vec<(Signal, Signals)>> {
    let wanted = wanted.iter().filter(|wanted| !signals::is_ignored(**wanted));
    wanted.map(|&wanted| Ok((wanted, signal(SignalKind::from_raw(wanted as i32))?))).collect()
}

/// The next of these signals.
pub(super) async fn next(caught: &mut [(Signal, Signals)]) -> Signal {
    std::future::poll_fn(|context| {
        let come = caught
            .iter_mut()
            .find_map(|(signal, stream)| stream.poll_recv(context).is_ready().then_some(*signal));
        come.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await
}
