//! The state of one pool key: its slots and its tenants. Plain data and plain functions: no locks,
//! no tasks, no clock.
//!
//! A tenant is one identity of the key: callers who may share connections with each other, and with
//! nobody else. Each has a queue and a last failure of its own. The slots belong to the key:
//! `max_connections` holds for all tenants together.
//!
//! After every change the owner calls [`KeyState::settle`], which is the only place that decides.
//! It gives free sessions to waiters, first come first served; starts as many logins as the queues
//! need; and turns away those who cannot be served. So nothing is forgotten as long as every change
//! is followed by a `settle`, and that is what `Cell::update` is for.

mod settle;
mod standby;
mod tenant;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::cell::Lease;
use super::ledger::{Account, Ledger, Place, Wake};
use super::maintenance::Depth;
use super::standby::Standby;
use super::{Stats, YOUNG};
use crate::config::PoolConfig;
use crate::error::{ConnectError, ConnectErrorKind, Error};
use crate::host::{Host, HostIdentity, PoolKey, Variables};
use crate::transport::{Configuration, Connection, Transport};
use tenant::{Tenant, TenantId};

/// How long a lowered session limit stands before one more session is tried.
const LIMIT_STANDS: Duration = Duration::from_secs(10);
/// The first and the longest rest of a connection that refuses even a single session.
const FIRST_REST: Duration = Duration::from_millis(4);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// For what runs on a connection that is not handed out any more though it may still work: it is
/// idle, and somebody else may use its socket; or it has failed a check or one of its commands,
/// which need not mean all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ended connections of which it is not known whether anything has run on them.
const MOST_DOUBTS: usize = 16;

/// The life of a slot. Each state names its successors; only the methods below change it.
enum Slot<C: Connection> {
    /// → Connecting
    Empty,
    /// A login is under way. → Ready, Closing (closed meanwhile), Empty (it failed)
    Connecting { tenant: TenantId, retire: Retire },
    /// → Closing
    Ready(Ready<C>),
    /// Its connection is being ended. It still counts towards the maximum. → Empty
    Closing {
        tenant: TenantId,
        retire: Retire,
        /// Tells those that were closed before some moment from those of later.
        number: u64,
    },
}

impl<C: Connection> Slot<C> {
    /// Whose it is.
    fn tenant(&self) -> Option<TenantId> {
        match self {
            Slot::Empty => None,
            Slot::Connecting { tenant, .. }
            | Slot::Ready(Ready { tenant, .. })
            | Slot::Closing { tenant, .. } => Some(*tenant),
        }
    }

    /// Nothing is in it, or nothing that will be handed out.
    fn is_unused(&self) -> bool {
        match self {
            Slot::Empty | Slot::Closing { .. } => true,
            Slot::Connecting { .. } => false,
            Slot::Ready(ready) => ready.leaving,
        }
    }
}

/// Tells the slot's task to close, with the patience that it has for what still runs. Told again,
/// the sooner end counts.
type Retire = mpsc::UnboundedSender<Duration>;

struct Ready<C: Connection> {
    tenant: TenantId,
    connection: Arc<C>,
    /// Tells this connection from others that the slot has had: a lease of an earlier one changes
    /// nothing here.
    generation: u64,
    retire: Retire,
    leases: usize,
    /// Somebody was asked something for it. Another login would fail as long as nobody can be
    /// asked.
    asked: bool,
    /// When it was ready.
    made: Instant,
    /// The last lease or release, which is what `idle_timeout` counts from.
    used: Instant,
    /// The last proof that it works.
    proven: Instant,
    /// The last time that this machine's part of it answered.
    answered: Instant,
    checking: Option<Depth>,
    /// A command on it has timed out: nobody gets it before a check has passed, or until then.
    suspect_until: Option<Instant>,
    /// Sessions at once, as far as the server has let us know.
    limit: usize,
    limit_set: Instant,
    /// Refusals in a row while nobody else of us had a session.
    rests: u32,
    rests_until: Option<Instant>,
    /// Opened ahead of need, the oldest first.
    standbys: VecDeque<Standby<C>>,
    /// Standbys that a task is opening.
    opening: usize,
    /// A command of a caller has run on it.
    ran: bool,
    /// Nobody gets it any more, and it is closed at the end of its last lease.
    leaving: bool,
    /// Somebody of another tenant waits for its place, with this ticket: only who came before gets
    /// a session on it. It is closed when its last lease ends, unless nobody waits for its place
    /// any more.
    yields_to: Option<Ticket>,
}

