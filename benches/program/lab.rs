//! Servers with many names, and the programs that run commands on it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::support::common::sshd::Sshd;
use crate::support::facts::{Facts, said};
use crate::support::master::Master;
use crate::support::{milliseconds, pooled, server};

pub struct Lab {
    servers: Vec<Sshd>,
    directory: TempDir,
    /// Connections stay, however long nobody uses them.
    keeps: bool,
}

/// A program to run a command by.
#[derive(Clone, Copy)]
pub enum Way {
    Sshpool,
    BareMaster,
    AutoMaster,
    /// What the start of the program alone takes.
    SshpoolVersion,
    Run(usize),
    Xargs(usize),
    Pdsh(usize),
    Clush(usize),
    PdshWithoutMasters(usize),
    XargsWithoutMasters(usize),
}

impl Way {
    pub fn name(self) -> String {
        match self {
            Way::Sshpool => "sshpool exec HOST -- true".to_owned(),
            Way::BareMaster => "ssh -F none -S SOCKET HOST true".to_owned(),
            Way::AutoMaster => "ssh HOST true, ControlMaster auto".to_owned(),
            Way::SshpoolVersion => "sshpool --version".to_owned(),
            Way::Run(hosts) => format!("sshpool run -w h[1-{hosts}] -f {hosts}"),
            Way::Xargs(hosts) => format!("xargs -P{hosts} ssh, ControlPersist masters"),
            Way::Pdsh(_) => "pdsh -R ssh, ControlPersist masters".to_owned(),
            Way::Clush(_) => "clush, ControlPersist masters".to_owned(),
            Way::PdshWithoutMasters(_) => "pdsh -R ssh, without masters".to_owned(),
            Way::XargsWithoutMasters(hosts) => format!("xargs -P{hosts} ssh, without masters"),
        }
    }
}

/// Names of one server.
const NAMES: usize = 500;

const SSHPOOL: &str = env!("CARGO_BIN_EXE_sshpool");

impl Lab {
    pub fn new(names: usize) -> Self {
        Lab::start(names, names.div_ceil(NAMES).max(1), false)
    }

    /// One in which each name is a server.
    pub fn of_servers(names: usize) -> Self {
        Lab::start(names, names, false)
    }

    /// One whose agent keeps its connections, however long nobody uses them.
    pub fn that_keeps(names: usize) -> Self {
        Lab::start(names, names.div_ceil(NAMES).max(1), true)
    }

