//! A command that runs, with its streams.
//!
//! The pipes are ours, not a session's: when a server refuses a session (nothing was read from the input then, and nothing written to the
//! outputs), the next one is connected to the same pipes, and the holder of the streams does not notice. One task per child sees to that
//! and to the timeout, and ends the session when the [`Child`] is dropped.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::pin::{Pin, pin};
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use crate::attempts::{AttemptLease, Attempts};
use crate::command::{ExitStatus, Output, Stdin, Target};
use crate::error::{Error, PartialOutput};
use crate::openssh::{Session, Streams};

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
pub struct ChildStdin(pipe::Sender);

/// The reading end of a command's standard output.
#[derive(Debug)]
pub struct ChildStdout(Stream);

/// The reading end of a command's standard error.
#[derive(Debug)]
pub struct ChildStderr(Stream);

/// The reading end of a pipe that a session writes to.
#[derive(Debug)]
struct Stream {
    pipe: pipe::Receiver,
    /// Completes when the command has ended; `None` from then on. The end of the pipe does not always come: a session that is cut off
    /// leaves its stderr open in the master until the remote command ends.
    ended: Option<oneshot::Receiver<()>>,
}

impl Child {
    pub(crate) async fn start(
        target: Target,
        text: String,
        stdin: Stdin,
        timeout: Option<Duration>,
    ) -> Result<Self, Error> {
        let host = target.host().to_owned();
        let mut attempts = Attempts::new(&target, timeout);
        // Before the pipes: those who queue are not to use up the descriptors.
        let lease = attempts.lease().await?;
        let cannot = |error| Error::io(&host, "cannot make a pipe", error);
        let (ends, stdin, stdout, stderr) = Ends::new(&stdin).map_err(cannot)?;
        let (out_ended, stdout) = Stream::new(stdout);
        let (err_ended, stderr) = Stream::new(stderr);
        let (stdin, input) = match stdin {
            Some((sender, Some(input))) => (None, Some((sender, input))),
            Some((sender, None)) => (Some(ChildStdin(sender)), None),
            None => (None, None),
        };
        let (lease, session) = ends.open(lease, &mut attempts, &text).await?;
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
                let mut run = pin!(run(attempts, lease, session, &ends, &text));
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
            drop((ends, out_ended, err_ended));
        };
        tokio::spawn(task.instrument(span));
        Ok(Child {
            stdin,
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

/// One session after the other until the command has started, and then to its end.
async fn run(
    mut attempts: Attempts,
    mut lease: AttemptLease,
    mut session: Session,
    ends: &Ends,
    text: &str,
) -> Result<ExitStatus, Error> {
    loop {
        let end = match attempts.within(session.wait(lease.connection())).await {
            Ok(end) => end,
            Err(after) => {
                tracing::debug!(?after, "timed out");
                attempts.timed_out(&lease);
                return Err(Error::TimedOut { host: attempts.host(), after, partial: Arc::default() });
            }
        };
        tracing::debug!(?end, "session ended");
        if let Some(ended) = attempts.judge(end, lease)? {
            return ended.map_err(|reason| Error::Lost {
                host: attempts.host(),
                reason,
                partial: Arc::default(),
            });
        }
        (lease, session) = ends.open(attempts.lease().await?, &mut attempts, text).await?;
    }
}

/// The ends of the pipes that sessions get. Held until the command has ended, so that another session can have them.
struct Ends {
    stdin: Option<PipeReader>,
    stdout: PipeWriter,
    stderr: PipeWriter,
}

type Writer = (pipe::Sender, Option<Arc<[u8]>>);

impl Ends {
    fn new(stdin: &Stdin) -> io::Result<(Self, Option<Writer>, pipe::Receiver, pipe::Receiver)> {
        let (stdin, writer) = match stdin {
            Stdin::Empty => (None, None),
            Stdin::Bytes(_) | Stdin::Piped => {
                let (reader, writer) = io::pipe()?;
                let input = match stdin {
                    Stdin::Bytes(bytes) => Some(Arc::clone(bytes)),
                    _ => None,
                };
                (Some(reader), Some((pipe::Sender::from_owned_fd(OwnedFd::from(writer))?, input)))
            }
        };
        let (out_reader, stdout) = io::pipe()?;
        let (err_reader, stderr) = io::pipe()?;
        let readers = (
            pipe::Receiver::from_owned_fd(OwnedFd::from(out_reader))?,
            pipe::Receiver::from_owned_fd(OwnedFd::from(err_reader))?,
        );
        Ok((Ends { stdin, stdout, stderr }, writer, readers.0, readers.1))
    }

    /// A session that is connected to them, on this lease or on another.
    async fn open(
        &self,
        mut lease: AttemptLease,
        attempts: &mut Attempts,
        text: &str,
    ) -> Result<(AttemptLease, Session), Error> {
        loop {
            let streams =
                self.streams().map_err(|error| Error::io(&attempts.host(), "cannot make a pipe", error))?;
            match lease.connection().open(text, streams) {
                Ok(session) => {
                    attempts.opened(&lease);
                    return Ok((lease, session));
                }
                Err(why) => attempts.not_opened(why, lease)?,
            }
            lease = attempts.lease().await?;
        }
    }

    fn streams(&self) -> io::Result<Streams> {
        let stdin = match &self.stdin {
            Some(reader) => Stdio::from(OwnedFd::from(reader.try_clone()?)),
            None => Stdio::null(),
        };
        let stdout = Stdio::from(OwnedFd::from(self.stdout.try_clone()?));
        let stderr = Stdio::from(OwnedFd::from(self.stderr.try_clone()?));
        Ok(Streams { stdin, stdout, stderr })
    }
}

impl Stream {
    fn new(pipe: pipe::Receiver) -> (oneshot::Sender<()>, Self) {
        let (ended, receiver) = oneshot::channel();
        (ended, Stream { pipe, ended: Some(receiver) })
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
