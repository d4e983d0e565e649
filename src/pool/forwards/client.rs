//! The connection of a client, which does not look complete unless it is.

use std::io;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::tcp;
use tokio::net::unix;
use tokio::net::{TcpStream, UnixStream};

/// A client. Dropped, it is reset, unless it was said to have ended.
#[derive(Debug)]
pub(super) struct Client {
    stream: Option<Stream>,
    has_ended: bool,
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
        }
        Client { stream: Some(stream), has_ended: false }
    }

    pub(super) fn halves(&mut self) -> Halves<'_> {
        match self.stream.as_mut().expect("it is there until this is dropped") {
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
        self.has_ended = true;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A Unix socket knows no reset: there the end of the stream is all that can be said.
        if !self.has_ended
            && let Some(Stream::Tcp(stream)) = &self.stream
            && let Err(error) = reset_on_close(stream)
        {
            tracing::debug!(%error, "a client cannot be reset");
        }
    }
}

/// What is closed so is told as broken, and not as complete.
fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(setsockopt(stream, sockopt::Linger, &at_once)?)
}
