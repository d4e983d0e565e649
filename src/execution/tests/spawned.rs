//! What is different for a command that is handed out.

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

fn open(stage: &Stage) -> usize {
    stage.stats().open_sessions
}

#[tokio::test(start_paused = true)]
async fn its_streams_are_those_of_the_session_that_has_begun() {
    let stage = Stage::new(config());
    stage.plan(Plan::new().print("first").warn("first").read().end(refused()));
    stage.plan(
        Plan::new()
            .print("motd ")
            .warn("careful ")
            .begin()
            .pass(ms(50))
            .print("out")
            .warn("err")
            .exit(3),
    );
    let child = stage.spawn(run("once")).await.expect("a child");
    let output = child.wait_with_output().await.expect("no error");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(
        (output.stdout.as_slice(), output.stderr.as_slice()),
        (&b"motd out"[..], &b"careful err"[..])
    );
    assert_eq!((stage.executed(), open(&stage)), (vec!["once".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn its_input_is_what_its_caller_writes() {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().read_input().exit(0)).plan(Plan::begins().read_input().exit(0));
    let mut child =
        stage.spawn(Request { stdin: Stdin::Piped, ..run("piped") }).await.expect("a child");
    let mut stdin = child.stdin.take().expect("it was asked for");
    stdin.write_all(b"some of it").await.expect("it is read");
    sleep(secs(1)).await;
    assert_eq!(open(&stage), 1);
    drop(stdin);
    assert!(child.wait().await.expect("no error").success());
    let mut child =
        stage.spawn(Request { stdin: "given".into(), ..run("given") }).await.expect("a child");
    assert!(child.stdin.is_none());
    assert!(child.wait().await.expect("no error").success());
    let inputs = stage
        .world
        .books(|books| books.sessions.iter().map(|facts| facts.input.clone()).collect::<Vec<_>>());
    assert_eq!(inputs, ["some of it", "given"]);
}

/// Its error has no output, as the streams have it.
#[tokio::test(start_paused = true)]
async fn its_time_is_over() {
    for (ending, remote) in [
        (Ending::Works(ms(700)), Remote::Ended),
        (Ending::StillThere("it would not go"), Remote::may_live_on("it would not go")),
    ] {
        let stage = Stage::new(config());
        stage.plan(Plan::begins().print("out")).ending(ending);
        let mut child = stage.spawn(within(secs(1), "once")).await.expect("a child");
        let began = Instant::now();
        let mut stdout = child.stdout.take().expect("it is there");
        assert_eq!(timed_out(child.wait().await), (remote.clone(), written("", "")));
        let time = if remote == Remote::Ended { ms(1700) } else { secs(1) };
        assert_eq!((began.elapsed(), open(&stage)), (time, 0));
        let mut text = String::new();
        stdout.read_to_string(&mut text).await.expect("it does not fail");
        assert_eq!((text.as_str(), stage.stats().commands_timed_out), ("out", 1));
        // Every call gives the same, and so does the end.
        assert_eq!(timed_out(child.wait().await).0, remote);
        assert_eq!(child.end().await, remote);
        assert_eq!(stage.asked(), 1);
    }
}

/// What was cut off leaves its stderr open as long as the command lives on.
#[rstest]
#[case::lost(lost(), "the wire was cut")]
#[case::client_killed(client_killed(), "somebody killed it")]
#[tokio::test(start_paused = true)]
async fn its_streams_end_with_its_session(#[case] end: SessionEnd, #[case] reason: &str) {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().pass(ms(50)).print("out").warn("err").end(end)).ending(Ending::Hangs);
    let child = stage.spawn(run("once")).await.expect("a child");
    let ended = timeout(secs(1), child.wait_with_output()).await.expect("it does not hang");
    let (why, partial) = loss(ended);
    assert_eq!((why.as_str(), partial), (reason, written("out", "err")));
    assert_eq!(stage.executed(), ["once"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_lost_one_is_told() {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().pass(ms(50)).end(lost()));
    let child = stage.spawn(run("once")).await.expect("a child");
    sleep(ms(100)).await;
    assert_eq!(child.end().await, Remote::may_live_on("the wire was cut"));
}

/// How a caller gets rid of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Riddance {
    Drop,
    Kill,
    End,
    DropWhileItIsReadToItsEnd,
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn it_is_ended_once(
    #[values(Riddance::Drop, Riddance::Kill, Riddance::End, Riddance::DropWhileItIsReadToItsEnd)]
    riddance: Riddance,
) {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().print("out")).ending(Ending::Works(ms(700)));
    let mut child = stage.spawn(run("once")).await.expect("a child");
    sleep(secs(1)).await;
    let began = Instant::now();
    match riddance {
        Riddance::Drop => drop(child),
        Riddance::Kill => {
            child.kill();
            let status = child.wait().await.expect("no error");
            assert_eq!((status.code(), began.elapsed()), (None, ms(700)));
        }
        Riddance::End => {
            assert_eq!((child.end().await, began.elapsed()), (Remote::Ended, ms(700)));
        }
        Riddance::DropWhileItIsReadToItsEnd => {
            assert!(timeout(ms(100), child.wait_with_output()).await.is_err());
        }
    }
    if began.elapsed() < ms(700) {
        assert_eq!((stage.ended().len(), open(&stage)), (0, 1));
    }
    sleep(secs(1)).await;
    assert_eq!((stage.ended(), open(&stage)), (vec![group_of(0)], 0));
    sleep(secs(10)).await;
    assert_eq!((stage.asked(), stage.stats().commands_timed_out), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn its_end_tells_what_is_left() {
    for (plan, reason) in [
        (Plan::begins(), "it would not go"),
        (Plan::begins().groupless(), "the server gives commands no process group of their own"),
    ] {
        let stage = Stage::new(config());
        stage.plan(plan).ending(Ending::StillThere("it would not go"));
        let child = stage.spawn(run("once")).await.expect("a child");
        assert_eq!(child.end().await, Remote::may_live_on(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_ended_that_has_ended() {
    let stage = Stage::new(config());
    let mut child = stage.spawn(run("waited for")).await.expect("a child");
    assert!(child.wait().await.expect("no error").success());
    assert_eq!(child.end().await, Remote::Ended);
    let child = stage.spawn(run("not waited for")).await.expect("a child");
    sleep(secs(1)).await;
    drop(child);
    sleep(secs(10)).await;
    assert_eq!((stage.asked(), open(&stage)), (0, 0));
}

/// Its caller goes while it is being started.
#[rstest]
#[case::never(Plan::new(), 0)]
#[case::begins_then(Plan::new().pass(ms(500)).begin(), 1)]
#[tokio::test(start_paused = true)]
async fn before_its_begin_it_is_waited_for_a_moment(#[case] plan: Plan, #[case] ended: usize) {
    let stage = Stage::new(config());
    stage.plan(plan);
    assert!(timeout(LOGIN + ms(100), stage.spawn(run("once"))).await.is_err());
    assert_eq!(open(&stage), 1);
    sleep(ms(1001)).await;
    assert_eq!((open(&stage), stage.ended().len()), (0, ended));
}

/// It has ended before it could be handed out.
#[tokio::test(start_paused = true)]
async fn an_early_end_is_handed_out() {
    let stage = Stage::new(config());
    stage.plan(Plan::new().print("out").warn("err").read().pass(ms(50)).end(SessionEnd::Killed));
    let child = stage.spawn(run("once")).await.expect("a child");
    let output = child.wait_with_output().await.expect("no error");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (None, &b"out"[..]));
    assert_eq!((output.stderr.as_slice(), open(&stage)), (&b"err"[..], 0));
}
