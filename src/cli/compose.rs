//! `sshpool compose`.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::args::text_of;
use super::failure::{Failure, NOT_RUN};
use super::many::{Answer, Many, rows};
use super::output::complain;
use super::relay::relay;
use crate::cli::backend::Backend;
use crate::command::Stdin;
use crate::config;
use crate::docker::{Action, Compose as Docker, ComposeError, Project, ProjectStatus, Service};
use crate::host::Host;

/// There is no such project, though Compose may be content with doing nothing.
const FAILED: u8 = 1;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool compose web1,web2 ls --all                     the projects of two hosts
  sshpool compose web1 ps shop                           the services of one
  sshpool compose --file /srv/shop/compose.yaml web1 up shop
  sshpool compose web1 restart shop web                  one service
  sshpool compose web1 logs shop --follow -n 20
  sshpool compose web1 exec shop web -- nginx -t
  sshpool compose web1 top shop                          any other action of docker compose")]
pub(super) struct Compose {
    /// As for exec; for ls and ps several: names, ranges and groups, as for run -w
    #[arg(value_name = "HOST[,HOST…]")]
    hosts: String,

    /// A Compose file on the host; by default those that the project was made from
    #[arg(long = "file", value_name = "FILE", global = true, value_parser = compose_file())]
    files: Vec<OsString>,

    /// Give an action up after this time; 0 for no limit [default: 30s, none for up, pull and logs
    /// --follow]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration, global = true)]
    timeout: Option<Duration>,

    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the projects
    Ls {
        /// Those with nothing running, too
        #[arg(short, long)]
        all: bool,
        #[command(flatten)]
        many: Many,
    },
    /// Show the services of a project
    Ps {
        project: String,
        #[command(flatten)]
        many: Many,
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
        /// Give the command this program's stdin; otherwise it reads nothing
        #[arg(long)]
        stdin: bool,
        /// An option of Compose's own, such as --option=--user=postgres
        #[arg(short, long = "option", value_name = "OPTION", allow_hyphen_values = true)]
        options: Vec<OsString>,
        project: String,
        service: String,
        #[arg(
            value_name = "COMMAND",
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true
        )]
        words: Vec<OsString>,
    },
    /// Any other action of docker compose: ACTION PROJECT [ARGUMENT]…; --file and --timeout stand
    /// before the host
    #[command(external_subcommand)]
    Other(Vec<OsString>),
}

/// What an action works on.
#[derive(Debug, Args)]
struct Change {
    project: String,
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// An option of Compose's own for the action, such as --option=--build
    #[arg(short, long = "option", value_name = "OPTION", allow_hyphen_values = true)]
    options: Vec<OsString>,
}

#[derive(Serialize)]
struct Projects {
    projects: Vec<Project>,
}

impl Compose {
    pub(super) fn hosts(&self) -> &[String] {
        std::slice::from_ref(&self.hosts)
    }

    pub(super) async fn run(&self, backend: &Backend, hosts: &[Host]) -> Result<u8, Failure> {
        match &self.what {
            What::Ls { all, many } => {
                let list = |host| async move {
                    let projects = Docker::new(backend.runner(), host)
                        .list_projects(*all)
                        .await
                        .map_err(|e| failure(host, &e))?;
                    Ok(Projects { projects })
                };
                let answers = many.ask(hosts, list).await?;
                many.show(&answers, |answers| {
                    rows(answers, PROJECT_COLUMNS, |found| &found.projects, project_row)
                })
                .await
            }
            What::Ps { project, many } => {
                let status = |host| async move {
                    Docker::new(backend.runner(), host)
                        .project_status(project)
                        .await
                        .map_err(|e| failure(host, &e))
                };
                let answers = many.ask(hosts, status).await?;
                let status = many.show(&answers, |answers| {
                    rows(answers, SERVICE_COLUMNS, |found| &found.services, service_row)
                });
                let status = status.await?;
                Ok(answers.iter().fold(status, warn_unreadable))
            }
            _ => {
                let [host] = hosts else {
                    return Err(Failure::Usage("several hosts are for ls and ps only".to_owned()));
                };
                let failure = |error: ComposeError| failure(host, &error);
                let action = self.action(&Docker::new(backend.runner(), host))?.map_err(failure)?;
                let child = action.spawn().await.map_err(failure)?;
                let relayed = relay(child, host.name(), usize::MAX).await;
                let relayed = relayed.map_err(|failure| failure.limited_by("--timeout"))?;
                let status = relayed.exit_code(host.name());
                match action.verdict(relayed.status, relayed.no_stdout, &relayed.last_words).await {
                    // Its own words are there to be read already.
                    Ok(()) | Err(ComposeError::Failed { .. }) => Ok(status),
                    Err(error) => Err(Failure::of_host(
                        host,
                        &error,
                        if status == 0 { FAILED } else { status },
                    )),
                }
            }
        }
    }

