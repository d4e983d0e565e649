//! Over the agent, or over a pool of this process.

use crate::agent::Client;
use crate::command::Runner;
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
}
