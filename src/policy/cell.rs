//! The meeting place of one pool key: its state behind a mutex, and the lease.

mod sessions;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::ledger::Wake;
use super::standby::{Past, Standby};
use super::state::{Action, Grant, KeyState};
use super::{LENIENCY, Shared, Stats, maintenance, slot, standby, state};
use crate::config::SessionReuse;
use crate::error::Error;
use crate::host::{Host, Login, PoolKey};
use crate::transport::{Connection, Transport};

pub(crate) struct Cell<T: Transport> {
    key: PoolKey,
    pub(super) transport: Arc<T>,
    pub(super) shared: Arc<Shared>,
    /// A std mutex: sections are short, and nothing is awaited or dropped with it held that could
    /// come back here.
    state: Mutex<KeyState<T>>,
    /// Told when a connection has been ended.
    closed: Notify,
    /// Told when it may be known how many sessions the server opens on a connection.
    tried: Notify,
    /// Where tasks are started. A lease can be dropped on a thread that belongs to no runtime.
    runtime: Mutex<Option<Handle>>,
}

impl<T: Transport> Cell<T> {
    pub(super) fn new(key: PoolKey, transport: &Arc<T>, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let waits: Weak<dyn Wake> = Weak::clone(this) as _;
            let ledger = Arc::clone(&shared.ledger);
            Cell {
                state: Mutex::new(KeyState::new(key.clone(), &shared.config, ledger, waits)),
                key,
                transport: Arc::clone(transport),
                shared: Arc::clone(shared),
                closed: Notify::new(),
                tried: Notify::new(),
                runtime: Mutex::new(None),
            }
        })
    }

    pub(super) fn key(&self) -> &PoolKey {
        &self.key
    }

    pub(super) fn connections(&self, host: &Host) -> Vec<Arc<T::Connection>> {
        self.lock().connections(host)
    }

    /// How many identities are remembered.
    pub(super) fn tenants(&self) -> usize {
        self.lock().tenants()
    }

    pub(super) fn facts(&self) -> Vec<state::Facts<T::Connection>> {
        self.lock().facts(Instant::now())
    }

    pub(super) fn stats(&self) -> Stats {
        self.lock().stats()
    }

    /// Changes the state, settles it, and does what follows from that. Every change goes this way.
    pub(super) fn update<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut KeyState<T>, Instant) -> R,
    ) -> R {
        let now = Instant::now();
        let (result, actions) = {
            let mut state = self.lock();
            let result = change(&mut state, now);
            (result, state.settle(now, &self.shared.config))
        };
        self.carry_out(actions);
        result
    }

    fn carry_out(self: &Arc<Self>, actions: Vec<Action<T>>) {
        for action in actions {
            match action {
                // A caller that has gone away drops what it is sent; for a lease that means that it
                // is given back.
                Action::Grant(sender, grant) => drop(sender.send(Ok(self.lease(grant)))),
                Action::Refuse(sender, error) => drop(sender.send(Err(error))),
                Action::Connect { slot, host, place, sessions, retired } => {
                    let slot = slot::Slot::new(self, slot, *host, place, sessions);
                    self.spawn(slot::run(slot, retired));
                }
                Action::Try { slot, generation, connection, identity } => {
                    let trial = standby::Trial::new(self, slot, generation, identity);
                    self.spawn(standby::try_another(trial, connection));
                }
                Action::Standby { slot, generation, connection, count, variables } => {
                    let opening = standby::Opening::new(self, slot, generation, count, variables);
                    // Where the next command is likely to run, too.
                    match Handle::try_current() {
                        Ok(here) => drop(here.spawn(standby::open(opening, connection))),
                        Err(_) => self.spawn(standby::open(opening, connection)),
                    }
                }
                Action::Discard(standbys) => drop(standbys),
                Action::SettleAt(instant) => {
                    // Weak: those who wait hold the cell, and when nobody does there is nothing to
                    // settle.
                    let alarm = Alarm { cell: Arc::downgrade(self), instant };
                    self.spawn(async move {
                        sleep_until(alarm.instant).await;
                        if let Some(cell) = alarm.cell.upgrade() {
                            cell.update(|_, _| ());
                        }
                    });
                }
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.runtime.lock().unwrap_or_else(|poison| poison.into_inner()).clone();
        if let Some(runtime) = runtime {
            runtime.spawn(task);
        }
    }

    fn lease(self: &Arc<Self>, grant: Grant<T::Connection>) -> Lease<T> {
        let has_session = AtomicBool::new(false);
        Lease { cell: Arc::clone(self), grant: Some(grant), has_session, holds: false }
    }

    /// A connection that is kept as long as the lease, for what needs no session of the server. It
    /// takes no room from those that do, and needs none.
    pub(crate) async fn hold(self: &Arc<Self>, host: &Host) -> Result<Lease<T>, Error> {
        let mut lease = match self.update(|state, now| state.hold_at_once(host, now)) {
            Some(grant) => self.lease(grant),
            None => {
                let lease = self.acquire(host).await?;
                lease.takes();
                if let Some(Grant { slot, generation, .. }) = &lease.grant {
                    self.update(|state, _| state.hold(*slot, *generation));
                }
                lease
            }
        };
        (lease.has_session, lease.holds) = (AtomicBool::new(true), true);
        Ok(lease)
    }

    pub(crate) async fn acquire(self: &Arc<Self>, host: &Host) -> Result<Lease<T>, Error> {
        if let Some(grant) = self.update(|state, now| state.take_at_once(host, now)) {
            return Ok(self.lease(grant));
        }
        *self.runtime.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(Handle::current());
        let config = &self.shared.config;
        let watched = self.lock().watched(host, Instant::now());
        let is_mended = match watched {
            Some((kind, before)) => self.transport.configuration(host, kind).await != before,
            None => false,
        };
        // Dropped behind the receiver, which is how the state knows that the caller is gone.
        let mut queued = Queued { cell: Arc::clone(self), is_answered: false };
        let (sender, mut receiver) = oneshot::channel();
        // One instant for the alarm below and for `settle`: an alarm that rang a moment before the
        // time is over would be the last.
        let deadline = Instant::now() + config.acquire_timeout;
        self.update(|state, now| state.enqueue(host, sender, deadline, now, config, is_mended));
        let answer = tokio::select! {
            biased;
            answer = &mut receiver => answer,
            () = sleep_until(deadline) => {
                // `settle` turns us away now, or, when a session is on its way to us, as soon as it
                // turns out that it is not.
                self.update(|_, _| ());
                receiver.await
            }
        };
        queued.is_answered = true;
        drop(queued);
        // The sender is gone without an answer only when the runtime that made the connection was
        // shut down.
        answer.unwrap_or_else(|_| Err(Error::Closed { host: host.name().to_owned() }))
    }

    /// Closes every connection, and gives how many were closed until now.
    pub(super) fn close(self: &Arc<Self>, patience: Duration) -> u64 {
        let (actions, closings) = self.update(|state, _| (state.close(patience), state.closings()));
        self.carry_out(actions);
        closings
    }

    pub(super) fn close_for_good(self: &Arc<Self>, patience: Duration) -> u64 {
        let (actions, closings) =
            self.update(|state, _| (state.close_for_good(patience), state.closings()));
        self.carry_out(actions);
        closings
    }

    /// The slot's task has ended.
    pub(super) fn emptied(&self) {
        self.closed.notify_waiters();
    }

    /// Completes when the first so many of those that were closed are gone. Callers that have come
    /// since may be connected again.
    pub(super) async fn closed(&self, closings: u64) {
        loop {
            let told = self.closed.notified();
            if self.lock().is_closed(closings) {
                return;
            }
            told.await;
        }
    }

    /// The hosts that connections were asked for.
    pub(super) fn hosts(&self) -> Vec<Host> {
        self.lock().hosts()
    }

    fn lock(&self) -> MutexGuard<'_, KeyState<T>> {
        // Nothing below panics half-way through a change.
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl<T: Transport> Wake for Cell<T> {
    fn wake(self: Arc<Self>) {
        self.update(|_, _| ());
    }
}

/// A caller that waits. When it is gone, those may be served to whom a connection did not go
/// because of it.
struct Queued<T: Transport> {
    cell: Arc<Cell<T>>,
    is_answered: bool,
}

impl<T: Transport> Drop for Queued<T> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.cell.update(|state, _| state.has_left());
        }
    }
}

