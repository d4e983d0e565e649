//! What asking ssh and logging in need beyond a host.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::lane::LaneSettings;
use super::program::Program;
use super::runtime::Runtime;
use super::trace::Trace;
use crate::transport::Sessions;

/// What a login needs beyond its host.
pub(super) struct Launch<'a> {
    pub program: &'a Arc<Program>,
    pub runtime: &'a Arc<Runtime>,
    pub connect_timeout: Duration,
    pub deadline: Instant,
    pub lanes: LaneSettings,
    /// Who watches.
    pub trace: Option<&'a Trace>,
    /// What is known of the server.
    pub sessions: Sessions,
}
