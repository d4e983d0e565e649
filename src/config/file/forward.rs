//! The tables `[[hosts.NAME.forward]]`.

use super::{Reader, Value, in_file_order};
use crate::config::ConfigError;
use crate::forward::{Direction, ForwardSpec};

impl Reader<'_> {
    pub(super) fn forwards(
        &self,
        place: &str,
        value: &Value<'_>,
    ) -> Result<Vec<ForwardSpec>, ConfigError> {
        const KEYS: [&str; 3] = ["local", "remote", "dynamic"];
        let tables = value.get_ref().as_array();
        let expected = format!("tables, each a [[{place}]]");
        let tables = tables.ok_or_else(|| self.invalid(place, value, &expected))?;
        let mut forwards = Vec::new();
        for table in tables {
            for (key, value) in in_file_order(self.table(place, table)?) {
                let direction = match key.get_ref().as_ref() {
                    "local" => Direction::Local,
                    "remote" => Direction::Remote,
                    "dynamic" => Direction::Dynamic,
                    _ => return Err(self.unknown_key(key, &format!("in [[{place}]]"), &KEYS)),
                };
                let text = self.string(&format!("{place}.{}", key.get_ref()), value)?;
                let forward = ForwardSpec::parse(direction, text);
                forwards.push(
                    forward
                        .map_err(|error| self.error(value.span(), format!("{place}: {error}")))?,
                );
            }
        }
        Ok(forwards)
    }
}
