//! The options of the user's own ssh_config count as they do for plain ssh: part B of what the
//! field showed, as far as it concerns connections and sessions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, make_program, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{self, PATIENCE, command};

struct Lab {
    sshd: Sshd,
    home: Home,
    directory: tempfile::TempDir,
    config: PathBuf,
}

impl Lab {
    #[track_caller]
    fn new() -> Self {
        let sshd = Sshd::builder().option("AcceptEnv", "FOO BAR_*").start();
        let directory = tempfile::Builder::new().prefix("options-").tempdir().expect("a directory");
        let config = directory.path().join("config");
        Lab { sshd, home: Home::new(), directory, config }
    }

    /// The configuration: what `text` says comes before what a login needs.
    fn configure(&self, text: &str) {
        let rest = fs::read_to_string(self.sshd.ssh_config()).expect("it is there");
        let rest = rest.replacen("Host lab", "Host h1 lab", 1);
        fs::write(&self.config, format!("Host h1\n{text}\n{rest}")).expect("a file");
    }

    /// A login takes as long as the settings say: nobody has set anything.
    fn plainly(&self, mut command: Command) -> Command {
        command.env_remove("SSH_POOL_CONNECTION_TIMEOUT_MS");
        command
    }

    fn plain(&self, variables: &[(&str, &str)], words: &[&str], remote: &str) -> Ended {
        let mut ssh = self.home.in_its_place(command("ssh"), ["-T", "-o", "BatchMode=yes", "-F"]);
        ssh.arg(&self.config).args(words).args(["h1", remote]).envs(variables.iter().copied());
        run(&mut self.plainly(ssh), PATIENCE)
    }

    fn exec(&self, variables: &[(&str, &str)], remote: &str) -> Ended {
        let mut exec = self.home.command(["-F"]);
        exec.arg(&self.config).args(["exec", "h1", "--", remote]).envs(variables.iter().copied());
        run(&mut self.plainly(exec), PATIENCE)
    }

    fn ssh(&self, variables: &[(&str, &str)], words: &[&str], remote: &str) -> Ended {
        let mut ssh = self.home.command(["-F"]);
        ssh.arg(&self.config).arg("ssh").args(words).args(["h1", remote]);
        ssh.envs(variables.iter().copied());
        run(&mut self.plainly(ssh), PATIENCE)
    }

    #[track_caller]
    fn agree(&self, variables: &[(&str, &str)], remote: &str) -> String {
        let (plain, ours) = (self.plain(variables, &[], remote), self.exec(variables, remote));
        assert_eq!(
            (plain.code(), &plain.stdout),
            (ours.code(), &ours.stdout),
            "{}\n{}",
            plain.stderr,
            ours.stderr
        );
        let ours = self.ssh(variables, &[], remote);
        assert_eq!(
            (plain.code(), &plain.stdout),
            (ours.code(), &ours.stdout),
            "{}\n{}",
            plain.stderr,
            ours.stderr
        );
        plain.stdout
    }
}

#[test]
fn b1_an_included_file_is_read_whatever_its_name() {
    let lab = Lab::new();
    let directory = lab.directory.path().join("Conf.d");
    fs::create_dir(&directory).expect("a directory");
    let strict = "StrictHostKeyChecking yes\nUserKnownHostsFile /dev/null\n";
    fs::write(directory.join("X one.conf"), strict).expect("a file");
    fs::write(directory.join("x.conf"), strict).expect("a file");
    let here = directory.display();
    for include in [
        format!("Include {here}/x.conf"),
        format!("include={here}/x.conf"),
        format!("INCLUDE \"{here}/X one.conf\""),
        format!("Include {here}/nothing {here}/[x].conf"),
        format!("Include {here}/?.conf"),
    ] {
        lab.configure(&include);
        let (plain, ours) = (lab.plain(&[], &[], "true"), lab.exec(&[], "true"));
        assert_eq!((plain.code(), ours.code()), (255, 255), "{include}: {}", ours.stderr);
        assert!(ours.stderr.contains("host key is known"), "{include}: {}", ours.stderr);
    }
    // The pool inside a program does the same.
    let mut alone = lab.home.command(["--no-agent", "-F"]);
    assert_eq!(run(alone.arg(&lab.config).args(["exec", "h1", "true"]), PATIENCE).code(), 255);
    assert_eq!(lab.sshd.logins(), 0);
}

