//! From the command line to the subcommand that it names.

use std::time::Duration;

use super::commands::metrics;
use super::failure::Failure;
use super::program::{Cli, Command, Global};
use super::setup::{Setup, from_a_pipe};
use super::tips;
use crate::cli::backend::Backend;
use crate::pool::signals;

/// Runs the subcommand, and gives the status to end with.
pub(super) async fn run(cli: Cli) -> Result<u8, Failure> {
    let Cli { global: Global { ssh_config, config, no_agent, .. }, command } = cli;
    let command = match command {
        // What they print does not depend on any settings.
        Command::Completions(completions) => return completions.run().await,
        Command::Man(man) => return man.run(tips::command()).await,
        command => command,
    };
    let piped = ssh_config.as_deref().map(from_a_pipe).transpose()?.flatten();
    let setup = match &piped {
        None => Setup::new(ssh_config, config, no_agent)?,
        Some(copy) => {
            // The next command has another one, and the agent could not read this one again.
            tracing::info!("the ssh_config comes from a pipe: a pool of this command's own");
            Setup::new(Some(copy.path().to_owned()), config, true)?
        }
    };
    let (backend, result) = match command {
        Command::Exec(exec) => {
            let host = setup.host(&exec.target.host)?;
            let backend = setup.backend(host.name(), false).await?;
            let runner = exec.by_user.over(backend.runner(), &setup.config).await?;
            let result = exec.run(&*runner, &host).await;
            (backend, result)
        }
        Command::Run(run) => {
            let Some(fleet) = run.prepare(&setup).await? else { return Ok(0) };
            let backend = setup.backend(fleet.first(), false).await?;
            let runner = fleet.by_user().over(backend.runner(), &setup.config).await?;
            let result = fleet.run(&*runner).await;
            (backend, result)
        }
        Command::Cp(cp) => {
            let copy = cp.prepare(&setup)?;
            let backend = setup.backend(copy.first(), true).await?;
            let runner = copy.by_user.over(backend.runner(), &setup.config).await?;
            let result = copy.run(&*runner).await;
            (backend, result)
        }
        Command::Compose(compose) => {
            let (backend, hosts) = setup.open_all(compose.hosts(), false).await?;
            let runner = compose.by_user.over(backend.runner(), &setup.config).await?;
            let result = compose.run(&*runner, &hosts, &setup.config).await;
            (backend, result)
        }
        Command::Resources(resources) => {
            let (backend, hosts) = setup.open_all(resources.hosts(), resources.watches()).await?;
            let result = resources.run(backend.runner(), &hosts).await;
            (backend, result)
        }
        Command::Docker(docker) => docker.run(&setup).await?,
        Command::DockerEnv(docker) => return docker.run(&setup).await,
        Command::Forward(forward) => match forward.run(&setup).await? {
            (None, result) => return result,
            (Some(backend), result) => (backend, result),
        },
        Command::Doctor(doctor) => return doctor.run(&setup).await,
        Command::Completions(_) | Command::Man(_) => unreachable!("they have returned"),
        Command::Bench(bench) => {
            let session = setup.open(&bench.target, true)?;
            let result = bench.run(&session).await;
            (Backend::Pool(session.pool), result)
        }
        Command::Warm(warm) => return warm.run(&setup).await,
        Command::Status(status) => return status.run(&setup).await,
        Command::Close(close) => return close.run(&setup).await,
        Command::Metrics => return metrics::metrics(&setup).await,
        Command::Agent(agent) => return agent.run(&setup).await,
        Command::Ssh(_) => unreachable!("it does not come here"),
    };
    if signals::is_ending() {
        // The handler closes the pool and ends the process by the signal.
        std::future::pending::<()>().await;
    }
    if let Backend::Pool(pool) = backend {
        // Nothing of ours runs any more, unless it was given up.
        pool.close_within(Duration::ZERO).await;
    }
    if let Err(Failure::Interrupted) = result {
        signals::end_as_by(nix::sys::signal::Signal::SIGINT);
    }
    result
}
