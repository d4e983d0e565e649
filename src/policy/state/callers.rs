//! The part of a key's state that concerns callers: those that are served at once, and those that
//! queue.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::slot::{Ready, SlotState};
use super::tenant::TenantId;
use super::{Grant, KeyState, Ticket, Waiter};
use crate::config::PoolConfig;
use crate::error::{ConnectErrorKind, Error};
use crate::host::{Caller, Host, Variables};
use crate::policy::cell::Lease;
use crate::policy::ledger::Account;
use crate::transport::{Configuration, Connection, Sessions, Transport};

impl<T: Transport> KeyState<T> {
    /// A session for a caller that has just come. A caller never overtakes the queue: a session can
    /// be free though others wait, when a rest is over and its alarm has not rung yet.
    pub(in crate::policy) fn take_at_once(
        &mut self,
        host: &Host,
        now: Instant,
    ) -> Option<Grant<T::Connection>> {
        let id = *self.by_identity.get(host.identity())?;
        if self.queued.contains(&id) {
            return None;
        }
        let grant =
            self.take_free(id, Ticket::MAX, &host.login().variables, host.login().caller, now)?;
        self.counters.pool_hits += 1;
        self.came(id, host);
        Some(grant)
    }

    /// A connection for a caller that needs no session: whatever runs there, it takes no room. None
    /// where there is none, or where it ends with a command.
    pub(in crate::policy) fn hold_at_once(
        &mut self,
        host: &Host,
        now: Instant,
    ) -> Option<Grant<T::Connection>> {
        let id = *self.by_identity.get(host.identity())?;
        let is_one = |ready: &Ready<T::Connection>| {
            ready.tenant == id
                && !ready.leaving
                && ready.yields_to.is_none()
                && !ready.is_suspect(now)
                && ready.sessions != Sessions::One
                && ready.connection.is_alive()
        };
        let there = self.slots.iter_mut().enumerate().filter_map(|(index, slot)| match slot {
            SlotState::Ready(ready) if is_one(ready) => Some((index, ready)),
            _ => None,
        });
        let (slot, ready) = there.max_by_key(|(_, ready)| ready.used)?;
        ready.holds += 1;
        ready.used = now;
        let generation = ready.generation;
        let connection = Arc::clone(&ready.connection);
        self.counters.pool_hits += 1;
        Some(Grant { slot, generation, connection, since: now, silent_for: Duration::ZERO })
    }

    /// Sessions in standby are for the tenant's last caller.
    fn came(&mut self, id: TenantId, host: &Host) {
        let tenant = self.tenants.get_mut(&id).expect("a tenant that somebody comes for is there");
        if tenant.variables != host.login().variables {
            tenant.variables = Arc::clone(&host.login().variables);
        }
        tenant.caller = host.login().caller;
    }

    /// A free session: where one is in standby for such a caller, and else on the connection that
    /// was used last, so that the others can grow idle.
    pub(super) fn take_free(
        &mut self,
        id: TenantId,
        ticket: Ticket,
        variables: &Variables,
        caller: Caller,
        now: Instant,
    ) -> Option<Grant<T::Connection>> {
        let (slot, ready) = self
            .slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| match slot {
                SlotState::Ready(ready)
                    if ready.tenant == id
                        && ready.has_room(now)
                        && ready.yields_to.is_none_or(|other| ticket < other)
                        && ready.connection.is_alive() =>
                {
                    Some((index, ready))
                }
                _ => None,
            })
            .max_by_key(|(_, ready)| (ready.has_standby(variables, caller), ready.used))?;
        let silent_for = match ready.leases {
            0 => now - ready.used.max(ready.proven),
            _ => Duration::ZERO,
        };
        ready.leases += 1;
        ready.untaken += 1;
        ready.used = now;
        ready.rests_until = None;
        // The first caller does not share the connection with the opening of a standby. There will
        // be one when the session is given back.
        self.refill = self.refill.filter(|refill| *refill != slot);
        Some(Grant {
            slot,
            generation: ready.generation,
            connection: Arc::clone(&ready.connection),
            since: now,
            silent_for,
        })
    }

    /// Joins the queue. A connection is made, if one is needed, by the `settle` that follows.
    pub(in crate::policy) fn enqueue(
        &mut self,
        host: &Host,
        sender: oneshot::Sender<Result<Lease<T>, Error>>,
        deadline: Instant,
        now: Instant,
        config: &PoolConfig,
        is_mended: bool,
    ) {
        let id = self.tenant_of(host, now);
        let is_unused = |slot: &SlotState<T::Connection>| {
            slot.tenant().is_none_or(|of| of != id) || slot.is_unused()
        };
        let is_unused = self.slots.iter().all(is_unused);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let tenant = self.tenants.get_mut(&id).expect("it is there since a moment ago");
        if is_unused && tenant.waiters.is_empty() {
            // No connection to the old address is in use, so the newest caller's address counts.
            tenant.host = host.clone();
            tenant.account = Account::of(host);
        }
        // Each caller brings its own ssh-agent.
        tenant.host.take_login_of(host);
        if is_mended {
            tenant.is_mended(now);
        }
        tenant.used_up = self.ledger.used_up(&tenant.account, &self.key, now);
        let place = tenant.waiters.len();
        let (variables, caller) = (Arc::clone(&host.login().variables), host.login().caller);
        let since = now;
        tenant.waiters.push_back(Waiter { sender, deadline, ticket, since, variables, caller });
        self.queued.insert(id);
        self.came(id, host);
        // Idle connections of other tenants make room for this caller.
        let idle =
            self.ready_ones().filter(|(_, ready)| ready.tenant != id && ready.is_unused()).count();
        let expected = self.expected(idle, now, config).get(&id).copied().unwrap_or_default();
        if !self.closed && expected * self.tenants[&id].sessions_each(config) > place {
            self.counters.pool_misses += 1;
        }
    }

    /// What could mend the failure for which a caller that has just come would be turned away.
    /// Nothing can where the account's failures are used up.
    pub(in crate::policy) fn watched(
        &self,
        host: &Host,
        now: Instant,
    ) -> Option<(ConnectErrorKind, Configuration)> {
        let tenant = self.tenants.get(self.by_identity.get(host.identity())?)?;
        let watched = tenant.watched(now)?;
        self.ledger.used_up(&tenant.account, &self.key, now).is_none().then_some(watched)
    }
}
