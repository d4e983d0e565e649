//! A command that is handed out when it has begun.
//!
//! Until then a session that a server refuses, or that ends too early, is replaced by another one,
//! and what start-up files print is kept for the reader. From then on one task per child waits for
//! the end and sees to the timeout, and ends the session when the [`Child`] is dropped.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;
use tracing::Instrument;

use super::attempts::{Attempts, Begun, concluded};
use super::{Target, capture};
use crate::command::{Child, ExitStatus, Request, Stdin};
use crate::error::{Error, PartialOutput, Remote};
use crate::transport::{Input, Script, Source, Transport};

/// Starts a command and gives its streams.
pub(crate) async fn spawn<T: Transport>(
    target: Target<T>,
    request: Request,
) -> Result<Child, Error> {
    let limit = target.core().config().max_output;
    let span = tracing::debug_span!("command", host = %target.host().key());
    let Request { text, is_subsystem, stdin, timeout, fresh_session, is_read_to_end, .. } = request;
    let host = Arc::clone(target.host());
    let script = Script::of(text, is_subsystem);
    let has_input = stdin != Stdin::Empty;
    let again =
        target.core().config().reuses_sessions() && !fresh_session && is_read_to_end && !has_input;
    let mut attempts = Attempts::new(target, timeout.or(None), again);
    let input = match &stdin {
        Stdin::Empty => Input::Bytes(b""),
        Stdin::Bytes(bytes) => Input::Bytes(bytes),
        Stdin::Piped => Input::Piped,
    };
    let mut early = PartialOutput::default();
    let begun = attempts.begin(&script, input, Some(limit), &mut early).await?;
    let (streams, begun) = match begun {
        Begun::Runs(mut running) => (running.take_streams(), Ok(running)),
        Begun::Ended(streams, status) => (streams, Err(status)),
    };
    let (sender, input) = match stdin {
        Stdin::Empty => (None, None),
        Stdin::Bytes(bytes) => (None, streams.stdin.map(|sender| (sender, bytes))),
        Stdin::Piped => (streams.stdin, None),
    };
    let (out_ended, stdout) = Stream::new(early.stdout, streams.stdout);
    let (err_ended, stderr) = Stream::new(early.stderr, streams.stderr);
    let (child, mut ends) = Child::new(&host, sender, stdout, stderr);
    let feed = async move {
        if let Some((mut sender, input)) = input {
            capture::feed(&mut sender, &input).await;
        }
    };
    let task = async move {
        let (result, remote) = {
            let mut end = pin!(end(attempts, begun, ends.stopped()));
            // A command may end without reading all of its input.
            tokio::select! {
                end = &mut end => end,
                () = feed => end.await,
            }
        };
        // The end is known before the streams end: who has read to the end need not wait for the
        // rest.
        ends.ended(result, remote);
        drop((out_ended, err_ended));
    };
    tokio::spawn(task.instrument(span));
    Ok(child)
}

/// Waits for the end of a command that has begun, or ends it.
async fn end<T: Transport>(
    attempts: Attempts<T>,
    begun: Result<super::running::Running<T>, ExitStatus>,
    stopped: impl Future<Output = ()>,
) -> (Result<ExitStatus, Error>, Remote) {
    let mut running = match begun {
        Ok(running) => running,
        Err(status) => return (Ok(status), Remote::Ended),
    };
    let end = tokio::select! {
        biased;
        end = attempts.within(running.end_of_session()) => end,
        () = stopped => return (Ok(ExitStatus::killed()), running.end().await),
    };
    match end {
        Ok(end) => {
            tracing::debug!(?end, "session ended");
            let ended = concluded(end, running);
            let remote = match &ended {
                Ok(_) => Remote::Ended,
                Err(reason) => Remote::may_live_on(reason.as_str()),
            };
            let (host, partial) = (attempts.host(), Arc::default());
            (ended.map_err(|reason| Error::Lost { host, reason, partial }), remote)
        }
        Err(after) => {
            let error = attempts.timed_out(running, after, PartialOutput::default()).await;
            let remote = match &error {
                Error::TimedOut { remote, .. } => remote.clone(),
                _ => Remote::Ended,
            };
            (Err(error), remote)
        }
    }
}

/// The reading end of an output of a session.
struct Stream<S> {
    /// What was read before the command began.
    before: io::Cursor<Vec<u8>>,
    source: S,
    /// Completes when the command has ended; `None` from then on. The end of the pipe does not
    /// always come: a session that is cut off leaves its stderr open in the master until the remote
    /// command ends.
    ended: Option<oneshot::Receiver<()>>,
}

impl<S> Stream<S> {
    fn new(before: Vec<u8>, source: S) -> (oneshot::Sender<()>, Self) {
        let (ended, receiver) = oneshot::channel();
        (ended, Stream { before: io::Cursor::new(before), source, ended: Some(receiver) })
    }
}

impl<S: Source> AsyncRead for Stream<S> {
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
                return Pin::new(&mut self.source).poll_read(cx, buf);
            }
            self.ended = None;
        }
        let read = self.source.read_now(buf.initialize_unfilled())?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}
