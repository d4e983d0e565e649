//! What fails between here and a server, at every time at which it can: before there is a
//! connection, while a command runs, and while the connection rests. Whoever called hears of it in
//! bounded time and with the cause; no command runs twice; the pool recovers by itself, and leaves
//! nothing behind.

use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;
use sshpool::{ConnectErrorKind as Kind, Error, Host, PoolConfig};
use tokio::io::AsyncReadExt;

use crate::lab::common::wait_for_async;
use crate::lab::faulty::{COMMAND, CONNECT, Fault, Scene, directory_of, recorded, told_within};
use crate::lab::pooled::{PATIENCE, is_alive, processes_with, send, standby_is_open};

#[rstest]
#[case(Fault::Frozen, Kind::TimedOut, "timed out: no login within 5s")]
#[case(Fault::Swallowed, Kind::TimedOut, "timed out: no login within 5s")]
#[case(Fault::Throttled, Kind::TimedOut, "timed out: no login within 5s")]
#[case(Fault::Refused, Kind::Refused, "connection refused: connect to host 127.0.0.1 port ")]
#[case(Fault::Rebooted, Kind::Refused, "connection refused: connect to host 127.0.0.1 port ")]
#[case(
    Fault::Reset,
    Kind::ServerBusy,
    "the server dropped the login: kex_exchange_identification: read: Connection reset by peer"
)]
#[case(Fault::MasterStopped, Kind::TimedOut, "timed out: no login within 5s")]
#[case(
    Fault::MasterKilled,
    Kind::Other,
    "ssh failed: the control master ended (signal: 9 (SIGKILL))"
)]
#[tokio::test]
async fn before_there_is_a_connection(
    #[case] fault: Fault,
    #[case] kind: Kind,
    #[case] text: &str,
) {
    let scene = Scene::new();
    let during_the_login =
        matches!(fault, Fault::Reset | Fault::MasterStopped | Fault::MasterKilled);
    scene.begin(if during_the_login { Fault::Swallowed } else { fault });
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..10 {
        callers.spawn(scene.pool.shell(&scene.host, recorded("never")).output());
    }
    if during_the_login {
        // It speaks first: before, the reset could be the answer to its connect().
        wait_for_async("the login", PATIENCE, || scene.proxy.spoken() == 1).await;
        scene.begin(fault);
    }
    for told in told_within(CONNECT, callers.join_all()).await {
        let error = told.expect_err("there is no way");
        assert!(error.never_started());
        let Error::Connect { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), kind, "{error}");
        assert!(error.to_string().starts_with(&format!("lab: cannot connect: {text}")), "{error}");
    }
    assert_eq!(scene.pool.stats().failed_connects, 1, "one login for all callers");
    if during_the_login {
        scene.end(Fault::Swallowed);
    }
    scene.end(fault);
    scene.recovers().await;
    scene.leaves_nothing().await;
    assert_eq!(scene.ran("never"), 0);
}

/// What the caller of a running command is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    TimedOut,
    Lost(&'static str),
}

#[rstest]
#[case(Fault::Frozen, Told::TimedOut)]
#[case(Fault::Swallowed, Told::TimedOut)]
#[case(Fault::Reset, Told::Lost("send disconnect: Broken pipe"))]
#[case(Fault::Rebooted, Told::Lost("closed by remote host"))]
#[case(Fault::MasterStopped, Told::TimedOut)]
#[case(Fault::MasterKilled, Told::Lost("the control master ended (signal: 9 (SIGKILL))"))]
#[tokio::test]
async fn while_a_command_runs(#[case] fault: Fault, #[case] told: Told) {
    let scene = Scene::new();
    let command = recorded("one") + "echo begun; sleep 300";
    let mut running =
        scene.pool.shell(&scene.host, command).timeout(COMMAND).spawn().await.expect("it starts");
    let mut begun = [0; 6];
    running.stdout.as_mut().expect("not taken").read_exact(&mut begun).await.expect("it runs");
    scene.begin(fault);
    let error =
        told_within(COMMAND, running.wait_with_output()).await.expect_err("it does not end well");
    assert!(!error.never_started());
    match (&error, told) {
        (Error::TimedOut { after, .. }, Told::TimedOut) => {
            assert_eq!(*after, COMMAND);
            assert!(error.to_string().starts_with("lab: command timed out after 3s"), "{error}");
        }
        (Error::Lost { .. }, Told::Lost(reason)) => {
            let message = error.to_string();
            assert!(
                message.starts_with("lab: connection lost while the command ran: "),
                "{message}"
            );
            assert!(message.contains(reason), "{message}");
        }
        _ => panic!("{error:?}"),
    }
    scene.end(fault);
    scene.recovers().await;
    scene.leaves_nothing().await;
    assert_eq!(scene.ran("one"), 1);
}

