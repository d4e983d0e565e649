//! The test server itself, tried with the plain ssh client: every verb, every getter, every option,
//! in whichever kind of server the run has.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rstest::{fixture, rstest};

use crate::lab::common::process::{Ended, command, outside, run, wait_until};
use crate::lab::common::sshd::{Kind, Release, Sshd, kind, release};
use crate::lab::common::wait_for;
use crate::lab::itself;

/// For whatever happens in milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);

#[fixture]
fn sshd() -> Sshd {
    Sshd::builder().start()
}

/// `ssh lab`, with nothing of the user's own configuration.
fn client(sshd: &Sshd) -> Command {
    let mut ssh = command("ssh");
    ssh.arg("-F").arg(sshd.ssh_config()).args(["-o", "BatchMode=yes"]);
    ssh
}

fn ssh(sshd: &Sshd, command: &str) -> Ended {
    run(client(sshd).args(["lab", command]), SOON)
}

/// A child that is killed when the test is over, however it ends.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("ssh is installed"))
    }

    fn ends_within(&mut self, deadline: Duration) -> bool {
        wait_until(&mut self.0, Instant::now() + deadline).is_some()
    }

    /// The first line that it writes.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        line.trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection with a command on it that goes on for long: the client, and the command's process
/// on the server.
fn long_command(sshd: &Sshd) -> (Running, u32) {
    let mut running = Running::start(client(sshd).args(["lab", "echo $$; exec sleep 4242"]));
    let pid = running.line().parse().expect("the command prints its process id first");
    (running, pid)
}

#[rstest]
fn a_command_runs_as_the_user_of_the_server(sshd: Sshd) {
    let ended = ssh(&sshd, "id -un; exit 3");

    assert_eq!(ended.code(), 3);
    assert_eq!(ended.stdout.trim(), sshd.user());
    assert_eq!(ended.stderr, "", "the host key is known beforehand");
    assert_eq!(sshd.kind(), kind());
    if let Kind::Container(_) = kind() {
        assert_eq!(sshd.user(), "lab");
    }
}

#[rstest]
fn files_serve_without_the_ssh_config(sshd: Sshd) {
    let mut ssh = command("ssh");
    ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-i"])
        .arg(sshd.identity_file())
        .args(["-o", &format!("UserKnownHostsFile={}", sshd.known_hosts().display())])
        .args(["-p", &sshd.port().to_string(), "-l", sshd.user(), "127.0.0.1", "echo here"]);
    assert_eq!(run(&mut ssh, SOON).stdout, "here\n");
}

#[rstest]
fn logins_and_sessions_are_counted(sshd: Sshd) {
    assert_eq!((sshd.logins(), sshd.sessions_opened()), (0, 0), "nothing but the test logs in");

    for _ in 0..2 {
        assert_eq!(ssh(&sshd, "true").code(), 0);
    }
    assert_eq!((sshd.logins(), sshd.sessions_opened()), (2, 2));

    let socket = sshd.ssh_config().with_file_name("master");
    let master = format!("ControlPath={}", socket.display());
    let mut running = Running::start(client(&sshd).args(["-M", "-N", "-o", &master, "lab"]));
    wait_for("the master's socket", SOON, || socket.exists());
    for _ in 0..3 {
        assert_eq!(run(client(&sshd).args(["-o", &master, "lab", "true"]), SOON).code(), 0);
    }
    assert_eq!((sshd.logins(), sshd.sessions_opened()), (3, 5), "three sessions shared one login");

    let exit = run(client(&sshd).args(["-o", &master, "-O", "exit", "lab"]), SOON);
    assert!(exit.status.success() && running.ends_within(SOON));
}

