//! The task of a slot: it leads one connection from its login to its end, and is the only one that does.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::cell::Cell;
use super::{CLOSING, Connection, LENIENCY, Transport};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::Host;

/// A login keeps its place for so long at most: one that takes longer waits for somebody, and does not compute.
const PLACE: Duration = Duration::from_secs(1);

/// A slot with a task in it. Dropped, the slot is empty again, whatever became of the task.
pub(super) struct Slot<T: Transport> {
    cell: Arc<Cell<T>>,
    index: usize,
    host: Host,
    /// How the slot becomes empty: by a failure to connect, or just so.
    failure: Option<ConnectError>,
}

impl<T: Transport> Slot<T> {
    pub(super) fn new(cell: &Arc<Cell<T>>, index: usize, host: Host) -> Self {
        // What is left in place if the task is dropped before its login is over.
        let failure = ConnectError::new(
            ConnectErrorKind::Local,
            "the runtime that was connecting was shut down",
            Vec::new(),
        );
        Slot { cell: Arc::clone(cell), index, host, failure: Some(failure) }
    }

    fn becomes_empty(&mut self, failure: Option<ConnectError>) {
        self.failure = failure;
    }
}

impl<T: Transport> Drop for Slot<T> {
    fn drop(&mut self) {
        let index = self.index;
        match self.failure.take() {
            Some(error) => {
                let configuration = self.cell.transport.configuration(&self.host);
                self.cell.update(|state, now| state.connect_failed(index, error, configuration, now));
            }
            None => self.cell.update(|state, _| state.emptied(index)),
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

#[tracing::instrument(name = "connection", skip_all, fields(host = %slot.cell.key(), slot = slot.index))]
pub(super) async fn run<T: Transport>(mut slot: Slot<T>, mut retired: mpsc::UnboundedReceiver<Duration>) {
    let cell = Arc::clone(&slot.cell);
    let (index, config) = (slot.index, &cell.shared.config);
    let host = slot.host.clone();
    let connect = async {
        let _connecting = Connecting::new(&cell.shared.connecting);
        let place = Arc::clone(&cell.shared.logins).acquire_owned().await.expect("it is never closed");
        let started = Instant::now();
        let deadline = started + host.login().limit.unwrap_or(config.connect_timeout);
        let mut connect = pin!(timeout_at(deadline + LENIENCY, cell.transport.connect(&host, deadline)));
        tokio::select! {
            connected = &mut connect => return (connected, started),
            () = sleep(PLACE) => {}
        }
        drop(place);
        (connect.await, started)
    };
    let (connected, started) = tokio::select! {
        biased;
        // Closed before it was there. Nobody is to hear of a failure: those who waited were turned away.
        _ = retired.recv() => {
            slot.becomes_empty(None);
            return;
        }
        connected = connect => connected,
    };
    let connection = match connected {
        Ok(Ok(connection)) => Arc::new(connection),
        Ok(Err(error)) => {
            tracing::warn!(%error, "connect failed");
            slot.becomes_empty(Some(error));
            return;
        }
        Err(_) => {
            let limit = host.login().limit.unwrap_or(config.connect_timeout);
            let detail = format!("no connection within {limit:?}");
            let error = ConnectError::new(ConnectErrorKind::TimedOut, detail, Vec::new());
            slot.becomes_empty(Some(error));
            return;
        }
    };
    slot.becomes_empty(None);
    tracing::info!(elapsed = ?started.elapsed(), "connected");
    let asked = host.login().has_asked();
    cell.update(|state, now| state.connected(index, Arc::clone(&connection), asked, now, config));
    cell.shared.wake.notify_one();

    let patience = tokio::select! {
        biased;
        patience = retired.recv() => patience.unwrap_or_default(),
        reason = connection.ended() => {
            tracing::warn!(reason, "connection lost");
            cell.update(|state, _| state.lost(index, config));
            Duration::ZERO
        }
    };
    let mut deadline = Instant::now() + patience;
    loop {
        let patience = deadline.saturating_duration_since(Instant::now());
        tokio::select! {
            biased;
            Some(patience) = retired.recv() => deadline = deadline.min(Instant::now() + patience),
            closed = timeout(patience + CLOSING, connection.close(patience)) => {
                if closed.is_err() {
                    tracing::error!("the connection could not be ended in time; it is left to the guard");
                }
                tracing::info!("closed");
                return;
            }
        }
    }
}
