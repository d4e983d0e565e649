//! The periodic work, one task per pool: it probes connections and closes those that nobody has
//! used for long.
//!
//! It sleeps until the next connection is due and is woken only by a new connection, so the way of
//! a command does not touch it. It holds the pool weakly: dropping the last handle ends it.

use std::sync::{Arc, Weak};

use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument;

use super::cell::Cell;
use super::standby::Lent;
use super::{Core, Shared};
use crate::transport::{Connection, Transport};

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
        for (slot, generation, connection, depth) in checks {
            tokio::spawn(check(Arc::clone(&cell), slot, generation, connection, depth));
        }
        next = next.into_iter().chain(due).min();
    }
    next
}

/// How much of a connection is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// All of it, as far as the server's shell.
    Whole,
    /// This machine's part. Commands run on it, whose server may be too busy to answer.
    Local,
}

/// A check that is under way. Dropped, it is over, whatever became of it.
struct Check<T: Transport> {
    cell: Arc<Cell<T>>,
    slot: usize,
    generation: u64,
    depth: Depth,
    answer: Option<Result<(), String>>,
}

impl<T: Transport> Drop for Check<T> {
    fn drop(&mut self) {
        let Check { slot, generation, depth, .. } = *self;
        let works = self.answer.as_ref().map(Result::is_ok);
        let counts =
            self.cell.update(|state, now| state.checked(slot, generation, works, depth, now));
        if let (true, Some(Err(reason))) = (counts, &self.answer) {
            tracing::warn!(reason, "a connection failed its health check and is closed");
        }
        // It is due for its next check only now.
        self.cell.shared.wake.notify_one();
    }
}

/// The check of a connection that was marked as being checked.
pub(super) fn check<T: Transport>(
    cell: Arc<Cell<T>>,
    slot: usize,
    generation: u64,
    connection: Arc<T::Connection>,
    depth: Depth,
) -> impl Future<Output = ()> + Send + 'static {
    // Already here: a runtime that is shut down drops what it is given to run.
    let span = tracing::info_span!(parent: None, "health check", host = %cell.key(), slot);
    run_check(Check { cell, slot, generation, depth, answer: None }, connection).instrument(span)
}

async fn run_check<T: Transport>(mut check: Check<T>, connection: Arc<T::Connection>) {
    let config = &check.cell.shared.config;
    let (limit, reuses) = (config.connect_timeout, config.reuses_sessions());
    let (slot, generation) = (check.slot, check.generation);
    let mut over = match check.depth {
        Depth::Whole if reuses => Lent::of(&check.cell, slot, generation, 1),
        _ => None,
    };
    let answer = timeout(limit, async {
        match check.depth {
            Depth::Whole => connection.probe(over.as_mut().map(Lent::session)).await,
            Depth::Local => connection.answers().await,
        }
    })
    .await
    .unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
    drop(over);
    check.answer = Some(answer);
    drop(check);
}
