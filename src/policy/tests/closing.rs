//! The end of one host's connections, of all, and of the pool; and which hosts have connections in
//! common at all.

use rstest::rstest;

use super::plan::Plan;
use super::world::Truth;
use super::*;
use crate::transport::Connection as _;

/// What each login connected to.
fn addresses(stage: &Stage) -> Vec<Option<String>> {
    stage.world.books(|truth| truth.logins().map(|(_, address)| address.clone()).collect())
}

fn web1_at(address: &str) -> Host {
    web1().address(address).unwrap()
}

#[rstest]
#[case::a_command_that_finishes(Some(secs(2)), secs(2))]
#[case::a_command_that_does_not(None, secs(5))]
#[tokio::test(start_paused = true)]
async fn what_runs_when_a_host_is_closed_has_patience_to_finish(
    #[case] finishes_after: Option<Duration>,
    #[case] takes: Duration,
) {
    let stage = Stage::new(config(2, 1));
    stage.world.plan([Plan::default().closing(ms(10))]);
    let held = stage.take(&web1()).await;
    let connection = Arc::clone(held.connection());
    let start = Instant::now();
    let command = tokio::spawn(async move {
        sleep(finishes_after.unwrap_or(secs(100))).await;
        drop(held);
    });
    stage.close_host(&web1(), secs(5)).await;
    assert_eq!((start.elapsed(), stage.there()), (takes + ms(10), 0));
    assert!(!connection.is_alive());
    command.await.unwrap();
    drop(stage.take(&web1()).await);
    assert_eq!(stage.logins(), 2, "a host that was closed can be used again");
}

