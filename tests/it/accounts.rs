//! What accounts are like: their start-up files, their shells, forced commands and session limits.
//! Through the pool all of it is as with plain ssh, with sessions in standby and without.

use std::time::Duration;

use rstest::rstest;
use sshpool::{Error, Host, Output, Pool, SessionReuse, Stdin};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lab::common::sshd::{Builder, Sshd};
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{self, PATIENCE, command, config, host, pool};

/// The shells that read a file whenever they start for a command, and that file.
const BASH: (&str, &str) = ("/bin/bash", ".bashrc");
const ZSH: (&str, &str) = ("/usr/bin/zsh", ".zshenv");

/// What a command came to by plain ssh.
fn plain(sshd: &Sshd, text: &str) -> (Option<i32>, Vec<u8>, Vec<u8>) {
    let mut ssh = command("ssh");
    ssh.arg("-F").arg(sshd.ssh_config()).args([
        "-o",
        "BatchMode=yes",
        "-o",
        "LogLevel=ERROR",
        "-n",
        "lab",
    ]);
    let output = ssh.arg(text).output().expect("ssh starts");
    (output.status.code(), output.stdout, output.stderr)
}

fn parts(output: Output) -> (Option<i32>, Vec<u8>, Vec<u8>) {
    (output.status.code(), output.stdout, output.stderr)
}

/// Puts this into the start-up file.
fn start_up(sshd: &Sshd, file: &str, text: &str) {
    let written = sshd.exec(&format!("cat >~/{file} <<'END'\n{text}\nEND"));
    assert_eq!(written.code(), 0, "{}", written.stderr);
}

/// Runs each text in every way that there is, and compares it with plain ssh.
async fn is_plain(sshd: &Sshd, texts: &[&str]) {
    for standby_sessions in [2, 0] {
        let (pool, host) = (pool(config().standby_sessions(standby_sessions)), host(sshd));
        for text in texts {
            let expected = plain(sshd, text);
            // The second one may find a session in standby.
            for _ in 0..2 {
                let output = pool.shell(&host, *text).output().await.expect("it runs");
                assert_eq!(parts(output), expected, "{text:?}, {standby_sessions} in standby");
                standby_is_there(&pool).await;
            }
            let child = pool.shell(&host, *text).spawn().await.expect("it starts");
            let output = child.wait_with_output().await.expect("it ends");
            assert_eq!(
                parts(output),
                expected,
                "{text:?}, streamed, {standby_sessions} in standby"
            );
            let status = pool.shell(&host, *text).status().await.expect("it runs");
            assert_eq!(status.code(), expected.0);
        }
        let stats = pool.stats();
        assert_eq!(stats.standby_hits > 0, standby_sessions > 0, "{stats:?}");
        assert_eq!(
            (stats.plain_connections, sshd.log().matches("Starting session: shell").count()),
            (0, 0)
        );
        pool.close().await;
    }
}

async fn standby_is_there(pool: &Pool) {
    let wanted = pool.config().standby_sessions;
    wait_for_async("the sessions in standby", PATIENCE, || pool.stats().standby_sessions == wanted)
        .await;
}

#[rstest]
#[case::line("echo noise")]
#[case::no_line_end("printf noise")]
#[case::on_stderr("echo noise >&2")]
#[case::what_looks_like_a_marker("printf '\\036sshpool-0123456789abcdef 12\\n\\036'")]
#[case::more_than_a_pipe_holds(
    "i=0; while [ $i -lt 2000 ]; do echo 'a line of noise that is fifty bytes long, or so it is'; i=$((i+1)); done"
)]
#[case::more_than_a_pipe_holds_on_stderr(
    "i=0; while [ $i -lt 2000 ]; do echo 'a line of noise that is fifty bytes long, or so it is' >&2; i=$((i+1)); done"
)]
#[case::sleep("sleep 0.3")]
#[case::options("set -u; set -e")]
#[case::exported("export sshpool=theirs c=theirs; IFS=:")]
#[tokio::test]
async fn a_start_up_file_is_as_with_plain_ssh(
    #[values(BASH, ZSH)] (shell, file): (&str, &str),
    #[case] text: &str,
) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    start_up(&sshd, file, text);
    is_plain(&sshd, &["echo out; echo err >&2; exit 3", "cat", "true"]).await;
}

#[rstest]
#[tokio::test]
async fn what_a_start_up_file_defines_is_there(#[values(BASH, ZSH)] (shell, file): (&str, &str)) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    start_up(
        &sshd,
        file,
        "greet() { echo \"hello $1\"; return 4; }\nnumber=7\nexport word=exported\ncd /tmp",
    );
    is_plain(&sshd, &["greet you", "echo $number; sh -c 'echo $word$number'; pwd"]).await;
}

