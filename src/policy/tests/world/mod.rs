//! The world that the pool lives in, and its books.
//!
//! The fake notes in them what the pool does with it, and the callers of the tests what they are
//! given. So the pool is compared with these, and not with itself. Whatever must never happen is
//! noted as a violation at the moment when it happens.

mod books;
mod connections;
mod logins;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::time::Instant;

use super::plan::Plan;
use super::{Duration, ms, secs};
use crate::config::PoolConfig;
use crate::host::Host;

pub(super) use books::{Facts, HostTruth, Outcome, Phase, Truth};
pub(super) use logins::LoginUnderWay;

/// The shortest pause after a failed login: 200 ms less a quarter.
pub(super) const SHORTEST_PAUSE: Duration = ms(150);
/// The shortest pause after a failure that counts, and the longest.
pub(super) const COUNTED: Duration = secs(1);
pub(super) const PERMANENT: Duration = secs(600);

pub(super) struct World {
    pub config: PoolConfig,
    pub born: Instant,
    truth: Mutex<Truth>,
    planner: Mutex<Planner>,
}

type Planner = Box<dyn FnMut() -> Plan + Send>;

impl World {
    pub(super) fn new(config: &PoolConfig) -> Arc<Self> {
        Arc::new(World {
            config: config.clone(),
            born: Instant::now(),
            truth: Mutex::default(),
            planner: Mutex::new(Box::new(Plan::default)),
        })
    }

    /// The next logins do this, and later ones what [`Plan::default`] says.
    pub(super) fn plan(&self, plans: impl IntoIterator<Item = Plan>) {
        let mut plans: VecDeque<Plan> = plans.into_iter().collect();
        self.plan_with(move || plans.pop_front().unwrap_or_default());
    }

    pub(super) fn plan_with(&self, planner: impl FnMut() -> Plan + Send + 'static) {
        *self.planner.lock().expect("no planner panics") = Box::new(planner);
    }

    pub(super) fn next_plan(&self) -> Plan {
        (self.planner.lock().expect("no planner panics"))()
    }

    /// Looks something up in the books, or notes it.
    pub(super) fn books<R>(&self, look: impl FnOnce(&mut Truth) -> R) -> R {
        look(&mut self.truth())
    }

    /// Private, because a guard that lives until the end of somebody's expression would wait for
    /// itself.
    fn truth(&self) -> MutexGuard<'_, Truth> {
        // A test that failed with the books open has its own message; this is not to hide it.
        self.truth.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    pub(super) fn saw(&self, what: &'static str) {
        self.books(|truth| truth.saw(what));
    }

    pub(super) fn complain(&self, what: impl Into<String>) {
        self.books(|truth| truth.violations.push(what.into()));
    }

    pub(super) fn verify(&self) {
        let violations = self.books(|truth| truth.violations.join("\n"));
        assert!(violations.is_empty(), "{violations}");
    }

    // ---- callers ----

    /// A caller asks, until what it gets here is dropped.
    pub(super) fn asks(self: &Arc<Self>, host: &Host) -> Asking {
        let now = Instant::now();
        let until = now + self.config.acquire_timeout;
        let mut truth = self.truth();
        let index = truth.index(host);
        let this = &mut truth.hosts[index];
        this.asking.push(until);
        this.asked += 1;
        Asking { world: Arc::clone(self), host: index, until, answered: false }
    }

    /// A caller has been given a session.
    pub(super) fn takes(&self, id: usize) {
        let now = Instant::now();
        let Truth { connections, violations, .. } = &mut *self.truth();
        let facts = &mut connections[id];
        let most = if facts.single { 1 } else { self.config.sessions_per_connection };
        if facts.trying {
            violations.push(format!("connection {id} was handed out during a trial"));
        }
        facts.sessions += 1;
        facts.used = now;
        if facts.sessions > most {
            violations.push(format!("connection {id} has more than {most} sessions"));
        }
        // It may have been on its way to this caller.
        if facts.suspect.is_some_and(|since| since < now) {
            violations.push(format!("connection {id} was handed out though it is suspect"));
        }
        // What ends at the very instant at which it is handed out is nobody's mistake.
        if facts.ended.is_some_and(|ended| ended < now) {
            violations.push(format!("connection {id} was handed out after its end"));
        }
    }

    /// A command of a caller has run there.
    pub(super) fn ran(&self, id: usize) {
        let truth = &mut *self.truth();
        truth.connections[id].ran = true;
        let host = &mut truth.hosts[truth.connections[id].host];
        host.fruitless = 0;
        truth.counted.retain(|counted| !counted.is_dropped || counted.account != host.account);
    }

    pub(super) fn gives_back(&self, id: usize) {
        let Truth { connections, hosts, .. } = &mut *self.truth();
        let facts = &mut connections[id];
        facts.sessions -= 1;
        // On a thread without a runtime the clock is another one.
        facts.used = facts.used.max(Instant::now());
        let given_back = &mut hosts[facts.host].last_given_back;
        *given_back = (*given_back).max(Some(facts.used));
        if facts.sessions == 0 {
            facts.unused.notify_one();
        }
    }

    /// The session could not be opened.
    pub(super) fn refuses(&self, id: usize) {
        self.gives_back(id);
        let mut truth = self.truth();
        truth.saw("refused sessions");
        let host = truth.connections[id].host;
        truth.hosts[host].refusals += 1;
        truth.hosts[host].last_refusal = Some(Instant::now());
    }

    /// The pool is about to be told to end everything of these hosts.
    pub(super) fn condemn(&self, which: impl Fn(&HostTruth) -> bool) {
        let now = Instant::now();
        let Truth { hosts, connections, counted, .. } = &mut *self.truth();
        for host in hosts.iter_mut().filter(|host| which(host)) {
            // Who closes a host goes beyond the four: what has failed before counts no more.
            counted.retain(|counted| counted.account != host.account);
            host.unwanted_logins = host.logins.len();
            host.last_closed = Some(now);
            host.forgets_failures();
            host.there.iter().for_each(|&id| connections[id].condemned = true);
        }
    }

    /// The pool is about to be told, or to find out, that this connection does not work.
    pub(super) fn condemn_one(&self, id: usize) {
        self.truth().connections[id].condemned = true;
    }

    /// A command on this connection has timed out: it may be probed while it is in use.
    pub(super) fn suspects(&self, id: usize) {
        self.truth().connections[id].suspect = Some(Instant::now());
    }
}

/// A caller that waits.
pub(super) struct Asking {
    world: Arc<World>,
    host: usize,
    until: Instant,
    /// Not set, it went away.
    pub answered: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let host = &mut self.world.truth().hosts[self.host];
        let place = host.asking.iter().position(|until| *until == self.until);
        host.asking.remove(place.expect("it was put there"));
        host.last_answered = Some(Instant::now());
        if !self.answered {
            host.last_vanished = Some(Instant::now());
        }
    }
}
