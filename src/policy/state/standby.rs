//! The part of a key's state that concerns sessions opened ahead of need.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Action, KeyState, Ready, SlotState};
use crate::config::PoolConfig;
use crate::host::{Caller, Login, Variables};
use crate::policy::standby::{Past, Standby};
use crate::transport::{Connection, Sessions, Transport};

impl<C: Connection> Ready<C> {
    /// How many more sessions in standby it can bear.
    fn spare(&self) -> usize {
        self.limit.saturating_sub(self.leases + self.standbys.len() + self.opening + self.lent)
    }

    pub(super) fn has_standby(&self, variables: &Variables, caller: Caller) -> bool {
        // Those who came before take theirs.
        let suits = self.standbys.iter().filter(|standby| standby.is_for(variables, caller));
        suits.count() > self.untaken
    }
}

impl<T: Transport> KeyState<T> {
    pub(in crate::policy) fn take_standby(
        &mut self,
        slot: usize,
        generation: u64,
        login: &Login,
        suits: &impl Fn(&<T::Connection as Connection>::Session) -> bool,
    ) -> Option<Standby<T::Connection>> {
        let standbys = &mut self.ready(slot, generation)?.standbys;
        let place = standbys.iter().position(|waits| {
            waits.is_for(&login.variables, login.caller) && suits(&waits.session)
        })?;
        standbys.remove(place)
    }

    /// An idle session for something of our own, whatever it sends and however old it is: one that
    /// has run a command; else any, but `least` are left for those who cannot share one.
    pub(in crate::policy) fn lend(
        &mut self,
        slot: usize,
        generation: u64,
        least: usize,
    ) -> Option<Standby<T::Connection>> {
        let ready = self.ready(slot, generation)?;
        let standbys = &mut ready.standbys;
        let used =
            standbys.iter().position(|standby| standby.past == Past::Command && standby.is_here());
        let other = || standbys.iter().rposition(Standby::is_here);
        let place = match standbys.len() > least {
            true => used.or_else(other)?,
            false => used?,
        };
        ready.lent += 1;
        standbys.remove(place)
    }

    /// The end of that; with the session where it is still of use.
    pub(in crate::policy) fn given_back(
        &mut self,
        slot: usize,
        generation: u64,
        standby: Option<Standby<T::Connection>>,
    ) {
        let Some(ready) = self.ready(slot, generation) else {
            self.discarded.extend(standby);
            return;
        };
        ready.lent -= 1;
        // The only session may be lent to the caller for whom the connection has to answer.
        let keep =
            ready.spare() > 0 || ready.sessions != Sessions::Several && ready.standbys.is_empty();
        match standby {
            Some(standby) if keep => ready.standbys.push_front(standby),
            other => self.discarded.extend(other),
        }
        self.refill = self.refill.or(Some(slot));
    }

    /// Whether there are more sessions, with those of its callers, than the connection is to have.
    pub(in crate::policy) fn is_crowded(&mut self, slot: usize, generation: u64) -> bool {
        let is_over = |ready: &mut Ready<_>| {
            ready.leases - ready.untaken + ready.standbys.len() > ready.limit
        };
        self.ready(slot, generation).is_some_and(is_over)
    }

