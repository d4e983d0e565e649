//! Failed logins are counted for each account, and at most four happen in any ten minutes, whatever
//! callers do.

mod dropped;
mod long;
mod mends;

use rstest::rstest;

use super::plan::Plan;
use super::world::HostTruth;
use super::*;
use crate::error::ConnectErrorKind as Kind;
use crate::host::{Endpoint, Login};
use crate::policy::Ledger;
use crate::policy::ledger::{MOST, WINDOW};

/// An alias of the one account.
fn alias(name: &str) -> Host {
    let endpoint = Endpoint { user: "lab".to_owned(), address: "10.0.0.1".to_owned(), port: 22 };
    let login = Login { endpoint: Some(Arc::new(endpoint)), ..Login::default() };
    Host::new(name).expect("a valid name").with_login(login)
}

fn error_of(result: Result<Held, Error>) -> String {
    result.err().expect("a failure").to_string()
}

/// When each login was begun, from the first one on, in seconds.
fn begun(stage: &Stage) -> Vec<u64> {
    let mut all = stage.world.books(|truth| truth.logins().map(|(at, _)| *at).collect::<Vec<_>>());
    all.sort_unstable();
    all.iter().map(|at| (*at - all[0]).as_secs()).collect()
}

#[tokio::test(start_paused = true)]
async fn the_pauses_grow_until_the_four_are_used_up() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(|| Plan::fails(Kind::Authentication));
    let start = Instant::now();
    while start.elapsed() < secs(3000) {
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::Authentication);
        pass(ms(200)).await;
    }
    let begun = begun(&stage);
    assert_eq!(begun[..5], [0, 1, 31, 151, 600], "{begun:?}");
    assert!(begun.windows(5).all(|five| five[4] - five[0] >= 599), "{begun:?}");
}

#[rstest]
#[case(Kind::Authentication)]
#[case(Kind::HostKeyChanged)]
#[case(Kind::HostKeyUnknown)]
#[tokio::test(start_paused = true)]
async fn twenty_aliases_with_a_wrong_key_see_four_failures(#[case] kind: Kind) {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(move || Plan::fails(kind));
    let mut callers = Vec::new();
    for number in 0..20 {
        callers.push(stage.caller(&alias(&format!("h{number}"))).await);
    }
    assert_eq!(stage.logins(), MOST);
    pass(LOGIN).await;
    let mut told = Vec::new();
    for caller in callers {
        told.push(kind_of(answer(caller).await));
    }
    assert_eq!(told.iter().filter(|&&told| told == kind).count(), MOST);
    assert_eq!(told.iter().filter(|&&told| told == Kind::TooManyFailures).count(), 16);
    let start = Instant::now();
    assert_eq!(
        error_of(stage.try_take(&alias("h19")).await),
        "h19: cannot connect: too many failed logins: 4 logins to lab@10.0.0.1:22 have failed in \
            the last ten minutes, \
         with other keys or by other names perhaps; one more could get the account locked (tried 0 \
         ms ago; next try \
         in 10 min; `Pool::reset` tries now)"
    );
    assert_eq!((start.elapsed(), stage.logins()), (Duration::ZERO, MOST));
    // Another account is another thing.
    assert_eq!(kind_of(stage.try_take(&web1()).await), kind);
    pass(WINDOW).await;
    assert_eq!(kind_of(stage.try_take(&alias("h19")).await), kind);
}

#[tokio::test(start_paused = true)]
async fn aliases_with_a_good_key_take_turns_and_are_all_served() {
    let stage = Stage::new(config(5, 1));
    let start = Instant::now();
    let mut callers = Vec::new();
    for number in 0..20 {
        callers.push(stage.caller(&alias(&format!("h{number}"))).await);
    }
    pass(LOGIN * 5).await;
    for caller in callers {
        drop(served(caller).await);
    }
    assert_eq!((stage.logins(), stage.stats().failed_connects), (20, 0));
    assert!(start.elapsed() <= LOGIN * 5);
}

