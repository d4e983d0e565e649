//! How long, how often, and after which silence a session is used again.

use std::time::Duration;

use rstest::rstest;
use sshpool::{Host, Pool, PoolConfig, SessionReuse, Stdin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use crate::lab::common::proxy::Proxy;
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{PATIENCE, config, host, pool};

const AGE: Duration = Duration::from_secs(1);

/// What start-up files gain is seen when the sessions of before are too old, also of those that
/// have only waited.
#[rstest]
#[tokio::test]
async fn what_start_up_files_gain_is_seen(
    #[values(SessionReuse::Off, SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    let Some(sshd) = Sshd::builder().login_shell("/bin/bash").start_or_skip() else { return };
    let start = |value: &str| {
        let made = sshd.exec(&format!("echo 'export GAINED={value}' >.bashrc"));
        assert!(made.status.success(), "{made:?}");
    };
    start("before");
    let (pool, host) = (pool(config().session_reuse(reuse).session_max_age(AGE)), host(&sshd));
    let gained = async || pool.exec(&host, "echo $GAINED").await.expect("it runs");
    for _ in 0..20 {
        assert_eq!(gained().await, "before");
    }
    let reused = pool.stats().reused_sessions;
    assert_eq!(reused > 0, reuse != SessionReuse::Off, "{:?}", pool.stats());
    wait_for_async("sessions that wait", PATIENCE, || pool.stats().standby_sessions == 2).await;
    start("after");
    sleep(AGE).await;
    for _ in 0..20 {
        assert_eq!(gained().await, "after");
    }
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

/// A session is used for a while that is never too long, and replaced before anybody waits for
/// that.
#[tokio::test]
async fn a_session_is_replaced_before_it_is_too_old() {
    let sshd = Sshd::builder().start();
    let settings = config().session_max_age(AGE).max_connections(1);
    let (pool, host) = (pool(settings), host(&sshd));
    pool.exec(&host, "true").await.expect("it runs");
    wait_for_async("sessions that wait", PATIENCE, || pool.stats().standby_sessions == 2).await;
    let before = (sshd.sessions_opened(), pool.stats());
    for _ in 0..100 {
        pool.exec(&host, "true").await.expect("it runs");
        sleep(AGE / 50).await;
    }
    let (sessions, stats) = (sshd.sessions_opened() - before.0, pool.stats());
    assert!((2..20).contains(&sessions), "{sessions} for two seconds and more");
    // A machine that has a lot to do may be late once.
    let hits = stats.standby_hits - before.1.standby_hits;
    assert!(hits >= 95, "{hits} of 100 commands found a session");
    pool.close().await;
}

#[tokio::test]
async fn a_session_ends_after_a_thousand_commands() {
    let sshd = Sshd::builder().start();
    let settings = config().session_max_age(Duration::from_secs(3600)).standby_sessions(1);
    let (pool, host) = (pool(settings), host(&sshd));
    for _ in 0..5 {
        pool.exec(&host, "true").await.expect("it runs");
    }
    wait_for_async("a session that waits", PATIENCE, || pool.stats().standby_sessions == 1).await;
    let before = sshd.sessions_opened();
    for _ in 0..990 {
        pool.exec(&host, "true").await.expect("it runs");
    }
    assert_eq!(sshd.sessions_opened(), before);
    for _ in 0..20 {
        assert_eq!(pool.exec(&host, "echo on").await.expect("it runs"), "on");
    }
    assert!(sshd.sessions_opened() > before, "another session has taken its place");
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

/// What a command reads, and how.
#[derive(Clone, Copy, Debug)]
enum Reads {
    Nothing,
    Bytes,
    Stream,
}

/// The network has forgotten an idle connection, and nobody is told: the next command is not given
/// to it, with input or without.
#[rstest]
#[tokio::test]
async fn a_connection_that_was_forgotten_is_not_waited_for(
    #[values(Reads::Nothing, Reads::Bytes, Reads::Stream)] reads: Reads,
) {
    let silence = Duration::from_millis(300);
    let sshd = Sshd::builder().start();
    let proxy = Proxy::before(&sshd);
    let settings: PoolConfig = config().standby_sessions(1).max_silence(silence);
    let (pool, host) = (pool(settings), Host::new("lab").expect("a name"));
    let host = host.config_file(proxy.ssh_config(&sshd)).expect("a file");
    for _ in 0..3 {
        assert_eq!(ran(&pool, &host, reads, "").await, b"");
    }
    wait_for_async("a session that waits", PATIENCE, || pool.stats().standby_sessions > 0).await;
    proxy.lose();
    sleep(silence).await;
    let file = format!("/tmp/forgotten-{}-{reads:?}", sshd.port());
    assert_eq!(ran(&pool, &host, reads, &format!("echo ran >>{file}; ")).await, b"");
    let runs = sshd.exec(&format!("cat {file}; rm {file}")).stdout;
    assert_eq!((&*runs, sshd.logins()), ("ran\n", 2));
    pool.close().await;
}

/// Runs a command that gives back what it reads, and gives what that differs from what was given.
async fn ran(pool: &Pool, host: &Host, reads: Reads, first: &str) -> Vec<u8> {
    // Well below what the setting for a command allows.
    let command = pool.shell(host, format!("{first}cat")).timeout(Duration::from_secs(10));
    let input = b"read\n\0\xff".repeat(1000);
    let expected: &[u8] = if let Reads::Nothing = reads { b"" } else { &input };
    let ran = async {
        match reads {
            Reads::Nothing => command.output().await.map(|output| output.stdout),
            Reads::Bytes => command.stdin(input.clone()).output().await.map(|output| output.stdout),
            Reads::Stream => {
                let mut child = command.stdin(Stdin::Piped).spawn().await?;
                let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
                let mut stdin = stdin.expect("it was asked for");
                stdin.write_all(&input).await.expect("it reads");
                drop(stdin);
                let mut output = Vec::new();
                stdout.expect("once").read_to_end(&mut output).await.expect("it writes");
                child.wait().await.map(|_| output)
            }
        }
    };
    let output = timeout(PATIENCE, ran).await.expect("it ends").expect("it runs");
    if output == expected { Vec::new() } else { output }
}
