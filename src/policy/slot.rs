//! The task of a slot: it leads one connection from its login to its end, and is the only one that
//! does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::Instrument;

use super::cell::Cell;
use super::ledger::{Place, Sort};
use super::standby::Standby;
use super::{CLOSING, LENIENCY};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::Host;
use crate::transport::{Configuration, Connection, Sessions, Transport};

/// A login keeps its place for so long at most: one that takes longer waits for somebody, and does
/// not compute.
const PLACE: Duration = Duration::from_secs(1);

/// A connection on which nothing has run keeps its place in the ledger for so long at most. A
/// server that takes logins and drops them does so sooner.
const PROBATION: Duration = Duration::from_secs(10);
/// How often it is looked at until then.
const LOOK: Duration = Duration::from_millis(250);
/// From the end of a connection until its reason is known.
const NEWS: Duration = Duration::from_millis(200);

/// A slot with a task in it. Dropped, the slot is empty again, whatever became of the task.
pub(super) struct Slot<T: Transport> {
    cell: Arc<Cell<T>>,
    index: usize,
    host: Host,
    /// What is known of its server.
    sessions: Sessions,
    /// The login's place in the ledger, as long as it may still count as a failed one.
    place: Option<Place>,
    /// How the slot becomes empty: by a failure to connect, or just so; and what could mend the
    /// failure.
    failure: Option<(ConnectError, Option<Configuration>)>,
}

impl<T: Transport> Slot<T> {
    pub(super) fn new(
        cell: &Arc<Cell<T>>,
        index: usize,
        host: Host,
        place: Place,
        sessions: Sessions,
    ) -> Self {
        // What is left in place if the task is dropped before its login is over.
        let failure = ConnectError::new(
            ConnectErrorKind::Local,
            "the runtime that was connecting was shut down",
            Vec::new(),
        );
        Slot {
            cell: Arc::clone(cell),
            index,
            host,
            sessions,
            place: Some(place),
            failure: Some((failure, None)),
        }
    }

    /// The login has failed. What could mend that is looked at, so that a change can be seen.
    async fn fails(mut self, error: ConnectError) {
        let mut watched = None;
        if error.is_watched() {
            let look = self.cell.transport.configuration(&self.host, error.kind());
            watched = timeout(LENIENCY, look).await.ok();
        }
        self.failure = Some((error, watched));
    }

    fn has_not_failed(&mut self) {
        self.failure = None;
    }

    /// The login has counted as a failed one, or will not any more.
    fn settles(&mut self, failed: Option<Sort>) {
        match (self.place.take(), failed) {
            (Some(place), Some(sort)) => place.failed(sort, Instant::now()),
            (place, _) => drop(place),
        }
    }
}

impl<T: Transport> Drop for Slot<T> {
    fn drop(&mut self) {
        let index = self.index;
        match self.failure.take() {
            Some((error, watched)) => {
                if let Some(place) = self.place.as_ref().filter(|_| error.is_busy()) {
                    place.was_too_many(Instant::now());
                }
                let sort = if error.is_dropped() { Sort::Dropped } else { Sort::Refused };
                self.settles(error.is_counted().then_some(sort));
                self.cell.update(|state, now| state.connect_failed(index, error, watched, now));
            }
            None => {
                self.settles(None);
                self.cell.update(|state, _| state.emptied(index));
            }
        }
        self.cell.emptied();
    }
}

/// A login, counted as long as it is under way.
struct Connecting<'a>(&'a watch::Sender<usize>);

impl<'a> Connecting<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Connecting(count)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

pub(super) fn run<T: Transport>(
    slot: Slot<T>,
    retired: mpsc::UnboundedReceiver<Duration>,
) -> impl Future<Output = ()> {
    // Not below the span of the command that it is made for: others use it after that.
    let span = tracing::info_span!(
        parent: None, "connection", host = %slot.cell.key(), slot = slot.index
    );
    lead(slot, retired).instrument(span)
}

