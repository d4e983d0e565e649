//! The text of a command, and the form in which a session reads it.

use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

/// A command for the remote shell. It may contain secrets: there is no `Debug`.
pub(crate) struct Script {
    text: OsString,
    is_subsystem: bool,
    /// As the mechanism writes it to a session. One that is tried again is encoded once.
    encoded: OnceLock<String>,
}

impl Script {
    pub(crate) fn new(text: impl Into<OsString>) -> Self {
        Script { text: text.into(), is_subsystem: false, encoded: OnceLock::new() }
    }

    /// The same, where the text can be the name of a subsystem.
    pub(crate) fn of(text: OsString, is_subsystem: bool) -> Self {
        Script { is_subsystem, ..Script::new(text) }
    }

    /// The text is the name of a subsystem of the server's.
    pub(crate) fn is_subsystem(&self) -> bool {
        self.is_subsystem
    }

    pub(crate) fn text(&self) -> &OsStr {
        &self.text
    }

    /// What `encode` makes of the text. A script belongs to one mechanism, which has one encoding.
    pub(crate) fn encoded(&self, encode: impl FnOnce(&OsStr) -> String) -> &str {
        self.encoded.get_or_init(|| encode(&self.text))
    }
}
