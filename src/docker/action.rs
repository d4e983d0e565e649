//! One action on a project: a builder, as [`Command`] is.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::error::Failure;
use super::limits::{limit, only_looks};
use super::lines::Lines;
use super::{Compose, ComposeError, names};
use crate::command::{Child, Command, ExitStatus, Output, Stdin};

/// `docker compose -p PROJECT ACTION …`, made by the methods of [`Compose`].
#[derive(Clone, Debug)]
#[must_use = "an action does nothing until output or spawn is awaited"]
pub struct Action {
    compose: Compose,
    project: String,
    name: String,
    /// Of Compose itself, before the action.
    files: Vec<OsString>,
    global: Vec<OsString>,
    /// It works with the files of the project, and not with its containers only.
    needs_files: bool,
    options: Vec<OsString>,
    /// Services, and what comes behind them.
    operands: Vec<OsString>,
    stdin: Stdin,
    timeout: Option<Duration>,
}

impl Action {
    pub(super) fn new(compose: &Compose, project: &str, name: &str, needs_files: bool) -> Self {
        Action {
            compose: compose.clone(),
            project: project.to_owned(),
            name: name.to_owned(),
            files: Vec::new(),
            global: Vec::new(),
            needs_files,
            options: Vec::new(),
            operands: Vec::new(),
            stdin: Stdin::Empty,
            timeout: limit(name),
        }
    }

    /// Adds an option of the action, such as `"--build"` or `"--tail=100"`. Options come before
    /// services.
    pub fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Limits the action to this service; several calls name several.
    ///
    /// # Errors
    ///
    /// [`ComposeError::Name`].
    pub fn service(mut self, service: &str) -> Result<Self, ComposeError> {
        self.operands.push(names::service(service)?.into());
        Ok(self)
    }

    /// Adds words behind options and services, unchecked but escaped.
    pub fn args<S: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.operands.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Uses this Compose file, a path on the host, instead of the ones that the project was made
    /// from. Several calls name several.
    pub fn file(mut self, path: impl Into<OsString>) -> Self {
        self.files.push(path.into());
        self
    }

    /// Enables this profile of the project, as `docker compose --profile`. Several calls enable
    /// several.
    pub fn profile(self, name: impl Into<OsString>) -> Self {
        self.global("--profile=", name.into())
    }

    /// Takes variables from this file, a path on the host, in the place of `.env`, as `docker
    /// compose --env-file`. Several calls name several; the last one counts most.
    pub fn env_file(self, path: impl Into<OsString>) -> Self {
        self.global("--env-file=", path.into())
    }

    /// Begins relative paths of the Compose files in this directory of the host, as `docker compose
    /// --project-directory`. By default it is that of the first file.
    pub fn project_directory(self, path: impl Into<OsString>) -> Self {
        self.global("--project-directory=", path.into())
    }

    /// An option of Compose itself, before the action. Joined, so that no value is an option.
    fn global(mut self, option: &str, value: OsString) -> Self {
        let mut word = OsString::from(option);
        word.push(value);
        self.global.push(word);
        self
    }

