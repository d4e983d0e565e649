//! A login is proven by the session that then runs the first command, and an account whose command
//! is not for the pool to choose gets no session that nobody asked for.

use std::fs;
use std::time::Duration;

use rstest::rstest;
use tokio::time::timeout;

use crate::lab::agents::Home;
use crate::lab::common::process::{make_program, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{PATIENCE, command, config, host, pool};

/// How many lines the file has that the forced commands of these tests write.
fn runs(sshd: &Sshd) -> usize {
    let counted = sshd.exec("cat \"$HOME/runs\" 2>/dev/null | wc -l");
    counted.stdout.trim().parse().unwrap_or_else(|_| panic!("no number: {counted:?}"))
}

#[test]
fn a_login_and_its_first_command_are_two_processes_of_ssh() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let (bin, log) = (home.path().join("bin"), home.path().join("calls"));
    fs::create_dir(&bin).expect("a directory");
    let script = format!("#!/bin/sh\necho \"$@\" >>{}\nexec /usr/bin/ssh \"$@\"\n", log.display());
    make_program(&bin.join("ssh"), &script);
    let path = std::env::var("PATH").expect("there is one");
    let mut exec = home.on(&sshd, &["--no-agent", "exec", "lab", "--", "echo", "out"]);
    exec.env("PATH", format!("{}:{path}", bin.display())).env("SSH_POOL_STANDBY_SESSIONS", "0");
    let ended = run(&mut exec, PATIENCE);
    assert_eq!((ended.code(), &*ended.stdout), (0, "out\n"), "{}", ended.stderr);
    let calls = fs::read_to_string(&log).expect("ssh was called");
    let count = |is: fn(&str) -> bool| calls.lines().filter(|line| is(line)).count();
    assert_eq!(count(|line| line.starts_with("-M ")), 1, "{calls}");
    assert_eq!(count(|line| line.starts_with("-F none ") && !line.contains(" -O ")), 1, "{calls}");
    assert_eq!((sshd.logins(), sshd.sessions_opened()), (1, 1));
}

#[rstest]
#[case::with_input(Some("in"))]
#[case::without(None)]
#[tokio::test]
async fn a_server_of_one_session_runs_the_first_command_in_the_session_of_the_proof(
    #[case] input: Option<&'static str>,
    #[values(0, 2)] standby_sessions: usize,
) {
    let sshd = Sshd::builder().max_sessions(1).start();
    let (pool, host) = (pool(config().standby_sessions(standby_sessions)), host(&sshd));
    let mut cat = pool.shell(&host, "cat; echo out; exit 3");
    if let Some(input) = input {
        cat = cat.stdin(input);
    }
    let output = timeout(PATIENCE, cat.output()).await.expect("it ends").expect("it runs");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, format!("{}out\n", input.unwrap_or_default()).into_bytes());
    assert_eq!(pool.stats().refused_sessions, 0);
    // By its port it is told from those of other tests.
    let sleep = format!("sleep 60.{}", sshd.port());
    let slow = pool.shell(&host, &sleep).timeout(Duration::from_millis(500)).output();
    let error = timeout(PATIENCE, slow).await.expect("it ends").expect_err("it is cut off");
    assert!(error.to_string().contains("timed out"), "{error}");
    let left = sshd.exec(&format!("pgrep -xf '{sleep}'")).stdout;
    assert_eq!(left, "", "{error}");
    pool.close().await;
}

/// The server tells that a key has a command of its own.
#[rstest]
#[case::alone("echo run >>\"$HOME/runs\"; echo forced; exit 3")]
#[case::reads("echo run >>\"$HOME/runs\"; cat; exit 3")]
#[tokio::test]
async fn a_keys_forced_command_runs_as_often_as_it_was_asked_for(#[case] forced: &str) {
    let sshd = Sshd::builder().start();
    let home = Home::new();
    let key = home.path().join("key");
    let args = ["-q", "-t", "ed25519", "-N", "", "-f"];
    let made = command("ssh-keygen").args(args).arg(&key).status();
    assert!(made.expect("there is ssh-keygen").success());
    let public = fs::read_to_string(key.with_extension("pub")).expect("it was made");
    sshd.authorize(&format!("command=\"{}\"", forced.replace('"', "\\\"")), &public);
    let host = host(&sshd).identity_file(&key).expect("a path");
    let pool = pool(config().max_connections(2).sessions_per_connection(1));
    for _ in 0..3 {
        let output = pool.shell(&host, "x").stdin("forced\n").output().await.expect("it runs");
        assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b"forced\n"[..]));
    }
    assert_eq!((runs(&sshd), pool.stats().plain_connections), (3, 1));
    pool.close().await;
}

/// Nobody tells of a forced command of the server's. The first process finds out and leaves word.
#[test]
fn a_forced_command_of_the_server_is_learned_once_for_an_account() {
    let forced = "echo run >>\"$HOME/runs\"; echo forced";
    let sshd = Sshd::builder().force_command(forced).start();
    let home = Home::new();
    for expected in [2, 3, 4] {
        let ended = home.run_on(&sshd, &["--no-agent", "exec", "lab", "--", "x"]);
        assert_eq!((ended.code(), &*ended.stdout), (0, "forced\n"), "{}", ended.stderr);
        assert_eq!(runs(&sshd), expected);
    }
    // Another server in its place would be another account.
    let remembered = home.path().join("state/sshpool/forced-commands");
    let text = fs::read_to_string(remembered).expect("it was learned");
    assert_eq!(text.lines().count(), 1, "{text}");
    let start = format!("{}@127.0.0.1:{} ", sshd.user(), sshd.port());
    assert!(text.starts_with(&start) && text.contains(" SHA256:"), "{text}");
}

#[tokio::test]
async fn a_forced_command_that_was_told_runs_for_nobody_else() {
    let forced = "echo run >>\"$HOME/runs\"; echo forced";
    let sshd = Sshd::builder().force_command(forced).start();
    let (pool, host) = (pool(config()), host(&sshd).forced_command(true));
    assert_eq!(pool.exec(&host, "x").await.expect("it runs"), "forced");
    assert_eq!(runs(&sshd), 1);
    pool.close().await;
}

/// A start-up file that takes long is waited for once, and one that leaves something running does
/// not hold the login up.
#[rstest]
#[case::d7_leaves_something("sleep 20 &")]
#[case::d8_is_read_once("echo run >>\"$HOME/runs\"")]
#[tokio::test]
async fn a_start_up_file_is_read_once_for_a_login_and_its_first_command(#[case] text: &str) {
    let Some(sshd) = Sshd::builder().login_shell("/bin/bash").start_or_skip() else { return };
    sshd.exec(&format!("printf '%s\\n' '{text}' >\"$HOME/.bashrc\""));
    let (pool, host) = (pool(config().standby_sessions(0)), host(&sshd));
    let output = pool.shell(&host, "echo out; exit 3").output();
    let output = timeout(PATIENCE, output).await.expect("it ends").expect("it runs");
    assert_eq!((output.status.code(), &*output.stdout), (Some(3), &b"out\n"[..]));
    pool.close().await;
    if text.contains("runs") {
        assert_eq!(runs(&sshd), 1);
    }
}
