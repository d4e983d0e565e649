//! A watched login: the steps that ssh logs, and when each of them was done.
//!
//! The master logs its steps at debug level. Nothing in that log is secret: names of
//! files, fingerprints, algorithms.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::text::printable;

/// How often the log is looked at. What comes between two looks has one time.
const LOOK: Duration = Duration::from_millis(1);

/// So much of the log is kept. ssh writes some kilobytes; a server's banner may be of any length.
const MOST: usize = 1024 * 1024;

/// What is done on the way to a connection, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The ssh process runs.
    Started,
    /// TCP has a connection; not told where a proxy makes it.
    Reached,
    /// The server has said what it is.
    Greeted,
    /// Both have a key for what they say, and the server has shown who it is.
    Exchanged,
    LoggedIn,
    /// The control socket is there.
    Listening,
    /// The master has answered on it.
    Answered,
    /// The server ran a command.
    Echoed,
}

/// One login, told as it goes on.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// A std mutex: held to read on.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    log: Option<File>,
    text: Vec<u8>,
    /// Where the first line begins that was not looked at.
    line: usize,
    steps: Vec<(Step, Instant)>,
}

impl Trace {
    /// What the master's log has to tell for this. ssh's usual level is `INFO`.
    pub(super) const LOG_LEVEL: &str = "DEBUG1";

    /// The master's log, which is opened here so that its end can be read when it is removed.
    pub(super) fn begin(&self, log: &Path) {
        let mut inner = self.lock();
        inner.log = File::open(log).ok();
        inner.done(Step::Started);
    }

    pub(super) fn done(&self, step: Step) {
        let mut inner = self.lock();
        inner.read();
        inner.done(step);
    }

    /// Never completes: reads what ssh writes, when it writes it.
    pub(crate) async fn follow(&self) -> std::convert::Infallible {
        loop {
            self.lock().read();
            sleep(LOOK).await;
        }
    }

    /// The steps that were done, and when.
    pub(crate) fn steps(&self) -> Vec<(Step, Instant)> {
        let mut inner = self.lock();
        inner.read();
        inner.steps.clone()
    }

    /// What the server calls itself, such as `OpenSSH_9.2p1 Debian-2`.
    pub(crate) fn server(&self) -> Option<String> {
        self.find("remote software version ")
    }

    pub(crate) fn kex(&self) -> Option<String> {
        self.find("kex: algorithm: ")
    }

    pub(crate) fn cipher(&self) -> Option<String> {
        self.find("kex: server->client cipher: ")?.split(' ').next().map(str::to_owned)
    }

    /// The server's key: type and fingerprint.
    pub(crate) fn host_key(&self) -> Option<String> {
        self.find("Server host key: ")
    }

    /// The key that was taken, or what else let us in.
    pub(crate) fn accepted(&self) -> Option<String> {
        self.find("Server accepts key: ").or_else(|| self.find("Authentication succeeded "))
    }

    /// The keys that were offered.
    pub(crate) fn offered(&self) -> Vec<String> {
        self.all("Offering public key: ")
    }

    /// What the server takes instead of what it was given last, such as `publickey,password`.
    pub(crate) fn methods(&self) -> Option<String> {
        self.all("Authentications that can continue: ").pop()
    }

    fn find(&self, text: &str) -> Option<String> {
        self.all(text).into_iter().next()
    }

    /// What stands behind this text, in all lines of ssh's own that have it.
    fn all(&self, text: &str) -> Vec<String> {
        let mut inner = self.lock();
        inner.read();
        let log = String::from_utf8_lossy(&inner.text);
        let told = log.lines().filter_map(|line| line.strip_prefix(DEBUG)?.split_once(text));
        // ssh's word for a key that the configuration names.
        told.map(|(_, rest)| printable(rest.trim().trim_end_matches(" explicit"))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Inner {
    fn read(&mut self) {
        if let Some(log) = &mut self.log {
            let left = MOST.saturating_sub(self.text.len());
            // A file does not fail; if it ever does, the steps are not told.
            let _ = log.take(left as u64).read_to_end(&mut self.text);
        }
        while let Some(length) = self.text[self.line..].iter().position(|&byte| byte == b'\n') {
            let line = String::from_utf8_lossy(&self.text[self.line..self.line + length]);
            let step = step_of(&line);
            self.line += length + 1;
            if let Some(step) = step {
                self.done(step);
            }
        }
    }

    fn done(&mut self, step: Step) {
        if self.steps.iter().all(|(before, _)| *before < step) {
            self.steps.push((step, Instant::now()));
        }
    }
}

/// What ssh puts before the lines of this level.
pub(super) const DEBUG: &str = "debug1: ";

/// What is done when ssh writes this line. The texts are those of 7.6 to 10.
fn step_of(line: &str) -> Option<Step> {
    let starts = |text| line.starts_with(text);
    if starts("debug1: Connection established.") {
        Some(Step::Reached)
    } else if starts("debug1: Remote protocol version ") {
        Some(Step::Greeted)
    } else if starts("debug1: SSH2_MSG_NEWKEYS received") {
        Some(Step::Exchanged)
    } else if starts("Authenticated to ") || starts("debug1: Authentication succeeded ") {
        Some(Step::LoggedIn)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_steps_of_a_login_are_told_as_they_come() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let trace = Trace::default();
        trace.begin(file.path());
        let mut write = |text: &str| file.write_all(text.as_bytes()).expect("it is ours");
        write("debug1: Connecting to h [::1] port 22.\r\ndebug1: Connection esta");
        assert_eq!(trace.steps().len(), 1);
        write(
            "blished.\r\ndebug1: Remote protocol version 2.0, remote software version \
                OpenSSH_9.2p1 x\r\n",
        );
        write("debug1: kex: algorithm: curve25519-sha256\r\n");
        write("debug1: kex: server->client cipher: aes128-ctr MAC: x compression: none\r\n");
        write("debug1: SSH2_MSG_NEWKEYS received\r\n");
        write("debug1: Authentications that can continue: publickey,password\r\n");
        write("debug1: Offering public key: /k ED25519 SHA256:x explicit\r\n");
        // A banner says what it likes.
        write("Offering public key: /banner\r\n");
        write("Authenticated to h ([::1]:22) using \"publickey\".\r\n");
        trace.done(Step::Listening);
        trace.done(Step::Listening);
        let steps: Vec<_> = trace.steps().into_iter().map(|(step, _)| step).collect();
        let expected = [
            Step::Started,
            Step::Reached,
            Step::Greeted,
            Step::Exchanged,
            Step::LoggedIn,
            Step::Listening,
        ];
        assert_eq!(steps, expected);
        assert_eq!(trace.server().as_deref(), Some("OpenSSH_9.2p1 x"));
        assert_eq!(trace.kex().as_deref(), Some("curve25519-sha256"));
        assert_eq!(trace.cipher().as_deref(), Some("aes128-ctr"));
        assert_eq!(trace.methods().as_deref(), Some("publickey,password"));
        assert_eq!(trace.offered(), ["/k ED25519 SHA256:x"]);
    }
}
