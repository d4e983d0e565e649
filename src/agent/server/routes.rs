//! What the agent is asked, and what it answers: a function for each request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::header::{ALLOW, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::commands::{self, AnswerFormat, CommandRun};
use super::file;
use super::hosts::{host, host_of, hosts};
use super::http::{
    Answer, LINES, body, json, refused, switching, text, wants_frames, wants_lines, with_body,
};
use super::peer::Peer;
use super::questions;
use super::{Agent, Running};
use crate::agent::exit_watch;
use crate::agent::protocol::{
    self, About, Cause, Close, Connect, Connected, Exec, Leased, Masters, Question, Refusal,
    Status, Stop,
};
use crate::command::Runner;
use crate::config::SessionReuse;
use crate::host::Caller;

/// How long commands may go on that run on what is closed.
const PATIENCE: Duration = Duration::from_secs(5);
pub(super) async fn answer(agent: &Arc<Agent>, request: Request<Incoming>, peer: Peer) -> Answer {
    match route(agent, request, peer).await {
        Ok(answer) => answer,
        Err(refusal) => refused(&refusal),
    }
}

async fn route(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    peer: Peer,
) -> Result<Answer, Refusal> {
    if let Some(theirs) = request.headers().get(protocol::VERSION_HEADER)
        && theirs != protocol::VERSION
    {
        let message = format!(
            "this agent is of version {} (`sshpool agent stop` ends it)",
            protocol::VERSION
        );
        return Err(Refusal::new(Cause::OtherVersion, message));
    }
    let path = request.uri().path().to_owned();
    let methods: &[Method] = match path.as_str() {
        "/v1/forwards" => &[Method::GET, Method::POST],
        path if forward_id(path).is_some() => &[Method::DELETE],
        "/v1/file" => &[Method::GET, Method::PUT],
        "/v1/health" | "/v1/version" | "/v1/status" | "/v1/stats" | "/v1/hosts" | "/metrics" => {
            &[Method::GET]
        }
        "/v1/exec" | "/v1/connect" | "/v1/lease" | "/v1/check" | "/v1/retire" | "/v1/close"
        | "/v1/stop" | "/v1/question" => &[Method::POST],
        path => {
            let message = format!("{path}: there is no such path (see docs/agent-api.md)");
            return Err(Refusal::new(Cause::NotFound, message));
        }
    };
    let method = request.method().clone();
    if !methods.contains(&method) {
        let allowed = methods.iter().map(Method::as_str).collect::<Vec<_>>();
        let message = format!("{path}: it is {}, not {method}", allowed.join(" or "));
        let mut answer = refused(&Refusal::new(Cause::WrongMethod, message));
        let allowed = HeaderValue::from_str(&allowed.join(", "));
        let allowed = allowed.expect("the names of methods are visible ASCII");
        answer.headers_mut().insert(ALLOW, allowed);
        return Ok(answer);
    }
    match path.as_str() {
        "/v1/health" => json(&serde_json::json!({"ok": true})),
        "/v1/version" => json(&serde_json::json!({
            "version": protocol::VERSION,
            "api": 1,
            "pid": std::process::id(),
        })),
        "/v1/status" => json(&status(agent)),
        "/v1/stats" => json(&serde_json::json!({
            "total": agent.pools.stats(),
            "hosts": agent.pools.stats_by_host(),
        })),
        "/v1/hosts" => json(&serde_json::json!({ "hosts": hosts(agent)? })),
        "/v1/forwards" if method == Method::GET => {
            json(&protocol::Forwards { forwards: agent.forwards.all() })
        }
        "/v1/forwards" => super::forwards::forward(agent, request).await,
        path if let Some(id) = forward_id(path) => match agent.forwards.remove(id).await {
            true => json(&serde_json::json!({ "removed": id })),
            false => {
                let message = format!("there is no forward {id} (any more)");
                Err(Refusal::new(Cause::NotFound, message))
            }
        },
        "/v1/exec" => exec(agent, request, peer).await,
        "/v1/file" => file::file(agent, request, peer).await,
        "/v1/connect" => connect(agent, request, peer).await,
        "/v1/lease" => lease(agent, request).await,
        "/v1/check" => masters(agent, request, false).await,
        "/v1/retire" => masters(agent, request, true).await,
        "/v1/close" => close(agent, request).await,
        "/v1/stop" => stop(agent, request).await,
        "/v1/question" => ask(agent, request).await,
        _ => Ok(text(super::metrics::text(agent))),
    }
}

