//! The pool's settings: one table has the name, default, range and variable of each, and whoever
//! reads a value asks that table. docs/architecture.md says what else
//! a new setting needs.

mod field;
#[macro_use]
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::advice::advice;
use super::reuse::SessionReuse;
use super::units::{LARGEST, LONGEST};
use super::{ConfigError, quoted};
use field::{Field, Source};

/// The longest duration, in milliseconds.
const YEAR: u64 = LONGEST.as_secs() * 1000;

/// What all our environment variables begin with, and none of anybody else.
const PREFIX: &str = "SSH_POOL_";

settings! {
    /// Control masters per host (`name:port`), at most, over all users and keys. From 1 to 1000,
    /// default 5.
    max_connections: usize = 5, Count(1..=1000), "SSH_POOL_MAX_CONNECTIONS";

    /// An unused connection is closed after this. From 1 ms, default 60 s.
    idle_timeout: Duration = Duration::from_secs(60), Time(1..=YEAR), "SSH_POOL_IDLE_TIMEOUT_MS";

    /// For the whole of a connect, login included. From 1 ms, default 5 s.
    connect_timeout: Duration = Duration::from_secs(5), Time(1..=YEAR),
        "SSH_POOL_CONNECTION_TIMEOUT_MS";

    /// Whether connections are probed periodically: idle ones up to the server's shell, used ones
    /// up to their control master. Default true. The variable takes `1` and `0`, too.
    health_checks: bool = true, Flag(0..=1), "SSH_POOL_HEALTH_CHECKS";

    /// The time from one probe of an idle connection to the next. From 1 ms, default 30 s.
    health_check_interval: Duration = Duration::from_secs(30), Time(1..=YEAR),
        "SSH_POOL_HEALTH_CHECK_INTERVAL_MS";

    /// Commands at once on one connection. From 1, which makes connections exclusive, to 1000;
    /// default 8, as sshd's `MaxSessions` is 10 unless it is set.
    sessions_per_connection: usize = 8, Count(1..=1000), "SSH_POOL_SESSIONS_PER_CONNECTION";

    /// How long a caller queues when all connections are taken. 0 fails at once. Default 30 s.
    acquire_timeout: Duration = Duration::from_secs(30), Time(0..=YEAR),
        "SSH_POOL_ACQUIRE_TIMEOUT_MS";

    /// Sessions kept open ahead of need, per host. From 0, which turns it off, to 1000; default 2.
    standby_sessions: usize = 2, Count(0..=1000), "SSH_POOL_STANDBY_SESSIONS";

    /// Whether a session may run one command after another: `off`, a session for each command;
    /// `exact`, where nothing tells it from plain ssh; or `fast`, for one caller alone, to whom
    /// what its own earlier commands have left running can show. Default `exact`.
    session_reuse: SessionReuse = SessionReuse::Exact, Reuse(0..=0), "SSH_POOL_SESSION_REUSE";

    /// How long a session is given commands after its start-up files were read, so that what they
    /// gain is seen. From 1 ms, default 60 s.
    session_max_age: Duration = Duration::from_secs(60), Time(1..=YEAR),
        "SSH_POOL_SESSION_MAX_AGE_MS";

    /// A connection of which nothing was heard for so long answers an echo before it gets a
    /// command, where a session waits there. From 0, which asks each time; default 5 s.
    max_silence: Duration = Duration::from_secs(5), Time(0..=YEAR), "SSH_POOL_MAX_SILENCE_MS";

    /// Whether a host behind a jump host (`ProxyJump`) is reached over a connection of the pool's
    /// to that one, which all hosts behind it share. Otherwise ssh logs in at the jump host for
    /// each of them. Default true. The variable takes `1` and `0`, too.
    share_jump_hosts: bool = true, Flag(0..=1), "SSH_POOL_SHARE_JUMP_HOSTS";

    /// The time that one command may take. From 1 ms, default 30 s.
    command_timeout: Duration = Duration::from_secs(30), Time(1..=YEAR),
        "SSH_POOL_COMMAND_TIMEOUT_MS";

    /// Captured bytes of stdout, and of stderr, for one command. From 1 byte to 1 GiB, default
    /// 10 MiB.
    max_output: usize = 10 << 20, Size(1..=LARGEST as u64), "SSH_POOL_MAX_OUTPUT_BYTES";
}

