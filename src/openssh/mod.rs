//! The mechanism: real ssh processes. It knows command lines, texts and processes, and nothing of slots, queues or leases.

mod args;
mod bootstrap;
mod diagnosis;
mod ending;
#[cfg(feature = "cli")]
mod examine;
mod guard;
mod keys;
mod master;
mod mending;
mod program;
#[cfg(test)]
mod properties;
mod resolve;
mod runtime;
mod session;
mod supervisor;
#[cfg_attr(not(feature = "cli"), expect(dead_code, reason = "only the program watches logins"))]
mod trace;

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::error::{ConnectError, ConnectErrorKind, plain};
use crate::host::{Host, HostIdentity, Variables};
use crate::pool::{Configuration, Connection, End, Transport};

#[cfg(feature = "cli")]
pub(crate) use args::{of_host, over};
pub(crate) use bootstrap::{Marker, Script};
pub(crate) use ending::{LIMIT as ENDING, NotEnded};
#[cfg(feature = "cli")]
pub(crate) use examine::{Agent, Limit, Resolved, agent, known_keys};
#[cfg(feature = "cli")]
pub(crate) use master::Account;
pub(crate) use master::Master;
pub(crate) use program::Program;
pub use program::SshVersion;
#[cfg(feature = "cli")]
pub(crate) use resolve::Destination;
#[cfg(feature = "cli")]
pub(crate) use runtime::parent_directory;
pub(crate) use session::{Input, NotOpened, Session, SessionEnd, Streams};
#[cfg(feature = "cli")]
pub(crate) use trace::{Step, Trace};

/// Makes masters. What it needs on this machine (a directory, a guard process) is made with the first one.
#[derive(Debug)]
pub(crate) struct OpenSsh {
    program: Arc<Program>,
    connect_timeout: Duration,
    /// A std mutex: held to make or to take the runtime, never across an await.
    runtime: Mutex<State>,
    /// Accounts that did not even answer an echo: a forced command, an appliance. What runs there runs each time that it is asked, so that
    /// it is not asked again. A std mutex: held for a look.
    silent: Mutex<HashSet<HostIdentity>>,
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
    pub(crate) fn new(program: Program, connect_timeout: Duration) -> Self {
        OpenSsh {
            program: Arc::new(program),
            connect_timeout,
            runtime: Mutex::new(State::New),
            silent: Mutex::default(),
            watched: Mutex::default(),
        }
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
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

    fn launch<'a>(&'a self, runtime: &'a Arc<runtime::Runtime>, deadline: Instant) -> master::Launch<'a> {
        let connect_timeout = self.connect_timeout;
        master::Launch { program: &self.program, runtime, connect_timeout, deadline, trace: None }
    }

    /// Begins to remove what there is, unless somebody has begun already. A task, so that it goes on when nobody waits for it.
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

    fn silent(&self) -> std::sync::MutexGuard<'_, HashSet<HostIdentity>> {
        self.silent.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics half-way through a change.
        self.runtime.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Plain ssh, to compare with.
#[cfg(feature = "cli")]
impl OpenSsh {
    /// Where a login to this host goes. Connects to nothing.
    pub(crate) async fn destination(&self, host: &Host) -> Result<Destination, ConnectError> {
        check_files(host)?;
        let runtime = self.runtime()?;
        let deadline = Instant::now() + self.connect_timeout;
        resolve::destination(&self.launch(&runtime, deadline), host).await
    }

    /// One command with a login of its own. `Err` says why it did not succeed.
    pub(crate) async fn cold(&self, host: &Host, command: &str, limit: Duration) -> Result<(), String> {
        let finished = self.login(host, false, command, limit).await?;
        match finished.code {
            Some(0) => Ok(()),
            Some(255) => Err(diagnosis::connect_failure(&finished.stderr, "ssh failed").to_string()),
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
        let call = self.program.call(args::login(host, verbose, command), Instant::now() + limit);
        call.await.map_err(|error| error.to_string())
    }
}

impl Transport for OpenSsh {
    type Connection = Master;

    async fn connect(&self, host: &Host, deadline: Instant) -> Result<Master, ConnectError> {
        check_files(host)?;
        let runtime = self.runtime()?;
        let is_silent = self.silent().contains(host.identity());
        let watched = self.watched.lock().unwrap_or_else(|poison| poison.into_inner()).take();
        let launch = master::Launch { trace: watched.as_deref(), ..self.launch(&runtime, deadline) };
        let master = Master::connect(host, launch, is_silent).await?;
        if master.is_silent() {
            self.silent().insert(host.identity().clone());
        }
        Ok(master)
    }

    async fn configuration(&self, host: &Host, kind: ConnectErrorKind) -> Configuration {
        mending::fingerprint(host, kind).await
    }

    async fn shutdown(&self) {
        let mut finished = self.finish();
        // The sender is gone without a word only when the runtime was shut down, and then there is nobody to wait.
        let _ = finished.wait_for(|finished| *finished).await;
    }
}

/// Looks at the files that the host names. ssh would go on without a key that is not there, and then say that something else is wrong.
fn check_files(host: &Host) -> Result<(), ConnectError> {
    let files = [
        (ConnectErrorKind::KeyFile, host.get_identity_file()),
        (ConnectErrorKind::BadOption, host.get_config_file()),
    ];
    for (kind, path) in files {
        // "none" is a word of ssh's, not a file.
        if let Some(path) = path.filter(|path| *path != Path::new("none"))
            && let Err(error) = std::fs::File::open(path)
        {
            use nix::errno::Errno;
            let out_of_descriptors = [Errno::EMFILE, Errno::ENFILE].map(|errno| Some(errno as i32));
            let kind = match out_of_descriptors.contains(&error.raw_os_error()) {
                true => ConnectErrorKind::Local,
                false => kind,
            };
            return Err(ConnectError::new(
                kind,
                format!("{}: {}", path.display(), plain(&error)),
                Vec::new(),
            ));
        }
    }
    Ok(())
}

impl Connection for Master {
    type Standby = Session;

    async fn probe(&self) -> Result<(), String> {
        Master::probe(self).await
    }

    async fn answers(&self) -> Result<(), String> {
        Master::answers(self).await
    }

    fn standby(&self, _: &Arc<Variables>) -> Option<Session> {
        Master::standby(self)
    }

    fn is_fresh(standby: &mut Session) -> bool {
        standby.is_there()
    }

    fn is_plain(&self) -> bool {
        Master::is_plain(self)
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
