//! The mechanism: real ssh processes. It knows command lines, texts and processes, and nothing of
//! slots, queues or leases.

mod alive;
mod answer;
mod args;
mod bootstrap;
pub(crate) mod config;
mod diagnosis;
mod ending;
mod ends;
mod examine;
mod first;
mod forward;
mod guard;
mod hop;
mod keys;
mod lane;
mod launch;
mod leftover;
mod log;
mod master;
mod mending;
mod pipes;
mod presence;
mod program;
#[cfg(test)]
mod properties;
mod resolve;
mod route;
mod runtime;
mod session;
mod silent;
mod socket_file;
mod stray;
mod supervisor;
pub(crate) mod texts;
mod trace;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{ConnectError, ConnectErrorKind};
use crate::host::place::Place;
use crate::host::{self, Host, Variables};
use crate::transport::{
    Configuration, Connection, End, Input, NotEnded, NotOpened, NotResolved, Script, Sessions,
    Transport, Trial,
};

/// Different ssh programs at once.
const MOST_PROGRAMS: usize = 64;

/// How long a login may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoginLimit {
    pub connect_timeout: Duration,
    /// Somebody has set it; else it is longer where the ssh_config's `ConnectTimeout` is.
    pub is_set: bool,
}

pub(crate) use args::{of_host, over};
use examine::check_files;
pub(crate) use examine::{Agent, Limit, Resolved, agent, known_keys};
pub(crate) use forward::{Entered, LogSince, NotForwarded};
pub(crate) use guard::give_back_descriptors;
pub(crate) use hop::{Acquired, Held, Hops};
pub(crate) use lane::LaneSettings;
pub(crate) use master::Account;
pub(crate) use master::Master;
pub(crate) use program::Program;
pub use program::SshVersion;
pub(crate) use route::{Resolver, Route};
pub(crate) use runtime::parent_directory;
pub(crate) use session::Session;
pub(crate) use socket_file::SocketFile;
pub(crate) use stray::Client;
pub(crate) use supervisor::CLOSED;
pub(crate) use trace::{Step, Trace};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes masters. What it needs on this machine (a directory, a guard process) is made with the
/// first one.
#[derive(Debug)]
pub(crate) struct OpenSsh {
    /// By its path. A caller's PATH may lead to another ssh than the next one's. A std mutex: held
    /// for a look.
    programs: Mutex<HashMap<PathBuf, Arc<Program>>>,
    /// The ssh of this process's own PATH.
    own: Option<Arc<Program>>,
    resolver: Arc<Resolver>,
    limit: LoginLimit,
    lanes: LaneSettings,
    /// A std mutex: held to make or to take the runtime, never across an await.
    runtime: Mutex<State>,
    silent: silent::Silent,
    /// Who has connections to hops, once that is said, and where it may.
    hops: OnceLock<Arc<dyn Hops>>,
    /// Who watches the next login. A std mutex: held to put it there or to take it.
    watched: Mutex<Option<Arc<trace::Trace>>>,
}

#[derive(Debug)]
enum State {
    /// No connection was made yet. → There, Finished
    New,
    /// → There (another, when somebody has removed the directory), Finished
    There(Arc<runtime::Runtime>),
    /// Shut down for good. The receiver is told when nothing is left.
    Finished(watch::Receiver<bool>),
}

impl OpenSsh {
    /// Without a program of its own, only callers that say which ssh is theirs are served.
    pub(crate) fn new(
        own: Option<Program>,
        resolver: Arc<Resolver>,
        limit: LoginLimit,
        lanes: LaneSettings,
    ) -> Self {
        OpenSsh {
            programs: Mutex::default(),
            own: own.map(Arc::new),
            resolver,
            limit,
            lanes,
            runtime: Mutex::new(State::New),
            silent: silent::Silent::new(),
            hops: OnceLock::new(),
            watched: Mutex::default(),
        }
    }

