//! The agent's life: it takes clients, and ends when nobody needs it any more.
//!
//! Listening → leaving → gone. While it listens it holds `agent.lock`. It leaves when it is told
//! to, by a request or a signal, when it has had no client and no connection for its idle time, or
//! when its socket is not there any more. Then the socket goes first, and the lock after it, so
//! that another agent can start at once; who has connected before is served, or told to ask the
//! next one before anything was begun for them. What runs goes on to its end, or for as long as the
//! one who has told it to leave has patience. A second signal does not wait.

mod commands;
mod counted;
mod file;
mod forwards;
mod hosts;
mod http;
mod leases;
mod lines;
mod memory;
mod metrics;
mod peer;
mod pools;
mod questions;
mod routes;

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use nix::sys::signal::Signal;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::agent::directory::{Directory, Lock, Socket, is_us};
use crate::agent::protocol::{Cause, Refusal};
use crate::agent::standing::Standing;
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::Host;
use crate::openssh::CLOSED;
use counted::{Present, Running};
use forwards::Forwards;
use leases::Leases;
use memory::Memory;
use peer::Peer;
use pools::Pools;
use questions::Questions;

/// Clients at once. A browser's worth of dashboards and a fan-out over many hosts are far below.
const MOST_CLIENTS: usize = 2000;
/// Commands at once.
const MOST_COMMANDS: usize = 1000;
/// How long a client may take to say what it wants, and how long it may say nothing between two
/// requests.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what runs may go on where the next agent cannot come before.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an agent that was started for a client waits for it, however short its idle time is.
const FIRST_CLIENT: Duration = Duration::from_secs(5);
/// How long whoever has connected just before the end may take for that; and the last answers to be
/// read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Why a command has no end that ran when the agent was told to end.
const STOPPED: &str = "the agent was stopped";
/// The head of a request is shorter.
const LONGEST_HEAD: usize = 64 << 10;

pub(crate) struct Plan {
    pub directory: Directory,
    /// What there is for hosts that are given by name; read anew for each request.
    pub config_file: Option<PathBuf>,
    pub ssh_config: Option<PathBuf>,
    pub settings: PoolConfig,
    pub idle_timeout: Duration,
    /// What is said goes to the log of the directory.
    pub logs: bool,
}

struct Agent {
    pools: Pools,
    plan: Plan,
    questions: Questions,
    standing: Standing,
    leases: Arc<Leases>,
    forwards: Arc<Forwards>,
    started: Instant,
    clients: AtomicUsize,
    commands: AtomicUsize,
    memory: Memory,
    /// When somebody has last come or gone, in milliseconds from the start; 0 where nobody has.
    last_use: AtomicUsize,
    life: watch::Sender<Life>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// → Leaving
    Listening,
    /// → itself, with less patience; → gone
    Leaving { patience: Option<Duration> },
}

/// Listens until a signal has come or nobody needs it any more, and returns when nothing is left:
/// with the signal, if it was one. `ready` is called when clients can connect. `lock` is the right
/// to be the agent.
pub(crate) async fn serve(
    plan: Plan,
    lock: Lock,
    signals: impl AsyncFnMut() -> Signal,
    ready: impl FnOnce(),
) -> Result<Option<Signal>, String> {
    let standing = Standing::own();
    plan.directory.write_standing(&standing)?;
    let (listener, socket) = plan.directory.listen()?;
    let taken = listener.try_clone().and_then(tokio::net::UnixListener::from_std);
    let taken = taken.map_err(|error| format!("cannot listen: {}", crate::text::plain(&error)))?;
    ready();
    tracing::info!(
        version = crate::agent::protocol::VERSION,
        pid = std::process::id(),
        "listening"
    );
    let agent = Arc::new(Agent {
        pools: Pools::new(plan.settings.clone()),
        plan,
        questions: Questions::default(),
        standing,
        leases: Arc::default(),
        forwards: Arc::default(),
        started: Instant::now(),
        clients: AtomicUsize::new(0),
        commands: AtomicUsize::new(0),
        memory: Memory::default(),
        last_use: AtomicUsize::new(0),
        life: watch::Sender::new(Life::Listening),
    });
    match hosts::config(&agent) {
        Ok(config) => forwards::begin(&agent, &config),
        Err(refusal) => tracing::warn!(why = refusal.error.message, "no forwards are begun"),
    }
    let mut signals = signals;
    let mut signal = agent.listen(taken, &socket, &mut signals).await;
    if signal.is_some() {
        agent.leave(Some(Duration::ZERO));
    } else if socket.is_ours() {
        agent.leave(None);
    } else {
        // Until this one is gone systemd starts no other.
        agent.leave(Some(PATIENCE));
    }
    // The next agent may want to listen at the same places.
    agent.forwards.end_kept();
    // Nobody connects any more; who has, is served.
    socket.remove();
    agent.take_rest(&listener);
    drop((listener, lock));
    let mut last = pin!(agent.last_part());
    loop {
        let come = tokio::select! {
            () = &mut last => break,
            come = signals() => come,
        };
        if signal.replace(come).is_some() {
            // The guards of the pools clean up.
            break;
        }
        agent.leave(Some(Duration::ZERO));
    }
    tracing::info!("gone");
    Ok(signal)
}

