//! Reading the TOML file. Values are taken from the parsed document with their places, so that
//! every error has its line.

use std::borrow::Cow;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::advice::advice;
use super::settings::SETTINGS;
use super::units::{LONGEST, parse_duration};
use super::{AgentConfig, Config, ConfigError, PoolConfig, quoted};
use crate::host::{Host, HostError};

pub(super) type Key<'i> = Spanned<DeString<'i>>;
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

const TABLES: [&str; 4] = ["pool", "hosts", "groups", "agent"];
const HOST_KEYS: [&str; 6] = ["address", "port", "user", "identity_file", "ssh_config", "options"];

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, and as [`Config::from_toml`].
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let bytes = fs::read(path).map_err(|error| {
            ConfigError::new(format!(
                "cannot read {}: {}",
                path.display(),
                crate::text::plain(&error)
            ))
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let line = line_of(&bytes, error.valid_up_to());
            ConfigError::new(format!(
                "{}:{line}: not UTF-8: save the file as UTF-8 text",
                path.display()
            ))
        })?;
        Config::from_toml(text, path)
    }

    /// Reads the text of a file. `origin` is that file's path: errors begin with it, and its
    /// directory is what relative paths in the text are relative to.
    ///
    /// # Errors
    ///
    /// For text that is not TOML, an unknown or repeated key, and a value or a host that is not
    /// valid: the first in the file.
    pub fn from_toml(text: &str, origin: &Path) -> Result<Config, ConfigError> {
        let reader = Reader { text, origin };
        let document = DeTable::parse(text).map_err(|error| {
            // An error without a place is none that the parser is known to make; the first line is
            // then as good as any.
            reader.error(
                error.span().unwrap_or_default(),
                format!("not valid TOML: {}", one_line(error.message())),
            )
        })?;
        let mut config = Config::default();
        for (key, value) in in_file_order(document.get_ref()) {
            match key.get_ref().as_ref() {
                "pool" => config.pool = reader.pool(reader.table("pool", value)?)?,
                "agent" => config.agent = reader.agent(reader.table("agent", value)?)?,
                "hosts" => {
                    for (name, value) in in_file_order(reader.table("hosts", value)?) {
                        config.hosts.insert(name.get_ref().to_string(), reader.host(name, value)?);
                    }
                }
                "groups" => config.groups = reader.groups(reader.table("groups", value)?)?,
                _ => return Err(reader.unknown_key(key, "at the top level", &TABLES)),
            }
        }
        Ok(config)
    }
}

/// The text and where it came from.
pub(super) struct Reader<'a> {
    text: &'a str,
    origin: &'a Path,
}

