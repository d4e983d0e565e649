//! What the user may set, where it is read from, and what is allowed.
//!
//! This module owns the pool's settings ([`PoolConfig`]: names, defaults, ranges, environment
//! variables) and the TOML file ([`Config`]). It promises that nothing is guessed: a value that is
//! not valid, an unknown key or a file that cannot be read is a [`ConfigError`] of one line that
//! names the place, the value and what is allowed, and never falls back to a default. No input
//! makes it panic.
//!
//! The order of precedence is file, then environment, then what the program sets in code or by a
//! flag:
//!
//! ```no_run
//! use sshpool::config::Config;
//!
//! let mut config = Config::load("config.toml".as_ref())?;
//! config.pool.apply_env()?;
//! config.pool.max_connections = 2;
//! config.pool.validate()?; // `Pool::new` does this too
//! # Ok::<(), sshpool::ConfigError>(())
//! ```

mod advice;
mod docker;
mod file;
mod groups;
#[cfg(test)]
mod properties;
mod reuse;
mod settings;
mod units;

use std::collections::BTreeMap;

use crate::forward::ForwardSpec;
use crate::host::set::HostSet;
use crate::host::{Host, HostError};

pub use docker::DockerConfig;
pub use reuse::SessionReuse;
pub use settings::PoolConfig;
pub(crate) use units::LONGEST;
pub use units::{UnitError, parse_duration, parse_size};

/// What a configuration file says: the pool's settings, the hosts, and groups of hosts.
///
/// ```
/// use sshpool::Config;
///
/// let text = r#"
/// [pool]
/// idle_timeout = "5m"      # a duration with a unit: ms, s, m or h
/// max_output = "64KiB"     # a size, or a whole number of bytes
/// health_checks = false
///
/// [hosts.web1]             # a host without keys is just a name, which ssh_config may know
/// address = "192.0.2.7"
/// port = 2222
/// user = "deploy"
/// identity_file = "keys/deploy"
/// ssh_config = "~/.ssh/config.work"
///
/// [hosts.web1.options]     # further options of ssh_config(5)
/// Compression = true
/// ServerAliveInterval = 15
///
/// [hosts.web1.docker]      # how Docker's client is called there
/// program = ["sudo", "-n", "docker"]
///
/// [groups]                 # hosts, known here or not, with ranges; `@` names another group
/// web = "web[1-3],web7"
/// all = ["@web", "db1"]
/// "#;
/// let config = Config::from_toml(text, "config.toml".as_ref())?;
/// assert_eq!(config.hosts["web1"].name(), "web1");
/// assert_eq!(config.host_set("@all")?.to_string(), "db1,web[1-3,7]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A relative `identity_file` or `ssh_config` is relative to the directory of the configuration
/// file, `~/` is the user's home directory, and `none` is ssh's own word for no file. An option's
/// value may be a string, a whole number, or `true` and `false`, which ssh reads as `yes` and `no`.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The `[pool]` table. What it does not set has its default.
    pub pool: PoolConfig,
    /// The `[hosts.NAME]` tables, by name.
    pub hosts: BTreeMap<String, Host>,
    /// The `[[hosts.NAME.forward]]` tables, by name of the host: what the agent of the program
    /// forwards as long as it runs. A [`Pool`](crate::Pool) does not look at them.
    pub forwards: BTreeMap<String, Vec<ForwardSpec>>,
    /// The `[hosts.NAME.docker]` tables, by the names of their hosts. [`Config::docker`] has the
    /// default for the others.
    pub docker: BTreeMap<String, DockerConfig>,
    /// The `[groups]` table, by name. What a group names need not be one of `hosts`.
    pub groups: BTreeMap<String, HostSet>,
    /// The `[sudo]` table: how the program runs commands by sudo. The library has no use for it.
    pub sudo: SudoConfig,
    /// The `[agent]` table: how the program's agent behaves. The library has no use for it.
    pub agent: AgentConfig,
}

/// How the program runs commands by sudo.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SudoConfig {
    /// A program of this machine and its arguments, which prints the password. It runs once, when a
    /// command is to run by sudo and the user is not asked.
    pub password_command: Option<Vec<String>>,
    /// A shell of the other user is kept on a host for further commands of the same process
    /// ([`Sudo::reuse`](crate::Sudo::reuse)). Default false.
    pub reuse: bool,
}

/// How the agent of the program behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AgentConfig {
    /// The agent ends when there was no client and no connection for so long. From 1 ms, default 10
    /// min.
    pub idle_timeout: std::time::Duration,
}

impl Default for AgentConfig {
    fn default() -> Self {
        AgentConfig { idle_timeout: std::time::Duration::from_secs(600) }
    }
}

impl Config {
    /// How Docker's client is called on this host.
    pub fn docker(&self, host: &Host) -> DockerConfig {
        self.docker.get(host.name()).cloned().unwrap_or_default()
    }

    /// The host that is meant by `[user@]name[:port]`. Where the file has a host of that name, it
    /// is that one, with the user and the port that are said here put over its own.
    ///
    /// # Errors
    ///
    /// As [`Host`]'s `from_str`.
    pub fn host(&self, text: &str) -> Result<Host, HostError> {
        let said: Host = text.parse()?;
        let Some(host) = self.hosts.get(said.name()) else { return Ok(said) };
        let host = match said.get_user() {
            Some(user) => host.clone().user(user)?,
            None => host.clone(),
        };
        match said.get_port() {
            Some(port) => host.port(port),
            None => Ok(host),
        }
    }
}

/// A setting, a host or a file that is not acceptable: one line that says what, where, why and what
/// is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    message: String,
}

impl ConfigError {
    /// Keeps the promise of one line, whatever file names and values came into the message.
    fn new(message: impl AsRef<str>) -> Self {
        let mut line = String::new();
        for c in message.as_ref().chars() {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                line.extend(c.escape_debug());
            } else {
                line.push(c);
            }
        }
        ConfigError { message: line }
    }

    fn invalid(place: impl AsRef<str>, value: &str, expected: &str) -> Self {
        ConfigError::new(format!("{}: {value} is not valid: expected {expected}", place.as_ref()))
    }
}

/// A value as an error shows it: in quotes, escaped, and cut when it is long.
fn quoted(value: impl AsRef<std::ffi::OsStr>) -> String {
    const LONGEST: usize = 80;
    let text = format!("{:?}", value.as_ref());
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…\"", &text[..end]),
        None => text,
    }
}
