//! The forwards of the agent: those of clients, which end with them, and those that are kept.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::sleep;

use super::Agent;
use crate::agent::protocol::ForwardInfo;
use crate::config::Config;
use crate::pool::{Forward, ForwardStatus};

/// Between two attempts to listen for a forward of the TOML file, the first and the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Forwards {
    /// A std mutex: held for a look, or to add or remove one.
    state: Mutex<State>,
    next: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    all: BTreeMap<u64, Entry>,
    /// What those have counted that are gone.
    gone: Counts,
}

/// What was counted of forwards, since the agent was started.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Clients that came.
    pub(super) clients: u64,
    /// Times that a client was reset, or that the host did not listen.
    pub(super) failures: u64,
    /// Bytes from clients to hosts, and back.
    pub(super) sent: u64,
    pub(super) received: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    forward: Arc<Forward>,
    kept: bool,
}

/// A forward of a client's. Dropped, it ends.
pub(super) struct OfClient {
    forwards: Arc<Forwards>,
    id: u64,
}

impl Forwards {
    /// It stays until it is removed.
    pub(super) fn keep(&self, forward: Forward) -> ForwardInfo {
        let id = self.add(forward, true);
        self.info(id).expect("it is there since a moment ago")
    }

    /// It is a client's.
    pub(super) fn of_client(self: &Arc<Self>, forward: Forward) -> OfClient {
        let id = self.add(forward, false);
        OfClient { forwards: Arc::clone(self), id }
    }

    fn add(&self, forward: Forward, kept: bool) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.lock().all.insert(id, Entry { forward: Arc::new(forward), kept });
        id
    }

    pub(super) fn info(&self, id: u64) -> Option<ForwardInfo> {
        let entry = self.lock().all.get(&id).cloned()?;
        Some(ForwardInfo::new(id, entry.kept, entry.forward.status()))
    }

    pub(super) fn all(&self) -> Vec<ForwardInfo> {
        let all = self.lock().all.clone();
        let info =
            |(id, entry): (u64, Entry)| ForwardInfo::new(id, entry.kept, entry.forward.status());
        all.into_iter().map(info).collect()
    }

    /// Ends it, and says whether it was there.
    pub(super) async fn remove(&self, id: u64) -> bool {
        let removed = self.lock().remove(id);
        match removed {
            Some(entry) => {
                entry.forward.end().await;
                true
            }
            None => false,
        }
    }

    /// Whether the agent is needed for one.
    pub(super) fn is_kept(&self) -> bool {
        self.lock().all.values().any(|entry| entry.kept)
    }

    pub(super) fn count(&self) -> usize {
        self.lock().all.len()
    }

    /// What was counted, also of those that are gone; and how many clients are connected.
    pub(super) fn counts(&self) -> (Counts, usize) {
        let state = self.lock();
        let mut counts = state.gone;
        let mut open = 0;
        for entry in state.all.values() {
            let status = entry.forward.status();
            counts.add(&status);
            open += status.open;
        }
        (counts, open)
    }

    /// Those that no client waits for end.
    pub(super) fn end_kept(&self) {
        let ended: Vec<_> = {
            let mut state = self.lock();
            let kept: Vec<u64> =
                state.all.iter().filter(|(_, entry)| entry.kept).map(|(id, _)| *id).collect();
            kept.iter().filter_map(|id| state.remove(*id)).collect()
        };
        drop(ended);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change.
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl State {
    /// What it has counted stays counted.
    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.all.remove(&id)?;
        self.gone.add(&entry.forward.status());
        Some(entry)
    }
}

impl Counts {
    fn add(&mut self, status: &ForwardStatus) {
        self.clients += status.total;
        self.failures += status.failed;
        self.sent += status.sent;
        self.received += status.received;
    }
}

impl OfClient {
    pub(super) fn info(&self) -> Option<ForwardInfo> {
        self.forwards.info(self.id)
    }
}

impl Drop for OfClient {
    fn drop(&mut self) {
        let removed = self.forwards.lock().remove(self.id);
        // It ends without the lock.
        drop(removed);
    }
}

/// Begins the forwards of the TOML file. Where the agent before still listens, that is tried again.
pub(super) fn begin(agent: &Arc<Agent>, config: &Config) {
    for (name, specs) in &config.forwards {
        let Ok(host) = super::routes::named(agent, config, name) else { continue };
        for spec in specs {
            let (host, spec) = (host.clone(), spec.clone().in_directory("/".as_ref()));
            // Weak: an agent that leaves waits for nothing here.
            let weak = Arc::downgrade(agent);
            tokio::spawn(async move {
                let mut pause = PAUSE;
                loop {
                    let Some(agent) = weak.upgrade().filter(|agent| !agent.is_leaving()) else {
                        return;
                    };
                    let Ok(Ok(pool)) = agent.pools.get(None) else { return };
                    match pool.forward_of(host.clone(), spec.clone(), true).await {
                        Ok(forward) => {
                            agent.forwards.keep(forward);
                            return;
                        }
                        Err(error) => {
                            tracing::warn!(%error, forward = %spec, "not forwarded yet");
                        }
                    }
                    drop((agent, pool));
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            });
        }
    }
}
