//! Commands by sudo in a shell that is kept: each is what it is with a sudo of its own, and sudo is
//! asked once.

use std::time::Duration;

use rstest::rstest;
use sshpool::{Error, Output, Remote, Runner, Sudo};
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{PATIENCE, config, host, pool};
use crate::sudo::{ALL, server, with_password};

/// How many commands sudo has run.
fn by_sudo(sshd: &Sshd) -> usize {
    sshd.as_root("cat /var/log/sudo.log 2>/dev/null || true").matches("COMMAND=").count()
}

fn sudo_runs(sshd: &Sshd) -> bool {
    !sshd.as_root("pgrep -x sudo || true").is_empty()
}

async fn output(command: sshpool::Command) -> Result<Output, Error> {
    timeout(PATIENCE, command.output()).await.expect("it ends")
}

/// What one command might leave to the next, and what ends in different ways.
const TEXTS: &[&str] = &[
    "id -u; echo \"$SUDO_USER $HOME $0 $# $-\"",
    "cd /tmp; umask 077; export LEFT=1; left=1; set -f; ulimit -n 100; alias id=false; exec 7>&1",
    "pwd; umask; echo \"${LEFT-none} ${left-none} $-\"; ulimit -n; id -u; ls /proc/self/fd | wc -l",
    "env | grep -v '^SUDO_COMMAND=' | sort; set | grep -c '^[bnstl]='",
    "echo no >&2; exit 3",
    "trap 'echo bye; exit 7' EXIT; exec 2>&1; echo in >&2",
    "set -e; false; echo not reached",
    "cat; echo end",
    "exec printf 'no line break'",
    "printf 'a\\0b\\377'; printf '\\036x 0\\n\\036' >&2",
    "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2",
    "(sleep 1; echo late; echo late >&2) & echo now",
    "sleep 300 >/dev/null 2>&1 & echo $?",
    "nosuchprogram",
    "(",
    "echo 'two\nlines\n'; # and a comment\nexit 9\n",
    "",
    "\n\n",
    "exec >&- 2>&-; sleep 0.1; exit 4",
];

/// With the shells that may be a host's `/bin/sh`.
#[rstest]
#[case::dash("/bin/dash")]
#[case::bash("/bin/bash")]
#[case::busybox("/usr/local/bin/ash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_what_it_is_by_a_sudo_of_its_own(#[case] sh: &str) {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    sshd.as_root(&format!("ln -sf {sh} /bin/sh"));
    let (pool, host) = (pool(config()), host(&sshd));
    let root = with_password().reuse(true).over(&pool);
    let mut own = Vec::new();
    for text in TEXTS {
        own.push(output(pool.shell(&host, *text).sudo(&with_password())).await.expect("it runs"));
    }
    let before = by_sudo(&sshd);
    for (text, own) in TEXTS.iter().zip(&own) {
        let kept = output(root.shell(&host, *text)).await.expect("it runs");
        assert_eq!(kept.status.code(), own.status.code(), "{text}: {kept:?} {own:?}");
        assert!(kept.stdout == own.stdout, "{text}: {kept:?} {own:?}");
        assert!(kept.stderr == own.stderr, "{text}: {kept:?} {own:?}");
        let status = root.shell(&host, *text).status();
        let status = timeout(PATIENCE, status).await.expect("it ends").expect("it runs");
        assert_eq!(status.code(), own.status.code(), "{text}");
    }
    assert_eq!(by_sudo(&sshd), before + 1, "one shell ran all of them");
    // A shell tells a signal with a status, and nobody has words for it.
    for (text, status) in [("kill -9 $$", 137), ("kill $$", 143), ("kill -s SEGV $$", 139)] {
        let killed = output(root.shell(&host, text)).await.expect("it runs");
        assert_eq!((killed.status.code(), &*killed.stderr), (Some(status), &b""[..]), "{text}");
    }
    assert_eq!(by_sudo(&sshd), before + 1, "one shell ran all of them");
    // What has input has a sudo of its own.
    let read = output(root.command(&host, "cat").stdin("input")).await.expect("it runs");
    assert_eq!((&*read.stdout, by_sudo(&sshd)), (&b"input"[..], before + 2));
    drop(root);
    wait_for_async("the shell goes with its runner", PATIENCE, || !sudo_runs(&sshd)).await;
    pool.close().await;
}

/// The limit of the command that a shell was begun for is not that of the shell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_lives_longer_than_its_first_command_may() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let root = with_password().reuse(true).over(&pool);
    let first = root.command(&host, "true").timeout(Duration::from_secs(1));
    assert!(output(first).await.expect("it runs").status.success());
    let long = output(root.shell(&host, "sleep 13; echo done")).await.expect("it runs");
    assert_eq!((&*long.stdout, by_sudo(&sshd)), (&b"done\n"[..], 1));
    drop(root);
    pool.close().await;
}

/// One that has been silent answers before it gets a command, and one that nobody uses ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_waits_for_a_while_and_not_for_ever() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let root = with_password().reuse(true).over(&pool);
    for _ in 0..2 {
        let ran = output(root.command(&host, "id").arg("-u")).await.expect("it runs");
        assert_eq!((&*ran.stdout, by_sudo(&sshd)), (&b"0\n"[..], 1));
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
    assert!(sudo_runs(&sshd));
    wait_for_async("it ends", 2 * PATIENCE, || !sudo_runs(&sshd)).await;
    drop(root);
    pool.close().await;
}

