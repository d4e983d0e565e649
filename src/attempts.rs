//! The way of one command: a lease, a session on it, its streams, its end; once more where it provably never started.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::command::{ExitStatus, Target};
use crate::error::{Error, PartialOutput, plain};
use crate::openssh::{NotOpened, OpenSsh, Session, SessionEnd};
use crate::pool;

/// A lease for one attempt: the pool's for a while, or the caller's own.
pub(crate) enum AttemptLease {
    Own(pool::Lease<OpenSsh>),
    Callers(Arc<pool::Lease<OpenSsh>>),
}

impl std::ops::Deref for AttemptLease {
    type Target = pool::Lease<OpenSsh>;

    fn deref(&self) -> &pool::Lease<OpenSsh> {
        match self {
            AttemptLease::Own(lease) => lease,
            AttemptLease::Callers(lease) => lease,
        }
    }
}

/// The attempts to start one command. Only what provably never started is tried again, and only for so long.
pub(crate) struct Attempts {
    target: Target,
    timeout: Option<Duration>,
    /// Set when the first session is opened.
    deadline: Option<Instant>,
    give_up: Option<Instant>,
    /// How often the connection was gone before the command had started.
    not_reached: u32,
    refused: u32,
    /// Why it is being tried again.
    reason: String,
}

/// A connection that is gone is replaced by another at once; one that fails as soon as it is there is not worth many attempts.
const MOST_NOT_REACHED: u32 = 3;

impl Attempts {
    pub(crate) fn new(target: &Target, timeout: Option<Duration>) -> Self {
        Attempts {
            target: target.clone(),
            timeout,
            deadline: None,
            give_up: None,
            not_reached: 0,
            refused: 0,
            reason: String::new(),
        }
    }

    pub(crate) fn host(&self) -> String {
        self.target.host().to_owned()
    }

    /// A lease for the next attempt.
    pub(crate) async fn lease(&mut self) -> Result<AttemptLease, Error> {
        let lease = match &self.target {
            Target::Lease(_, lease, _) => {
                if self.refused > 0 {
                    // Other connections are not for this command; the server frees a session a moment after its end.
                    let pause = Duration::from_millis(2 << self.refused.min(6));
                    tokio::time::sleep(pause).await;
                    self.check_patience()?;
                }
                AttemptLease::Callers(Arc::clone(lease))
            }
            Target::Pool(pool, host) => {
                let acquire = pool.core().acquire(host);
                let lease = match self.give_up {
                    None => acquire.await?,
                    Some(give_up) => {
                        self.check_patience()?;
                        timeout_at(give_up, acquire).await.unwrap_or_else(|_| Err(self.never_started()))?
                    }
                };
                AttemptLease::Own(lease)
            }
        };
        if self.give_up.is_none() {
            let now = Instant::now();
            // A time that cannot be worked out never comes.
            self.deadline = self.timeout.and_then(|timeout| now.checked_add(timeout));
            // A refusal is a kind of queueing. Even who does not want to queue gives the server a moment to free a session.
            let patience = self.target.pool().config().acquire_timeout.max(Duration::from_secs(1));
            self.give_up =
                Some(self.deadline.map_or(now + patience, |deadline| deadline.min(now + patience)));
        }
        Ok(lease)
    }

    /// A session was opened.
    pub(crate) fn opened(&self, lease: &AttemptLease) {
        lease.count(|stats| stats.commands_run += u64::from(self.refused + self.not_reached == 0));
    }

    /// The command's time is over. Its connection may be to blame.
    pub(crate) fn timed_out(&self, lease: &AttemptLease) {
        lease.count(|stats| stats.commands_timed_out += 1);
        lease.suspect();
    }

    /// Runs this attempt's part within the command's timeout, or gives the timeout.
    pub(crate) async fn within<R>(&self, part: impl Future<Output = R>) -> Result<R, Duration> {
        match (self.deadline, self.timeout) {
            (Some(deadline), Some(timeout)) => timeout_at(deadline, part).await.map_err(|_| timeout),
            _ => Ok(part.await),
        }
    }

