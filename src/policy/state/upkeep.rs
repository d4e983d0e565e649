//! The part of a key's state that concerns closing, and what is done from time to time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::transition::Event;
use super::{Action, KeyState, PATIENCE, SlotState};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::Host;
use crate::policy::maintenance::Depth;
use crate::transport::Transport;

impl<T: Transport> KeyState<T> {
    // ---- closing ----

    /// Closes every connection and turns the queue away.
    pub(in crate::policy) fn close(&mut self, patience: Duration) -> Vec<Action<T>> {
        for slot in 0..self.slots.len() {
            // An idle connection needs no patience: it has at most standbys that are ending.
            let unused = matches!(&self.slots[slot], SlotState::Ready(ready) if ready.is_unused());
            self.retire(slot, if unused { Duration::ZERO } else { patience });
        }
        let error = Error::Closed { host: self.key.name().to_owned() };
        let mut actions = Vec::new();
        for id in std::mem::take(&mut self.queued) {
            let tenant = self.tenants.get_mut(&id).expect("who queues is there");
            actions.extend(
                tenant.waiters.drain(..).map(|waiter| Action::Refuse(waiter.sender, error.clone())),
            );
        }
        self.reset();
        actions
    }

    pub(in crate::policy) fn close_for_good(&mut self, patience: Duration) -> Vec<Action<T>> {
        self.closed = true;
        self.close(patience)
    }

    /// How many connections were closed until now.
    pub(in crate::policy) fn closings(&self) -> u64 {
        self.closings
    }

    /// No connection is being ended that was among the first so many. Others may be.
    pub(in crate::policy) fn is_closed(&self, closings: u64) -> bool {
        !self
            .slots
            .iter()
            .any(|slot| matches!(slot, SlotState::Closing { number, .. } if *number < closings))
    }

    /// No caller gets the connections of this host any more, and each is closed at the end of its
    /// last lease. A login under way is given up. The next caller logs in again.
    pub(in crate::policy) fn retire_all_of(&mut self, host: &Host) {
        let Some(&id) = self.by_identity.get(host.identity()) else { return };
        for slot in 0..self.slots.len() {
            match &mut self.slots[slot] {
                SlotState::Connecting { tenant, .. } if *tenant == id => {
                    self.retire(slot, Duration::ZERO)
                }
                SlotState::Ready(ready) if ready.tenant == id => {
                    ready.leaving = true;
                    self.discarded.extend(ready.standbys.drain(..));
                    self.leaves(slot);
                }
                _ => {}
            }
        }
    }

    /// Closes a retired connection at the end of its last lease.
    pub(super) fn leaves(&mut self, slot: usize) {
        if let SlotState::Ready(ready) = &self.slots[slot]
            && ready.leaving
            && ready.is_unused()
        {
            self.retire(slot, Duration::ZERO);
        }
    }

    pub(super) fn retire(&mut self, slot: usize, patience: Duration) {
        if !matches!(self.slots[slot], SlotState::Empty) {
            self.transition(slot, Event::Retires { patience, failed_check: false });
        }
    }

    // ---- maintenance ----

    /// Connections whose last proof is too old; they are marked as being checked. A check of one
    /// that is in use does not slow its commands. Without it, a master process that was stopped
    /// would not be noticed.
    pub(in crate::policy) fn due_for_check(
        &mut self,
        now: Instant,
        config: &PoolConfig,
    ) -> Vec<(usize, u64, Arc<T::Connection>, Depth)> {
        if !config.health_checks {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let SlotState::Ready(ready) = slot
                && ready.checking.is_none()
                && let (depth, since) = ready.next_check()
                && since + config.health_check_interval <= now
            {
                ready.checking = Some(depth);
                due.push((index, ready.generation, Arc::clone(&ready.connection), depth));
            }
        }
        due
    }

    /// The result of a check. Commands that hold a lease may finish, because a failed check does
    /// not prove that they fail, too.
    ///
    /// `None` for a check that was given up half-way. Returns whether the answer counts: it does
    /// not where the connection was closed meanwhile.
    pub(in crate::policy) fn checked(
        &mut self,
        slot: usize,
        generation: u64,
        works: Option<bool>,
        depth: Depth,
        now: Instant,
    ) -> bool {
        let Some(ready) = self.ready(slot, generation) else {
            return false;
        };
        // Beside a local check a whole one may have begun, and that one is waited for.
        if ready.checking == Some(depth) {
            (ready.checking, ready.suspect_until) = (None, None);
        }
        match works {
            Some(true) if depth == Depth::Local => ready.answered = now,
            Some(true) => {
                ready.proven = now;
                self.counters.health_checks_passed += 1;
                // No standby was opened while it was a suspect.
                self.refill = Some(slot);
            }
            Some(false) => {
                let patience = if ready.is_unused() { Duration::ZERO } else { PATIENCE };
                self.transition(slot, Event::Retires { patience, failed_check: true });
            }
            None => {}
        }
        true
    }

    /// Retires connections that nobody has used for `idle_timeout`.
    pub(in crate::policy) fn retire_idle(&mut self, now: Instant, config: &PoolConfig) {
        for index in 0..self.slots.len() {
            if let SlotState::Ready(ready) = &self.slots[index]
                && ready.is_unused()
                && ready.used + config.idle_timeout <= now
            {
                self.retire(index, PATIENCE);
            }
        }
    }

    /// When the next connection may become idle for too long or due for a check. One that is in use
    /// cannot be idle for too long before a whole timeout has passed, so its release need not be
    /// reported.
    pub(in crate::policy) fn next_due(&self, now: Instant, config: &PoolConfig) -> Option<Instant> {
        self.slots
            .iter()
            .filter_map(|slot| match slot {
                SlotState::Ready(ready) => Some(ready),
                _ => None,
            })
            .map(|ready| {
                let idle_since = if ready.is_unused() { ready.used } else { now };
                let idle = idle_since + config.idle_timeout;
                if !config.health_checks || ready.checking.is_some() {
                    return idle;
                }
                let (_, since) = ready.next_check();
                idle.min(since + config.health_check_interval)
            })
            .min()
    }
}
