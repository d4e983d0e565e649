//! The policy in virtual time, against a fake transport that keeps books of its own.
//!
//! One file per theme says what a caller can rely on; `schedules` looks for what nobody thought of.

mod callers;
mod closing;
mod draw;
mod failures;
mod fake;
mod growth;
mod ledger;
mod oracle;
mod plan;
mod queue;
mod refusals;
mod schedules;
mod sessions;
mod standby;
mod tenants;
mod upkeep;
mod world;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::{Capacity, Core, Lease, Stats};
use crate::config::{PoolConfig, SessionReuse};
use crate::error::{ConnectErrorKind, Error};
use crate::host::Host;
pub(super) use fake::Fake;
use fake::FakeConnection;
use world::World;

/// More than any test has, but for the one about it.
const CAPACITY: Capacity = Capacity { logins: 1000, standbys: 1000, openings: 1000 };

/// How long a login of the fake takes when nothing else was planned.
const LOGIN: Duration = ms(100);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn web1() -> Host {
    Host::new("web1").unwrap()
}

/// The defaults, but for what most tests are about. Each command has a session of its own; what is
/// different where sessions are used again is tested in `growth`.
fn config(max_connections: usize, sessions_per_connection: usize) -> PoolConfig {
    PoolConfig {
        max_connections,
        sessions_per_connection,
        session_reuse: SessionReuse::Off,
        ..PoolConfig::default()
    }
}

/// A pool and the world that it lives in.
struct Stage {
    pool: Arc<Core<Fake>>,
    world: Arc<World>,
}

impl Stage {
    fn new(config: PoolConfig) -> Self {
        let world = World::new(&config);
        let transport = Fake { world: Arc::clone(&world) };
        Stage { pool: Arc::new(Core::new(transport, config, CAPACITY, Arc::default())), world }
    }

    async fn try_take(&self, host: &Host) -> Result<Held, Error> {
        take(&self.pool, &self.world, host).await
    }

    async fn take(&self, host: &Host) -> Held {
        self.try_take(host).await.expect("a lease")
    }

    /// Its lease, without a session that waits there.
    async fn take_alone(&self, host: &Host) -> Held {
        let mut asking = self.world.asks(host);
        let lease = self.pool.acquire(host).await.expect("a lease");
        asking.answered = true;
        drop(asking);
        let id = lease.connection().id;
        self.world.takes(id);
        Held {
            id,
            world: Arc::clone(&self.world),
            had_standby: false,
            has_session: true,
            lease: Some(lease),
        }
    }

    /// A caller that waits on its own, and has joined the queue when this returns.
    async fn caller(&self, host: &Host) -> JoinHandle<Result<Held, Error>> {
        let (pool, world, host) = (Arc::clone(&self.pool), Arc::clone(&self.world), host.clone());
        let caller = tokio::spawn(async move { take(&pool, &world, &host).await });
        settled().await;
        caller
    }

    async fn close_host(&self, host: &Host, patience: Duration) {
        close_host(&self.pool, &self.world, host, patience).await;
    }

    async fn close(&self, patience: Duration) {
        self.world.condemn(|_| true);
        self.pool.close(patience).await;
    }

    fn stats(&self) -> Stats {
        self.pool.stats()
    }

    /// Logins so far.
    fn logins(&self) -> usize {
        self.world.books(|truth| truth.logins().count())
    }

    /// Connections that exist.
    fn there(&self) -> usize {
        self.world.books(|truth| truth.there())
    }

    /// Everything that the pool had is given back and can be had again.
    async fn is_whole(&self, host: &Host) {
        let config = self.pool.config();
        let mut all = Vec::new();
        for _ in 0..config.max_connections * config.sessions_per_connection {
            all.push(self.take(host).await);
        }
        let stats = self.stats();
        assert_eq!((stats.open_sessions, stats.waiting, stats.idle_connections), (all.len(), 0, 0));
        drop(all);
        let stats = self.stats();
        assert_eq!((stats.open_sessions, stats.active_connections), (0, 0));
        assert_eq!(stats.idle_connections, config.max_connections);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.world.verify();
        }
    }
}

