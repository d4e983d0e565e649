//! Forwards of a master: added and taken away by `ssh -O forward` and `ssh -O cancel`.
//!
//! For what listens on this side the pool owns the listener, and the master forwards a private
//! Unix socket beside its control socket ([`Master::leads_to`]). What listens on the host's side,
//! and SOCKS, is the master's own ([`Master::forwards`]).

use std::path::{Path, PathBuf};

use tokio::net::UnixStream;
use tokio::time::Instant;

use super::master::Master;
use super::supervisor::log_of;
use super::{args, diagnosis};
use crate::forward::{Endpoint, ForwardSpec};
use crate::text::printable;

/// Why a master does not forward something.
#[derive(Debug)]
pub(crate) enum NotForwarded {
    /// Here or on the server it cannot be had, for this reason.
    Refused(String),
    /// The master is gone, or does not answer.
    NoMaster(String),
}

/// What opens a failure in ssh's words.
const FAILED: &str = "forwarding request failed: ";

impl Master {
    /// A private socket of this master's from which connections lead to the target of this forward.
    pub(crate) async fn leads_to(&self, spec: &ForwardSpec) -> Result<PathBuf, NotForwarded> {
        let path = self.fresh_path();
        self.change("forward", spec, &Endpoint::Socket(path.clone())).await?;
        Ok(path)
    }

    /// No new connection is made there, and the socket is gone. Those that are there go on.
    pub(crate) async fn leads_no_more(&self, spec: &ForwardSpec, path: &Path) {
        // A master that is gone has taken it along.
        let _ = self.change("cancel", spec, &Endpoint::Socket(path.to_owned())).await;
        let _ = std::fs::remove_file(path);
    }

    /// The master listens by itself, or has the server listen. Gives the port that the server has
    /// chosen, where it was to choose one.
    pub(crate) async fn forwards(&self, spec: &ForwardSpec) -> Result<Option<u16>, NotForwarded> {
        let told = self.change("forward", spec, spec.listen()).await?;
        Ok(told.trim().parse().ok())
    }

    /// Ends what [`forwards`](Self::forwards) has begun.
    pub(crate) async fn forwards_no_more(&self, spec: &ForwardSpec) {
        // A master that is gone has taken it along.
        let _ = self.change("cancel", spec, spec.listen()).await;
    }

    async fn change(
        &self,
        operation: &str,
        spec: &ForwardSpec,
        listen: &Endpoint,
    ) -> Result<String, NotForwarded> {
        let argument = spec.argument_at(listen);
        let flag = spec.direction().flag();
        let args = args::forward(self.socket(), operation, flag, &argument);
        let deadline = Instant::now() + self.call_timeout();
        let finished = self.called(operation, args, deadline).await;
        let finished = finished.map_err(NotForwarded::NoMaster)?;
        if finished.code == Some(0) {
            return Ok(finished.stdout);
        }
        let stderr = finished.stderr.trim();
        match stderr.lines().find_map(|line| Some(line.split_once(FAILED)?.1)) {
            Some(reason) => Err(NotForwarded::Refused(printable(reason.trim()).to_string())),
            None => {
                let last = stderr.lines().last().unwrap_or("ssh says nothing");
                Err(NotForwarded::NoMaster(printable(last).to_string()))
            }
        }
    }

    /// Connects to a private socket of this master's, and remembers what it had logged before.
    pub(crate) async fn enter(&self, path: &Path) -> std::io::Result<Entered> {
        let path_of_log = log_of(self.socket());
        let from = std::fs::metadata(&path_of_log).map_or(0, |log| log.len());
        let log = LogSince { path: path_of_log, from };
        Ok(Entered { stream: UnixStream::connect(path).await?, log })
    }
}

/// A connection over a master.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) stream: UnixStream,
    pub(crate) log: LogSince,
}

/// What a master has logged since some moment.
#[derive(Debug)]
pub(crate) struct LogSince {
    path: PathBuf,
    from: u64,
}

impl LogSince {
    /// What the server has answered in place of a connection. Where several begin at once it can be
    /// another one's answer.
    pub(crate) fn refusal(&self) -> Option<String> {
        let log = diagnosis::read_tail(&self.path, self.from)?;
        log.lines().rev().find_map(|line| {
            let (channel, reason) = line.trim_end().split_once(": open failed: ")?;
            channel.starts_with("channel ").then(|| printable(reason).to_string())
        })
    }
}