#[tokio::test(start_paused = true)]
async fn one_wrong_key_among_good_ones_takes_one_of_the_four() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan([Plan::fails(Kind::Authentication)]);
    let mut callers = Vec::new();
    for number in 0..10 {
        callers.push(stage.caller(&alias(&format!("h{number}"))).await);
    }
    pass(LOGIN * 10).await;
    let mut failed = 0;
    for caller in callers {
        failed += usize::from(answer(caller).await.is_err());
    }
    assert_eq!((failed, stage.logins()), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn pools_that_share_a_ledger_count_together() {
    let ledger: Arc<Ledger> = Arc::default();
    let world = World::new(&config(2, 1));
    world.plan_with(|| Plan::fails(Kind::Authentication));
    let pools: Vec<_> = (0..3)
        .map(|_| {
            let fake = Fake { world: Arc::clone(&world) };
            Arc::new(Core::new(fake, config(2, 1), CAPACITY, Arc::clone(&ledger)))
        })
        .collect();
    let mut failed = 0;
    for turn in 0..12 {
        let host = alias(&format!("h{turn}"));
        failed += usize::from(
            kind_of(take(&pools[turn % 3], &world, &host).await) == Kind::Authentication,
        );
    }
    assert_eq!((failed, world.books(|truth| truth.logins().count())), (MOST, MOST));
    pools[1].reset(&alias("h0"));
    assert_eq!(kind_of(take(&pools[2], &world, &alias("new")).await), Kind::Authentication);
}

#[tokio::test(start_paused = true)]
async fn failures_that_do_not_count_use_nothing_up() {
    for kind in [Kind::Refused, Kind::ServerBusy, Kind::TimedOut, Kind::Other, Kind::Local] {
        let stage = Stage::new(config(2, 1));
        stage.world.plan_with(move || Plan::fails(kind));
        for number in 0..12 {
            assert_eq!(kind_of(stage.try_take(&alias(&format!("h{number}"))).await), kind);
        }
        assert_eq!(stage.logins(), 12);
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_has_a_short_pause_of_its_own() {
    let stage = Stage::new(config(2, 1));
    stage.world.plan_with(|| Plan::fails(Kind::ServerBusy));
    for failures in 1..12 {
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::ServerBusy);
        let full = ms((200 << (failures - 1)).min(2000));
        pass(full * 3 / 4 - ms(1)).await;
        let logins = stage.logins();
        assert_eq!(kind_of(stage.try_take(&web1()).await), Kind::ServerBusy);
        assert_eq!(stage.logins(), logins, "after {failures} failures");
        pass(full / 4 + ms(1)).await;
    }
}

/// Which of them are dropped is the server's choice.
#[tokio::test(start_paused = true)]
async fn d13_a_server_that_is_busy_gets_fewer_logins_at_once_and_serves_all() {
    let stage = Stage::new(config(2, 1));
    stage.world.plan((0..3).map(|_| Plan::fails(Kind::ServerBusy)));
    let mut callers = Vec::new();
    for number in 0..20 {
        callers.push(stage.caller(&alias(&format!("h{number}"))).await);
    }
    assert_eq!(stage.stats().connecting, MOST);
    pass(LOGIN).await;
    for _ in 0..100 {
        pass(LOGIN).await;
        assert!(stage.stats().connecting <= 1, "three of four were dropped");
    }
    for caller in callers {
        drop(served(caller).await);
    }
    assert_eq!(stage.logins(), 23);
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_not_waited_for_without_end() {
    let stage = Stage::new(config(2, 1));
    stage.world.plan_with(|| Plan::fails(Kind::ServerBusy));
    let start = Instant::now();
    let (web1, web2) = (alias("web1"), alias("web2"));
    let both = tokio::join!(stage.try_take(&web1), stage.try_take(&web2));
    assert_eq!((kind_of(both.0), kind_of(both.1)), (Kind::ServerBusy, Kind::ServerBusy));
    assert!((ms(10_000)..ms(15_000)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!((12..24).contains(&stage.logins()), "{}", stage.logins());
}

#[tokio::test(start_paused = true)]
async fn a_remembered_answer_says_so_and_the_first_one_does_not() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(|| Plan::fails(Kind::Authentication));
    const FRESH: &str = "web1: cannot connect: authentication failed: as planned (check user and \
        key with `ssh -v`)";
    let both = [stage.caller(&web1()).await, stage.caller(&web1()).await];
    pass(LOGIN).await;
    for caller in both {
        assert_eq!(error_of(answer(caller).await), FRESH);
    }
    pass(ms(250)).await;
    let told = error_of(stage.try_take(&web1()).await);
    assert_eq!(
        told,
        format!("{FRESH} (tried 250 ms ago; next try in 750 ms; `Pool::reset` tries now)")
    );
    pass(secs(1)).await;
    assert_eq!(error_of(stage.try_take(&web1()).await), FRESH);
    pass(secs(12)).await;
    match stage.try_take(&web1()).await {
        Err(Error::Connect { source, .. }) => {
            assert_eq!(
                (source.tried_ago(), source.next_try_in()),
                (Some(secs(12)), Some(secs(18)))
            );
        }
        _ => panic!("another answer"),
    }
}
