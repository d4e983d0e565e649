//! Closing on SIGINT and SIGTERM, when asked.
//!
//! The first signal ends the commands by sudo, closes all pools that asked for it, and then ends
//! the process as that signal would have, so that a parent sees the right status. A second one
//! meanwhile ends it at once; the guard processes clean up then. A signal that the process was
//! started with ignoring (by nohup, or in the background of a script) stays ignored.
//!
//! The program may want to hear of a SIGINT first ([`next_interrupt`]): that one ends nothing then.
//!
//! A thread of its own listens, so that no runtime of the program has to live or to be driven for
//! it.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, Weak};
use std::task::Poll;
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::openssh::OpenSsh;
use crate::policy::Core;

/// The pools of this process that want to be closed; `None` until the first one asks. A std mutex:
/// held to add to or to take the list.
static POOLS: Mutex<Option<Vec<Weak<Core<OpenSsh>>>>> = Mutex::new(None);

/// A signal has come: the process is about to end by it.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Who wants to hear of the next SIGINT instead. A std mutex: held to put somebody there or to take
/// them away.
static FIRST: Mutex<Option<oneshot::Sender<()>>> = Mutex::new(None);

/// What is to be done then.
static AT_THE_END: OnceLock<AtTheEnd> = OnceLock::new();

/// What is to be done when a signal ends the process.
pub(crate) struct AtTheEnd {
    /// While there are connections.
    pub connected: fn(),
    /// Just before the end.
    pub last: fn(),
}

pub(crate) fn at_the_end(what: AtTheEnd) {
    // Nobody but the program asks, and once.
    let _ = AT_THE_END.set(what);
}

/// Whether the process is about to end by a signal. What its commands say now is of no interest any
/// more.
pub(crate) fn is_ending() -> bool {
    ENDING.load(Ordering::Relaxed)
}

/// As with a pool to close: what is to be done at the end is done.
pub(crate) fn end_on_signals() -> io::Result<()> {
    close_on_signals(Weak::new())
}

/// Completes with the next SIGINT, which ends nothing then. The one after it does what it always
/// does, unless this is called again; so it does when nobody waits for this any more. For pools
/// that are closed on signals.
pub(crate) fn next_interrupt() -> impl Future<Output = ()> {
    let (sender, receiver) = oneshot::channel();
    *FIRST.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(sender);
    async move {
        if receiver.await.is_err() {
            // Somebody else has called this.
            std::future::pending::<()>().await;
        }
    }
}

/// Ends the process as this signal would have. What is to be closed is closed.
pub(crate) fn end_as_by(signal: Signal) -> ! {
    set(signal, &SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()));
    finish(signal)
}

fn is_told(caught: Signal) -> bool {
    let first = FIRST
        .lock()
        .unwrap_or_else(|poison| poison.into_inner())
        .take_if(|_| caught == Signal::SIGINT);
    first.is_some_and(|first| first.send(()).is_ok())
}

pub(crate) fn close_on_signals(pool: Weak<Core<OpenSsh>>) -> io::Result<()> {
    let mut pools = POOLS.lock().unwrap_or_else(|poison| poison.into_inner());
    if pools.is_none() {
        let wanted: Vec<Signal> = [Signal::SIGINT, Signal::SIGTERM]
            .into_iter()
            .filter(|signal| !is_ignored(*signal))
            .collect();
        let runtime = Listening(Some(runtime()?));
        let entered = runtime.get().enter();
        let mut streams = Vec::new();
        for caught in wanted {
            streams.push((caught, signal(SignalKind::from_raw(caught as i32))?));
        }
        drop(entered);
        std::thread::Builder::new().name("sshpool-signals".to_owned()).spawn(move || {
            runtime.get().block_on(async move {
                let mut caught = async || {
                    std::future::poll_fn(|context| {
                        let come = streams.iter_mut().find_map(|(signal, stream)| {
                            stream.poll_recv(context).is_ready().then_some(*signal)
                        });
                        come.map_or(Poll::Pending, Poll::Ready)
                    })
                    .await
                };
                let caught = loop {
                    let caught = caught().await;
                    if !is_told(caught) {
                        break caught;
                    }
                };
                end_by(caught, streams.iter().map(|(signal, _)| *signal)).await;
            });
        })?;
    }
    let pools = pools.get_or_insert_default();
    pools.retain(|pool| pool.strong_count() > 0);
    pools.push(pool);
    Ok(())
}

/// A runtime for the thread that asks. tokio panics where it finds no descriptors for its signals
/// (test `too_few_descriptors`), so that it is looked first whether there are some.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    // A poller with its waker, a pair of sockets, and one more of these.
    drop([UnixStream::pair()?, UnixStream::pair()?, UnixStream::pair()?]);
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// The runtime of the thread that listens. Where that cannot be started it is dropped by whoever
/// has asked for it, perhaps in a task of another runtime, which must not wait.
struct Listening(Option<tokio::runtime::Runtime>);

impl Listening {
    fn get(&self) -> &tokio::runtime::Runtime {
        self.0.as_ref().expect("it is there until this is dropped")
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn end_by(caught: Signal, handled: impl Iterator<Item = Signal>) {
    ENDING.store(true, Ordering::Relaxed);
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in handled {
        set(signal, &default);
    }
    crate::command::end_all_by_sudo().await;
    if let Some(what) = AT_THE_END.get() {
        (what.connected)();
    }
    let pools = POOLS.lock().unwrap_or_else(|poison| poison.into_inner()).take();
    for pool in pools.unwrap_or_default().iter().filter_map(Weak::upgrade) {
        pool.close(Duration::ZERO).await;
    }
    finish(caught)
}

fn finish(caught: Signal) -> ! {
    if let Some(what) = AT_THE_END.get() {
        (what.last)();
    }
    // The default action ends the process here, unless it is the first one of a container: that has
    // none.
    let _ = raise(caught);
    std::process::exit(128 + caught as i32);
}

pub(crate) fn is_ignored(signal: Signal) -> bool {
    // There is no way to look but to change it.
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    let before = set(signal, &ignore);
    let ignored = before.is_none_or(|before| matches!(before.handler(), SigHandler::SigIgn));
    if let Some(before) = before {
        set(signal, &before);
    }
    ignored
}

/// Gives the action before.
fn set(signal: Signal, action: &SigAction) -> Option<SigAction> {
    // SAFETY: an action set here is the default, to ignore, or the one that was there before: none
    // is a function of ours.
    let before = unsafe { sigaction(signal, action) };
    before.inspect_err(|error| tracing::warn!(%signal, %error, "its action cannot be set")).ok()
}
