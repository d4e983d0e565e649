//! A transport of plans and notes. It does what a test has planned, in virtual time, and keeps its own books about what the pool does
//! with it: the tests compare the pool with these, not with itself.
//!
//! Whatever must never happen is noted as a violation at the moment when it happens; [`World::verify`] fails the test with them.

use std::collections::{BTreeMap, VecDeque};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::PoolConfig;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::{Host, HostIdentity, PoolKey};
use crate::pool::{Connection, Transport};

/// The shortest pause after a failed login: 200 ms less a quarter.
const SHORTEST_PAUSE: Duration = Duration::from_millis(150);

/// What one login does.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub after: Duration,
    pub login: Login,
    pub nature: Nature,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Login {
    Succeeds,
    Fails(ConnectErrorKind),
    /// Fails at the deadline, as it is asked to.
    Hangs,
    /// Not even that.
    NeverReturns,
    Panics,
}

/// How a connection behaves once it is there.
#[derive(Clone, Debug)]
pub(super) struct Nature {
    pub dies_after: Option<Duration>,
    /// From its end until `ended` completes.
    pub noticed_after: Duration,
    pub probe: Probe,
    /// How long its end takes when it is closed.
    pub closing: Duration,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Probe {
    Passes(Duration),
    Fails(Duration),
    Hangs,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { after: Duration::from_millis(100), login: Login::Succeeds, nature: Nature::default() }
    }
}

impl Default for Nature {
    fn default() -> Self {
        let zero = Duration::ZERO;
        Nature { dies_after: None, noticed_after: zero, probe: Probe::Passes(zero), closing: zero }
    }
}

impl Plan {
    pub(super) fn succeeds_after(after: Duration) -> Self {
        Plan { after, ..Plan::default() }
    }

    pub(super) fn fails(kind: ConnectErrorKind) -> Self {
        Plan { login: Login::Fails(kind), ..Plan::default() }
    }

    pub(super) fn probe(mut self, probe: Probe) -> Self {
        self.nature.probe = probe;
        self
    }

    pub(super) fn closing(mut self, closing: Duration) -> Self {
        self.nature.closing = closing;
        self
    }

    pub(super) fn noticed_after(mut self, delay: Duration) -> Self {
        self.nature.noticed_after = delay;
        self
    }
}

/// The transport: a handle to the world. The pool owns it, and the world learns when it is gone.
pub(super) struct Fake {
    world: Arc<World>,
}

/// The books.
pub(super) struct World {
    pub config: PoolConfig,
    truth: Mutex<Truth>,
    planner: Mutex<Planner>,
}

type Planner = Box<dyn FnMut(&Host) -> Plan + Send>;

