//! Connections, with their sessions in standby and their probes.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::World;
use super::books::{HostTruth, Phase, Truth};
use crate::policy::tests::Duration;

impl World {
    // ---- standby ----

    pub(in crate::policy::tests) fn standby_opens(&self, id: usize) {
        let truth = &mut *self.truth();
        truth.saw("standbys opened");
        truth.connections[id].standbys += 1;
    }

    pub(in crate::policy::tests) fn standby_ends(&self, id: usize) {
        self.truth().connections[id].standbys -= 1;
    }

    // ---- connections ----

    /// It ends by itself. Those who watch it are told a moment later, if its nature is so.
    pub(in crate::policy::tests) fn dies(self: &Arc<Self>, id: usize) {
        let delay = {
            let mut truth = self.truth();
            if truth.connections[id].phase() != Phase::Up {
                return;
            }
            truth.saw("ended by themselves");
            truth.connections[id].condemned = true;
            truth.connections[id].died = true;
            truth.connections[id].nature.noticed_after
        };
        if delay.is_zero() {
            return self.becomes(id, Phase::Ended);
        }
        self.becomes(id, Phase::Dead);
        let world = Arc::clone(self);
        tokio::spawn(async move {
            sleep(delay).await;
            world.becomes(id, Phase::Ended);
        });
    }

    pub(in crate::policy::tests) fn becomes(&self, id: usize, phase: Phase) {
        let truth = &mut *self.truth();
        let Truth { hosts, connections, .. } = truth;
        let facts = &mut connections[id];
        facts.ended.get_or_insert_with(Instant::now);
        let before = facts.phase.send_replace(phase);
        if phase == Phase::Ended && before != Phase::Ended {
            let host = &mut hosts[facts.host];
            host.there.retain(|&other| other != id);
            // Whether it has ended by itself or was closed as broken is not looked at.
            if !facts.ran {
                host.fruitless += 1;
                host.last_fruitless = Some(Instant::now());
                if facts.nature.silent && facts.was_ended_by_server() {
                    let account = host.account.clone();
                    truth.saw("dropped");
                    truth.counts(account, true);
                }
            }
        }
    }

    /// It is being closed: how long that takes, and who tells when its last session has ended.
    pub(in crate::policy::tests) fn closes(&self, id: usize) -> (Duration, Arc<Notify>) {
        let now = Instant::now();
        let Truth { hosts, connections, violations, seen, .. } = &mut *self.truth();
        let facts = &mut connections[id];
        let own = &hosts[facts.host];
        let others =
            hosts.iter().filter(|host| host.key == own.key && host.identity != own.identity);
        // At the same instant they may have gone again.
        let is_wanted =
            |host: &HostTruth| !host.asking.is_empty() || host.last_answered == Some(now);
        let makes_room = others.into_iter().any(is_wanted);
        facts.closing = true;
        facts.ended.get_or_insert(now);
        if !facts.condemned {
            let why = if makes_room { "made room" } else { "closed idle" };
            *seen.entry(why).or_default() += 1;
            if facts.sessions > 0 {
                violations.push(format!("connection {id} was closed while in use"));
            } else if !makes_room && now < facts.used + self.config.idle_timeout {
                violations.push(format!("connection {id} was closed too early"));
            }
        }
        (facts.nature.closing, Arc::clone(&facts.unused))
    }

    /// Nobody has it any more. The mechanism would end it then, but it is not the way to end one.
    pub(in crate::policy::tests) fn dropped(&self, id: usize) {
        let left = self.books(|truth| {
            let facts = &truth.connections[id];
            if !facts.condemned && !facts.closing {
                truth.violations.push(format!("connection {id} was dropped, not closed"));
            }
            truth.connections[id].phase() != Phase::Ended
        });
        if left {
            self.becomes(id, Phase::Ended);
        }
    }

    pub(in crate::policy::tests) fn probe_starts(self: &Arc<Self>, id: usize) -> ProbeUnderWay {
        let now = Instant::now();
        let Truth { connections, violations, .. } = &mut *self.truth();
        let facts = &mut connections[id];
        facts.probing += 1;
        facts.probes += 1;
        if facts.probing > 1 {
            violations.push(format!("connection {id} is probed twice at once"));
        }
        if facts.sessions > 0 && facts.used < now && facts.suspect.is_none() {
            violations.push(format!("connection {id} is probed while in use"));
        }
        ProbeUnderWay { world: Arc::clone(self), id, passed: false }
    }
}

/// A probe, until it is dropped.
pub(in crate::policy::tests) struct ProbeUnderWay {
    world: Arc<World>,
    id: usize,
    pub passed: bool,
}

impl Drop for ProbeUnderWay {
    fn drop(&mut self) {
        let facts = &mut self.world.truth().connections[self.id];
        facts.probing -= 1;
        facts.suspect = None;
        facts.proven = Instant::now();
        facts.condemned |= !self.passed;
    }
}