    /// The ssh that a caller in this place would start.
    pub(crate) fn program(&self, place: &Place) -> Result<Arc<Program>, ConnectError> {
        let Some(path) = &place.ssh else {
            return self.own.clone().ok_or_else(|| {
                ConnectError::new(
                    ConnectErrorKind::SshMissing,
                    "no ssh program found in PATH",
                    Vec::new(),
                )
            });
        };
        let mut programs = self.programs.lock().unwrap_or_else(|poison| poison.into_inner());
        // Nobody has many; who makes them up is not to fill the memory.
        if programs.len() > MOST_PROGRAMS {
            programs.clear();
        }
        let program =
            programs.entry(path.clone()).or_insert_with(|| Arc::new(Program::of(path.clone())));
        Ok(Arc::clone(program))
    }

    /// Logins over a `ProxyJump` go over connections of these.
    pub(crate) fn share_hops(&self, hops: Arc<dyn Hops>) {
        // It is said once, when the pool is made.
        let _ = self.hops.set(hops);
    }

    /// The host as it is reached from its place, and so the hops before it.
    fn as_reached<'a>(&'a self, host: &'a Host) -> BoxFuture<'a, Result<Host, NotResolved>> {
        Box::pin(async move {
            let place = host.login().place.clone().unwrap_or_else(|| Arc::new(Place::own()));
            check_files(host, &place)?;
            let (program, runtime) = (self.program(&place)?, self.runtime()?);
            let deadline = Instant::now() + self.limit.connect_timeout;
            let launch = self.launch(&program, &runtime, deadline);
            let mut route = self.resolver.route(host, &place, &launch).await?;
            if self.hops.get().is_some() {
                route.hop = self.hop(host, &route, &place).await?;
            }
            Ok(self.on_route(host.clone(), Arc::new(route)))
        })
    }

