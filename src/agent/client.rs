//! The program's side of the socket.
//!
//! A client is made when an agent was found, or started. Each request has a connection of its own: a command that is slow is in nobody's
//! way, and one whose client goes away is ended by that.

use std::ffi::OsString;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::place::{Place, is_us};
use super::wire::{
    self, Connect, Connected, End, Exec, Finished, HostSpec, Origin, Question, Refusal, frame,
};
use super::{questions, start};
use crate::child::{Child, RemoteEnds};
use crate::command::{ExitStatus, Output};
use crate::config::PoolConfig;
use crate::error::{Error, plain};
use crate::host::Host;

/// The agent, as one client sees it.
#[derive(Debug)]
pub(crate) struct Client {
    place: Place,
    origin: Origin,
    /// The client's own settings: what an agent would not know.
    config: PoolConfig,
    /// With what an agent is started; `None` where none is to be started.
    arguments: Option<Vec<OsString>>,
    /// A connection for the next request. A std mutex: held to take it.
    next: Mutex<Option<UnixStream>>,
}

/// Why the agent could not be asked.
#[derive(Debug)]
pub(crate) enum NoAgent {
    /// There is none.
    NotThere,
    /// It was asked, and has not answered: what was asked for may have been done.
    NoAnswer(String),
    /// It could not be asked, for this reason, in one line.
    Failed(String),
}

impl std::fmt::Display for NoAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoAgent::NotThere => f.write_str("no agent runs"),
            NoAgent::NoAnswer(why) => write!(f, "the agent does not answer: {why}"),
            NoAgent::Failed(why) => f.write_str(why),
        }
    }
}

type Frames = TokioIo<Upgraded>;

impl Client {
    pub(crate) fn new(config: &PoolConfig, arguments: Option<Vec<OsString>>) -> Result<Self, NoAgent> {
        let place = Place::find().map_err(NoAgent::Failed)?;
        let auth_sock = std::env::var_os("SSH_AUTH_SOCK").unwrap_or_default();
        let origin = Origin {
            settings: Some(config.into()),
            auth_sock: Some(auth_sock.to_string_lossy().into_owned()),
        };
        Ok(Client { place, origin, config: config.clone(), arguments, next: Mutex::default() })
    }

