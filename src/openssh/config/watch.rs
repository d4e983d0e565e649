//! Files and directories that a reading was made from, and whether they are as they were.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::glob::Segment;

/// No configuration is larger.
pub(super) const LARGEST: u64 = 4 * 1024 * 1024;
/// A directory with more is not looked through.
pub(super) const MOST_ENTRIES: usize = 20_000;
/// What was changed within this time may be changed again without a trace: clocks of file systems
/// tick slowly.
const RECENT: Duration = Duration::from_secs(2);

/// A file that counts, whether it is there or not.
#[derive(Debug)]
pub(crate) struct FileSeen {
    path: PathBuf,
    /// A std mutex: held to look, never across an await.
    state: Mutex<State>,
}

/// The names in a directory that a pattern of an `Include` matches.
#[derive(Debug)]
pub(crate) struct Listing {
    directory: PathBuf,
    pattern: Segment,
    /// A std mutex: held to look, never across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    facts: Facts,
    /// Of the content, or of the names.
    digest: u64,
    /// Whether a later change shows in the facts.
    is_certain: bool,
}

/// What stat tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Facts {
    Missing,
    /// With the number of the error.
    Unreachable(i32),
    There {
        inode: (u64, u64),
        mode: u32,
        owner: u32,
        /// Length and times, where the content counts.
        content: Option<(u64, Time, Time)>,
    },
}

/// Seconds and nanoseconds.
type Time = (i64, i64);

/// What a file has in it.
pub(super) enum Content {
    Missing,
    Bytes(Vec<u8>),
    /// Why nobody knows.
    Unclear(&'static str),
}

impl FileSeen {
    pub(super) fn read(path: &Path) -> (Self, Content) {
        let (state, content) = State::of_file(path);
        (FileSeen { path: path.to_owned(), state: Mutex::new(state) }, content)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was there.
    pub(crate) fn is_there(&self) -> bool {
        matches!(lock(&self.state).facts, Facts::There { .. })
    }

    pub(super) fn is_current(&self) -> bool {
        let mut state = lock(&self.state);
        if Facts::of_file(&self.path) != state.facts {
            return false;
        }
        if !state.is_certain {
            let (now, _) = State::of_file(&self.path);
            if (now.facts, now.digest) != (state.facts, state.digest) {
                return false;
            }
            *state = now;
        }
        true
    }
}

impl Listing {
    /// With the names in their order. `Err` where there are too many.
    pub(super) fn read(
        directory: &Path,
        pattern: &Segment,
    ) -> (Self, Result<Vec<OsString>, &'static str>) {
        let (state, names) = State::of_directory(directory, pattern);
        let (directory, pattern) = (directory.to_owned(), pattern.clone());
        (Listing { directory, pattern, state: Mutex::new(state) }, names)
    }

    /// Files of no interest come and go in a directory: the names count.
    pub(super) fn is_current(&self) -> bool {
        let mut state = lock(&self.state);
        if !state.is_certain || Facts::of(&self.directory, true) != state.facts {
            let (now, _) = State::of_directory(&self.directory, &self.pattern);
            if now.digest != state.digest {
                return false;
            }
            *state = now;
        }
        true
    }
}

impl State {
    fn of_file(path: &Path) -> (Self, Content) {
        let now = SystemTime::now();
        let facts = Facts::of_file(path);
        // These may be the reader's own, or change without a trace.
        let is_strange =
            path.starts_with("/proc") || path.starts_with("/dev") && path != Path::new("/dev/null");
        let (facts, content) = match facts {
            Facts::Missing => match path.symlink_metadata() {
                // ssh complains about a link that leads nowhere.
                Ok(_) => (facts, Content::Unclear("a link leads nowhere")),
                Err(_) => (facts, Content::Missing),
            },
            Facts::Unreachable(_) => (facts, Content::Unclear("it cannot be reached")),
            _ if is_strange => (facts, Content::Unclear("it is no plain file")),
            // A directory can be opened, and has no lines.
            Facts::There { content: None, .. }
                if path.is_dir() || path == Path::new("/dev/null") =>
            {
                (facts, Content::Bytes(Vec::new()))
            }
            Facts::There { content: None, .. } => (facts, Content::Unclear("it is no plain file")),
            Facts::There { content: Some(_), .. } => {
                bounded(path).unwrap_or((facts, Content::Unclear("it cannot be read")))
            }
        };
        let digest = match &content {
            Content::Bytes(bytes) => digest(bytes),
            Content::Missing | Content::Unclear(_) => 0,
        };
        (State { facts, digest, is_certain: facts.is_old(now) }, content)
    }

    fn of_directory(
        directory: &Path,
        pattern: &Segment,
    ) -> (Self, Result<Vec<OsString>, &'static str>) {
        use std::os::unix::ffi::OsStrExt;
        let now = SystemTime::now();
        let facts = Facts::of(directory, true);
        // As for ssh, one that cannot be read has nothing in it.
        let entries = std::fs::read_dir(directory).into_iter().flatten().take(MOST_ENTRIES + 1);
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        let has_too_many = names.len() > MOST_ENTRIES;
        let mut names: Vec<_> =
            names.into_iter().filter(|name| pattern.matches(name.as_bytes())).collect();
        names.sort();
        let state = State { facts, digest: digest(&names), is_certain: facts.is_old(now) };
        (state, if has_too_many { Err("a directory has too many files") } else { Ok(names) })
    }
}

impl Facts {
    /// Of other things than plain files the content does not count.
    fn of_file(path: &Path) -> Self {
        Facts::of(path, false)
    }

    fn of(path: &Path, is_listed: bool) -> Self {
        match std::fs::metadata(path) {
            Ok(metadata) => Facts::from(&metadata, is_listed),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Facts::Missing
            }
            Err(error) => Facts::Unreachable(error.raw_os_error().unwrap_or_default()),
        }
    }

    fn from(metadata: &std::fs::Metadata, is_listed: bool) -> Self {
        let modified = (metadata.mtime(), metadata.mtime_nsec());
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Facts::There {
            inode: (metadata.dev(), metadata.ino()),
            mode: metadata.mode(),
            owner: metadata.uid(),
            content: (metadata.is_file() || is_listed).then_some((
                metadata.len(),
                modified,
                changed,
            )),
        }
    }

    /// Whether a change after `now` shows.
    fn is_old(&self, now: SystemTime) -> bool {
        let Facts::There { content: Some((_, modified, changed)), .. } = self else { return true };
        let last = modified.max(changed);
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(last.0), u32::try_from(last.1)) else {
            return false;
        };
        let last = UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
        last.and_then(|last| now.duration_since(last).ok()).is_some_and(|age| age > RECENT)
    }
}

/// Reads a plain file, up to a limit.
fn bounded(path: &Path) -> Option<(Facts, Content)> {
    // It may have become something else, at which an opener would wait.
    let flags = nix::fcntl::OFlag::O_NONBLOCK | nix::fcntl::OFlag::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let facts = Facts::from(&metadata, false);
    if !metadata.is_file() {
        return Some((facts, Content::Unclear("it is no plain file")));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
    let content = match u64::try_from(bytes.len()) {
        Ok(length) if length > LARGEST => Content::Unclear("it is too large"),
        // A file that a kernel or a program makes up.
        Ok(length) if length > 0 && metadata.len() == 0 => Content::Unclear("it has no length"),
        _ => Content::Bytes(bytes),
    };
    Some((facts, content))
}

fn digest(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    // Nothing panics half-way through a change.
    state.lock().unwrap_or_else(|poison| poison.into_inner())
}
