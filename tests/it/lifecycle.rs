//! The life of connections: exhaustion, idleness, health, loss, closing.

use std::time::Duration;

use rstest::rstest;
use sshpool::Error;
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::{wait_for, wait_for_async};
use crate::lab::pooled::{self, PATIENCE, config, host, is_alive, kill, pool};

const SHORT: Duration = Duration::from_millis(200);

#[rstest]
#[tokio::test]
async fn an_exclusive_pool_is_exhausted_and_hands_on_what_is_released() {
    let sshd = Sshd::builder().start();
    let settings =
        config().max_connections(2).sessions_per_connection(1).acquire_timeout(Duration::ZERO);
    let (pool, host) = (pool(settings), host(&sshd));
    let first = pool.acquire(&host).await.expect("the first");
    let second = pool.acquire(&host).await.expect("the second");
    assert_ne!(first.master_pid(), second.master_pid());
    let error = pool.acquire(&host).await.expect_err("there is no third");
    assert_eq!(error.to_string(), "Connection pool exhausted for lab:22 (max: 2)");
    assert!(error.never_started());
    let pid = first.master_pid();
    first.release();
    let next = pool.acquire(&host).await.expect("what was released");
    assert_eq!(next.master_pid(), pid);
    assert_eq!(sshd.logins(), 2);
    drop((second, next));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn an_unused_connection_is_closed_after_its_time() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().idle_timeout(SHORT)), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let pid = lease.master_pid();
    // In use for longer than the timeout, it stays.
    lease.shell("sleep 0.5").status().await.expect("it runs");
    assert!(is_alive(pid));
    lease.release();
    wait_for_async("the end of the idle connection", PATIENCE, || {
        pool.stats().total_connections == 0 && !is_alive(pid)
    })
    .await;
    assert_eq!(pool.stats().health_check_failures, 0);
    pool.exec(&host, "true").await.expect("another connection is made");
    assert_eq!(sshd.logins(), 2);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_working_connection_passes_its_health_checks() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().health_check_interval(SHORT)), host(&sshd));
    pool.exec(&host, "true").await.expect("it runs");
    wait_for_async("three checks", PATIENCE, || pool.stats().health_checks_passed >= 3).await;
    assert_eq!((pool.stats().health_check_failures, sshd.logins()), (0, 1));
    pool.close().await;
}

/// What happens to a server while nobody uses the connection to it.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    Frozen,
    ConnectionKilled,
}

#[rstest]
#[case(Fate::Killed)]
#[case(Fate::Frozen)]
#[case(Fate::ConnectionKilled)]
#[tokio::test]
async fn an_idle_connection_to_nowhere_is_removed_and_counted(#[case] fate: Fate) {
    let sshd = Sshd::builder().start();
    // A probe is given as long as a login.
    let settings = config().health_check_interval(SHORT).connect_timeout(Duration::from_secs(5));
    let (pool, host) = (pool(settings), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    // One that ends before it was of use is a failed login, after which there is a pause.
    lease.exec("true").await.expect("it runs");
    let pid = lease.master_pid();
    lease.release();
    match fate {
        Fate::Killed => sshd.kill(),
        Fate::Frozen => sshd.freeze(),
        Fate::ConnectionKilled => sshd.kill_connections(),
    }
    wait_for_async("the end of the connection", PATIENCE, || {
        pool.stats().total_connections == 0 && !is_alive(pid)
    })
    .await;
    assert_eq!(pool.stats().health_check_failures, 1);
    if matches!(fate, Fate::Frozen) {
        sshd.thaw();
    }
    sshd.restart();
    pool.exec(&host, "true").await.expect("a new connection is made");
    pool.close().await;
}

#[rstest]
#[case::released_before(true)]
#[case::released_after(false)]
#[tokio::test]
async fn a_master_killed_while_idle_is_never_handed_out_again(#[case] released_before: bool) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    for round in 1..=10 {
        let lease = pool.acquire(&host).await.expect("a connection");
        let pid = lease.master_pid();
        let held = (!released_before).then_some(lease);
        kill(pid);
        // It blocks this thread, and with that the runtime: nobody has told the pool yet.
        wait_for("the end of the master", PATIENCE, || !is_alive(pid));
        drop(held);
        let lease = pool.acquire(&host).await.expect("another connection");
        assert_ne!(lease.master_pid(), pid, "round {round}");
        assert_eq!(lease.exec("echo alive").await.expect("it works"), "alive");
    }
    let stats = pool.stats();
    assert_eq!(stats.active_connections + stats.idle_connections, stats.total_connections);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_session_never_logs_in_by_itself() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    kill(lease.master_pid());
    // The session that has proven the login waits for a command, and may be a moment behind with
    // the news: what is written to it may have arrived.
    let error = lease.exec("true").await.expect_err("the connection is gone");
    assert!(matches!(error, Error::NeverStarted { .. } | Error::Lost { .. }), "{error:?}");
    let error = lease.exec("true").await.expect_err("the connection is gone");
    assert!(matches!(error, Error::NeverStarted { .. }) && error.never_started(), "{error:?}");
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_host_can_be_closed_and_used_again() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let pid = lease.master_pid();
    lease.release();
    pool.close_host(&host).await;
    assert!(!is_alive(pid));
    assert_eq!(pool.stats().total_connections, 0);
    pool.exec(&host, "true").await.expect("it connects again");
    assert_eq!(sshd.logins(), 2);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn closing_lets_commands_finish_and_takes_no_new_ones() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let mut child =
        pool.shell(&host, "echo started; sleep 1; echo done").spawn().await.expect("it starts");
    let mut stdout = child.stdout.take().expect("stdout is there");
    let mut started = [0; 8];
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut started).await.expect("it says so");
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    wait_for_async("the beginning of the close", PATIENCE, || pool.stats().total_connections == 0)
        .await;
    let refused = pool.exec(&host, "true").await;
    assert!(matches!(refused, Err(Error::Closed { .. })), "{refused:?}");
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut rest).await.expect("it goes on");
    assert_eq!(rest, "done\n");
    assert!(child.wait().await.expect("it ends by itself").success());
    timeout(PATIENCE, closing).await.expect("the close ends").expect("and does not panic");
}

