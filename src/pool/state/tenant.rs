//! The part of a key's state that is of one identity: its queue and its last failure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{KeyState, Waiter};
use crate::error::ConnectError;
use crate::host::{Host, HostIdentity};
use crate::pool::{Configuration, Transport, backoff};

/// Tells tenants apart; a later one has a greater one.
pub(super) type TenantId = u64;

/// From the end of a pause on, a failure is remembered for so long: another one makes the next pause longer.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Failures of one key that are remembered though nobody waits.
const MOST_REMEMBERED: usize = 500;
/// The first so many tenants are not looked through.
const FEW: usize = 16;

/// One identity of the key. It is there as long as it has a slot, a waiter or a failure that is worth remembering.
pub(super) struct Tenant<T: Transport> {
    identity: HostIdentity,
    pub host: Host,
    pub waiters: VecDeque<Waiter<T>>,
    /// The last login failed; cleared by one that succeeds.
    pub failure: Option<Failure>,
    /// A login has succeeded, and none has failed since.
    pub trusted: bool,
}

/// The last login failed: the breaker is open, and callers hear this at once, until `retry_at`. The next caller then tries.
pub(super) struct Failure {
    pub error: ConnectError,
    attempts: u32,
    pub retry_at: Instant,
    /// A wrong key does not become right by trying. What the login depended on is looked at when a caller comes: another attempt is made when
    /// it has changed, too.
    permanent: Option<Configuration>,
}

impl<T: Transport> Tenant<T> {
    pub fn backs_off(&self, now: Instant) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.retry_at > now)
    }

    pub fn failed(&mut self, error: ConnectError, configuration: Configuration, now: Instant) {
        self.trusted = false;
        // Logins that were under way together and failed together are one attempt.
        let together = self.backs_off(now);
        let permanent = error.kind().is_permanent().then_some(configuration);
        if together && permanent.is_none() && self.broken_configuration().is_some() {
            return; // A wrong key is still wrong.
        }
        let attempts = self.failure.as_ref().map_or(0, |failure| failure.attempts);
        let attempts = if together { attempts } else { attempts.saturating_add(1) };
        let pause = if permanent.is_some() { backoff::PERMANENT } else { backoff::pause(attempts) };
        self.failure = Some(Failure { error, attempts, retry_at: now + pause, permanent });
    }

    /// What a login depended on that failed for good.
    pub fn broken_configuration(&self) -> Option<Configuration> {
        self.failure.as_ref()?.permanent
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.failure.as_ref().is_none_or(|failure| failure.retry_at + REMEMBERED <= now)
    }
}

impl<T: Transport> KeyState<T> {
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
        let tenant = Tenant {
            identity: host.identity().clone(),
            host: host.clone(),
            waiters: VecDeque::new(),
            failure: None,
            trusted: false,
        };
        self.tenants.insert(id, tenant);
        id
    }

    /// Callers that were dropped left their place in the queue behind.
    pub(super) fn forget_the_gone(&mut self, id: TenantId) {
        let Some(tenant) = self.tenants.get_mut(&id) else { return };
        tenant.waiters.retain(|waiter| !waiter.sender.is_closed());
        if tenant.waiters.is_empty() {
            self.queued.remove(&id);
            self.quiet.push(id);
        }
    }

    /// Forgets tenants that may have become needless, if they have.
    pub(super) fn forget_the_quiet(&mut self) {
        for id in std::mem::take(&mut self.quiet) {
            if self.tenants.get(&id).is_some_and(|tenant| tenant.failure.is_none()) && !self.is_needed(id) {
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
        self.queued.contains(&id) || self.slots.iter().any(|slot| slot.tenant() == Some(id))
    }

    fn forget(&mut self, id: TenantId) {
        if let Some(tenant) = self.tenants.remove(&id) {
            self.by_identity.remove(&tenant.identity);
        }
    }

    /// How many tenants there are.
    #[cfg(test)]
    pub(in crate::pool) fn tenants(&self) -> usize {
        self.tenants.len()
    }
}
