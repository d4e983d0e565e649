//! Facts about a connection that is there.

use std::time::Duration;

use crate::openssh::Master;
use crate::policy;

/// A connection that is there.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// What it is filed under, `name:port`.
    pub host: String,
    /// Its number among those of the host, from 0.
    pub slot: usize,
    /// The process id of its control master.
    pub pid: u32,
    /// Milliseconds since it was ready.
    pub age_ms: u64,
    /// Milliseconds since it was last used; `None` while it is in use.
    pub idle_ms: Option<u64>,
    /// Sessions that callers hold.
    pub sessions: usize,
    /// Sessions open ahead of need.
    pub standby: usize,
    /// Sessions at once: `sessions_per_connection`, or as many as the server has let us have.
    pub session_limit: usize,
    /// Milliseconds that the last echo took, a new session with its ssh process included.
    pub echo_ms: Option<f64>,
    /// The account has no POSIX shell: commands go as arguments, without sessions in standby.
    pub plain: bool,
}

impl ConnectionInfo {
    pub(super) fn of(facts: policy::Facts<Master>) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let master = facts.connection;
        ConnectionInfo {
            host: facts.key.to_string(),
            slot: facts.slot,
            pid: master.pid(),
            age_ms: ms(facts.age),
            idle_ms: facts.idle.map(ms),
            sessions: facts.sessions,
            standby: facts.standby,
            session_limit: facts.limit,
            echo_ms: master.last_echo().map(|echo| (echo.as_secs_f64() * 1e5).round() / 100.0),
            plain: master.is_plain(),
        }
    }
}
