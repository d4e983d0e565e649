//! Several identities of one key: `max_connections` holds for all of them together, and none is
//! starved.

mod fairness;
mod forgetting;
mod retiring;

use rstest::rstest;

use super::plan::Plan;
use super::*;
use crate::error::ConnectErrorKind as Kind;

/// Hosts that have the key `web1:22` in common, and no connections.
fn identity(number: usize) -> Host {
    web1().user(format!("user{number}")).expect("a valid user")
}

/// One session for each connection, and nothing in standby.
fn stage(max_connections: usize) -> Stage {
    Stage::new(PoolConfig { standby_sessions: 0, ..config(max_connections, 1) })
}

fn totals(stage: &Stage) -> (usize, usize, usize) {
    let stats = stage.stats();
    assert_eq!(stats.active_connections + stats.idle_connections, stats.total_connections);
    (stats.active_connections, stats.idle_connections, stats.waiting)
}

#[tokio::test(start_paused = true)]
async fn the_connection_that_has_been_idle_for_longest_makes_room_for_another_identity() {
    let stage = stage(3);
    let [first, second, third] = [
        stage.take(&identity(0)).await,
        stage.take(&identity(1)).await,
        stage.take(&identity(2)).await,
    ];
    let connections = [&first, &second, &third].map(|held| Arc::clone(held.connection()));
    for held in [second, first, third] {
        drop(held);
        pass(ms(10)).await;
    }
    let start = Instant::now();
    let fourth = stage.take(&identity(3)).await;
    assert_eq!(start.elapsed(), LOGIN);
    use crate::transport::Connection as _;
    assert_eq!(connections.map(|connection| connection.is_alive()), [true, false, true]);
    assert_eq!((totals(&stage), stage.there()), ((1, 2, 0), 3));
    drop(fourth);
}