/// A command on its way may have begun, unheard: whoever starts it is told at once that this is not
/// known.
#[rstest]
#[tokio::test]
async fn a_connection_that_is_lost_before_a_command_has_begun_is_told_by_its_start() {
    let scene = Scene::new();
    scene.pool.exec(&scene.host, "true").await.expect("it works");
    // One that has to open a session first is not sent at all, and tried again.
    let master = scene.masters().next().expect("there is a connection");
    standby_is_open(&scene.pool, master).await;
    scene.begin(Fault::Swallowed);
    let start = tokio::spawn(scene.pool.shell(&scene.host, recorded("unheard")).spawn());
    wait_for_async("the command's start", PATIENCE, || scene.pool.stats().commands_run == 2).await;
    scene.begin(Fault::Reset);
    let error = told_within(COMMAND, start)
        .await
        .expect("no panic")
        .expect_err("nobody knows that it runs");
    assert!(matches!(error, Error::Lost { .. }) && !error.never_started(), "{error:?}");
    scene.end(Fault::Swallowed);
    scene.recovers().await;
    scene.leaves_nothing().await;
    assert!(scene.ran("unheard") <= 1);
}

/// A connection that is known to be gone costs a caller a login; one that is silent costs the first
/// caller its timeout, and the others a check.
#[rstest]
#[case(Fault::Frozen, true)]
#[case(Fault::Swallowed, true)]
#[case(Fault::Reset, false)]
#[case(Fault::Rebooted, false)]
#[case(Fault::MasterStopped, true)]
#[case(Fault::MasterKilled, false)]
#[tokio::test]
async fn while_a_connection_rests(#[case] fault: Fault, #[case] silent: bool) {
    let scene = Scene::new();
    // One that ends before anything has run on it counts as a login that failed.
    scene.pool.exec(&scene.host, "true").await.expect("it works");
    let lease = scene.pool.acquire(&scene.host).await.expect("a connection");
    let master = lease.master_pid();
    drop(lease);
    scene.begin(fault);
    if silent {
        let first = told_within(COMMAND, scene.pool.exec(&scene.host, &recorded("first"))).await;
        let error = first.expect_err("nothing answers");
        assert!(matches!(error, Error::TimedOut { after, .. } if after == COMMAND), "{error:?}");
        assert!(!error.never_started(), "it may run as soon as the server hears of it");
        // The connection is checked, and found not to work; then a login is tried.
        let second =
            told_within(2 * CONNECT, scene.pool.exec(&scene.host, &recorded("second"))).await;
        match second {
            // The server itself is well.
            Ok(_) => assert_eq!(fault, Fault::MasterStopped),
            Err(error) => {
                assert!(error.never_started(), "{error:?}");
                assert!(error.to_string().contains("timed out: no login within 5s"), "{error}");
            }
        }
        assert_eq!(scene.pool.stats().health_check_failures, 1);
        wait_for_async("the end of the master", PATIENCE, || !is_alive(master)).await;
        scene.end(fault);
        scene.recovers().await;
    } else {
        scene.end(fault);
        wait_for_async("the end of the master", PATIENCE, || !is_alive(master)).await;
        told_within(CONNECT, scene.pool.exec(&scene.host, &recorded("first")))
            .await
            .expect("another login");
        assert_eq!((scene.ran("first"), scene.sshd.logins()), (1, 2));
    }
    scene.leaves_nothing().await;
    let (first, second) = (scene.ran("first"), scene.ran("second"));
    let expected = usize::from(fault == Fault::MasterStopped);
    assert!(first <= 1 && second == expected, "{first} and {second}");
}

