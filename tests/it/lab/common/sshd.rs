//! A real sshd on a port of 127.0.0.1, in a configuration of the test's choice.
//!
//! It runs in a container where an engine works, and else as a private process of whoever runs the
//! tests, where no start-up file of theirs is read. In both `tests/it/lab/sshd/supervise` keeps it. The
//! container uses the host's network: the port is then truly closed when no server listens, where a
//! published port's proxy would go on accepting.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::engine::{self, Engine};
pub use super::engine::{Image, Release, release};
use super::files::Files;
use super::port::Port;
use super::process::{self, Ended};
use super::supervisor::Supervisor;

/// Where a container has the server's directory.
const MOUNT: &str = "/server";

/// For a small program beside the server.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a server runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A container of this engine: `docker` or `podman`.
    Container(&'static str),
    /// A process of the user who runs the tests.
    Process,
}

/// What the servers of this test binary run as.
pub fn kind() -> Kind {
    match engine::engine() {
        Engine::Container { program, .. } => Kind::Container(program),
        Engine::Process { .. } => Kind::Process,
    }
}

/// A server's configuration.
#[must_use]
pub struct Builder {
    pub(super) options: String,
    pub(super) host_key_types: Vec<String>,
    /// Words of SetEnv.
    pub(super) env: String,
    login_shell: Option<String>,
    image: Image,
    /// Arguments of Dropbear, which runs in the place of sshd then.
    pub(super) dropbear: Option<Vec<String>>,
    /// Options of `docker run`.
    run: Vec<String>,
}

impl Builder {
    /// Sessions at once on one connection.
    pub fn max_sessions(self, sessions: u32) -> Self {
        self.option("MaxSessions", &sessions.to_string())
    }

    /// Connections at once that have not logged in yet, as `start:rate:full`.
    pub fn max_startups(self, startups: &str) -> Self {
        self.option("MaxStartups", startups)
    }

    /// The command that runs in place of any other.
    pub fn force_command(self, command: &str) -> Self {
        self.option("ForceCommand", command)
    }

    /// Types of host keys as ssh-keygen names them; one key is made of each. Without this there is
    /// one of ed25519.
    pub fn host_key_types(mut self, types: &[&str]) -> Self {
        self.host_key_types = types.iter().map(ToString::to_string).collect();
        self
    }

    /// The login shell of the account: `/bin/dash`, `/bin/bash`, `/usr/bin/zsh`, `/bin/tcsh`,
    /// `/usr/bin/fish`, or BusyBox's `/usr/local/bin/ash`. Only in a container; without this it is
    /// `/bin/sh` there.
    pub fn login_shell(mut self, shell: &str) -> Self {
        self.login_shell = Some(shell.to_owned());
        self
    }

    /// A variable in the environment of remote commands.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        write!(self.env, " \"{name}={value}\"").expect("a String takes everything");
        self
    }

    /// What the server is made of. Only in a container; without this it is [`Image::Login`] there.
    pub fn image(mut self, image: Image) -> Self {
        self.image = image;
        self
    }

    /// Gives the server the socket of the Docker engine that it runs on, and its account the right
    /// to use it. Only in a container of Docker.
    pub fn docker_socket(self) -> Self {
        self.run_option("--volume=/var/run/docker.sock:/var/run/docker.sock")
    }

    /// One more option of `docker run`. Only in a container.
    pub fn run_option(mut self, option: &str) -> Self {
        self.run.push(option.to_owned());
        self
    }

    /// Any line of sshd_config. As in that file the first of a keyword counts, and all of these
    /// come before the fixture's own. Only `SetEnv` is not for tests ([`env`](Self::env) is):
    /// remote commands are known by it.
    pub fn option(mut self, key: &str, value: &str) -> Self {
        writeln!(self.options, "{key} {value}").expect("a String takes everything");
        self
    }

    /// Dropbear in the place of sshd, with these arguments. Only in a container. What belongs into
    /// sshd_config is not for it.
    pub fn dropbear(mut self, arguments: &[&str]) -> Self {
        self.dropbear = Some(arguments.iter().map(ToString::to_string).collect());
        self
    }

    /// Starts the server and waits until it listens. Panics when this kind of server cannot be
    /// configured so.
    #[track_caller]
    pub fn start(self) -> Sshd {
        match self.impossible() {
            None => Sshd::start(self),
            Some(why) => panic!("{why}"),
        }
    }

    /// Starts the server, or says that the test is skipped when this kind of server cannot be
    /// configured so.
    #[track_caller]
    pub fn start_or_skip(self) -> Option<Sshd> {
        match self.impossible() {
            None => Some(Sshd::start(self)),
            Some(why) => {
                super::skip(&why);
                None
            }
        }
    }

    fn impossible(&self) -> Option<String> {
        match kind() {
            Kind::Process if self.login_shell.is_some() => {
                Some("a private sshd process cannot give its user another login shell".to_owned())
            }
            Kind::Container("podman")
                if self.run.iter().any(|option| option.contains("docker.sock")) =>
            {
                Some("podman has no engine whose socket could be given away".to_owned())
            }
            _ if self.dropbear.is_some() && !(self.options.is_empty() && self.env.is_empty()) => {
                panic!("Dropbear reads no sshd_config: {}{}", self.options, self.env)
            }
            Kind::Process if self.dropbear.is_some() => {
                Some("a private sshd process is no Dropbear".to_owned())
            }
            _ if self.image == Image::Login => None,
            _ => engine::image(self.image).err(),
        }
    }
}

