//! The part of a key's state that concerns leases: what callers report about the connection that
//! they use.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fruitless::fruitless;
use super::{KeyState, PATIENCE};
use crate::config::PoolConfig;
use crate::policy::ledger::Account;
use crate::policy::maintenance::Depth;
use crate::transport::Transport;

/// How long a lowered session limit stands before one more session is tried.
const LIMIT_STANDS: Duration = Duration::from_secs(10);
/// The first and the longest rest of a connection that refuses even a single session.
const FIRST_REST: Duration = Duration::from_millis(4);
const LONGEST_REST: Duration = Duration::from_secs(1);

impl<T: Transport> KeyState<T> {
    pub(in crate::policy) fn release(
        &mut self,
        slot: usize,
        generation: u64,
        since: Instant,
        now: Instant,
        config: &PoolConfig,
    ) {
        let tenant = self.ready(slot, generation).map(|ready| ready.tenant);
        let tenant = tenant.and_then(|id| self.tenants.get(&id));
        let most = tenant.map_or(1, |tenant| tenant.sessions_each(config));
        if let Some(ready) = self.ready(slot, generation) {
            let tenant = ready.tenant;
            ready.leases -= 1;
            ready.used = now;
            ready.rests = 0;
            if ready.limit < most && now - ready.limit_set > LIMIT_STANDS {
                ready.limit += 1;
                ready.limit_set = now;
            }
            self.refill = Some(slot);
            self.leaves(slot);
            if let Some(tenant) = self.tenants.get_mut(&tenant) {
                tenant.pace.was_held(now - since, now);
            }
        }
        self.is_no_doubt(generation);
    }

    /// This lease needs no session, and takes no room from those that do.
    pub(in crate::policy) fn hold(&mut self, slot: usize, generation: u64) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.leases -= 1;
            ready.holds += 1;
            self.refill = Some(slot);
        }
    }

    /// Whether callers get this connection.
    pub(in crate::policy) fn is_offered(&mut self, slot: usize, generation: u64) -> bool {
        self.ready(slot, generation).is_some_and(|ready| !ready.leaving)
    }

    /// Such a lease is given back.
    pub(in crate::policy) fn let_go(&mut self, slot: usize, generation: u64, now: Instant) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.holds -= 1;
            ready.used = now;
            self.leaves(slot);
        }
        self.is_no_doubt(generation);
    }

    /// The server would not open a session for this lease, which ends with that. The connection is
    /// not asked for as many again, or, when nobody else of us had one there (sessions of commands
    /// that were given up linger), it rests for a moment.
    pub(in crate::policy) fn refused(&mut self, slot: usize, generation: u64, now: Instant) {
        self.counters.refused_sessions += 1;
        if let Some(ready) = self.ready(slot, generation) {
            ready.leases -= 1;
            ready.used = now;
            ready.is_full(now);
            if ready.leases == 0 {
                let rest = FIRST_REST.saturating_mul(1 << ready.rests.min(10)).min(LONGEST_REST);
                ready.rests += 1;
                ready.rests_until = Some(now + rest);
            }
            self.leaves(slot);
        }
    }

    /// The server has refused a session beside those of the leases.
    pub(in crate::policy) fn full(&mut self, slot: usize, generation: u64, now: Instant) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.is_full(now);
        }
    }

    /// A command has run there, or was lost while it ran. Gives the account if its connections have
    /// seemed to be dropped.
    pub(in crate::policy) fn ran(&mut self, slot: usize, generation: u64) -> Option<Account> {
        self.is_no_doubt(generation);
        let ready = self.ready(slot, generation)?;
        ready.ran = true;
        let id = ready.tenant;
        let tenant = self.tenants.get_mut(&id)?;
        tenant.ran();
        self.ledger.has_dropped().then(|| tenant.account.clone())
    }

    /// A caller found the connection broken: no other caller gets it. Other commands on it may
    /// finish, if they can.
    pub(in crate::policy) fn broken(&mut self, slot: usize, generation: u64, now: Instant) {
        match self.ready(slot, generation) {
            Some(ready) => {
                let others = ready.leases + ready.holds > 1;
                let patience = if others { PATIENCE } else { Duration::ZERO };
                let was_fruitless = ready.is_fruitless(now);
                let tenant = ready.tenant;
                self.retire(slot, patience);
                if was_fruitless {
                    self.was_fruitless(tenant, fruitless("no session could be opened on it"), now);
                }
            }
            // The connection had ended before, and whether a command had run was not known.
            None => {
                if let Some(place) = self.doubts.iter().position(|(of, _)| *of == generation) {
                    let (_, tenant) = self.doubts.remove(place).expect("it was found a line ago");
                    self.was_fruitless(tenant, fruitless("no session could be opened on it"), now);
                }
            }
        }
    }

    /// The server has a session on it that will not end, and allows no other. Commands of other
    /// callers are not disturbed.
    pub(in crate::policy) fn useless(&mut self, slot: usize, generation: u64) {
        if self.ready(slot, generation).is_some_and(|ready| ready.leases + ready.holds == 1) {
            self.retire(slot, Duration::ZERO);
        }
    }

    /// The connection may be broken, and callers get it again only after a check. If this returns a
    /// connection, the caller has to start that check. A check that has not ended by `until` is not
    /// waited for any longer.
    pub(in crate::policy) fn suspect(
        &mut self,
        slot: usize,
        generation: u64,
        until: Instant,
    ) -> Option<Arc<T::Connection>> {
        let ready = self.ready(slot, generation)?;
        ready.suspect_until = Some(until);
        let before = ready.checking.replace(Depth::Whole);
        (before != Some(Depth::Whole)).then(|| Arc::clone(&ready.connection))
    }
}