#[test]
fn b2_fork_after_authentication_is_nothing_to_a_pool() {
    let lab = Lab::new();
    for more in [
        "",
        "StrictHostKeyChecking yes\n",
        "StrictHostKeyChecking ask\n",
        "SessionType none\n",
        "StdinNull yes\n",
    ] {
        lab.configure(&format!("ForkAfterAuthentication yes\n{more}"));
        let ended = lab.exec(&[], "echo here");
        assert_eq!((ended.code(), &*ended.stdout), (0, "here\n"), "{more}: {}", ended.stderr);
    }
    let mut doctor = lab.home.command(["-F"]);
    let doctor = run(doctor.arg(&lab.config).args(["doctor", "h1"]), PATIENCE);
    assert_eq!(doctor.code(), 0, "{}{}", doctor.stdout, doctor.stderr);
}

/// A way to the server that takes so many seconds.
fn slow(lab: &Lab, seconds: u32) -> String {
    let script = lab.directory.path().join("slow.py");
    let text = format!(
        "import os, select, socket, sys, time\ntime.sleep({seconds})\n\
         s = socket.create_connection(('127.0.0.1', {}))\n\
         while True:\n  for r in select.select([s, 0], [], [])[0]:\n    d = s.recv(65536) if r is s else os.read(0, 65536)\n    \
         if not d: sys.exit(0)\n    s.sendall(d) if r == 0 else os.write(1, d)\n",
        lab.sshd.port()
    );
    fs::write(&script, text).expect("a file");
    format!("ProxyCommand python3 {}\n", script.display())
}

#[test]
fn b3_the_users_connect_timeout_counts_where_it_is_longer() {
    let lab = Lab::new();
    let slow = slow(&lab, 7);
    lab.configure(&format!("ConnectTimeout 60\n{slow}"));
    let ended = lab.exec(&[], "echo here");
    assert_eq!((ended.code(), &*ended.stdout), (0, "here\n"), "{}", ended.stderr);
    // Without it the pool's own counts, and is named.
    lab.configure(&slow);
    let ended = lab.exec(&[], "echo here");
    assert_eq!(ended.code(), 255);
    assert!(ended.stderr.contains("within 5s (connect_timeout)"), "{}", ended.stderr);
    // What is set counts, also where it is the default.
    lab.configure(&format!("ConnectTimeout 61\n{slow}"));
    let mut exec = lab.home.command(["-F"]);
    exec.arg(&lab.config)
        .args(["exec", "h1", "--", "true"])
        .env("SSH_POOL_CONNECTION_TIMEOUT_MS", "5000");
    let ended = run(&mut exec, PATIENCE);
    assert_eq!(ended.code(), 255);
    assert!(ended.stderr.contains("(connect_timeout)"), "{}", ended.stderr);
}

/// The words by which masters were started for this configuration.
fn masters(config: &Path) -> Vec<String> {
    let all = pooled::processes_with(&config.display().to_string());
    all.into_iter().filter(|line| line.contains(" -M ")).collect()
}

#[test]
fn b4_the_users_keepalive_and_attempts_count() {
    let lab = Lab::new();
    for (text, expected) in [
        (
            "ServerAliveInterval 5\nServerAliveCountMax 2",
            "ServerAliveInterval=5 -o ServerAliveCountMax=2",
        ),
        ("ServerAliveInterval 0", "ServerAliveInterval=0 -o ServerAliveCountMax=3"),
        ("ServerAliveCountMax 9", "ServerAliveInterval=15 -o ServerAliveCountMax=9"),
        ("Compression no", "ServerAliveInterval=15 -o ServerAliveCountMax=3"),
        ("ConnectionAttempts 3", "ServerAliveInterval=15 -o ServerAliveCountMax=3"),
    ] {
        lab.configure(text);
        assert_eq!(lab.exec(&[], "true").code(), 0);
        let found = masters(&lab.config);
        let of_this = found.iter().find(|line| line.contains(expected));
        assert!(of_this.is_some(), "{text}: {found:?}");
        assert!(found.iter().all(|line| !line.contains("ConnectionAttempts")), "{found:?}");
        let mut close = lab.home.command(["close", "--all"]);
        assert_eq!(run(&mut close, PATIENCE).code(), 0);
    }
    // A line for another host says nothing for this one.
    lab.configure("Compression no\nHost other\nServerAliveInterval 5\n");
    assert_eq!(lab.exec(&[], "true").code(), 0);
    assert!(masters(&lab.config).iter().any(|line| line.contains("ServerAliveInterval=15")));
}