#[rstest]
#[tokio::test]
async fn closing_cuts_off_what_does_not_finish_in_time() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let running =
        tokio::spawn(pool.shell(&host, "touch begun; echo x; sleep 300").timeout(None).output());
    wait_for_async("the command", PATIENCE, || sshd.exec("ls begun").status.success()).await;
    timeout(PATIENCE, pool.close_within(SHORT)).await.expect("the close ends");
    let result = running.await.expect("no panic");
    // It is ended there first, and its end may be heard of before that of the connection.
    let killed = matches!(&result, Ok(output) if output.status.code().is_none());
    assert!(killed || matches!(result, Err(Error::Lost { .. })), "{result:?}");
    let stats = pool.stats();
    assert_eq!((stats.total_connections, stats.open_sessions), (0, 0));
}

#[rstest]
#[tokio::test]
async fn callers_in_the_queue_hear_of_the_close() {
    let sshd = Sshd::builder().start();
    let settings = config().max_connections(1).sessions_per_connection(1);
    let (pool, host) = (pool(settings), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let waiting = tokio::spawn({
        let (pool, host) = (pool.clone(), host.clone());
        async move { pool.acquire(&host).await.map(drop) }
    });
    wait_for_async("the queue", PATIENCE, || pool.stats().waiting == 1).await;
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    let result = timeout(PATIENCE, waiting).await.expect("an answer").expect("no panic");
    assert!(matches!(result, Err(Error::Closed { .. })), "{result:?}");
    drop(lease);
    timeout(PATIENCE, closing).await.expect("the close ends").expect("no panic");
}

/// Traffic keeps a connection from being idle, and so from its health checks.
#[rstest]
#[tokio::test]
async fn a_command_that_times_out_makes_its_connection_suspect() {
    let sshd = Sshd::builder().start();
    let settings = config().connect_timeout(Duration::from_secs(5));
    let (pool, host) = (pool(settings), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let pid = lease.master_pid();
    // A slow command on a good connection costs one probe.
    let slow = lease.shell("sleep 300").timeout(SHORT).output().await;
    assert!(matches!(slow, Err(Error::TimedOut { .. })), "{slow:?}");
    wait_for_async("the probe", PATIENCE, || pool.stats().health_checks_passed == 1).await;
    assert!(is_alive(pid));

    sshd.freeze();
    let frozen = lease.shell("true").timeout(SHORT).output().await;
    assert!(matches!(frozen, Err(Error::TimedOut { .. })), "{frozen:?}");
    drop(lease);
    wait_for_async("the end of the connection", PATIENCE, || {
        pool.stats().total_connections == 0 && !is_alive(pid)
    })
    .await;
    assert_eq!(pool.stats().health_check_failures, 1);
    sshd.thaw();
    assert_eq!(pool.exec(&host, "echo again").await.expect("another connection is made"), "again");
    pool.close_within(Duration::ZERO).await;
}

/// Whoever closes beside a close is heard only where it is in more of a hurry.
#[rstest]
#[tokio::test]
async fn a_second_close_cuts_nothing_off_that_has_its_time() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let mut child =
        pool.shell(&host, "echo on; sleep 1.5; echo whole").spawn().await.expect("it starts");
    let mut stdout = child.stdout.take().expect("stdout is there");
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut [0; 3]).await.expect("it runs");
    let close =
        |pool: sshpool::Pool, host: sshpool::Host| async move { pool.close_host(&host).await };
    let first = tokio::spawn(close(pool.clone(), host.clone()));
    tokio::time::sleep(SHORT).await;
    let second = tokio::spawn(close(pool.clone(), host.clone()));
    tokio::time::sleep(SHORT).await;
    pool.close_within(PATIENCE).await;
    let mut rest = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut rest).await.expect("it can be read");
    assert_eq!(
        (&*rest, child.wait().await.expect("it ends by itself").code()),
        ("whole\n", Some(0))
    );
    first.await.and(second.await).expect("no panic");
}

/// Sessions are opened ahead of need in the background, while the pool closes. Whatever the moment,
/// none is left.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_while_sessions_are_opened_leaves_none() {
    let sshd = Sshd::builder().start();
    for number in 0..20 {
        let (pool, host) = (pool(config().standby_sessions(6)), host(&sshd));
        let other = host.clone().option("SendEnv", "OTHER").expect("a valid option");
        let mut directory = None;
        for host in [&other, &host] {
            let lease = pool.acquire(host).await.expect("a connection");
            directory = lease.control_path().parent().map(std::path::Path::to_owned);
        }
        tokio::time::sleep(Duration::from_micros(500) * number).await;
        pool.close_within(Duration::ZERO).await;
        let directory = directory.expect("the socket is in it");
        assert_eq!(pooled::processes_with(&directory.to_string_lossy()), [""; 0], "close {number}");
        assert!(!directory.exists());
    }
}
