//! One action on a project: a builder, as [`Command`] is.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use super::{CHANGE, Compose, ComposeError, error, names};
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
            needs_files,
            options: Vec::new(),
            operands: Vec::new(),
            stdin: Stdin::Empty,
            timeout: Some(CHANGE),
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
        self.verdict(output.status, output.stdout.is_empty(), &output.stderr).await?;
        Ok(output)
    }

    /// Says whether an action that was [spawned](Self::spawn) did what it was to do, from its
    /// status, whether it wrote nothing to stdout, and (the end of) its stderr.
    /// [`output`](Self::output) has done this already.
    ///
    /// Compose succeeds silently when it is asked to restart or to stop a project that does not
    /// exist. So where `restart`, `stop`, `pause`, `unpause` or `logs` has written nothing, the
    /// project is looked for.
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
        if !status.success() {
            let text = String::from_utf8_lossy(stderr);
            let foreign = matches!(self.name.as_str(), "exec" | "run");
            return Err(error::explain(
                self.compose.name(),
                &self.project,
                status.code(),
                &text,
                foreign,
            ));
        }
        // Warnings about the configuration of the account are no progress.
        let stderr = String::from_utf8_lossy(stderr);
        let silent =
            stderr.lines().all(|line| line.trim().is_empty() || line.contains("level=warning"));
        let wrote_nothing = match self.name.as_str() {
            "restart" | "stop" | "pause" | "unpause" => silent,
            "logs" => no_stdout && silent,
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

    async fn command(&self) -> Result<Command, ComposeError> {
        let mut files = self.files.clone();
        if files.is_empty() && self.needs_files {
            files = self.files_of_the_project().await?.into_iter().map(OsString::from).collect();
        }
        let mut command = self.compose.docker_compose().args(["--ansi=never", "-p", &self.project]);
        for file in files {
            command = command.arg("-f").arg(file);
        }
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
