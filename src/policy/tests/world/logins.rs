//! Logins, and whether one comes too soon.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::books::{Facts, Failed, Outcome, Phase, Truth};
use super::{COUNTED, SHORTEST_PAUSE, World};
use crate::error::ConnectErrorKind;
use crate::host::Host;
use crate::policy::tests::plan::Nature;
use crate::policy::tests::secs;

impl World {
    pub(in crate::policy::tests) fn login_starts(self: &Arc<Self>, host: &Host) -> LoginUnderWay {
        let now = Instant::now();
        let max = self.config.max_connections;
        let mut truth = self.truth();
        let index = truth.index(host);
        let Truth { hosts, violations, .. } = &mut *truth;
        let this = &mut hosts[index];
        match this.outcome {
            // The pool may have decided on this login a moment before that one failed.
            Outcome::Failed(failed) if failed.at == now => {}
            Outcome::None | Outcome::Failed(_) if this.logins_under_way > 0 => {
                violations.push("two logins at once before one has succeeded".to_owned());
            }
            Outcome::Failed(failed) if now < failed.at + SHORTEST_PAUSE => {
                violations.push(format!("a login {:?} after one that failed", now - failed.at));
            }
            Outcome::Failed(failed) if failed.surely_permanent && now < failed.at + COUNTED => {
                violations.push("a login too soon after a permanent failure".to_owned());
            }
            _ => {}
        }
        let number = this.logins.len();
        this.logins.push((now, host.get_address().map(str::to_owned)));
        this.logins_under_way += 1;
        let key = this.key.clone();
        let of_key = hosts.iter().filter(|host| host.key == key);
        if of_key.map(|host| host.logins_under_way + host.there.len()).sum::<usize>() > max {
            violations.push(format!("more than {max} connections"));
        }
        LoginUnderWay { world: Arc::clone(self), host: index, number, since: now }
    }
}

/// A login, until it is dropped.
pub(in crate::policy::tests) struct LoginUnderWay {
    world: Arc<World>,
    host: usize,
    number: usize,
    since: Instant,
}

impl LoginUnderWay {
    /// The new connection.
    pub(in crate::policy::tests) fn succeeds(
        self,
        nature: Nature,
    ) -> (usize, watch::Receiver<Phase>) {
        let now = Instant::now();
        let truth = &mut *self.world.truth();
        let id = truth.connections.len();
        let this = &mut truth.hosts[self.host];
        this.succeeded += 1;
        this.failures_in_a_row = 0;
        this.outcome = Outcome::Succeeded;
        this.there.push(id);
        let (phase, watcher) = watch::channel(Phase::Up);
        truth.connections.push(Facts {
            host: self.host,
            nature,
            phase,
            closing: false,
            suspect: None,
            ended: None,
            condemned: self.number < this.unwanted_logins,
            died: false,
            ran: false,
            sessions: 0,
            standbys: 0,
            unused: Arc::default(),
            used: now,
            proven: now,
            probes: 0,
            probing: 0,
            single: false,
            trying: false,
        });
        (id, watcher)
    }

    /// The server has taken it and closed the connection.
    pub(in crate::policy::tests) fn is_dropped(&self) {
        self.failed(true, true, false);
    }

    pub(in crate::policy::tests) fn fails(&self, kind: ConnectErrorKind) {
        self.failed(kind.is_permanent(), false, kind == ConnectErrorKind::ServerBusy);
    }

    fn failed(&self, counts: bool, is_dropped: bool, is_busy: bool) {
        let truth = &mut *self.world.truth();
        if counts {
            let account = truth.hosts[self.host].account.clone();
            truth.counts(account, is_dropped);
            truth.saw("counted failures");
        }
        if is_busy {
            let account = truth.hosts[self.host].account.clone();
            truth.crowded.push((Instant::now(), account));
        }
        let this = &mut truth.hosts[self.host];
        this.failed += 1;
        this.failures_in_a_row += 1;
        // A wrong key is still wrong when a login that was under way beside it fails for another
        // reason.
        let beside = match this.outcome {
            Outcome::Failed(failed) if self.since <= failed.at => Some(failed),
            _ => None,
        };
        if !counts && beside.is_some_and(|failed| failed.surely_permanent) {
            return;
        }
        let perhaps = beside.is_some_and(|failed| failed.perhaps_permanent);
        this.outcome = Outcome::Failed(Failed {
            at: Instant::now(),
            surely_permanent: counts,
            perhaps_permanent: counts || perhaps,
            is_busy,
        });
    }

    /// It ends without a result: it was closed, or the pool has lost its patience, which it does a
    /// second after the deadline.
    pub(in crate::policy::tests) fn is_given_up(&self, deadline: Instant) {
        let now = Instant::now();
        if now < deadline + secs(1) {
            return;
        }
        let uncertain = self.world.books(|truth| {
            let this = &mut truth.hosts[self.host];
            let uncertain = this.last_closed == Some(now);
            if uncertain {
                this.outcome = Outcome::Uncertain;
            }
            uncertain
        });
        if !uncertain {
            self.fails(ConnectErrorKind::TimedOut);
        }
    }
}

impl Drop for LoginUnderWay {
    fn drop(&mut self) {
        self.world.truth().hosts[self.host].logins_under_way -= 1;
    }
}
