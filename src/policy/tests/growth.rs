//! When another login is begun where sessions run one command after another.

use super::plan::Plan;
use super::world::Truth;
use super::*;

fn reusing(max: usize, sessions: usize) -> PoolConfig {
    PoolConfig { session_reuse: SessionReuse::Exact, ..config(max, sessions) }
}

/// So many callers at once, each of which holds its session for so long. Completes when all are
/// done.
async fn burst(stage: &Arc<Stage>, callers: usize, hold: Duration) {
    let all: Vec<_> = (0..callers)
        .map(|_| {
            let stage = Arc::clone(stage);
            tokio::spawn(async move {
                let held = stage.take(&web1()).await;
                sleep(hold).await;
                drop(held);
            })
        })
        .collect();
    for caller in all {
        caller.await.unwrap();
    }
}

fn logins(stage: &Stage) -> Vec<Instant> {
    let started = |truth: &mut Truth| truth.logins().map(|(at, _)| *at).collect::<Vec<_>>();
    stage.world.books(started)
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_short_commands_has_one_login() {
    let stage = Arc::new(Stage::new(reusing(5, 8)));
    let start = Instant::now();
    burst(&stage, 200, ms(2)).await;
    assert_eq!(start.elapsed(), LOGIN + 25 * ms(2));
    burst(&stage, 200, ms(2)).await;
    assert_eq!(logins(&stage), [start]);
}

#[tokio::test(start_paused = true)]
async fn a_few_long_commands_do_not_wait_for_each_other() {
    let stage = Arc::new(Stage::new(reusing(5, 2)));
    let start = Instant::now();
    burst(&stage, 5, secs(10)).await;
    // Nothing is known at first: then they wait for as long as a login takes.
    let second = start + LOGIN + LOGIN;
    assert_eq!(logins(&stage), [start, second, second]);
    assert_eq!(start.elapsed(), 3 * LOGIN + secs(10));
}

#[tokio::test(start_paused = true)]
async fn where_commands_are_known_to_be_long_a_login_is_begun_at_once() {
    let stage = Arc::new(Stage::new(reusing(3, 1)));
    burst(&stage, 1, secs(1)).await;
    let start = Instant::now();
    burst(&stage, 2, secs(1)).await;
    assert_eq!(logins(&stage)[1..], [start]);
    assert_eq!(start.elapsed(), LOGIN + secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_lasts_longer_than_a_login_has_one() {
    let stage = Arc::new(Stage::new(reusing(2, 8)));
    burst(&stage, 8, ms(10)).await;
    let start = Instant::now();
    // All but eight wait, the last ones for 90 ms, and then for 110.
    burst(&stage, 80, ms(10)).await;
    assert_eq!(stage.logins(), 1);
    burst(&stage, 96, ms(10)).await;
    assert_eq!(stage.logins(), 2);
    assert!(start.elapsed() < secs(1), "{:?}", start.elapsed());
}

/// One long command among short ones: the average says nothing of it.
#[tokio::test(start_paused = true)]
async fn nobody_waits_much_longer_than_a_login_takes() {
    let stage = Arc::new(Stage::new(reusing(2, 1)));
    for _ in 0..20 {
        burst(&stage, 1, ms(1)).await;
    }
    let long = stage.take(&web1()).await;
    let start = Instant::now();
    drop(stage.take(&web1()).await);
    assert_eq!(start.elapsed(), 2 * LOGIN);
    drop(long);
}

/// A login that fails meanwhile takes no session away.
#[tokio::test(start_paused = true)]
async fn a_login_that_was_worth_it_and_fails_turns_nobody_away() {
    let stage = Arc::new(Stage::new(reusing(2, 1)));
    burst(&stage, 1, secs(1)).await;
    stage.world.plan([Plan::fails(ConnectErrorKind::Refused)]);
    let start = Instant::now();
    burst(&stage, 2, secs(1)).await;
    assert_eq!(stage.logins(), 3, "another one served the second caller");
    assert!(start.elapsed() < secs(2));
}
