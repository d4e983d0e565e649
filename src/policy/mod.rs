//! The policy: who gets which connection, when one is made and when one goes.
//!
//! One [`Cell`] per pool key holds a [`state::KeyState`] behind a mutex; every change goes through
//! [`Cell::update`], which afterwards settles the state (free sessions to waiters, logins where
//! they are needed, refusals to callers whose time is over) and carries out what that asks for. One
//! task per slot leads a connection through its life; one task per pool looks after idle
//! connections.
//!
//! Nothing here knows what a connection is made of: it is generic over [`Transport`] and tested in
//! virtual time with a fake one.

mod backoff;
mod cell;
pub(crate) mod ledger;
mod maintenance;
mod slot;
mod standby;
mod state;
mod stats;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::timeout;

use crate::config::PoolConfig;
use crate::error::{ConnectError, ConnectErrorKind, Error};
use crate::host::{Host, PoolKey};
use crate::transport::{NotResolved, Sessions, Transport};

use cell::Cell;
pub(crate) use cell::Lease;
use ledger::Account;
pub(crate) use ledger::Ledger;
pub(crate) use state::Facts;
pub use stats::Stats;

/// All hosts of one pool.
pub(crate) struct Core<T: Transport> {
    pub(crate) transport: Arc<T>,
    shared: Arc<Shared>,
    /// A std mutex: held to look an entry up or to add one, never across an await.
    hosts: Mutex<Hosts<T>>,
}

struct Hosts<T: Transport> {
    closed: bool,
    cells: HashMap<PoolKey, Arc<Cell<T>>>,
    maintenance: Option<tokio::task::JoinHandle<()>>,
}

/// What all cells of a pool have in common.
pub(crate) struct Shared {
    pub(crate) config: PoolConfig,
    /// Failed logins; other pools can have it in common with this one.
    ledger: Arc<Ledger>,
    /// Wakes the maintenance task when there is a new connection to look after, or when the pool is
    /// dropped.
    wake: Notify,
    /// Places for logins, over all hosts: each costs this machine a tenth of a second of computing,
    /// and a hundred at once would all run into their timeouts.
    logins: Arc<Semaphore>,
    /// Logins under way, over all hosts.
    connecting: watch::Sender<usize>,
    /// Places for the opening of sessions ahead of need, over all hosts: it computes a good part of
    /// what a command does, and commands that are under way on other hosts come first.
    openings: Arc<Semaphore>,
    /// Places for the echoes that silent connections have to answer in a short time, over all
    /// hosts.
    echoes: Semaphore,
    /// Places for sessions in standby, over all hosts.
    standbys: Arc<Semaphore>,
}

/// What this machine bears, over all hosts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    /// Logins under way at once; the others wait for a place.
    pub logins: usize,
    /// Sessions in standby; where there is no place, none is opened.
    pub standbys: usize,
    /// Of these, so many are opened at once.
    pub openings: usize,
}

/// A transport keeps its deadlines by itself, and knows then how far it came. This much later we
/// stop believing that.
const LENIENCY: Duration = Duration::from_secs(1);
/// Echoes at once, over all hosts: each computes some milliseconds here, and has a short time.
const ECHOES: usize = 16;
/// A connection that ends within so long of its login, before anything of a caller has run on it,
/// is like a login that failed.
const YOUNG: Duration = Duration::from_secs(5);
/// How long the end of a connection may take once nothing is waited for any more.
const CLOSING: Duration = Duration::from_secs(5);
/// The longest patience when something is closed. Longer ones could not be added to a time.
const LONGEST_PATIENCE: Duration = Duration::from_secs(365 * 86_400);