#[tokio::test(start_paused = true)]
async fn closing_a_host_turns_its_queue_away_and_gives_up_its_login() {
    let stage = Stage::new(config(2, 1));
    let held = stage.take(&web1()).await;
    let waits = [stage.caller(&web1()).await, stage.caller(&web1()).await];
    assert_eq!(stage.stats().connecting, 1);
    let start = Instant::now();
    stage.close_host(&web1(), Duration::ZERO).await;
    for caller in waits {
        assert!(is_closed(answer(caller).await));
    }
    assert_eq!((start.elapsed(), stage.there()), (Duration::ZERO, 0));
    assert_eq!(stage.world.books(|truth| truth.logins_under_way()), 0);
    assert_eq!(stage.stats().failed_connects, 0, "nobody is to hear of a login that was given up");
    drop(held);
    stage.is_whole(&web1()).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_host_that_was_closed_is_closed_for_all_its_users() {
    let stage = Stage::new(config(2, 1));
    let other = Host::new("web2").unwrap();
    let root = web1().user("root").unwrap();
    let held = [stage.take(&web1()).await, stage.take(&root).await, stage.take(&other).await];
    stage.close_host(&web1(), Duration::ZERO).await;
    assert_eq!(held.each_ref().map(|held| held.connection().is_alive()), [false, false, true]);
    assert_eq!(stage.stats().total_connections, 1);
}

#[tokio::test(start_paused = true)]
async fn closing_a_host_ends_though_new_callers_keep_it_busy() {
    let stage = Stage::new(config(2, 1));
    stage.world.plan([Plan::default().closing(secs(1))]);
    drop(stage.take(&web1()).await);
    let (pool, world) = (Arc::clone(&stage.pool), Arc::clone(&stage.world));
    let start = Instant::now();
    let closing = tokio::spawn(async move { close_host(&pool, &world, &web1(), secs(5)).await });
    settled().await;
    let held = stage.take(&web1()).await;
    assert_eq!(held.id, 1);
    at(start + secs(1)).await;
    assert!(closing.is_finished(), "the connection that was closed is gone");
    assert!(held.connection().is_alive());
}

#[tokio::test(start_paused = true)]
async fn the_first_address_counts_until_its_connections_are_closed() {
    let stage = Stage::new(config(2, 1));
    let held = stage.take(&web1_at("10.0.0.1")).await;
    let other = stage.take(&web1_at("10.0.0.2")).await;
    assert_eq!(addresses(&stage), [Some("10.0.0.1".to_owned()), Some("10.0.0.1".to_owned())]);
    drop((held, other));
    stage.close_host(&web1(), secs(5)).await;
    drop(stage.take(&web1_at("10.0.0.3")).await);
    assert_eq!(addresses(&stage).last().unwrap().as_deref(), Some("10.0.0.3"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_comes_while_its_host_is_closing_is_connected_to_its_own_address() {
    let stage = Stage::new(config(1, 1));
    stage.world.plan([Plan::default().closing(secs(1))]);
    let held = stage.take(&web1_at("10.0.0.1")).await;
    let (pool, world) = (Arc::clone(&stage.pool), Arc::clone(&stage.world));
    let closing =
        tokio::spawn(async move { close_host(&pool, &world, &web1(), Duration::ZERO).await });
    settled().await;
    drop(stage.take(&web1_at("10.0.0.2")).await);
    assert_eq!(addresses(&stage), [Some("10.0.0.1".to_owned()), Some("10.0.0.2".to_owned())]);
    closing.await.unwrap();
    drop(held);
}

#[rstest]
#[case::the_same(web1(), true)]
#[case::another_address(web1_at("10.0.0.9"), true)]
#[case::another_user(web1().user("root").unwrap(), false)]
#[case::a_port_in_words(web1().port(22).unwrap(), false)]
#[case::another_key(web1().identity_file("/keys/other").unwrap(), false)]
#[case::another_config(web1().config_file("/etc/other").unwrap(), false)]
#[case::another_option(web1().option("ProxyJump", "bastion").unwrap(), false)]
#[tokio::test(start_paused = true)]
async fn connections_are_shared_only_by_hosts_that_run_commands_as_the_same_account(
    #[case] other: Host,
    #[case] shared: bool,
) {
    let stage = Stage::new(config(5, 8));
    let (a, b) = (stage.take(&web1()).await, stage.take(&other).await);
    assert_eq!(a.id == b.id, shared);
    // They are one line in the statistics all the same: the key does not show what sets them apart.
    let by_host = stage.pool.stats_by_host();
    assert_eq!(by_host.keys().map(ToString::to_string).collect::<Vec<_>>(), ["web1:22"]);
    let stats = by_host[&web1().key()];
    assert_eq!((stats.open_sessions, stats.total_connections), (2, if shared { 1 } else { 2 }));
}

#[tokio::test(start_paused = true)]
async fn statistics_of_the_pool_are_the_sum_over_its_hosts() {
    let stage = Stage::new(config(2, 1));
    let hosts = ["web1", "web2", "web3:2222"].map(|text| text.parse::<Host>().unwrap());
    let mut held = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        for _ in 0..index {
            held.push(stage.take(host).await);
        }
        drop(stage.try_take(host).await);
    }
    held.pop().unwrap().refused();
    let by_host = stage.pool.stats_by_host();
    assert_eq!(by_host.len(), 3);
    assert_eq!(by_host.values().copied().sum::<Stats>(), stage.stats());
    let stats = stage.stats();
    assert_eq!(
        (stats.total_connections, stats.active_connections, stats.idle_connections),
        (5, 2, 3)
    );
    assert_eq!((stats.connects, stats.pool_misses, stats.refused_sessions), (5, 5, 1));
}

#[rstest]
#[case::a_command_that_finishes(Some(secs(2)), secs(2))]
#[case::a_command_that_does_not(None, secs(5))]
#[case::no_command(Some(Duration::ZERO), Duration::ZERO)]
#[tokio::test(start_paused = true)]
async fn after_close_nothing_of_the_pool_is_left(
    #[case] finishes_after: Option<Duration>,
    #[case] takes: Duration,
) {
    let stage = Stage::new(PoolConfig { acquire_timeout: secs(60), ..config(2, 1) });
    let other = Host::new("web2").unwrap();
    let held = [stage.take(&web1()).await, stage.take(&web1()).await];
    drop(stage.take(&other).await);
    let waits = stage.caller(&web1()).await;
    let starting = stage.caller(&"web3".parse().unwrap()).await;
    let start = Instant::now();
    let command = tokio::spawn(async move {
        sleep(finishes_after.unwrap_or(secs(100))).await;
        drop(held);
    });
    stage.close(secs(5)).await;
    assert_eq!(start.elapsed(), takes);
    assert!(is_closed(answer(waits).await) && is_closed(answer(starting).await));
    let left = |truth: &mut Truth| (truth.there(), truth.logins_under_way(), truth.shutdowns);
    assert_eq!(stage.world.books(left), (0, 0, 1));
    let logins = stage.logins();
    assert!(is_closed(stage.try_take(&web1()).await));
    assert!(is_closed(stage.try_take(&"web4".parse().unwrap()).await));
    assert_eq!((start.elapsed(), stage.logins()), (takes, logins));
    command.await.unwrap();
    assert_eq!(stage.stats().open_sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn closing_goes_on_when_nobody_waits_for_it() {
    let stage = Stage::new(config(2, 1));
    stage.world.plan([Plan::default().closing(ms(10))]);
    drop(stage.take(&web1()).await);
    {
        let mut closing = Box::pin(stage.close(secs(5)));
        assert!(poll_once(closing.as_mut()).await.is_pending());
    }
    pass(ms(10)).await;
    assert_eq!(stage.there(), 0);
    assert!(is_closed(stage.try_take(&web1()).await));
    assert_eq!(stage.world.books(|truth| truth.shutdowns), 1);
    // And whoever asks again has it done.
    stage.close(secs(5)).await;
}

#[rstest]
#[case::of_the_pool(true)]
#[case::of_the_host(false)]
#[tokio::test(start_paused = true)]
async fn a_close_that_is_in_more_of_a_hurry_is_heard(#[case] all: bool) {
    let stage = Stage::new(config(2, 1));
    let held = stage.take(&web1()).await;
    let start = Instant::now();
    let (pool, world) = (Arc::clone(&stage.pool), Arc::clone(&stage.world));
    let patient = tokio::spawn(async move { close_host(&pool, &world, &web1(), secs(5)).await });
    pass(secs(1)).await;
    match all {
        true => stage.close(secs(1)).await,
        false => stage.close_host(&web1(), secs(1)).await,
    }
    assert_eq!((start.elapsed(), stage.there()), (secs(2), 0));
    patient.await.expect("it ends as well");
    assert_eq!(start.elapsed(), secs(2));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn patience_without_end_is_as_good_as_a_year() {
    let stage = Stage::new(config(2, 1));
    let held = stage.take(&web1()).await;
    let command = tokio::spawn(async move {
        sleep(secs(1000)).await;
        drop(held);
    });
    let start = Instant::now();
    stage.close(Duration::MAX).await;
    assert_eq!(start.elapsed(), secs(1000));
    command.await.expect("it was not cut off");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_takes_for_ever_is_not_waited_for() {
    let stage = Stage::new(config(1, 1));
    stage.world.plan([Plan::default().closing(secs(3600))]);
    drop(stage.take(&web1()).await);
    let start = Instant::now();
    // There is nothing to be patient with.
    stage.close(secs(2)).await;
    assert_eq!(start.elapsed(), secs(5));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_pool_ends_everything() {
    let stage = Stage::new(config(2, 1));
    let (a, b) = (stage.take(&web1()).await, stage.take(&web1()).await);
    drop(b);
    let world = Arc::clone(&stage.world);
    world.condemn(|_| true);
    drop(stage);
    settled().await;
    assert!(!a.connection().is_alive(), "nobody is left who could ask for its command");
    assert_eq!(world.books(|truth| truth.there()), 0);
    drop(a);
    settled().await;
    assert!(world.books(|truth| truth.transport_gone), "no task has kept anything");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_pool_gives_up_its_logins() {
    let stage = Stage::new(config(2, 1));
    let caller = stage.caller(&web1()).await;
    let world = Arc::clone(&stage.world);
    assert_eq!(world.books(|truth| truth.logins_under_way()), 1);
    caller.abort();
    drop(stage);
    settled().await;
    assert_eq!(world.books(|truth| (truth.logins_under_way(), truth.transport_gone)), (0, true));
}

#[tokio::test(start_paused = true)]
async fn an_alarm_that_was_set_for_a_caller_does_not_keep_a_dropped_pool_alive() {
    let stage = Stage::new(config(2, 1));
    let plans =
        std::iter::once(Plan::default()).chain(vec![Plan::fails(ConnectErrorKind::Refused); 20]);
    stage.world.plan(plans);
    let held = stage.take(&web1()).await;
    let waits = stage.caller(&web1()).await;
    pass(secs(5)).await;
    waits.abort();
    let world = Arc::clone(&stage.world);
    world.condemn(|_| true);
    drop((held, stage));
    settled().await;
    assert!(
        world.books(|truth| truth.transport_gone),
        "the next attempt would have come seconds later"
    );
}
