//! A transport and connections that do what a test has planned, in virtual time, and tell the
//! [`World`] what the pool does with them.

use std::borrow::Cow;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::plan::{Login, Plan, Probe, Standby};
use super::world::{LoginUnderWay, Phase, World};
use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::{Host, Variables};
use crate::transport::{
    Configuration, Connection, End, Group, Input, NotEnded, NotOpened, NotResolved, Script,
    Session, SessionEnd, Sessions, Streams, Transport, Trial as Outcome,
};

/// The transport: a handle to the world. The pool owns it, and the world learns when it is gone.
pub(in crate::policy) struct Fake {
    pub(super) world: Arc<World>,
}

pub(in crate::policy) struct FakeConnection {
    pub id: usize,
    world: Arc<World>,
    phase: watch::Receiver<Phase>,
    sessions: Sessions,
    has_first: AtomicBool,
}

impl Transport for Fake {
    type Connection = FakeConnection;
    type Way = ();

    async fn resolve(&self, host: &Host) -> Result<Host, NotResolved> {
        Ok(host.clone())
    }

    async fn refreshed(&self, host: Host) -> Host {
        host
    }

    async fn way(&self, _: &Host) -> Result<(), ConnectError> {
        Ok(())
    }

    async fn connect(
        &self,
        host: &Host,
        (): (),
        deadline: Instant,
        known: Sessions,
    ) -> Result<FakeConnection, ConnectError> {
        let Plan { after, login, nature } = self.world.next_plan();
        let under_way = self.world.login_starts(host);
        let until = match login {
            Login::Hangs => deadline + Duration::from_secs(1),
            _ => Instant::now() + after,
        };
        sleep_until(until.min(deadline)).await;
        match login {
            Login::NeverReturns => {
                let _given_up = OnDrop(|| under_way.is_given_up(deadline));
                std::future::pending().await
            }
            _ if until > deadline => Err(failure(&under_way, ConnectErrorKind::TimedOut)),
            Login::Fails(kind) => Err(failure(&under_way, kind)),
            Login::HopFails(next_try_in) => {
                let error = failure(&under_way, ConnectErrorKind::Refused).of_a_hop();
                Err(match next_try_in {
                    Some(next) => error.remembered(Duration::ZERO, next),
                    None => error,
                })
            }
            Login::IsDropped => {
                under_way.is_dropped();
                Err(ConnectError::new(ConnectErrorKind::Other, "as planned", Vec::new()).dropped())
            }
            Login::Panics => {
                under_way.fails(ConnectErrorKind::Local);
                // Not `panic!`, which would write to the output of a test that passes.
                resume_unwind(Box::new("as planned"))
            }
            Login::Succeeds | Login::Hangs => {
                let (dies_after, is_tried) = (nature.dies_after, nature.trial.is_some());
                let silent = nature.silent;
                let (id, phase) = under_way.succeeds(nature);
                let world = Arc::clone(&self.world);
                if let Some(delay) = dies_after {
                    let world = Arc::clone(&world);
                    tokio::spawn(async move {
                        sleep(delay).await;
                        world.dies(id);
                    });
                }
                let sessions = if is_tried { known } else { Sessions::Several };
                world.books(|truth| {
                    let facts = &mut truth.connections[id];
                    // What is learned during a login holds for its connection, too.
                    let opens =
                        facts.nature.trial.is_some_and(|trial| trial.outcome == Outcome::Opens);
                    facts.single =
                        sessions == Sessions::One || sessions == Sessions::Unknown && !opens;
                    // What is learned elsewhere may be a reason to close it.
                    facts.condemned |= is_tried;
                });
                let has_first = AtomicBool::new(is_tried && !silent && sessions != Sessions::One);
                Ok(FakeConnection { id, world, phase, sessions, has_first })
            }
        }
    }

    async fn configuration(&self, _: &Host, _: ConnectErrorKind) -> Configuration {
        self.world.books(|truth| truth.configuration)
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

impl FakeConnection {
    /// Its process ends by itself.
    pub(super) fn die(&self) {
        self.world.dies(self.id);
    }
}

/// A session that was opened ahead of need.
pub(in crate::policy) struct FakeStandby {
    id: usize,
    world: Arc<World>,
}

impl Drop for FakeStandby {
    fn drop(&mut self) {
        self.world.standby_ends(self.id);
    }
}

/// What the policy does not ask for: the execution's own fake has it.
const RUNS_NOTHING: &str = "the policy runs no commands";

impl Session for FakeStandby {
    type Connection = FakeConnection;

    fn is_there(&mut self) -> bool {
        self.world.books(|truth| truth.connections[self.id].nature.standby != Standby::IsStale)
    }

    fn is_idle(&self) -> bool {
        true
    }

    fn take_streams(&mut self) -> Streams {
        unreachable!("{RUNS_NOTHING}")
    }

    fn preface<'a>(&self, _: &'a Script) -> Cow<'a, [u8]> {
        unreachable!("{RUNS_NOTHING}")
    }

    fn tells_begin(&self) -> bool {
        unreachable!("{RUNS_NOTHING}")
    }

    async fn opened(&mut self, _: &FakeConnection) -> Result<(), SessionEnd> {
        unreachable!("{RUNS_NOTHING}")
    }

    async fn wait(&mut self, _: &FakeConnection) -> SessionEnd {
        unreachable!("{RUNS_NOTHING}")
    }

