//! Connections to hops, which hosts behind them share: the pool's own, as those to any host.

use std::path::Path;
use std::sync::Weak;

use crate::error::Error;
use crate::host::Host;
use crate::openssh::{Acquired, Held, Hops, OpenSsh};
use crate::policy::{Core, Lease};

/// Weak: a connection that a login waits for keeps no pool.
#[derive(Debug)]
pub(super) struct OfPool(pub Weak<Core<OpenSsh>>);

impl Hops for OfPool {
    fn acquire(&self, hop: Host) -> Acquired {
        let core = self.0.clone();
        Box::pin(async move {
            let closed = || Error::Closed { host: hop.name().to_owned() };
            // Not held while it waits.
            let cell = core.upgrade().ok_or_else(closed)?.cell_of(&hop)?;
            let lease = cell.acquire(&hop).await?;
            Ok(Box::new(lease) as Box<dyn Held>)
        })
    }
}

impl Held for Lease<OpenSsh> {
    fn socket(&self) -> &Path {
        self.connection().socket()
    }

    fn program(&self) -> &Path {
        self.connection().program()
    }

    fn works(&self) {
        self.connection().ran();
        self.ran();
    }
}