impl Reader<'_> {
    fn pool(&self, table: &DeTable<'_>) -> Result<PoolConfig, ConfigError> {
        let mut pool = PoolConfig::default();
        for (key, value) in in_file_order(table) {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key.get_ref())
            else {
                return Err(self.unknown_key(
                    key,
                    "in [pool]",
                    &SETTINGS.each_ref().map(|setting| setting.name),
                ));
            };
            pool.apply_toml(setting, value.get_ref()).map_err(|expected| {
                self.invalid(&format!("pool.{}", setting.name), value, &expected)
            })?;
        }
        Ok(pool)
    }

    fn agent(&self, table: &DeTable<'_>) -> Result<AgentConfig, ConfigError> {
        let mut agent = AgentConfig::default();
        for (key, value) in in_file_order(table) {
            if key.get_ref() != "idle_timeout" {
                return Err(self.unknown_key(key, "in [agent]", &["idle_timeout"]));
            }
            let time = value.get_ref().as_str().and_then(|text| parse_duration(text).ok());
            agent.idle_timeout =
                time.filter(|time| !time.is_zero() && *time <= LONGEST).ok_or_else(|| {
                    self.invalid(
                        "agent.idle_timeout",
                        value,
                        "a duration of one number and one unit, such as \"10m\", from 1ms to 8760h",
                    )
                })?;
        }
        Ok(agent)
    }

    fn host(&self, name: &Key<'_>, value: &Value<'_>) -> Result<Host, ConfigError> {
        let place = format!("hosts.{}", written_key(name.get_ref()));
        let refused =
            |span: Range<usize>, error: HostError| self.error(span, format!("{place}: {error}"));

        let table = self.table(&place, value)?;
        let mut host =
            Host::new(name.get_ref().as_ref()).map_err(|error| refused(name.span(), error))?;
        for (key, value) in in_file_order(table) {
            let place = format!("{place}.{}", written_key(key.get_ref()));
            let changed = match key.get_ref().as_ref() {
                "address" => host.address(self.string(&place, value)?),
                "port" => host.port(self.port(&place, value)?),
                "user" => host.user(self.string(&place, value)?),
                "identity_file" => host.identity_file(self.path(&place, value)?),
                "ssh_config" => host.config_file(self.path(&place, value)?),
                "options" => {
                    for (key, value) in in_file_order(self.table(&place, value)?) {
                        let place = format!("{place}.{}", written_key(key.get_ref()));
                        let text = self.option_value(&place, value)?;
                        host = host
                            .option(key.get_ref().as_ref(), text)
                            .map_err(|error| refused(key.span(), error))?;
                    }
                    Ok(host)
                }
                _ => {
                    let table = format!("in [hosts.{}]", written_key(name.get_ref()));
                    return Err(self.unknown_key(key, &table, &HOST_KEYS));
                }
            };
            host = changed.map_err(|error| refused(value.span(), error))?;
        }
        Ok(host)
    }

    // ---- values ----

    fn table<'t, 'i>(
        &self,
        place: &str,
        value: &'t Value<'i>,
    ) -> Result<&'t DeTable<'i>, ConfigError> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.invalid(place, value, &format!("a table, [{place}]")))
    }

    fn string<'t>(&self, place: &str, value: &'t Value<'_>) -> Result<&'t str, ConfigError> {
        value.get_ref().as_str().ok_or_else(|| self.invalid(place, value, "a string in quotes"))
    }

    fn port(&self, place: &str, value: &Value<'_>) -> Result<u16, ConfigError> {
        let port = match value.get_ref() {
            DeValue::Integer(integer) => {
                u16::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            _ => None,
        };
        port.filter(|port| *port != 0)
            .ok_or_else(|| self.invalid(place, value, "a whole number from 1 to 65535"))
    }

    /// Makes a relative path begin in the file's directory. The home directory, ssh's `none` and
    /// the empty path are [`Host`]'s affair.
    fn path(&self, place: &str, value: &Value<'_>) -> Result<PathBuf, ConfigError> {
        let text = self.string(place, value)?;
        let path = Path::new(text);
        if path.is_absolute() || path.starts_with("~") || matches!(text, "" | "none") {
            return Ok(path.to_owned());
        }
        // Absolute now, because the process may change its directory before the path is used.
        let origin = std::path::absolute(self.origin).unwrap_or_else(|_| self.origin.to_owned());
        Ok(origin.with_file_name(path))
    }

    fn option_value<'t>(
        &self,
        place: &str,
        value: &'t Value<'_>,
    ) -> Result<Cow<'t, str>, ConfigError> {
        match value.get_ref() {
            DeValue::String(text) => Ok(Cow::Borrowed(text.as_ref())),
            DeValue::Boolean(true) => Ok(Cow::Borrowed("yes")),
            DeValue::Boolean(false) => Ok(Cow::Borrowed("no")),
            DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
                .map(|number| Cow::Owned(number.to_string()))
                .map_err(|_| self.invalid(place, value, "a whole number of 64 bits")),
            _ => Err(self.invalid(place, value, "a string, a whole number, true or false")),
        }
    }

    // ---- errors ----

    pub(super) fn error(&self, span: Range<usize>, message: impl AsRef<str>) -> ConfigError {
        let line = line_of(self.text.as_bytes(), span.start);
        ConfigError::new(format!("{}:{line}: {}", self.origin.display(), message.as_ref()))
    }

    pub(super) fn invalid(&self, place: &str, value: &Value<'_>, expected: &str) -> ConfigError {
        let shown = match value.get_ref() {
            DeValue::String(text) => quoted(text.as_ref()),
            DeValue::Integer(integer) => integer.to_string(),
            DeValue::Float(float) => float.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.error(value.span(), format!("{place}: {shown} is not valid: expected {expected}"))
    }

    fn unknown_key(&self, key: &Key<'_>, table: &str, known: &[&str]) -> ConfigError {
        let name = key.get_ref();
        let advice = advice(name, known);
        self.error(key.span(), format!("unknown key {} {table}: {advice}", quoted(name.as_ref())))
    }
}