async fn exec(
    agent: &Arc<Agent>,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Answer, Refusal> {
    let upgrade = wants_frames(&request)?.then(|| hyper::upgrade::on(&mut request));
    let form = match upgrade {
        Some(_) => AnswerFormat::Frames,
        None if wants_lines(&request) => AnswerFormat::Lines,
        None => AnswerFormat::Collected,
    };
    let begun = Instant::now();
    let exec: Exec = body(request).await?;
    let name = exec.host.name().to_owned();
    let answer = answer_to(agent, exec, form, upgrade, peer, begun).await;
    answer.map_err(|refusal| match form {
        AnswerFormat::Collected => refusal.with_result(&name, begun.elapsed()),
        _ => refusal,
    })
}

async fn answer_to(
    agent: &Arc<Agent>,
    exec: Exec,
    form: AnswerFormat,
    upgrade: Option<OnUpgrade>,
    peer: Peer,
    begun: Instant,
) -> Result<Answer, Refusal> {
    let running = Running::new(agent)?;
    let (host, pool) = host(agent, exec.host.clone(), exec.origin()).await?;
    // Else it makes no difference.
    let caller = match pool.config().session_reuse {
        SessionReuse::Fast => peer.caller(),
        _ => Caller::Own,
    };
    let host = host.for_caller(caller);
    let runner: Box<dyn Runner> = match &exec.lease {
        None => Box::new(pool),
        Some(name) => match agent.leases.get(name) {
            Some(lease) => Box::new(lease.for_caller(caller)),
            None => {
                let message = format!("lease: there is none with the name {name:?} (any more)");
                return Err(Refusal::new(Cause::NotFound, message));
            }
        },
    };
    let order = CommandRun::new(&exec, form, host, &*runner, agent.pools.default(), running);
    let order = order.map_err(|why| Refusal::new(Cause::Invalid, why))?;
    // It may be long, with its input, and it is in the order now.
    drop(exec);
    // Nobody hears the answer to a client that is gone.
    let gone = || Refusal::new(Cause::Invalid, "the client is gone");
    match upgrade {
        None if form == AnswerFormat::Lines => {
            let lines = order.lines(peer).await.ok_or_else(gone)??;
            let body = StreamBody::new(lines.map(|line| Ok::<_, Infallible>(Frame::data(line))));
            Ok(with_body(StatusCode::OK, LINES, body))
        }
        None => json(&order.output(&peer, begun).await.ok_or_else(gone)??),
        Some(upgrade) => {
            tokio::spawn(async move {
                // It fails when the client is gone.
                let Ok(upgraded) = upgrade.await else { return };
                let (from, to) = tokio::io::split(TokioIo::new(upgraded));
                if let Err(error) = commands::stream(order, from, to, &peer).await {
                    tracing::debug!(%error, "the client of a command is gone");
                }
            });
            Ok(switching())
        }
    }
}

/// Connects, or finds a connection that is there.
async fn connect(
    agent: &Arc<Agent>,
    mut request: Request<Incoming>,
    peer: Peer,
) -> Result<Answer, Refusal> {
    let upgrade = wants_frames(&request)?.then(|| hyper::upgrade::on(&mut request));
    let connect: Connect = body(request).await?;
    let (host, pool) = host(agent, connect.host.clone(), connect.origin()).await?;
    if connect.retry || upgrade.is_some() {
        agent.pools.reset(&host);
    }
    if let Some(upgrade) = upgrade {
        let (agent, present) = (Arc::clone(agent), agent.present());
        tokio::spawn(async move {
            let _present = present;
            let Ok(upgraded) = upgrade.await else { return };
            let (from, to) = tokio::io::split(TokioIo::new(upgraded));
            if let Err(error) =
                questions::connect(&agent.questions, &agent.plan.directory, pool, host, from, to)
                    .await
            {
                tracing::debug!(%error, "the client that wanted a connection is gone");
            }
        });
        return Ok(switching());
    }
    let running = Running::new(agent)?;
    let lease = match connect.hold {
        true => pool.acquire_for_another(&host).await,
        false => pool.acquire(&host).await,
    };
    let lease = lease.map_err(|error| agent.refusal(&error, &host))?;
    let connected = Connected::of(&lease);
    if connect.hold
        && let Some(pid) = peer.pid
    {
        tokio::spawn(async move {
            exit_watch::until_gone(pid).await;
            drop((lease, running));
        });
    }
    json(&connected)
}

/// Holds a connection for as long as the client's frames are open.
async fn lease(agent: &Arc<Agent>, mut request: Request<Incoming>) -> Result<Answer, Refusal> {
    let upgrade = wants_frames(&request)?.then(|| hyper::upgrade::on(&mut request));
    let connect: Connect = body(request).await?;
    let Some(upgrade) = upgrade else {
        let message = "a lease needs a connection that is upgraded to frames";
        return Err(Refusal::new(Cause::Invalid, message));
    };
    if connect.hold || connect.retry {
        return Err(Refusal::new(Cause::Invalid, "hold and retry are for /v1/connect"));
    }
    let (host, pool) = host(agent, connect.host.clone(), connect.origin()).await?;
    let running = Running::new(agent)?;
    let lease = pool.acquire(&host).await.map_err(|error| agent.refusal(&error, &host))?;
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        let _running = running;
        let Ok(upgraded) = upgrade.await else { return };
        let mut frames = TokioIo::new(upgraded);
        let connected = Connected::of(&lease);
        let held = agent.leases.hold(lease);
        let leased = Leased { lease: held.name().to_owned(), connected };
        let text = serde_json::to_vec(&leased).expect("it has text keys");
        if protocol::write_frame(&mut frames, protocol::frame::STARTED, &text).await.is_ok() {
            // The client says no more, and its end is that of the lease.
            let _ = tokio::io::copy(&mut frames, &mut tokio::io::sink()).await;
        }
    });
    Ok(switching())
}

