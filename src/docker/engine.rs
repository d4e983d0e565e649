//! A host's engine, for any client of Docker on this side.
//!
//! The engine's socket is found by one command on the host ([`Engine::find`]). A socket here leads
//! to it, over the pool's connection: no session is used up, and nothing logs in. Where the server
//! forwards no sockets, or the account may use the engine by `sudo` only, each client gets a
//! `docker system dial-stdio` of its own in its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::call;
use crate::command::Runner;
use crate::config::DockerConfig;
use crate::error::Error;
use crate::forward::{Endpoint, ForwardSpec, OWN_SOCKET};
use crate::host::Host;
use crate::pool::{Forward, Pool};
use crate::text::printable;

const SCRIPT: &str = include_str!("find_engine.sh");
/// How long it may take to look.
const LOOK: Duration = Duration::from_secs(15);
/// How long an engine may take for its first answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Where a host's engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    socket: Option<PathBuf>,
    /// What connects its standard streams with the engine.
    dial: String,
}

/// Why a host's engine cannot be reached.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The host could not be asked, or nothing could be forwarded.
    #[error(transparent)]
    Run(#[from] Error),

    /// There is none where engines are.
    #[error(
        "{host}: no engine was found: {tried} (is one installed, and does it run? \
            `hosts.NAME.docker` in the TOML file says where another one is)"
    )]
    NotFound {
        /// The host's name.
        host: String,
        /// What was looked at.
        tried: String,
    },

    /// The account may not use it.
    #[error(
        "{host}: no permission for {socket}: put the account into its group, or set program = \
            [\"sudo\", \"-n\", \"docker\"] in [hosts.{host}.docker]"
    )]
    Permission {
        /// The host's name.
        host: String,
        /// The engine's socket.
        socket: String,
    },

    /// It does not answer.
    #[error("{host}: the engine does not answer: {reason}")]
    Silent {
        /// The host's name.
        host: String,
        /// What was said in place of an answer.
        reason: String,
    },
}

/// Who forwards for [`lead_to`].
pub(crate) trait Forwarder {
    /// It ends with this.
    type Forward;

    /// Leads from a socket here, or from one of the forwarder's own.
    async fn lead(
        &self,
        host: &Host,
        at: &Path,
        to: &To<'_>,
    ) -> Result<(Self::Forward, PathBuf), Error>;

    /// Ends one that leads nowhere, and says why its last client was reset.
    async fn useless(&self, forward: &Self::Forward) -> Option<String>;
}

