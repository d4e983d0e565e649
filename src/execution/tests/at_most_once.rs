//! A command that has begun, or may have, is never tried again. One that provably has not is, and
//! nobody hears of it.

use std::io;

use rstest::rstest;

use super::*;
use crate::transport::NotOpened;

/// What a caller is told.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Status(Option<i32>),
    Lost(&'static str),
}

fn told<T>(result: Result<T, Error>, status: impl FnOnce(T) -> ExitStatus) -> Result<Told, Error> {
    match result {
        Ok(done) => Ok(Told::Status(status(done).code())),
        Err(Error::Lost { reason, .. }) => Ok(Told::Lost(String::leak(reason))),
        Err(error) => Err(error),
    }
}

/// How a command is run.
#[derive(Clone, Copy, Debug)]
enum Way {
    Output,
    Status,
    Spawn,
}

const WAYS: [Way; 3] = [Way::Output, Way::Status, Way::Spawn];

async fn result(target: Target<Fake>, way: Way, request: Request) -> Result<Told, Error> {
    match way {
        Way::Output => told(super::super::output(target, request).await, |output| output.status),
        Way::Status => told(super::super::status(target, request).await, |status| status),
        Way::Spawn => match super::super::spawn(target, request).await {
            Ok(mut child) => told(child.wait().await, |status| status),
            Err(error) => told(Err(error), |status| status),
        },
    }
}

/// One stage for each way to run a command, and with and without a session in standby, in which the
/// first session does this.
async fn on_every_way(plan: Plan, check: impl AsyncFn(Stage, Way)) {
    for way in WAYS {
        let stage = Stage::warm(config(), 1).await;
        stage.plan(plan.clone());
        check(stage, way).await;
        check(Stage::with_standby(config(), plan.clone()).await, way).await;
    }
}

#[rstest]
#[case::exited(SessionEnd::Exited(3), Told::Status(Some(3)))]
#[case::exited_with_255(SessionEnd::Exited(255), Told::Status(Some(255)))]
#[case::killed(SessionEnd::Killed, Told::Status(None))]
#[case::lost(lost(), Told::Lost("the wire was cut"))]
#[case::client_killed(client_killed(), Told::Lost("somebody killed it"))]
// No session should say so of a command that has begun.
#[case::refused(refused(), Told::Lost("no more sessions"))]
#[case::not_reached(not_reached(), Told::Lost("nobody listens"))]
#[case::not_begun(SessionEnd::NotBegun, Told::Lost("its session has vanished"))]
#[tokio::test(start_paused = true)]
async fn what_has_begun_is_not_tried_again(#[case] end: SessionEnd, #[case] expected: Told) {
    for time in [Duration::ZERO, ms(20)] {
        let plan = Plan::begins().print("half").pass(time).end(end.clone());
        on_every_way(plan, async |stage, way| {
            let result = result(stage.target(), way, run("once")).await;
            assert_eq!(result.expect("no other error"), expected, "{way:?}");
            assert_eq!(stage.executed(), ["once"]);
            assert_eq!(
                stage.world.books(|books| books.sessions[0].command.take()).as_deref(),
                Some("once")
            );
        })
        .await;
    }
}

/// The same on a lease, whose commands have no other connection to go to.
#[rstest]
#[case::exited(SessionEnd::Exited(3), Told::Status(Some(3)))]
#[case::killed(SessionEnd::Killed, Told::Status(None))]
#[case::lost(lost(), Told::Lost("the wire was cut"))]
#[case::client_killed(client_killed(), Told::Lost("somebody killed it"))]
#[case::refused(refused(), Told::Lost("no more sessions"))]
#[case::not_reached(not_reached(), Told::Lost("nobody listens"))]
#[case::not_begun(SessionEnd::NotBegun, Told::Lost("its session has vanished"))]
#[tokio::test(start_paused = true)]
async fn what_has_begun_on_a_lease_is_not_tried_again(
    #[case] end: SessionEnd,
    #[case] expected: Told,
) {
    for way in WAYS {
        let stage = Stage::new(config());
        stage.plan(Plan::begins().pass(ms(20)).end(end.clone()));
        let lease = stage.lease().await;
        let result = result(stage.on(&lease), way, run("once")).await;
        assert_eq!(result.expect("no other error"), expected, "{way:?}");
        assert_eq!((stage.executed(), stage.sessions().len()), (vec!["once".to_owned()], 1));
    }
}

