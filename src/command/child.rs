//! A command that runs, with its streams.
//!
//! It is handed out when it has begun: until then a session that a server refuses, or that ends too
//! early, is replaced by another one, and what start-up files print is kept for the reader. From
//! then on one task per child waits for the end and sees to the timeout, and ends the session when
//! the [`Child`] is dropped.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::process;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use tracing::Instrument;

use crate::command::{ExitStatus, Output, Stdin, Target};
use crate::error::{Error, PartialOutput, Remote};
use crate::execution::attempts::{Attempts, Excess, LAST_WORDS};
use crate::execution::running::Running;
use crate::openssh::{Input, Script, SessionEnd};
use crate::text::Text;

/// A running command, made by [`Command::spawn`](crate::Command::spawn).
///
/// Dropping it ends the command, here and there, in the background: its process group gets TERM,
/// and KILL two seconds later. Where the account has no POSIX shell only the local ssh is ended,
/// and what runs there may live on. Reading a stream to its end does not wait for the exit status,
/// [`wait`](Self::wait) does.
#[derive(Debug)]
pub struct Child {
    /// What the command reads, with [`Stdin::Piped`]. Dropping it is the end of input.
    pub stdin: Option<ChildStdin>,
    /// What the command writes to its standard output.
    pub stdout: Option<ChildStdout>,
    /// What the command writes to its standard error.
    pub stderr: Option<ChildStderr>,
    end: watch::Receiver<Option<End>>,
    /// Ends the command when used or dropped.
    stop: Option<oneshot::Sender<()>>,
    host: String,
}

#[derive(Debug)]
struct End {
    result: Result<ExitStatus, Error>,
    /// What is left there.
    remote: Remote,
}

/// The writing end of a command's standard input.
#[derive(Debug)]
pub struct ChildStdin(Sink);

/// The reading end of a command's standard output.
#[derive(Debug)]
pub struct ChildStdout(Source<process::ChildStdout>);

/// The reading end of a command's standard error.
#[derive(Debug)]
pub struct ChildStderr(Source<process::ChildStderr>);

/// Where the input goes.
#[derive(Debug)]
enum Sink {
    Session(process::ChildStdin),
    /// To the agent, which has the session.
    #[cfg(feature = "cli")]
    Agent(tokio::io::DuplexStream),
}

/// Where an output comes from.
#[derive(Debug)]
enum Source<P> {
    Session(Stream<P>),
    #[cfg(feature = "cli")]
    Agent(tokio::io::DuplexStream),
}

/// The reading end of a pipe that a session writes to.
struct Stream<P> {
    /// What was read before the command began.
    before: io::Cursor<Vec<u8>>,
    pipe: P,
    /// Completes when the command has ended; `None` from then on. The end of the pipe does not
    /// always come: a session that is cut off leaves its stderr open in the master until the remote
    /// command ends.
    ended: Option<oneshot::Receiver<()>>,
}

