//! A pool and a lease as runners of commands.

use std::sync::Arc;

use super::{Lease, Pool};
use crate::command::{Child, ExitStatus, Output, Pending, Request, Runner};
use crate::config::PoolConfig;
use crate::execution::{self, Target};
use crate::host::Host;
use crate::openssh::OpenSsh;

impl Pool {
    fn target(&self, request: &Request) -> Target<OpenSsh> {
        Target::Pool(Arc::clone(self.core()), Arc::clone(&request.host))
    }
}

impl Runner for Pool {
    fn shared(&self) -> Arc<dyn Runner> {
        Arc::new(self.clone())
    }

    fn output(&self, request: Request) -> Pending<'_, Output> {
        Box::pin(execution::output(self.target(&request), request))
    }

    fn status(&self, request: Request) -> Pending<'_, ExitStatus> {
        Box::pin(execution::status(self.target(&request), request))
    }

    fn spawn(&self, request: Request) -> Pending<'_, Child> {
        Box::pin(execution::spawn(self.target(&request), request))
    }

    fn lease(&self, host: &Host) -> Pending<'_, Arc<dyn Runner>> {
        let host = host.clone();
        Box::pin(async move { Ok(Arc::new(self.acquire(&host).await?) as _) })
    }

    fn has_shell(&self, host: &Host) -> Pending<'_, bool> {
        let host = host.clone();
        Box::pin(async move { Ok(!self.acquire(&host).await?.is_silent()) })
    }

    fn defaults(&self) -> PoolConfig {
        self.config().clone()
    }
}

impl Lease {
    fn target(&self) -> Target<OpenSsh> {
        let core = Arc::clone(self.pool.core());
        Target::Lease(core, Arc::clone(&self.inner), Arc::clone(&self.host))
    }
}

/// Its commands run on the connection that it holds, whatever host they name.
impl Runner for Lease {
    fn shared(&self) -> Arc<dyn Runner> {
        Arc::new(self.clone())
    }

    fn output(&self, request: Request) -> Pending<'_, Output> {
        Box::pin(execution::output(self.target(), request))
    }

    fn status(&self, request: Request) -> Pending<'_, ExitStatus> {
        Box::pin(execution::status(self.target(), request))
    }

    fn spawn(&self, request: Request) -> Pending<'_, Child> {
        Box::pin(execution::spawn(self.target(), request))
    }

    fn lease(&self, _: &Host) -> Pending<'_, Arc<dyn Runner>> {
        Box::pin(async { Ok(self.shared()) })
    }

    fn has_shell(&self, _: &Host) -> Pending<'_, bool> {
        Box::pin(async { Ok(!self.is_silent()) })
    }

    fn defaults(&self) -> PoolConfig {
        self.pool.config().clone()
    }
}
