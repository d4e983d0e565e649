//! What the system shows of a master from outside, without asking anything of it.
//!
//! It matters at one moment: a session has ended, and its end counts only if the connection was
//! there to bring it. A master that loses its connection closes the socket on which it listens,
//! then those of its sessions, and only then its connection; it removes the path of its socket
//! last, and exits. One that is killed counts for the system as exiting before any of its sockets
//! is closed. So a master that listens and does not exit, seen after the end of a session, was
//! alive at that end.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

/// A master at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It takes sessions.
    Listens,
    /// It exits, or takes no more sessions: it was told to drain, or it is about to exit.
    IsLeaving,
    /// Nobody can look now: no descriptor is free, for instance.
    Unseen,
}

/// Looks at the process that listens on this socket. Never blocks.
pub(super) fn look(pid: u32, socket: &Path) -> Presence {
    // In this order: one that is killed in between is seen to exit.
    let listens = listens(socket);
    match (listens, is_exiting(pid)) {
        (Some(true), Some(false)) => Presence::Listens,
        (Some(false), _) | (_, Some(true)) => Presence::IsLeaving,
        _ => Presence::Unseen,
    }
}

/// Whether somebody listens on this socket; `None` where that cannot be known now.
fn listens(path: &Path) -> Option<bool> {
    let Ok(address) = UnixAddr::new(path) else { return Some(false) };
    let asking = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).ok()?;
    let _ = fcntl(&asking, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
    match connect(asking.as_raw_fd(), &address) {
        // `EAGAIN` is a listener with many who wait to be heard.
        Ok(()) | Err(Errno::EAGAIN) => Some(true),
        Err(Errno::ECONNREFUSED) => Some(false),
        // The path is gone, which its master removes last; or somebody has removed the directory,
        // and the master listens on.
        Err(_) => is_listed(path),
    }
}

/// Whether the system knows a listener that was bound to this path, be the path there or not.
#[cfg(target_os = "linux")]
fn is_listed(path: &Path) -> Option<bool> {
    // ssh binds a temporary name, the path with something behind it, and links the path to that.
    let path = path.to_str()?;
    match std::fs::read("/proc/net/unix") {
        Ok(table) => {
            Some(String::from_utf8_lossy(&table).lines().any(|line| is_listener(line, path)))
        }
        Err(error) if is_shortage(&error) => None,
        Err(_) => Some(false),
    }
}

/// A line of /proc/net/unix (unix(7)): number, references, protocol, flags, type, state, inode,
/// path.
#[cfg(target_os = "linux")]
fn is_listener(line: &str, path: &str) -> bool {
    const SO_ACCEPTCON: &str = "00010000";
    let mut fields = line.split_ascii_whitespace();
    let flags = fields.nth(3);
    let bound = line.find(path).map(|at| &line[at + path.len()..]);
    flags == Some(SO_ACCEPTCON)
        && bound.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Nobody tells: as good as not there.
#[cfg(not(target_os = "linux"))]
fn is_listed(_: &Path) -> Option<bool> {
    Some(false)
}

/// Whether the process has begun to exit: `PF_EXITING` in the flags of proc_pid_stat(5), which
/// stands there before its descriptors are closed. `None` where that cannot be known now.
#[cfg(target_os = "linux")]
fn is_exiting(pid: u32) -> Option<bool> {
    const PF_EXITING: u64 = 0x4;
    let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if is_shortage(&error) => return None,
        // One that is not there has exited, where any can be seen. What cannot be read for another
        // reason says nothing.
        Err(error) => {
            // `ESRCH`: it went between the opening of the file and the reading.
            let gone = error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(Errno::ESRCH as i32);
            return Some(gone && Path::new("/proc/self/stat").exists());
        }
    };
    // Behind the name in brackets, which can contain anything: state, parent, group, session,
    // terminal, its group, flags.
    let flags =
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(6)?.parse::<u64>().ok());
    Some(flags.is_some_and(|flags| flags & PF_EXITING != 0))
}

/// Nobody tells: one that is being killed may be taken for alive for a moment.
#[cfg(not(target_os = "linux"))]
fn is_exiting(_: u32) -> Option<bool> {
    Some(false)
}

/// Whether something is missing here that may be there again in a moment.
#[cfg(target_os = "linux")]
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EINTR];
    shortages.iter().any(|shortage| error.raw_os_error() == Some(*shortage as i32))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_process_that_lives_is_not_exiting_and_one_that_is_not_there_is() {
        assert_eq!(is_exiting(std::process::id()), Some(false));
        // More than the kernel gives (`PID_MAX_LIMIT`, proc_sys_kernel(5)).
        assert_eq!(is_exiting(1 << 23), Some(true));
    }

    /// Whether a socket that has been closed is seen to be: a process that another test starts at
    /// this moment has it until it runs its program.
    fn is_leaving_soon(path: &Path) -> bool {
        (0..500).any(|_| {
            let leaves = look(std::process::id(), path) == Presence::IsLeaving;
            if !leaves {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            leaves
        })
    }

    #[test]
    fn a_listener_is_seen_wherever_its_path_is() {
        let directory = tempfile::tempdir().expect("a directory");
        // As ssh binds it: another name first.
        let (path, bound) = (directory.path().join("0"), directory.path().join("0.AbCdEf"));
        let pid = std::process::id();
        assert_eq!(look(pid, &path), Presence::IsLeaving);
        let listener = UnixListener::bind(&bound).expect("it can be bound");
        std::fs::hard_link(&bound, &path).expect("a link");
        std::fs::remove_file(&bound).expect("it is there");
        assert_eq!(look(pid, &path), Presence::Listens);
        assert_eq!(look(1 << 23, &path), Presence::IsLeaving);
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(look(pid, &path), Presence::Listens, "somebody else has removed the path");
        assert_eq!(look(pid, &directory.path().join("1")), Presence::IsLeaving);
        drop(listener);
        assert!(is_leaving_soon(&path));
    }

    #[test]
    fn one_that_has_closed_its_socket_is_leaving_though_the_path_is_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0");
        drop(UnixListener::bind(&path).expect("it can be bound"));
        assert!(is_leaving_soon(&path));
    }

    #[test]
    fn connections_of_a_listener_are_no_listeners() {
        let (own, listener) =
            ("/tmp/x/1", "0000000000000000: 00000002 00000000 00010000 0001 01 34 ");
        let connection = "0000000000000000: 00000003 00000000 00000000 0001 03 35 ";
        for (line, path, expected) in [
            (listener, "/tmp/x/1.AbCd", true),
            (listener, "/tmp/x/1", true),
            (listener, "/tmp/x/11.AbCd", false),
            (connection, "/tmp/x/1.AbCd", false),
        ] {
            assert_eq!(is_listener(&format!("{line}{path}"), own), expected, "{line}{path}");
        }
    }
}
