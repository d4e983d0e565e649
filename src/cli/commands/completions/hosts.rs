//! Names of hosts: those of the TOML file, and those of the ssh_config that are no patterns.
//!
//! What cannot be read is left out, without a word. Only plain files are read, and not without end:
//! whoever waits is typing.

use std::path::{Path, PathBuf};

use crate::cli::setup::default_config;
use crate::openssh::config::{self, Source};

/// No TOML file is larger.
const LARGEST: u64 = 1024 * 1024;

/// All names, each with where it comes from.
pub(super) fn known(
    config: Option<&Path>,
    ssh_config: Option<&Path>,
) -> Vec<(String, &'static str)> {
    let mut names: Vec<_> =
        keys(config, "hosts").into_iter().map(|name| (name, "a host of the TOML file")).collect();
    for name in of_ssh_config(ssh_config) {
        if crate::host::Host::new(&*name).is_ok() && !names.iter().any(|(known, _)| *known == name)
        {
            names.push((name, "a host of the ssh_config"));
        }
    }
    names
}

/// A completion goes by `HOME`, as the shell does that asks for it. Only where somebody has changed
/// it, ssh has another home.
fn of_ssh_config(named: Option<&Path>) -> Vec<String> {
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    let home = std::env::home_dir().unwrap_or_default();
    config::read(Source::of(named), &directory, &home, &|name| std::env::var_os(name)).host_names()
}

/// Names of groups of hosts.
pub(super) fn groups(config: Option<&Path>) -> Vec<String> {
    keys(config, "groups")
}

/// The keys of a table of the TOML file. Whether the rest of it is valid is not looked at.
fn keys(config: Option<&Path>, table: &str) -> Vec<String> {
    let file = config.map(Path::to_owned).or_else(default_config);
    let table = || {
        let document: toml::Table = text_of(&file?)?.parse().ok()?;
        Some(document.get(table)?.as_table()?.keys().cloned().collect())
    };
    table().unwrap_or_default()
}

fn text_of(file: &Path) -> Option<String> {
    let found = std::fs::metadata(file).ok()?;
    (found.is_file() && found.len() <= LARGEST).then_some(())?;
    let text = String::from_utf8_lossy(&std::fs::read(file).ok()?).into_owned();
    Some(text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_are_read_and_loops_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let text = text.replace("DIR", directory.path().to_str().expect("it is UTF-8"));
            std::fs::write(directory.path().join(name), text).expect("a file");
        };
        write(
            "config",
            "Include DIR/parts.* missing\nHost web1 !web2 *.net w?b3 web4\nMatch all\n  User x\n",
        );
        write("parts.a", "HOST web5\nInclude DIR/config\n");
        write("parts.b", "Include /dev/zero\nhost web6\n\u{fffd}Host web7");
        nix::unistd::mkfifo(&directory.path().join("parts.c"), nix::sys::stat::Mode::S_IRUSR)
            .expect("a FIFO, at which a reader would wait");
        let names = of_ssh_config(Some(&directory.path().join("config")));
        assert_eq!(names, ["web5", "web6", "web1", "web4"]);
    }

    #[test]
    fn a_file_that_is_not_valid_has_names_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "[pool]\nno_such_setting = 1\n[hosts.web1]\nport = \"x\"\n")
            .expect("a file");
        assert_eq!(keys(Some(&file), "hosts"), ["web1"]);
        assert_eq!(keys(Some(&file), "groups"), [""; 0]);
        std::fs::write(&file, "[pool").expect("a file");
        assert_eq!(keys(Some(&file), "hosts"), [""; 0]);
    }
}
