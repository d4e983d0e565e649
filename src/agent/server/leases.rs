//! The connections that clients hold, by name.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::pool::Lease;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// A std mutex: held for a look, or to add or remove one.
    held: Mutex<HashMap<String, Lease>>,
    next: AtomicU64,
}

/// One of them. Dropped, the connection is given back when its commands have ended.
pub(super) struct Held {
    leases: Arc<Leases>,
    name: String,
}

impl Leases {
    pub(super) fn hold(self: &Arc<Self>, lease: Lease) -> Held {
        // The socket is for one user only: a name need not be a secret.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        self.lock().insert(name.clone(), lease);
        Held { leases: Arc::clone(self), name }
    }

    pub(super) fn get(&self, name: &str) -> Option<Lease> {
        self.lock().get(name).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        // Nothing panics half-way through a change.
        self.held.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Held {
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let lease = self.leases.lock().remove(&self.name);
        // Given back without the lock.
        drop(lease);
    }
}
