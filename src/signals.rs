//! Closing on SIGINT and SIGTERM, when asked.
//!
//! The first signal closes all pools that asked for it, and then ends the process as that signal would have, so that a parent sees the
//! right status. A second one meanwhile ends it at once; the guard processes clean up then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Weak};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use tokio::signal::unix::{SignalKind, signal};

use crate::openssh::OpenSsh;
use crate::pool::Core;

/// The pools of this process that want to be closed. A std mutex: held to add to or to take the list.
static POOLS: Mutex<Option<Vec<Weak<Core<OpenSsh>>>>> = Mutex::new(None);

/// A signal has come: the process is about to end by it.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Whether the process is about to end by a signal. What its commands say now is of no interest any more.
#[cfg(feature = "cli")]
pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}

pub(crate) fn close_on_signals(pool: Weak<Core<OpenSsh>>) -> std::io::Result<()> {
    let mut pools = POOLS.lock().unwrap_or_else(|poison| poison.into_inner());
    match &mut *pools {
        Some(pools) => {
            pools.retain(|pool| pool.strong_count() > 0);
            pools.push(pool);
        }
        None => {
            let (mut interrupt, mut terminate) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            *pools = Some(vec![pool]);
            tokio::spawn(async move {
                let caught = tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                };
                ENDING.store(true, Ordering::Relaxed);
                restore(Signal::SIGINT);
                restore(Signal::SIGTERM);
                let pools = POOLS.lock().unwrap_or_else(|poison| poison.into_inner()).take();
                for pool in pools.unwrap_or_default().iter().filter_map(Weak::upgrade) {
                    pool.close(Duration::ZERO).await;
                }
                // The default action ends the process here.
                let _ = raise(caught);
            });
        }
    }
    Ok(())
}

fn restore(signal: Signal) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action is no function of ours, so nothing can be unsafe in it.
    if let Err(error) = unsafe { sigaction(signal, &default) } {
        tracing::warn!(%signal, %error, "the default action could not be restored");
    }
}
