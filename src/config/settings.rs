//! The pool's settings: one table has every name, variable and range, and whoever reads a value
//! asks that table.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::advice::advice;
use super::units::{
    LARGEST, LONGEST, format_millis, format_size, is_digits, parse_duration, parse_size,
};
use super::{ConfigError, quoted};

/// How a pool behaves.
///
/// Durations can be at most 8760 hours (a year of 365 days), so that a deadline can always be
/// worked out.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// Control masters per host (`name:port`), at most, over all users and keys. From 1 to 1000,
    /// default 5, `SSH_POOL_MAX_CONNECTIONS`.
    pub max_connections: usize,
    /// An unused connection is closed after this. From 1 ms, default 60 s,
    /// `SSH_POOL_IDLE_TIMEOUT_MS` in milliseconds.
    pub idle_timeout: Duration,
    /// For the whole of a connect, login included. From 1 ms, default 5 s,
    /// `SSH_POOL_CONNECTION_TIMEOUT_MS` in milliseconds.
    pub connect_timeout: Duration,
    /// Whether connections are probed periodically: idle ones up to the server's shell, used ones
    /// up to their control master. Default true, `SSH_POOL_HEALTH_CHECKS` (`true`, `false`, `1` or
    /// `0`).
    pub health_checks: bool,
    /// The time from one probe of an idle connection to the next. From 1 ms, default 30 s,
    /// `SSH_POOL_HEALTH_CHECK_INTERVAL_MS` in milliseconds.
    pub health_check_interval: Duration,
    /// Commands at once on one connection. From 1, which makes connections exclusive, to 1000;
    /// default 8, as sshd's `MaxSessions` is 10 unless it is set.
    /// `SSH_POOL_SESSIONS_PER_CONNECTION`.
    pub sessions_per_connection: usize,
    /// How long a caller queues when all connections are taken. 0 fails at once. Default 30 s,
    /// `SSH_POOL_ACQUIRE_TIMEOUT_MS` in milliseconds.
    pub acquire_timeout: Duration,
    /// Sessions kept open ahead of need, per host. From 0, which turns it off, to 1000; default 2,
    /// `SSH_POOL_STANDBY_SESSIONS`.
    pub standby_sessions: usize,
    /// The time that one command may take. From 1 ms, default 30 s, `SSH_POOL_COMMAND_TIMEOUT_MS`
    /// in milliseconds.
    pub command_timeout: Duration,
    /// Captured bytes of stdout, and of stderr, for one command. From 1 byte to 1 GiB, default 10
    /// MiB, `SSH_POOL_MAX_OUTPUT_BYTES` in bytes.
    pub max_output: usize,
    /// `connect_timeout` counts though the ssh_config's `ConnectTimeout` is longer. Set where a
    /// file or a variable sets `connect_timeout`, and without a meaning where that is not its
    /// default; default false.
    pub keep_connect_timeout: bool,
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
            keep_connect_timeout: false,
        }
    }
}

