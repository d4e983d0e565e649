//! `sshpool status`: the connections that the agent keeps.

use std::time::Duration;

use clap::Args;

use crate::agent::client::NoAgent;
use crate::agent::protocol;
use crate::cli::failure::Failure;
use crate::cli::output::table::aligned;
use crate::cli::output::watched::Watched;
use crate::cli::output::write;
use crate::cli::setup::Setup;
use crate::pool::ConnectionInfo;

#[derive(Debug, Args)]
pub(in crate::cli) struct Status {
    /// Print one JSON object
    #[arg(long)]
    json: bool,

    /// Show it again and again, every 2s or as often as is said here
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "2s", require_equals = true, value_parser = crate::config::parse_duration)]
    watch: Option<Duration>,
}

impl Status {
    pub(in crate::cli) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
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
async fn found(setup: &Setup) -> Result<Option<protocol::Status>, Failure> {
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

fn shown(status: &protocol::Status) -> String {
    let about = &status.agent;
    let mut heading = format!(
        "agent {} (pid {}), up {}; {} running",
        about.version,
        about.pid,
        span(about.uptime_ms),
        match about.commands {
            1 => "1 command".to_owned(),
            count => format!("{count} commands"),
        }
    );
    match about.forwards {
        0 => {}
        1 => heading += "\n1 forward (`sshpool forward ls` shows it)",
        count => heading += &format!("\n{count} forwards (`sshpool forward ls` shows them)"),
    }
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
