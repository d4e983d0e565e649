//! `sshpool compose`: what is asked for, and questions about projects.
//!
//! `act` has the actions, on one host and on several, `watch` what goes on until it is ended
//! (`events`, `stats`), `table` the answers as people read them.

mod act;
mod table;
mod watch;

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::table::{PROJECT_COLUMNS, SERVICE_COLUMNS, project_row, service_row, warn_unreadable};
use super::args::text_of;
use super::failure::{Failure, NOT_RUN};
use super::many::{Many, rows};
use super::sudo::ByUser;
use crate::command::{Runner, Stdin};
use crate::config::{self, Config, ConfigError, DockerConfig};
use crate::docker::{Action, Compose as Docker, ComposeError, Project};
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
  sshpool compose web1 events shop --json                what happens, as it happens
  sshpool compose 'web[1-3],@db' restart shop --yes      on several hosts, without a question
  sshpool compose --docker 'sudo -n docker' web1 ls
  sshpool compose web1 top shop                          any other action of docker compose")]
pub(super) struct Compose {
    /// Names, ranges and groups, as for run -w
    #[arg(value_name = "HOST[,HOST…]")]
    hosts: String,

    /// A Compose file on the host; by default those that the project was made from
    #[arg(long = "file", value_name = "FILE", global = true, value_parser = compose_file())]
    files: Vec<OsString>,

    /// Enable a profile of the project
    #[arg(long = "profile", value_name = "NAME", global = true, value_parser = not_empty())]
    profiles: Vec<OsString>,

    /// Take variables from this file on the host, in the place of .env
    #[arg(long = "env-file", value_name = "FILE", global = true, value_parser = not_empty())]
    env_files: Vec<OsString>,

    /// Begin relative paths in this directory of the host; by default that of the Compose file
    #[arg(long, value_name = "DIR", global = true, value_parser = not_empty())]
    project_directory: Option<OsString>,

    /// Give an action up after this time; 0 for no limit [default: 30s; 10m for what stops and
    /// starts containers; none for images and for what goes on until it is ended]
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration, global = true)]
    timeout: Option<Duration>,

    /// Do not ask before an action on several hosts
    #[arg(long, global = true)]
    yes: bool,

    #[command(flatten)]
    called: Called,

    #[command(flatten)]
    pub(super) by_user: ByUser,

    #[command(subcommand)]
    what: What,
}

/// How Docker's client is called, where it is not as the TOML file has it.
#[derive(Debug, Args)]
struct Called {
    /// Docker's client, with what stands before it, such as podman or 'sudo -n docker' [default:
    /// the docker.program of the host's settings, docker]
    #[arg(long = "docker", value_name = "PROGRAM", global = true)]
    program: Option<String>,

    /// Docker's daemon, as in DOCKER_HOST
    #[arg(long, value_name = "URL", global = true, conflicts_with = "docker_context")]
    docker_host: Option<String>,

    /// A context of the account, as docker context names it
    #[arg(long, value_name = "NAME", global = true)]
    docker_context: Option<String>,
}

impl Called {
    fn over(&self, said: DockerConfig) -> Result<DockerConfig, Failure> {
        let over = || -> Result<DockerConfig, ConfigError> {
            let mut docker = said;
            if let Some(words) = &self.program {
                docker = docker.program(words.split_whitespace())?;
            }
            if let Some(host) = &self.docker_host {
                docker = docker.host(host)?;
            }
            if let Some(context) = &self.docker_context {
                docker = docker.context(context)?;
            }
            Ok(docker)
        };
        over().map_err(|error| Failure::Usage(error.to_string()))
    }
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
    /// Tell what happens to the containers, until interrupted
    Events {
        /// As JSON, an object in each line, with the host in it
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        change: Change,
    },
    /// Tell what the containers use, again and again, until interrupted
    Stats {
        /// As JSON, an object for each container in a line, with the host in it
        #[arg(long)]
        json: bool,
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
    /// Any other action of docker compose: ACTION PROJECT [ARGUMENT]…; options such as --file and
    /// --timeout stand before the host
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

    pub(super) async fn run(
        &self,
        runner: &dyn Runner,
        hosts: &[Host],
        config: &Config,
    ) -> Result<u8, Failure> {
        let docker = |host: &Host| -> Result<Docker, Failure> {
            let called = self.called.over(config.docker(host))?;
            Ok(Docker::new(runner, host).docker(called))
        };
        let docker = &docker;
        match &self.what {
            What::Ls { all, many } => {
                let list = |host| async move {
                    let projects =
                        docker(host)?.list_projects(*all).await.map_err(|e| failure(host, &e))?;
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
                    docker(host)?.project_status(project).await.map_err(|e| failure(host, &e))
                };
                let answers = many.ask(hosts, status).await?;
                let status = many.show(&answers, |answers| {
                    rows(answers, SERVICE_COLUMNS, |found| &found.services, service_row)
                });
                let status = status.await?;
                Ok(answers.iter().fold(status, warn_unreadable))
            }
            what => {
                let action = |host| -> Result<(&Host, Action), Failure> {
                    let action = self.action(&docker(host)?)?.map_err(|e| failure(host, &e))?;
                    Ok((host, action))
                };
                let actions = hosts.iter().map(action).collect::<Result<Vec<_>, _>>()?;
                match what {
                    What::Events { json, .. } | What::Stats { json, .. } => {
                        watch::watch(&actions, *json).await
                    }
                    What::Exec { stdin: true, .. } if hosts.len() > 1 => {
                        Err(Failure::Usage("--stdin is for one host: it can be read once".into()))
                    }
                    _ => act::act(&actions, self.yes).await,
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
            What::Events { json, change } => {
                let action = if *json {
                    docker.events(&change.project)
                } else {
                    docker.action(&change.project, "events")
                };
                action.and_then(|action| change.to(action))
            }
            What::Stats { json, change } => {
                let action = if *json {
                    docker.stats(&change.project)
                } else {
                    docker.action(&change.project, "stats")
                };
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
                        "{action} takes its project first, and options such as --file and \
                            --timeout stand before the host: \
                         sshpool compose [OPTION]… HOST {action} PROJECT [ARGUMENT]…"
                    );
                    return Err(Failure::Usage(usage));
                }
                docker.action(project, action).map(|action| action.args(words))
            }
            What::Ls { .. } | What::Ps { .. } => unreachable!("these are answered by `run`"),
        };
        Ok(action.map(|action| {
            let action = self.files.iter().fold(action, |action, file| action.file(file));
            let action = self.profiles.iter().fold(action, Action::profile);
            let action = self.env_files.iter().fold(action, Action::env_file);
            let action = self.project_directory.iter().fold(action, Action::project_directory);
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

/// What the other options for Compose take.
fn not_empty() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|value| match value.is_empty() {
        true => Err("it must not be empty"),
        false => Ok(value),
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
