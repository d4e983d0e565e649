//! Accounts with a forced command of one kind or other: it runs as often as it was asked for, and
//! what it says arrives.

use futures_util::StreamExt;
use rstest::rstest;
use sshpool::{Host, Pool, PoolConfig};
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::plain::{Plain, Seen};
use crate::lab::pooled::{PATIENCE, config, host, pool};

/// How often a forced command may run for the pool's own sake: once, when the pool gets to know the
/// host. It cannot know before that what it asks for is not what runs.
const PROBES: usize = 1;

/// How often the forced command ran that begins with [`NOTE`].
fn runs(sshd: &Sshd) -> usize {
    let counted = sshd.exec("wc -l <\"$HOME/runs\"");
    counted.stdout.trim().parse().unwrap_or_else(|_| panic!("no number: {counted:?}"))
}

const NOTE: &str = "echo run >>\"$HOME/runs\"";

/// Runs the same command so many times, some at once.
async fn run_all(
    pool: &Pool,
    host: &Host,
    count: usize,
    width: usize,
    input: &'static str,
    expected: &[u8],
) {
    let all = (0..count).map(|number| async move {
        let command = pool.shell(host, format!("echo {number}")).stdin(input);
        let ran = async {
            if number % 2 == 0 {
                command.output().await
            } else {
                command.spawn().await?.wait_with_output().await
            }
        };
        let output = timeout(PATIENCE, ran).await.expect("it ends").expect("it runs");
        assert!(
            output.stdout == expected,
            "{} bytes in place of {}",
            output.stdout.len(),
            expected.len()
        );
        output.status.code()
    });
    let codes: Vec<_> = futures_util::stream::iter(all).buffer_unordered(width).collect().await;
    assert!(codes.iter().all(|&code| code == Some(3)), "{codes:?}");
}

#[rstest]
#[case::reads_all("cat >/dev/null; echo done; exit 3", "", b"done\n")]
#[case::reads_all_input("cat >/dev/null; echo done; exit 3", "some input", b"done\n")]
#[case::reads_nothing("echo done; exit 3", "some input", b"done\n")]
#[case::repeats("cat; exit 3", "some input", b"some input")]
#[case::says_nothing("exit 3", "", b"")]
#[case::refuses("echo 'fatal: unrecognized command' >&2; exit 3", "", b"")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_command_runs_as_often_as_it_was_asked_for(
    #[case] forced: &str,
    #[case] input: &'static str,
    #[case] expected: &[u8],
    #[values(PoolConfig::default().standby_sessions, 0)] standby_sessions: usize,
) {
    let sshd = Sshd::builder().force_command(&format!("{NOTE}; {forced}")).start();
    // Few sessions for each, so that there are two connections.
    let settings =
        config().standby_sessions(standby_sessions).max_connections(2).sessions_per_connection(3);
    let (pool, host) = (pool(settings), host(&sshd));
    const COMMANDS: usize = 40;
    run_all(&pool, &host, COMMANDS, 6, input, expected).await;
    wait_for_async("the end of the last login", PATIENCE, || pool.stats().connecting == 0).await;
    pool.close().await;
    let (runs, logins) = (runs(&sshd), sshd.logins());
    assert!((COMMANDS..=COMMANDS + PROBES).contains(&runs), "{runs} runs for {COMMANDS} commands");
    assert!((1..=2).contains(&logins), "{logins} logins");
}

/// Such as one that notes who does what, or allows a little. One that lets the pool's question
/// through cannot be told from a shell: it sees what the commands come through, and not the
/// commands.
#[rstest]
#[case::by_another_shell("exec sh -c \"$SSH_ORIGINAL_COMMAND\"")]
#[case::by_itself("eval \"$SSH_ORIGINAL_COMMAND\"")]
#[case::if_it_is_simple(
    "case $SSH_ORIGINAL_COMMAND in *[!a-z0-9\\ ]*) echo no >&2; exit 9;; *) $SSH_ORIGINAL_COMMAND; exit 3;; esac"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_command_may_run_what_it_was_asked_for(
    #[case] forced: &str,
    #[values(PoolConfig::default().standby_sessions, 0)] standby_sessions: usize,
) {
    let sshd = Sshd::builder().force_command(forced).start();
    let (plain, host) = (Plain::start(&sshd), host(&sshd));
    let pool = pool(config().standby_sessions(standby_sessions));
    for round in 0..3 {
        for text in
            ["echo one", "wc -c", "cat", "false", "echo $HOME; echo err >&2; exit 4", "ls /nosuch"]
        {
            let by_ssh = plain.run(text, Some(b"some input")).await.expect("plain ssh ends");
            let ran = pool.shell(&host, text).stdin("some input").output();
            let pooled =
                Seen::from(timeout(PATIENCE, ran).await.expect("it ends").expect("it runs"));
            assert_eq!(pooled, by_ssh, "{text}, round {round}");
        }
    }
    assert_eq!(sshd.logins(), 2, "one of them is plain ssh's");
    pool.close().await;
}