#[rstest]
fn a_frozen_server_answers_after_it_is_thawed(sshd: Sshd) {
    let mut counting =
        Running::start(client(&sshd).args(["lab", "while sleep 0.05; do echo tick; done"]));
    assert_eq!(counting.line(), "tick");

    sshd.freeze();
    let mut waiting = Running::start(client(&sshd).args(["lab", "echo at last"]));
    wait_for("the kernel to accept a connection", SOON, || {
        TcpStream::connect(("127.0.0.1", sshd.port())).is_ok()
    });
    assert!(!waiting.ends_within(Duration::from_millis(500)), "nothing answers");
    assert_eq!(sshd.logins(), 1);

    sshd.thaw();
    assert_eq!(waiting.line(), "at last");
    assert!(waiting.ends_within(SOON));
    assert_eq!(sshd.logins(), 2);
    assert!(!counting.ends_within(Duration::ZERO), "the connection from before goes on");
}

#[rstest]
fn a_frozen_server_can_be_killed(sshd: Sshd) {
    let (mut client, pid) = long_command(&sshd);
    sshd.freeze();
    sshd.kill();
    assert!(client.ends_within(SOON));
    assert!(!sshd.is_alive(pid));
}

#[rstest]
fn a_killed_server_is_gone_at_once_with_all_that_ran(sshd: Sshd) {
    let (mut client, pid) = long_command(&sshd);
    assert!(sshd.is_alive(pid));

    sshd.kill();
    assert!(client.ends_within(SOON));
    assert!(!sshd.is_alive(pid));
    let refused = ssh(&sshd, "true");
    assert_eq!(refused.code(), 255);
    assert!(refused.last_words().ends_with("Connection refused"), "{refused:?}");

    sshd.kill(); // a second time is no error
}

#[rstest]
fn a_restarted_server_is_the_same_server(sshd: Sshd) {
    let (mut client, pid) = long_command(&sshd);

    sshd.restart(); // while it runs
    assert!(client.ends_within(SOON));
    assert!(!sshd.is_alive(pid));
    assert_eq!(ssh(&sshd, "echo again").stdout, "again\n");

    sshd.kill();
    sshd.restart();
    let again = ssh(&sshd, "echo and again");
    assert_eq!(
        (again.stdout.as_str(), again.stderr.as_str()),
        ("and again\n", ""),
        "its host key is still known"
    );
    assert_eq!(sshd.logins(), 3, "the log goes on");
}

#[rstest]
fn connections_can_be_killed_alone(sshd: Sshd) {
    let (mut first, pid) = long_command(&sshd);
    let (mut second, _) = long_command(&sshd);

    sshd.kill_connections();
    assert!(first.ends_within(SOON) && second.ends_within(SOON));
    assert!(sshd.is_alive(pid), "a command that touches none of its pipes outlives its connection");
    assert_eq!(ssh(&sshd, "echo alive").stdout, "alive\n");

    sshd.kill_connections(); // there are none left, and that is no error
    sshd.kill();
    assert!(!sshd.is_alive(pid), "the command without a connection is found as well");
}

#[rstest]
fn changed_host_keys_are_noticed(sshd: Sshd) {
    assert_eq!(ssh(&sshd, "true").code(), 0);

    sshd.change_host_keys();
    let refused = ssh(&sshd, "true");
    assert_eq!(refused.code(), 255);
    assert!(
        refused.stderr.contains("WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!"),
        "{refused:?}"
    );
    assert_eq!(refused.last_words(), "Host key verification failed.");

    fs::remove_file(sshd.known_hosts()).expect("the file is the test's own");
    assert_eq!(ssh(&sshd, "true").code(), 0, "nothing else has changed");
}

#[rstest]
fn max_sessions_limits_one_connection() {
    let sshd = Sshd::builder().max_sessions(1).start();
    let socket = sshd.ssh_config().with_file_name("master");
    let path = format!("ControlPath={}", socket.display());
    let _master = Running::start(client(&sshd).args(["-M", "-N", "-o", &path, "lab"]));
    wait_for("the master's socket", SOON, || socket.exists());
    let session = |command| {
        let mut ssh = client(&sshd);
        ssh.args(["-o", &path, "-o", "ProxyCommand=/bin/false", "lab", command]);
        ssh
    };

    let mut only = Running::start(&mut session("echo $$; exec sleep 4242"));
    assert_ne!(only.line(), "");
    let refused = run(&mut session("true"), SOON);
    assert_eq!(refused.code(), 255);
    assert!(refused.stderr.contains("Session open refused by peer"), "{refused:?}");
}

