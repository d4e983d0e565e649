//! Over the agent, or over a pool of this process.

use std::ffi::OsString;

use super::Client;
use crate::command::{Command, Runner};
use crate::config::PoolConfig;
use crate::host::Host;
use crate::pool::Pool;

/// Who runs the commands of the program.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    Pool(Pool),
    Agent(Client),
}

impl Way {
    pub(crate) fn runner(&self) -> &dyn Runner {
        match self {
            Way::Pool(pool) => pool,
            Way::Agent(client) => client,
        }
    }

    pub(crate) fn shell(&self, host: &Host, text: impl Into<OsString>) -> Command {
        self.runner().shell(host, text)
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        match self {
            Way::Pool(pool) => pool.config(),
            Way::Agent(client) => client.config(),
        }
    }
}
