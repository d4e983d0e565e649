//! The part of a key's state that is of one identity: its queue and its last failure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use super::{KeyState, Ticket, Waiter};
use crate::config::PoolConfig;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::{Caller, Host, HostIdentity, Variables};
use crate::policy::backoff;
use crate::policy::ledger::{Account, MOST, UsedUp};
use crate::transport::{Configuration, Sessions, Transport};

/// Tells tenants apart; a later one has a greater one.
pub(super) type TenantId = u64;

/// From the end of a pause on, a failure is remembered for so long: another one makes the next
/// pause longer.
const REMEMBERED: Duration = Duration::from_secs(600);
/// The most failures of one key that are remembered while no caller waits.
const MOST_REMEMBERED: usize = 500;
/// With fewer tenants than this the state does not look for those that it can forget.
const FEW: usize = 16;

/// Hosts that are reached over one connection to a hop.
const MOST_BEHIND: usize = 1000;

/// One identity of the key. It is there as long as it has a slot, a waiter or a failure that is
/// worth remembering.
pub(super) struct Tenant<T: Transport> {
    identity: HostIdentity,
    pub host: Host,
    pub waiters: VecDeque<Waiter<T>>,
    /// What the session of the last caller was to send to the server.
    pub variables: Arc<Variables>,
    /// Who that was.
    pub caller: Caller,
    /// The last login failed; cleared by one that succeeds.
    pub failure: Option<Failure>,
    /// Whose failed logins are counted together, wherever they come from.
    pub account: Account,
    /// The account's failed logins are used up, as known when a caller last waited.
    pub used_up: Option<UsedUp>,
    /// A login has succeeded, and none has failed since.
    pub trusted: bool,
    pub pace: Pace,
    /// A connection of it serves one caller at a time, as far as is known.
    pub is_single: bool,
    failures: Failures,
}

/// Failures in a row, by what they are.
#[derive(Default)]
struct Failures {
    /// That the ledger counts.
    counted: u32,
    /// Dropped before the server had looked at them.
    busy: u32,
    others: u32,
    /// Connections that ended before anything of a caller had run on them. A login that succeeds
    /// proves nothing then.
    fruitless: u32,
}

/// The last login failed: the breaker is open, and callers hear this at once, until `retry_at`. The
/// next caller then tries.
pub(super) struct Failure {
    error: ConnectError,
    at: Instant,
    /// Callers with a later ticket are told that the failure is a remembered one.
    ticket: Ticket,
    pub retry_at: Instant,
    is_counted: bool,
    /// What could mend it, as it was then. When a caller comes and it is another now, that caller
    /// has it tried.
    watched: Option<Configuration>,
}

impl<T: Transport> Tenant<T> {
    pub fn identity(&self) -> &HostIdentity {
        &self.identity
    }

    /// Until when nothing may be tried.
    pub fn waits_until(&self, now: Instant) -> Option<Instant> {
        let failure = self.failure.as_ref().map(|failure| failure.retry_at);
        failure
            .into_iter()
            .chain(self.used_up.map(|used_up| used_up.until))
            .filter(|&at| at > now)
            .max()
    }

    /// How many callers a connection may have at once. What goes over a hop needs no session there.
    pub fn sessions_each(&self, config: &PoolConfig) -> usize {
        match (self.host.is_hop(), self.is_single) {
            (true, _) => MOST_BEHIND,
            (false, true) => 1,
            (false, false) => config.sessions_per_connection,
        }
    }

