//! Running one command through the library, and comparing what the caller is told with what the command does.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sshpool::{Command, ConnectErrorKind, Error, Host, Lease, Output, PartialOutput, Pool, Stdin};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::job::{End, Job, Way};

/// What the caller knows of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// To its end, whatever its status.
    Ran,
    NeverStarted,
    Lost,
    TimedOut,
    TooMuch,
    /// The caller went away.
    Cancelled,
    /// Nothing came back in time.
    Hung,
}

/// What has come of a command.
#[derive(Clone, Debug)]
pub struct Told {
    pub outcome: Outcome,
    /// The error's kind; nothing where there was none.
    pub kind: &'static str,
    /// The error, or the status.
    pub words: String,
    /// What is not as it has to be.
    pub wrong: Option<String>,
}

/// What a command is run on.
#[derive(Clone, Copy)]
pub enum On<'a> {
    Pool(&'a Pool, &'a Host),
    Lease(&'a Lease),
}

impl On<'_> {
    fn shell(self, text: &str) -> Command {
        match self {
            On::Pool(pool, host) => pool.shell(host, text),
            On::Lease(lease) => lease.shell(text),
        }
    }

    async fn exec(self, text: &str) -> Result<String, Error> {
        match self {
            On::Pool(pool, host) => pool.exec(host, text).await,
            On::Lease(lease) => lease.exec(text).await,
        }
    }
}

