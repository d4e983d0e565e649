//! The state of one host: its slots, its queue, its last failure. Plain data and plain functions: no locks, no tasks, no clock.
//!
//! After every change the owner calls [`HostState::settle`], which is the only place that decides. It gives free sessions to waiters,
//! first come first served; starts as many logins as the queue needs; and turns away those who cannot be served. So nothing is
//! forgotten as long as every change is followed by a `settle`, and that is what `Cell::update` is for.

mod standby;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::cell::Lease;
use super::maintenance::Depth;
use super::standby::Standby;
use super::{Configuration, Connection, Stats, Transport, backoff};
use crate::config::PoolConfig;
use crate::error::{ConnectError, Error};
use crate::host::{Host, PoolKey};

/// How long a lowered session limit stands before one more session is tried.
const LIMIT_STANDS: Duration = Duration::from_secs(10);
/// The first and the longest rest of a connection that refuses even a single session.
const FIRST_REST: Duration = Duration::from_millis(4);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// For what runs on a connection that is not handed out any more though it may still work: it is idle, and somebody else may use its
/// socket; or it has failed a check or one of its commands, which need not mean all.
const PATIENCE: Duration = Duration::from_secs(5);

/// The life of a slot. Each state names its successors; only the methods below change it.
enum Slot<C: Connection> {
    /// → Connecting
    Empty,
    /// A login is under way. → Ready, Closing (closed meanwhile), Empty (it failed)
    Connecting { retire: Retire },
    /// → Closing
    Ready(Ready<C>),
    /// Its connection is being ended. It still counts towards the maximum. → Empty
    Closing { retire: Retire },
}

/// Tells the slot's task to close, with the patience that it has for what still runs. Told again, the sooner end counts.
type Retire = mpsc::UnboundedSender<Duration>;

struct Ready<C: Connection> {
    connection: Arc<C>,
    /// Tells this connection from others that the slot has had: a lease of an earlier one changes nothing here.
    generation: u64,
    retire: Retire,
    leases: usize,
    /// Somebody was asked something for it. Another login would fail as long as nobody can be asked.
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
}

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
        !self.is_suspect(now) && self.leases < self.limit && self.rests_until.is_none_or(|until| until <= now)
    }
}

pub(super) struct Waiter<T: Transport> {
    /// Gets the lease or the refusal. A lease that finds no receiver is dropped there, and so given back.
    sender: oneshot::Sender<Result<Lease<T>, Error>>,
    deadline: Instant,
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
        retired: mpsc::UnboundedReceiver<Duration>,
    },
    /// Open sessions ahead of need.
    Standby {
        slot: usize,
        generation: u64,
        connection: Arc<T::Connection>,
        count: usize,
    },
    /// Sessions that nobody needs any more, to be dropped.
    Discard(Vec<Standby<T::Connection>>),
    /// Somebody waits for nothing but the time.
    SettleAt(Instant),
}

/// The last login failed: the breaker is open, and callers hear this at once, until `retry_at`. The next caller then tries.
struct Failure {
    error: ConnectError,
    attempts: u32,
    retry_at: Instant,
    /// A wrong key does not become right by trying. What the login depended on is looked at when a caller comes: another attempt is made when
    /// it has changed, too.
    permanent: Option<Configuration>,
}

pub(super) struct HostState<T: Transport> {
    key: PoolKey,
    host: Host,
    slots: Vec<Slot<T::Connection>>,
    waiters: VecDeque<Waiter<T>>,
    /// The last login failed; cleared by one that succeeds.
    failure: Option<Failure>,
    /// A login has succeeded, and none has failed since.
    trusted: bool,
    closed: bool,
    next_generation: u64,
    /// Where sessions in standby are to be opened, if nobody else needs the connection now.
    refill: Option<usize>,
    discarded: Vec<Standby<T::Connection>>,
    /// The earliest `SettleAt` that was asked for and has not come.
    alarm: Option<Instant>,
    /// Counters only; the gauges are worked out when somebody asks.
    counters: Stats,
}

impl<T: Transport> HostState<T> {
    pub(super) fn new(host: &Host, config: &PoolConfig) -> Self {
        HostState {
            key: host.key(),
            host: host.clone(),
            slots: (0..config.max_connections).map(|_| Slot::Empty).collect(),
            waiters: VecDeque::new(),
            failure: None,
            trusted: false,
            closed: false,
            next_generation: 0,
            refill: None,
            discarded: Vec::new(),
            alarm: None,
            counters: Stats::default(),
        }
    }

