//! Stub.
#![allow(missing_docs)]
use std::time::Duration;
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    pub max_connections: usize,
    pub idle_timeout: Duration,
    pub connect_timeout: Duration,
    pub health_checks: bool,
    pub health_check_interval: Duration,
    pub sessions_per_connection: usize,
    pub acquire_timeout: Duration,
    pub standby_sessions: usize,
    pub command_timeout: Duration,
    pub max_output: usize,
}
impl Default for PoolConfig {
    fn default() -> Self {
        PoolConfig {
            max_connections: 5,
            idle_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            health_checks: true,
            health_check_interval: Duration::from_secs(30),
            sessions_per_connection: 8,
            acquire_timeout: Duration::from_secs(30),
            standby_sessions: 2,
            command_timeout: Duration::from_secs(30),
            max_output: 10 << 20,
        }
    }
}
impl PoolConfig {
    pub fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
    pub fn from_env() -> Result<Self, ConfigError> {
        Ok(Self::default())
    }
}
#[derive(Clone, Debug, thiserror::Error)]
#[error("x")]
pub struct ConfigError;
#[derive(Clone, Debug)]
pub struct Config {
    pub pool: PoolConfig,
}