/// A running server. Dropped, it ends with everything that runs on it, and so it does when this
/// process is killed.
pub struct Sshd {
    engine: &'static Engine,
    /// Of the container; and commands on the server have it in their environment.
    name: String,
    user: String,
    image: Option<String>,
    port: Port,
    /// One for all threads: verbs come one after another.
    supervisor: Mutex<Supervisor>,
    files: Files,
}

impl Sshd {
    pub fn builder() -> Builder {
        Builder {
            options: String::new(),
            host_key_types: vec!["ed25519".to_owned()],
            env: String::new(),
            login_shell: None,
            image: Image::Login,
            dropbear: None,
            run: Vec::new(),
        }
    }

    #[track_caller]
    fn start(builder: Builder) -> Sshd {
        let engine = engine::engine();
        let port = Port::reserve();
        let name = format!("sshpool-test-{}-{}", std::process::id(), port.number);
        let mark = format!("SSHPOOL_TEST_SERVER_NAME={name}");
        let mount = matches!(engine, Engine::Container { .. }).then_some(Path::new(MOUNT));
        let login_shell = builder.login_shell.clone();
        let (wanted, run) = (builder.image, builder.run.clone());
        let program_of_server =
            if builder.dropbear.is_some() { "/usr/sbin/dropbear" } else { "/usr/sbin/sshd" };
        let files = Files::create(mount, &mark, builder);

        let (mut command, user, image) = match engine {
            Engine::Container { program, .. } => {
                let image = engine::image(wanted).unwrap_or_else(|why| panic!("{why}"));
                let mut command = container(program, &name, &files.server(""));
                command.args(run).args([&image, program_of_server, MOUNT]);
                (command, "lab".to_owned(), Some(image))
            }
            Engine::Process { sshd } => {
                let mut command = process::command("sh");
                command.arg(engine::source("supervise")).arg(sshd).arg(files.server(""));
                // A socket of an engine that is found here is this machine's, and none that was
                // given to the server.
                command.env("KEEP_OUT", "yes");
                (command, own_name(), None)
            }
        };
        command.arg(&mark).args(login_shell);
        let supervisor = Mutex::new(Supervisor::start(command, files.path()));

        let mut sshd = Sshd { engine, name, user, image, port, supervisor, files };
        loop {
            sshd.files.configure(sshd.port.number, &sshd.user);
            match sshd.obey("start") {
                Ok(()) => break,
                // Something else than these tests has taken the port since it was reserved.
                Err(why) if why.contains("Cannot bind") || why.contains("Failed listening") => {
                    sshd.port = Port::reserve()
                }
                Err(why) => panic!("sshd does not start: {why}"),
            }
        }
        assert!(
            sshd.port.is_taken(),
            "the server runs, but not on this machine's loopback: set SSHPOOL_TEST_SERVER=process"
        );
        sshd
    }

    pub fn kind(&self) -> Kind {
        kind()
    }

    /// The image of its container, for containers of the test's own. Panics where it is a plain
    /// process.
    pub fn image(&self) -> &str {
        self.image.as_deref().expect("a private sshd process has no image")
    }

    /// The port on 127.0.0.1. No other server gets it while this value lives, be this one running
    /// or not.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The account to log in to: `lab` in a container, and else whoever runs the tests.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The private key that may log in.
    pub fn identity_file(&self) -> PathBuf {
        self.files.client("id")
    }

    /// One more key that may log in: `options` as in authorized_keys, `key` as in a file of
    /// ssh-keygen.
    pub fn authorize(&self, options: &str, key: &str) {
        use std::io::Write;
        let path = self.files.server("authorized_keys");
        let mut file = fs::OpenOptions::new().append(true).open(path).expect("it is there");
        file.write_all(format!("{options} {}\n", key.trim()).as_bytes()).expect("there is room");
    }

    /// A known_hosts file. It knows the server's first host keys, so that clients have nothing to
    /// remark on.
    pub fn known_hosts(&self) -> PathBuf {
        self.files.client("known_hosts")
    }

    /// An ssh_config file in which this server is `lab`.
    pub fn ssh_config(&self) -> PathBuf {
        self.files.client("ssh_config")
    }

    /// Stops the server and all that runs on it, as SIGSTOP does: connections stay, and nothing
    /// answers any more. New connections are still accepted by the kernel, and get no banner.
    #[track_caller]
    pub fn freeze(&self) {
        self.must("freeze");
    }

    /// Lets a frozen server go on.
    #[track_caller]
    pub fn thaw(&self) {
        self.must("thaw");
    }

