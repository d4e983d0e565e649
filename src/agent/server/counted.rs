//! The clients and commands that the agent counts, as long as they are there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Agent, MOST_COMMANDS};
use crate::agent::protocol::{Cause, Refusal};
use crate::error::Error;
use crate::host::Host;

/// One client, as long as it is connected.
pub(super) struct Present(pub(super) Arc<Agent>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::Relaxed);
        self.0.used();
    }
}

/// One of the commands that run, as long as anything of it is there; or a process that has a
/// connection to itself for a while.
pub(super) struct Running(Arc<Agent>);

impl Running {
    pub(super) fn new(agent: &Arc<Agent>) -> Result<Self, Refusal> {
        let running = Running(Arc::clone(agent));
        if agent.commands.fetch_add(1, Ordering::Relaxed) < MOST_COMMANDS {
            return Ok(running);
        }
        Err(Refusal::new(Cause::TooMany, format!("more than {MOST_COMMANDS} commands at once")))
    }

    /// Why it was not started, or has no end.
    pub(super) fn refusal(&self, error: &Error, host: &Host) -> Refusal {
        self.0.refusal(error, host)
    }

    /// The same for one whose output is with the client already.
    pub(super) fn refusal_of_streamed(&self, error: &Error, host: &Host) -> Refusal {
        self.0.refusal(error, host).without_output()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.commands.fetch_sub(1, Ordering::Relaxed);
        self.0.memory.used();
        self.0.used();
    }
}