#[rstest]
fn max_startups_limits_those_who_have_not_logged_in() {
    let sshd = Sshd::builder().max_startups("1:100:1").start();
    assert_eq!(ssh(&sshd, "true").code(), 0, "the fixture itself takes up no startup");

    let _silent = TcpStream::connect(("127.0.0.1", sshd.port())).expect("the server listens");
    wait_for("sshd to see the connection", SOON, || {
        sshd.log().matches("Connection from ").count() >= 2
    });
    let dropped = ssh(&sshd, "true");
    assert_eq!(dropped.code(), 255);
    assert!(dropped.stderr.contains("kex_exchange_identification: "), "{dropped:?}");
}

#[rstest]
fn a_forced_command_replaces_any_other() {
    let sshd = Sshd::builder().force_command("echo forced $SSH_ORIGINAL_COMMAND; exit 4").start();
    let forced = ssh(&sshd, "echo asked");
    assert_eq!((forced.stdout.as_str(), forced.code()), ("forced echo asked\n", 4));
    assert_eq!(sshd.sessions_opened(), 1, "a forced command is a session like any other");
}

#[rstest]
#[case(&["ed25519"])]
#[case(&["rsa"])]
#[case(&["ecdsa", "ed25519"])]
fn host_keys_have_the_types_asked_for(#[case] types: &[&str]) {
    let sshd = Sshd::builder().host_key_types(types).start();
    let mut scan = command("ssh-keyscan");
    scan.args(["-p", &sshd.port().to_string(), "127.0.0.1"]);
    let mut shown: Vec<String> = run(&mut scan, SOON).stdout.lines().map(str::to_owned).collect();
    shown.sort();
    let known = fs::read_to_string(sshd.known_hosts()).expect("the fixture wrote it");
    let mut known: Vec<&str> = known.lines().map(str::trim).collect();
    known.sort_unstable();

    assert_eq!(shown, known);
    assert_eq!(known.len(), types.len());
    assert_eq!(ssh(&sshd, "true").code(), 0);
}

#[rstest]
#[case("/bin/sh", "sh")]
#[case("/bin/dash", "dash")]
#[case("/bin/bash", "bash")]
#[case("/usr/bin/zsh", "zsh")]
#[case("/bin/tcsh", "tcsh")]
#[case("/usr/bin/fish", "fish")]
#[case("/usr/local/bin/ash", "ash")]
fn the_login_shell_runs_commands(#[case] shell: &str, #[case] name: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else {
        return;
    };
    // The last command is another one, so that no shell replaces itself by the one that looks at
    // its parent.
    let shown = ssh(&sshd, "sh -c 'echo $SHELL; ps -o args= -p $PPID'; true");
    let shown: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(shown[0], shell);
    assert!(shown[1].starts_with(&format!("{name} -c ")), "{shown:?}");
}

#[rstest]
fn any_option_can_be_set() {
    let sshd =
        Sshd::builder().option("LogLevel", "DEBUG1").option("PubkeyAuthentication", "no").start();
    let refused = ssh(&sshd, "true");
    assert!(refused.last_words().contains("Permission denied"), "{refused:?}");
    assert!(sshd.log().contains("debug1: "));
}

#[rstest]
#[should_panic(expected = "Bad configuration option: NoSuchOption")]
fn a_wrong_option_is_a_clear_failure() {
    Sshd::builder().option("NoSuchOption", "1").start();
}

#[rstest]
#[should_panic(expected = "Cannot bind any address")]
fn a_taken_port_is_a_clear_failure(sshd: Sshd) {
    sshd.kill();
    let _other = TcpListener::bind(("127.0.0.1", sshd.port())).expect("the port is free");
    sshd.restart();
}

