//! Standard streams that wait. A parent may have left them non-blocking: a read or a write then fails where it should wait, and data would
//! be lost.

use std::os::fd::{AsFd, BorrowedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// Makes stdin, stdout and stderr wait. Dropped, it leaves them as they were: others can have them, too.
pub(super) struct Blocking(Vec<BorrowedFd<'static>>);

impl Blocking {
    pub(super) fn new() -> Self {
        // These three live as long as the process.
        let streams = [stream(std::io::stdin()), stream(std::io::stdout()), stream(std::io::stderr())];
        let changed = streams.into_iter().filter(|stream| {
            let flags = flags(*stream);
            flags.is_some_and(|flags| {
                flags.contains(OFlag::O_NONBLOCK) && set(*stream, flags - OFlag::O_NONBLOCK)
            })
        });
        Blocking(changed.collect())
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        for stream in &self.0 {
            if let Some(flags) = flags(*stream) {
                set(*stream, flags | OFlag::O_NONBLOCK);
            }
        }
    }
}

fn stream(stream: impl AsFd) -> BorrowedFd<'static> {
    let number = std::os::fd::AsRawFd::as_raw_fd(&stream.as_fd());
    // SAFETY: nobody in this program closes its standard streams.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// `None` for one that is closed.
fn flags(stream: BorrowedFd<'_>) -> Option<OFlag> {
    fcntl(stream, FcntlArg::F_GETFL).ok().map(OFlag::from_bits_retain)
}

fn set(stream: BorrowedFd<'_>, flags: OFlag) -> bool {
    fcntl(stream, FcntlArg::F_SETFL(flags)).is_ok()
}
