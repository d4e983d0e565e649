//! The way of one command: a lease, a session on it, its streams, its end; once more where it
//! provably never started.

use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::command::{ExitStatus, Target};
use crate::error::{Error, PartialOutput, Remote};
use crate::execution::running::Running;
use crate::openssh::{Input, Marker, NotOpened, OpenSsh, Script, SessionEnd, Streams};
use crate::policy;

/// A lease for one attempt: the pool's for a while, or the caller's own.
pub(crate) enum AttemptLease {
    Own(policy::Lease<OpenSsh>),
    Callers(Arc<policy::Lease<OpenSsh>>),
}

impl std::ops::Deref for AttemptLease {
    type Target = policy::Lease<OpenSsh>;

    fn deref(&self) -> &policy::Lease<OpenSsh> {
        match self {
            AttemptLease::Own(lease) => lease,
            AttemptLease::Callers(lease) => lease,
        }
    }
}

/// The attempts to start one command. Only what provably never started is tried again, and only for
/// so long.
pub(crate) struct Attempts {
    target: Target,
    timeout: Option<Duration>,
    /// Set when the first session is opened.
    deadline: Option<Instant>,
    give_up: Option<Instant>,
    /// It was counted.
    counted: bool,
    /// A session in standby was of no use to it: it gets one of its own.
    own: bool,
    /// How often the connection was gone before the command had started.
    not_reached: u32,
    refused: u32,
    /// Why it is being tried again.
    reason: String,
}

/// A connection that is gone is replaced by another at once; one that fails as soon as it is there
/// is not worth many attempts.
const MOST_NOT_REACHED: u32 = 3;

impl Attempts {
    pub(crate) fn new(target: &Target, timeout: Option<Duration>) -> Self {
        Attempts {
            target: target.clone(),
            timeout,
            deadline: None,
            give_up: None,
            counted: false,
            own: false,
            not_reached: 0,
            refused: 0,
            reason: String::new(),
        }
    }

    pub(crate) fn host(&self) -> String {
        self.target.host().to_owned()
    }

    /// A session for the next attempt: one in standby, or else a new one.
    pub(crate) async fn session(
        &mut self,
        script: &Script,
        input: Input<'_>,
    ) -> Result<Running, Error> {
        loop {
            let lease = self.lease().await?;
            if let Input::Piped = input
                && let Err(after) = self.within(lease.connection().prove_input()).await
            {
                self.timed_out(&lease);
                let (host, partial) = (self.host(), Arc::default());
                return Err(Error::TimedOut { host, after, remote: Remote::Ended, partial });
            }
            let own = self.own || lease.connection().is_plain();
            let standby =
                if own { None } else { lease.standby(&self.target.as_host().login().variables) };
            let opened = match standby {
                Some(session) => Ok(session),
                None => {
                    lease.connection().open(script, input, &self.target.as_host().login().variables)
                }
            };
            match opened {
                Ok(session) => {
                    let first = !std::mem::replace(&mut self.counted, true);
                    lease.count(|stats| stats.commands_run += u64::from(first));
                    return Ok(Running::new(&self.target, lease, session));
                }
                Err(why) => self.not_opened(why, lease)?,
            }
        }
    }

