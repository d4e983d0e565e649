//! Our ends of a session's three streams, and the sign that its command has begun.
//!
//! A session that takes its command from its input says on its standard output when it has it.
//! [`Output`] is the only reader of that sign: it takes the sign out of what it passes on, wherever
//! it comes, and tells whether it was there. What start-up files print before it is passed on.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Our ends of a session's three streams.
pub(crate) struct Streams {
    /// Not there where all that there is to read was given when the session was opened.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Sync + Unpin>>,
    pub stdout: Output,
    pub stderr: Box<dyn Source>,
}

/// What a session writes.
pub(crate) trait Source: AsyncRead + Send + Sync + Unpin {
    /// Reads what has arrived, without waiting: of a session that has ended nothing more comes.
    /// 0 where nothing is there.
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (**self).read_now(buf)
    }
}

/// The sign that a command has begun, as the mechanism knows it.
pub(crate) trait Marker: Send + Sync {
    /// Takes the sign out of `output`, if it is there, and says whether it was. `output` is what
    /// came since the last [`forget`](Self::forget).
    fn take_from(&mut self, output: &mut Vec<u8>) -> bool;

    /// How many bytes at the beginning of the output cannot be a part of the sign. They are not
    /// looked at again.
    fn forget(&mut self) -> usize;
}

/// The standard output of a session, without the sign that its command has begun.
pub(crate) struct Output {
    source: Box<dyn Source>,
    /// What finds the sign. `None` once it was found, and where there is none.
    marker: Option<Box<dyn Marker>>,
    has_begun: bool,
    /// What was read and may be a part of the sign.
    held: Vec<u8>,
    /// What was read before it and is to be passed on.
    ready: VecDeque<u8>,
}

/// What is read at once while the sign is looked for.
const PIECE: usize = 8 * 1024;

impl Output {
    /// Without a marker a command has begun as soon as there is a session.
    pub(crate) fn new(source: Box<dyn Source>, marker: Option<Box<dyn Marker>>) -> Self {
        Output {
            source,
            has_begun: marker.is_none(),
            marker,
            held: Vec::new(),
            ready: VecDeque::new(),
        }
    }

    /// Whether the sign has come, or there is none.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Reads until the command has begun, or to the end: `false`. `early` gets what was printed
    /// before, and `check` may shorten it, or end the reading.
    ///
    /// Cancel safe: what was read is in `early`, or comes with the next read.
    pub(crate) async fn begun<E>(
        &mut self,
        early: &mut Vec<u8>,
        mut check: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<bool, E> {
        while !self.has_begun {
            early.extend(self.ready.drain(..));
            check(early)?;
            // A pipe does not fail; if it ever does, there is nothing more to come from it.
            if !matches!(poll_fn(|cx| self.poll_fill(cx)).await, Ok(1..)) {
                break;
            }
        }
        Ok(self.has_begun)
    }

    /// What has come and was passed on to nobody: it may have a part of the sign in it.
    pub(crate) fn unread(&self) -> impl Iterator<Item = u8> + '_ {
        self.ready.iter().chain(&self.held).copied()
    }

    /// Reads into what is held, and looks for the sign.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [0; PIECE];
        let mut buf = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.source).poll_read(cx, &mut buf))?;
        let read = buf.filled().len();
        self.took(&piece[..read]);
        Poll::Ready(Ok(read))
    }

    /// Looks for the sign in what has come. Nothing at all is the end.
    fn took(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        if self.marker.as_mut().is_some_and(|marker| marker.take_from(&mut self.held)) {
            (self.marker, self.has_begun) = (None, true);
        }
        let passed = match &mut self.marker {
            Some(marker) if !bytes.is_empty() => marker.forget(),
            _ => self.held.len(),
        };
        self.ready.extend(self.held.drain(..passed));
    }

    /// Passes on what is ready.
    fn pass_on(&mut self, buf: &mut [u8]) -> usize {
        // Reading from a deque does not fail.
        self.ready.read(buf).unwrap_or(0)
    }
}

impl Source for Output {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && self.marker.is_some() {
            let mut piece = [0; PIECE];
            let read = self.source.read_now(&mut piece)?;
            self.took(&piece[..read]);
            if read == 0 {
                break;
            }
        }
        match self.pass_on(buf) {
            0 if self.marker.is_none() => self.source.read_now(buf),
            passed => Ok(passed),
        }
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.ready.is_empty() && self.marker.is_some() {
            if ready!(self.poll_fill(cx))? == 0 {
                break;
            }
        }
        if self.ready.is_empty() && self.marker.is_none() {
            return Pin::new(&mut self.source).poll_read(cx, buf);
        }
        let passed = self.pass_on(buf.initialize_unfilled());
        buf.advance(passed);
        Poll::Ready(Ok(()))
    }
}
