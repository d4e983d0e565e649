//! What is going on.

use serde::{Deserialize, Serialize};

use crate::pool::ConnectionInfo;

/// What there is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub agent: About,
    pub connections: Vec<ConnectionInfo>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub idle_timeout_ms: u64,
    /// Clients that are connected, beside the one that asks.
    pub clients: usize,
    pub commands: usize,
    pub forwards: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KnownHost {
    pub name: String,
    pub connections: usize,
}