    /// Kills the server, its connections and its remote commands. The port refuses connections
    /// after that.
    #[track_caller]
    pub fn kill(&self) {
        self.must("kill");
    }

    /// Starts the server on its port with its keys, after a `kill` when it runs.
    #[track_caller]
    pub fn restart(&self) {
        self.must("kill");
        self.must("start");
    }

    /// Kills what sshd runs for each connection. The server goes on, and so do remote commands, as
    /// far as they bear the loss of their pipes.
    #[track_caller]
    pub fn kill_connections(&self) {
        self.must("kill_connections");
    }

    /// Gives the server other host keys and restarts it. `known_hosts` keeps the former ones.
    #[track_caller]
    pub fn change_host_keys(&self) {
        self.must("kill");
        self.files.make_host_keys();
        self.must("start");
    }

    /// What sshd has logged since the first start, at the level VERBOSE.
    pub fn log(&self) -> String {
        let bytes =
            fs::read(self.files.server("log")).expect("the log is there as long as the server is");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Logins that succeeded since the first start.
    pub fn logins(&self) -> usize {
        // Dropbear puts process id and time before its words.
        self.logged("Accepted publickey for ")
            + self.log().matches(" Pubkey auth succeeded for ").count()
    }

    /// Commands, shells and subsystems started since the first start. Dropbear does not tell.
    pub fn sessions_opened(&self) -> usize {
        self.logged("Starting session: ")
    }

    fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.starts_with(text)).count()
    }

    /// Runs a command by `sh` as the account that clients log in to, in its home, beside the server
    /// and not through it.
    #[track_caller]
    pub fn exec(&self, command: &str) -> Ended {
        let mut program = match self.engine {
            Engine::Process { .. } => {
                let mut sh = process::command("sh");
                sh.env("HOME", self.files.home()).current_dir(self.files.home());
                sh
            }
            Engine::Container { program, .. } => {
                let mut exec = process::outside(program);
                exec.args([
                    "exec",
                    "--user",
                    &self.user,
                    "--workdir",
                    "/home/lab",
                    &self.name,
                    "sh",
                ]);
                exec
            }
        };
        process::run(program.args(["-c", command]), PATIENCE)
    }

    /// Runs a script by `sh` as root of the container, and takes it that it succeeds. Only in a
    /// container.
    #[track_caller]
    pub fn as_root(&self, script: &str) -> String {
        let ended = process::run(&mut self.of_root(script), PATIENCE);
        assert!(ended.status.success(), "{script}: {ended:?}");
        ended.stdout
    }

    /// A script by `sh` as root of the container, to be started; its input is the script's. Only in
    /// a container.
    #[track_caller]
    pub fn of_root(&self, script: &str) -> Command {
        let Engine::Container { program, .. } = self.engine else {
            panic!("root's affairs are for containers")
        };
        let mut exec = process::outside(program);
        exec.args(["exec", "--interactive", "--user", "root", &self.name, "sh", "-euc", script]);
        exec
    }

    /// Whether a process lives on the server; `pid` is what `$$` was there. A zombie does not live.
    #[track_caller]
    pub fn is_alive(&self, pid: u32) -> bool {
        let shown = self.exec(&format!("ps -o stat= -p {pid}"));
        // 1 is how ps says that there is no such process; anything else comes from elsewhere and
        // means nothing.
        assert!(
            shown.code() <= 1 && shown.stderr.is_empty(),
            "the server's processes cannot be seen: {shown:?}"
        );
        !shown.stdout.trim().is_empty() && !shown.stdout.starts_with('Z')
    }

    #[track_caller]
    fn must(&self, verb: &str) {
        if let Err(why) = self.obey(verb) {
            panic!("the server does not obey `{verb}`: {why}\n{}", self.log());
        }
    }

    fn obey(&self, verb: &str) -> Result<(), String> {
        self.supervisor.lock().unwrap_or_else(PoisonError::into_inner).obey(verb)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let ended = self.supervisor.get_mut().unwrap_or_else(PoisonError::into_inner).end();
        if let (false, Engine::Container { program, .. }) = (ended, self.engine) {
            // A test that has failed already must not panic a second time, so its outcome is not
            // looked at.
            let _ = process::outside(program).args(["rm", "--force", &self.name]).output();
        }
    }
}

/// Whoever runs the tests.
fn own_name() -> String {
    process::run(process::command("id").arg("-un"), PATIENCE).stdout.trim().to_owned()
}

/// `docker run` as far as the image.
fn container(program: &str, name: &str, dir: &Path) -> Command {
    let mut command = process::outside(program);
    command
        .args(["run", "--interactive", "--rm", "--pull", "never", "--name", name])
        .args(["--network", "host", "--log-driver", "none"])
        // sshd needs the first, which some engines withhold; with the other root sees the
        // environment of all processes.
        .args(["--cap-add", "SYS_CHROOT", "--cap-add", "SYS_PTRACE"])
        .arg("--volume")
        .arg(format!("{}:{MOUNT}:z", dir.display()));
    command
}
