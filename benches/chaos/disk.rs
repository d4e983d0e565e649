//! The disk of the server where files are copied to, which can be full. Only a container has one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::support::common::sshd::{Builder, Kind, Sshd, kind};

/// Fills it, and makes room again, as it is told.
const SCRIPT: &str = "while read -r what; do case $what in \
     fill) cat /dev/zero >/files/full 2>/dev/null || true ;; *) rm -f /files/full ;; esac; \
     echo done; done";

/// What does so: started before this process may have no descriptors left.
pub struct Disk {
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

/// What stands before the names of files that are copied.
pub fn directory() -> &'static str {
    if kind() == Kind::Process { "" } else { "/files/" }
}

/// Gives a server the disk.
pub fn add(builder: Builder) -> Builder {
    match kind() {
        Kind::Process => builder,
        Kind::Container(_) => builder.run_option("--tmpfs=/files:size=16m,mode=1777"),
    }
}

impl Disk {
    pub fn of(sshd: &Sshd) -> Option<Disk> {
        if kind() == Kind::Process {
            return None;
        }
        let mut child = sshd.of_root(SCRIPT);
        let mut child =
            child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let pipes = (child.stdin.take(), child.stdout.take());
        let pipes = (pipes.0.expect("a pipe"), BufReader::new(pipes.1.expect("a pipe")));
        Some(Disk { child, pipes: Mutex::new(pipes) })
    }

    pub fn fill(&self) {
        self.tell("fill");
    }

    pub fn make_room(&self) {
        self.tell("empty");
    }

    fn tell(&self, what: &str) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipes.0, "{what}").expect("the server has a root");
        let mut answer = String::new();
        pipes.1.read_line(&mut answer).expect("a pipe can be read");
        assert_eq!(answer, "done\n", "{what}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
