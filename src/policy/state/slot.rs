//! The life of a slot, and what is known of a connection that is ready.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Ticket;
use super::tenant::TenantId;
use crate::policy::YOUNG;
use crate::policy::maintenance::Depth;
use crate::policy::standby::{Past, Standby};
use crate::transport::{Connection, Sessions};

/// After that time a server has freed a session whose client has gone.
const FREED: Duration = Duration::from_secs(1);

/// The life of a slot. Only [`KeyState::transition`](super::KeyState::transition) changes it, and
/// [`Phase::successors`] says which state may follow which.
#[expect(clippy::large_enum_variant, reason = "a host has a few slots, and most are ready")]
pub(super) enum SlotState<C: Connection> {
    Empty,
    /// A login is under way.
    Connecting {
        tenant: TenantId,
        retire: Retire,
    },
    Ready(Ready<C>),
    /// Its connection is being ended. It still counts towards the maximum.
    Closing {
        tenant: TenantId,
        retire: Retire,
        /// Tells those that were closed before some moment from those of later.
        number: u64,
    },
}

/// A state of a slot without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Empty,
    Connecting,
    Ready,
    Closing,
}

impl Phase {
    /// The states that may follow.
    pub(super) fn successors(self) -> &'static [Phase] {
        match self {
            Phase::Empty => &[Phase::Connecting],
            // The login has succeeded; it was closed meanwhile; it has failed.
            Phase::Connecting => &[Phase::Ready, Phase::Closing, Phase::Empty],
            // It is empty at once when the runtime of its task is shut down.
            Phase::Ready => &[Phase::Closing, Phase::Empty],
            // It may be closed again, with less patience.
            Phase::Closing => &[Phase::Closing, Phase::Empty],
        }
    }
}

impl<C: Connection> SlotState<C> {
    pub(super) fn phase(&self) -> Phase {
        match self {
            SlotState::Empty => Phase::Empty,
            SlotState::Connecting { .. } => Phase::Connecting,
            SlotState::Ready(_) => Phase::Ready,
            SlotState::Closing { .. } => Phase::Closing,
        }
    }

    /// The tenant that it belongs to.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        match self {
            SlotState::Empty => None,
            SlotState::Connecting { tenant, .. }
            | SlotState::Ready(Ready { tenant, .. })
            | SlotState::Closing { tenant, .. } => Some(*tenant),
        }
    }

    /// It has no connection that callers can get, and none is on its way.
    pub(super) fn is_unused(&self) -> bool {
        match self {
            SlotState::Empty | SlotState::Closing { .. } => true,
            SlotState::Connecting { .. } => false,
            SlotState::Ready(ready) => ready.leaving,
        }
    }
}

/// Tells the slot's task to close, with the patience that it has for what still runs. Told again,
/// the sooner end counts.
pub(super) type Retire = mpsc::UnboundedSender<Duration>;

pub(super) struct Ready<C: Connection> {
    pub tenant: TenantId,
    pub connection: Arc<C>,
    /// Tells this connection from others that the slot has had: a lease of an earlier one changes
    /// nothing here.
    pub generation: u64,
    pub retire: Retire,
    pub leases: usize,
    /// Of these, those that have no session yet: they may take one that waits.
    pub untaken: usize,
    /// Who uses it without a session, as forwards do. They take no room from commands.
    pub holds: usize,
    /// The login asked the user a question. Another login would fail where there is no user to
    /// ask.
    pub asked: bool,
    /// When it was ready.
    pub made: Instant,
    /// The last lease or release, which is what `idle_timeout` counts from.
    pub used: Instant,
    /// The last proof that it works.
    pub proven: Instant,
    /// The last time that this machine's part of it answered.
    pub answered: Instant,
    pub checking: Option<Depth>,
    /// A command on it has timed out. Callers get it again after a check has passed, or from this
    /// instant on.
    pub suspect_until: Option<Instant>,
    /// The number of sessions that may be open at once, as far as the server has told.
    pub limit: usize,
    pub limit_set: Instant,
    /// When a session that waited for a command was ended to make room. The server has it for a
    /// moment longer, and a refusal says nothing then.
    pub made_room: Option<Instant>,
    /// Refusals in a row while this connection had no other session.
    pub rests: u32,
    pub rests_until: Option<Instant>,
    /// Opened ahead of need, the oldest first.
    pub standbys: VecDeque<Standby<C>>,
    /// Standbys that a task is opening.
    pub opening: usize,
    /// Standbys over which an echo runs.
    pub lent: usize,
    /// A command of a caller has run on it.
    pub ran: bool,
    /// What is known of its server.
    pub sessions: Sessions,
    /// A session was opened on it, be it that of its proof.
    pub is_used_up: bool,
    /// Another session is being tried.
    pub is_trying: bool,
    /// A caller needs to know whether there can be another one.
    pub wants_trial: bool,
    /// No caller gets it any more, and it is closed at the end of its last lease.
    pub leaving: bool,
    /// A caller of another tenant waits for its place, with this ticket: only callers with an
    /// earlier ticket get a session on it. It is closed when its last lease ends, unless that
    /// caller has gone.
    pub yields_to: Option<Ticket>,
}

