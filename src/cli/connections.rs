//! `sshpool warm`, `status`, `close` and `metrics`: the connections that the agent keeps.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::table::aligned;
use super::watched::Watched;
use super::{Failure, NOT_RUN, Setup, ask, complain, print, print_json, write};
use crate::agent::client::{Client, NoAgent};
use crate::agent::wire::{self, HostSpec};
use crate::error::Error;
use crate::host::Host;
use crate::pool::ConnectionInfo;
use crate::pool::signals;
use crate::text::plain;

#[derive(Debug, Args)]
pub(super) struct Warm {
    /// Print one JSON array, with an object for each host
    #[arg(long)]
    json: bool,

    /// How many hosts are connected to at once, where nothing is asked
    #[arg(long, value_name = "N", default_value = "16")]
    concurrency: NonZeroUsize,

    /// Ask nothing, also on a terminal
    #[arg(long)]
    batch: bool,

    /// [user@]HOST[:port], ranges such as web[1-3], groups such as @web
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,
}

#[derive(Serialize)]
struct Warmed<'a> {
    host: &'a str,
    error: Option<String>,
    pid: Option<u32>,
    elapsed_ms: u128,
}

impl Warm {
    pub(super) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        let hosts = setup.hosts(&self.hosts)?;
        if !setup.has_agent() {
            let why = "without the agent nothing is kept, so that there is nothing to warm";
            return Err(Failure::Usage(why.to_owned()));
        }
        let client = setup.client(true).map_err(|no| Failure::Output(no.to_string()))?;
        client.reach().await.map_err(|no| Failure::Output(no.to_string()))?;
        let mut terminal = if self.batch { None } else { ask::Terminal::open() };
        if terminal.is_some() {
            // For the terminal's sake.
            signals::end_on_signals().map_err(|error| {
                Failure::Output(format!("cannot handle signals: {}", plain(&error)))
            })?;
        }
        let mut all = Vec::new();
        match &mut terminal {
            // One after the other: questions of several hosts at once would be mixed up.
            Some(terminal) => {
                for host in &hosts {
                    let started = Instant::now();
                    let connected = client
                        .connect_asking(host, async |question| terminal.ask(question).await)
                        .await;
                    all.push((connected, started.elapsed()));
                }
            }
            None => {
                let connect = async |host: &Host| {
                    let started = Instant::now();
                    (client.connect(host, false, true).await, started.elapsed())
                };
                all = crate::fleet::on_each(&hosts, self.concurrency, connect).await;
            }
        }
        let mut status = 0;
        let mut report = Vec::new();
        for (host, (connected, elapsed)) in hosts.iter().zip(&all) {
            let error =
                connected.as_ref().err().map(|error: &Error| super::told(error, host.name()));
            if let Some(error) = &error {
                status = NOT_RUN;
                complain(format_args!("{}: {error}", host.name()));
            } else if !self.json {
                print(&format!("{}: connected in {} ms", host.name(), elapsed.as_millis())).await?;
            }
            let pid = connected.as_ref().ok().map(|connected| connected.pid);
            report.push(Warmed { host: host.name(), error, pid, elapsed_ms: elapsed.as_millis() });
        }
        if self.json {
            print_json(&report).await?;
        }
        Ok(status)
    }
}

#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Show it again and again, every 2s or as often as is said here
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", require_equals = true, value_parser = crate::config::parse_duration)]
    watch: Option<Duration>,
}

impl Status {
    pub(super) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        let mut screen = Watched::default();
        loop {
            let found = found(setup).await?;
            let text = match (self.json, &found) {
                (true, found) => {
                    serde_json::to_string(found).expect("it has text keys and finite numbers")
                        + "\n"
                }
                (false, None) => "no agent runs\n".to_owned(),
                (false, Some(status)) => shown(status),
            };
            let Some(interval) = self.watch else {
                write(text).await?;
                return Ok(0);
            };
            if self.json {
                write(text).await?;
            } else {
                screen.show(&text).await?;
            }
            tokio::time::sleep(interval.max(Duration::from_millis(100))).await;
        }
    }
}

/// What the agent has; `None` where there is none.
async fn found(setup: &Setup) -> Result<Option<wire::Status>, Failure> {
    let status = match setup.client(false) {
        Ok(client) => client.get("/v1/status").await,
        Err(no) => Err(no),
    };
    match status {
        Ok(status) => Ok(Some(status)),
        Err(NoAgent::NotThere) => Ok(None),
        Err(no) => Err(Failure::Output(no.to_string())),
    }
}

fn shown(status: &wire::Status) -> String {
    let about = &status.agent;
    let heading = format!(
        "agent {} (pid {}), up {}; {} running",
        about.version,
        about.pid,
        span(about.uptime_ms),
        match about.commands {
            1 => "1 command".to_owned(),
            count => format!("{count} commands"),
        }
    );
    if status.connections.is_empty() {
        return format!("{heading}\nno connections\n");
    }
    let titles =
        ["HOST", "SLOT", "PID", "AGE", "IDLE", "SESSIONS", "STANDBY", "ECHO"].map(str::to_owned);
    let row = |of: &ConnectionInfo| {
        vec![
            of.host.clone(),
            of.slot.to_string(),
            of.pid.to_string(),
            span(of.age_ms),
            of.idle_ms.map_or_else(|| "-".to_owned(), span),
            format!("{}/{}", of.sessions, of.session_limit),
            if of.plain { "-".to_owned() } else { of.standby.to_string() },
            of.echo_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms")),
        ]
    };
    let rows = std::iter::once(titles.to_vec()).chain(status.connections.iter().map(row));
    format!("{heading}\n{}\n", aligned(&rows.collect::<Vec<_>>()))
}

/// As people say it, one unit.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[derive(Debug, Args)]
pub(super) struct Close {
    /// The connections to all hosts
    #[arg(long, conflicts_with = "hosts")]
    all: bool,

    /// End what runs on them at once
    #[arg(long)]
    now: bool,

    /// [user@]HOST[:port], ranges such as web[1-3], groups such as @web
    #[arg(value_name = "HOST", required_unless_present = "all")]
    hosts: Vec<String>,
}

impl Close {
    pub(super) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        let hosts = setup.hosts(&self.hosts)?;
        let close = wire::Close {
            hosts: hosts.iter().map(|host| HostSpec::Whole(host.into())).collect(),
            all: self.all,
            now: self.now,
        };
        let client: Client = match setup.client(false) {
            Ok(client) => client,
            Err(no) => return Err(Failure::Output(no.to_string())),
        };
        match client.post::<serde_json::Value>("/v1/close", &close).await {
            Ok(Ok(closed)) => {
                let count = closed["closed"].as_u64().unwrap_or(0);
                let s = if count == 1 { "" } else { "s" };
                print(&format!("{count} connection{s} closed")).await?;
                Ok(0)
            }
            Ok(Err(refused)) => Err(Failure::Usage(refused.error.message)),
            Err(NoAgent::NotThere) => {
                print("0 connections closed: no agent runs").await?;
                Ok(0)
            }
            Err(no) => Err(Failure::Output(no.to_string())),
        }
    }
}

/// Prints what `/metrics` has.
pub(super) async fn metrics(setup: &Setup) -> Result<u8, Failure> {
    let text = match setup.client(false) {
        Ok(client) => client.get_bytes("/metrics").await,
        Err(no) => Err(no),
    };
    let text = text.map_err(|no| Failure::Output(no.to_string()))?;
    write(String::from_utf8_lossy(&text).into_owned()).await?;
    Ok(0)
}
