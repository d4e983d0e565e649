//! What becomes of a command on its host that is given up, and what is told of it.

use rstest::rstest;

use super::*;
use crate::execution::output;
use crate::execution::running::SEARCH;
use crate::transport::ENDING;

const TIME: Duration = secs(1);

/// Runs into its time, and gives what is told and how long the ending took.
async fn end(stage: &Stage) -> (Remote, Duration) {
    let lease = Instant::now() + if stage.logins() == 0 { LOGIN } else { Duration::ZERO };
    let (remote, _) = timed_out(stage.output(within(TIME, "once")).await);
    (remote, lease.elapsed() - TIME)
}

fn lives_on(reason: &str) -> Remote {
    Remote::may_live_on(reason)
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_known_is_ended() {
    let stage = Stage::new(config());
    stage.plan(Plan::begins()).ending(Ending::Works(ms(700)));
    assert_eq!(end(&stage).await, (Remote::Ended, ms(700)));
    assert_eq!((stage.ended(), stage.world.living().len()), (vec![group_of(0)], 0));
    assert_eq!(stage.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_without_a_group_may_live_on() {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().groupless());
    let reason = "the server gives commands no process group of their own";
    assert_eq!(end(&stage).await, (lives_on(reason), Duration::ZERO));
    let stage = Stage::new(config());
    stage.world.books(|books| books.is_plain = true);
    stage.plan(Plan::begins());
    let reason = "without a POSIX shell its process group is not known";
    assert_eq!(end(&stage).await, (lives_on(reason), Duration::ZERO));
    assert_eq!(stage.asked(), 0);
}

#[rstest]
#[case::never(Plan::new(), lives_on("its shell has not told that it has begun"), secs(1))]
#[case::too_late(
    Plan::new().pass(TIME + ms(1100)).begin(),
    lives_on("its shell has not told that it has begun"),
    secs(1)
)]
#[case::in_time(Plan::new().pass(TIME + ms(500)).begin(), Remote::Ended, ms(510))]
#[case::in_time_without_a_group(
    Plan::new().pass(TIME + ms(500)).begin().groupless(),
    lives_on("the server gives commands no process group of their own"),
    ms(500)
)]
#[case::ends_meanwhile(Plan::new().read().pass(TIME + ms(500)).exit(1), Remote::Ended, ms(501))]
#[case::runs_meanwhile(Plan::new().pass(TIME + ms(500)).begin().exit(0), Remote::Ended, ms(510))]
#[tokio::test(start_paused = true)]
async fn what_has_not_begun_is_waited_for_a_moment(
    #[case] plan: Plan,
    #[case] remote: Remote,
    #[case] time: Duration,
) {
    let stage = Stage::new(config());
    stage.plan(plan);
    assert_eq!(end(&stage).await, (remote, time));
}

#[rstest]
#[case::still_there(Ending::StillThere("it would not go"), "it would not go", 1)]
#[case::not_here(Ending::NotHere("nobody answers"), "nobody answers", 1)]
#[tokio::test(start_paused = true)]
async fn an_ending_that_fails_says_why(
    #[case] ending: Ending,
    #[case] reason: &str,
    #[case] asked: usize,
) {
    let stage = Stage::new(config());
    stage.plan(Plan::begins()).ending(ending);
    assert_eq!(end(&stage).await, (lives_on(reason), Duration::ZERO));
    assert_eq!((stage.asked(), stage.ended().len()), (asked, 0));
    assert_eq!(stage.world.living(), [group_of(0)]);
}

#[tokio::test(start_paused = true)]
async fn another_connection_ends_what_its_own_cannot() {
    for ending in [Ending::NotHere("nobody answers"), Ending::Refused] {
        let stage =
            Stage::new(PoolConfig { max_connections: 2, sessions_per_connection: 1, ..config() });
        let other = stage.lease().await;
        stage.world.books(|books| books.login = Duration::ZERO);
        stage.plan(Plan::begins()).ending(ending);
        let (remote, time) = end(&stage).await;
        assert_eq!((remote, time), (Remote::Ended, ms(10)));
        let asked = stage.world.books(|books| books.asked.clone());
        assert_eq!(asked, [(group_of(0), 1, None), (group_of(0), 0, None)]);
        drop(other);
    }
}

