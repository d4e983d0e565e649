//! What a test plans for logins and connections.

use super::{Duration, LOGIN};
use crate::error::ConnectErrorKind;
use crate::transport::Trial as Outcome;

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
    /// The jump host before it cannot be reached, and is tried again after so long; none where that
    /// is not told.
    HopFails(Option<Duration>),
    /// The server takes it, and closes the connection before it is ready.
    IsDropped,
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
    pub standby: Standby,
    /// This machine's part of it answers nobody.
    pub deaf: bool,
    /// No echo has run on it.
    pub silent: bool,
    /// When it ends by itself, the server has ended it.
    pub by_server: bool,
    /// Of a server of which nobody knows whether it opens several sessions.
    pub trial: Option<Trial>,
}

/// What comes of the trial of another session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub after: Duration,
    pub outcome: Outcome,
}

/// What becomes of sessions that are opened ahead of need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standby {
    Works,
    /// It has ended when somebody wants to use it.
    IsStale,
    /// None can be opened.
    Fails,
    /// None is ever to be opened.
    IsPlain,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Probe {
    Passes(Duration),
    Fails(Duration),
    Hangs,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { after: LOGIN, login: Login::Succeeds, nature: Nature::default() }
    }
}

impl Default for Nature {
    fn default() -> Self {
        let zero = Duration::ZERO;
        let probe = Probe::Passes(zero);
        Nature {
            dies_after: None,
            noticed_after: zero,
            probe,
            closing: zero,
            standby: Standby::Works,
            deaf: false,
            silent: false,
            by_server: true,
            trial: None,
        }
    }
}

impl Plan {
    pub(super) fn succeeds_after(after: Duration) -> Self {
        Plan { after, ..Plan::default() }
    }

    pub(super) fn fails(kind: ConnectErrorKind) -> Self {
        Plan { login: Login::Fails(kind), ..Plan::default() }
    }

    pub(super) fn hop_fails(next_try_in: Option<Duration>) -> Self {
        Plan { login: Login::HopFails(next_try_in), ..Plan::default() }
    }

    pub(super) fn is_dropped() -> Self {
        Plan { login: Login::IsDropped, ..Plan::default() }
    }

    /// Nothing has run on it when it is ready.
    pub(super) fn silent(mut self) -> Self {
        self.nature.silent = true;
        self
    }

    pub(super) fn dies_after(mut self, delay: Duration) -> Self {
        self.nature.dies_after = Some(delay);
        self
    }

    pub(super) fn by_server(mut self, by_server: bool) -> Self {
        self.nature.by_server = by_server;
        self
    }

    /// Its server may open one session on a connection.
    pub(super) fn tried(mut self, after: Duration, outcome: Outcome) -> Self {
        self.nature.trial = Some(Trial { after, outcome });
        self
    }

    pub(super) fn probe(mut self, probe: Probe) -> Self {
        self.nature.probe = probe;
        self
    }

    pub(super) fn deaf(mut self) -> Self {
        self.nature.deaf = true;
        self
    }

    pub(super) fn closing(mut self, closing: Duration) -> Self {
        self.nature.closing = closing;
        self
    }

    pub(super) fn standby(mut self, standby: Standby) -> Self {
        self.nature.standby = standby;
        self
    }

    pub(super) fn noticed_after(mut self, delay: Duration) -> Self {
        self.nature.noticed_after = delay;
        self
    }
}