/// Others need the sessions where there are few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_few_sessions_none_is_kept() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config().max_connections(1).sessions_per_connection(7)), host(&sshd));
    let root = with_password().reuse(true).over(&pool);
    for number in 1..=2 {
        assert!(output(root.command(&host, "true")).await.expect("it runs").status.success());
        assert_eq!(by_sudo(&sshd), number);
    }
    drop(root);
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_once_each_has_a_shell_and_two_are_kept() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let root = with_password().reuse(true).over(&pool);
    for _ in 0..2 {
        let all = (0..4).map(|n| output(root.shell(&host, format!("sleep 1; echo {n}"))));
        for (n, output) in futures_util::future::join_all(all).await.into_iter().enumerate() {
            assert_eq!(output.expect("it runs").stdout, format!("{n}\n").into_bytes());
        }
    }
    assert_eq!(by_sudo(&sshd), 6, "two of the first four were there for the others");
    drop(root);
    pool.close().await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_ended_there(
    #[values("late", "dropped", "too much")] how: &str,
    #[values("echo begun; sleep 300", "trap '' TERM; echo begun; sleep 300; sleep 300")] text: &str,
) {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let root = with_password().reuse(true).over(&pool);
    assert!(output(root.command(&host, "true")).await.expect("it runs").status.success());
    let runs = || !sshd.as_root("pgrep -x sleep || true").is_empty();
    let long = root.shell(&host, text);
    match how {
        "late" => {
            let error = output(long.timeout(Duration::from_secs(1))).await.expect_err("late");
            let Error::TimedOut { remote, partial, .. } = &error else { panic!("{error}") };
            assert_eq!((remote, &*partial.stdout), (&Remote::Ended, &b"begun\n"[..]));
        }
        "too much" => {
            let text = format!("head -c 1000 /dev/zero; {text}");
            let long = root.shell(&host, text).max_output(100);
            let error = output(long).await.expect_err("too much");
            let Error::OutputLimit { remote, partial, .. } = &error else { panic!("{error}") };
            assert_eq!((remote, partial.stdout.len()), (&Remote::Ended, 100));
        }
        _ => {
            let running = tokio::spawn(output(long));
            wait_for_async("it runs", PATIENCE, runs).await;
            running.abort();
        }
    }
    wait_for_async("nothing is left", PATIENCE, || !runs() && !sudo_runs(&sshd)).await;
    assert_eq!(output(root.command(&host, "id").arg("-u")).await.expect("it runs").stdout, b"0\n");
    pool.close().await;
}

/// A shell that has gone while it waited is not written to; one that goes with its command says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_that_is_gone_gets_no_command() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let root = with_password().reuse(true).over(&pool);
    let id = || output(root.command(&host, "id").arg("-u"));
    let end_shells = "pgrep -P \"$(pgrep -x -d , sudo)\" | xargs kill -9";
    assert_eq!(id().await.expect("it runs").stdout, b"0\n");
    sshd.as_root(end_shells);
    wait_for_async("it is gone", PATIENCE, || !sudo_runs(&sshd)).await;
    assert_eq!(id().await.expect("it runs").stdout, b"0\n");
    sshd.kill_connections();
    wait_for_async("it is gone", PATIENCE, || !sudo_runs(&sshd)).await;
    // The pool may still think that it has its connection: that is told, and the next one is new.
    let mut ran = id().await;
    if matches!(ran, Err(Error::Lost { .. })) {
        ran = id().await;
    }
    assert_eq!(ran.expect("it runs").stdout, b"0\n");
    let long = tokio::spawn(output(root.shell(&host, "sleep 300")));
    let runs = || !sshd.as_root("pgrep -x sleep || true").is_empty();
    wait_for_async("it runs", PATIENCE, runs).await;
    sshd.as_root("pkill -x -9 sleep; true");
    let ended = long.await.expect("no panic").expect("its shell is there");
    assert_eq!(ended.status.code(), Some(137));
    let long = tokio::spawn(output(root.shell(&host, "sleep 300")));
    wait_for_async("it runs", PATIENCE, runs).await;
    sshd.kill_connections();
    let error = long.await.expect("no panic").expect_err("it is lost");
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    drop(root);
    pool.close().await;
}

/// Nothing of a command is taken for another try, and what sudo refuses is told each time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sudo_refuses_is_told_and_a_warning_is_for_each_command() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let none = Sudo::new().reuse(true).over(&pool);
    for _ in 0..2 {
        let error = output(none.command(&host, "true")).await.expect_err("it has no password");
        assert!(matches!(error, Error::Sudo { .. }) && error.never_started(), "{error}");
    }
    let before = by_sudo(&sshd);
    sshd.as_root("echo 'Defaults lecture=always' >>/etc/sudoers.d/lab");
    let root: std::sync::Arc<dyn Runner> = with_password().reuse(true).over(&pool);
    for _ in 0..2 {
        let said = output(root.shell(&host, "echo mine >&2")).await.expect("it runs").stderr;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.contains("lecture") && said.ends_with("mine\n"), "{said}");
    }
    assert_eq!(by_sudo(&sshd), before + 4, "a shell that is not kept, and one for the command");
    drop((none, root));
    pool.close().await;
}
