//! The mechanism: real ssh processes. It knows command lines, texts and processes, and nothing of slots, queues or leases.

mod args;
mod diagnosis;
mod guard;
mod master;
mod program;
mod runtime;
mod session;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::ConnectError;
use crate::host::Host;
use crate::pool::{Connection, Transport};

pub(crate) use master::Master;
pub(crate) use program::Program;
pub use program::SshVersion;
pub(crate) use session::{Session, SessionEnd, Streams};

/// Makes masters. What it needs on this machine (a directory, a guard process) is made with the first one.
#[derive(Debug)]
pub(crate) struct OpenSsh {
    program: Arc<Program>,
    connect_timeout: Duration,
    /// A std mutex: held to make or to take the runtime, never across an await.
    runtime: Mutex<Option<Arc<runtime::Runtime>>>,
}

impl OpenSsh {
    pub(crate) fn new(program: Program, connect_timeout: Duration) -> Self {
        OpenSsh {
            program: Arc::new(program),
            connect_timeout,
            runtime: Mutex::new(None),
        }
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    fn runtime(&self) -> Result<Arc<runtime::Runtime>, ConnectError> {
        let mut slot = self.runtime.lock().unwrap_or_else(|poison| poison.into_inner());
        match &*slot {
            Some(runtime) => Ok(Arc::clone(runtime)),
            None => Ok(Arc::clone(slot.insert(Arc::new(runtime::Runtime::create()?)))),
        }
    }
}

impl Transport for OpenSsh {
    type Connection = Master;

    async fn connect(&self, host: &Host, deadline: Instant) -> Result<Master, ConnectError> {
        host.check_files().map_err(|error| {
            ConnectError::new(
                crate::error::ConnectErrorKind::KeyFile,
                error.to_string(),
                Vec::new(),
            )
        })?;
        let runtime = self.runtime()?;
        let launch = master::Launch {
            program: &self.program,
            runtime: &runtime,
            connect_timeout: self.connect_timeout,
            deadline,
        };
        Master::connect(host, launch).await
    }

    async fn shutdown(&self) {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
            .take();
        if let Some(runtime) = runtime {
            runtime.finish().await;
        }
    }
}

impl Connection for Master {
    async fn probe(&self) -> Result<(), String> {
        Master::probe(self).await
    }

    async fn ended(&self) -> String {
        Master::ended(self).await
    }

    async fn close(&self, patience: Duration) {
        Master::close(self, patience).await;
    }
}
