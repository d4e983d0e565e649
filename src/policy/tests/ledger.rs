//! Failed logins are counted for each account, and at most four happen in any ten minutes, whatever
//! callers do.

use std::collections::VecDeque;

use rstest::rstest;

use super::draw::Random;
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
        "h19: cannot connect: too many failed logins: 4 logins to lab@10.0.0.1:22 have failed in the last ten minutes, \
         with other keys or by other names perhaps; one more could get the account locked (tried 0 ms ago; next try \
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

// ---- what mends ----

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

// ---- what is told ----

#[tokio::test(start_paused = true)]
async fn a_remembered_answer_says_so_and_the_first_one_does_not() {
    let stage = Stage::new(config(5, 1));
    stage.world.plan_with(|| Plan::fails(Kind::Authentication));
    const FRESH: &str = "web1: cannot connect: authentication failed: as planned (check user and key with `ssh -v`)";
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

// ---- connections that are dropped ----

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

// ---- whatever happens ----

/// Hours of callers with wrong and right keys, changes, and connections that come and go. The books
/// complain about a fifth failure in ten minutes.
#[test]
fn at_most_four_fail_in_any_ten_minutes_whatever_happens() {
    for seed in 0..8 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut random = Random(seed);
            let stage =
                Stage::new(config(random.up_to(1, 6) as usize, random.up_to(1, 3) as usize));
            let (bad, mut plans) = (random.up_to(10, 100), Random(!seed));
            stage.world.plan_with(move || match plans.chance(bad) {
                true if plans.chance(20) => Plan::is_dropped(),
                true if plans.chance(20) => Plan::fails(Kind::ServerBusy),
                true if plans.chance(20) => {
                    Plan::default().silent().dies_after(plans.millis(0, 100))
                }
                true => Plan::fails(plans.pick([Kind::Authentication, Kind::HostKeyChanged])),
                false => Plan::default().dies_after(plans.millis(0, 900_000)),
            });
            let hosts: Vec<Host> =
                (0..random.up_to(1, 12)).map(|number| alias(&format!("h{number}"))).collect();
            let start = Instant::now();
            while start.elapsed() < secs(2 * 3600) {
                let mut callers = Vec::new();
                for _ in 0..random.up_to(1, 12) {
                    callers.push(stage.caller(random.pick_from(&hosts)).await);
                }
                if random.chance(30) {
                    stage.world.books(|truth| truth.configuration += 1);
                }
                pass(random.millis(0, 200)).await;
                for caller in callers {
                    match random.chance(10) {
                        true => caller.abort(),
                        false => drop(caller.await),
                    }
                }
                let longest = random.pick([100, 5_000, 120_000]);
                pass(random.millis(0, longest)).await;
                // A change may come at any time of a pause.
                stage.world.books(|truth| {
                    truth.hosts.iter_mut().for_each(HostTruth::forgets_failures);
                });
            }
            stage.world.condemn(|_| true);
            stage.pool.close(Duration::ZERO).await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_of_which_nothing_is_left_to_say_are_forgotten() {
    let ledger: Arc<Ledger> = Arc::default();
    let world = World::new(&config(2, 1));
    let fake = Fake { world: Arc::clone(&world) };
    let pool = Arc::new(Core::new(fake, config(2, 1), CAPACITY, Arc::clone(&ledger)));
    for number in 0..300 {
        drop(take(&pool, &world, &format!("h{number}").parse().unwrap()).await);
        assert!(ledger.accounts() <= 100, "{}", ledger.accounts());
    }
    world.condemn(|_| true);
    pool.close(Duration::ZERO).await;
}