impl Child {
    pub(crate) async fn start(
        target: Target,
        script: Script,
        stdin: Stdin,
        timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let host = target.host().to_owned();
        let mut attempts = Attempts::new(&target, timeout);
        let input = match &stdin {
            Stdin::Empty => Input::Bytes(b""),
            Stdin::Bytes(bytes) => Input::Bytes(bytes),
            Stdin::Piped => Input::Piped,
        };
        let (streams, early, begun) = loop {
            let mut running = attempts.session(&script, input).await?;
            let mut early = PartialOutput::default();
            let limit = target.pool().config().max_output;
            let begun = begin(&mut running, &script, &mut early, limit);
            match attempts.within(begun).await {
                Ok(Ok(None)) => {
                    running.lease().ran();
                    break (running.take_streams(), early, Ok(running));
                }
                Ok(Err(Excess { stream, limit })) => {
                    let (remote, partial) = (running.end().await, Arc::new(early));
                    return Err(Error::OutputLimit { host, stream, limit, remote, partial });
                }
                Ok(Ok(Some(end))) => {
                    tracing::debug!(?end, "session ended early");
                    let streams = running.take_streams();
                    match attempts.judge(end, running)? {
                        None => {}
                        Some(Ok(status)) => break (streams, early, Err(status)),
                        // It may have begun, unheard.
                        Some(Err(reason)) => {
                            return Err(Error::Lost { host, reason, partial: Arc::new(early) });
                        }
                    }
                }
                Err(after) => {
                    attempts.timed_out(running.lease());
                    let (remote, partial) = (running.end().await, Arc::new(early));
                    return Err(Error::TimedOut { host, after, remote, partial });
                }
            }
        };
        let (sender, input) = match stdin {
            Stdin::Empty => (None, None),
            Stdin::Bytes(bytes) => (None, streams.stdin.map(|sender| (sender, bytes))),
            Stdin::Piped => (streams.stdin.map(|stdin| ChildStdin(Sink::Session(stdin))), None),
        };
        let (out_ended, stdout) = Stream::new(early.stdout, streams.stdout);
        let (err_ended, stderr) = Stream::new(early.stderr, streams.stderr);
        let (end_sender, end) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let feed = async move {
            if let Some((mut sender, input)) = input {
                // A command need not read its input: that it closed the pipe is no failure.
                let _ = sender.write_all(&input).await;
            }
        };
        let span = tracing::debug_span!("command", host = %target.key());
        let task = async move {
            let end = {
                let mut run = pin!(run(attempts, begun, stopped));
                // A command may end without reading all of its input.
                tokio::select! {
                    end = &mut run => end,
                    () = feed => run.await,
                }
            };
            // The end is known before the streams end: who has read to the end need not wait for
            // the rest.
            end_sender.send_replace(Some(end));
            drop((out_ended, err_ended));
        };
        tokio::spawn(task.instrument(span));
        Ok(Child {
            stdin: sender,
            stdout: Some(ChildStdout(Source::Session(stdout))),
            stderr: Some(ChildStderr(Source::Session(stderr))),
            end,
            stop: Some(stop),
            host,
        })
    }

    /// One that another process runs for us, and the other ends of what it has.
    #[cfg(feature = "cli")]
    pub(crate) fn remote(host: String, piped: bool) -> (Self, RemoteEnds) {
        let pipe = || tokio::io::duplex(RELAY);
        let (stdin, input) = piped.then(pipe).unzip();
        let ((stdout, output), (stderr, errors)) = (pipe(), pipe());
        let (end_sender, end) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let child = Child {
            stdin: stdin.map(|stdin| ChildStdin(Sink::Agent(stdin))),
            stdout: Some(ChildStdout(Source::Agent(stdout))),
            stderr: Some(ChildStderr(Source::Agent(stderr))),
            end,
            stop: Some(stop),
            host,
        };
        (
            child,
            RemoteEnds {
                stdin: input,
                stdout: output,
                stderr: errors,
                stopped,
                end: EndSender(end_sender),
            },
        )
    }

    /// Waits until the command has ended, after closing its standard input if that is still here.
    /// Once it has ended, every call gives the same result.
    ///
    /// A command that writes more than a pipe holds waits for somebody to read: take the streams
    /// and read them, or use [`wait_with_output`](Self::wait_with_output).
    ///
    /// # Errors
    ///
    /// [`Error::Lost`], [`Error::TimedOut`] and [`Error::NeverStarted`], none with partial output:
    /// the streams have it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the command goes on, and another call waits again.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        let end = self.end.wait_for(Option::is_some).await;
        match end.as_deref() {
            Ok(Some(End { result, .. })) => result.clone(),
            // The task ends without a result only when its runtime is shut down.
            _ => Err(Error::Lost {
                host: self.host.clone(),
                reason: "the runtime that it was started in was shut down".to_owned(),
                partial: Arc::default(),
            }),
        }
    }

    /// Reads what is left of both streams and waits for the end. There is no limit to the output.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait), with the output so far.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command.
    pub async fn wait_with_output(mut self) -> Result<Output, Error> {
        let mut output = PartialOutput::default();
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let ((), (), end) = tokio::join!(
            read_all(stdout, &mut output.stdout),
            read_all(stderr, &mut output.stderr),
            self.wait()
        );
        match end {
            Ok(status) => Ok(Output { status, stdout: output.stdout, stderr: output.stderr }),
            Err(Error::Lost { host, reason, .. }) => {
                Err(Error::Lost { host, reason, partial: Arc::new(output) })
            }
            Err(Error::TimedOut { host, after, remote, .. }) => {
                Err(Error::TimedOut { host, after, remote, partial: Arc::new(output) })
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the command, as dropping does; [`wait`](Self::wait) then waits until that is done, and
    /// gives a status of "killed" if the command had not ended before.
    pub fn kill(&mut self) {
        drop(self.stop.take());
    }

    /// Ends the command, as dropping does, waits until that is done and says what is left on the
    /// other side.
    ///
    /// # Cancel safety
    ///
    /// Once polled, the ending goes on by itself.
    pub async fn end(mut self) -> Remote {
        self.kill();
        match self.end.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(End { remote, .. })) => remote.clone(),
            _ => Remote::MayLiveOn("the runtime that it was started in was shut down".into()),
        }
    }
}

