//! The peers that are OpenSSH's own client, started for each command.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::Arc;

use tokio::process::Command;

use crate::lab::Lab;
use crate::plan;
use crate::support::master::Master;
use crate::support::pooled;

/// A command line, and the master that it needs.
#[derive(Clone)]
pub struct Ssh {
    arguments: Arc<[String]>,
    _master: Option<Arc<Needed>>,
}

enum Needed {
    Own {
        _master: Master,
    },
    /// One that ssh itself has put into the background; it is told to end.
    Background {
        ssh_config: String,
    },
}

impl Drop for Needed {
    fn drop(&mut self) {
        if let Needed::Background { ssh_config } = self {
            let mut exit = pooled::command("ssh");
            exit.args(["-F", ssh_config, "-O", "exit", "lab"]);
            // It ends with its server otherwise, and that is dropped next.
            let _ = exit.stdin(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

impl Ssh {
    pub fn cold(lab: &Lab<'_>, command: plan::Command) -> Ssh {
        let ssh_config = text(lab.ssh_config());
        Ssh::new(&["-F", &ssh_config, "-o", "BatchMode=yes", "lab", command.text()], None)
    }

    fn new(arguments: &[&str], master: Option<Needed>) -> Ssh {
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
pub async fn auto(lab: &Lab<'_>, command: plan::Command) -> Result<Ssh, String> {
    let ssh_config = text(lab.ssh_config_with_master());
    let mut first = pooled::command("ssh");
    first.args(["-F", &ssh_config, "-o", "BatchMode=yes", "lab", command.text()]);
    // The master keeps the stderr that it is given, and would have us wait for its end.
    first.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = Command::from(first).status().await.map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("the first command makes no master: {status}"));
    }
    let arguments = ["-F", &ssh_config, "lab", command.text()];
    Ok(Ssh::new(&arguments, Some(Needed::Background { ssh_config: ssh_config.clone() })))
}

/// A master of the benchmark's own.
pub fn bare(lab: &Lab<'_>, command: plan::Command) -> Result<Ssh, String> {
    let master = Master::start(&lab.ssh_config(), "lab", lab.directory().join("bare"))?;
    // A client whose session is refused tries a login by itself. Port 1 of this machine refuses
    // that at once, where a name would be looked up first.
    let arguments =
        ["-F", "none", "-S", &text(master.socket.clone()), "-p", "1", "127.0.0.1", command.text()];
    Ok(Ssh::new(&arguments, Some(Needed::Own { _master: master })))
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