#[test]
fn b6_variables_are_sent_as_the_configuration_says() {
    let lab = Lab::new();
    let print = "echo $FOO-$BAR_A-$LANG-$LC_TIME";
    lab.configure("SendEnv LANG LC_*\nSendEnv FOO");
    let variables = [("FOO", "1"), ("BAR_A", "2"), ("LANG", "C.UTF-8"), ("LC_TIME", "POSIX")];
    assert_eq!(lab.agree(&variables, print), "1--C.UTF-8-POSIX\n");
    // The caller's value of now, over the same connection.
    let logins = lab.sshd.logins();
    for value in ["x", "a b'c", "", "y"] {
        let variables = [("FOO", value), ("LANG", "C")];
        let (plain, ours) = (lab.plain(&variables, &[], print), lab.exec(&variables, print));
        assert_eq!((plain.code(), &plain.stdout), (ours.code(), &ours.stdout), "{}", ours.stderr);
    }
    assert_eq!(lab.sshd.logins() - logins, 4, "those of plain ssh");
    // A pattern, one that takes back, and a value of the configuration's own.
    lab.configure("SendEnv BAR_* -BAR_B\nSetEnv FOO=set");
    assert_eq!(
        lab.agree(&[("BAR_A", "a"), ("BAR_B", "b"), ("FOO", "mine")], "echo $FOO-$BAR_A-$BAR_B"),
        "set-a-b\n"
    );
    // What the server does not accept does not arrive.
    lab.configure("SendEnv SECRET\n");
    assert_eq!(lab.agree(&[("SECRET", "s")], "echo -$SECRET-"), "--\n");
    // Many hosts at once, and the pool inside a program.
    lab.configure("SendEnv FOO\n");
    for words in [
        &["run", "-w", "h1", "--", "echo $FOO"][..],
        &["--no-agent", "exec", "h1", "--", "echo $FOO"],
    ] {
        let mut command = lab.home.command(["-F"]);
        let ended = run(command.arg(&lab.config).args(words).env("FOO", "7"), PATIENCE);
        assert!(
            ended.code() == 0 && ended.stdout.contains('7'),
            "{}{}",
            ended.stdout,
            ended.stderr
        );
    }
}

#[test]
fn b6_sessions_in_standby_are_for_those_with_the_same_variables() {
    let lab = Lab::new();
    lab.configure("SendEnv FOO\n");
    for value in ["1", "1", "2", "2", "1", "3", "3", "3"] {
        let ended = lab.exec(&[("FOO", value)], "echo $FOO");
        assert_eq!((ended.code(), ended.stdout.trim()), (0, value), "{}", ended.stderr);
    }
    assert_eq!(lab.sshd.logins(), 1);
}

/// Callers with different variables take turns, and each has several commands in one session.
/// Nobody sees a value of another one, not even of a variable that it does not send itself.
#[test]
fn b6_values_arrive_over_sessions_that_are_used_again() {
    const EACH: usize = 5;
    let lab = Lab::new();
    lab.configure("SendEnv LANG LC_* FOO BAR_*\nSetEnv BAR_SET='as it is'");
    let callers: [&[(&str, &str)]; 4] = [
        &[("LANG", "C.UTF-8"), ("FOO", "1"), ("BAR_A", "a\tb  'c' $HOME \\ \u{e9}")],
        &[("LANG", "POSIX"), ("LC_TIME", "C"), ("FOO", "")],
        &[("LANG", "C.UTF-8"), ("BAR_B", "b"), ("SECRET", "s")],
        &[("LANG", "POSIX"), ("LC_TIME", "C"), ("FOO", "line\nbreak")],
    ];
    let print = "env | grep -E '^(LANG|LC_|FOO|BAR_|SECRET)' | sort; \
                 printf '<%s>' \"${FOO-unset}\" \"${BAR_A-unset}\" \"${LC_TIME-unset}\"";
    for turn in 0..2 * callers.len() {
        let variables = callers[turn % callers.len()];
        let plain = lab.plain(variables, &[], print);
        assert!(plain.stdout.contains("BAR_SET=as it is\n"), "{}{}", plain.stdout, plain.stderr);
        for _ in 0..EACH {
            let ours = lab.exec(variables, print);
            assert_eq!((plain.code(), &plain.stdout), (ours.code(), &ours.stdout), "{variables:?}");
        }
        // A command that changes them changes nothing for the next one.
        assert_eq!(lab.exec(variables, "export FOO=other LANG=other BAR_SET=").code(), 0);
        assert_eq!(lab.exec(variables, print).stdout, plain.stdout);
    }
    let metrics = run(&mut lab.home.command(["metrics"]), PATIENCE).stdout;
    let of_name = |line: &str| {
        line.strip_prefix("sshpool_reused_sessions_total")?
            .rsplit_once(' ')?
            .1
            .parse::<usize>()
            .ok()
    };
    let reused: usize = metrics.lines().filter_map(of_name).sum();
    assert!(reused >= 2 * callers.len() * EACH, "{reused} sessions were used again");
    assert_eq!(lab.sshd.logins(), 1 + 2 * callers.len(), "ours, and those of plain ssh");
}

