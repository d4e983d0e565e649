//! The attempts to run one command, and what follows from the end of each.
//!
//! This is the only loop: captured and streamed commands begin here alike. Only what provably never
//! started is tried again, and only for so long.

use std::mem::take;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::Target;
use super::begin::begun;
use super::capture::{Excess, pump, rest};
use super::running::{Running, SessionOf};
use crate::command::ExitStatus;
use crate::error::{Error, PartialOutput, Remote};
use crate::policy::Lease;
use crate::transport::{
    Connection as _, Input, NotOpened, Script, Session as _, SessionEnd, Streams, Transport,
};

/// A lease for one attempt: the pool's for a while, or the caller's own.
pub(super) enum AttemptLease<T: Transport> {
    Own(Lease<T>),
    Callers(Arc<Lease<T>>),
}

impl<T: Transport> std::ops::Deref for AttemptLease<T> {
    type Target = Lease<T>;

    fn deref(&self) -> &Lease<T> {
        match self {
            AttemptLease::Own(lease) => lease,
            AttemptLease::Callers(lease) => lease,
        }
    }
}

/// The attempts to start one command. Only what provably never started is tried again, and only for
/// so long.
pub(super) struct Attempts<T: Transport> {
    target: Target<T>,
    timeout: Option<Duration>,
    /// Set when the first session is opened.
    deadline: Option<Instant>,
    /// Its session may be used once more behind it.
    again: bool,
    give_up: Option<Instant>,
    /// It was counted.
    counted: bool,
    /// A session in standby was of no use to it: it gets one of its own.
    own: bool,
    /// How often the connection was gone before the command had started.
    not_reached: u32,
    refused: u32,
    /// Its lease's connection has no session for it.
    from_pool: bool,
    /// Why it is being tried again.
    reason: String,
}

/// A connection that is gone is replaced by another at once; one that fails as soon as it is there
/// is not worth many attempts.
const MOST_NOT_REACHED: u32 = 3;

/// A command that has begun.
pub(super) enum Begun<T: Transport> {
    /// It runs, for all that is known.
    Runs(Running<T>),
    /// It has ended already, so. What it has written is in the streams.
    Ended(Streams, ExitStatus),
}

impl<T: Transport> Attempts<T> {
    pub(super) fn new(target: Target<T>, timeout: Option<Duration>, again: bool) -> Self {
        Attempts {
            again,
            target,
            timeout,
            deadline: None,
            give_up: None,
            counted: false,
            own: false,
            not_reached: 0,
            refused: 0,
            from_pool: false,
            reason: String::new(),
        }
    }

    pub(super) fn host(&self) -> String {
        self.target.name()
    }

    /// One attempt after the other until the command has begun. `early` gets what was written
    /// before; without a limit it is thrown away.
    pub(super) async fn begin(
        &mut self,
        script: &Script,
        input: Input<'_>,
        limit: Option<usize>,
        early: &mut PartialOutput,
    ) -> Result<Begun<T>, Error> {
        loop {
            *early = PartialOutput::default();
            let mut running = self.session(script, input).await?;
            let end = match self.within(begun(&mut running, script, limit, early)).await {
                Ok(Ok(None)) => {
                    running.lease().ran();
                    return Ok(Begun::Runs(running));
                }
                Ok(Ok(Some(end))) => end,
                Ok(Err(excess)) => return Err(self.too_much(running, excess, take(early)).await),
                Err(after) => {
                    let (_, streams) = running.session_and_streams();
                    early.stdout.extend(streams.stdout.unread());
                    return Err(self.timed_out(running, after, take(early)).await);
                }
            };
            tracing::debug!(?end, "session ended early");
            let mut streams = running.take_streams();
            match self.judge(end, running)? {
                None => {}
                Some(Ok(status)) => return Ok(Begun::Ended(streams, status)),
                // It may have begun, unheard.
                Some(Err(reason)) => {
                    // What is over the limit is cut off; the loss is what is told.
                    let _ = rest(&mut streams, limit, early);
                    let partial = Arc::new(take(early));
                    return Err(Error::Lost { host: self.host(), reason, partial });
                }
            }
        }
    }

