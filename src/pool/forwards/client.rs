//! The connection of a client, which does not look complete unless it is.

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::tcp;
use tokio::net::unix;
use tokio::net::{TcpStream, UnixStream};

/// A client. It is reset when it is dropped, and when this process is killed, unless it was said to
/// have ended.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
}

#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The two directions of a client.
pub(super) enum Halves<'a> {
    Tcp(tcp::ReadHalf<'a>, tcp::WriteHalf<'a>),
    Unix(unix::ReadHalf<'a>, unix::WriteHalf<'a>),
}

impl Client {
    pub(super) fn new(stream: Stream) -> Self {
        if let Stream::Tcp(stream) = &stream {
            // As ssh does for what it forwards. A client that is gone needs it no more.
            let _ = stream.set_nodelay(true);
            // Now, since nobody can do it any more when this process is killed. A Unix socket knows
            // no reset: there the end of the stream is all that can be said.
            resets_on_close(stream, true);
        }
        Client { stream }
    }

    pub(super) fn halves(&mut self) -> Halves<'_> {
        match &mut self.stream {
            Stream::Tcp(stream) => {
                let (read, write) = stream.split();
                Halves::Tcp(read, write)
            }
            Stream::Unix(stream) => {
                let (read, write) = stream.split();
                Halves::Unix(read, write)
            }
        }
    }

    /// Both sides have ended it: nothing of it is missing.
    pub(super) fn has_ended(&mut self) {
        if let Stream::Tcp(stream) = &self.stream {
            resets_on_close(stream, false);
        }
    }
}

/// What is closed so is told as broken, and not as complete.
fn resets_on_close(stream: &TcpStream, resets: bool) {
    let linger = nix::libc::linger { l_onoff: resets.into(), l_linger: 0 };
    if let Err(error) = setsockopt(stream, sockopt::Linger, &linger) {
        tracing::debug!(%error, resets, "how a client's connection ends cannot be said");
    }
}
