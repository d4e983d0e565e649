//! The table `[hosts.NAME.docker]`.

use toml::de::DeValue;

use super::{Key, Reader, Value, in_file_order, written_key};
use crate::config::{ConfigError, DockerConfig};

const KEYS: [&str; 4] = ["program", "host", "context", "path"];

impl Reader<'_> {
    pub(super) fn docker(
        &self,
        place: &str,
        value: &Value<'_>,
    ) -> Result<DockerConfig, ConfigError> {
        let mut docker = DockerConfig::new();
        let mut daemon: Option<&Key<'_>> = None;
        for (key, value) in in_file_order(self.table(place, value)?) {
            let name = key.get_ref().as_ref();
            let of_key = format!("{place}.{}", written_key(name));
            let said = match name {
                "program" => docker.program(self.words(&of_key, value)?),
                "path" => {
                    let directories = self.words(&of_key, value)?;
                    docker.path(directories.iter().flat_map(|text| text.split(':')))
                }
                "host" | "context" => {
                    if let Some(other) = daemon.replace(key) {
                        let text = format!(
                            "{place}: {} and {name} exclude each other: leave one of them out",
                            other.get_ref()
                        );
                        return Err(self.error(key.span(), text));
                    }
                    let text = self.string(&of_key, value)?;
                    if name == "host" { docker.host(text) } else { docker.context(text) }
                }
                _ => return Err(self.unknown_key(key, &format!("in [{place}]"), &KEYS)),
            };
            // The error begins with the key, without the host.
            docker = said.map_err(|error| {
                let text = error.to_string();
                let text = text.strip_prefix("docker").unwrap_or(&text);
                self.error(value.span(), format!("{place}{text}"))
            })?;
        }
        Ok(docker)
    }

    /// A string, or a list of strings. A string is one word: one with blanks may have been meant as
    /// several.
    fn words<'t>(&self, place: &str, value: &'t Value<'_>) -> Result<Vec<&'t str>, ConfigError> {
        const WORDS: &str =
            "a string without blanks, or a list of strings, such as [\"sudo\", \"-n\", \"docker\"]";
        let wrong = || self.invalid(place, value, WORDS);
        match value.get_ref() {
            DeValue::String(text) if !text.contains(char::is_whitespace) => Ok(vec![text.as_ref()]),
            DeValue::Array(items) => {
                items.iter().map(|item| item.get_ref().as_str().ok_or_else(wrong)).collect()
            }
            _ => Err(wrong()),
        }
    }
}
