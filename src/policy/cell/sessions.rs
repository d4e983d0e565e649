//! What the meeting place and its leases know of servers that open one session on a connection.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use super::{Cell, Grant, Lease};
use crate::host::Host;
use crate::transport::{Connection, Sessions, Transport};

impl<T: Transport> Cell<T> {
    /// A trial is over.
    pub(in crate::policy) fn has_tried(&self) {
        self.tried.notify_waiters();
    }

    /// What is known of the server of this host.
    pub(in crate::policy) fn sessions_known(&self, host: &Host) -> Sessions {
        self.lock().sessions_known(host.identity(), Instant::now())
    }

    /// Whether a caller has the connection of this slot.
    pub(in crate::policy) fn is_leased(&self, slot: usize) -> bool {
        self.lock().is_leased(slot)
    }
}

impl<T: Transport> Lease<T> {
    /// Whether a session may be opened on this connection, beside what waits there.
    pub(crate) fn opens(&self) -> bool {
        let Some(Grant { slot, generation, connection, .. }) = &self.grant else { return true };
        let opens = self.cell.lock().opens(*slot, *generation);
        // What is being closed says so by itself.
        opens.unwrap_or_else(|| connection.sessions() == Sessions::Several)
    }

    /// Whether this connection is of no use behind its command.
    pub(crate) fn is_for_one(&self) -> bool {
        let Some(Grant { slot, generation, .. }) = &self.grant else { return false };
        self.cell.lock().is_for_one(*slot, *generation)
    }

    /// No session that suits waits on this connection, and none may be opened. Completes when it is
    /// known whether the server opens another one, where that is to be found out.
    pub(crate) async fn does_not_suit(mut self) {
        self.takes();
        let Some(Grant { slot, generation, .. }) = self.grant.take() else { return };
        let cell = Arc::clone(&self.cell);
        drop(self);
        cell.update(|state, _| state.does_not_suit(slot, generation));
        let known = async {
            loop {
                let told = cell.tried.notified();
                if !cell.lock().is_in_question(slot, generation) {
                    return;
                }
                told.await;
            }
        };
        // A connection that ends in between says nothing.
        let _ = timeout(cell.shared.config.connect_timeout, known).await;
    }

    /// The same of a lease that goes on, whose command goes elsewhere.
    pub(crate) fn has_no_other(&self) {
        if let Some(Grant { slot, generation, .. }) = &self.grant {
            self.cell.update(|state, _| state.has_no_other(*slot, *generation));
        }
    }
}
