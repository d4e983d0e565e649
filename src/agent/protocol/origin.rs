//! Where a request comes from: the place and the settings of its client.

use std::ffi::OsStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::place::PlaceSpec;
use crate::config::{PoolConfig, SessionReuse};
use crate::host::place::{Given, Place};

/// What every request that concerns a host can say beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Where the client stands.
    pub place: Option<PlaceSpec>,
    /// The settings of the pool.
    pub settings: Option<Settings>,
    /// The client's `SSH_AUTH_SOCK`, for a login that the request causes; empty for none, the
    /// agent's own when it is left out.
    pub auth_sock: Option<String>,
}

impl Origin {
    /// The place that the request is answered in: the client's, or the agent's own. `Err` says in
    /// one line what is wrong with it.
    pub(crate) fn place(self) -> Result<Place, String> {
        let mut place = match self.place {
            Some(place) => place.place()?,
            None => Place {
                directory: Some("/".into()),
                given: Some(Given { whole: true, ..Given::default() }),
                ..Place::default()
            },
        };
        if let (Some(path), Some(given)) = (self.auth_sock, &mut place.given) {
            if !path.is_empty() && (!path.starts_with('/') || path.contains('\0')) {
                return Err("auth_sock: expected an absolute path, or \"\" for none".to_owned());
            }
            given.variables.remove(OsStr::new("SSH_AUTH_SOCK"));
            if !path.is_empty() {
                given.variables.insert("SSH_AUTH_SOCK".into(), path.into());
            }
        }
        Ok(place)
    }
}

/// The settings of a pool, but for those that each command has by itself. What is left out is as
/// the agent was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_checks: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check_interval_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_per_connection: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquire_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standby_sessions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_reuse: Option<SessionReuse>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_max_age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_silence_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    share_jump_hosts: Option<bool>,
    /// Whether `connect_timeout_ms` counts though the ssh_config's `ConnectTimeout` is longer: so
    /// it does where it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_connect_timeout: Option<bool>,
}

impl From<&PoolConfig> for Settings {
    fn from(config: &PoolConfig) -> Self {
        let ms = |time: Duration| Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Settings {
            max_connections: Some(config.max_connections),
            idle_timeout_ms: ms(config.idle_timeout),
            connect_timeout_ms: ms(config.connect_timeout),
            health_checks: Some(config.health_checks),
            health_check_interval_ms: ms(config.health_check_interval),
            sessions_per_connection: Some(config.sessions_per_connection),
            acquire_timeout_ms: ms(config.acquire_timeout),
            standby_sessions: Some(config.standby_sessions),
            session_reuse: Some(config.session_reuse),
            session_max_age_ms: ms(config.session_max_age),
            max_silence_ms: ms(config.max_silence),
            share_jump_hosts: Some(config.share_jump_hosts),
            keep_connect_timeout: Some(config.keep_connect_timeout),
        }
    }
}

impl Settings {
    /// These settings, and the others' where there are none.
    pub(crate) fn over(&self, default: &PoolConfig) -> PoolConfig {
        let time = |ms: Option<u64>, default: Duration| ms.map_or(default, Duration::from_millis);
        PoolConfig {
            max_connections: self.max_connections.unwrap_or(default.max_connections),
            idle_timeout: time(self.idle_timeout_ms, default.idle_timeout),
            connect_timeout: time(self.connect_timeout_ms, default.connect_timeout),
            health_checks: self.health_checks.unwrap_or(default.health_checks),
            health_check_interval: time(
                self.health_check_interval_ms,
                default.health_check_interval,
            ),
            sessions_per_connection: self
                .sessions_per_connection
                .unwrap_or(default.sessions_per_connection),
            acquire_timeout: time(self.acquire_timeout_ms, default.acquire_timeout),
            standby_sessions: self.standby_sessions.unwrap_or(default.standby_sessions),
            session_reuse: self.session_reuse.unwrap_or(default.session_reuse),
            session_max_age: time(self.session_max_age_ms, default.session_max_age),
            max_silence: time(self.max_silence_ms, default.max_silence),
            share_jump_hosts: self.share_jump_hosts.unwrap_or(default.share_jump_hosts),
            keep_connect_timeout: self
                .keep_connect_timeout
                .unwrap_or(self.connect_timeout_ms.is_some() || default.keep_connect_timeout),
            command_timeout: default.command_timeout,
            max_output: default.max_output,
        }
    }
}