    /// The action that is meant. Wrong usage is one failure, a name that is none another.
    fn action(&self, docker: &Docker) -> Result<Result<Action, ComposeError>, Failure> {
        let action = match &self.what {
            What::Up(change) => docker.up(&change.project).and_then(|action| change.to(action)),
            What::Down(change) => docker.down(&change.project).and_then(|action| change.to(action)),
            What::Start(change) => {
                docker.start(&change.project).and_then(|action| change.to(action))
            }
            What::Stop(change) => docker.stop(&change.project).and_then(|action| change.to(action)),
            What::Restart(change) => {
                docker.restart(&change.project).and_then(|action| change.to(action))
            }
            What::Pull(change) => docker.pull(&change.project).and_then(|action| change.to(action)),
            What::Logs { follow, tail, change } => {
                let action = docker.logs(&change.project, *follow).map(|action| match tail {
                    Some(lines) => action.option(format!("--tail={lines}")),
                    None => action,
                });
                action.and_then(|action| change.to(action))
            }
            What::Exec { stdin, options, project, service, words } => {
                let stdin = if *stdin { Stdin::Piped } else { Stdin::Empty };
                let action = docker.exec(project, service, words).map(|action| action.stdin(stdin));
                action.map(|action| {
                    options.iter().fold(action, |action, option| action.option(option))
                })
            }
            What::Other(words) => {
                let (action, words) = words.split_first().expect("clap gives the action's name");
                let action = text_of("the name of an action", action)?;
                let Some((project, words)) = words.split_first() else {
                    let usage = format!(
                        "{action} needs a project: sshpool compose HOST {action} PROJECT [ARGUMENT]…"
                    );
                    return Err(Failure::Usage(usage));
                };
                let project = text_of("the name of a project", project)?;
                if project.starts_with('-') {
                    let usage = format!(
                        "{action} takes its project first, and --file and --timeout stand before the host: sshpool compose [OPTION]… HOST {action} PROJECT [ARGUMENT]…"
                    );
                    return Err(Failure::Usage(usage));
                }
                docker.action(project, action).map(|action| action.args(words))
            }
            What::Ls { .. } | What::Ps { .. } => unreachable!("these are answered by `run`"),
        };
        Ok(action.map(|action| {
            let action = self.files.iter().fold(action, |action, file| action.file(file));
            match self.timeout {
                Some(timeout) => action.timeout((!timeout.is_zero()).then_some(timeout)),
                None => action,
            }
        }))
    }
}

impl Change {
    fn to(&self, action: Action) -> Result<Action, ComposeError> {
        let action = self.options.iter().fold(action, |action, option| action.option(option));
        self.services.iter().try_fold(action, |action, service| action.service(service))
    }
}

/// What `--file` takes.
fn compose_file() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|path| match path.to_str() {
        Some("") => Err("a path on the host is expected"),
        Some("-") => Err("standard input is not passed on: put the file on the host"),
        _ => Ok(path),
    })
}

fn failure(host: &Host, error: &ComposeError) -> Failure {
    match error {
        ComposeError::Name { .. } => Failure::Usage(error.to_string()),
        ComposeError::Run(run) => Failure::of(host.name(), run),
        ComposeError::NoProject { .. } | ComposeError::NoFiles { .. } => {
            Failure::of_host(host, error, FAILED)
        }
        error => Failure::of_host(host, error, NOT_RUN),
    }
}

const PROJECT_COLUMNS: &[&str] = &["PROJECT", "STATUS", "DETAIL", "FILES"];

fn project_row(project: &Project) -> Vec<String> {
    vec![
        project.name.clone(),
        project.status.to_string(),
        project.detail.clone(),
        project.config_files.join(","),
    ]
}

const SERVICE_COLUMNS: &[&str] = &["SERVICE", "STATE", "HEALTH", "EXIT", "PORTS"];

fn service_row(service: &Service) -> Vec<String> {
    let ports = service.publishers.iter().map(|port| match (&port.address, port.published_port) {
        (Some(address), Some(published)) => {
            let address =
                if address.contains(':') { format!("[{address}]") } else { address.clone() };
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

/// A line that cannot be read is not passed over in silence.
fn warn_unreadable(status: u8, answer: &Answer<ProjectStatus>) -> u8 {
    let unreadable = answer.found.iter().flat_map(|project| &project.unreadable);
    unreadable.fold(status, |_, line| {
        complain(format_args!(
            "{}: cannot read the answer of docker compose ps: {line}",
            answer.host
        ));
        NOT_RUN
    })
}