    pub(crate) fn config(&self) -> &PoolConfig {
        &self.config
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Makes sure that there is an agent.
    pub(crate) async fn reach(&self) -> Result<(), NoAgent> {
        let stream = self.stream().await?;
        *self.next.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(stream);
        Ok(())
    }

    /// A connection to an agent that listens. One that does not is started, if that is wanted.
    async fn stream(&self) -> Result<UnixStream, NoAgent> {
        // An agent can leave between the moment in which it was found and the one in which it is asked.
        const ATTEMPTS: usize = 3;
        if let Some(stream) = self.next.lock().unwrap_or_else(|poison| poison.into_inner()).take() {
            return Ok(stream);
        }
        for _ in 0..ATTEMPTS {
            match UnixStream::connect(self.place.socket()).await {
                Ok(stream) if stream.peer_cred().is_ok_and(|peer| is_us(peer.uid())) => return Ok(stream),
                Ok(_) => {
                    return Err(NoAgent::Failed(
                        "another user's process is at the agent's socket".to_owned(),
                    ));
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                }
                Err(error) => {
                    return Err(NoAgent::Failed(format!("cannot connect to the agent: {}", plain(&error))));
                }
            }
            let Some(arguments) = &self.arguments else { return Err(NoAgent::NotThere) };
            let started = start::start(&self.place, arguments).await;
            started.map_err(|why| NoAgent::Failed(format!("the agent could not be started: {why}")))?;
        }
        Err(NoAgent::Failed("the agent ends as soon as it is started".to_owned()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        upgrade: bool,
    ) -> Result<Response<Incoming>, NoAgent> {
        let failed = |error: hyper::Error| NoAgent::NoAnswer(error.to_string());
        let stream = self.stream().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "sshpool")
            .header(wire::VERSION_HEADER, wire::VERSION)
            .header(CONTENT_TYPE, "application/json");
        if upgrade {
            request = request.header(CONNECTION, "upgrade").header(UPGRADE, wire::FRAMES);
        }
        let request = request.body(Full::new(Bytes::from(body))).expect("these headers are valid");
        sender.send_request(request).await.map_err(failed)
    }

    /// Sends a request. An agent of another version is replaced first.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: &[u8],
        upgrade: bool,
    ) -> Result<Result<Response<Incoming>, Refusal>, NoAgent> {
        let mut answer = self.send(method.clone(), path, body.to_vec(), upgrade).await?;
        if answer.status() == StatusCode::CONFLICT && self.arguments.is_some() {
            tracing::info!("an agent of another version is replaced");
            self.replace().await?;
            answer = self.send(method, path, body.to_vec(), upgrade).await?;
        }
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Ok(answer));
        }
        let status = answer.status();
        let bytes = collected(answer).await?;
        match serde_json::from_slice(&bytes) {
            Ok(refused) => Ok(Err(refused)),
            Err(_) => Err(NoAgent::Failed(format!("the agent answers with {status}"))),
        }
    }

    /// Has the agent that is there leave, at the end of what runs.
    async fn replace(&self) -> Result<(), NoAgent> {
        let Ok(stream) = UnixStream::connect(self.place.socket()).await else { return Ok(()) };
        let failed = |error: hyper::Error| NoAgent::Failed(format!("the old agent does not answer: {error}"));
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        tokio::spawn(connection);
        // Without a version: this is understood by all of them.
        let request = Request::post("/v1/stop")
            .header(HOST, "sshpool")
            .body(Full::new(Bytes::from_static(b"{\"drain\":true}")));
        sender.send_request(request.expect("these headers are valid")).await.map_err(failed)?;
        // It takes its socket away at once.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.place.socket().exists() && Instant::now() < deadline {
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, NoAgent> {
        let bytes = self.get_bytes(path).await?;
        parsed(&bytes)
    }

    pub(crate) async fn get_bytes(&self, path: &str) -> Result<Bytes, NoAgent> {
        match self.ask(Method::GET, path, b"", false).await? {
            Ok(answer) => collected(answer).await,
            Err(refused) => Err(NoAgent::Failed(refused.error.message)),
        }
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Result<T, Refusal>, NoAgent> {
        match self.ask(Method::POST, path, &encoded(body), false).await? {
            Ok(answer) => parsed(&collected(answer).await?).map(Ok),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// A connection that carries frames.
    async fn frames(&self, path: &str, body: &impl Serialize) -> Result<Result<Frames, Refusal>, NoAgent> {
        match self.ask(Method::POST, path, &encoded(body), true).await? {
            Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
                let upgraded = hyper::upgrade::on(answer).await;
                let upgraded = upgraded.map_err(|error| NoAgent::NoAnswer(error.to_string()))?;
                Ok(Ok(TokioIo::new(upgraded)))
            }
            Ok(_) => Err(NoAgent::Failed("the agent does not speak in frames".to_owned())),
            Err(refused) => Ok(Err(refused)),
        }
    }

    /// A connection to a host, made if it is not there. Nobody is asked anything.
    pub(crate) async fn connect(&self, host: &Host, hold: bool) -> Result<Connected, Error> {
        let connect = Connect { host: HostSpec::Whole(host.into()), hold, origin: self.origin() };
        match self.post("/v1/connect", &connect).await {
            Ok(answer) => answer.map_err(|refused| refused.into_error(host)),
            Err(no) => Err(not_started(host, &no)),
        }
    }

    /// A connection to a host; what ssh wants to know is asked.
    pub(crate) async fn connect_asking(
        &self,
        host: &Host,
        mut ask: impl AsyncFnMut(&Question) -> Option<String>,
    ) -> Result<Connected, Error> {
        let connect = Connect { host: HostSpec::Whole(host.into()), hold: false, origin: self.origin() };
        let frames = match self.frames("/v1/connect", &connect).await {
            Ok(frames) => frames.map_err(|refused| refused.into_error(host))?,
            Err(no) => return Err(not_started(host, &no)),
        };
        let gone = |_| not_started(host, &NoAgent::NoAnswer("it has ended".to_owned()));
        let (mut from, mut to) = tokio::io::split(frames);
        let mut bytes = Vec::new();
        loop {
            match wire::read_frame(&mut from, &mut bytes).await.map_err(gone)? {
                Some(frame::QUESTION) => {
                    let question: Question = serde_json::from_slice(&bytes)
                        .map_err(|_| gone(io::ErrorKind::InvalidData.into()))?;
                    match ask(&question).await {
                        Some(answer) => wire::write_frame(&mut to, frame::ANSWER, answer.as_bytes()).await,
                        None => wire::write_frame(&mut to, frame::KILL, b"").await,
                    }
                    .map_err(gone)?;
                }
                Some(frame::END) => {
                    if let Ok(connected) = serde_json::from_slice(&bytes) {
                        return Ok(connected);
                    }
                    let refused: Refusal = serde_json::from_slice(&bytes)
                        .map_err(|_| gone(io::ErrorKind::InvalidData.into()))?;
                    return Err(refused.into_error(host));
                }
                Some(_) => {}
                None => return Err(gone(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// Runs a command to its end.
    pub(crate) async fn output(&self, host: &Host, exec: &Exec) -> Result<Output, Error> {
        let finished: Finished = match self.post("/v1/exec", exec).await {
            Ok(answer) => answer.map_err(|refused| refused.into_error(host))?,
            Err(no) => return Err(lost_or_not_started(host, &no)),
        };
        let status = finished.ended.status();
        let (stdout, stderr) = finished.streams.bytes();
        Ok(Output { status, stdout, stderr })
    }

    /// Begins with a command.
    pub(crate) async fn spawn(&self, host: &Host, exec: &Exec) -> Result<Child, Error> {
        let frames = match self.frames("/v1/exec", exec).await {
            Ok(frames) => frames.map_err(|refused| refused.into_error(host))?,
            Err(no) => return Err(lost_or_not_started(host, &no)),
        };
        let (mut from, to) = tokio::io::split(frames);
        let mut bytes = Vec::new();
        match wire::read_frame(&mut from, &mut bytes).await {
            Ok(Some(frame::STARTED)) => {}
            Ok(Some(frame::END)) => match ended(&bytes, host) {
                Err(error) => return Err(error),
                // It does not end before it has begun.
                Ok(_) => return Err(agent_gone(host)),
            },
            _ => return Err(agent_gone(host)),
        }
        let (child, ends) = Child::remote(host.name().to_owned(), exec.stdin_stream);
        tokio::spawn(relay(ends, from, to, host.clone()));
        Ok(child)
    }
}

/// Passes the frames of a command on to its streams, and its input to the agent.
async fn relay(ends: RemoteEnds, mut from: ReadHalf<Frames>, mut to: WriteHalf<Frames>, host: Host) {
    let (killed, mut kill) = watch::channel(false);
    let RemoteEnds { stdin, mut stdout, mut stderr, mut stopped, end } = ends;
    let incoming = async {
        let mut bytes = Vec::new();
        loop {
            match wire::read_frame(&mut from, &mut bytes).await {
                // A stream that nobody reads any more is read for nobody, and that of a command that is to be ended, too.
                Ok(Some(frame::STDOUT)) => tokio::select! {
                    _ = stdout.write_all(&bytes) => {}
                    _ = kill.wait_for(|killed| *killed) => {}
                },
                Ok(Some(frame::STDERR)) => tokio::select! {
                    _ = stderr.write_all(&bytes) => {}
                    _ = kill.wait_for(|killed| *killed) => {}
                },
                Ok(Some(frame::END)) => break ended(&bytes, &host),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break Err(agent_gone(&host)),
            }
        }
    };
    let mut incoming = pin!(incoming);
    let outgoing = async {
        if let Some(mut stdin) = stdin {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let read = stdin.read(&mut buffer).await.unwrap_or(0);
                let sent = wire::write_frame(&mut to, frame::STDIN, &buffer[..read]).await;
                if read == 0 || sent.is_err() {
                    break;
                }
            }
        }
        // The connection stays: its end would be that of the command.
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        result = &mut incoming => Some(result),
        () = outgoing => None,
        // A message and a closed channel mean the same.
        _ = &mut stopped => None,
    };
    let result = match result {
        Some(result) => result,
        None => {
            killed.send_replace(true);
            // Where the agent is gone, that is the answer.
            let _ = wire::write_frame(&mut to, frame::KILL, b"").await;
            incoming.await
        }
    };
    end.ended(result);
}

fn ended(bytes: &[u8], host: &Host) -> Result<ExitStatus, Error> {
    match serde_json::from_slice(bytes) {
        Ok(End::Ended(ended)) => Ok(ended.status()),
        Ok(End::Failed(refused)) => Err(refused.into_error(host)),
        Err(_) => Err(agent_gone(host)),
    }
}

fn agent_gone(host: &Host) -> Error {
    Error::Lost {
        host: host.name().to_owned(),
        reason: "the agent has ended".to_owned(),
        partial: Arc::default(),
    }
}

fn not_started(host: &Host, no: &NoAgent) -> Error {
    Error::NeverStarted { host: host.name().to_owned(), reason: no.to_string() }
}

/// What was sent to an agent that has not answered may have been run.
fn lost_or_not_started(host: &Host, no: &NoAgent) -> Error {
    match no {
        NoAgent::NotThere | NoAgent::Failed(_) => not_started(host, no),
        NoAgent::NoAnswer(_) => {
            Error::Lost { host: host.name().to_owned(), reason: no.to_string(), partial: Arc::default() }
        }
    }
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("the requests have text keys")
}

fn parsed<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NoAgent> {
    serde_json::from_slice(bytes)
        .map_err(|error| NoAgent::Failed(format!("the agent's answer is not understood: {error}")))
}

async fn collected(answer: Response<Incoming>) -> Result<Bytes, NoAgent> {
    let body = answer.into_body().collect().await;
    Ok(body.map_err(|error| NoAgent::NoAnswer(error.to_string()))?.to_bytes())
}

/// Gives a question of ssh to the agent that has started it. `None` where nobody answers.
pub(crate) async fn pass_on(prompt: String) -> Option<String> {
    let socket = std::env::var_os(questions::SOCKET)?;
    let token = std::env::var(questions::TOKEN).ok()?;
    let hint = std::env::var("SSH_ASKPASS_PROMPT").ok();
    let stream = UnixStream::connect(socket).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let body = encoded(&Question { token, prompt, hint });
    let request = Request::post("/v1/question").header(HOST, "sshpool").body(Full::new(Bytes::from(body)));
    let answer = sender.send_request(request.ok()?).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    let answer: Answer = parsed(&collected(answer).await.ok()?).ok()?;
    Some(answer.answer)
}

#[derive(serde::Deserialize)]
struct Answer {
    answer: String,
}
