//! A command under way, and its end before its time.
//!
//! A [`Running`] owns what one attempt has: its lease, its session, the session's streams. Either
//! the session ends, and [`ended`](Running::ended) gives the lease back to go on with; or the
//! command is given up, by [`end`](Running::end) or by dropping the `Running`, and then the remote
//! process group is ended too. That is the work of a task, so that nobody's going away stops it;
//! lease and session stay until it is over, so that the session is counted for as long as the
//! server has it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::Instrument;

use super::Target;
use super::attempts::AttemptLease;
use crate::error::{Error, Remote};
use crate::policy::Lease;
use crate::transport::{
    Connection, ENDING, Group, NotEnded, Script, Session as _, SessionEnd, Sessions, Streams,
    Transport,
};

/// How long a shell that has not begun with its command is waited for: it may have the command
/// already.
const BEGINS: Duration = Duration::from_secs(1);
/// Between two rounds over the connections of a host that have no session to spare.
const ROUND: Duration = Duration::from_millis(50);
/// How long the search for a session may take, before the ending over it begins.
pub(super) const SEARCH: Duration = Duration::from_secs(2);
const NO_SESSION: &str = "there was no session to end it over";
/// A session that is about to become free is so after that time. What is refused longer may be for
/// want of the session that is to be ended.
const FUTILE: Duration = Duration::from_millis(500);

/// The session of a transport.
pub(super) type SessionOf<T> = <<T as Transport>::Connection as Connection>::Session;

pub(super) struct Running<T: Transport> {
    /// There until it has ended or is being ended.
    parts: Option<Parts<T>>,
}

struct Parts<T: Transport> {
    target: Target<T>,
    lease: AttemptLease<T>,
    session: SessionOf<T>,
    /// Here until somebody else reads them.
    streams: Option<Streams>,
    /// Nothing follows its text in the input, which ends there.
    input_ends: bool,
    /// Where it began. It may be given up where there is no runtime.
    runtime: Handle,
}

impl<T: Transport> Running<T> {
    pub(super) fn new(
        target: &Target<T>,
        lease: AttemptLease<T>,
        mut session: SessionOf<T>,
        script: &Script,
        again: bool,
    ) -> Self {
        let of_one = if again { session.streams_of_one(script) } else { None };
        let input_ends = again && of_one.is_none();
        let streams = Some(of_one.unwrap_or_else(|| session.take_streams()));
        let (target, runtime) = (target.clone(), Handle::current());
        Running { parts: Some(Parts { target, lease, session, streams, input_ends, runtime }) }
    }

    fn parts(&mut self) -> &mut Parts<T> {
        self.parts.as_mut().expect("it is there until it has ended")
    }

    pub(super) fn connection(&self) -> Arc<T::Connection> {
        Arc::clone(self.lease().connection())
    }

    pub(super) fn lease(&self) -> &AttemptLease<T> {
        &self.parts.as_ref().expect("it is there until it has ended").lease
    }

    /// Waits for the end of the session.
    ///
    /// Cancel safe.
    pub(super) async fn end_of_session(&mut self) -> SessionEnd {
        let connection = self.connection();
        self.parts().session.wait(&connection).await
    }

    /// Whether nothing follows its text in the input.
    pub(super) fn input_ends(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.input_ends)
    }

    /// The session and its streams, which stay here.
    pub(super) fn session_and_streams(&mut self) -> (&mut SessionOf<T>, &mut Streams) {
        let Parts { session, streams, .. } = self.parts();
        (session, streams.as_mut().expect("they are here until the command has begun"))
    }

    /// The streams, to be read elsewhere: the command has begun.
    pub(super) fn take_streams(&mut self) -> Streams {
        self.parts().streams.take().expect("they are taken once")
    }

    /// Its session has ended.
    pub(super) fn ended(mut self) -> AttemptLease<T> {
        let Parts { target, lease, session, streams, .. } =
            self.parts.take().expect("it is there until it has ended");
        drop(streams);
        if session.goes_on() {
            lease.keep(session, target.host().login());
        }
        lease
    }

    /// Ends it here and there, and says whether nothing is left there.
    ///
    /// Cancel safe: dropped, the ending goes on.
    pub(super) async fn end(mut self) -> Remote {
        let ending = self.give_up().expect("it is there until it has ended");
        // It fails only with its runtime.
        ending
            .await
            .unwrap_or_else(|_| Remote::may_live_on("the runtime that it ran in was shut down"))
    }

    fn give_up(&mut self) -> Option<JoinHandle<Remote>> {
        let parts = self.parts.take()?;
        let runtime = Handle::try_current().unwrap_or_else(|_| parts.runtime.clone());
        let span = tracing::debug_span!("ending", host = %parts.target.host().key());
        Some(runtime.spawn(parts.end().instrument(span)))
    }
}

impl<T: Transport> Drop for Running<T> {
    fn drop(&mut self) {
        drop(self.give_up());
    }
}

impl<T: Transport> Parts<T> {
    async fn end(mut self) -> Remote {
        let remote = self.end_remote().await;
        match &remote {
            Remote::Ended => tracing::debug!("the remote command was ended"),
            Remote::MayLiveOn(reason) => tracing::warn!(%reason, "the remote command may live on"),
        }
        remote
    }

