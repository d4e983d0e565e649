//! Who gets which connection, and when.

use rstest::rstest;

use super::plan::{Login, Plan};
use super::world::Truth;
use super::*;

#[tokio::test(start_paused = true)]
async fn callers_after_one_another_share_one_login() {
    let stage = Stage::new(config(5, 8));
    for _ in 0..4 {
        drop(stage.take(&web1()).await);
    }
    let stats = stage.stats();
    assert_eq!((stage.logins(), stats.connects, stats.total_connections), (1, 1, 1));
    assert_eq!((stats.pool_misses, stats.pool_hits), (1, 3));
}

#[rstest]
#[case::one_caller(1, 5, 8, 1)]
#[case::as_many_as_one_connection_serves(8, 5, 8, 1)]
#[case::one_more(9, 5, 8, 2)]
#[case::as_many_as_all_serve(40, 5, 8, 5)]
#[case::more_than_all_serve(100, 5, 8, 5)]
#[case::exclusive_connections(3, 5, 1, 3)]
#[case::more_than_exclusive_connections(10, 2, 1, 2)]
#[tokio::test(start_paused = true)]
async fn callers_at_once_cause_as_few_logins_as_serve_them_and_one_before_all_others(
    #[case] callers: usize,
    #[case] max: usize,
    #[case] sessions: usize,
    #[case] logins: usize,
) {
    let start = Instant::now();
    let stage = Arc::new(Stage::new(config(max, sessions)));
    let all: Vec<_> = (0..callers)
        .map(|_| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move {
                let held = stage.take(&web1()).await;
                sleep(secs(1)).await;
                drop(held);
            })
        })
        .collect();
    pass(LOGIN - ms(1)).await;
    assert_eq!(stage.logins(), 1, "the first login decides about the others");
    for caller in all {
        caller.await.unwrap();
    }
    let mut expected = vec![start + LOGIN; logins];
    expected[0] = start;
    let started = |truth: &mut Truth| truth.logins().map(|(at, _)| *at).collect::<Vec<_>>();
    assert_eq!(stage.world.books(started), expected);
    assert_eq!(stage.stats().connects, logins as u64);
}

#[tokio::test(start_paused = true)]
async fn a_hit_is_served_at_once_and_a_miss_by_a_new_connection() {
    let stage = Stage::new(config(2, 2));
    let counted = || (stage.stats().pool_hits, stage.stats().pool_misses);
    let a = stage.take(&web1()).await;
    assert_eq!(counted(), (0, 1));
    let b = stage.take(&web1()).await;
    assert_eq!(counted(), (1, 1));
    let c = stage.take(&web1()).await;
    assert_eq!(counted(), (1, 2));
    let d = stage.take(&web1()).await;
    assert_eq!(counted(), (2, 2));
    let waits = stage.caller(&web1()).await;
    assert_eq!(counted(), (2, 2), "a caller that queues for what is there is neither");
    drop(a);
    settled().await;
    drop((served(waits).await, b, c, d));
    assert_eq!(counted(), (2, 2));
}