/// It ends without the sign, and the server may have executed it or not.
#[rstest]
#[case::killed(SessionEnd::Killed, Told::Status(None))]
#[case::lost(lost(), Told::Lost("the wire was cut"))]
#[case::client_killed(client_killed(), Told::Lost("somebody killed it"))]
#[tokio::test(start_paused = true)]
async fn what_may_have_begun_unheard_is_not_tried_again(
    #[case] end: SessionEnd,
    #[case] expected: Told,
) {
    for was_executed in [true, false] {
        let plan = if was_executed { Plan::new().begin_unheard() } else { Plan::new().read() };
        on_every_way(plan.pass(ms(20)).end(end.clone()), async |stage, way| {
            let before = stage.sessions().len();
            let result = result(stage.target(), way, run("once")).await;
            assert_eq!(result.expect("no other error"), expected, "{way:?}");
            assert_eq!(stage.executed().len(), usize::from(was_executed));
            let own = stage.sessions()[before..].iter().filter(|ahead| !**ahead).count();
            assert_eq!(own, usize::from(before == 0), "{way:?}");
        })
        .await;
    }
}

/// What start-up files wrote is all that there is to tell of it.
#[tokio::test(start_paused = true)]
async fn what_was_written_before_an_unheard_end_is_told() {
    for (first, last) in [("motd", ""), ("mo", "td"), ("", "motd")] {
        let plan = Plan::new().print(first).warn(first).read().pass(ms(20)).print(last).warn(last);
        let stage = Stage::new(config());
        let (_, partial) = loss(stage.plan(plan.clone().end(lost())).output(run("once")).await);
        assert_eq!(partial, written("motd", "motd"));
        let ended = stage.plan(plan.end(SessionEnd::Killed)).output(run("once")).await;
        let output = ended.expect("no error");
        let (stdout, stderr) = (output.stdout, output.stderr);
        assert_eq!(PartialOutput { stdout, stderr }, written("motd", "motd"));
    }
}

/// What is known of a connection from the end of a command on it.
#[rstest]
#[case::exited(SessionEnd::Exited(1), 1)]
#[case::killed(SessionEnd::Killed, 1)]
#[case::client_killed(client_killed(), 1)]
#[case::lost(lost(), 2)]
#[tokio::test(start_paused = true)]
async fn only_a_lost_connection_is_replaced(
    #[case] end: SessionEnd,
    #[case] logins: usize,
    #[values(true, false)] has_begun: bool,
) {
    for way in WAYS {
        let stage = Stage::new(config());
        let plan = if has_begun { Plan::begins() } else { Plan::new().read() };
        stage.plan(plan.pass(ms(20)).end(end.clone()));
        let _ = result(stage.target(), way, run("first")).await;
        assert!(stage.output(run("second")).await.expect("no error").status.success());
        // What a shell ended without a sign is tried again, on the same connection.
        assert_eq!(stage.logins(), logins, "{way:?}");
    }
}

#[rstest]
#[case::shell_ended(SessionEnd::Exited(0))]
#[case::shell_failed(SessionEnd::Exited(1))]
#[case::not_begun(SessionEnd::NotBegun)]
#[case::refused(refused())]
#[case::not_reached(not_reached())]
#[tokio::test(start_paused = true)]
async fn what_has_not_begun_is_tried_again_silently(#[case] end: SessionEnd) {
    on_every_way(Plan::ends_unbegun(end), async |stage, way| {
        let result = result(stage.target(), way, run("once")).await;
        assert_eq!(result.expect("no error"), Told::Status(Some(0)), "{way:?}");
        assert_eq!(stage.executed(), ["once"]);
        // Whatever the number of its attempts, it is one command.
        assert_eq!((stage.stats().commands_run, stage.stats().commands_timed_out), (1, 0));
    })
    .await;
}