    async fn end_remote(&mut self) -> Remote {
        if self.session.group() == Group::NotBegun {
            self.begins().await;
        }
        if !self.session.is_there() {
            // Where somebody has killed the local ssh only, the command runs on.
            let end = self.session.wait(self.lease.connection()).await;
            match end {
                SessionEnd::ClientKilled(_) | SessionEnd::Lost(_) => {}
                _ => return Remote::Ended,
            }
        }
        let group = match self.session.group() {
            Group::Known(group) => group,
            Group::Gone => return Remote::Ended,
            _ if !self.session.tells_begin() => {
                return Remote::may_live_on("without a POSIX shell its process group is not known");
            }
            Group::NotBegun => {
                return Remote::may_live_on("its shell has not told that it has begun");
            }
            Group::None => {
                return Remote::may_live_on(
                    "the server gives commands no process group of their own",
                );
            }
        };
        let deadline = Instant::now() + SEARCH + ENDING;
        let mut heard = None;
        match timeout_at(deadline, self.signal(group, &mut heard)).await {
            Ok(Ok(())) => Remote::Ended,
            Ok(Err(reason)) => Remote::may_live_on(reason),
            Err(_) => Remote::may_live_on(
                heard.unwrap_or_else(|| "there was no session to end it over".to_owned()),
            ),
        }
    }

    /// Waits a moment for the beginning of a command that has not begun. It gets no more input.
    async fn begins(&mut self) {
        let Some(Streams { stdin, stdout, .. }) = &mut self.streams else { return };
        drop(stdin.take());
        let mut output = Vec::new();
        // What it prints meanwhile is for nobody.
        let search = stdout.begun(&mut output, |output| {
            output.clear();
            Ok::<_, std::convert::Infallible>(())
        });
        let _ = timeout(BEGINS, search).await;
    }

    /// Ends the group over its own connection or, where that is not possible, over another one to
    /// the same host. `heard` is why the last one that was tried could not do it, if it was not for
    /// want of a session.
    async fn signal(&mut self, group: i32, heard: &mut Option<String>) -> Result<(), String> {
        let (own, host) = (self.lease.connection(), self.target.host());
        let core = self.target.core();
        let any = |_: &SessionOf<T>| true;
        let mut standby = self.lease.standby(host.login(), any);
        let began = Instant::now();
        // Where the server has none to spare, one is queued for as every caller does: the next that
        // becomes free, or another connection.
        let (mut queue, mut queued) = (pin!(core.acquire(host)), false);
        let mut found: Option<Result<Lease<T>, Error>> = None;
        loop {
            let (mut refused, mut asked_another) = (false, false);
            let is_reserved = matches!(found, Some(Ok(_)));
            let others = core.connections(host);
            let others = others.iter().filter(|other| !Arc::ptr_eq(other, own));
            for connection in std::iter::once(own).chain(others) {
                asked_another |= !Arc::ptr_eq(connection, own);
                // Where the server has one session to spare it may be the one in standby.
                let over = match &found {
                    Some(Ok(found)) if Arc::ptr_eq(found.connection(), connection) => {
                        found.standby(host.login(), any)
                    }
                    _ => standby.take(),
                };
                // Another session could end what else runs there.
                let is_ours = matches!(&found, Some(Ok(found))
                    if Arc::ptr_eq(found.connection(), connection) && found.opens());
                if over.is_none() && !is_ours && connection.sessions() != Sessions::Several {
                    refused = true;
                    continue;
                }
                match connection.end_groups(over, &[group]).await {
                    Ok(()) => return Ok(()),
                    Err(NotEnded::StillThere(reason)) => return Err(reason.to_owned()),
                    Err(NotEnded::Refused) => {
                        if Arc::ptr_eq(connection, own) {
                            self.lease.full();
                        }
                        refused = true;
                    }
                    // While a session is queued for, it is the want of one that is told.
                    Err(NotEnded::NotHere(_)) if queued && !is_reserved => {}
                    Err(NotEnded::NotHere(why)) => *heard = Some(why),
                }
            }
            queued |= refused;
            if queued && !is_reserved {
                *heard = None;
                if began.elapsed() > FUTILE {
                    self.lease.useless();
                }
            }
            // The connection on which a session was found is asked before this is given up.
            let is_over = match &found {
                None => !queued,
                Some(Ok(found)) => asked_another || Arc::ptr_eq(found.connection(), own),
                Some(Err(_)) => true,
            };
            if !refused && is_over {
                return Err(heard.take().unwrap_or_else(|| NO_SESSION.to_owned()));
            }
            let is_own = |found: &mut Result<Lease<T>, Error>| {
                found.as_ref().is_ok_and(|found| Arc::ptr_eq(found.connection(), own))
            };
            if refused && let Some(Ok(found)) = found.take_if(is_own) {
                // The server had less room there than was known. Another one is queued for.
                found.refused();
                queue.set(core.acquire(host));
            }
            tokio::select! {
                lease = &mut queue, if found.is_none() => found = Some(lease),
                () = sleep(ROUND) => {}
            }
        }
    }
}
