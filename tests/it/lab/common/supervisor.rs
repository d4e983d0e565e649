//! The process that keeps one server for one test: `tests/it/lab/sshd/supervise`, in a container or not.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::process::wait_until;

/// For one verb. Generous, because a container may be starting on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Supervisor {
    child: Child,
    /// None when the supervisor has been told to end. The end of this pipe ends it, even when this
    /// process is killed.
    verbs: Option<ChildStdin>,
    answers: Receiver<String>,
    /// What it or the container engine wrote to stderr.
    complaints: PathBuf,
}

impl Supervisor {
    /// Starts it with `command`; `dir` is where its stderr goes.
    pub(super) fn start(mut command: Command, dir: &Path) -> Supervisor {
        let complaints = dir.join("supervise.stderr");
        let stderr = File::create(&complaints).expect("a file can be made in a new directory");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // Out of the terminal's foreground group: Ctrl-C is for the tests, and their end is
            // what ends this.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));

        // A thread, because a read of a pipe has no deadline. It ends with the supervisor.
        let stdout = BufReader::new(child.stdout.take().expect("stdout was asked to be a pipe"));
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let verbs = child.stdin.take();
        Supervisor { child, verbs, answers, complaints }
    }

    /// Has a verb carried out. An error is the supervisor's own reason why it could not be.
    pub(super) fn obey(&mut self, verb: &str) -> Result<(), String> {
        if let Some(verbs) = &mut self.verbs {
            // When it has ended already, the missing answer tells.
            let _ = writeln!(verbs, "{verb}");
        }
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) if answer == "ok" => Ok(()),
            Ok(answer) => Err(answer.trim_start_matches("failed: ").to_owned()),
            Err(RecvTimeoutError::Timeout) => {
                Err(format!("no answer to `{verb}` within {PATIENCE:?}"))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let complaints = std::fs::read_to_string(&self.complaints).unwrap_or_default();
                Err(format!("the server's supervisor has ended: {}", complaints.trim()))
            }
        }
    }

    /// Ends the server and the supervisor; false when that took too long and the supervisor was
    /// killed.
    pub(super) fn end(&mut self) -> bool {
        drop(self.verbs.take());
        let ended = wait_until(&mut self.child, Instant::now() + PATIENCE / 2).is_some();
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        ended
    }
}
