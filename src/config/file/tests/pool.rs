//! The `[pool]` table.

use std::time::Duration;

use rstest::rstest;

use super::{message, read};
use crate::config::PoolConfig;

#[test]
fn every_setting() {
    let text = r#"
        [pool]
        max_connections = 3
        idle_timeout = "5m"
        connect_timeout = "1.5s"
        health_checks = false
        health_check_interval = "1h"
        sessions_per_connection = 0x0A
        acquire_timeout = "0"
        standby_sessions = 0
        session_reuse = "off"
        session_max_age = "2m"
        max_silence = "0"
        share_jump_hosts = false
        command_timeout = "500ms"
        max_output = "64KiB"
    "#;
    let expected = PoolConfig {
        max_connections: 3,
        idle_timeout: Duration::from_secs(300),
        connect_timeout: Duration::from_millis(1500),
        health_checks: false,
        health_check_interval: Duration::from_secs(3600),
        sessions_per_connection: 10,
        acquire_timeout: Duration::ZERO,
        standby_sessions: 0,
        session_reuse: crate::config::SessionReuse::Off,
        session_max_age: Duration::from_secs(120),
        max_silence: Duration::ZERO,
        share_jump_hosts: false,
        command_timeout: Duration::from_millis(500),
        max_output: 65536,
        keep_connect_timeout: true,
    };
    assert_eq!(read(text).expect("valid").pool, expected);
}

#[test]
fn a_size_may_be_a_whole_number_of_bytes() {
    assert_eq!(read("pool.max_output = 1_000").expect("valid").pool.max_output, 1000);
}

#[rstest]
#[case(
    "max_connections",
    "a whole number from 1 to 1000",
    &["0", "1001", "-1", "\"many\"", "\"5\"", "5.0", "true"]
)]
#[case(
    "idle_timeout",
    "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h",
    &["60", "\"60\"", "\"0\"", "\"8761h\"", "\"\"", "false"]
)]
#[case(
    "connect_timeout",
    "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h",
    &["5", "5.5", "\"0s\""]
)]
#[case("health_checks", "true or false", &["1", "\"true\"", "\"yes\""])]
#[case(
    "health_check_interval",
    "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h",
    &["30", "\"0.5ms\""]
)]
#[case("sessions_per_connection", "a whole number from 1 to 1000", &["0", "1001"])]
#[case(
    "acquire_timeout",
    "a duration of one number and one unit, such as \"60s\", from 0 to 8760h",
    &["0", "\"-1s\"", "\"1d\""]
)]
#[case(
    "standby_sessions",
    "a whole number from 0 to 1000",
    &["1001", "99999999999999999999999999"]
)]
#[case("session_reuse", "off, exact or fast", &["\"on\"", "true", "\"Exact\""])]
#[case(
    "session_max_age",
    "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h",
    &["60", "\"0\"", "\"1d\""]
)]
#[case(
    "max_silence",
    "a duration of one number and one unit, such as \"60s\", from 0 to 8760h",
    &["5", "\"-1s\"", "false"]
)]
#[case(
    "command_timeout",
    "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h",
    &["30", "nan", "1979-05-27"]
)]
#[case(
    "max_output",
    "a size such as \"10MiB\", or a whole number of bytes, from 1B to 1GiB",
    &["0", "\"0\"", "1073741825", "\"2GiB\"", "\"10 MiB\"", "-5"]
)]
fn every_bad_value(#[case] key: &str, #[case] expected: &str, #[case] values: &[&str]) {
    for value in values {
        let text = format!("[pool] # one\n# two\n{key} = {value}\n");
        let line = format!("config.toml:3: pool.{key}: {value} is not valid: expected {expected}");
        assert_eq!(message(&text), line);
    }
    for (value, shown) in [
        ("[1]", "an array"),
        ("{ a = 1 }", "a table"),
        ("\"\"\"\na\\u0007\nb\"\"\"", r#""a\u{7}\nb""#),
    ] {
        let text = format!("[pool] # one\n# two\n{key} = {value}\n");
        let line = format!("config.toml:3: pool.{key}: {shown} is not valid: expected {expected}");
        assert_eq!(message(&text), line);
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let mut pool = read("[pool]\nmax_connections = 3\nstandby_sessions = 1").expect("valid").pool;
    let result = pool.apply_variables([("SSH_POOL_MAX_CONNECTIONS".into(), "7".into())]);
    let expected = PoolConfig { max_connections: 7, standby_sessions: 1, ..PoolConfig::default() };
    assert_eq!((result, pool), (Ok(()), expected));
}