/// The place of a waiter in the order in which all of a key have come.
type Ticket = u64;

impl<C: Connection> Ready<C> {
    fn is_suspect(&self, now: Instant) -> bool {
        self.suspect_until.is_some_and(|until| until > now)
    }

    /// It has sessions that can be had as soon as a check has passed.
    fn promises(&self, now: Instant) -> bool {
        self.is_suspect(now) && self.leases < self.limit
    }

    /// How much is checked next, and since when it has not been.
    fn next_check(&self) -> (Depth, Instant) {
        match self.leases {
            0 => (Depth::Whole, self.proven),
            _ => (Depth::Local, self.answered.max(self.proven)),
        }
    }

    fn has_room(&self, now: Instant) -> bool {
        !self.leaving
            && !self.is_suspect(now)
            && self.leases < self.limit
            && self.rests_until.is_none_or(|until| until <= now)
    }

    /// If it ended now, it would have been of no use to anybody, and another one may not be either.
    fn is_fruitless(&self, now: Instant) -> bool {
        !self.ran && now < self.made + YOUNG
    }

    /// Sessions on it can be expected soon without anybody giving one back.
    fn is_promising(&self, now: Instant) -> bool {
        let rests = self.rests_until.is_some_and(|until| until > now);
        !self.leaving && (self.promises(now) || rests || !self.connection.is_alive())
    }
}

pub(super) struct Waiter<T: Transport> {
    /// Gets the lease or the refusal. A lease that finds no receiver is dropped there, and so given
    /// back.
    sender: oneshot::Sender<Result<Lease<T>, Error>>,
    deadline: Instant,
    ticket: Ticket,
    /// What its session is to send to the server.
    variables: Arc<Variables>,
}

/// What is said of a connection that has ended young.
fn fruitless(reason: &str) -> ConnectError {
    let detail = format!("logged in, but the connection ended before a command ran: {reason}");
    ConnectError::new(ConnectErrorKind::Other, detail, Vec::new())
}

/// One session on one connection, counted; to be wrapped into a [`Lease`] at once.
pub(super) struct Grant<C> {
    pub slot: usize,
    pub generation: u64,
    pub connection: Arc<C>,
}

/// What there is to tell of a connection.
pub(crate) struct Facts<C> {
    pub key: PoolKey,
    pub slot: usize,
    pub connection: Arc<C>,
    pub age: Duration,
    /// Since when nobody uses it; `None` while somebody does.
    pub idle: Option<Duration>,
    pub sessions: usize,
    pub standby: usize,
    /// Sessions at once, as far as the server has let us know.
    pub limit: usize,
}

/// What the owner has to do after a `settle`, outside the lock.
pub(super) enum Action<T: Transport> {
    Grant(oneshot::Sender<Result<Lease<T>, Error>>, Grant<T::Connection>),
    Refuse(oneshot::Sender<Result<Lease<T>, Error>>, Error),
    Connect {
        slot: usize,
        host: Host,
        place: Place,
        retired: mpsc::UnboundedReceiver<Duration>,
    },
    /// Open sessions ahead of need.
    Standby {
        slot: usize,
        generation: u64,
        connection: Arc<T::Connection>,
        count: usize,
        variables: Arc<Variables>,
    },
    /// Sessions that nobody needs any more, to be dropped.
    Discard(Vec<Standby<T::Connection>>),
    /// Somebody waits for nothing but the time.
    SettleAt(Instant),
}

