//! A command's time: when it begins, what it covers, and what is told when it is over.

use super::*;
use crate::execution::{output, status};

#[tokio::test(start_paused = true)]
async fn the_time_begins_with_the_first_session() {
    let stage = Stage::new(config());
    stage.world.books(|books| books.login = secs(3));
    stage.plan(Plan::begins().pass(ms(900)).exit(0));
    let before = Instant::now();
    // Neither the login nor the queue is a part of it.
    assert!(stage.output(within(secs(1), "slow login")).await.is_ok());
    assert_eq!(before.elapsed(), secs(3) + ms(900));
    let stage =
        Stage::new(PoolConfig { max_connections: 1, sessions_per_connection: 1, ..config() });
    let held = stage.lease().await;
    stage.plan(Plan::begins().pass(ms(900)).exit(0));
    let queued = tokio::spawn(output(stage.target(), within(secs(1), "queued")));
    sleep(secs(5)).await;
    drop(held);
    assert!(queued.await.expect("no panic").is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_time_goes_on_over_all_attempts() {
    let stage = Stage::warm(config(), 1).await;
    stage.plan(Plan::new().read().pass(ms(600)).end(not_reached()));
    stage.plan(Plan::begins().pass(ms(600)).exit(0));
    let lease_is_there = Instant::now();
    let (remote, _) = timed_out(stage.output(within(secs(1), "once")).await);
    // 10 ms for the ending.
    assert_eq!(Instant::now() - lease_is_there, ms(1010));
    assert_eq!((remote, stage.executed().len()), (Remote::Ended, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_the_timeout_is_told() {
    let plan = Plan::new().print("motd ").begin().print("out ").warn("err ").pass(ms(500));
    let stage = Stage::new(config());
    stage.plan(plan.clone().print("more").warn("more").pass(secs(9)).print("late").exit(0));
    let result = stage.output(within(secs(1), "once")).await;
    let Err(Error::TimedOut { host, after, remote, partial }) = result else {
        panic!("{result:?}")
    };
    assert_eq!((host.as_str(), after, remote), ("web1", secs(1), Remote::Ended));
    assert_eq!(*partial, written("motd out more", "err more"));
    assert_eq!(stage.stats().commands_timed_out, 1);
    // Whoever wants only a status gets none of it.
    let stage = Stage::new(config());
    stage.plan(plan);
    let (remote, partial) = timed_out(status(stage.target(), within(secs(1), "once")).await);
    assert_eq!(
        (remote, partial, stage.ended()),
        (Remote::Ended, written("", ""), vec![group_of(0)])
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_written_before_the_begin_is_told() {
    let stage = Stage::new(config());
    // The last of it may be the sign, and is not.
    stage.plan(Plan::new().print("motd ").warn("careful").pass(ms(500)).print("more\x1ebeg"));
    let (remote, partial) = timed_out(stage.output(within(secs(1), "never")).await);
    assert_eq!(partial, written("motd more\x1ebeg", "careful"));
    assert_eq!(remote, Remote::may_live_on("its shell has not told that it has begun"));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_failed_leaves_nothing_in_the_output() {
    let stage = Stage::new(config());
    stage.plan(Plan::new().print("first ").warn("first ").read().end(refused()));
    stage.plan(Plan::new().print("second ").begin().print("out"));
    let (_, partial) = timed_out(stage.output(within(secs(5), "once")).await);
    assert_eq!(partial, written("second out", ""));
}

#[tokio::test(start_paused = true)]
async fn only_captured_commands_have_a_time_by_default() {
    let settings = || PoolConfig { command_timeout: secs(2), ..config() };
    let plan = || Plan::begins().pass(secs(100)).exit(0);
    let stage = Stage::new(settings());
    let before = Instant::now();
    timed_out(stage.plan(plan()).output(run("captured")).await);
    assert_eq!(before.elapsed(), LOGIN + secs(2) + ms(10));
    timed_out(status(stage.plan(plan()).target(), run("status")).await);
    let never = Request { timeout: Timeout::Never, ..run("for ever") };
    assert!(stage.plan(plan()).output(never).await.is_ok());
    let mut child = stage.plan(plan()).spawn(run("spawned")).await.expect("a child");
    assert!(child.wait().await.expect("no error").success());
    let endless = within(Duration::MAX, "endless");
    assert!(stage.plan(plan()).output(endless).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ends_at_its_last_instant_has_ended() {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().pass(ms(999)).exit(0));
    assert!(stage.output(within(secs(1), "once")).await.is_ok());
    sleep(secs(10)).await;
    assert_eq!((stage.asked(), stage.stats().commands_timed_out), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn finding_out_about_input_is_a_part_of_the_time() {
    let stage = Stage::new(config());
    stage.world.books(|books| books.proving = secs(9));
    let request = Request { stdin: Stdin::Piped, ..within(secs(1), "never") };
    let before = Instant::now();
    let (remote, partial) = timed_out(stage.spawn(request).await);
    assert_eq!((remote, partial), (Remote::Ended, written("", "")));
    assert_eq!(before.elapsed(), LOGIN + secs(1));
    assert_eq!((stage.sessions().len(), stage.stats().commands_timed_out), (0, 1));
    assert_eq!(stage.stats().open_sessions, 0);
}