    /// The server had too many logins at once.
    pub fn is_busy(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.error.is_busy())
            && self.used_up.is_none()
    }

    pub fn backs_off(&self, now: Instant) -> bool {
        self.waits_until(now).is_some()
    }

    /// A login has failed; `used_up` is what the ledger says by now.
    pub fn failed(
        &mut self,
        error: ConnectError,
        watched: Option<Configuration>,
        used_up: Option<UsedUp>,
        ticket: Ticket,
        now: Instant,
    ) {
        self.trusted = false;
        self.used_up = used_up;
        // Logins that were under way together and failed together are one attempt.
        let together = self.failure.as_mut().filter(|failure| failure.retry_at > now);
        let is_counted = error.is_counted();
        let together = match together {
            // A wrong key is still wrong.
            Some(failure) if failure.is_counted && !is_counted => {
                failure.retry_at = failure.retry_at.max(now + backoff::pause(1));
                return;
            }
            together => together,
        };
        let more = u32::from(together.is_none());
        let add = |count: &mut u32| {
            *count = count.saturating_add(more).max(1);
            *count
        };
        let pause = if is_counted {
            let longest =
                || used_up.map_or(backoff::LONGEST_COUNTED, |used_up| used_up.until - now);
            backoff::counted(add(&mut self.failures.counted)).unwrap_or_else(longest)
        } else if error.is_of_a_hop() {
            // Nothing of this host has failed. The hop has its own pauses, and nothing is tried
            // there before they are over, whoever asks.
            error.next_try_in().unwrap_or_else(|| backoff::pause(1))
        } else if error.is_busy() {
            backoff::busy(add(&mut self.failures.busy))
        } else {
            backoff::pause(add(&mut self.failures.others).saturating_add(self.failures.fruitless))
        };
        self.failure =
            Some(Failure { error, at: now, ticket, retry_at: now + pause, is_counted, watched });
    }

    /// A connection has ended before anything of a caller had run on it.
    pub fn was_fruitless(&mut self) {
        self.failures.fruitless = self.failures.fruitless.saturating_add(1);
    }

    /// A login has succeeded.
    pub fn succeeded(&mut self) {
        let Failures { fruitless, counted, .. } = self.failures;
        // What is dropped again and again has succeeded each time.
        let counted = if fruitless > 0 { counted } else { 0 };
        self.failures = Failures { fruitless, counted, ..Failures::default() };
        self.failure = None;
        self.trusted = true;
    }

    /// A command has run.
    pub fn ran(&mut self) {
        self.failures.fruitless = 0;
    }

    /// Forgets the failures, so that the next caller tries a login.
    pub fn reset(&mut self) {
        (self.failure, self.used_up, self.failures) = (None, None, Failures::default());
    }

    /// What could mend the failure for which this caller would be turned away, and what is wrong.
    pub fn watched(&self, now: Instant) -> Option<(ConnectErrorKind, Configuration)> {
        let failure = self.failure.as_ref().filter(|failure| failure.retry_at > now)?;
        Some((failure.error.kind(), failure.watched?))
    }

    /// What could mend the failure is another now: one try, and the account's limit stands.
    pub fn is_mended(&mut self, now: Instant) {
        if let Some(failure) = &mut self.failure {
            (failure.retry_at, failure.watched) = (now, None);
        }
    }

    /// Why there is no connection, for the caller with this ticket.
    pub fn last_failure(&self, ticket: Ticket, now: Instant) -> Option<ConnectError> {
        let next = self.waits_until(now).unwrap_or(now) - now;
        let used_up = self.used_up.filter(|used_up| used_up.until > now);
        match (&self.failure, used_up) {
            (Some(failure), used_up)
                if used_up.is_none() || failure.is_counted || failure.retry_at > now =>
            {
                let error = failure.error.clone();
                let is_fresh = ticket < failure.ticket && failure.at == now;
                Some(if is_fresh { error } else { error.remembered(now - failure.at, next) })
            }
            (_, Some(used_up)) => {
                let detail = format!(
                    "{MOST} logins to {} have failed in the last ten minutes, with other keys or \
                        by other names \
                     perhaps; one more could get the account locked",
                    self.account
                );
                let error =
                    ConnectError::new(ConnectErrorKind::TooManyFailures, detail, Vec::new());
                Some(error.remembered(now - used_up.last, next))
            }
            _ => None,
        }
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.retry_at + REMEMBERED <= now)
    }
}

