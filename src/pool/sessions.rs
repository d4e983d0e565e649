//! Hosts whose server may open one session on a connection, for those who need to know.

use std::sync::Arc;

use super::{Lease, Pool};
use crate::error::Error;
use crate::host::Host;
use crate::transport::Sessions;

impl Pool {
    /// What is known of this host's server.
    pub(crate) async fn sessions_known(&self, host: &Host) -> Sessions {
        match self.core.resolve_here(host).await {
            Ok(host) => self.core.sessions_known(&host),
            Err(_) => Sessions::Unknown,
        }
    }

    /// Waits for a connection for another program, which opens one session over the control socket.
    /// Where the server may open one only, that one is to be had.
    pub(crate) async fn acquire_for_another(&self, host: &Host) -> Result<Lease, Error> {
        let host = self.core.resolve_here(host).await?;
        loop {
            let inner = self.core.acquire(&host).await?;
            if inner.opens() {
                inner.takes();
                return Ok(Lease {
                    inner: Arc::new(inner),
                    pool: self.clone(),
                    host: Arc::new(host),
                });
            }
            // It is found out then how many there can be.
            inner.does_not_suit().await;
        }
    }
}
