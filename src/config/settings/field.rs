//! The value of one setting by its kind: how it is read from a variable and from the file, and what
//! is allowed.

use std::time::Duration;

use toml::de::DeValue;

use super::Setting;
use crate::config::SessionReuse;
use crate::config::units::{format_millis, format_size, is_digits, parse_duration, parse_size};

impl Setting {
    pub(super) fn allows(&self, field: &Field<'_>) -> bool {
        let (least, most) = (*self.range.start(), *self.range.end());
        match field {
            Field::Count(number) | Field::Size(number) => self.range.contains(&(**number as u64)),
            Field::Time(time) => {
                (Duration::from_millis(least)..=Duration::from_millis(most)).contains(*time)
            }
            Field::Flag(_) | Field::Reuse(_) => true,
        }
    }

    /// What is allowed, as it has to be written in `source`.
    pub(super) fn expected(&self, field: &Field<'_>, source: Source) -> String {
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
            (Field::Reuse(_), _) => SessionReuse::EXPECTED.to_owned(),
            (Field::Flag(_), Source::Variable) => "true, false, 1 or 0".to_owned(),
            (Field::Flag(_), _) => "true or false".to_owned(),
        }
    }
}

/// Where a value was found.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Variable,
    File,
    Code,
}

/// The place of one setting in a [`PoolConfig`], by its kind.
pub(super) enum Field<'a> {
    Count(&'a mut usize),
    Time(&'a mut Duration),
    Size(&'a mut usize),
    Flag(&'a mut bool),
    Reuse(&'a mut SessionReuse),
}

impl Field<'_> {
    /// Sets what an environment variable says; `None` when that is nothing of this kind.
    pub(super) fn read_variable(&mut self, text: &str) -> Option<()> {
        match self {
            Field::Count(number) | Field::Size(number) => {
                **number = whole_number(text)?.try_into().ok()?
            }
            Field::Time(time) => **time = Duration::from_millis(whole_number(text)?),
            Field::Reuse(reuse) => **reuse = text.parse().ok()?,
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
    pub(super) fn read_toml(&mut self, value: &DeValue<'_>) -> Option<()> {
        match (self, value) {
            (Field::Count(number) | Field::Size(number), DeValue::Integer(integer)) => {
                **number = usize::from_str_radix(integer.as_str(), integer.radix()).ok()?;
            }
            (Field::Size(size), DeValue::String(text)) => **size = parse_size(text).ok()?,
            (Field::Time(time), DeValue::String(text)) => **time = parse_duration(text).ok()?,
            (Field::Reuse(reuse), DeValue::String(text)) => **reuse = text.parse().ok()?,
            (Field::Flag(flag), DeValue::Boolean(value)) => **flag = *value,
            _ => return None,
        }
        Some(())
    }

    pub(super) fn text(&self) -> String {
        match self {
            Field::Count(number) | Field::Size(number) => number.to_string(),
            Field::Time(time) => format!("{time:?}"),
            Field::Flag(flag) => flag.to_string(),
            Field::Reuse(reuse) => reuse.to_string(),
        }
    }
}

fn whole_number(text: &str) -> Option<u64> {
    if is_digits(text) { text.parse().ok() } else { None }
}
