//! Where a user's agent is: its directory, its socket, and the locks that keep it the only one.
//!
//! The directory is `$XDG_RUNTIME_DIR/sshpool`, or `sshpool-UID` in the temporary directory. It is
//! only used when it is a directory (no symbolic link), belongs to us and nobody else can enter it;
//! then nobody else can put a socket there or take it away, and what is in it need not be doubted.
//! It is all the same: a directory can have been open to others before, and have kept what they put
//! there. So no link is followed, what is written to is a plain file of ours that has no other
//! name, and who is at the other end of a connection is looked at.
//!
//! Whoever holds `agent.lock` is the agent, and only it makes and removes the socket; whoever holds
//! `start.lock` starts one. Somebody may remove all of it (a cleaner of temporary files does): then
//! another agent comes, and the one before finds that its socket is not there any more and leaves.
//!
//! A socket that systemd has made and handed over (`LISTEN_FDS`, sd_listen_fds(3)) is systemd's: it
//! stays when the agent leaves, and who connects then has systemd start the next one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{FromRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::getuid;

use super::standing::Standing;
use crate::text::plain;

/// A directory that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// The longest path of a socket: 108 bytes on Linux, 104 elsewhere, with a byte of 0 at its end.
const LONGEST: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

const STANDING: &str = "agent.standing";

/// The longest that the log may become.
const LONGEST_LOG: u64 = 1 << 20;

impl Directory {
    /// Looks for the directory, and makes it where it is not there. `Err` says in one line why it
    /// cannot be used.
    pub(crate) fn find() -> Result<Self, String> {
        let directory = directory()?;
        match DirBuilder::new().mode(0o700).create(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(format!("cannot make {}: {}", directory.display(), plain(&error)));
            }
        }
        let found = Directory { path: directory };
        found.check()?;
        let socket = found.socket();
        if socket.as_os_str().len() > LONGEST {
            return Err(format!("the path {} is too long for a socket", socket.display()));
        }
        Ok(found)
    }

    fn check(&self) -> Result<(), String> {
        let path = self.path.display();
        let found = std::fs::symlink_metadata(&self.path)
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

    /// Where sockets of engines are.
    pub(crate) fn sockets(&self) -> Result<PathBuf, String> {
        let path = self.path.join("docker");
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(format!("cannot make {}: {}", path.display(), plain(&error)))
            }
            _ => Ok(path),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    /// What the agent says when nobody listens to it.
    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("agent.log")
    }

    /// Keeps the log from growing without end: of one that is too long the last part stays.
    pub(crate) fn trim_log(&self) -> io::Result<()> {
        let path = self.log();
        let found = std::fs::symlink_metadata(&path)?;
        if !found.is_file() || found.len() <= LONGEST_LOG {
            return Ok(());
        }
        let log = File::open(&path)?;
        let mut last = vec![0; LONGEST_LOG as usize / 4];
        let at = found.len() - last.len() as u64;
        log.read_exact_at(&mut last, at)?;
        let from = last.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // Whoever writes to it does so at its end, wherever that is.
        let mut log = create(&path).map_err(io::Error::other)?;
        log.set_len(0)?;
        log.write_all(&last[from..])
    }

    /// A link of this name to a program, which is how a program is given another name.
    pub(crate) fn link(&self, name: &str, program: &Path) -> Result<PathBuf, String> {
        let link = self.path.join(name);
        if std::fs::read_link(&link).is_ok_and(|target| target == program) {
            return Ok(link);
        }
        let cannot =
            |error: io::Error| format!("cannot make {}: {}", link.display(), plain(&error));
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
        let path = self.path.join(name);
        let file = create(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // A file that has lost its name is nobody's lock any more.
            Ok(lock) => Ok(is_at(&lock, &path).then_some(Lock(lock))),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(format!("cannot lock {}: {}", path.display(), errno.desc())),
        }
    }

    /// Tells clients where the agent stands. For whoever has the right to be the agent.
    pub(crate) fn write_standing(&self, standing: &Standing) -> Result<(), String> {
        let path = self.path.join(STANDING);
        let mut file = create(&path)?;
        let text = serde_json::to_vec(standing).expect("it has text keys");
        file.set_len(0)
            .and_then(|()| file.write_all(&text))
            .map_err(|error| format!("cannot write {}: {}", path.display(), plain(&error)))
    }

    /// Whether an agent may be there.
    pub(crate) fn has_agent(&self) -> bool {
        self.socket().exists()
    }

    /// Where the agent stands that listens here, or the last one that did.
    pub(crate) fn standing(&self) -> Option<Standing> {
        serde_json::from_slice(&std::fs::read(self.path.join(STANDING)).ok()?).ok()
    }

    /// Makes the socket, in the place of whatever is there, or takes the one that was handed over.
    /// For whoever has the right to be the agent.
    pub(crate) fn listen(&self) -> Result<(UnixListener, Socket), String> {
        let path = self.socket();
        if let Some(listener) = handed_over(&path)? {
            let cannot = |error: io::Error| {
                format!("cannot listen on the socket of systemd: {}", plain(&error))
            };
            listener.set_nonblocking(true).map_err(cannot)?;
            let identity = identity(&path).map_err(cannot)?;
            return Ok((listener, Socket { identity, path, is_ours: false }));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot remove {}: {}", path.display(), plain(&error)));
            }
            _ => {}
        }
        let cannot =
            |error: io::Error| format!("cannot listen on {}: {}", path.display(), plain(&error));
        let listener = UnixListener::bind(&path).map_err(cannot)?;
        let identity = identity(&path).map_err(cannot)?;
        let socket = Socket { identity, path: path.clone(), is_ours: true };
        listener.set_nonblocking(true).map_err(cannot)?;
        Ok((listener, socket))
    }
}