impl<C: Connection> Ready<C> {
    /// A connection whose login has just succeeded, on which so many sessions may be open at once.
    pub(super) fn new(
        tenant: TenantId,
        connection: Arc<C>,
        generation: u64,
        retire: Retire,
        limit: usize,
        now: Instant,
    ) -> Self {
        let sessions = connection.sessions();
        let is_used_up = connection.has_run();
        Ready {
            tenant,
            connection,
            generation,
            retire,
            leases: 0,
            untaken: 0,
            holds: 0,
            asked: false,
            made: now,
            used: now,
            proven: now,
            answered: now,
            checking: None,
            suspect_until: None,
            limit,
            limit_set: now,
            made_room: None,
            rests: 0,
            rests_until: None,
            standbys: VecDeque::new(),
            opening: 0,
            lent: 0,
            ran: false,
            sessions,
            is_used_up,
            is_trying: false,
            wants_trial: false,
            leaving: false,
            yields_to: None,
        }
    }

    /// Nobody has anything on it.
    pub(super) fn is_unused(&self) -> bool {
        self.leases + self.holds == 0
    }

    pub(super) fn is_suspect(&self, now: Instant) -> bool {
        self.suspect_until.is_some_and(|until| until > now)
    }

    /// Callers can get sessions on it as soon as its check has passed.
    pub(super) fn promises(&self, now: Instant) -> bool {
        self.is_suspect(now) && self.leases < self.limit
    }

    /// How much is checked next, and since when it has not been.
    pub(super) fn next_check(&self) -> (Depth, Instant) {
        match self.leases {
            0 => (Depth::Whole, self.proven),
            _ => (Depth::Local, self.answered.max(self.proven)),
        }
    }

    pub(super) fn has_room(&self, now: Instant) -> bool {
        !self.leaving
            && !self.is_suspect(now)
            && self.leases < self.limit
            && self.has_session()
            && self.rests_until.is_none_or(|until| until <= now)
    }

    /// The server opens no more sessions than there are, as it says: those of the leases, and those
    /// that wait for a command and that it is known to have opened.
    pub(super) fn is_full(&mut self, now: Instant) {
        if self.made_room.is_none_or(|at| at + FREED < now) {
            let waiting =
                self.standbys.iter().filter(|standby| standby.past != Past::Nothing).count();
            self.limit = self.limit.min(self.leases + waiting).max(1);
            self.limit_set = now;
        }
    }

    /// If it ended now, no caller would have used it, and the next connection may end as early.
    pub(super) fn is_fruitless(&self, now: Instant) -> bool {
        !self.ran && now < self.made + YOUNG
    }

    /// Callers can expect sessions on it soon, before any lease is given back.
    pub(super) fn is_promising(&self, now: Instant) -> bool {
        let rests = self.rests_until.is_some_and(|until| until > now);
        let promises = self.promises(now) || rests || self.is_trying;
        !self.leaving && (promises || !self.connection.is_alive())
    }
}
