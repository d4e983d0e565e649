//! What of a caller's place counts for a login, by the configuration.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::host::Host;
use crate::host::place::{Environment, Needs, Place};
use crate::openssh::config::{self, Reading};

/// Gives a process this environment, and the agent's, which is small and has nothing of a caller.
pub(in crate::openssh) fn set_environment(
    command: &mut tokio::process::Command,
    environment: &Environment,
) {
    // Start empty: variables that this process was given are not for another.
    command.env_clear();
    command.envs(std::env::vars_os().filter(|(name, _)| !environment.contains_key(name)));
    command.envs(environment);
}

/// Those of the variables that are mentioned that are set in this place.
pub(super) fn mentioned_and_set(host: &Host, place: &Place, reading: &Reading) -> Environment {
    let mut needs = Needs::default();
    let names = mentioned(host, reading).into_iter();
    names.filter_map(|name| Some((name.clone(), place.variable(&name, &mut needs)?))).collect()
}

/// The variables that the configuration, or what the host says, has ssh look at.
pub(super) fn mentioned(host: &Host, reading: &Reading) -> BTreeSet<OsString> {
    let mut names = reading.variables().clone();
    let options = host.get_options().map(|(_, value)| value.to_owned());
    let file = host.get_identity_file().map(|path| path.to_string_lossy().into_owned());
    for text in options.chain(file) {
        let mut rest = text.as_str();
        while let Some((_, behind)) = rest.split_once("${") {
            let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
            names.insert(name.into());
            rest = after;
        }
        if let Some(name) = text.strip_prefix('$').filter(|name| !name.starts_with('{')) {
            names.insert(name.into());
        }
    }
    names
}

pub(super) fn mentions(host: &Host, reading: &Reading, keywords: &[&str]) -> bool {
    let is_said =
        |keyword: &&str| host.get_options().any(|(option, _)| option.eq_ignore_ascii_case(keyword));
    keywords.iter().any(is_said) || reading.may_set(keywords)
}

/// Whether ssh runs programs to find out what counts, or may: these see the whole environment.
pub(super) fn runs_programs(reading: &Reading) -> bool {
    const NONE: &[&str] = &["localnetwork", "sessiontype", "command", "version"];
    let is_none = |criterion: &String| {
        NONE.contains(&criterion.as_str()) || config::is_the_same_everywhere(criterion)
    };
    !reading.unclear().is_empty() || !reading.match_criteria().iter().all(is_none)
}

/// Whether ssh would ask its questions by a program (`SSH_ASKPASS`): if the caller's variables say
/// so, or if there is a display and no terminal.
pub(super) fn asks_by_program(place: &Place) -> bool {
    let variable = |name: &str| place.variable(name.as_ref(), &mut Needs::default());
    let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
    let has_program = is_set("SSH_ASKPASS") || Path::new("/usr/bin/ssh-askpass").exists();
    match variable("SSH_ASKPASS_REQUIRE").as_deref().and_then(OsStr::to_str) {
        Some("force") => has_program,
        Some("never") => false,
        Some("prefer") => has_program && is_set("DISPLAY"),
        _ => has_program && is_set("DISPLAY") && !place.terminal && !place.is_own(),
    }
}

pub(super) fn config_file(host: &Host, place: &Place) -> Option<PathBuf> {
    let file = host.get_config_file()?;
    Some(if file == Path::new("none") { file.to_owned() } else { place.path(file) })
}

pub(super) fn expand_home(path: &str) -> PathBuf {
    let path = path.trim_matches('"');
    match path.strip_prefix("~/").or_else(|| path.strip_prefix("%d/")) {
        Some(rest) => config::home().unwrap_or_default().join(rest),
        None => PathBuf::from(path),
    }
}
