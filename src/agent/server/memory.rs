//! What many commands at once have used goes back to the system when none runs. The allocator keeps
//! it otherwise: some twenty MiB for a thousand hosts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Giving back takes time, and so does getting it again.
const PAUSE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Memory {
    was_used: AtomicBool,
    given_back: Mutex<Option<Instant>>,
}

impl Memory {
    /// A command has run.
    pub(super) fn used(&self) {
        self.was_used.store(true, Ordering::Relaxed);
    }

    /// Gives it back, when no command runs, where that has not been done since and not long ago.
    pub(super) fn give_back(&self) {
        let mut last = self.given_back.lock().unwrap_or_else(PoisonError::into_inner);
        let is_early = last.is_some_and(|last| last.elapsed() < PAUSE);
        if !is_early && self.was_used.swap(false, Ordering::Relaxed) {
            trim();
            *last = Some(Instant::now());
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: it takes a number, and may be called at any time by any thread (malloc_trim(3)).
    unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
