//! Docker Compose projects on hosts of a pool.
//!
//! [`Compose`] runs `docker compose` on a host, by [`Command`]: names are checked, arguments
//! are escaped, nothing is ever part of a shell's text. What Compose prints for programs is read
//! into plain values; what it says when it fails becomes a [`ComposeError`] that says which of the
//! usual causes it was.
//!
//! ```no_run
//! use sshpool::docker::Compose;
//! # async fn example(
//! #     pool: &sshpool::Pool,
//! #     host: &sshpool::Host,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let compose = Compose::new(pool, host);
//! for project in compose.list_projects(true).await? {
//!     println!("{} is {}", project.name, project.status);
//! }
//! for service in compose.project_status("shop").await?.services {
//!     println!("{}: {}", service.name, service.state);
//! }
//! compose.restart("shop")?.service("web")?.output().await?;
//! # Ok(())
//! # }
//! ```

mod action;
mod call;
mod engine;
mod error;
mod limits;
mod lines;
mod names;
#[cfg(test)]
mod properties;
mod read;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use futures_util::future::try_join;
use futures_util::{StreamExt, stream};

use crate::command::{Command, Output, Runner};
use crate::config::DockerConfig;
use crate::host::Host;
use limits::LOOK;

pub use action::Action;
pub use engine::{Engine, EngineError, EngineSocket, engine};
pub(crate) use engine::{Forwarder, To, docker_host, lead_to};
pub use error::ComposeError;
use error::Failure;
pub use lines::Lines;
pub use read::{ContainerState, Project, ProjectStatus, Publisher, Service, Status};

/// The projects of a host, each with the status of its services.
pub type Overview = Vec<(Project, Result<ProjectStatus, ComposeError>)>;

/// The actions that work with the files of a project, and not with its containers only.
const NEED_FILES: &[&str] = &[
    "build", "config", "convert", "create", "publish", "pull", "push", "run", "scale", "up", "viz",
    "watch",
];

/// `docker compose` on one host. Cheap to make and to clone.
#[derive(Clone, Debug)]
pub struct Compose {
    runner: Arc<dyn Runner>,
    host: Host,
    docker: Arc<DockerConfig>,
}

impl Compose {
    /// Starts nothing.
    pub fn new(runner: &dyn Runner, host: &Host) -> Self {
        Compose { runner: runner.shared(), host: host.clone(), docker: Arc::default() }
    }

    /// Calls Docker's client in this way: by `sudo`, as `podman`, for another daemon. By default it
    /// is `docker`. [`Config::docker`](crate::Config::docker) has what the TOML file says of a
    /// host.
    pub fn docker(mut self, docker: DockerConfig) -> Self {
        self.docker = Arc::new(docker);
        self
    }

    /// The projects that Compose knows there: those with something running, or with `all` every one
    /// that has containers. By `docker compose ls --format json`, within 15 s.
    ///
    /// # Errors
    ///
    /// [`ComposeError`] says which of the usual causes it was.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`].
    pub async fn list_projects(&self, all: bool) -> Result<Vec<Project>, ComposeError> {
        let mut command = self.docker_compose().args(["ls", "--format", "json"]);
        if all {
            command = command.arg("--all");
        }
        let text = self.answer(command.timeout(LOOK), "").await?;
        read::projects(&text).map_err(|reason| self.malformed("docker compose ls", reason))
    }