/// Nobody gives a command of `spawn` a time: then it is ssh's keepalive that ends a connection to
/// nowhere.
#[rstest]
#[case(Fault::Frozen)]
#[case(Fault::Swallowed)]
#[tokio::test]
async fn a_command_without_a_timeout_hears_by_the_keepalive(#[case] fault: Fault) {
    let keepalive = |host: Host| {
        let host = host.option("ServerAliveInterval", "1");
        host.and_then(|host| host.option("ServerAliveCountMax", "2")).expect("valid options")
    };
    let scene = Scene::with(|_| (), keepalive);
    let mut running =
        scene.pool.shell(&scene.host, "echo begun; sleep 300").spawn().await.expect("it starts");
    running.stdout.as_mut().expect("not taken").read_exact(&mut [0; 6]).await.expect("it runs");
    scene.begin(fault);
    let error =
        told_within(3 * Duration::from_secs(1), running.wait()).await.expect_err("it is lost");
    let text =
        "lab: connection lost while the command ran: Timeout, server 127.0.0.1 not responding.";
    assert_eq!(error.to_string(), text);
    scene.end(fault);
    scene.recovers().await;
    scene.leaves_nothing().await;
}

/// Closing does not depend on what the other side has to say.
#[rstest]
#[case(Fault::Frozen)]
#[case(Fault::Swallowed)]
#[case(Fault::MasterStopped)]
#[tokio::test]
async fn a_close_takes_its_time_and_no_more(#[case] fault: Fault) {
    let scene = Scene::new();
    let lease = scene.pool.acquire(&scene.host).await.expect("a connection");
    let directory = directory_of(&lease);
    let mut running = lease.shell("echo begun; sleep 300").spawn().await.expect("it starts");
    running.stdout.as_mut().expect("not taken").read_exact(&mut [0; 6]).await.expect("it runs");
    scene.begin(fault);
    let patience = Duration::from_secs(1);
    let closes = scene.closes(patience, directory);
    let ((), end) = tokio::join!(closes, told_within(patience, running.wait()));
    assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
    let closed = lease.exec("true").await;
    assert!(closed.as_ref().is_err_and(Error::never_started), "{closed:?}");
}

/// A caller that queues hears though nothing of what it waits for ever answers.
#[rstest]
#[tokio::test]
async fn a_queue_behind_a_frozen_server_comes_to_its_end() {
    let queue = Duration::from_secs(1);
    let settings = |config: &mut PoolConfig| {
        (config.max_connections, config.sessions_per_connection) = (1, 1);
        config.acquire_timeout = queue;
    };
    let scene = Scene::with(settings, |host| host);
    let lease = scene.pool.acquire(&scene.host).await.expect("a connection");
    scene.begin(Fault::Frozen);
    let error = told_within(queue, scene.pool.exec(&scene.host, &recorded("never"))).await;
    let error = error.expect_err("there is no other connection");
    assert_eq!(error.to_string(), "Connection pool exhausted for lab:22 (max: 1)");
    assert!(error.never_started());
    scene.end(Fault::Frozen);
    drop(lease);
    scene.recovers().await;
    scene.leaves_nothing().await;
    assert_eq!(scene.ran("never"), 0);
}

/// A slow network is no fault.
#[rstest]
#[tokio::test]
async fn a_slow_network_is_not_taken_for_a_broken_one() {
    let checks = |config: &mut PoolConfig| {
        config.connect_timeout = PATIENCE;
        config.command_timeout = PATIENCE;
        config.health_check_interval = Duration::from_millis(200);
    };
    let scene = Scene::with(checks, |host| host);
    scene.proxy.delay(Duration::from_millis(100));
    scene.proxy.throttle(50_000);
    let sent = scene
        .pool
        .exec(&scene.host, "head -c 20000 /dev/zero | tr '\\0' x")
        .await
        .expect("it runs");
    assert_eq!(sent.len(), 20_000);
    wait_for_async("a check", PATIENCE, || scene.pool.stats().health_checks_passed >= 1).await;
    assert_eq!((scene.pool.stats().health_check_failures, scene.proxy.accepted()), (0, 1));
    scene.leaves_nothing().await;
}

