//! Programs that call ssh, over the pool: git, rsync, scp, sftp, Ansible and Docker, with one login for all of them.

mod agents;
mod clients_common;
mod common;
mod pooled;

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::process::{Ended, path_with, run};
use common::sshd::{Image, Kind, Sshd, kind};
use common::{skip, wait_for};

use agents::Home;
use clients_common::ansible;
use pooled::PATIENCE;

/// The server, which is `lab` in the TOML file, and a directory in which this program is `ssh`.
struct Lab {
    sshd: Sshd,
    home: Home,
}

impl Lab {
    fn new() -> Self {
        // With git, rsync, Python and Docker's client; a private process has what this machine has.
        let builder = match kind() {
            Kind::Container("docker") => Sshd::builder().image(Image::Compose).docker_socket(),
            Kind::Container(_) => Sshd::builder().image(Image::Compose),
            Kind::Process => Sshd::builder(),
        };
        let lab = Lab { sshd: builder.start(), home: Home::new() };
        lab.home.config(&format!("[hosts.lab]\nssh_config = \"{}\"\n", lab.sshd.ssh_config().display()));
        std::fs::create_dir(lab.work("shim")).expect("a directory");
        symlink(env!("CARGO_BIN_EXE_sshpool"), lab.ssh()).expect("a link");
        lab
    }

    fn work(&self, name: &str) -> PathBuf {
        self.home.path().join("work").join(name)
    }

    /// This program by the name `ssh`.
    fn ssh(&self) -> PathBuf {
        self.work("shim").join("ssh")
    }

    /// `sshpool ssh`, for what takes a command.
    fn words() -> String {
        format!("{} ssh", env!("CARGO_BIN_EXE_sshpool"))
    }

    fn command<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = self.home.in_its_place(pooled::command(program), args);
        command
            .env("HOME", self.work(""))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    /// Runs a client that has to succeed.
    #[track_caller]
    fn must(&self, command: &mut Command) -> Ended {
        let ended = run(command, PATIENCE);
        assert_eq!(ended.code(), 0, "{command:?}\n{}{}", ended.stdout, ended.stderr);
        ended
    }

    /// What the server's account says.
    #[track_caller]
    fn there(&self, text: &str) -> String {
        let ended = self.sshd.exec(text);
        assert_eq!(ended.code(), 0, "{text}: {}", ended.stderr);
        ended.stdout
    }

    /// The home of the account there.
    fn home_there(&self) -> String {
        self.there("pwd").trim().to_owned()
    }

    fn git(&self) {
        self.there("git init -q --bare repo.git");
        let repo = format!("lab:{}/repo.git", self.home_there());
        let git = |args: &[&str]| {
            self.command(
                "git",
                ["-c", "user.name=lab", "-c", "user.email=lab@example.org"].iter().chain(args),
            )
        };
        self.must(git(&["clone", "-q", &repo, "one"]).env("GIT_SSH_COMMAND", Lab::words()));
        std::fs::write(self.work("one/file"), "text\n").expect("a file");
        self.must(&mut git(&["-C", "one", "add", "file"]));
        self.must(&mut git(&["-C", "one", "commit", "-qm", "first"]));
        self.must(&mut git(&["-C", "one", "config", "core.sshCommand", &Lab::words()]));
        self.must(&mut git(&["-C", "one", "push", "-q", "origin", "HEAD"]));
        // By one path.
        self.must(git(&["clone", "-q", &repo, "two"]).env("GIT_SSH", self.ssh()));
        assert_eq!(std::fs::read_to_string(self.work("two/file")).expect("it was cloned"), "text\n");
    }

    fn rsync(&self) {
        let tree = self.work("tree/sub dir");
        std::fs::create_dir_all(&tree).expect("a directory");
        let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        std::fs::write(tree.join("file"), &bytes).expect("a file");
        let there = format!("lab:{}/tree/", self.home_there());
        self.must(&mut self.command("rsync", ["-a", "-e", &Lab::words(), "tree/", &there]));
        let ssh = self.ssh();
        let ssh = ssh.to_str().expect("it is UTF-8");
        self.must(&mut self.command("rsync", ["-a", "-e", ssh, &there, "back/"]));
        assert!(std::fs::read(self.work("back/sub dir/file")).expect("it is back") == bytes);
    }

    fn scp_and_sftp(&self) {
        std::fs::write(self.work("here"), "to copy\n").expect("a file");
        let ssh = self.ssh();
        let ssh = ssh.to_str().expect("it is UTF-8");
        let there = format!("lab:{}/copied", self.home_there());
        self.must(&mut self.command("scp", ["-q", "-S", ssh, "here", &there]));
        // The old protocol, too.
        self.must(&mut self.command("scp", ["-q", "-O", "-S", ssh, &there, "copied"]));
        assert_eq!(std::fs::read_to_string(self.work("copied")).expect("it is there"), "to copy\n");
        std::fs::write(
            self.work("batch"),
            format!("get {home}/copied fetched\nput fetched {home}/put\n", home = self.home_there()),
        )
        .expect("a file");
        self.must(&mut self.command("sftp", ["-q", "-b", "batch", "-S", ssh, "lab"]));
        assert_eq!(std::fs::read_to_string(self.work("fetched")).expect("it is there"), "to copy\n");
        assert_eq!(self.there("cat put"), "to copy\n");
    }

