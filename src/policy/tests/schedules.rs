//! Random schedules: callers, faults and closings at random instants, and the oracle at every one
//! of them.
//!
//! A schedule is drawn from its seed. The jitter of the back-off and the order in which `select!`
//! looks at its branches are not, so a seed that failed is run many times over when it is given in
//! `SSHPOOL_SEED`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::{timeout, timeout_at};

use super::draw::{Caller, Deed, End, Ending, Random, Round, Schedule};
use super::oracle::inspect;
use super::world::Outcome;
use super::*;

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
const WORTH: [&str; 20] = [
    "leases",
    "exhausted",
    "failed logins",
    "counted failures",
    "dropped",
    "turned away",
    "gone while waiting",
    "gone with a lease",
    "refused sessions",
    "broken",
    "suspect",
    "ended by themselves",
    "checks passed",
    "checks failed",
    "closed idle",
    "made room",
    "standbys opened",
    "standby hits",
    "hosts closed",
    "pools closed",
];

#[test]
fn ten_thousand_random_schedules_break_no_promise() {
    let given = std::env::var("SSHPOOL_SEED")
        .ok()
        .map(|text| text.parse().expect("SSHPOOL_SEED is a number"));
    let base = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64);
    let fewer = std::env::var("SSHPOOL_SCHEDULES").ok();
    let fewer = fewer.map(|text| text.parse().expect("SSHPOOL_SCHEDULES is a number"));
    let count = if given.is_some() { AGAIN } else { fewer.unwrap_or(SCHEDULES) };
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
                Ok(more) => more
                    .into_iter()
                    .for_each(|(what, times)| *seen.entry(what).or_default() += times),
                Err(violations) => {
                    // So that the other threads stop.
                    next.store(count, Ordering::Relaxed);
                    // The first one says what went wrong; the others follow from it.
                    let first = violations
                        .iter()
                        .take(3)
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                        .join("\n");
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
    if given.is_none() && fewer.is_none() {
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
    let pool = Arc::new(Core::new(
        Fake { world: Arc::clone(&world) },
        schedule.config.clone(),
        CAPACITY,
        Arc::default(),
    ));
    let (fortune, mut random) = (schedule.fortune, Random(!seed));
    world.plan_with(move || fortune.plan(&mut random));

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
    let driven =
        runtime.block_on(async { tokio::spawn(drive(pool, Arc::clone(&world), schedule)).await });
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

async fn drive(pool: Arc<Core<Fake>>, world: Arc<World>, schedule: Schedule) {
    let start = Instant::now();
    let Schedule { config, callers, deeds, end, .. } = schedule;
    let mut tasks = Vec::new();
    for caller in callers {
        let killed = caller.killed.map(|after| caller.arrives + after);
        let task = tokio::spawn(call(Arc::clone(&pool), Arc::clone(&world), caller));
        if let Some(after) = killed {
            let victim = task.abort_handle();
            tasks.push(tokio::spawn(async move {
                sleep(after).await;
                victim.abort();
            }));
        }
        tasks.push(task);
    }
    for Deed { after, patience, host } in deeds {
        let (pool, world) = (Arc::clone(&pool), Arc::clone(&world));
        tasks.push(tokio::spawn(async move {
            sleep(after).await;
            match host {
                Some(host) => close_one(&pool, &world, &host, patience).await,
                None => close_all(&pool, &world, patience).await,
            }
        }));
    }

    for mut task in tasks {
        match timeout_at(start + FAR, &mut task).await {
            Ok(Err(error)) if error.is_panic() => world.complain("a caller's task panicked"),
            Ok(_) => {}
            Err(_) => world.complain("somebody still waits at the end of time"),
        }
    }
    settled().await;
    if pool.stats().open_sessions + pool.stats().waiting > 0 {
        world.complain("a lease or a waiter was lost");
    }
    match end {
        // A login that nobody waits for any more may still be under way, and then grows idle.
        End::Idle => {
            pass(config.connect_timeout * 2 + LENIENCY + config.idle_timeout + CLOSING).await
        }
        End::Close => close_all(&pool, &world, Duration::ZERO).await,
        End::Drop => world.condemn(|_| true),
    }
    if !matches!(end, End::Drop) {
        let stats = pool.stats();
        let there = world.books(|truth| truth.there() + truth.logins_under_way());
        if stats.total_connections + stats.connecting + stats.open_sessions + stats.waiting + there
            > 0
        {
            world.complain("something is left at the end");
        }
    }
    drop(pool);
    // What was being probed or closed when the pool went has this long to come to its end.
    pass(config.connect_timeout + CLOSING).await;
    if world.books(|truth| truth.there() + truth.logins_under_way() > 0 || !truth.transport_gone) {
        world.complain("something outlived the pool");
    }
}

async fn call(pool: Arc<Core<Fake>>, world: Arc<World>, caller: Caller) {
    let Caller { host, arrives, rounds, .. } = caller;
    sleep(arrives).await;
    for Round { patience, holds, ending, rests } in rounds {
        let asked = Instant::now();
        match timeout(patience.unwrap_or(FAR), take(&pool, &world, &host)).await {
            Err(_) if patience.is_none() => world.complain("a caller was forgotten"),
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
                    Ending::Suspect => {
                        world.saw("suspect");
                        held.suspect();
                    }
                    Ending::Broken => {
                        world.saw("broken");
                        held.broken();
                    }
                }
            }
        }
        let config = &world.config;
        // An end with the longest patience and a login, for each connection that others may have
        // got before.
        let each = CLOSING * 2 + config.connect_timeout + LENIENCY;
        if asked.elapsed() > config.acquire_timeout + holds + each * config.max_connections as u32 {
            world.complain("a caller had to wait for too long");
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
            world.books(|truth| {
                let is_used_up = truth.is_used_up(&host.key(), 0);
                let host = truth.host(host);
                let failed = matches!(host.outcome, Outcome::Failed(_) | Outcome::Uncertain);
                failed || host.last_fruitless.is_some() || is_used_up
            })
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
        world.complain(format!(
            "a caller heard without reason, after {:?}: {error}",
            asked.elapsed()
        ));
    }
}

async fn close_one(pool: &Arc<Core<Fake>>, world: &Arc<World>, host: &Host, patience: Duration) {
    world.saw("hosts closed");
    let key = host.key();
    let before = world.books(|truth| truth.there_of(&key));
    if timeout(CLOSING * 10, close_host(pool, world, host, patience)).await.is_err() {
        world.complain("closing a host does not end");
    }
    if world.books(|truth| truth.there_of(&key)).iter().any(|id| before.contains(id)) {
        world.complain("a connection outlived the closing of its host");
    }
}

async fn close_all(pool: &Arc<Core<Fake>>, world: &Arc<World>, patience: Duration) {
    world.saw("pools closed");
    world.condemn(|_| true);
    world.books(|truth| truth.closed = true);
    if timeout(CLOSING * 3, pool.close(patience)).await.is_err() {
        world.complain("closing the pool does not end");
    }
    let left =
        world.books(|truth| truth.there() + truth.logins_under_way() > 0 || truth.shutdowns == 0);
    let host = "web9".parse().expect("valid");
    if left || !matches!(pool.acquire(&host).await, Err(Error::Closed { .. })) {
        world.complain("close left something");
    }
}

struct OnDrop<'a>(&'a World, &'static str);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.saw(self.1);
    }
}
