//! Sessions opened ahead of need: who gets them, when they are made and when they go.

use super::plan::{Plan, Standby};
use super::*;
use crate::host::{Login, Variables};

fn stage(standby_sessions: usize) -> Stage {
    Stage::new(PoolConfig { standby_sessions, ..config(5, 8) })
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_given_back_makes_room_for_standbys_which_the_next_callers_find() {
    let stage = stage(2);
    let first = stage.take(&web1()).await;
    assert!(!first.had_standby);
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 0, "nobody's first command is disturbed");
    drop(first);
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 2);
    let [second, third, fourth] =
        [stage.take(&web1()).await, stage.take(&web1()).await, stage.take(&web1()).await];
    assert!(second.had_standby && third.had_standby && !fourth.had_standby);
    let stats = stage.stats();
    assert_eq!((stats.standby_sessions, stats.standby_hits, stats.open_sessions), (0, 2, 3));
    drop(third);
    settled().await;
    assert_eq!(
        stage.stats().standby_sessions,
        2,
        "as soon as one is given back, though others are in use"
    );
}

#[tokio::test(start_paused = true)]
async fn none_is_opened_where_none_is_wanted_or_possible() {
    for (standby_sessions, standby) in
        [(0, Standby::Works), (2, Standby::Fails), (2, Standby::IsPlain)]
    {
        let stage = stage(standby_sessions);
        stage.world.plan([Plan::default().standby(standby)]);
        drop(stage.take(&web1()).await);
        settled().await;
        assert!(!stage.take(&web1()).await.had_standby);
        let stats = stage.stats();
        assert_eq!((stats.standby_sessions, stats.standby_hits), (0, 0));
        assert_eq!(stats.plain_connections, usize::from(standby == Standby::IsPlain));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_one_costs_nothing() {
    let stage = stage(2);
    stage.world.plan([Plan::default().standby(Standby::IsStale)]);
    drop(stage.take(&web1()).await);
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 2, "nobody has looked at them");
    let held = stage.take(&web1()).await;
    assert!(!held.had_standby);
    assert_eq!(
        (stage.stats().standby_sessions, stage.stats().standby_hits),
        (0, 0),
        "both were thrown away"
    );
}

#[tokio::test(start_paused = true)]
async fn they_do_not_keep_a_connection_alive_and_go_with_it() {
    let stage = stage(2);
    drop(stage.take(&web1()).await);
    let used = Instant::now();
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 2);
    at(used + stage.pool.config().idle_timeout).await;
    assert_eq!((stage.there(), stage.stats().standby_sessions), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn they_go_when_their_connection_is_closed_or_lost() {
    for close in [true, false] {
        let stage = stage(2);
        let held = stage.take(&web1()).await;
        let connection = Arc::clone(held.connection());
        drop(held);
        settled().await;
        assert_eq!(stage.stats().standby_sessions, 2);
        if close {
            stage.close(Duration::ZERO).await;
        } else {
            connection.die();
            settled().await;
        }
        assert_eq!((stage.there(), stage.stats().standby_sessions), (0, 0));
        drop(connection);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_has_no_standbys_beside_callers() {
    let stage = stage(2);
    let first = stage.take(&web1()).await;
    stage.take(&web1()).await.refused();
    drop(first);
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 1, "as many as the server has shown to allow");
    let held = stage.take(&web1()).await;
    assert!(held.had_standby);
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 0);
}

#[tokio::test(start_paused = true)]
async fn callers_that_wait_come_first() {
    let stage = Stage::new(PoolConfig { standby_sessions: 2, ..config(1, 2) });
    let (first, second) = (stage.take(&web1()).await, stage.take(&web1()).await);
    let third = stage.caller(&web1()).await;
    drop(first);
    settled().await;
    let third = served(third).await;
    assert_eq!(stage.stats().standby_sessions, 0);
    drop((second, third));
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_goes_where_a_standby_is() {
    let stage = Stage::new(PoolConfig { standby_sessions: 1, ..config(2, 2) });
    let (first, second, third) =
        (stage.take(&web1()).await, stage.take(&web1()).await, stage.take(&web1()).await);
    let (busy, other) = (first.id, third.id);
    assert!(busy == second.id && busy != other);
    drop(third);
    settled().await;
    // Used last, but for the standby on the other one.
    drop(first);
    settled().await;
    let held = stage.take(&web1()).await;
    assert!(held.had_standby && held.id == other);
}

#[tokio::test(start_paused = true)]
async fn a_process_has_only_so_many_over_all_hosts() {
    let world = World::new(&config(1, 8));
    let capacity = Capacity { standbys: 3, ..CAPACITY };
    let pool = Arc::new(Core::new(
        Fake { world: Arc::clone(&world) },
        config(1, 8),
        capacity,
        Arc::default(),
    ));
    let hosts = [web1(), Host::new("web2").unwrap()];
    for host in &hosts {
        drop(take(&pool, &world, host).await);
        settled().await;
    }
    assert_eq!(pool.stats().standby_sessions, 3);
    let held = take(&pool, &world, &hosts[0]).await.unwrap();
    assert!(held.had_standby);
    drop(take(&pool, &world, &hosts[1]).await);
    settled().await;
    assert_eq!(pool.stats().standby_sessions, 3, "a place that was left is taken by others");
    drop(held);
    world.condemn(|_| true);
    pool.close(Duration::ZERO).await;
    world.verify();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_kept_finds_standbys_again_and_again() {
    let stage = stage(2);
    drop(stage.take(&web1()).await);
    settled().await;
    let held = stage.take(&web1()).await;
    for _ in 0..5 {
        settled().await;
        // Another command of the same lease.
        assert!(held.lease().standby(&Login::default(), |_| true).is_some(), "{:?}", stage.stats());
        held.lease().used();
    }
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 2);
}

#[test]
fn one_that_another_runtime_watches_is_thrown_away() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let stage = stage(2);
    // It lives on, and nobody drives it.
    let first = runtime();
    first.block_on(async {
        drop(stage.take(&web1()).await);
        settled().await;
    });
    assert_eq!(stage.stats().standby_sessions, 2);
    runtime().block_on(async {
        assert!(!stage.take(&web1()).await.had_standby);
        assert_eq!(stage.stats().standby_hits, 0);
        settled().await;
        assert!(stage.take(&web1()).await.had_standby, "here there are others now");
        stage.world.condemn(|_| true);
    });
}

/// The same host, for a caller whose sessions send this.
fn sends(value: &str) -> Host {
    let variables = [("LANG".into(), value.into())].into_iter().collect();
    web1().with_login(Login { variables: Arc::new(Variables(variables)), ..Login::default() })
}

#[tokio::test(start_paused = true)]
async fn a_caller_takes_only_a_session_that_sends_what_it_wants_to_send() {
    let stage = stage(2);
    drop(stage.take(&sends("C")).await);
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 2);
    // What another one has opened is passed over, and not thrown away.
    let other = stage.take(&sends("de_DE")).await;
    assert!(!other.had_standby && stage.stats().standby_sessions == 2);
    let plain = stage.take(&web1()).await;
    assert!(!plain.had_standby && stage.stats().standby_hits == 0);
    let same = stage.take(&sends("C")).await;
    assert!(same.had_standby);
    assert_eq!((other.id, plain.id, stage.logins()), (same.id, same.id, 1));
    assert_eq!((stage.stats().standby_sessions, stage.stats().standby_hits), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn new_ones_send_what_the_last_caller_sent_and_the_others_make_room() {
    let stage = stage(2);
    drop(stage.take(&sends("C")).await);
    settled().await;
    drop(stage.take(&sends("de_DE")).await);
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 2);
    let mut held = Vec::new();
    for had_standby in [true, true, false] {
        held.push(stage.take(&sends("de_DE")).await);
        assert_eq!(held.last().unwrap().had_standby, had_standby);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_kept_finds_those_that_send_what_it_sends() {
    let stage = stage(1);
    let held = stage.take(&sends("C")).await;
    drop(stage.take(&sends("C")).await);
    settled().await;
    assert!(held.lease().standby(&Login::default(), |_| true).is_none());
    assert!(held.lease().standby(sends("C").login(), |_| true).is_some());
    held.lease().used();
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_goes_where_a_standby_is_of_use() {
    let stage = Stage::new(PoolConfig { standby_sessions: 1, ..config(2, 2) });
    let (first, second, third) = (
        stage.take(&sends("C")).await,
        stage.take(&sends("C")).await,
        stage.take(&sends("C")).await,
    );
    let (busy, other) = (first.id, third.id);
    drop(third);
    settled().await;
    pass(ms(1)).await;
    drop(first);
    settled().await;
    assert_eq!(stage.take(&web1()).await.id, busy, "used last");
    let held = stage.take(&sends("C")).await;
    // The one before has made way for one that sends what its caller sent.
    assert!(!held.had_standby || held.id == other);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_than_the_setting_allows_whatever_they_send() {
    let stage = Stage::new(PoolConfig { standby_sessions: 3, ..config(2, 4) });
    for turn in 0..50 {
        let held = [
            stage.take(&sends(["C", "de_DE", "fr_FR"][turn % 3])).await,
            stage.take(&web1()).await,
        ];
        settled().await;
        drop(held);
        assert!(stage.stats().standby_sessions <= 3, "{:?}", stage.stats());
        settled().await;
        assert!(stage.stats().standby_sessions <= 3, "{:?}", stage.stats());
    }
}

#[tokio::test(start_paused = true)]
async fn those_that_do_not_suit_make_room_where_there_would_be_too_many() {
    let stage = Stage::new(PoolConfig { standby_sessions: 1, ..config(1, 2) });
    drop(stage.take(&web1()).await);
    settled().await;
    let first = stage.take(&web1()).await;
    first.lease().used();
    settled().await;
    assert_eq!(stage.stats().standby_sessions, 1);
    let login = Login::default();
    assert!(first.lease().standby(&login, |_| false).is_none());
    assert_eq!(stage.stats().standby_sessions, 1, "there is room for a session of its own");
    // Another caller, whose command the one in standby does not suit.
    let second = stage.take_alone(&web1()).await;
    assert!(second.lease().standby(&login, |_| false).is_none());
    assert_eq!(stage.stats().standby_sessions, 0);
}

/// A connection has to answer before it gets a command when nothing was heard of it for as long as
/// the setting says.
#[tokio::test(start_paused = true)]
async fn who_was_silent_for_long_is_asked_over_a_session_that_waits() {
    let max_silence = ms(700);
    let stage = Stage::new(PoolConfig {
        standby_sessions: 1,
        max_silence,
        session_reuse: SessionReuse::Exact,
        health_checks: false,
        ..config(1, 2)
    });
    stage.world.plan([Plan::default().deaf()]);
    drop(stage.take(&web1()).await);
    for (silent, answer) in
        [(ms(0), None), (max_silence - ms(1), None), (max_silence, Some(false)), (ms(1), None)]
    {
        pass(silent).await;
        let held = stage.take_alone(&web1()).await;
        assert_eq!(held.lease().is_heard().await, answer, "{silent:?}");
        assert_eq!(stage.stats().standby_sessions, 1, "it was given back");
    }
    // Where no session waits, nobody can be asked.
    pass(max_silence).await;
    let held = stage.take(&web1()).await;
    assert!(held.had_standby);
    assert_eq!(held.lease().is_heard().await, None);
}
