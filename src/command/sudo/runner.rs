//! Commands by sudo, over another runner.
//!
//! A command that has begun belongs to a task that waits for its end, its time limit, or its
//! caller's going away. An account may not signal what runs as root: so a command that is given up
//! is ended by sudo as well, and then its session, as without sudo.

use std::io::{self, Cursor};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{sleep, timeout};

use super::begin::{Begun, begun};
use super::{Sudo, text};
use crate::command::{
    Child, ChildEnds, ChildStderr, ChildStdin, ExitStatus, Output, Pending, Request, Runner, Stdin,
    Timeout,
};
use crate::config::PoolConfig;
use crate::error::{Error, PartialOutput, Remote};
use crate::host::Host;

/// How long the ending of a command by sudo may take: sudo itself, TERM, two seconds, and KILL.
const ENDING: Duration = Duration::from_secs(10);

/// A runner whose commands run by sudo.
#[derive(Clone)]
pub(super) struct ByUser {
    pub inner: Arc<dyn Runner>,
    pub sudo: Arc<Sudo>,
}

impl Runner for ByUser {
    fn shared(&self) -> Arc<dyn Runner> {
        Arc::new(self.clone())
    }

    fn output(&self, request: Request) -> Pending<'_, Output> {
        Box::pin(async move {
            let limit = request.max_output.unwrap_or_else(|| self.defaults().max_output);
            let (end, output) = self.to_the_end(request, Some(limit)).await?;
            Output::of(end, output)
        })
    }

    fn status(&self, request: Request) -> Pending<'_, ExitStatus> {
        Box::pin(async move { self.to_the_end(request, None).await?.0 })
    }

    fn spawn(&self, request: Request) -> Pending<'_, Child> {
        Box::pin(self.start(request, None))
    }

    fn lease(&self, host: &Host) -> Pending<'_, Arc<dyn Runner>> {
        let host = host.clone();
        Box::pin(async move { Ok(self.sudo.over(&*self.inner.lease(&host).await?)) })
    }

    fn defaults(&self) -> PoolConfig {
        self.inner.defaults()
    }
}

impl ByUser {
    /// Runs a command to its end. Without a limit what it writes is thrown away.
    async fn to_the_end(
        &self,
        request: Request,
        limit: Option<usize>,
    ) -> Result<(Result<ExitStatus, Error>, PartialOutput), Error> {
        let host = request.host.clone();
        if request.stdin == Stdin::Piped {
            return Err(request.stdin.bytes(&host).expect_err("it has no bytes"));
        }
        let default = self.defaults().command_timeout;
        let mut child = self.start(request, Some(default)).await?;
        let mut output = PartialOutput::default();
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let read = async {
            tokio::try_join!(
                collect(stdout, &mut output.stdout, limit, "stdout"),
                collect(stderr, &mut output.stderr, limit, "stderr"),
            )
        };
        match (read.await, limit) {
            (Err(stream), Some(limit)) => {
                let (host, remote) = (host.name().to_owned(), child.end().await);
                let partial = Arc::new(output);
                Err(Error::OutputLimit { host, stream, limit, remote, partial })
            }
            _ => Ok((child.wait().await, output)),
        }
    }

    async fn start(&self, request: Request, default: Option<Duration>) -> Result<Child, Error> {
        let limit = request.timeout.or(default);
        let (host, stdin) = (request.host.clone(), request.stdin.clone());
        let Begun { mut child, number, words, stderr } =
            begun(&*self.inner, &self.sudo, request, limit).await?;
        let (theirs, fed) = match (child.stdin.take(), stdin) {
            (pipe, Stdin::Piped) => (pipe, None),
            (pipe, Stdin::Bytes(bytes)) => (None, pipe.zip(Some(bytes))),
            // The end of input.
            (_, Stdin::Empty) => (None, None),
        };
        let stdout = child.stdout.take().expect("nobody has taken it");
        let stderr = Stderr { before: Cursor::new(words), rest: stderr };
        let (ours, ends) = Child::new(&host, theirs, stdout, stderr);
        tokio::spawn(self.clone().see_to(Running { child, number, host }, ends, fed, limit));
        Ok(ours)
    }

    /// Sees to a command until it has ended.
    async fn see_to(
        self,
        mut running: Running,
        mut ends: ChildEnds,
        fed: Option<(ChildStdin, Arc<[u8]>)>,
        limit: Option<Duration>,
    ) {
        let feed = async {
            if let Some((mut stdin, bytes)) = fed {
                // It need not read its input.
                let _ = stdin.write_all(&bytes).await;
                let _ = stdin.shutdown().await;
            }
            std::future::pending::<()>().await;
        };
        let is_late = async {
            match limit {
                Some(limit) => sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let given_up = tokio::select! {
            biased;
            end = running.child.wait() => {
                let remote = match &end {
                    Err(Error::Lost { reason, .. }) => Remote::may_live_on(reason.as_str()),
                    _ => Remote::Ended,
                };
                return ends.ended(end, remote);
            }
            () = ends.stopped() => None,
            () = is_late => limit,
            () = feed => None,
        };
        let host = running.host.name().to_owned();
        let remote = self.end(running).await;
        let end = match given_up {
            None => Ok(ExitStatus::killed()),
            Some(after) => Err(Error::TimedOut {
                host,
                after,
                remote: remote.clone(),
                partial: Arc::default(),
            }),
        };
        ends.ended(end, remote);
    }

    /// Ends a command that runs as somebody else, and then its session.
    async fn end(&self, running: Running) -> Remote {
        let Running { child, number, host } = running;
        let request = Request {
            host,
            text: text::end(&number),
            stdin: Stdin::Empty,
            timeout: Timeout::Never,
            max_output: None,
            fresh_session: false,
            is_read_to_end: false,
        };
        let by_sudo = async {
            let ender = begun(&*self.inner, &self.sudo, request, Some(ENDING)).await?;
            ender.child.wait_with_output().await
        };
        let ended = timeout(ENDING, by_sudo).await;
        let left = child.end().await;
        match ended {
            Ok(Ok(_)) => left,
            Ok(Err(error)) => Remote::may_live_on(error.to_string()),
            Err(_) => Remote::may_live_on("sudo did not end it in time"),
        }
    }
}

/// A command that has begun.
struct Running {
    child: Child,
    /// What it is to be ended by.
    number: String,
    host: Arc<Host>,
}

/// Reads a stream to its end. `Err` says that it has more than is kept.
async fn collect(
    from: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    limit: Option<usize>,
    stream: &'static str,
) -> Result<(), &'static str> {
    let Some(mut from) = from else { return Ok(()) };
    // A pipe does not fail; if it ever does, there is nothing more to come from it.
    while let Ok(1..) = from.read_buf(into).await {
        match limit {
            None => into.clear(),
            Some(limit) if into.len() > limit => {
                into.truncate(limit);
                return Err(stream);
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What is left to read of stderr.
struct Stderr {
    before: Cursor<Vec<u8>>,
    rest: ChildStderr,
}

impl AsyncRead for Stderr {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.position() < self.before.get_ref().len() as u64 {
            return Pin::new(&mut self.before).poll_read(cx, buf);
        }
        Pin::new(&mut self.rest).poll_read(cx, buf)
    }
}