async fn lead<T: Transport>(mut slot: Slot<T>, mut retired: mpsc::UnboundedReceiver<Duration>) {
    let cell = Arc::clone(&slot.cell);
    let (index, config, sessions) = (slot.index, &cell.shared.config, slot.sessions);
    let host = slot.host.clone();
    // In a box of its own, as the closing is: a task is as large as the largest thing it waits for,
    // and most of its time it waits for the end.
    let connect = Box::pin(async {
        let _connecting = Connecting::new(&cell.shared.connecting);
        // Before there is a place: that may be what a login on the way needs.
        let way = match cell.transport.way(&host).await {
            Ok(way) => way,
            Err(error) => return (Ok(Err(error)), Instant::now()),
        };
        let place =
            Arc::clone(&cell.shared.logins).acquire_owned().await.expect("it is never closed");
        let started = Instant::now();
        let deadline = started + host.login().limit.unwrap_or(config.connect_timeout);
        let login = cell.transport.connect(&host, way, deadline, sessions);
        let mut connect = pin!(timeout_at(deadline + LENIENCY, login));
        tokio::select! {
            connected = &mut connect => return (connected, started),
            () = sleep(PLACE) => {}
        }
        drop(place);
        (connect.await, started)
    });
    let (connected, started) = tokio::select! {
        biased;
        // Closed before it was there. Nobody is to hear of a failure: those who waited were turned
        // away.
        _ = retired.recv() => {
            slot.has_not_failed();
            return;
        }
        connected = connect => connected,
    };
    let connection = match connected {
        Ok(Ok(connection)) => Arc::new(connection),
        Ok(Err(error)) => {
            tracing::warn!(%error, "connect failed");
            return slot.fails(error).await;
        }
        Err(_) => {
            let limit = host.login().limit.unwrap_or(config.connect_timeout);
            let detail = format!("no connection within {limit:?}");
            let error = ConnectError::new(ConnectErrorKind::TimedOut, detail, Vec::new());
            return slot.fails(error).await;
        }
    };
    slot.has_not_failed();
    if connection.has_run() {
        slot.settles(None);
    } else if let Some(place) = &mut slot.place {
        place.is_in();
    }
    let took = started.elapsed();
    tracing::info!(elapsed = ?took, "connected");
    let asked = host.login().has_asked();
    let first = Standby::first(&*connection, &cell.shared.standbys);
    cell.update(|state, now| {
        state.connected(index, Arc::clone(&connection), asked, took, now, config);
        state.proven_by(index, first, config);
    });
    cell.shared.wake.notify_one();

    let probation = Instant::now() + PROBATION;
    let patience = loop {
        tokio::select! {
            biased;
            patience = retired.recv() => {
                // Who has found it broken was quicker than the news of its end, which tells whose
                // doing that was.
                if connection.has_run() || connection.is_alive() {
                    slot.settles(None);
                }
                break patience.unwrap_or_default();
            }
            end = connection.ended() => {
                tracing::warn!(reason = end.reason, "connection lost");
                // Where it may end with its command, that has not told of its end yet.
                let may_be = connection.sessions() != Sessions::Several;
                let is_its_end = may_be && cell.is_leased(index);
                let is_dropped = end.by_server && !connection.has_run() && !is_its_end;
                let is_counted = slot.place.is_some() && is_dropped;
                slot.settles(is_counted.then_some(Sort::Dropped));
                cell.update(|state, now| state.lost(index, &end.reason, is_counted, now, config));
                break Duration::ZERO;
            }
            () = sleep(LOOK), if slot.place.is_some() => {
                if connection.has_run() || probation <= Instant::now() {
                    slot.settles(None);
                }
            }
        }
    };
    let mut deadline = Instant::now() + patience;
    loop {
        let patience = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            Some(patience) = retired.recv() => deadline = deadline.min(Instant::now() + patience),
            closed = timeout(patience + CLOSING, Box::pin(connection.close(patience))) => {
                if closed.is_err() {
                    tracing::error!("the connection could not be ended in time; it is left to the guard");
                }
                tracing::info!("closed");
                if slot.place.is_some()
                    && let Ok(end) = timeout(NEWS, connection.ended()).await
                    && end.by_server
                {
                    slot.settles(Some(Sort::Dropped));
                }
                return;
            }
        }
    }
}