impl<T: Transport> Core<T> {
    pub(crate) fn new(
        transport: T,
        config: PoolConfig,
        capacity: Capacity,
        ledger: Arc<Ledger>,
    ) -> Self {
        let places = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        let (logins, standbys) = (places(capacity.logins), places(capacity.standbys));
        let connecting = watch::Sender::new(0);
        let openings = places(capacity.openings);
        let (wake, echoes) = (Notify::new(), Semaphore::new(ECHOES));
        let shared =
            Shared { config, ledger, wake, logins, connecting, openings, echoes, standbys };
        let hosts = Hosts { closed: false, cells: HashMap::new(), maintenance: None };
        Core { transport: Arc::new(transport), shared: Arc::new(shared), hosts: Mutex::new(hosts) }
    }

    pub(crate) fn transport(&self) -> &T {
        &self.transport
    }

    /// The hosts of this key that connections were asked for, as they are reached.
    pub(crate) fn hosts(&self, key: &PoolKey) -> Vec<Host> {
        self.cell(key).map(|cell| cell.hosts()).unwrap_or_default()
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        &self.shared.config
    }

    /// This host as it is reached from its caller's place. Where nobody is connected to it, what a
    /// login goes by is looked at again.
    pub(crate) async fn resolve(&self, host: &Host) -> Result<Host, NotResolved> {
        if host.is_resolved() {
            return Ok(host.clone());
        }
        let resolved = self.transport.resolve(host).await?;
        match self.connections(&resolved).is_empty() {
            true => Ok(self.transport.refreshed(resolved).await),
            false => Ok(resolved),
        }
    }

    /// The same, for a caller in this process.
    pub(crate) async fn resolve_here(&self, host: &Host) -> Result<Host, Error> {
        self.resolve(host).await.map_err(|no| {
            let source = match no {
                NotResolved::Failed(error) => error,
                // Of our own place everything is known.
                NotResolved::Needs(_) => ConnectError::new(
                    ConnectErrorKind::Local,
                    "too little is known of the caller's place",
                    Vec::new(),
                ),
            };
            Error::Connect { host: host.name().to_owned(), source }
        })
    }

    /// Waits for the right to open one session on a connection to `host`.
    ///
    /// Cancel safe: a caller that goes away leaves the queue; a login that it caused goes on for
    /// the next one.
    pub(crate) async fn acquire(self: &Arc<Self>, host: &Host) -> Result<Lease<T>, Error> {
        self.cell_of(host)?.acquire(host).await
    }

    /// Waits for a connection to `host`, for what needs no session on it.
    ///
    /// Cancel safe, as [`acquire`](Self::acquire).
    pub(crate) async fn hold(self: &Arc<Self>, host: &Host) -> Result<Lease<T>, Error> {
        self.cell_of(host)?.hold(host).await
    }

    /// Where connections to this host are had.
    pub(crate) fn cell_of(self: &Arc<Self>, host: &Host) -> Result<Arc<Cell<T>>, Error> {
        let mut hosts = self.lock();
        if hosts.closed {
            return Err(Error::Closed { host: host.name().to_owned() });
        }
        if hosts.maintenance.as_ref().is_none_or(tokio::task::JoinHandle::is_finished) {
            hosts.maintenance = Some(tokio::spawn(maintenance::run(
                Arc::downgrade(self),
                Arc::clone(&self.shared),
            )));
        }
        let new = |key: &PoolKey| Cell::new(key.clone(), &self.transport, &self.shared);
        Ok(Arc::clone(hosts.cells.entry(host.key()).or_insert_with_key(new)))
    }

    /// What is known of the server of this host.
    pub(crate) fn sessions_known(&self, host: &Host) -> Sessions {
        let known = |cell: Arc<Cell<T>>| cell.sessions_known(host);
        self.cell(&host.key()).map(known).unwrap_or_default()
    }

    /// The connections to this host on which sessions can be opened, the one used last first.
    pub(crate) fn connections(&self, host: &Host) -> Vec<Arc<T::Connection>> {
        self.cell(&host.key()).map(|cell| cell.connections(host)).unwrap_or_default()
    }

