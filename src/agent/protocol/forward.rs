//! Forwards, as they are asked for and told.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{HostSpec, Origin, PlaceSpec, Settings};
use crate::forward::ForwardSpec;
use crate::host::Host;
use crate::pool::{ForwardEvent, ForwardStatus};

/// A forward that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewForward {
    pub host: HostSpec,
    /// As ssh's options: `-L 8080:localhost:80`. With a command the path of a socket to listen at,
    /// which is `/` for one of the agent's own.
    pub forward: String,
    /// What runs on the host for each client, where its streams lead to the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// It stays when the client is gone, until it is removed or the agent ends.
    #[serde(default)]
    pub keep: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_sock: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<PlaceSpec>,
}

impl NewForward {
    pub(crate) fn new(host: &Host, what: &What<'_>, keep: bool, origin: Origin) -> Self {
        let Origin { place, settings, auth_sock } = origin;
        let (forward, command) = match what {
            What::Spec(spec) => (spec.to_string(), None),
            What::Command { at, text } => (at.display().to_string(), Some((*text).to_owned())),
        };
        let host = HostSpec::Whole(host.into());
        NewForward { host, forward, command, keep, settings, auth_sock, place }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin {
            place: self.place.clone(),
            settings: self.settings.clone(),
            auth_sock: self.auth_sock.clone(),
        }
    }
}

/// What is to be forwarded.
pub(crate) enum What<'a> {
    Spec(&'a ForwardSpec),
    /// From a socket here to the standard streams of a command there.
    Command {
        at: &'a Path,
        text: &'a str,
    },
}

/// A forward of the agent's.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ForwardInfo {
    /// By which it is removed.
    pub id: u64,
    /// The host's `name:port`.
    pub host: String,
    pub forward: String,
    /// Where it listens now, with the port that was chosen.
    pub listening: Option<String>,
    /// It does not end with a client.
    pub kept: bool,
    pub open: usize,
    pub total: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub failed: u64,
    pub last_error: Option<String>,
}

impl ForwardInfo {
    pub(crate) fn new(id: u64, kept: bool, status: ForwardStatus) -> Self {
        ForwardInfo {
            id,
            host: status.host,
            forward: status.spec.to_string(),
            listening: status.listening.map(|at| at.to_string()),
            kept,
            open: status.open,
            total: status.total,
            sent_bytes: status.sent,
            received_bytes: status.received,
            failed: status.failed,
            last_error: status.last_error,
        }
    }
}

/// All of them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forwards {
    pub forwards: Vec<ForwardInfo>,
}

/// What happens to a forward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Happened {
    Listening { at: String },
    Connected,
    Failed { reason: String },
    Lost { reason: String },
}

impl From<ForwardEvent> for Happened {
    fn from(event: ForwardEvent) -> Self {
        match event {
            ForwardEvent::Listening(at) => Happened::Listening { at: at.to_string() },
            ForwardEvent::Connected => Happened::Connected,
            ForwardEvent::Failed(reason) => Happened::Failed { reason },
            ForwardEvent::Lost(reason) => Happened::Lost { reason },
        }
    }
}
