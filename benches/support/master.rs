//! A master of a benchmark's own, to be compared with.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::pooled::{self, PATIENCE};

/// An `ssh -M` that does nothing else. Clients need no more than its socket: `ssh -F none -S`.
/// Dropped, it ends.
pub struct Master {
    pub socket: PathBuf,
    child: Child,
}

impl Master {
    /// Blocks until it is ready.
    pub fn start(ssh_config: &Path, host: &str, socket: PathBuf) -> Result<Master, String> {
        let mut ssh = pooled::command("ssh");
        ssh.arg("-F").arg(ssh_config).args(["-M", "-N", "-T", "-o", "BatchMode=yes", "-S"]);
        // It tells of each session that the server refuses, and so does the client, which is the
        // one that counts.
        ssh.arg(&socket).arg(host).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = ssh.spawn().map_err(|error| error.to_string())?;
        let mut master = Master { socket, child };
        let started = Instant::now();
        while !master.socket.exists() {
            if let Ok(Some(status)) = master.child.try_wait() {
                return Err(format!("the master ends: {status}"));
            }
            if started.elapsed() > PATIENCE {
                return Err("the master does not get ready".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(master)
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
