//! Nothing is left behind, however a process or a future ends: no ssh process, no socket, no
//! directory.
//!
//! Each test starts itself once more as a process of its own (the *actor*), with a private
//! directory for sockets, and looks from outside at what is left of it: every process of a pool has
//! that directory in its command line.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{Child, ChildStdin, ChildStdout, ExitStatus, Stdio};
use std::task::Poll;
use std::time::Duration;

use sshpool::{Host, Pool};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;

use crate::lab::agents::Home;
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{self, wait_for, wait_for_async};
use crate::lab::itself;
use crate::lab::pooled::{self, PATIENCE, config, host_of, kill, pool, processes_with};

/// How long anything may be left of a process that was killed.
const AFTERWARDS: Duration = Duration::from_secs(2);
const ROLE: &str = "SSHPOOL_TEST_ACTOR";

/// The actor process, and what it may leave behind.
struct Actor {
    process: Child,
    /// Held open until the actor is to end: `Child::wait` would close it.
    stdin: Option<ChildStdin>,
    _stdout: BufReader<ChildStdout>,
    sockets: TempDir,
    _sshd: Sshd,
}

/// In the actor: plays, and ends the process. Otherwise starts the actor and waits until it says
/// that it is ready.
fn actor(play: fn(Host)) -> Actor {
    if let Some(ssh_config) = std::env::var_os(ROLE) {
        play(host_of(ssh_config.as_ref()));
        std::process::exit(0);
    }
    let sshd = Sshd::builder().start();
    let sockets = tempfile::tempdir().expect("a directory");
    let mut process = pooled::command(itself::program());
    let mut process = itself::only(&mut process, &itself::own_name())
        .env(ROLE, sshd.ssh_config())
        .env("XDG_RUNTIME_DIR", sockets.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test can start itself");
    let mut stdout = BufReader::new(process.stdout.take().expect("it was piped"));
    let ready = stdout.by_ref().lines().map_while(Result::ok).any(|line| line == "READY");
    assert!(ready, "the actor ended before it was ready");
    let stdin = process.stdin.take();
    Actor { process, stdin, _stdout: stdout, sockets, _sshd: sshd }
}

/// What the actor says when it has come to where the test looks at it. Then it waits until the test
/// lets it go on.
fn ready() {
    println!("\nREADY");
}

/// Waits for the test to let the actor end.
fn wait_for_the_end() {
    let _ = std::io::stdin().lines().next();
}

impl Actor {
    fn left(&self) -> Vec<String> {
        let mut left = processes_with(&self.sockets.path().to_string_lossy());
        let files =
            std::fs::read_dir(self.sockets.path()).expect("the directory is ours").flatten();
        left.extend(files.map(|file| file.path().display().to_string()));
        left
    }

    fn assert_nothing_is_left(&self) {
        let mut left = Vec::new();
        wait_for("the end of all that the pool had started", AFTERWARDS, || {
            left = self.left();
            left.is_empty()
        });
    }

    /// Lets the actor end by itself.
    fn ends(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.process.wait().expect("it is our child")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// A pool with a connection in use, one command that runs, and one that is being started.
async fn busy(host: &Host) -> (Pool, sshpool::Lease, sshpool::Child) {
    let pool = pool(config());
    let lease = pool.acquire(host).await.expect("a connection");
    let mut child = pool.shell(host, "echo here; exec sleep 300").spawn().await.expect("it starts");
    let mut stdout = child.stdout.take().expect("stdout is there");
    stdout.read_exact(&mut [0; 5]).await.expect("it runs");
    drop(tokio::spawn(pool.shell(host, "sleep 300").output()));
    (pool, lease, child)
}

#[test]
fn a_process_that_is_killed_leaves_nothing() {
    let mut actor = actor(|host| {
        runtime().block_on(async {
            let _busy = busy(&host).await;
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    assert!(
        actor.left().len() >= 4,
        "a master, its sessions, a guard and a directory: {:?}",
        actor.left()
    );
    kill(actor.process.id());
    assert_eq!(actor.process.wait().expect("it is our child").signal(), Some(9));
    actor.assert_nothing_is_left();
}

#[test]
fn a_process_that_is_killed_while_it_logs_in_leaves_nothing() {
    let actor = &mut actor(|host| {
        // Nobody answers there, so the login lasts until its timeout.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let host = host.port(port).expect("a valid port");
        runtime().block_on(async {
            let pool = pool(config());
            drop(tokio::spawn({
                let pool = pool.clone();
                async move { pool.exec(&host, "true").await }
            }));
            let (_stream, _) = listener.accept().expect("ssh connects");
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    assert!(actor.left().len() >= 3, "a master, a guard and a directory: {:?}", actor.left());
    kill(actor.process.id());
    actor.process.wait().expect("it is our child");
    actor.assert_nothing_is_left();
}

#[test]
fn a_panic_leaves_nothing() {
    let mut actor = actor(|host| {
        runtime().block_on(async {
            let _busy = busy(&host).await;
            ready();
            panic!("as the test wants it");
        });
    });
    assert!(!actor.ends().success());
    actor.assert_nothing_is_left();
}

#[test]
fn an_early_return_leaves_nothing() {
    let mut actor = actor(|host| {
        let runtime = runtime();
        let busy = runtime.block_on(async { busy(&host).await });
        ready();
        drop((busy, runtime));
    });
    assert!(actor.ends().success());
    actor.assert_nothing_is_left();
}

#[test]
fn an_exit_in_the_middle_leaves_nothing() {
    let mut actor = actor(|host| {
        runtime().block_on(async {
            let _busy = busy(&host).await;
            ready();
            std::process::exit(3);
        });
    });
    assert_eq!(actor.ends().code(), Some(3));
    actor.assert_nothing_is_left();
}

#[test]
fn a_pool_that_is_dropped_leaves_nothing_in_a_process_that_goes_on() {
    let mut actor = actor(|host| {
        runtime().block_on(async {
            let pool = pool(config());
            let lease = pool.acquire(&host).await.expect("a connection");
            pool.exec(&host, "true").await.expect("it runs");
            drop(pool);
            lease.exec("true").await.expect("a lease keeps its connection");
            drop(lease);
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    actor.assert_nothing_is_left();
    assert!(actor.ends().success());
}

#[test]
fn a_runtime_that_is_shut_down_leaves_nothing_in_a_process_that_goes_on() {
    let mut actor = actor(|host| {
        let runtime = runtime();
        let (pool, lease, child) = runtime.block_on(async { busy(&host).await });
        runtime.shutdown_timeout(PATIENCE);
        drop((pool, lease, child));
        ready();
        wait_for_the_end();
    });
    actor.assert_nothing_is_left();
    assert!(actor.ends().success());
}

#[test]
fn futures_dropped_at_any_await_point_leave_nothing() {
    /// More polls than the whole of a first command takes; that is asserted below.
    const MOST: usize = 400;

    /// Polls the future so many times at most. `None` when it was dropped before its end.
    async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        let mut done = 0;
        std::future::poll_fn(|context| {
            if done == polls {
                return Poll::Ready(None);
            }
            done += 1;
            match future.as_mut().poll(context) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                // Polled for the last time: nobody waits for it to wake up any more.
                Poll::Pending if done == polls => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    let mut actor = actor(|host| {
        runtime().block_on(async {
            // First on a pool that has to log in for it, then on one with a connection.
            for polls in 1..=MOST {
                let pool = pool(config());
                let done = drop_after(polls, pool.exec(&host, "echo x")).await;
                pool.close_within(Duration::ZERO).await;
                assert!(polls < MOST, "the future never came to its end");
                if done.is_some() {
                    break;
                }
            }
            let pool = pool(config());
            pool.exec(&host, "true").await.expect("it runs");
            for polls in 1..=MOST {
                let done = drop_after(polls, pool.exec(&host, "echo x; sleep 0.05; echo y")).await;
                // Its end takes a moment, also there.
                wait_for_async("the session's end", PATIENCE, || pool.stats().open_sessions == 0)
                    .await;
                assert_eq!(pool.stats().idle_connections, 1, "after {polls} polls");
                assert!(polls < MOST, "the future never came to its end");
                if done.is_some() {
                    break;
                }
            }
            for polls in 1..=MOST {
                let pool = pool.clone();
                let done = drop_after(polls, async {
                    let mut child = pool.shell(&host, "echo x").spawn().await.expect("it starts");
                    child.wait().await.expect("it runs")
                })
                .await;
                assert!(polls < MOST, "the future never came to its end");
                if done.is_some() {
                    break;
                }
            }
            assert_eq!(pool.exec(&host, "echo on").await.expect("the connection lives"), "on");
            assert_eq!(pool.stats().connects, 1);
            pool.close().await;
            assert_eq!(pool.stats().total_connections, 0);
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    assert_eq!(actor.left(), [""; 0], "after a close there is nothing to wait for");
    assert!(actor.ends().success());
}

#[test]
fn a_guard_that_is_killed_is_replaced() {
    let mut actor = actor(|host| {
        runtime().block_on(async {
            let pool = pool(config());
            pool.exec(&host, "true").await.expect("it runs");
            for entry in std::fs::read_dir("/proc").expect("there is a /proc").flatten() {
                let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let sockets = std::env::var("XDG_RUNTIME_DIR").expect("the test sets it");
                let line = String::from_utf8_lossy(&line);
                if line.contains("sshpool-guard") && line.contains(&sockets) {
                    let guard = entry.file_name().to_string_lossy().parse().expect("a pid");
                    kill(guard);
                    // One that is still dying takes what it is told.
                    wait_for("its end", PATIENCE, || !pooled::is_alive(guard));
                }
            }
            pool.close_host(&host).await;
            pool.exec(&host, "true").await.expect("it runs again");
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    assert_eq!(
        processes_with("sshpool-guard")
            .iter()
            .filter(|line| { line.contains(&*actor.sockets.path().to_string_lossy()) })
            .count(),
        1
    );
    kill(actor.process.id());
    actor.process.wait().expect("it is our child");
    actor.assert_nothing_is_left();
}

/// SIGINT and SIGTERM close the pools that asked for it, and end the process as they would have
/// done.
fn ends_by(signal: nix::sys::signal::Signal, mut actor: Actor) {
    let pid = nix::unistd::Pid::from_raw(actor.process.id().cast_signed());
    nix::sys::signal::kill(pid, signal).expect("it is our child");
    assert_eq!(actor.process.wait().expect("it is our child").signal(), Some(signal as i32));
    assert_eq!(actor.left(), [""; 0], "the pool was closed before the end");
}

fn closes_on_signals(host: Host) {
    runtime().block_on(async {
        let busy = busy(&host).await;
        busy.0.close_on_signals().expect("a handler");
        ready();
        tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
    });
}

#[test]
fn sigterm_closes_and_ends() {
    ends_by(nix::sys::signal::Signal::SIGTERM, actor(closes_on_signals));
}

#[test]
fn sigint_closes_and_ends() {
    ends_by(nix::sys::signal::Signal::SIGINT, actor(closes_on_signals));
}

/// As when a user logs out and XDG_RUNTIME_DIR is emptied under a process that goes on.
#[test]
fn a_pool_whose_directory_is_removed_makes_another() {
    let mut actor = actor(|host| {
        runtime().block_on(async {
            // More connections than a command has attempts.
            let pool = pool(config().sessions_per_connection(1));
            let commands = (0..4)
                .map(|_| tokio::spawn(pool.shell(&host, "sleep 1").output()))
                .collect::<Vec<_>>();
            let running =
                pool.shell(&host, "rm -f ~/ran; echo on; sleep 4; echo once >>~/ran; exit 3");
            let mut running = running.spawn().await.expect("it starts");
            running
                .stdout
                .as_mut()
                .expect("not taken")
                .read_exact(&mut [0; 3])
                .await
                .expect("it runs");
            for command in commands {
                command.await.expect("no panic").expect("it runs");
            }
            let sockets = std::env::var("XDG_RUNTIME_DIR").expect("the test sets it");
            for entry in std::fs::read_dir(&sockets).expect("it is there").flatten() {
                std::fs::remove_dir_all(entry.path()).expect("it is ours");
            }
            assert_eq!(pool.exec(&host, "echo two; exit 0").await.expect("it runs"), "two");
            // It is not disturbed.
            assert_eq!(running.wait().await.expect("it ends").code(), Some(3));
            assert_eq!(pool.exec(&host, "cat ~/ran").await.expect("it runs"), "once");
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    actor.process.kill().expect("it is our child");
    actor.process.wait().expect("it is our child");
    actor.assert_nothing_is_left();
}

/// Whoever closes, first or not, finds nothing left; and so does whoever looks after a close that
/// nobody waited for.
#[test]
fn every_close_waits_for_all_of_it() {
    let mut actor = actor(|host| {
        let left = || {
            let sockets = std::env::var("XDG_RUNTIME_DIR").expect("the test sets it");
            std::fs::read_dir(sockets).expect("it is there").count()
        };
        runtime().block_on(async {
            let pool = pool(config());
            pool.exec(&host, "true").await.expect("it runs");
            assert_eq!(left(), 1);
            let (first, second) = (pool.clone(), pool.clone());
            tokio::join!(
                async {
                    first.close().await;
                    assert_eq!(left(), 0)
                },
                async {
                    second.close().await;
                    assert_eq!(left(), 0)
                }
            );

            let pool = pooled::pool(config());
            pool.exec(&host, "true").await.expect("it runs");
            let closing = pool.close();
            drop(tokio::time::timeout(Duration::from_millis(1), closing).await);
            common::wait_for_async("the end of the close", PATIENCE, || left() == 0).await;
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    assert_eq!(actor.left(), [""; 0]);
    assert!(actor.ends().success());
}

/// Signals are listened for though the runtime in which that was asked for is gone, and another one
/// is not driven.
#[test]
fn a_signal_is_heard_after_its_runtime() {
    fn play(host: Host) {
        let before = runtime();
        before.block_on(async { pool(config()).close_on_signals().expect("a handler") });
        drop(before);
        let idle =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _busy = idle.block_on(async {
            let busy = busy(&host).await;
            busy.0.close_on_signals().expect("a handler");
            busy
        });
        ready();
        wait_for_the_end();
    }
    let mut actor = actor(play);
    let pid = nix::unistd::Pid::from_raw(actor.process.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is our child");
    let end = std::time::Instant::now() + PATIENCE;
    let status = common::process::wait_until(&mut actor.process, end).expect("it ends");
    assert_eq!(status.signal(), Some(15));
    actor.assert_nothing_is_left();
}

/// A process that has no descriptor to spare for a moment loses nothing else by that.
#[test]
fn running_out_of_descriptors_cuts_nothing_off() {
    let mut actor = actor(|host| {
        use nix::sys::resource::{Resource, getrlimit, setrlimit};
        runtime().block_on(async {
            let pool = pool(config());
            let mut running =
                pool.shell(&host, "echo on; sleep 1; echo whole").spawn().await.expect("it starts");
            running
                .stdout
                .as_mut()
                .expect("not taken")
                .read_exact(&mut [0; 3])
                .await
                .expect("it runs");
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
            // None but those that are open already.
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard).expect("it can be lowered");
            let error = pool.exec(&host, "true").await;
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("it can be raised again");
            let error = error.expect_err("there is no descriptor");
            assert!(
                error.never_started() && error.to_string().contains("Too many open files"),
                "{error}"
            );
            let output = running.wait_with_output().await.expect("it runs on");
            assert_eq!(output.stdout, b"whole\n");
            assert_eq!(pool.exec(&host, "echo on").await.expect("the connection lives"), "on");
            assert_eq!(pool.stats().connects, 1);
            pool.close().await;
            ready();
            tokio::task::spawn_blocking(wait_for_the_end).await.expect("no panic");
        });
    });
    assert!(actor.ends().success());
}

/// A container that is killed takes the guard with it, and its directory for temporary files may
/// well be there for the next one. What stands for it here is a pid namespace.
#[test]
fn g12_what_a_container_has_left_is_removed_by_the_next_pool() {
    let sshd = Sshd::builder().start();
    let home = Home::new();
    let of_pools = || -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(home.runtime()).expect("it is there").flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.to_string_lossy().contains("/sshpool-")).collect()
    };
    let words = ["--no-agent", "exec", "lab", "--", "echo here; exec sleep 300"];
    let begin = |mut command: std::process::Command| {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdout = child.stdout.take().expect("it was piped");
        let mut line = [0; 5];
        let begins = stdout.read_exact(&mut line).is_ok() && &line == b"here\n";
        (child, stdout, begins)
    };

    let inner = home.on(&sshd, &words);
    let mut contained = pooled::command("unshare");
    // Who is not root needs a user namespace for it.
    let as_root = nix::unistd::geteuid().is_root();
    contained.args(if as_root { &[][..] } else { &["--user", "--map-root-user"] });
    contained.args(["--pid", "--fork", "--kill-child"]).arg(inner.get_program());
    let mut contained = home.in_its_place(contained, inner.get_args());
    contained.stderr(Stdio::null());
    let (mut container, _stdout, begins) = begin(contained);
    if !begins {
        let _ = container.kill();
        let _ = container.wait();
        return common::skip("a pid namespace cannot be made here");
    }
    let left = of_pools();
    assert_eq!(left.len(), 1, "{left:?}");
    let (mut other, _other_stdout, begins) = begin(home.on(&sshd, &words));
    assert!(begins);
    let living: BTreeSet<_> = of_pools().difference(&left).cloned().collect();
    assert_eq!(living.len(), 1, "{living:?}");
    assert_eq!(of_pools().len(), 2, "one that lives in another namespace is not removed");

    container.kill().expect("it is our child");
    container.wait().expect("it is our child");
    wait_for("the end of what was contained", PATIENCE, || {
        let id = left.first().expect("there is one").to_string_lossy().into_owned();
        processes_with(&id).is_empty()
    });
    assert_eq!(of_pools().len(), 2, "nobody was left to remove it");
    let ended = home.run_on(&sshd, &["--no-agent", "exec", "lab", "--", "echo next"]);
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "next\n", ""));
    assert_eq!(of_pools(), living, "the one that lives has kept its own");

    kill(other.id());
    other.wait().expect("it is our child");
    wait_for("the guard", AFTERWARDS, || of_pools().is_empty());
}
