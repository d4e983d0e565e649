//! What the pool itself costs: a warm command through it against a bare `ssh -F none -S SOCKET` on
//! a master of its own, spawned from this very program. `cargo bench --bench warm [-- ROUNDS]`
//!
//! First without sessions in standby, where both start a process for each command, one command each
//! in turns; the bound is 1.05. Then loops that do nothing else, where the pool opens sessions
//! ahead while commands run (bound 0.7), and commands with a pause before each.

#[path = "../tests/it/lab/common/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with the tests, which use more of it")]
mod common;
#[path = "../tests/it/lab/pooled/mod.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod pooled;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::sshd::Sshd;
use sshpool::{Host, Pool};

const COMMANDS: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);
const SPACED: usize = 40;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(7);
    let sshd = Sshd::builder().start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(&sshd, rounds));
}

async fn run(sshd: &Sshd, rounds: usize) {
    let host = pooled::host(sshd);
    let without = pooled::pool(pooled::config().standby_sessions(0));
    let pool = pooled::pool(pooled::config());
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s");
    let mut master = bare_master(sshd, &socket);
    common::wait_for_async("the bare master", pooled::PATIENCE, || socket.exists()).await;
    let ways = [Way::Bare(&socket), Way::Pool(&without, &host), Way::Pool(&pool, &host)];
    for way in [&ways[..]; 20].concat() {
        way.run().await;
    }

    println!("in turns, {COMMANDS} commands each way and round, without standby:");
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let (mut bare, mut by_pool) = (Vec::new(), Vec::new());
        for turn in 0..COMMANDS {
            // Who goes first may have it easier: they take turns at that too.
            if turn % 2 == 0 {
                bare.push(ways[0].run().await);
            }
            by_pool.push(ways[1].run().await);
            if turn % 2 == 1 {
                bare.push(ways[0].run().await);
            }
        }
        let (bare, by_pool) = (median(&mut bare), median(&mut by_pool));
        ratios.push(by_pool / bare);
        println!("  bare ssh -S {bare:.3} ms, pool {by_pool:.3} ms, ratio {:.3}", by_pool / bare);
    }
    verdict(&mut ratios, 1.05);

    println!("tight loops of {COMMANDS}, time for each command:");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut times = Vec::new();
        for way in ways {
            let started = Instant::now();
            for _ in 0..COMMANDS {
                way.run().await;
            }
            times.push(milliseconds(started.elapsed()) / COMMANDS as f64);
        }
        println!(
            "  bare {:.3} ms, without standby {:.3} ms, with {:.3} ms",
            times[0], times[1], times[2]
        );
        without.push(times[1] / times[0]);
        with.push(times[2] / times[0]);
    }
    verdict(&mut without, 1.05);
    verdict(&mut with, 0.7);

    println!("{SPACED} commands, {PAUSE:?} before each:");
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let mut medians = Vec::new();
        for way in ways {
            let mut times = Vec::new();
            for _ in 0..SPACED {
                tokio::time::sleep(PAUSE).await;
                times.push(way.run().await);
            }
            medians.push(median(&mut times));
        }
        println!(
            "  bare {:.3} ms, without standby {:.3} ms, with {:.3} ms",
            medians[0], medians[1], medians[2]
        );
        ratios.push(medians[2] / medians[0]);
    }
    verdict(&mut ratios, 1.0);
    let stats = pool.stats();
    println!(
        "{} of {} commands found a session in standby",
        stats.standby_hits, stats.commands_run
    );
    pool.close().await;
    master.kill().expect("it is our child");
    master.wait().expect("it is our child");
}

#[derive(Clone, Copy)]
enum Way<'a> {
    Bare(&'a Path),
    Pool(&'a Pool, &'a Host),
}

impl Way<'_> {
    /// Runs one command, and gives the milliseconds.
    async fn run(self) -> f64 {
        let started = Instant::now();
        match self {
            Way::Bare(socket) => {
                let mut command = pooled::command("ssh");
                command
                    .args(["-F", "none", "-S"])
                    .arg(socket)
                    .args(["lab", "true"])
                    .stdin(Stdio::null());
                let output =
                    tokio::process::Command::from(command).output().await.expect("ssh starts");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            }
            Way::Pool(pool, host) => {
                let output = pool.shell(host, "true").output().await.expect("it runs");
                assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
            }
        }
        milliseconds(started.elapsed())
    }
}

fn bare_master(sshd: &Sshd, socket: &Path) -> Child {
    pooled::command("ssh")
        .arg("-F")
        .arg(sshd.ssh_config())
        .args(["-M", "-N", "-T", "-o", "BatchMode=yes", "-S"])
        .arg(socket)
        .arg("lab")
        .stdin(Stdio::null())
        .spawn()
        .expect("ssh starts")
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Sorts, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn verdict(ratios: &mut [f64], bound: f64) {
    let ratio = median(ratios);
    println!(
        "  ratio of the rounds: median {ratio:.3}, from {:.3} to {:.3}; bound {bound}: {}",
        ratios[0],
        ratios[ratios.len() - 1],
        if ratio <= bound { "kept" } else { "missed" }
    );
}