#[tokio::test(start_paused = true)]
async fn an_ending_takes_a_session_in_standby() {
    let stage = Stage::new(PoolConfig { standby_sessions: 2, ..config() });
    stage.world.books(|books| books.ahead.push_back(Plan::begins()));
    stage.warm_up(1).await;
    assert_eq!(stage.stats().standby_sessions, 2);
    assert_eq!(end(&stage).await, (Remote::Ended, ms(10)));
    // The command has taken the first one.
    assert_eq!(stage.world.books(|books| books.asked.clone()), [(group_of(0), 0, Some(1))]);
    assert_eq!(stage.ended(), [group_of(0)]);
}

/// A command that was not taken whole cannot begin any more once nothing more comes.
#[tokio::test(start_paused = true)]
async fn a_shell_that_waits_for_the_rest_of_its_command_ends() {
    let stage = Stage::warm(config(), 1).await;
    stage.plan(Plan::new().pass(TIME + ms(100)).begin());
    let before = Instant::now();
    let long = "x".repeat(100_000);
    let (remote, _) = timed_out(stage.output(within(TIME, &long)).await);
    assert_eq!((remote, before.elapsed()), (Remote::Ended, TIME + ms(101)));
    assert!(stage.executed().is_empty() && stage.asked() == 0);
}

/// The server frees a session a moment later.
#[tokio::test(start_paused = true)]
async fn an_ending_that_is_refused_is_tried_again() {
    let one = PoolConfig { max_connections: 1, sessions_per_connection: 1, ..config() };
    let stage = Stage::new(one);
    stage.plan(Plan::begins());
    for _ in 0..3 {
        stage.ending(Ending::Refused);
    }
    assert_eq!(end(&stage).await, (Remote::Ended, ms(3 * 50 + 10)));
    assert_eq!((stage.asked(), stage.ended()), (4, vec![group_of(0)]));
    assert_eq!(stage.logins(), 1);
}

/// A queue for a session is not left because one of the connections goes meanwhile.
#[tokio::test(start_paused = true)]
async fn an_ending_that_is_queued_waits_for_its_turn() {
    let one = PoolConfig { max_connections: 1, sessions_per_connection: 1, ..config() };
    let stage = Stage::new(one);
    stage.plan(Plan::begins()).ending(Ending::Refused).ending(Ending::NotHere("nobody answers"));
    assert_eq!(end(&stage).await, (Remote::Ended, ms(2 * 50 + 10)));
    assert_eq!((stage.asked(), stage.ended()), (3, vec![group_of(0)]));
}

/// What a server allows is known from its refusal, and the session is looked for elsewhere.
#[tokio::test(start_paused = true)]
async fn where_a_connection_is_full_another_one_is_made() {
    let stage = Stage::new(PoolConfig { sessions_per_connection: 2, ..config() });
    stage.world.books(|books| books.full.insert(0));
    stage.plan(Plan::begins());
    let (remote, time) = end(&stage).await;
    assert_eq!((remote, stage.ended()), (Remote::Ended, vec![group_of(0)]));
    assert!((LOGIN..LOGIN + ms(70)).contains(&time), "{time:?}");
    assert_eq!(
        stage.world.books(|books| books.asked.last().copied()),
        Some((group_of(0), 1, None))
    );
}

/// What is refused for too long may be for want of the session that is to be ended: the connection
/// is given up, so that another one has room.
#[tokio::test(start_paused = true)]
async fn a_connection_that_always_refuses_is_replaced() {
    let one = PoolConfig { max_connections: 1, sessions_per_connection: 1, ..config() };
    let stage = Stage::new(one);
    stage.world.books(|books| books.full.insert(0));
    stage.plan(Plan::begins());
    let (remote, time) = end(&stage).await;
    assert_eq!((remote, stage.ended()), (Remote::Ended, vec![group_of(0)]));
    assert!((ms(500)..ms(800)).contains(&time), "{time:?}");
    assert_eq!(stage.logins(), 2);
}

