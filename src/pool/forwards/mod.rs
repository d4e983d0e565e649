//! Forwards that stay: [`Pool::forward`].
//!
//! What listens on this side (`-L`) is a listener of the pool's. It is there before the first
//! login, it takes a connection of the pool when a client comes, and it stays where it is when that
//! connection is lost: clients that wait are served over the next one. Bytes go through a private
//! socket of the master's (`relay`). What listens on the host's side (`-R`) and SOCKS (`-D`) is the
//! master's own, and is made again on the next one (`held`).
//!
//! A client is told the truth: one whose connection is lost, or cannot be made, is reset. The end
//! of a stream is passed on only where the other side has ended it.
//!
//! A forward takes no session of the server, and no room from commands. In use it keeps its
//! connection; a `-L` that nobody uses keeps none.

mod client;
mod held;
mod listener;
mod local;
mod relay;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Pool;
use crate::error::Error;
use crate::forward::{Direction, Endpoint, ForwardSpec};
use crate::host::Host;

/// Events that a slow listener may be behind.
const EVENTS: usize = 64;
/// How long the end of forwards is waited for.
const ENDING: Duration = Duration::from_secs(2);

/// A port or socket that is forwarded until this is dropped: clients are reset then, and a socket
/// is gone.
pub struct Forward {
    shared: Arc<Shared>,
    task: AbortHandle,
    /// Its sender is the task's.
    ended: watch::Receiver<()>,
}

/// What happens to a forward.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForwardEvent {
    /// It listens: here, or on the host. A port that was to be chosen is named.
    Listening(Endpoint),
    /// A connection of the pool carries it from now on.
    Connected,
    /// A client was reset, or the host does not listen, for this reason.
    Failed(String),
    /// The connection that carried it is gone, for this reason. Clients on it were reset.
    Lost(String),
}

/// A forward at one instant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ForwardStatus {
    /// The host's `name:port`.
    pub host: String,
    /// What is forwarded.
    pub spec: ForwardSpec,
    /// Where it listens now. None where the host listens and there is no connection to it.
    pub listening: Option<Endpoint>,
    /// Clients that are connected. Of what a master forwards by itself nothing is counted.
    pub open: usize,
    /// Clients that came.
    pub total: u64,
    /// Bytes from clients to the host.
    pub sent: u64,
    /// Bytes from the host to clients.
    pub received: u64,
    /// Clients that were reset.
    pub failed: u64,
    /// Why the last one was, or why the host does not listen.
    pub last_error: Option<String>,
}

/// What the task of a forward and its handles have in common.
#[derive(Debug)]
struct Shared {
    host: Host,
    spec: ForwardSpec,
    /// What runs on the host for each client, where its streams lead to the target.
    command: Option<String>,
    /// A std mutex: held to look or to change.
    state: Mutex<State>,
    open: AtomicUsize,
    total: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    failed: AtomicU64,
    events: broadcast::Sender<ForwardEvent>,
}

#[derive(Debug, Default)]
struct State {
    listening: Option<Endpoint>,
    last_error: Option<String>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change.
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn listens(&self, at: Endpoint) {
        self.state().listening = Some(at.clone());
        self.tell(ForwardEvent::Listening(at));
    }

    fn failed(&self, why: &str) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.state().last_error = Some(why.to_owned());
        tracing::info!(host = self.host.name(), forward = %self.spec, why, "forward failed");
        self.tell(ForwardEvent::Failed(why.to_owned()));
    }

    /// Nobody may listen.
    fn tell(&self, event: ForwardEvent) {
        let _ = self.events.send(event);
    }

    fn status(&self) -> ForwardStatus {
        let state = self.state();
        ForwardStatus {
            host: self.host.key().to_string(),
            spec: self.spec.clone(),
            listening: state.listening.clone(),
            open: self.open.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            last_error: state.last_error.clone(),
        }
    }
}

/// What happens to a forward, as it happens.
#[derive(Debug)]
pub struct ForwardEvents {
    events: broadcast::Receiver<ForwardEvent>,
    ended: watch::Receiver<()>,
}

