//! `sshpool bench`: the same command by plain ssh, with a login each time, and through the pool.

mod report;
mod run;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::args::Target;
use super::failure::{Failure, NOT_RUN};
use super::output::{print, print_json};
use super::setup::Session;
use crate::config::{self, PoolConfig};
use crate::host::Host;
use crate::pool::Pool;
use report::{Report, Times};
use run::{By, Contender, Pattern};

/// What is run. It does nothing, so that what is measured is the way there and back.
const COMMAND: &str = "true";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool bench web1                          20 commands each way
  sshpool bench --count 200 web1              200 commands each way
  sshpool bench --concurrency 8 web1          how many commands a second 8 at once make
  sshpool bench --json web1 | jq .ratio")]
pub(super) struct Bench {
    /// How often the command is run each way; with fewer than 60 the figures of the tight ways
    /// swing from run to run
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,

    /// How many at once, of logins too
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    concurrency: u32,

    /// How long to wait before each command, or before each N of them at once. The ways have turns,
    /// so each of them waits longer from one command to its next. Those that are called tight have
    /// no pause
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = parse_pause)]
    pause: Duration,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) target: Target,
}

impl Bench {
    pub(super) async fn run(&self, session: &Session) -> Result<u8, Failure> {
        let no_standby = without_standby(session)?;
        let measured = self.measure(session, no_standby.as_ref()).await;
        for pool in no_standby.iter().chain([&session.pool]) {
            pool.close_within(Duration::ZERO).await;
        }
        let report = measured?;
        if self.json {
            print_json(&report).await?;
        } else {
            print(&report.table()).await?;
        }
        Ok(u8::from(report.errors() > 0))
    }

    async fn measure(
        &self,
        session: &Session,
        no_standby: Option<&Pool>,
    ) -> Result<Report, Failure> {
        let (pool, host) = (&session.pool, &session.host);
        let limit = pool.config().command_timeout;
        // The first command logs in, which is not what a warm pool is to show: it is told by
        // itself. It fails early where no login is possible, and makes the host's key known to the
        // plain ssh.
        let first = first_command(pool, host).await?;
        if let Some(pool) = no_standby {
            first_command(pool, host).await?;
        }
        let ssh = Arc::clone(&pool.core().transport);
        let kex = ssh.kex(host, limit).await;

        let pooled = |pool: &Pool| By::Pool { pool: pool.clone(), host: host.clone() };
        // A login is so long that a pause before it makes no difference: there is one way with it
        // only.
        let mut ways = vec![
            Contender::new(By::Ssh { ssh, host: host.clone(), limit }, Pattern::Spaced),
            Contender::new(pooled(pool), Pattern::Spaced),
            Contender::new(pooled(pool), Pattern::Tight),
        ];
        if let Some(pool) = no_standby {
            ways.extend(
                [Pattern::Spaced, Pattern::Tight]
                    .map(|pattern| Contender::new(pooled(pool), pattern)),
            );
        }
        run::in_turns(&mut ways, self.count, self.concurrency, self.pause).await;

        let mut times = ways.into_iter().map(|way| Times::of(way, self.concurrency));
        let mut next = || times.next().expect("all ways were measured");
        let standby = pool.config().standby_sessions > 0;
        let stats = pool.stats();
        let milliseconds = |duration: Duration| duration.as_secs_f64() * 1000.0;
        Ok(Report {
            host: host.name().to_owned(),
            kex,
            command: COMMAND,
            count: self.count,
            concurrency: self.concurrency,
            pause_ms: milliseconds(self.pause),
            cold: next(),
            pooled: next(),
            pooled_tight: next(),
            no_standby: no_standby.map(|_| next()),
            no_standby_tight: no_standby.map(|_| next()),
            ratio: None,
            first_ms: milliseconds(first),
            connects: stats.connects,
            reuse_rate: 0.0,
            standby_hits: standby.then_some(stats.standby_hits),
        }
        .with_ratios())
    }
}

/// A pool that differs from the configured one in this alone; none where that has no standby
/// either.
fn without_standby(session: &Session) -> Result<Option<Pool>, Failure> {
    let config = session.pool.config();
    if config.standby_sessions == 0 {
        return Ok(None);
    }
    let pool = Pool::new(PoolConfig { standby_sessions: 0, ..config.clone() })
        .and_then(|pool| pool.close_on_signals().map(|()| pool));
    pool.map(Some).map_err(|error| session.failure(error))
}

/// How long it took, its login included.
async fn first_command(pool: &Pool, host: &Host) -> Result<Duration, Failure> {
    let started = Instant::now();
    let output = pool
        .shell(host, COMMAND)
        .output()
        .await
        .map_err(|error| Failure::of(host.name(), &error))?;
    if output.status.success() {
        return Ok(started.elapsed());
    }
    let text = format!(
        "the command \"{COMMAND}\" ended with {}: there is nothing to measure",
        output.status
    );
    Err(Failure::Host { host: host.name().to_owned(), text, status: NOT_RUN })
}

/// Without a pause there would be two rows of the same.
fn parse_pause(text: &str) -> Result<Duration, String> {
    match config::parse_duration(text) {
        Ok(time) if time.is_zero() => {
            Err("the least is 1ms; without a pause are the ways that are called tight".to_owned())
        }
        time => time.map_err(|error| error.to_string()),
    }
}
