//! Jump hosts out of the pool: a login that the configuration sends over a `ProxyJump` goes over a
//! connection of the pool's to the last hop, which hosts behind it share. Without one, ssh would
//! log in at the hop for each of them.
//!
//! Nothing ever runs on such a connection: hops open no session (`MaxSessions 0`, nologin,
//! `restrict,port-forwarding`), so it is proven by the master's own answer and by the first login
//! that goes over it. It is shared by what a login of plain ssh at the hop depends on, which is its
//! own configuration in the caller's place and the hops before it, and nothing of the target but
//! the ssh_config that was named. Where it would not be exactly the same, ssh starts itself for the
//! hop, as it does without a pool.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use super::answer::Answer;
use super::args::{self, Hop};
use super::diagnosis;
use super::supervisor::log_of;
use crate::error::{ConnectError, ConnectErrorKind, Error};
use crate::host::Host;
use crate::host::place::Place;
use crate::text::without_host;

/// Who has connections to hops: the pool that this mechanism makes connections for.
pub(crate) trait Hops: fmt::Debug + Send + Sync {
    /// Waits for a connection to this hop, and holds it.
    fn acquire(&self, hop: Host) -> Acquired;
}

/// A connection to a hop that comes.
pub(crate) type Acquired = Pin<Box<dyn Future<Output = Result<Box<dyn Held>, Error>> + Send>>;

/// A connection to a hop, for as long as something goes over it.
pub(crate) trait Held: fmt::Debug + Send + Sync {
    /// The control socket of its master, and the ssh that is a client of it.
    fn socket(&self) -> &Path;
    fn program(&self) -> &Path;

    /// A login went over it, and succeeded: it works.
    fn works(&self);
}

/// The way of one login over a hop.
#[derive(Debug)]
pub(crate) struct Way {
    held: Box<dyn Held>,
    /// What ssh is to run to get to the target's port.
    pub(super) command: OsString,
    /// How much the hop's master had logged before.
    logged: u64,
}

/// The last hop of this answer, to be resolved in this place. None where ssh has to go its way by
/// itself, or straight.
pub(super) fn of(
    host: &Host,
    answer: &Answer,
    config_file: Option<&Path>,
    place: &Arc<Place>,
) -> Option<Host> {
    // With our proxy in the place of its own, ssh would expand these to something else.
    if answer.mentions_hops() {
        return None;
    }
    let mut before = answer.hops();
    let Hop { name, user, port } = args::hop(before.pop()?);
    let mut hop = Host::new(name).ok()?;
    if let Some(user) = user {
        hop = hop.user(user).ok()?;
    }
    if let Some(port) = port {
        hop = hop.port(port.parse().ok()?).ok()?;
    }
    if let Some(file) = config_file {
        hop = hop.config_file(file).ok()?;
    }
    if !before.is_empty() {
        hop = hop.option("ProxyJump", before.join(",")).ok()?;
    }
    Some(hop.before(host, Arc::clone(place)))
}

/// Whether the user shares connections to this hop by a socket of theirs, which may be there.
pub(super) fn is_the_users(answer: &Answer) -> bool {
    answer.value("controlpath").is_some_and(|path| path != "none")
}

/// Why it could not be reached, for a host behind it, whose configuration has this line.
pub(super) fn not_reached(proxy: &str, hop: &Host, error: Error) -> ConnectError {
    let told = |why: &dyn fmt::Display| format!("{proxy} failed: {why}");
    match error {
        Error::Connect { source, .. } => {
            let detail = told(&source.detail());
            source.with_detail(detail).of_a_hop()
        }
        other => {
            let detail = told(&without_host(&other, hop.name()));
            ConnectError::new(ConnectErrorKind::Other, detail, Vec::new()).of_a_hop()
        }
    }
}

impl Way {
    /// None where the way cannot be said to every shell: then ssh logs in at the hop by itself.
    pub(super) fn over(held: Box<dyn Held>) -> Option<Self> {
        let command = args::proxy(held.program(), held.socket())?;
        let log = log_of(held.socket());
        let logged = std::fs::metadata(log).map_or(0, |log| log.len());
        Some(Way { held, command, logged })
    }

    pub(super) fn works(&self) {
        self.held.works();
    }

    /// What the hop has answered in place of a connection, as far as its log tells. ssh's own one
    /// for one host calls the channel 0, whichever it is here.
    pub(super) fn refusal(&self) -> Option<ConnectError> {
        let log = diagnosis::read_tail(&log_of(self.held.socket()), self.logged)?;
        let reason = log.lines().rev().find_map(|line| {
            let (channel, reason) = line.trim_end().split_once(": open failed: ")?;
            channel.starts_with("channel ").then_some(reason)
        })?;
        let line = format!("channel 0: open failed: {reason}");
        Some(diagnosis::connect_failure(&format!("{line}\r\n"), &line))
    }
}