/// Gives a session its command, and completes when the command has begun, or with the end of a
/// session that has ended before. `early` gets what was written until then.
async fn begin(
    running: &mut Running,
    script: &Script,
    early: &mut PartialOutput,
    limit: usize,
) -> Result<Option<SessionEnd>, Excess> {
    let master = &*running.master();
    let (session, streams) = running.session_and_streams();
    let preface = streams.preface(script);
    let Some(marker) = &mut streams.marker else {
        return Ok(session.opened(master).await.err());
    };
    let stdin = &mut streams.stdin;
    let feed = async {
        if let Some(stdin) = stdin {
            // Where the session has ended, its end tells why.
            let _ = stdin.write_all(preface).await;
        }
        Ok(())
    };
    let (stdout, stderr) = (&mut streams.stdout, &mut streams.stderr);
    let search = async {
        // A pipe does not fail; if it ever does, there is nothing more to come from it.
        while let Ok(1..) = stdout.read_buf(&mut early.stdout).await {
            if marker.take_from(&mut early.stdout) {
                return Ok(true);
            }
            check(&early.stdout, limit, "stdout")?;
        }
        Ok(false)
    };
    // A long command is read after the sign that it has begun.
    let mut begun = pin!(async { tokio::try_join!(search, feed).map(|(found, ())| found) });
    let read_stderr = async {
        while let Ok(1..) = stderr.read_buf(&mut early.stderr).await {
            if let Err(excess) = check(&early.stderr, limit, "stderr") {
                return excess;
            }
        }
        std::future::pending().await
    };
    let work = async {
        let (begun, end) = tokio::select! {
            biased;
            begun = &mut begun => match begun? {
                true => return Ok(None),
                false => (false, session.wait(master).await),
            },
            // What it has written is read before its end is judged.
            end = session.wait(master) => (timeout(LAST_WORDS, begun).await.unwrap_or(Ok(false))?, end),
        };
        Ok(if begun { None } else { Some(session.not_begun(end, master)) })
    };
    tokio::select! {
        biased;
        begun = work => begun,
        excess = read_stderr => Err(excess),
    }
}

/// Nobody reads what comes before the command, so that it is kept: within bounds.
fn check(early: &[u8], limit: usize, stream: &'static str) -> Result<(), Excess> {
    if early.len() > limit { Err(Excess { stream, limit }) } else { Ok(()) }
}

/// Waits for the end of a command that has begun, or ends it.
async fn run(
    mut attempts: Attempts,
    begun: Result<Running, ExitStatus>,
    stopped: oneshot::Receiver<()>,
) -> End {
    let mut running = match begun {
        Ok(running) => running,
        Err(status) => return End { result: Ok(status), remote: Remote::Ended },
    };
    let master = running.master();
    let end = tokio::select! {
        biased;
        end = attempts.within(running.session().wait(&master)) => end,
        // A message and a closed channel mean the same.
        _ = stopped => {
            let remote = running.end().await;
            return End { result: Ok(ExitStatus::killed()), remote };
        }
    };
    match end {
        Ok(end) => {
            tracing::debug!(?end, "session ended");
            let remote = match &end {
                SessionEnd::Lost(reason) | SessionEnd::ClientKilled(reason) => {
                    Remote::MayLiveOn(reason.as_str().into())
                }
                _ => Remote::Ended,
            };
            let result = match attempts.judge(end, running) {
                Ok(ended) => {
                    // A session that was there is not refused any more.
                    let ended = ended.unwrap_or_else(|| Err("its session has vanished".to_owned()));
                    ended.map_err(|reason| Error::Lost {
                        host: attempts.host(),
                        reason,
                        partial: Arc::default(),
                    })
                }
                Err(error) => Err(error),
            };
            End { result, remote }
        }
        Err(after) => {
            tracing::debug!(?after, "timed out");
            attempts.timed_out(running.lease());
            let remote = running.end().await;
            let error = Error::TimedOut {
                host: attempts.host(),
                after,
                remote: remote.clone(),
                partial: Arc::default(),
            };
            End { result: Err(error), remote }
        }
    }
}

