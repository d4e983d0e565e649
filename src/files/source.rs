//! What is to be copied: read once, in pieces, for as many hosts as there are.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::archive;
use super::error::{FileError, FileErrorKind};

/// How much is read at once.
const PIECE: usize = 128 * 1024;
/// So many pieces wait for a host that is slower than the others.
const WAITING: usize = 8;

/// What a host gets of a source, one after another.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Bytes(Arc<[u8]>),
    /// All was read. With its SHA-256 where that was asked for.
    End(Option<String>),
    Failed(FileError),
}

/// A file or a directory here, or standard input.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    from: From,
    pub(super) mode: u32,
    /// Seconds since 1970.
    pub(super) time: Option<i64>,
    pub(super) length: Option<u64>,
}

enum From {
    File(File),
    Tree,
    Stdin,
    Reader(Box<dyn Read + Send>),
}

impl fmt::Debug for From {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            From::File(_) => "File",
            From::Tree => "Tree",
            From::Stdin => "Stdin",
            From::Reader(_) => "Reader",
        })
    }
}

impl Source {
    /// The file, or with `recursive` the directory, of this path.
    pub(super) fn open(path: &Path, recursive: bool) -> Result<Self, FileError> {
        let cannot = |error: io::Error| FileError::local(path, &error);
        let file = File::open(path).map_err(cannot)?;
        let found = file.metadata().map_err(cannot)?;
        let mode = found.permissions().mode() & 0o7777;
        let (from, length) = match (found.is_dir(), found.is_file()) {
            (true, _) if recursive => (From::Tree, None),
            (true, _) => return Err(FileError::local(path, &io::ErrorKind::IsADirectory.into())),
            (_, true) => (From::File(file), Some(found.len())),
            // A pipe or a device has what it has.
            _ => (From::File(file), None),
        };
        Ok(Source { path: path.to_owned(), from, mode, time: Some(found.mtime()), length })
    }

    pub(super) fn stdin() -> Self {
        let path = PathBuf::from("-");
        Source { path, from: From::Stdin, mode: 0o666, time: None, length: None }
    }

    pub(super) fn reader(from: Box<dyn Read + Send>, length: Option<u64>) -> Self {
        let path = PathBuf::from("the body of the request");
        Source { path, from: From::Reader(from), mode: 0o666, time: None, length }
    }

    pub(super) fn is_tree(&self) -> bool {
        matches!(self.from, From::Tree)
    }

    /// All of what is small.
    pub(super) fn read_small(&mut self, most: usize) -> Result<Option<Vec<u8>>, FileError> {
        let Some(length) = self.length else { return Ok(None) };
        let From::File(file) = &mut self.from else { return Ok(None) };
        if length > most as u64 {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = file.take(length).read_to_end(&mut bytes);
        read.map_err(|error| FileError::local(&self.path, &error))?;
        if bytes.len() as u64 == length { Ok(Some(bytes)) } else { Err(changed(&self.path)) }
    }

    /// Reads it, once, for so many hosts, and no faster than the slowest of them takes it. `mark`
    /// is the name of the last file of a directory's archive. It goes on in a thread of its own,
    /// until nobody wants it any more.
    pub(super) fn spread(
        self,
        hosts: usize,
        sha256: bool,
        mark: &str,
        preserve: bool,
    ) -> Vec<mpsc::Receiver<Piece>> {
        let (senders, receivers) = (0..hosts).map(|_| mpsc::channel(WAITING)).unzip();
        let senders: Vec<mpsc::Sender<Piece>> = senders;
        let mark = mark.to_owned();
        let outlets = Outlets { senders, sum: sha256.then(Sha256::new), buffer: Vec::new() };
        tokio::task::spawn_blocking(move || self.read(outlets, &mark, preserve));
        receivers
    }

    fn read(self, mut outlets: Outlets, mark: &str, preserve: bool) {
        let path = self.path;
        let read = match self.from {
            From::Tree => archive::pack(&path, &mut outlets, mark, preserve),
            From::Stdin => pass(io::stdin().lock(), &path, None, &mut outlets),
            From::Reader(from) => pass(from, &path, self.length, &mut outlets),
            From::File(file) => pass(file, &path, self.length, &mut outlets),
        };
        match read {
            Ok(()) => outlets.end(),
            Err(error) => outlets.send(Piece::Failed(error)),
        };
    }
}

fn pass(
    mut from: impl Read,
    path: &Path,
    length: Option<u64>,
    outlets: &mut Outlets,
) -> Result<(), FileError> {
    let mut left = length.unwrap_or(u64::MAX);
    let mut buffer = vec![0; PIECE];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        let read = match from.read(&mut buffer[..most]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(FileError::local(path, &error)),
        };
        if read == 0 {
            return if length.is_none() { Ok(()) } else { Err(changed(path)) };
        }
        left -= read as u64;
        if !outlets.bytes(&buffer[..read]) {
            break;
        }
    }
    Ok(())
}

pub(super) fn changed(path: &Path) -> FileError {
    let text = "it became shorter while it was read".to_owned();
    FileError::Local { path: path.to_owned(), kind: FileErrorKind::Other, text }
}

/// Where the pieces of a source go.
pub(super) struct Outlets {
    /// Of the hosts that still want them.
    senders: Vec<mpsc::Sender<Piece>>,
    sum: Option<Sha256>,
    /// What was written and is less than a piece.
    buffer: Vec<u8>,
}

impl Outlets {
    /// Whether somebody still wants it.
    fn send(&mut self, piece: Piece) -> bool {
        self.senders.retain(|sender| sender.blocking_send(piece.clone()).is_ok());
        !self.senders.is_empty()
    }

    fn bytes(&mut self, bytes: &[u8]) -> bool {
        if let Some(sum) = &mut self.sum {
            sum.update(bytes);
        }
        self.send(Piece::Bytes(bytes.into()))
    }

    fn end(mut self) -> bool {
        if !self.buffer.is_empty() {
            let rest = std::mem::take(&mut self.buffer);
            self.bytes(&rest);
        }
        let sum = self.sum.take().map(|sum| hex(&sum.finalize()));
        self.send(Piece::End(sum))
    }
}

/// For an archive, which is written in many small parts.
impl io::Write for Outlets {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            let piece = std::mem::take(&mut self.buffer);
            if !self.bytes(&piece) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
