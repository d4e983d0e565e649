//! The world that the pool lives in, and its books.
//!
//! The fake keeps them about what the pool does with it, the callers of the tests about what they were given. So the pool is compared with
//! these and not with itself. Whatever must never happen is noted as a violation at the moment when it happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::fake::Fake;
use super::plan::{Nature, Plan};
use crate::config::PoolConfig;
use crate::error::ConnectErrorKind;
use crate::host::{Host, HostIdentity, PoolKey};

/// The shortest pause after a failed login: 200 ms less a quarter.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_millis(150);

/// How much later than its deadline a login is given up that does not keep it.
const LENIENCY: Duration = Duration::from_secs(1);

/// The books.
pub(super) struct World {
    pub config: PoolConfig,
    pub born: Instant,
    truth: Mutex<Truth>,
    planner: Mutex<Planner>,
}

type Planner = Box<dyn FnMut(&Host) -> Plan + Send>;

#[derive(Default)]
pub(super) struct Truth {
    pub hosts: Vec<HostTruth>,
    /// By id; they stay here after their end.
    pub connections: Vec<Facts>,
    pub violations: Vec<String>,
    pub shutdowns: usize,
    pub transport_gone: bool,
    /// The pool was closed for good.
    pub closed: bool,
    /// How often something happened.
    pub seen: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub(super) struct HostTruth {
    pub identity: HostIdentity,
    pub key: PoolKey,
    /// Connections that exist: from the end of their login until they are gone.
    pub there: Vec<usize>,
    pub logins_under_way: usize,
    /// When and to where each login was started.
    pub logins: Vec<(Instant, Option<String>)>,
    pub succeeded: u64,
    pub failed: u64,
    /// Connections and logins at once, at most.
    pub most: usize,
    /// The last outcome of a login.
    pub outcome: Option<Result<(), Failed>>,
    /// Whether the last login had failed or was given up when its host was closed at that very instant, only the pool knows.
    pub uncertain: bool,
    pub failures_in_a_row: u32,
    /// The callers that wait: when the time of each is over.
    pub asking: Vec<Instant>,
    /// Callers, ever.
    pub asked: u64,
    pub last_asked: Option<Instant>,
    /// Logins with a smaller number were under way when the host was closed: what they bring is not wanted any more.
    unwanted_logins: usize,
    pub refusals: u64,
    pub last_refusal: Option<Instant>,
    /// A caller went away: it may have had a session that it never saw.
    pub last_vanished: Option<Instant>,
    /// The last time that somebody asked for it to be closed.
    pub last_closed: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub at: Instant,
    /// Only a new caller is a reason to try again: surely, and perhaps. The books do not know the jitter of a pause.
    surely_permanent: bool,
    pub perhaps_permanent: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Facts {
    host: usize,
    pub phase: Phase,
    pub closing: bool,
    /// The pool has a reason to end it other than that nobody uses it.
    condemned: bool,
    pub sessions: usize,
    /// Told when the last session ends. Only a `close` listens.
    unused: Arc<Notify>,
    /// The last lease or release.
    pub used: Instant,
    /// The end of the last probe, or of the login.
    pub proven: Instant,
    pub probes: usize,
    pub probing: usize,
    nature: Nature,
    ended: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Up,
    /// Dead, but nobody has noticed.
    Dead,
    Ended,
}

impl World {
    pub(super) fn new(config: &PoolConfig) -> Arc<Self> {
        let planner: Planner = Box::new(|_| Plan::default());
        let truth = Mutex::new(Truth::default());
        Arc::new(World { config: config.clone(), born: Instant::now(), truth, planner: Mutex::new(planner) })
    }

    pub(super) fn transport(self: &Arc<Self>) -> Fake {
        Fake { world: Arc::clone(self) }
    }

    /// The next logins do this, and later ones what [`Plan::default`] says.
    pub(super) fn plan(&self, plans: impl IntoIterator<Item = Plan>) {
        let mut plans: VecDeque<Plan> = plans.into_iter().collect();
        self.plan_with(move |_| plans.pop_front().unwrap_or_default());
    }

    pub(super) fn plan_with(&self, planner: impl FnMut(&Host) -> Plan + Send + 'static) {
        *self.planner.lock().unwrap() = Box::new(planner);
    }

    /// Looks something up, or notes something, in the books.
    pub(super) fn books<R>(&self, look: impl FnOnce(&mut Truth) -> R) -> R {
        look(&mut self.truth())
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        // A test that failed with the books open has its own message; this is not to hide it.
        self.truth.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    pub(super) fn verify(&self) {
        let violations = self.truth().violations.join("\n");
        assert!(violations.is_empty(), "{violations}");
    }

    // ---- what a test does with it ----

    pub(super) fn set_probe(&self, id: usize, probe: Probe) {
        self.truth().connections[id].nature.probe = probe;
    }

    /// The pool is about to be told to end everything of these hosts.
    pub(super) fn condemn(&self, hosts: impl Fn(&HostTruth) -> bool) {
        let now = Instant::now();
        let Truth { hosts: all, connections, .. } = &mut *self.truth();
        for host in all.iter_mut().filter(|host| hosts(host)) {
            host.unwanted_logins = host.logins.len();
            host.last_closed = Some(now);
            host.there.iter().for_each(|&id| connections[id].condemned = true);
        }
    }

    pub(super) fn condemn_one(&self, id: usize) {
        self.truth().connections[id].condemned = true;
    }

    pub(super) fn saw(&self, what: &'static str) {
        *self.truth().seen.entry(what).or_default() += 1;
    }

    /// A caller asks, until what it gets here is dropped.
    pub(super) fn asks(self: &Arc<Self>, host: &Host) -> Asking {
        let now = Instant::now();
        let until = now + self.config.acquire_timeout;
        let mut truth = self.truth();
        let index = truth.index(host);
        let this = &mut truth.hosts[index];
        this.asking.push(until);
        this.asked += 1;
        this.last_asked = Some(now);
        Asking { world: Arc::clone(self), host: index, until, answered: false }
    }

    /// A caller has been given a session.
    pub(super) fn takes(&self, id: usize) {
        let now = Instant::now();
        let most = self.config.sessions_per_connection;
        let mut truth = self.truth();
        let facts = &mut truth.connections[id];
        facts.sessions += 1;
        facts.used = now;
        let crowded = facts.sessions > most;
        // What ends at the very instant at which it is handed out is nobody's mistake.
        let late = (facts.phase != Phase::Up || facts.closing) && facts.ended < now;
        if crowded {
            truth.violations.push(format!("connection {id} has more than {most} sessions"));
        }
        if late {
            truth.violations.push(format!("connection {id} was handed out after its end"));
        }
    }

    pub(super) fn gives_back(&self, id: usize) {
        let facts = &mut self.truth().connections[id];
        facts.sessions -= 1;
        facts.used = facts.used.max(Instant::now());
        if facts.sessions == 0 {
            facts.unused.notify_one();
        }
    }

    /// The session could not be opened.
    pub(super) fn refuses(&self, id: usize) {
        self.gives_back(id);
        self.saw("refused sessions");
        let mut truth = self.truth();
        let host = truth.connections[id].host;
        truth.hosts[host].refusals += 1;
        truth.hosts[host].last_refusal = Some(Instant::now());
    }

    // ---- what the pool does with it ----

    fn login_starts(self: &Arc<Self>, host: &Host) -> LoginUnderWay {
        let now = Instant::now();
        let max = self.config.max_connections;
        let mut truth = self.truth();
        let index = truth.index(host);
        let Truth { hosts, violations, .. } = &mut *truth;
        let this = &mut hosts[index];
        match this.outcome {
            _ if this.uncertain => {}
            // The pool may have decided on this login a moment before that one failed.
            Some(Err(failed)) if failed.at == now => {}
            None | Some(Err(_)) if this.logins_under_way > 0 => {
                violations.push("two logins at once before one has succeeded".to_owned());
            }
            Some(Err(failed)) if now < failed.at + SHORTEST_PAUSE => {
                violations.push(format!("a login {:?} after one that failed", now - failed.at));
            }
            Some(Err(failed)) if failed.surely_permanent && !this.asked_after(failed) => {
                violations.push("a login that nobody asked for after a permanent failure".to_owned());
            }
            _ => {}
        }
        this.logins.push((now, host.get_address().map(str::to_owned)));
        this.logins_under_way += 1;
        this.most = this.most.max(this.logins_under_way + this.there.len());
        if this.most > max {
            violations.push(format!("more than {max} connections"));
        }
        let number = this.logins.len() - 1;
        LoginUnderWay { world: Arc::clone(self), host: index, number, since: now }
    }

    fn died(self: &Arc<Self>, id: usize, phase: &watch::Sender<Phase>) {
        let delay = {
            let mut truth = self.truth();
            let facts = &mut truth.connections[id];
            if facts.phase != Phase::Up {
                return;
            }
            facts.condemned = true;
            let delay = facts.nature.noticed_after;
            *truth.seen.entry("ended by themselves").or_default() += 1;
            delay
        };
        if delay.is_zero() {
            self.becomes(id, phase, Phase::Ended);
            return;
        }
        self.becomes(id, phase, Phase::Dead);
        let (world, phase) = (Arc::clone(self), phase.clone());
        tokio::spawn(async move {
            sleep(delay).await;
            world.becomes(id, &phase, Phase::Ended);
        });
    }

    fn becomes(&self, id: usize, sender: &watch::Sender<Phase>, phase: Phase) {
        let mut truth = self.truth();
        let Truth { hosts, connections, .. } = &mut *truth;
        let facts = &mut connections[id];
        if facts.phase == Phase::Up {
            facts.ended = facts.ended.min(Instant::now());
        }
        facts.phase = phase;
        if phase == Phase::Ended {
            hosts[facts.host].there.retain(|&other| other != id);
        }
        drop(truth);
        sender.send_replace(phase);
    }
}

impl HostTruth {
    /// Whether somebody asked when the pause after this failure can have been over.
    fn asked_after(&self, failed: Failed) -> bool {
        self.last_asked.is_some_and(|at| at >= failed.at + SHORTEST_PAUSE)
    }
}

impl Truth {
    pub(super) fn host(&mut self, host: &Host) -> &mut HostTruth {
        let index = self.index(host);
        &mut self.hosts[index]
    }

    fn index(&mut self, host: &Host) -> usize {
        if let Some(index) = self.hosts.iter().position(|known| known.identity == *host.identity()) {
            return index;
        }
        self.hosts.push(HostTruth {
            identity: host.identity().clone(),
            key: host.key(),
            there: Vec::new(),
            logins_under_way: 0,
            logins: Vec::new(),
            succeeded: 0,
            failed: 0,
            most: 0,
            outcome: None,
            uncertain: false,
            failures_in_a_row: 0,
            asking: Vec::new(),
            asked: 0,
            last_asked: None,
            unwanted_logins: 0,
            refusals: 0,
            last_refusal: None,
            last_vanished: None,
            last_closed: None,
        });
        self.hosts.len() - 1
    }

    /// Connections that exist, of all hosts.
    pub(super) fn there(&self) -> usize {
        self.hosts.iter().map(|host| host.there.len()).sum()
    }

    pub(super) fn ids_of(&self, key: &PoolKey) -> Vec<usize> {
        let hosts = self.hosts.iter().filter(|host| host.key == *key);
        hosts.flat_map(|host| host.there.iter().copied()).collect()
    }

    pub(super) fn logins_under_way(&self) -> usize {
        self.hosts.iter().map(|host| host.logins_under_way).sum()
    }
}

/// A caller that waits.
pub(super) struct Asking {
    world: Arc<World>,
    host: usize,
    until: Instant,
    pub answered: bool,
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut truth = self.world.truth();
        let host = &mut truth.hosts[self.host];
        let place = host.asking.iter().position(|until| *until == self.until);
        host.asking.remove(place.expect("it was put there"));
        if !self.answered {
            host.last_vanished = Some(Instant::now());
        }
    }
}

/// A login that is under way until this is dropped.
struct LoginUnderWay {
    world: Arc<World>,
    host: usize,
    number: usize,
    since: Instant,
}

impl LoginUnderWay {
    fn succeeds(self, nature: Nature) -> FakeConnection {
        let now = Instant::now();
        let dies_after = nature.dies_after;
        let mut truth = self.world.truth();
        let id = truth.connections.len();
        let this = &mut truth.hosts[self.host];
        this.succeeded += 1;
        this.outcome = Some(Ok(()));
        this.uncertain = false;
        this.failures_in_a_row = 0;
        this.there.push(id);
        let condemned = self.number < this.unwanted_logins;
        truth.connections.push(Facts {
            host: self.host,
            phase: Phase::Up,
            closing: false,
            condemned,
            sessions: 0,
            unused: Arc::default(),
            used: now,
            proven: now,
            probes: 0,
            probing: 0,
            nature,
            // Long after the end of every test, until it does end.
            ended: now + Duration::from_secs(1_000_000),
        });
        drop(truth);
        let phase = watch::Sender::new(Phase::Up);
        if let Some(delay) = dies_after {
            let (world, phase) = (Arc::clone(&self.world), phase.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                world.died(id, &phase);
            });
        }
        FakeConnection { id, world: Arc::clone(&self.world), phase }
    }

    fn fails(self, kind: ConnectErrorKind) -> ConnectError {
        self.counts_as_failed(kind);
        ConnectError::new(kind, "as planned", Vec::new())
    }

    /// It ends without a result: closed, or, at this instant, given up by the pool.
    fn is_given_up(&self, at: Instant) {
        let now = Instant::now();
        if now < at {
            return;
        }
        let closed = {
            let this = &mut self.world.truth().hosts[self.host];
            this.uncertain = this.last_closed == Some(now);
            this.uncertain
        };
        if !closed {
            self.counts_as_failed(ConnectErrorKind::TimedOut);
        }
    }

    fn counts_as_failed(&self, kind: ConnectErrorKind) {
        let mut truth = self.world.truth();
        let this = &mut truth.hosts[self.host];
        this.failed += 1;
        this.failures_in_a_row += 1;
        // A wrong key is still wrong when a login that was under way beside it fails for another reason.
        let beside = this.outcome.and_then(Result::err).filter(|failed| self.since <= failed.at);
        let surely = beside.is_some_and(|failed| failed.surely_permanent && !this.asked_after(failed));
        let perhaps = beside.is_some_and(|failed| failed.perhaps_permanent);
        this.uncertain = false;
        this.outcome = Some(Err(Failed {
            at: Instant::now(),
            surely_permanent: kind.is_permanent() || surely,
            perhaps_permanent: kind.is_permanent() || perhaps,
        }));
    }
}

impl Drop for LoginUnderWay {
    fn drop(&mut self) {
        self.world.truth().hosts[self.host].logins_under_way -= 1;
    }
}