/// The socket that systemd has handed over to this process: the only one, and at this path.
fn handed_over(path: &Path) -> Result<Option<UnixListener>, String> {
    let is = |name: &str, expected: &str| std::env::var(name).is_ok_and(|said| said == expected);
    if !is("LISTEN_PID", &std::process::id().to_string()) {
        return Ok(None);
    }
    let wrong = |why: &str| Err(format!("the socket of systemd is not {}: {why}", path.display()));
    if !is("LISTEN_FDS", "1") {
        return wrong("one ListenStream= is expected");
    }
    // SAFETY: whoever has set the variables has opened it for us, and nobody else here uses it.
    let listener = unsafe { UnixListener::from_raw_fd(FIRST_HANDED_OVER) };
    let is_at = listener.local_addr().is_ok_and(|at| at.as_pathname() == Some(path));
    if !is_at {
        return wrong("write ListenStream=%t/sshpool/agent.sock");
    }
    // The copy is closed in the programs that we start.
    let copy = listener.try_clone();
    copy.map(Some).map_err(|error| format!("cannot use the socket of systemd: {}", plain(&error)))
}

/// As sd_listen_fds(3) has it.
const FIRST_HANDED_OVER: RawFd = 3;

/// The socket of an agent.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    /// Not systemd's.
    is_ours: bool,
    /// Device and inode: another agent's is not ours.
    identity: (u64, u64),
}

impl Socket {
    /// Whether another agent may make one in its place.
    pub(crate) fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Whether clients still find it.
    pub(crate) fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|identity| identity == self.identity)
    }

    /// From now on nobody finds it, unless it is systemd's. For whoever still has the right to be
    /// the agent.
    pub(crate) fn remove(&self) {
        if self.is_ours && self.is_there() {
            // Somebody else may be quicker.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn is_at(file: &File, path: &Path) -> bool {
    file.metadata()
        .is_ok_and(|own| identity(path).is_ok_and(|named| named == (own.dev(), own.ino())))
}

/// A lock that is held until this is dropped, or the process ends.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "it is held")] Flock<File>);

/// Opens a file of ours for writing at its end, and makes it where it is not there. `Err` says in
/// one line why it cannot be used.
pub(crate) fn create(path: &Path) -> Result<File, String> {
    // A FIFO must not keep us waiting for its reader.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let opened = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.bits())
        .open(path);
    let strange = || format!("{} is not a plain file of ours: remove it", path.display());
    let file = match opened {
        Ok(file) => file,
        Err(_) if std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) => {
            return Err(strange());
        }
        Err(error) => return Err(format!("cannot open {}: {}", path.display(), plain(&error))),
    };
    match file.metadata() {
        Ok(found) if found.is_file() && is_us(found.uid()) && found.nlink() <= 1 => Ok(file),
        Ok(_) => Err(strange()),
        Err(error) => Err(format!("cannot look at {}: {}", path.display(), plain(&error))),
    }
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
