//! The agent's side of the socket: takes clients, understands requests, answers, and ends when nobody needs it any more.
//!
//! Its life: listening → leaving → gone. While it listens it holds `agent.lock`. It leaves when it is told to, by a signal, or when it has had
//! no client and no connection for its idle time: the socket goes first, then the lock, so that another agent can start at once; who has
//! connected before is served to the end.

use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::commands::{self, Order};
use super::held;
use super::place::{Lock, Place, is_us};
use super::pools::Pools;
use super::questions::{self, Questions};
use super::wire::{
    self, About, Cause, Close, Connect, Connected, Exec, HostSpec, KnownHost, Origin, Question, Refusal,
    Status, Stop,
};
use crate::config::{Config, PoolConfig};
use crate::error::plain;
use crate::host::{Host, Login};
use crate::public::Pool;

/// The longest body of a request: a command and its input.
const LONGEST_REQUEST: usize = 64 << 20;
/// Clients at once.
const MOST_CLIENTS: usize = 2000;
/// Commands at once.
const MOST_COMMANDS: usize = 1000;
/// How long a client may take to say what it wants.
const SPEECH: Duration = Duration::from_secs(30);
/// How long commands may go on that run on what is closed.
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Plan {
    pub place: Place,
    /// What there is for hosts that are given by name; read anew for each request.
    pub config_file: Option<PathBuf>,
    pub ssh_config: Option<PathBuf>,
    pub settings: PoolConfig,
    pub idle_timeout: Duration,
}

pub(super) struct Agent {
    pub(super) pools: Pools,
    plan: Plan,
    started: Instant,
    clients: AtomicUsize,
    commands: AtomicUsize,
    /// Told when the agent is to leave.
    leave: Notify,
    questions: Questions,
}

/// Counts for as long as it is there.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize, most: usize) -> Option<Self> {
        let counted = Counted(count);
        (count.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Answer = Response<Full<Bytes>>;

/// Listens, until `told` completes or it has been idle for long, and returns when nothing is left. `ready` is called when clients can
/// connect. `lock` is the right to be the agent.
pub(crate) async fn serve(
    plan: Plan,
    lock: Lock,
    told: impl Future<Output = ()>,
    ready: impl FnOnce(),
) -> Result<(), String> {
    let socket = plan.place.socket();
    // Whoever made it is gone: the lock is ours.
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("cannot remove {}: {}", socket.display(), plain(&error)));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&socket)
        .map_err(|error| format!("cannot listen on {}: {}", socket.display(), plain(&error)))?;
    ready();
    tracing::info!(socket = %socket.display(), "listening");
    let agent = Arc::new(Agent {
        pools: Pools::new(plan.settings.clone()),
        plan,
        started: Instant::now(),
        clients: AtomicUsize::new(0),
        commands: AtomicUsize::new(0),
        leave: Notify::new(),
        questions: Questions::default(),
    });
    agent.listen(listener, lock, told).await;
    Ok(())
}

