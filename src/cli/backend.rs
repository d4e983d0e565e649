//! Over the agent, or over a pool of this process.

use std::ffi::OsString;

use crate::agent::Client;
use crate::command::{Command, Runner};
use crate::config::PoolConfig;
use crate::host::Host;
use crate::pool::Pool;

/// Who runs the commands of the program.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Pool(Pool),
    Agent(Client),
}

impl Backend {
    pub(crate) fn runner(&self) -> &dyn Runner {
        match self {
            Backend::Pool(pool) => pool,
            Backend::Agent(client) => client,
        }
    }

    pub(crate) fn shell(&self, host: &Host, text: impl Into<OsString>) -> Command {
        self.runner().shell(host, text)
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        match self {
            Backend::Pool(pool) => pool.config(),
            Backend::Agent(client) => client.config(),
        }
    }
}
