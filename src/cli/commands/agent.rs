//! `sshpool agent`: the agent itself, in the foreground; and its end.

use std::io::Write;
use std::task::Poll;
use std::time::Duration;

use clap::{Args, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::agent::client::NoAgent;
use crate::agent::client::start;
use crate::agent::directory::Directory;
use crate::agent::server::{self, Plan};
use crate::agent::standing::DESCRIPTORS;
use crate::agent::{exit_watch, protocol};
use crate::cli::failure::Failure;
use crate::cli::output::complain;
use crate::cli::setup::Setup;
use crate::config;
use crate::text::plain;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(in crate::cli) struct Agent {
    /// End when there was no client and no connection for so long
    #[arg(long, value_name = "DURATION", value_parser = config::parse_duration)]
    idle_timeout: Option<Duration>,

    /// In the background: nobody reads what is said
    #[arg(long, hide = true)]
    detach: bool,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Stop the agent; commands that run have 5 seconds to finish
    Stop {
        /// End what runs at once
        #[arg(long)]
        now: bool,
    },
}

/// How long another agent may take to make room.
const ROOM: Duration = Duration::from_secs(5);
/// How long it may take to end: what runs has 5 seconds, and some more to be ended on the servers.
const GONE: Duration = Duration::from_secs(20);
/// How often an agent that is gone without an answer is told to stop, or the next one.
const ATTEMPTS: usize = 5;

impl Agent {
    pub(in crate::cli) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        match self.action {
            Some(Action::Stop { now }) => stop(setup, now).await,
            None => self.serve(setup).await,
        }
    }

    /// In the background there is a log, and it says at least what happens.
    pub(in crate::cli) fn verbosity(&self, said: u8) -> u8 {
        if self.detach { said.max(1) } else { said }
    }

    async fn serve(&self, setup: &Setup) -> Result<u8, Failure> {
        let directory = Directory::find().map_err(Failure::Output)?;
        // Whatever it was started with: what it makes is for its user alone.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        let mut heard = signals_heard().map_err(|error| {
            Failure::Output(format!("cannot handle signals: {}", plain(&error)))
        })?;
        let signals = async || next(&mut heard).await;
        raise_limit();
        keep_secrets();
        let deadline = Instant::now() + ROOM;
        let lock = loop {
            match directory.lock_agent().map_err(Failure::Output)? {
                Some(lock) => break lock,
                // The one before is about to go.
                None if self.detach && Instant::now() < deadline => {
                    sleep(Duration::from_millis(5)).await
                }
                None => {
                    return Err(Failure::Output(
                        "an agent runs already (`sshpool agent stop` ends it)".to_owned(),
                    ));
                }
            }
        };
        let socket = directory.socket();
        let plan = Plan {
            directory,
            config_file: setup.file.clone(),
            ssh_config: setup.ssh_config.clone(),
            settings: setup.config.pool.clone(),
            idle_timeout: self.idle_timeout.unwrap_or(setup.config.agent.idle_timeout),
            logs: self.detach,
        };
        let ready = || match self.detach {
            true => say_ready(),
            false => complain(format_args!("agent: listening on {}", socket.display())),
        };
        match server::serve(plan, lock, signals, ready).await.map_err(Failure::Output)? {
            Some(signal) => crate::pool::signals::end_as_by(signal),
            None => Ok(0),
        }
    }
}

/// Tells who has started us that clients can connect, and lets go of the pipe to it.
fn say_ready() {
    // Who does not listen any more need not be told.
    let _ = std::io::stdout().write_all(start::READY.as_bytes());
    let _ = std::io::stdout().flush();
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

type Heard = Vec<(Signal, tokio::signal::unix::Signal)>;

/// The signals that ask for the end, but for those that it was started with ignoring, as under
/// nohup.
fn signals_heard() -> std::io::Result<Heard> {
    let all = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let wanted = all.into_iter().filter(|signal| !crate::pool::signals::is_ignored(*signal));
    wanted.map(|wanted| Ok((wanted, signal(SignalKind::from_raw(wanted as i32))?))).collect()
}

/// The next one that comes.
async fn next(heard: &mut Heard) -> Signal {
    std::future::poll_fn(|context| {
        let come = heard
            .iter_mut()
            .find_map(|(signal, stream)| stream.poll_recv(context).is_ready().then_some(*signal));
        come.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

/// Many connections take many descriptors, and the system's habit is to allow 1024 of them. What is
/// started for callers gets the old limit back.
fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        crate::openssh::give_back_descriptors(soft, hard);
        // Where it is refused, there is room for fewer clients.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.max(hard.min(DESCRIPTORS)), hard);
    }
}

/// It knows variables of its callers: no other process of the user reads them out of it, and no
/// core dump has them.
fn keep_secrets() {
    #[cfg(target_os = "linux")]
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "other processes of this user can read the agent's memory");
    }
}

async fn stop(setup: &Setup, now: bool) -> Result<u8, Failure> {
    let client = match setup.client(false) {
        Ok(client) => client,
        Err(no) => return Err(Failure::Output(no.to_string())),
    };
    let stop = protocol::Stop { now, ..protocol::Stop::default() };
    let mut stopping = client.stop(&stop).await;
    // One that has begun to leave may be gone before it answers. Whether there is another one then,
    // the next attempt shows.
    for _ in 1..ATTEMPTS {
        let Err(NoAgent::NoAnswer(_)) = stopping else { break };
        sleep(Duration::from_millis(5)).await;
        stopping = client.stop(&stop).await;
    }
    let pid = match stopping {
        Ok(Ok(answer)) => answer["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()),
        Ok(Err(refused)) => return Err(Failure::Output(refused.error.message)),
        Err(NoAgent::NotThere) => {
            complain("no agent runs");
            return Ok(0);
        }
        Err(no) => return Err(Failure::Output(no.to_string())),
    };
    let Some(pid) = pid else { return Ok(0) };
    match timeout(GONE, exit_watch::until_gone(pid)).await {
        Ok(()) => Ok(0),
        Err(_) => {
            Err(Failure::Output(format!("the agent (pid {pid}) has not ended within {GONE:?}")))
        }
    }
}
