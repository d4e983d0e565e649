//! One round: a pool of its own, its load, its storms, and what is left when it is closed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sshpool::{Host, Pool, PoolConfig, SessionReuse};
use tokio::time::{sleep, timeout};

use crate::copies;
use crate::ends::Ends;
use crate::faults::{self, Draw, Fault};
use crate::footprint::{self, Footprint};
use crate::job::TIMEOUT;
use crate::judge;
use crate::lab::Lab;
use crate::leftover;
use crate::load::Load;
use crate::random::Random;
use crate::streams::{self, Service};
use crate::sudo;
use crate::support::common::sshd::Sshd;
use crate::told::Outcome;
use crate::{CLOSING, HOP, ROUNDING, SETTINGS};

/// How long a pool may take until a plain command works, when no fault is on any more. A command
/// may have to find out first, by its timeout and a probe, that its connection is of no use, and
/// the pauses after failed logins have become as long as the fault was. Behind a jump host a pause of
/// the host's own can be followed by one of the jump host's.
const fn recovery(is_over_hop: bool) -> Duration {
    Duration::from_secs(if is_over_hop { 60 } else { 30 })
}
/// Between two storms, for everything that works to be at work.
const QUIET: Duration = Duration::from_millis(1500);
/// What `session_reuse` can be.
const REUSES: &[SessionReuse] = &[SessionReuse::Off, SessionReuse::Exact, SessionReuse::Fast];
/// How long something that ends without being waited for may take.
pub const SETTLING: Duration = Duration::from_secs(10);

/// What a round has found.
#[derive(Default)]
pub struct Found {
    pub outcomes: BTreeMap<Outcome, usize>,
    /// The errors of commands that never started.
    pub never_started: BTreeMap<&'static str, usize>,
    pub faults: BTreeMap<Fault, usize>,
    /// Commands whose processes lived on, by what their callers were told.
    pub outliving: BTreeMap<Outcome, usize>,
    /// Processes that commands left behind on purpose.
    pub leftovers: BTreeMap<leftover::Kind, usize>,
    /// How the streams of the forward ended.
    pub streams: BTreeMap<&'static str, usize>,
    /// How copies of files ended.
    pub copies: BTreeMap<&'static str, usize>,
    /// How commands by sudo ended.
    pub sudo: BTreeMap<&'static str, usize>,
    pub failures: Vec<String>,
    pub slowest_recovery: Duration,
    /// Lines in the record.
    pub lines: usize,
    pub memory: u64,
}

/// What a round is like.
#[derive(Debug)]
pub struct Settings {
    config: PoolConfig,
    workers: usize,
    keepalive: usize,
    /// Closes the pool while its callers go on.
    closes_early: bool,
    /// The server is behind a jump host.
    is_over_hop: bool,
}

impl Settings {
    /// Those of a round. `fixed` is in the place of what is drawn for `session_reuse`.
    pub fn draw(seed: u64, fixed: Option<SessionReuse>) -> Settings {
        let mut random = Random::of(seed, &[SETTINGS]);
        let config = PoolConfig::default()
            .max_connections(random.between(1, 4))
            .sessions_per_connection(random.between(1, 5))
            .standby_sessions(random.between(0, 3))
            .idle_timeout(random.pick(&[500, 3000, 60_000].map(Duration::from_millis)))
            .connect_timeout(Duration::from_secs(3))
            .health_checks(random.percent(80))
            .health_check_interval(random.pick(&[300, 2000].map(Duration::from_millis)))
            .acquire_timeout(random.pick(&[200, 2000, 6000, 6000].map(Duration::from_millis)))
            .command_timeout(TIMEOUT);
        // Queues form, and yet most callers get their turn.
        let sessions = config.max_connections * config.sessions_per_connection;
        let workers = random.between(8, 8 + 2 * sessions.min(16));
        let (keepalive, closes_early) = (random.between(1, 3), random.percent(50));
        // The last that is drawn: all else is the same, whatever there is to choose from.
        let drawn = random.pick(REUSES);
        let mut config = config.session_reuse(fixed.unwrap_or(drawn));
        if fixed.is_some_and(|fixed| fixed != SessionReuse::Off) {
            // Without standby no session is used again.
            config.standby_sessions = config.standby_sessions.max(1);
        }
        let is_over_hop = Random::of(seed, &[SETTINGS, HOP]).percent(50);
        Settings { config, workers, keepalive, closes_early, is_over_hop }
    }