#[derive(Default)]
pub(super) struct Truth {
    hosts: Vec<HostTruth>,
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
    /// The last outcome of a login: `Ok` or when it failed and whether that was for good.
    pub outcome: Option<Result<(), (Instant, bool)>>,
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

/// One connection.
pub(super) struct Facts {
    host: usize,
    pub phase: Phase,
    pub closing: bool,
    /// The pool has a reason to end it other than that nobody uses it.
    condemned: bool,
    pub sessions: usize,
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
        Arc::new(World { config: config.clone(), truth, planner: Mutex::new(planner) })
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
            None | Some(Err(_)) if this.logins_under_way > 0 => {
                violations.push("two logins at once before one has succeeded".to_owned());
            }
            Some(Err((failed, _))) if now < failed + SHORTEST_PAUSE => {
                violations.push(format!("a login {:?} after one that failed", now - failed));
            }
            Some(Err((failed, true))) if this.last_asked.is_some_and(|at| at < failed + SHORTEST_PAUSE) => {
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
        LoginUnderWay { world: Arc::clone(self), host: index, number: this.logins.len() - 1 }
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

    pub(super) fn hosts(&self) -> &[HostTruth] {
        &self.hosts
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
        this.failures_in_a_row = 0;
        this.there.push(id);
        let condemned = self.number < this.unwanted_logins;
        truth.connections.push(Facts {
            host: self.host,
            phase: Phase::Up,
            closing: false,
            condemned,
            sessions: 0,
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

    fn counts_as_failed(&self, kind: ConnectErrorKind) {
        let mut truth = self.world.truth();
        let this = &mut truth.hosts[self.host];
        this.failed += 1;
        this.failures_in_a_row += 1;
        this.outcome = Some(Err((Instant::now(), kind.is_permanent())));
    }
}

impl Drop for LoginUnderWay {
    fn drop(&mut self) {
        self.world.truth().hosts[self.host].logins_under_way -= 1;
    }
}

impl Transport for Fake {
    type Connection = FakeConnection;

    async fn connect(&self, host: &Host, deadline: Instant) -> Result<FakeConnection, ConnectError> {
        let Plan { after, login, nature } = (self.world.planner.lock().unwrap())(host);
        let under_way = self.world.login_starts(host);
        let until = Instant::now() + after;
        match login {
            Login::Hangs => sleep_until(deadline).await,
            _ => sleep_until(until.min(deadline)).await,
        }
        match login {
            Login::Hangs => Err(under_way.fails(ConnectErrorKind::TimedOut)),
            _ if until > deadline => Err(under_way.fails(ConnectErrorKind::TimedOut)),
            Login::Succeeds => Ok(under_way.succeeds(nature)),
            Login::Fails(kind) => Err(under_way.fails(kind)),
            Login::NeverReturns => {
                // Given up when it is dropped a second after the deadline; dropped earlier, it was closed.
                let _given_up = OnDrop(|| {
                    if Instant::now() >= deadline + Duration::from_secs(1) {
                        under_way.counts_as_failed(ConnectErrorKind::TimedOut);
                    }
                });
                std::future::pending().await
            }
            Login::Panics => {
                under_way.counts_as_failed(ConnectErrorKind::Local);
                // Not `panic!`, which would write to the output of a test that passes.
                resume_unwind(Box::new("as planned"))
            }
        }
    }

    async fn shutdown(&self) {
        self.world.truth().shutdowns += 1;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.world.truth().transport_gone = true;
    }
}

pub(super) struct FakeConnection {
    pub id: usize,
    world: Arc<World>,
    phase: watch::Sender<Phase>,
}

impl FakeConnection {
    /// Its process ends by itself.
    pub(super) fn die(&self) {
        self.world.died(self.id, &self.phase);
    }

    async fn is_in(&self, phase: impl Fn(&Phase) -> bool) {
        let mut receiver = self.phase.subscribe();
        receiver.wait_for(phase).await.expect("the sender is in self");
    }
}

impl Connection for FakeConnection {
    async fn probe(&self) -> Result<(), String> {
        let probe = {
            let mut truth = self.world.truth();
            let now = Instant::now();
            let facts = &mut truth.connections[self.id];
            facts.probing += 1;
            facts.probes += 1;
            let (probe, twice) = (facts.nature.probe, facts.probing > 1);
            let in_use = facts.sessions > 0 && facts.used < now;
            if twice || in_use {
                truth.violations.push(format!("connection {} is probed twice at once or in use", self.id));
            }
            probe
        };
        let _over = OnDrop(|| {
            let facts = &mut self.world.truth().connections[self.id];
            facts.probing -= 1;
            facts.proven = Instant::now();
            facts.condemned |= !matches!(probe, Probe::Passes(_));
        });
        match probe {
            Probe::Passes(after) => {
                sleep(after).await;
                self.world.saw("checks passed");
            }
            Probe::Fails(after) => {
                sleep(after).await;
                self.world.saw("checks failed");
                return Err("as planned".to_owned());
            }
            Probe::Hangs => std::future::pending().await,
        }
        if self.is_alive() { Ok(()) } else { Err("it has ended".to_owned()) }
    }

    fn is_alive(&self) -> bool {
        *self.phase.borrow() == Phase::Up
    }

    async fn ended(&self) -> String {
        self.is_in(|phase| *phase == Phase::Ended).await;
        "as planned".to_owned()
    }

    async fn close(&self, patience: Duration) {
        let closing = {
            let now = Instant::now();
            let idle_timeout = self.world.config.idle_timeout;
            let mut truth = self.world.truth();
            let facts = &mut truth.connections[self.id];
            facts.closing = true;
            facts.ended = facts.ended.min(now);
            let (closing, condemned, in_use) = (facts.nature.closing, facts.condemned, facts.sessions > 0);
            let early = now < facts.used + idle_timeout;
            if !condemned && in_use {
                truth.violations.push(format!("connection {} was closed while in use", self.id));
            }
            if !condemned {
                *truth.seen.entry("closed idle").or_default() += 1;
            }
            if !condemned && early {
                truth.violations.push(format!("connection {} was closed too early", self.id));
            }
            closing
        };
        let unused = async {
            // A session of the fake ends when its lease is dropped, and nobody tells: a look at each millisecond is cheap in virtual time.
            while self.world.truth().connections[self.id].sessions > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = self.is_in(|phase| *phase == Phase::Ended) => return,
            _ = tokio::time::timeout(patience, unused) => {}
        }
        tokio::select! {
            () = self.is_in(|phase| *phase == Phase::Ended) => return,
            () = sleep(closing) => {}
        }
        self.world.becomes(self.id, &self.phase, Phase::Ended);
    }
}

impl Drop for FakeConnection {
    fn drop(&mut self) {
        if *self.phase.borrow() != Phase::Ended {
            self.world.becomes(self.id, &self.phase, Phase::Ended);
        }
    }
}

/// Runs when it is dropped, a future that is given up included.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
