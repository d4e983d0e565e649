//! What one pool has on this machine: a private directory for sockets and logs, and the guard that
//! removes it.

use std::fs::{File, Metadata, OpenOptions, metadata, symlink_metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::args::LONGEST_SOCKET;
use super::guard::Guard;
use super::leftover;
use crate::error::{ConnectError, ConnectErrorKind};
use crate::text::plain;

/// How long to wait for the end of the last processes. A master's supervisor needs half a second at
/// most, and a session ends with its master; but a program that holds a session may never poll it
/// again.
const LAST_PROCESSES: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Runtime {
    guard: Guard,
    directory: tempfile::TempDir,
    /// Device and inode of the directory. Another directory at the same path is not ours.
    identity: (u64, u64),
    next: AtomicU64,
    /// Masters and sessions whose processes are not known to be gone.
    processes: watch::Sender<usize>,
}

/// One process that the end of the runtime waits for.
#[derive(Debug)]
pub(super) struct Claim(Arc<Runtime>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.processes.send_modify(|processes| *processes -= 1);
    }
}

/// A master's claim on the runtime, held by its supervisor.
#[derive(Debug)]
pub(super) struct Tenancy {
    claim: Claim,
    pid: u32,
}

impl Tenancy {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Tenancy {
    fn drop(&mut self) {
        self.claim.0.guard.reaped(self.pid);
    }
}

impl Runtime {
    pub(super) fn create() -> Result<Self, ConnectError> {
        let parent = parent_directory()?;
        // Checked before anything is started: ssh itself finds out only after it has logged in. 20
        // digits are the longest number.
        let longest =
            parent.join(format!("{}XXXXXX", leftover::PREFIX)).as_os_str().len() + "/".len() + 20;
        if longest > LONGEST_SOCKET {
            return Err(local(format!(
                "the path for control sockets would be {longest} bytes long below {}, \
                    {LONGEST_SOCKET} are possible: \
                 set XDG_RUNTIME_DIR or TMPDIR to a shorter directory",
                parent.display()
            )));
        }
        let cannot = |error: io::Error| {
            local(format!(
                "no directory for control sockets below {}: {} (set XDG_RUNTIME_DIR or TMPDIR to \
                    another)",
                parent.display(),
                plain(&error)
            ))
        };
        leftover::clear(&parent);
        let directory = tempfile::Builder::new()
            .prefix(leftover::PREFIX)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(cannot)?;
        let identity = identity_of(directory.path()).map_err(cannot)?;
        let alive = leftover::alive(directory.path());
        let guard = Guard::start(directory.path(), alive).map_err(|error| {
            // Removing all of a directory takes a descriptor, and there may be none; removing a
            // file and an empty one does not.
            leftover::unsay(directory.path());
            let _ = std::fs::remove_dir(directory.path());
            local(format!("cannot start /bin/sh: {}", plain(&error)))
        })?;
        Ok(Runtime {
            guard,
            directory,
            identity,
            next: AtomicU64::new(0),
            processes: watch::Sender::new(0),
        })
    }

    /// Whether the directory is still there, and the one that was made.
    pub(super) fn is_there(&self) -> bool {
        identity_of(self.directory.path()).is_ok_and(|identity| identity == self.identity)
    }