/// What a server says first.
fn banner(sshd: &Sshd) -> String {
    let connection = TcpStream::connect(("127.0.0.1", sshd.port())).expect("the server listens");
    connection.set_read_timeout(Some(SOON)).expect("a connection can be read with a deadline");
    let mut line = String::new();
    BufReader::new(connection).read_line(&mut line).expect("the server greets");
    line
}

#[rstest]
fn the_release_is_the_one_asked_for(sshd: Sshd) {
    let version = match (kind(), release()) {
        (Kind::Process, _) => "SSH-2.0-OpenSSH_",
        (_, Release::Bookworm) => "SSH-2.0-OpenSSH_9.2",
        (_, Release::Trixie) => "SSH-2.0-OpenSSH_10.0",
    };
    assert!(banner(&sshd).starts_with(version), "{:?} is not {version}", banner(&sshd));
}

#[rstest]
fn dropbear_obeys_the_same_verbs() {
    let Some(sshd) = Sshd::builder().dropbear(&[]).start_or_skip() else {
        return;
    };
    let version = if release() == Release::Trixie {
        "SSH-2.0-dropbear_2025"
    } else {
        "SSH-2.0-dropbear_2022"
    };
    assert!(banner(&sshd).starts_with(version), "{:?} is not {version}", banner(&sshd));
    assert_eq!(ssh(&sshd, "id -un").stdout, "lab\n");
    assert_eq!(sshd.logins(), 1);

    let (mut client, pid) = long_command(&sshd);
    sshd.freeze();
    let mut waiting = Running::start(self::client(&sshd).args(["lab", "echo at last"]));
    assert!(!waiting.ends_within(Duration::from_millis(500)), "nothing answers");
    sshd.thaw();
    assert_eq!(waiting.line(), "at last");

    sshd.kill_connections();
    assert!(client.ends_within(SOON));
    assert!(sshd.is_alive(pid), "a command that touches none of its pipes outlives its connection");
    sshd.restart();
    assert!(!sshd.is_alive(pid), "the command without a connection is found as well");
    assert_eq!(ssh(&sshd, "echo again").stdout, "again\n");

    sshd.change_host_keys();
    let refused = ssh(&sshd, "true");
    assert_eq!(refused.last_words(), "Host key verification failed.");
    let traces = Traces::of(&sshd, 0);
    drop(sshd);
    assert_eq!(traces.left(), "");
}

#[rstest]
#[should_panic(expected = "Dropbear reads no sshd_config")]
fn dropbear_refuses_what_is_for_sshd() {
    Sshd::builder().dropbear(&[]).max_sessions(1).start();
}

#[rstest]
fn exec_runs_beside_ssh(sshd: Sshd) {
    let ended = sshd.exec("id -un; echo complaint >&2; exit 5");
    assert_eq!(
        (ended.stdout.trim(), ended.stderr.as_str(), ended.code()),
        (sshd.user(), "complaint\n", 5)
    );
    assert_eq!(sshd.logins(), 0);

    let (_client, pid) = long_command(&sshd);
    let shown = sshd.exec(&format!("ps -o args= -p {pid}"));
    assert_eq!(
        shown.stdout.trim(),
        "sleep 4242",
        "it sees the server's processes by the numbers they know"
    );
}

#[rstest]
fn the_home_is_the_servers_own(sshd: Sshd) {
    assert_eq!(sshd.exec("pwd >~/left-here; cat ~/left-here").stderr, "");
    let found = ssh(&sshd, "cat ~/left-here; echo $HOME");
    let found: Vec<&str> = found.stdout.lines().collect();
    assert!(found.len() == 2 && found[0] == found[1], "{found:?}");
    if kind() == Kind::Process {
        assert_ne!(std::env::var("HOME").as_deref(), Ok(found[0]), "the user's own is left alone");
    }
}

