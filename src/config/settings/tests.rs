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
        session_reuse: SessionReuse::Exact,
        session_max_age: Duration::from_millis(60_000),
        max_silence: Duration::from_millis(5_000),
        share_jump_hosts: true,
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
    let others = ["PATH", "SSHPOOL_X", "ssh_pool_max_connections", "X_SSH_POOL_MAX_CONNECTIONS"];
    assert_eq!(config.apply_variables(others.map(|name| (name.into(), "x".into()))), Ok(()));
    assert_eq!(config.apply_variables([]), Ok(()));
    assert_eq!(config, before);
}

#[rstest]
#[case("SSH_POOL_MAX_CONNECTIONS", "1", |c: &mut PoolConfig| c.max_connections = 1)]
#[case("SSH_POOL_MAX_CONNECTIONS", "1000", |c: &mut PoolConfig| c.max_connections = 1000)]
#[case("SSH_POOL_IDLE_TIMEOUT_MS", "1", |c: &mut PoolConfig| c.idle_timeout = MS)]
#[case(
    "SSH_POOL_CONNECTION_TIMEOUT_MS",
    "2500",
    |c: &mut PoolConfig| (c.connect_timeout, c.keep_connect_timeout) = (2500 * MS, true)
)]
#[case("SSH_POOL_HEALTH_CHECKS", "false", |c: &mut PoolConfig| c.health_checks = false)]
#[case("SSH_POOL_HEALTH_CHECKS", "0", |c: &mut PoolConfig| c.health_checks = false)]
#[case("SSH_POOL_HEALTH_CHECKS", "true", |c: &mut PoolConfig| c.health_checks = true)]
#[case("SSH_POOL_HEALTH_CHECKS", "1", |c: &mut PoolConfig| c.health_checks = true)]
#[case(
    "SSH_POOL_HEALTH_CHECK_INTERVAL_MS",
    "7",
    |c: &mut PoolConfig| c.health_check_interval = 7 * MS
)]
#[case("SSH_POOL_SESSIONS_PER_CONNECTION", "1", |c: &mut PoolConfig| c.sessions_per_connection = 1)]
#[case("SSH_POOL_ACQUIRE_TIMEOUT_MS", "0", |c: &mut PoolConfig| c.acquire_timeout = Duration::ZERO)]
#[case("SSH_POOL_STANDBY_SESSIONS", "0", |c: &mut PoolConfig| c.standby_sessions = 0)]
#[case(
    "SSH_POOL_SESSION_REUSE",
    "exact",
    |c: &mut PoolConfig| c.session_reuse = SessionReuse::Exact
)]
#[case(
    "SSH_POOL_SESSION_REUSE",
    "fast",
    |c: &mut PoolConfig| c.session_reuse = SessionReuse::Fast
)]
#[case(
    "SSH_POOL_SESSION_MAX_AGE_MS",
    "1000",
    |c: &mut PoolConfig| c.session_max_age = 1000 * MS
)]
#[case("SSH_POOL_SHARE_JUMP_HOSTS", "0", |c: &mut PoolConfig| c.share_jump_hosts = false)]
#[case("SSH_POOL_MAX_SILENCE_MS", "0", |c: &mut PoolConfig| c.max_silence = Duration::ZERO)]
#[case(
    "SSH_POOL_COMMAND_TIMEOUT_MS",
    "31536000000",
    |c: &mut PoolConfig| c.command_timeout = LONGEST
)]
#[case("SSH_POOL_MAX_OUTPUT_BYTES", "4096", |c: &mut PoolConfig| c.max_output = 4096)]
fn every_variable(#[case] name: &str, #[case] value: &str, #[case] change: fn(&mut PoolConfig)) {
    let mut expected = PoolConfig { health_checks: value == "false", ..PoolConfig::default() };
    change(&mut expected);
    let mut config = PoolConfig { health_checks: value == "false", ..PoolConfig::default() };
    let result = config.apply_variables([(name.into(), value.into())]);
    assert_eq!((result, config), (Ok(()), expected));
}

