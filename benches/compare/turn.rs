//! One turn of one peer: commands in one of three patterns, and what came of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::task::JoinSet;

use crate::plan::{DEADLINE, PATIENCE, PAUSE};
use crate::support::stats;

/// How commands follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One directly after the other.
    Tight { commands: usize },
    /// One after the other, with a pause between them.
    Spaced { commands: usize },
    /// So many at once, until all have run.
    Width { width: usize, commands: usize },
}

impl Pattern {
    /// As the drivers in benches/peers read it.
    pub fn request(self) -> String {
        match self {
            Pattern::Tight { commands } => format!("tight {commands}"),
            Pattern::Spaced { commands } => format!("spaced {commands} {}", PAUSE.as_millis()),
            Pattern::Width { width, commands } => format!("width {width} {commands}"),
        }
    }
}

/// What came of it. It is also the answer of a driver, which knows nothing of logins.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Turn {
    /// Of the commands that succeeded, in the order of their ends, in milliseconds.
    pub ms: Vec<f64>,
    pub errors: usize,
    pub first_error: Option<String>,
    /// From the beginning of the first command to the end of the last one.
    pub seconds: f64,
    /// In sshd's log, those of the commands before the measurement included.
    #[serde(default)]
    pub logins: usize,
    /// Milliseconds of computing by the client's side: this process, and all that the peer has
    /// started.
    #[serde(default)]
    pub cpu: f64,
}

impl Turn {
    /// A turn in which nothing could be run.
    pub fn failed(why: String) -> Turn {
        Turn { errors: 1, first_error: Some(why), ..Turn::default() }
    }

    /// The middle one of the commands.
    pub fn median(&self) -> Option<f64> {
        stats::median(&self.ms)
    }

    /// What a command takes in a loop: all the time, by the number of commands. What a peer does
    /// between its commands counts.
    pub fn mean(&self) -> Option<f64> {
        (!self.ms.is_empty()).then(|| self.seconds * 1000.0 / (self.ms.len() + self.errors) as f64)
    }

    /// What the client's side computes for each command, in milliseconds.
    pub fn cpu_of_each(&self) -> Option<f64> {
        (!self.ms.is_empty()).then(|| self.cpu / (self.ms.len() + self.errors) as f64)
    }

    /// Takes in another turn of the same peer.
    pub fn append(&mut self, other: Turn) {
        self.ms.extend(other.ms);
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.seconds += other.seconds;
        self.logins += other.logins;
        self.cpu += other.cpu;
    }

    /// Commands that succeeded in a second.
    pub fn rate(&self) -> f64 {
        if self.seconds > 0.0 { self.ms.len() as f64 / self.seconds } else { 0.0 }
    }

    fn add(&mut self, outcome: Outcome) {
        match outcome {
            Ok(time) => self.ms.push(time.as_secs_f64() * 1000.0),
            Err(why) => {
                self.errors += 1;
                self.first_error.get_or_insert(why);
            }
        }
    }
}

type Outcome = Result<Duration, String>;

/// Runs the pattern with a command of this program. In a task of its own, as in a server, and not
/// on the thread that waits for it all.
pub async fn run<F, C>(pattern: Pattern, command: C) -> Turn
where
    C: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let turn = async move {
        match pattern {
            Pattern::Tight { commands } => one_by_one(commands, Duration::ZERO, command).await,
            Pattern::Spaced { commands } => one_by_one(commands, PAUSE, command).await,
            Pattern::Width { width, commands } => at_once(width, commands, command).await,
        }
    };
    tokio::spawn(turn).await.expect("a turn does not panic")
}

async fn timed<F: Future<Output = Result<(), String>>>(command: F) -> Outcome {
    let started = Instant::now();
    match tokio::time::timeout(DEADLINE, command).await {
        Ok(ended) => ended.map(|()| started.elapsed()),
        Err(_) => Err("no end within the deadline".to_owned()),
    }
}

async fn one_by_one<F, C>(commands: usize, pause: Duration, command: C) -> Turn
where
    C: Fn() -> F,
    F: Future<Output = Result<(), String>>,
{
    let (mut turn, started) = (Turn::default(), Instant::now());
    for _ in 0..commands {
        if started.elapsed() > PATIENCE {
            break;
        }
        turn.add(timed(command()).await);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    turn.seconds = started.elapsed().as_secs_f64();
    turn
}

async fn at_once<F, C>(width: usize, commands: usize, command: C) -> Turn
where
    C: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), String>> + Send,
{
    let (mut turn, started) = (Turn::default(), Instant::now());
    let begun = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for _ in 0..width {
        let (begun, command) = (Arc::clone(&begun), command.clone());
        workers.spawn(async move {
            let mut outcomes = Vec::new();
            while started.elapsed() < PATIENCE && begun.fetch_add(1, Ordering::Relaxed) < commands {
                outcomes.push(timed(command()).await);
            }
            outcomes
        });
    }
    while let Some(outcomes) = workers.join_next().await {
        outcomes
            .expect("a worker does not panic")
            .into_iter()
            .for_each(|outcome| turn.add(outcome));
    }
    turn.seconds = started.elapsed().as_secs_f64();
    turn
}
