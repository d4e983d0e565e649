//! The program's side of the socket.
//!
//! A client is made when an agent was found, or started. Each request has a connection of its own:
//! a command that is slow is in nobody's way, and one whose client goes away is ended by that.

mod calls;
mod forwards;
pub(crate) use forwards::Forwarded;
pub(crate) mod request;
mod runner;
pub(crate) mod start;

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use crate::agent::directory::Directory;
use crate::agent::protocol::PlaceSpec;
use crate::agent::protocol::{self, Cause, Origin, Refusal, Stop};
use crate::agent::standing::Standing;
use crate::command::{Command, Runner};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::Host;
use crate::host::place::Needs;
use request::{Outgoing, Unanswered, collected, encoded, parsed};

/// A client of the user's agent, which runs commands over the agent's connections.
///
/// It is a handle: clones are the same client, and cheap. It is a [`Runner`](crate::Runner): its
/// commands are made by [`command`](Self::command) and [`shell`](Self::shell), and
/// [`docker`](crate::docker), [`resources`](crate::resources) and [`on_each`](crate::on_each) work
/// over it as they do over a [`Pool`](crate::Pool).
///
/// A command is answered as plain ssh would answer it, started by this process in its directory
/// with its environment, as they were when the client was made.
///
/// ```no_run
/// # async fn example() -> Result<(), sshpool::Error> {
/// use sshpool::{Host, agent::Client};
///
/// let agent = Client::find().await?;
/// let output = agent.command(&Host::new("web1")?, "uptime").output().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: Directory,
    /// A std mutex: held for a look, or to add what an agent needs to know.
    origin: Mutex<Origin>,
    /// The client's own settings: what an agent would not know.
    config: PoolConfig,
    /// With what an agent is started; `None` where none is to be started.
    arguments: Option<Vec<OsString>>,
    /// Where this process stands.
    standing: Standing,
    /// A connection for the next request. A std mutex: held to take it.
    next: Mutex<Option<UnixStream>>,
}

/// Why the agent could not be asked.
#[derive(Debug)]
pub(crate) enum NoAgent {
    /// There is none.
    NotThere,
    /// It was asked, and is gone without an answer. Nothing was begun.
    NoAnswer(String),
    /// It was asked, and has not answered within this time.
    Silent(Duration),
    /// There is one, and it stands where it cannot answer for this process.
    Elsewhere,
    /// It could not be asked, for this reason, in one line.
    Failed(String),
}

/// How often something is asked again of the next agent.
const ATTEMPTS: usize = 5;
/// How long an agent that leaves takes to make room.
const MOMENT: Duration = Duration::from_millis(2);
/// Who waits for a server or for a person knows best how long.
const FOREVER: Duration = Duration::from_secs(365 * 86_400);

impl std::fmt::Display for NoAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoAgent::NotThere => f.write_str("no agent runs"),
            NoAgent::NoAnswer(why) => write!(f, "the agent does not answer: {why}"),
            NoAgent::Silent(time) => write!(f, "the agent has not answered within {time:?}"),
            NoAgent::Elsewhere => f.write_str(
                "the agent has another root, other namespaces or other ids than this process",
            ),
            NoAgent::Failed(why) => f.write_str(why),
        }
    }
}

type Frames = TokioIo<Upgraded>;

impl Client {
    pub(crate) fn new(
        config: &PoolConfig,
        arguments: Option<Vec<OsString>>,
    ) -> Result<Self, NoAgent> {
        let directory = Directory::find().map_err(NoAgent::Failed)?;
        let standing = Standing::own();
        let here = PlaceSpec::here(standing.place.clone());
        let origin = Mutex::new(Origin {
            place: Some(here),
            settings: Some(config.into()),
            auth_sock: None,
        });
        let config = config.clone();
        let next = Mutex::default();
        let inner = Inner { directory, origin, config, arguments, standing, next };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// The agent of this user, with the default settings for what a command may take. It has to
    /// run: the program starts one with its first command, or by `sshpool agent start`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when no agent runs, or when the one that does cannot answer for this process
    /// (it has another root directory, other namespaces or ids).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn find() -> Result<Self, Error> {
        Self::find_with(&PoolConfig::default()).await
    }