    /// False where Ansible cannot be had.
    fn ansible(&self) -> bool {
        let programs = match ansible::programs() {
            Ok(programs) => programs,
            Err(why) => {
                skip(&why);
                return false;
            }
        };
        let ssh = self.ssh();
        let ssh = ssh.display();
        let python = self.there("command -v python3");
        std::fs::write(
            self.work("hosts"),
            format!(
                "lab ansible_ssh_executable={ssh} ansible_sftp_extra_args='-S {ssh}' ansible_python_interpreter={}\n",
                python.trim()
            ),
        )
        .expect("a file");
        std::fs::write(
            self.work("play.yaml"),
            format!(
                "- hosts: lab\n  gather_facts: false\n  tasks:\n\
                 \x20   - copy: {{content: from a play, dest: {home}/played}}\n\
                 \x20   - command: cat {home}/played\n      register: said\n\
                 \x20   - assert: {{that: said.stdout == 'from a play'}}\n\
                 \x20   - fetch: {{src: {home}/played, dest: fetched-by-play, flat: true}}\n",
                home = self.home_there()
            ),
        )
        .expect("a file");
        let ansible = |program: &str, args: &[&str]| {
            let mut command = self.command(programs.join(program), ["-i", "hosts"].iter().chain(args));
            // A slow machine has time to log in.
            command.env("ANSIBLE_TIMEOUT", "120").env("ANSIBLE_NOCOLOR", "1").env("LC_ALL", "C.UTF-8");
            command
        };
        let ping = self.must(&mut ansible("ansible", &["lab", "-m", "ping"]));
        assert!(ping.stdout.contains("\"ping\": \"pong\""), "{}", ping.stdout);
        let played = self.must(&mut ansible("ansible-playbook", &["play.yaml"]));
        assert!(played.stdout.contains("failed=0"), "{}", played.stdout);
        assert_eq!(
            std::fs::read_to_string(self.work("fetched-by-play")).expect("it is there"),
            "from a play"
        );
        true
    }

    fn docker(&self) {
        let path = path_with(&self.work("shim"));
        let docker = |args: &[&str]| {
            let mut command = self.command("docker", args);
            command.env("DOCKER_HOST", "ssh://lab").env("PATH", &path);
            command
        };
        let version = self.must(&mut docker(&["version", "--format", "{{.Server.Version}}"]));
        assert!(!version.stdout.trim().is_empty());
        let listed = self.must(&mut docker(&["ps", "--quiet"]));
        // The server itself runs there.
        assert!(!listed.stdout.trim().is_empty());
    }
}

#[test]
fn one_login_is_enough_for_all_of_them() {
    for (program, package) in
        [("git", "git"), ("rsync", "rsync"), ("scp", "openssh-client"), ("sftp", "openssh-client")]
    {
        if which::which(program).is_err() {
            return skip(&format!("there is no {program} (apt-get install {package})"));
        }
    }
    let lab = Lab::new();
    let logins = |client: &str| assert_eq!(lab.sshd.logins(), 1, "after {client}\n{}", lab.sshd.log());
    lab.git();
    logins("git");
    lab.rsync();
    logins("rsync");
    lab.scp_and_sftp();
    logins("scp and sftp");
    if lab.ansible() {
        logins("Ansible");
    }
    match (kind(), which::which("docker")) {
        (Kind::Container("docker"), Ok(_)) => {
            lab.docker();
            logins("Docker");
        }
        (Kind::Container("docker"), Err(_)) => skip("there is no docker program"),
        _ => skip("only a container of Docker has an engine to offer"),
    }
}

/// Commands of one client at once share the login, too.
#[test]
fn eight_clients_at_once_on_a_cold_host_make_one_login() {
    let lab = Lab::new();
    let mut children: Vec<_> = (0..8)
        .map(|number| {
            let mut command = lab.command(lab.ssh(), ["lab", &format!("echo {number}; cat")]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started")
        })
        .collect();
    for (number, child) in children.iter_mut().enumerate() {
        drop(child.stdin.take());
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().expect("it is piped"), &mut text)
            .expect("it is text");
        assert_eq!((child.wait().expect("it ends").code(), text), (Some(0), format!("{number}\n")));
    }
    assert_eq!(lab.sshd.logins(), 1, "{}", lab.sshd.log());
    wait_for("the agent to know", PATIENCE, || {
        let status = lab.home.status();
        status["connections"].as_array().is_some_and(|all| all.iter().all(|one| one["sessions"] == 0))
    });
}