/// An alarm that was set. It is dropped when it has rung, or with the runtime in which it was to
/// ring: then another is to be set.
struct Alarm<T: Transport> {
    cell: Weak<Cell<T>>,
    instant: Instant,
}

impl<T: Transport> Drop for Alarm<T> {
    fn drop(&mut self) {
        if let Some(cell) = self.cell.upgrade() {
            cell.lock().forget_alarm(self.instant);
        }
    }
}

/// The right to open one session on one connection. Dropped, it is given back.
pub(crate) struct Lease<T: Transport> {
    cell: Arc<Cell<T>>,
    /// Always there until the lease is given back.
    grant: Option<Grant<T::Connection>>,
    /// It has asked for a session, or needs none.
    has_session: AtomicBool,
    /// It needs no session, and takes no room.
    holds: bool,
}

impl<T: Transport> Lease<T> {
    pub(crate) fn connection(&self) -> &Arc<T::Connection> {
        &self.grant.as_ref().expect("a lease that is not dropped has its grant").connection
    }

    /// It gets a session, or is for sessions that nobody sees here.
    pub(crate) fn takes(&self) {
        if let Some(Grant { slot, generation, .. }) = &self.grant
            && !self.has_session.swap(true, Ordering::Relaxed)
        {
            self.cell.lock().takes(*slot, *generation);
        }
    }