impl Agent {
    async fn listen(self: &Arc<Self>, listener: UnixListener, lock: Lock, told: impl Future<Output = ()>) {
        let mut idle_since = Instant::now();
        let look = (self.plan.idle_timeout / 20).clamp(Duration::from_millis(20), Duration::from_secs(10));
        let (mut leave, mut told) = (pin!(self.leave.notified()), pin!(told));
        loop {
            tokio::select! {
                taken = listener.accept() => match taken {
                    Ok((stream, _)) => self.take(stream),
                    Err(error) => {
                        // No descriptor is free. Whoever waits goes on waiting.
                        tracing::warn!(%error, "cannot take a client");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
                () = sleep(look) => {
                    self.pools.sweep();
                    if self.is_used() {
                        idle_since = Instant::now();
                    } else if idle_since.elapsed() >= self.plan.idle_timeout {
                        tracing::info!("nobody has needed the agent for long");
                        break;
                    }
                }
                () = &mut leave => break,
                () = &mut told => {
                    self.leave(Some(Duration::ZERO));
                    break;
                }
            }
        }
        // Nobody connects any more; who has, is served.
        let _ = std::fs::remove_file(self.plan.place.socket());
        while let Ok(Ok((stream, _))) = timeout(Duration::ZERO, listener.accept()).await {
            self.take(stream);
        }
        drop((listener, lock));
        while self.commands.load(Ordering::Relaxed) > 0 {
            sleep(Duration::from_millis(20)).await;
        }
        self.pools.close(Duration::ZERO).await;
        // The last answers may be on their way.
        let deadline = Instant::now() + Duration::from_secs(1);
        while self.clients.load(Ordering::Relaxed) > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        tracing::info!("gone");
    }

    fn is_used(&self) -> bool {
        let stats = self.pools.stats();
        self.clients.load(Ordering::Relaxed) > 0 || stats.total_connections + stats.connecting > 0
    }

    /// Lets the agent leave: commands that run may go on for `patience`.
    pub(super) fn leave(self: &Arc<Self>, patience: Option<Duration>) {
        self.leave.notify_one();
        if let Some(patience) = patience {
            let agent = Arc::clone(self);
            tokio::spawn(async move { agent.pools.close(patience).await });
        }
    }

    fn take(self: &Arc<Self>, stream: UnixStream) {
        let ours = stream.peer_cred().is_ok_and(|peer| is_us(peer.uid()));
        if !ours {
            tracing::warn!("a client of another user was turned away");
            return;
        }
        let agent = Arc::clone(self);
        tokio::spawn(async move {
            let counted = Counted::new(&agent.clients, MOST_CLIENTS);
            let served = counted.is_some();
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let service = service_fn(|request| {
                let agent = Arc::clone(&agent);
                async move {
                    Ok::<_, Infallible>(match served {
                        true => agent.answer(request, pid).await,
                        false => refusal(
                            StatusCode::SERVICE_UNAVAILABLE,
                            &Refusal::new(
                                Cause::TooMany,
                                format!("more than {MOST_CLIENTS} clients at once"),
                            ),
                        ),
                    })
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(SPEECH)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            // A client that goes away is no news.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client is gone");
            }
        });
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>, pid: Option<i32>) -> Answer {
        match self.route(request, pid).await {
            Ok(answer) => answer,
            Err(refused) => refusal(status_of(&refused.error.cause), &refused),
        }
    }

    async fn route(
        self: &Arc<Self>,
        request: Request<Incoming>,
        pid: Option<i32>,
    ) -> Result<Answer, Refusal> {
        if let Some(theirs) = request.headers().get(wire::VERSION_HEADER)
            && theirs != wire::VERSION
        {
            let message = format!("this agent is of version {}", wire::VERSION);
            return Err(Refusal::new(Cause::OtherVersion, message));
        }
        let path = request.uri().path().to_owned();
        match (request.method(), path.as_str()) {
            (&Method::GET, "/v1/health") => json(&serde_json::json!({"ok": true})),
            (&Method::GET, "/v1/version") => json(&serde_json::json!({
                "version": wire::VERSION,
                "api": 1,
                "pid": std::process::id(),
            })),
            (&Method::GET, "/v1/status") => json(&self.status()),
            (&Method::GET, "/v1/stats") => json(&serde_json::json!({
                "total": self.pools.stats(),
                "hosts": self.pools.stats_by_host(),
            })),
            (&Method::GET, "/metrics") => Ok(text(super::metrics::text(&self.pools))),
            (&Method::GET, "/v1/hosts") => json(&serde_json::json!({ "hosts": self.hosts()? })),
            (&Method::POST, "/v1/exec") => self.exec(request).await,
            (&Method::POST, "/v1/connect") => self.connect(request, pid).await,
            (&Method::POST, "/v1/close") => self.close(request).await,
            (&Method::POST, "/v1/stop") => self.stop(request).await,
            (&Method::POST, "/v1/question") => self.ask(request).await,
            (_, path) => {
                let message = format!("{} {path}: no such request (see docs/agent-api.md)", request.method());
                Err(Refusal::new(Cause::NotFound, message))
            }
        }
    }

    async fn exec(self: &Arc<Self>, mut request: Request<Incoming>) -> Result<Answer, Refusal> {
        let upgrade = wants_frames(&request)?.then(|| hyper::upgrade::on(&mut request));
        let exec: Exec = body(request).await?;
        let (host, pool) = self.host(exec.host.clone(), &exec.origin)?;
        let order = Order::new(&exec, host, &pool, self.pools.default());
        let order = order.map_err(|why| Refusal::new(Cause::Invalid, why))?;
        if upgrade.is_none() && order.takes_input() {
            return Err(Refusal::new(
                Cause::Invalid,
                "stdin_stream needs a connection that is upgraded to frames",
            ));
        }
        let counted = CommandCount::new(self)?;
        let Some(upgrade) = upgrade else {
            return json(&order.output().await?);
        };
        tokio::spawn(async move {
            let _counted = counted;
            // It fails when the client is gone.
            let Ok(upgraded) = upgrade.await else { return };
            let (from, to) = tokio::io::split(TokioIo::new(upgraded));
            if let Err(error) = commands::stream(order.spawn(), from, to).await {
                tracing::debug!(%error, "the client of a command is gone");
            }
        });
        Ok(switching())
    }

    /// Connects, or finds a connection that is there.
    async fn connect(
        self: &Arc<Self>,
        mut request: Request<Incoming>,
        pid: Option<i32>,
    ) -> Result<Answer, Refusal> {
        let upgrade = wants_frames(&request)?.then(|| hyper::upgrade::on(&mut request));
        let connect: Connect = body(request).await?;
        let (host, pool) = self.host(connect.host, &connect.origin)?;
        let name = host.name().to_owned();
        if let Some(upgrade) = upgrade {
            let agent = Arc::clone(self);
            tokio::spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                let (from, to) = tokio::io::split(TokioIo::new(upgraded));
                if let Err(error) =
                    questions::connect(&agent.questions, &agent.plan.place, pool, host, from, to).await
                {
                    tracing::debug!(%error, "the client that wanted a connection is gone");
                }
            });
            return Ok(switching());
        }
        let lease = pool.acquire(&host).await.map_err(|error| Refusal::of(&error, &name))?;
        let connected = Connected::of(&lease);
        if connect.hold
            && let Some(pid) = pid
        {
            tokio::spawn(async move {
                held::until_gone(pid).await;
                drop(lease);
            });
        }
        json(&connected)
    }

    /// Passes a question of ssh on to whoever waits for that login.
    async fn ask(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let question: Question = body(request).await?;
        match self.questions.ask(question).await {
            Some(answer) => json(&serde_json::json!({ "answer": answer })),
            None => Err(Refusal::new(Cause::NotFound, "nobody is there to be asked")),
        }
    }

    async fn close(&self, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let close: Close = body(request).await?;
        let patience = if close.now { Duration::ZERO } else { PATIENCE };
        let closed = match (close.all, close.hosts.is_empty()) {
            (true, true) => self.pools.close_hosts(patience).await,
            (false, false) => {
                let hosts = close.hosts.into_iter().map(|host| self.host_of(host));
                let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
                let closing = hosts.iter().map(|host| self.pools.close_host(host, patience));
                futures_util::future::join_all(closing).await.into_iter().sum()
            }
            _ => return Err(Refusal::new(Cause::Invalid, "give either hosts or all")),
        };
        json(&serde_json::json!({ "closed": closed }))
    }

    async fn stop(self: &Arc<Self>, request: Request<Incoming>) -> Result<Answer, Refusal> {
        let stop: Stop = body(request).await?;
        self.leave(match (stop.now, stop.drain) {
            (true, _) => Some(Duration::ZERO),
            (false, true) => None,
            (false, false) => Some(PATIENCE),
        });
        json(&serde_json::json!({ "pid": std::process::id() }))
    }

    fn status(&self) -> Status {
        Status {
            agent: About {
                version: wire::VERSION.to_owned(),
                pid: std::process::id(),
                uptime_ms: ms(self.started.elapsed()),
                idle_timeout_ms: ms(self.plan.idle_timeout),
                // This one asks.
                clients: self.clients.load(Ordering::Relaxed).saturating_sub(1),
                commands: self.commands.load(Ordering::Relaxed),
            },
            connections: self.pools.connections(),
        }
    }

    /// The names of the configuration file, and what there are connections to.
    fn hosts(&self) -> Result<Vec<KnownHost>, Refusal> {
        let mut all = std::collections::BTreeMap::new();
        for name in self.config()?.hosts.into_keys() {
            all.insert(name, 0);
        }
        for connection in self.pools.connections() {
            let name = connection.host.rsplit_once(':').map_or(&*connection.host, |(name, _)| name);
            *all.entry(name.to_owned()).or_default() += 1;
        }
        Ok(all.into_iter().map(|(name, connections)| KnownHost { name, connections }).collect())
    }

    /// The configuration file as it is now.
    fn config(&self) -> Result<Config, Refusal> {
        let invalid = |error: crate::ConfigError| Refusal::new(Cause::Invalid, error.to_string());
        match &self.plan.config_file {
            Some(file) if !matches!(file.try_exists(), Ok(false)) => Config::load(file).map_err(invalid),
            _ => Ok(Config::default()),
        }
    }

    fn host_of(&self, spec: HostSpec) -> Result<Host, Refusal> {
        let invalid = |error: crate::HostError| Refusal::new(Cause::Invalid, error.to_string());
        match spec {
            HostSpec::Whole(whole) => whole.host().map_err(invalid),
            HostSpec::Name(text) => {
                let host = self.config()?.host(&text).map_err(invalid)?;
                match &self.plan.ssh_config {
                    Some(file) if host.get_config_file().is_none() => host.config_file(file).map_err(invalid),
                    _ => Ok(host),
                }
            }
        }
    }

    fn host(&self, spec: HostSpec, origin: &Origin) -> Result<(Host, Pool), Refusal> {
        let host = self.host_of(spec)?;
        let auth_sock = origin.auth_sock.as_ref().map(|path| (!path.is_empty()).then(|| path.into()));
        let host = host.with_login(Login { auth_sock, ..Login::default() });
        let pool = self.pools.get(origin.settings.as_ref());
        let pool = pool.map_err(|error| Refusal::of(&error, host.name()))?;
        Ok((host, pool))
    }
}

/// One of the commands that run, as long as it is there.
struct CommandCount(Arc<Agent>);

impl CommandCount {
    fn new(agent: &Arc<Agent>) -> Result<Self, Refusal> {
        let counted = CommandCount(Arc::clone(agent));
        if agent.commands.fetch_add(1, Ordering::Relaxed) < MOST_COMMANDS {
            return Ok(counted);
        }
        Err(Refusal::new(Cause::TooMany, format!("more than {MOST_COMMANDS} commands at once")))
    }
}

impl Drop for CommandCount {
    fn drop(&mut self) {
        self.0.commands.fetch_sub(1, Ordering::Relaxed);
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the connection is to carry frames. Another upgrade is not known.
fn wants_frames(request: &Request<Incoming>) -> Result<bool, Refusal> {
    match request.headers().get(UPGRADE) {
        None => Ok(false),
        Some(to) if to == wire::FRAMES => Ok(true),
        Some(_) => Err(Refusal::new(Cause::Invalid, format!("Upgrade: expected {}", wire::FRAMES))),
    }
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let bytes = match Limited::new(request.into_body(), LONGEST_REQUEST).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("the request is longer than {LONGEST_REQUEST} bytes");
            return Err(Refusal::new(Cause::TooLarge, message));
        }
        Err(error) => {
            return Err(Refusal::new(Cause::Invalid, format!("the request cannot be read: {error}")));
        }
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::new(Cause::Invalid, format!("the body is not what it has to be: {error}")))
}

fn status_of(cause: &Cause) -> StatusCode {
    match cause {
        Cause::Invalid => StatusCode::BAD_REQUEST,
        Cause::NotFound => StatusCode::NOT_FOUND,
        Cause::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Cause::TooMany => StatusCode::TOO_MANY_REQUESTS,
        Cause::OtherVersion => StatusCode::CONFLICT,
        Cause::Connect { .. } | Cause::Lost { .. } | Cause::OutputLimit { .. } => StatusCode::BAD_GATEWAY,
        Cause::Exhausted { .. } | Cause::Closed { .. } | Cause::NeverStarted { .. } | Cause::Local { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Cause::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a route gives")]
fn json(value: &impl Serialize) -> Result<Answer, Refusal> {
    Ok(with(StatusCode::OK, "application/json", encoded(value)))
}

fn refusal(status: StatusCode, refused: &Refusal) -> Answer {
    with(status, "application/json", encoded(refused))
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("the answers have text keys and finite numbers");
    text.push(b'\n');
    text
}

fn text(text: String) -> Answer {
    with(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
}

fn with(status: StatusCode, content_type: &'static str, bytes: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(bytes)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

fn switching() -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(wire::FRAMES));
    answer
}
