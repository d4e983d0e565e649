//! The world that the pool lives in, and its books.
//!
//! The fake notes in them what the pool does with it, and the callers of the tests what they are
//! given. So the pool is compared with these, and not with itself. Whatever must never happen is
//! noted as a violation at the moment when it happens.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::plan::{Nature, Plan};
use super::{Duration, ms, secs};
use crate::config::PoolConfig;
use crate::error::ConnectErrorKind;
use crate::host::{Host, HostIdentity, PoolKey};
use crate::policy::ledger::{Account, MOST, WINDOW};

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

/// The books.
#[derive(Default)]
pub(super) struct Truth {
    pub hosts: Vec<HostTruth>,
    /// By id; they stay here after their end.
    pub connections: Vec<Facts>,
    pub violations: Vec<String>,
    /// Failed logins that count: when, and of which account.
    pub counted: Vec<Counted>,
    pub shutdowns: usize,
    /// What logins depend on.
    pub configuration: u64,
    pub transport_gone: bool,
    /// The pool was closed for good.
    pub closed: bool,
    /// How often something happened.
    pub seen: BTreeMap<&'static str, u64>,
}

/// A failed login that counts.
pub(super) struct Counted {
    at: Instant,
    account: Account,
    /// The server took it and closed the connection, which is forgotten when something has run.
    is_dropped: bool,
}

/// One host: what has its own connections.
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
    pub failures_in_a_row: u32,
    pub outcome: Outcome,
    /// Logins with a smaller number were under way when the host was closed: what they bring is not
    /// wanted any more.
    unwanted_logins: usize,
    /// Connections in a row that ended before a command of a caller had run on them, and the last
    /// of these ends.
    pub fruitless: u32,
    pub last_fruitless: Option<Instant>,
    pub account: Account,
    /// The callers that wait: when the time of each is over.
    pub asking: Vec<Instant>,
    /// When somebody has last got an answer, or gone away.
    last_answered: Option<Instant>,
    /// Callers, ever.
    pub asked: u64,
    pub refusals: u64,
    pub last_refusal: Option<Instant>,
    /// A caller went away: it may have had a session that it never saw.
    pub last_vanished: Option<Instant>,
    /// Somebody asked for it to be closed.
    pub last_closed: Option<Instant>,
}