    /// Whether other callers get the connection, too: it is not about to be closed.
    pub(crate) fn is_offered(&self) -> bool {
        let Some(Grant { slot, generation, .. }) = &self.grant else { return false };
        self.cell.lock().is_offered(*slot, *generation)
    }

    /// A session on this connection that was opened ahead of need, or that has run a command, for
    /// the next command of who comes so; the first one that suits.
    pub(crate) fn standby(
        &self,
        login: &Login,
        suits: impl Fn(&<T::Connection as Connection>::Session) -> bool,
    ) -> Option<<T::Connection as Connection>::Session> {
        let Grant { slot, generation, .. } = self.grant.as_ref()?;
        self.takes();
        loop {
            let taken = self.cell.lock().take_standby(*slot, *generation, login, &suits);
            let Some(mut standby) = taken else {
                if self.cell.lock().is_crowded(*slot, *generation) {
                    self.cell.update(|state, now| state.make_room(*slot, *generation, now));
                }
                return None;
            };
            if standby.is_fresh() {
                self.count(|stats| {
                    stats.standby_hits += u64::from(standby.past != Past::Proof);
                    stats.reused_sessions += u64::from(standby.past == Past::Command);
                });
                return Some(standby.session);
            }
            // One that is too old is ended here, and the server has it for a moment longer.
            self.cell.lock().made_room(*slot, *generation, Instant::now());
        }
    }

    /// Whether the connection answers, if nothing was heard of it for long. None where that is not
    /// to be found out: something was heard, or no session is at hand.
    ///
    /// Where the network has forgotten a connection nobody is told, and what is written to it is
    /// lost.
    pub(crate) async fn is_heard(&self) -> Option<bool> {
        let Grant { slot, generation, silent_for, .. } = self.grant.as_ref()?;
        let (slot, generation) = (*slot, *generation);
        let config = &self.cell.shared.config;
        if *silent_for < config.max_silence || !config.reuses_sessions() {
            return None;
        }
        // Where the callers of many hosts come at once, the echoes of all would be late.
        let echoes = &self.cell.shared.echoes;
        let busy = echoes.available_permits() == 0;
        let _place = echoes.acquire().await;
        let mut over = standby::Lent::of(&self.cell, slot, generation, 0)?;
        self.connection().is_heard(over.session(), busy).await
    }