/// What a server says to the ending that has nothing to do with the command's time.
#[tokio::test(start_paused = true)]
async fn an_ending_is_given_up_after_six_seconds() {
    let most = SEARCH + ENDING;
    assert_eq!(most, secs(6));
    let stage = Stage::new(config());
    stage.plan(Plan::begins()).ending(Ending::Hangs);
    assert_eq!(end(&stage).await, (lives_on("there was no session to end it over"), most));
    // Refused everywhere, while others hold what there is.
    let two = PoolConfig { max_connections: 1, sessions_per_connection: 2, ..config() };
    let stage = Stage::new(two);
    stage.world.books(|books| books.full.insert(0));
    let others = stage.lease().await;
    stage.plan(Plan::begins());
    assert_eq!(end(&stage).await, (lives_on("there was no session to end it over"), most));
    assert!(stage.asked() > 50 && stage.ended().is_empty());
    drop(others);
    // Behind the wait for a command that has not begun.
    let stage = Stage::new(config());
    stage.plan(Plan::new().pass(TIME + ms(900)).begin()).ending(Ending::Hangs);
    let reason = "there was no session to end it over";
    assert_eq!(end(&stage).await, (lives_on(reason), ms(900) + most));
}

/// Where a server has one session to spare it may be the one in standby, which is for those who
/// have a lease there.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_queued_for_may_be_in_standby() {
    let stage = Stage::new(PoolConfig {
        max_connections: 2,
        sessions_per_connection: 2,
        standby_sessions: 1,
        ..config()
    });
    let held = [stage.lease().await, stage.lease().await, stage.lease().await];
    drop(stage.lease().await);
    sleep(secs(1)).await;
    assert_eq!(held.each_ref().map(|lease| lease.connection().id), [0, 0, 1]);
    assert_eq!(stage.stats().standby_sessions, 1);
    stage.world.books(|books| books.full.extend([0, 1]));
    stage.plan(Plan::begins());
    let before = Instant::now();
    let (remote, _) = timed_out(output(stage.on(&held[0]), within(TIME, "once")).await);
    assert_eq!((remote, &stage.connections()[..2]), (Remote::Ended, &[1, 0][..]));
    assert!(before.elapsed() <= TIME + ms(60), "{:?}", before.elapsed());
    let asked = stage.world.books(|books| books.asked.clone());
    let group = group_of(1);
    assert_eq!(asked.first(), Some(&(group, 0, None)));
    assert_eq!(asked.last(), Some(&(group, 1, Some(0))));
}

/// While a session is queued for, it is the want of one that is told.
#[tokio::test(start_paused = true)]
async fn in_vain_queued_for_is_what_is_told() {
    let settings = PoolConfig { max_connections: 2, sessions_per_connection: 2, ..config() };
    let stage = Stage::new(settings);
    let others = [stage.lease().await, stage.lease().await, stage.lease().await];
    assert_eq!((others[0].connection().id, others[2].connection().id), (0, 1));
    stage.world.books(|books| books.full.insert(0));
    stage.plan(Plan::begins());
    for _ in 0..1000 {
        stage.ending(Ending::NotHere("nobody answers"));
    }
    let (remote, time) = end(&stage).await;
    assert_eq!((remote, time), (lives_on("there was no session to end it over"), SEARCH + ENDING));
    assert_eq!(stage.connections(), [1]);
}

/// The local part has gone with the connection, and the command lives on.
#[rstest]
#[case::lost(lost())]
#[case::client_killed(client_killed())]
#[tokio::test(start_paused = true)]
async fn what_has_lost_its_session_is_told_as_lost(#[case] end: SessionEnd) {
    let stage = Stage::new(config());
    stage
        .plan(Plan::begins().print("out").pass(ms(500)).end(end.clone()).pass(ms(50)).print("put"));
    let before = Instant::now() + LOGIN;
    let (_, partial) = loss(stage.output(within(secs(1), "once")).await);
    // What is on its way is read for a moment.
    assert_eq!((partial, before.elapsed()), (written("output", ""), ms(600)));
    sleep(secs(1)).await;
    // A killed local ssh leaves a connection over which the command can be ended.
    let is_ended = matches!(end, SessionEnd::ClientKilled(_));
    assert_eq!(
        (stage.ended().len(), stage.asked()),
        (usize::from(is_ended), usize::from(is_ended))
    );
    assert_eq!(stage.stats().open_sessions, 0);
}