pub(super) struct KeyState<T: Transport> {
    key: PoolKey,
    slots: Vec<Slot<T::Connection>>,
    tenants: BTreeMap<TenantId, Tenant<T>>,
    by_identity: HashMap<HostIdentity, TenantId>,
    /// Those in whose queues somebody is.
    queued: BTreeSet<TenantId>,
    /// Those that may have nothing left that is worth remembering.
    quiet: Vec<TenantId>,
    /// So many tenants are looked through for those that can be forgotten.
    crowd: usize,
    /// Some connection yields.
    yielding: bool,
    closed: bool,
    next_tenant: TenantId,
    next_ticket: Ticket,
    next_generation: u64,
    /// How many connections were closed, ever.
    closings: u64,
    /// Where sessions in standby are to be opened, if nobody else needs the connection now.
    refill: Option<usize>,
    discarded: Vec<Standby<T::Connection>>,
    /// The earliest `SettleAt` that was asked for and has not come.
    alarm: Option<Instant>,
    ledger: Arc<Ledger>,
    /// What the ledger is to wake.
    waits: Weak<dyn Wake>,
    /// Connections that have ended young, while somebody had a lease whose command may have run.
    /// The last ones.
    doubts: VecDeque<(u64, TenantId)>,
    /// Counters only; the gauges are worked out when somebody asks.
    counters: Stats,
}

impl<T: Transport> KeyState<T> {
    pub(super) fn new(
        key: PoolKey,
        config: &PoolConfig,
        ledger: Arc<Ledger>,
        waits: Weak<dyn Wake>,
    ) -> Self {
        KeyState {
            key,
            slots: (0..config.max_connections).map(|_| Slot::Empty).collect(),
            tenants: BTreeMap::new(),
            by_identity: HashMap::new(),
            queued: BTreeSet::new(),
            quiet: Vec::new(),
            crowd: 0,
            yielding: false,
            closed: false,
            next_tenant: 0,
            next_ticket: 0,
            next_generation: 0,
            closings: 0,
            refill: None,
            discarded: Vec::new(),
            alarm: None,
            ledger,
            waits,
            doubts: VecDeque::new(),
            counters: Stats::default(),
        }
    }

    // ---- callers ----

    /// A session for a caller that has just come. Nobody overtakes the queue: a session can be free
    /// though others wait, when a rest is over and its alarm has not rung yet.
    pub(super) fn take_at_once(
        &mut self,
        host: &Host,
        now: Instant,
    ) -> Option<Grant<T::Connection>> {
        let id = *self.by_identity.get(host.identity())?;
        self.forget_the_gone(id);
        if self.queued.contains(&id) {
            return None;
        }
        let grant = self.take_free(id, Ticket::MAX, &host.login().variables, now)?;
        self.counters.pool_hits += 1;
        self.came(id, host);
        Some(grant)
    }

    /// The last one of a tenant says what sessions in standby are to send.
    fn came(&mut self, id: TenantId, host: &Host) {
        let tenant = self.tenants.get_mut(&id).expect("a tenant that somebody comes for is there");
        if tenant.variables != host.login().variables {
            tenant.variables = Arc::clone(&host.login().variables);
        }
    }

