//! Waiting for the end of a process that is not our child.

use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where the system gives no handle, this is how often it is looked for.
const LOOK: Duration = Duration::from_secs(1);

pub(crate) async fn until_gone(pid: i32) {
    // SAFETY: the descriptor is the handle's own, which stays open and the same for as long as it
    // is registered.
    let registered =
        |handle| unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
    if let Some(handle) = handle(pid).and_then(|handle| registered(handle).ok()) {
        // It fails only with the runtime.
        let _ = handle.readable().await;
        return;
    }
    while kill(Pid::from_raw(pid), None).is_ok() {
        tokio::time::sleep(LOOK).await;
    }
}

/// A descriptor that becomes readable when the process ends.
#[cfg(target_os = "linux")]
fn handle(pid: i32) -> Option<OwnedFd> {
    // SAFETY: it takes two numbers and gives a new descriptor, which is nobody else's, or -1.
    unsafe {
        let handle = nix::libc::syscall(nix::libc::SYS_pidfd_open, pid, 0);
        i32::try_from(handle)
            .ok()
            .filter(|handle| *handle >= 0)
            .map(|handle| OwnedFd::from_raw_fd(handle))
    }
}

#[cfg(not(target_os = "linux"))]
fn handle(_: i32) -> Option<OwnedFd> {
    None
}
