//! The part of a key's state that concerns how many sessions a server opens on one connection.
//!
//! The transport knows software that opens several. Of other servers nobody knows, until another
//! session was tried on a connection beside the one that has proven it. No command is at stake
//! then: as long as nothing is known, the commands of a connection run one after another in the
//! session of its proof, and the trial takes place where none runs ([`Action::Try`]).
//!
//! Where the server refuses another session, does not answer, or closes the connection (twice in a
//! row: it may have had another reason), each command gets a connection of its own: nothing is
//! proven there, the command has the only session, and the connection ends with it. That is
//! remembered for a while, by identity; `close`, `reset` and `warm` forget it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::slot::{Ready, SlotState};
use super::tenant::TenantId;
use super::{Action, KeyState};
use crate::config::PoolConfig;
use crate::host::HostIdentity;
use crate::policy::LONGEST_PATIENCE;
use crate::transport::{Connection, Sessions, Transport, Trial};

/// So long it is remembered that a server opens one session. Then another one is tried again.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// So many connections in a row have to end in their trials. One may end for another reason.
const ENDS: u32 = 2;
/// So soon behind the last use of a connection a server ends it that ends it with a session.
const SOON: Duration = Duration::from_secs(1);
/// The most servers of one key that are remembered.
const MOST_SERVERS: usize = 500;

/// What is remembered of a server.
pub(super) struct Server {
    sessions: Sessions,
    /// Since when.
    since: Instant,
    /// Trials in a row in which the connection has ended.
    ends: u32,
}

impl<C: Connection> Ready<C> {
    /// A caller can have a session there: one that waits, or one that may be opened.
    pub(super) fn has_session(&self) -> bool {
        // A command would take along what is forwarded there.
        let is_kept = self.sessions == Sessions::One && self.holds > 0;
        let has_its_only = self.leases == 0
            && !is_kept
            && !self.wants_trial
            && (!self.is_used_up || !self.standbys.is_empty());
        !self.is_trying && (self.sessions == Sessions::Several || has_its_only)
    }

    /// Its only session has ended, and nobody uses it.
    fn is_of_no_use(&self) -> bool {
        self.sessions == Sessions::One
            && self.is_used_up
            && self.standbys.is_empty()
            && self.leases + self.lent + self.holds == 0
    }

    /// Nothing runs there, so that another session may be tried.
    fn can_try(&self, now: Instant) -> bool {
        self.sessions == Sessions::Unknown
            && self.is_used_up
            && !self.is_trying
            && !self.leaving
            // A trial can end the connection, and with it what is forwarded there.
            && self.leases + self.lent + self.holds == 0
            && self.checking.is_none()
            && !self.is_suspect(now)
            && self.connection.is_alive()
    }
}

impl<T: Transport> KeyState<T> {
    /// What is known of the server of this identity.
    pub(in crate::policy) fn sessions_known(
        &self,
        identity: &HostIdentity,
        now: Instant,
    ) -> Sessions {
        match self.servers.get(identity) {
            Some(server) if server.sessions == Sessions::One => {
                let holds = now < server.since + REMEMBERED;
                if holds { Sessions::One } else { Sessions::Unknown }
            }
            Some(server) => server.sessions,
            None => Sessions::Unknown,
        }
    }

    /// A connection of this slot is ready. What was learned during its login holds for it, too.
    pub(super) fn knows_server(&mut self, slot: usize, now: Instant) {
        let Some(id) = self.slots[slot].tenant() else { return };
        let known = self
            .tenants
            .get(&id)
            .map_or(Sessions::Unknown, |tenant| self.sessions_known(tenant.identity(), now));
        let SlotState::Ready(ready) = &mut self.slots[slot] else { return };
        if ready.sessions == Sessions::Unknown {
            ready.sessions = known;
        }
        let is_single = ready.sessions != Sessions::Several;
        if let Some(tenant) = self.tenants.get_mut(&id) {
            tenant.is_single = is_single;
        }
    }