    fn text(&self) -> String {
        let config = &self.config;
        format!(
            "{}{} callers, {} connections of {} sessions, {} in standby, reuse {}, idle {:?}, checks {}, acquire {:?}",
            if self.is_over_hop { "behind a jump host, " } else { "" },
            self.workers,
            config.max_connections,
            config.sessions_per_connection,
            config.standby_sessions,
            config.session_reuse,
            config.idle_timeout,
            if config.health_checks {
                format!("{:?}", config.health_check_interval)
            } else {
                "off".to_owned()
            },
            config.acquire_timeout
        )
    }
}

/// The words for what `session_reuse` can be.
pub fn reuses() -> String {
    REUSES.iter().map(ToString::to_string).collect::<Vec<_>>().join("|")
}

/// Runs a round. `before` is what this process had before it.
pub async fn run(
    lab: &Arc<Lab>,
    seed: u64,
    number: usize,
    settings: Settings,
    lasts: Duration,
    before: Footprint,
) -> Found {
    let round = format!("r{number}");
    println!("round {number}: seed {seed}, {}", settings.text());
    let mut found = Found::default();
    let log = Arc::new(faults::Log::default());
    let pool =
        Pool::new(settings.config.clone()).expect("there is an ssh, and the settings are valid");
    let host = lab.host(settings.keepalive, settings.is_over_hop);
    let stop = AtomicBool::new(false);
    let load = Load { pool: pool.clone(), host: host.clone(), seed, round: round.clone(), stop };
    let load = Arc::new(load);
    let mut callers = Load::start(&load, settings.workers);
    let service = Service::start().await;
    let forward = pool.forward(&host, &streams::spec(&service)).await;
    let forward = Arc::new(forward.expect("it listens without a login"));
    let copiers = tokio::spawn(copies::run(Arc::clone(&load), Arc::clone(&log)));
    let by_sudo = tokio::spawn(sudo::run(Arc::clone(&load)));
    let clients = tokio::spawn(streams::run(Arc::clone(&load), Arc::clone(&forward)));

    let end = Instant::now() + lasts;
    let mut storms = 0;
    while Instant::now() < end {
        let lasts = Duration::from_secs(8).min(end.saturating_duration_since(Instant::now()));
        let (strikes, log) = (Arc::clone(lab), Arc::clone(&log));
        let draw = Draw { seed, number: storms, is_over_hop: settings.is_over_hop };
        let storm = move || faults::storm(&strikes, &log, draw, lasts);
        if tokio::task::spawn_blocking(storm).await.is_err() {
            found.failures.push(format!("round {number}: a fault could not be done (see above)"));
        }
        storms += 1;
        recovers(lab, &pool, &host, settings.is_over_hop, number, &mut found).await;
        check_stats(&pool, number, settings.is_over_hop, &mut found);
        sleep(QUIET.min(end.saturating_duration_since(Instant::now()))).await;
    }
    if settings.closes_early {
        let stop = async {
            // A moment in which callers meet a pool that is closed.
            sleep(Duration::from_millis(200)).await;
            load.stop.store(true, Ordering::Relaxed);
        };
        tokio::join!(close(&pool, number, &mut found), stop);
    }
    load.stop.store(true, Ordering::Relaxed);
    let mut done = Vec::new();
    // Each has a limit of its own, which is told as a hang.
    while let Some(joined) = callers.join_next().await {
        match joined {
            Ok(more) => done.extend(more),
            Err(error) => {
                found.failures.push(format!("round {number}: a caller panicked: {error}"))
            }
        }
    }
    let streams = clients.await.expect("its tasks are looked at");
    let copies = copiers.await.expect("its tasks are looked at");
    let (by_sudo, told) = by_sudo.await.expect("its tasks are looked at");
    for (what, Ends { ends, failures }, into) in [
        ("streams", streams, &mut found.streams),
        ("copies", copies, &mut found.copies),
        ("sudo", by_sudo, &mut found.sudo),
    ] {
        *into = ends;
        let told = |failure| format!("round {number}: {what}: {failure}");
        found.failures.extend(failures.into_iter().map(told));
    }
    drop((forward, service));
    if !settings.closes_early {
        recovers(lab, &pool, &host, settings.is_over_hop, number, &mut found).await;
        settles(&pool, number, settings.is_over_hop, &mut found).await;
        close(&pool, number, &mut found).await;
    }
    drop((pool, load));
    found.faults = log.counted();

    leaves_nothing(lab, number, before, &mut found).await;
    judge::judge(lab, &round, &done, &log, &mut found);
    let failures = sudo::judge(lab, &told);
    found.failures.extend(failures.into_iter().map(|failure| format!("round {number}: {failure}")));
    drop((done, log));
    found.memory = Footprint::look().memory;
    found
}

