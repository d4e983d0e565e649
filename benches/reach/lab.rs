//! A server, the agent's client, and a master of ssh's own to the same server.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::support::common::sshd::Sshd;
use crate::support::facts::{Facts, said};
use crate::support::master::Master;
use crate::support::{milliseconds, pooled, server};

const SSHPOOL: &str = env!("CARGO_BIN_EXE_sshpool");

pub struct Lab {
    pub sshd: Sshd,
    pub home: Home,
    pub master: Master,
}

/// Where an agent and its files are. Dropped, the agent ends.
pub struct Home {
    directory: TempDir,
}

impl Home {
    pub fn new(ssh_config: &str) -> Home {
        use std::os::unix::fs::DirBuilderExt;
        let directory =
            tempfile::Builder::new().prefix("r").tempdir_in("/tmp").expect("a directory");
        let home = Home { directory };
        let mut private = std::fs::DirBuilder::new();
        private.mode(0o700).create(home.path("run")).expect("a new directory");
        std::fs::write(home.path("config"), ssh_config).expect("a new file");
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Another program, as somebody with this agent calls it.
    pub fn program(&self, program: &str) -> Command {
        let mut command = pooled::command(program);
        command.env_remove("SSHPOOL_AGENT").current_dir(self.directory.path());
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("XDG_CONFIG_HOME", self.path("run"));
        command
    }

    pub fn sshpool(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(SSHPOOL);
        command.arg("-F").arg(self.path("config")).args(arguments);
        command
    }

    pub fn stop_agent(&self) {
        let _ = self.sshpool(&["agent", "stop", "--now"]).stderr(Stdio::null()).status();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.stop_agent();
    }
}

impl Lab {
    pub fn new() -> Lab {
        let sshd = server().max_startups("100").start();
        let config = std::fs::read_to_string(sshd.ssh_config()).expect("the server has one");
        let home = Home::new(&config.replacen("Host lab", "Host h1", 1));
        let master = Master::start(&home.path("config"), "h1", home.path("bare"));
        Lab { sshd, home, master: master.expect("a master") }
    }

    /// `ssh`, `scp` over the master: its socket alone decides.
    pub fn bare(&self, program: &str) -> Command {
        let mut command = self.home.program(program);
        let socket = format!("ControlPath={}", self.master.socket.display());
        command.args(["-F", "none", "-o", &socket]);
        command
    }

    pub fn facts(&self) -> Facts {
        let mut facts = Facts::of(&self.sshd);
        facts.add("docker", said("docker", &["--version"]));
        facts
    }
}

/// Milliseconds from the start of a process to its end.
pub fn time(command: &mut Command, input: &[u8]) -> Result<f64, String> {
    use std::io::Write;
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut child =
        command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    // It need not read it.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    let time = milliseconds(started);
    if output.status.success() {
        return Ok(time);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, words.lines().last().unwrap_or_default()))
}
