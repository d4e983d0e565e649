//! The way of a command in virtual time, over a fake transport that does what a test has planned.
//!
//! [`world`] is what the server sees: which commands it has executed, how often, and which process
//! groups it was told to end. What holds in every test is looked at when its [`Stage`] goes: no
//! command was executed twice, and no group was ended twice.

mod at_most_once;
mod cancellation;
mod excess;
mod fake;
mod plan;
mod random;
mod refusals;
mod remote;
mod spawned;
mod timeouts;
mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Target;
use crate::command::{Child, ExitStatus, Output, Request, Stdin, Timeout};
use crate::config::{PoolConfig, SessionReuse};
use crate::error::{Error, PartialOutput, Remote};
use crate::host::Host;
use crate::policy::{Capacity, Core, Lease, Stats};
use crate::transport::SessionEnd;
use fake::Fake;
use plan::{Ending, Plan};
use world::{World, group_of};

/// How long a login of the fake takes.
const LOGIN: Duration = ms(100);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The defaults, without sessions in standby.
fn config() -> PoolConfig {
    PoolConfig { standby_sessions: 0, session_reuse: SessionReuse::Off, ..PoolConfig::default() }
}

/// A request for this command.
fn run(text: &str) -> Request {
    Request {
        is_subsystem: false,
        fresh_session: false,
        host: Arc::new(web1()),
        text: text.into(),
        stdin: Stdin::Empty,
        timeout: Timeout::Default,
        max_output: None,
        is_read_to_end: false,
    }
}

/// A request for this command, which may take so long.
fn within(timeout: Duration, text: &str) -> Request {
    Request { timeout: Timeout::After(timeout), ..run(text) }
}

fn web1() -> Host {
    Host::new("web1").expect("it is a good name")
}

fn lost() -> SessionEnd {
    SessionEnd::Lost("the wire was cut".to_owned())
}

fn client_killed() -> SessionEnd {
    SessionEnd::ClientKilled("somebody killed it".to_owned())
}

fn refused() -> SessionEnd {
    SessionEnd::Refused("no more sessions".to_owned())
}

fn not_reached() -> SessionEnd {
    SessionEnd::NotReached("nobody listens".to_owned())
}

/// A pool and the world that it lives in.
struct Stage {
    pool: Arc<Core<Fake>>,
    world: Arc<World>,
}

impl Stage {
    fn new(config: PoolConfig) -> Self {
        let world = Arc::new(World::default());
        world.books(|books| books.login = LOGIN);
        let capacity = Capacity { logins: 1000, standbys: 1000, openings: 1000 };
        let fake = Fake(Arc::clone(&world));
        Stage { pool: Arc::new(Core::new(fake, config, capacity, Arc::default())), world }
    }

    /// With so many connections that are there for some time: one that breaks at once counts as a
    /// failed login.
    async fn warm(config: PoolConfig, connections: usize) -> Self {
        let stage = Stage::new(config);
        stage.warm_up(connections).await;
        stage
    }

    async fn warm_up(&self, connections: usize) {
        let mut held = Vec::new();
        while self.logins() < connections {
            held.push(self.lease().await);
        }
        drop(held);
        sleep(secs(6)).await;
    }

    /// With one session in standby, which does that.
    async fn with_standby(config: PoolConfig, plan: Plan) -> Self {
        let stage = Stage::new(PoolConfig { standby_sessions: 1, ..config });
        stage.world.books(|books| books.ahead.push_back(plan));
        stage.warm_up(1).await;
        stage
    }

    /// The next session that is opened for a command does this.
    fn plan(&self, plan: Plan) -> &Self {
        self.world.books(|books| books.own.push_back(plan));
        self
    }

    /// This comes of the next ending.
    fn ending(&self, ending: Ending) -> &Self {
        self.world.books(|books| books.endings.push_back(ending));
        self
    }

    fn target(&self) -> Target<Fake> {
        Target::Pool(Arc::clone(&self.pool), Arc::new(web1()))
    }

    async fn lease(&self) -> Arc<Lease<Fake>> {
        Arc::new(self.pool.acquire(&web1()).await.expect("a lease"))
    }

    /// A connection that is held: what runs there runs nowhere else.
    fn on(&self, lease: &Arc<Lease<Fake>>) -> Target<Fake> {
        Target::Lease(Arc::clone(&self.pool), Arc::clone(lease), Arc::new(web1()))
    }

    async fn output(&self, request: Request) -> Result<Output, Error> {
        super::output(self.target(), request).await
    }

    async fn spawn(&self, request: Request) -> Result<Child, Error> {
        super::spawn(self.target(), request).await
    }

    fn stats(&self) -> Stats {
        self.pool.stats()
    }

    fn logins(&self) -> usize {
        self.world.books(|books| books.logins)
    }

    fn executed(&self) -> Vec<String> {
        self.world.books(|books| books.executed.clone())
    }

    /// The sessions so far, in their order: whether each was opened ahead of need.
    fn sessions(&self) -> Vec<bool> {
        self.world.books(|books| books.sessions.iter().map(|facts| facts.ahead).collect())
    }

    /// The connection of each session so far.
    fn connections(&self) -> Vec<usize> {
        self.world.books(|books| books.sessions.iter().map(|facts| facts.connection).collect())
    }

    /// Groups that were ended.
    fn ended(&self) -> Vec<i32> {
        self.world.books(|books| books.ended.clone())
    }

    /// How often somebody tried to end a group.
    fn asked(&self) -> usize {
        self.world.books(|books| books.asked.len())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let executed = self.executed();
        let different: BTreeSet<_> = executed.iter().collect();
        assert_eq!(different.len(), executed.len(), "executed more than once: {executed:?}");
        let ended = self.ended();
        let different: BTreeSet<_> = ended.iter().collect();
        assert_eq!(different.len(), ended.len(), "ended more than once: {ended:?}");
    }
}

/// The reason of a command that was lost, and what it had written.
fn loss<T: std::fmt::Debug>(result: Result<T, Error>) -> (String, PartialOutput) {
    match result {
        Err(Error::Lost { reason, partial, .. }) => (reason, (*partial).clone()),
        other => panic!("it was not lost: {other:?}"),
    }
}

/// What is left of a command whose time was over, and what it had written.
fn timed_out<T: std::fmt::Debug>(result: Result<T, Error>) -> (Remote, PartialOutput) {
    match result {
        Err(Error::TimedOut { remote, partial, .. }) => (remote, (*partial).clone()),
        other => panic!("it did not time out: {other:?}"),
    }
}

/// Why a command was never started.
fn never_started<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::NeverStarted { reason, .. }) => reason,
        other => panic!("another result: {other:?}"),
    }
}

fn written(stdout: &str, stderr: &str) -> PartialOutput {
    PartialOutput { stdout: stdout.into(), stderr: stderr.into() }
}
