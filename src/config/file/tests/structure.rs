//! Keys that are not known, tables that are none, and text that is not TOML.

use rstest::rstest;

use super::message;

#[rstest]
#[case::typo(
    "[pool]\nmax_conections = 1",
    r#"config.toml:2: unknown key "max_conections" in [pool]: did you mean "max_connections"?"#
)]
#[case::pool(
    "\n\n[pool]\nsize = 1",
    "config.toml:4: unknown key \"size\" in [pool]: expected one of max_connections, idle_timeout, \
     connect_timeout, health_checks, health_check_interval, sessions_per_connection, \
     acquire_timeout, standby_sessions, session_reuse, session_max_age, \
     max_silence, share_jump_hosts, command_timeout, max_output"
)]
#[case::top(
    "max_connections = 1",
    "config.toml:1: unknown key \"max_connections\" at the top level: expected one of pool, \
     hosts, groups, agent"
)]
#[case::top_table(
    "[pool]\n[host.web1]",
    r#"config.toml:2: unknown key "host" at the top level: did you mean "hosts"?"#
)]
#[case::host(
    "[hosts.web1]\n\nHostName = 'x'",
    "config.toml:3: unknown key \"HostName\" in [hosts.web1]: expected one of address, port, \
     user, identity_file, ssh_config, forced_command, forward, options, docker"
)]
#[case::quoted_host(
    "[hosts.'web1.lan']\nx = 1",
    r#"config.toml:2: unknown key "x" in [hosts."web1.lan"]: "#
)]
#[case::empty("[pool]\n'' = 1", r#"config.toml:2: unknown key "" in [pool]: expected one of"#)]
#[case::control_characters(
    "[pool]\n\"a\\n\\u001b\" = 1",
    r#"config.toml:2: unknown key "a\n\u{1b}" in [pool]: expected one of"#
)]
#[case::first_in_the_file("[pool]\nzzz = 1\naaa = 1", r#"config.toml:2: unknown key "zzz""#)]
#[case::pool_is_no_table(
    "pool = 5",
    "config.toml:1: pool: 5 is not valid: expected a table, [pool]"
)]
#[case::hosts_is_no_table(
    "[[hosts]]\nname = 'web1'",
    "config.toml:1: hosts: an array is not valid: expected a table, [hosts]"
)]
#[case::host_is_no_table(
    "[hosts]\nweb1 = '192.0.2.7'",
    r#"config.toml:2: hosts.web1: "192.0.2.7" is not valid: expected a table, [hosts.web1]"#
)]
#[case::repeated_key(
    "[pool]\nmax_connections = 1\nmax_connections = 2",
    "config.toml:3: not valid TOML: duplicate key"
)]
#[case::repeated_table(
    "[hosts.web1]\n[pool]\n[hosts.web1]",
    "config.toml:3: not valid TOML: duplicate key"
)]
#[case::no_value("[pool]\nmax_connections =\n", "config.toml:2: not valid TOML: ")]
#[case::bare_text("[pool]\nidle_timeout = 60s\n", "config.toml:2: not valid TOML: ")]
#[case::unclosed_table("\n[pool\nmax_connections = 1", "config.toml:2: not valid TOML: ")]
#[case::unclosed_string(
    "[pool]\nidle_timeout = \"60s\nhealth_checks = true\n",
    "config.toml:2: not valid TOML: "
)]
#[case::sudo(
    "[sudo]\npassword = 'x'",
    "config.toml:2: unknown key \"password\" in [sudo]: expected one of password_command, reuse"
)]
#[case::sudo_reuse(
    "[sudo]\n\nreuse = 'yes'",
    "config.toml:3: sudo.reuse: \"yes\" is not valid: expected true or false"
)]
#[case::sudo_password_command(
    "[sudo]\npassword_command = 'pass'",
    "config.toml:2: sudo.password_command: \"pass\" is not valid: expected a program and its \
     arguments, such as "
)]
#[case::nul("[pool]\n\0", "config.toml:2: not valid TOML: ")]
fn bad_structure(#[case] text: &str, #[case] expected: &str) {
    let message = message(text);
    assert!(message.starts_with(expected), "{message}");
    let with_crlf = self::message(&text.replace('\n', "\r\n"));
    assert!(with_crlf.starts_with(expected), "{with_crlf}");
}

#[test]
fn what_is_said_of_sudo() {
    let read = |text: &str| super::read(text).expect("it is good").sudo;
    assert_eq!(read(""), crate::config::SudoConfig::default());
    let said = read("[sudo]\nreuse = true\npassword_command = ['pass', 'show', 'sudo']");
    assert!(said.reuse && !read("[sudo]\nreuse = false").reuse);
    assert_eq!(said.password_command.expect("it is said"), ["pass", "show", "sudo"]);
}
