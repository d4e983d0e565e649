//! Running the command in several ways, in turns, and timing it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::COMMAND;
use crate::error::Error;
use crate::host::Host;
use crate::openssh::OpenSsh;
use crate::pool::Pool;

/// How many commands of a way are run before others have their turn, where they come one directly
/// after another. With fewer it would be the sessions in standby alone that are measured.
const TURN: u32 = 20;

/// One run: how long it took, or why it failed.
pub(super) type Run = Result<Duration, String>;

/// By what the command is run.
#[derive(Clone)]
pub(super) enum By {
    /// Plain ssh, with a login.
    Ssh {
        ssh: Arc<OpenSsh>,
        host: Host,
        limit: Duration,
    },
    Pool {
        pool: Pool,
        host: Host,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pattern {
    /// With a pause before each command, in turns with the others: from one command of a way to its
    /// next it is longer.
    Spaced,
    /// One directly after another.
    Tight,
}

/// A way to run the command, and what was measured of it.
pub(super) struct Contender {
    by: By,
    pub pattern: Pattern,
    pub runs: Vec<Run>,
    /// The time in which something ran.
    pub busy: Duration,
}

/// Runs the command this often in each of the ways, `width` at once. In turns, so that a noisy
/// moment of the machine meets all of them.
pub(super) async fn in_turns(ways: &mut [Contender], count: u32, width: u32, pause: Duration) {
    let mut left = count;
    let (mut spaced, mut tight): (Vec<_>, Vec<_>) =
        ways.iter_mut().partition(|way| way.pattern == Pattern::Spaced);
    while left > 0 {
        let turn = left.min(TURN.max(width));
        left -= turn;
        let mut left_of_turn = turn;
        while left_of_turn > 0 {
            let width = left_of_turn.min(width);
            left_of_turn -= width;
            for way in &mut spaced {
                tokio::time::sleep(pause).await;
                way.run(width, width).await;
            }
            // Whoever comes first may have it easier.
            spaced.rotate_left(1);
        }
        for way in &mut tight {
            tokio::time::sleep(pause).await;
            way.run(turn, width).await;
        }
        tight.rotate_left(1);
    }
}

impl Contender {
    pub(super) fn new(by: By, pattern: Pattern) -> Self {
        Contender { by, pattern, runs: Vec::new(), busy: Duration::ZERO }
    }

    /// Runs `count` commands: each of `width` that run at once is followed by the next directly.
    async fn run(&mut self, count: u32, width: u32) {
        let width = width.min(count);
        let left = Arc::new(AtomicU32::new(count - width));
        let mut workers = JoinSet::new();
        let started = Instant::now();
        for _ in 0..width {
            let (by, left) = (self.by.clone(), Arc::clone(&left));
            workers.spawn(async move {
                let mut runs = Vec::new();
                loop {
                    let started = Instant::now();
                    runs.push(by.run().await.map(|()| started.elapsed()));
                    let next = |left: u32| left.checked_sub(1);
                    if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_err() {
                        return runs;
                    }
                }
            });
        }
        let runs = workers.join_all().await;
        self.busy += started.elapsed();
        self.runs.extend(runs.into_iter().flatten());
    }
}

impl By {
    async fn run(&self) -> Result<(), String> {
        match self {
            By::Ssh { ssh, host, limit } => ssh.cold(host, COMMAND, *limit).await,
            By::Pool { pool, host } => succeeded(pool.shell(host, COMMAND).output().await),
        }
    }
}

fn succeeded(result: Result<crate::command::Output, Error>) -> Result<(), String> {
    match result {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(output.status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