impl Agent {
    /// Takes clients until it is time to leave. Gives the signal, if that is why.
    async fn listen(
        self: &Arc<Self>,
        listener: tokio::net::UnixListener,
        socket: &Socket,
        signals: &mut impl AsyncFnMut() -> Signal,
    ) -> Option<Signal> {
        let mut look = interval(
            (self.plan.idle_timeout / 20).clamp(Duration::from_millis(20), Duration::from_secs(2)),
        );
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut life = self.life.subscribe();
        let mut told = pin!(signals());
        let mut is_full = false;
        loop {
            tokio::select! {
                taken = listener.accept() => match taken {
                    Ok((stream, _)) => {
                        is_full = false;
                        self.take(stream);
                    }
                    Err(error) => {
                        // No descriptor is free. Whoever waits goes on waiting.
                        if !std::mem::replace(&mut is_full, true) {
                            tracing::warn!(%error, "no client can be taken");
                        }
                        sleep(Duration::from_millis(20)).await;
                    }
                },
                _ = look.tick() => if let Some(why) = self.look(socket) {
                    tracing::info!("leaving: {why}");
                    return None;
                },
                () = leaving(&mut life) => {
                    tracing::info!("leaving: told to");
                    return None;
                }
                signal = &mut told => {
                    tracing::info!("leaving: {signal}");
                    return Some(signal);
                }
            }
        }
    }

