//! Running one command through the library, and comparing what the caller is told with what the
//! command does.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sshpool::{Command, Error, Host, Lease, PartialOutput, Pool, Stdin};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use crate::job::{Job, Method};
use crate::told::{Compare, Outcome, Told, beginning, ended, exec, failed, output};

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
            gone: false,
            wrong: None,
        },
        Err(_) => {
            let wrong =
                format!("nothing came back within {patience:?}; it waited for {}", stage.get());
            Told {
                outcome: Outcome::Hung,
                kind: "",
                words: String::new(),
                gone: false,
                wrong: Some(wrong),
            }
        }
    };
    if told.outcome == Outcome::TimedOut && started.elapsed() < job.timeout {
        told.wrong.get_or_insert(format!(
            "timed out after {:?} of {:?}",
            started.elapsed(),
            job.timeout
        ));
    }
    told
}

async fn attempt(job: &Job, on: On<'_>, stage: &Stage) -> Told {
    match job.method {
        Method::Exec => {
            stage.is("exec");
            exec(job, on.exec(&job.text).await)
        }
        Method::Output => {
            stage.is("output");
            let mut command = command(job, on);
            if let Some(limit) = job.max_output {
                command = command.max_output(limit);
            }
            output(job, command.output().await)
        }
        Method::Status => {
            stage.is("status");
            match command(job, on).status().await {
                Ok(status) => ended(job, status.code(), None),
                Err(error) => failed(job, &error, Compare::Nothing),
            }
        }
        Method::Collected => {
            stage.is("spawn");
            match command(job, on).spawn().await {
                Ok(child) => {
                    stage.is("wait_with_output");
                    output(job, child.wait_with_output().await)
                }
                Err(error) => failed(job, &error, Compare::Partial),
            }
        }
        Method::Dialogue => dialogue(job, on, stage).await,
        Method::Dropped | Method::Ended => half_way(job, on, stage).await,
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
    if job.method == Method::Ended {
        child.kill();
        stage.is("wait after kill");
        words = match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
    }
    let wrong = beginning(job, "stdout", &line, &job.stdout);
    Told { outcome: Outcome::Cancelled, kind: "", words, gone: false, wrong }
}
