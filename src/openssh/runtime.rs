//! What one pool has on this machine: a private directory for sockets and logs, and the guard that removes it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::args::LONGEST_SOCKET;
use super::guard::Guard;
use crate::error::{ConnectError, ConnectErrorKind, plain};

/// How long the end of the last processes is waited for. A master's supervisor needs half a second at most, and a session ends with its
/// master; but whoever holds a session may never look at it again.
const LAST_PROCESSES: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Runtime {
    guard: Guard,
    directory: tempfile::TempDir,
    /// Device and inode of the directory: one that somebody else has made in its place is not ours.
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
        let parent = parent_directory();
        // Checked before anything is started: ssh itself finds out only after it has logged in. 20 digits are the longest number.
        let longest = parent.join("sshpool-XXXXXX").as_os_str().len() + "/".len() + 20;
        if longest > LONGEST_SOCKET {
            return Err(local(format!(
                "the path for control sockets would be {longest} bytes long below {}, {LONGEST_SOCKET} are possible: \
                 set XDG_RUNTIME_DIR or TMPDIR to a shorter directory",
                parent.display()
            )));
        }
        let cannot = |error: io::Error| {
            local(format!(
                "no directory for control sockets below {}: {} (set XDG_RUNTIME_DIR or TMPDIR to another)",
                parent.display(),
                plain(&error)
            ))
        };
        let directory = tempfile::Builder::new()
            .prefix("sshpool-")
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(&parent)
            .map_err(cannot)?;
        let identity = identity_of(directory.path()).map_err(cannot)?;
        let guard = Guard::start(directory.path()).map_err(|error| {
            // Removing all of a directory takes a descriptor, and there may be none; removing an empty one does not.
            let _ = std::fs::remove_dir(directory.path());
            local(format!("cannot start /bin/sh: {}", plain(&error)))
        })?;
        Ok(Runtime { guard, directory, identity, next: AtomicU64::new(0), processes: watch::Sender::new(0) })
    }

    /// Whether the directory is still there, and the one that was made.
    pub(super) fn is_there(&self) -> bool {
        identity_of(self.directory.path()).is_ok_and(|identity| identity == self.identity)
    }

    /// A path that nothing has used before: a master that finds its socket's path taken runs on without one.
    pub(super) fn fresh_path(&self) -> PathBuf {
        self.directory.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string())
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

    /// Waits until every process is gone, then removes the directory and waits for the guard to end.
    pub(super) async fn finish(self: Arc<Self>) {
        // The sender is in `self`: the channel is open.
        let _ =
            timeout(LAST_PROCESSES, self.processes.subscribe().wait_for(|&processes| processes == 0)).await;
        self.guard.finish().await;
        // The guard has removed it, unless somebody killed the guard.
        let path = self.directory.path();
        if let Err(error) = std::fs::remove_dir_all(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %path.display(), "the directory of the control sockets is left behind");
        }
    }
}

fn identity_of(directory: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(directory).map(|found| (found.dev(), found.ino()))
}

/// `$XDG_RUNTIME_DIR`, which belongs to the user alone and is emptied at logout, or the directory for temporary files.
fn parent_directory() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && is_usable(path))
        .unwrap_or_else(std::env::temp_dir)
}

/// After `su` the variable often still names the directory of somebody else.
fn is_usable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
}

pub(super) fn local(detail: String) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Local, detail, Vec::new())
}