    // ---- callers ----

    /// A session for a caller that has just come. Nobody overtakes the queue: a session can be free though others wait, when a rest is
    /// over and its alarm has not rung yet.
    pub(super) fn take_at_once(&mut self, now: Instant) -> Option<Grant<T::Connection>> {
        self.forget_the_gone();
        if !self.waiters.is_empty() {
            return None;
        }
        self.take_free(now).inspect(|_| self.counters.pool_hits += 1)
    }

    /// A free session: where one is in standby, and else on the connection that was used last, so that the others can grow idle.
    fn take_free(&mut self, now: Instant) -> Option<Grant<T::Connection>> {
        let (slot, ready) = self
            .slots
            .iter_mut()
            .enumerate()
            .filter_map(|(index, slot)| match slot {
                Slot::Ready(ready) if ready.has_room(now) && ready.connection.is_alive() => {
                    Some((index, ready))
                }
                _ => None,
            })
            .max_by_key(|(_, ready)| (!ready.standbys.is_empty(), ready.used))?;
        ready.leases += 1;
        ready.used = now;
        ready.rests_until = None;
        // Whoever comes first has the connection to himself; there will be a standby when the session is given back.
        self.refill = self.refill.filter(|refill| *refill != slot);
        Some(Grant { slot, generation: ready.generation, connection: Arc::clone(&ready.connection) })
    }

    /// Joins the queue. A connection is made, if one is needed, by the `settle` that follows.
    pub(super) fn enqueue(
        &mut self,
        host: &Host,
        sender: oneshot::Sender<Result<Lease<T>, Error>>,
        deadline: Instant,
        now: Instant,
        config: &PoolConfig,
        configuration: Option<Configuration>,
    ) {
        self.forget_the_gone();
        let unused = |slot: &Slot<T::Connection>| matches!(slot, Slot::Empty | Slot::Closing { .. });
        if self.slots.iter().all(unused) && self.waiters.is_empty() {
            // Nobody gets a connection to the old address any more: the newest caller's counts.
            self.host = host.clone();
        }
        // Whoever comes brings his own agent for the keys.
        self.host.take_login_of(host);
        if let Some(now) = configuration
            && self.broken_configuration().is_some_and(|before| before != now)
        {
            self.reset();
        }
        if !self.closed && self.pending_slots(now) * config.sessions_per_connection > self.waiters.len() {
            self.counters.pool_misses += 1;
        }
        self.waiters.push_back(Waiter { sender, deadline });
    }

    // ---- leases ----

