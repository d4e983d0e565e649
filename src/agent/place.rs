//! Where a user's agent is: its directory, its socket, and the locks that keep it the only one.
//!
//! The directory is `$XDG_RUNTIME_DIR/sshpool`, or `sshpool-UID` in the temporary directory. It is only used when it is a directory (no
//! symbolic link), belongs to us and nobody else can enter it; then nobody else can put a socket there or take it away, and what is in it
//! need not be doubted. Who is at the other end of a connection is looked at all the same.
//!
//! Whoever holds `agent.lock` is the agent, and only it makes and removes the socket; whoever holds `start.lock` starts one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::getuid;

use crate::error::plain;

/// A directory that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    directory: PathBuf,
}

/// The longest path of a socket: 108 bytes on Linux, 104 elsewhere, with a byte of 0 at its end.
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

impl Place {
    /// Looks for the directory, and makes it where it is not there. `Err` says in one line why it cannot be used.
    pub(crate) fn find() -> Result<Self, String> {
        let directory = directory()?;
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(format!("cannot make {}: {}", directory.display(), plain(&error))),
        }
        let place = Place { directory };
        place.check()?;
        let socket = place.socket();
        if socket.as_os_str().len() > LONGEST {
            return Err(format!("the path {} is too long for a socket", socket.display()));
        }
        Ok(place)
    }

    fn check(&self) -> Result<(), String> {
        let path = self.directory.display();
        let found = std::fs::symlink_metadata(&self.directory)
            .map_err(|error| format!("cannot look at {path}: {}", plain(&error)))?;
        if !found.is_dir() {
            return Err(format!("{path} is not a directory: remove it"));
        }
        let owner = found.uid();
        if owner != getuid().as_raw() {
            return Err(format!("{path} belongs to another user (uid {owner})"));
        }
        let mode = found.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(format!("{path} is open to others (mode {mode:04o}): chmod 700 {path}"));
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("agent.sock")
    }

    /// What the agent says when nobody listens to it.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("agent.log")
    }

    /// A link of this name to a program, which is how a program is given another name.
    pub(crate) fn link(&self, name: &str, program: &Path) -> Result<PathBuf, String> {
        let link = self.directory.join(name);
        if std::fs::read_link(&link).is_ok_and(|target| target == program) {
            return Ok(link);
        }
        let cannot = |error: io::Error| format!("cannot make {}: {}", link.display(), plain(&error));
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
        std::os::unix::fs::symlink(program, &link).map_err(cannot)?;
        Ok(link)
    }

    /// The right to be the agent. `None` while somebody else has it.
    pub(crate) fn lock_agent(&self) -> Result<Option<Lock>, String> {
        self.lock("agent.lock")
    }

    /// The right to start an agent. `None` while somebody else has it.
    pub(crate) fn lock_start(&self) -> Result<Option<Lock>, String> {
        self.lock("start.lock")
    }

    fn lock(&self, name: &str) -> Result<Option<Lock>, String> {
        let path = self.directory.join(name);
        let file =
            create(&path).map_err(|error| format!("cannot open {}: {}", path.display(), plain(&error)))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Lock(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(format!("cannot lock {}: {}", path.display(), errno.desc())),
        }
    }
}

/// A lock that is held until this is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held")] Flock<File>);

/// Opens a file of ours for writing, and makes it where it is not there.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)?;
    Ok(file)
}

/// Whether this is our own user.
pub(crate) fn is_us(uid: u32) -> bool {
    uid == getuid().as_raw()
}

fn directory() -> Result<PathBuf, String> {
    let parent = crate::openssh::parent_directory().map_err(|error| error.detail().to_owned())?;
    if !parent.is_absolute() {
        return Err(format!("TMPDIR is {}, which is not an absolute path", parent.display()));
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|path| parent == Path::new(&path));
    Ok(parent.join(if own { "sshpool".to_owned() } else { format!("sshpool-{}", getuid()) }))
}
