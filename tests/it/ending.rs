//! A command that is given up is ended there, too.

use std::time::Duration;

use rstest::rstest;
use sshpool::{Error, Host, Pool, PoolConfig, Remote, Stdin};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lab::common::proxy::Proxy;
use crate::lab::common::sshd::{Image, Sshd};
use crate::lab::common::{self, wait_for_async};
use crate::lab::pooled::{PATIENCE, config, host, host_of, pool};

/// Long enough for a command to begin on a busy machine, and to be over before anybody loses
/// patience.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A number that is in no other command line of the server: the time that a `sleep` takes.
fn mark() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    600_000 + (std::process::id() % 1000) * 100 + NEXT.fetch_add(1, Ordering::Relaxed)
}

/// How many processes on the server have the mark in their command line.
fn living(sshd: &Sshd, mark: u32) -> usize {
    // Arguments in /proc, as there need not be a ps. Zombies have none.
    let (first, rest) = (mark / 100_000, mark % 100_000);
    // Not itself.
    let text =
        format!("cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -cx '[{first}]{rest:05}'; true");
    sshd.exec(&text).stdout.trim().parse().expect("a number")
}

async fn begun(sshd: &Sshd, mark: u32) {
    wait_for_async("the command", PATIENCE, || living(sshd, mark) > 0).await;
}

async fn gone(sshd: &Sshd, mark: u32) {
    wait_for_async("the end of the remote command", PATIENCE, || living(sshd, mark) == 0).await;
}