impl PoolConfig {
    /// Whether sessions run one command after another. Between two commands such a session waits:
    /// who wants none that does has them end with their commands.
    pub(crate) fn reuses_sessions(&self) -> bool {
        self.session_reuse != SessionReuse::Off && self.standby_sessions > 0
    }

    /// Whether the user has said how long a connect may take. If not, the `ConnectTimeout` of the
    /// ssh_config counts where it is longer.
    pub(crate) fn connect_timeout_is_set(&self) -> bool {
        self.keep_connect_timeout || self.connect_timeout != PoolConfig::default().connect_timeout
    }

    /// This setting was given a value, be it the default.
    fn is_set(&mut self, name: &str) {
        self.keep_connect_timeout |= name == "connect_timeout";
    }

    /// The defaults, changed by the environment variables that are set.
    ///
    /// # Errors
    ///
    /// As [`apply_env`](Self::apply_env).
    pub fn from_env() -> Result<PoolConfig, ConfigError> {
        let mut config = PoolConfig::default();
        config.apply_env()?;
        Ok(config)
    }

    /// Changes what the environment variables that are set say.
    ///
    /// # Errors
    ///
    /// For a variable whose value is not valid, an empty one included, and for one that begins with
    /// `SSH_POOL_` and is not known. Nothing is changed then.
    pub fn apply_env(&mut self) -> Result<(), ConfigError> {
        self.apply_variables(std::env::vars_os())
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    ///
    /// For the first value that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut values = self.clone();
        for setting in SETTINGS {
            let field = (setting.field)(&mut values);
            if !setting.allows(&field) {
                return Err(ConfigError::invalid(
                    setting.name,
                    &field.text(),
                    &setting.expected(&field, Source::Code),
                ));
            }
        }
        Ok(())
    }

    /// [`apply_env`](Self::apply_env) with the environment as an argument.
    pub(super) fn apply_variables(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        let ours = |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        // In the order of their names, so that the error always names the same one of several
        // mistakes.
        let variables: BTreeMap<_, _> =
            environment.into_iter().filter(|(name, _)| ours(name)).collect();
        let mut changed = self.clone();
        for (name, value) in &variables {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == name) else {
                let known = names(|setting| setting.variable);
                let advice = advice(&name.to_string_lossy(), &known);
                return Err(ConfigError::new(format!(
                    "unknown environment variable {}: {advice}",
                    quoted(name)
                )));
            };
            changed.is_set(setting.name);
            let mut field = (setting.field)(&mut changed);
            let read = value.to_str().and_then(|text| field.read_variable(text));
            if read.is_none() || !setting.allows(&field) {
                let place = format!("environment variable {}", setting.variable);
                return Err(ConfigError::invalid(
                    place,
                    &quoted(value),
                    &setting.expected(&field, Source::Variable),
                ));
            }
        }
        *self = changed;
        Ok(())
    }

    /// Sets what the file says for `setting`. `Err` is what is expected instead.
    pub(super) fn apply_toml(
        &mut self,
        setting: &Setting,
        value: &DeValue<'_>,
    ) -> Result<(), String> {
        self.is_set(setting.name);
        let mut field = (setting.field)(self);
        match field.read_toml(value) {
            Some(()) if setting.allows(&field) => Ok(()),
            _ => Err(setting.expected(&field, Source::File)),
        }
    }
}

/// One setting of the pool.
pub(super) struct Setting {
    /// Its name in code and its key in the file.
    pub(super) name: &'static str,
    pub(super) variable: &'static str,
    /// What is allowed, in the unit that the environment variable has (milliseconds, bytes). `true`
    /// and `false` have no range.
    range: RangeInclusive<u64>,
    field: for<'a> fn(&'a mut PoolConfig) -> Field<'a>,
}

/// One name of each setting, for advice on a name that is not known.
pub(super) fn names(name: impl Fn(&Setting) -> &'static str) -> Vec<&'static str> {
    SETTINGS.iter().map(name).collect()
}
