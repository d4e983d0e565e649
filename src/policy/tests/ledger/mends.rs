//! What ends the pause after a failure, and what goes beyond the four.

use rstest::rstest;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Change {
    Time,
    Configuration,
    Reset,
    Close,
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_failure_stands_until_something_changes(
    #[values(Change::Time, Change::Configuration, Change::Reset, Change::Close)] change: Change,
) {
    let stage = Stage::new(config(5, 1));
    let fail = || Plan::fails(Kind::Authentication);
    stage.world.plan([fail(), fail()]);
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
    pass(secs(1)).await;
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
    for _ in 0..29 {
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
        pass(secs(1)).await;
    }
    assert_eq!(stage.logins(), 2);
    match change {
        Change::Time => pass(secs(1)).await,
        Change::Configuration => stage.world.books(|truth| truth.configuration += 1),
        Change::Reset => stage.pool.reset(&web1()),
        Change::Close => stage.close_host(&web1(), Duration::ZERO).await,
    }
    stage.world.books(|truth| truth.hosts[0].forgets_failures());
    drop(stage.take(&web1()).await);
    assert_eq!(stage.logins(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_change_gives_one_try_for_each_pause_and_never_goes_beyond_the_four() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(|| Plan::fails(Kind::Authentication));
    for turn in 0..50 {
        stage.world.books(|truth| {
            truth.configuration += 1;
            truth.hosts.iter_mut().for_each(HostTruth::forgets_failures);
        });
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
        assert_eq!(stage.logins(), (turn + 1).min(MOST), "nothing is tried without a change");
        pass(ms(10)).await;
    }
    // Somebody who wants it tried goes beyond them.
    stage.world.books(|truth| {
        truth.counted.clear();
        truth.hosts[0].forgets_failures();
    });
    stage.pool.reset(&web1());
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
    assert_eq!(stage.logins(), MOST + 1);
}

#[rstest]
#[case::by_the_same_alias("h0")]
#[case::by_another_alias("h7")]
#[tokio::test(start_paused = true)]
async fn a_reset_forgets_what_was_counted_for_the_account(#[case] name: &str) {
    let stage = Stage::new(config(5, 1));
    stage.world.plan(vec![Plan::fails(Kind::Authentication); MOST]);
    for number in 0..MOST {
        assert_eq!(
            kind_of(stage.try_take(&alias(&format!("h{number}"))).await),
            Kind::Authentication
        );
    }
    assert_eq!(kind_of(stage.try_take(&alias("h7")).await), Kind::TooManyFailures);
    stage.pool.reset(&alias(name));
    drop(stage.take(&alias("h7")).await);
}

#[tokio::test(start_paused = true)]
async fn closing_a_host_forgets_what_was_counted_for_accounts_that_it_was_tried_at() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan(vec![Plan::fails(Kind::Authentication); MOST]);
    for number in 0..MOST {
        assert_eq!(
            kind_of(stage.try_take(&alias(&format!("h{number}"))).await),
            Kind::Authentication
        );
    }
    assert_eq!(kind_of(stage.try_take(&alias("h7")).await), Kind::TooManyFailures);
    // Whoever closes has not asked ssh where that is.
    stage.close_host(&Host::new("h7").unwrap(), Duration::ZERO).await;
    drop(stage.take(&alias("h7")).await);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_there_serves_though_the_four_are_used_up() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan([Plan::default()]);
    let held = stage.take(&alias("good")).await;
    stage.world.plan(vec![Plan::fails(Kind::Authentication); MOST]);
    for number in 0..MOST {
        assert_eq!(
            kind_of(stage.try_take(&alias(&format!("h{number}"))).await),
            Kind::Authentication
        );
    }
    let waits = stage.caller(&alias("good")).await;
    pass(secs(1)).await;
    assert_eq!(stage.logins(), MOST + 1);
    drop(held);
    settled().await;
    drop(served(waits).await);
}