impl<T: Transport> KeyState<T> {
    /// Of all tenants.
    pub(in crate::policy) fn hosts(&self) -> Vec<Host> {
        self.tenants.values().map(|tenant| tenant.host.clone()).collect()
    }

    /// The tenant for this host, a new one if need be.
    pub(super) fn tenant_of(&mut self, host: &Host, now: Instant) -> TenantId {
        if let Some(&id) = self.by_identity.get(host.identity()) {
            return id;
        }
        if self.tenants.len() >= self.crowd.max(FEW) {
            self.forget_the_stale(now);
            self.crowd = self.tenants.len() * 2;
        }
        let id = self.next_tenant;
        self.next_tenant += 1;
        self.by_identity.insert(host.identity().clone(), id);
        let is_single = self.sessions_known(host.identity(), now) == Sessions::One;
        let tenant = Tenant {
            identity: host.identity().clone(),
            host: host.clone(),
            waiters: VecDeque::new(),
            variables: Arc::clone(&host.login().variables),
            caller: host.login().caller,
            failure: None,
            account: Account::of(host),
            used_up: None,
            // Nothing is learned of a server without a login that succeeds.
            trusted: is_single,
            pace: Pace::default(),
            is_single,
            failures: Failures::default(),
        };
        self.tenants.insert(id, Box::new(tenant));
        id
    }

    /// A caller has left its queue without an answer.
    pub(in crate::policy) fn has_left(&mut self) {
        self.has_left = true;
    }

    /// A tenant has no queue any more when all of it is served.
    pub(super) fn forget_the_served(&mut self, id: TenantId) {
        if self.tenants.get(&id).is_some_and(|tenant| tenant.waiters.is_empty()) {
            self.queued.remove(&id);
            self.quiet.push(id);
        }
    }

    /// Callers that were dropped left their place in the queue behind.
    pub(super) fn forget_the_gone(&mut self, id: TenantId) {
        let Some(tenant) = self.tenants.get_mut(&id) else { return };
        tenant.waiters.retain(|waiter| !waiter.sender.is_closed());
        self.forget_the_served(id);
    }

    /// Forgets tenants that may have become needless, if they have.
    pub(super) fn forget_the_quiet(&mut self) {
        for id in std::mem::take(&mut self.quiet) {
            if self.tenants.get(&id).is_some_and(|tenant| tenant.failure.is_none())
                && !self.is_needed(id)
            {
                self.forget(id);
            }
        }
    }

    /// Forgets failures of long ago; and where there are too many, the oldest.
    fn forget_the_stale(&mut self, now: Instant) {
        let (mut stale, mut remembered) = (Vec::new(), Vec::new());
        for (&id, tenant) in &self.tenants {
            match &tenant.failure {
                _ if self.is_needed(id) => {}
                Some(failure) if !tenant.is_stale(now) => remembered.push((failure.retry_at, id)),
                _ => stale.push(id),
            }
        }
        remembered.sort_unstable();
        let many = remembered.len().saturating_sub(MOST_REMEMBERED);
        stale.extend(remembered.into_iter().take(many).map(|(_, id)| id));
        stale.into_iter().for_each(|id| self.forget(id));
    }

    fn is_needed(&self, id: TenantId) -> bool {
        self.queued.contains(&id)
            || self.slots.iter().any(|slot| slot.tenant() == Some(id))
            || self.doubts.iter().any(|(_, tenant)| *tenant == id)
    }

    fn forget(&mut self, id: TenantId) {
        if let Some(tenant) = self.tenants.remove(&id) {
            self.by_identity.remove(&tenant.identity);
        }
    }

    /// How many tenants there are.
    pub(in crate::policy) fn tenants(&self) -> usize {
        self.tenants.len()
    }
}