/// With no fault on, a plain command works soon.
async fn recovers(
    lab: &Lab,
    pool: &Pool,
    host: &Host,
    is_over_hop: bool,
    number: usize,
    found: &mut Found,
) {
    let most = recovery(is_over_hop);
    let start = Instant::now();
    let mut last = String::new();
    while start.elapsed() < most {
        match timeout(most + ROUNDING, pool.exec(host, "echo works")).await {
            Ok(Ok(text)) if text == "works" => {
                found.slowest_recovery = found.slowest_recovery.max(start.elapsed());
                return;
            }
            Ok(Ok(text)) => last = format!("`echo works` gave {text:?}"),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "nothing came back".to_owned(),
        }
        sleep(Duration::from_millis(50)).await;
    }
    found.failures.push(format!(
        "round {number}: no command works {:?} after the last fault: {last}; {:?}; the server's log: \
         {:?}; the hop's: {:?}",
        start.elapsed(),
        pool.stats(),
        last_lines(&lab.sshd),
        last_lines(&lab.hop)
    ));
}

fn last_lines(sshd: &Sshd) -> Vec<String> {
    let log = sshd.log();
    let mut lines: Vec<String> = log.lines().rev().take(12).map(str::to_owned).collect();
    lines.reverse();
    lines
}

fn check_stats(pool: &Pool, number: usize, is_over_hop: bool, found: &mut Found) {
    let stats = pool.stats();
    // Those to the hop are connections, too.
    let hosts = if is_over_hop { 2 } else { 1 };
    if stats.active_connections + stats.idle_connections != stats.total_connections
        || stats.total_connections > hosts * pool.config().max_connections
    {
        found.failures.push(format!("round {number}: the statistics do not add up: {stats:?}"));
    }
}

/// When no caller is left nothing is held, and nobody waits.
async fn settles(pool: &Pool, number: usize, is_over_hop: bool, found: &mut Found) {
    let start = Instant::now();
    loop {
        let stats = pool.stats();
        // The idle connections over a hop have channels there.
        let (channels, hops) = match is_over_hop {
            true => (stats.idle_connections, pool.config().max_connections),
            false => (0, 0),
        };
        let is_at_rest = stats.open_sessions <= channels && stats.active_connections <= hops;
        if is_at_rest && stats.waiting == 0 {
            return;
        }
        if start.elapsed() > SETTLING {
            let failure =
                format!("round {number}: without a caller something is still held: {stats:?}");
            return found.failures.push(failure);
        }
        sleep(Duration::from_millis(10)).await;
    }
}

async fn close(pool: &Pool, number: usize, found: &mut Found) {
    if timeout(CLOSING, pool.close()).await.is_err() {
        found.failures.push(format!("round {number}: close() did not end within {CLOSING:?}"));
    }
}

/// After `close` nothing is there that was not there before.
async fn leaves_nothing(lab: &Lab, number: usize, before: Footprint, found: &mut Found) {
    let sockets = lab.own_sockets();
    let left = footprint::entries(&sockets).expect("the directory is ours");
    if !left.is_empty() {
        found.failures.push(format!("round {number}: after close() there is {left:?}"));
    }
    let look =
        || footprint::processes_with(&sockets.display().to_string()).expect("there is a /proc");
    let processes = look();
    if !processes.is_empty() {
        let start = Instant::now();
        while !look().is_empty() && start.elapsed() < SETTLING {
            sleep(Duration::from_millis(1)).await;
        }
        let stays = start.elapsed();
        found.failures.push(format!(
            "round {number}: after close() there runs, for another {stays:?}, {processes:?}"
        ));
    }
    let start = Instant::now();
    loop {
        let now = Footprint::look();
        let grown = now.descriptors > before.descriptors
            || now.threads > before.threads
            || now.children > before.children;
        if !grown {
            return;
        }
        if start.elapsed() > SETTLING {
            let descriptors = footprint::descriptors();
            found.failures.push(format!(
                "round {number}: this process has grown from {before:?} to {now:?}: {descriptors:?}"
            ));
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
}
