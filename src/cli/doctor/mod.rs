//! `sshpool doctor`: everything that a command on a host depends on, looked at in the order in
//! which it is needed.

mod advice;
mod connection;
mod finding;
mod here;
mod keys;
mod report;

use std::time::Duration;

use clap::Args;

use super::{Failure, NOT_RUN, Setup, Target};
use crate::config::{self, PoolConfig};
use crate::error::Error;
use crate::host::Host;
use crate::pool::Pool;
use finding::Finding;
use report::Report;

/// From the end of a connect that failed until its caller has been told, with an ample margin.
const MARGIN: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool doctor web1                    what works, what does not, and what to do about it
  sshpool doctor deploy@192.0.2.7:2222   a host that is in no file
  sshpool doctor --json web1 | jq '.checks[] | select(.status == \"failed\")'
  SSH_POOL_CONNECTION_TIMEOUT_MS=30000 sshpool doctor web1    with more patience")]
pub(super) struct Doctor {
    /// Print one JSON object at the end instead of a line for each thing that was looked at
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Doctor {
    pub(super) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        let host = setup.host(&self.target.host)?;
        let mut report = Report::new(self.json);
        let status = match pool(setup) {
            Ok(pool) => {
                let looked = look(setup, &pool, &host, &mut report).await;
                pool.close_within(Duration::ZERO).await;
                looked?
            }
            Err(Error::SshNotFound) => {
                let finding = Finding::failed("ssh", "there is no ssh program")
                    .why("no directory of PATH has one")
                    .todo("install the OpenSSH client (Debian: openssh-client)");
                report.tell(finding).await?;
                NOT_RUN
            }
            Err(error) => return Err(Failure::of(host.name(), &error)),
        };
        report.end(host.name(), status == 0).await?;
        Ok(status)
    }
}

/// One that logs in once, and does nothing by itself that would be in the way of what is looked at.
fn pool(setup: &Setup) -> Result<Pool, Error> {
    let config = setup.config.pool.clone();
    // A caller that waits for the one connection is to hear what became of it.
    let acquire_timeout = (config.connect_timeout + MARGIN).min(config::LONGEST);
    let pool = Pool::new(PoolConfig {
        max_connections: 1,
        health_checks: false,
        acquire_timeout,
        ..config
    })?;
    pool.close_on_signals()?;
    Ok(pool)
}

async fn look(setup: &Setup, pool: &Pool, host: &Host, report: &mut Report) -> Result<u8, Failure> {
    match here::look(setup, pool, host, report).await? {
        Some(resolved) => connection::look(pool, host, &resolved, report).await,
        None => {
            report.tell(Finding::skipped("connect", "not tried")).await?;
            Ok(NOT_RUN)
        }
    }
}
