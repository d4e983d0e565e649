//! A server that opens fewer sessions than the pool asks for.

use super::plan::Plan;
use super::*;

async fn take_many(stage: &Stage, count: usize) -> Vec<Held> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(stage.take(&web1()).await);
    }
    held
}

#[tokio::test(start_paused = true)]
async fn after_a_refusal_a_connection_is_not_asked_for_as_many_sessions_again() {
    let stage = Stage::new(config(2, 4));
    let mut held = take_many(&stage, 3).await;
    held.pop().unwrap().refused();
    assert_eq!((stage.stats().refused_sessions, stage.stats().open_sessions), (1, 2));
    // The first has room for two, as was seen: the next caller is served by another.
    let start = Instant::now();
    let other = stage.take(&web1()).await;
    assert_eq!((other.id, start.elapsed()), (1, LOGIN));
    pass(ms(1)).await;
    held.pop();
    held.push(stage.take(&web1()).await);
    assert_eq!(held[1].id, 0, "up to its lowered limit it is used as before");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_waits_is_served_elsewhere_when_a_session_is_refused() {
    let stage = Stage::new(config(2, 2));
    stage.world.plan([Plan::default(), Plan::succeeds_after(ms(30))]);
    let mut held = take_many(&stage, 2).await;
    let waits = stage.caller(&web1()).await;
    held.pop().unwrap().refused();
    pass(ms(30)).await;
    assert_eq!(served(waits).await.id, 1);
}

#[tokio::test(start_paused = true)]
async fn one_more_session_is_tried_each_time_that_the_lowered_limit_has_stood_for_ten_seconds() {
    let stage = Stage::new(PoolConfig { acquire_timeout: Duration::ZERO, ..config(1, 4) });
    let sessions = async || {
        let mut held = Vec::new();
        while let Ok(one) = stage.try_take(&web1()).await {
            held.push(one);
        }
        held.len()
    };
    assert_eq!(sessions().await, 4);
    let mut held = take_many(&stage, 3).await;
    held.pop().unwrap().refused();
    drop(held);
    assert_eq!(sessions().await, 2);
    pass(secs(10)).await;
    assert_eq!(sessions().await, 2, "not yet when they were asked for");
    // It was the release of those that has raised it.
    pass(ms(1)).await;
    assert_eq!(sessions().await, 2);
    assert_eq!(sessions().await, 3);
    pass(secs(9)).await;
    assert_eq!(sessions().await, 3);
    pass(secs(2)).await;
    assert_eq!((sessions().await, sessions().await), (3, 4));
    pass(secs(20)).await;
    assert_eq!(
        (sessions().await, sessions().await),
        (4, 4),
        "and never more than the setting allows"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_refuses_even_one_session_rests_for_longer_each_time() {
    let stage = Stage::new(config(1, 4));
    let mut held = stage.take(&web1()).await;
    for rest in [4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000] {
        held.refused();
        let refused = Instant::now();
        held = stage.take(&web1()).await;
        assert_eq!((held.id, refused.elapsed()), (0, ms(rest)));
    }
    // A session that was opened makes up for all refusals.
    drop(held);
    stage.take(&web1()).await.refused();
    let refused = Instant::now();
    drop(stage.take(&web1()).await);
    assert_eq!((refused.elapsed(), stage.stats().refused_sessions), (ms(4), 11));
}

#[tokio::test(start_paused = true)]
async fn callers_are_patient_with_a_connection_that_rests() {
    let stage = Stage::new(PoolConfig { acquire_timeout: Duration::ZERO, ..config(1, 2) });
    stage.take(&web1()).await.refused();
    let start = Instant::now();
    let held = stage.take(&web1()).await;
    assert_eq!((held.id, start.elapsed()), (0, ms(4)));
    assert!(matches!(stage.try_take(&web1()).await, Err(Error::Exhausted { .. })));
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_those_who_wait_for_the_end_of_a_rest() {
    let stage = Stage::new(config(1, 1));
    let held = stage.take(&web1()).await;
    // Its timer is the first to fire at the instant at which the rest ends.
    let (pool, world, end) =
        (Arc::clone(&stage.pool), Arc::clone(&stage.world), Instant::now() + ms(4));
    let late = tokio::spawn(async move {
        tokio::time::sleep_until(end).await;
        take(&pool, &world, &web1()).await
    });
    settled().await;
    held.refused();
    let early = stage.caller(&web1()).await;
    at(end).await;
    drop(served(early).await);
    settled().await;
    drop(served(late).await);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_on_a_connection_that_is_gone_is_counted_and_changes_nothing() {
    let stage = Stage::new(config(1, 2));
    let held = stage.take(&web1()).await;
    held.connection().die();
    settled().await;
    let new = stage.take(&web1()).await;
    held.refused();
    assert_eq!((stage.stats().refused_sessions, stage.stats().open_sessions), (1, 1));
    drop(new);
    stage.is_whole(&web1()).await;
}