#[rstest]
#[tokio::test]
async fn a_start_up_file_that_ends_the_shell_is_as_with_plain_ssh() {
    let Some(sshd) = Sshd::builder().login_shell(BASH.0).start_or_skip() else { return };
    start_up(&sshd, BASH.1, "[ ! -e ~/closed ] || { echo closed >&2; exit 9; }");
    // One that runs several commands has read the file for all of them.
    let (pool, host) = (pool(config().session_reuse(SessionReuse::Off)), host(&sshd));
    pool.exec(&host, "true").await.expect("it runs");
    standby_is_there(&pool).await;
    // Sessions in standby have read the file before.
    sshd.exec("touch ~/closed");
    for _ in 0..2 {
        pool.exec(&host, "true").await.expect("it runs");
    }
    let closed =
        || async { parts(pool.shell(&host, "echo open").output().await.expect("it runs")) };
    let expected = plain(&sshd, "echo open");
    assert_eq!(expected.0, Some(9));
    for _ in 0..4 {
        assert_eq!(closed().await, expected);
    }
    sshd.exec("rm ~/closed");
    assert_eq!(closed().await.1, b"open\n");
    pool.close().await;
}

/// The line that a start-up file takes is the command's own input, as with plain ssh, and not what
/// the pool writes.
#[rstest]
#[tokio::test]
async fn a_start_up_file_that_reads_gets_the_input_of_a_command_that_is_written_to() {
    let Some(sshd) = Sshd::builder().login_shell(BASH.0).start_or_skip() else { return };
    start_up(&sshd, BASH.1, "read line; echo \"got <$line>\"");
    let (pool, host) = (pool(config()), host(&sshd));
    for _ in 0..3 {
        let command = pool.shell(&host, "cat").stdin(Stdin::Piped).timeout(PATIENCE);
        let mut child =
            timeout(PATIENCE, command.spawn()).await.expect("in time").expect("it begins");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(b"one\ntwo\n").await.expect("it is read");
        drop(stdin);
        let output =
            timeout(PATIENCE, child.wait_with_output()).await.expect("in time").expect("it ends");
        assert_eq!(parts(output), (Some(0), b"got <one>\ntwo\n".to_vec(), Vec::new()));
    }
    assert_eq!(pool.stats().plain_connections, 1);
    pool.close().await;
}

/// Shells of hardened servers end when nothing comes for a while.
#[rstest]
#[tokio::test]
async fn a_standby_whose_shell_has_ended_costs_nothing() {
    let Some(sshd) = Sshd::builder().login_shell(BASH.0).start_or_skip() else { return };
    start_up(&sshd, BASH.1, "TMOUT=1");
    let (pool, host) = (pool(config()), host(&sshd));
    for round in 0..12 {
        assert_eq!(
            pool.exec(&host, &format!("echo {round}")).await.expect("it runs"),
            round.to_string()
        );
        // Now before the shells end, now after it, now just when they do.
        tokio::time::sleep(Duration::from_millis(400 + 115 * round)).await;
    }
    assert_eq!(sshd.logins(), 1);
    assert_eq!(pool.stats().commands_run, 12);
    pool.close().await;
}

#[rstest]
#[case::tcsh("/bin/tcsh")]
#[case::fish("/usr/bin/fish")]
#[tokio::test]
async fn other_shells_get_their_commands_as_arguments(#[case] shell: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    for text in ["echo out; false", "echo 'a  b' | cat", "exit 255", "nosuchcommand", "cat"] {
        let output = pool.shell(&host, text).output().await.expect("it runs");
        assert_eq!(parts(output), plain(&sshd, text), "{text:?}");
        let child = pool.shell(&host, text).spawn().await.expect("it starts");
        assert_eq!(
            parts(child.wait_with_output().await.expect("it ends")),
            plain(&sshd, text),
            "{text:?}"
        );
    }
    let stats = pool.stats();
    assert_eq!((stats.plain_connections, stats.standby_sessions, stats.standby_hits), (1, 0, 0));
    pool.close().await;
}

/// A forced command that says how often it ran.
fn forced(then: &str) -> Builder {
    Sshd::builder().force_command(&format!("echo run >>~/runs; {then}"))
}

fn runs(sshd: &Sshd) -> usize {
    sshd.exec("cat ~/runs 2>/dev/null | wc -l").stdout.trim().parse().expect("a number")
}

/// To find out what an account is costs one run of a forced command, once for the pool.
const RUNS_TO_LEARN: usize = 1;

