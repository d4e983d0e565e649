//! A transport and connections that do what a test has planned, in virtual time, and tell the [`World`] what the pool does with them.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::plan::{Login, Nature, Plan, Probe};
use super::world::{LENIENCY, LoginUnderWay, Phase, World};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::Host;
use crate::pool::{Connection, Transport};

/// The transport: a handle to the world. The pool owns it, and the world learns when it is gone.
pub(super) struct Fake {
    pub world: Arc<World>,
}

impl Transport for Fake {
    type Connection = FakeConnection;

    async fn connect(&self, host: &Host, deadline: Instant) -> Result<FakeConnection, ConnectError> {
        let Plan { after, login, nature } = self.world.next_plan(host);
        let under_way = self.world.login_starts(host);
        let until = Instant::now() + after;
        match login {
            Login::Hangs => sleep_until(deadline).await,
            _ => sleep_until(until.min(deadline)).await,
        }
        match login {
            Login::Hangs => Err(failure(&under_way, ConnectErrorKind::TimedOut)),
            _ if until > deadline => Err(failure(&under_way, ConnectErrorKind::TimedOut)),
            Login::Succeeds => Ok(FakeConnection::new(under_way, nature)),
            Login::Fails(kind) => Err(failure(&under_way, kind)),
            Login::NeverReturns => {
                let _given_up = OnDrop(|| under_way.is_given_up(deadline + LENIENCY));
                std::future::pending().await
            }
            Login::Panics => {
                under_way.fails(ConnectErrorKind::Local);
                // Not `panic!`, which would write to the output of a test that passes.
                resume_unwind(Box::new("as planned"))
            }
        }
    }

    async fn shutdown(&self) {
        self.world.books(|truth| truth.shutdowns += 1);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.world.books(|truth| truth.transport_gone = true);
    }
}

fn failure(under_way: &LoginUnderWay, kind: ConnectErrorKind) -> ConnectError {
    under_way.fails(kind);
    ConnectError::new(kind, "as planned", Vec::new())
}

pub(super) struct FakeConnection {
    pub id: usize,
    life: Arc<Life>,
}

/// What can end while nobody holds the connection.
struct Life {
    id: usize,
    world: Arc<World>,
    phase: watch::Sender<Phase>,
}

impl FakeConnection {
    fn new(login: LoginUnderWay, nature: Nature) -> Self {
        let dies_after = nature.dies_after;
    }

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
        let (closing, last_session_ended) = self.world.closes(self.id);
        let unused = async {
            while self.world.books(|truth| truth.connections[self.id].sessions > 0) {
                last_session_ended.notified().await;
            }
        };
        let end = async {
            // Those that still run at the end of the patience are cut off.
            let _ = timeout(patience, unused).await;
            sleep(closing).await;
        };
        tokio::select! {
            () = self.is_in(|phase| *phase == Phase::Ended) => {}
            () = end => self.world.becomes(self.id, &self.phase, Phase::Ended),
        }
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