#[rstest]
fn commands_on_the_server_can_be_interrupted(sshd: Sshd) {
    let (mut client, pid) = long_command(&sshd);
    sshd.exec(&format!("kill -s INT {pid}"));
    assert!(client.ends_within(SOON), "SIGINT is not ignored");
}

#[rstest]
fn servers_live_side_by_side(sshd: Sshd, #[from(sshd)] other: Sshd) {
    assert_ne!(sshd.port(), other.port());
    sshd.freeze();
    other.kill();
    other.restart();
    assert_eq!(ssh(&other, "echo other").stdout, "other\n");
    sshd.thaw();
    assert_eq!(ssh(&sshd, "echo this").stdout, "this\n");
}

#[rstest]
fn a_dropped_server_leaves_nothing(sshd: Sshd) {
    let (mut client, pid) = long_command(&sshd);
    let traces = Traces::of(&sshd, pid);
    drop(sshd);
    assert!(client.ends_within(SOON));
    assert_eq!(traces.left(), "");
}

/// Set in the environment of this very program when it is to start a server and to wait for its
/// death.
const ROLE: &str = "SSHPOOL_TEST_VICTIM";

#[rstest]
fn a_killed_test_leaves_no_server() {
    if std::env::var_os(ROLE).is_some() {
        return victim();
    }
    let mut victim = command(itself::program());
    let mut victim = Running::start(itself::only(&mut victim, &itself::own_name()).env(ROLE, "1"));
    let stdout = BufReader::new(victim.0.stdout.take().expect("stdout is a pipe"));
    let traces = stdout.lines().map_while(Result::ok).find_map(|line| Traces::read(&line));
    let traces = traces.expect("the victim says what it has started");
    assert_ne!(traces.left(), "", "the server and its command run");

    victim.0.kill().expect("a running child can be killed");
    let status = victim.0.wait().expect("a child can be waited for");
    assert_eq!(status.signal(), Some(9));
    wait_for("the end of the server and its command", Duration::from_secs(5), || {
        traces.left().is_empty()
    });
    // The one thing that nobody is left to remove.
    fs::remove_dir_all(&traces.dir).expect("the directory of the victim's server is still there");
}

fn victim() {
    let sshd = Sshd::builder().start();
    let (mut client, pid) = long_command(&sshd);
    println!("\n{}", Traces::of(&sshd, pid).written());
    client.ends_within(Duration::from_secs(60));
    unreachable!("this process is killed before");
}

/// What there is to see of a server from outside.
struct Traces {
    port: u16,
    /// Of a command on the server. It means something only where the server is a plain process.
    pid: u32,
    dir: PathBuf,
}

impl Traces {
    fn of(sshd: &Sshd, pid: u32) -> Traces {
        let dir = sshd.ssh_config();
        let dir = dir.ancestors().nth(2).expect("the configuration is two levels down");
        Traces { port: sshd.port(), pid, dir: dir.to_owned() }
    }

    fn written(&self) -> String {
        format!("server {} {} {}", self.port, self.pid, self.dir.display())
    }

    fn read(line: &str) -> Option<Traces> {
        let mut words = line.strip_prefix("server ")?.splitn(3, ' ');
        let port = words.next()?.parse().ok()?;
        let pid = words.next()?.parse().ok()?;
        Some(Traces { port, pid, dir: words.next()?.into() })
    }

    /// Which of them are left, for a message.
    fn left(&self) -> String {
        let mut left = String::new();
        if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            left += "a listening port; ";
        }
        match kind() {
            Kind::Process => {
                let state =
                    run(command("ps").args(["-o", "stat=", "-p", &self.pid.to_string()]), SOON);
                if !matches!(state.stdout.trim().chars().next(), None | Some('Z')) {
                    left += "a remote command; ";
                }
            }
            Kind::Container(engine) => {
                let filter = format!("name=-{}$", self.port);
                let listed = run(
                    outside(engine).args(["ps", "--all", "--quiet", "--filter", &filter]),
                    SOON,
                );
                if !listed.stdout.is_empty() {
                    left += "a container; ";
                }
            }
        }
        left
    }
}