/// Errors should name the first mistake in the file, and a table iterates by key.
pub(super) fn in_file_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<(&'t Key<'i>, &'t Value<'i>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

/// The line, counted from 1, of the byte at `index`.
fn line_of(text: &[u8], index: usize) -> usize {
    let before = text.get(..index).unwrap_or(text);
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

/// A key as the file has it: in quotes only where it needs them.
pub(super) fn written_key(key: &str) -> String {
    let bare = !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare { key.to_owned() } else { quoted(key) }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::from_toml(text, Path::new("config.toml"))
    }

    fn message(text: &str) -> String {
        let message = read(text).expect_err("the file is not valid").to_string();
        assert!(!message.contains(char::is_control), "{message:?}");
        message
    }

    #[rstest]
    #[case::nothing("")]
    #[case::comment("# nothing\n")]
    #[case::byte_order_mark("\u{feff}[pool]\n")]
    #[case::empty_tables("[pool]\n[hosts]\n")]
    fn an_empty_file_gives_the_defaults(#[case] text: &str) {
        let config = read(text).expect("valid");
        assert_eq!(config.pool, PoolConfig::default());
        assert!(config.hosts.is_empty());
    }

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
    #[case("max_connections", "a whole number from 1 to 1000", &["0", "1001", "-1", "\"many\"", "\"5\"", "5.0", "true"])]
    #[case("idle_timeout", "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h", &["60", "\"60\"", "\"0\"", "\"8761h\"", "\"\"", "false"])]
    #[case("connect_timeout", "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h", &["5", "5.5", "\"0s\""])]
    #[case("health_checks", "true or false", &["1", "\"true\"", "\"yes\""])]
    #[case("health_check_interval", "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h", &["30", "\"0.5ms\""])]
    #[case("sessions_per_connection", "a whole number from 1 to 1000", &["0", "1001"])]
    #[case("acquire_timeout", "a duration of one number and one unit, such as \"60s\", from 0 to 8760h", &["0", "\"-1s\"", "\"1d\""])]
    #[case("standby_sessions", "a whole number from 0 to 1000", &["1001", "99999999999999999999999999"])]
    #[case("command_timeout", "a duration of one number and one unit, such as \"60s\", from 1ms to 8760h", &["30", "nan", "1979-05-27"])]
    #[case("max_output", "a size such as \"10MiB\", or a whole number of bytes, from 1B to 1GiB", &["0", "\"0\"", "1073741825", "\"2GiB\"", "\"10 MiB\"", "-5"])]
    fn every_bad_value(#[case] key: &str, #[case] expected: &str, #[case] values: &[&str]) {
        for value in values {
            let text = format!("[pool] # one\n# two\n{key} = {value}\n");
            let line =
                format!("config.toml:3: pool.{key}: {value} is not valid: expected {expected}");
            assert_eq!(message(&text), line);
        }
        for (value, shown) in [
            ("[1]", "an array"),
            ("{ a = 1 }", "a table"),
            ("\"\"\"\na\\u0007\nb\"\"\"", r#""a\u{7}\nb""#),
        ] {
            let text = format!("[pool] # one\n# two\n{key} = {value}\n");
            let line =
                format!("config.toml:3: pool.{key}: {shown} is not valid: expected {expected}");
            assert_eq!(message(&text), line);
        }
    }

    #[rstest]
    #[case::typo(
        "[pool]\nmax_conections = 1",
        r#"config.toml:2: unknown key "max_conections" in [pool]: did you mean "max_connections"?"#
    )]
    #[case::pool("\n\n[pool]\nsize = 1", r#"config.toml:4: unknown key "size" in [pool]: expected one of max_connections, idle_timeout, connect_timeout, health_checks, health_check_interval, sessions_per_connection, acquire_timeout, standby_sessions, command_timeout, max_output"#)]
    #[case::top(
        "max_connections = 1",
        r#"config.toml:1: unknown key "max_connections" at the top level: expected one of pool, hosts, groups, agent"#
    )]
    #[case::top_table(
        "[pool]\n[host.web1]",
        r#"config.toml:2: unknown key "host" at the top level: did you mean "hosts"?"#
    )]
    #[case::host("[hosts.web1]\n\nHostName = 'x'", r#"config.toml:3: unknown key "HostName" in [hosts.web1]: expected one of address, port, user, identity_file, ssh_config, options"#)]
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
    #[case::nul("[pool]\n\0", "config.toml:2: not valid TOML: ")]
    fn bad_structure(#[case] text: &str, #[case] expected: &str) {
        let message = message(text);
        assert!(message.starts_with(expected), "{message}");
        let with_crlf = self::message(&text.replace('\n', "\r\n"));
        assert!(with_crlf.starts_with(expected), "{with_crlf}");
    }

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
        let config =
            Config::from_toml(&text, Path::new("/etc/sshpool/config.toml")).expect("valid");
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
    #[case::options_text("[hosts.web1]\noptions = 'Compression yes'", r#"config.toml:2: hosts.web1.options: "Compression yes" is not valid: expected a table, [hosts.web1.options]"#)]
    #[case::option_array(
        "[hosts.web1.options]\nSendEnv = ['A', 'B']",
        "config.toml:2: hosts.web1.options.SendEnv: an array is not valid: expected a string, a whole number, true or false"
    )]
    #[case::option_float(
        "[hosts.web1.options]\nX = 1.5",
        "config.toml:2: hosts.web1.options.X: 1.5 is not valid: expected a string, a whole number, true or false"
    )]
    #[case::option_large(
        "[hosts.web1.options]\nX = 99999999999999999999",
        "config.toml:2: hosts.web1.options.X: 99999999999999999999 is not valid: expected a whole number of 64 bits"
    )]
    fn bad_hosts(#[case] text: &str, #[case] expected: &str) {
        let message = message(text);
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let mut pool =
            read("[pool]\nmax_connections = 3\nstandby_sessions = 1").expect("valid").pool;
        let result = pool.apply_variables([("SSH_POOL_MAX_CONNECTIONS".into(), "7".into())]);
        let expected =
            PoolConfig { max_connections: 7, standby_sessions: 1, ..PoolConfig::default() };
        assert_eq!((result, pool), (Ok(()), expected));
    }

    #[test]
    fn loading() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("config.toml");
        let load = |content: &[u8]| {
            fs::write(&path, content).expect("written");
            Config::load(&path)
        };
        let shown = path.display();

        let config = load(b"[hosts.web1]\nidentity_file = 'key'").expect("valid");
        assert_eq!(
            config.hosts["web1"].get_identity_file(),
            Some(directory.path().join("key").as_path())
        );
        let error = load(b"[pool]\nx = 1").expect_err("unknown key").to_string();
        assert!(error.starts_with(&format!("{shown}:2: unknown key \"x\" in [pool]: ")), "{error}");
        let error = load(b"[pool]\n# \xff").expect_err("not UTF-8").to_string();
        assert_eq!(error, format!("{shown}:2: not UTF-8: save the file as UTF-8 text"));
    }

    #[rstest]
    #[case::missing(
        "no-such-directory/config.toml",
        "cannot read no-such-directory/config.toml: No such file or directory"
    )]
    #[case::directory("/", "cannot read /: Is a directory")]
    #[case::control_characters(
        "no\nsuch\u{1b}",
        "cannot read no\\nsuch\\u{1b}: No such file or directory"
    )]
    fn a_file_that_cannot_be_read(#[case] path: &str, #[case] expected: &str) {
        assert_eq!(Config::load(Path::new(path)).expect_err("unreadable").to_string(), expected);
    }

    #[test]
    fn b10_a_mark_and_the_line_ends_of_windows_say_nothing() {
        let text =
            "\u{feff}[hosts.\"a+b\"]  \r\nport = 2222\t\r\n[groups]\r\nall = 'a+b,x^y[1-2]'\r\n";
        let config = read(text).expect("valid");
        assert_eq!(config.host("a+b").expect("a host").get_port(), Some(2222));
        assert_eq!(config.host_set("@all").expect("a group").to_string(), "a+b,x^y[1-2]");
        let message = message("\u{feff}[pool]\r\nx = 1\r\n");
        assert!(message.starts_with("config.toml:2: unknown key \"x\""), "{message}");
    }

    /// A good file, damaged at every place in many ways: no panic, and every error is one line with
    /// a place.
    #[test]
    fn damaged_files_never_panic() {
        let good = "[pool]\nidle_timeout = \"1.5s\"\nmax_output = 0x10\n[hosts.'ä']\nport = 22\noptions = { A = true, B = [1] }\n";
        let damages = ["\0", "\n", "\"", "'''", "[", "}", ".", "=", "-", "9", "é", "\\u"];
        for index in (0..=good.len()).filter(|&index| good.is_char_boundary(index)) {
            let (before, after) = good.split_at(index);
            let rest: String = after.chars().skip(1).collect();
            let damaged = damages.map(|damage| format!("{before}{damage}{rest}"));
            for text in damaged.into_iter().chain([before.to_owned(), after.to_owned()]) {
                if let Err(error) = read(&text) {
                    let error = error.to_string();
                    assert!(
                        error.starts_with("config.toml:") && !error.contains(char::is_control),
                        "{error:?}"
                    );
                }
            }
        }
        let deep = format!("a = {}", "[".repeat(100_000));
        assert!(message(&deep).starts_with("config.toml:1: not valid TOML: "));
    }
}
