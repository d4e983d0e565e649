//! What comes from a lane, up to the end of one command.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::openssh::pipes::read_now;
use crate::transport::Source;

/// The numbers of the signs of one command.
#[derive(Clone, Debug)]
pub(super) struct Signs {
    pub status: String,
    pub end: String,
}

impl Signs {
    pub(super) fn new() -> Self {
        // The loop tells them from each other, and from a command.
        let number = |kind| format!("{kind}{:016x}", RandomState::new().hash_one(Instant::now()));
        Signs { status: number('s'), end: number('e') }
    }
}

/// What the streams have told of a command's end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) status: Option<i32>,
    stdout: bool,
    stderr: bool,
    /// Something came behind the end, which nobody has asked for.
    more: bool,
    /// A start-up file has printed something.
    pub(super) is_noisy: bool,
    /// Nobody reads stdout any more: it is at its end, or nobody wants it.
    pub(super) is_unread: bool,
}

impl Progress {
    /// Whether the command has ended, and nothing came behind that.
    pub(super) fn is_clean(self) -> bool {
        self.ended().is_some() && !self.more && !self.is_noisy
    }

    pub(super) fn ended(self) -> Option<i32> {
        self.status.filter(|_| self.stdout && self.stderr)
    }
}

/// A stream of a lane, to the end of one command.
pub(in crate::openssh) struct UntilEnd {
    source: pipe::Receiver,
    is_stdout: bool,
    status: Vec<u8>,
    end: Vec<u8>,
    progress: Arc<watch::Sender<Progress>>,
    /// What the shell itself says first, until it has come. Something before it is the output of a
    /// start-up file, which comes with each command by plain ssh.
    first: Option<First>,
    /// What was read and may be a part of a sign.
    held: Vec<u8>,
    /// What was read and is to be passed on.
    ready: VecDeque<u8>,
    is_over: bool,
}

/// What comes first on a stream.
#[derive(Debug)]
pub(super) struct First {
    pub sign: Vec<u8>,
    /// Nobody else takes it out.
    pub is_for_us: bool,
}

/// A sign begins with it.
const SIGN: u8 = b'\x1e';
/// What is read at once.
const PIECE: usize = 16 * 1024;
/// More than the rest of a sign has: a number and the end of the line.
const LONGEST: usize = 16;

impl UntilEnd {
    pub(super) fn new(
        source: pipe::Receiver,
        is_stdout: bool,
        signs: &Signs,
        first: Option<First>,
        progress: &Arc<watch::Sender<Progress>>,
    ) -> Self {
        UntilEnd {
            first,
            source,
            is_stdout,
            status: format!("\x1e{} ", signs.status).into_bytes(),
            end: format!("\x1e{}\n", signs.end).into_bytes(),
            progress: Arc::clone(progress),
            held: Vec::new(),
            ready: VecDeque::new(),
            is_over: false,
        }
    }

    /// Takes in what was read; nothing at all is the end of the session.
    fn took(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
        let mut passed = 0;
        while !self.is_over {
            let Some(at) = memchr(SIGN, &self.held[passed..]) else {
                passed = self.held.len();
                break;
            };
            let at = passed + at;
            if at > 0 && self.first.is_some() {
                self.is_noisy();
            }
            let rest = &self.held[at..];
            if let Some(First { sign, is_for_us }) = &self.first {
                if rest.starts_with(sign) {
                    if *is_for_us {
                        self.held.drain(at..at + sign.len());
                        passed = at;
                    } else {
                        passed = at + sign.len();
                    }
                    self.first = None;
                    continue;
                }
                if sign.starts_with(rest) {
                    passed = at;
                    break;
                }
            }
            if rest.starts_with(&self.end) {
                let more = rest.len() > self.end.len();
                self.is_over = true;
                self.ready.extend(self.held.drain(..at));
                self.held.clear();
                self.progress.send_modify(|progress| {
                    match self.is_stdout {
                        true => progress.stdout = true,
                        false => progress.stderr = true,
                    }
                    progress.more |= more;
                });
                return;
            }
            if self.is_stdout && rest.starts_with(&self.status) {
                let number = &rest[self.status.len()..];
                match number.iter().position(|&byte| byte == b'\n') {
                    Some(length) => {
                        let status = std::str::from_utf8(&number[..length]).ok();
                        let Some(status) = status.and_then(|text| text.parse().ok()) else {
                            passed = at + 1;
                            continue;
                        };
                        let behind = at + self.status.len() + length + 1;
                        self.ready.extend(&self.held[..at]);
                        self.held.drain(..behind);
                        passed = 0;
                        self.progress.send_modify(|progress| progress.status = Some(status));
                        continue;
                    }
                    None if number.len() < LONGEST => {
                        passed = at;
                        break;
                    }
                    None => {}
                }
            } else if self.end.starts_with(rest) || self.is_stdout && self.status.starts_with(rest)
            {
                passed = at;
                break;
            }
            passed = at + 1;
        }
        if bytes.is_empty() {
            (passed, self.is_over) = (self.held.len(), true);
            self.is_unread();
        }
        if passed > 0 && self.first.is_some() {
            self.is_noisy();
        }
        self.ready.extend(self.held.drain(..passed));
    }