#[rstest]
#[case("web1", "web1:22")]
#[case("web1:2222", "web1:2222")]
#[case("deploy@web1", "web1:22")]
#[case("[::1]:2222", "[::1]:2222")]
#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_wait_hears_that_the_pool_is_exhausted(
    #[case] host: Host,
    #[case] key: &str,
) {
    let stage = Stage::new(PoolConfig { acquire_timeout: Duration::ZERO, ..config(2, 1) });
    let (a, b) = (stage.take(&host).await, stage.take(&host).await);
    let start = Instant::now();
    let error = stage.try_take(&host).await.err().expect("all are taken");
    assert_eq!(error.to_string(), format!("Connection pool exhausted for {key} (max: 2)"));
    assert_eq!((start.elapsed(), stage.logins()), (Duration::ZERO, 2));
    let id = a.id;
    drop(a);
    assert_eq!(stage.take(&host).await.id, id, "what was released is there for the next");
    drop(b);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_wait_for_others_waits_for_its_login() {
    let stage = Stage::new(PoolConfig { acquire_timeout: Duration::ZERO, ..config(1, 1) });
    let start = Instant::now();
    let first = stage.caller(&web1()).await;
    let error = stage.try_take(&web1()).await.err().expect("the login is for the first caller");
    assert!(matches!(error, Error::Exhausted { .. }), "{error}");
    assert_eq!(start.elapsed(), Duration::ZERO);
    at(start + LOGIN).await;
    drop(served(first).await);
}

#[rstest]
#[case(ms(1))]
#[case(ms(250))]
#[case(secs(30))]
#[tokio::test(start_paused = true)]
async fn a_caller_queues_for_acquire_timeout_exactly(#[case] acquire_timeout: Duration) {
    let stage = Stage::new(PoolConfig { acquire_timeout, idle_timeout: secs(1), ..config(1, 1) });
    let held = stage.take(&web1()).await;
    let start = Instant::now();
    let waits = stage.caller(&web1()).await;
    assert_eq!(stage.stats().waiting, 1);
    let error = stage.try_take(&web1()).await.err().expect("nobody releases");
    assert_eq!(error.to_string(), "Connection pool exhausted for web1:22 (max: 1)");
    assert_eq!(start.elapsed(), acquire_timeout);
    settled().await;
    assert!(matches!(answer(waits).await, Err(Error::Exhausted { last_failure: None, .. })));
    assert_eq!(stage.stats().waiting, 0);
    drop(held);
    stage.is_whole(&web1()).await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_time_is_over_still_gets_the_login_that_is_on_its_way() {
    let stage = Stage::new(PoolConfig { acquire_timeout: ms(50), ..config(1, 1) });
    let start = Instant::now();
    drop(stage.take(&web1()).await);
    assert_eq!(start.elapsed(), LOGIN);
}

/// Logins compute: a hundred at once would all run into their timeouts.
#[tokio::test(start_paused = true)]
async fn logins_to_many_hosts_take_turns_and_their_time_counts_from_their_own_turn() {
    let world = World::new(&config(1, 1));
    let settings =
        PoolConfig { connect_timeout: ms(150), acquire_timeout: Duration::ZERO, ..config(1, 1) };
    let pool = Arc::new(Core::new(
        Fake { world: Arc::clone(&world) },
        settings,
        Capacity { logins: 3, ..CAPACITY },
        Arc::default(),
    ));
    let start = Instant::now();
    let mut callers = Vec::new();
    for n in 0..9 {
        let (pool, world, host) =
            (Arc::clone(&pool), Arc::clone(&world), format!("web{n}").parse().unwrap());
        callers.push(tokio::spawn(async move { take(&pool, &world, &host).await }));
    }
    settled().await;
    for turn in 1..=3 {
        assert_eq!(world.books(|truth| truth.logins_under_way()), 3);
        at(start + LOGIN * turn).await;
    }
    for caller in callers {
        drop(served(caller).await);
    }
    world.condemn(|_| true);
    pool.close(Duration::ZERO).await;
    world.verify();
}

/// Whoever does not answer does not compute, and keeps nobody else waiting for long.
#[tokio::test(start_paused = true)]
async fn a_login_that_waits_for_a_dead_host_gives_up_its_place_after_a_second() {
    let world = World::new(&config(1, 1));
    let pool = Arc::new(Core::new(
        Fake { world: Arc::clone(&world) },
        config(1, 1),
        Capacity { logins: 1, ..CAPACITY },
        Arc::default(),
    ));
    world.plan([Plan { login: Login::Hangs, ..Plan::default() }]);
    let start = Instant::now();
    let dead = tokio::spawn({
        let (pool, world) = (Arc::clone(&pool), Arc::clone(&world));
        async move { take(&pool, &world, &"dead".parse().unwrap()).await }
    });
    settled().await;
    drop(take(&pool, &world, &web1()).await.expect("a lease"));
    assert_eq!(start.elapsed(), secs(1) + LOGIN);
    at(start + secs(5)).await;
    assert_eq!(kind_of(answer(dead).await), ConnectErrorKind::TimedOut);
    world.condemn(|_| true);
    pool.close(Duration::ZERO).await;
    world.verify();
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_first_come_first_served() {
    let stage = Stage::new(config(1, 1));
    let mut held = stage.take(&web1()).await;
    let mut queue = Vec::new();
    for _ in 0..5 {
        queue.push(stage.caller(&web1()).await);
        pass(ms(1)).await;
    }
    for caller in queue {
        drop(held);
        settled().await;
        held = served(caller).await;
    }
    assert_eq!((stage.logins(), stage.stats().waiting), (1, 0));
}

#[rstest]
#[case::a_session_is_released_first(ms(40), true)]
#[case::the_new_connection_is_there_first(ms(140), false)]
#[tokio::test(start_paused = true)]
async fn a_caller_gets_whichever_comes_first(#[case] release: Duration, #[case] released: bool) {
    let stage = Stage::new(config(2, 1));
    let held = stage.take(&web1()).await;
    let id = held.id;
    let start = Instant::now();
    let waits = stage.caller(&web1()).await;
    assert_eq!(stage.stats().connecting, 1);
    at(start + release.min(LOGIN)).await;
    if released {
        drop(held);
        settled().await;
    }
    let got = served(waits).await;
    assert_eq!(got.id == id, released);
    // The login was begun for this caller; it is there for the next one.
    at(start + LOGIN).await;
    let stats = stage.stats();
    assert_eq!((stats.total_connections, stats.pool_misses), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_connection_used_most_recently_is_handed_out_first() {
    // Where a session is in standby a caller goes there first.
    let stage = Stage::new(PoolConfig { standby_sessions: 0, ..config(3, 1) });
    let (a, b, c) =
        (stage.take(&web1()).await, stage.take(&web1()).await, stage.take(&web1()).await);
    let (a_id, b_id, c_id) = (a.id, b.id, c.id);
    for held in [c, a, b] {
        drop(held);
        pass(ms(1)).await;
    }
    let got = [stage.take(&web1()).await, stage.take(&web1()).await, stage.take(&web1()).await];
    assert_eq!(got.map(|held| held.id), [b_id, a_id, c_id]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_takes_as_many_sessions_as_it_may_before_another_is_used() {
    let stage = Stage::new(config(2, 3));
    let mut held = Vec::new();
    for _ in 0..6 {
        held.push(stage.take(&web1()).await);
    }
    let ids: Vec<_> = held.iter().map(|held| held.id).collect();
    assert_eq!(ids, [0, 0, 0, 1, 1, 1]);
    let stats = stage.stats();
    assert_eq!((stats.active_connections, stats.idle_connections, stats.open_sessions), (2, 0, 6));
}

/// Where a caller stands when its future is dropped.
#[derive(Clone, Copy, Debug)]
enum Situation {
    /// Nothing is connected: it waits for the login.
    Cold,
    /// A session is free.
    Warm,
    /// All are taken; one is released later.
    Full,
    /// All are taken, and its time runs out.
    Exhausted,
}

#[rstest]
#[case(Situation::Cold)]
#[case(Situation::Warm)]
#[case(Situation::Full)]
#[case(Situation::Exhausted)]
#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_at_any_point_leaves_nothing_behind(#[case] situation: Situation) {
    for polls in 0.. {
        let stage = Stage::new(PoolConfig { acquire_timeout: ms(200), ..config(1, 2) });
        let mut held = Vec::new();
        match situation {
            Situation::Cold => {}
            Situation::Warm => held.push(stage.take(&web1()).await),
            Situation::Full | Situation::Exhausted => {
                held.push(stage.take(&web1()).await);
                held.push(stage.take(&web1()).await);
            }
        }
        let host = web1();
        let mut caller = Box::pin(stage.pool.acquire(&host));
        let mut over = false;
        for poll in 0..polls {
            over = poll_once(caller.as_mut()).await.is_ready();
            if over {
                break;
            }
            if matches!(situation, Situation::Full) && poll == 2 {
                held.pop();
            }
            // What it waits for happens here, before the next poll or the drop.
            pass(ms(40)).await;
        }
        drop(caller);
        settled().await;
        drop(held);
        assert_eq!(
            (stage.stats().waiting, stage.stats().open_sessions),
            (0, 0),
            "after {polls} polls"
        );
        stage.is_whole(&web1()).await;
        assert_eq!(stage.logins(), 1, "a login that was begun goes on for the next caller");
        if over {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_sent_to_a_caller_that_is_gone_goes_to_the_next_in_the_queue() {
    let stage = Stage::new(config(1, 1));
    let host = web1();
    let held = stage.take(&host).await;
    let mut gone = Box::pin(stage.pool.acquire(&host));
    assert!(poll_once(gone.as_mut()).await.is_pending());
    let next = stage.caller(&host).await;
    // It is sent here, but not yet received.
    drop(held);
    assert_eq!((stage.stats().open_sessions, stage.stats().waiting), (1, 1));
    drop(gone);
    settled().await;
    drop(served(next).await);
}

#[tokio::test(start_paused = true)]
async fn a_lease_can_be_dropped_on_any_thread() {
    let stage = Stage::new(config(1, 1));
    let held = stage.take(&web1()).await;
    let waits = stage.caller(&web1()).await;
    std::thread::spawn(move || drop(held)).join().unwrap();
    settled().await;
    let held = served(waits).await;
    let waits = stage.caller(&web1()).await;
    // Here the drop makes room for a login, which has to run somewhere.
    std::thread::spawn(move || held.broken()).join().unwrap();
    pass(LOGIN).await;
    drop(served(waits).await);
    assert_eq!(stage.logins(), 2);
}

#[test]
fn a_lease_outlives_its_runtime_and_the_pool_lives_on_in_the_next() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    };
    let stage = Stage::new(config(2, 1));
    let first = runtime();
    let held = first.block_on(stage.take(&web1()));
    let waiting = first.block_on(stage.caller(&web1()));
    stage.world.condemn(|_| true);
    drop(first);
    drop(waiting);
    assert_eq!((stage.stats().total_connections, stage.stats().connecting), (0, 0));
    drop(held);
    runtime().block_on(async {
        // The login that was cut off counts as failed; this is beyond its back-off.
        sleep(secs(1)).await;
        stage.is_whole(&web1()).await;
        stage.world.condemn(|_| true);
    });
}
