//! The decision: who gets a session, for whom a login is begun, whose connection makes room, and
//! who is turned away.
//!
//! Tenants compete for the slots of the key. A claim is a login that a queue needs, with the ticket
//! of the waiter that it would serve. Claims are served in the order of their tickets: by an empty
//! slot; by one whose connection is being closed; by closing the connection of another tenant that
//! has been idle for longest; and where none is idle, by one that yields.
//!
//! A connection that is in use yields only to a tenant that has none, or fewer even after that:
//! otherwise two busy tenants would take connections from each other without end. It still serves
//! the waiters of its tenant that came before the one it yields to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::slot::Phase;
use super::transition::Event;
use super::{Action, KeyState, Ready, SlotState, TenantId, Ticket, Waiter};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::policy::ledger::Answer;
use crate::transport::{Sessions, Transport};

/// So long a caller waits for a server that has dropped logins because we had too many at once.
const BUSY: Duration = Duration::from_secs(10);

/// A login that a queue needs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    /// Of the first waiter that would be served by it.
    ticket: Ticket,
    tenant: TenantId,
}

impl<T: Transport> KeyState<T> {
    pub(in crate::policy) fn settle(
        &mut self,
        now: Instant,
        config: &PoolConfig,
    ) -> Vec<Action<T>> {
        let mut actions = Vec::new();
        if std::mem::take(&mut self.has_left) {
            self.queues().into_iter().for_each(|id| self.forget_the_gone(id));
        }
        if self.closed && !self.queued.is_empty() {
            actions = self.close(Duration::ZERO);
        }
        self.try_servers(now, &mut actions);
        if !self.queued.is_empty() || self.yielding {
            self.serve(now, config, &mut actions);
        }
        actions.extend(self.refill(now, config));
        self.forget_the_quiet();
        if !self.discarded.is_empty() {
            actions.push(Action::Discard(std::mem::take(&mut self.discarded)));
        }
        actions
    }

    /// Serves the callers that wait.
    fn serve(&mut self, now: Instant, config: &PoolConfig, actions: &mut Vec<Action<T>>) {
        for id in &self.queued {
            let tenant = self.tenants.get_mut(id).expect("who queues is there");
            tenant.used_up = self.ledger.used_up(&tenant.account, &self.key, now);
        }
        // A connection that need not yield any more may serve those who waited meanwhile. Each
        // round has fewer that yield.
        for _ in 0..=self.slots.len() {
            self.grant(now, actions);
            self.begin_logins(now, config, actions);
            self.refuse_the_hopeless(now, actions);
            self.refuse_the_overdue(now, config, actions);
            if !self.choose_who_yields(now, config) {
                break;
            }
        }
        // A rest or a back-off ends without anybody's doing.
        if !self.queued.is_empty()
            && let Some(instant) = self.next_change(now, config)
            && self.alarm.is_none_or(|alarm| alarm <= now || alarm > instant)
        {
            self.alarm = Some(instant);
            actions.push(Action::SettleAt(instant));
        }
    }

    /// The tenants that have callers in their queues.
    fn queues(&self) -> Vec<TenantId> {
        self.queued.iter().copied().collect()
    }

    /// Gives free sessions to the callers that came first.
    fn grant(&mut self, now: Instant, actions: &mut Vec<Action<T>>) {
        for id in self.queues() {
            while let Some(first) = self.tenants[&id].waiters.front()
                && let (ticket, caller) = (first.ticket, first.caller)
                && let variables = Arc::clone(&first.variables)
                && let Some(grant) = self.take_free(id, ticket, &variables, caller, now)
            {
                let tenant = self.tenants.get_mut(&id).expect("it was there a line ago");
                let waiter = tenant.waiters.pop_front().expect("it was not empty a line ago");
                actions.push(Action::Grant(waiter.sender, grant));
            }
            self.forget_the_served(id);
        }
    }

