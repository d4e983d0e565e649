//! Standard streams that wait. A parent may have left them non-blocking: a read or a write then
//! fails where it should wait, and data would be lost.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

/// The streams that were changed.
static CHANGED: OnceLock<Vec<BorrowedFd<'static>>> = OnceLock::new();

/// Makes stdin, stdout and stderr wait, until [`restore`].
pub(in crate::cli) fn make_blocking() {
    let streams = [stream(std::io::stdin()), stream(std::io::stdout()), stream(std::io::stderr())];
    let changed = streams.into_iter().filter(|stream| {
        let flags = flags(*stream);
        flags.is_some_and(|flags| {
            flags.contains(OFlag::O_NONBLOCK) && set(*stream, flags - OFlag::O_NONBLOCK)
        })
    });
    // Two streams can be one; then only the first is changed, and that is enough.
    let _ = CHANGED.set(changed.collect());
}

/// Whether [`restore`] has something to do.
pub(in crate::cli) fn is_changed() -> bool {
    CHANGED.get().is_some_and(|changed| !changed.is_empty())
}

/// Leaves them as they were: others can have them, too.
pub(in crate::cli) fn restore() {
    for stream in CHANGED.get().into_iter().flatten() {
        if let Some(flags) = flags(*stream) {
            set(*stream, flags | OFlag::O_NONBLOCK);
        }
    }
}

fn stream(stream: impl AsFd) -> BorrowedFd<'static> {
    // SAFETY: nobody in this program closes its standard streams, and they live as long as it does.
    unsafe { BorrowedFd::borrow_raw(stream.as_fd().as_raw_fd()) }
}

/// `None` for one that is closed.
fn flags(stream: BorrowedFd<'_>) -> Option<OFlag> {
    fcntl(stream, FcntlArg::F_GETFL).ok().map(OFlag::from_bits_retain)
}

fn set(stream: BorrowedFd<'_>, flags: OFlag) -> bool {
    fcntl(stream, FcntlArg::F_SETFL(flags)).is_ok()
}