    /// A session that has run a command of this lease, and takes another one.
    pub(crate) fn keep(&self, session: <T::Connection as Connection>::Session, login: &Login) {
        let place = Arc::clone(&self.cell.shared.standbys).try_acquire_owned();
        if let (Some(Grant { slot, generation, .. }), Ok(place), Ok(_)) =
            (&self.grant, place, Handle::try_current())
        {
            let config = &self.cell.shared.config;
            let only_for = (config.session_reuse == SessionReuse::Fast).then_some(login.caller);
            let variables = Arc::clone(&login.variables);
            let standby = Standby::new(session, variables, Past::Command, place).only_for(only_for);
            let most = config.standby_sessions;
            self.cell.update(|state, now| state.keep(*slot, *generation, standby, most, now));
        }
    }

    /// A command has ended that ran on this lease, which goes on.
    pub(crate) fn used(&self) {
        if let Some(Grant { slot, .. }) = &self.grant {
            self.cell.update(|state, _| state.refill_at(*slot));
        }
    }

    /// A command has run on this connection, or was lost while it ran.
    pub(crate) fn ran(&self) {
        if let Some(Grant { slot, generation, .. }) = &self.grant {
            let account = self.cell.lock().ran(*slot, *generation);
            if let Some(account) = account {
                self.cell.shared.ledger.ran(&account);
            }
        }
    }

    /// The server refused to open a session.
    pub(crate) fn refused(mut self) {
        self.takes();
        if let Some(Grant { slot, generation, .. }) = self.grant.take() {
            self.cell.update(|state, now| state.refused(slot, generation, now));
        }
    }

    /// The connection does not work any more.
    pub(crate) fn broken(&self) {
        if let Some(Grant { slot, generation, .. }) = &self.grant {
            self.cell.update(|state, now| state.broken(*slot, *generation, now));
        }
    }

    /// The server opens no session beside those that callers have there.
    pub(crate) fn full(&self) {
        if let Some(Grant { slot, generation, .. }) = &self.grant {
            self.cell.update(|state, now| state.full(*slot, *generation, now));
        }
    }

    /// What ran on this lease cannot be ended, and takes a session of the server: if nobody else
    /// uses the connection, it is closed.
    pub(crate) fn useless(&self) {
        if let Some(Grant { slot, generation, .. }) = &self.grant {
            self.cell.update(|state, _| state.useless(*slot, *generation));
        }
    }

    /// The connection may not work any more: it is probed before anybody gets it again.
    pub(crate) fn suspect(&self) {
        if let Some(Grant { slot, generation, .. }) = &self.grant {
            let patience = self.cell.shared.config.connect_timeout + LENIENCY;
            let unchecked =
                self.cell.update(|state, now| state.suspect(*slot, *generation, now + patience));
            if let Some(connection) = unchecked {
                // In the runtime of those who wait for the answer.
                self.cell.spawn(maintenance::check(
                    Arc::clone(&self.cell),
                    *slot,
                    *generation,
                    connection,
                    maintenance::Depth::Whole,
                ));
            }
        }
    }

    /// Counts something in the statistics of the host.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(self.cell.lock().counters());
    }
}

impl<T: Transport> fmt::Debug for Lease<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.cell.key).finish_non_exhaustive()
    }
}

impl<T: Transport> Drop for Lease<T> {
    fn drop(&mut self) {
        self.takes();
        if let Some(Grant { slot, generation, since, .. }) = self.grant.take() {
            let cell = Arc::clone(&self.cell);
            let config = &cell.shared.config;
            self.cell.update(|state, now| match self.holds {
                true => state.let_go(slot, generation, now),
                false => state.release(slot, generation, since, now, config),
            });
        }
    }
}
