//! A real sshd on a port of 127.0.0.1, in a configuration of the test's choice.
//!
//! It runs in a container where an engine works, and else as an unprivileged process of whoever runs the tests. In both
//! `tests/sshd/supervise` keeps it, and the container uses the host's network: the port is then truly closed when no
//! server listens, where the proxy of a published port would go on accepting connections.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::engine::{self, Engine};
use super::process::{self, Ended};
use super::supervisor::Supervisor;

/// Where the container has the server's directory.
const MOUNT: &str = "/server";

/// For `exec` and the making of keys.
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
    options: String,
    host_key_types: Vec<String>,
    login_shell: Option<String>,
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

    /// Types of host keys as ssh-keygen names them; one key is made of each. Without this there is one of ed25519.
    pub fn host_key_types(mut self, types: &[&str]) -> Self {
        self.host_key_types = types.iter().map(ToString::to_string).collect();
        self
    }

    /// The login shell of the account: `/bin/dash`, `/bin/bash`, `/usr/bin/zsh`, `/bin/tcsh`, `/usr/bin/fish`, or
    /// BusyBox's `/usr/local/bin/ash`. Only in a container; without this it is `/bin/sh` there.
    pub fn login_shell(mut self, shell: &str) -> Self {
        self.login_shell = Some(shell.to_owned());
        self
    }

    /// Any line of sshd_config. As in that file, the first of a keyword counts; all of them come before the fixture's own.
    pub fn option(mut self, key: &str, value: &str) -> Self {
        writeln!(self.options, "{key} {value}").expect("a String takes everything");
        self
    }

    /// Starts the server and waits until it listens. Panics when this kind of server cannot be configured so.
    #[track_caller]
    pub fn start(self) -> Sshd {
        match self.impossible() {
            None => Sshd::start(self),
            Some(why) => panic!("{why}"),
        }
    }

    /// Starts the server, or says that the test is skipped when this kind of server cannot be configured so.
    pub fn start_or_skip(self) -> Option<Sshd> {
        match self.impossible() {
            None => Some(Sshd::start(self)),
            Some(why) => {
                super::skip(why);
                None
            }
        }
    }

    fn impossible(&self) -> Option<&'static str> {
        (kind() == Kind::Process && self.login_shell.is_some())
            .then_some("a private sshd process cannot give its user another login shell")
    }
}

/// A running server. Dropped, it ends with everything that runs on it, and so it does when this process is killed.
pub struct Sshd {
    engine: &'static Engine,
    /// Only the owner may enter it. `client` has what clients use, `server` what the server uses.
    dir: TempDir,
    port: Port,
    user: String,
    options: String,
    host_key_types: Vec<String>,
    /// The verbs of several threads come one after another.
    supervisor: Mutex<Supervisor>,
    /// Of the container.
    name: String,
}

impl Sshd {
    pub fn builder() -> Builder {
        Builder { options: String::new(), host_key_types: vec!["ed25519".to_owned()], login_shell: None }
    }

    #[track_caller]
    fn start(builder: Builder) -> Sshd {
        let engine = engine::engine();
        let dir = tempfile::Builder::new()
            .prefix("sshpool-sshd-")
            .tempdir()
            .expect("a temporary directory can be made");
        for name in ["client", "server"] {
            fs::create_dir(dir.path().join(name)).expect("a directory can be made in a new directory");
        }
        let port = Port::reserve();
        let name = format!("sshpool-test-{}-{}", std::process::id(), port.number);
        let mark = format!("SSHPOOL_TEST_SERVER_NAME={name}");
        let (command, user) =
            supervisor_command(engine, dir.path(), &name, &mark, builder.login_shell.as_deref());
        let supervisor = Mutex::new(Supervisor::start(command, dir.path()));

        // The supervisor starts up while the keys are made; it looks at none of them before the verb.
        let options = format!("{}SetEnv {mark}\n", builder.options);
        let mut sshd = Sshd {
            engine,
            dir,
            port,
            user,
            options,
            host_key_types: builder.host_key_types,
            supervisor,
            name,
        };
        sshd.make_login();
        sshd.make_host_keys();
        loop {
            sshd.configure();
            match sshd.obey("start") {
                Ok(()) => return sshd,
                // Something else than these tests has taken the port since it was reserved.
                Err(why) if why.contains("Cannot bind") => sshd.port = Port::reserve(),
                Err(why) => panic!("sshd does not start: {why}"),
            }
        }
    }

    pub fn kind(&self) -> Kind {
        kind()
    }

