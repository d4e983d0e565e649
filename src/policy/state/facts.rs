//! Facts and statistics about the connections of a key.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::KeyState;
use super::slot::{Ready, SlotState};
use crate::host::{Host, PoolKey};
use crate::policy::Stats;
use crate::transport::{Connection, Sessions, Transport};

/// Facts about one connection.
pub(crate) struct Facts<C> {
    pub key: PoolKey,
    pub slot: usize,
    pub connection: Arc<C>,
    pub age: Duration,
    /// How long it has been idle; `None` while it is in use.
    pub idle: Option<Duration>,
    pub sessions: usize,
    pub standby: usize,
    /// The number of sessions that may be open at once, as far as the server has told.
    pub limit: usize,
}

impl<T: Transport> KeyState<T> {
    /// The live connections that serve this host, the one used last first.
    pub(in crate::policy) fn connections(&self, host: &Host) -> Vec<Arc<T::Connection>> {
        let Some(&id) = self.by_identity.get(host.identity()) else { return Vec::new() };
        let is_wanted = |ready: &&Ready<T::Connection>| {
            ready.tenant == id && !ready.leaving && ready.connection.is_alive()
        };
        let mut ready: Vec<_> =
            self.ready_ones().map(|(_, ready)| ready).filter(is_wanted).collect();
        ready.sort_by_key(|ready| std::cmp::Reverse(ready.used));
        ready.into_iter().map(|ready| Arc::clone(&ready.connection)).collect()
    }

    /// Facts about each connection, by slot.
    pub(in crate::policy) fn facts(&self, now: Instant) -> Vec<Facts<T::Connection>> {
        let facts = |(slot, of): (usize, &SlotState<T::Connection>)| match of {
            SlotState::Ready(ready) => Some(Facts {
                key: self.key.clone(),
                slot,
                connection: Arc::clone(&ready.connection),
                age: now.saturating_duration_since(ready.made),
                idle: ready.is_unused().then(|| now.saturating_duration_since(ready.used)),
                sessions: ready.leases,
                standby: ready.standbys.len(),
                limit: if ready.sessions == Sessions::One { 1 } else { ready.limit },
            }),
            _ => None,
        };
        self.slots.iter().enumerate().filter_map(facts).collect()
    }

    pub(in crate::policy) fn stats(&self) -> Stats {
        let mut stats = self.counters;
        let waiters = self.queued.iter().flat_map(|id| &self.tenants[id].waiters);
        stats.waiting = waiters.filter(|waiter| !waiter.sender.is_closed()).count();
        stats.connecting = self.connecting();
        for slot in &self.slots {
            if let SlotState::Ready(ready) = slot {
                stats.total_connections += 1;
                stats.open_sessions += ready.leases;
                stats.standby_sessions += ready.standbys.len();
                stats.plain_connections += usize::from(ready.connection.is_plain());
                if ready.is_unused() {
                    stats.idle_connections += 1;
                } else {
                    stats.active_connections += 1;
                }
            }
        }
        stats
    }

    fn connecting(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, SlotState::Connecting { .. })).count()
    }
}
