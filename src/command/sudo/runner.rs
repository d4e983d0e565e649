//! Commands by sudo, over another runner.
//!
//! A command that has begun belongs to a task that waits for its end, its time limit, or its
//! caller's going away. An account may not signal what runs as root: so a command that is given up
//! is ended by sudo as well, and then its session, as without sudo.

use std::io::Cursor;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::begin::{Begun, ENDING, begun, with_grace};
use super::kept::Kept;
use super::{Sudo, text};
use crate::command::{
    Child, ChildEnds, ChildStdin, ExitStatus, Output, Pending, Request, Runner, Stdin,
};
use crate::config::PoolConfig;
use crate::error::{Error, PartialOutput, Remote};
use crate::host::Host;

/// How many commands by sudo are under way in this process; and whether all of them are to end.
static UNDER_WAY: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::Sender::new(0));
static ALL_END: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::Sender::new(false));

/// Ends all commands by sudo, since this process is about to end: nobody else could do so.
pub(crate) async fn end_all_by_sudo() {
    ALL_END.send_replace(true);
    let _ = timeout(ENDING, UNDER_WAY.subscribe().wait_for(|count| *count == 0)).await;
}

/// One of those that are under way.
pub(super) struct UnderWay;

impl UnderWay {
    pub(super) fn new() -> Self {
        UNDER_WAY.send_modify(|count| *count += 1);
        UnderWay
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.send_modify(|count| *count -= 1);
    }
}

/// A runner whose commands run by sudo.
#[derive(Clone)]
pub(super) struct ByUser {
    pub inner: Arc<dyn Runner>,
    pub sudo: Arc<Sudo>,
    /// The shells that are kept, where any are.
    pub kept: Option<Arc<Kept>>,
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
        if let Some(kept) = &self.kept
            && matches!(request.stdin, Stdin::Empty)
            && !request.fresh_session
            && let Some(ended) = self.over_kept(kept, &request, limit).await?
        {
            return Ok(ended);
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
        let request = Request { timeout: with_grace(limit), ..request };
        let Begun { mut child, number, words, stderr, deadline } =
            begun(&*self.inner, &self.sudo, request, limit).await?;
        let (theirs, fed) = match (child.stdin.take(), stdin) {
            (pipe, Stdin::Piped) => (pipe, None),
            (pipe, Stdin::Bytes(bytes)) => (None, pipe.zip(Some(bytes))),
            // The end of input.
            (_, Stdin::Empty) => (None, None),
        };
        let stdout = child.stdout.take().expect("nobody has taken it");
        let stderr = Cursor::new(words).chain(stderr);
        let (ours, ends) = Child::new(&host, theirs, stdout, stderr);
        let running = Running { child, number, host, under_way: UnderWay::new() };
        tokio::spawn(self.clone().see_to(running, ends, fed, deadline.zip(limit)));
        Ok(ours)
    }

    /// Sees to a command until it has ended.
    async fn see_to(
        self,
        mut running: Running,
        mut ends: ChildEnds,
        fed: Option<(ChildStdin, Arc<[u8]>)>,
        limit: Option<(Instant, Duration)>,
    ) {
        let feed = async {
            if let Some((mut stdin, bytes)) = fed {
                // It need not read its input.
                let _ = stdin.write_all(&bytes).await;
                let _ = stdin.shutdown().await;
            }
            std::future::pending::<()>().await;
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
            given_up = given_up(ends.stopped(), limit) => given_up,
            () = feed => GivenUp::Stopped,
        };
        let host = running.host.name().to_owned();
        let remote = self.end(running).await;
        ends.ended(given_up.told(host, remote.clone()), remote);
    }

    /// Ends a command that runs as somebody else, and then its session.
    pub(super) async fn end(&self, running: Running) -> Remote {
        let Running { child, number, host, under_way: _counted } = running;
        let request = Request {
            host,
            text: text::end(&number),
            stdin: Stdin::Empty,
            timeout: with_grace(Some(ENDING)),
            max_output: None,
            is_subsystem: false,
            fresh_session: false,
            is_read_to_end: false,
        };
        let by_sudo = async || {
            let ended = timeout(ENDING, async {
                let ender = begun(&*self.inner, &self.sudo, request.clone(), Some(ENDING)).await?;
                ender.child.wait_with_output().await
            });
            match ended.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("sudo did not end it in time".to_owned()),
            }
        };
        let first = by_sudo().await;
        let left = child.end().await;
        match first {
            Ok(()) => left,
            // There may have been no session for it but the one that has ended now.
            Err(_) => match by_sudo().await {
                Ok(()) => Remote::Ended,
                Err(reason) => Remote::may_live_on(reason),
            },
        }
    }
}

/// A command that has begun.
pub(super) struct Running {
    pub child: Child,
    /// What it is to be ended by.
    pub number: String,
    pub host: Arc<Host>,
    pub under_way: UnderWay,
}

/// Why a command is ended before its end.
pub(super) enum GivenUp {
    Stopped,
    AllEnd,
    Late(Duration),
}

impl GivenUp {
    /// What is told of the command, when it has been ended and this is left of it.
    pub(super) fn told(self, host: String, remote: Remote) -> Result<ExitStatus, Error> {
        let partial = Arc::default();
        match self {
            GivenUp::Stopped => Ok(ExitStatus::killed()),
            GivenUp::AllEnd => {
                let reason = "this process is about to end".to_owned();
                Err(Error::Lost { host, reason, partial })
            }
            GivenUp::Late(after) => Err(Error::TimedOut { host, after, remote, partial }),
        }
    }
}

/// Completes when a command is to be ended: its caller wants it to, its time is over, or this
/// process is about to end.
pub(super) async fn given_up(
    stopped: impl Future<Output = ()>,
    limit: Option<(Instant, Duration)>,
) -> GivenUp {
    let mut all_end = ALL_END.subscribe();
    let is_late = async {
        match limit {
            Some((deadline, after)) => {
                sleep_until(deadline).await;
                after
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = stopped => GivenUp::Stopped,
        _ = all_end.wait_for(|all_end| *all_end) => GivenUp::AllEnd,
        after = is_late => GivenUp::Late(after),
    }
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
