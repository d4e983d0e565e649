//! The `[hosts.NAME]` tables.

use std::path::Path;

use rstest::rstest;

use super::{message, read};
use crate::config::{Config, DockerConfig};
use crate::host::Host;

#[test]
fn hosts() {
    let text = r#"
        [hosts."web1.example.org"]
        address = "192.0.2.7"
        port = 2222
        user = "deploy"
        identity_file = "/keys/deploy"
        ssh_config = "/etc/ssh/other"

        [hosts.web1.options]
        ProxyJump = "bastion"
        Compression = true
        TCPKeepAlive = false
        ServerAliveInterval = 15
        NumberOfPasswordPrompts = -0

        [hosts.db]
    "#;
    let hosts = read(text).expect("valid").hosts;
    assert_eq!(hosts.keys().collect::<Vec<_>>(), ["db", "web1", "web1.example.org"]);

    let host = &hosts["web1.example.org"];
    assert_eq!(host.name(), "web1.example.org");
    assert_eq!(
        (host.get_address(), host.get_port(), host.get_user()),
        (Some("192.0.2.7"), Some(2222), Some("deploy"))
    );
    assert_eq!(host.get_identity_file(), Some(Path::new("/keys/deploy")));
    assert_eq!(host.get_config_file(), Some(Path::new("/etc/ssh/other")));

    let expected = [
        ("ProxyJump", "bastion"),
        ("Compression", "yes"),
        ("TCPKeepAlive", "no"),
        ("ServerAliveInterval", "15"),
        ("NumberOfPasswordPrompts", "0"),
    ];
    assert_eq!(hosts["web1"].get_options().collect::<Vec<_>>(), expected);
    assert_eq!(hosts["db"], Host::new("db").expect("valid"));
}

#[rstest]
#[case::absolute("/keys/a", "/keys/a")]
#[case::beside_the_file("a", "/etc/sshpool/a")]
#[case::below_the_file("keys/a", "/etc/sshpool/keys/a")]
#[case::above_the_file("../a", "/etc/sshpool/../a")]
#[case::like_an_option("-a", "/etc/sshpool/-a")]
#[case::no_home("~a/b", "/etc/sshpool/~a/b")]
#[case::none("none", "none")]
fn paths_begin_in_the_directory_of_the_file(#[case] written: &str, #[case] expected: &str) {
    let text = format!("[hosts.web1]\nidentity_file = '{written}'\nssh_config = '{written}'");
    let config = Config::from_toml(&text, Path::new("/etc/sshpool/config.toml")).expect("valid");
    let host = &config.hosts["web1"];
    assert_eq!(host.get_identity_file(), Some(Path::new(expected)));
    assert_eq!(host.get_config_file(), Some(Path::new(expected)));
}

#[test]
fn a_path_beside_a_relative_file_is_absolute() {
    let config = read("hosts.web1.identity_file = 'key'").expect("valid");
    let expected = std::env::current_dir().expect("there is one").join("key");
    assert_eq!(config.hosts["web1"].get_identity_file(), Some(expected.as_path()));
}

#[test]
fn the_home_directory_is_expanded() {
    let config = read("hosts.web1.identity_file = '~/key'").expect("valid");
    let expected = std::env::home_dir().expect("there is one").join("key");
    assert_eq!(config.hosts["web1"].get_identity_file(), Some(expected.as_path()));
}

