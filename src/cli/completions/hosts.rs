//! Names of hosts: those of the TOML file, and those of the ssh_config that are no patterns.
//!
//! What cannot be read is left out, without a word. Only plain files are read, and not without end: whoever waits is typing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::cli::default_config;

/// Includes may include, as deep as ssh itself goes.
const DEEPEST: usize = 16;
/// No configuration has more files, nor larger ones.
const MOST_FILES: usize = 500;
const LARGEST: u64 = 1024 * 1024;

const SYSTEM: &str = "/etc/ssh/ssh_config";

/// All names, each with where it comes from.
pub(super) fn known(config: Option<&Path>, ssh_config: Option<&Path>) -> Vec<(String, &'static str)> {
    let mut names: Vec<_> =
        keys(config, "hosts").into_iter().map(|name| (name, "a host of the TOML file")).collect();
    let mut reader = Reader::default();
    match ssh_config {
        Some(file) => reader.read(file, &user_directory(), 0),
        None => {
            reader.read(&user_directory().join("config"), &user_directory(), 0);
            reader.read(Path::new(SYSTEM), Path::new("/etc/ssh"), 0);
        }
    }
    for name in reader.names {
        if crate::Host::new(&*name).is_ok() && !names.iter().any(|(known, _)| *known == name) {
            names.push((name, "a host of the ssh_config"));
        }
    }
    names
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

fn user_directory() -> PathBuf {
    std::env::home_dir().unwrap_or_default().join(".ssh")
}

#[derive(Default)]
struct Reader {
    names: Vec<String>,
    read: HashSet<PathBuf>,
}

impl Reader {
    /// `directory` is where included files are whose paths are relative.
    fn read(&mut self, file: &Path, directory: &Path, depth: usize) {
        if depth > DEEPEST || self.read.len() >= MOST_FILES || !self.read.insert(file.to_owned()) {
            return;
        }
        let Some(text) = text_of(file) else { return };
        for line in text.lines() {
            let mut words = words(line).into_iter();
            match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
                "host" => {
                    let names = words.filter(|name| !name.contains(['*', '?', '!']));
                    self.names.extend(names);
                }
                "include" => {
                    for pattern in words {
                        self.include(&pattern, directory, depth);
                    }
                }
                _ => {}
            }
        }
    }

    fn include(&mut self, pattern: &str, directory: &Path, depth: usize) {
        let pattern = match pattern.strip_prefix("~/") {
            Some(rest) => std::env::home_dir().unwrap_or_default().join(rest),
            None => directory.join(pattern),
        };
        let Ok(files) = glob::glob(&pattern.to_string_lossy()) else { return };
        for file in files.flatten().take(MOST_FILES) {
            self.read(&file, directory, depth + 1);
        }
    }
}

/// The words of a line of ssh_config: a keyword, `=` or blanks, and arguments, in quotes or not, up to a comment.
fn words(line: &str) -> Vec<String> {
    let line = line.trim();
    let (keyword, rest) = line.split_at(line.find([' ', '\t', '=', '"']).unwrap_or(line.len()));
    let rest = rest.trim_start();
    let rest = rest.strip_prefix('=').unwrap_or(rest);
    let mut words = vec![keyword.to_owned()];
    let mut word = String::new();
    let mut quoted = false;
    for c in rest.chars().chain([' ']) {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            '#' if !quoted && word.is_empty() => break,
            c => word.push(c),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Host web1 web2", &["Host", "web1", "web2"])]
    #[case("  host=web1 # comment", &["host", "web1"])]
    #[case("Host = \"a b\"\tc", &["Host", "a b", "c"])]
    #[case("# Host x", &["#", "Host", "x"])]
    #[case("", &[""])]
    fn lines_have_words(#[case] line: &str, #[case] expected: &[&str]) {
        assert_eq!(words(line), expected);
    }

    #[test]
    fn included_files_are_read_and_loops_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).expect("a file");
        };
        write("config", "Include parts.* missing\nHost web1 !web2 *.net w?b3 web4\nMatch all\n  User x\n");
        write("parts.a", "HOST web5\nInclude config\n");
        write("parts.b", "Include /dev/zero\nhost web6\n\u{fffd}Host web7");
        nix::unistd::mkfifo(&directory.path().join("parts.c"), nix::sys::stat::Mode::S_IRUSR)
            .expect("a FIFO, at which a reader would wait");
        let mut reader = Reader::default();
        reader.read(&directory.path().join("config"), directory.path(), 0);
        assert_eq!(reader.names, ["web5", "web6", "web1", "web4"]);
    }

    #[test]
    fn a_file_that_is_not_valid_has_names_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "[pool]\nno_such_setting = 1\n[hosts.web1]\nport = \"x\"\n").expect("a file");
        assert_eq!(keys(Some(&file), "hosts"), ["web1"]);
        assert_eq!(keys(Some(&file), "groups"), [""; 0]);
        std::fs::write(&file, "[pool").expect("a file");
        assert_eq!(keys(Some(&file), "hosts"), [""; 0]);
    }
}