    /// Tidies up, and gives the reason to leave if there is one.
    fn look(&self, socket: &Socket) -> Option<&'static str> {
        self.pools.sweep();
        if self.commands() == 0 {
            self.memory.give_back();
        }
        if self.plan.logs
            && let Err(error) = self.plan.directory.trim_log()
        {
            tracing::debug!(%error, "the log cannot be looked after");
        }
        if !socket.is_there() {
            return Some("the socket is not there any more");
        }
        if self.is_used() {
            self.used();
        } else if self.unused() >= self.patience() {
            return Some("nobody has needed it for long");
        }
        None
    }

    /// How long it stays without being used.
    fn patience(&self) -> Duration {
        let waits = self.plan.logs && self.last_use.load(Ordering::Relaxed) == 0;
        if waits { self.plan.idle_timeout.max(FIRST_CLIENT) } else { self.plan.idle_timeout }
    }

    fn is_used(&self) -> bool {
        let stats = self.pools.stats();
        self.clients() + self.commands() + stats.total_connections + stats.connecting > 0
            || self.forwards.is_kept()
    }

    fn used(&self) {
        let now = usize::try_from(self.uptime().as_millis()).unwrap_or(usize::MAX).max(1);
        self.last_use.store(now, Ordering::Relaxed);
    }

    fn unused(&self) -> Duration {
        let last = Duration::from_millis(self.last_use.load(Ordering::Relaxed) as u64);
        self.uptime().saturating_sub(last)
    }

    /// Whoever is in the queue has connected while this was the agent.
    fn take_rest(self: &Arc<Self>, listener: &UnixListener) {
        while let Ok((stream, _)) = listener.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream));
            if let Ok(stream) = stream {
                self.take(stream);
            }
        }
    }

    /// From the end of listening to the end of everything.
    async fn last_part(&self) {
        let began = Instant::now();
        let is_over = || match *self.life.borrow() {
            Life::Leaving { patience: Some(patience) } => began.elapsed() >= patience,
            _ => false,
        };
        // Those that have connected just now have not said yet what they want.
        while !is_over()
            && (self.commands() > 0 || (self.clients() > 0 && began.elapsed() < LAST_WORDS))
        {
            sleep(Duration::from_millis(5)).await;
        }
        self.pools.close(Duration::ZERO).await;
        // What was ended is told, to clients that read.
        let closed = Instant::now();
        while self.commands() + self.clients() > 0 && closed.elapsed() < LAST_WORDS {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Lets the agent leave. What runs may go on for `patience`, or to its end.
    fn leave(&self, patience: Option<Duration>) {
        self.life.send_modify(|life| {
            let before = match *life {
                Life::Leaving { patience } => patience,
                Life::Listening => None,
            };
            // Without one it is endless.
            let patience = [before, patience].into_iter().flatten().min();
            *life = Life::Leaving { patience };
        });
    }

    fn is_leaving(&self) -> bool {
        *self.life.borrow() != Life::Listening
    }

    /// Why something was not started, or has no end. What the end of this agent has kept from its
    /// start, another agent can do.
    fn refusal(&self, error: &Error, host: &Host) -> Refusal {
        match error {
            Error::Closed { .. } if self.is_leaving() => {
                Refusal::new(Cause::Leaving, "the agent is about to end")
            }
            // Whoever waits for it did not close anything.
            Error::Lost { host: name, reason, partial }
                if self.is_leaving() && reason == CLOSED =>
            {
                let (name, partial) = (name.clone(), Arc::clone(partial));
                let error = Error::Lost { host: name, reason: STOPPED.to_owned(), partial };
                Refusal::of(&error, host.name())
            }
            error => Refusal::of(error, host.name()),
        }
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    fn commands(&self) -> usize {
        self.commands.load(Ordering::Relaxed)
    }

    /// Counts somebody who is connected, beside those whose connections it knows of.
    fn present(self: &Arc<Self>) -> Present {
        self.clients.fetch_add(1, Ordering::Relaxed);
        self.used();
        Present(Arc::clone(self))
    }

    fn take(self: &Arc<Self>, stream: UnixStream) {
        let ours = stream.peer_cred().is_ok_and(|peer| is_us(peer.uid()));
        if !ours {
            tracing::warn!("a client of another user was turned away");
            return;
        }
        let is_one_too_many = self.clients() >= MOST_CLIENTS;
        let (agent, present) = (Arc::clone(self), self.present());
        tokio::spawn(async move {
            let _present = present;
            let peer = Peer::of(&stream);
            let service = service_fn(|request| {
                let (agent, peer) = (Arc::clone(&agent), peer.clone());
                async move {
                    Ok::<_, Infallible>(match is_one_too_many {
                        true => http::refused(&too_many_clients()),
                        false => routes::answer(&agent, request, peer).await,
                    })
                }
            });
            // One that is refused anyway is not to keep its place for long.
            let speech = if is_one_too_many { LAST_WORDS } else { READ_TIMEOUT };
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(speech).max_buf_size(LONGEST_HEAD);
            builder.keep_alive(!is_one_too_many);
            let mut connection =
                pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
            let mut life = agent.life.subscribe();
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = leaving(&mut life) => {
                    // After the request that it is about, if there is one.
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            // A client that goes away is no news.
            if let Err(error) = served {
                tracing::debug!(%error, "a client is gone");
            }
        });
    }
}

/// Completes when the agent leaves.
async fn leaving(life: &mut watch::Receiver<Life>) {
    // The sender is the agent's, as long as anybody asks.
    let _ = life.wait_for(|life| *life != Life::Listening).await;
}

fn too_many_clients() -> Refusal {
    Refusal::new(Cause::TooManyClients, format!("more than {MOST_CLIENTS} clients at once"))
}
