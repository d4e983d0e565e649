//! Whether a session may run one command after another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whether a session may run one command after another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionReuse {
    /// A session for each command.
    Off,
    /// A session runs one command after another where nothing tells it from plain ssh. Commands
    /// for which that cannot be had get a session of their own.
    #[default]
    Exact,
    /// The same, and faster where a server's shell is bash: what a command writes goes to the
    /// client without a way through another process. A session then serves one caller only, and
    /// what that caller's earlier commands have left running can be noticed in one case, which
    /// docs/reliability.md names.
    Fast,
}

impl SessionReuse {
    pub(super) const EXPECTED: &str = "off, exact or fast";
}

impl FromStr for SessionReuse {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(SessionReuse::Off),
            "exact" => Ok(SessionReuse::Exact),
            "fast" => Ok(SessionReuse::Fast),
            _ => Err(Self::EXPECTED),
        }
    }
}

/// As it is written in the file.
impl fmt::Display for SessionReuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionReuse::Off => "off",
            SessionReuse::Exact => "exact",
            SessionReuse::Fast => "fast",
        })
    }
}