    /// The same, with these settings: commands of clients with other settings run in a pool of
    /// their own.
    ///
    /// # Errors
    ///
    /// As [`find`](Self::find).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn find_with(config: &PoolConfig) -> Result<Self, Error> {
        let failed =
            |no: NoAgent| Error::io("", "cannot reach the agent", io::Error::other(no.to_string()));
        let client = Self::new(config, None).map_err(failed)?;
        client.reach().await.map_err(failed)?;
        Ok(client)
    }

    /// A command to run a program; arguments are added to it, and escaped.
    pub fn command(&self, host: &Host, program: impl AsRef<OsStr>) -> Command {
        Command::program(self.shared(), host, program)
    }

    /// A command that is shell text. Never put into it what somebody else wrote: that is what
    /// [`command`](Self::command) is for.
    pub fn shell(&self, host: &Host, text: impl Into<OsString>) -> Command {
        Command::shell(self.shared(), host, text)
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        &self.inner.config
    }

    pub(crate) fn origin(&self) -> Origin {
        self.lock_origin().clone()
    }

    fn lock_origin(&self) -> std::sync::MutexGuard<'_, Origin> {
        // Nothing below panics half-way through a change.
        self.inner.origin.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// The same request, with more of this process's place in it.
    fn tell(&self, body: &Bytes, needs: &Needs) -> Option<Bytes> {
        let place = {
            let mut origin = self.lock_origin();
            let place = origin.place.as_mut()?;
            place.tell(needs);
            serde_json::to_value(place).ok()?
        };
        let mut request: serde_json::Value = serde_json::from_slice(body).ok()?;
        request.as_object_mut()?.insert("place".to_owned(), place);
        Some(encoded(&request).into())
    }

    /// Whether this process's PATH leads to an ssh.
    pub(crate) fn has_ssh(&self) -> bool {
        self.lock_origin().place.as_ref().is_some_and(|place| place.ssh.is_some())
    }

    /// Makes sure that there is an agent.
    pub(crate) async fn reach(&self) -> Result<(), NoAgent> {
        self.compare().await?;
        let stream = self.stream().await?;
        let log = self.inner.directory.log();
        tracing::info!(log = %log.display(), "over the agent, which has its own log");
        *self.inner.next.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(stream);
        Ok(())
    }

    /// Looks whether the agent that is there can answer for this process. One that was started with
    /// less than this process may use is replaced.
    async fn compare(&self) -> Result<(), NoAgent> {
        let Some(theirs) = self.inner.directory.standing() else { return Ok(()) };
        let own = &self.inner.standing;
        if theirs != *own && self.inner.directory.has_agent() {
            if theirs.place != own.place {
                return Err(NoAgent::Elsewhere);
            }
            if theirs.holds_back(own) && self.inner.arguments.is_some() {
                tracing::info!("an agent that was started with tighter limits is replaced");
                self.replace(None).await?;
            }
        }
        Ok(())
    }

    /// A connection to an agent that listens. One that does not is started, if that is wanted.
    async fn stream(&self) -> Result<UnixStream, NoAgent> {
        if let Some(stream) =
            self.inner.next.lock().unwrap_or_else(|poison| poison.into_inner()).take()
        {
            return Ok(stream);
        }
        start::connect(&self.inner.directory, self.inner.arguments.as_deref()).await
    }

    /// Sends a request. An agent of another version is replaced first, and one that leaves by the
    /// next.
    ///
    /// What is asked for has not been begun as long as there is no answer: the requests of the
    /// program are such that the agent answers first. So one that was not answered is sent again.
    async fn ask(
        &self,
        mut ask: Outgoing<'_>,
    ) -> Result<Result<Response<Incoming>, Refusal>, NoAgent> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let stream = self.stream().await?;
            let answer = match timeout(ask.patience, ask.send(stream)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(Unanswered::Gone(_))) if left > 0 => continue,
                Ok(Err(Unanswered::Gone(error) | Unanswered::Failed(error))) => {
                    return Err(NoAgent::NoAnswer(error.to_string()));
                }
                Err(_) => return Err(NoAgent::Silent(ask.patience)),
            };
            let status = answer.status();
            if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
                return Ok(Ok(answer));
            }
            let bytes = collected(answer).await?;
            let refused: Refusal = serde_json::from_slice(&bytes)
                .map_err(|_| NoAgent::Failed(format!("the agent answers with {status}")))?;
            match refused.error.cause {
                Cause::OtherVersion if self.inner.arguments.is_some() && left > 0 => {
                    tracing::info!("an agent of another version is replaced");
                    self.replace(Some(protocol::VERSION.to_owned())).await?;
                }
                Cause::Place { variables, whole } if left > 0 => {
                    let needs = Needs { variables, whole };
                    match self.tell(&ask.body, &needs) {
                        Some(body) => ask.body = body,
                        None => {
                            return Err(NoAgent::Failed(
                                "the agent cannot be told enough".to_owned(),
                            ));
                        }
                    }
                }
                Cause::Elsewhere => return Err(NoAgent::Elsewhere),
                Cause::Leaving if left > 0 => sleep(MOMENT).await,
                _ => return Ok(Err(refused)),
            }
        }
    }

    /// Has the agent that is there leave, at the end of what runs.
    async fn replace(&self, unless_version: Option<String>) -> Result<(), NoAgent> {
        match self.stop(&Stop { now: false, drain: true, unless_version }).await {
            // Who is gone has made room, and who does not want to is told by the next answer.
            Ok(_) | Err(NoAgent::NotThere | NoAgent::NoAnswer(_)) => {}
            Err(no) => return Err(no),
        }
        // It takes its socket away at once, or the next one has put its own there.
        sleep(MOMENT).await;
        Ok(())
    }

    /// Has an agent of any version leave.
    pub(crate) async fn stop(
        &self,
        stop: &Stop,
    ) -> Result<Result<serde_json::Value, Refusal>, NoAgent> {
        let stream = start::connect(&self.inner.directory, None).await?;
        let ask = Outgoing { version: false, ..Outgoing::post("/v1/stop", encoded(stop)) };
        let answer = timeout(ask.patience, ask.send(stream)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(Unanswered::Gone(error) | Unanswered::Failed(error))) => {
                return Err(NoAgent::NoAnswer(error.to_string()));
            }
            Err(_) => return Err(NoAgent::Silent(ask.patience)),
        };
        let is_done = answer.status().is_success();
        let bytes = collected(answer).await?;
        if is_done { parsed(&bytes).map(Ok) } else { parsed(&bytes).map(Err) }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NoAgent> {
        let bytes = self.get_bytes(path).await?;
        parsed(&bytes)
    }

    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Bytes, NoAgent> {
        match self.ask(Outgoing::get(path)).await? {
            Ok(answer) => collected(answer).await,
            Err(refused) => Err(NoAgent::Failed(refused.error.message)),
        }
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Result<T, Refusal>, NoAgent> {
        // The answer may be that to a login, or to the end of what runs.
        let ask = Outgoing { patience: FOREVER, ..Outgoing::post(path, encoded(body)) };
        match self.ask(ask).await? {
            Ok(answer) => parsed(&collected(answer).await?).map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<Result<T, Refusal>, NoAgent> {
        match self.ask(Outgoing { method: hyper::Method::DELETE, ..Outgoing::get(path) }).await? {
            Ok(answer) => parsed(&collected(answer).await?).map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// A connection that carries frames.
    async fn frames(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Result<Frames, Refusal>, NoAgent> {
        let ask = Outgoing { upgrade: true, ..Outgoing::post(path, encoded(body)) };
        match self.ask(ask).await? {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let upgraded = hyper::upgrade::on(answer).await;
                let upgraded = upgraded.map_err(|error| NoAgent::NoAnswer(error.to_string()))?;
                Ok(Ok(TokioIo::new(upgraded)))
            }
            Ok(_) => Err(NoAgent::Failed("the agent does not speak in frames".to_owned())),
            Err(refused) => Ok(Err(refused)),
        }
    }
}