    fn start(names: usize, count: usize, keeps: bool) -> Self {
        let servers: Vec<Sshd> =
            (0..count).map(|_| server().max_startups("2000:30:2000").start()).collect();
        let directory =
            tempfile::Builder::new().prefix("b").tempdir_in("/tmp").expect("a directory");
        let lab = Lab { servers, directory, keeps };
        let aliases: Vec<String> = (1..=names).map(|number| format!("h{number}")).collect();
        let mut config = String::new();
        for (index, sshd) in lab.servers.iter().enumerate() {
            let own = std::fs::read_to_string(sshd.ssh_config()).expect("the server has one");
            let mut names = aliases.iter().skip(index).step_by(count).cloned().collect::<Vec<_>>();
            if index == 0 {
                names.push("bare".to_owned());
            }
            let named = own.replacen("Host lab", &format!("Host {}", names.join(" ")), 1);
            assert_ne!(named, own, "the server's host has the name that is looked for");
            config.push_str(&named);
            config.push('\n');
        }
        std::fs::write(lab.path("config"), &config).expect("a file in a new directory");
        let masters = format!(
            "ControlMaster auto\nControlPath {}/%n\nControlPersist 600\n{config}",
            lab.directory.path().display()
        );
        std::fs::write(lab.path("masters"), masters).expect("a file in a new directory");
        std::fs::create_dir(lab.path("run")).expect("a directory in a new directory");
        let mut hosts = String::new();
        for alias in &aliases {
            writeln!(hosts, "{alias}").expect("writing to a String cannot fail");
        }
        std::fs::write(lab.path("hosts"), hosts).expect("a file in a new directory");
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(lab.path("run"), private).expect("the directory is ours");
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn sshpool(&self) -> Command {
        let mut command = pooled::command(SSHPOOL);
        command.arg("-F").arg(self.path("config")).env_remove("SSHPOOL_AGENT");
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("XDG_CONFIG_HOME", self.path("run"));
        if self.keeps {
            command.env("SSH_POOL_IDLE_TIMEOUT_MS", "3600000");
            command.env("SSH_POOL_CONNECTION_TIMEOUT_MS", "60000");
        }
        command
    }

    fn shell(text: String) -> Command {
        let mut command = pooled::command("sh");
        command.args(["-c", &text]);
        command
    }

    fn command(&self, way: Way) -> Command {
        let (config, masters, list) =
            (self.path("config"), self.path("masters"), self.path("hosts"));
        let (config, masters, list) = (config.display(), masters.display(), list.display());
        match way {
            Way::Sshpool => {
                let mut command = self.sshpool();
                command.args(["exec", "h1", "--", "true"]);
                command
            }
            Way::SshpoolVersion => {
                let mut command = self.sshpool();
                command.arg("--version");
                command
            }
            Way::BareMaster => {
                let mut command = pooled::command("ssh");
                command.args(["-F", "none", "-S"]).arg(self.path("bare")).args(["h1", "true"]);
                command
            }
            Way::AutoMaster => {
                let mut command = pooled::command("ssh");
                command.arg("-F").arg(self.path("masters")).args(["h1", "true"]);
                command
            }
            Way::Run(hosts) => {
                let mut command = self.sshpool();
                command.args([
                    "run",
                    "-w",
                    &format!("h[1-{hosts}]"),
                    "-f",
                    &hosts.to_string(),
                    "--",
                    "echo test",
                ]);
                command
            }
            Way::Xargs(hosts) => Self::shell(format!(
                "head -n {hosts} {list} | xargs -P{hosts} -I{{}} ssh -F {masters} {{}} echo test"
            )),
            Way::XargsWithoutMasters(hosts) => Self::shell(format!(
                "head -n {hosts} {list} | xargs -P{hosts} -I{{}} ssh -F {config} {{}} echo test"
            )),
            Way::Pdsh(hosts) => Self::pdsh(hosts, &masters.to_string()),
            Way::PdshWithoutMasters(hosts) => Self::pdsh(hosts, &config.to_string()),
            Way::Clush(hosts) => {
                let mut command = pooled::command("clush");
                command.args(["-f", &hosts.to_string(), "-w", &format!("h[1-{hosts}]"), "-o"]);
                command.arg(format!("-F {masters}")).arg("echo test");
                command
            }
        }
    }

    fn pdsh(hosts: usize, config: &str) -> Command {
        let mut command = pooled::command("pdsh");
        command.args([
            "-R",
            "ssh",
            "-f",
            &hosts.to_string(),
            "-w",
            &format!("h[1-{hosts}]"),
            "echo test",
        ]);
        command.env("PDSH_SSH_ARGS", format!("-F {config} %h"));
        command
    }

    /// Milliseconds from the start of the process to its end. `Err` where it did not do what it
    /// should.
    pub fn time(&self, way: &Way, hosts: usize) -> Result<f64, String> {
        let mut command = self.command(*way);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = Instant::now();
        let output =
            command.output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        let time = milliseconds(started);
        let said = String::from_utf8_lossy(&output.stdout).matches("test").count();
        let expected = if matches!(
            way,
            Way::Run(_)
                | Way::Xargs(_)
                | Way::Pdsh(_)
                | Way::Clush(_)
                | Way::PdshWithoutMasters(_)
                | Way::XargsWithoutMasters(_)
        ) {
            hosts
        } else {
            said
        };
        if output.status.success() && said == expected {
            return Ok(time);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{}, {said} of {expected} answers: {}",
            output.status,
            words.lines().last().unwrap_or_default()
        ))
    }

    /// A master for what is to be compared with: `ssh -F none` knows no names, and the path alone
    /// decides.
    pub fn bare_master(&self) -> Master {
        Master::start(&self.path("config"), "bare", self.path("bare")).expect("a master")
    }

    /// Those that `ControlPersist` has left.
    pub fn close_masters(&self) {
        for entry in std::fs::read_dir(self.directory.path()).expect("our own directory").flatten()
        {
            let name = entry.file_name();
            if name.to_string_lossy().starts_with('h') && name != "hosts" {
                let mut command = pooled::command("ssh");
                command.args(["-F", "none", "-O", "exit", "-S"]).arg(entry.path()).arg("x");
                let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
    }

    pub fn stop_agent(&self) {
        let stopped =
            self.sshpool().args(["agent", "stop", "--now"]).stderr(Stdio::null()).status();
        assert!(stopped.is_ok_and(|status| status.success()), "the agent can be stopped");
    }

    /// That all servers have seen.
    pub fn logins(&self) -> usize {
        self.servers.iter().map(Sshd::logins).sum()
    }

    pub fn facts(&self) -> Facts {
        let mut facts = Facts::of(&self.servers[0]);
        facts.add("pdsh", said("pdsh", &["-V"]));
        facts.add("clush", said("clush", &["--version"]));
        facts
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.close_masters();
        let _ = self.sshpool().args(["agent", "stop", "--now"]).stderr(Stdio::null()).status();
    }
}