    /// The port on 127.0.0.1. No other server gets it while this value lives, be this one running or not.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// The account to log in to: `lab` in a container, and else whoever runs the tests.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The private key that may log in.
    pub fn identity_file(&self) -> PathBuf {
        self.client("id")
    }

    /// A known_hosts file. It knows the server's first host keys, so that clients have nothing to remark on.
    pub fn known_hosts(&self) -> PathBuf {
        self.client("known_hosts")
    }

    /// An ssh_config file in which this server is `lab`.
    pub fn ssh_config(&self) -> PathBuf {
        self.client("ssh_config")
    }

    /// Stops the server and all that runs on it, as SIGSTOP does: connections stay, and nothing answers any more. New
    /// connections are still accepted by the kernel, and get no banner.
    pub fn freeze(&self) {
        self.must("freeze");
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        self.must("thaw");
    }

    /// Kills the server, its connections and its remote commands. The port refuses connections after that.
    pub fn kill(&self) {
        self.must("kill");
    }

    /// Starts the server on its port with its keys, after a `kill` when it runs.
    pub fn restart(&self) {
        self.must("kill");
        self.must("start");
    }

    /// Kills what sshd runs for each connection. The server goes on, and so do remote commands, as far as they
    /// bear the loss of their pipes.
    pub fn kill_connections(&self) {
        self.must("kill_connections");
    }

    /// Gives the server other host keys and restarts it. `known_hosts` keeps the former ones.
    pub fn change_host_keys(&self) {
        self.must("kill");
        self.make_host_keys();
        self.must("start");
    }

    /// What sshd has logged since the first start, at the level VERBOSE.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.server("log")).expect("the log is there as long as the server is");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Logins that succeeded since the first start.
    pub fn logins(&self) -> usize {
        self.logged("Accepted publickey for ")
    }

    /// Commands, shells and subsystems started since the first start.
    pub fn sessions_opened(&self) -> usize {
        self.logged("Starting session: ")
    }