    fn not_begun(&self, _: SessionEnd, _: &FakeConnection) -> SessionEnd {
        unreachable!("{RUNS_NOTHING}")
    }

    fn group(&self) -> Group {
        unreachable!("{RUNS_NOTHING}")
    }
}

impl FakeConnection {
    fn standbys(&self) -> Standby {
        self.world.books(|truth| truth.connections[self.id].nature.standby)
    }
}

impl Connection for FakeConnection {
    type Session = FakeStandby;

    fn open(&self, _: &Script, _: Input<'_>, _: &Variables) -> Result<FakeStandby, NotOpened> {
        unreachable!("{RUNS_NOTHING}")
    }

    async fn prove_input(&self) {
        unreachable!("{RUNS_NOTHING}")
    }

    async fn end_groups(&self, _: Option<FakeStandby>, _: &[i32]) -> Result<(), NotEnded> {
        unreachable!("{RUNS_NOTHING}")
    }

    fn standby(&self, _: &Arc<Variables>) -> Option<FakeStandby> {
        match self.standbys() {
            Standby::IsPlain => {
                self.world.complain("a standby was wanted where none is possible");
                None
            }
            Standby::Fails => None,
            Standby::Works | Standby::IsStale => {
                self.world.standby_opens(self.id);
                Some(FakeStandby { id: self.id, world: Arc::clone(&self.world) })
            }
        }
    }

    fn is_plain(&self) -> bool {
        self.standbys() == Standby::IsPlain
    }

    fn first(&self) -> Option<(FakeStandby, Arc<Variables>)> {
        self.has_first.swap(false, Ordering::Relaxed).then(|| {
            self.world.standby_opens(self.id);
            let first = FakeStandby { id: self.id, world: Arc::clone(&self.world) };
            (first, Arc::default())
        })
    }

    fn sessions(&self) -> Sessions {
        self.sessions
    }

    async fn try_another(&self, _: Option<&mut FakeStandby>) -> Outcome {
        self.world.saw("trials");
        let trial = self.world.books(|truth| {
            let facts = &mut truth.connections[self.id];
            facts.trying = true;
            if facts.sessions > 0 {
                truth.violations.push(format!("a trial beside a command of {}", self.id));
            }
            truth.connections[self.id].nature.trial.expect("only an unknown server is tried")
        });
        let _over = OnDrop(|| self.world.books(|truth| truth.connections[self.id].trying = false));
        sleep(trial.after).await;
        if trial.outcome == Outcome::Ends {
            self.world.dies(self.id);
        }
        self.world.books(|truth| {
            let host = truth.connections[self.id].host;
            let opens = trial.outcome == Outcome::Opens;
            // The outcome is for all connections, and the pool may close them for that.
            for facts in truth.connections.iter_mut().filter(|facts| facts.host == host) {
                facts.condemned |= !opens;
                facts.single &= !opens;
            }
        });
        trial.outcome
    }

    async fn probe(&self, _: Option<&mut Self::Session>) -> Result<(), String> {
        let mut under_way = self.world.probe_starts(self.id);
        match self.world.books(|truth| truth.connections[self.id].nature.probe) {
            Probe::Passes(after) => sleep(after).await,
            Probe::Fails(after) => {
                sleep(after).await;
                self.world.saw("checks failed");
                return Err("as planned".to_owned());
            }
            Probe::Hangs => std::future::pending().await,
        }
        if !self.is_alive() {
            return Err("it has ended".to_owned());
        }
        self.world.saw("checks passed");
        under_way.passed = true;
        Ok(())
    }

    async fn is_heard(&self, _: &mut Self::Session, _: bool) -> Option<bool> {
        Some(!self.world.books(|truth| truth.connections[self.id].nature.deaf))
    }

    async fn answers(&self) -> Result<(), String> {
        if self.world.books(|truth| truth.connections[self.id].nature.deaf) {
            self.world.condemn_one(self.id);
            std::future::pending().await
        }
        Ok(())
    }

    fn is_alive(&self) -> bool {
        *self.phase.borrow() == Phase::Up
    }

    async fn ended(&self) -> End {
        let mut phase = self.phase.clone();
        phase
            .wait_for(|phase| *phase == Phase::Ended)
            .await
            .expect("the books outlive the connection");
        let by_server = self.world.books(|truth| truth.connections[self.id].was_ended_by_server());
        End { reason: "as planned".to_owned(), by_server }
    }

    fn has_run(&self) -> bool {
        self.world.books(|truth| {
            let facts = &truth.connections[self.id];
            facts.ran || !facts.nature.silent && self.sessions != Sessions::One
        })
    }

    async fn close(&self, patience: Duration) {
        let (closing, last_session_ended) = self.world.closes(self.id);
        let unused = async {
            while self.world.books(|truth| truth.connections[self.id].sessions > 0) {
                last_session_ended.notified().await;
            }
        };
        let end = async {
            // What still runs when the patience is over is cut off.
            let _ = timeout(patience, unused).await;
            sleep(closing).await;
        };
        tokio::select! {
            _ = self.ended() => {}
            () = end => self.world.becomes(self.id, Phase::Ended),
        }
    }
}

impl Drop for FakeConnection {
    fn drop(&mut self) {
        self.world.dropped(self.id);
    }
}

/// Runs when it is dropped, a future that is given up included.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