    /// The same route, and those of the hops before it, after what a login goes by was looked at.
    fn asked_again(&self, route: Arc<Route>) -> BoxFuture<'_, Arc<Route>> {
        Box::pin(async move {
            let mut route = self.resolver.refreshed(route).await;
            if let Some(hop) = route.hop.clone()
                && let Some(way) = route_of(&hop)
            {
                let way = self.asked_again(way).await;
                Arc::make_mut(&mut route).hop = Some(self.on_route(hop, way));
            }
            route
        })
    }

    /// The hop that a login by this route goes over, where the pool is to have the connection.
    async fn hop(
        &self,
        host: &Host,
        route: &Route,
        place: &Arc<Place>,
    ) -> Result<Option<Host>, NotResolved> {
        let Some(hop) = hop::of(host, &route.answer, route.config_file.as_deref(), place) else {
            return Ok(None);
        };
        match self.as_reached(&hop).await {
            Ok(hop) if route_of(&hop).is_none_or(|way| hop::is_the_users(&way.answer)) => Ok(None),
            Ok(hop) => Ok(Some(hop)),
            Err(NotResolved::Needs(needs)) => Err(NotResolved::Needs(needs)),
            // ssh says the same of it, and better.
            Err(NotResolved::Failed(_)) => Ok(None),
        }
    }

    /// The host with this route to it.
    fn on_route(&self, host: Host, route: Arc<Route>) -> Host {
        let LoginLimit { connect_timeout, is_set } = self.limit;
        let allows = route.allows.filter(|allows| !is_set && *allows > connect_timeout);
        host.resolved(host::Resolved {
            sharing: route.sharing.clone(),
            endpoint: Arc::clone(&route.endpoint),
            variables: Arc::clone(&route.variables),
            limit: allows,
            route: host::Route::new(route),
        })
    }

    fn runtime(&self) -> Result<Arc<runtime::Runtime>, ConnectError> {
        let mut state = self.lock();
        match &*state {
            // A logout can take XDG_RUNTIME_DIR away under a process that goes on.
            State::There(runtime) if runtime.is_there() => Ok(Arc::clone(runtime)),
            State::New | State::There(_) => {
                let runtime = Arc::new(runtime::Runtime::create()?);
                *state = State::There(Arc::clone(&runtime));
                Ok(runtime)
            }
            State::Finished(_) => Err(runtime::local("the pool is closed".to_owned())),
        }
    }

    /// A path in the private directory that nothing has used before.
    pub(crate) fn private_path(&self) -> std::io::Result<PathBuf> {
        let runtime = self.runtime().map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(runtime.fresh_path())
    }

    /// A socket that is to be gone with this process, however it ends.
    pub(crate) fn guards(&self, path: &Path) -> std::io::Result<SocketFile> {
        let runtime = self.runtime().map_err(|error| std::io::Error::other(error.to_string()))?;
        SocketFile::new(runtime, path)
    }

    fn launch<'a>(
        &'a self,
        program: &'a Arc<Program>,
        runtime: &'a Arc<runtime::Runtime>,
        deadline: Instant,
    ) -> launch::Launch<'a> {
        let connect_timeout = self.limit.connect_timeout;
        launch::Launch {
            program,
            runtime,
            connect_timeout,
            deadline,
            lanes: self.lanes,
            trace: None,
            sessions: Sessions::Several,
        }
    }

    /// Begins to remove what there is, unless somebody has begun already. A task, so that it goes
    /// on when nobody waits for it.
    fn finish(&self) -> watch::Receiver<bool> {
        let mut state = self.lock();
        if let State::Finished(finished) = &*state {
            return finished.clone();
        }
        let (sender, finished) = watch::channel(false);
        let before = std::mem::replace(&mut *state, State::Finished(finished.clone()));
        tokio::spawn(async move {
            if let State::There(runtime) = before {
                runtime.finish().await;
            }
            sender.send_replace(true);
        });
        finished
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics half-way through a change.
        self.runtime.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Plain ssh, to compare with.
impl OpenSsh {
    /// One command with a login of its own. `Err` says why it did not succeed.
    pub(crate) async fn cold(
        &self,
        host: &Host,
        command: &str,
        limit: Duration,
    ) -> Result<(), String> {
        let finished = self.login(host, false, command, limit).await?;
        match finished.code {
            Some(0) => Ok(()),
            Some(255) => {
                Err(diagnosis::connect_failure(&finished.stderr, "ssh failed").told_of(host.name()))
            }
            Some(code) => Err(format!("exit status: {code}")),
            None => Err("killed by a signal".to_owned()),
        }
    }

    /// The key exchange that is agreed on with this host.
    pub(crate) async fn kex(&self, host: &Host, limit: Duration) -> Option<String> {
        diagnosis::kex_algorithm(&self.login(host, true, "true", limit).await.ok()?.stderr)
    }

    async fn login(
        &self,
        host: &Host,
        verbose: bool,
        command: &str,
        limit: Duration,
    ) -> Result<program::Finished, String> {
        let program = self.program(&Place::own()).map_err(|error| error.to_string())?;
        let call = program.call(args::login(host, verbose, command), Instant::now() + limit);
        call.await.map_err(|error| error.to_string())
    }
}

impl Transport for OpenSsh {
    type Connection = Master;
    type Way = Option<Arc<hop::Way>>;

    async fn resolve(&self, host: &Host) -> Result<Host, NotResolved> {
        self.as_reached(host).await
    }

    /// What a login goes by is what the caller's ssh-agent holds.
    async fn refreshed(&self, host: Host) -> Host {
        match route_of(&host) {
            Some(route) => {
                let route = self.asked_again(route).await;
                self.on_route(host, route)
            }
            None => host,
        }
    }

    async fn way(&self, host: &Host) -> Result<Self::Way, ConnectError> {
        let (Some(hop), Some(hops)) = (hop_of(host), self.hops.get()) else { return Ok(None) };
        match hops.acquire(hop.clone().asking_as(host)).await {
            Ok(held) => Ok(hop::Way::over(held).map(Arc::new)),
            Err(error) => {
                let proxy = route_of(host).and_then(|route| resolve::proxy_of(&route.answer));
                Err(hop::not_reached(&proxy.unwrap_or_default(), &hop, error))
            }
        }
    }

    async fn connect(
        &self,
        host: &Host,
        way: Self::Way,
        deadline: Instant,
        sessions: Sessions,
    ) -> Result<Master, ConnectError> {
        let runtime = self.runtime()?;
        let Some(route) = route_of(host) else {
            return Err(runtime::local("nobody has asked ssh for the way to this host".to_owned()));
        };
        let watched = self.watched.lock().unwrap_or_else(|poison| poison.into_inner()).take();
        let launch = launch::Launch {
            trace: watched.as_deref(),
            // What goes over a hop opens no session there.
            sessions: if host.is_hop() { Sessions::Several } else { sessions },
            ..self.launch(&route.program, &runtime, deadline)
        };
        // Nothing is to run on a hop.
        let silent = Some(&self.silent).filter(|_| !host.is_hop());
        let connected = Master::connect(host, &route, launch, silent, way.clone()).await;
        match connected {
            Err(error) if diagnosis::is_of_the_way(&error) => {
                // ssh calls the jump host a pipe; the configuration has its name.
                let Some(proxy) = resolve::proxy_of(&route.answer) else { return Err(error) };
                Err(match way.as_deref().and_then(hop::Way::refusal) {
                    Some(refusal) => {
                        let detail = format!("{proxy} failed: {}", refusal.detail());
                        refusal.with_detail(detail)
                    }
                    None => diagnosis::by_way_of(&proxy, error),
                })
            }
            connected => {
                if let (Ok(_), Some(way)) = (&connected, &way) {
                    way.works();
                }
                connected
            }
        }
    }

    async fn configuration(&self, host: &Host, kind: ConnectErrorKind) -> Configuration {
        mending::fingerprint(host, kind).await
    }

    async fn shutdown(&self) {
        let mut finished = self.finish();
        // The sender is gone without a word only when the runtime was shut down, and then there is
        // nobody to wait.
        let _ = finished.wait_for(|finished| *finished).await;
    }
}

/// The hop that a login to this host goes over, where the pool is to have the connection to it.
pub(crate) fn hop_of(host: &Host) -> Option<Host> {
    route_of(host)?.hop.clone()
}

/// The route that was worked out for this host.
fn route_of(host: &Host) -> Option<Arc<Route>> {
    host.login().route.as_ref()?.get()
}

impl Connection for Master {
    type Session = Session;

    async fn probe(&self, over: Option<&mut Session>) -> Result<(), String> {
        Master::probe(self, over).await
    }

    async fn is_heard(&self, over: &mut Session, busy: bool) -> Option<bool> {
        Master::is_heard(self, over, busy).await
    }

    async fn answers(&self) -> Result<(), String> {
        Master::answers(self).await
    }

    fn first(&self) -> Option<(Session, Arc<Variables>)> {
        Master::take_first(self)
    }

    fn standby(&self, variables: &Arc<Variables>) -> Option<Session> {
        Master::standby(self, variables)
    }

    fn open(
        &self,
        script: &Script,
        input: Input<'_>,
        variables: &Variables,
    ) -> Result<Session, NotOpened> {
        Master::open(self, script, input, variables)
    }

    async fn prove_input(&self) {
        Master::prove_input(self).await;
    }

    async fn end_groups(&self, over: Option<Session>, groups: &[i32]) -> Result<(), NotEnded> {
        Master::end_groups(self, over, groups).await
    }

    fn is_plain(&self) -> bool {
        Master::is_plain(self)
    }

    fn sessions(&self) -> Sessions {
        Master::sessions(self)
    }

    async fn try_another(&self, beside: Option<&mut Session>) -> Trial {
        Master::try_another(self, beside).await
    }

    fn is_alive(&self) -> bool {
        Master::is_alive(self)
    }

    async fn ended(&self) -> End {
        Master::ended(self).await
    }

    fn has_run(&self) -> bool {
        Master::has_run(self)
    }

    async fn close(&self, patience: Duration) {
        Master::close(self, patience).await;
    }
}
