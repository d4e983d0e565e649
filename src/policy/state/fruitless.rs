//! Connections that have ended young, before anything of a caller had run on them.

use tokio::time::Instant;

use super::KeyState;
use super::tenant::TenantId;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::transport::Transport;

/// Ended connections of which it is not known whether anything has run on them.
pub(super) const MOST_DOUBTS: usize = 16;

/// What is said of a connection that has ended young.
pub(super) fn fruitless(reason: &str) -> ConnectError {
    let detail = format!("logged in, but the connection ended before a command ran: {reason}");
    ConnectError::new(ConnectErrorKind::Other, detail, Vec::new())
}

impl<T: Transport> KeyState<T> {
    /// What has ended with this connection has run, or nobody knows better.
    pub(super) fn is_no_doubt(&mut self, generation: u64) {
        if let Some(place) = self.doubts.iter().position(|(of, _)| *of == generation) {
            self.quiet.extend(self.doubts.remove(place).map(|(_, tenant)| tenant));
        }
    }

    /// A connection has ended young, before anything of a caller had run on it: as if the login had
    /// failed.
    pub(super) fn was_fruitless(&mut self, id: TenantId, error: ConnectError, now: Instant) {
        let ticket = self.next_ticket;
        if let Some(tenant) = self.tenants.get_mut(&id) {
            let used_up = self.ledger.used_up(&tenant.account, &self.key, now);
            tenant.failed(error, None, used_up, ticket, now);
            tenant.was_fruitless();
        }
    }
}
