//! How commands end, and what their callers are told.

use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;
use sshpool::{Error, SessionReuse, Stdin};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::lab::common::proxy::Proxy;
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{
    PATIENCE, clients_of, config, host, host_of, is_alive, kill, pool, send, standby_is_open,
};

#[rstest]
#[case("true", Some(0))]
#[case("exit 1", Some(1))]
#[case("exit 124", Some(124))]
#[case("exit 255", Some(255))]
#[case("kill -9 $$", None)]
#[case("kill -TERM $$", None)]
#[case("no-such-program 2>/dev/null", Some(127))]
#[tokio::test]
async fn a_status_is_the_commands_own(
    #[case] command: &str,
    #[case] code: Option<i32>,
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
    let output = pool.shell(&host, command).output().await.expect("it ran");
    assert_eq!(output.status.code(), code);
    assert!(output.stderr.is_empty(), "{:?}", String::from_utf8_lossy(&output.stderr));
    let mut child = pool.shell(&host, command).spawn().await.expect("it starts");
    for _ in 0..2 {
        assert_eq!(
            child.wait().await.expect("it ran").code(),
            code,
            "and every wait says the same"
        );
    }
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_master_killed_during_the_command_is_a_loss(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().option("Banner", "/etc/hostname").start();
    let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let running = tokio::spawn(lease.shell("touch begun; exec sleep 300").timeout(None).output());
    wait_for_async("the command", PATIENCE, || sshd.exec("ls begun").status.success()).await;
    kill(lease.master_pid());
    let error = timeout(PATIENCE, running)
        .await
        .expect("it ends")
        .expect("no panic")
        .expect_err("it is lost");
    assert!(!error.never_started());
    let Error::Lost { reason, .. } = &error else { panic!("{error:?}") };
    assert!(
        reason.starts_with("the control master ended (signal: 9"),
        "a banner is no reason: {reason}"
    );
    drop(lease);
    assert_eq!(pool.exec(&host, "echo again").await.expect("another connection"), "again");
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_server_killed_during_the_command_is_a_loss(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
    let running = tokio::spawn(pool.shell(&host, "touch begun; sleep 300").timeout(None).output());
    wait_for_async("the command", PATIENCE, || sshd.exec("ls begun").status.success()).await;
    sshd.kill();
    match timeout(PATIENCE, running).await.expect("it ends").expect("no panic") {
        Err(Error::Lost { reason, .. }) => assert!(!reason.is_empty()),
        other => panic!("{other:?}"),
    }
    pool.close().await;
}

/// On a lease there is no other connection to run on, so a refusal that lasts is told.
#[rstest]
#[tokio::test]
async fn a_refused_session_never_started(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().max_sessions(1).start();
    let settings = config().session_reuse(reuse).acquire_timeout(Duration::from_millis(100));
    let (pool, host) = (pool(settings), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let mut blocker = lease.shell("echo here; sleep 300").spawn().await.expect("it starts");
    let mut here = [0; 5];
    let mut stdout = blocker.stdout.take().expect("stdout is there");
    stdout.read_exact(&mut here).await.expect("it runs");
    let error = lease.shell("echo never").output().await.expect_err("there is no second session");
    assert!(error.never_started());
    let Error::NeverStarted { reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("refused"), "{reason}");
    drop(blocker);
    pool.close_within(Duration::ZERO).await;
}

#[rstest]
#[tokio::test]
async fn a_retried_command_gets_its_whole_input_once(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().max_sessions(1).start();
    let settings = config().session_reuse(reuse).max_connections(1);
    let (pool, host) = (pool(settings), host(&sshd));
    let input = "0123456789".repeat(10_000);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (pool, host, input) = (pool.clone(), host.clone(), input.clone());
        tasks.spawn(async move {
            let mut child =
                pool.shell(&host, "cat").stdin(Stdin::Piped).spawn().await.expect("it starts");
            let mut stdin = child.stdin.take().expect("a pipe was asked for");
            let feed = async {
                stdin.write_all(input.as_bytes()).await.expect("somebody reads");
                drop(stdin);
            };
            let ((), output) = tokio::join!(feed, child.wait_with_output());
            let output = output.expect("it ran");
            assert!(output.status.success() && output.stdout == input.as_bytes());
        });
    }
    timeout(PATIENCE, tasks.join_all()).await.expect("all end");
    assert!(pool.stats().refused_sessions > 0, "the server did refuse");
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_timeout_keeps_what_had_arrived(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
    let command =
        pool.shell(&host, "echo out; echo err >&2; sleep 300").timeout(Duration::from_secs(2));
    match command.output().await {
        Err(Error::TimedOut { after, partial, .. }) => {
            assert_eq!(after, Duration::from_secs(2));
            assert_eq!((&partial.stdout[..], &partial.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        }
        other => panic!("{other:?}"),
    }
    let mut child = pool
        .shell(&host, "sleep 300")
        .timeout(Duration::from_secs(2))
        .spawn()
        .await
        .expect("it starts");
    assert!(matches!(child.wait().await, Err(Error::TimedOut { .. })));
    assert_eq!(pool.stats().commands_timed_out, 2);
    assert_eq!(pool.exec(&host, "echo on").await.expect("the connection lives"), "on");
    assert_eq!(sshd.logins(), 1);
    pool.close_within(Duration::ZERO).await;
}

#[rstest]
#[tokio::test]
async fn too_much_output_is_cut_off_and_told(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
    match pool.shell(&host, "yes").max_output(1000).output().await {
        Err(Error::OutputLimit { stream, limit, partial, .. }) => {
            assert_eq!((stream, limit, partial.stdout.len()), ("stdout", 1000, 1000));
        }
        other => panic!("{other:?}"),
    }
    let exact = pool
        .shell(&host, "printf 12345 >&2")
        .max_output(5)
        .output()
        .await
        .expect("that is allowed");
    assert_eq!(exact.stderr, b"12345");
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn exec_gives_text_or_an_error_with_the_commands_words(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
    assert_eq!(pool.exec(&host, "printf ' a b \\n\\n'").await.expect("it runs"), " a b");
    let error = pool.exec(&host, "echo \"no such thing\" >&2; exit 2").await.expect_err("it fails");
    assert_eq!(error.to_string(), "Command failed with code 2: no such thing");
    let error = pool.exec(&host, "kill -9 $$").await.expect_err("it is killed");
    assert!(matches!(error, Error::Killed { .. }), "{error:?}");
    pool.close().await;
}

/// How a connection goes while output is on its way.
#[derive(Clone, Copy, Debug)]
enum Cut {
    MasterKilled,
    ConnectionKilled,
    PoolClosed,
    /// As when all processes of a service are told to end while its pool is closing.
    MasterToldToEndWhileItDrains,
}

/// A server passes a status on as soon as the command has ended, before its output; ssh ends with
/// that status whatever becomes of the rest.
#[rstest]
#[case(Cut::MasterKilled)]
#[case(Cut::ConnectionKilled)]
#[case(Cut::PoolClosed)]
#[case(Cut::MasterToldToEndWhileItDrains)]
#[tokio::test]
async fn a_loss_is_told_though_a_status_had_come(
    #[case] cut: Cut,
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    const SIZE: usize = 2_000_000;
    let sshd = Sshd::builder().start();
    for round in 0..5 {
        let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
        let lease = pool.acquire(&host).await.expect("a connection");
        // In the home of this server, which it shares with no other.
        let ended = "~/ended";
        let command = format!("rm -f {ended}; head -c {SIZE} /dev/zero; touch {ended}");
        let mut child = lease.shell(command).spawn().await.expect("it starts");
        // It has ended, and nobody has read.
        let looks =
            format!("while [ ! -e {ended} ]; do sleep 0.01; done; rm -f {ended}; sleep 0.1");
        pool.exec(&host, &looks).await.expect("it ends");
        match cut {
            Cut::MasterKilled => kill(lease.master_pid()),
            Cut::ConnectionKilled => sshd.kill_connections(),
            Cut::PoolClosed => pool.close_within(Duration::ZERO).await,
            Cut::MasterToldToEndWhileItDrains => {
                let pool = pool.clone();
                tokio::spawn(async move { pool.close_within(PATIENCE).await });
                tokio::time::sleep(Duration::from_millis(100)).await;
                let pid = nix::unistd::Pid::from_raw(lease.master_pid().cast_signed());
                nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
            }
        }
        let mut output = Vec::new();
        child
            .stdout
            .take()
            .expect("not taken")
            .read_to_end(&mut output)
            .await
            .expect("a pipe can be read");
        let end = timeout(PATIENCE, child.wait()).await.expect("it ends");
        assert!(output.len() < SIZE, "some of it is missing");
        assert!(
            matches!(end, Err(Error::Lost { .. })),
            "round {round}: {end:?} with {} bytes",
            output.len()
        );
        pool.close_within(Duration::ZERO).await;
    }
}

/// ssh ends by itself on a signal that it can catch, and says so only in its log.
#[rstest]
#[tokio::test]
async fn a_local_ssh_that_is_killed_costs_its_own_command_only(
    #[values(Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT)] signal: Signal,
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().session_reuse(reuse).standby_sessions(0)), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let other = lease.shell("sleep 2; echo whole").spawn().await.expect("it starts");
    let first = clients_of(lease.master_pid());
    let mut running =
        lease.shell("echo $$; sleep 300; echo never").spawn().await.expect("it starts");
    let mut clients = clients_of(lease.master_pid());
    clients.retain(|pid| !first.contains(pid));
    assert_eq!((first.len(), clients.len()), (1, 1), "each command has a client");
    let mut shell = String::new();
    let mut stdout = BufReader::new(running.stdout.take().expect("not taken"));
    stdout.read_line(&mut shell).await.expect("it begins");
    let shell = shell.trim().parse().expect("a pid");
    send(clients[0], signal);
    let other = tokio::spawn(other.wait_with_output());
    let result = timeout(PATIENCE, running.wait()).await.expect("it ends");
    assert!(matches!(result, Err(Error::Lost { .. })), "{result:?}");
    let other =
        timeout(PATIENCE, other).await.expect("it ends").expect("no panic").expect("it runs on");
    assert_eq!(other.stdout, b"whole\n");
    wait_for_async("the end of what nobody hears of any more", PATIENCE, || !sshd.is_alive(shell))
        .await;
    assert_eq!(
        (lease.exec("echo on").await.expect("the connection lives"), sshd.logins()),
        ("on".to_owned(), 1)
    );
    pool.close_within(Duration::ZERO).await;
}

/// The signal comes while the command is on its way, so that nothing is known of it but that it may
/// run.
#[rstest]
#[tokio::test]
async fn a_command_on_its_way_is_not_run_again_when_its_ssh_gets_a_signal(
    #[values(Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT)] signal: Signal,
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let network = Proxy::before(&sshd);
    let (pool, host) = (pool(config().session_reuse(reuse)), host_of(&network.ssh_config(&sshd)));
    let lease = pool.acquire(&host).await.expect("a connection");
    lease.exec("true").await.expect("it runs");
    standby_is_open(&pool, lease.master_pid()).await;
    network.swallow();
    let running = tokio::spawn(lease.shell("echo ran >>~/ran").output());
    wait_for_async("the command's start", PATIENCE, || pool.stats().commands_run == 2).await;
    let clients = clients_of(lease.master_pid());
    clients.iter().for_each(|&client| send(client, signal));
    // Those in standby are not taken for a command while they end.
    wait_for_async("the end of them", PATIENCE, || !clients.iter().any(|&client| is_alive(client)))
        .await;
    network.pass();
    let result = timeout(PATIENCE, running).await.expect("it ends").expect("no panic");
    assert!(matches!(result, Err(Error::Lost { .. })), "{result:?}");
    lease.exec("echo after >>~/ran").await.expect("the connection lives");
    let ran = sshd.exec("grep -c ran ~/ran; true").stdout;
    assert!(["0\n", "1\n"].contains(&&*ran), "{ran:?}");
    pool.close_within(Duration::ZERO).await;
}

#[rstest]
#[tokio::test]
async fn a_signal_is_told_while_the_connection_drains(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
    let lease = pool.acquire(&host).await.expect("a connection");
    let mut first = lease.shell("echo on; sleep 1.5; exit 3").spawn().await.expect("it starts");
    let mut second = lease.shell("echo on; sleep 1; kill -9 $$").spawn().await.expect("it starts");
    for child in [&mut first, &mut second] {
        child.stdout.take().expect("not taken").read_exact(&mut [0; 3]).await.expect("it runs");
    }
    drop(lease);
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    assert_eq!(second.wait().await.expect("its end is known").code(), None);
    assert_eq!(first.wait().await.expect("its end is known").code(), Some(3));
    timeout(PATIENCE, closing).await.expect("the close ends").expect("no panic");
}

#[rstest]
#[tokio::test]
async fn a_command_that_ends_just_before_the_patience_is_whole(
    #[values(SessionReuse::Off, SessionReuse::Exact)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    for early in [20, 50, 100] {
        let (pool, host) = (pool(config().session_reuse(reuse)), host(&sshd));
        let lease = pool.acquire(&host).await.expect("a connection");
        let mut whole =
            lease.shell("echo on; sleep 1; echo whole").spawn().await.expect("it starts");
        let mut longer = lease.shell("echo on; sleep 300").spawn().await.expect("it starts");
        for child in [&mut whole, &mut longer] {
            child
                .stdout
                .as_mut()
                .expect("not taken")
                .read_exact(&mut [0; 3])
                .await
                .expect("it runs");
        }
        let close = tokio::spawn({
            let pool = pool.clone();
            async move { pool.close_within(Duration::from_millis(1000 + early)).await }
        });
        let output = timeout(PATIENCE, whole.wait_with_output()).await.expect("it ends");
        match output {
            Ok(output) => {
                assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"whole\n"[..]))
            }
            // On a busy machine it may not have come to its end; then not all of it is there.
            Err(Error::Lost { partial, .. }) => {
                assert_ne!(partial.stdout, b"whole\n", "{early} ms early")
            }
            Err(error) => panic!("{error}"),
        }
        close.await.expect("no panic");
    }
}
