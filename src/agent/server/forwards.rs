//! The forwards of the agent: those of clients, which end with them, and those that are kept.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::time::sleep;

use super::http::{Answer, body, json, switching, wants_frames};
use super::{Agent, Running, hosts};
use crate::agent::protocol::{self, Cause, ForwardInfo, Happened, NewForward, Refusal};
use crate::config::Config;
use crate::forward::{Endpoint, ForwardSpec, ForwardSpecError};
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

/// Forwards a port or a socket: for as long as the client's frames are open, or until it is
/// removed.
pub(super) async fn forward(
    agent: &Arc<Agent>,
    mut request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let upgrade = wants_frames(&request)?.then(|| hyper::upgrade::on(&mut request));
    let new: NewForward = body(request).await?;
    if new.keep == upgrade.is_some() {
        let message = "either the connection is upgraded to frames, or keep is true";
        return Err(Refusal::new(Cause::Invalid, message));
    }
    let spec = match &new.command {
        Some(_) => ForwardSpec::to_command(Endpoint::Socket(new.forward.clone().into())),
        None => new
            .forward
            .parse()
            .map_err(|error: ForwardSpecError| Refusal::new(Cause::Invalid, error.to_string()))?,
    };
    let running = Running::new(agent)?;
    let (host, pool) = hosts::host_in_place(agent, new.host.clone(), new.origin())?;
    // What the place lacks is told now, and not to the first client.
    hosts::resolved(agent, &host, &pool).await?;
    let place = host.login().place.as_ref();
    let directory = place.and_then(|place| place.directory.as_deref());
    let spec = spec.in_directory(directory.unwrap_or(Path::new("/")));
    let forward = pool.forward_or_run(host.clone(), spec, new.command, false).await;
    let forward = forward.map_err(|error| agent.refusal(&error, &host))?;
    let Some(upgrade) = upgrade else { return json(&agent.forwards.keep(forward)) };
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        let _running = running;
        let mut events = forward.events();
        let of_client = agent.forwards.of_client(forward);
        let Ok(upgraded) = upgrade.await else { return };
        let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
        let Some(info) = of_client.info() else { return };
        let text = serde_json::to_vec(&info).expect("it has text keys");
        let told = async {
            protocol::write_frame(&mut to, protocol::frame::STARTED, &text).await?;
            while let Some(event) = events.next().await {
                let text = serde_json::to_vec(&Happened::from(event)).expect("it has text keys");
                protocol::write_frame(&mut to, protocol::frame::STDOUT, &text).await?;
            }
            protocol::write_frame(&mut to, protocol::frame::END, b"{}").await
        };
        // The client says no more, and its end is that of the forward.
        let mut ignored = tokio::io::sink();
        tokio::select! {
            _ = told => {}
            _ = tokio::io::copy(&mut from, &mut ignored) => {}
        }
    });
    Ok(switching())
}

/// Begins the forwards of the TOML file. Where the agent before still listens, that is tried again.
pub(super) fn begin(agent: &Arc<Agent>, config: &Config) {
    for (name, specs) in &config.forwards {
        let Ok(host) = hosts::named(agent, config, name) else { continue };
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
                    match pool.forward_or_run(host.clone(), spec.clone(), None, true).await {
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