    /// What follows from the end of an attempt: `None` for another one, otherwise the status, or why it was lost.
    pub(crate) fn judge(
        &mut self,
        end: SessionEnd,
        lease: AttemptLease,
    ) -> Result<Option<Result<ExitStatus, String>>, Error> {
        match end {
            SessionEnd::Exited(code) => Ok(Some(Ok(ExitStatus::exited(code)))),
            SessionEnd::Killed => Ok(Some(Ok(ExitStatus::killed()))),
            SessionEnd::Lost(reason) => {
                lease.broken();
                Ok(Some(Err(reason)))
            }
            SessionEnd::ClientKilled(reason) => Ok(Some(Err(reason))),
            SessionEnd::Refused(reason) => {
                tracing::debug!(reason, "session refused; trying again");
                (self.reason, self.refused) = (reason, self.refused + 1);
                match lease {
                    AttemptLease::Own(lease) => lease.refused(),
                    AttemptLease::Callers(lease) => lease.count(|stats| stats.refused_sessions += 1),
                }
                self.check_patience().map(|()| None)
            }
            SessionEnd::NotReached(reason) => {
                tracing::debug!(
                    host = self.target.host(),
                    reason,
                    "connection gone before the command started"
                );
                lease.broken();
                (self.reason, self.not_reached) = (reason, self.not_reached + 1);
                match lease {
                    AttemptLease::Own(_) if self.not_reached < MOST_NOT_REACHED => Ok(None),
                    _ => Err(self.never_started()),
                }
            }
        }
    }

    /// No session could be opened on this connection: `Ok` for another attempt.
    pub(crate) fn not_opened(&mut self, why: NotOpened, lease: AttemptLease) -> Result<(), Error> {
        match why {
            NotOpened::NoProcess(error) => Err(Error::io(self.target.host(), "cannot start ssh", error)),
            // Each such attempt costs the pool a connection that is of no use any more, so that they come to an end.
            NotOpened::NoDirectory(error) => {
                lease.broken();
                self.reason = format!("the directory of the control sockets is gone: {}", plain(&error));
                match lease {
                    AttemptLease::Own(_) => Ok(()),
                    AttemptLease::Callers(_) => Err(self.never_started()),
                }
            }
        }
    }

    fn check_patience(&self) -> Result<(), Error> {
        match self.give_up {
            Some(give_up) if give_up <= Instant::now() => Err(self.never_started()),
            _ => Ok(()),
        }
    }

    fn never_started(&self) -> Error {
        Error::NeverStarted { host: self.host(), reason: self.reason.clone() }
    }
}

/// How long output is still read after a loss.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Feeds a session and reads it to its end. `Err` names the stream that went over the limit.
pub(crate) async fn pump(
    session: &mut Session,
    lease: &AttemptLease,
    input: Option<&[u8]>,
    limit: usize,
    output: &mut PartialOutput,
) -> Result<SessionEnd, &'static str> {
    let (stdin, stdout, stderr) = (session.take_stdin(), session.take_stdout(), session.take_stderr());
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A command need not read its input: that it closed the pipe is no failure.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let read = async {
        tokio::try_join!(
            feed,
            read_limited(stdout, &mut output.stdout, limit, "stdout"),
            read_limited(stderr, &mut output.stderr, limit, "stderr"),
        )
    };
    let mut read = pin!(read);
    tokio::select! {
        biased;
        read = &mut read => {
            read?;
            Ok(session.wait(lease.connection()).await)
        }
        end = session.wait(lease.connection()) => {
            // The streams end with the session, unless the local ssh was killed: then the master keeps stderr open.
            match end {
                SessionEnd::Lost(_) | SessionEnd::ClientKilled(_) => drop(timeout(LAST_WORDS, read).await),
                _ => drop(read.await?),
            }
            Ok(end)
        }
    }
}

async fn read_limited(
    stream: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    limit: usize,
    name: &'static str,
) -> Result<(), &'static str> {
    let Some(mut stream) = stream else {
        return Ok(());
    };
    loop {
        match stream.read_buf(into).await {
            // A pipe does not fail; if it ever does, there is nothing more to come from it.
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) if into.len() > limit => {
                into.truncate(limit);
                return Err(name);
            }
            Ok(_) => {}
        }
    }
}