    /// The status of a project's services. By `docker compose -p PROJECT ps --all --format json`,
    /// within 15 s. A project that Compose does not know has no services, and is stopped.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`] before anything runs; else as [`list_projects`](Self::list_projects).
    /// A line of the answer that cannot be read is no error: it is in
    /// [`ProjectStatus::unreadable`].
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`].
    pub async fn project_status(&self, project: &str) -> Result<ProjectStatus, ComposeError> {
        let project = names::project(project)?;
        let command =
            self.docker_compose().args(["-p", project, "ps", "--all", "--format", "json"]);
        let text = self.answer(command.timeout(LOOK), project).await?;
        Ok(read::project_status(project, &text))
    }

    /// The status of each project that [`list_projects(true)`](Self::list_projects) lists, in its
    /// order. At most 8 commands run at once.
    ///
    /// `known` are names that are expected, such as those of the last time: they are asked for
    /// beside the list and not after it, which saves a good part of the time. One that is not
    /// listed any more is left out.
    ///
    /// # Errors
    ///
    /// Those of the list. What one project does not answer is in its place, with its name.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`].
    pub async fn overview<S: AsRef<str>>(&self, known: &[S]) -> Result<Overview, ComposeError> {
        const AT_ONCE: usize = 8;
        let ask = async |name: String| {
            let status = self.project_status(&name).await;
            (name, status)
        };
        let ask_all = async |names: Vec<String>| -> HashMap<String, _> {
            stream::iter(names).map(&ask).buffer_unordered(AT_ONCE).collect().await
        };
        let known: Vec<String> = known.iter().map(|name| name.as_ref().to_owned()).collect();
        let known = async { Ok(ask_all(known).await) };
        let (listed, mut found) = try_join(self.list_projects(true), known).await?;
        let new = listed
            .iter()
            .map(|project| project.name.clone())
            .filter(|name| !found.contains_key(name));
        found.extend(ask_all(new.collect()).await);
        let answers = listed.into_iter().filter_map(|project| {
            let status = found.remove(&project.name)?;
            Some((project, status))
        });
        Ok(answers.collect())
    }

    /// Creates and starts a project's services, in the background (`up --detach`). No time limit
    /// unless one is set. The files are those that [`Action::file`] names, or the ones that the
    /// project was made from.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn up(&self, project: &str) -> Result<Action, ComposeError> {
        Ok(self.action(project, "up")?.option("--detach"))
    }

    /// Stops a project's containers and removes them and their networks; volumes stay. It has 10
    /// minutes unless another limit is set, as have [`start`](Self::start), [`stop`](Self::stop)
    /// and [`restart`](Self::restart): containers may take their time to stop, one after another.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn down(&self, project: &str) -> Result<Action, ComposeError> {
        self.action(project, "down")
    }

    /// Starts containers that exist.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn start(&self, project: &str) -> Result<Action, ComposeError> {
        self.action(project, "start")
    }

    /// Stops containers without removing them.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn stop(&self, project: &str) -> Result<Action, ComposeError> {
        self.action(project, "stop")
    }

    /// Restarts containers.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn restart(&self, project: &str) -> Result<Action, ComposeError> {
        self.action(project, "restart")
    }

    /// Pulls the images of a project. No time limit unless one is set; files as for
    /// [`up`](Self::up).
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn pull(&self, project: &str) -> Result<Action, ComposeError> {
        self.action(project, "pull")
    }

    /// The logs of a project. With `follow` they go on until the [`Child`](crate::Child) is
    /// dropped, without a time limit.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn logs(&self, project: &str, follow: bool) -> Result<Action, ComposeError> {
        let action = self.action(project, "logs")?.option("--no-color");
        Ok(if follow { action.option("--follow").timeout(None) } else { action })
    }

    /// What happens to the containers of a project, as lines of JSON, until it is ended; for
    /// [`Action::stream`]. No time limit unless one is set.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn events(&self, project: &str) -> Result<Action, ComposeError> {
        Ok(self.action(project, "events")?.option("--json"))
    }

    /// What the containers of a project use, again and again, as lines of JSON with one container
    /// each, until it is ended; for [`Action::stream`]. No time limit unless one is set. Old
    /// versions of Compose do not have it.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn stats(&self, project: &str) -> Result<Action, ComposeError> {
        Ok(self.action(project, "stats")?.option("--format=json"))
    }

    /// Runs a program in a container of a service, without a terminal.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`], as for all actions.
    pub fn exec<S: AsRef<OsStr>>(
        &self,
        project: &str,
        service: &str,
        words: impl IntoIterator<Item = S>,
    ) -> Result<Action, ComposeError> {
        Ok(self.action(project, "exec")?.option("-T").service(service)?.args(words))
    }

    /// Any action of `docker compose`, such as `"kill"` or `"top"`. Unless another limit is set it
    /// has 30 s; 10 minutes where it stops or starts containers; and no limit where it builds,
    /// moves images, or goes on until it is ended. Actions that work with the files of a project,
    /// `"build"` or `"run"` say, have them as for [`up`](Self::up).
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`] when the project or the action is not a name.
    pub fn action(&self, project: &str, action: &str) -> Result<Action, ComposeError> {
        let needs_files = NEED_FILES.contains(&action);
        Ok(Action::new(self, names::project(project)?, names::action(action)?, needs_files))
    }

    /// The host's name, for messages.
    fn name(&self) -> &str {
        self.host.name()
    }

    fn docker_compose(&self) -> Command {
        call::client(&*self.runner, &self.host, &self.docker).arg("compose")
    }

    /// Runs a command to its end and gives what it wrote to stdout.
    async fn answer(&self, command: Command, project: &str) -> Result<String, ComposeError> {
        let output = command.output().await?;
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            _ => Err(self.explained(project, &output)),
        }
    }

    /// Why it failed. An account that is turned away is often told so on stdout.
    fn explained(&self, project: &str, output: &Output) -> ComposeError {
        let words = match output.stderr.iter().all(u8::is_ascii_whitespace) {
            true => &output.stdout,
            false => &output.stderr,
        };
        let code = output.status.code();
        self.failure(project).explain(code, &String::from_utf8_lossy(words))
    }

    fn failure<'a>(&'a self, project: &'a str) -> Failure<'a> {
        Failure { host: self.name(), program: &self.docker, project, foreign: false }
    }

    fn malformed(&self, what: &'static str, reason: String) -> ComposeError {
        ComposeError::Malformed { host: self.name().to_owned(), what, reason }
    }
}
