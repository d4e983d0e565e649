//! The part of a key's state that the task of a slot reports to: how its login went, and how its
//! connection ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::KeyState;
use super::fruitless::{MOST_DOUBTS, fruitless};
use super::slot::SlotState;
use super::transition::Event;
use crate::config::PoolConfig;
use crate::error::ConnectError;
use crate::transport::{Configuration, Transport};

impl<T: Transport> KeyState<T> {
    /// The login succeeded. Where the slot was closed meanwhile, the task hears of that and closes
    /// the connection.
    pub(in crate::policy) fn connected(
        &mut self,
        slot: usize,
        connection: Arc<T::Connection>,
        asked: bool,
        took: Duration,
        now: Instant,
        config: &PoolConfig,
    ) {
        if let Some(tenant) = self.slots[slot].tenant().and_then(|id| self.tenants.get_mut(&id)) {
            tenant.succeeded();
            tenant.pace.has_logged_in(took, now);
        }
        let tenant = self.slots[slot].tenant().and_then(|id| self.tenants.get(&id));
        let limit = tenant.map_or(1, |tenant| tenant.sessions_each(config));
        self.transition(slot, Event::LoginSucceeds { connection, asked, limit, now });
        if let SlotState::Ready(_) = self.slots[slot] {
            self.refill = Some(slot);
            self.knows_server(slot, now);
        }
    }

    pub(in crate::policy) fn connect_failed(
        &mut self,
        slot: usize,
        error: ConnectError,
        watched: Option<Configuration>,
        now: Instant,
    ) {
        let tenant = self.slots[slot].tenant();
        self.transition(slot, Event::LoginFails);
        if let Some(tenant) = tenant.and_then(|id| self.tenants.get_mut(&id)) {
            let used_up = self.ledger.used_up(&tenant.account, &self.key, now);
            tenant.failed(error, watched, used_up, self.next_ticket, now);
        }
    }

    /// Forgets the failures of all tenants: the next caller tries a login.
    pub(in crate::policy) fn reset(&mut self) {
        self.tenants.values_mut().for_each(|tenant| tenant.reset());
        self.forget_servers();
        self.quiet.extend(self.tenants.keys());
    }

    /// The connection ended by itself. The end of an idle one counts as a failed health check, for
    /// a check would have found it. `is_counted`: the server closed it before anything ran on it.
    pub(in crate::policy) fn lost(
        &mut self,
        slot: usize,
        reason: &str,
        is_counted: bool,
        now: Instant,
        config: &PoolConfig,
    ) {
        let (mut was_fruitless, mut failed_check) = (None, false);
        // What is learned by it is no failure.
        let tells = self.has_ended(slot, now);
        if let SlotState::Ready(ready) = &self.slots[slot]
            && !tells
        {
            let (tenant, generation) = (ready.tenant, ready.generation);
            failed_check = ready.is_unused() && config.health_checks;
            if is_counted || (ready.is_fruitless(now) && ready.is_unused()) {
                was_fruitless = Some(tenant);
            } else if ready.is_fruitless(now) {
                self.doubts.push_back((generation, tenant));
                if self.doubts.len() > MOST_DOUBTS {
                    self.quiet.extend(self.doubts.pop_front().map(|(_, tenant)| tenant));
                }
            }
        }
        self.transition(slot, Event::Retires { patience: Duration::ZERO, failed_check });
        if let Some(tenant) = was_fruitless {
            let error = fruitless(reason);
            self.was_fruitless(tenant, if is_counted { error.dropped() } else { error }, now);
        }
    }

    /// Nothing is left in the slot.
    pub(in crate::policy) fn emptied(&mut self, slot: usize) {
        self.transition(slot, Event::TaskEnds);
    }
}
