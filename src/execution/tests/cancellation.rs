//! Nobody waits for a command any more: it is ended on its host, once, and its lease is given back.

use rstest::rstest;
use tokio::time::timeout;

use super::*;
use crate::execution::{output, status};

/// Drops a captured command after this time.
async fn drop_after(stage: &Stage, time: Duration, keeps_output: bool) {
    let is_over = match keeps_output {
        true => timeout(time, stage.output(run("once"))).await.is_ok(),
        false => timeout(time, status(stage.target(), run("once"))).await.is_ok(),
    };
    assert!(!is_over, "it was to be dropped before its end");
}

/// Sessions that somebody holds.
fn open(stage: &Stage) -> usize {
    stage.stats().open_sessions
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connection_leaves_nothing() {
    let stage = Stage::new(config());
    drop_after(&stage, LOGIN / 2, true).await;
    sleep(secs(10)).await;
    assert_eq!((stage.sessions().len(), stage.asked(), open(&stage)), (0, 0, 0));
    assert_eq!(stage.stats().commands_run, 0);
}

#[rstest]
#[case::never(Plan::new(), 0, secs(1))]
#[case::while_it_is_waited_for(Plan::new().pass(ms(500)).begin(), 1, ms(410))]
#[case::too_late(Plan::new().pass(ms(1200)).begin(), 0, secs(1))]
#[tokio::test(start_paused = true)]
async fn before_its_begin_a_command_is_waited_for_a_moment(
    #[case] plan: Plan,
    #[case] ended: usize,
    #[case] held: Duration,
    #[values(true, false)] keeps_output: bool,
) {
    let stage = Stage::new(config());
    stage.plan(plan);
    drop_after(&stage, LOGIN + ms(100), keeps_output).await;
    sleep(held - ms(1)).await;
    assert_eq!(open(&stage), 1);
    sleep(ms(2)).await;
    assert_eq!((open(&stage), stage.ended().len()), (0, ended));
    sleep(secs(10)).await;
    assert_eq!((stage.asked(), stage.logins()), (ended, 1));
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn a_command_that_runs_is_ended_once(#[values(true, false)] keeps_output: bool) {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().print("out")).ending(Ending::Works(ms(700)));
    drop_after(&stage, LOGIN + secs(2), keeps_output).await;
    // The server has its session until then.
    sleep(ms(699)).await;
    assert_eq!((stage.ended().len(), open(&stage)), (0, 1));
    sleep(ms(2)).await;
    assert_eq!((stage.ended(), open(&stage)), (vec![group_of(0)], 0));
    sleep(secs(10)).await;
    assert_eq!((stage.asked(), stage.world.living().len()), (1, 0));
    // It is as if nothing had been.
    assert!(stage.output(run("next")).await.expect("no error").status.success());
    assert_eq!((stage.logins(), stage.stats().commands_timed_out), (1, 0));
}

/// Its time is over, or it writes too much, and it is being ended.
#[rstest]
#[tokio::test(start_paused = true)]
async fn an_ending_goes_on_without_its_caller(#[values(true, false)] is_excess: bool) {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().pass(secs(1)).print("too much"));
    stage.ending(Ending::Works(ms(700)));
    let max_output = is_excess.then_some(3);
    let limit = if is_excess { secs(10) } else { secs(1) };
    let request = Request { max_output, ..within(limit, "once") };
    assert!(timeout(LOGIN + secs(1) + ms(300), stage.output(request)).await.is_err());
    assert_eq!((stage.asked(), stage.ended().len(), open(&stage)), (1, 0, 1));
    sleep(ms(401)).await;
    assert_eq!((stage.ended(), open(&stage)), (vec![group_of(0)], 0));
    sleep(secs(10)).await;
    assert_eq!(stage.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_between_two_attempts_leaves_nothing() {
    let stage = Stage::warm(config(), 1).await;
    stage.plan(Plan::new().read().pass(ms(10)).end(not_reached()));
    // The second login is under way.
    drop_after(&stage, ms(10) + LOGIN / 2, true).await;
    sleep(secs(10)).await;
    assert_eq!((stage.sessions().len(), stage.executed().len(), stage.asked()), (1, 0, 0));
    assert_eq!(open(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_given_back_behind_the_ending_of_its_command() {
    let stage = Stage::new(config());
    let lease = stage.lease().await;
    stage.plan(Plan::begins()).ending(Ending::Works(ms(700)));
    assert!(timeout(secs(1), output(stage.on(&lease), run("once"))).await.is_err());
    drop(lease);
    sleep(ms(699)).await;
    assert_eq!(open(&stage), 1);
    sleep(ms(2)).await;
    assert_eq!((stage.ended(), open(&stage)), (vec![group_of(0)], 0));
}

/// A caller's own runtime may be gone, or it has none: the command was begun in one that is there.
#[tokio::test(start_paused = true)]
async fn a_command_can_be_given_up_outside_of_any_runtime() {
    let stage = Stage::new(config());
    stage.plan(Plan::begins());
    let mut command = Box::pin(output(stage.target(), run("once")));
    assert!(timeout(secs(1), &mut command).await.is_err());
    std::thread::spawn(move || drop(command)).join().expect("no panic");
    sleep(ms(20)).await;
    assert_eq!((stage.ended(), open(&stage)), (vec![group_of(0)], 0));
}
