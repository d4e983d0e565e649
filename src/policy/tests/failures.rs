//! Logins that fail: who hears of it, and when another one is tried.

use rstest::rstest;

use super::plan::{Login, Plan};
use super::*;
use crate::error::ConnectErrorKind as Kind;

fn refused_forever(stage: &Stage) {
    stage.world.plan_with(|| Plan::fails(Kind::Refused));
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_for_a_login_hear_why_it_failed() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan([Plan::fails(Kind::Authentication)]);
    let start = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..20 {
        callers.push(stage.caller(&web1()).await);
    }
    at(start + LOGIN).await;
    for caller in callers {
        let error = answer(caller).await.err().expect("a failure");
        assert_eq!(
            error.to_string(),
            "web1: cannot connect: authentication failed: as planned (check user and key with `ssh \
                -v`)"
        );
    }
    assert_eq!(
        (stage.logins(), stage.stats().failed_connects),
        (1, 1),
        "one wrong key is one login"
    );
}

#[tokio::test(start_paused = true)]
async fn callers_get_the_last_failure_at_once_until_the_pause_is_over() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan([Plan::fails(Kind::Refused)]);
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
    let failed = Instant::now();
    for passed in [0, 1, 149] {
        at(failed + ms(passed)).await;
        let start = Instant::now();
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
        assert_eq!((start.elapsed(), stage.logins()), (Duration::ZERO, 1));
    }
    at(failed + ms(200)).await;
    drop(stage.take(&web1()).await);
    assert_eq!(stage.logins(), 2);
}

/// What has failed is the jump host, which has pauses of its own: those of a host behind it are no
/// longer, however often that was.
#[tokio::test(start_paused = true)]
async fn a_host_behind_a_jump_host_waits_as_long_as_that_does() {
    let stage = Stage::new(config(5, 1));
    let next_tries = [None, None, None, None, None, Some(secs(10))];
    stage.world.plan(next_tries.map(Plan::hop_fails));
    for tried in 1..=6 {
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
        assert_eq!(stage.logins(), tried);
        if tried < 6 {
            at(Instant::now() + ms(200)).await;
        }
    }
    let failed = Instant::now();
    at(failed + ms(9999)).await;
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
    assert_eq!(stage.logins(), 6);
    at(failed + secs(10)).await;
    drop(stage.take(&web1()).await);
    assert_eq!(stage.logins(), 7);
}