impl ForwardEvents {
    /// The next event; none when the forward has ended. Who is far behind misses some.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<ForwardEvent> {
        loop {
            let come = tokio::select! {
                biased;
                come = self.events.recv() => come,
                Err(_) = self.ended.changed() => return None,
            };
            match come {
                Ok(event) => return Some(event),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Forward {
    /// Where it listens now, with the port that was chosen. None where the host is to listen and
    /// there is no connection to it.
    pub fn listening(&self) -> Option<Endpoint> {
        self.shared.state().listening.clone()
    }

    /// What there is to tell of it.
    pub fn status(&self) -> ForwardStatus {
        self.shared.status()
    }

    /// What happens from now on.
    pub fn events(&self) -> ForwardEvents {
        let events = self.shared.events.subscribe();
        ForwardEvents { events, ended: self.ended.clone() }
    }

    /// Ends it, and completes when nothing of it is left.
    ///
    /// # Cancel safety
    ///
    /// Once polled, it ends; dropping the future only stops waiting for it.
    pub async fn end(&self) {
        self.task.abort();
        self.ended().await;
    }

    /// Completes when the forward has ended: it was, or its pool was closed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ended(&self) {
        // Nothing is ever sent.
        let _ = self.ended.clone().changed().await;
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The forwards of a pool.
#[derive(Debug, Default)]
pub(super) struct Registry {
    /// A std mutex: held to add one or to look.
    all: Mutex<Vec<Registered>>,
}

#[derive(Debug)]
struct Registered {
    shared: Weak<Shared>,
    task: AbortHandle,
    ended: watch::Receiver<()>,
}

impl Registry {
    fn add(&self, forward: &Forward) {
        let mut all = self.lock();
        all.retain(|one| one.shared.strong_count() > 0);
        all.push(Registered {
            shared: Arc::downgrade(&forward.shared),
            task: forward.task.clone(),
            ended: forward.ended.clone(),
        });
    }

    /// Ends all of them, and completes when nothing of them is left. One whose runtime is not
    /// driven any more is not waited for.
    pub(super) async fn end(&self) {
        let all = std::mem::take(&mut *self.lock());
        all.iter().for_each(|one| one.task.abort());
        // Nothing is ever sent.
        let ended = all.into_iter().map(async |mut one| drop(one.ended.changed().await));
        let _ = timeout(ENDING, join_all(ended)).await;
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Registered>> {
        self.all.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Pool {
    /// Forwards a port or a socket to or from this host until the [`Forward`] is dropped.
    ///
    /// A `-L` listens when this returns, whether the host can be reached or not: it is connected to
    /// when a client comes, and a client that waits for a login that fails is reset. It listens on
    /// the loopback interface, where the text names no address. A socket is for this user alone
    /// (mode 0600), and gone with the forward, also after `kill -9`; a file in its place is not
    /// replaced. `-R` and `-D` connect at once, and are made again whenever the connection is
    /// lost.
    ///
    /// # Errors
    ///
    /// [`Error::Forward`] where this side or the server cannot listen; for `-R` and `-D` also what
    /// [`acquire`](Self::acquire) fails with; [`Error::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: dropping the future forwards nothing.
    pub async fn forward(&self, host: &Host, spec: &ForwardSpec) -> Result<Forward, Error> {
        let spec = match std::env::current_dir() {
            Ok(directory) => spec.clone().in_directory(&directory),
            Err(_) => spec.clone(),
        };
        self.forward_or_run(host.clone(), spec, None, false).await
    }

    /// The same, for paths that depend on no directory. With a command it listens here, and runs
    /// this shell text on the host for each client, whose streams lead to the command's: for
    /// targets that the server does not forward to. With `lazily` what needs a login is tried in
    /// the background, again and again.
    pub(crate) async fn forward_or_run(
        &self,
        host: Host,
        spec: ForwardSpec,
        command: Option<String>,
        lazily: bool,
    ) -> Result<Forward, Error> {
        if self.core().is_closed() {
            return Err(Error::Closed { host: host.name().to_owned() });
        }
        let shared = Arc::new(Shared {
            host,
            spec,
            command,
            state: Mutex::default(),
            open: AtomicUsize::new(0),
            total: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            events: broadcast::Sender::new(EVENTS),
        });
        let (sender, ended) = watch::channel(());
        let (pool, of) = (self.clone(), Arc::clone(&shared));
        let task = match shared.spec.direction() {
            Direction::Local => {
                let listener = listener::Listener::bind(self, &shared).await?;
                tokio::spawn(async move {
                    let _sender = sender;
                    local::serve(pool, of, listener).await;
                })
            }
            Direction::Remote | Direction::Dynamic => {
                let held = match lazily {
                    false => Some(held::Held::begin(self, &shared).await?),
                    true => None,
                };
                tokio::spawn(async move {
                    let _sender = sender;
                    held::keep(held, pool, of).await;
                })
            }
        };
        let forward = Forward { shared, task: task.abort_handle(), ended };
        self.forwards.add(&forward);
        if self.core().is_closed() {
            // It was closed while this went on.
            forward.end().await;
            return Err(Error::Closed { host: forward.shared.host.name().to_owned() });
        }
        Ok(forward)
    }

    /// The forwards of this pool.
    pub fn forwards(&self) -> Vec<ForwardStatus> {
        let all = self.forwards.lock();
        all.iter().filter_map(|one| Some(one.shared.upgrade()?.status())).collect()
    }
}
