//! Random schedules: callers, faults and closings at random instants, and the oracle at every one of them.
//!
//! A schedule is drawn from its seed. The jitter of the back-off and the order in which `select!` looks at its branches are not, so a
//! seed that failed is run many times over when it is given in `SSHPOOL_SEED`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::task::AbortHandle;
use tokio::time::{timeout, timeout_at};

use super::fake::{Login, Nature, Plan, Probe};
use super::oracle::inspect;
use super::*;
use crate::error::ConnectErrorKind as Kind;

const SCHEDULES: u64 = 10_000;
/// How often the one of `SSHPOOL_SEED` is run.
const AGAIN: u64 = 200;
/// Longer than any schedule can take.
const FAR: Duration = secs(600);
/// What the pool allows itself beyond `connect_timeout`, and for an end after its patience.
const LENIENCY: Duration = secs(1);
const CLOSING: Duration = secs(5);

/// How often something happened.
type Seen = BTreeMap<&'static str, u64>;

/// What the schedules have to reach to be worth something.
const WORTH: [&str; 14] = [
    "leases",
    "exhausted",
    "failed logins",
    "turned away",
    "gone while waiting",
    "gone with a lease",
    "refused sessions",
    "broken",
    "ended by themselves",
    "checks passed",
    "checks failed",
    "closed idle",
    "hosts closed",
    "pools closed",
];

