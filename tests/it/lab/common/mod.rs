//! What the integration tests share: a real sshd to log in to (`sshd`), programs run with a
//! deadline (`process`), waiting for an event, and saying aloud that a test was skipped.

#![expect(
    clippy::disallowed_methods,
    reason = "the rule keeps ssh in one module of the crate; tests start what they need"
)]

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

mod engine;
mod files;
pub mod port;
pub mod process;
pub mod proxy;
pub mod sshd;
mod supervisor;

/// How often a condition is looked at. Short beside anything that a test waits for.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until `condition` holds, and panics when it does not within `deadline`.
///
/// It blocks the thread: an async test has what it waits for on another thread, or uses
/// [`wait_for_async`].
#[track_caller]
pub fn wait_for(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        thread::sleep(LOOK);
    }
}

/// [`wait_for`] for async tests: tasks of the same runtime go on meanwhile.
pub async fn wait_for_async(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline, "waited {deadline:?} in vain for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Says that this test cannot run here and why; the test returns after that.
///
/// The line goes to stderr, and to the file named by `SSHPOOL_SKIP_LOG`, from which skips are
/// counted after a run.
pub fn skip(reason: &str) {
    let line = format!("SKIPPED {}: {reason}", thread::current().name().unwrap_or("test"));
    say(&line);
    if let Some(path) = std::env::var_os("SSHPOOL_SKIP_LOG") {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
            .unwrap_or_else(|error| {
                panic!("the skip cannot be noted in {}: {error}", path.display())
            });
    }
}

/// Writes a line to stderr past the test harness, which keeps back what a successful test prints
/// with `eprintln!`.
fn say(line: &str) {
    // Nobody may be listening any more, and that is no reason to fail.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
