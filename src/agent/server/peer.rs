//! Who is at the other end of a connection, and whether they are still there.
//!
//! A client that goes away has its command ended. Reading would tell, but not while what it has
//! sent before waits to be read: input that the command does not take, or another request. So the
//! system is asked, beside whoever reads.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::host::Caller;

#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Its process, where the system tells.
    pub pid: Option<i32>,
    /// A handle of our own: the connection belongs to whoever serves it. `None` where there was no
    /// descriptor for one.
    socket: Option<Arc<OwnedFd>>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> Self {
        Peer {
            pid: stream.peer_cred().ok().and_then(|peer| peer.pid()),
            socket: stream.as_fd().try_clone_to_owned().ok().map(Arc::new),
        }
    }

    /// Who asks: its process, which is another one than any that has its number later.
    pub(super) fn caller(&self) -> Caller {
        static STRANGERS: AtomicU64 = AtomicU64::new(0);
        let started = self.pid.and_then(started);
        match (self.pid, started) {
            (Some(pid), Some(started)) => Caller::Process { pid, started },
            _ => Caller::Stranger(STRANGERS.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Whether the client has closed the connection, both ways. At once, where [`gone`](Self::gone)
    /// needs a moment to find out.
    pub(super) fn is_gone(&self) -> bool {
        let Some(socket) = &self.socket else { return false };
        // What is looked for need not be asked for.
        let mut sockets = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        let _ = poll(&mut sockets, PollTimeout::ZERO);
        sockets[0]
            .revents()
            .is_some_and(|said| said.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }

    /// Completes when the client has closed its side of the connection, or is gone.
    pub(super) async fn gone(&self) {
        // SAFETY: the descriptor is the handle's own, which stays open and the same for as long as
        // it is registered.
        let registered =
            |socket| unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        let Some(Ok(socket)) = self.socket.clone().map(registered) else {
            // Reading will have to do.
            return std::future::pending().await;
        };
        loop {
            // It fails only with the runtime.
            let Ok(mut ready) = socket.readable().await else {
                return std::future::pending().await;
            };
            if ready.ready().is_read_closed() {
                return;
            }
            // Something can be read, and that is for somebody else. The next event is news again.
            ready.clear_ready();
        }
    }
}

/// When a process has started, where the system tells: a number that only another start of the
/// machine has again.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a name in parentheses, which may have anything in it.
    let behind = stat.iter().rposition(|&byte| byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[behind..]).ok()?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_process_is_told_from_others() {
        let (server, _client) = UnixStream::pair().expect("a pair");
        let peer = Peer::of(&server);
        if !std::path::Path::new("/proc/self/stat").exists() {
            assert_ne!(peer.caller(), peer.caller(), "nobody is taken for somebody else");
            return;
        }
        let pid = i32::try_from(std::process::id()).expect("a process");
        assert!(matches!(peer.caller(), Caller::Process { pid: of, .. } if of == pid));
        assert_eq!(peer.caller(), peer.clone().caller());
        let other = Peer { pid: Some(nix::unistd::getppid().as_raw()), socket: None };
        let (own, others) = (started(pid), other.pid.and_then(started));
        assert!(own.is_some() && own >= others, "{own:?}, {others:?}");
        assert_ne!(other.caller(), peer.caller());
        // More than any process has.
        let gone = Peer { pid: Some(i32::MAX), socket: None };
        assert_ne!(gone.caller(), gone.caller(), "of who is gone nothing is known");
    }

    #[tokio::test]
    async fn a_client_is_gone_though_nobody_has_read_what_it_has_sent() {
        for half in [true, false] {
            let (server, mut client) = UnixStream::pair().expect("a pair");
            let peer = Peer::of(&server);
            for _ in 0..3 {
                client.write_all(b"x").await.expect("there is room");
                timeout(Duration::from_millis(20), peer.gone()).await.expect_err("it is there");
                assert!(!peer.is_gone());
            }
            match half {
                true => client.shutdown().await.expect("it is open"),
                false => drop(client),
            }
            // Another test's process may hold the client's side between its fork and its exec, so
            // it may take a moment until the connection is closed.
            peer.gone().await;
            assert_eq!(peer.is_gone(), !half);
            peer.gone().await;
        }
    }
}