    /// Whether a caller may open a session there beside what waits. The first one of a connection
    /// whose server opens one is its caller's.
    /// None where it has ended or is being closed.
    pub(in crate::policy) fn opens(&mut self, slot: usize, generation: u64) -> Option<bool> {
        let ready = self.ready(slot, generation)?;
        let opens =
            ready.sessions == Sessions::Several || !std::mem::replace(&mut ready.is_used_up, true);
        Some(opens)
    }

    /// Whether a caller has the connection of this slot.
    pub(in crate::policy) fn is_leased(&self, slot: usize) -> bool {
        matches!(&self.slots[slot], SlotState::Ready(ready) if ready.leases > 0)
    }

    /// Whether its connection ends with one command.
    pub(in crate::policy) fn is_for_one(&mut self, slot: usize, generation: u64) -> bool {
        self.ready(slot, generation).is_some_and(|ready| ready.sessions == Sessions::One)
    }

    /// The session that waits on this connection does not suit who holds it, and no other one may
    /// be opened. The lease ends with that.
    pub(in crate::policy) fn does_not_suit(&mut self, slot: usize, generation: u64) {
        let Some(ready) = self.ready(slot, generation) else { return };
        ready.leases -= 1;
        match ready.sessions {
            Sessions::Unknown => ready.wants_trial = true,
            Sessions::One => self.retire(slot, Duration::ZERO),
            Sessions::Several => {}
        }
    }

    /// Whether it is being found out, or about to be, if another session can be opened there.
    pub(in crate::policy) fn is_in_question(&mut self, slot: usize, generation: u64) -> bool {
        self.ready(slot, generation).is_some_and(|ready| ready.is_trying || ready.wants_trial)
    }

    /// The same of a lease that goes on, whose command goes elsewhere. Its connection makes room
    /// for that, when the command that may run there has ended.
    pub(in crate::policy) fn has_no_other(&mut self, slot: usize, generation: u64) {
        if self.is_for_one(slot, generation) {
            self.retire(slot, LONGEST_PATIENCE);
        }
    }

    /// Begins the trials that somebody waits for, and closes what is of no use.
    pub(super) fn try_servers(&mut self, now: Instant, actions: &mut Vec<Action<T>>) {
        for slot in 0..self.slots.len() {
            let SlotState::Ready(ready) = &self.slots[slot] else { continue };
            if ready.is_of_no_use() {
                self.retire(slot, Duration::ZERO);
            } else if ready.wants_trial
                || !ready.has_session() && self.queued.contains(&ready.tenant)
            {
                actions.extend(self.try_another(slot, now));
            }
        }
    }

    /// Tries another session on this connection, where that may be done now.
    pub(super) fn try_another(&mut self, slot: usize, now: Instant) -> Option<Action<T>> {
        let tenant = self.slots[slot].tenant();
        // One outcome is for all.
        if self.ready_ones().any(|(_, ready)| Some(ready.tenant) == tenant && ready.is_trying) {
            return None;
        }
        let SlotState::Ready(ready) = &mut self.slots[slot] else { return None };
        if !ready.can_try(now) {
            return None;
        }
        (ready.is_trying, ready.wants_trial) = (true, false);
        let (generation, connection) = (ready.generation, Arc::clone(&ready.connection));
        let tenant = self.tenants.get(&ready.tenant).expect("it has a connection");
        let identity = tenant.identity().clone();
        Some(Action::Try { slot, generation, connection, identity })
    }

    /// Another session is tried for an account in whose proof no command can run. A login before
    /// the outcome would be in vain; but where the connection is gone nobody knows when that comes.
    pub(super) fn waits_for_trial(&self, id: TenantId) -> bool {
        self.ready_ones()
            .any(|(_, ready)| ready.tenant == id && ready.is_trying && ready.connection.is_plain())
    }

