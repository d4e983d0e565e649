//! How a host is logged in to, and for whom.

use std::any::Any;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::place::{Place, Sharing};

/// How it is logged in, and for whom. What of it connections are shared by is in the
/// [`HostIdentity`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Login {
    /// Where the caller stands; by default where this process does.
    pub place: Option<Arc<Place>>,
    /// How it goes, once ssh was asked.
    pub route: Option<Route>,
    /// The program that asks somebody, and what it has to know in its environment. By default
    /// nobody is asked.
    pub askpass: Option<Arc<Askpass>>,
    /// How long it may take instead of `connect_timeout`: people are slow, and so is what the
    /// user's `ConnectTimeout` allows for.
    pub limit: Option<Duration>,
    /// Where it goes, once ssh was asked. Failed logins are counted by it.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The variables that the caller's sessions send to the server.
    pub variables: Arc<Variables>,
    pub caller: Caller,
}

/// Who asks for a command. A session that can show one command what another has left is used again
/// by the same caller only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// Whoever has the pool in this process.
    #[default]
    Own,
    /// A process for which this one keeps the pool. Its number may be given to another one later,
    /// which has started at another time then.
    Process { pid: i32, started: u64 },
    /// Somebody of whom nothing is known, and who is nobody else.
    Stranger(u64),
}

/// How a host is reached from its caller's place.
pub(crate) struct Resolved {
    /// What else a login depends on.
    pub sharing: Sharing,
    pub endpoint: Arc<Endpoint>,
    pub variables: Arc<Variables>,
    /// How long a login may take, where that is not `connect_timeout`.
    pub limit: Option<Duration>,
    pub route: Route,
}

/// What the mechanism that makes connections has worked out for a login. Nobody else looks inside.
#[derive(Clone)]
pub(crate) struct Route(Arc<dyn Any + Send + Sync>);

impl Route {
    pub(crate) fn new<R: Any + Send + Sync>(route: Arc<R>) -> Self {
        Route(route)
    }

    /// `None` for the route of another mechanism.
    pub(crate) fn get<R: Any + Send + Sync>(&self) -> Option<Arc<R>> {
        Arc::clone(&self.0).downcast().ok()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Route")
    }
}

/// Two are the same when they were worked out together.
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Route {}

/// The account that a login is refused or accepted at, whatever alias or place it was named from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub user: String,
    pub address: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.contains(':') {
            true => write!(f, "{}@[{}]:{}", self.user, self.address, self.port),
            false => write!(f, "{}@{}:{}", self.user, self.address, self.port),
        }
    }
}

/// The variables that a session sends to the server, and with which values: what `SendEnv` matches
/// of the caller's environment. A session that was opened with some is of use only to a caller with
/// the same.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Variables(pub std::collections::BTreeMap<OsString, OsString>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Askpass {
    pub program: PathBuf,
    pub environment: Vec<(&'static str, OsString)>,
    /// Somebody was asked something.
    pub asked: Asked,
}

/// Set once. Two are the same when setting one sets the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked(Arc<AtomicBool>);

impl Asked {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Asked {}

impl Login {
    /// A login like this one cannot be made without somebody there.
    pub(crate) fn has_asked(&self) -> bool {
        self.askpass.as_ref().is_some_and(|askpass| askpass.asked.0.load(Ordering::Relaxed))
    }
}
