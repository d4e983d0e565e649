//! Reading the TOML file. Values are taken from the parsed document with their places, so that
//! every error has its line.

mod docker;
mod forward;
#[cfg(test)]
mod tests;
mod values;

use std::fs;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::settings::{SETTINGS, names};
use super::units::{LONGEST, parse_duration};
use super::{AgentConfig, Config, ConfigError, DockerConfig, PoolConfig, SudoConfig, quoted};
use crate::forward::ForwardSpec;
use crate::host::{Host, HostError};

pub(super) type Key<'i> = Spanned<DeString<'i>>;
pub(super) type Value<'i> = Spanned<DeValue<'i>>;

const TABLES: [&str; 5] = ["pool", "hosts", "groups", "agent", "sudo"];
const HOST_KEYS: [&str; 9] = [
    "address",
    "port",
    "user",
    "identity_file",
    "ssh_config",
    "forced_command",
    "forward",
    "options",
    "docker",
];

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
                "sudo" => config.sudo = reader.sudo(reader.table("sudo", value)?)?,
                "hosts" => {
                    for (name, value) in in_file_order(reader.table("hosts", value)?) {
                        let Said { host, docker, forwards } = reader.host(name, value)?;
                        let name = name.get_ref().to_string();
                        config.docker.extend(docker.map(|docker| (name.clone(), docker)));
                        if !forwards.is_empty() {
                            config.forwards.insert(name.clone(), forwards);
                        }
                        config.hosts.insert(name, host);
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
/// What a `[hosts.NAME]` table says.
struct Said {
    host: Host,
    docker: Option<DockerConfig>,
    forwards: Vec<ForwardSpec>,
}

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
                return Err(self.unknown_key(key, "in [pool]", &names(|setting| setting.name)));
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

    fn sudo(&self, table: &DeTable<'_>) -> Result<SudoConfig, ConfigError> {
        let mut sudo = SudoConfig::default();
        for (key, value) in in_file_order(table) {
            match key.get_ref().as_ref() {
                "password_command" => {}
                "reuse" => {
                    let reuse = value.get_ref().as_bool();
                    sudo.reuse =
                        reuse.ok_or_else(|| self.invalid("sudo.reuse", value, "true or false"))?;
                    continue;
                }
                _ => {
                    return Err(self.unknown_key(key, "in [sudo]", &["password_command", "reuse"]));
                }
            }
            let words = value.get_ref().as_array().and_then(|words| {
                words.iter().map(|word| word.get_ref().as_str().map(str::to_owned)).collect()
            });
            let words =
                words.filter(|words: &Vec<String>| words.first().is_some_and(|w| !w.is_empty()));
            if words.is_none() {
                let expected =
                    "a program and its arguments, such as [\"pass\", \"show\", \"sudo\"]";
                return Err(self.invalid("sudo.password_command", value, expected));
            }
            sudo.password_command = words;
        }
        Ok(sudo)
    }

    fn host(&self, name: &Key<'_>, value: &Value<'_>) -> Result<Said, ConfigError> {
        let mut forwards = Vec::new();
        let place = format!("hosts.{}", written_key(name.get_ref()));
        let refused =
            |span: Range<usize>, error: HostError| self.error(span, format!("{place}: {error}"));

        let table = self.table(&place, value)?;
        let mut host =
            Host::new(name.get_ref().as_ref()).map_err(|error| refused(name.span(), error))?;
        let mut docker = None;
        for (key, value) in in_file_order(table) {
            let place = format!("{place}.{}", written_key(key.get_ref()));
            let changed = match key.get_ref().as_ref() {
                "address" => host.address(self.string(&place, value)?),
                "port" => host.port(self.port(&place, value)?),
                "user" => host.user(self.string(&place, value)?),
                "identity_file" => host.identity_file(self.path(&place, value)?),
                "ssh_config" => host.config_file(self.path(&place, value)?),
                "forced_command" => Ok(host.forced_command(self.boolean(&place, value)?)),
                "forward" => {
                    forwards = self.forwards(&place, value)?;
                    Ok(host)
                }
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
                "docker" => {
                    docker = Some(self.docker(&place, value)?);
                    Ok(host)
                }
                _ => {
                    let table = format!("in [hosts.{}]", written_key(name.get_ref()));
                    return Err(self.unknown_key(key, &table, &HOST_KEYS));
                }
            };
            host = changed.map_err(|error| refused(value.span(), error))?;
        }
        Ok(Said { host, docker, forwards })
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
