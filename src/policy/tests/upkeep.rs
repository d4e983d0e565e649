//! What becomes of connections that nobody uses, and of those that end by themselves.

use rstest::rstest;

use super::plan::{Plan, Probe};
use super::*;
use crate::transport::Connection as _;

/// Only idle timeouts.
fn unchecked(max_connections: usize, sessions_per_connection: usize) -> PoolConfig {
    PoolConfig { health_checks: false, ..config(max_connections, sessions_per_connection) }
}

fn probes(stage: &Stage, id: usize) -> usize {
    stage.world.books(|truth| truth.connections[id].probes)
}

/// Checks each 30 s, and no idle timeout to mix in.
fn checked(max_connections: usize, sessions_per_connection: usize) -> PoolConfig {
    PoolConfig { idle_timeout: secs(3600), ..config(max_connections, sessions_per_connection) }
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_is_closed_after_idle_timeout_exactly() {
    let stage = Stage::new(unchecked(1, 1));
    let held = stage.take(&web1()).await;
    pass(secs(200)).await;
    assert_eq!(stage.there(), 1, "a connection in use is not idle");
    drop(held);
    let released = Instant::now();
    at(released + secs(60) - ms(1)).await;
    assert_eq!((stage.there(), stage.stats().total_connections), (1, 1));
    at(released + secs(60)).await;
    assert_eq!((stage.there(), stage.stats().total_connections), (0, 0));
    drop(stage.take(&web1()).await);
    assert_eq!(stage.logins(), 2);
}

#[tokio::test(start_paused = true)]
async fn each_use_starts_the_idle_timeout_anew() {
    let stage = Stage::new(unchecked(1, 1));
    for _ in 0..5 {
        drop(stage.take(&web1()).await);
        pass(secs(59)).await;
    }
    assert_eq!((stage.logins(), stage.there()), (1, 1));
    pass(secs(1)).await;
    assert_eq!(stage.there(), 0);
}

#[tokio::test(start_paused = true)]
async fn connections_that_the_load_does_not_need_any_more_grow_idle() {
    let stage = Stage::new(unchecked(3, 1));
    stage.is_whole(&web1()).await;
    // One caller now and then keeps one connection.
    for _ in 0..10 {
        drop(stage.take(&web1()).await);
        pass(secs(10)).await;
    }
    assert_eq!((stage.there(), stage.logins()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_probed_each_interval() {
    let stage = Stage::new(checked(2, 1));
    stage.is_whole(&web1()).await;
    let held = stage.take(&web1()).await;
    pass(secs(95)).await;
    let stats = stage.stats();
    assert_eq!((stats.health_checks_passed, stats.health_check_failures), (3, 0));
    assert_eq!(probes(&stage, held.id), 0, "the one in use is not probed");
    assert_eq!(stage.there(), 2);
}

/// A command on it could wait for ever.
#[tokio::test(start_paused = true)]
async fn a_connection_in_use_whose_process_is_deaf_is_closed() {
    let stage = Stage::new(checked(2, 1));
    stage.world.plan([Plan::default().deaf()]);
    let start = Instant::now();
    let held = stage.take(&web1()).await;
    at(start + LOGIN + secs(34)).await;
    assert_eq!(stage.stats().total_connections, 1);
    at(start + LOGIN + secs(35)).await;
    let stats = stage.stats();
    assert_eq!(
        (stats.total_connections, stats.health_checks_passed, stats.health_check_failures),
        (0, 0, 1)
    );
    at(start + LOGIN + secs(40)).await;
    assert!(!held.connection().is_alive(), "what ran on it has had 5 s to finish");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_probed_when_health_checks_are_off() {
    let stage = Stage::new(PoolConfig { health_checks: false, ..checked(1, 1) });
    stage.is_whole(&web1()).await;
    pass(secs(600)).await;
    assert_eq!((probes(&stage, 0), stage.there()), (0, 1));
}

#[rstest]
#[case::at_once(Probe::Fails(Duration::ZERO), Duration::ZERO)]
#[case::later(Probe::Fails(secs(2)), secs(2))]
#[case::an_answer_that_never_comes(Probe::Hangs, secs(5))]
#[tokio::test(start_paused = true)]
async fn a_connection_that_fails_its_check_is_removed_and_never_handed_out_again(
    #[case] probe: Probe,
    #[case] takes: Duration,
) {
    let stage = Stage::new(checked(1, 1));
    stage.world.plan([Plan::default().probe(probe).closing(secs(1))]);
    drop(stage.take(&web1()).await);
    let start = Instant::now();
    at(start + secs(30) + takes - ms(1)).await;
    assert_eq!(stage.stats().total_connections, 1);
    at(start + secs(30) + takes).await;
    let stats = stage.stats();
    assert_eq!(
        (stats.total_connections, stats.health_check_failures, stats.health_checks_passed),
        (0, 1, 0)
    );
    assert_eq!(
        stage.there(),
        1,
        "it takes a second to end, and the next has to wait for its place"
    );
    let held = stage.take(&web1()).await;
    assert_eq!((held.id, start.elapsed()), (1, secs(31) + takes + LOGIN));
}

#[tokio::test(start_paused = true)]
async fn a_connection_leased_while_it_is_checked_stays_with_its_caller_when_it_passes() {
    let stage = Stage::new(checked(1, 1));
    stage.world.plan([Plan::default().probe(Probe::Passes(secs(2)))]);
    drop(stage.take(&web1()).await);
    pass(secs(31)).await;
    let held = stage.take(&web1()).await;
    pass(secs(100)).await;
    assert_eq!((held.id, stage.stats().health_checks_passed), (0, 1));
    drop(held);
    stage.is_whole(&web1()).await;
    assert_eq!(stage.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_runs_on_a_connection_that_fails_its_check_may_finish_within_five_seconds() {
    let stage = Stage::new(checked(2, 2));
    stage.world.plan([Plan::default().probe(Probe::Hangs)]);
    let start = Instant::now();
    drop(stage.take(&web1()).await);
    at(start + secs(31)).await;
    let leased_meanwhile = stage.take(&web1()).await;
    at(start + LOGIN + secs(35)).await;
    let stats = stage.stats();
    assert_eq!((stats.health_check_failures, stats.total_connections), (1, 0));
    assert_ne!(stage.take(&web1()).await.id, leased_meanwhile.id, "nobody else gets it");
    at(start + LOGIN + secs(40) - ms(1)).await;
    assert!(leased_meanwhile.connection().is_alive());
    at(start + LOGIN + secs(40)).await;
    assert!(!leased_meanwhile.connection().is_alive());
    drop(leased_meanwhile);
    assert_eq!(stage.stats().open_sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_takes_longer_than_the_interval_is_not_started_twice() {
    let stage = Stage::new(PoolConfig { health_check_interval: secs(1), ..checked(1, 1) });
    stage.world.plan([Plan::default().probe(Probe::Passes(secs(4)))]);
    drop(stage.take(&web1()).await);
    // A probe of 4 s, a second of rest: the books complain about two at once.
    pass(secs(51)).await;
    assert_eq!(stage.stats().health_checks_passed, 10);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_ends_counts_as_a_failed_check() {
    let stage = Stage::new(checked(1, 1));
    let held = stage.take(&web1()).await;
    let connection = Arc::clone(held.connection());
    drop(held);
    connection.die();
    settled().await;
    let stats = stage.stats();
    assert_eq!((stats.total_connections, stats.health_check_failures), (0, 1));
    assert_eq!(stage.take(&web1()).await.id, 1);
}

#[rstest]
#[case::and_the_caller_waits(secs(30))]
#[case::and_the_caller_does_not(Duration::ZERO)]
#[tokio::test(start_paused = true)]
async fn a_connection_whose_end_nobody_has_noticed_yet_is_not_handed_out(
    #[case] acquire_timeout: Duration,
) {
    let stage = Stage::new(PoolConfig { acquire_timeout, ..checked(1, 1) });
    stage.world.plan([Plan::default().noticed_after(ms(20))]);
    let held = stage.take(&web1()).await;
    let connection = Arc::clone(held.connection());
    drop(held);
    connection.die();
    let start = Instant::now();
    // Nobody holds a session, so this is not "exhausted", however short the caller's patience.
    assert_eq!(stage.take(&web1()).await.id, 1);
    assert_eq!(start.elapsed(), ms(20) + LOGIN);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_under_its_leases_is_removed() {
    let stage = Stage::new(checked(1, 2));
    let (a, b) = (stage.take(&web1()).await, stage.take(&web1()).await);
    a.connection().die();
    settled().await;
    let stats = stage.stats();
    assert_eq!(
        (stats.total_connections, stats.open_sessions, stats.health_check_failures),
        (0, 0, 0)
    );
    let new = stage.take(&web1()).await;
    // Leases of the old connection change nothing in the new one's counts.
    drop((a, b));
    assert_eq!((stage.stats().open_sessions, new.id), (1, 1));
    drop(new);
    stage.is_whole(&web1()).await;
}

#[rstest]
#[case::that_passes(Probe::Passes(secs(1)), 0)]
#[case::that_fails(Probe::Fails(secs(1)), 1)]
#[tokio::test(start_paused = true)]
async fn a_suspect_is_checked_before_anybody_gets_it(#[case] probe: Probe, #[case] next: usize) {
    let stage = Stage::new(PoolConfig { health_checks: false, ..checked(2, 2) });
    stage.world.plan([Plan::default().probe(probe)]);
    let (a, b) = (stage.take(&web1()).await, stage.take(&web1()).await);
    a.suspect();
    drop(a);
    let start = Instant::now();
    let waits = stage.caller(&web1()).await;
    assert_eq!(
        (stage.stats().waiting, stage.stats().connecting),
        (1, 0),
        "a check takes but a moment"
    );
    at(start + secs(1) + LOGIN).await;
    assert_eq!(served(waits).await.id, next);
    assert_eq!(stage.stats().health_check_failures, next as u64);
    assert!(b.connection().is_alive(), "what runs may finish");
    drop(b);
}

/// What has no room promises nothing, suspect or not.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_check_of_a_suspect_that_is_full() {
    let stage = Stage::new(checked(2, 1));
    stage.world.plan([Plan::default().probe(Probe::Hangs)]);
    let held = stage.take(&web1()).await;
    held.suspect();
    let start = Instant::now();
    let other = stage.take(&web1()).await;
    assert_eq!((other.id, start.elapsed()), (1, LOGIN));

    let stage = Stage::new(PoolConfig { acquire_timeout: Duration::ZERO, ..checked(1, 1) });
    stage.world.plan([Plan::default().probe(Probe::Hangs)]);
    let held = stage.take(&web1()).await;
    held.suspect();
    let start = Instant::now();
    assert!(matches!(stage.try_take(&web1()).await, Err(Error::Exhausted { .. })));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connection_found_broken_is_never_handed_out_again() {
    let stage = Stage::new(checked(2, 2));
    let (a, b) = (stage.take(&web1()).await, stage.take(&web1()).await);
    let waits = stage.caller(&web1()).await;
    a.broken();
    assert_eq!((stage.stats().total_connections, stage.stats().open_sessions), (0, 0));
    a.broken();
    pass(LOGIN).await;
    let c = served(waits).await;
    assert_eq!(c.id, 1);
    assert!(b.connection().is_alive(), "what else runs on it may finish");
    pass(secs(5)).await;
    assert!(!b.connection().is_alive());
    // The slot has another connection by now, perhaps; the old leases cannot break that.
    a.broken();
    b.broken();
    drop((a, b));
    assert!(c.connection().is_alive());
    drop(c);
    stage.is_whole(&web1()).await;
}
