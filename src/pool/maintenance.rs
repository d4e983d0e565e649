//! The periodic work, one task per pool: it probes idle connections and suspect ones, and closes those that nobody has used for long.
//!
//! It sleeps until the next connection is due and is woken only by a new connection or suspicion, so the way of a command does not touch it. It
//! holds the pool weakly: dropping the last handle ends it.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, sleep_until, timeout};

use super::cell::Cell;
use super::{Connection, Core, Shared, Transport};

pub(super) async fn run<T: Transport>(core: Weak<Core<T>>, shared: Arc<Shared>) {
    loop {
        let woken = shared.wake.notified();
        let Some(due) = core.upgrade().map(|core| work(&core)) else {
            return;
        };
        match due {
            Some(due) => tokio::select! {
                () = sleep_until(due) => {}
                () = woken => {}
            },
            None => woken.await,
        }
    }
}

/// Does what is due, and says when there will be something to do again.
fn work<T: Transport>(core: &Arc<Core<T>>) -> Option<Instant> {
    let config = core.config();
    let mut next: Option<Instant> = None;
    for cell in core.cells() {
        let (checks, due) = cell.update(|state, now| {
            state.retire_idle(now, config);
            (state.due_for_check(now, config), state.next_due(now, config))
        });
        for (slot, generation, connection) in checks {
            tokio::spawn(check(Arc::clone(&cell), slot, generation, connection));
        }
        next = next.into_iter().chain(due).min();
    }
    next
}

#[tracing::instrument(name = "health check", skip_all, fields(host = %cell.key(), slot = slot))]
async fn check<T: Transport>(
    cell: Arc<Cell<T>>,
    slot: usize,
    generation: u64,
    connection: Arc<T::Connection>,
) {
    let limit = cell.shared.config.connect_timeout;
    let answer = timeout(limit, connection.probe())
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
    if let Err(reason) = &answer {
        tracing::warn!(reason, "a connection failed its health check and is closed");
    }
    cell.update(|state, now| state.checked(slot, generation, answer.is_ok(), now));
    // It is due for its next check only now.
    cell.shared.wake.notify_one();
}
