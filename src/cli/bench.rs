//! `sshpool bench`: the same command by plain ssh, with a login each time, and through the pool.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Failure, Session, Target, print, print_json};
use crate::error::Error;

/// What is run. It does nothing, so that what is measured is the way there and back.
const COMMAND: &str = "true";

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// How often the command is run each way
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,

    /// How many at once, of logins too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    concurrency: u32,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) target: Target,
}

/// The times of one way, in milliseconds.
#[derive(Serialize)]
struct Times {
    median_ms: Option<f64>,
    p95_ms: Option<f64>,
    errors: usize,
    /// The first of them.
    error: Option<String>,
}

#[derive(Serialize)]
struct Report {
    host: String,
    kex: Option<String>,
    command: &'static str,
    count: u32,
    concurrency: u32,
    cold: Times,
    pooled: Times,
    /// How many times faster the pool's median is.
    ratio: Option<f64>,
    /// Logins of the pool.
    connects: u64,
    /// The part of the pool's commands that made no login, 0 to 1.
    reuse_rate: f64,
}

/// One run: how long it took, or why it failed.
type Run = Result<Duration, String>;

impl Bench {
    pub(super) async fn run(&self, session: &Session) -> Result<u8, Failure> {
        let Session { pool, host } = session;
        let ssh = pool.core().transport.clone();
        let limit = pool.config().command_timeout;
        // The first one logs in. It fails early where that is not possible, and makes the host's key known to the plain ssh.
        let started = Instant::now();
        let first = pool.shell(host, COMMAND).output().await.map_err(|error| session.failure(error))?;
        let mut pooled = vec![succeeded(Ok(first)).map(|()| started.elapsed())];
        let mut cold = Vec::new();
        let kex = ssh.kex(host, limit).await;
        let mut left = self.count;
        // In turns, so that a noisy moment of the machine meets both.
        while left > 0 {
            let width = left.min(self.concurrency);
            left -= width;
            let by_ssh = || {
                let (ssh, host) = (ssh.clone(), host.clone());
                async move { ssh.cold(&host, COMMAND, limit).await }
            };
            cold.extend(at_once(width, by_ssh).await);
            let by_pool = || {
                let command = pool.shell(host, COMMAND);
                async move { succeeded(command.output().await) }
            };
            // The first one has run already.
            let width = if left == 0 { width - 1 } else { width };
            pooled.extend(at_once(width, by_pool).await);
        }
        let connects = pool.stats().connects;
        let (cold, pooled) = (Times::of(cold), Times::of(pooled));
        let report = Report {
            host: host.key().to_string(),
            kex,
            command: COMMAND,
            count: self.count,
            concurrency: self.concurrency,
            ratio: cold.median_ms.zip(pooled.median_ms).map(|(cold, pooled)| cold / pooled),
            cold,
            pooled,
            connects,
            reuse_rate: 1.0 - connects as f64 / f64::from(self.count),
        };
        if self.json {
            print_json(&report).await?
        } else {
            print(&report.table()).await?
        }
        Ok(u8::from(report.cold.errors + report.pooled.errors > 0))
    }
}

/// Runs `width` at once, and gives how long each took.
async fn at_once<F>(width: u32, run: impl Fn() -> F) -> Vec<Run>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let mut runs = JoinSet::new();
    for _ in 0..width {
        let run = run();
        runs.spawn(async move {
            let started = Instant::now();
            run.await.map(|()| started.elapsed())
        });
    }
    runs.join_all().await
}

fn succeeded(result: Result<crate::Output, Error>) -> Result<(), String> {
    match result {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(output.status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl Times {
    fn of(runs: Vec<Run>) -> Self {
        let (mut times, mut failures) = (Vec::new(), Vec::new());
        for run in runs {
            match run {
                Ok(time) => times.push(time.as_secs_f64() * 1000.0),
                Err(failure) => failures.push(failure),
            }
        }
        times.sort_by(f64::total_cmp);
        Times {
            median_ms: percentile(&times, 0.5),
            p95_ms: percentile(&times, 0.95),
            errors: failures.len(),
            error: failures.into_iter().next(),
        }
    }

    fn row(&self, name: &str) -> String {
        let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.2} ms"));
        format!("{name:<10}{:>12}{:>12}{:>8}", ms(self.median_ms), ms(self.p95_ms), self.errors)
    }
}

/// The smallest value that at least `part` of all do not exceed. `sorted` is in ascending order.
fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

impl Report {
    fn table(&self) -> String {
        let mut lines = vec![
            format!(
                "{}: \"{}\", {} times each way, {} at once",
                self.host, self.command, self.count, self.concurrency
            ),
            format!("{:<10}{:>12}{:>12}{:>8}", "", "median", "p95", "errors"),
            self.cold.row("cold ssh"),
            self.pooled.row("pooled"),
            match self.ratio {
                Some(ratio) => format!("{:<10}{ratio:>11.1}x", "ratio"),
                None => format!("{:<10}{:>12}", "ratio", "-"),
            },
            format!(
                "{:<10}{:>10.1} %   ({} login{})",
                "reuse",
                self.reuse_rate * 100.0,
                self.connects,
                if self.connects == 1 { "" } else { "s" }
            ),
            format!("{:<10}  {}", "kex", self.kex.as_deref().unwrap_or("unknown")),
        ];
        for (name, times) in [("cold ssh", &self.cold), ("pooled", &self.pooled)] {
            lines.extend(times.error.as_ref().map(|error| format!("first error of {name}: {error}")));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[], 0.5, None)]
    #[case(&[7.0], 0.5, Some(7.0))]
    #[case(&[7.0], 0.95, Some(7.0))]
    #[case(&[1.0, 2.0, 3.0], 0.5, Some(2.0))]
    #[case(&[1.0, 2.0, 3.0, 4.0], 0.5, Some(2.0))]
    #[case(&[1.0, 2.0, 3.0, 4.0], 0.95, Some(4.0))]
    fn percentiles_are_values_that_occurred(
        #[case] sorted: &[f64],
        #[case] part: f64,
        #[case] expected: Option<f64>,
    ) {
        assert_eq!(percentile(sorted, part), expected);
    }

    #[test]
    fn failed_runs_are_counted_and_not_timed() {
        let times =
            Times::of(vec![Ok(Duration::from_millis(3)), Err("no".into()), Ok(Duration::from_millis(1))]);
        assert_eq!((times.median_ms, times.p95_ms, times.errors), (Some(1.0), Some(3.0), 1));
        assert_eq!(times.error.as_deref(), Some("no"));
    }
}