    /// Sets what it reads, which is of use for [`exec`](Compose::exec). Empty by default.
    pub fn stdin(mut self, stdin: impl Into<Stdin>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Limits the time; `None` is no limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Runs the action to its end and gives what it wrote.
    ///
    /// # Errors
    ///
    /// [`ComposeError`] says which of the usual causes it was, for [`exec`](Compose::exec) too when
    /// its program fails.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`].
    pub async fn output(self) -> Result<Output, ComposeError> {
        let output = self.command().await?.output().await?;
        if !output.status.success() && !self.is_foreign() {
            return Err(self.compose.explained(&self.project, &output));
        }
        self.verdict(output.status, output.stdout.is_empty(), &output.stderr).await?;
        Ok(output)
    }

    /// Says whether an action that was [spawned](Self::spawn) did what it was to do, from its
    /// status, whether it wrote nothing to stdout, and (the end of) its stderr.
    /// [`output`](Self::output) has done this already.
    ///
    /// Compose succeeds silently when it is asked to restart or to stop a project that does not
    /// exist. So where `restart`, `stop`, `pause` or `unpause` has told of no container, or `logs`
    /// has written nothing, the project is looked for.
    ///
    /// # Errors
    ///
    /// [`ComposeError`] says which of the usual causes it was.
    pub async fn verdict(
        &self,
        status: ExitStatus,
        no_stdout: bool,
        stderr: &[u8],
    ) -> Result<(), ComposeError> {
        let stderr = String::from_utf8_lossy(stderr);
        if !status.success() {
            let failure =
                Failure { foreign: self.is_foreign(), ..self.compose.failure(&self.project) };
            return Err(failure.explain(status.code(), &stderr));
        }
        // Progress is told by container. A warning about the configuration of the account, or a
        // notice of podman about who does it, is none.
        let wrote_nothing = match self.name.as_str() {
            "restart" | "stop" | "pause" | "unpause" => {
                !stderr.lines().any(|line| line.contains("Container "))
            }
            "logs" => no_stdout,
            _ => false,
        };
        // What cannot be looked up does not make a failure of it.
        if wrote_nothing
            && let Ok(found) = self.compose.project_status(&self.project).await
            && found.is_nothing()
        {
            return Err(self.no_project("it has no containers".to_owned()));
        }
        Ok(())
    }

    /// Starts the action and gives its streams, for what runs long: `logs` that are followed,
    /// `pull`, `up`.
    ///
    /// # Errors
    ///
    /// Those of getting there. How it ended, [`Child::wait`] tells, and its stderr why.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::spawn`].
    pub async fn spawn(&self) -> Result<Child, ComposeError> {
        Ok(self.command().await?.spawn().await?)
    }

    /// Starts the action and gives what it says line by line, for what goes on:
    /// [`Compose::events`], [`Compose::stats`], `logs` that are followed.
    ///
    /// # Errors
    ///
    /// Those of getting there. How it ended, [`Lines::next`] tells.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::spawn`].
    pub async fn stream(self) -> Result<Lines, ComposeError> {
        let child = self.spawn().await?;
        Ok(Lines::new(self, child))
    }

    /// What it is, as one would write it for Compose: `restart shop web`.
    pub(crate) fn told(&self) -> String {
        let words = [&self.options[..], &self.operands].concat();
        let words = words.iter().map(|word| word.to_string_lossy());
        let first = [self.name.as_str().into(), self.project.as_str().into()];
        first.into_iter().chain(words).collect::<Vec<_>>().join(" ")
    }

    /// Whether it only looks, and changes nothing.
    pub(crate) fn only_looks(&self) -> bool {
        only_looks(&self.name)
    }

    /// Whether it goes on until it is ended.
    pub(crate) fn goes_on(&self) -> bool {
        let is_followed = self.options.iter().any(|option| option == "--follow" || option == "-f");
        matches!(self.name.as_str(), "events" | "stats") || self.name == "logs" && is_followed
    }

    /// What a program in a container says is not Docker's.
    fn is_foreign(&self) -> bool {
        matches!(self.name.as_str(), "exec" | "run")
    }

    async fn command(&self) -> Result<Command, ComposeError> {
        let mut files = self.files.clone();
        if files.is_empty() && self.needs_files {
            files = self.files_of_the_project().await?.into_iter().map(OsString::from).collect();
        }
        let mut command = self.compose.docker_compose().args(["--ansi=never", "-p", &self.project]);
        for file in files {
            command = command.arg("-f").arg(file);
        }
        let command = command.args(&self.global);
        let command = command.arg(&self.name).args(&self.options).args(&self.operands);
        Ok(command.stdin(self.stdin.clone()).timeout(self.timeout))
    }

    /// What Compose remembers of where the project came from.
    async fn files_of_the_project(&self) -> Result<Vec<String>, ComposeError> {
        let projects = self.compose.list_projects(true).await?;
        let Some(project) = projects.into_iter().find(|project| project.name == self.project)
        else {
            let text = "it has no containers that would tell its files; name a file (--file)";
            return Err(self.no_project(text.to_owned()));
        };
        let reason = match (project.from_stdin, project.config_files.is_empty()) {
            (true, _) => "a part of it came from standard input",
            (false, true) => "its containers do not tell",
            (false, false) => return Ok(project.config_files),
        };
        let (host, project) = (self.compose.name().to_owned(), project.name);
        Err(ComposeError::NoFiles { host, project, reason })
    }

    fn no_project(&self, text: String) -> ComposeError {
        let (host, project) = (self.compose.name().to_owned(), self.project.clone());
        ComposeError::NoProject { host, project, text }
    }
}