/// What a socket leads to.
pub(crate) enum To<'a> {
    Socket(&'a Path),
    /// A command's standard streams.
    Command(&'a str),
}

/// A socket on this side that leads to a host's engine, for as long as this is there.
#[derive(Debug)]
pub struct EngineSocket {
    _forward: Forward,
    path: PathBuf,
}

impl EngineSocket {
    /// Where it is. It is for this user alone.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `DOCKER_HOST` is to be for a client.
    pub fn docker_host(&self) -> String {
        docker_host(&self.path)
    }
}

pub(crate) fn docker_host(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Finds a host's engine, makes a socket that leads to it, and has it answer once. Any client of
/// Docker's works over that socket: at one login, with streams and half-closed connections as they
/// are. `docker` says how Docker's client is called there, and which engine is meant.
///
/// # Errors
///
/// [`EngineError`] says which of the usual causes it was.
///
/// # Cancel safety
///
/// Cancel safe: dropping the future leaves nothing behind.
pub async fn engine(
    pool: &Pool,
    host: &Host,
    docker: &DockerConfig,
) -> Result<EngineSocket, EngineError> {
    let engine = Engine::find(pool, host, docker).await?;
    let (forward, path) = lead_to(pool, host, &engine, Path::new(OWN_SOCKET)).await?;
    Ok(EngineSocket { _forward: forward, path })
}

impl Engine {
    /// Asks the host, by one command, which engine the account uses: the one that `docker` says,
    /// that of `DOCKER_HOST`, of the account's context, Docker's, a rootless one, Podman's.
    ///
    /// # Errors
    ///
    /// [`EngineError`] says which of the usual causes it was.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`](crate::Command::output).
    pub async fn find(
        runner: &dyn Runner,
        host: &Host,
        docker: &DockerConfig,
    ) -> Result<Self, EngineError> {
        let client = call::words(docker);
        let by_another = docker.get_program().count() > 1;
        let is_podman = docker.get_program().any(|word| word.ends_with("podman"));
        let dial = format!("{client} system dial-stdio");
        if by_another {
            // The account itself may not use the socket, or it would not be called so.
            return Ok(Engine { socket: None, dial });
        }
        // Only an account with contexts is asked for its own: that takes Docker's client a moment.
        let has_context = "grep -qs currentContext \"${DOCKER_CONFIG:-$HOME/.docker}/config.json\" \
            || [ -n \"${DOCKER_CONTEXT-}\" ]";
        let asks = "context inspect --format '{{.Endpoints.docker.Host}}'";
        let context = match docker.get_context() {
            Some(name) => format!("{client} {asks} {name}"),
            None => format!("{{ {has_context}; }} && {client} {asks}"),
        };
        let output = runner
            .command(host, "sh")
            .args(["-c", SCRIPT, "sshpool-engine"])
            .args([docker.get_host().unwrap_or_default(), &context])
            .arg(if is_podman { "podman" } else { "" })
            .timeout(LOOK)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        Self::read(&said, dial).map_err(|why| match why {
            Some(socket) => EngineError::Permission { host: host.name().to_owned(), socket },
            None => EngineError::NotFound {
                host: host.name().to_owned(),
                tried: match said.trim() {
                    "" => "no socket of Docker's or Podman's is there".to_owned(),
                    said => printable(said).to_string(),
                },
            },
        })
    }

    /// Reads what the script has found; else the socket that may not be used, if there is one.
    fn read(said: &str, dial: String) -> Result<Self, Option<String>> {
        let mut denied = None;
        for line in said.lines() {
            match line.split_once(' ') {
                Some(("socket", path)) => {
                    return Ok(Engine { socket: Some(PathBuf::from(path)), dial });
                }
                // Docker's client gets there by itself.
                Some(("daemon", _)) => return Ok(Engine { socket: None, dial }),
                Some(("denied", path)) => drop(denied.get_or_insert(path.to_owned())),
                _ => {}
            }
        }
        Err(denied)
    }

    /// The engine's socket on the host. None where a command leads to it.
    pub fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }
}

/// Makes a socket at this path that leads to the engine, and has the engine answer once.
pub(crate) async fn lead_to<F: Forwarder>(
    forwarder: &F,
    host: &Host,
    engine: &Engine,
    at: &Path,
) -> Result<(F::Forward, PathBuf), EngineError> {
    let mut ways = Vec::new();
    ways.extend(engine.socket().map(To::Socket));
    ways.push(To::Command(&engine.dial));
    let mut said = None;
    for to in &ways {
        let (forward, path) = forwarder.lead(host, at, to).await?;
        match timeout(ANSWER, ping(&path)).await {
            Ok(Ok(())) => return Ok((forward, path)),
            other => {
                let answer = match other {
                    Ok(Err(answer)) => answer,
                    _ => format!("no answer within {ANSWER:?}"),
                };
                let why = forwarder.useless(&forward).await.unwrap_or(answer);
                tracing::debug!(host = host.name(), why, "the engine does not answer so");
                said.get_or_insert(why);
            }
        }
    }
    let reason = said.unwrap_or_default();
    Err(EngineError::Silent { host: host.name().to_owned(), reason })
}

/// Whether an engine answers behind this socket; else what was said.
async fn ping(path: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut stream = UnixStream::connect(path).await.map_err(failed)?;
    stream.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n").await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await.map_err(failed)?;
    let line = String::from_utf8_lossy(&answer);
    let line = line.lines().next().unwrap_or_default();
    match line.starts_with("HTTP/1.") && line.contains(" 200") {
        true => Ok(()),
        false if line.is_empty() => Err("the connection was closed".to_owned()),
        false => Err(printable(line).to_string()),
    }
}

impl Forwarder for Pool {
    type Forward = Forward;

    async fn lead(&self, host: &Host, at: &Path, to: &To<'_>) -> Result<(Forward, PathBuf), Error> {
        let forward = match to {
            To::Socket(there) => self.forward(host, &ForwardSpec::sockets(at, *there)).await?,
            To::Command(text) => {
                let spec = ForwardSpec::to_command(Endpoint::Socket(at.to_owned()));
                let command = Some((*text).to_owned());
                self.forward_or_run(host.clone(), spec, command, false).await?
            }
        };
        match forward.listening() {
            Some(Endpoint::Socket(path)) => Ok((forward, path)),
            _ => unreachable!("it listens at a socket"),
        }
    }

    async fn useless(&self, forward: &Forward) -> Option<String> {
        forward.end().await;
        forward.status().last_error
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::docker("socket /var/run/docker.sock\n", Ok(Some("/var/run/docker.sock")))]
    #[case::second(
        "denied /var/run/docker.sock\nsocket /run/user/7/docker.sock\n",
        Ok(Some("/run/user/7/docker.sock"))
    )]
    #[case::blanks("socket /a b/c\n", Ok(Some("/a b/c")))]
    #[case::elsewhere("daemon tcp://10.0.0.7:2376\n", Ok(None))]
    #[case::denied("denied /var/run/docker.sock\n", Err(Some("/var/run/docker.sock")))]
    #[case::missing("missing /nosuch\n", Err(None))]
    #[case::nothing("", Err(None))]
    fn what_was_found_is_read(
        #[case] said: &str,
        #[case] expected: Result<Option<&str>, Option<&str>>,
    ) {
        let engine = Engine::read(said, "docker system dial-stdio".to_owned());
        let found = engine.map(|engine| engine.socket);
        let expected = expected.map(|path| path.map(PathBuf::from));
        assert_eq!(found, expected.map_err(|denied| denied.map(str::to_owned)));
    }
}