#[rstest]
#[tokio::test]
async fn a_forced_command_runs_once_for_each_command_and_once_to_learn_of_it() {
    let sshd = forced("cat; echo $SSH_ORIGINAL_COMMAND").start();
    let settings = config().sessions_per_connection(1).max_connections(2);
    let settings = settings.health_check_interval(Duration::from_millis(50));
    let (pool, host) = (pool(settings), host(&sshd));
    let both = tokio::join!(
        pool.shell(&host, "first").stdin("in ").output(),
        pool.shell(&host, "second").stdin("in ").output()
    );
    assert_eq!(both.0.expect("it runs").stdout, b"in first\n");
    assert_eq!(both.1.expect("it runs").stdout, b"in second\n");
    wait_for_async("a health check", PATIENCE, || pool.stats().health_checks_passed > 3).await;
    for _ in 0..8 {
        assert_eq!(pool.exec(&host, "again").await.expect("it runs"), "again");
    }
    pool.close_host(&host).await;
    pool.exec(&host, "after").await.expect("it runs");
    assert_eq!(runs(&sshd), 11 + RUNS_TO_LEARN);
    assert!(sshd.logins() >= 2);
    pool.close().await;
}

#[rstest]
#[case::megabytes("head -c 3000000 /dev/zero", 3_000_000)]
#[case::megabytes_on_both("head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2", 3_000_000)]
#[case::nothing("true", 0)]
#[tokio::test]
async fn what_a_forced_command_writes_arrives(#[case] then: &str, #[case] length: usize) {
    let sshd = forced(then).start();
    let (pool, host) = (pool(config()), host(&sshd));
    let output = pool.shell(&host, "x").output().await.expect("it runs");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), length));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_forced_command_that_does_not_end_is_told_in_time() {
    let sshd = forced("sleep 600").start();
    let settings = config().connect_timeout(Duration::from_secs(3));
    let (pool, host) = (pool(settings), host(&sshd));
    let error = timeout(PATIENCE, pool.exec(&host, "x"))
        .await
        .expect("in time")
        .expect_err("no echo comes");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(
        error.to_string().contains("logged in, but the server ran no command within 3s"),
        "{error}"
    );
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_server_of_few_sessions_runs_every_command_once(
    #[values(1, 2)] sessions: u32,
    #[values(0, 2)] standby_sessions: usize,
) {
    let sshd = Sshd::builder().max_sessions(sessions).start();
    let (pool, host) = (pool(config().standby_sessions(standby_sessions)), host(&sshd));
    // One after the other, so that sessions in standby and commands get into each other's way.
    for number in 0..20 {
        run_one(&pool, &host, number).await;
    }
    let mut tasks = JoinSet::new();
    for number in 20..200 {
        if tasks.len() == 20 {
            tasks.join_next().await.expect("there is one").expect("no panic");
        }
        let (pool, host) = (pool.clone(), host.clone());
        tasks.spawn(async move { run_one(&pool, &host, number).await });
    }
    timeout(PATIENCE, tasks.join_all()).await.expect("all commands end");
    let ran = sshd.exec("sort ~/ran | uniq -c | awk '$1 != 1' | wc -l; wc -l <~/ran");
    assert_eq!(ran.stdout.split_whitespace().collect::<Vec<_>>(), ["0", "200"], "each ran once");
    wait_for_async("the end of the last login", PATIENCE, || pool.stats().connecting == 0).await;
    assert!(sshd.logins() <= 5);
    assert_eq!(pool.stats().commands_run, 200);
    pool.close().await;
}

async fn run_one(pool: &Pool, host: &Host, number: usize) {
    let text = format!("echo {number} >>~/ran; echo {number}");
    assert_eq!(pool.exec(host, &text).await.expect("no command fails"), number.to_string());
}

#[rstest]
#[tokio::test]
async fn a_command_is_in_no_process_list(#[values(0, 2)] standby_sessions: usize) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().standby_sessions(standby_sessions)), host(&sshd));
    for _ in 0..2 {
        let secret = format!("secret-{}-{standby_sessions}", sshd.port());
        let waits =
            pool.shell(&host, format!(": {secret}; echo begun; read line")).env("TOKEN", &secret);
        let mut child = waits.stdin(Stdin::Piped).spawn().await.expect("it starts");
        assert_eq!(
            pooled::processes_with(&secret),
            [""; 0],
            "on this machine, which the container is on as well"
        );
        drop(child.stdin.take());
        child.wait().await.expect("it ends");
        standby_is_there(&pool).await;
    }
    pool.close().await;
}