/// One command whose time is over.
async fn times_out(pool: &Pool, host: &Host, text: String) -> Remote {
    let output = pool.shell(host, text).timeout(TIMEOUT).output();
    match timeout(PATIENCE, output).await.expect("it is told") {
        Err(Error::TimedOut { remote, .. }) => remote,
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::simple("exec sleep MARK")]
#[case::shell("sleep MARK; echo never")]
#[case::pipeline("sleep MARK | cat")]
#[case::background("sleep MARK & wait")]
#[case::ignores_term("trap '' TERM; sleep MARK; sleep MARK")]
#[case::stopped("sleep MARK & kill -STOP $! $$")]
#[case::writes("while sleep 0.01; do echo y; done & exec sleep MARK")]
#[tokio::test]
async fn a_timeout_ends_the_group(#[case] text: &str) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    for standby in [false, true] {
        let mark = mark();
        if standby {
            wait_for_async("a standby", PATIENCE, || pool.stats().standby_sessions > 0).await;
        }
        let remote = times_out(&pool, &host, text.replace("MARK", &mark.to_string())).await;
        assert_eq!(remote, Remote::Ended);
        assert_eq!(living(&sshd, mark), 0, "the error says that nothing is left");
    }
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

#[rstest]
#[case::dash("/bin/dash")]
#[case::bash("/bin/bash")]
#[case::zsh("/usr/bin/zsh")]
#[case::ash("/usr/local/bin/ash")]
#[tokio::test]
async fn groups_are_ended_by_every_shell(#[case] shell: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    for text in ["sleep MARK; echo", "trap '' TERM; sleep MARK; sleep MARK"] {
        let mark = mark();
        let remote = times_out(&pool, &host, text.replace("MARK", &mark.to_string())).await;
        assert_eq!((remote, living(&sshd, mark)), (Remote::Ended, 0), "{shell}: {text}");
    }
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn nothing_but_busybox_is_enough() {
    let Some(sshd) = Sshd::builder().image(Image::BusyBox).start_or_skip() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let mark = mark();
    let remote = times_out(&pool, &host, format!("trap '' TERM; sleep {mark}; sleep {mark}")).await;
    assert_eq!((remote, living(&sshd, mark)), (Remote::Ended, 0));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn too_much_output_ends_the_command() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let mark = mark();
    let text = format!("sleep {mark} & while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done");
    match pool.shell(&host, text).max_output(100_000).output().await {
        Err(Error::OutputLimit { remote: Remote::Ended, partial, .. }) => {
            assert_eq!(partial.stdout.len(), 100_000)
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(living(&sshd, mark), 0);
    pool.close().await;
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Output,
    Lease,
    Spawned,
    Killed,
    Ended,
    Stream,
}

#[rstest]
#[tokio::test]
async fn who_goes_away_ends_the_command(
    #[values(Way::Output, Way::Lease, Way::Spawned, Way::Killed, Way::Ended, Way::Stream)] way: Way,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let mark = mark();
    let text = format!("sleep {mark}; echo never");
    match way {
        Way::Output | Way::Lease => {
            let lease = pool.acquire(&host).await.expect("a connection");
            let command = match way {
                Way::Lease => lease.shell(text),
                _ => pool.shell(&host, text),
            };
            let running = tokio::spawn(command.timeout(None).output());
            begun(&sshd, mark).await;
            running.abort();
        }
        Way::Spawned | Way::Killed | Way::Ended | Way::Stream => {
            let mut child = pool.shell(&host, text).spawn().await.expect("it begins");
            begun(&sshd, mark).await;
            match way {
                Way::Killed => {
                    child.kill();
                    let status =
                        timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a status");
                    assert_eq!((status.code(), living(&sshd, mark)), (None, 0));
                }
                Way::Ended => {
                    let remote = timeout(PATIENCE, child.end()).await.expect("it ends");
                    assert_eq!((remote, living(&sshd, mark)), (Remote::Ended, 0));
                }
                Way::Stream => {
                    let mut stdout = child.stdout.take().expect("the stream");
                    drop(child);
                    let mut text = String::new();
                    let read = timeout(PATIENCE, stdout.read_to_string(&mut text));
                    read.await.expect("it comes to its end").expect("a pipe can be read");
                    assert_eq!(text, "");
                }
                _ => drop(child),
            }
        }
    }
    gone(&sshd, mark).await;
    wait_for_async("the lease", PATIENCE, || pool.stats().open_sessions == 0).await;
    assert_eq!(pool.exec(&host, "echo on").await.expect("it works"), "on");
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

/// A future need not be dropped where it was driven.
#[test]
fn who_goes_away_from_the_runtime_ends_the_command() {
    let sshd = Sshd::builder().start();
    let (pool, host, mark) = (pool(config()), host(&sshd), mark());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut output = Box::pin(pool.shell(&host, format!("sleep {mark}; echo never")).output());
    runtime.block_on(async {
        tokio::select! {
            output = &mut output => panic!("{output:?}"),
            () = begun(&sshd, mark) => {}
        }
    });
    drop(output);
    runtime.block_on(gone(&sshd, mark));
    runtime.block_on(pool.close());
}

/// The server has a session to spare above the pool's own limit, or on another connection.
#[rstest]
#[case::above_the_limit(config().sessions_per_connection(1).max_connections(1).standby_sessions(0), 2)]
#[case::another_connection(config().sessions_per_connection(8).max_connections(2).standby_sessions(0), 1)]
#[tokio::test]
async fn a_full_connection_does_not_keep_a_command_alive(
    #[case] config: PoolConfig,
    #[case] max_sessions: u32,
) {
    let sshd = Sshd::builder().max_sessions(max_sessions).start();
    let (pool, host) = (pool(config), host(&sshd));
    if max_sessions == 1 {
        // Two connections, of which one stays free.
        let (one, two) = (mark(), mark());
        let first = tokio::spawn(pool.shell(&host, format!("sleep {one}")).timeout(None).output());
        begun(&sshd, one).await;
        let second = tokio::spawn(pool.shell(&host, format!("sleep {two}")).timeout(None).output());
        begun(&sshd, two).await;
        first.abort();
        // No session is free now, and one will be.
        second.abort();
    } else {
        let mark = mark();
        assert_eq!(times_out(&pool, &host, format!("sleep {mark}")).await, Remote::Ended);
        assert_eq!(living(&sshd, mark), 0);
    }
    assert_eq!(pool.exec(&host, "echo on").await.expect("it works"), "on");
    pool.close().await;
}

/// Where a server has no session to spare, one that becomes free is waited for, or another
/// connection is made.
#[rstest]
#[case::another_connection(1, 5, 0)]
#[case::in_the_place_of_its_own(1, 1, 0)]
#[case::among_many_others(2, 1, 6)]
#[tokio::test]
async fn a_session_to_end_a_command_is_found(
    #[case] max_sessions: u32,
    #[case] max_connections: usize,
    #[case] others: usize,
) {
    let sshd = Sshd::builder().max_sessions(max_sessions).start();
    let (pool, host) = (pool(config().max_connections(max_connections)), host(&sshd));
    let mut busy = JoinSet::new();
    for _ in 0..others {
        let (pool, host) = (pool.clone(), host.clone());
        busy.spawn(async move {
            loop {
                pool.exec(&host, "sleep 0.05").await.expect("it runs");
            }
        });
    }
    for text in ["sleep MARK; echo never", "trap '' TERM; sleep MARK; sleep MARK"] {
        let mark = mark();
        let remote = times_out(&pool, &host, text.replace("MARK", &mark.to_string())).await;
        assert_eq!((remote, living(&sshd, mark)), (Remote::Ended, 0), "{text}");
    }
    assert!(busy.try_join_next().is_none(), "nobody else is disturbed");
    busy.shutdown().await;
    assert_eq!(pool.exec(&host, "echo on").await.expect("it works"), "on");
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn where_no_session_is_found_the_error_says_so() {
    let sshd = Sshd::builder().max_sessions(1).start();
    let network = Proxy::before(&sshd);
    let (pool, host) = (pool(config()), host_of(&network.ssh_config(&sshd)));
    let command = pool.shell(&host, format!("exec sleep {}", mark())).timeout(TIMEOUT);
    let mut child = command.spawn().await.expect("it begins");
    network.refuse();
    let end = timeout(PATIENCE, child.wait()).await.expect("it is told");
    let Err(Error::TimedOut { remote: Remote::MayLiveOn(reason), .. }) = end else {
        panic!("{end:?}")
    };
    assert_eq!(&*reason, "there was no session to end it over");
    network.accept();
    pool.close().await;
}

#[rstest]
#[case::csh(Sshd::builder().login_shell("/bin/tcsh"))]
#[case::forced(Sshd::builder().force_command("sleep 3; exec sleep 8"))]
#[tokio::test]
async fn without_a_group_the_error_says_so(#[case] server: common::sshd::Builder) {
    let Some(sshd) = server.start_or_skip() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let error =
        pool.shell(&host, "sleep 7").timeout(TIMEOUT).output().await.expect_err("it times out");
    let Error::TimedOut { remote: Remote::MayLiveOn(_), .. } = &error else { panic!("{error:?}") };
    assert_eq!(
        error.to_string(),
        "lab: command timed out after 2s; it may still run there: without a POSIX shell its process group is not known"
    );
    let child = pool.shell(&host, "sleep 7").spawn().await.expect("it begins");
    let Remote::MayLiveOn(reason) = child.end().await else { panic!("nobody can have ended it") };
    assert_eq!(&*reason, "without a POSIX shell its process group is not known");
    pool.close().await;
}

/// What a start-up file prints comes before the word that the command has begun, and some of it may
/// have been read when the time is over.
#[rstest]
#[tokio::test]
async fn a_start_up_file_that_prints_does_not_keep_a_command_alive(
    #[values(false, true)] spawned: bool,
) {
    let Some(sshd) = Sshd::builder().login_shell("/bin/bash").start_or_skip() else { return };
    // Slow for one command, and not for what ends it.
    let file = "[ ! -e slow ] || { rm slow; printf '%0500d\\n' 0; sleep 2.4; }";
    sshd.exec(&format!("cat >.bashrc <<'END'\n{file}\nEND"));
    let (pool, host) = (pool(config().standby_sessions(0)), host(&sshd));
    pool.exec(&host, "true").await.expect("it works");
    sshd.exec("touch slow");
    let mark = mark();
    let command = pool.shell(&host, format!("sleep {mark}; echo never")).timeout(TIMEOUT);
    let error = match spawned {
        true => timeout(PATIENCE, command.spawn())
            .await
            .expect("it is told")
            .expect_err("it is not begun"),
        false => timeout(PATIENCE, command.output())
            .await
            .expect("it is told")
            .expect_err("it times out"),
    };
    let Error::TimedOut { remote, partial, .. } = &error else { panic!("{error:?}") };
    assert_eq!((remote, partial.stdout.len()), (&Remote::Ended, 501), "{error:?}");
    assert_eq!(living(&sshd, mark), 0);
    pool.close().await;
}

#[rstest]
#[case::one_connection(1)]
#[case::many(5)]
#[tokio::test]
async fn a_frozen_server_is_not_waited_for(#[case] connections: usize) {
    let sshd = Sshd::builder().start();
    let config = config().sessions_per_connection(1).max_connections(connections);
    let (pool, host) = (pool(config), host(&sshd));
    let mut leases = Vec::new();
    for _ in 0..connections {
        leases.push(pool.acquire(&host).await.expect("a connection"));
    }
    let command = leases[0].shell("exec sleep 60").timeout(TIMEOUT);
    let mut child = command.spawn().await.expect("it begins");
    sshd.freeze();
    let end = timeout(PATIENCE, child.wait()).await.expect("it is told");
    sshd.thaw();
    let Err(Error::TimedOut { remote: Remote::MayLiveOn(reason), .. }) = end else {
        panic!("{end:?}")
    };
    assert!(reason.contains("not answered"), "{reason}");
    drop(leases);
    pool.close().await;
}

/// What is found out for it before it begins counts as its time.
#[rstest]
#[tokio::test]
async fn a_command_with_a_piped_input_is_told_in_its_time() {
    let sshd = Sshd::builder().start();
    // An hour, so that nothing but the command's own time can end it, and after a minute the
    // keepalive.
    let config = config().connect_timeout(Duration::from_secs(3600));
    let (pool, host) = (pool(config), host(&sshd));
    pool.exec(&host, "true").await.expect("it works");
    sshd.freeze();
    let start = pool.shell(&host, "cat").stdin(Stdin::Piped).timeout(TIMEOUT).spawn();
    let told = timeout(PATIENCE / 2, start).await;
    sshd.thaw();
    let error = told.expect("it is told").expect_err("nothing answers");
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    pool.close().await;
}

/// Commands have a time to finish when a pool is closed, and are then ended: here and there.
#[rstest]
#[case::at_once(Duration::ZERO)]
#[case::with_patience(Duration::from_secs(1))]
#[tokio::test]
async fn a_closed_pool_ends_what_runs(#[case] patience: Duration) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let marks = [mark(), mark(), mark()];
    let mut running = Vec::new();
    for mark in marks {
        let text = format!("trap '' TERM; sleep {mark}; sleep {mark}");
        running.push(tokio::spawn(pool.shell(&host, text).timeout(None).output()));
        begun(&sshd, mark).await;
    }
    timeout(PATIENCE, pool.close_within(patience)).await.expect("it is closed");
    for (mark, running) in marks.into_iter().zip(running) {
        assert_eq!(living(&sshd, mark), 0);
        let end = timeout(PATIENCE, running).await.expect("it ends").expect("no panic");
        // The shell is killed, and that is how it ends, or the connection is closed before that is
        // known.
        assert!(
            matches!(&end, Err(Error::Lost { .. }))
                || end.is_ok_and(|output| !output.status.success())
        );
    }
}

/// The server has no session to spare for that.
#[rstest]
#[tokio::test]
async fn a_closed_pool_ends_what_runs_on_a_full_connection() {
    let sshd = Sshd::builder().max_sessions(2).start();
    let (pool, host) = (pool(config().max_connections(1)), host(&sshd));
    let marks = [mark(), mark()];
    for mark in marks {
        drop(tokio::spawn(
            pool.shell(&host, format!("sleep {mark}; echo never")).timeout(None).output(),
        ));
        begun(&sshd, mark).await;
    }
    timeout(PATIENCE, pool.close_within(Duration::ZERO)).await.expect("it is closed");
    assert_eq!(marks.map(|mark| living(&sshd, mark)), [0, 0]);
    assert_eq!(sshd.logins(), 2);
}

/// Where the bootstrap has ceased to work, commands that began with it can still be ended.
#[rstest]
#[tokio::test]
async fn a_closed_pool_ends_what_runs_on_a_connection_that_takes_arguments() {
    let Some(sshd) = Sshd::builder().login_shell("/bin/bash").start_or_skip() else { return };
    sshd.exec("echo '[ ! -e bad ] || exit 0' >.bashrc");
    let (pool, host) = (pool(config().standby_sessions(0)), host(&sshd));
    let mark = mark();
    let running = tokio::spawn(pool.shell(&host, format!("sleep {mark}; echo never")).output());
    begun(&sshd, mark).await;
    sshd.exec("touch bad");
    pool.exec(&host, "true").await.expect("it ends, as with plain ssh");
    sshd.exec("rm bad");
    assert_eq!((pool.stats().plain_connections, sshd.logins()), (1, 1));
    timeout(PATIENCE, pool.close_within(Duration::ZERO)).await.expect("it is closed");
    assert_eq!(living(&sshd, mark), 0);
    drop(running);
}

/// A command that finishes in time is not disturbed.
#[rstest]
#[tokio::test]
async fn a_pool_that_is_closed_with_patience_lets_commands_finish() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let mark = mark();
    let text = format!("sleep {mark} & sleep 1; kill $!; echo done");
    let running = tokio::spawn(pool.shell(&host, text).output());
    begun(&sshd, mark).await;
    timeout(PATIENCE, pool.close_within(PATIENCE)).await.expect("it is closed");
    let output = running.await.expect("no panic").expect("it ran to its end");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n");
}