/// What is kept of each stream between us and the agent.
#[cfg(feature = "cli")]
const RELAY: usize = 64 * 1024;

/// What belongs to a [`Child`] that another process runs.
#[cfg(feature = "cli")]
pub(crate) struct RemoteEnds {
    pub stdin: Option<tokio::io::DuplexStream>,
    pub stdout: tokio::io::DuplexStream,
    pub stderr: tokio::io::DuplexStream,
    /// Completes when the command is to be ended: with a value, or because the child is gone.
    pub stopped: oneshot::Receiver<()>,
    /// Takes how it ended; the streams are to end then.
    pub end: EndSender,
}

#[cfg(feature = "cli")]
pub(crate) struct EndSender(watch::Sender<Option<End>>);

#[cfg(feature = "cli")]
impl EndSender {
    /// The command has ended.
    pub(crate) fn ended(self, result: Result<ExitStatus, Error>) {
        let remote = remote_of(&result);
        self.0.send_replace(Some(End { result, remote }));
    }
}

/// What is left of a command that another process has run for us.
#[cfg(feature = "cli")]
pub(crate) fn remote_of(result: &Result<ExitStatus, Error>) -> Remote {
    match result {
        Err(Error::TimedOut { remote, .. } | Error::OutputLimit { remote, .. }) => remote.clone(),
        Err(Error::Lost { reason, .. }) => Remote::MayLiveOn(reason.as_str().into()),
        _ => Remote::Ended,
    }
}

/// As that of [`Output`].
impl<P: fmt::Debug> fmt::Debug for Stream<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = &self.before.get_ref()[self.before.position() as usize..];
        f.debug_struct("Stream")
            .field("before", &Text(before))
            .field("pipe", &self.pipe)
            .finish_non_exhaustive()
    }
}

impl<P> Stream<P> {
    fn new(before: Vec<u8>, pipe: P) -> (oneshot::Sender<()>, Self) {
        let (ended, receiver) = oneshot::channel();
        (ended, Stream { before: io::Cursor::new(before), pipe, ended: Some(receiver) })
    }
}

impl<P: AsyncRead + AsFd + Unpin> AsyncRead for Stream<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.position() < self.before.get_ref().len() as u64 {
            return Pin::new(&mut self.before).poll_read(cx, buf);
        }
        if let Some(ended) = &mut self.ended {
            let over = Pin::new(ended).poll(cx).is_ready();
            if !over {
                return Pin::new(&mut self.pipe).poll_read(cx, buf);
            }
            self.ended = None;
        }
        // Nothing more is written; what is there is read past the reactor, which may not have heard
        // of it yet.
        match nix::unistd::read(&self.pipe, buf.initialize_unfilled()) {
            Ok(read) => buf.advance(read),
            Err(nix::errno::Errno::EAGAIN) => {}
            Err(error) => return Poll::Ready(Err(error.into())),
        }
        Poll::Ready(Ok(()))
    }
}

async fn read_all(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    if let Some(mut stream) = stream {
        // A pipe does not fail; if it ever does, there is nothing more to come from it.
        let _ = stream.read_to_end(into).await;
    }
}

impl Sink {
    fn pinned(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Sink::Session(stdin) => Pin::new(stdin),
            #[cfg(feature = "cli")]
            Sink::Agent(stdin) => Pin::new(stdin),
        }
    }
}

impl<P: AsyncRead + AsFd + Unpin> AsyncRead for Source<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Source::Session(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "cli")]
            Source::Agent(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.pinned().poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.pinned().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.pinned().poll_shutdown(cx)
    }
}

impl AsyncRead for ChildStdout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncRead for ChildStderr {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_the_command_is_shown_as_text() {
        let (_ended, mut stream) = Stream::new(b"motd\x1b".to_vec(), ());
        stream.before.set_position(2);
        assert_eq!(format!("{stream:?}"), r#"Stream { before: "td\u{1b}", pipe: (), .. }"#);
    }
}
