//! A command that runs, with its streams.
//!
//! It is handed out when it has begun: until then a session that a server refuses, or that ends too early, is replaced by another one, and
//! what start-up files print is kept for the reader. From then on one task per child waits for the end and sees to the timeout, and ends the
//! session when the [`Child`] is dropped.

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

use crate::attempts::{AttemptLease, Attempts, Excess, LAST_WORDS};
use crate::command::{ExitStatus, Output, Stdin, Target};
use crate::error::{Error, PartialOutput};
use crate::openssh::{Input, Script, Session, SessionEnd, Streams};

/// A running command, made by [`Command::spawn`](crate::Command::spawn).
///
/// Dropping it ends the local ssh process and gives the connection back; reading a stream to its end does not wait for the exit status,
/// [`wait`](Self::wait) does.
#[derive(Debug)]
pub struct Child {
    /// What the command reads, with [`Stdin::Piped`]. Dropping it is the end of input.
    pub stdin: Option<ChildStdin>,
    /// What the command writes to its standard output.
    pub stdout: Option<ChildStdout>,
    /// What the command writes to its standard error.
    pub stderr: Option<ChildStderr>,
    end: watch::Receiver<Option<Result<ExitStatus, Error>>>,
    /// Ends the command when used or dropped.
    stop: Option<oneshot::Sender<()>>,
    host: String,
}

/// The writing end of a command's standard input.
#[derive(Debug)]
pub struct ChildStdin(process::ChildStdin);

/// The reading end of a command's standard output.
#[derive(Debug)]
pub struct ChildStdout(Stream<process::ChildStdout>);

/// The reading end of a command's standard error.
#[derive(Debug)]
pub struct ChildStderr(Stream<process::ChildStderr>);

/// The reading end of a pipe that a session writes to.
#[derive(Debug)]
struct Stream<P> {
    /// What was read before the command began.
    before: io::Cursor<Vec<u8>>,
    pipe: P,
    /// Completes when the command has ended; `None` from then on. The end of the pipe does not always come: a session that is cut off
    /// leaves its stderr open in the master until the remote command ends.
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
            let (lease, mut session) = attempts.session(&script, input).await?;
            let mut streams = session.take_streams();
            let mut early = PartialOutput::default();
            let limit = target.pool().config().max_output;
            let begun = begin(&mut session, &lease, &script, &mut streams, &mut early, limit);
            match attempts.within(begun).await {
                Ok(Ok(None)) => break (streams, early, Ok((lease, session))),
                Ok(Err(Excess { stream, limit })) => {
                    return Err(Error::OutputLimit { host, stream, limit, partial: Arc::new(early) });
                }
                Ok(Ok(Some(end))) => {
                    tracing::debug!(?end, "session ended early");
                    if let Some(ended) = attempts.judge(end, lease)? {
                        break (streams, early, Err(ended));
                    }
                }
                Err(after) => {
                    attempts.timed_out(&lease);
                    return Err(Error::TimedOut { host, after, partial: Arc::new(early) });
                }
            }
        };
        let (sender, input) = match stdin {
            Stdin::Empty => (None, None),
            Stdin::Bytes(bytes) => (None, streams.stdin.map(|sender| (sender, bytes))),
            Stdin::Piped => (streams.stdin.map(ChildStdin), None),
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
            let result = {
                let mut run = pin!(run(attempts, begun));
                let work = async {
                    // A command may end without reading all of its input.
                    tokio::select! {
                        result = &mut run => result,
                        () = feed => run.await,
                    }
                };
                tokio::select! {
                    result = work => result,
                    _ = stopped => Ok(ExitStatus::killed()),
                }
            };
            // The end is known before the streams end: who has read to the end need not wait for the rest.
            end_sender.send_replace(Some(result));
            drop((out_ended, err_ended));
        };
        tokio::spawn(task.instrument(span));
        Ok(Child {
            stdin: sender,
            stdout: Some(ChildStdout(stdout)),
            stderr: Some(ChildStderr(stderr)),
            end,
            stop: Some(stop),
            host,
        })
    }

    /// Waits until the command has ended, after closing its standard input if that is still here. Once it has ended, every call gives the
    /// same result.
    ///
    /// A command that writes more than a pipe holds waits for somebody to read: take the streams and read them, or use
    /// [`wait_with_output`](Self::wait_with_output).
    ///
    /// # Errors
    ///
    /// [`Error::Lost`], [`Error::TimedOut`] and [`Error::NeverStarted`], none with partial output: the streams have it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the command goes on, and another call waits again.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        let end = self.end.wait_for(Option::is_some).await;
        match end.as_deref() {
            Ok(Some(result)) => result.clone(),
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
            Err(Error::TimedOut { host, after, .. }) => {
                Err(Error::TimedOut { host, after, partial: Arc::new(output) })
            }
            Err(error) => Err(error),
        }
    }

    /// Ends the command; [`wait`](Self::wait) then gives a status of "killed" if it had not ended before.
    pub fn kill(&mut self) {
        drop(self.stop.take());
    }
}

/// Gives a session its command, and completes when the command has begun, or with the end of a session that has ended before. `early` gets
/// what was written until then.
async fn begin(
    session: &mut Session,
    lease: &AttemptLease,
    script: &Script,
    streams: &mut Streams,
    early: &mut PartialOutput,
    limit: usize,
) -> Result<Option<SessionEnd>, Excess> {
    let master = lease.connection();
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

/// Waits for the end of a command that has begun.
async fn run(
    mut attempts: Attempts,
    begun: Result<(AttemptLease, Session), Result<ExitStatus, String>>,
) -> Result<ExitStatus, Error> {
    let ended = match begun {
        Err(ended) => Some(ended),
        Ok((lease, mut session)) => match attempts.within(session.wait(lease.connection())).await {
            Ok(end) => {
                tracing::debug!(?end, "session ended");
                attempts.judge(end, lease)?
            }
            Err(after) => {
                tracing::debug!(?after, "timed out");
                attempts.timed_out(&lease);
                return Err(Error::TimedOut { host: attempts.host(), after, partial: Arc::default() });
            }
        },
    };
    let lost = |reason| Error::Lost { host: attempts.host(), reason, partial: Arc::default() };
    // A session that was there is not refused any more.
    ended.unwrap_or_else(|| Err("its session has vanished".to_owned())).map_err(lost)
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
        // Nothing more is written; what is there is read past the reactor, which may not have heard of it yet.
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

impl AsyncWrite for ChildStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
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