/// The forward that a path names.
fn forward_id(path: &str) -> Option<u64> {
    path.strip_prefix("/v1/forwards/")?.parse().ok()
}

/// The connections that this client's next command on a host could run on; they may be for no
/// further command from now on.
async fn masters(
    agent: &Arc<Agent>,
    request: Request<Incoming>,
    retires: bool,
) -> Result<Answer, Refusal> {
    let connect: Connect = body(request).await?;
    if connect.hold {
        return Err(Refusal::new(Cause::Invalid, "hold: nothing is connected to"));
    }
    let (host, pool) = host(agent, connect.host.clone(), connect.origin()).await?;
    let pids = pool.masters(&host);
    if retires {
        pool.retire(&host);
    }
    json(&Masters { pids })
}

/// Passes a question of ssh on to whoever waits for that login.
async fn ask(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let question: Question = body(request).await?;
    match agent.questions.ask(question).await {
        Some(answer) => json(&serde_json::json!({ "answer": answer })),
        None => Err(Refusal::new(Cause::NotFound, "nobody is there to be asked")),
    }
}

async fn close(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let close: Close = body(request).await?;
    let patience = if close.now { Duration::ZERO } else { PATIENCE };
    let closed = match (close.all, close.hosts.is_empty()) {
        (true, true) => agent.pools.close_hosts(patience).await,
        (false, false) => {
            let hosts = close.hosts.into_iter().map(|host| host_of(agent, host));
            let hosts = hosts.collect::<Result<Vec<_>, _>>()?;
            let closing = hosts.iter().map(|host| agent.pools.close_host(host, patience));
            futures_util::future::join_all(closing).await.into_iter().sum()
        }
        _ => return Err(Refusal::new(Cause::Invalid, "give either hosts or all")),
    };
    json(&serde_json::json!({ "closed": closed }))
}

async fn stop(agent: &Arc<Agent>, request: Request<Incoming>) -> Result<Answer, Refusal> {
    let stop: Stop = body(request).await?;
    if stop.unless_version.as_deref() == Some(protocol::VERSION) {
        return Err(Refusal::new(Cause::OtherVersion, "this agent is of that version"));
    }
    agent.leave(match (stop.now, stop.drain) {
        (true, _) => Some(Duration::ZERO),
        (false, true) => None,
        (false, false) => Some(PATIENCE),
    });
    json(&serde_json::json!({ "pid": std::process::id() }))
}

fn status(agent: &Agent) -> Status {
    Status {
        agent: About {
            version: protocol::VERSION.to_owned(),
            pid: std::process::id(),
            uptime_ms: ms(agent.uptime()),
            idle_timeout_ms: ms(agent.plan.idle_timeout),
            // This one asks.
            clients: agent.clients().saturating_sub(1),
            commands: agent.commands(),
            forwards: agent.forwards.count(),
        },
        connections: agent.pools.connections(),
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
