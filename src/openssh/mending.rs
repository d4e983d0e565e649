//! What could mend a failed login, as far as it can be seen from here. A change of it is worth a try.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::keys;
use crate::error::ConnectErrorKind;
use crate::host::Host;
use crate::pool::Configuration;

/// Names of key files that ssh tries by itself are in `~/.ssh`, where anything may be named in the configuration.
const MOST_FILES: usize = 200;

/// A digest of what could mend a failure of this kind. Takes a few looks at files, and for an authentication a question to the ssh-agent.
pub(super) async fn fingerprint(host: &Host, kind: ConnectErrorKind) -> Configuration {
    let mut hasher = DefaultHasher::new();
    for path in files(host, kind) {
        let found = std::fs::metadata(&path).ok();
        // Not the time of a look, and not the number of names.
        let facts = found.map(|file| {
            (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec(), file.mode(), file.uid())
        });
        (path, facts).hash(&mut hasher);
    }
    if kind == ConnectErrorKind::Authentication {
        let socket = match &host.login().auth_sock {
            None => std::env::var_os("SSH_AUTH_SOCK"),
            Some(socket) => socket.clone(),
        };
        let listed = match socket.filter(|socket| !socket.is_empty()) {
            Some(socket) => keys::listed(&socket).await.map_err(|error| error.kind()),
            None => Ok(Vec::new()),
        };
        // Its order is that in which they are offered.
        match listed {
            Ok(keys) => keys.hash(&mut hasher),
            Err(kind) => kind.hash(&mut hasher),
        }
    }
    hasher.finish()
}

/// The files in which a failure of this kind can be mended.
fn files(host: &Host, kind: ConnectErrorKind) -> Vec<PathBuf> {
    use ConnectErrorKind::{HostKeyChanged, HostKeyUnknown};
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let own = home.join(".ssh");
    let option = |name: &'static str| {
        let of_name = move |(key, _): &(&str, &str)| key.eq_ignore_ascii_case(name);
        host.get_options().filter(of_name).flat_map(|(_, value)| value.split_whitespace())
    };
    let mut files: Vec<PathBuf> = vec![PathBuf::from("/etc/ssh/ssh_config"), own.join("config")];
    files.extend(host.get_config_file().map(Path::to_owned));
    if matches!(kind, HostKeyChanged | HostKeyUnknown) {
        files.extend(["known_hosts", "known_hosts2"].map(|name| own.join(name)));
        files.extend(["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"].map(PathBuf::from));
        files.extend(option("UserKnownHostsFile").map(|path| expanded(path, &home)));
        files.extend(option("GlobalKnownHostsFile").map(|path| expanded(path, &home)));
    } else {
        files.extend(listed(&own));
        files.extend(host.get_identity_file().map(Path::to_owned));
        files.extend(option("IdentityFile").map(|path| expanded(path, &home)));
        files.extend(option("CertificateFile").map(|path| expanded(path, &home)));
    }
    // What the configuration names, and what it includes. The values are read by their words: a word that is no file is none.
    let mut read = 0;
    let mut texts: Vec<PathBuf> = files.iter().filter(|file| is_configuration(file, host)).cloned().collect();
    while let Some(file) = texts.pop() {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        read += 1;
        for (keyword, value) in text.lines().filter_map(keyword) {
            let names = value.split_whitespace().map(|word| expanded(word.trim_matches('"'), &home));
            match &*keyword {
                "include" => {
                    for path in names {
                        let path = if path.is_absolute() { path } else { own.join(path) };
                        let more = globbed(&path).into_iter().filter(|path| !files.contains(path));
                        let more: Vec<PathBuf> = more.take(MOST_FILES.saturating_sub(read)).collect();
                        texts.extend(more.iter().cloned());
                        files.extend(more);
                    }
                }
                "userknownhostsfile" | "globalknownhostsfile" | "identityfile" | "certificatefile" => {
                    files.extend(names);
                }
                _ => {}
            }
        }
        if read >= MOST_FILES || files.len() >= MOST_FILES {
            break;
        }
    }
    files
}

fn is_configuration(file: &Path, host: &Host) -> bool {
    file.ends_with(".ssh/config")
        || file == Path::new("/etc/ssh/ssh_config")
        || host.get_config_file() == Some(file)
}

/// A line of ssh_config: its keyword in small letters, and the rest.
fn keyword(line: &str) -> Option<(String, &str)> {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
    let value = line[end..].trim_start_matches(|c: char| c.is_whitespace() || c == '=');
    Some((line[..end].to_ascii_lowercase(), value))
}

fn expanded(path: &str, home: &Path) -> PathBuf {
    match path.strip_prefix("~/").or_else(|| path.strip_prefix("%d/")) {
        Some(rest) => home.join(rest),
        None => PathBuf::from(path),
    }
}

/// The files of a directory.
fn listed(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.take(MOST_FILES).map(|entry| entry.path()).collect();
    files.sort();
    // A login writes to these, or they are not for it.
    files.retain(|file| {
        !file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("known_hosts"))
    });
    files.retain(|file| file.is_file());
    files
}

/// The files that a pattern of `Include` stands for, in its last part.
fn globbed(pattern: &Path) -> Vec<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.contains(['*', '?', '[']) {
        return vec![pattern.to_owned()];
    }
    let prefix = name.split(['*', '?', '[']).next().unwrap_or_default().to_owned();
    let Some(directory) = pattern.parent() else { return Vec::new() };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.take(MOST_FILES).map(|entry| entry.path()).collect();
    files.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)));
    files.sort();
    files
}