/// A master that does not go on is noticed by nobody but those who give their commands a time.
#[rstest]
#[case::it_begins(false)]
#[case::it_runs(true)]
#[tokio::test]
async fn a_stopped_master_is_noticed_without_a_timeout(#[case] runs: bool) {
    let interval = Duration::from_secs(1);
    let scene = Scene::with(|config| config.health_check_interval = interval, |host| host);
    let lease = scene.pool.acquire(&scene.host).await.expect("a connection");
    let command = lease.shell("echo begun; sleep 300");
    let told = if runs {
        let mut running = command.spawn().await.expect("it starts");
        running.stdout.as_mut().expect("not taken").read_exact(&mut [0; 6]).await.expect("it runs");
        scene.begin(Fault::MasterStopped);
        told_within(interval + CONNECT, running.wait()).await.map(drop)
    } else {
        scene.begin(Fault::MasterStopped);
        told_within(interval + CONNECT, command.spawn()).await.map(drop)
    };
    assert!(matches!(told, Err(Error::Lost { .. } | Error::NeverStarted { .. })), "{told:?}");
}

/// The guard is no exception to what a close leaves: nothing.
#[rstest]
#[tokio::test]
async fn a_stopped_guard_is_not_left_behind() {
    let scene = Scene::new();
    let directory = directory_of(&scene.pool.acquire(&scene.host).await.expect("a connection"));
    let guard = format!("sshpool-guard\0{}\0", directory.display());
    let pids = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let guard = pids.find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).ends_with(&guard)
    });
    send(guard.expect("there is one"), Signal::SIGSTOP);
    scene.recovers().await;
    scene.closes(Duration::ZERO, directory).await;
}

/// What ssh itself has to wait for has its deadline too, and ends with it.
#[rstest]
#[case::proxy_command(
    "ProxyCommand sleep 314159",
    Kind::TimedOut,
    "lab: cannot connect: timed out: no login within 5s"
)]
#[case::configuration(
    "Match exec \"sleep 314159\"",
    Kind::TimedOut,
    "lab: cannot connect: timed out: ssh -G"
)]
#[tokio::test]
async fn what_a_login_starts_is_not_waited_for(
    #[case] line: &str,
    #[case] kind: Kind,
    #[case] text: &str,
) {
    let scene = Scene::new();
    let config = tempfile::tempdir().expect("a directory");
    let path = config.path().join("ssh_config");
    let good = std::fs::read_to_string(scene.sshd.ssh_config()).expect("it is there");
    // Others on this machine sleep as well.
    let sleep = format!("sleep 314159.{}", scene.sshd.port());
    std::fs::write(&path, format!("{}\n{good}", line.replace("sleep 314159", &sleep)))
        .expect("a file");
    let host = Host::new("lab").and_then(|host| host.config_file(&path)).expect("a valid host");
    let error =
        told_within(CONNECT, scene.pool.exec(&host, "true")).await.expect_err("there is no way");
    let Error::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), kind, "{error}");
    assert!(error.to_string().starts_with(text), "{error}");
    wait_for_async("the end of it", PATIENCE, || processes_with(&sleep).is_empty()).await;
    scene.recovers().await;
    scene.leaves_nothing().await;
}

/// A login that waits gives its place to another after a second: many hosts at once that do not
/// answer take somewhat longer.
#[rstest]
#[tokio::test]
async fn many_hosts_that_do_not_answer_do_not_wait_for_each_other() {
    let scene = Scene::new();
    scene.begin(Fault::Swallowed);
    let places = 4 * std::thread::available_parallelism().map_or(2, usize::from);
    let config = tempfile::tempdir().expect("a directory");
    let path = config.path().join("ssh_config");
    let one = std::fs::read_to_string(scene.proxy.ssh_config(&scene.sshd)).expect("it is there");
    std::fs::write(&path, one.replace("Host lab\n", "Host lab-*\n")).expect("a file");
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..3 * places {
        let host = Host::new(format!("lab-{number}")).and_then(|host| host.config_file(&path));
        // Logins of one account at one address do wait for each other: they may be refused.
        let host = host.and_then(|host| host.user(format!("user-{number}"))).expect("a valid host");
        callers.spawn(scene.pool.shell(&host, recorded("never")).output());
    }
    let told = told_within(CONNECT + Duration::from_secs(3), callers.join_all()).await;
    for told in told {
        let error = told.expect_err("nothing answers").to_string();
        let text =
            error.trim_start_matches("lab-").trim_start_matches(|c: char| c.is_ascii_digit());
        assert!(text.starts_with(": cannot connect: timed out: no login within 5s"), "{error}");
    }
    assert_eq!(scene.proxy.accepted(), 3 * places);
    scene.end(Fault::Swallowed);
    scene.recovers().await;
    scene.leaves_nothing().await;
    assert_eq!(scene.ran("never"), 0);
}