    /// Nothing was read that is still here, and nothing is awaited but the command's output.
    fn has_nothing(&self) -> bool {
        self.held.is_empty() && self.ready.is_empty() && self.first.is_none() && !self.is_over
    }

    fn is_noisy(&self) {
        self.progress.send_modify(|progress| progress.is_noisy = true);
    }

    fn is_unread(&self) {
        if self.is_stdout {
            self.progress.send_modify(|progress| progress.is_unread = true);
        }
    }

    fn pass_on(&mut self, buf: &mut [u8]) -> usize {
        // Reading from a deque does not fail.
        io::Read::read(&mut self.ready, buf).unwrap_or(0)
    }
}

impl Drop for UntilEnd {
    fn drop(&mut self) {
        self.is_unread();
    }
}

impl AsyncRead for UntilEnd {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Most of a large output has no sign in it, and need not be copied.
        if self.has_nothing() && buf.remaining() > 0 {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.source).poll_read(cx, buf))?;
            let came = &buf.filled()[before..];
            if !came.is_empty() && memchr(SIGN, came).is_none() {
                return Poll::Ready(Ok(()));
            }
            let came = came.to_vec();
            buf.set_filled(before);
            self.took(&came);
        }
        while self.ready.is_empty() && !self.is_over {
            let mut piece = [0; PIECE];
            let mut read = ReadBuf::new(&mut piece);
            ready!(Pin::new(&mut self.source).poll_read(cx, &mut read))?;
            let length = read.filled().len();
            self.took(&piece[..length]);
        }
        let passed = self.pass_on(buf.initialize_unfilled());
        buf.advance(passed);
        Poll::Ready(Ok(()))
    }
}

impl Source for UntilEnd {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.ready.is_empty() && !self.is_over {
            let mut piece = [0; PIECE];
            let read = read_now(&self.source, &mut piece)?;
            if read == 0 {
                self.ready.extend(self.held.drain(..));
                break;
            }
            self.took(&piece[..read]);
        }
        Ok(self.pass_on(buf))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use rstest::rstest;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What is written, what of it comes out, and what is told of the end.
    #[rstest]
    #[case("out\x1eS 3\n\x1eE\n", "out", Some(3), true)]
    #[case("\x1eS 0\nlate\n\x1eE\n", "late\n", Some(0), true)]
    #[case("a\x1eb\x1eS x\x1eS 255\n\x1e\x1eE\n", "a\x1eb\x1eS x\x1e", Some(255), true)]
    #[case("\x1eS 1\n\x1eE\nmore", "", Some(1), true)]
    #[case("out\x1eE", "out\x1eE", None, false)]
    #[case("out\x1eS 12", "out\x1eS 12", None, false)]
    #[tokio::test]
    async fn the_signs_are_taken_out(
        #[case] written: &str,
        #[case] expected: &str,
        #[case] status: Option<i32>,
        #[case] has_end: bool,
    ) {
        for cut in 0..=written.len() {
            let (mut to, from) = pipe::pipe().expect("a pipe");
            let progress: Arc<watch::Sender<Progress>> = Arc::default();
            let signs = Signs { status: "S".to_owned(), end: "E".to_owned() };
            let mut stream = UntilEnd::new(from, true, &signs, None, &progress);
            let mut read = Vec::new();
            let (first, rest) = written.as_bytes().split_at(cut);
            to.write_all(first).await.expect("there is room");
            let mut piece = [0; 100];
            if let Ok(Ok(length)) =
                tokio::time::timeout(Duration::from_millis(5), stream.read(&mut piece)).await
            {
                read.extend_from_slice(&piece[..length]);
            }
            to.write_all(rest).await.expect("there is room");
            drop(to);
            stream.read_to_end(&mut read).await.expect("it can be read");
            assert_eq!(String::from_utf8_lossy(&read), expected, "{cut}");
            let progress = *progress.borrow();
            assert_eq!(progress.status, status, "{cut}");
            assert_eq!(progress.stdout, has_end, "{cut}");
            // What comes behind the end in one piece with it is seen here, else in the pipe.
            let behind = written.strip_suffix("more").is_some_and(|before| cut != before.len());
            assert_eq!(progress.more, behind, "{cut}");
        }
    }
}
