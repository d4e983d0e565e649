//! Connections that ended soon after their login, before a command of a caller had run on them.

use tokio::time::Instant;

use super::KeyState;
use super::tenant::TenantId;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::transport::Transport;

/// The most ended connections that are remembered until it is known whether a command ran.
pub(super) const MOST_DOUBTS: usize = 16;

/// The error for a connection that ended soon after its login.
pub(super) fn fruitless(reason: &str) -> ConnectError {
    let detail = format!("logged in, but the connection ended before a command ran: {reason}");
    ConnectError::new(ConnectErrorKind::Other, detail, Vec::new())
}

impl<T: Transport> KeyState<T> {
    /// A command has run on this connection, or its lease has ended and nothing more can be learnt.
    pub(super) fn is_no_doubt(&mut self, generation: u64) {
        if let Some(place) = self.doubts.iter().position(|(of, _)| *of == generation) {
            self.quiet.extend(self.doubts.remove(place).map(|(_, tenant)| tenant));
        }
    }

    /// A connection ended soon after its login, before a command of a caller had run on it. It
    /// counts as a failed login.
    pub(super) fn was_fruitless(&mut self, id: TenantId, error: ConnectError, now: Instant) {
        let ticket = self.next_ticket;
        if let Some(tenant) = self.tenants.get_mut(&id) {
            let used_up = self.ledger.used_up(&tenant.account, &self.key, now);
            tenant.failed(error, None, used_up, ticket, now);
            tenant.was_fruitless();
        }
    }
}
