//! `sshpool exec`.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::agent::Way;
use crate::cli::args::{Target, joined};
use crate::cli::failure::{Failure, cannot_read, status_of, told};
use crate::cli::output::print_json;
use crate::cli::relay::{exit_code, killed, relay};
use crate::command::{Command, Stdin};
use crate::config;
use crate::error::{Error, PartialOutput};
use crate::host::Host;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool exec web1 -- uptime -p
  sshpool exec deploy@192.0.2.7:2222 -- 'df -P | sort -n'   pipes are the remote shell's
  sshpool exec --stdin db1 -- psql shop <dump.sql
  sshpool exec --timeout 5m --max-output 1MiB web1 -- 'apt-get update'
  sshpool exec --json web1 -- cat /etc/os-release | jq -r .stdout")]
pub(in crate::cli) struct Exec {
    /// End the command after this time, such as 90s or 5m; 0 for no limit. Connecting does not
    /// count: it has the connect_timeout of the settings [default: the command_timeout of the
    /// settings, 30s]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    timeout: Option<Duration>,

    /// Give up, with status 255, when the command has written more than this to stdout or to
    /// stderr, such as 64KiB [default: no limit, with --json the max_output of the settings, 10MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    max_output: Option<usize>,

    /// Give the command this program's stdin; otherwise it reads nothing
    #[arg(long)]
    stdin: bool,

    /// Print one JSON object when the command has ended, instead of its output
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(in crate::cli) target: Target,

    /// The command and its words
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    host: &'a str,
    /// The remote command's status; null when a signal ended it or when `error` says why there is
    /// none.
    exit_code: Option<i32>,
    error: Option<String>,
    stdout: String,
    stderr: String,
    elapsed_ms: u128,
}

impl Exec {
    pub(in crate::cli) async fn run(&self, way: &Way, host: &Host) -> Result<u8, Failure> {
        let timeout = self.timeout.unwrap_or(way.config().command_timeout);
        let timeout = (!timeout.is_zero()).then_some(timeout);
        let mut command = way.shell(host, joined(&self.command)).timeout(timeout);
        if let Some(bytes) = self.max_output {
            command = command.max_output(bytes);
        }
        if self.json { self.report(host, command).await } else { self.stream(host, command).await }
    }

    /// Everything at the end, as one object.
    async fn report(&self, host: &Host, mut command: Command) -> Result<u8, Failure> {
        if self.stdin {
            let mut input = Vec::new();
            let read = tokio::io::stdin().read_to_end(&mut input).await;
            read.map_err(|error| cannot_read(&error))?;
            command = command.stdin(input);
        }
        let host = host.name();
        let started = Instant::now();
        let result = command.output().await;
        let elapsed_ms = started.elapsed().as_millis();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (report, status) = match result {
            Ok(output) => {
                let error = killed(output.status);
                let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
                let status = output.status.code();
                let report = Report { host, exit_code: status, error, stdout, stderr, elapsed_ms };
                (report, exit_code(output.status))
            }
            Err(error) => {
                let partial = partial_of(&error);
                let report = Report {
                    host,
                    exit_code: None,
                    error: Some(told(&error, host) + &limit_of(&error)),
                    stdout: text(&partial.stdout),
                    stderr: text(&partial.stderr),
                    elapsed_ms,
                };
                (report, status_of(&error))
            }
        };
        print_json(&report).await?;
        Ok(status)
    }

    /// Every byte as it comes.
    async fn stream(&self, host: &Host, command: Command) -> Result<u8, Failure> {
        let host = host.name();
        let input = if self.stdin { Stdin::Piped } else { Stdin::Empty };
        let child = command.stdin(input).spawn().await;
        let child = child.map_err(|error| Failure::of(host, &error).limited_by(TIME_LIMIT))?;
        let relayed = relay(child, host, self.max_output.unwrap_or(usize::MAX)).await;
        Ok(relayed.map_err(|failure| failure.limited_by(TIME_LIMIT))?.exit_code(host))
    }
}

/// What sets the time limit.
const TIME_LIMIT: &str = "--timeout, or command_timeout in the settings";

/// What sets the limit that was reached, for whoever has set none.
fn limit_of(error: &Error) -> String {
    match error {
        Error::TimedOut { .. } => format!(" ({TIME_LIMIT})"),
        Error::OutputLimit { .. } => " (--max-output, or max_output in the settings)".to_owned(),
        _ => String::new(),
    }
}

/// As the setting `max_output`, from 1 byte: who wants none of the output has /dev/null.
fn parse_limit(text: &str) -> Result<usize, String> {
    match config::parse_size(text) {
        Ok(0) => Err("the least is 1B".to_owned()),
        size => size.map_err(|error| error.to_string()),
    }
}

fn partial_of(error: &Error) -> Arc<PartialOutput> {
    match error {
        Error::Lost { partial, .. }
        | Error::TimedOut { partial, .. }
        | Error::OutputLimit { partial, .. } => Arc::clone(partial),
        _ => Arc::default(),
    }
}