    /// A path that nothing has used before: a master that finds its socket's path taken runs on
    /// without one.
    pub(super) fn fresh_path(&self) -> PathBuf {
        self.directory.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// A file for our user alone, whatever the umask is. It fails if the file exists.
    pub(super) fn create_file(path: &Path) -> io::Result<File> {
        OpenOptions::new().append(true).create_new(true).mode(0o600).open(path)
    }

    /// Starts a master under the eyes of the guard.
    pub(super) fn spawn(self: &Arc<Self>, command: &mut Command) -> io::Result<(Child, Tenancy)> {
        let (child, pid) = self.guard.spawn(command)?;
        Ok((child, Tenancy { claim: self.claim(), pid }))
    }

    pub(super) fn claim(self: &Arc<Self>) -> Claim {
        self.processes.send_modify(|processes| *processes += 1);
        Claim(Arc::clone(self))
    }

    /// Waits until every process is gone, then removes the directory and waits for the guard to
    /// end.
    pub(super) async fn finish(self: Arc<Self>) {
        // The sender is in `self`: the channel is open.
        let _ = timeout(
            LAST_PROCESSES,
            self.processes.subscribe().wait_for(|&processes| processes == 0),
        )
        .await;
        self.guard.finish().await;
        // The guard has removed it, unless the guard was killed.
        let path = self.directory.path();
        if let Err(error) = std::fs::remove_dir_all(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "the directory of the control sockets \
                is left behind");
        }
    }
}

fn identity_of(directory: &Path) -> io::Result<(u64, u64)> {
    symlink_metadata(directory).map(|found| (found.dev(), found.ino()))
}

/// `$XDG_RUNTIME_DIR`, which belongs to the user alone and is emptied at logout, or the directory
/// for temporary files.
pub(crate) fn parent_directory() -> Result<PathBuf, ConnectError> {
    if let Some(path) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && path.is_absolute()
        && is_own(&path)
    {
        return Ok(path);
    }
    let path = std::env::temp_dir();
    if let Some(owner) = stranger(&path) {
        return Err(local(format!(
            "{} belongs to user {owner}, who could put other control sockets in the place of ours: \
                set XDG_RUNTIME_DIR or \
             TMPDIR to another directory",
            path.display()
        )));
    }
    if metadata(&path).is_ok_and(|found| is_open(&found)) {
        // Refusing it would leave nothing where the only directory for temporary files is like
        // that, as a volume of a container may be.
        tracing::warn!(path = %path.display(), "other users can rename what is in this directory: \
            it should have the sticky bit");
    }
    Ok(path)
}

/// Whether no other user can change what is in the directory, as the XDG specification demands.
/// After `su` the variable often still names another user's directory, which root could write to.
fn is_own(path: &Path) -> bool {
    use nix::unistd::AccessFlags;
    stranger(path).is_none()
        && metadata(path).is_ok_and(|found| found.mode() & 0o022 == 0)
        && nix::unistd::access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// The other user that owns it, be it a symbolic link or its target: the owner of a directory can
/// rename what is in it. Root can do so anyway.
fn stranger(path: &Path) -> Option<u32> {
    /// The id that a user namespace shows for ids that it does not know; root is often one of them.
    const NOBODY: u32 = 65534;
    let own = nix::unistd::geteuid().as_raw();
    let found = [symlink_metadata(path), metadata(path)].into_iter().flatten();
    let known = |found: &Metadata| {
        let sticky_of_nobody = found.uid() == NOBODY && found.mode() & STICKY != 0;
        [0, own].contains(&found.uid()) || sticky_of_nobody
    };
    found.filter(|found| !known(found)).map(|found| found.uid()).next()
}

/// Whether others may rename what is in it.
fn is_open(directory: &Metadata) -> bool {
    directory.mode() & 0o022 != 0 && directory.mode() & STICKY == 0
}

const STICKY: u32 = 0o1000;

pub(super) fn local(detail: String) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Local, detail, Vec::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::os::unix::fs::{chown, symlink};

    /// Only root can give something away, and only to others is it strange.
    fn given_away(path: &Path) -> bool {
        nix::unistd::geteuid().is_root() && chown(path, Some(4711), None).is_ok()
    }

    fn directory(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(mode))
            .expect("it is ours");
        directory
    }

    #[rstest]
    #[case::private(0o700, true)]
    #[case::readable(0o755, true)]
    #[case::of_a_group(0o770, false)]
    #[case::of_everybody(0o777, false)]
    #[case::as_for_temporary_files(0o1777, false)]
    fn a_runtime_directory_is_for_its_user_alone(#[case] mode: u32, #[case] is_it: bool) {
        assert_eq!(is_own(directory(mode).path()), is_it);
    }

    #[rstest]
    #[case(0o700, false)]
    #[case(0o1777, false)]
    #[case(0o777, true)]
    #[case(0o770, true)]
    fn a_directory_is_open_where_others_can_rename(#[case] mode: u32, #[case] is_it: bool) {
        assert_eq!(is_open(&metadata(directory(mode).path()).expect("it is there")), is_it);
    }

    #[test]
    fn a_directory_of_somebody_else_is_told() {
        let (strange, own) = (directory(0o777), directory(0o700));
        assert_eq!(stranger(own.path()), None);
        assert_eq!(stranger(Path::new("/nonexistent")), None);
        if given_away(strange.path()) {
            assert_eq!((stranger(strange.path()), is_own(strange.path())), (Some(4711), false));
            let link = own.path().join("link");
            symlink(strange.path(), &link).expect("a link");
            assert_eq!(stranger(&link), Some(4711), "what it leads to");
        }
    }

    #[test]
    fn a_link_of_somebody_else_is_told() {
        let (target, place) = (directory(0o700), directory(0o700));
        let link = place.path().join("link");
        symlink(target.path(), &link).expect("a link");
        assert_eq!((stranger(&link), is_own(&link)), (None, true));
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::lchown(&link, Some(4711), None).expect("root may");
            assert_eq!((stranger(&link), is_own(&link)), (Some(4711), false));
        }
    }
}
