//! What one value of the file may be, and what is said of one that is something else.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Key, Reader, Value, line_of};
use crate::config::advice::advice;
use crate::config::{ConfigError, quoted};

impl Reader<'_> {
    pub(super) fn table<'t, 'i>(
        &self,
        place: &str,
        value: &'t Value<'i>,
    ) -> Result<&'t DeTable<'i>, ConfigError> {
        value
            .get_ref()
            .as_table()
            .ok_or_else(|| self.invalid(place, value, &format!("a table, [{place}]")))
    }

    pub(super) fn string<'t>(
        &self,
        place: &str,
        value: &'t Value<'_>,
    ) -> Result<&'t str, ConfigError> {
        value.get_ref().as_str().ok_or_else(|| self.invalid(place, value, "a string in quotes"))
    }

    pub(super) fn boolean(&self, place: &str, value: &Value<'_>) -> Result<bool, ConfigError> {
        value.get_ref().as_bool().ok_or_else(|| self.invalid(place, value, "true or false"))
    }

    pub(super) fn port(&self, place: &str, value: &Value<'_>) -> Result<u16, ConfigError> {
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
    pub(super) fn path(&self, place: &str, value: &Value<'_>) -> Result<PathBuf, ConfigError> {
        let text = self.string(place, value)?;
        let path = Path::new(text);
        if path.is_absolute() || path.starts_with("~") || matches!(text, "" | "none") {
            return Ok(path.to_owned());
        }
        // Absolute now, because the process may change its directory before the path is used.
        let origin = std::path::absolute(self.origin).unwrap_or_else(|_| self.origin.to_owned());
        Ok(origin.with_file_name(path))
    }

    pub(super) fn option_value<'t>(
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

    pub(in crate::config) fn error(
        &self,
        span: Range<usize>,
        message: impl AsRef<str>,
    ) -> ConfigError {
        let line = line_of(self.text.as_bytes(), span.start);
        ConfigError::new(format!("{}:{line}: {}", self.origin.display(), message.as_ref()))
    }

    pub(in crate::config) fn invalid(
        &self,
        place: &str,
        value: &Value<'_>,
        expected: &str,
    ) -> ConfigError {
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

    pub(super) fn unknown_key(&self, key: &Key<'_>, table: &str, known: &[&str]) -> ConfigError {
        let name = key.get_ref();
        let advice = advice(name, known);
        self.error(key.span(), format!("unknown key {} {table}: {advice}", quoted(name.as_ref())))
    }
}