#[rstest]
#[case::user(
    "[hosts.web1]\nport = 22\nuser = 'a;b'",
    r#"config.toml:3: hosts.web1: invalid user "a;b": "#
)]
#[case::address(
    "[hosts.web1]\naddress = '-oProxyCommand=x'",
    r#"config.toml:2: hosts.web1: invalid address "-oProxyCommand=x": "#
)]
#[case::name("[pool]\n[hosts.-x]", r#"config.toml:2: hosts.-x: invalid host name "-x": "#)]
#[case::name_first(
    "[hosts.'a b']\nport = 0",
    r#"config.toml:1: hosts."a b": invalid host name "a b": "#
)]
#[case::empty_name("[hosts.'']", r#"config.toml:1: hosts."": invalid host name "": "#)]
#[case::dotted_name(
    "[hosts.web1.example]\nport = 22",
    r#"config.toml:1: unknown key "example" in [hosts.web1]: "#
)]
#[case::identity_file(
    "[hosts.web1]\nidentity_file = ''",
    r#"config.toml:2: hosts.web1: invalid identity file "": "#
)]
#[case::ssh_config(
    "[hosts.web1]\nssh_config = ''",
    r#"config.toml:2: hosts.web1: invalid ssh_config file "": "#
)]
#[case::option(
    "[hosts.web1.options]\nCompression = true\nControlPath = 'x'",
    r#"config.toml:3: hosts.web1: invalid ssh option "ControlPath": "#
)]
#[case::option_name(
    "[hosts.web1]\noptions = { 'a b' = 1 }",
    r#"config.toml:2: hosts.web1: invalid ssh option "a b": "#
)]
#[case::port_zero(
    "[hosts.web1]\nport = 0",
    "config.toml:2: hosts.web1.port: 0 is not valid: expected a whole number from 1 to 65535"
)]
#[case::port_large(
    "[hosts.web1]\nport = 65536",
    "config.toml:2: hosts.web1.port: 65536 is not valid: expected a whole number from 1 to 65535"
)]
#[case::port_text(
    "[hosts.web1]\nport = '22'",
    r#"config.toml:2: hosts.web1.port: "22" is not valid: expected a whole number from 1 to 65535"#
)]
#[case::user_number(
    "[hosts.web1]\nuser = 5",
    "config.toml:2: hosts.web1.user: 5 is not valid: expected a string in quotes"
)]
#[case::path_number(
    "[hosts.web1]\nssh_config = false",
    "config.toml:2: hosts.web1.ssh_config: false is not valid: expected a string in quotes"
)]
#[case::options_text(
    "[hosts.web1]\noptions = 'Compression yes'",
    "config.toml:2: hosts.web1.options: \"Compression yes\" is not valid: expected a table, \
     [hosts.web1.options]"
)]
#[case::option_array(
    "[hosts.web1.options]\nSendEnv = ['A', 'B']",
    "config.toml:2: hosts.web1.options.SendEnv: an array is not valid: expected a string, a whole \
        number, true or false"
)]
#[case::option_float(
    "[hosts.web1.options]\nX = 1.5",
    "config.toml:2: hosts.web1.options.X: 1.5 is not valid: expected a string, a whole number, \
        true or false"
)]
#[case::option_large(
    "[hosts.web1.options]\nX = 99999999999999999999",
    "config.toml:2: hosts.web1.options.X: 99999999999999999999 is not valid: expected a whole \
        number of 64 bits"
)]
fn bad_hosts(#[case] text: &str, #[case] expected: &str) {
    let message = message(text);
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn g2_how_docker_is_called_is_a_table_of_the_host() {
    let text = "[hosts.web1.docker]\nprogram = ['sudo', '-n', 'docker']\n\
        path = '/snap/bin:~/bin'\n[hosts.web2]\ndocker = { program = 'podman', host = 'unix:///a' }\n\
        [hosts.web3]\n";
    let config = Config::from_toml(text, "config.toml".as_ref()).expect("it is right");
    let docker = |name: &str| config.docker(&config.hosts[name]);
    assert_eq!(docker("web1").get_program().collect::<Vec<_>>(), ["sudo", "-n", "docker"]);
    assert_eq!(docker("web1").get_path().collect::<Vec<_>>(), ["/snap/bin", "~/bin"]);
    assert_eq!(docker("web2").get_program().collect::<Vec<_>>(), ["podman"]);
    assert_eq!(docker("web2").get_host(), Some("unix:///a"));
    assert_eq!(docker("web3"), DockerConfig::new());
}

#[rstest]
#[case::key(
    "[hosts.web1.docker]\nprogramm = 'a'",
    "config.toml:2: unknown key \"programm\" in [hosts.web1.docker]: did you mean \"program\"?"
)]
#[case::no_table(
    "[hosts.web1]\ndocker = 'podman'",
    "config.toml:2: hosts.web1.docker: \"podman\" is not valid: expected a table, \
     [hosts.web1.docker]"
)]
#[case::words_in_one(
    "[hosts.web1.docker]\nprogram = 'sudo docker'",
    "config.toml:2: hosts.web1.docker.program: \"sudo docker\" is not valid: expected a string \
     without blanks, or a list of strings"
)]
#[case::option(
    "[hosts.web1.docker]\nprogram = '-H'",
    "config.toml:2: hosts.web1.docker.program: \"-H\" is not valid: expected a program first"
)]
#[case::host(
    "[hosts.web1.docker]\nhost = 'localhost'",
    "config.toml:2: hosts.web1.docker.host: \"localhost\" is not valid: expected SCHEME://"
)]
#[case::context(
    "[hosts.web1.docker]\ncontext = 'a b'",
    "config.toml:2: hosts.web1.docker.context: \"a b\" is not valid: expected letters"
)]
#[case::path(
    "[hosts.web1.docker]\npath = ['/a', 'bin']",
    "config.toml:2: hosts.web1.docker.path: \"bin\" is not valid: expected directories"
)]
#[case::number(
    "[hosts.web1.docker]\nprogram = ['a', 1]",
    "config.toml:2: hosts.web1.docker.program: an array is not valid: expected a string"
)]
#[case::both(
    "[hosts.web1.docker]\nhost = 'unix:///a'\ncontext = 'a'",
    "config.toml:3: hosts.web1.docker: host and context exclude each other: leave one of them out"
)]
fn bad_tables_of_docker(#[case] text: &str, #[case] expected: &str) {
    let message = message(text);
    assert!(message.starts_with(expected), "{message}");
}
