//! Which values a host can have: nothing that ssh or a shell takes for something else.

use std::path::PathBuf;

use super::HostError;
use super::parse::URI;

/// Options that decide how a connection of the pool works. ssh takes the first value that it sees,
/// so they would have no effect or break the pool.
pub(super) const POOLS_OWN: &[&str] = &[
    "BatchMode",
    "ClearAllForwardings",
    "ControlMaster",
    "ControlPath",
    "ControlPersist",
    "ForkAfterAuthentication",
    "LocalCommand",
    "LogLevel",
    "PermitLocalCommand",
    "RemoteCommand",
    "RequestTTY",
    "SessionType",
    "StdinNull",
];

/// Options that have a setter of their own, which the pool has to know about.
pub(super) const HAS_SETTER: &[(&str, &str)] = &[
    ("HostName", "address"),
    ("IdentityFile", "identity_file"),
    ("Port", "port"),
    ("User", "user"),
];

/// The longest name of a host, in bytes: no resolver takes more (NI_MAXHOST).
const LONGEST_NAME: usize = 1024;
/// The longest user, in bytes. Bastions have whole targets and tokens in it.
const LONGEST_USER: usize = 4096;
/// What a shell takes for more than a letter, as ssh itself counts: it refuses these in the names
/// of its command line.
pub(super) const SHELL_TEXT: &str = "'`\"$\\;&<>|(){}";

pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), HostError> {
    let wrong = |reason: &str| Err(HostError::new(what, name, reason));
    if name.is_empty() {
        return wrong("it must not be empty");
    }
    if name.len() > LONGEST_NAME {
        return wrong(&format!("it is longer than {LONGEST_NAME} bytes"));
    }
    if name.starts_with('-') {
        return wrong("it must not start with \"-\"");
    }
    // ssh would read more than a name there.
    if name.starts_with(URI) {
        return wrong("it is a URI, and not a name");
    }
    let is_wrong =
        |c: char| c == '@' || c.is_ascii_whitespace() || SHELL_TEXT.contains(c) || unprintable(c);
    match name.chars().find(|&c| is_wrong(c)) {
        Some(c) => wrong(&format!(
            "it must not contain {c:?}; give the host a name without it, by Host and HostName in the ssh_config"
        )),
        None => Ok(()),
    }
}

pub(super) fn check_user(user: &str) -> Result<(), HostError> {
    let wrong = |reason: &str| Err(HostError::new("user", user, reason));
    const WAY_ROUND: &str = "a User in the ssh_config can have it";
    if user.is_empty() || user.len() > LONGEST_USER {
        return wrong(&format!("expected 1 to {LONGEST_USER} characters"));
    }
    if user.starts_with('-') {
        return wrong("it must not start with \"-\"");
    }
    if user.contains(" -") {
        return wrong(&format!("a \"-\" behind a blank begins an option; {WAY_ROUND}"));
    }
    // A shell takes `$` for a letter where no name and no bracket follows.
    let body = user.strip_suffix('$').unwrap_or(user);
    if body.ends_with('\\') {
        return wrong("it must not end with \"\\\": that stands between a domain and a user");
    }
    let is_wrong = |c: char| c != '\\' && SHELL_TEXT.contains(c) || unprintable(c);
    match body.chars().find(|&c| is_wrong(c)) {
        Some('$') => wrong(&format!("a \"$\" is its last character, or nowhere; {WAY_ROUND}")),
        Some(c) => wrong(&format!("it must not contain {c:?}; {WAY_ROUND}")),
        None => Ok(()),
    }
}

/// Whether it ends a line or does something to a terminal.
fn unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

pub(super) fn check_path(what: &'static str, path: PathBuf) -> Result<PathBuf, HostError> {
    let text = path.to_string_lossy();
    let reason = if text.is_empty() {
        "it must not be empty"
    } else if text.starts_with('-') {
        "it must not start with \"-\" (write \"./-…\")"
    } else if text.contains(char::is_control) {
        "it must not contain control characters"
    } else {
        return expand_home(what, path);
    };
    Err(HostError::new(what, &text, reason))
}

fn expand_home(what: &'static str, path: PathBuf) -> Result<PathBuf, HostError> {
    let Ok(rest) = path.strip_prefix("~") else {
        return Ok(path);
    };
    match std::env::home_dir().filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(rest)),
        None => Err(HostError::new(
            what,
            &path.to_string_lossy(),
            "there is no home directory for \"~\"",
        )),
    }
}