impl PoolConfig {
    /// Whether somebody has said how long a connect may take. Where nobody has, the
    /// `ConnectTimeout` of the ssh_config counts if it is longer.
    pub(crate) fn connect_timeout_is_set(&self) -> bool {
        self.keep_connect_timeout || self.connect_timeout != PoolConfig::default().connect_timeout
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
        for setting in &SETTINGS {
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
        // In the order of their names, so that of several mistakes it is always the same one that
        // is told.
        let variables: BTreeMap<_, _> =
            environment.into_iter().filter(|(name, _)| ours(name)).collect();
        let mut changed = self.clone();
        for (name, value) in &variables {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.variable == name) else {
                let known = SETTINGS.each_ref().map(|setting| setting.variable);
                let advice = advice(&name.to_string_lossy(), &known);
                return Err(ConfigError::new(format!(
                    "unknown environment variable {}: {advice}",
                    quoted(name)
                )));
            };
            changed.keep_connect_timeout |= setting.name == "connect_timeout";
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
        self.keep_connect_timeout |= setting.name == "connect_timeout";
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

/// What all our environment variables begin with, and none of anybody else.
const PREFIX: &str = "SSH_POOL_";

const YEAR: u64 = LONGEST.as_secs() * 1000;

pub(super) static SETTINGS: [Setting; 10] = [
    Setting {
        name: "max_connections",
        variable: "SSH_POOL_MAX_CONNECTIONS",
        range: 1..=1000,
        field: |config| Field::Count(&mut config.max_connections),
    },
    Setting {
        name: "idle_timeout",
        variable: "SSH_POOL_IDLE_TIMEOUT_MS",
        range: 1..=YEAR,
        field: |config| Field::Time(&mut config.idle_timeout),
    },
    Setting {
        name: "connect_timeout",
        variable: "SSH_POOL_CONNECTION_TIMEOUT_MS",
        range: 1..=YEAR,
        field: |config| Field::Time(&mut config.connect_timeout),
    },
    Setting {
        name: "health_checks",
        variable: "SSH_POOL_HEALTH_CHECKS",
        range: 0..=1,
        field: |config| Field::Flag(&mut config.health_checks),
    },
    Setting {
        name: "health_check_interval",
        variable: "SSH_POOL_HEALTH_CHECK_INTERVAL_MS",
        range: 1..=YEAR,
        field: |config| Field::Time(&mut config.health_check_interval),
    },
    Setting {
        name: "sessions_per_connection",
        variable: "SSH_POOL_SESSIONS_PER_CONNECTION",
        range: 1..=1000,
        field: |config| Field::Count(&mut config.sessions_per_connection),
    },
    Setting {
        name: "acquire_timeout",
        variable: "SSH_POOL_ACQUIRE_TIMEOUT_MS",
        range: 0..=YEAR,
        field: |config| Field::Time(&mut config.acquire_timeout),
    },
    Setting {
        name: "standby_sessions",
        variable: "SSH_POOL_STANDBY_SESSIONS",
        range: 0..=1000,
        field: |config| Field::Count(&mut config.standby_sessions),
    },
    Setting {
        name: "command_timeout",
        variable: "SSH_POOL_COMMAND_TIMEOUT_MS",
        range: 1..=YEAR,
        field: |config| Field::Time(&mut config.command_timeout),
    },
    Setting {
        name: "max_output",
        variable: "SSH_POOL_MAX_OUTPUT_BYTES",
        range: 1..=LARGEST as u64,
        field: |config| Field::Size(&mut config.max_output),
    },
];

impl Setting {
    fn allows(&self, field: &Field<'_>) -> bool {
        let (least, most) = (*self.range.start(), *self.range.end());
        match field {
            Field::Count(number) | Field::Size(number) => self.range.contains(&(**number as u64)),
            Field::Time(time) => {
                (Duration::from_millis(least)..=Duration::from_millis(most)).contains(*time)
            }
            Field::Flag(_) => true,
        }
    }

    /// What is allowed, as it has to be written in `source`.
    fn expected(&self, field: &Field<'_>, source: Source) -> String {
        let (least, most) = (*self.range.start(), *self.range.end());
        match (field, source) {
            (Field::Count(_), _) => format!("a whole number from {least} to {most}"),
            (Field::Time(_), Source::Variable) => {
                format!("whole milliseconds from {least} to {most}")
            }
            (Field::Time(_), Source::File) => {
                let (least, most) = (format_millis(least), format_millis(most));
                format!(
                    "a duration of one number and one unit, such as \"60s\", from {least} to {most}"
                )
            }
            (Field::Time(_), Source::Code) => {
                format!("a duration from {} to {}", format_millis(least), format_millis(most))
            }
            (Field::Size(_), Source::File) => {
                let (least, most) = (format_size(least), format_size(most));
                format!(
                    "a size such as \"10MiB\", or a whole number of bytes, from {least} to {most}"
                )
            }
            (Field::Size(_), _) => format!("a whole number of bytes from {least} to {most}"),
            (Field::Flag(_), Source::Variable) => "true, false, 1 or 0".to_owned(),
            (Field::Flag(_), _) => "true or false".to_owned(),
        }
    }
}

/// Where a value was found.
#[derive(Clone, Copy)]
enum Source {
    Variable,
    File,
    Code,
}

/// The place of one setting in a [`PoolConfig`], by its kind.
enum Field<'a> {
    Count(&'a mut usize),
    Time(&'a mut Duration),
    Size(&'a mut usize),
    Flag(&'a mut bool),
}

impl Field<'_> {
    /// Sets what an environment variable says; `None` when that is nothing of this kind.
    fn read_variable(&mut self, text: &str) -> Option<()> {
        match self {
            Field::Count(number) | Field::Size(number) => {
                **number = whole_number(text)?.try_into().ok()?
            }
            Field::Time(time) => **time = Duration::from_millis(whole_number(text)?),
            Field::Flag(flag) => {
                **flag = match text {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    _ => return None,
                }
            }
        }
        Some(())
    }

    /// Sets what a value of the TOML file says; `None` when that is nothing of this kind.
    fn read_toml(&mut self, value: &DeValue<'_>) -> Option<()> {
        match (self, value) {
            (Field::Count(number) | Field::Size(number), DeValue::Integer(integer)) => {
                **number = usize::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            }
            (Field::Size(size), DeValue::String(text)) => **size = parse_size(text).ok()?,
            (Field::Time(time), DeValue::String(text)) => **time = parse_duration(text).ok()?,
            (Field::Flag(flag), DeValue::Boolean(value)) => **flag = *value,
            _ => return None,
        }
        Some(())
    }

    fn text(&self) -> String {
        match self {
            Field::Count(number) | Field::Size(number) => number.to_string(),
            Field::Time(time) => format!("{time:?}"),
            Field::Flag(flag) => flag.to_string(),
        }
    }
}

fn whole_number(text: &str) -> Option<u64> {
    if is_digits(text) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    const MS: Duration = Duration::from_millis(1);

    fn with(name: &str, value: impl AsRef<OsStr>) -> Result<PoolConfig, ConfigError> {
        let mut config = PoolConfig::default();
        config.apply_variables([(name.into(), value.as_ref().to_owned())])?;
        Ok(config)
    }

    fn message(name: &str, value: impl AsRef<OsStr>) -> String {
        let message = with(name, value).expect_err("the value is not valid").to_string();
        assert!(!message.contains(char::is_control), "{message:?}");
        message
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let expected = PoolConfig {
            max_connections: 5,
            idle_timeout: Duration::from_millis(60_000),
            connect_timeout: Duration::from_millis(5_000),
            health_checks: true,
            health_check_interval: Duration::from_millis(30_000),
            sessions_per_connection: 8,
            acquire_timeout: Duration::from_millis(30_000),
            standby_sessions: 2,
            command_timeout: Duration::from_millis(30_000),
            max_output: 10_485_760,
            keep_connect_timeout: false,
        };
        assert_eq!(PoolConfig::default(), expected);
        assert_eq!(expected.validate(), Ok(()));
    }

    #[test]
    fn an_empty_environment_changes_nothing() {
        let mut config = PoolConfig { max_connections: 7, ..PoolConfig::default() };
        let before = config.clone();
        // What only looks like one of ours is somebody else's.
        let others =
            ["PATH", "SSHPOOL_X", "ssh_pool_max_connections", "X_SSH_POOL_MAX_CONNECTIONS"];
        assert_eq!(config.apply_variables(others.map(|name| (name.into(), "x".into()))), Ok(()));
        assert_eq!(config.apply_variables([]), Ok(()));
        assert_eq!(config, before);
    }

    #[rstest]
    #[case("SSH_POOL_MAX_CONNECTIONS", "1", |c: &mut PoolConfig| c.max_connections = 1)]
    #[case("SSH_POOL_MAX_CONNECTIONS", "1000", |c: &mut PoolConfig| c.max_connections = 1000)]
    #[case("SSH_POOL_IDLE_TIMEOUT_MS", "1", |c: &mut PoolConfig| c.idle_timeout = MS)]
    #[case("SSH_POOL_CONNECTION_TIMEOUT_MS", "2500", |c: &mut PoolConfig| (c.connect_timeout, c.keep_connect_timeout) = (2500 * MS, true))]
    #[case("SSH_POOL_HEALTH_CHECKS", "false", |c: &mut PoolConfig| c.health_checks = false)]
    #[case("SSH_POOL_HEALTH_CHECKS", "0", |c: &mut PoolConfig| c.health_checks = false)]
    #[case("SSH_POOL_HEALTH_CHECKS", "true", |c: &mut PoolConfig| c.health_checks = true)]
    #[case("SSH_POOL_HEALTH_CHECKS", "1", |c: &mut PoolConfig| c.health_checks = true)]
    #[case("SSH_POOL_HEALTH_CHECK_INTERVAL_MS", "7", |c: &mut PoolConfig| c.health_check_interval = 7 * MS)]
    #[case("SSH_POOL_SESSIONS_PER_CONNECTION", "1", |c: &mut PoolConfig| c.sessions_per_connection = 1)]
    #[case("SSH_POOL_ACQUIRE_TIMEOUT_MS", "0", |c: &mut PoolConfig| c.acquire_timeout = Duration::ZERO)]
    #[case("SSH_POOL_STANDBY_SESSIONS", "0", |c: &mut PoolConfig| c.standby_sessions = 0)]
    #[case("SSH_POOL_COMMAND_TIMEOUT_MS", "31536000000", |c: &mut PoolConfig| c.command_timeout = LONGEST)]
    #[case("SSH_POOL_MAX_OUTPUT_BYTES", "4096", |c: &mut PoolConfig| c.max_output = 4096)]
    fn every_variable(
        #[case] name: &str,
        #[case] value: &str,
        #[case] change: fn(&mut PoolConfig),
    ) {
        let mut expected = PoolConfig { health_checks: value == "false", ..PoolConfig::default() };
        change(&mut expected);
        let mut config = PoolConfig { health_checks: value == "false", ..PoolConfig::default() };
        let result = config.apply_variables([(name.into(), value.into())]);
        assert_eq!((result, config), (Ok(()), expected));
    }

    #[rstest]
    #[case("SSH_POOL_MAX_CONNECTIONS", "a whole number from 1 to 1000", &["0", "1001", "5s", "1_000"])]
    #[case("SSH_POOL_IDLE_TIMEOUT_MS", "whole milliseconds from 1 to 31536000000", &["0", "31536000001", "60s"])]
    #[case("SSH_POOL_CONNECTION_TIMEOUT_MS", "whole milliseconds from 1 to 31536000000", &["0", "5s"])]
    #[case("SSH_POOL_HEALTH_CHECKS", "true, false, 1 or 0", &["yes", "TRUE", "2", "on", "01"])]
    #[case("SSH_POOL_HEALTH_CHECK_INTERVAL_MS", "whole milliseconds from 1 to 31536000000", &["0", "30s"])]
    #[case("SSH_POOL_SESSIONS_PER_CONNECTION", "a whole number from 1 to 1000", &["0", "1001"])]
    #[case("SSH_POOL_ACQUIRE_TIMEOUT_MS", "whole milliseconds from 0 to 31536000000", &["31536000001", "never"])]
    #[case("SSH_POOL_STANDBY_SESSIONS", "a whole number from 0 to 1000", &["1001", "off"])]
    #[case("SSH_POOL_COMMAND_TIMEOUT_MS", "whole milliseconds from 1 to 31536000000", &["0", "30.5"])]
    #[case("SSH_POOL_MAX_OUTPUT_BYTES", "a whole number of bytes from 1 to 1073741824", &["0", "1073741825", "10MiB"])]
    fn every_bad_value(#[case] name: &str, #[case] expected: &str, #[case] values: &[&str]) {
        let never = [
            "",
            " ",
            "many",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1\n",
            "0x1",
            "1e2",
            "٣",
            "99999999999999999999999999",
        ];
        for value in values.iter().chain(&never) {
            let text =
                format!("environment variable {name}: {value:?} is not valid: expected {expected}");
            assert_eq!(message(name, value), text);
        }
    }

    #[rstest]
    #[case("SSH_POOL_MAX_CONNECTION", "did you mean \"SSH_POOL_MAX_CONNECTIONS\"?")]
    #[case("SSH_POOL_CONNECT_TIMEOUT_MS", "did you mean \"SSH_POOL_CONNECTION_TIMEOUT_MS\"?")]
    #[case("SSH_POOL_IDLE_TIMEOUT", "did you mean \"SSH_POOL_IDLE_TIMEOUT_MS\"?")]
    #[case(
        "SSH_POOL_",
        "expected one of SSH_POOL_MAX_CONNECTIONS, SSH_POOL_IDLE_TIMEOUT_MS, SSH_POOL_CONNECTION_TIMEOUT_MS, SSH_POOL_HEALTH_CHECKS, SSH_POOL_HEALTH_CHECK_INTERVAL_MS, SSH_POOL_SESSIONS_PER_CONNECTION, SSH_POOL_ACQUIRE_TIMEOUT_MS, SSH_POOL_STANDBY_SESSIONS, SSH_POOL_COMMAND_TIMEOUT_MS, SSH_POOL_MAX_OUTPUT_BYTES"
    )]
    fn an_unknown_variable_is_refused(#[case] name: &str, #[case] advice: &str) {
        // Whatever its value is: a good one would otherwise have no effect, without a word.
        for value in ["", "5", "many"] {
            assert_eq!(
                message(name, value),
                format!("unknown environment variable \"{name}\": {advice}")
            );
        }
    }

    #[test]
    fn of_several_bad_variables_the_first_by_name_is_told() {
        let mut variables = ["SSH_POOL_SIZE", "SSH_POOL_MAX_CONNECTIONS", "SSH_POOL_IDLE"]
            .map(|name| (name.into(), "x".into()));
        for _ in 0..2 {
            let result = PoolConfig::default().apply_variables(variables.clone());
            let message = result.expect_err("there are three").to_string();
            assert!(
                message.starts_with("unknown environment variable \"SSH_POOL_IDLE\": "),
                "{message}"
            );
            variables.reverse();
        }
    }

    #[test]
    fn a_variable_that_is_not_utf8_is_refused() {
        assert_eq!(
            message("SSH_POOL_MAX_CONNECTIONS", OsStr::from_bytes(b"5\xff")),
            "environment variable SSH_POOL_MAX_CONNECTIONS: \"5\\xFF\" is not valid: expected a whole number from 1 to 1000"
        );
    }

    #[test]
    fn a_long_value_is_cut() {
        let message = message("SSH_POOL_MAX_CONNECTIONS", "ä".repeat(100_000));
        assert!(message.len() < 400 && message.contains("ä…\" is not valid"), "{message}");
    }

    #[test]
    fn a_bad_variable_leaves_the_others_unapplied() {
        let mut config = PoolConfig::default();
        let result = config.apply_variables([
            ("SSH_POOL_MAX_CONNECTIONS".into(), "7".into()),
            ("SSH_POOL_MAX_OUTPUT_BYTES".into(), "lots".into()),
        ]);
        assert!(result.is_err());
        assert_eq!(config, PoolConfig::default());
    }

    #[rstest]
    #[case(|c: &mut PoolConfig| c.max_connections = 0, "max_connections: 0 is not valid: expected a whole number from 1 to 1000")]
    #[case(|c: &mut PoolConfig| c.max_connections = 1001, "max_connections: 1001 is not valid: expected a whole number from 1 to 1000")]
    #[case(|c: &mut PoolConfig| c.idle_timeout = Duration::ZERO, "idle_timeout: 0ns is not valid: expected a duration from 1ms to 8760h")]
    #[case(|c: &mut PoolConfig| c.connect_timeout = MS / 2, "connect_timeout: 500µs is not valid: expected a duration from 1ms to 8760h")]
    #[case(|c: &mut PoolConfig| c.health_check_interval = Duration::ZERO, "health_check_interval: 0ns is not valid: expected a duration from 1ms to 8760h")]
    #[case(|c: &mut PoolConfig| c.sessions_per_connection = 0, "sessions_per_connection: 0 is not valid: expected a whole number from 1 to 1000")]
    #[case(|c: &mut PoolConfig| c.acquire_timeout = Duration::MAX, "acquire_timeout: 18446744073709551615.999999999s is not valid: expected a duration from 0 to 8760h")]
    #[case(|c: &mut PoolConfig| c.standby_sessions = 1001, "standby_sessions: 1001 is not valid: expected a whole number from 0 to 1000")]
    #[case(|c: &mut PoolConfig| c.command_timeout = LONGEST + Duration::from_nanos(1), "command_timeout: 31536000.000000001s is not valid: expected a duration from 1ms to 8760h")]
    #[case(|c: &mut PoolConfig| c.max_output = 0, "max_output: 0 is not valid: expected a whole number of bytes from 1 to 1073741824")]
    fn validation(#[case] change: fn(&mut PoolConfig), #[case] expected: &str) {
        let mut config = PoolConfig::default();
        change(&mut config);
        assert_eq!(config.validate().expect_err("out of range").to_string(), expected);
    }

    #[test]
    fn the_bounds_themselves_are_valid() {
        let least = PoolConfig {
            max_connections: 1,
            idle_timeout: MS,
            connect_timeout: MS,
            health_checks: false,
            health_check_interval: MS,
            sessions_per_connection: 1,
            acquire_timeout: Duration::ZERO,
            standby_sessions: 0,
            command_timeout: MS,
            max_output: 1,
            keep_connect_timeout: true,
        };
        let most = PoolConfig {
            max_connections: 1000,
            idle_timeout: LONGEST,
            connect_timeout: LONGEST,
            health_checks: true,
            health_check_interval: LONGEST,
            sessions_per_connection: 1000,
            acquire_timeout: LONGEST,
            standby_sessions: 1000,
            command_timeout: LONGEST,
            max_output: LARGEST,
            keep_connect_timeout: true,
        };
        assert_eq!((least.validate(), most.validate()), (Ok(()), Ok(())));
    }

    #[test]
    fn every_setting_has_a_field_of_its_own() {
        let mut config = PoolConfig::default();
        let mut seen = std::collections::HashSet::new();
        for setting in &SETTINGS {
            let address = match (setting.field)(&mut config) {
                Field::Count(number) | Field::Size(number) => std::ptr::from_mut(number).addr(),
                Field::Time(time) => std::ptr::from_mut(time).addr(),
                Field::Flag(flag) => std::ptr::from_mut(flag).addr(),
            };
            assert!(seen.insert(address), "{}", setting.name);
        }
    }
}
