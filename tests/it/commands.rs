//! What reaches the remote program: arguments, environment, directory, input; with every login
//! shell that is promised.

use rstest::rstest;
use sshpool::{Error, Stdin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::lab::common;
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{PATIENCE, config, host, pool};

/// Words that some shell or other takes for something else.
const WORDS: &[&str] = &[
    "",
    " ",
    "plain",
    "two words",
    "it's",
    "\"quoted\"",
    "$HOME",
    "`id`",
    "$(id)",
    "!history",
    "a\\b",
    "\\",
    "*",
    "~",
    "#comment",
    "-n",
    "--",
    "a=b",
    "{a,b}",
    "[a]",
    "(a)",
    "a;b",
    "a|b",
    "a&b",
    "<a>",
    "^a",
    "%1",
    "two\nlines",
    "tab\there",
    "ünïcödé",
    "'\\''!\\!",
];

#[rstest]
#[case::dash("/bin/dash")]
#[case::bash("/bin/bash")]
#[case::zsh("/bin/zsh")]
#[case::fish("/usr/bin/fish")]
#[case::busybox("/usr/local/bin/ash")]
#[tokio::test]
async fn arguments_environment_and_directory_arrive_as_they_are(#[case] shell: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let print = pool.command(&host, "printf").arg("<%s>\n").args(WORDS);
    let output = timeout(PATIENCE, print.output()).await.expect("it ends").expect("it runs");
    let expected: String = WORDS.iter().map(|word| format!("<{word}>\n")).collect();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    for word in WORDS.iter().filter(|word| !word.is_empty()) {
        let print = pool.command(&host, "printenv").arg("VALUE").env("VALUE", *word);
        let output = print.output().await.expect("it runs");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{word}\n"));
    }
    for directory in ["it's a \"dir\"", "-dash", "$HOME"] {
        pool.command(&host, "mkdir").args(["-p", "--", directory]).status().await.expect("it runs");
        let place =
            pool.command(&host, "pwd").current_dir(directory).output().await.expect("it runs");
        let place = String::from_utf8_lossy(&place.stdout).into_owned();
        assert!(place.trim_end().ends_with(directory), "{place}");
        pool.command(&host, "rmdir").args(["--", directory]).status().await.expect("it runs");
    }
    let nowhere = pool.shell(&host, "echo never").current_dir("no-such-directory");
    let output = nowhere.output().await.expect("the shell runs");
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-directory"));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn input_is_empty_bytes_or_a_pipe() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    assert_eq!(pool.exec(&host, "wc -c").await.expect("it runs"), "0");
    let bytes: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let output = pool.shell(&host, "cat").stdin(bytes.clone()).output().await.expect("it runs");
    assert!(output.stdout == bytes, "every byte comes back");
    // A command need not read what it is given.
    let output =
        pool.shell(&host, "echo done").stdin(bytes.clone()).output().await.expect("it runs");
    assert_eq!(output.stdout, b"done\n");
    let child = pool.shell(&host, "cat").stdin(bytes.clone()).spawn().await.expect("it starts");
    assert!(child.wait_with_output().await.expect("it runs").stdout == bytes);

    let mut child = pool.shell(&host, "cat").stdin(Stdin::Piped).spawn().await.expect("it starts");
    let (mut stdin, mut stdout) =
        (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    for word in ["one\n", "two\n"] {
        stdin.write_all(word.as_bytes()).await.expect("it reads");
        let mut echo = [0; 4];
        timeout(PATIENCE, stdout.read_exact(&mut echo))
            .await
            .expect("at once")
            .expect("it answers");
        assert_eq!(echo, word.as_bytes());
    }
    drop(stdin);
    assert!(timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it runs").success());
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn the_streams_are_the_commands_own_and_in_order() {
    let sshd = Sshd::builder().option("Banner", "/etc/hostname").start();
    let (pool, host) = (pool(config()), host(&sshd));
    let text = "i=0; while [ $i -lt 2000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done";
    let output = pool.shell(&host, text).output().await.expect("it runs");
    let lines = |name: &str| (0..2000).map(|i| format!("{name} {i}\n")).collect::<String>();
    assert!(output.stdout == lines("out").as_bytes());
    assert!(output.stderr == lines("err").as_bytes(), "nothing of ssh's own is mixed in");
    let mut child = pool.shell(&host, text).spawn().await.expect("it starts");
    let (mut stdout, mut stderr) =
        (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let (mut out, mut err) = (String::new(), String::new());
    let (a, b) = tokio::join!(stdout.read_to_string(&mut out), stderr.read_to_string(&mut err));
    assert!(a.is_ok() && b.is_ok() && out == lines("out") && err == lines("err"));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_dropped_child_gives_its_connection_back() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let child = pool.shell(&host, "sleep 300").spawn().await.expect("it starts");
    assert_eq!(pool.stats().open_sessions, 1);
    drop(child);
    common::wait_for_async("the end of the session", PATIENCE, || pool.stats().open_sessions == 0)
        .await;
    let mut child = pool.shell(&host, "sleep 300").spawn().await.expect("it starts");
    child.kill();
    assert_eq!(child.wait().await.expect("its end is known").code(), None);
    pool.close_within(std::time::Duration::ZERO).await;
}

#[rstest]
#[case::nul_in_an_argument(|command: sshpool::Command| command.arg("a\0b"), "NUL")]
#[case::bad_name(|command: sshpool::Command| command.env("a;b", "x"), "a;b")]
#[case::no_directory(|command: sshpool::Command| command.current_dir(""), "directory")]
#[case::pipe_for_nobody(|command: sshpool::Command| command.stdin(Stdin::Piped), "spawn")]
#[tokio::test]
async fn what_no_shell_can_be_given_is_refused_before_a_login(
    #[case] change: fn(sshpool::Command) -> sshpool::Command,
    #[case] text: &str,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let error = change(pool.command(&host, "true")).output().await.expect_err("it is refused");
    assert!(matches!(error, Error::InvalidCommand { .. }) && error.never_started(), "{error:?}");
    assert!(
        error.to_string().starts_with("lab: cannot run the command: ")
            && error.to_string().contains(text)
    );
    assert_eq!((sshd.logins(), pool.stats().connects), (0, 0));
    pool.close().await;
}

/// An account that runs one program whatever it is asked: no echo comes back from it, and it works
/// all the same.
#[rstest]
#[tokio::test]
async fn a_forced_command_is_run() {
    let sshd = Sshd::builder().force_command("echo forced: \"$SSH_ORIGINAL_COMMAND\"").start();
    let settings = config().health_check_interval(std::time::Duration::from_millis(100));
    let (pool, host) = (pool(settings), host(&sshd));
    assert_eq!(pool.exec(&host, "status").await.expect("it runs"), "forced: status");
    common::wait_for_async("some checks", PATIENCE, || pool.stats().health_checks_passed >= 3)
        .await;
    assert_eq!(sshd.sessions_opened(), 2, "the checks do not run it each time");
    pool.close().await;
}

/// Whether its end or its output is heard of first: nothing of it is left, and the error says so.
#[tokio::test]
async fn a_command_that_wrote_too_much_and_has_ended_is_gone() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    for _ in 0..60 {
        let output = pool.shell(&host, "printf 1234567890").max_output(5).output().await;
        match output {
            Err(Error::OutputLimit { remote, partial, .. }) => {
                assert_eq!((remote, &*partial.stdout), (sshpool::Remote::Ended, &b"12345"[..]));
            }
            other => panic!("{other:?}"),
        }
    }
}
