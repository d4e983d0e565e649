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
            // On one that nobody uses there is nothing to be patient with: standbys whose end is
            // still on its way.
            let unused = matches!(&self.slots[slot], SlotState::Ready(ready) if ready.leases == 0);
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

    /// The connections of this host are given to nobody any more, and each is closed at the end of
    /// its last lease. A login under way is given up. Who comes next logs in anew.
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

    /// Closes the connection if it is to go and nobody uses it any more.
    pub(super) fn leaves(&mut self, slot: usize) {
        if let SlotState::Ready(ready) = &self.slots[slot]
            && ready.leaving
            && ready.leases == 0
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

    /// Connections whose last proof is too old, marked as being checked. On one that is in use a
    /// check costs the commands nothing; without one nobody would notice a process of ours that is
    /// stopped.
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

    /// The result of a check. Who has a lease meanwhile may finish: that it does not work for us is
    /// not certain.
    ///
    /// `None` for a check that was given up half-way: then nothing is known. Says whether the
    /// answer counts: where the connection was closed meanwhile it does not.
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
                // Nobody opened any while it was a suspect.
                self.refill = Some(slot);
            }
            Some(false) => {
                let patience = if ready.leases == 0 { Duration::ZERO } else { PATIENCE };
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
                && ready.leases == 0
                && ready.used + config.idle_timeout <= now
            {
                self.retire(index, PATIENCE);
            }
        }
    }

    /// When the next connection may become idle for too long or due for a check. One that is in use
    /// now cannot before a whole timeout has passed, so that nobody has to tell when it is
    /// released.
    pub(in crate::policy) fn next_due(&self, now: Instant, config: &PoolConfig) -> Option<Instant> {
        self.slots
            .iter()
            .filter_map(|slot| match slot {
                SlotState::Ready(ready) => Some(ready),
                _ => None,
            })
            .map(|ready| {
                let idle_since = if ready.leases == 0 { ready.used } else { now };
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