async fn take(pool: &Arc<Core<Fake>>, world: &Arc<World>, host: &Host) -> Result<Held, Error> {
    let mut asking = world.asks(host);
    let result = pool.acquire(host).await;
    asking.answered = true;
    drop(asking);
    let lease = result?;
    let id = lease.connection().id;
    world.takes(id);
    // As a command does.
    let standby = lease.standby(host.login(), |_| true);
    if standby.is_some() {
        world.saw("standby hits");
    }
    let has_session = standby.is_some() || lease.opens();
    Ok(Held {
        id,
        world: Arc::clone(world),
        had_standby: standby.is_some(),
        has_session,
        lease: Some(lease),
    })
}

async fn close_host(pool: &Arc<Core<Fake>>, world: &Arc<World>, host: &Host, patience: Duration) {
    let key = host.key();
    world.condemn(|host| host.key == key);
    pool.close_host(&key, patience).await;
}

/// A lease that is in the books.
struct Held {
    id: usize,
    world: Arc<World>,
    /// The caller found a session that was there before it.
    had_standby: bool,
    /// It found one, or may open one.
    has_session: bool,
    /// Always there until it is given back.
    lease: Option<Lease<Fake>>,
}

impl Held {
    fn lease(&self) -> &Lease<Fake> {
        self.lease.as_ref().expect("it was not given back")
    }

    fn connection(&self) -> &Arc<FakeConnection> {
        self.lease().connection()
    }

    fn suspect(&self) {
        self.world.suspects(self.id);
        self.lease().suspect();
    }

    /// The connection was lost while its command ran.
    fn broken(&self) {
        self.ran();
        self.not_reached();
    }

    /// No session could be opened on it.
    fn not_reached(&self) {
        self.world.condemn_one(self.id);
        self.lease().broken();
    }

    /// Its command has run.
    fn ran(&self) {
        self.world.ran(self.id);
        self.lease().ran();
    }

    /// Without having run anything.
    fn unused(mut self) {
        if let Some(lease) = self.lease.take() {
            self.world.gives_back(self.id);
            drop(lease);
        }
    }

    /// No session that waits there suits it, and it may open none.
    async fn does_not_suit(mut self) {
        if let Some(lease) = self.lease.take() {
            self.world.gives_back(self.id);
            lease.does_not_suit().await;
        }
    }

    fn refused(mut self) {
        if let Some(lease) = self.lease.take() {
            self.world.refuses(self.id);
            lease.refused();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.world.ran(self.id);
            lease.ran();
            self.world.gives_back(self.id);
            drop(lease);
        }
    }
}

/// Lets every task do what it can do at this instant. The clock stands still: it moves only when
/// nothing is left to do, and this task has something left.
async fn settled() {
    // More than the longest chain of tasks that wake each other here.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits until `instant`, and for what happens then.
async fn at(instant: Instant) {
    tokio::time::sleep_until(instant).await;
    settled().await;
}

async fn pass(time: Duration) {
    sleep(time).await;
    settled().await;
}

async fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(move |context| {
        let future = future.take().expect("it is polled once");
        Poll::Ready(future.poll(context))
    })
    .await
}

/// The lease that a caller has got by now.
async fn served(caller: JoinHandle<Result<Held, Error>>) -> Held {
    answer(caller).await.expect("a lease")
}

async fn answer(caller: JoinHandle<Result<Held, Error>>) -> Result<Held, Error> {
    assert!(caller.is_finished(), "the caller still waits");
    caller.await.expect("callers do not panic")
}

fn kind_of(result: Result<Held, Error>) -> ConnectErrorKind {
    match result {
        Err(Error::Connect { source, .. }) => source.kind(),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("a lease"),
    }
}

fn is_closed(result: Result<Held, Error>) -> bool {
    matches!(result, Err(Error::Closed { .. }))
}