#[test]
fn ten_thousand_random_schedules_break_no_promise() {
    let given =
        std::env::var("SSHPOOL_SEED").ok().map(|text| text.parse().expect("SSHPOOL_SEED is a number"));
    let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64);
    let count = if given.is_some() { AGAIN } else { SCHEDULES };
    let next = AtomicU64::new(0);
    let work = || {
        let mut seen = Seen::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return seen;
            }
            let seed = given.unwrap_or(base + number);
            match run(seed) {
                Ok(more) => {
                    more.into_iter().for_each(|(what, times)| *seen.entry(what).or_default() += times)
                }
                Err(violations) => {
                    next.store(count, Ordering::Relaxed);
                    // The first one says what went wrong; the others follow from it.
                    let first = violations.iter().take(3).map(String::as_str).collect::<Vec<_>>().join("\n");
                    panic!("schedule seed: {seed}\n{first}");
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let all: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut seen = Seen::new();
    for one in all {
        let one = one.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        one.into_iter().for_each(|(what, times)| *seen.entry(what).or_default() += times);
    }
    if given.is_none() {
        let rare = |what: &&&str| seen.get(**what).is_none_or(|&times| times < SCHEDULES / 100);
        assert_eq!(
            WORTH.iter().find(rare),
            None,
            "schedules in which nothing happens prove nothing: {seen:?}"
        );
    }
}

fn run(seed: u64) -> Result<Seen, Vec<String>> {
    let schedule = Schedule::draw(&mut Random(seed));
    let world = World::new(&schedule.config);
    let pool = Arc::new(Core::new(world.transport(), schedule.config.clone()));
    let (fortune, mut random) = (schedule.fortune, Random(!seed));
    world.plan_with(move |_| fortune.plan(&mut random));

    let (watched, books) = (Arc::downgrade(&pool), Arc::clone(&world));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        // Before the clock moves, that is: it moves when nothing is left to run.
        .on_thread_park(move || {
            if let Some(pool) = watched.upgrade() {
                inspect(&pool, &books);
            }
        })
        .build()
        .expect("a runtime needs nothing for this");
    // As a task, because the runtime parks before it looks at what it blocks on.
    let driven = runtime.block_on(async { tokio::spawn(drive(pool, Arc::clone(&world), schedule)).await });
    world.books(|truth| {
        if let Err(error) = driven {
            truth.violations.push(error.to_string());
        }
        match std::mem::take(&mut truth.violations) {
            none if none.is_empty() => Ok(std::mem::take(&mut truth.seen)),
            violations => Err(violations),
        }
    })
}

// ---- what is drawn ----

struct Schedule {
    config: PoolConfig,
    fortune: Fortune,
    callers: Vec<Caller>,
    deeds: Vec<(Duration, Host)>,
    close: Option<Duration>,
    end: End,
}

/// How much luck logins and connections have.
#[derive(Clone, Copy)]
struct Fortune {
    connect_timeout: Duration,
    /// Per cent.
    failing: u64,
    dying: u64,
    sick: u64,
}

struct Caller {
    host: Host,
    arrives: Duration,
    /// Its task is ended from outside.
    killed: Option<Duration>,
    rounds: Vec<Round>,
}

#[derive(Clone, Copy)]
struct Round {
    patience: Option<Duration>,
    holds: Duration,
    ending: Ending,
    rests: Duration,
}

#[derive(Clone, Copy)]
enum Ending {
    Released,
    Refused,
    Broken,
}

#[derive(Clone, Copy)]
enum End {
    /// Everything grows idle.
    Idle,
    Close,
    Drop,
}

impl Schedule {
    fn draw(random: &mut Random) -> Self {
        let config = PoolConfig {
            max_connections: random.up_to(1, 4) as usize,
            sessions_per_connection: random.up_to(1, 4) as usize,
            acquire_timeout: if random.chance(20) { Duration::ZERO } else { random.millis(1, 2000) },
            idle_timeout: random.millis(50, 3000),
            connect_timeout: random.millis(50, 500),
            health_checks: random.chance(70),
            health_check_interval: random.millis(20, 1000),
            ..PoolConfig::default()
        };
        let fortune = Fortune {
            connect_timeout: config.connect_timeout,
            failing: random.pick([0, 0, 5, 30, 80]),
            dying: random.pick([0, 0, 20, 60]),
            sick: random.pick([0, 0, 20, 60]),
        };
        // The first two are one host, but for the address; the third has their key, but nothing else in common with them.
        let hosts = ["web1", "web1", "root@web1", "web2"].map(|text| text.parse::<Host>().expect("valid"));
        let [first, second, third, fourth] = hosts;
        let mut hosts = vec![first, second.address("10.0.0.2").expect("valid"), third, fourth];
        hosts.truncate(random.up_to(1, 4) as usize);

        let burst = random.chance(30);
        let refusals = if random.chance(50) { random.up_to(1, 40) } else { 0 };
        let breaks = random.pick([0, 0, 5, 30]);
        let impatient = random.pick([0, 10, 50]);
        let mut callers = Vec::new();
        for _ in 0..random.up_to(5, 40) {
            let mut rounds = Vec::new();
            for _ in 0..random.up_to(1, 3) {
                let ending = match random.chance(refusals) {
                    true => Ending::Refused,
                    false if random.chance(breaks) => Ending::Broken,
                    false => Ending::Released,
                };
                let holds = if random.chance(5) { random.millis(0, 5000) } else { random.millis(0, 300) };
                rounds.push(Round {
                    patience: random.chance(impatient).then(|| random.millis(0, 500)),
                    holds: if random.chance(20) { Duration::ZERO } else { holds },
                    ending,
                    rests: random.millis(0, 1000),
                });
            }
            callers.push(Caller {
                host: random.pick_from(&hosts).clone(),
                arrives: if burst { Duration::ZERO } else { random.millis(0, 3000) },
                killed: random.chance(impatient / 2).then(|| random.millis(0, 3000)),
                rounds,
            });
        }
        let deeds = random.pick([0, 0, 0, 1, 3]);
        let deeds = (0..deeds).map(|_| (random.millis(0, 4000), random.pick_from(&hosts).clone())).collect();
        Schedule {
            config,
            fortune,
            callers,
            deeds,
            close: random.chance(10).then(|| random.millis(0, 4000)),
            end: random.pick([End::Idle, End::Close, End::Drop]),
        }
    }
}

impl Fortune {
    fn plan(self, random: &mut Random) -> Plan {
        let zero = Duration::ZERO;
        let kinds =
            [Kind::Refused, Kind::ServerBusy, Kind::Other, Kind::Authentication, Kind::HostKeyChanged];
        let login = match random.chance(self.failing) {
            true if random.chance(15) => Login::Hangs,
            true if random.chance(5) => Login::NeverReturns,
            true if random.chance(5) => Login::Panics,
            true => Login::Fails(random.pick(kinds)),
            false => Login::Succeeds,
        };
        let probe = match random.chance(self.sick) {
            true if random.chance(30) => Probe::Hangs,
            true => Probe::Fails(random.millis(0, 50)),
            false => Probe::Passes(random.pick([zero, ms(1), ms(30)])),
        };
        let nature = Nature {
            dies_after: random.chance(self.dying).then(|| random.millis(0, 2000)),
            noticed_after: random.pick([zero, zero, ms(1), ms(20)]),
            probe,
            closing: random.pick([zero, ms(1), ms(200)]),
        };
        let after = if random.chance(10) { zero } else { random.millis(0, 100) };
        // Some take longer than they may.
        let after = if random.chance(5) { after + self.connect_timeout } else { after };
        Plan { after, login, nature }
    }
}

/// Splitmix64: small, and good enough for dice.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Both included.
    fn up_to(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    fn millis(&mut self, least: u64, most: u64) -> Duration {
        ms(self.up_to(least, most))
    }

    fn pick<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        *self.pick_from(&all)
    }

    fn pick_from<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next() as usize % all.len()]
    }
}

