//! What several subcommands take as arguments.

use std::ffi::{OsStr, OsString};

use clap::Args;

use super::failure::Failure;
use crate::host::shortened;

/// Where to.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// [user@]HOST[:port], where HOST is a name from the [hosts] of the TOML file, an alias of the
    /// ssh_config, or a name or address
    #[arg(value_name = "HOST")]
    pub(super) host: String,
}

/// The words of a command, joined by blanks as ssh does.
pub(super) fn joined(words: &[OsString]) -> OsString {
    words.join(OsStr::new(" "))
}

/// A word that has to be text.
pub(super) fn text_of<'a>(what: &str, word: &'a OsStr) -> Result<&'a str, Failure> {
    let shown = || shortened(&format!("{word:?}"));
    word.to_str()
        .ok_or_else(|| Failure::Usage(format!("{} is not UTF-8, as {what} has to be", shown())))
}