/// How the last login ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// There was none.
    None,
    Succeeded,
    Failed(Failed),
    /// It was closed at the very instant at which its time was over, and only the pool knows which
    /// of them came first.
    Uncertain,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Failed {
    pub at: Instant,
    /// It is not worth trying again soon: surely, and perhaps. The books do not know the jitter of
    /// a pause.
    surely_permanent: bool,
    pub perhaps_permanent: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Facts {
    host: usize,
    pub nature: Nature,
    phase: watch::Sender<Phase>,
    pub closing: bool,
    /// Nobody is to get it before it is probed.
    pub suspect: Option<Instant>,
    /// The first instant at which it was not fit for a caller any more.
    ended: Option<Instant>,
    /// The pool has a reason to end it other than that nobody uses it.
    condemned: bool,
    /// It has ended by itself.
    died: bool,
    /// A command of a caller has run on it.
    pub ran: bool,
    pub sessions: usize,
    /// Sessions opened ahead of need that exist and that no caller has.
    pub standbys: usize,
    /// Told when the last session ends. Only a `close` listens.
    unused: Arc<Notify>,
    /// The last lease or release.
    pub used: Instant,
    /// The end of the last probe, or of the login.
    pub proven: Instant,
    pub probes: usize,
    pub probing: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Up,
    /// Dead, but nobody has been told.
    Dead,
    Ended,
}

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
        let most = self.config.sessions_per_connection;
        let Truth { connections, violations, .. } = &mut *self.truth();
        let facts = &mut connections[id];
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
        let facts = &mut self.truth().connections[id];
        facts.sessions -= 1;
        // On a thread without a runtime the clock is another one.
        facts.used = facts.used.max(Instant::now());
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

    // ---- standby ----

    pub(super) fn standby_opens(&self, id: usize) {
        let truth = &mut *self.truth();
        truth.saw("standbys opened");
        truth.connections[id].standbys += 1;
    }

    pub(super) fn standby_ends(&self, id: usize) {
        self.truth().connections[id].standbys -= 1;
    }

    // ---- logins ----

    pub(super) fn login_starts(self: &Arc<Self>, host: &Host) -> LoginUnderWay {
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

    // ---- connections ----

    /// It ends by itself. Those who watch it are told a moment later, if its nature is so.
    pub(super) fn dies(self: &Arc<Self>, id: usize) {
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

    pub(super) fn becomes(&self, id: usize, phase: Phase) {
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
    pub(super) fn closes(&self, id: usize) -> (Duration, Arc<Notify>) {
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
    pub(super) fn dropped(&self, id: usize) {
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

    pub(super) fn probe_starts(self: &Arc<Self>, id: usize) -> ProbeUnderWay {
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

impl Truth {
    pub(super) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(super) fn host(&mut self, host: &Host) -> &mut HostTruth {
        let index = self.index(host);
        &mut self.hosts[index]
    }

    fn index(&mut self, host: &Host) -> usize {
        let known = self.hosts.iter().position(|known| known.identity == *host.identity());
        known.unwrap_or_else(|| {
            self.hosts.push(HostTruth::new(host));
            self.hosts.len() - 1
        })
    }

    fn counts(&mut self, account: Account, is_dropped: bool) {
        let now = Instant::now();
        self.counted.push(Counted { at: now, account: account.clone(), is_dropped });
        let mut of_account = self.counted.iter().rev().filter(|counted| counted.account == account);
        if of_account.nth(MOST).is_some_and(|counted| now < counted.at + WINDOW) {
            self.violations
                .push(format!("more than {MOST} failed logins to {account} in {WINDOW:?}"));
        }
    }

    /// So many failures of accounts of this key that a login may have to wait, with so many under
    /// way.
    pub(super) fn is_used_up(&self, key: &PoolKey, under_way: usize) -> bool {
        let of_key: Vec<&Account> =
            self.hosts.iter().filter(|host| host.key == *key).map(|host| &host.account).collect();
        let counted = self.counted.iter().filter(|counted| of_key.contains(&&counted.account));
        counted.count() + under_way >= MOST
    }

    /// Connections that exist.
    pub(super) fn there(&self) -> usize {
        self.hosts.iter().map(|host| host.there.len()).sum()
    }

    pub(super) fn there_of(&self, key: &PoolKey) -> Vec<usize> {
        let hosts = self.hosts.iter().filter(|host| host.key == *key);
        hosts.flat_map(|host| host.there.iter().copied()).collect()
    }

    pub(super) fn logins_under_way(&self) -> usize {
        self.hosts.iter().map(|host| host.logins_under_way).sum()
    }

    pub(super) fn logins(&self) -> impl Iterator<Item = &(Instant, Option<String>)> {
        self.hosts.iter().flat_map(|host| &host.logins)
    }
}

impl HostTruth {
    fn new(host: &Host) -> Self {
        HostTruth {
            identity: host.identity().clone(),
            key: host.key(),
            there: Vec::new(),
            logins_under_way: 0,
            logins: Vec::new(),
            succeeded: 0,
            failed: 0,
            failures_in_a_row: 0,
            outcome: Outcome::None,
            unwanted_logins: 0,
            fruitless: 0,
            last_fruitless: None,
            account: Account::of(host),
            asking: Vec::new(),
            last_answered: None,
            asked: 0,
            refusals: 0,
            last_refusal: None,
            last_vanished: None,
            last_closed: None,
        }
    }
}

impl HostTruth {
    /// What has failed may be tried at once.
    pub(super) fn forgets_failures(&mut self) {
        if let Outcome::Failed(_) = self.outcome {
            self.outcome = Outcome::None;
        }
    }
}

impl Facts {
    pub(super) fn was_ended_by_server(&self) -> bool {
        self.died && self.nature.by_server
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
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

/// A login, until it is dropped.
pub(super) struct LoginUnderWay {
    world: Arc<World>,
    host: usize,
    number: usize,
    since: Instant,
}

impl LoginUnderWay {
    /// The new connection.
    pub(super) fn succeeds(self, nature: Nature) -> (usize, watch::Receiver<Phase>) {
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
        });
        (id, watcher)
    }

    /// The server has taken it and closed the connection.
    pub(super) fn is_dropped(&self) {
        self.failed(true, true);
    }

    pub(super) fn fails(&self, kind: ConnectErrorKind) {
        self.failed(kind.is_permanent(), false);
    }

    fn failed(&self, counts: bool, is_dropped: bool) {
        let truth = &mut *self.world.truth();
        if counts {
            let account = truth.hosts[self.host].account.clone();
            truth.counts(account, is_dropped);
            truth.saw("counted failures");
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
        });
    }

    /// It ends without a result: it was closed, or the pool has lost its patience, which it does a
    /// second after the deadline.
    pub(super) fn is_given_up(&self, deadline: Instant) {
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

/// A probe, until it is dropped.
pub(super) struct ProbeUnderWay {
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