    /// A free session: where one is in standby that sends these variables, and else on the
    /// connection that was used last, so that the others can grow idle.
    fn take_free(
        &mut self,
        id: TenantId,
        ticket: Ticket,
        variables: &Variables,
        now: Instant,
    ) -> Option<Grant<T::Connection>> {
        let (slot, ready) = self
            .slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| match slot {
                Slot::Ready(ready)
                    if ready.tenant == id
                        && ready.has_room(now)
                        && ready.yields_to.is_none_or(|other| ticket < other)
                        && ready.connection.is_alive() =>
                {
                    Some((index, ready))
                }
                _ => None,
            })
            .max_by_key(|(_, ready)| (ready.has_standby(variables), ready.used))?;
        ready.leases += 1;
        ready.used = now;
        ready.rests_until = None;
        // Whoever comes first has the connection to himself; there will be a standby when the
        // session is given back.
        self.refill = self.refill.filter(|refill| *refill != slot);
        Some(Grant {
            slot,
            generation: ready.generation,
            connection: Arc::clone(&ready.connection),
        })
    }

    /// Joins the queue. A connection is made, if one is needed, by the `settle` that follows.
    pub(super) fn enqueue(
        &mut self,
        host: &Host,
        sender: oneshot::Sender<Result<Lease<T>, Error>>,
        deadline: Instant,
        now: Instant,
        config: &PoolConfig,
        is_mended: bool,
    ) {
        let id = self.tenant_of(host, now);
        self.forget_the_gone(id);
        let is_unused = |slot: &Slot<T::Connection>| {
            slot.tenant().is_none_or(|of| of != id) || slot.is_unused()
        };
        let is_unused = self.slots.iter().all(is_unused);
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let tenant = self.tenants.get_mut(&id).expect("it is there since a moment ago");
        if is_unused && tenant.waiters.is_empty() {
            // Nobody gets a connection to the old address any more: the newest caller's counts.
            tenant.host = host.clone();
            tenant.account = Account::of(host);
        }
        // Whoever comes brings his own agent for the keys.
        tenant.host.take_login_of(host);
        if is_mended {
            tenant.is_mended(now);
        }
        tenant.used_up = self.ledger.used_up(&tenant.account, &self.key, now);
        let place = tenant.waiters.len();
        let variables = Arc::clone(&host.login().variables);
        tenant.waiters.push_back(Waiter { sender, deadline, ticket, variables });
        self.queued.insert(id);
        self.came(id, host);
        // For whoever has come, connections of others make room that nobody uses.
        let idle =
            self.ready_ones().filter(|(_, ready)| ready.tenant != id && ready.leases == 0).count();
        let expected = self.expected(idle, now, config).get(&id).copied().unwrap_or_default();
        if !self.closed && expected * config.sessions_per_connection > place {
            self.counters.pool_misses += 1;
        }
    }

    /// What could mend the failure for which a caller that has just come would be turned away.
    /// Nothing can where the account's failures are used up.
    pub(super) fn watched(
        &self,
        host: &Host,
        now: Instant,
    ) -> Option<(ConnectErrorKind, Configuration)> {
        let tenant = self.tenants.get(self.by_identity.get(host.identity())?)?;
        let watched = tenant.watched(now)?;
        self.ledger.used_up(&tenant.account, &self.key, now).is_none().then_some(watched)
    }

    // ---- leases ----

    pub(super) fn release(
        &mut self,
        slot: usize,
        generation: u64,
        now: Instant,
        config: &PoolConfig,
    ) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.leases -= 1;
            ready.used = now;
            ready.rests = 0;
            if ready.limit < config.sessions_per_connection && now - ready.limit_set > LIMIT_STANDS
            {
                ready.limit += 1;
                ready.limit_set = now;
            }
            self.refill = Some(slot);
            self.leaves(slot);
        }
        self.is_no_doubt(generation);
    }

    /// The server would not open a session for this lease, which ends with that. The connection is
    /// not asked for as many again, or, when nobody else of us had one there (sessions of commands
    /// that were given up linger), it rests for a moment.
    pub(super) fn refused(&mut self, slot: usize, generation: u64, now: Instant) {
        self.counters.refused_sessions += 1;
        if let Some(ready) = self.ready(slot, generation) {
            ready.leases -= 1;
            ready.used = now;
            ready.limit = ready.limit.min(ready.leases).max(1);
            ready.limit_set = now;
            if ready.leases == 0 {
                let rest = FIRST_REST.saturating_mul(1 << ready.rests.min(10)).min(LONGEST_REST);
                ready.rests += 1;
                ready.rests_until = Some(now + rest);
            }
            self.leaves(slot);
        }
    }

    /// The server has refused a session beside those of the leases.
    pub(super) fn full(&mut self, slot: usize, generation: u64, now: Instant) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.limit = ready.limit.min(ready.leases).max(1);
            ready.limit_set = now;
        }
    }

    /// A command has run there, or was lost while it ran. Gives the account if its connections have
    /// seemed to be dropped.
    pub(super) fn ran(&mut self, slot: usize, generation: u64) -> Option<Account> {
        self.is_no_doubt(generation);
        let ready = self.ready(slot, generation)?;
        ready.ran = true;
        let id = ready.tenant;
        let tenant = self.tenants.get_mut(&id)?;
        tenant.ran();
        self.ledger.has_dropped().then(|| tenant.account.clone())
    }

    /// Found broken: nobody gets it any more. What else runs on it may finish, should it be able
    /// to.
    pub(super) fn broken(&mut self, slot: usize, generation: u64, now: Instant) {
        match self.ready(slot, generation) {
            Some(ready) => {
                let patience = if ready.leases > 1 { PATIENCE } else { Duration::ZERO };
                let was_fruitless = ready.is_fruitless(now);
                let tenant = ready.tenant;
                self.retire(slot, patience);
                if was_fruitless {
                    self.was_fruitless(tenant, fruitless("no session could be opened on it"), now);
                }
            }
            // Its end was known first, and not whether anything had run on it.
            None => {
                if let Some(place) = self.doubts.iter().position(|(of, _)| *of == generation) {
                    let (_, tenant) = self.doubts.remove(place).expect("it was found a line ago");
                    self.was_fruitless(tenant, fruitless("no session could be opened on it"), now);
                }
            }
        }
    }

    /// What has ended with this connection has run, or nobody knows better.
    fn is_no_doubt(&mut self, generation: u64) {
        if let Some(place) = self.doubts.iter().position(|(of, _)| *of == generation) {
            self.quiet.extend(self.doubts.remove(place).map(|(_, tenant)| tenant));
        }
    }

    /// A connection has ended young, before anything of a caller had run on it: as if the login had
    /// failed.
    fn was_fruitless(&mut self, id: TenantId, error: ConnectError, now: Instant) {
        let ticket = self.next_ticket;
        if let Some(tenant) = self.tenants.get_mut(&id) {
            let used_up = self.ledger.used_up(&tenant.account, &self.key, now);
            tenant.failed(error, None, used_up, ticket, now);
            tenant.was_fruitless();
        }
    }

    /// The server has a session on it that will not end, and no other one to spare. Whoever else
    /// runs there is not disturbed.
    pub(super) fn useless(&mut self, slot: usize, generation: u64) {
        if self.ready(slot, generation).is_some_and(|ready| ready.leases == 1) {
            self.retire(slot, Duration::ZERO);
        }
    }

    /// It may be broken: nobody gets it before it is checked, which the caller is to do if a
    /// connection is given. A check that does not come to its end has no say after `until`.
    pub(super) fn suspect(
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

    /// What was to ring at this instant does not.
    pub(super) fn forget_alarm(&mut self, instant: Instant) {
        self.alarm = self.alarm.filter(|alarm| *alarm != instant);
    }

    pub(super) fn counters(&mut self) -> &mut Stats {
        &mut self.counters
    }

    // ---- the slot's task ----

    /// The login succeeded. Where the slot was closed meanwhile, the task hears of that and closes
    /// the connection.
    pub(super) fn connected(
        &mut self,
        slot: usize,
        connection: Arc<T::Connection>,
        asked: bool,
        now: Instant,
        config: &PoolConfig,
    ) {
        self.counters.connects += 1;
        if let Some(tenant) = self.slots[slot].tenant().and_then(|id| self.tenants.get_mut(&id)) {
            tenant.succeeded();
        }
        let Slot::Connecting { tenant, retire } = &self.slots[slot] else {
            return;
        };
        self.next_generation += 1;
        self.slots[slot] = Slot::Ready(Ready {
            tenant: *tenant,
            connection,
            generation: self.next_generation,
            retire: retire.clone(),
            leases: 0,
            asked,
            made: now,
            used: now,
            proven: now,
            answered: now,
            checking: None,
            suspect_until: None,
            limit: config.sessions_per_connection,
            limit_set: now,
            rests: 0,
            rests_until: None,
            standbys: VecDeque::new(),
            opening: 0,
            ran: false,
            leaving: false,
            yields_to: None,
        });
        self.refill = Some(slot);
    }

    pub(super) fn connect_failed(
        &mut self,
        slot: usize,
        error: ConnectError,
        watched: Option<Configuration>,
        now: Instant,
    ) {
        self.counters.failed_connects += 1;
        let tenant = self.slots[slot].tenant();
        self.emptied(slot);
        if let Some(tenant) = tenant.and_then(|id| self.tenants.get_mut(&id)) {
            let used_up = self.ledger.used_up(&tenant.account, &self.key, now);
            tenant.failed(error, watched, used_up, self.next_ticket, now);
        }
    }

    /// Closes the breakers: the next caller tries.
    pub(super) fn reset(&mut self) {
        self.tenants.values_mut().for_each(Tenant::reset);
        self.quiet.extend(self.tenants.keys());
    }

    /// The connection ended by itself. While nobody uses it that is for the health checks to count:
    /// they would have found it. `is_counted`: the server has closed it, and nothing had run on it.
    pub(super) fn lost(
        &mut self,
        slot: usize,
        reason: &str,
        is_counted: bool,
        now: Instant,
        config: &PoolConfig,
    ) {
        let mut was_fruitless = None;
        if let Slot::Ready(ready) = &self.slots[slot] {
            let (tenant, generation) = (ready.tenant, ready.generation);
            if ready.leases == 0 && config.health_checks {
                self.counters.health_check_failures += 1;
            }
            if is_counted || (ready.is_fruitless(now) && ready.leases == 0) {
                was_fruitless = Some(tenant);
            } else if ready.is_fruitless(now) {
                self.doubts.push_back((generation, tenant));
                if self.doubts.len() > MOST_DOUBTS {
                    self.quiet.extend(self.doubts.pop_front().map(|(_, tenant)| tenant));
                }
            }
        }
        self.retire(slot, Duration::ZERO);
        if let Some(tenant) = was_fruitless {
            let error = fruitless(reason);
            self.was_fruitless(tenant, if is_counted { error.dropped() } else { error }, now);
        }
    }

    /// Nothing is left in the slot.
    pub(super) fn emptied(&mut self, slot: usize) {
        self.quiet.extend(self.slots[slot].tenant());
        self.slots[slot] = Slot::Empty;
    }

    fn connecting(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Connecting { .. })).count()
    }

    fn ready_ones(&self) -> impl Iterator<Item = (usize, &Ready<T::Connection>)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Ready(ready) => Some((index, ready)),
            _ => None,
        })
    }

    fn ready(&mut self, slot: usize, generation: u64) -> Option<&mut Ready<T::Connection>> {
        match &mut self.slots[slot] {
            Slot::Ready(ready) if ready.generation == generation => Some(ready),
            _ => None,
        }
    }

    /// Those of this host that live and go on to serve it, the one used last first.
    pub(super) fn connections(&self, host: &Host) -> Vec<Arc<T::Connection>> {
        let Some(&id) = self.by_identity.get(host.identity()) else { return Vec::new() };
        let is_wanted = |ready: &&Ready<T::Connection>| {
            ready.tenant == id && !ready.leaving && ready.connection.is_alive()
        };
        let mut ready: Vec<_> =
            self.ready_ones().map(|(_, ready)| ready).filter(is_wanted).collect();
        ready.sort_by_key(|ready| std::cmp::Reverse(ready.used));
        ready.into_iter().map(|ready| Arc::clone(&ready.connection)).collect()
    }

    /// What there is to tell of each connection, by slot.
    pub(super) fn facts(&self, now: Instant) -> Vec<Facts<T::Connection>> {
        let facts = |(slot, of): (usize, &Slot<T::Connection>)| match of {
            Slot::Ready(ready) => Some(Facts {
                key: self.key.clone(),
                slot,
                connection: Arc::clone(&ready.connection),
                age: now.saturating_duration_since(ready.made),
                idle: (ready.leases == 0).then(|| now.saturating_duration_since(ready.used)),
                sessions: ready.leases,
                standby: ready.standbys.len(),
                limit: ready.limit,
            }),
            _ => None,
        };
        self.slots.iter().enumerate().filter_map(facts).collect()
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = self.counters;
        let waiters = self.queued.iter().flat_map(|id| &self.tenants[id].waiters);
        stats.waiting = waiters.filter(|waiter| !waiter.sender.is_closed()).count();
        stats.connecting = self.connecting();
        for slot in &self.slots {
            if let Slot::Ready(ready) = slot {
                stats.total_connections += 1;
                stats.open_sessions += ready.leases;
                stats.standby_sessions += ready.standbys.len();
                stats.plain_connections += usize::from(ready.connection.is_plain());
                if ready.leases == 0 {
                    stats.idle_connections += 1;
                } else {
                    stats.active_connections += 1;
                }
            }
        }
        stats
    }
}