#[test]
fn b7_variables_of_the_command_line_arrive() {
    let lab = Lab::new();
    lab.configure("");
    let print = "echo $FOO-$BAR_A";
    let variables = [("FOO", "1"), ("BAR_A", "2")];
    for words in [
        &["-o", "SendEnv=FOO"][..],
        &["-o", "SendEnv=FOO BAR_*"],
        &["-oSendEnv=BAR_A", "-o", "SendEnv FOO"],
        &["-o", "SetEnv=FOO=x"],
        &["-o", "SetEnv=FOO=x BAR_A=y"],
        &["-o", "SetEnv=FOO=x", "-o", "SendEnv=BAR_A"],
    ] {
        let (plain, ours) =
            (lab.plain(&variables, words, print), lab.ssh(&variables, words, print));
        assert_eq!(
            (plain.code(), &plain.stdout),
            (ours.code(), &ours.stdout),
            "{words:?} {}",
            ours.stderr
        );
    }
    let before = lab.sshd.logins();
    for words in [["-o", "SendEnv=FOO"], ["-o", "SetEnv=FOO=x"], ["-o", "SetEnv=FOO=y"]] {
        assert_eq!(lab.ssh(&variables, &words, print).code(), 0);
    }
    assert_eq!(lab.sshd.logins(), before, "they belong to sessions, and cost no login");
}

#[test]
fn f8_ssh_asks_by_the_callers_program_where_it_would() {
    let lab = Lab::new();
    let key = lab.directory.path().join("key");
    let made = run(
        command("ssh-keygen").args(["-q", "-N", "pass phrase", "-t", "ed25519", "-f"]).arg(&key),
        PATIENCE,
    );
    assert_eq!(made.code(), 0);
    let public = fs::read_to_string(key.with_extension("pub")).expect("it was made");
    lab.sshd.authorize("", &public);
    let askpass = lab.directory.path().join("askpass");
    make_program(&askpass, "#!/bin/sh\necho \"$1\" >>\"$ASKED\"\necho 'pass phrase'\n");
    lab.configure(&format!("IdentityFile {}\nIdentitiesOnly yes\n", key.display()));
    // Without the key that needs no passphrase.
    let config = fs::read_to_string(&lab.config).expect("it is there");
    let without: Vec<&str> = config.lines().filter(|line| !line.contains("client/id")).collect();
    fs::write(&lab.config, without.join("\n")).expect("a file");
    let asked = lab.directory.path().join("asked");
    let (askpass, seen) = (askpass.display().to_string(), asked.display().to_string());
    let forced = [("SSH_ASKPASS", &*askpass), ("SSH_ASKPASS_REQUIRE", "force"), ("ASKED", &*seen)];
    let mut plain = lab.home.in_its_place(command("ssh"), ["-T", "-F"]);
    plain.arg(&lab.config).args(["h1", "echo here"]).envs(forced);
    assert_eq!(run(&mut plain, PATIENCE).stdout, "here\n");
    assert!(fs::remove_file(&asked).is_ok(), "plain ssh asks by it");
    let ended = lab.exec(&forced, "echo here");
    assert_eq!((ended.code(), &*ended.stdout), (0, "here\n"), "{}", ended.stderr);
    assert!(fs::remove_file(&asked).is_ok(), "and so does the pool");
    // Neither asks where that is not wanted.
    let never = [("SSH_ASKPASS", &*askpass), ("SSH_ASKPASS_REQUIRE", "never"), ("ASKED", &*seen)];
    assert_eq!(lab.exec(&never, "true").code(), 255);
    let batch = fs::read_to_string(&lab.config).expect("it is there");
    fs::write(&lab.config, format!("BatchMode yes\n{batch}")).expect("a file");
    assert_eq!(lab.exec(&forced, "true").code(), 255);
    assert!(!asked.exists());
}
