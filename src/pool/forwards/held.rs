//! What a master forwards by itself: `-R`, where the host listens, and `-D`, SOCKS.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{interval, sleep};

use super::local::acquire;
use super::{ForwardEvent, Shared};
use crate::error::Error;
use crate::forward::{Endpoint, ForwardSpec};
use crate::openssh::{NotForwarded, OpenSsh};
use crate::policy::Lease;
use crate::pool::Pool;
use crate::text::without_host;

/// Between two attempts, the first and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often it is looked whether the pool wants to let go of the connection.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that carries it.
pub(super) struct Held {
    lease: Lease<OpenSsh>,
    /// As the master was asked for it.
    spec: ForwardSpec,
}

impl Held {
    pub(super) async fn begin(pool: &Pool, shared: &Shared) -> Result<Self, Error> {
        Self::begin_at(pool, shared, None).await
    }

    /// The same, where it has listened before, if that is still free.
    async fn begin_at(
        pool: &Pool,
        shared: &Shared,
        before: Option<&Endpoint>,
    ) -> Result<Self, Error> {
        let lease = acquire(pool, shared).await?;
        let wanted = before.unwrap_or(shared.spec.listen()).clone();
        let told = |reason| Error::Forward { host: shared.host.name().to_owned(), reason };
        let mut spec = shared.spec.clone().at(wanted.clone());
        let forwarded = match lease.connection().forwards(&spec).await {
            Err(NotForwarded::Refused(_)) if wanted != *shared.spec.listen() => {
                spec = shared.spec.clone();
                lease.connection().forwards(&spec).await
            }
            forwarded => forwarded,
        };
        let port = forwarded.map_err(|why| match why {
            NotForwarded::Refused(reason) | NotForwarded::NoMaster(reason) => {
                told(format!("{}: {reason}", shared.spec))
            }
        })?;
        let at = match (wanted, port) {
            (Endpoint::Port { host, .. }, Some(port)) => Endpoint::Port { host, port },
            (wanted, _) => wanted,
        };
        shared.tell(ForwardEvent::Connected);
        shared.listens(at);
        Ok(Held { lease, spec })
    }

    /// Completes when another connection is needed, and says why.
    async fn lost(&self) -> String {
        let master = self.lease.connection();
        let mut look = interval(LOOK);
        loop {
            tokio::select! {
                end = async { crate::transport::Connection::ended(&**master).await } => {
                    return end.reason;
                }
                _ = look.tick() => if !self.lease.is_offered() {
                    return "the connection is let go".to_owned();
                },
            }
        }
    }
}

/// Keeps it up, on one connection after another.
pub(super) async fn keep(mut held: Option<Held>, pool: Pool, shared: Arc<Shared>) {
    loop {
        // A port that the server has chosen once is asked for again.
        let mut before = None;
        if let Some(held) = held.take() {
            let why = held.lost().await;
            before = shared.state().listening.take();
            shared.tell(ForwardEvent::Lost(why));
        }
        let mut pause = PAUSE;
        while held.is_none() {
            match Held::begin_at(&pool, &shared, before.as_ref()).await {
                Ok(begun) => held = Some(begun),
                Err(Error::Closed { .. }) if pool.core().is_closed() => return,
                Err(error) => {
                    shared.failed(&without_host(&error, shared.host.name()));
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Where no task can be started it goes with its master.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (master, spec) = (Arc::clone(self.lease.connection()), self.spec.clone());
        if master.is_alive() {
            runtime.spawn(async move { master.forwards_no_more(&spec).await });
        }
    }
}
