//! A forward that listens on this side: `-L`.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use tokio::task::JoinSet;

use super::client::Client;
use super::listener::Listener;
use super::relay::{Broken, over_a_command, over_a_master};
use super::{ForwardEvent, Shared};
use crate::command::Stdin;
use crate::error::Error;
use crate::openssh::{Master, NotForwarded, OpenSsh};
use crate::policy::Lease;
use crate::pool::Pool;
use crate::text::without_host;

/// How often another connection is tried for a client whose first one is gone before a byte has
/// passed.
const ATTEMPTS: usize = 3;

/// The connection that carries a forward, held by each of its clients.
struct Link {
    lease: Lease<OpenSsh>,
    path: PathBuf,
}

/// How clients get to the host.
struct Links {
    pool: Pool,
    shared: Arc<Shared>,
    /// The one of the clients that are there. An async mutex: one client connects, and others wait.
    current: tokio::sync::Mutex<Weak<Link>>,
    /// The private sockets. A std mutex: held to look or to add one.
    sockets: Mutex<Vec<(Weak<Master>, PathBuf)>>,
}

/// Takes clients until it is dropped.
pub(super) async fn serve(pool: Pool, shared: Arc<Shared>, listener: Listener) {
    let links = Arc::new(Links {
        pool,
        shared: Arc::clone(&shared),
        current: tokio::sync::Mutex::default(),
        sockets: Mutex::default(),
    });
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            client = listener.accept() => {
                shared.total.fetch_add(1, Ordering::Relaxed);
                let open = Open::new(&shared);
                clients.spawn(Arc::clone(&links).carry(client, open));
            }
            Some(_) = clients.join_next(), if !clients.is_empty() => {}
        }
    }
}

/// A client that counts.
struct Open(Arc<Shared>);

impl Open {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(shared))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Links {
    /// Connects a client, and passes its bytes.
    async fn carry(self: Arc<Self>, mut client: Client, _open: Open) {
        let carried = self.attempt(&mut client).await;
        match carried {
            Ok(()) => client.has_ended(),
            Err(Broken::Client) => {}
            Err(Broken::Refused(why)) => self.shared.failed(&why),
            Err(Broken::Lost(why)) => {
                self.shared.failed(&format!("connection lost: {why}"));
            }
            Err(Broken::Here(error)) => {
                self.shared.failed(&crate::text::plain(&error).to_string());
            }
        }
    }

    async fn attempt(&self, client: &mut Client) -> Result<(), Broken> {
        if let Some(text) = &self.shared.command {
            let command = self.pool.shell(&self.shared.host, text).stdin(Stdin::Piped);
            let child = command.timeout(None).fresh_session().spawn().await;
            let child = child
                .map_err(|error| Broken::Refused(without_host(&error, self.shared.host.name())))?;
            return over_a_command(client, child, &self.shared).await;
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let link = self.link().await.map_err(|why| match why {
                NotForwarded::Refused(why) | NotForwarded::NoMaster(why) => Broken::Refused(why),
            })?;
            let master = link.lease.connection();
            match master.enter(&link.path).await {
                Ok(mut entered) => {
                    return over_a_master(client, &mut entered, &link.lease, &self.shared).await;
                }
                // The master has just gone, or somebody has taken its socket away: nothing of the
                // client has gone there.
                Err(error) if attempts == ATTEMPTS => return Err(Broken::Here(error)),
                Err(_) => self.forget(master),
            }
        }
    }

    /// A connection to the host on which the private socket is there.
    async fn link(&self) -> Result<Arc<Link>, NotForwarded> {
        let mut current = self.current.lock().await;
        if let Some(link) = current.upgrade()
            && link.lease.is_offered()
            && link.lease.connection().is_alive()
            && self.socket_of(link.lease.connection()).is_some()
        {
            return Ok(link);
        }
        for attempt in 1.. {
            let lease = self.acquire().await?;
            let master = lease.connection();
            let path = match self.socket_of(master) {
                Some(path) => Ok(path),
                None => master.leads_to(&self.shared.spec).await,
            };
            match path {
                Ok(path) => {
                    self.remember(master, &path);
                    let link = Arc::new(Link { lease, path });
                    *current = Arc::downgrade(&link);
                    self.shared.tell(ForwardEvent::Connected);
                    return Ok(link);
                }
                // It is gone; there will be another one.
                Err(NotForwarded::NoMaster(why)) if attempt < ATTEMPTS => {
                    tracing::debug!(why, "the forward's connection is gone");
                    lease.suspect();
                }
                Err(why) => return Err(why),
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn acquire(&self) -> Result<Lease<OpenSsh>, NotForwarded> {
        acquire(&self.pool, &self.shared)
            .await
            .map_err(|error| NotForwarded::Refused(without_host(&error, self.shared.host.name())))
    }

    fn socket_of(&self, master: &Arc<Master>) -> Option<PathBuf> {
        let sockets = self.sockets.lock().unwrap_or_else(|poison| poison.into_inner());
        let is_its = |of: &Weak<Master>| std::ptr::eq(of.as_ptr(), Arc::as_ptr(master));
        sockets.iter().find(|(of, _)| is_its(of)).map(|(_, path)| path.clone())
    }

    fn remember(&self, master: &Arc<Master>, path: &std::path::Path) {
        self.forget(master);
        let mut sockets = self.sockets.lock().unwrap_or_else(|poison| poison.into_inner());
        sockets.retain(|(of, _)| of.strong_count() > 0);
        sockets.push((Arc::downgrade(master), path.to_owned()));
    }

    fn forget(&self, master: &Arc<Master>) {
        let mut sockets = self.sockets.lock().unwrap_or_else(|poison| poison.into_inner());
        sockets.retain(|(of, _)| !std::ptr::eq(of.as_ptr(), Arc::as_ptr(master)));
    }
}

/// The private sockets go with the forward. Where no task can be started they go with their
/// masters.
impl Drop for Links {
    fn drop(&mut self) {
        let sockets = std::mem::take(self.sockets.get_mut().unwrap_or_else(|e| e.into_inner()));
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for (master, path) in sockets {
            let spec = self.shared.spec.clone();
            if let Some(master) = master.upgrade() {
                runtime.spawn(async move { master.leads_no_more(&spec, &path).await });
            }
        }
    }
}

/// A connection that is held without a session.
pub(super) async fn acquire(pool: &Pool, shared: &Shared) -> Result<Lease<OpenSsh>, Error> {
    // What the caller's place says may be another thing by now.
    let host = pool.core().resolve_here(&shared.host).await?;
    pool.core().hold(&host).await
}