/// The sign has come, although the end of the session is known as well.
#[tokio::test(start_paused = true)]
async fn a_sign_that_comes_with_the_end_counts() {
    let plan = Plan::begins().print("all of it").exit(1);
    on_every_way(plan, async |stage, way| {
        let result = result(stage.target(), way, run("once")).await;
        assert_eq!(result.expect("no error"), Told::Status(Some(1)), "{way:?}");
        assert_eq!(stage.executed(), ["once"]);
    })
    .await;
    let stage = Stage::new(config());
    // The end is told first, and the output is still on its way.
    let late = Plan::new().read().end(client_killed()).pass(ms(50)).begin().print("late");
    let (reason, partial) = loss(stage.plan(late).output(run("once")).await);
    assert_eq!((reason.as_str(), partial), ("somebody killed it", written("late", "")));
    assert_eq!(stage.executed(), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn a_host_whose_connections_go_at_once_gets_three_attempts() {
    let gone = |reason: &str| Plan::ends_unbegun(SessionEnd::NotReached(reason.to_owned()));
    for way in WAYS {
        let stage = Stage::warm(config(), 3).await;
        stage.plan(gone("first")).plan(gone("second")).plan(gone("third"));
        let error = result(stage.target(), way, run("never")).await.expect_err("an error");
        assert!(error.never_started());
        assert_eq!(error.to_string(), "web1: the command was not started: third");
        assert_eq!((stage.logins(), stage.sessions().len(), stage.executed().len()), (3, 3, 0));
    }
    let stage = Stage::warm(config(), 3).await;
    stage.plan(gone("first")).plan(gone("second"));
    let output = stage.output(run("once")).await.expect("the third attempt works");
    assert!(output.status.success());
    let connections: BTreeSet<_> = stage.connections().into_iter().collect();
    assert_eq!((stage.logins(), connections.len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_connection_is_gone_gets_no_other() {
    let stage = Stage::new(config());
    let lease = stage.lease().await;
    stage.plan(Plan::ends_unbegun(not_reached()));
    let result = super::super::output(stage.on(&lease), run("never")).await;
    assert_eq!(never_started(result), "nobody listens");
    assert_eq!((stage.logins(), stage.sessions().len(), stage.executed().len()), (1, 1, 0));
}

#[rstest]
#[case::closing(|| NotOpened::Closing)]
#[case::no_directory(|| NotOpened::NoDirectory(io::ErrorKind::NotFound.into()))]
#[tokio::test(start_paused = true)]
async fn without_a_session_another_connection_is_made(#[case] why: fn() -> NotOpened) {
    let stage = Stage::warm(config(), 1).await;
    stage.plan(Plan::not_opened(why));
    assert!(stage.output(run("once")).await.expect("no error").status.success());
    assert_eq!((stage.executed(), stage.connections()), (vec!["once".to_owned()], vec![1]));
    let lease = stage.lease().await;
    stage.plan(Plan::not_opened(why));
    let result = super::super::output(stage.on(&lease), run("never")).await;
    assert_eq!(never_started(result), why().to_string());
    assert_eq!(stage.executed(), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_room_for_a_process_says_so() {
    let stage = Stage::new(config());
    stage.plan(Plan::not_opened(|| NotOpened::NoProcess(io::ErrorKind::OutOfMemory.into())));
    let error = stage.output(run("never")).await.expect_err("an error");
    assert!(matches!(&error, Error::Io { what: "cannot start ssh", .. }), "{error:?}");
    assert!(error.never_started());
    assert_eq!((stage.executed().len(), stage.stats().open_sessions), (0, 0));
    // The connection is as good as before.
    assert!(stage.output(run("once")).await.expect("no error").status.success());
    assert_eq!(stage.logins(), 1);
}

/// Where no sign is given a command has begun when its session is open.
#[tokio::test(start_paused = true)]
async fn without_a_sign_only_a_session_that_was_not_opened_is_tried_again() {
    for end in [refused(), not_reached()] {
        let stage = Stage::warm(config(), 1).await;
        stage.world.books(|books| books.is_plain = true);
        stage.plan(Plan::ends_unbegun(end)).plan(Plan::begins().print("out").exit(4));
        let output = stage.output(run("once")).await.expect("no error");
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(4), &b"out"[..]));
        assert_eq!(stage.executed(), ["once"]);
    }
    let stage = Stage::new(config());
    stage.world.books(|books| books.is_plain = true);
    stage.plan(Plan::begins().print("out").end(lost()));
    let (reason, partial) = loss(stage.output(run("once")).await);
    assert_eq!((reason.as_str(), partial), ("the wire was cut", written("out", "")));
    assert_eq!(stage.executed(), ["once"]);
    // The status is known, and not that it was open: the one follows from the other.
    let output = stage.plan(Plan::new().begin_unheard().exit(5)).output(run("next")).await;
    assert_eq!(output.expect("no error").status.code(), Some(5));
    assert_eq!(stage.executed(), ["once", "next"]);
}