    /// A lease for the next attempt.
    async fn lease(&mut self) -> Result<AttemptLease, Error> {
        let lease = match &self.target {
            Target::Lease(_, lease, _) => {
                if self.refused > 0 {
                    // Other connections are not for this command; the server frees a session a
                    // moment after its end.
                    let pause = Duration::from_millis(2 << self.refused.min(6));
                    tokio::time::sleep(pause).await;
                    self.check_patience()?;
                }
                AttemptLease::Callers(Arc::clone(lease))
            }
            Target::Pool(pool, host) => {
                let host = Arc::new(pool.resolve_here(host).await?);
                self.target = Target::Pool(pool.clone(), Arc::clone(&host));
                let Target::Pool(pool, host) = &self.target else {
                    unreachable!("it was set above")
                };
                let acquire = pool.core().acquire(host);
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
            // A time that cannot be worked out never comes.
            self.deadline = self.timeout.and_then(|timeout| now.checked_add(timeout));
            // A refusal is a kind of queueing. Even who does not want to queue gives the server a
            // moment to free a session.
            let patience = self.target.pool().config().acquire_timeout.max(Duration::from_secs(1));
            self.give_up =
                Some(self.deadline.map_or(now + patience, |deadline| deadline.min(now + patience)));
        }
        Ok(lease)
    }

    /// The command's time is over. Its connection may be to blame.
    pub(crate) fn timed_out(&self, lease: &AttemptLease) {
        lease.count(|stats| stats.commands_timed_out += 1);
        lease.suspect();
    }

    /// Runs this attempt's part within the command's timeout, or gives the timeout.
    pub(crate) async fn within<R>(&self, part: impl Future<Output = R>) -> Result<R, Duration> {
        match (self.deadline, self.timeout) {
            (Some(deadline), Some(timeout)) => {
                timeout_at(deadline, part).await.map_err(|_| timeout)
            }
            _ => Ok(part.await),
        }
    }

    /// What follows from the end of an attempt: `None` for another one, otherwise the status, or
    /// why it was lost.
    pub(crate) fn judge(
        &mut self,
        end: SessionEnd,
        running: Running,
    ) -> Result<Option<Result<ExitStatus, String>>, Error> {
        if let SessionEnd::ClientKilled(reason) = end {
            // Dropped, and so ended there too.
            return Ok(Some(Err(reason)));
        }
        let lease = running.ended();
        match end {
            SessionEnd::Exited(_) | SessionEnd::Killed => {
                lease.ran();
                if let AttemptLease::Callers(lease) = &lease {
                    lease.used();
                }
                Ok(Some(Ok(match end {
                    SessionEnd::Exited(code) => ExitStatus::exited(code),
                    _ => ExitStatus::killed(),
                })))
            }
            SessionEnd::Lost(reason) => {
                lease.ran();
                lease.broken();
                Ok(Some(Err(reason)))
            }
            SessionEnd::ClientKilled(_) => unreachable!("that was looked at first"),
            SessionEnd::NotBegun => {
                self.own = true;
                self.reason = "a shell ended before it had begun with the command".to_owned();
                Ok(None)
            }
            SessionEnd::Refused(reason) => {
                tracing::debug!(reason, "session refused; trying again");
                (self.reason, self.refused) = (reason, self.refused + 1);
                match lease {
                    AttemptLease::Own(lease) => lease.refused(),
                    AttemptLease::Callers(lease) => {
                        lease.count(|stats| stats.refused_sessions += 1)
                    }
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
    fn not_opened(&mut self, why: NotOpened, lease: AttemptLease) -> Result<(), Error> {
        match why {
            NotOpened::NoProcess(error) => {
                Err(Error::io(self.target.host(), "cannot start ssh", error))
            }
            NotOpened::NoDirectory(_) | NotOpened::Closing => {
                self.elsewhere(lease, why.to_string())
            }
        }
    }

    /// Another attempt, over another connection. Each costs the pool one that is of no use any
    /// more, so that they come to an end.
    fn elsewhere(&mut self, lease: AttemptLease, reason: String) -> Result<(), Error> {
        lease.broken();
        self.reason = reason;
        match lease {
            AttemptLease::Own(_) => Ok(()),
            AttemptLease::Callers(_) => Err(self.never_started()),
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
pub(crate) const LAST_WORDS: Duration = Duration::from_millis(100);

/// A stream that went over the limit.
pub(crate) struct Excess {
    pub stream: &'static str,
    pub limit: usize,
}

/// Gives a session its command and input, and reads it to its end. Without a limit what it writes
/// is thrown away.
pub(crate) async fn pump(
    running: &mut Running,
    script: &Script,
    input: &[u8],
    limit: Option<usize>,
    output: &mut PartialOutput,
) -> Result<SessionEnd, Excess> {
    let master = &*running.master();
    let (session, streams) = running.session_and_streams();
    let preface = streams.preface(script);
    let Streams { stdin, stdout, stderr, marker } = streams;
    let (out, err) = (&mut output.stdout, &mut output.stderr);
    let mut stdout =
        Capture { from: stdout, into: out, limit, name: "stdout", marker: marker.as_mut() };
    let mut stderr = Capture { from: stderr, into: err, limit, name: "stderr", marker: None };
    let end = {
        let feed = async {
            if let Some(stdin) = stdin {
                // A command need not read its input: that it closed the pipe is no failure.
                let _ = async {
                    stdin.write_all(preface).await?;
                    stdin.write_all(input).await
                }
                .await;
            }
            // The end of input.
            drop(stdin.take());
            Ok(())
        };
        let mut read = pin!(async { tokio::try_join!(feed, stdout.read(), stderr.read()) });
        tokio::select! {
            biased;
            end = session.wait(master) => {
                // The local ssh was killed, perhaps: then output may be on its way through the
                // master.
                if let SessionEnd::Lost(_) | SessionEnd::ClientKilled(_) = end {
                    drop(timeout(LAST_WORDS, read).await);
                }
                end
            }
            read = &mut read => {
                read?;
                session.wait(master).await
            }
        }
    };
    stdout.rest()?;
    stderr.rest()?;
    Ok(if stdout.has_begun() { end } else { session.not_begun(end, master) })
}

/// One stream of a command, read into memory.
struct Capture<'a, P> {
    from: &'a mut P,
    into: &'a mut Vec<u8>,
    /// Without one what comes is thrown away.
    limit: Option<usize>,
    name: &'static str,
    /// To be taken out. What comes before it is not thrown away.
    marker: Option<&'a mut Marker>,
}

impl<P: AsyncRead + AsFd + Unpin> Capture<'_, P> {
    /// Reads to the end.
    async fn read(&mut self) -> Result<(), Excess> {
        // A pipe does not fail; if it ever does, there is nothing more to come from it.
        while let Ok(1..) = self.from.read_buf(self.into).await {
            self.took()?;
        }
        Ok(())
    }

    /// Reads what is there, past the reactor, which may not have heard of it yet. Nothing more
    /// comes.
    fn rest(&mut self) -> Result<(), Excess> {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = nix::unistd::read(&*self.from, &mut buffer) {
            self.into.extend_from_slice(&buffer[..read]);
            self.took()?;
        }
        Ok(())
    }

    fn took(&mut self) -> Result<(), Excess> {
        let begun = self.marker.as_mut().is_none_or(|marker| marker.take_from(self.into));
        match self.limit {
            None if begun => self.into.clear(),
            None => self.marker.iter_mut().for_each(|marker| marker.forget(self.into)),
            // A part of the marker may be there.
            Some(limit) if self.into.len() > limit + if begun { 0 } else { Marker::LONGEST } => {
                self.into.truncate(limit);
                return Err(Excess { stream: self.name, limit });
            }
            _ => {}
        }
        Ok(())
    }

    fn has_begun(&self) -> bool {
        self.marker.as_ref().is_none_or(|marker| marker.was_found())
    }
}
