//! Finds out what is wrong with a host, or that nothing is.
//!
//! Everything that a command on the host depends on is looked at, in the order in which it is
//! needed: first what this machine has ([`local`], [`keys`]), then one login, step by step, and
//! what can be seen over it ([`connection`]). Each thing that was looked at is a [`Finding`]; it
//! says what is wrong, why, and what to do about it ([`advice`]). Nothing secret is in it.
//!
//! This room prints nothing and knows no exit status: findings go to an observer as they are made,
//! and all of them are in the [`Report`] at the end.

mod advice;
mod connection;
mod finding;
mod keys;
mod local;
mod report;

use std::path::Path;
use std::time::Duration;

pub(crate) use finding::{Finding, Status, duration_text};
use report::Recorder;
pub(crate) use report::{Report, Verdict};

use crate::config::{self, PoolConfig};
use crate::error::Error;
use crate::host::Host;
use crate::pool::Pool;

/// From the end of a connect that failed until its caller has been told, with an ample margin.
const MARGIN: Duration = Duration::from_secs(30);

/// Where the settings of a host come from. The findings name these places.
pub(crate) struct Sources<'a> {
    /// The TOML file, whether it exists or not; `None` where no home directory is known.
    pub file: Option<&'a Path>,
    /// Whether the TOML file has an entry for the host.
    pub has_host: bool,
    /// Whether the ssh_config was named for this examination, and not by the TOML file.
    pub names_ssh_config: bool,
}

/// Examines hosts with a pool of its own.
pub(crate) struct Doctor {
    /// `None` where there is no ssh program.
    pool: Option<Pool>,
}

impl Doctor {
    /// The pool has these settings, except that it makes one connection per host, and does nothing
    /// by itself that could disturb what is looked at.
    ///
    /// # Errors
    ///
    /// When a setting is not valid. That no ssh program is there is no error but a finding.
    pub(crate) fn new(settings: &PoolConfig) -> Result<Self, Error> {
        // A caller that waits for the one connection has to hear what became of it.
        let acquire_timeout = (settings.connect_timeout + MARGIN).min(config::LONGEST);
        let pool = Pool::new(PoolConfig {
            max_connections: 1,
            health_checks: false,
            acquire_timeout,
            ..settings.clone()
        });
        match pool {
            Ok(pool) => Ok(Doctor { pool: Some(pool) }),
            Err(Error::SshNotFound) => Ok(Doctor { pool: None }),
            Err(error) => Err(error),
        }
    }

    /// As [`Pool::close_on_signals`].
    ///
    /// # Errors
    ///
    /// When signals cannot be handled.
    pub(crate) fn close_on_signals(&self) -> Result<(), Error> {
        self.pool.as_ref().map_or(Ok(()), Pool::close_on_signals)
    }

    /// Looks at everything. It logs in once. Each finding goes to `observe` as soon as it is made.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, nothing more is looked at; the connection stays until the doctor is
    /// closed or dropped.
    pub(crate) async fn examine(
        &self,
        host: &Host,
        sources: &Sources<'_>,
        observe: &mut dyn FnMut(&Finding),
    ) -> Report {
        let mut recorder = Recorder::new(observe);
        let verdict = match &self.pool {
            Some(pool) => examine(pool, host, sources, &mut recorder).await,
            None => {
                recorder.add(
                    Finding::failed("ssh", "there is no ssh program")
                        .why("no directory of PATH has one")
                        .todo("install the OpenSSH client (Debian: openssh-client)"),
                );
                Verdict::Fails
            }
        };
        recorder.report(host.name(), verdict)
    }

    /// Closes the connection.
    pub(crate) async fn close(&self) {
        if let Some(pool) = &self.pool {
            pool.close_within(Duration::ZERO).await;
        }
    }
}

async fn examine(
    pool: &Pool,
    host: &Host,
    sources: &Sources<'_>,
    recorder: &mut Recorder<'_>,
) -> Verdict {
    match local::examine(sources, pool, host, recorder).await {
        Some(resolved) => connection::examine(pool, host, &resolved, recorder).await,
        None => {
            recorder.add(Finding::skipped("connect", "not tried"));
            Verdict::Fails
        }
    }
}
