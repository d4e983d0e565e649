//! Why a file was not copied.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::host::Host;
use crate::text::printable;

/// What can go wrong with a file on a host. One line each, with the host and the file.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The command that was to read or write it could not be run to its end.
    #[error(transparent)]
    Run(#[from] Error),

    /// The host has refused it, or could not do it. Nothing is left under the name.
    #[error("{host}: {}: {text}", shown(path))]
    Remote {
        /// The host's name.
        host: String,
        /// The file there.
        path: PathBuf,
        /// What it is about, for programs.
        kind: FileErrorKind,
        /// The system's words.
        text: String,
    },

    /// This machine has refused it.
    #[error("{}: {text}", shown(path))]
    Local {
        /// The file here.
        path: PathBuf,
        /// What it is about, for programs.
        kind: FileErrorKind,
        /// The system's words.
        text: String,
    },
}

/// What a [`FileError`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileErrorKind {
    /// A file or a directory of its path is not there.
    NotFound,
    /// The account may not do so, or the file system is read-only.
    Permission,
    /// A directory is where a file was expected.
    IsDirectory,
    /// Something else is where a directory was expected.
    NotDirectory,
    /// The file system, the quota or the largest size of a file is full.
    NoSpace,
    /// What came is not what was sent.
    Incomplete,
    /// The account runs no commands, or has no program that is needed.
    Unsupported,
    /// Something else, which the text tells.
    Other,
}

impl FileErrorKind {
    /// The word for it, for programs.
    pub fn as_str(self) -> &'static str {
        match self {
            FileErrorKind::NotFound => "not_found",
            FileErrorKind::Permission => "permission",
            FileErrorKind::IsDirectory => "is_directory",
            FileErrorKind::NotDirectory => "not_directory",
            FileErrorKind::NoSpace => "no_space",
            FileErrorKind::Incomplete => "incomplete",
            FileErrorKind::Unsupported => "unsupported",
            FileErrorKind::Other => "other",
        }
    }
}

impl FileError {
    /// What it is about. `None` where the command could not be run.
    pub fn kind(&self) -> Option<FileErrorKind> {
        match self {
            FileError::Run(_) => None,
            FileError::Remote { kind, .. } | FileError::Local { kind, .. } => Some(*kind),
        }
    }

    pub(super) fn remote(
        host: &Host,
        path: &Path,
        kind: FileErrorKind,
        text: impl Into<String>,
    ) -> Self {
        let (host, path, text) = (host.name().to_owned(), path.to_owned(), text.into());
        FileError::Remote { host, path, kind, text }
    }

    /// What the system says of a file here.
    pub(crate) fn local(path: &Path, error: &std::io::Error) -> Self {
        let text = crate::text::plain(error);
        let kind = cause(&text).map_or(FileErrorKind::Other, |(kind, _)| kind);
        FileError::Local { path: path.to_owned(), kind, text }
    }
}

/// A path for a message of one line.
fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    // What would be shown as something else is shown as it is written in Rust.
    if text.chars().any(char::is_control) || text.contains(char::REPLACEMENT_CHARACTER) {
        format!("{path:?}")
    } else {
        text.into_owned()
    }
}

/// What programs say in the C locale, what it is about, and how it is told.
const CAUSES: &[(&str, FileErrorKind, &str)] = {
    use FileErrorKind::*;
    const ABSENT: &str = "No such file or directory";
    &[
        ("No space left on device", NoSpace, "No space left on device"),
        ("Disk quota exceeded", NoSpace, "Disk quota exceeded"),
        ("File too large", NoSpace, "File too large"),
        ("Permission denied", Permission, "Permission denied"),
        ("Operation not permitted", Permission, "Operation not permitted"),
        ("Read-only file system", Permission, "Read-only file system"),
        (ABSENT, NotFound, ABSENT),
        // dash and BusyBox, of a redirection.
        ("Directory nonexistent", NotFound, ABSENT),
        ("nonexistent directory", NotFound, ABSENT),
        ("Is a directory", IsDirectory, "Is a directory"),
        ("Not a directory", NotDirectory, "Not a directory"),
        ("the copy broke off", Incomplete, ""),
        ("File name too long", Other, "File name too long"),
        ("Too many levels of symbolic links", Other, "Too many levels of symbolic links"),
        ("Input/output error", Other, "Input/output error"),
        ("not found", Unsupported, ""),
    ]
};

fn cause(line: &str) -> Option<(FileErrorKind, &'static str)> {
    let found = CAUSES.iter().find(|(text, ..)| line.contains(text));
    found.map(|(_, kind, told)| (*kind, *told))
}

/// What the script on the host has to say, in one line.
pub(super) fn explain(host: &Host, path: &Path, code: Option<i32>, stderr: &[u8]) -> FileError {
    let stderr = String::from_utf8_lossy(stderr);
    let telling = stderr.lines().rev().find_map(|line| Some((line, cause(line)?)));
    let (kind, text) = match telling {
        Some((_, (kind, told))) if !told.is_empty() => (kind, told.to_owned()),
        Some((line, (kind, _))) => (kind, own_words(line)),
        None => {
            let last = stderr.lines().rev().find(|line| !line.trim().is_empty());
            let ended = match code {
                Some(code) => format!("the command there failed with code {code}"),
                None => crate::error::NO_STATUS.to_owned(),
            };
            (FileErrorKind::Other, last.map_or(ended, own_words))
        }
    };
    FileError::remote(host, path, kind, text)
}

/// The command has succeeded, and was another one.
pub(super) fn no_commands(host: &Host, path: &Path) -> FileError {
    let text = "the account does not run commands: it answered with something else (a forced \
                command, or a shell of its own?)";
    FileError::remote(host, path, FileErrorKind::Unsupported, text)
}

fn own_words(line: &str) -> String {
    printable(line.strip_prefix("sshpool: ").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::dash("sh: 1: cannot create ./x/.sshpool_1: Directory nonexistent", "not_found")]
    #[case::busybox("sh: can't create ./x/.sshpool_1: nonexistent directory", "not_found")]
    #[case::bash("sh: line 31: ./x/.sshpool_1: Permission denied", "permission")]
    #[case::cat("cat: write error: No space left on device", "no_space")]
    #[case::the_last_counts("a: Permission denied\nb: No space left on device", "no_space")]
    #[case::our_own("sshpool: the copy broke off", "incomplete")]
    #[case::no_program("sh: 1: sync: not found", "unsupported")]
    #[case::something("who knows", "other")]
    #[case::nothing("", "other")]
    fn what_programs_say_has_a_kind(#[case] stderr: &str, #[case] kind: &str) {
        let host = Host::new("web1").expect("a name");
        let error = explain(&host, Path::new("/x"), Some(1), stderr.as_bytes());
        assert_eq!(error.kind().map(FileErrorKind::as_str), Some(kind), "{error}");
    }

    #[test]
    fn an_error_is_one_line_with_host_and_file() {
        let host = Host::new("web1").expect("a name");
        let told = |path: &str, stderr: &str| {
            explain(&host, Path::new(path), Some(1), stderr.as_bytes()).to_string()
        };
        assert_eq!(
            told("/srv/a b", "sh: ./.x: Permission denied"),
            "web1: /srv/a b: Permission denied"
        );
        assert_eq!(told("/a\nb", "sshpool: Is a directory"), "web1: \"/a\\nb\": Is a directory");
        assert_eq!(told("/a", ""), "web1: /a: the command there failed with code 1");
    }
}
