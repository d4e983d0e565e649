//! A program that is run to its end, with a deadline.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::LOOK;

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The exit status, or 128 and the signal's number as a shell has it.
    pub fn code(&self) -> i32 {
        let signal = || 128 + self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or_else(signal)
    }

    /// The last line of stderr that is not empty: where programs say what was the matter.
    pub fn last_words(&self) -> &str {
        self.stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default()
    }
}

/// Runs a program with an empty stdin and returns what it said. Panics when it cannot be started, and kills
/// it and panics when it has not ended by the deadline.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Ended {
    // Files and not pipes: what a program leaves behind may hold a pipe open, and its end would never come.
    let mut stdout = tempfile::tempfile().expect("a temporary file can be made");
    let mut stderr = tempfile::tempfile().expect("a temporary file can be made");
    let clone = |file: &File| file.try_clone().expect("a file can be duplicated");
    command.stdin(Stdio::null()).stdout(clone(&stdout)).stderr(clone(&stderr));

    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let Some(status) = wait_until(&mut child, Instant::now() + deadline) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} did not end within {deadline:?}\n{}{}", text(&mut stdout), text(&mut stderr));
    };
    Ended { status, stdout: text(&mut stdout), stderr: text(&mut stderr) }
}

/// Waits for the end of a child until a moment; none when it still runs then.
pub fn wait_until(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    loop {
        // UNWRAP: waiting for one's own child fails only when somebody else has reaped it, which nobody does.
        let status = child.try_wait().expect("a child can be waited for");
        if status.is_some() || Instant::now() >= end {
            return status;
        }
        std::thread::sleep(LOOK / 5);
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a temporary file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}