    /// The outcome of a trial, whose connection may be gone by now.
    pub(in crate::policy) fn was_tried(
        &mut self,
        (slot, generation): (usize, u64),
        identity: &HostIdentity,
        outcome: Trial,
        now: Instant,
        config: &PoolConfig,
    ) {
        let is_there = match self.ready(slot, generation) {
            Some(ready) => {
                ready.is_trying = false;
                true
            }
            None => false,
        };
        if let Some(sessions) = self.learns(identity, outcome, now) {
            let id = self.by_identity.get(identity).copied();
            id.into_iter().for_each(|id| self.learned(id, sessions));
        }
        if is_there && outcome != Trial::Opens {
            // Something of what was tried in vain may be left.
            self.retire(slot, Duration::ZERO);
        } else if is_there && config.standby_sessions > 0 {
            // None was opened ahead of need until now.
            self.refill = Some(slot);
        }
    }

    /// What is known of a server by the outcome of a trial, if that is news.
    fn learns(
        &mut self,
        identity: &HostIdentity,
        outcome: Trial,
        now: Instant,
    ) -> Option<Sessions> {
        if self.servers.len() >= MOST_SERVERS && !self.servers.contains_key(identity) {
            self.servers.clear();
        }
        let server = self.servers.entry(identity.clone()).or_insert(Server {
            sessions: Sessions::Unknown,
            since: now,
            ends: 0,
        });
        let sessions = match outcome {
            Trial::Opens => Sessions::Several,
            Trial::Refuses => Sessions::One,
            Trial::Ends => {
                server.ends += 1;
                if server.ends < ENDS { Sessions::Unknown } else { Sessions::One }
            }
            Trial::Fails => Sessions::Unknown,
        };
        if sessions == Sessions::Unknown {
            return None;
        }
        *server = Server { sessions, since: now, ends: 0 };
        Some(sessions)
    }

    /// A connection has ended by itself: whether that tells how many sessions its server opens. A
    /// trial has its own end. Another one ends with the session of its proof, before it was tried.
    /// And where it ends so soon behind the use of each connection, a server ends them with a
    /// session, a little later than the trial has waited for.
    pub(super) fn has_ended(&mut self, slot: usize, now: Instant) -> bool {
        let SlotState::Ready(ready) = &self.slots[slot] else { return false };
        let (id, is_soon) = (ready.tenant, now < ready.used + SOON);
        let has_nothing =
            ready.is_used_up && ready.standbys.is_empty() && ready.leases + ready.lent == 0;
        let is_behind_proof = ready.sessions == Sessions::Unknown && has_nothing;
        if ready.is_trying {
            return true;
        }
        let Some(identity) = self.tenants.get(&id).map(|tenant| tenant.identity().clone()) else {
            return false;
        };
        if is_behind_proof {
            let sessions = self.learns(&identity, Trial::Ends, now);
            sessions.into_iter().for_each(|sessions| self.learned(id, sessions));
            return true;
        }
        let Some(server) = self.servers.get_mut(&identity) else { return false };
        if server.sessions == Sessions::Several {
            server.ends = if is_soon { server.ends + 1 } else { 0 };
            if server.ends >= ENDS {
                *server = Server { sessions: Sessions::One, since: now, ends: 0 };
                self.learned(id, Sessions::One);
            }
        }
        false
    }

    /// What was learned holds for all connections of the tenant.
    fn learned(&mut self, id: TenantId, sessions: Sessions) {
        tracing::info!(?sessions, "learned how many sessions the server opens on a connection");
        for slot in &mut self.slots {
            if let SlotState::Ready(ready) = slot
                && ready.tenant == id
            {
                (ready.sessions, ready.wants_trial) = (sessions, false);
            }
        }
        if let Some(tenant) = self.tenants.get_mut(&id) {
            tenant.is_single = sessions != Sessions::Several;
        }
    }

    /// Forgets what was learned of servers.
    pub(super) fn forget_servers(&mut self) {
        self.servers.clear();
        self.tenants.values_mut().for_each(|tenant| tenant.is_single = false);
    }
}