    /// Gives the connections to this host to nobody any more, and closes each when what runs on it
    /// has ended. The next caller logs in anew. Hosts that share the key but no connections are not
    /// concerned.
    pub(crate) fn retire(&self, host: &Host) {
        if let Some(cell) = self.cell(&host.key()) {
            cell.update(|state, _| state.retire_all_of(host));
        }
    }

    /// What there is to tell of each connection, by key and slot.
    pub(crate) fn facts(&self) -> Vec<Facts<T::Connection>> {
        let mut all: Vec<_> = self.cells().iter().flat_map(|cell| cell.facts()).collect();
        all.sort_by(|a, b| (&a.key, a.slot).cmp(&(&b.key, b.slot)));
        all
    }

    /// Forgets the failures of this host's key and of its account: the next caller tries at once.
    pub(crate) fn reset(&self, host: &Host) {
        let key = host.key();
        if let Some(cell) = self.cell(&key) {
            cell.update(|state, _| state.reset());
        }
        self.shared.ledger.forget(Some(&Account::of(host)), &key);
    }

    /// Somebody has a connection, waits for one, or failed to get one not long ago.
    pub(crate) fn is_needed(&self) -> bool {
        self.cells().iter().any(|cell| cell.tenants() > 0)
    }

    /// The sum over all hosts.
    pub(crate) fn stats(&self) -> Stats {
        self.cells().iter().map(|cell| cell.stats()).sum()
    }

    /// One line per pool key, sorted. Hosts that share a key but no connections (another user, say)
    /// are one.
    pub(crate) fn stats_by_host(&self) -> std::collections::BTreeMap<PoolKey, Stats> {
        self.cells().iter().map(|cell| (cell.key().clone(), cell.stats())).collect()
    }

    /// Closes the connections of this key: queued callers are turned away, commands that run have
    /// `patience`.
    pub(crate) async fn close_host(&self, key: &PoolKey, patience: Duration) {
        let patience = patience.min(LONGEST_PATIENCE);
        self.shared.ledger.forget(None, key);
        if let Some(cell) = self.cell(key) {
            let closings = cell.close(patience);
            gone(&[(cell, closings)], patience).await;
        }
    }

    /// It was closed for good.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Closes everything, for good. Once begun it goes on by itself, and every caller waits for all
    /// of it.
    pub(crate) async fn close(self: &Arc<Self>, patience: Duration) {
        let patience = patience.min(LONGEST_PATIENCE);
        let cells: Vec<_> = {
            let mut hosts = self.lock();
            hosts.closed = true;
            hosts.cells.values().cloned().collect()
        };
        let close = |cell: Arc<Cell<T>>| {
            let closings = cell.close_for_good(patience);
            (cell, closings)
        };
        let cells: Vec<_> = cells.into_iter().map(close).collect();
        let core = Arc::clone(self);
        let rest = tokio::spawn(async move {
            gone(&cells, patience).await;
            core.transport.shutdown().await;
            core.shared.wake.notify_one();
        });
        // It fails when the runtime is shut down, and then there is nobody to wait.
        let _ = rest.await;
    }

    fn cell(&self, key: &PoolKey) -> Option<Arc<Cell<T>>> {
        self.lock().cells.get(key).cloned()
    }

    fn cells(&self) -> Vec<Arc<Cell<T>>> {
        self.lock().cells.values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hosts<T>> {
        // Nothing below panics half-way through a change.
        self.hosts.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Waits until what was closed is gone. The tasks that see to it can be in a runtime that nobody
/// drives: they are not waited for without end.
async fn gone<T: Transport>(cells: &[(Arc<Cell<T>>, u64)], patience: Duration) {
    let gone = async {
        for (cell, closings) in cells {
            cell.closed(*closings).await;
        }
    };
    let _ = timeout(patience + CLOSING * 2, gone).await;
}

impl<T: Transport> Drop for Core<T> {
    /// The last handle is gone: connections end at once, by their tasks.
    fn drop(&mut self) {
        for cell in self.cells() {
            cell.close_for_good(Duration::ZERO);
        }
        self.shared.wake.notify_one();
    }
}
