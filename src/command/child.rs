//! A command that runs, with its streams, whoever runs it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::{oneshot, watch};

use super::{ExitStatus, Output};
use crate::error::{Error, PartialOutput, Remote};
use crate::host::Host;

/// A running command, made by [`Command::spawn`](crate::Command::spawn).
///
/// Dropping it ends the command, here and there, in the background: its process group gets TERM,
/// and KILL two seconds later. Where the account has no POSIX shell only the local ssh is ended,
/// and what runs there may live on. Reading a stream to its end does not wait for the exit status,
/// [`wait`](Self::wait) does.
#[derive(Debug)]
pub struct Child {
    /// What the command reads, with [`Stdin::Piped`](super::Stdin::Piped). Dropping it is the end
    /// of input.
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
pub struct ChildStdin(Box<dyn AsyncWrite + Send + Sync + Unpin>);

/// The reading end of a command's standard output.
pub struct ChildStdout(Box<dyn AsyncRead + Send + Sync + Unpin>);

/// The reading end of a command's standard error.
pub struct ChildStderr(Box<dyn AsyncRead + Send + Sync + Unpin>);

/// The other side of a [`Child`]: for who implements a [`Runner`](crate::Runner).
///
/// Dropped before [`ended`](Self::ended) was called, the child's [`wait`](Child::wait) fails with
/// [`Error::Lost`].
#[derive(Debug)]
pub struct ChildEnds {
    stopped: oneshot::Receiver<()>,
    end: watch::Sender<Option<End>>,
}

impl ChildEnds {
    /// Completes when the command is to be ended: the child was told to, or is gone.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Once it has completed it is not to be called again.
    pub async fn stopped(&mut self) {
        // A message and a closed channel mean the same.
        let _ = (&mut self.stopped).await;
    }

    /// The command has ended so, and this is left of it on its host. The streams are to end now.
    pub fn ended(self, result: Result<ExitStatus, Error>, remote: Remote) {
        self.end.send_replace(Some(End { result, remote }));
    }
}

impl Child {
    /// A command that has begun on this host, with our ends of its streams; and what its runner
    /// tells of it. For who implements a [`Runner`](crate::Runner).
    pub fn new(
        host: &Host,
        stdin: Option<impl AsyncWrite + Send + Sync + Unpin + 'static>,
        stdout: impl AsyncRead + Send + Sync + Unpin + 'static,
        stderr: impl AsyncRead + Send + Sync + Unpin + 'static,
    ) -> (Self, ChildEnds) {
        let (end_sender, end) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let child = Child {
            stdin: stdin.map(|stdin| ChildStdin(Box::new(stdin))),
            stdout: Some(ChildStdout(Box::new(stdout))),
            stderr: Some(ChildStderr(Box::new(stderr))),
            end,
            stop: Some(stop),
            host: host.name().to_owned(),
        };
        (child, ChildEnds { stopped, end: end_sender })
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
        Output::of(end, output)
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

async fn read_all(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) {
    if let Some(mut stream) = stream {
        // A pipe does not fail; if it ever does, there is nothing more to come from it.
        let _ = stream.read_to_end(into).await;
    }
}

impl fmt::Debug for ChildStdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChildStdin")
    }
}

impl fmt::Debug for ChildStdout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChildStdout")
    }
}

impl fmt::Debug for ChildStderr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChildStderr")
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
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