// ---- what is done ----

async fn drive(pool: Arc<Core<Fake>>, world: Arc<World>, schedule: Schedule) {
    let start = Instant::now();
    let Schedule { config, callers, deeds, close, end, .. } = schedule;
    let mut tasks = Vec::new();
    for caller in callers {
        let (killed, from) = (caller.killed, start + caller.arrives);
        let task = tokio::spawn(call(Arc::clone(&pool), Arc::clone(&world), caller));
        if let Some(after) = killed {
            let victim: AbortHandle = task.abort_handle();
            tasks.push(tokio::spawn(async move {
                tokio::time::sleep_until(from + after).await;
                victim.abort();
            }));
        }
        tasks.push(task);
    }
    for (after, host) in deeds {
        let (pool, world) = (Arc::clone(&pool), Arc::clone(&world));
        let patience = *[ms(0), ms(50), ms(1000)].get(after.as_millis() as usize % 3).expect("three");
        tasks.push(tokio::spawn(async move {
            sleep(after).await;
            close_one(&pool, &world, &host, patience).await;
        }));
    }
    if let Some(after) = close {
        let (pool, world) = (Arc::clone(&pool), Arc::clone(&world));
        tasks.push(tokio::spawn(async move {
            sleep(after).await;
            close_all(&pool, &world, ms(100)).await;
        }));
    }

    for mut task in tasks {
        match timeout_at(start + FAR, &mut task).await {
            Ok(Err(error)) if error.is_panic() => complain(&world, "a caller's task panicked"),
            Ok(_) => {}
            Err(_) => complain(&world, "somebody still waits at the end of time"),
        }
    }
    settled().await;
    if pool.stats().open_sessions + pool.stats().waiting > 0 {
        complain(&world, "a lease or a waiter was lost");
    }
    match end {
        // A login that nobody waits for any more may still be under way, and then grows idle.
        End::Idle => pass(config.connect_timeout * 2 + LENIENCY + config.idle_timeout + CLOSING).await,
        End::Close => close_all(&pool, &world, Duration::ZERO).await,
        End::Drop => world.condemn(|_| true),
    }
    if !matches!(end, End::Drop) {
        let stats = pool.stats();
        let there = world.books(|truth| truth.there() + truth.logins_under_way());
        if stats.total_connections + stats.connecting + stats.open_sessions + stats.waiting + there > 0 {
            complain(&world, "something is left at the end");
        }
    }
    drop(pool);
    // What was being probed or closed when the pool went has this long to come to its end.
    pass(config.connect_timeout + CLOSING).await;
    if world.books(|truth| truth.there() + truth.logins_under_way() > 0 || !truth.transport_gone) {
        complain(&world, "something outlived the pool");
    }
}

