//! Plain ssh, to compare with: what the user of a pool would see without it.
//!
//! It goes over a control master of its own, so that a command does not cost a login here either.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use super::super::common::{sshd::Sshd, wait_for};
use super::{PATIENCE, command};

/// How a command ended and what it wrote, whoever ran it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// None when a signal ended it.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl From<sshpool::Output> for Seen {
    fn from(output: sshpool::Output) -> Self {
        Seen { code: output.status.code(), stdout: output.stdout, stderr: output.stderr }
    }
}

pub struct Plain {
    master: Child,
    dir: TempDir,
    config: PathBuf,
    next_log: AtomicU64,
}

/// How often a client is started again that the server refused: it frees a session a little after
/// the end of the former one.
const MOST_REFUSALS: u32 = 200;

impl Plain {
    /// Logs in to the server, once.
    #[track_caller]
    pub fn start(sshd: &Sshd) -> Plain {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let config = sshd.ssh_config();
        let mut master = command("ssh");
        master.arg("-F").arg(&config).arg("-S").arg(dir.path().join("s"));
        master.args([
            "-M",
            "-N",
            "-T",
            "-o",
            "ControlPersist=no",
            "-o",
            "BatchMode=yes",
            "--",
            "lab",
        ]);
        master.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let master = master.spawn().expect("there is an ssh");
        let plain = Plain { master, dir, config, next_log: AtomicU64::new(0) };
        wait_for("a login of plain ssh", PATIENCE, || plain.dir.path().join("s").exists());
        plain
    }

    /// Runs `ssh lab TEXT`. Without `input` stdin is empty. An error is that it did not end.
    pub async fn run(&self, text: &str, input: Option<&[u8]>) -> Result<Seen, String> {
        for _ in 0..MOST_REFUSALS {
            let ran = timeout(PATIENCE, self.attempt(text, input)).await;
            if let Some(seen) =
                ran.map_err(|_| format!("plain ssh did not end within {PATIENCE:?}"))?
            {
                return Ok(seen);
            }
            sleep(Duration::from_millis(5)).await;
        }
        Err("the server refuses plain ssh its sessions".to_owned())
    }

    /// None when the server refused the session.
    async fn attempt(&self, text: &str, input: Option<&[u8]>) -> Option<Seen> {
        let log = self.dir.path().join(self.next_log.fetch_add(1, Ordering::Relaxed).to_string());
        let mut client = command("ssh");
        client
            .arg("-F")
            .arg(&self.config)
            .arg("-S")
            .arg(self.dir.path().join("s"))
            .arg("-E")
            .arg(&log);
        // The log tells a command that a signal ended from one with the status 255. A client that
        // finds its master busy would log in by itself; with this it cannot.
        client.args(["-T", "-o", "LogLevel=DEBUG2", "-o", "ProxyCommand=false", "--", "lab", text]);
        client.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
        client.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = tokio::process::Command::from(client);
        let mut child = client.kill_on_drop(true).spawn().expect("ssh can be started");
        let stdin = child.stdin.take();
        let feed = async {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A command need not read its input.
                let _ = stdin.write_all(input).await;
            }
        };
        let ((), output) = tokio::join!(feed, child.wait_with_output());
        let output = output.expect("a child can be waited for");
        let said = std::fs::read(&log).expect("ssh wrote its log");
        let said = String::from_utf8_lossy(&said);
        std::fs::remove_file(&log).expect("the log is ours");
        let code = match output.status.code().expect("nobody kills this ssh") {
            255 if said.contains("session request failed") => return None,
            255 if !said.contains("Received exit status from master") => {
                assert!(said.contains("master session id"), "plain ssh fails: {said}");
                None
            }
            code => Some(code),
        };
        Some(Seen { code, stdout: output.stdout, stderr: output.stderr })
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        // Nothing is left to be told when it has ended by itself.
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}
