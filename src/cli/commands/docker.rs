//! `sshpool docker` and `sshpool docker-env`: any client of Docker over the pool.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::client::Forwarded;
use crate::agent::protocol::{ForwardInfo, WhatForwarded};
use crate::cli::args::Target;
use crate::cli::backend::Backend;
use crate::cli::failure::{Failure, NOT_RUN};
use crate::cli::output::print;
use crate::cli::setup::Setup;
use crate::docker::{Engine, EngineError, Forwarder, To, docker_host, lead_to};
use crate::error::Error;
use crate::forward::{ForwardSpec, OWN_SOCKET};
use crate::host::Host;
use crate::openssh::Program;
use crate::pool::{Forward, signals};
use crate::text::plain;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool docker web1 ps
  sshpool docker web1 compose -f shop.yaml up -d    the file is here, the engine is web1's
  sshpool docker web1 build -t shop .
  sshpool docker web1 exec -it shop-db-1 psql")]
pub(in crate::cli) struct Docker {
    #[command(flatten)]
    target: Target,

    /// What the local docker is to do
    #[arg(
        value_name = "ARG",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  eval \"$(sshpool docker-env web1)\"; docker ps
  docker context create web1 --docker host=$(sshpool docker-env --url web1)")]
pub(in crate::cli) struct DockerEnv {
    /// Print the address alone
    #[arg(long)]
    url: bool,

    #[command(flatten)]
    target: Target,
}

impl Docker {
    /// Gives the backend, where one is to be closed.
    pub(in crate::cli) async fn run(
        self,
        setup: &Setup,
    ) -> Result<(Backend, Result<u8, Failure>), Failure> {
        let host = setup.host(&self.target.host)?;
        let Ok(docker) = which::which("docker") else {
            let why =
                "no docker program found in PATH: install Docker's client (Debian: docker-cli)";
            return Err(Failure::Output(why.to_owned()));
        };
        let backend = setup.backend(host.name(), false).await?;
        let result = self.run_over(&backend, setup, &host, docker).await;
        Ok((backend, result))
    }

    async fn run_over(
        &self,
        backend: &Backend,
        setup: &Setup,
        host: &Host,
        docker: PathBuf,
    ) -> Result<u8, Failure> {
        let engine = find(backend, setup, host).await?;
        let leads = Leads { backend, keep: false };
        let (_forward, path) = lead_to(&leads, host, &engine, Path::new(OWN_SOCKET))
            .await
            .map_err(|error| failure(host, error))?;
        // TLS is for engines that are reached by TCP, and a context is another engine.
        let environment = [
            ("DOCKER_HOST", OsString::from(docker_host(&path))),
            ("DOCKER_TLS_VERIFY", OsString::new()),
            ("DOCKER_CONTEXT", OsString::new()),
        ];
        let child = Program::of(docker).start(&self.arguments, &environment);
        let mut child = child
            .map_err(|error| Failure::Output(format!("cannot start docker: {}", plain(&error))))?;
        // A signal that is typed goes to docker as well, which ends in its own way and needs the
        // connection for that.
        let by_pool = matches!(backend, Backend::Pool(_));
        let status = wait(&mut child, by_pool).await.map_err(|error| {
            Failure::Output(format!("cannot wait for docker: {}", plain(&error)))
        })?;
        match (status.code(), status.signal().and_then(|number| Signal::try_from(number).ok())) {
            (Some(code), _) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, Some(signal)) => signals::end_as_by(signal),
            (None, None) => Ok(u8::MAX),
        }
    }
}

/// Waits for its end, and passes on the signals that are not typed.
async fn wait(child: &mut Child, by_pool: bool) -> std::io::Result<std::process::ExitStatus> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    let pass_on = |signal| {
        if let Some(pid) = pid {
            // It may just have ended.
            let _ = kill(pid, signal);
        }
    };
    if by_pool {
        loop {
            tokio::select! {
                status = child.wait() => return status,
                () = signals::next_interrupt() => {}
            }
        }
    }
    let mut typed = signal(SignalKind::interrupt())?;
    let mut told = signal(SignalKind::terminate())?;
    let mut hung_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            status = child.wait() => return status,
            _ = typed.recv() => {}
            _ = told.recv() => pass_on(Signal::SIGTERM),
            _ = hung_up.recv() => pass_on(Signal::SIGHUP),
        }
    }
}

