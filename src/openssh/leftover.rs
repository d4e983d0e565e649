//! Directories of pools that are gone.
//!
//! A pool's guard removes its directory however the pool ends, unless the guard is killed in the
//! same instant: as all of a container is, whose directory for temporary files may well outlive it.
//! Such a directory is removed by the next pool that makes one beside it.
//!
//! A pool that lives is never taken for one that is gone. As long as it lives, it and its guard
//! hold a lock on a file in the directory (flock(2)), which is seen in every pid namespace. A lock
//! is seen by the same kernel only, so the file names the boot that it was made in, and of another
//! one nothing is removed; nor where a socket still has somebody who listens.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::fcntl::FlockArg;

/// In the directory of each pool. The other names there are numbers.
const NAME: &str = "lock";
/// What it is called until it is locked: without a lock it would be that of a pool that is gone.
const NEW: &str = "lock.new";
/// What the directories of pools are called, and something behind it.
pub(super) const PREFIX: &str = "sshpool-";
/// What is removed at once, at most: a login waits for it.
const MOST: usize = 100;

/// Says that the pool of this directory lives, until it is dropped with all of its copies. `None`
/// where that cannot be said; then the directory stays whatever happens.
pub(super) fn alive(directory: &Path) -> Option<OwnedFd> {
    let boot = boot()?;
    let made = || -> io::Result<OwnedFd> {
        let new = directory.join(NEW);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        lock(&file)?;
        file.write_all(boot.as_bytes())?;
        std::fs::rename(&new, directory.join(NAME))?;
        Ok(file.into())
    };
    made().ok()
}

/// Removes what [`alive`] has made.
pub(super) fn unsay(directory: &Path) {
    for name in [NAME, NEW] {
        let _ = std::fs::remove_file(directory.join(name));
    }
}

/// Removes the directories in `parent` whose pools are gone.
pub(super) fn clear(parent: &Path) {
    let (Some(boot), Ok(entries)) = (boot(), std::fs::read_dir(parent)) else { return };
    let names = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)));
    let gone = names.filter_map(|entry| {
        let directory = entry.path();
        // The guard moves the directory into another one before it removes both.
        let lock = gone(&directory, &boot).or_else(|| gone(&directory.join("d"), &boot))?;
        Some((directory, lock))
    });
    for (directory, lock) in gone.take(MOST) {
        tracing::info!(path = %directory.display(), "the directory of a pool that is gone is \
            removed");
        let _ = std::fs::remove_dir_all(&directory);
        // As long as it is held nobody else removes it.
        drop(lock);
    }
}

/// The lock of a directory whose pool is gone.
fn gone(directory: &Path, boot: &str) -> Option<File> {
    let found = std::fs::symlink_metadata(directory).ok()?;
    let is_ours = found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw();
    if !is_ours || found.mode() & 0o022 != 0 {
        return None;
    }
    let flags = (nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK).bits();
    let path = directory.join(NAME);
    let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).ok()?;
    lock(&file).ok()?;
    let mut said = String::new();
    (&file).take(100).read_to_string(&mut said).ok()?;
    (said == boot && !somebody_listens(directory)).then_some(file)
}

/// Fails where somebody has it. It ends when the last copy of the descriptor is closed.
#[expect(deprecated, reason = "nix's Flock unlocks when it is dropped, copies of it or not")]
fn lock(file: &File) -> io::Result<()> {
    Ok(nix::fcntl::flock(file.as_raw_fd(), FlockArg::LockExclusiveNonblock)?)
}

/// A master can outlive both its pool and the guard, where these were killed one by one.
fn somebody_listens(directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return true };
    let is_socket =
        |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_socket());
    entries.flatten().filter(is_socket).any(|entry| UnixStream::connect(entry.path()).is_ok())
}

/// The boot of this machine (random(4)); the same in all its containers.
fn boot() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let boot = text.trim();
    (boot.len() == 36).then(|| boot.to_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    /// A directory as a pool makes one, in a parent of the test's own.
    fn made(parent: &Path, name: &str) -> std::path::PathBuf {
        let directory = parent.join(format!("{PREFIX}{name}"));
        std::fs::create_dir(&directory).expect("a directory");
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o700))
            .expect("it is ours");
        std::fs::write(directory.join("0.log"), "").expect("a file");
        directory
    }

    /// Whether this is removed soon: a process that another test starts at this moment has the
    /// descriptors of ours until it runs its program.
    fn is_cleared(parent: &Path, directory: &Path) -> bool {
        (0..500).any(|_| {
            clear(parent);
            if directory.exists() {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            !directory.exists()
        })
    }

    #[test]
    fn g12_only_the_directory_of_a_pool_that_is_gone_is_removed() {
        let parent = tempfile::tempdir().expect("a directory");
        let (lives, gone) = (made(parent.path(), "lives"), made(parent.path(), "gone"));
        let lock = alive(&lives).expect("it can be locked");
        drop(alive(&gone).expect("it can be locked"));
        // As former versions made them, and as somebody else might.
        let unknown = made(parent.path(), "unknown");
        let elsewhere = made(parent.path(), "elsewhere");
        std::fs::write(elsewhere.join(NAME), "4a3f7a2e-0000-0000-0000-000000000000")
            .expect("a file");
        let other = parent.path().join("other-pool");
        std::fs::rename(made(parent.path(), "other"), &other).expect("it can be moved");
        drop(alive(&other).expect("it can be locked"));
        let link = parent.path().join(format!("{PREFIX}link"));
        std::os::unix::fs::symlink(&other, &link).expect("a link");

        assert!(is_cleared(parent.path(), &gone));
        for kept in [&lives, &unknown, &elsewhere, &other, &link] {
            assert!(kept.exists(), "{}", kept.display());
        }
        // A copy of the descriptor, as the guard has one, is as good as the first.
        let copy = lock.try_clone().expect("a copy");
        drop(lock);
        clear(parent.path());
        assert!(lives.exists());
        drop(copy);
        assert!(is_cleared(parent.path(), &lives));
    }

    #[test]
    fn g12_a_socket_with_a_listener_keeps_its_directory() {
        let parent = tempfile::tempdir().expect("a directory");
        let directory = made(parent.path(), "orphan");
        drop(alive(&directory).expect("it can be locked"));
        let listener = UnixListener::bind(directory.join("1")).expect("it can be bound");
        clear(parent.path());
        assert!(directory.exists());
        drop(listener);
        assert!(is_cleared(parent.path(), &directory));
    }

    #[test]
    fn g12_what_a_guard_was_killed_over_is_removed() {
        let parent = tempfile::tempdir().expect("a directory");
        let outer = parent.path().join(format!("{PREFIX}x.gone"));
        std::fs::create_dir(&outer).expect("a directory");
        let directory = made(parent.path(), "x");
        drop(alive(&directory).expect("it can be locked"));
        std::fs::rename(&directory, outer.join("d")).expect("it can be moved");
        assert!(is_cleared(parent.path(), &outer));
    }
}
