//! A server with many names, and the programs that run commands on it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::Idle;
use crate::support::common::sshd::Sshd;
use crate::support::facts::{Facts, said};
use crate::support::master::Master;
use crate::support::{milliseconds, pooled};

pub struct Lab {
    sshd: Sshd,
    directory: TempDir,
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

const SSHPOOL: &str = env!("CARGO_BIN_EXE_sshpool");

impl Lab {
    pub fn new(names: usize) -> Self {
        let sshd = Sshd::builder().max_startups("500:30:500").start();
        let directory =
            tempfile::Builder::new().prefix("b").tempdir_in("/tmp").expect("a directory");
        let own = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture's ssh_config");
        let lab = Lab { sshd, directory };
        let aliases: Vec<String> = (1..=names).map(|number| format!("h{number}")).collect();
        let config = own.replacen("Host lab", &format!("Host lab bare {}", aliases.join(" ")), 1);
        assert_ne!(config, own, "the fixture's host has the name that is looked for");
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

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn sshpool(&self) -> Command {
        let mut command = pooled::command(SSHPOOL);
        command.arg("-F").arg(self.path("config")).env_remove("SSHPOOL_AGENT");
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("XDG_CONFIG_HOME", self.path("run"));
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

    /// What an agent with so many connections takes while nobody asks it for anything.
    pub fn idle(&self, hosts: usize, time: Duration) -> Idle {
        let keep = |command: &mut Command| {
            command
                .env("SSH_POOL_IDLE_TIMEOUT_MS", "3600000")
                .env("SSH_POOL_CONNECTION_TIMEOUT_MS", "60000");
        };
        let started = Instant::now();
        let mut warm = self.sshpool();
        keep(&mut warm);
        let names = (1..=hosts).map(|number| format!("h{number}"));
        let warmed =
            warm.args(["warm", "--batch", "--json"]).args(names).stdout(Stdio::null()).status();
        assert!(warmed.is_ok_and(|status| status.success()), "all hosts can be connected to");
        let connect_seconds = started.elapsed().as_secs_f64();
        let status = self.status();
        let pid = status["agent"]["pid"].as_u64().expect("it has a pid");
        assert_eq!(status["connections"].as_array().map(Vec::len), Some(hosts), "all are there");
        // What opening sessions ahead takes is over then.
        std::thread::sleep(Duration::from_secs(5).min(time));
        let checks = self.health_checks();
        let (own, all) = cpu(pid);
        std::thread::sleep(time);
        let (own_after, all_after) = cpu(pid);
        let checked = self.health_checks() - checks;
        let percent = |seconds: f64| seconds / time.as_secs_f64() * 100.0;
        assert_eq!(
            self.status()["connections"].as_array().map(Vec::len),
            Some(hosts),
            "all are still there"
        );
        Idle {
            hosts,
            connect_seconds,
            resident_mib: resident(pid),
            cpu: percent(own_after - own),
            cpu_with_children: percent(all_after - all),
            seconds: time.as_secs(),
            health_checks: checked,
        }
    }

    fn status(&self) -> serde_json::Value {
        let output =
            self.sshpool().args(["status", "--json"]).output().expect("the program can be started");
        serde_json::from_slice(&output.stdout).expect("status prints JSON")
    }

    fn health_checks(&self) -> u64 {
        let output = self.sshpool().arg("metrics").output().expect("the program can be started");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("sshpool_agent_health_checks_passed_total "));
        line.and_then(|number| number.trim().parse().ok()).expect("the metrics have it")
    }

    pub fn facts(&self) -> Facts {
        let mut facts = Facts::of(&self.sshd);
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

/// Seconds of computing: the process's own, and with those of its children that have ended.
fn cpu(pid: u64) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the agent runs");
    let (_, rest) = text.rsplit_once(") ").expect("the name is in brackets");
    let ticks: Vec<f64> = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|word| word.parse().expect("a number"))
        .collect();
    // 100 in a second on all systems that have /proc like this.
    let own = (ticks[0] + ticks[1]) / 100.0;
    (own, own + (ticks[2] + ticks[3]) / 100.0)
}

fn resident(pid: u64) -> f64 {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))
        .expect("the agent runs");
    let line =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a resident set");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}
