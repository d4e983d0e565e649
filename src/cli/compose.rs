//! `sshpool compose`.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::relay::relay;
use super::{Failure, NOT_RUN, Session, complain, print, print_json, status_of, without_host};
use crate::config;
use crate::docker::{Action, ComposeError, Project, ProjectStatus, Service};
use crate::docker::Compose as Docker;

#[derive(Debug, Args)]
pub(super) struct Compose {
    /// As for exec; for ls and ps several, separated by commas
    #[arg(value_name = "HOST", required = true, value_delimiter = ',')]
    pub(super) hosts: Vec<String>,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the projects
    Ls {
        /// Those with nothing running, too
        #[arg(long)]
        all: bool,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show the services of a project
    Ps {
        project: String,
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Create and start services, in the background
    Up(Change),
    /// Stop and remove containers and networks
    Down(Change),
    /// Start services
    Start(Change),
    /// Stop services
    Stop(Change),
    /// Restart services
    Restart(Change),
    /// Pull images
    Pull(Change),
    /// Print the logs
    Logs {
        /// Go on until interrupted
        #[arg(short, long)]
        follow: bool,
        /// This many lines of each container, from the end
        #[arg(short = 'n', long, value_name = "LINES")]
        tail: Option<u32>,
        #[command(flatten)]
        change: Change,
    },
    /// Run a command in a container of a service
    Exec {
        project: String,
        service: String,
        #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Any other action of docker compose: ACTION PROJECT [ARGUMENT]…
    #[command(external_subcommand)]
    Other(Vec<String>),
}

/// What an action works on.
#[derive(Debug, Args)]
struct Change {
    project: String,
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// A Compose file on the host; by default those that the project was made from
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<String>,
    /// Give up after this time; 0 for no limit [default: 30s, none for up, pull and logs --follow]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    timeout: Option<Duration>,
}

/// An answer of one host, as `--json` prints it.
#[derive(Serialize)]
struct Answer<T> {
    host: String,
    error: Option<String>,
    #[serde(flatten)]
    found: Option<T>,
}

#[derive(Serialize)]
struct Projects {
    projects: Vec<Project>,
}

impl Compose {
    pub(super) async fn run(&self, sessions: &[Session]) -> Result<u8, Failure> {
        match &self.what {
            What::Ls { all, json } => {
                let list = |docker: Docker| async move {
                    docker.list_projects(*all).await.map(|projects| Projects { projects })
                };
                let answers = ask(sessions, list).await?;
                show(&answers, *json, |found| &found.projects, PROJECT_COLUMNS, project_row)
            }
            What::Ps { project, json } => {
                let status = |docker: Docker| async move { docker.project_status(project).await };
                let answers = ask(sessions, status).await?;
                let shown = show(&answers, *json, |found| &found.services, SERVICE_COLUMNS, service_row)?;
                Ok(answers.iter().filter_map(|answer| answer.found.as_ref()).fold(shown, warn_unreadable))
            }
            _ => {
                let [session] = sessions else {
                    return Err(Failure::Usage("several hosts are for ls and ps only".to_owned()));
                };
                let failure = |error: ComposeError| failure(session, &error);
                let docker = Docker::new(&session.pool, &session.host);
                let child = self.action(&docker).map_err(failure)?.spawn().await.map_err(failure)?;
                relay(child, session.host.name(), usize::MAX).await
            }
        }
    }

    fn action(&self, docker: &Docker) -> Result<Action, ComposeError> {
        match &self.what {
            What::Up(change) => change.to(docker.up(&change.project)?),
            What::Down(change) => change.to(docker.down(&change.project)?),
            What::Start(change) => change.to(docker.start(&change.project)?),
            What::Stop(change) => change.to(docker.stop(&change.project)?),
            What::Restart(change) => change.to(docker.restart(&change.project)?),
            What::Pull(change) => change.to(docker.pull(&change.project)?),
            What::Logs { follow, tail, change } => {
                let action = docker.logs(&change.project, *follow)?;
                change.to(match tail {
                    Some(lines) => action.option(format!("--tail={lines}")),
                    None => action,
                })
            }
            What::Exec { project, service, words } => docker.exec(project, service, words),
            What::Other(words) => {
                let (action, words) = words.split_first().expect("clap gives the action's name");
                // A name that is not there is one that is not valid, and is said to be.
                let (project, words) = words.split_first().map_or(("", words), |(first, rest)| (first, rest));
                Ok(docker.action(project, action)?.args(words))
            }
            What::Ls { .. } | What::Ps { .. } => unreachable!("these are answered by `run`"),
        }
    }
}

impl Change {
    fn to(&self, action: Action) -> Result<Action, ComposeError> {
        let action = self.files.iter().fold(action, |action, file| action.file(file));
        let action = match self.timeout {
            Some(timeout) => action.timeout((!timeout.is_zero()).then_some(timeout)),
            None => action,
        };
        self.services.iter().try_fold(action, |action, service| action.service(service))
    }
}

fn failure(session: &Session, error: &ComposeError) -> Failure {
    match error {
        ComposeError::Name { .. } => Failure::Usage(error.to_string()),
        error => {
            let host = session.host.name().to_owned();
            let status = if let ComposeError::Run(error) = error { status_of(error) } else { NOT_RUN };
            Failure::Host { text: without_host(error, &host), host, status }
        }
    }
}

/// Asks all hosts at once. What one of them cannot answer is in its place; a name that is not valid ends it all.
async fn ask<T, F>(sessions: &[Session], question: impl Fn(Docker) -> F) -> Result<Vec<Answer<T>>, Failure>
where
    F: Future<Output = Result<T, ComposeError>>,
{
    let mut answers = Vec::new();
    for session in sessions {
        answers.push((session, question(Docker::new(&session.pool, &session.host)).await));
    }
    let answer = |(session, found): (&Session, Result<T, ComposeError>)| {
        let host = session.host.name().to_owned();
        match found {
            Ok(found) => Ok(Answer { host, error: None, found: Some(found) }),
            Err(error @ ComposeError::Name { .. }) => Err(failure(session, &error)),
            Err(error) => Ok(Answer { error: Some(without_host(&error, &host)), host, found: None }),
        }
    };
    answers.into_iter().map(answer).collect()
}

/// Prints the answers, and complains of those that are missing.
fn show<T: Serialize, R>(
    answers: &[Answer<T>],
    json: bool,
    rows: impl Fn(&T) -> &Vec<R>,
    columns: &[&str],
    row: impl Fn(&R) -> Vec<String>,
) -> Result<u8, Failure> {
    if json {
        print_json(&answers)?;
    } else {
        let mut table = vec![columns.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>()];
        for answer in answers {
            for item in answer.found.iter().flat_map(|found| rows(found)) {
                table.push([vec![answer.host.clone()], row(item)].concat());
            }
        }
        if answers.len() == 1 {
            for row in &mut table {
                row.remove(0);
            }
        }
        print(&aligned(&table))?;
        for answer in answers {
            if let Some(error) = &answer.error {
                complain(format_args!("{}: {error}", answer.host));
            }
        }
    }
    Ok(if answers.iter().any(|answer| answer.error.is_some()) { NOT_RUN } else { 0 })
}

const PROJECT_COLUMNS: &[&str] = &["HOST", "PROJECT", "STATUS", "DETAIL", "FILES"];

fn project_row(project: &Project) -> Vec<String> {
    vec![
        project.name.clone(),
        project.status.to_string(),
        project.detail.clone(),
        project.config_files.join(","),
    ]
}

const SERVICE_COLUMNS: &[&str] = &["HOST", "SERVICE", "STATE", "HEALTH", "EXIT", "PORTS"];

fn service_row(service: &Service) -> Vec<String> {
    let ports = service.publishers.iter().map(|port| match (&port.address, port.published_port) {
        (Some(address), Some(published)) => {
            format!("{address}:{published}->{}/{}", port.target_port, port.protocol)
        }
        _ => format!("{}/{}", port.target_port, port.protocol),
    });
    vec![
        service.name.clone(),
        service.state.to_string(),
        service.health.clone().unwrap_or_else(|| "-".to_owned()),
        service.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
        ports.collect::<Vec<_>>().join(", "),
    ]
}

fn warn_unreadable(status: u8, project: &ProjectStatus) -> u8 {
    for line in &project.unreadable {
        complain(format_args!("cannot read the answer of docker compose ps: {line}"));
    }
    if project.unreadable.is_empty() { status } else { NOT_RUN }
}

/// Columns as wide as their widest cell, two blanks between them. What came from a host is made fit for a terminal.
fn aligned(table: &[Vec<String>]) -> String {
    let table: Vec<Vec<String>> =
        table.iter().map(|row| row.iter().map(|cell| crate::error::printable(cell)).collect()).collect();
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &table {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ").expect("writing to a String cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.pop();
    text
}
