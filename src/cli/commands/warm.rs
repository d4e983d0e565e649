//! `sshpool warm`: connects before the first command.

use std::num::NonZeroUsize;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use crate::agent::protocol::Connected;
use crate::cli::ask;
use crate::cli::failure::{Failure, NOT_RUN, told};
use crate::cli::output::{complain, print, print_json};
use crate::cli::setup::Setup;
use crate::error::Error;
use crate::host::Host;
use crate::pool::signals;
use crate::text::plain;

#[derive(Debug, Args)]
pub(in crate::cli) struct Warm {
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
    /// What answers in place of a shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_shell: Option<String>,
}

/// What is known of an account in which no shell answers.
fn no_shell(connected: &Connected) -> Option<String> {
    let known = "its key has a forced command, or no shell was found there before";
    connected.forced.then(|| connected.no_shell.clone().unwrap_or_else(|| known.to_owned()))
}

impl Warm {
    pub(in crate::cli) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
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
            let error = connected.as_ref().err().map(|error: &Error| told(error, host.name()));
            let no_shell = connected.as_ref().ok().and_then(no_shell);
            if let Some(error) = &error {
                status = NOT_RUN;
                complain(format_args!("{}: {error}", host.name()));
            } else if !self.json {
                let but = no_shell.as_ref().map(|why| format!("; no shell answers there: {why}"));
                let (name, but) = (host.name(), but.unwrap_or_default());
                print(&format!("{name}: connected in {} ms{but}", elapsed.as_millis())).await?;
            }
            let pid = connected.as_ref().ok().map(|connected| connected.pid);
            let (host, elapsed_ms) = (host.name(), elapsed.as_millis());
            report.push(Warmed { host, error, pid, elapsed_ms, no_shell });
        }
        if self.json {
            print_json(&report).await?;
        }
        Ok(status)
    }
}
