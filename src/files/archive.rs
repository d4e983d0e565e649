//! A directory as a tar archive, made and unpacked here.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;

use super::error::{FileError, FileErrorKind};
use super::source::changed;

/// Writes what is in a directory, with `mark` as the name of an empty file at its end. Links are
/// followed, as `scp -r` does.
pub(super) fn pack(
    root: &Path,
    to: &mut impl Write,
    mark: &str,
    preserve: bool,
) -> Result<(), FileError> {
    let mut pack = Pack { archive: Builder::new(to), mask: if preserve { 0o7777 } else { 0o777 } };
    pack.directory(root, Path::new(""), &mut Vec::new())?;
    pack.append(header(EntryType::Regular, 0o600, 0, 0), Path::new(mark), io::empty(), root)?;
    let finished = pack.archive.finish();
    finished.map_err(|error| FileError::local(root, &error))
}

struct Pack<W: Write> {
    archive: Builder<W>,
    mask: u32,
}

impl<W: Write> Pack<W> {
    /// `above` has the directories that this one is in: a link may lead back to one of them.
    fn directory(
        &mut self,
        path: &Path,
        name: &Path,
        above: &mut Vec<(u64, u64)>,
    ) -> Result<(), FileError> {
        let cannot = |error: io::Error| FileError::local(path, &error);
        let found = fs::metadata(path).map_err(cannot)?;
        let identity = (found.dev(), found.ino());
        if above.contains(&identity) {
            return Err(other(path, "a link that leads back to a directory which it is in"));
        }
        if !name.as_os_str().is_empty() {
            let header = self.header_of(EntryType::Directory, &found, 0);
            self.append(header, name, io::empty(), path)?;
        }
        let entries = fs::read_dir(path).map_err(cannot)?;
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
        names.sort();
        above.push(identity);
        for below in names {
            self.entry(&path.join(&below), &name.join(&below), above)?;
        }
        above.pop();
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        name: &Path,
        above: &mut Vec<(u64, u64)>,
    ) -> Result<(), FileError> {
        let cannot = |error: io::Error| FileError::local(path, &error);
        let found = fs::metadata(path).map_err(cannot)?;
        if found.is_dir() {
            return self.directory(path, name, above);
        }
        // Nobody waits for the other end of a pipe.
        if !found.is_file() {
            return Err(other(path, "not a regular file"));
        }
        let file = fs::File::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let header = self.header_of(EntryType::Regular, &found, length);
        let mut file = Exactly { file, left: length, is_short: false };
        let appended = self.append(header, name, &mut file, path);
        if file.is_short { Err(changed(path)) } else { appended }
    }

    fn header_of(&self, kind: EntryType, found: &Metadata, length: u64) -> Header {
        let mode = found.permissions().mode() & self.mask;
        header(kind, mode, found.mtime(), length)
    }

    fn append(
        &mut self,
        mut header: Header,
        name: &Path,
        contents: impl Read,
        path: &Path,
    ) -> Result<(), FileError> {
        let appended = self.archive.append_data(&mut header, name, contents);
        appended.map_err(|error| FileError::local(path, &error))
    }
}

fn header(kind: EntryType, mode: u32, time: i64, length: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    // Whoever unpacks it is the owner.
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(u64::try_from(time).unwrap_or(0));
    header.set_size(length);
    header
}

/// As many bytes of a file as were announced.
struct Exactly {
    file: fs::File,
    left: u64,
    is_short: bool,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(buffer.len()).min(buffer.len());
        let read = self.file.read(&mut buffer[..most])?;
        if read == 0 && most > 0 {
            self.is_short = true;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn other(path: &Path, text: &str) -> FileError {
    FileError::Local { path: path.to_owned(), kind: FileErrorKind::Other, text: text.to_owned() }
}

/// Unpacks an archive into a directory that nobody else writes
/// to, and which is called `shown` in messages. No entry leads out of it, and no link is made.
pub(super) fn unpack(
    from: impl Read,
    into: &Path,
    shown: &Path,
    preserve: bool,
) -> Result<(), FileError> {
    let cannot = |error: io::Error| FileError::local(shown, &error);
    let mut archive = tar::Archive::new(from);
    let mut directories = Vec::new();
    for entry in archive.entries().map_err(cannot)? {
        let mut entry = entry.map_err(cannot)?;
        let name = entry.path().map_err(cannot)?.into_owned();
        let Some(path) = below(into, &name) else {
            return Err(other(&name, "the host has sent a name that leads elsewhere"));
        };
        let at = |error: io::Error| FileError::local(&shown.join(&name), &error);
        let (mode, time) = (entry.header().mode().unwrap_or(0o755), entry.header().mtime());
        match entry.header().entry_type() {
            EntryType::Directory => {
                if path != into {
                    fs::create_dir(&path).map_err(at)?;
                }
                directories.push((path, mode, time.ok()));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut file = fs::File::create_new(&path).map_err(at)?;
                io::copy(&mut entry, &mut file).map_err(at)?;
                finish(&path, mode, time.ok(), preserve).map_err(at)?;
            }
            // tar tells a file that it has sent under another name so.
            EntryType::Link => {
                let first = entry.link_name().map_err(at)?.unwrap_or_default();
                let Some(first) = below(into, &first) else {
                    return Err(self::other(&name, "a link that leads elsewhere"));
                };
                fs::copy(&first, &path).map_err(at)?;
            }
            _ => return Err(other(&name, "not a regular file")),
        }
    }
    // A directory that cannot be written to is to be so when all is in it.
    for (path, mode, time) in directories.into_iter().rev() {
        finish(&path, mode, time, preserve).map_err(cannot)?;
    }
    Ok(())
}

/// The place of an entry.
pub(super) fn below(into: &Path, name: &Path) -> Option<PathBuf> {
    let mut path = into.to_owned();
    for part in name.components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Gives a file what it is to have.
fn finish(path: &Path, mode: u32, time: Option<u64>, preserve: bool) -> io::Result<()> {
    let mode = if preserve { mode & 0o7777 } else { new_mode(mode) };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    match (preserve, time) {
        (true, Some(time)) => set_time(path, time),
        _ => Ok(()),
    }
}

/// The mode of a new file here, as scp has it: what the umask leaves, and whoever has fetched it
/// may write to it.
pub(super) fn new_mode(mode: u32) -> u32 {
    (mode | 0o200) & 0o777 & !umask()
}

pub(super) fn set_time(path: &Path, seconds: u64) -> io::Result<()> {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::open(path)?.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time))
}

/// The umask of this process. There is no way to ask without setting it but in /proc.
fn umask() -> u32 {
    use std::sync::LazyLock;
    static UMASK: LazyLock<u32> = LazyLock::new(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let told = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        let told = told.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
        told.unwrap_or_else(|| {
            let empty = nix::sys::stat::Mode::from_bits_truncate(0o077);
            let umask = nix::sys::stat::umask(empty);
            nix::sys::stat::umask(umask);
            umask.bits()
        })
    });
    *UMASK
}

/// What comes in pieces, for a thread that reads it.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    read: usize,
}

impl Pieces {
    /// Behind what has come already.
    pub(super) fn new(receiver: mpsc::Receiver<Vec<u8>>, piece: Vec<u8>) -> Self {
        Pieces { receiver, piece, read: 0 }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.read == self.piece.len() {
            match self.receiver.blocking_recv() {
                Some(piece) => (self.piece, self.read) = (piece, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len() - self.read);
        buffer[..count].copy_from_slice(&self.piece[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }
}