    /// Reads a command that has begun to its end.
    pub(super) async fn capture(
        &mut self,
        mut running: Running<T>,
        input: &[u8],
        limit: Option<usize>,
        output: &mut PartialOutput,
    ) -> Result<ExitStatus, Error> {
        let end = match self.within(pump(&mut running, input, limit, output)).await {
            Ok(Ok(end)) => end,
            Ok(Err(excess)) => return Err(self.too_much(running, excess, take(output)).await),
            Err(after) => return Err(self.timed_out(running, after, take(output)).await),
        };
        tracing::debug!(?end, "session ended");
        concluded(end, running).map_err(|reason| Error::Lost {
            host: self.host(),
            reason,
            partial: Arc::new(take(output)),
        })
    }

    /// A session for the next attempt: one in standby, or else a new one.
    async fn session(&mut self, script: &Script, input: Input<'_>) -> Result<Running<T>, Error> {
        loop {
            let lease = self.lease().await?;
            if let AttemptLease::Own(own) = &lease
                && let Some(false) = own.is_heard().await
            {
                let reason = "the connection did not answer any more".to_owned();
                tracing::info!(reason, "a command goes to another connection");
                self.elsewhere(lease, reason)?;
                continue;
            }
            if let Input::Piped = input
                && !script.is_subsystem()
                && let Err(after) = self.within(lease.connection().prove_input()).await
            {
                self.is_suspect(&lease);
                let (host, remote, partial) = (self.host(), Remote::Ended, Arc::default());
                return Err(Error::TimedOut { host, after, remote, partial });
            }
            let (login, again) = (self.target.host().login(), self.again);
            let own = self.own || script.is_subsystem() || lease.connection().is_plain();
            let suits = |session: &SessionOf<T>| session.suits(script, again);
            let standby = if own { None } else { lease.standby(login, suits) };
            lease.takes();
            if standby.is_none() && !lease.opens() {
                self.has_no_session(lease).await?;
                continue;
            }
            let again = again && (standby.is_some() || !lease.is_for_one());
            // One that is to be used again is told of its command as the others are.
            let input = if again && !own { Input::Piped } else { input };
            let opened = match standby {
                Some(session) => Ok(session),
                None => lease.connection().open(script, input, &login.variables),
            };
            match opened {
                Ok(session) => {
                    let first = !std::mem::replace(&mut self.counted, true);
                    lease.count(|stats| stats.commands_run += u64::from(first));
                    return Ok(Running::new(&self.target, lease, session, script, again && !own));
                }
                Err(why) => self.not_opened(why, lease)?,
            }
        }
    }

    /// A lease for the next attempt.
    async fn lease(&mut self) -> Result<AttemptLease<T>, Error> {
        let lease = match &self.target {
            Target::Lease(_, lease, _) if !self.from_pool => {
                if self.refused > 0 {
                    // Other connections are not for this command; the server frees a session a
                    // moment after its end.
                    let pause = Duration::from_millis(2 << self.refused.min(6));
                    tokio::time::sleep(pause).await;
                    self.check_patience()?;
                }
                AttemptLease::Callers(Arc::clone(lease))
            }
            Target::Pool(core, host) | Target::Lease(core, _, host) => {
                let host = Arc::new(core.resolve_here(host).await?);
                let core = Arc::clone(core);
                self.target = Target::Pool(Arc::clone(&core), Arc::clone(&host));
                let acquire = core.acquire(&host);
                let lease = match self.give_up {
                    None => acquire.await?,
                    Some(give_up) => {
                        self.check_patience()?;
                        timeout_at(give_up, acquire)
                            .await
                            .unwrap_or_else(|_| Err(self.never_started()))?
                    }
                };
                AttemptLease::Own(lease)
            }
        };
        if self.give_up.is_none() {
            let now = Instant::now();
            // An overflowing deadline means no deadline.
            self.deadline = self.timeout.and_then(|timeout| now.checked_add(timeout));
            // A refusal is a kind of queueing. Even who does not want to queue gives the server a
            // moment to free a session.
            let patience = self.target.core().config().acquire_timeout.max(Duration::from_secs(1));
            self.give_up =
                Some(self.deadline.map_or(now + patience, |deadline| deadline.min(now + patience)));
        }
        Ok(lease)
    }

    /// The command's time is over. Its connection may be to blame.
    fn is_suspect(&self, lease: &Lease<T>) {
        tracing::debug!("timed out");
        lease.count(|stats| stats.commands_timed_out += 1);
        lease.suspect();
    }

    /// Ends a command whose time is over.
    pub(super) async fn timed_out(
        &self,
        running: Running<T>,
        after: Duration,
        partial: PartialOutput,
    ) -> Error {
        self.is_suspect(running.lease());
        let remote = running.end().await;
        Error::TimedOut { host: self.host(), after, remote, partial: Arc::new(partial) }
    }