async fn call(pool: Arc<Core<Fake>>, world: Arc<World>, caller: Caller) {
    let Caller { host, arrives, rounds, .. } = caller;
    sleep(arrives).await;
    for Round { patience, holds, ending, rests } in rounds {
        let asked = Instant::now();
        match timeout(patience.unwrap_or(FAR), take(&pool, &world, &host)).await {
            Err(_) if patience.is_none() => complain(&world, "a caller was forgotten"),
            Err(_) => world.saw("gone while waiting"),
            Ok(Err(error)) => judge(&world, &host, asked, &error),
            Ok(Ok(held)) => {
                world.saw("leases");
                // A caller that is killed here takes its lease with it.
                let killed = OnDrop(&world, "gone with a lease");
                if !holds.is_zero() {
                    sleep(holds).await;
                }
                std::mem::forget(killed);
                match ending {
                    Ending::Released => drop(held),
                    Ending::Refused => held.refused(),
                    Ending::Broken => {
                        world.saw("broken");
                        held.broken();
                    }
                }
            }
        }
        let config = &world.config;
        // An end with the longest patience and a login, for each connection that others may have got before.
        let each = CLOSING * 2 + config.connect_timeout + LENIENCY;
        if asked.elapsed() > config.acquire_timeout + holds + each * config.max_connections as u32 {
            complain(&world, "a caller had to wait for too long");
        }
        sleep(rests).await;
    }
}

/// A caller is turned away for a reason that there is.
fn judge(world: &World, host: &Host, asked: Instant, error: &Error) {
    let config = &world.config;
    let right = match error {
        Error::Exhausted { .. } => {
            world.saw("exhausted");
            let text = format!(
                "Connection pool exhausted for web{}:22 (max: {})",
                &host.name()[3..],
                config.max_connections
            );
            asked.elapsed() >= config.acquire_timeout && error.to_string() == text
        }
        Error::Connect { .. } => {
            world.saw("failed logins");
            world.books(|truth| matches!(truth.host(host).outcome, Some(Err(_))))
        }
        Error::Closed { .. } => {
            world.saw("turned away");
            world.books(|truth| {
                truth.closed || truth.host(host).last_closed.is_some_and(|closed| closed >= asked)
            })
        }
        _ => false,
    };
    if !right {
        complain(world, &format!("a caller heard without reason, after {:?}: {error}", asked.elapsed()));
    }
}

async fn close_one(pool: &Arc<Core<Fake>>, world: &Arc<World>, host: &Host, patience: Duration) {
    world.saw("hosts closed");
    let key = host.key();
    let before = world.books(|truth| truth.ids_of(&key));
    if timeout(CLOSING * 10, close_host(pool, world, host, patience)).await.is_err() {
        complain(world, "closing a host does not end");
    }
    if world.books(|truth| truth.ids_of(&key)).iter().any(|id| before.contains(id)) {
        complain(world, "a connection outlived the closing of its host");
    }
}

async fn close_all(pool: &Arc<Core<Fake>>, world: &Arc<World>, patience: Duration) {
    world.saw("pools closed");
    world.condemn(|_| true);
    world.books(|truth| truth.closed = true);
    if timeout(CLOSING * 3, pool.close(patience)).await.is_err() {
        complain(world, "closing the pool does not end");
    }
    let left = world.books(|truth| truth.there() + truth.logins_under_way() > 0 || truth.shutdowns == 0);
    let host = "web9".parse().expect("valid");
    if left || !matches!(pool.acquire(&host).await, Err(Error::Closed { .. })) {
        complain(world, "close left something");
    }
}

fn complain(world: &World, what: &str) {
    world.books(|truth| truth.violations.push(what.to_owned()));
}

struct OnDrop<'a>(&'a World, &'static str);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.saw(self.1);
    }
}
