//! Files of this machine, which get their names when all is in them.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{TempDir, TempPath};
use tokio::sync::mpsc;

use super::Options;
use super::archive::{new_mode, set_time};
use super::error::FileError;

/// What temporary names begin with.
const PREFIX: &str = ".sshpool_";

/// What is to be gone when this process ends by a signal. A std mutex: held to change the list.
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A name in [`TEMPORARIES`] for as long as it lives.
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    fn new(path: &Path) -> Self {
        TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
        Listed(path.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut listed = TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner);
        listed.retain(|path| *path != self.0);
    }
}

/// Removes what is half written. For a process that is about to end without further ado.
pub(crate) fn remove_temporaries() {
    // Whoever holds the lock is about to give it back; a thread that ends with us may not be.
    for path in TEMPORARIES.try_lock().iter().flat_map(|listed| listed.iter()) {
        if path.is_dir() {
            make_removable(path);
            let _ = fs::remove_dir_all(path);
        } else {
            let _ = fs::remove_file(path);
        }
    }
}

/// What the system has said, without the temporary name that stands in the error.
fn systems_own(error: &io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.source());
    let inner = inner.and_then(|source| source.downcast_ref::<io::Error>());
    match error.raw_os_error().or_else(|| inner?.raw_os_error()) {
        Some(number) => io::Error::from_raw_os_error(number),
        None => error.kind().into(),
    }
}

/// A file that has no name yet, or something else to write to that is there.
#[derive(Debug)]
pub(super) struct NewFile {
    path: PathBuf,
    /// `None` where what is there is no file: it is written to as it is.
    temporary: Option<(TempPath, Listed)>,
    /// Of the file that is there.
    old: Option<fs::Metadata>,
}

impl NewFile {
    /// For this path. A link stays, and leads to the new contents.
    pub(super) fn create(path: &Path) -> io::Result<(Self, tokio::fs::File)> {
        let path = match fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => fs::canonicalize(path)?,
            _ => path.to_owned(),
        };
        let old = fs::metadata(&path).ok();
        if let Some(old) = &old
            && !old.is_file()
        {
            let file = File::options().write(true).open(&path)?;
            return Ok((NewFile { path, temporary: None, old: None }, file.into()));
        }
        let directory = match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        let made = tempfile::Builder::new().prefix(PREFIX).tempfile_in(directory);
        // Its text has the temporary name.
        let made = made.map_err(|error| systems_own(&error))?;
        let (file, temporary) = made.into_parts();
        let listed = Listed::new(&temporary);
        Ok((NewFile { path, temporary: Some((temporary, listed)), old }, file.into()))
    }

    /// Gives it its mode and its name. One that was there keeps what it had, unless the mode is
    /// exact.
    pub(super) fn place(
        self,
        file: &File,
        mode: u32,
        is_exact: bool,
        time: Option<u64>,
        sync: bool,
    ) -> io::Result<()> {
        let Some((temporary, _listed)) = self.temporary else { return Ok(()) };
        let mode = match &self.old {
            _ if is_exact => mode & 0o7777,
            Some(old) => {
                // Only root may give files away.
                let _ = std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()));
                old.permissions().mode() & 0o777
            }
            None => new_mode(mode),
        };
        file.set_permissions(Permissions::from_mode(mode))?;
        if let Some(time) = time {
            set_time(&temporary, time)?;
        }
        if sync {
            file.sync_all()?;
        }
        temporary.persist(&self.path).map_err(|failed| failed.error)
    }
}

/// Makes a directory in a temporary place, and gives it its name when it is told that all has come.
/// Where there is one already, each file takes its place in it.
pub(super) fn place_tree(
    path: &Path,
    options: &Options,
    fill: impl FnOnce(&Path) -> Result<(), FileError>,
    mut is_whole: mpsc::Receiver<bool>,
) -> Result<(), FileError> {
    let cannot = |error: io::Error| FileError::local(path, &error);
    if path.exists() && !path.is_dir() {
        return Err(cannot(io::Error::from_raw_os_error(nix::libc::ENOTDIR)));
    }
    let beside = match path.parent() {
        _ if path.is_dir() => path,
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(beside);
    let temporary = made.map_err(|error| cannot(systems_own(&error)))?;
    let _listed = Listed::new(temporary.path());
    let filled = fill(temporary.path());
    let sure = filled.and_then(|()| match is_whole.blocking_recv() {
        Some(true) => Ok(()),
        // Whoever waited for it has an error already, or is gone.
        _ => Err(cannot(io::ErrorKind::Interrupted.into())),
    });
    let placed = sure.and_then(|()| {
        if options.sync {
            sync(temporary.path()).map_err(cannot)?;
        }
        if path.is_dir() { merge(temporary.path(), path) } else { give_name(&temporary, path) }
            .map_err(cannot)
    });
    if placed.is_err() || path.is_dir() {
        make_removable(temporary.path());
    }
    placed
}

fn give_name(temporary: &TempDir, path: &Path) -> io::Result<()> {
    fs::rename(temporary.path(), path)
}

/// Moves what is in one directory into another, each file over the one that may be there.
fn merge(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() && to.is_dir() {
            merge(&from, &to)?;
        } else {
            fs::rename(&from, &to)?;
        }
    }
    Ok(())
}

/// Puts all files below it on the disk: with the whole file system where that is possible, since
/// one by one takes a hundred times as long for a thousand files.
fn sync(directory: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if nix::unistd::syncfs(File::open(directory)?).is_ok() {
        return Ok(());
    }
    sync_each(directory)
}

fn sync_each(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_each(&entry.path())?;
        } else {
            sync_file(&entry.path())?;
        }
    }
    Ok(())
}

fn sync_file(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        // Its mode lets nobody read it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// What cannot be written to cannot be emptied.
fn make_removable(directory: &Path) {
    let _ = fs::set_permissions(directory, Permissions::from_mode(0o700));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_removable(&entry.path());
        }
    }
}