    fn logged(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.starts_with(text)).count()
    }

    /// Runs a command by `sh` as the account that clients log in to, beside the server and not through it.
    #[track_caller]
    pub fn exec(&self, command: &str) -> Ended {
        let mut program = match self.engine {
            Engine::Process { .. } => Command::new("sh"),
            Engine::Container { program, .. } => {
                let mut exec = Command::new(program);
                exec.args(["exec", "--user", &self.user, "--workdir", "/home/lab", &self.name, "sh"]);
                exec
            }
        };
        process::run(program.args(["-c", command]), PATIENCE)
    }

    /// Whether a process lives on the server; `pid` is what `$$` was there. A zombie does not live.
    #[track_caller]
    pub fn is_alive(&self, pid: u32) -> bool {
        let state = self.exec(&format!("ps -o stat= -p {pid}")).stdout;
        !state.trim().is_empty() && !state.starts_with('Z')
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

    fn client(&self, name: &str) -> PathBuf {
        self.dir.path().join("client").join(name)
    }

    fn server(&self, name: &str) -> PathBuf {
        self.dir.path().join("server").join(name)
    }

    /// The key that logs in, and an empty log.
    fn make_login(&self) {
        keygen("ed25519", &self.identity_file());
        fs::copy(self.client("id.pub"), self.server("authorized_keys")).expect("a file can be copied");
        // Made here, because sshd would make it readable for its own user only, who is another one in a container.
        fs::write(self.server("log"), "").expect("a file can be made");
        // Its owner in a container is not root, and root there is not root here under a rootless engine.
        for name in ["authorized_keys", "log"] {
            let open = Permissions::from_mode(if name == "log" { 0o666 } else { 0o644 });
            fs::set_permissions(self.server(name), open).expect("one's own file can be opened to others");
        }
        fs::set_permissions(self.server(""), Permissions::from_mode(0o755))
            .expect("one's own directory likewise");
    }

    fn make_host_keys(&self) {
        for kind in &self.host_key_types {
            let path = self.server(&format!("host_{kind}"));
            // ssh-keygen asks before it replaces a key.
            let _ = fs::remove_file(&path);
            keygen(kind, &path);
        }
    }

    /// Writes the configuration of the server and of its clients.
    fn configure(&self) {
        let port = self.port.number;
        let seen = match self.engine {
            Engine::Container { .. } => PathBuf::from(MOUNT),
            Engine::Process { .. } => self.server(""),
        };
        let seen = |name: &str| format!("\"{}\"", seen.join(name).display());
        let mut server = self.options.clone();
        let mut known = String::new();
        for kind in &self.host_key_types {
            writeln!(server, "HostKey {}", seen(&format!("host_{kind}"))).expect("a String takes everything");
            let public =
                fs::read_to_string(self.server(&format!("host_{kind}.pub"))).expect("the key was just made");
            writeln!(known, "[127.0.0.1]:{port} {}", public.trim()).expect("a String takes everything");
        }
        let keys = seen("authorized_keys");
        let pid_file = seen("sshd.pid");
        server += &format!(
            "ListenAddress 127.0.0.1:{port}\n\
             AuthorizedKeysFile {keys}\n\
             PidFile {pid_file}\n\
             LogLevel VERBOSE\n\
             UsePAM no\n\
             StrictModes no\n\
             PasswordAuthentication no\n\
             KbdInteractiveAuthentication no\n\
             PermitRootLogin yes\n\
             PrintMotd no\n\
             PrintLastLog no\n\
             AcceptEnv LANG LC_*\n\
             Subsystem sftp internal-sftp\n"
        );
        let client = format!(
            "Host lab\n\
             \x20   HostName 127.0.0.1\n\
             \x20   Port {port}\n\
             \x20   User {}\n\
             \x20   IdentityFile \"{}\"\n\
             \x20   IdentitiesOnly yes\n\
             \x20   UserKnownHostsFile \"{}\"\n\
             \x20   GlobalKnownHostsFile /dev/null\n\
             \x20   StrictHostKeyChecking accept-new\n",
            self.user,
            self.identity_file().display(),
            self.known_hosts().display(),
        );
        for (path, text) in
            [(self.server("sshd_config"), server), (self.ssh_config(), client), (self.known_hosts(), known)]
        {
            fs::write(&path, text)
                .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let ended = self.supervisor.get_mut().unwrap_or_else(PoisonError::into_inner).end();
        if let (false, Engine::Container { program, .. }) = (ended, self.engine) {
            // A test that has failed already must not panic a second time, so its outcome is not looked at.
            let _ = Command::new(program).args(["rm", "--force", &self.name]).output();
        }
    }
}

/// How the supervisor is started, and the account that the server gives.
fn supervisor_command(
    engine: &Engine,
    dir: &Path,
    name: &str,
    mark: &str,
    login_shell: Option<&str>,
) -> (Command, String) {
    let server = dir.join("server");
    match engine {
        Engine::Container { program, image } => {
            let mut command = Command::new(program);
            command
                .args(["run", "--interactive", "--rm", "--pull", "never", "--name", name])
                .args(["--network", "host", "--log-driver", "none"])
                // Some engines lack the first by default, and sshd needs it; the other lets root see whose the processes are.
                .args(["--cap-add", "SYS_CHROOT", "--cap-add", "SYS_PTRACE"])
                .args(["--volume", &format!("{}:{MOUNT}:z", server.display())])
                .args([image, "/usr/sbin/sshd", MOUNT, mark])
                .args(login_shell);
            (command, "lab".to_owned())
        }
        Engine::Process { sshd } => {
            let mut command = Command::new("sh");
            command.arg(engine::source("supervise")).arg(sshd).arg(&server).arg(mark);
            let id = process::run(Command::new("id").arg("-un"), PATIENCE);
            (command, id.stdout.trim().to_owned())
        }
    }
}

fn keygen(kind: &str, path: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-N", "", "-C", "", "-t", kind, "-f"]).arg(path);
    let made = process::run(&mut command, PATIENCE);
    assert!(made.status.success(), "{command:?} failed: {}", made.last_words());
}

/// A port for one server, of those that the kernel gives to nobody by itself.
struct Port {
    number: u16,
    /// The same number as a UDP port, which only these tests take and which a killed process cannot forget to give
    /// back: it keeps the port reserved between the end of a server and its restart.
    _reservation: UdpSocket,
}

impl Port {
    fn reserve() -> Port {
        static TRIED: AtomicU16 = AtomicU16::new(0);
        const FIRST: u16 = 20_000;
        const COUNT: u16 = 10_000;
        for _ in 0..COUNT {
            // Each process begins elsewhere, so that few collide.
            let start = (std::process::id() % 1000) * 10;
            let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
            let number = FIRST + u16::try_from((start + tried) % u32::from(COUNT)).expect("COUNT is a u16");
            let Ok(reservation) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else {
                continue;
            };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Port { number, _reservation: reservation };
            }
        }
        panic!("no port of 127.0.0.1 between {FIRST} and {} is free", FIRST + COUNT);
    }
}