/// How far a command has come, for when it comes no further.
#[derive(Default)]
pub struct Stage(Mutex<&'static str>);

impl Stage {
    fn is(&self, stage: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    pub fn get(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a command to its end, or until it is cancelled. What takes longer than `patience` hangs.
pub async fn run(job: &Job, on: On<'_>, patience: Duration) -> Told {
    let stage = Stage::default();
    let started = Instant::now();
    let work = attempt(job, on, &stage);
    let mut told = match timeout(job.cancel.unwrap_or(patience), work).await {
        Ok(told) => told,
        Err(_) if job.cancel.is_some() => Told {
            outcome: Outcome::Cancelled,
            kind: "",
            words: format!("during {}", stage.get()),
            wrong: None,
        },
        Err(_) => {
            let wrong = format!("nothing came back within {patience:?}; it waited for {}", stage.get());
            Told { outcome: Outcome::Hung, kind: "", words: String::new(), wrong: Some(wrong) }
        }
    };
    if told.outcome == Outcome::TimedOut && started.elapsed() < job.timeout {
        told.wrong.get_or_insert(format!("timed out after {:?} of {:?}", started.elapsed(), job.timeout));
    }
    told
}

async fn attempt(job: &Job, on: On<'_>, stage: &Stage) -> Told {
    match job.way {
        Way::Exec => {
            stage.is("exec");
            exec(job, on.exec(&job.text).await)
        }
        Way::Output => {
            stage.is("output");
            let mut command = command(job, on);
            if let Some(limit) = job.max_output {
                command = command.max_output(limit);
            }
            output(job, command.output().await)
        }
        Way::Status => {
            stage.is("status");
            match command(job, on).status().await {
                Ok(status) => ended(job, status.code(), None),
                Err(error) => failed(job, &error, Compare::Nothing),
            }
        }
        Way::Collected => {
            stage.is("spawn");
            match command(job, on).spawn().await {
                Ok(child) => {
                    stage.is("wait_with_output");
                    output(job, child.wait_with_output().await)
                }
                Err(error) => failed(job, &error, Compare::Partial),
            }
        }
        Way::Dialogue => dialogue(job, on, stage).await,
        Way::Dropped | Way::Ended => half_way(job, on, stage).await,
    }
}

fn command(job: &Job, on: On<'_>) -> Command {
    on.shell(&job.text).timeout(job.timeout).stdin(job.input.clone())
}

async fn dialogue(job: &Job, on: On<'_>, stage: &Stage) -> Told {
    stage.is("spawn");
    let spawned = on.shell(&job.text).timeout(job.timeout).stdin(Stdin::Piped).spawn().await;
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(job, &error, Compare::Partial),
    };
    let mut stdin = child.stdin.take().expect("it was asked to be a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("nobody has taken it"));
    let mut stderr = child.stderr.take().expect("nobody has taken it");
    let mut seen = PartialOutput::default();
    stage.is("a line of a dialogue");
    for line in job.lines() {
        if stdin.write_all(line).await.is_err() {
            break;
        }
        if !matches!(stdout.read_until(b'\n', &mut seen.stdout).await, Ok(1..)) {
            break;
        }
    }
    drop(stdin);
    stage.is("the end of stdout");
    let _ = stdout.read_to_end(&mut seen.stdout).await;
    stage.is("the end of stderr");
    let _ = stderr.read_to_end(&mut seen.stderr).await;
    stage.is("wait");
    match child.wait().await {
        Ok(status) => ended(job, status.code(), Some((&seen.stdout, &seen.stderr))),
        Err(error) => failed(job, &error, Compare::Read(&seen)),
    }
}

async fn half_way(job: &Job, on: On<'_>, stage: &Stage) -> Told {
    stage.is("spawn");
    let mut child = match command(job, on).spawn().await {
        Ok(child) => child,
        Err(error) => return failed(job, &error, Compare::Partial),
    };
    let mut stdout = BufReader::new(child.stdout.take().expect("nobody has taken it"));
    let mut line = Vec::new();
    stage.is("the first line of stdout");
    let _ = stdout.read_until(b'\n', &mut line).await;
    let mut words = "dropped".to_owned();
    if job.way == Way::Ended {
        child.kill();
        stage.is("wait after kill");
        words = match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
    }
    let wrong = beginning("stdout", &line, &job.stdout);
    Told { outcome: Outcome::Cancelled, kind: "", words, wrong }
}

fn exec(job: &Job, result: Result<String, Error>) -> Told {
    let trimmed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (out, err) = (trimmed(&job.stdout), trimmed(&job.stderr));
    match result {
        Ok(text) => ended(job, Some(0), None).unless(|| differs("stdout", text.as_bytes(), out.as_bytes())),
        Err(Error::Failed { code, stderr, .. }) => {
            ended(job, Some(code), None).unless(|| differs("stderr", stderr.as_bytes(), err.as_bytes()))
        }
        Err(Error::Killed { stderr, .. }) => {
            ended(job, None, None).unless(|| differs("stderr", stderr.as_bytes(), err.as_bytes()))
        }
        Err(error) => failed(job, &error, Compare::Partial),
    }
}

fn output(job: &Job, result: Result<Output, Error>) -> Told {
    match result {
        Ok(output) => ended(job, output.status.code(), Some((&output.stdout, &output.stderr))),
        Err(error) => failed(job, &error, Compare::Partial),
    }
}

/// A command that ended, with its streams where they were collected.
fn ended(job: &Job, code: Option<i32>, streams: Option<(&[u8], &[u8])>) -> Told {
    let words = code.map_or("killed by a signal".to_owned(), |code| format!("status {code}"));
    let right = match job.end {
        End::Status(expected) => code == Some(expected),
        End::Killed => code.is_none(),
        End::TimedOut => false,
        End::TooMuch => false,
    };
    let told = Told { outcome: Outcome::Ran, kind: "", wrong: None, words: words.clone() };
    let told = told.unless(|| (!right).then(|| format!("{words}, where {:?} was to come", job.end)));
    told.unless(|| {
        let (stdout, stderr) = streams?;
        differs("stdout", stdout, &job.stdout).or_else(|| differs("stderr", stderr, &job.stderr))
    })
}

/// What is known of the output of a command that failed.
enum Compare<'a> {
    Nothing,
    /// What the error has.
    Partial,
    /// What was read from the streams.
    Read(&'a PartialOutput),
}

fn failed(job: &Job, error: &Error, compare: Compare<'_>) -> Told {
    let (outcome, kind) = match error {
        Error::Lost { .. } => (Outcome::Lost, "Lost"),
        Error::TimedOut { .. } => (Outcome::TimedOut, "TimedOut"),
        Error::OutputLimit { .. } => (Outcome::TooMuch, "OutputLimit"),
        Error::Connect { .. } => (Outcome::NeverStarted, "Connect"),
        Error::Exhausted { .. } => (Outcome::NeverStarted, "Exhausted"),
        Error::Closed { .. } => (Outcome::NeverStarted, "Closed"),
        Error::NeverStarted { .. } => (Outcome::NeverStarted, "NeverStarted"),
        Error::Io { .. } => (Outcome::NeverStarted, "Io"),
        _ => (Outcome::NeverStarted, "other"),
    };
    let told = Told { outcome, kind, words: error.to_string(), wrong: None };
    let told = told.unless(|| unexpected(job, error));
    let partial = match (compare, error) {
        (Compare::Nothing, _) => return told,
        (Compare::Read(seen), _) => seen,
        (
            Compare::Partial,
            Error::Lost { partial, .. }
            | Error::TimedOut { partial, .. }
            | Error::OutputLimit { partial, .. },
        ) => partial,
        (Compare::Partial, _) => return told,
    };
    told.unless(|| {
        beginning("stdout", &partial.stdout, &job.stdout)
            .or_else(|| beginning("stderr", &partial.stderr, &job.stderr))
    })
}

/// Why this error cannot be, whatever happens to the server, the network and this machine.
fn unexpected(job: &Job, error: &Error) -> Option<String> {
    use ConnectErrorKind as Kind;
    let possible = match error {
        Error::Connect { source, .. } => !matches!(
            source.kind(),
            Kind::Authentication
                | Kind::HostKeyChanged
                | Kind::HostKeyUnknown
                | Kind::Name
                | Kind::KeyFile
                | Kind::Algorithms
                | Kind::SshMissing
                | Kind::BadOption
        ),
        Error::OutputLimit { partial, .. } => {
            return match job.end {
                End::TooMuch => differs("stdout", &partial.stdout, &job.stdout),
                _ => Some("it had no limit of its own".to_owned()),
            };
        }
        Error::Exhausted { .. }
        | Error::Closed { .. }
        | Error::NeverStarted { .. }
        | Error::Io { .. }
        | Error::Lost { .. }
        | Error::TimedOut { .. } => true,
        _ => false,
    };
    let claims = error.never_started() == !matches!(error, Error::Lost { .. } | Error::TimedOut { .. });
    match (possible, claims) {
        (true, true) => None,
        (false, _) => Some(format!("nothing here is a reason for that: {error}")),
        (true, false) => Some(format!("never_started() is {}", error.never_started())),
    }
}

impl Told {
    /// The first thing that is wrong stays.
    fn unless(mut self, wrong: impl FnOnce() -> Option<String>) -> Told {
        self.wrong = self.wrong.or_else(wrong);
        self
    }
}

fn differs(stream: &str, seen: &[u8], expected: &[u8]) -> Option<String> {
    (seen != expected).then(|| difference(stream, seen, expected))
}

fn beginning(stream: &str, seen: &[u8], expected: &[u8]) -> Option<String> {
    (!expected.starts_with(seen)).then(|| difference(stream, seen, expected))
}

fn difference(stream: &str, seen: &[u8], expected: &[u8]) -> String {
    let same = seen.iter().zip(expected).take_while(|(seen, expected)| seen == expected).count();
    let around = |bytes: &[u8]| {
        let bytes = &bytes[same.saturating_sub(20).min(bytes.len())..(same + 60).min(bytes.len())];
        bytes.escape_ascii().to_string()
    };
    format!(
        "{stream} has {} bytes of {} and differs from byte {same} on: \"{}\", where \"{}\" was to come",
        seen.len(),
        expected.len(),
        around(seen),
        around(expected)
    )
}