#[tokio::test(start_paused = true)]
async fn callers_get_the_last_failure_at_once_though_an_old_connection_is_still_closing() {
    let stage = Stage::new(config(2, 1));
    stage.world.plan([Plan::default().closing(secs(3)), Plan::fails(Kind::Authentication)]);
    let held = stage.take(&web1()).await;
    let waits = stage.caller(&web1()).await;
    pass(LOGIN).await;
    assert_eq!(stage.stats().failed_connects, 1);
    held.broken();
    settled().await;
    assert_eq!(kind_of(answer(waits).await), Kind::Authentication, "nothing is left to wait for");
    let start = Instant::now();
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_while_nobody_asks() {
    let stage = Stage::new(config(5, 1));
    refused_forever(&stage);
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
    pass(secs(3600)).await;
    assert_eq!(stage.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_pause_doubles_from_200_ms_to_30_s_less_a_quarter_at_most() {
    let stage = Stage::new(config(5, 1));
    refused_forever(&stage);
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
    for failures in 1..=10 {
        let failed = Instant::now();
        let full = ms((200 << (failures - 1)).min(30_000));
        // Asked often enough to see where it ends within 2 %.
        let caller = loop {
            let logins = stage.logins();
            let caller = stage.caller(&web1()).await;
            if stage.logins() > logins {
                break caller;
            }
            assert_eq!(kind_of(answer(caller).await), Kind::Refused);
            pass(full / 50).await;
        };
        let pause = failed.elapsed();
        assert!(
            pause >= full * 3 / 4 && pause <= full + full / 50,
            "{pause:?} after {failures} failures"
        );
        pass(LOGIN).await;
        assert_eq!(kind_of(answer(caller).await), Kind::Refused);
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_succeeds_makes_the_next_pause_short_again() {
    let stage = Stage::new(config(1, 1));
    let mut plans = vec![Plan::fails(Kind::Refused); 5];
    plans.extend([Plan::default(), Plan::fails(Kind::Refused)]);
    stage.world.plan(plans);
    for _ in 0..5 {
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
        pass(secs(30)).await;
    }
    stage.take(&web1()).await.broken();
    settled().await;
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Refused);
    pass(ms(200)).await;
    drop(stage.take(&web1()).await);
}

#[rstest]
#[case(Kind::Authentication, false)]
#[case(Kind::HostKeyChanged, false)]
#[case(Kind::HostKeyUnknown, false)]
#[case(Kind::Refused, true)]
#[case(Kind::TimedOut, true)]
#[case(Kind::Unreachable, true)]
#[case(Kind::Name, true)]
#[case(Kind::KeyFile, true)]
#[case(Kind::Algorithms, true)]
#[case(Kind::ServerBusy, true)]
#[case(Kind::SshMissing, true)]
#[case(Kind::BadOption, true)]
#[case(Kind::Local, true)]
#[case(Kind::Other, true)]
#[tokio::test(start_paused = true)]
async fn a_wrong_key_is_not_tried_again_soon(#[case] kind: Kind, #[case] tried_again: bool) {
    let stage = Stage::new(config(2, 1));
    stage.world.plan([Plan::default(), Plan::fails(kind)]);
    let held = stage.take(&web1()).await;
    // It waits for the login and, when that has failed, for the connection that is there.
    let waits = stage.caller(&web1()).await;
    pass(ms(700)).await;
    let another = stage.caller(&web1()).await;
    pass(LOGIN).await;
    assert_eq!(stage.logins(), if tried_again { 3 } else { 2 });
    assert_eq!(waits.is_finished(), tried_again);
    drop(held);
    settled().await;
    drop(served(waits).await);
    settled().await;
    drop(served(another).await);
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_time_ends_in_a_pause_hears_of_the_failure_too() {
    let stage = Stage::new(PoolConfig { acquire_timeout: ms(150), ..config(2, 1) });
    stage.world.plan([Plan::default(), Plan::fails(Kind::ServerBusy)]);
    let held = stage.take(&web1()).await;
    let start = Instant::now();
    match stage.try_take(&web1()).await {
        Err(Error::Exhausted { last_failure: Some(failure), max: 2, .. }) => {
            assert_eq!(failure.kind(), Kind::ServerBusy);
        }
        other => panic!("{:?}", other.map(|held| held.id)),
    }
    assert_eq!(start.elapsed(), ms(150));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_one_login_at_a_time_until_one_has_succeeded() {
    let stage = Stage::new(config(5, 1));
    let start = Instant::now();
    stage.world.plan([Plan::default(), Plan::fails(Kind::Refused), Plan::fails(Kind::Refused)]);
    let held = stage.take(&web1()).await;
    let mut callers = Vec::new();
    for _ in 0..2 {
        callers.push(stage.caller(&web1()).await);
    }
    assert_eq!(stage.stats().connecting, 2);
    at(start + LOGIN * 2).await;
    callers.push(stage.caller(&web1()).await);
    callers.push(stage.caller(&web1()).await);
    assert_eq!((stage.stats().connecting, stage.stats().failed_connects), (0, 2));
    // Two that failed at once are one failure: the pause is still the first one.
    at(start + LOGIN * 2 + ms(200)).await;
    assert_eq!(stage.stats().connecting, 1);
    at(start + LOGIN * 3 + ms(200)).await;
    assert_eq!(stage.stats().connecting, 3, "the server has said yes again");
    pass(LOGIN).await;
    assert_eq!(stage.stats().total_connections, 5);
    for caller in callers {
        drop(served(caller).await);
    }
    drop(held);
}

#[rstest]
#[case::it_keeps_the_deadline(Login::Hangs, secs(5))]
#[case::it_does_not(Login::NeverReturns, secs(6))]
#[tokio::test(start_paused = true)]
async fn a_login_that_hangs_ends_with_connect_timeout(
    #[case] login: Login,
    #[case] takes: Duration,
) {
    let stage = Stage::new(config(2, 1));
    stage.world.plan([Plan { login, ..Plan::default() }]);
    let start = Instant::now();
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::TimedOut);
    assert_eq!((start.elapsed(), stage.world.books(|truth| truth.logins_under_way())), (takes, 0));
}

#[tokio::test(start_paused = true)]
async fn a_login_that_panics_is_one_that_failed() {
    let stage = Stage::new(config(2, 1));
    stage.world.plan([Plan { login: Login::Panics, ..Plan::default() }]);
    assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Local);
    pass(secs(1)).await;
    stage.is_whole(&web1()).await;
}
