//! The peers that are OpenSSH's own client, started for each command.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Instant;

use tokio::process::{Child, Command};

use crate::lab::Lab;
use crate::{plan, pooled};

/// A command line, and the master that it needs.
#[derive(Clone)]
pub struct Ssh {
    arguments: Arc<[String]>,
    _master: Option<Arc<Master>>,
}

enum Master {
    /// Ended as our child.
    Child { _killed: Child },
    /// One that ssh itself has put into the background; it is told to end.
    Background { ssh_config: String },
}

impl Drop for Master {
    fn drop(&mut self) {
        if let Master::Background { ssh_config } = self {
            let mut exit = pooled::command("ssh");
            exit.args(["-F", ssh_config, "-O", "exit", "lab"]);
            // It ends with its server otherwise, and that is dropped next.
            let _ = exit.stdin(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

impl Ssh {
    pub fn cold(lab: &Lab<'_>) -> Ssh {
        Ssh::new(
            &["-F", &text(lab.ssh_config()), "-o", "BatchMode=yes", "lab", plan::COMMAND],
            None,
        )
    }

    fn new(arguments: &[&str], master: Option<Master>) -> Ssh {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Ssh { arguments, _master: master.map(Arc::new) }
    }

    pub fn command(&self) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let mut ssh = pooled::command("ssh");
        ssh.args(&*self.arguments).stdin(Stdio::null());
        async move {
            let output = Command::from(ssh)
                .kill_on_drop(true)
                .output()
                .await
                .map_err(|error| error.to_string())?;
            if output.status.success() { Ok(()) } else { Err(failure(&output)) }
        }
    }
}

/// As people have it in their configuration. The first command makes the master.
pub async fn auto(lab: &Lab<'_>) -> Result<Ssh, String> {
    let ssh_config = text(lab.ssh_config_with_master());
    let mut first = pooled::command("ssh");
    first.args(["-F", &ssh_config, "-o", "BatchMode=yes", "lab", plan::COMMAND]);
    // The master keeps the stderr that it is given, and would have us wait for its end.
    first.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = Command::from(first).status().await.map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("the first command makes no master: {status}"));
    }
    let arguments = ["-F", &ssh_config, "lab", plan::COMMAND];
    Ok(Ssh::new(&arguments, Some(Master::Background { ssh_config: ssh_config.clone() })))
}

/// A master of the benchmark's own.
pub async fn bare(lab: &Lab<'_>) -> Result<Ssh, String> {
    let socket = lab.directory().join("bare");
    let mut master = pooled::command("ssh");
    master.args(["-F", &text(lab.ssh_config()), "-M", "-N", "-T", "-o", "BatchMode=yes", "-S"]);
    // It tells of each session that the server refuses, and so does the client, which is the one
    // that counts.
    master.arg(&socket).arg("lab").stdin(Stdio::null()).stderr(Stdio::null());
    let mut master =
        Command::from(master).kill_on_drop(true).spawn().map_err(|error| error.to_string())?;
    let started = Instant::now();
    while !socket.exists() {
        if let Ok(Some(status)) = master.try_wait() {
            return Err(format!("the master ends: {status}"));
        }
        if started.elapsed() > plan::DEADLINE {
            return Err("the master does not get ready".to_owned());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // A client whose session is refused tries a login by itself. Port 1 of this machine refuses
    // that at once, where a name would be looked up first.
    let arguments = ["-F", "none", "-S", &text(socket), "-p", "1", "127.0.0.1", plan::COMMAND];
    Ok(Ssh::new(&arguments, Some(Master::Child { _killed: master })))
}

/// The status, and the last line that ssh said.
pub fn failure(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    match stderr.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(last) => format!("{}: {last}", output.status),
        None => output.status.to_string(),
    }
}

fn text(path: PathBuf) -> String {
    path.into_os_string().into_string().expect("temporary directories have names in UTF-8")
}