#[tokio::test(start_paused = true)]
async fn no_connection_is_closed_for_who_has_one_that_is_free() {
    let stage = stage(2);
    drop((stage.take(&identity(0)).await, stage.take(&identity(1)).await));
    for turn in 0..20 {
        drop(stage.take(&identity(turn % 2)).await);
        pass(ms(100)).await;
    }
    assert_eq!(
        (stage.logins(), stage.there()),
        (2, 2),
        "without anybody who waits nothing is closed"
    );
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn the_limit_of_a_key_is_told_to_every_identity(#[values(1, 2, 5)] max: usize) {
    let stage = Stage::new(PoolConfig { acquire_timeout: ms(300), ..config(max, 1) });
    let mut held = Vec::new();
    for number in 0..max {
        held.push(stage.take(&identity(number)).await);
    }
    let start = Instant::now();
    let error = stage.try_take(&identity(max)).await.err().expect("all are taken");
    assert_eq!(error.to_string(), format!("Connection pool exhausted for web1:22 (max: {max})"));
    assert_eq!((start.elapsed(), stage.there(), stage.logins()), (ms(300), max, max));
    assert_eq!(totals(&stage), (max, 0, 0));
    let other = stage.take(&Host::new("web2").unwrap()).await;
    drop((held, other));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_wait_has_no_connection_closed_that_is_in_use() {
    let stage = Stage::new(PoolConfig { acquire_timeout: Duration::ZERO, ..config(1, 2) });
    let held = stage.take(&identity(0)).await;
    for _ in 0..3 {
        let refused = stage.try_take(&identity(1)).await;
        assert!(matches!(refused, Err(Error::Exhausted { .. })));
        // The one that was to make room need not any more.
        drop(stage.take(&identity(0)).await);
    }
    drop(held);
    settled().await;
    assert_eq!((stage.there(), stage.logins()), (1, 1));
    // One that is idle is closed even for a caller that does not wait for others.
    drop(stage.take(&identity(1)).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_yields_gives_no_new_lease_and_what_runs_on_it_is_not_disturbed() {
    let stage = Stage::new(PoolConfig { standby_sessions: 0, ..config(1, 4) });
    let held = [stage.take(&identity(0)).await, stage.take(&identity(0)).await];
    let connection = Arc::clone(held[0].connection());
    let other = stage.caller(&identity(1)).await;
    let late = stage.caller(&identity(0)).await;
    assert!(!late.is_finished(), "there is a session, but somebody has come before");
    assert_eq!(totals(&stage), (1, 0, 2));
    pass(secs(5)).await;
    use crate::transport::Connection as _;
    assert!(connection.is_alive());
    let [first, second] = held;
    drop(first);
    pass(secs(1)).await;
    assert!(connection.is_alive(), "one still runs");
    drop(second);
    settled().await;
    assert!(!connection.is_alive());
    pass(LOGIN).await;
    drop(served(other).await);
    pass(LOGIN).await;
    drop(served(late).await);
    assert_eq!(stage.logins(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_came_before_is_served_on_a_connection_that_yields() {
    let stage = stage(1);
    let held = stage.take(&identity(0)).await;
    let early = stage.caller(&identity(0)).await;
    let other = stage.caller(&identity(1)).await;
    let late = stage.caller(&identity(0)).await;
    drop(held);
    settled().await;
    let early = served(early).await;
    assert_eq!(stage.logins(), 1);
    drop(early);
    pass(LOGIN).await;
    let other = served(other).await;
    assert!(!late.is_finished());
    drop(other);
    pass(LOGIN).await;
    drop(served(late).await);
}

#[tokio::test(start_paused = true)]
async fn the_one_with_the_fewest_leases_yields() {
    let stage = Stage::new(PoolConfig { standby_sessions: 0, ..config(2, 2) });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(stage.take(&identity(0)).await);
    }
    let (full, single) = (held[0].id, held[2].id);
    let other = stage.caller(&identity(1)).await;
    drop(held.remove(0));
    settled().await;
    let again = stage.take(&identity(0)).await;
    assert_eq!(again.id, full, "the other one goes on as before");
    drop(held.pop());
    pass(LOGIN).await;
    assert_ne!(served(other).await.id, single);
    drop((again, held));
}

#[tokio::test(start_paused = true)]
async fn nobody_yields_any_more_when_the_caller_for_whom_it_did_is_gone() {
    let stage = Stage::new(PoolConfig { standby_sessions: 0, ..config(1, 2) });
    let held = stage.take(&identity(0)).await;
    let other = stage.caller(&identity(1)).await;
    let waits = stage.caller(&identity(0)).await;
    assert!(!waits.is_finished());
    other.abort();
    settled().await;
    drop(served(waits).await);
    drop(held);
    settled().await;
    assert_eq!((totals(&stage), stage.there(), stage.logins()), ((0, 1, 0), 1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_fails_gives_its_place_to_the_next_identity() {
    let stage = stage(1);
    stage.world.plan([Plan::default(), Plan::fails(Kind::Refused)]);
    let held = stage.take(&identity(0)).await;
    let (second, third) = (stage.caller(&identity(1)).await, stage.caller(&identity(2)).await);
    drop(held);
    pass(LOGIN).await;
    assert_eq!(kind_of(answer(second).await), Kind::Refused);
    pass(LOGIN).await;
    drop(served(third).await);
    assert_eq!((stage.logins(), stage.there()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_broken_identity_keeps_nobody_from_connecting() {
    let stage = stage(1);
    stage.world.plan([Plan::fails(Kind::Authentication)]);
    assert_eq!(kind_of(stage.try_take(&identity(0)).await), Kind::Authentication);
    let held = stage.take(&identity(1)).await;
    // Who may not try has no claim to a place.
    assert_eq!(kind_of(stage.try_take(&identity(0)).await), Kind::Authentication);
    drop(stage.caller(&identity(1)).await);
    drop(held);
    settled().await;
    assert_eq!((totals(&stage), stage.logins()), ((0, 1, 0), 2));
}

#[rstest]
#[case::the_host(true)]
#[case::the_pool(false)]
#[tokio::test(start_paused = true)]
async fn what_yields_can_be_closed(#[case] host: bool) {
    let stage = Stage::new(config(1, 4));
    stage.world.plan([Plan::default().closing(ms(10))]);
    let held = stage.take(&identity(0)).await;
    let (other, late) = (stage.caller(&identity(1)).await, stage.caller(&identity(0)).await);
    let start = Instant::now();
    let ends = tokio::spawn(async move {
        sleep(secs(1)).await;
        drop(held);
    });
    match host {
        true => stage.close_host(&web1(), secs(5)).await,
        false => stage.close(secs(5)).await,
    }
    assert_eq!((start.elapsed(), stage.there()), (secs(1) + ms(10), 0));
    assert!(is_closed(answer(other).await) && is_closed(answer(late).await));
    ends.await.unwrap();
    if host {
        drop(stage.take(&identity(1)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn closing_a_host_does_not_wait_for_what_is_closed_later() {
    let stage = stage(1);
    stage.world.plan_with(|| Plan::default().closing(ms(50)));
    drop(stage.take(&identity(0)).await);
    let (pool, world) = (Arc::clone(&stage.pool), Arc::clone(&stage.world));
    let closing = tokio::spawn(async move { close_host(&pool, &world, &web1(), secs(5)).await });
    settled().await;
    // From now on some connection is being closed most of the time.
    let start = Instant::now();
    for turn in 0..10 {
        drop(stage.take(&identity(turn % 2)).await);
    }
    assert!(start.elapsed() > secs(1) && closing.is_finished());
}
