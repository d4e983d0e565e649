//! `sshpool exec`.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Failure, NOT_RUN, Session, TIMED_OUT, Target, without_host};
use crate::command::{Command, ExitStatus, Stdin};
use crate::config;
use crate::error::{Error, PartialOutput};

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// End the command after this time, such as 90s or 5m; 0 for no limit [default: the command_timeout of the settings, 30s]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    timeout: Option<Duration>,

    /// Give up when the command has written more than this to stdout or to stderr, such as 64KiB [default: no limit, with
    /// --json the max_output of the settings, 10MiB]
    #[arg(long, value_name = "SIZE", value_parser = config::parse_size)]
    max_output: Option<usize>,

    /// Give the command this program's stdin; otherwise it reads nothing
    #[arg(long)]
    stdin: bool,

    /// Print one JSON object when the command has ended, instead of its output
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    pub(super) target: Target,

    /// The command and its words
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    host: &'a str,
    /// The remote command's status; null when a signal ended it or when `error` says why there is none.
    exit_code: Option<i32>,
    error: Option<String>,
    stdout: String,
    stderr: String,
    elapsed_ms: u128,
}

impl Exec {
    pub(super) async fn run(&self, session: &Session) -> Result<u8, Failure> {
        let timeout = self.timeout.unwrap_or(session.pool.config().command_timeout);
        let timeout = (!timeout.is_zero()).then_some(timeout);
        let mut command = session.pool.shell(&session.host, self.command.join(" ")).timeout(timeout);
        if let Some(bytes) = self.max_output {
            command = command.max_output(bytes);
        }
        if self.json { self.report(session, command).await } else { self.stream(session, command).await }
    }

    /// Everything at the end, as one object.
    async fn report(&self, session: &Session, mut command: Command) -> Result<u8, Failure> {
        if self.stdin {
            let mut input = Vec::new();
            let read = tokio::io::stdin().read_to_end(&mut input).await;
            read.map_err(|error| Failure::Usage(format!("cannot read stdin: {error}")))?;
            command = command.stdin(input);
        }
        let host = session.host.name();
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
                    error: Some(without_host(&error, host)),
                    stdout: text(&partial.stdout),
                    stderr: text(&partial.stderr),
                    elapsed_ms,
                };
                (report, if matches!(error, Error::TimedOut { .. }) { TIMED_OUT } else { NOT_RUN })
            }
        };
        super::print_json(&report)?;
        Ok(status)
    }

    /// Every byte as it comes.
    async fn stream(&self, session: &Session, command: Command) -> Result<u8, Failure> {
        let input = if self.stdin { Stdin::Piped } else { Stdin::Empty };
        let mut child = command.stdin(input).spawn().await.map_err(|error| session.failure(error))?;
        let stdin = child.stdin.take().map(|to| tokio::spawn(feed(to)));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let most = self.max_output.unwrap_or(usize::MAX);
        let copied = tokio::try_join!(
            copy(stdout, tokio::io::stdout(), "stdout", most),
            copy(stderr, tokio::io::stderr(), "stderr", most),
        );
        match copied {
            Ok(((), ())) => {}
            Err(Stopped::NobodyReads) => return Err(Failure::NobodyReads),
            Err(Stopped::Limit(stream)) => {
                let host = session.host.name().to_owned();
                let error = Error::OutputLimit { host, stream, limit: most, partial: Arc::default() };
                return Err(session.failure(error));
            }
            Err(Stopped::Failed(stream, error)) => {
                return Err(Failure::Usage(format!("cannot write to {stream}: {error}")));
            }
        }
        let status = child.wait().await.map_err(|error| session.failure(error))?;
        if let Some(stdin) = stdin {
            stdin.abort();
        }
        if let Some(words) = killed(status) {
            super::fail(format_args!("{}: {words}", session.host.name()), NOT_RUN);
        }
        Ok(exit_code(status))
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    // ssh gives 255 for a command that a signal ended, and so do we. A status is 0 to 255.
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_RUN)
}

fn killed(status: ExitStatus) -> Option<String> {
    status.code().is_none().then(|| "command was killed by a signal".to_owned())
}

fn partial_of(error: &Error) -> Arc<PartialOutput> {
    match error {
        Error::Lost { partial, .. }
        | Error::TimedOut { partial, .. }
        | Error::OutputLimit { partial, .. } => Arc::clone(partial),
        _ => Arc::default(),
    }
}

async fn feed(mut to: impl AsyncWrite + Unpin) {
    // A command need not read its input, and an input that cannot be read any more has ended.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut to).await;
}

enum Stopped {
    NobodyReads,
    Limit(&'static str),
    Failed(&'static str, io::Error),
}

/// Copies until the end, or until `most` bytes were written and there are more.
async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    stream: &'static str,
    most: usize,
) -> Result<(), Stopped> {
    let Some(mut from) = from else {
        return Ok(());
    };
    let stopped = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Stopped::NobodyReads,
        _ => Stopped::Failed(stream, error),
    };
    let mut left = most;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come from it.
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return Ok(());
        }
        let kept = read.min(left);
        to.write_all(&buffer[..kept]).await.map_err(stopped)?;
        to.flush().await.map_err(stopped)?;
        left -= kept;
        if read > kept {
            return Err(Stopped::Limit(stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_up_to_its_limit_is_copied_whole_and_then_no_more() {
        let mut out = Vec::new();
        assert!(copy(Some(&b"12345"[..]), &mut out, "stdout", 5).await.is_ok());
        assert_eq!(out, b"12345");
        let mut out = Vec::new();
        let stopped = copy(Some(&b"123456"[..]), &mut out, "stdout", 5).await;
        assert!(matches!(stopped, Err(Stopped::Limit("stdout"))));
        assert_eq!(out, b"12345");
    }
}
