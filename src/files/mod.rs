//! Files of hosts: read, written and copied, over commands.
//!
//! It owns the texts that run on a host (`text.rs`, `receive.sh`, `receive-tree.sh`), what they say
//! when they fail (`error.rs`), and the reading and writing of files here. It knows
//! [`Runner`](crate::Runner) and commands, and neither pools nor the agent, so it works over both.
//!
//! What it promises:
//!
//! - A name has the old contents or all of the new ones. They are written under a temporary name
//!   beside it, put on the disk, given their mode, and renamed. What is cut off on its way is
//!   known by its length or by a word that is sent at its end, and is never renamed.
//! - Names are bytes. None of them is read as an option, a pattern or shell text.
//! - An error is one line with the host and the file.
//! - An account that runs no commands is served over sftp (`sftp/`), as far as that has the means.

mod archive;
mod download;
mod error;
mod local;
#[cfg(test)]
mod properties;
mod read;
mod sftp;
mod source;
mod text;
mod upload;
mod write;

pub use download::{Download, download};
pub use error::{FileError, FileErrorKind};
pub(crate) use local::remove_temporaries;
pub use read::read;
pub(crate) use sftp::end_jobs;
pub use upload::{Progress, Upload, upload};
pub use write::write;

/// How files are written.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Options {
    mode: Option<u32>,
    sync: bool,
    sha256: bool,
    recursive: bool,
    preserve: bool,
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// How many bytes were sent, or have come: of a directory those of its archive.
    pub bytes: u64,
    /// In lower-case hexadecimal digits, where it was asked for.
    pub sha256: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options { mode: None, sync: true, sha256: false, recursive: false, preserve: false }
    }
}

impl Options {
    /// As [`Options::default`]: a file that is there keeps its mode and, where the account may give
    /// files away, its owner. A new one gets what the account's umask leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives the file exactly this mode, such as `0o640`, whether it was there or not.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o7777);
        self
    }

    /// Whether the contents are on the disk before they have the name. They are by default: after
    /// a crash of the host the name has the old contents or the new ones, and never none.
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Whether directories are copied, with all that is in them. Links in them are followed.
    pub fn recursive(mut self, recursive: bool) -> Self {
        self.recursive = recursive;
        self
    }

    /// Whether files get exactly the mode of the original, and its time of change.
    pub fn preserve(mut self, preserve: bool) -> Self {
        self.preserve = preserve;
        self
    }

    /// Whether the host works out the SHA-256 of what has arrived, and gives it the name only if it
    /// is that of what was sent.
    pub fn sha256(mut self, sha256: bool) -> Self {
        self.sha256 = sha256;
        self
    }
}

/// The mode of a file to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// This one, always.
    Exact(u32),
    /// For a new file, what the umask of the account leaves of this one.
    New(u32),
}

impl Mode {
    fn is_exact(self) -> bool {
        matches!(self, Mode::Exact(_))
    }

    /// As `chmod` takes it. Without `u`, `g` or `o` it asks the umask.
    fn change(self) -> String {
        let mode = match self {
            Mode::Exact(mode) => return format!("{mode:04o}"),
            Mode::New(mode) => mode,
        };
        let mut change = "a-rwx,+rwx".to_owned();
        for (who, shift) in [('u', 6), ('g', 3), ('o', 0)] {
            let lacks = [('r', 4), ('w', 2), ('x', 1)];
            let lacks = lacks.iter().filter(|(_, bit)| mode >> shift & bit == 0);
            let lacks: String = lacks.map(|(letter, _)| letter).collect();
            if !lacks.is_empty() {
                change.push_str(&format!(",{who}-{lacks}"));
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_a_change_for_chmod() {
        assert_eq!(Mode::Exact(0o640).change(), "0640");
        assert_eq!(Mode::New(0o644).change(), "a-rwx,+rwx,u-x,g-wx,o-wx");
        assert_eq!(Mode::New(0o777).change(), "a-rwx,+rwx");
    }
}
