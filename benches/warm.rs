//! What the pool itself costs: a warm command through it against a bare `ssh -F none -S SOCKET` on a master of its own, spawned from this
//! very program, in turns. `cargo bench --bench warm [-- ROUNDS]`
//!
//! Prints the medians and the ratio of each round, and of all; the bound is 1.05.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/pooled/mod.rs"]
mod pooled;

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::sshd::Sshd;
use sshpool::Pool;

const COMMANDS: usize = 200;

fn main() {
    let rounds = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(7);
    let sshd = Sshd::builder().start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(run(&sshd, rounds));
}

async fn run(sshd: &Sshd, rounds: usize) {
    let pool = pooled::pool(pooled::config());
    let host = pooled::host(sshd);
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("s");
    let mut master = bare_master(sshd, &socket);
    common::wait_for_async("the bare master", pooled::PATIENCE, || socket.exists()).await;
    for _ in 0..20 {
        bare(&socket).await;
        pooled_command(&pool, &host).await;
    }
    println!("{COMMANDS} commands each way and round, in turns");
    let (mut all_bare, mut all_pooled, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        let (mut by_ssh, mut by_pool) = (Vec::new(), Vec::new());
        for turn in 0..COMMANDS {
            // Who goes first may have it easier: they take turns at that too.
            if turn % 2 == 0 {
                by_ssh.push(bare(&socket).await);
                by_pool.push(pooled_command(&pool, &host).await);
            } else {
                by_pool.push(pooled_command(&pool, &host).await);
                by_ssh.push(bare(&socket).await);
            }
        }
        all_bare.extend_from_slice(&by_ssh);
        all_pooled.extend_from_slice(&by_pool);
        let (bare, pooled) = (median(&mut by_ssh), median(&mut by_pool));
        ratios.push(pooled / bare);
        println!("round {round}: bare ssh -S {bare:.3} ms, pool {pooled:.3} ms, ratio {:.3}", pooled / bare);
    }
    let (bare, pooled) = (median(&mut all_bare), median(&mut all_pooled));
    println!("all: bare ssh -S {bare:.3} ms, pool {pooled:.3} ms, ratio {:.3}", pooled / bare);
    let ratio = median(&mut ratios);
    println!(
        "ratio of the rounds: median {ratio:.3}, from {:.3} to {:.3}; bound 1.05: {}",
        ratios[0],
        ratios[ratios.len() - 1],
        if ratio <= 1.05 { "kept" } else { "missed" }
    );
    pool.close().await;
    master.kill().expect("it is our child");
    master.wait().expect("it is our child");
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

async fn bare(socket: &Path) -> f64 {
    let mut command = pooled::command("ssh");
    command.args(["-F", "none", "-S"]).arg(socket).args(["lab", "true"]).stdin(Stdio::null());
    let started = Instant::now();
    let output = tokio::process::Command::from(command).output().await.expect("ssh starts");
    let elapsed = started.elapsed();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    milliseconds(elapsed)
}

async fn pooled_command(pool: &Pool, host: &sshpool::Host) -> f64 {
    let started = Instant::now();
    let output = pool.shell(host, "true").output().await.expect("it runs");
    let elapsed = started.elapsed();
    assert!(output.status.success());
    milliseconds(elapsed)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Sorts, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
