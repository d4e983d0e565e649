//! A command that writes more than is kept.

use rstest::rstest;

use super::*;
use crate::execution::status;

/// The stream that was too long, what is left of the command, and what is kept.
fn excess<T: std::fmt::Debug>(result: Result<T, Error>) -> (&'static str, Remote, PartialOutput) {
    match result {
        Err(Error::OutputLimit { stream, limit: 4, remote, partial, .. }) => {
            (stream, remote, (*partial).clone())
        }
        other => panic!("another result: {other:?}"),
    }
}

fn four_bytes(text: &str) -> Request {
    Request { max_output: Some(4), ..run(text) }
}

#[rstest]
#[case::stdout(Plan::begins().warn("1").pass(ms(5)).print("12345"), "stdout", written("1234", "1"))]
#[case::stderr(Plan::begins().print("1").pass(ms(5)).warn("12345"), "stderr", written("1", "1234"))]
#[case::in_pieces(
    Plan::begins().print("12").pass(ms(5)).print("34").pass(ms(5)).print("56"),
    "stdout",
    written("1234", "")
)]
#[tokio::test(start_paused = true)]
async fn it_is_ended(#[case] plan: Plan, #[case] stream: &str, #[case] kept: PartialOutput) {
    let stage = Stage::new(config());
    stage.plan(plan);
    let (which, remote, partial) = excess(stage.output(four_bytes("once")).await);
    assert_eq!((which, remote, partial), (stream, Remote::Ended, kept));
    assert_eq!((stage.ended(), stage.stats().open_sessions), (vec![group_of(0)], 0));
    assert_eq!(stage.stats().commands_timed_out, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_of_it_is_told() {
    let stage = Stage::new(config());
    stage.plan(Plan::begins().print("12345")).ending(Ending::StillThere("it would not go"));
    let (_, remote, _) = excess(stage.output(four_bytes("once")).await);
    assert_eq!(remote, Remote::may_live_on("it would not go"));
}

/// One that has ended by itself is not ended, and its output is too much all the same.
#[tokio::test(start_paused = true)]
async fn it_may_have_ended() {
    for plan in [
        Plan::begins().print("12345").exit(0),
        Plan::new().print("12345").read().end(SessionEnd::Killed),
    ] {
        let stage = Stage::new(config());
        stage.plan(plan);
        let (which, remote, _) = excess(stage.output(four_bytes("once")).await);
        assert_eq!((which, stage.stats().open_sessions), ("stdout", 0));
        sleep(secs(10)).await;
        if stage.executed().is_empty() {
            assert_eq!((stage.asked(), remote), (0, Remote::Ended));
        } else {
            assert_eq!(remote, Remote::Ended);
        }
    }
}

/// Start-up files write without an end, and the command does not begin.
#[rstest]
#[case::stdout(Plan::new().print("123").pass(ms(5)).print("45"), "stdout")]
#[case::stderr(Plan::new().warn("123").pass(ms(5)).warn("45"), "stderr")]
#[tokio::test(start_paused = true)]
async fn so_may_start_up_files(#[case] plan: Plan, #[case] stream: &str) {
    let stage = Stage::new(config());
    stage.plan(plan);
    let (which, remote, _) = excess(stage.output(four_bytes("never")).await);
    assert_eq!(which, stream);
    assert_eq!(remote, Remote::may_live_on("its shell has not told that it has begun"));
    let stage = Stage::new(PoolConfig { max_output: 4, ..config() });
    stage.plan(Plan::new().print("12345").pass(ms(5)));
    let (which, ..) = excess(stage.spawn(run("never")).await);
    assert_eq!((which, stage.executed().len(), stage.stats().open_sessions), ("stdout", 0, 0));
}

#[tokio::test(start_paused = true)]
async fn up_to_the_limit_everything_is_kept() {
    let stage = Stage::new(config());
    stage.plan(Plan::new().print("12").begin().print("34").warn("1234").exit(0));
    let output = stage.output(four_bytes("once")).await.expect("no error");
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"1234"[..], &b"1234"[..]));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_has_no_limit() {
    let long = "x".repeat(200_000);
    let stage = Stage::new(PoolConfig { max_output: 4, ..config() });
    stage.plan(Plan::new().print(&long).warn(&long).begin().print(&long).warn(&long).exit(3));
    let ended = status(stage.target(), run("once")).await.expect("no error");
    assert_eq!(ended.code(), Some(3));
    // Who reads by himself has none, either.
    let stage = Stage::new(PoolConfig { max_output: 4, ..config() });
    stage.plan(Plan::begins().pass(ms(1)).print(&long).exit(0));
    let child = stage.spawn(run("once")).await.expect("a child");
    assert_eq!(child.wait_with_output().await.expect("no error").stdout.len(), long.len());
}