impl DockerEnv {
    pub(in crate::cli) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        let host = setup.host(&self.target.host)?;
        let backend = setup.backend(host.name(), false).await?;
        let Backend::Agent(client) = &backend else {
            let why = "docker-env needs the agent, which keeps the socket; \
                `sshpool docker HOST …` does without";
            return Err(Failure::Usage(why.to_owned()));
        };
        let engine = find(&backend, setup, &host).await?;
        let path = client.docker_socket(&host).map_err(Failure::Output)?;
        let kept = client.forwards().await.map_err(|no| Failure::Output(no.to_string()))?;
        let shown = path.display().to_string();
        let is_there = kept.iter().any(|one| one.kept && one.listening.as_deref() == Some(&shown));
        if !is_there {
            let leads = Leads { backend: &backend, keep: true };
            lead_to(&leads, &host, &engine, &path).await.map_err(|error| failure(&host, error))?;
        }
        let url = docker_host(&path);
        match self.url {
            true => print(&url).await?,
            false => {
                let mut quoted = Vec::new();
                crate::command::escape::escape(url.as_bytes(), &mut quoted);
                let quoted = String::from_utf8_lossy(&quoted).into_owned();
                print(&format!("export DOCKER_HOST={quoted}")).await?;
            }
        }
        Ok(0)
    }
}

async fn find(backend: &Backend, setup: &Setup, host: &Host) -> Result<Engine, Failure> {
    let found = Engine::find(backend.runner(), host, &setup.config.docker(host)).await;
    found.map_err(|error| failure(host, error))
}

fn failure(host: &Host, error: EngineError) -> Failure {
    match error {
        EngineError::Run(error) => Failure::of(host.name(), &error),
        other => Failure::of_host(host, &other, NOT_RUN),
    }
}

/// Forwards over the agent or a pool.
struct Leads<'a> {
    backend: &'a Backend,
    keep: bool,
}

/// What leads to an engine.
enum Leading {
    Pool(Forward),
    Agent { _forwarded: Option<Forwarded>, info: ForwardInfo },
}

impl Forwarder for Leads<'_> {
    type Forward = Leading;

    async fn lead(&self, host: &Host, at: &Path, to: &To<'_>) -> Result<(Leading, PathBuf), Error> {
        let client = match self.backend {
            Backend::Pool(pool) => {
                let (forward, path) = pool.lead(host, at, to).await?;
                return Ok((Leading::Pool(forward), path));
            }
            Backend::Agent(client) => client,
        };
        let spec;
        let what = match to {
            To::Socket(there) => {
                spec = ForwardSpec::sockets(at, *there);
                WhatForwarded::Spec(&spec)
            }
            To::Command(text) => WhatForwarded::Command { at, text },
        };
        let (info, forwarded) = match self.keep {
            true => (client.keep_forward(host, &what).await?, None),
            false => {
                let (info, forwarded) = client.forward(host, &what).await?;
                (info, Some(forwarded))
            }
        };
        let path = PathBuf::from(info.listening.clone().unwrap_or_default());
        Ok((Leading::Agent { _forwarded: forwarded, info }, path))
    }

    async fn useless(&self, forward: &Leading) -> Option<String> {
        match (forward, self.backend) {
            (Leading::Pool(forward), Backend::Pool(pool)) => pool.useless(forward).await,
            (Leading::Agent { info, .. }, Backend::Agent(client)) => {
                let all = client.forwards().await.ok()?;
                // One that is not kept ends as well.
                let _ = client.remove_forward(info.id).await;
                all.into_iter().find(|one| one.id == info.id)?.last_error
            }
            _ => None,
        }
    }
}