    /// A lease gets its session.
    pub(in crate::policy) fn takes(&mut self, slot: usize, generation: u64) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.untaken -= 1;
        }
    }

    /// A session that waited there was ended.
    pub(in crate::policy) fn made_room(&mut self, slot: usize, generation: u64, now: Instant) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.made_room = Some(now);
        }
    }

    /// A caller opens a session of its own there: sessions that wait give way, so that there are no
    /// more than the connection is to have.
    pub(in crate::policy) fn make_room(&mut self, slot: usize, generation: u64, now: Instant) {
        let Some(ready) = self.ready(slot, generation) else { return };
        let most = ready.limit.saturating_sub(ready.leases - ready.untaken);
        let excess: Vec<_> = ready.standbys.drain(most.min(ready.standbys.len())..).collect();
        if !excess.is_empty() {
            ready.made_room = Some(now);
        }
        self.discarded.extend(excess);
    }

    /// A session that has run a command is kept for the next one, before those that were opened
    /// ahead of need. There are as many as callers use there now, and `standby_sessions` at least,
    /// but no more than the connection is to have.
    pub(in crate::policy) fn keep(
        &mut self,
        slot: usize,
        generation: u64,
        standby: Standby<T::Connection>,
        standby_sessions: usize,
        now: Instant,
    ) {
        let Some(ready) = self.ready(slot, generation) else {
            self.discarded.push(standby);
            return;
        };
        // One of the leases is about to be given back, and some have no session yet.
        let others = ready.leases.saturating_sub(1);
        let sessions = others.saturating_sub(ready.untaken);
        let most = standby_sessions.max(others).min(ready.limit.saturating_sub(sessions));
        let most = match ready.sessions {
            Sessions::Several => most,
            // Another one could not be opened, as far as is known.
            Sessions::Unknown => 1,
            Sessions::One => 0,
        };
        let caller = standby.only_for;
        ready.standbys.push_front(standby);
        let mut excess = Vec::new();
        while ready.standbys.len() > most {
            // Those of other callers go first: nobody may come for them any more.
            let is_others =
                |waits: &Standby<_>| waits.only_for.is_some() && waits.only_for != caller;
            let last = ready.standbys.len() - 1;
            let place = ready.standbys.iter().rposition(is_others).unwrap_or(last);
            excess.extend(ready.standbys.remove(place));
        }
        if !excess.is_empty() {
            ready.made_room = Some(now);
        }
        self.discarded.extend(excess);
    }

    /// Sessions are to be opened ahead of need there, if they are missing.
    pub(in crate::policy) fn refill_at(&mut self, slot: usize) {
        self.refill = Some(slot);
    }

    /// The outcome of opening one session ahead of need. A session without room or without its
    /// connection is dropped at once.
    pub(in crate::policy) fn opened(
        &mut self,
        slot: usize,
        generation: u64,
        standby: Option<Standby<T::Connection>>,
    ) {
        let Some(ready) = self.ready(slot, generation) else {
            self.discarded.extend(standby);
            return;
        };
        ready.opening -= 1;
        let keep = ready.spare() > 0;
        match standby {
            Some(standby) if keep => ready.standbys.push_back(standby),
            other => self.discarded.extend(other),
        }
    }

    /// A login has succeeded, and the session that has proven it waits for a command. It is kept
    /// where somebody may want it.
    pub(in crate::policy) fn proven_by(
        &mut self,
        slot: usize,
        standby: Option<Standby<T::Connection>>,
        config: &PoolConfig,
    ) {
        match &mut self.slots[slot] {
            SlotState::Ready(ready)
                if config.standby_sessions > 0
                    || ready.sessions != Sessions::Several
                    || self.queued.contains(&ready.tenant) =>
            {
                ready.standbys.extend(standby);
            }
            _ => self.discarded.extend(standby),
        }
    }

    /// How many sessions are to be opened ahead of need, and where.
    pub(super) fn refill(&mut self, now: Instant, config: &PoolConfig) -> Option<Action<T>> {
        let slot = self.refill?;
        let Some(tenant) = self.slots[slot].tenant() else {
            self.refill = None;
            return None;
        };
        // Those who wait for a session come first.
        if self.queued.contains(&tenant) {
            return None;
        }
        self.refill = None;
        if let SlotState::Ready(ready) = &self.slots[slot]
            && ready.sessions != Sessions::Several
        {
            return if config.standby_sessions > 0 { self.try_another(slot, now) } else { None };
        }
        let of_tenant = self.ready_ones().filter(|(_, ready)| ready.tenant == tenant);
        let last = &self.tenants[&tenant];
        let (variables, caller) = (Arc::clone(&last.variables), last.caller);
        let is_of_use = |standby: &Standby<T::Connection>| standby.is_for(&variables, caller);
        let of_use = |ready: &Ready<T::Connection>| {
            ready.standbys.iter().filter(|standby| is_of_use(standby)).count()
        };
        let there: usize =
            of_tenant.map(|(_, ready)| of_use(ready) + ready.opening + ready.lent).sum();
        let SlotState::Ready(ready) = &mut self.slots[slot] else { return None };
        let missing = config.standby_sessions.saturating_sub(there);
        let of_no_use = ready.standbys.len() - of_use(ready);
        if missing.min(ready.spare() + of_no_use) == 0
            || ready.yields_to.is_some()
            || !ready.has_room(now)
            || ready.connection.is_plain()
            || !ready.connection.is_alive()
        {
            return None;
        }
        // Those that send something else, or are for somebody else, make room: the limit is for all
        // of them.
        for other in &mut self.slots {
            if let SlotState::Ready(other) = other
                && other.tenant == tenant
            {
                let all = std::mem::take(&mut other.standbys).into_iter();
                let (stay, go): (VecDeque<_>, VecDeque<_>) = all.partition(&is_of_use);
                other.standbys = stay;
                self.discarded.extend(go);
            }
        }
        let SlotState::Ready(ready) = &mut self.slots[slot] else { return None };
        let count = missing.min(ready.spare());
        ready.opening += count;
        let (generation, connection) = (ready.generation, Arc::clone(&ready.connection));
        Some(Action::Standby { slot, generation, connection, count, variables })
    }
}
