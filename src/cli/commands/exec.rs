//! `sshpool exec`.

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::io::AsyncReadExt;

use crate::agent::{CommandResult, Failure};
use crate::cli::args::{Target, joined};
use crate::cli::failure::{self, cannot_read, place_to_look, status_of, told};
use crate::cli::output::print_json;
use crate::cli::relay::{exit_code, killed, relay};
use crate::cli::sudo::ByUser;
use crate::command::{Command, Runner, Stdin};
use crate::config;
use crate::error::{Error, PartialOutput};
use crate::host::Host;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool exec web1 -- uptime -p
  sshpool exec deploy@192.0.2.7:2222 -- 'df -P | sort -n'   pipes are the remote shell's
  sshpool exec --stdin db1 -- psql shop <dump.sql
  sshpool exec -K web1 -- systemctl restart nginx           by sudo, and asks for the password
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
    pub(in crate::cli) by_user: ByUser,

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
struct Report {
    #[serde(flatten)]
    result: CommandResult,
    #[serde(flatten)]
    old: Old,
}

/// The keys that `failure` and the keys in base64 stand for. They go with the next release.
#[derive(Serialize)]
struct Old {
    error: Option<String>,
    /// What is not UTF-8, with U+FFFD for each of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
}

impl Old {
    fn of(stdout: &[u8], stderr: &[u8], error: Option<String>) -> Self {
        let lossy = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(_) => None,
            Err(_) => Some(String::from_utf8_lossy(bytes).into_owned()),
        };
        Old { error, stdout: lossy(stdout), stderr: lossy(stderr) }
    }
}

impl Exec {
    pub(in crate::cli) async fn run(
        &self,
        runner: &dyn Runner,
        host: &Host,
    ) -> Result<u8, failure::Failure> {
        let timeout = self.timeout.unwrap_or(runner.defaults().command_timeout);
        let timeout = (!timeout.is_zero()).then_some(timeout);
        let mut command = runner.shell(host, joined(&self.command)).timeout(timeout);
        if let Some(bytes) = self.max_output {
            command = command.max_output(bytes);
        }
        if self.json { self.report(host, command).await } else { self.stream(host, command).await }
    }

    /// Everything at the end, as one object.
    async fn report(&self, host: &Host, mut command: Command) -> Result<u8, failure::Failure> {
        if self.stdin {
            let mut input = Vec::new();
            let read = tokio::io::stdin().read_to_end(&mut input).await;
            read.map_err(|error| cannot_read(&error))?;
            command = command.stdin(input);
        }
        let host = host.name();
        let started = Instant::now();
        let result = command.output().await;
        let elapsed = started.elapsed();
        let (report, status) = match result {
            Ok(output) => {
                let status = exit_code(output.status);
                let old = Old::of(&output.stdout, &output.stderr, killed(output.status));
                (Report { result: CommandResult::ended(host, output, elapsed), old }, status)
            }
            Err(error) => {
                let (partial, hint) = (partial_of(&error), limit_of(&error));
                let told = told(&error, host) + &hint;
                let old = Old::of(&partial.stdout, &partial.stderr, Some(told));
                let hint = place_to_look(&error, host) + &hint;
                let failure = Failure::of(&error, host, &hint);
                let result = CommandResult::failed(host, failure, partial, elapsed);
                (Report { result, old }, status_of(&error))
            }
        };
        print_json(&report).await?;
        Ok(status)
    }

    /// Every byte as it comes.
    async fn stream(&self, host: &Host, command: Command) -> Result<u8, failure::Failure> {
        let host = host.name();
        let input = if self.stdin { Stdin::Piped } else { Stdin::Empty };
        let child = command.stdin(input).spawn_and_read().await;
        let child =
            child.map_err(|error| failure::Failure::of(host, &error).limited_by(TIME_LIMIT))?;
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

fn partial_of(error: &Error) -> PartialOutput {
    match error {
        Error::Lost { partial, .. }
        | Error::TimedOut { partial, .. }
        | Error::OutputLimit { partial, .. } => PartialOutput::clone(partial),
        _ => PartialOutput::default(),
    }
}