#[rstest]
#[case("SSH_POOL_MAX_CONNECTIONS", "a whole number from 1 to 1000", &["0", "1001", "5s", "1_000"])]
#[case(
    "SSH_POOL_IDLE_TIMEOUT_MS",
    "whole milliseconds from 1 to 31536000000",
    &["0", "31536000001", "60s"]
)]
#[case("SSH_POOL_CONNECTION_TIMEOUT_MS", "whole milliseconds from 1 to 31536000000", &["0", "5s"])]
#[case("SSH_POOL_HEALTH_CHECKS", "true, false, 1 or 0", &["yes", "TRUE", "2", "on", "01"])]
#[case(
    "SSH_POOL_HEALTH_CHECK_INTERVAL_MS",
    "whole milliseconds from 1 to 31536000000",
    &["0", "30s"]
)]
#[case("SSH_POOL_SESSIONS_PER_CONNECTION", "a whole number from 1 to 1000", &["0", "1001"])]
#[case(
    "SSH_POOL_ACQUIRE_TIMEOUT_MS",
    "whole milliseconds from 0 to 31536000000",
    &["31536000001", "never"]
)]
#[case("SSH_POOL_STANDBY_SESSIONS", "a whole number from 0 to 1000", &["1001", "off"])]
#[case("SSH_POOL_SESSION_MAX_AGE_MS", "whole milliseconds from 1 to 31536000000", &["0", "1m"])]
#[case("SSH_POOL_MAX_SILENCE_MS", "whole milliseconds from 0 to 31536000000", &["5s", "off"])]
#[case("SSH_POOL_COMMAND_TIMEOUT_MS", "whole milliseconds from 1 to 31536000000", &["0", "30.5"])]
#[case(
    "SSH_POOL_MAX_OUTPUT_BYTES",
    "a whole number of bytes from 1 to 1073741824",
    &["0", "1073741825", "10MiB"]
)]
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
    "expected one of SSH_POOL_MAX_CONNECTIONS, SSH_POOL_IDLE_TIMEOUT_MS, \
        SSH_POOL_CONNECTION_TIMEOUT_MS, SSH_POOL_HEALTH_CHECKS, SSH_POOL_HEALTH_CHECK_INTERVAL_MS, \
        SSH_POOL_SESSIONS_PER_CONNECTION, SSH_POOL_ACQUIRE_TIMEOUT_MS, SSH_POOL_STANDBY_SESSIONS, \
        SSH_POOL_SESSION_REUSE, SSH_POOL_SESSION_MAX_AGE_MS, SSH_POOL_MAX_SILENCE_MS, \
        SSH_POOL_SHARE_JUMP_HOSTS, SSH_POOL_COMMAND_TIMEOUT_MS, SSH_POOL_MAX_OUTPUT_BYTES"
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
        "environment variable SSH_POOL_MAX_CONNECTIONS: \"5\\xFF\" is not valid: expected a whole \
            number from 1 to 1000"
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
#[case(
    |c: &mut PoolConfig| c.max_connections = 0,
    "max_connections: 0 is not valid: expected a whole number from 1 to 1000"
)]
#[case(
    |c: &mut PoolConfig| c.max_connections = 1001,
    "max_connections: 1001 is not valid: expected a whole number from 1 to 1000"
)]
#[case(
    |c: &mut PoolConfig| c.idle_timeout = Duration::ZERO,
    "idle_timeout: 0ns is not valid: expected a duration from 1ms to 8760h"
)]
#[case(
    |c: &mut PoolConfig| c.connect_timeout = MS / 2,
    "connect_timeout: 500µs is not valid: expected a duration from 1ms to 8760h"
)]
#[case(
    |c: &mut PoolConfig| c.health_check_interval = Duration::ZERO,
    "health_check_interval: 0ns is not valid: expected a duration from 1ms to 8760h"
)]
#[case(
    |c: &mut PoolConfig| c.sessions_per_connection = 0,
    "sessions_per_connection: 0 is not valid: expected a whole number from 1 to 1000"
)]
#[case(
    |c: &mut PoolConfig| c.acquire_timeout = Duration::MAX,
    "acquire_timeout: 18446744073709551615.999999999s is not valid: expected a duration from 0 to \
        8760h"
)]
#[case(
    |c: &mut PoolConfig| c.standby_sessions = 1001,
    "standby_sessions: 1001 is not valid: expected a whole number from 0 to 1000"
)]
#[case(
    |c: &mut PoolConfig| c.session_max_age = Duration::ZERO,
    "session_max_age: 0ns is not valid: expected a duration from 1ms to 8760h"
)]
#[case(
    |c: &mut PoolConfig| c.max_silence = LONGEST + MS,
    "max_silence: 31536000.001s is not valid: expected a duration from 0 to 8760h"
)]
#[case(
    |c: &mut PoolConfig| c.command_timeout = LONGEST + Duration::from_nanos(1),
    "command_timeout: 31536000.000000001s is not valid: expected a duration from 1ms to 8760h"
)]
#[case(
    |c: &mut PoolConfig| c.max_output = 0,
    "max_output: 0 is not valid: expected a whole number of bytes from 1 to 1073741824"
)]
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
        session_reuse: SessionReuse::Off,
        session_max_age: MS,
        max_silence: Duration::ZERO,
        share_jump_hosts: false,
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
        session_reuse: SessionReuse::Exact,
        session_max_age: LONGEST,
        max_silence: LONGEST,
        share_jump_hosts: true,
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
    for setting in SETTINGS {
        let address = match (setting.field)(&mut config) {
            Field::Count(number) | Field::Size(number) => std::ptr::from_mut(number).addr(),
            Field::Time(time) => std::ptr::from_mut(time).addr(),
            Field::Flag(flag) => std::ptr::from_mut(flag).addr(),
            Field::Reuse(reuse) => std::ptr::from_mut(reuse).addr(),
        };
        assert!(seen.insert(address), "{}", setting.name);
    }
}
