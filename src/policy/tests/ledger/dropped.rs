//! Servers that take logins and drop the connections.

use std::collections::VecDeque;

use rstest::rstest;

use super::*;

#[rstest]
#[case::before_they_are_ready(Plan::is_dropped())]
#[case::when_they_are_ready(Plan::default().silent().dies_after(ms(50)))]
#[tokio::test(start_paused = true)]
async fn a_server_that_takes_logins_and_drops_them_sees_four(#[case] plan: Plan) {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(move || plan.clone());
    let start = Instant::now();
    while start.elapsed() < secs(500) {
        if let Ok(held) = stage.try_take(&web1()).await {
            pass(ms(60)).await;
            // Its session could not be opened any more.
            held.not_reached();
            held.unused();
        }
        pass(ms(300)).await;
    }
    assert_eq!(stage.logins(), MOST);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_after_an_echo_is_not_asked_a_hundred_times() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(|| Plan::default().dies_after(ms(50)));
    let start = Instant::now();
    while start.elapsed() < secs(40) {
        if let Ok(held) = stage.try_take(&web1()).await {
            pass(ms(60)).await;
            held.not_reached();
            held.unused();
        }
        pass(ms(50)).await;
    }
    assert!(stage.logins() <= 10, "{} logins", stage.logins());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_after_each_command_is_left_to_do_so() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(|| Plan::default().silent());
    for _ in 0..50 {
        let held = stage.take(&web1()).await;
        let connection = Arc::clone(held.connection());
        drop(held);
        connection.die();
        settled().await;
    }
    assert_eq!(stage.logins(), 50);
}

#[rstest]
#[case::here(Plan::default().silent().by_server(false), true)]
#[case::by_the_server(Plan::default().silent(), false)]
#[case::by_the_server_after_an_echo(Plan::default(), true)]
#[tokio::test(start_paused = true)]
async fn only_what_the_server_has_ended_counts(#[case] plan: Plan, #[case] goes_on: bool) {
    let stage = Stage::new(config(5, 1));
    let mut plans: VecDeque<Plan> = vec![plan.dies_after(ms(5)); MOST].into();
    stage.world.plan_with(move || plans.pop_front().unwrap_or_default());
    for number in 0..MOST {
        stage.take(&alias(&format!("h{number}"))).await.unused();
        pass(ms(10)).await;
    }
    assert_eq!(stage.try_take(&alias("h9")).await.is_ok(), goes_on);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_run_clears_what_was_dropped_and_not_what_was_refused() {
    let stage = Stage::new(config(5, 1));
    let good = stage.take(&alias("good")).await;
    stage.world.plan([
        Plan::is_dropped(),
        Plan::is_dropped(),
        Plan::is_dropped(),
        Plan::fails(Kind::Authentication),
        Plan::fails(Kind::Authentication),
        Plan::fails(Kind::Authentication),
        Plan::fails(Kind::Authentication),
    ]);
    for number in 0..4 {
        assert!(stage.try_take(&alias(&format!("h{number}"))).await.is_err());
    }
    assert_eq!(kind_of(stage.try_take(&alias("h4")).await), Kind::TooManyFailures);
    stage.world.books(|truth| truth.counted.drain(..3).count());
    good.ran();
    for number in 5..8 {
        assert_eq!(
            kind_of(stage.try_take(&alias(&format!("h{number}"))).await),
            Kind::Authentication
        );
    }
    good.ran();
    assert_eq!(kind_of(stage.try_take(&alias("h8")).await), Kind::TooManyFailures);
    drop(good);
}
