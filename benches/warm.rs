//! What the pool itself costs: a warm command through it against a bare `ssh -F none -S SOCKET` on
//! a master of its own, spawned from this very program. `cargo bench --bench warm [-- ROUNDS]`
//!
//! First without sessions in standby, where both start a process for each command, one command each
//! in turns; the bound is 1.05. Then loops that do nothing else, where the pool opens sessions
//! ahead while commands run (bound 0.7), and commands with a pause before each.

#[expect(dead_code, unused_imports, reason = "shared with others, which use more of it")]
mod support;

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use sshpool::{Host, Pool};
use support::common::sshd::Sshd;
use support::master::Master;
use support::stats::{Spread, median};
use support::{milliseconds, pooled, rounds};

const COMMANDS: usize = 200;
const PAUSE: Duration = Duration::from_millis(50);
const SPACED: usize = 40;

fn main() {
    let sshd = Sshd::builder().start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(&sshd, rounds(7)));
}

async fn run(sshd: &Sshd, rounds: usize) {
    let host = pooled::host(sshd);
    let without = pooled::pool(pooled::config().standby_sessions(0));
    let pool = pooled::pool(pooled::config());
    let directory = tempfile::tempdir().expect("a directory");
    let master = Master::start(&sshd.ssh_config(), "lab", directory.path().join("s"));
    let master = master.expect("a master");
    let ways = [Way::Bare(&master.socket), Way::Pool(&without, &host), Way::Pool(&pool, &host)];
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
        let [bare, by_pool] =
            [bare, by_pool].map(|times| median(&times).expect("there are commands"));
        ratios.push(by_pool / bare);
        println!("  bare ssh -S {bare:.3} ms, pool {by_pool:.3} ms, ratio {:.3}", by_pool / bare);
    }
    verdict(&ratios, 1.05);

    println!("tight loops of {COMMANDS}, time for each command:");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut times = Vec::new();
        for way in ways {
            let started = Instant::now();
            for _ in 0..COMMANDS {
                way.run().await;
            }
            times.push(milliseconds(started) / COMMANDS as f64);
        }
        println!(
            "  bare {:.3} ms, without standby {:.3} ms, with {:.3} ms",
            times[0], times[1], times[2]
        );
        without.push(times[1] / times[0]);
        with.push(times[2] / times[0]);
    }
    verdict(&without, 1.05);
    verdict(&with, 0.7);

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
            medians.extend(median(&times));
        }
        println!(
            "  bare {:.3} ms, without standby {:.3} ms, with {:.3} ms",
            medians[0], medians[1], medians[2]
        );
        ratios.push(medians[2] / medians[0]);
    }
    verdict(&ratios, 1.0);
    let stats = pool.stats();
    println!(
        "{} of {} commands found a session in standby",
        stats.standby_hits, stats.commands_run
    );
    pool.close().await;
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
        milliseconds(started)
    }
}

fn verdict(ratios: &[f64], bound: f64) {
    let Spread { median, least, greatest } = Spread::of(ratios).expect("there is a round");
    println!(
        "  ratio of the rounds: median {median:.3}, from {least:.3} to {greatest:.3}; bound {bound}: {}",
        if median <= bound { "kept" } else { "missed" }
    );
}