    pub(super) fn release(&mut self, slot: usize, generation: u64, now: Instant, config: &PoolConfig) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.leases -= 1;
            ready.used = now;
            ready.rests = 0;
            if ready.limit < config.sessions_per_connection && now - ready.limit_set > LIMIT_STANDS {
                ready.limit += 1;
                ready.limit_set = now;
            }
            self.refill = Some(slot);
        }
    }

    /// The server would not open a session for this lease, which ends with that. The connection is not asked for as many again, or,
    /// when nobody else of us had one there (sessions of commands that were given up linger), it rests for a moment.
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
        }
    }

    /// The server has refused a session beside those of the leases.
    pub(super) fn full(&mut self, slot: usize, generation: u64, now: Instant) {
        if let Some(ready) = self.ready(slot, generation) {
            ready.limit = ready.limit.min(ready.leases).max(1);
            ready.limit_set = now;
        }
    }

    /// Found broken: nobody gets it any more. What else runs on it may finish, should it be able to.
    pub(super) fn broken(&mut self, slot: usize, generation: u64) {
        if let Some(ready) = self.ready(slot, generation) {
            let patience = if ready.leases > 1 { PATIENCE } else { Duration::ZERO };
            self.retire(slot, patience);
        }
    }

    /// The server has a session on it that will not end, and no other one to spare. Whoever else runs there is not disturbed.
    pub(super) fn useless(&mut self, slot: usize, generation: u64) {
        if self.ready(slot, generation).is_some_and(|ready| ready.leases == 1) {
            self.retire(slot, Duration::ZERO);
        }
    }

    /// It may be broken: nobody gets it before it is checked, which the caller is to do if a connection is given. A check that does not
    /// come to its end has no say after `until`.
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

    /// The login succeeded. Where the slot was closed meanwhile, the task hears of that and closes the connection.
    pub(super) fn connected(
        &mut self,
        slot: usize,
        connection: Arc<T::Connection>,
        asked: bool,
        now: Instant,
        config: &PoolConfig,
    ) {
        self.counters.connects += 1;
        self.failure = None;
        self.trusted = true;
        let Slot::Connecting { retire } = &self.slots[slot] else {
            return;
        };
        self.next_generation += 1;
        self.slots[slot] = Slot::Ready(Ready {
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
        });
        self.refill = Some(slot);
    }

    pub(super) fn connect_failed(
        &mut self,
        slot: usize,
        error: ConnectError,
        configuration: Configuration,
        now: Instant,
    ) {
        self.counters.failed_connects += 1;
        self.slots[slot] = Slot::Empty;
        self.trusted = false;
        // Logins that were under way together and failed together are one attempt.
        let together = self.backs_off(now);
        let permanent = error.kind().is_permanent().then_some(configuration);
        if together && permanent.is_none() && self.broken_configuration().is_some() {
            return; // A wrong key is still wrong.
        }
        let attempts = self.failure.as_ref().map_or(0, |failure| failure.attempts);
        let attempts = if together { attempts } else { attempts.saturating_add(1) };
        let pause = if permanent.is_some() { backoff::PERMANENT } else { backoff::pause(attempts) };
        self.failure = Some(Failure { error, attempts, retry_at: now + pause, permanent });
    }

    /// What a login depended on that failed for good.
    pub(super) fn broken_configuration(&self) -> Option<Configuration> {
        self.failure.as_ref()?.permanent
    }

    /// Closes the breaker: the next caller tries.
    pub(super) fn reset(&mut self) {
        self.failure = None;
    }

    /// The connection ended by itself. While nobody uses it that is for the health checks to count: they would have found it.
    pub(super) fn lost(&mut self, slot: usize, config: &PoolConfig) {
        if let Slot::Ready(ready) = &self.slots[slot]
            && ready.leases == 0
            && config.health_checks
        {
            self.counters.health_check_failures += 1;
        }
        self.retire(slot, Duration::ZERO);
    }

    /// Nothing is left in the slot.
    pub(super) fn emptied(&mut self, slot: usize) {
        self.slots[slot] = Slot::Empty;
    }

    // ---- closing ----

    /// Closes every connection and turns the queue away.
    pub(super) fn close(&mut self, patience: Duration) -> Vec<Action<T>> {
        for slot in 0..self.slots.len() {
            // On one that nobody uses there is nothing to be patient with: standbys whose end is still on its way.
            let unused = matches!(&self.slots[slot], Slot::Ready(ready) if ready.leases == 0);
            self.retire(slot, if unused { Duration::ZERO } else { patience });
        }
        let error = Error::Closed { host: self.host.name().to_owned() };
        self.waiters.drain(..).map(|waiter| Action::Refuse(waiter.sender, error.clone())).collect()
    }

    pub(super) fn close_for_good(&mut self, patience: Duration) -> Vec<Action<T>> {
        self.closed = true;
        self.close(patience)
    }

    /// No connection is being ended. Others may have been made since.
    pub(super) fn is_closed(&self) -> bool {
        !self.slots.iter().any(|slot| matches!(slot, Slot::Closing { .. }))
    }

    fn retire(&mut self, slot: usize, patience: Duration) {
        if let Slot::Connecting { retire } | Slot::Ready(Ready { retire, .. }) | Slot::Closing { retire } =
            &self.slots[slot]
        {
            let retire = retire.clone();
            if let Slot::Ready(ready) = &mut self.slots[slot] {
                self.discarded.extend(ready.standbys.drain(..));
            }
            // The task is there as long as the slot is not empty; if it is just ending, it needs no telling.
            let _ = retire.send(patience);
            self.slots[slot] = Slot::Closing { retire };
        }
    }

    // ---- maintenance ----

    /// Connections whose last proof is too old, marked as being checked. On one that is in use a check costs the commands nothing; without one
    /// nobody would notice a process of ours that is stopped.
    pub(super) fn due_for_check(
        &mut self,
        now: Instant,
        config: &PoolConfig,
    ) -> Vec<(usize, u64, Arc<T::Connection>, Depth)> {
        if !config.health_checks {
            return Vec::new();
        }
        let mut due = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if let Slot::Ready(ready) = slot
                && ready.checking.is_none()
                && let (depth, since) = ready.next_check()
                && since + config.health_check_interval <= now
            {
                ready.checking = Some(depth);
                due.push((index, ready.generation, Arc::clone(&ready.connection), depth));
            }
        }
        due
    }

    /// The result of a check. Who has a lease meanwhile may finish: that it does not work for us is not certain.
    ///
    /// `None` for a check that was given up half-way: then nothing is known. Says whether the answer counts: where the connection was closed
    /// meanwhile it does not.
    pub(super) fn checked(
        &mut self,
        slot: usize,
        generation: u64,
        works: Option<bool>,
        depth: Depth,
        now: Instant,
    ) -> bool {
        let Some(ready) = self.ready(slot, generation) else {
            return false;
        };
        // Beside a local check a whole one may have begun, and that one is waited for.
        if ready.checking == Some(depth) {
            (ready.checking, ready.suspect_until) = (None, None);
        }
        match works {
            Some(true) if depth == Depth::Local => ready.answered = now,
            Some(true) => {
                ready.proven = now;
                self.counters.health_checks_passed += 1;
                // Nobody opened any while it was a suspect.
                self.refill = Some(slot);
            }
            Some(false) => {
                let patience = if ready.leases == 0 { Duration::ZERO } else { PATIENCE };
                self.counters.health_check_failures += 1;
                self.retire(slot, patience);
            }
            None => {}
        }
        true
    }

    /// Retires connections that nobody has used for `idle_timeout`.
    pub(super) fn retire_idle(&mut self, now: Instant, config: &PoolConfig) {
        for index in 0..self.slots.len() {
            if let Slot::Ready(ready) = &self.slots[index]
                && ready.leases == 0
                && ready.used + config.idle_timeout <= now
            {
                self.retire(index, PATIENCE);
            }
        }
    }

    /// When the next connection may become idle for too long or due for a check. One that is in use now cannot before a whole timeout
    /// has passed, so that nobody has to tell when it is released.
    pub(super) fn next_due(&self, now: Instant, config: &PoolConfig) -> Option<Instant> {
        self.slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Ready(ready) => Some(ready),
                _ => None,
            })
            .map(|ready| {
                let idle_since = if ready.leases == 0 { ready.used } else { now };
                let idle = idle_since + config.idle_timeout;
                if !config.health_checks || ready.checking.is_some() {
                    return idle;
                }
                let (_, since) = ready.next_check();
                idle.min(since + config.health_check_interval)
            })
            .min()
    }

    // ---- the decision ----

    pub(super) fn settle(&mut self, now: Instant, config: &PoolConfig) -> Vec<Action<T>> {
        let mut actions = Vec::new();
        if !self.waiters.is_empty() {
            self.forget_the_gone();
            if self.closed {
                actions = self.close(Duration::ZERO);
            } else {
                self.serve(now, config, &mut actions);
            }
        }
        if self.waiters.is_empty() {
            actions.extend(self.refill(now, config));
        }
        if !self.discarded.is_empty() {
            actions.push(Action::Discard(std::mem::take(&mut self.discarded)));
        }
        actions
    }

    /// Looks after those who wait.
    fn serve(&mut self, now: Instant, config: &PoolConfig, actions: &mut Vec<Action<T>>) {
        // 1. Free sessions go to those who came first.
        while !self.waiters.is_empty()
            && let Some(grant) = self.take_free(now)
        {
            let waiter = self.waiters.pop_front().expect("it was not empty a line ago");
            actions.push(Action::Grant(waiter.sender, grant));
        }

        // 2. Nothing is there, nothing is coming, and it is too early to try: everybody hears why.
        let nothing_there = self.slots.iter().all(|slot| matches!(slot, Slot::Empty | Slot::Closing { .. }));
        if let Some(failure) = &self.failure
            && nothing_there
            && self.backs_off(now)
        {
            let error = Error::Connect { host: self.host.name().to_owned(), source: failure.error.clone() };
            actions.extend(self.waiters.drain(..).map(|waiter| Action::Refuse(waiter.sender, error.clone())));
        }

        // 3. As many logins as the queue needs; one at a time as long as the last word of the server was not a success.
        let wanted = self.waiters.len().div_ceil(config.sessions_per_connection);
        let mut connecting = self.connecting();
        // A check of a suspect takes but a moment, and most pass it.
        let wanted = wanted.saturating_sub(self.suspects(now));
        let asked = |slot: &Slot<T::Connection>| matches!(slot, Slot::Ready(ready) if ready.asked);
        let hopeless = self.host.login().askpass.is_none() && self.slots.iter().any(asked);
        while connecting < wanted
            && !hopeless
            && !self.backs_off(now)
            && (self.trusted || connecting == 0)
            && let Some(slot) = self.slots.iter().position(|slot| matches!(slot, Slot::Empty))
        {
            let (retire, retired) = mpsc::unbounded_channel();
            self.slots[slot] = Slot::Connecting { retire };
            actions.push(Action::Connect { slot, host: self.host.clone(), retired });
            connecting += 1;
        }

        // 4. Those whose time is over, unless a session for them is on its way: its outcome brings us back here.
        let expected = self.pending_slots(now) * config.sessions_per_connection;
        if self.waiters.iter().skip(expected).any(|waiter| waiter.deadline <= now) {
            let error = Error::Exhausted {
                key: self.key.clone(),
                max: config.max_connections,
                last_failure: self.failure.as_ref().map(|failure| failure.error.clone()),
            };
            let (stay, overdue): (Vec<_>, Vec<_>) = self
                .waiters
                .drain(..)
                .enumerate()
                .partition(|(place, waiter)| *place < expected || waiter.deadline > now);
            self.waiters = stay.into_iter().map(|(_, waiter)| waiter).collect();
            actions
                .extend(overdue.into_iter().map(|(_, waiter)| Action::Refuse(waiter.sender, error.clone())));
        }

        // 5. A rest or a back-off ends without anybody's doing.
        if !self.waiters.is_empty()
            && let Some(instant) = self.next_change(now)
            && self.alarm.is_none_or(|alarm| alarm <= now || alarm > instant)
        {
            self.alarm = Some(instant);
            actions.push(Action::SettleAt(instant));
        }
    }

    /// Slots from which sessions can be expected soon without anybody giving one back: logins under way or possible (now, or when the
    /// connection before it is closed), connections that rest or are suspect, and those that have ended without their task having heard
    /// of it.
    fn pending_slots(&self, now: Instant) -> usize {
        let can_start = !self.backs_off(now);
        let pending = |slot: &&Slot<T::Connection>| match slot {
            Slot::Empty | Slot::Closing { .. } => can_start,
            Slot::Connecting { .. } => true,
            Slot::Ready(ready) => {
                ready.promises(now)
                    || ready.rests_until.is_some_and(|until| until > now)
                    || !ready.connection.is_alive()
            }
        };
        self.slots.iter().filter(pending).count()
    }

    fn next_change(&self, now: Instant) -> Option<Instant> {
        let ready = self.slots.iter().filter_map(|slot| match slot {
            Slot::Ready(ready) => Some(ready),
            _ => None,
        });
        let rests = ready.flat_map(|ready| [ready.rests_until, ready.suspect_until]).flatten();
        rests.chain(self.failure.as_ref().map(|failure| failure.retry_at)).filter(|&at| at > now).min()
    }

    fn backs_off(&self, now: Instant) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.retry_at > now)
    }

    fn connecting(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Connecting { .. })).count()
    }

    fn suspects(&self, now: Instant) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Ready(ready) if ready.promises(now))).count()
    }

    /// Callers that were dropped left their place in the queue behind.
    fn forget_the_gone(&mut self) {
        self.waiters.retain(|waiter| !waiter.sender.is_closed());
    }

    fn ready(&mut self, slot: usize, generation: u64) -> Option<&mut Ready<T::Connection>> {
        match &mut self.slots[slot] {
            Slot::Ready(ready) if ready.generation == generation => Some(ready),
            _ => None,
        }
    }

    /// Those that live, the one used last first.
    pub(super) fn connections(&self) -> Vec<Arc<T::Connection>> {
        let mut ready: Vec<_> = self
            .slots
            .iter()
            .filter_map(|slot| match slot {
                Slot::Ready(ready) if ready.connection.is_alive() => Some(ready),
                _ => None,
            })
            .collect();
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
        stats.waiting = self.waiters.iter().filter(|waiter| !waiter.sender.is_closed()).count();
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
