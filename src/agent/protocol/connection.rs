//! Connections: to make, to hold, to look at and to close.

use std::os::unix::ffi::OsStringExt;

use serde::{Deserialize, Serialize};

use super::encoding::{one_of, text_or_base64};
use super::place::PlaceSpec;
use super::{HostSpec, Origin, Settings};
use crate::host::Host;
use crate::pool::Lease;

/// A connection that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connect {
    pub host: HostSpec,
    /// Keep a session of it for the process that asks, until that ends: it is going to use the
    /// control socket.
    #[serde(default)]
    pub hold: bool,
    /// Try now: what has failed before is forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_sock: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<PlaceSpec>,
}

impl Connect {
    pub(crate) fn new(host: &Host, hold: bool, retry: bool, origin: Origin) -> Self {
        let Origin { place, settings, auth_sock } = origin;
        Connect { host: HostSpec::Whole(host.into()), hold, retry, settings, auth_sock, place }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin {
            place: self.place.clone(),
            settings: self.settings.clone(),
            auth_sock: self.auth_sock.clone(),
        }
    }
}

/// A connection that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// The process id of its control master.
    pub pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control_path_base64: Option<String>,
    /// Whatever is asked for there may run a forced command.
    #[serde(default)]
    pub forced: bool,
    /// How that has ended, and what it said, where it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_shell: Option<String>,
}

impl Connected {
    pub(crate) fn of(lease: &Lease) -> Self {
        let path = lease.control_path().as_os_str().to_owned();
        let (control_path, control_path_base64) = text_or_base64(path.into_vec());
        Connected {
            pid: lease.master_pid(),
            control_path,
            control_path_base64,
            forced: lease.is_silent(),
            no_shell: lease.no_shell().map(str::to_owned),
        }
    }

    /// Where its control socket is. An agent says it rightly; what is none is no path.
    pub(crate) fn control_path(&self) -> std::path::PathBuf {
        let path =
            one_of("control_path", self.control_path.as_ref(), self.control_path_base64.as_ref());
        path.ok().flatten().unwrap_or_default().into()
    }
}

/// The connections that a host's next command could run on, by the process ids of their control
/// masters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Masters {
    pub pids: Vec<u32>,
}

/// What ssh asks somebody while it logs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Whose login it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    pub prompt: String,
    /// "confirm" for a yes or no, "none" for something to be done (touch a key); otherwise an
    /// answer is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Connections that are not wanted any more.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    #[serde(default)]
    pub hosts: Vec<HostSpec>,
    #[serde(default)]
    pub all: bool,
    /// Commands that run are ended at once.
    #[serde(default)]
    pub now: bool,
}

/// The agent is to end. One of another version must be able to read it: what it does not know it
/// passes over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stop {
    #[serde(default)]
    pub now: bool,
    /// Commands that run may go on to their ends.
    #[serde(default)]
    pub drain: bool,
    /// Not if it is of this version: another client has replaced the old one in the meantime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless_version: Option<String>,
}

/// A connection that is held for a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Leased {
    /// Its name, for commands that are to run on it.
    pub lease: String,
    #[serde(flatten)]
    pub connected: Connected,
}
