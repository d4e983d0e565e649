//! Commands are answered as plain ssh answers them, started by the caller in the caller's directory
//! with the caller's environment: part A of what the field showed. Each is compared with plain ssh
//! run in the same place, over an agent that somebody else has started in another place.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, make_program, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{self, wait_for};
use crate::lab::pooled::{PATIENCE, command};

/// A server with two keys, each known to the commands that it logs in for as `$KEY`.
struct Lab {
    sshd: Sshd,
    home: Home,
    keys: tempfile::TempDir,
    config: PathBuf,
}

/// Where a caller stands.
#[derive(Clone, Default)]
struct Caller {
    directory: Option<PathBuf>,
    environment: Vec<(&'static str, OsString)>,
}

impl Caller {
    fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    fn at(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }
}

impl Lab {
    #[track_caller]
    fn new() -> Self {
        let sshd = Sshd::builder().option("PermitUserEnvironment", "yes").start();
        let keys = tempfile::Builder::new().prefix("keys-").tempdir().expect("a directory");
        for name in ["A", "B"] {
            let path = keys.path().join(name);
            let made = run(
                command("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&path),
                PATIENCE,
            );
            assert_eq!(made.code(), 0, "{}", made.stderr);
            let public =
                fs::read_to_string(keys.path().join(format!("{name}.pub"))).expect("it was made");
            sshd.authorize(&format!("environment=\"KEY={name}\""), &public);
        }
        let config = keys.path().join("config");
        let lab = Lab { sshd, home: Home::new(), keys, config };
        // Somebody else has started the agent, in another place.
        fs::write(&lab.config, "").expect("a file");
        assert_eq!(run(&mut lab.home.command(["status"]), PATIENCE).code(), 0);
        lab
    }

    fn key(&self, name: &str) -> PathBuf {
        self.keys.path().join(name)
    }

    /// A new directory of a caller, with these files in it.
    fn directory(&self, files: &[(&str, &str)]) -> PathBuf {
        let directory = tempfile::Builder::new().prefix("caller-").tempdir_in(self.keys.path());
        let directory = directory.expect("a directory").keep();
        for (name, text) in files {
            fs::write(directory.join(name), text).expect("a file");
        }
        directory
    }

    /// The configuration: `text` says more of `h1`, where what it says comes first.
    fn configure(&self, text: &str) {
        let known = self.sshd.known_hosts();
        let text = format!(
            "Host h1 h2\n{text}\nHost h1 h2\nHostName 127.0.0.1\nPort {}\nUser {}\nIdentitiesOnly yes\n\
             StrictHostKeyChecking yes\nUserKnownHostsFile {}\nGlobalKnownHostsFile /dev/null\n",
            self.sshd.port(),
            self.sshd.user(),
            known.display()
        );
        fs::write(&self.config, text).expect("a file");
    }

    /// In the caller's place. One variable stands for what a test needs; the rest is that of a
    /// test.
    fn in_place(&self, mut command: Command, caller: &Caller) -> Command {
        if let Some(directory) = &caller.directory {
            command.current_dir(directory);
        }
        command.envs(caller.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn plain(&self, caller: &Caller, remote: &str) -> Ended {
        let mut ssh = self.home.in_its_place(command("ssh"), ["-T", "-o", "BatchMode=yes", "-F"]);
        ssh.arg(&self.config).args(["h1", remote]);
        run(&mut self.in_place(ssh, caller), PATIENCE)
    }

    fn ours(&self, caller: &Caller, remote: &str) -> Ended {
        let mut exec = self.home.command(["-F"]);
        exec.arg(&self.config).args(["exec", "h1", "--", remote]);
        run(&mut self.in_place(exec, caller), PATIENCE)
    }

    /// What plain ssh and the pool say in the same place. They have to agree.
    #[track_caller]
    fn agree(&self, caller: &Caller, remote: &str) -> Result<String, String> {
        let (plain, ours) = (self.plain(caller, remote), self.ours(caller, remote));
        assert_eq!(
            (plain.code(), &plain.stdout),
            (ours.code(), &ours.stdout),
            "plain ssh: {}\nours: {}",
            plain.stderr,
            ours.stderr
        );
        match plain.code() {
            0 => Ok(plain.stdout.trim().to_owned()),
            _ => Err(ours.stderr),
        }
    }

    #[track_caller]
    fn uses(&self, caller: &Caller, key: &str) {
        assert_eq!(self.agree(caller, "echo $KEY").as_deref(), Ok(key));
    }

    #[track_caller]
    fn is_refused(&self, caller: &Caller) -> String {
        self.agree(caller, "echo $KEY").expect_err("it is refused")
    }

    /// Logins that our commands cost.
    #[track_caller]
    fn logins_of(&self, callers: &[&Caller]) -> usize {
        let before = self.sshd.logins();
        for caller in callers {
            let ended = self.ours(caller, "true");
            assert_eq!(ended.code(), 0, "{}", ended.stderr);
        }
        self.sshd.logins() - before
    }
}

fn here() -> Caller {
    Caller::default()
}

pub fn an_agent(with: &[PathBuf], directory: &Path, name: &str) -> SshAgent {
    let socket = directory.join(name);
    let mut agent = command("ssh-agent");
    agent.args(["-D", "-a"]).arg(&socket).stdout(std::process::Stdio::null());
    let agent = SshAgent { child: agent.spawn().expect("ssh-agent starts"), socket };
    wait_for("the socket of ssh-agent", PATIENCE, || agent.socket.exists());
    for key in with {
        agent.add(key);
    }
    agent
}

pub struct SshAgent {
    child: std::process::Child,
    pub socket: PathBuf,
}

impl SshAgent {
    #[track_caller]
    fn add(&self, key: &Path) {
        let added =
            run(command("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket), PATIENCE);
        assert_eq!(added.code(), 0, "{}", added.stderr);
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a1_match_exec_sees_the_callers_directory() {
    let lab = Lab::new();
    let text = format!(
        "Match host h1 exec \"test -f .use-deploy-key\"\nIdentityFile {}\nMatch host h1\nIdentityFile {}\n",
        lab.key("A").display(),
        lab.key("B").display()
    );
    // The first one that is offered counts: both are offered where both are there.
    lab.configure(&text);
    let with = lab.directory(&[(".use-deploy-key", "")]);
    let without = lab.directory(&[]);
    lab.uses(&here().at(&with), "A");
    lab.uses(&here().at(&without), "B");
    lab.uses(&here().at(&with), "A");
    // What it sees can change without anybody's doing.
    fs::remove_file(with.join(".use-deploy-key")).expect("it is there");
    lab.uses(&here().at(&with), "B");
    fs::write(without.join(".use-deploy-key"), "").expect("a file");
    lab.uses(&here().at(&without), "A");
}

#[test]
fn a2_match_exec_sees_the_callers_variables() {
    let lab = Lab::new();
    lab.configure(&format!(
        "Match host h1 exec \"test x$CUSTOMER = xa\"\nIdentityFile {}\nMatch host h1 !exec \"test x$CUSTOMER = xa\"\nIdentityFile {}\n",
        lab.key("A").display(),
        lab.key("B").display()
    ));
    lab.uses(&here().with("CUSTOMER", "a"), "A");
    lab.uses(&here().with("CUSTOMER", "b"), "B");
    lab.uses(&here(), "B");
    lab.uses(&here().with("CUSTOMER", "a"), "A");
}

#[test]
fn a3_a_variable_in_the_configuration_is_the_callers() {
    let lab = Lab::new();
    lab.configure(&format!("IdentityFile {}/${{CUSTOMER}}\n", lab.keys.path().display()));
    lab.uses(&here().with("CUSTOMER", "A"), "A");
    lab.uses(&here().with("CUSTOMER", "B"), "B");
    lab.is_refused(&here());
    lab.uses(&here().with("CUSTOMER", "A").with("OTHER", "x"), "A");
    let other = here().with("CUSTOMER", "A").with("OTHER", "y");
    assert_eq!(lab.logins_of(&[&other]), 0, "a variable that nothing mentions makes no difference");
    // Two of them, and one in a directory.
    lab.configure("IdentityFile ${KEYS}/${CUSTOMER}\n");
    lab.uses(&here().with("CUSTOMER", "B").with("KEYS", lab.keys.path()), "B");
    lab.uses(&here().with("CUSTOMER", "A").with("KEYS", lab.keys.path()), "A");
    lab.is_refused(&here().with("CUSTOMER", "A").with("KEYS", "/nonexistent"));
}

#[test]
fn a4_known_hosts_are_those_that_the_callers_variable_names() {
    let lab = Lab::new();
    let right = fs::read_to_string(lab.sshd.known_hosts()).expect("it is there");
    let wrong = right_with_another_key(&lab, &right);
    let directory = lab.directory(&[("known.a", &right), ("known.b", &wrong)]);
    let known = format!(
        "UserKnownHostsFile {}/known.${{CUSTOMER}}\nIdentityFile {}\n",
        directory.display(),
        lab.key("A").display()
    );
    lab.configure(&known);
    lab.uses(&here().with("CUSTOMER", "a"), "A");
    lab.is_refused(&here().with("CUSTOMER", "b"));
    lab.is_refused(&here().with("CUSTOMER", "c"));
    lab.uses(&here().with("CUSTOMER", "a"), "A");
}

/// Lines of known_hosts by which the server is somebody else.
fn right_with_another_key(lab: &Lab, right: &str) -> String {
    let name = right.split_whitespace().next().expect("a host");
    let key = fs::read_to_string(lab.key("B.pub")).expect("it was made");
    format!("{name} {key}")
}

#[test]
fn a5_a_relative_file_of_known_hosts_is_in_the_callers_directory() {
    let lab = Lab::new();
    let right = fs::read_to_string(lab.sshd.known_hosts()).expect("it is there");
    let wrong = right_with_another_key(&lab, &right);
    let (good, bad) = (lab.directory(&[("known", &right)]), lab.directory(&[("known", &wrong)]));
    let none = lab.directory(&[]);
    for keyword in ["UserKnownHostsFile", "GlobalKnownHostsFile"] {
        let other = match keyword {
            "UserKnownHostsFile" => "GlobalKnownHostsFile /dev/null",
            _ => "UserKnownHostsFile /dev/null",
        };
        lab.configure(&format!(
            "{keyword} known\n{other}\nIdentityFile {}\n",
            lab.key("A").display()
        ));
        // Of one account at most four failed logins are made in ten minutes, but for whoever closes
        // it.
        let mut close = lab.home.command(["-F"]);
        assert_eq!(run(close.arg(&lab.config).args(["close", "h1"]), PATIENCE).code(), 0);
        lab.is_refused(&here().at(&bad));
        lab.uses(&here().at(&good), "A");
        lab.is_refused(&here().at(&none));
        lab.is_refused(&here().at(&bad));
        lab.uses(&here().at(&good), "A");
    }
    // What is learned is written there, too, and nowhere else.
    lab.configure(&format!(
        "UserKnownHostsFile learned\nStrictHostKeyChecking accept-new\nIdentityFile {}\n",
        lab.key("A").display()
    ));
    let ended = lab.ours(&here().at(&none), "echo $KEY");
    assert_eq!((ended.code(), &*ended.stdout), (0, "A\n"), "{}", ended.stderr);
    assert!(none.join("learned").exists());
    assert!(!Path::new("/learned").exists() && !Path::new("/known").exists());
}

#[test]
fn a6_relative_files_and_programs_are_in_the_callers_directory() {
    let lab = Lab::new();
    let directory = lab.directory(&[]);
    fs::copy(lab.key("A"), directory.join("key")).expect("a file");
    lab.configure("IdentityFile key\n");
    lab.uses(&here().at(&directory), "A");
    lab.is_refused(&here());
    let other = lab.directory(&[]);
    fs::copy(lab.key("B"), other.join("key")).expect("a file");
    lab.uses(&here().at(&other), "B");
    // A program.
    let script = format!("#!/usr/bin/env python3\n{}", CONNECT.trim_start());
    make_program(&directory.join("px"), &script);
    lab.configure(&format!("ProxyCommand ./px %p\nIdentityFile {}\n", lab.key("A").display()));
    lab.uses(&here().at(&directory), "A");
    lab.is_refused(&here().at(&other));
    // Keys that count no more.
    let revoked = lab.directory(&[]);
    let host_key = fs::read_to_string(lab.sshd.known_hosts()).expect("it is there");
    let key = host_key.split_once(' ').expect("a key behind the name").1;
    fs::write(revoked.join("revoked"), key).expect("a file");
    lab.configure(&format!("RevokedHostKeys revoked\nIdentityFile {}\n", lab.key("A").display()));
    lab.is_refused(&here().at(&revoked));
    let empty = lab.directory(&[("revoked", "")]);
    lab.uses(&here().at(&empty), "A");
    lab.is_refused(&here().at(&revoked));
}

/// Passes its streams to a port of this machine.
const CONNECT: &str = r#"
import os, select, socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[-1])))
while True:
    for ready in select.select([s, 0], [], [])[0]:
        data = s.recv(65536) if ready is s else os.read(0, 65536)
        if not data:
            sys.exit(0)
        s.sendall(data) if ready == 0 else os.write(1, data)
"#;

#[test]
fn a7_another_ssh_agent_is_another_identity() {
    let lab = Lab::new();
    let sockets = lab.directory(&[]);
    let (a, b) =
        (an_agent(&[lab.key("A")], &sockets, "a"), an_agent(&[lab.key("B")], &sockets, "b"));
    lab.configure("IdentitiesOnly no\nIdentityFile /nonexistent\n");
    let with = |agent: &SshAgent| here().with("SSH_AUTH_SOCK", &agent.socket);
    lab.uses(&with(&a), "A");
    lab.uses(&with(&b), "B");
    lab.is_refused(&here());
    lab.uses(&with(&a), "A");
    lab.is_refused(&here().with("SSH_AUTH_SOCK", ""));
    lab.is_refused(&here().with("SSH_AUTH_SOCK", sockets.join("nobody")));
    // The same keys: a new terminal with an agent of its own that holds the same.
    let same = an_agent(&[lab.key("A")], &sockets, "same");
    assert_eq!(lab.logins_of(&[&with(&same), &with(&a), &with(&b)]), 0);
    // Two that held the same once, nothing, and then not any more.
    let (one, other) = (an_agent(&[], &sockets, "one"), an_agent(&[], &sockets, "other"));
    lab.is_refused(&with(&one));
    one.add(&lab.key("B"));
    other.add(&lab.key("A"));
    lab.uses(&with(&one), "B");
    lab.uses(&with(&other), "A");
}

#[test]
fn a7_where_the_agent_is_forwarded_the_socket_itself_counts() {
    let lab = Lab::new();
    let sockets = lab.directory(&[]);
    let (a, same) =
        (an_agent(&[lab.key("A")], &sockets, "a"), an_agent(&[lab.key("A")], &sockets, "same"));
    lab.configure("IdentitiesOnly no\nIdentityFile /nonexistent\nForwardAgent yes\n");
    let with = |agent: &SshAgent| here().with("SSH_AUTH_SOCK", &agent.socket);
    assert_eq!(lab.logins_of(&[&with(&a), &with(&same), &with(&a)]), 2);
    // A command gets at the caller's, as with plain ssh.
    same.add(&lab.key("B"));
    let keys =
        |agent: &SshAgent| lab.agree(&with(agent), "ssh-add -l | wc -l").expect("it can be asked");
    if lab.plain(&with(&a), "command -v ssh-add").code() == 0 {
        assert_eq!((keys(&a).trim(), keys(&same).trim()), ("1", "2"));
    }
}

#[test]
fn a8_identity_agent_by_a_variable_is_the_callers() {
    let lab = Lab::new();
    let sockets = lab.directory(&[]);
    let a = an_agent(&[lab.key("A")], &sockets, "a");
    let b = an_agent(&[lab.key("B")], &sockets, "b");
    for text in ["IdentityAgent ${MYAG}\n", "IdentityAgent $MYAG\n"] {
        lab.configure(&format!("{text}IdentitiesOnly no\nIdentityFile /nonexistent\n"));
        lab.uses(&here().with("MYAG", &a.socket), "A");
        lab.uses(&here().with("MYAG", &b.socket), "B");
        lab.is_refused(&here());
    }
}

#[test]
fn a9_a_proxy_command_sees_the_callers_environment() {
    let lab = Lab::new();
    let directory = lab.directory(&[]);
    fs::write(directory.join("connect.py"), CONNECT).expect("a file");
    let px = format!(
        "#!/bin/sh\nprintf %s \"$AWS_PROFILE $PATH\" >\"$SEEN\"\nexec python3 {}/connect.py \"$1\"\n",
        directory.display()
    );
    make_program(&directory.join("px"), &px);
    lab.configure(&format!(
        "ProxyCommand {}/px %p\nIdentityFile {}\n",
        directory.display(),
        lab.key("A").display()
    ));
    let path = std::env::var("PATH").expect("there is one");
    let seen = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let caller = |profile: &str, name: &str| {
        here()
            .with("AWS_PROFILE", profile)
            .with("SEEN", directory.join(name))
            .with("PATH", format!("{}:{path}", directory.display()))
    };
    for profile in ["one", "two"] {
        lab.uses(&caller(profile, profile), "A");
        assert_eq!(seen(profile), format!("{profile} {}:{path}", directory.display()));
    }
    // Another call of the same shell differs in what says nothing.
    let again = caller("one", "one").with("SHLVL", "7").with("_", "/bin/x").with("COLUMNS", "40");
    assert_eq!(lab.logins_of(&[&caller("one", "one"), &again]), 0);
    assert_eq!(lab.logins_of(&[&caller("three", "one")]), 1);
}

#[test]
fn a10_ssh_is_found_by_the_callers_path() {
    let lab = Lab::new();
    lab.configure(&format!("IdentityFile {}\n", lab.key("A").display()));
    let first = lab.directory(&[]);
    // An agent that was started by somebody without a PATH.
    assert_eq!(run(&mut lab.home.command(["agent", "stop"]), PATIENCE).code(), 0);
    let mut bare = lab.home.command(["status"]);
    let runtime = lab.home.runtime();
    bare.env_clear().env("XDG_RUNTIME_DIR", &runtime);
    assert_eq!(run(&mut bare, PATIENCE).code(), 0);
    let mut start = lab.home.command(["-F"]);
    start.arg(&lab.config).args(["exec", "h1", "--", "true"]);
    start.env_clear().env("XDG_RUNTIME_DIR", &runtime);
    run(&mut start, PATIENCE);
    lab.uses(&here(), "A");
    // A caller's own ssh, which is another one.
    let script =
        format!("#!/bin/sh\necho ours >>{}/said\nexec /usr/bin/ssh \"$@\"\n", first.display());
    make_program(&first.join("ssh"), &script);
    let path = std::env::var("PATH").expect("there is one");
    let caller = here().with("PATH", format!("{}:{path}", first.display()));
    lab.uses(&caller, "A");
    assert!(first.join("said").exists(), "its ssh was run");
    let empty = lab.directory(&[]);
    let nowhere = lab.ours(&here().with("PATH", empty.as_os_str()), "true");
    assert_eq!(nowhere.code(), 255);
    assert!(nowhere.stderr.contains("no ssh"), "{}", nowhere.stderr);
}

#[test]
fn a11_nothing_of_who_starts_the_agent_stays() {
    let lab = Lab::new();
    lab.configure(&format!("IdentityFile {}\n", lab.key("A").display()));
    assert_eq!(run(&mut lab.home.command(["agent", "stop"]), PATIENCE).code(), 0);
    let job = here().with("BUILD_ID", "77").with("TOKEN_OF_A_JOB", "s3cr3t").at(lab.directory(&[]));
    lab.uses(&job, "A");
    let processes = lab.home.processes();
    assert!(processes.len() > 2, "agent, guard, master: {processes:?}");
    for (pid, name) in processes {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        assert!(
            !environment.contains("TOKEN_OF_A_JOB") && !environment.contains("BUILD_ID"),
            "{name}"
        );
        let directory = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        assert_ne!(Some(directory), job.directory, "{name}");
    }
}

#[test]
fn a12_limits_of_who_started_the_agent_hold_nobody_back() {
    let lab = Lab::new();
    lab.configure(&format!("IdentityFile {}\n", lab.key("A").display()));
    assert_eq!(run(&mut lab.home.command(["agent", "stop"]), PATIENCE).code(), 0);
    let program = env!("CARGO_BIN_EXE_sshpool");
    let config = lab.config.display().to_string();
    let mut narrow = lab.home.in_its_place(command("sh"), ["-c"]);
    narrow.arg(format!("ulimit -n 64 && exec {program} -F {config} exec h1 -- true"));
    assert_eq!(run(&mut narrow, PATIENCE).code(), 0);
    lab.uses(&here(), "A");
    let limit = |pid: u32| {
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
        let line =
            limits.lines().find(|line| line.starts_with("Max open files")).expect("it is told");
        line.split_whitespace().nth(3).and_then(|soft| soft.parse::<u64>().ok()).expect("a number")
    };
    let own = limit(std::process::id());
    assert!(limit(lab.home.pid()) >= own, "{} of {own}", limit(lab.home.pid()));
    // What is started for callers does not get more than they have: programs that use select break.
    for (pid, name) in lab.home.processes() {
        assert!(name != "ssh" || limit(pid) <= own.max(1024), "{name} has {}", limit(pid));
    }
}

#[test]
fn a13_a_configuration_from_a_pipe_is_read() {
    let lab = Lab::new();
    lab.configure(&format!("IdentityFile {}\n", lab.key("A").display()));
    let program = env!("CARGO_BIN_EXE_sshpool");
    for (ssh, name) in [
        ("ssh -o BatchMode=yes -F /dev/stdin h1", "plain"),
        (&*format!("{program} -F /dev/stdin exec h1 --"), "ours"),
    ] {
        let mut shell = lab.home.in_its_place(command("sh"), ["-c"]);
        shell.arg(format!("cat {} | {ssh} 'echo $KEY'", lab.config.display()));
        let ended = run(&mut shell, PATIENCE);
        assert_eq!((ended.code(), &*ended.stdout), (0, "A\n"), "{name}: {}", ended.stderr);
    }
    // Its rules for host keys count.
    let wrong = right_with_another_key(
        &lab,
        &fs::read_to_string(lab.sshd.known_hosts()).expect("it is there"),
    );
    let known = lab.directory(&[("known", &wrong)]);
    lab.configure(&format!(
        "UserKnownHostsFile {}/known\nIdentityFile {}\n",
        known.display(),
        lab.key("A").display()
    ));
    let mut shell = lab.home.in_its_place(command("sh"), ["-c"]);
    shell.arg(format!("cat {} | {program} -F /dev/stdin exec h1 -- true", lab.config.display()));
    assert_eq!(run(&mut shell, PATIENCE).code(), 255);
}

#[test]
fn a14_a_configuration_that_was_edited_is_followed() {
    let lab = Lab::new();
    let other =
        Sshd::builder().option("PermitUserEnvironment", "yes").env("SERVER", "other").start();
    let public = fs::read_to_string(lab.key("A.pub")).expect("it was made");
    other.authorize("environment=\"KEY=there\"", &public);
    let known = lab.directory(&[]);
    let all = [lab.sshd.known_hosts(), other.known_hosts()]
        .map(|file| fs::read_to_string(file).expect("it is there"));
    fs::write(known.join("known"), all.concat()).expect("a file");
    let more = lab.directory(&[]);
    let more = more.join("more.conf");
    let key = lab.key("A").display().to_string();
    let set = |port: u16| {
        fs::write(&more, format!("Host h1\nPort {port}\nUser {}\n", other.user())).expect("a file");
    };
    lab.configure(&format!(
        "Include {}\nUserKnownHostsFile {}/known\nIdentityFile {key}\n",
        more.display(),
        known.display()
    ));
    set(lab.sshd.port());
    lab.uses(&here(), "A");
    for _ in 0..2 {
        set(other.port());
        lab.uses(&here(), "there");
        set(lab.sshd.port());
        lab.uses(&here(), "A");
    }
    // What says the same as before costs no login.
    fs::write(&more, format!("# edited\n{}", fs::read_to_string(&more).expect("it is there")))
        .expect("a file");
    assert_eq!(lab.logins_of(&[&here()]), 0);
    // A host name, and a file that was not there before.
    lab.configure(&format!(
        "Include {}.new\nUserKnownHostsFile {}/known\nIdentityFile {key}\n",
        more.display(),
        known.display()
    ));
    lab.uses(&here(), "A");
    fs::write(more.with_extension("conf.new"), format!("Port {}\n", other.port())).expect("a file");
    lab.uses(&here(), "there");
}

#[test]
fn a15_who_stands_elsewhere_uses_a_pool_of_its_own() {
    if !nix::unistd::geteuid().is_root() {
        return common::skip("only root makes namespaces and changes groups here");
    }
    let lab = Lab::new();
    // Without the public parts beside them, which would be those of the other key.
    let keys = lab.directory(&[]);
    for name in ["A", "B"] {
        fs::copy(lab.key(name), keys.join(name)).expect("a file");
    }
    lab.configure(&format!("IdentityFile {}/A\n", keys.display()));
    lab.uses(&here(), "A");
    let program = env!("CARGO_BIN_EXE_sshpool");
    let exec = format!("{program} -v -F {} exec h1 -- 'echo $KEY'", lab.config.display());
    let within = |words: &[&str]| {
        let mut command = lab.home.in_its_place(command(words[0]), &words[1..]);
        command.arg(&exec);
        run(&mut command, PATIENCE)
    };
    // A network without a way to the server.
    let net = within(&["unshare", "-n", "sh", "-c"]);
    assert_eq!(net.code(), 255, "{}", net.stderr);
    assert!(net.stderr.contains("other namespaces"), "{}", net.stderr);
    // Other files: the key is another one there.
    let mounted = format!("mount --bind {0}/B {0}/A && {exec}", keys.display());
    let mut mount = lab.home.in_its_place(command("unshare"), ["-m", "sh", "-c"]);
    let mount = run(mount.arg(mounted), PATIENCE);
    assert_eq!((mount.code(), &*mount.stdout), (0, "B\n"), "{}", mount.stderr);
    // Another group.
    let group = within(&["setpriv", "--regid=4242", "--clear-groups", "sh", "-c"]);
    assert_eq!((group.code(), &*group.stdout), (0, "A\n"), "{}", group.stderr);
    assert!(group.stderr.contains("other ids"), "{}", group.stderr);
    lab.uses(&here(), "A");
    assert_eq!(lab.logins_of(&[&here()]), 0);
}

#[test]
fn a16_variables_that_ssh_and_its_libraries_read_count() {
    let lab = Lab::new();
    lab.configure(&format!("IdentityFile {}\n", lab.key("A").display()));
    assert_eq!(lab.logins_of(&[&here(), &here()]), 1);
    for name in [
        "SSH_SK_PROVIDER",
        "HOSTALIASES",
        "LOCALDOMAIN",
        "RES_OPTIONS",
        "LD_BIND_NOW",
        "OPENSSL_CONF",
    ] {
        let value = if name == "RES_OPTIONS" { "timeout:3" } else { "/dev/null" };
        let caller = here().with(name, value);
        assert_eq!(lab.logins_of(&[&caller, &caller, &here()]), 1, "{name}");
    }
    // These do not, where nothing in the configuration has to do with them.
    for name in ["KRB5CCNAME", "SHELL", "SSH_ASKPASS", "LANG", "LC_TIME", "FOO"] {
        assert_eq!(lab.logins_of(&[&here().with(name, "/bin/sh")]), 0, "{name}");
    }
    lab.configure(&format!("GSSAPIAuthentication yes\nIdentityFile {}\n", lab.key("A").display()));
    let ticket = |name: &str| here().with("KRB5CCNAME", format!("FILE:/nonexistent/{name}"));
    assert_eq!(lab.logins_of(&[&ticket("1"), &ticket("2"), &ticket("1")]), 2);
    // What a variable does, as with plain ssh: a library that is loaded.
    let aliases = lab.directory(&[("aliases", "web 127.0.0.1\n")]);
    lab.agree(&here().with("HOSTALIASES", aliases.join("aliases")), "echo $KEY").expect("it works");
}

/// Callers in many places at once, each with an identity of its own by one of the ways in which a
/// place can decide it, over one agent, in an order that changes: each command runs as who its
/// caller is by plain ssh.
#[test]
fn nobodys_command_runs_as_somebody_else() {
    let lab = Lab::new();
    let sockets = lab.directory(&[]);
    let agents = ["A", "B"].map(|key| an_agent(&[lab.key(key)], &sockets, key));
    let keys = lab.keys.path().display().to_string();
    let ways: [(String, [Caller; 2]); 5] = [
        (
            format!(
                "Match host h1 exec \"test x$WHO = xA\"\nIdentityFile {keys}/A\nMatch host h1 !exec \"test x$WHO = xA\"\nIdentityFile {keys}/B\n"
            ),
            ["A", "B"].map(|who| here().with("WHO", who)),
        ),
        (format!("IdentityFile {keys}/${{WHO}}\n"), ["A", "B"].map(|who| here().with("WHO", who))),
        (
            "IdentityFile key\n".to_owned(),
            ["A", "B"].map(|who| {
                let directory = lab.directory(&[]);
                fs::copy(lab.key(who), directory.join("key")).expect("a file");
                here().at(directory)
            }),
        ),
        (
            "IdentitiesOnly no\nIdentityFile /nonexistent\n".to_owned(),
            [0, 1].map(|which: usize| here().with("SSH_AUTH_SOCK", &agents[which].socket)),
        ),
        (
            "IdentitiesOnly no\nIdentityFile /nonexistent\nIdentityAgent ${WHOSE}\n".to_owned(),
            [0, 1].map(|which: usize| here().with("WHOSE", &agents[which].socket)),
        ),
    ];
    for (text, callers) in &ways {
        lab.configure(text);
        let expected = ["A", "B"];
        for (caller, key) in callers.iter().zip(expected) {
            lab.uses(caller, key);
        }
        // All at once, over connections that are there.
        std::thread::scope(|scope| {
            for round in 0..12 {
                let (caller, key) = (&callers[round % 2], expected[round % 2]);
                let lab = &lab;
                scope.spawn(move || {
                    let ended = lab.ours(caller, "echo $KEY");
                    assert_eq!(
                        (ended.code(), ended.stdout.trim()),
                        (0, key),
                        "{text}: {}",
                        ended.stderr
                    );
                });
            }
        });
    }
}

/// How often a caller's ssh was asked, and for what.
fn calls(log: &Path, word: &str) -> usize {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| line.split(' ').any(|found| found == word)).count()
}

#[test]
fn a_warm_command_asks_ssh_once_where_a_program_decides_and_else_not_at_all() {
    let lab = Lab::new();
    let directory = lab.directory(&[]);
    let log = directory.join("calls");
    let script = format!("#!/bin/sh\necho \"$@\" >>{}\nexec /usr/bin/ssh \"$@\"\n", log.display());
    make_program(&directory.join("ssh"), &script);
    let path = std::env::var("PATH").expect("there is one");
    let caller = here().with("PATH", format!("{}:{path}", directory.display()));
    let key = lab.key("A").display().to_string();
    for (text, cold, warm) in [
        (format!("IdentityFile {key}\n"), 1, 0),
        (format!("IdentityFile {key}\nMatch host h1 exec true\nCompression no\n"), 1, 1),
    ] {
        lab.configure(&text);
        for expected in [cold, warm, warm] {
            let before = calls(&log, "-G");
            let ended = lab.ours(&caller, "echo $KEY");
            assert_eq!((ended.code(), &*ended.stdout), (0, "A\n"), "{}", ended.stderr);
            assert_eq!(calls(&log, "-G") - before, expected, "{text}");
        }
    }
    assert_eq!(calls(&log, "-M"), 1, "both configurations mean the same to ssh");
}
