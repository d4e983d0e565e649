//! Servers that open few sessions on a connection: TinySSH, and one in Python that has the habit
//! which a test asks for. They run beside the tests, and the commands in a directory of the server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::common::process::run;
use super::common::{skip, wait_for};
use super::pooled::{PATIENCE, command};
use super::python;

const ASYNCSSH: &str = "2.24.1";

/// What a server does when another session is wanted, or when one has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It opens another session.
    Several,
    Refuses,
    Closes,
    Silent,
    /// It closes the connection when a session has ended.
    Ends,
    /// The same, with a word.
    Goodbye,
    /// TinySSH, which opens one.
    Tiny,
}

impl Habit {
    fn word(self) -> &'static str {
        match self {
            Habit::Several => "several",
            Habit::Refuses => "refuses",
            Habit::Closes => "closes",
            Habit::Silent => "silent",
            Habit::Ends => "ends",
            Habit::Goodbye => "goodbye",
            Habit::Tiny => "tiny",
        }
    }
}

/// A server until it is dropped.
pub struct FewSessions {
    directory: TempDir,
    child: Child,
}

impl FewSessions {
    /// Without what it needs the test is skipped, and the reason is told.
    pub fn start_or_skip(habit: Habit) -> Option<Self> {
        Self::with_shell(habit, Path::new("/bin/sh"))
    }

    /// The same, where this program runs the commands: `SHELL -c COMMAND`.
    pub fn with_shell(habit: Habit, shell: &Path) -> Option<Self> {
        match Self::start(habit, shell) {
            Ok(server) => Some(server),
            Err(why) => {
                skip(&why);
                None
            }
        }
    }

    fn start(habit: Habit, shell: &Path) -> Result<Self, String> {
        let directory =
            tempfile::Builder::new().prefix("few-sessions-").tempdir().expect("a directory");
        let key = directory.path().join("key");
        make_key(&key);
        let mut server = match habit {
            Habit::Tiny => tinysshd(directory.path(), &key)?,
            _ => asyncssh(directory.path(), habit, shell)?,
        };
        let log = fs::File::create(directory.path().join("log")).expect("a file");
        let child = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let server = FewSessions { directory, child: child.expect("it was found") };
        wait_for("the server's port", PATIENCE, || server.path("port").exists());
        let config = format!(
            "Host lab\n  HostName 127.0.0.1\n  Port {}\n  User {}\n  IdentityFile {}\n  \
             IdentitiesOnly yes\n  UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n  \
             StrictHostKeyChecking accept-new\n",
            fs::read_to_string(server.path("port")).expect("it is there"),
            if habit == Habit::Tiny { "root" } else { "lab" },
            key.display(),
            server.path("known_hosts").display()
        );
        fs::write(server.ssh_config(), config).expect("a file");
        Ok(server)
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// In which it is `lab`.
    pub fn ssh_config(&self) -> PathBuf {
        self.path("ssh_config")
    }

    pub fn logins(&self) -> usize {
        self.lines("logins")
    }

    /// Those that it has opened. TinySSH does not tell.
    pub fn sessions(&self) -> usize {
        self.lines("sessions")
    }

    /// How many lines this file has.
    pub fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().count()
    }
}

impl Drop for FewSessions {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.path("log")).unwrap_or_default());
        }
        // It may have gone by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make_key(path: &Path) {
    let args = ["-q", "-t", "ed25519", "-N", "", "-f"];
    let made = run(command("ssh-keygen").args(args).arg(path), PATIENCE);
    assert_eq!(made.code(), 0, "{}", made.stderr);
}

fn asyncssh(directory: &Path, habit: Habit, shell: &Path) -> Result<Command, String> {
    let programs = python::programs("asyncssh", "asyncssh", ASYNCSSH)?;
    make_key(&directory.join("host_key"));
    let mut server = command(programs.join("python"));
    server.arg(script("server.py")).arg(directory).arg(habit.word()).arg(shell);
    Ok(server)
}

/// It takes the account's own keys, so it sees a home of its own.
fn tinysshd(directory: &Path, key: &Path) -> Result<Command, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can give tinysshd a home of its own".to_owned());
    }
    let find = |program: &str| {
        let place = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
        which::which_in(program, Some(place), "/")
            .map_err(|_| format!("there is no {program} (apt-get install tinysshd)"))
    };
    let (server, make_keys, unshare) =
        (find("tinysshd")?, find("tinysshd-makekey")?, find("unshare")?);
    let keys = directory.join("keys");
    let made = run(command(make_keys).arg("-q").arg(&keys), PATIENCE);
    assert_eq!(made.code(), 0, "{made:?}");
    let (home, ssh) = (directory.join("home"), directory.join("home/.ssh"));
    fs::create_dir_all(&ssh).expect("a directory");
    for private in [&home, &ssh] {
        fs::set_permissions(private, fs::Permissions::from_mode(0o700)).expect("it is ours");
    }
    fs::copy(key.with_extension("pub"), ssh.join("authorized_keys")).expect("it was made");
    let text = "mount --bind \"$1\" \"$2\" && shift 2 && exec python3 \"$@\"";
    let root = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let root = root.ok().flatten().ok_or("root has no account")?.dir;
    let mut launched = command(unshare);
    launched.args(["--mount", "--propagation", "private", "sh", "-c", text, "sh"]);
    launched.args([&home, &root, &script("launch.py"), &directory.to_owned()]);
    launched.args([server.as_os_str(), "-q".as_ref(), keys.as_os_str()]);
    Ok(launched)
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lab/few_sessions").join(name)
}
