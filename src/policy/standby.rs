//! Sessions opened ahead of need.
//!
//! When a session is given back and nobody waits, or a new connection is not needed at once, the
//! state asks for as many as are missing on that connection
//! ([`Action::Standby`](super::state::Action)). A task opens them, so that whoever gave the session
//! back is not delayed, and brings them to the state. They do not count as use of the connection;
//! with it they go.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::LENIENCY;
use super::cell::Cell;
use crate::host::{Caller, HostIdentity, Variables};
use crate::transport::{Connection, Session as _, Transport, Trial as Outcome};

/// So long those give way to logins that are under way, whose callers wait: both compute a lot.
const POLITE: Duration = Duration::from_secs(1);

/// So long the start of an ssh computes.
const OPENS: Duration = Duration::from_millis(6);

/// One of them, with its place among those of all hosts.
pub(super) struct Standby<C: Connection> {
    pub session: C::Session,
    /// What it sends to the server. It is of use only to who wants to send the same.
    pub variables: Arc<Variables>,
    pub past: Past,
    /// Nobody else may have it.
    pub only_for: Option<Caller>,
    /// Where its streams are watched. A caller in another runtime would wait for as long as nobody
    /// drives that one.
    runtime: runtime::Id,
    _place: OwnedSemaphorePermit,
}

/// What a session has done before it waits for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing, and whether the server has opened it is not known.
    Nothing,
    /// It has proven a login.
    Proof,
    /// It has run a command.
    Command,
}

impl<C: Connection> Standby<C> {
    pub(super) fn new(
        session: C::Session,
        variables: Arc<Variables>,
        past: Past,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let runtime = Handle::current().id();
        Standby { session, variables, past, only_for: None, runtime, _place: place }
    }

    /// The session that has proven a login, if there is one and it may be kept.
    pub(super) fn first(connection: &C, places: &Arc<Semaphore>) -> Option<Self> {
        let (session, variables) = connection.first()?;
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        Some(Standby::new(session, variables, Past::Proof, place))
    }

    /// The same, which nobody else may have.
    pub(super) fn only_for(mut self, caller: Option<Caller>) -> Self {
        self.only_for = caller;
        self
    }

    /// Whether this caller, who sends these variables, may have it.
    pub fn is_for(&self, variables: &Variables, caller: Caller) -> bool {
        *self.variables == *variables && self.only_for.is_none_or(|only| only == caller)
    }

    /// Whether its streams are watched in this runtime.
    pub fn is_here(&self) -> bool {
        Handle::try_current().is_ok_and(|here| here.id() == self.runtime)
    }

    /// Whether it is of use here and now.
    pub fn is_fresh(&mut self) -> bool {
        self.is_here() && self.session.is_there()
    }
}

/// A session over which an echo runs. Dropped, it is given back where it is still of use.
pub(super) struct Lent<T: Transport> {
    cell: Arc<Cell<T>>,
    slot: usize,
    generation: u64,
    /// There until it is given back.
    standby: Option<Standby<T::Connection>>,
}

impl<T: Transport> Lent<T> {
    /// One that has run a command; or any, but `least` stay.
    pub(super) fn of(
        cell: &Arc<Cell<T>>,
        slot: usize,
        generation: u64,
        least: usize,
    ) -> Option<Self> {
        let standby = cell.update(|state, _| state.lend(slot, generation, least))?;
        Some(Lent { cell: Arc::clone(cell), slot, generation, standby: Some(standby) })
    }

    pub(super) fn session(&mut self) -> &mut <T::Connection as Connection>::Session {
        &mut self.standby.as_mut().expect("it is there until it is given back").session
    }
}

impl<T: Transport> Drop for Lent<T> {
    fn drop(&mut self) {
        let mut standby = self.standby.take().filter(|standby| standby.session.is_idle());
        if let Some(standby) = &mut standby
            && standby.session.goes_on()
        {
            standby.past = Past::Command;
        }
        let (slot, generation) = (self.slot, self.generation);
        self.cell.update(|state, _| state.given_back(slot, generation, standby));
    }
}

/// Sessions that are being opened. Dropped, those that were not brought are not expected any more.
pub(super) struct Opening<T: Transport> {
    cell: Arc<Cell<T>>,
    slot: usize,
    generation: u64,
    left: usize,
    variables: Arc<Variables>,
}

impl<T: Transport> Opening<T> {
    pub(super) fn new(
        cell: &Arc<Cell<T>>,
        slot: usize,
        generation: u64,
        count: usize,
        variables: Arc<Variables>,
    ) -> Self {
        Opening { cell: Arc::clone(cell), slot, generation, left: count, variables }
    }

    fn bring(&mut self, standby: Option<Standby<T::Connection>>) {
        self.left -= 1;
        let (slot, generation) = (self.slot, self.generation);
        self.cell.update(|state, _| state.opened(slot, generation, standby));
    }
}

impl<T: Transport> Drop for Opening<T> {
    fn drop(&mut self) {
        while self.left > 0 {
            self.bring(None);
        }
    }
}

pub(super) async fn open<T: Transport>(mut opening: Opening<T>, connection: Arc<T::Connection>) {
    let _ = timeout(POLITE, async {
        let mut connecting = opening.cell.shared.connecting.subscribe();
        // The sender is in the cell.
        let _ = connecting.wait_for(|connecting| *connecting == 0).await;
    })
    .await;
    while opening.left > 0 {
        let turn = Arc::clone(&opening.cell.shared.openings)
            .acquire_owned()
            .await
            .expect("it is never closed");
        let place = Arc::clone(&opening.cell.shared.standbys).try_acquire_owned().ok();
        let standby = place.and_then(|place| {
            let variables = Arc::clone(&opening.variables);
            let session = connection.standby(&variables)?;
            Some(Standby::new(session, variables, Past::Nothing, place))
        });
        opening.bring(standby);
        // Nothing tells us that it is open, but whoever uses it.
        tokio::spawn(async move {
            sleep(OPENS).await;
            drop(turn);
        });
    }
}

/// Another session that is being tried on a connection. Dropped, the trial is over.
pub(super) struct Trial<T: Transport> {
    cell: Arc<Cell<T>>,
    slot: usize,
    generation: u64,
    identity: HostIdentity,
    outcome: Outcome,
}

impl<T: Transport> Trial<T> {
    pub(super) fn new(
        cell: &Arc<Cell<T>>,
        slot: usize,
        generation: u64,
        identity: HostIdentity,
    ) -> Self {
        Trial { cell: Arc::clone(cell), slot, generation, identity, outcome: Outcome::Fails }
    }
}

impl<T: Transport> Drop for Trial<T> {
    fn drop(&mut self) {
        let Trial { slot, generation, ref identity, outcome, .. } = *self;
        let config = &self.cell.shared.config;
        self.cell.update(|state, now| {
            state.was_tried((slot, generation), identity, outcome, now, config);
        });
        self.cell.has_tried();
    }
}

pub(super) async fn try_another<T: Transport>(mut trial: Trial<T>, connection: Arc<T::Connection>) {
    let mut beside = Lent::of(&trial.cell, trial.slot, trial.generation, 0);
    // The transport has a shorter limit of its own.
    let limit = trial.cell.shared.config.connect_timeout * 2 + LENIENCY;
    let outcome = connection.try_another(beside.as_mut().map(Lent::session));
    trial.outcome = timeout(limit, outcome).await.unwrap_or(Outcome::Fails);
    drop(beside);
}