    /// A tenant without a connection and without a login under way has to wait before it may try
    /// again: its callers are refused, with the last failure.
    fn refuse_the_hopeless(&mut self, now: Instant, actions: &mut Vec<Action<T>>) {
        for id in self.queues() {
            let nothing_there =
                self.slots.iter().all(|slot| slot.tenant() != Some(id) || slot.is_unused());
            let tenant = self.tenants.get_mut(&id).expect("who queues is there");
            if nothing_there && tenant.backs_off(now) {
                let is_busy = tenant.is_busy() && self.ledger.is_crowded(&tenant.account, now);
                for waiter in std::mem::take(&mut tenant.waiters) {
                    // A server that had too many of our logins at once takes them a little later.
                    if is_busy && now < waiter.deadline.min(waiter.since + BUSY) {
                        tenant.waiters.push_back(waiter);
                        continue;
                    }
                    let Some(source) = tenant.last_failure(waiter.ticket, now) else {
                        tenant.waiters.push_back(waiter);
                        continue;
                    };
                    let host = tenant.host.name().to_owned();
                    actions.push(Action::Refuse(waiter.sender, Error::Connect { host, source }));
                }
            }
            self.forget_the_served(id);
        }
    }

    /// The logins that the queues need, in the order in which their waiters have come.
    fn claims(&self, now: Instant, config: &PoolConfig) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (&tenant, of) in self.queued.iter().map(|id| (id, &self.tenants[id])) {
            let connecting = self.connecting_for(tenant);
            // A check of a suspect takes but a moment, and most pass it.
            let suspects = self.ready_ones().filter(|(_, ready)| ready.promises(now));
            let suspects =
                suspects.filter(|(_, ready)| ready.tenant == tenant && !ready.leaving).count();
            let asked =
                |(_, ready): (usize, &Ready<T::Connection>)| ready.tenant == tenant && ready.asked;
            let hopeless = of.host.login().askpass.is_none() && self.ready_ones().any(asked);
            if hopeless || self.waits_for_trial(tenant) || of.backs_off(now) {
                continue;
            }
            // One at a time as long as the last word of the server was not a success.
            let most = if of.trusted { usize::MAX } else { 1_usize.saturating_sub(connecting) };
            let sessions = of.sessions_each(config);
            let there = self.sessions_of(tenant, now, config);
            let skipped = (connecting + suspects) * sessions;
            let unserved = of.waiters.iter().enumerate().skip(skipped).step_by(sessions);
            // Who does not wait for others any longer gets a login.
            let worthy = unserved.filter(|(place, waiter)| {
                of.pace.worth_from(waiter.since, *place, there).min(waiter.deadline) <= now
            });
            claims.extend(
                worthy
                    .take(most.min(self.slots.len()))
                    .map(|(_, waiter)| Claim { ticket: waiter.ticket, tenant }),
            );
        }
        claims.sort_unstable();
        claims.truncate(self.slots.len());
        claims
    }

    /// Begins as many logins as there are claims and slots, and closes idle connections for the
    /// other claims.
    fn begin_logins(&mut self, now: Instant, config: &PoolConfig, actions: &mut Vec<Action<T>>) {
        let mut left = Vec::new();
        for claim in self.claims(now, config) {
            let Some(slot) = self.slots.iter().position(|slot| matches!(slot, SlotState::Empty))
            else {
                left.push(claim);
                continue;
            };
            let tenant = self.tenants.get_mut(&claim.tenant).expect("who has a claim is there");
            match self.ledger.begin(&tenant.account, &self.key, now, &self.waits) {
                Answer::Begin(place) => {
                    let (retire, retired) = mpsc::unbounded_channel();
                    let host = Box::new(tenant.host.clone());
                    let tenant = claim.tenant;
                    let sessions = self.sessions_known(host.identity(), now);
                    self.transition(slot, Event::LoginBegins { tenant, retire });
                    actions.push(Action::Connect { slot, host, place, sessions, retired });
                }
                Answer::Wait => {}
                Answer::UsedUp(used_up) => tenant.used_up = Some(used_up),
            }
        }
        let closing =
            self.slots.iter().filter(|slot| matches!(slot, SlotState::Closing { .. })).count();
        for claim in left.into_iter().skip(closing) {
            // Who waits longer for a session there, when a rest is over for instance, comes first.
            let is_awaited = |ready: &Ready<T::Connection>| {
                self.tenants[&ready.tenant]
                    .waiters
                    .front()
                    .is_some_and(|first| first.ticket < claim.ticket)
            };
            let idle = self.ready_ones().filter(|(_, ready)| {
                ready.tenant != claim.tenant && ready.is_unused() && !is_awaited(ready)
            });
            if let Some((slot, _)) = idle.min_by_key(|(_, ready)| ready.used) {
                self.retire(slot, Duration::ZERO);
            }
        }
    }

    /// Turns those away whose time is over, unless a session for them is on its way: its outcome
    /// brings us back here.
    fn refuse_the_overdue(
        &mut self,
        now: Instant,
        config: &PoolConfig,
        actions: &mut Vec<Action<T>>,
    ) {
        let expected = self.expected(0, now, config);
        for id in self.queues() {
            let tenant = self.tenants.get_mut(&id).expect("who queues is there");
            let expected =
                expected.get(&id).copied().unwrap_or_default() * tenant.sessions_each(config);
            // All have the same time, and who came first is the first whose time is over.
            if tenant.waiters.get(expected).is_none_or(|waiter| waiter.deadline > now) {
                continue;
            }
            let error = Error::Exhausted {
                key: self.key.clone(),
                max: config.max_connections,
                last_failure: tenant.last_failure(Ticket::MAX, now),
            };
            let (stay, overdue): (Vec<_>, Vec<_>) = tenant
                .waiters
                .drain(..)
                .enumerate()
                .partition(|(place, waiter)| *place < expected || waiter.deadline > now);
            tenant.waiters = stay.into_iter().map(|(_, waiter)| waiter).collect();
            actions.extend(
                overdue.into_iter().map(|(_, waiter)| Action::Refuse(waiter.sender, error.clone())),
            );
            self.forget_the_served(id);
        }
    }

    /// Marks the connections that make room for others, and says whether one need not any more.
    fn choose_who_yields(&mut self, now: Instant, config: &PoolConfig) -> bool {
        let claims = self.claims(now, config);
        if claims.is_empty() && !self.yielding {
            return false;
        }
        let mut share: BTreeMap<TenantId, usize> = BTreeMap::new();
        let mut coming = 0;
        for slot in &self.slots {
            match slot {
                SlotState::Empty | SlotState::Closing { .. } => coming += 1,
                SlotState::Ready(ready) if ready.leaving => coming += 1,
                SlotState::Ready(Ready { tenant, .. }) | SlotState::Connecting { tenant, .. } => {
                    *share.entry(*tenant).or_default() += 1;
                }
            }
        }
        let mut yields: BTreeMap<usize, Ticket> = BTreeMap::new();
        for (place, claim) in claims.into_iter().enumerate() {
            let own = share.get(&claim.tenant).copied().unwrap_or_default();
            if place >= coming {
                let victim = self.ready_ones().filter(|(slot, ready)| {
                    let theirs = share.get(&ready.tenant).copied().unwrap_or_default();
                    ready.tenant != claim.tenant
                        && !ready.leaving
                        && !yields.contains_key(slot)
                        && (own == 0 || theirs > own + 1)
                });
                let victim = victim
                    .min_by_key(|(_, ready)| (ready.yields_to.is_none(), ready.leases, ready.used));
                let Some((slot, ready)) = victim else { continue };
                *share.entry(ready.tenant).or_default() -= 1;
                yields.insert(slot, claim.ticket);
            }
            *share.entry(claim.tenant).or_default() += 1;
        }
        let mut is_freed = false;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let SlotState::Ready(ready) = slot {
                let to = yields.get(&index).copied();
                is_freed |= ready.yields_to.is_some() && to.is_none();
                ready.yields_to = to;
            }
        }
        self.yielding = !yields.is_empty();
        is_freed
    }

    /// From how many slots each of those who queue can expect sessions soon without anybody giving
    /// one back: by logins under way or possible (now, or when the connection before is closed), by
    /// connections that rest or are suspect, and by those that have ended without their task having
    /// heard of it. `more` slots are expected to become empty. When a login of an account that the
    /// server gives few may begin, nobody knows.
    pub(super) fn expected(
        &self,
        more: usize,
        now: Instant,
        config: &PoolConfig,
    ) -> BTreeMap<TenantId, usize> {
        let mut expected = BTreeMap::new();
        let mut claims = Vec::new();
        for (&tenant, of) in self.queued.iter().map(|id| (id, &self.tenants[id])) {
            let promising = self.ready_ones().filter(|(_, ready)| ready.tenant == tenant);
            let promising = promising.filter(|(_, ready)| ready.is_promising(now)).count();
            let own = promising + self.connecting_for(tenant);
            expected.insert(tenant, own);
            if !of.backs_off(now) && !self.ledger.is_crowded(&of.account, now) {
                let sessions = of.sessions_each(config);
                let unserved = of.waiters.iter().skip(own * sessions).step_by(sessions);
                let unserved = unserved.take(self.slots.len() + more);
                claims.extend(unserved.map(|waiter| Claim { ticket: waiter.ticket, tenant }));
            }
        }
        let unused = self
            .slots
            .iter()
            .filter(|slot| matches!(slot, SlotState::Empty | SlotState::Closing { .. }));
        claims.sort_unstable();
        for claim in claims.into_iter().take(unused.count() + more) {
            *expected.entry(claim.tenant).or_default() += 1;
        }
        expected
    }

    fn next_change(&self, now: Instant, config: &PoolConfig) -> Option<Instant> {
        let rests = self
            .ready_ones()
            .flat_map(|(_, ready)| [ready.rests_until, ready.suspect_until])
            .flatten();
        let pauses = self.queued.iter().filter_map(|id| self.tenants[id].waits_until(now));
        // A login may be worth it for a caller that has waited for as long as one takes.
        let worth = self.queued.iter().filter_map(|id| {
            let (tenant, sessions) = (&self.tenants[id], self.sessions_of(*id, now, config));
            let waits = |waiter: &Waiter<T>| tenant.pace.worth_from(waiter.since, 0, sessions);
            // In the order in which they came.
            let next = tenant.waiters.partition_point(|waiter| waits(waiter) <= now);
            tenant.waiters.get(next).map(waits)
        });
        rests.chain(pauses).chain(worth).filter(|&at| at > now).min()
    }

    /// How many sessions of a tenant are in use and will serve the callers that wait: none where
    /// each command opens another one. A connection on which another session is tried is about to.
    fn sessions_of(&self, id: TenantId, now: Instant, config: &PoolConfig) -> usize {
        if !config.reuses_sessions() {
            return 0;
        }
        let serves = |ready: &Ready<T::Connection>| {
            ready.tenant == id
                && !ready.leaving
                && !ready.is_suspect(now)
                && ready.sessions != Sessions::One
        };
        let sessions = |ready: &Ready<T::Connection>| ready.leases + usize::from(ready.is_trying);
        self.ready_ones().filter(|(_, ready)| serves(ready)).map(|(_, ready)| sessions(ready)).sum()
    }

    fn connecting_for(&self, id: TenantId) -> usize {
        let connects = |slot: &&SlotState<T::Connection>| {
            slot.phase() == Phase::Connecting && slot.tenant() == Some(id)
        };
        self.slots.iter().filter(connects).count()
    }
}