    /// Ends a command that has written more than is kept.
    async fn too_much(&self, running: Running<T>, excess: Excess, partial: PartialOutput) -> Error {
        let remote = running.end().await;
        excess.into_error(self.host(), remote, partial)
    }

    /// Runs this attempt's part within the command's timeout, or gives the timeout.
    pub(super) async fn within<R>(&self, part: impl Future<Output = R>) -> Result<R, Duration> {
        match (self.deadline, self.timeout) {
            (Some(deadline), Some(timeout)) => {
                timeout_at(deadline, part).await.map_err(|_| timeout)
            }
            _ => Ok(part.await),
        }
    }

    /// What follows from the end of an attempt whose command was not heard to begin: `None` for
    /// another one, otherwise as [`concluded`].
    fn judge(
        &mut self,
        end: SessionEnd,
        running: Running<T>,
    ) -> Result<Option<Result<ExitStatus, String>>, Error> {
        match end {
            SessionEnd::NotBegun => {
                drop(running.ended());
                self.own = true;
                self.reason = "a shell ended before it had begun with the command".to_owned();
                Ok(None)
            }
            SessionEnd::Refused(reason) => {
                tracing::debug!(reason, "session refused; trying again");
                (self.reason, self.refused) = (reason, self.refused + 1);
                match running.ended() {
                    AttemptLease::Own(lease) => lease.refused(),
                    AttemptLease::Callers(lease) => {
                        lease.count(|stats| stats.refused_sessions += 1)
                    }
                }
                self.check_patience().map(|()| None)
            }
            SessionEnd::NotReached(reason) => {
                tracing::debug!(
                    host = self.target.host().name(),
                    reason,
                    "connection gone before the command started"
                );
                let lease = running.ended();
                lease.broken();
                (self.reason, self.not_reached) = (reason, self.not_reached + 1);
                match lease {
                    AttemptLease::Own(_) if self.not_reached < MOST_NOT_REACHED => Ok(None),
                    _ => Err(self.never_started()),
                }
            }
            end => Ok(Some(concluded(end, running))),
        }
    }

    /// No session could be opened on this connection: `Ok` for another attempt.
    fn not_opened(&mut self, why: NotOpened, lease: AttemptLease<T>) -> Result<(), Error> {
        match why {
            NotOpened::NoProcess(error) => {
                Err(Error::io(self.target.host().name(), "cannot start ssh", error))
            }
            NotOpened::NoDirectory(_) | NotOpened::Closing => {
                self.elsewhere(lease, why.to_string())
            }
        }
    }

    /// Another attempt, over another connection. Each costs the pool one that is of no use any
    /// more, so that they come to an end.
    fn elsewhere(&mut self, lease: AttemptLease<T>, reason: String) -> Result<(), Error> {
        lease.broken();
        self.reason = reason;
        match lease {
            AttemptLease::Own(_) => Ok(()),
            AttemptLease::Callers(_) => Err(self.never_started()),
        }
    }

    /// No other session may be opened there, and none that waits suits: another attempt.
    async fn has_no_session(&mut self, lease: AttemptLease<T>) -> Result<(), Error> {
        self.reason = "the server opens no other session on the connection".to_owned();
        self.from_pool = true;
        match lease {
            AttemptLease::Own(lease) => lease.does_not_suit().await,
            AttemptLease::Callers(lease) => lease.has_no_other(),
        }
        self.check_patience()
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

/// What follows from the end of a command that has begun, or may have: its status, or why it was
/// lost.
pub(super) fn concluded<T: Transport>(
    end: SessionEnd,
    running: Running<T>,
) -> Result<ExitStatus, String> {
    match end {
        SessionEnd::Exited(_) | SessionEnd::Killed => {
            let lease = running.ended();
            lease.ran();
            if let AttemptLease::Callers(lease) = &lease {
                lease.used();
            }
            Ok(match end {
                SessionEnd::Exited(code) => ExitStatus::exited(code),
                _ => ExitStatus::killed(),
            })
        }
        // A session that was there is not refused any more, nor is its way to it; if one ever says
        // so, its command has begun all the same.
        SessionEnd::Lost(reason) | SessionEnd::Refused(reason) | SessionEnd::NotReached(reason) => {
            let lease = running.ended();
            lease.ran();
            lease.broken();
            Err(reason)
        }
        // Dropped, and so ended there too.
        SessionEnd::ClientKilled(reason) => Err(reason),
        SessionEnd::NotBegun => Err("its session has vanished".to_owned()),
    }
}
