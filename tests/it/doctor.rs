//! `sshpool doctor`: whatever is wrong is told with its step, its reason and what to do, by the
//! built program and a real server.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::agents::Home;
use crate::lab::common;
use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{self, PATIENCE, processes_with};

/// The program in an environment of its own, with a host `lab` in a configuration file.
struct Doctor {
    home: TempDir,
    /// Instead of those of the server.
    lines: Vec<(&'static str, String)>,
    options: Vec<(&'static str, String)>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Doctor {
    fn new(sshd: &Sshd) -> Doctor {
        let quoted = |path: PathBuf| format!("{:?}", path.display().to_string());
        let lines = vec![
            ("address", "\"127.0.0.1\"".to_owned()),
            ("port", sshd.port().to_string()),
            ("user", format!("{:?}", sshd.user())),
            ("identity_file", quoted(sshd.identity_file())),
            ("ssh_config", "\"none\"".to_owned()),
        ];
        let options = vec![
            ("UserKnownHostsFile", quoted(sshd.known_hosts())),
            ("GlobalKnownHostsFile", "\"/dev/null\"".to_owned()),
        ];
        Doctor {
            home: tempfile::tempdir().expect("a directory"),
            lines,
            options,
            environment: Vec::new(),
        }
    }

    /// Says this of the host in place of what was said.
    fn say(mut self, key: &'static str, value: impl ToString) -> Self {
        self.lines.retain(|(known, _)| *known != key);
        self.lines.push((key, value.to_string()));
        self
    }

    fn option(mut self, key: &'static str, value: impl ToString) -> Self {
        self.options.retain(|(known, _)| *known != key);
        self.options.push((key, format!("{:?}", value.to_string())));
        self
    }

    fn env(mut self, name: &'static str, value: impl Into<PathBuf>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// A file in its directory, with this mode.
    fn file(&self, name: &str, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
        path
    }

    fn command(&self, args: &[&str]) -> Command {
        let list = |pairs: &[(&str, String)]| -> String {
            pairs.iter().map(|(key, value)| format!("{key} = {value}\n")).collect()
        };
        let (lines, options) = (list(&self.lines), list(&self.options));
        let directory = self.home.path().join("sshpool");
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(
            directory.join("config.toml"),
            format!("[hosts.lab]\n{lines}[hosts.lab.options]\n{options}"),
        )
        .expect("a file");
        let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
        // What is not about time has time.
        command.env("SSH_POOL_CONNECTION_TIMEOUT_MS", "30000");
        command.env("XDG_CONFIG_HOME", self.home.path()).env("XDG_RUNTIME_DIR", self.home.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("doctor").args(args);
        command
    }

    /// For a person, and for a program. Both say the same, and nothing is left.
    #[track_caller]
    fn look(&self) -> Looked {
        let json = run(&mut self.command(&["--json", "lab"]), PATIENCE);
        assert_eq!((&*json.stderr, json.stdout.lines().count()), ("", 1), "{}", json.stdout);
        let value: Value = serde_json::from_str(&json.stdout).expect("it is JSON");
        assert_eq!((&value["host"], &value["ok"]), (&"lab".into(), &(json.code() == 0).into()));
        let left = processes_with(&format!("{}/sshpool-", self.home.path().display()));
        assert_eq!(left, [""; 0]);
        Looked { code: json.code(), value }
    }

    #[track_caller]
    fn text(&self) -> Ended {
        run(&mut self.command(&["lab"]), PATIENCE)
    }
}

struct Looked {
    code: i32,
    value: Value,
}

impl Looked {
    /// The findings of this check, as `status | what | why | todo`.
    fn of(&self, check: &str) -> Vec<String> {
        let checks = self.value["checks"].as_array().expect("a list");
        let of = checks.iter().filter(|finding| finding["check"] == check);
        of.map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap_or("-").to_owned();
            ["status", "what", "why", "todo"].map(text).join(" | ")
        })
        .collect()
    }

    /// A finding of this check has this status, and each of the words.
    #[track_caller]
    fn has(&self, check: &str, status: &str, words: &[&str]) {
        let all = self.of(check);
        let fits = |text: &String| {
            text.starts_with(&format!("{status} | "))
                && words.iter().all(|word| text.contains(word))
        };
        assert!(all.iter().any(fits), "{check} {status} {words:?}: {all:#?}\n{:#}", self.value);
    }

    /// Whatever is wrong has a reason and an advice.
    #[track_caller]
    fn is_helpful(&self) {
        for finding in self.value["checks"].as_array().expect("a list") {
            let wrong = finding["status"] == "failed" || finding["status"] == "warning";
            assert!(
                !wrong || finding["why"].is_string() && finding["todo"].is_string(),
                "{finding:#}"
            );
        }
    }
}

#[test]
fn a_host_that_works_is_told_with_each_step_and_one_login() {
    let sshd = Sshd::builder().max_sessions(9).start();
    let doctor = Doctor::new(&sshd);
    let looked = doctor.look();
    assert_eq!((looked.code, sshd.logins()), (0, 1), "{:#}", looked.value);
    for check in [
        "ssh",
        "settings",
        "sockets",
        "ssh_config",
        "host",
        "key",
        "known_hosts",
        "name",
        "tcp",
        "server",
        "kex",
        "login",
        "socket",
        "check",
        "connect",
        "account",
        "command",
        "sessions",
    ] {
        looked.has(check, "ok", &[]);
    }
    looked.has("ssh-agent", "skipped", &["SSH_AUTH_SOCK is not set"]);
    looked.has("sessions", "ok", &["9 at once (MaxSessions)", "sessions_per_connection is 8"]);
    let checks = looked.value["checks"].as_array().expect("a list");
    for step in
        ["tcp", "server", "kex", "login", "socket", "check", "connect", "account", "command"]
    {
        let finding = checks.iter().find(|finding| finding["check"] == step).expect("it is there");
        assert!(finding["elapsed_ms"].is_f64(), "{finding}");
    }
    let facts = &looked.value["facts"];
    assert_eq!((&facts["hostname"], &facts["port"]), (&"127.0.0.1".into(), &sshd.port().into()));
    assert_eq!((&facts["user"], &facts["account"]), (&sshd.user().into(), &"posix".into()));
    assert_eq!((&facts["sessions"], &facts["sessions_limited"]), (&9.into(), &true.into()));
    assert!(
        facts["server"].as_str().is_some_and(|server| server.starts_with("OpenSSH_")),
        "{facts}"
    );
    assert!(
        facts["kex"].is_string() && facts["connect_ms"].is_f64() && facts["command_ms"].is_f64()
    );

    let text = doctor.text();
    assert_eq!((text.code(), &*text.stderr, sshd.logins()), (0, "", 2), "{}", text.stdout);
    assert!(text.stdout.ends_with("\nlab: commands can run\n"), "{}", text.stdout);
    assert!(!text.stdout.contains('\x1b'), "no colours where there is no terminal");
    assert!(
        text.stdout.lines().any(|line| line.starts_with("ok       login  ")),
        "{}",
        text.stdout
    );
    // No part of a key is shown.
    let key = fs::read_to_string(sshd.identity_file()).expect("it is there");
    let secret = key.lines().nth(3).expect("it has lines");
    assert!(!text.stdout.contains(secret) && !looked.value.to_string().contains(secret));
}

#[test]
fn fewer_sessions_than_the_settings_want_are_a_warning() {
    let sshd = Sshd::builder().max_sessions(3).start();
    let looked = Doctor::new(&sshd).look();
    assert_eq!(looked.code, 0);
    looked.has(
        "sessions",
        "warning",
        &["3 at once", "sessions_per_connection is 8", "sessions_per_connection = 3"],
    );
    looked.is_helpful();
}

#[test]
fn a_wrong_key_is_told_with_what_was_offered() {
    let (sshd, other) = (Sshd::builder().start(), Sshd::builder().start());
    let doctor = Doctor::new(&sshd).say("identity_file", format!("{:?}", other.identity_file()));
    let looked = doctor.look();
    assert_eq!((looked.code, sshd.logins()), (255, 0));
    looked.has("kex", "ok", &[]);
    let offered = format!("offered: {}", other.identity_file().display());
    let advice = format!(
        "ssh-copy-id -i {} -p {} {}@127.0.0.1",
        other.identity_file().display(),
        sshd.port(),
        sshd.user()
    );
    looked.has(
        "login",
        "failed",
        &["authentication failed", "Permission denied", &offered, "takes publickey", &advice],
    );
    looked.is_helpful();
    let text = doctor.text();
    assert_eq!((text.code(), &*text.stderr), (255, ""));
    assert!(text.stdout.ends_with("\nlab: no command can run\n"), "{}", text.stdout);
    assert!(text.stdout.contains("  why: ") && text.stdout.contains("  do:  "), "{}", text.stdout);
}

#[test]
fn a_server_that_takes_no_keys_is_told() {
    let sshd = Sshd::builder()
        .option("PubkeyAuthentication", "no")
        .option("PasswordAuthentication", "yes")
        .start();
    let looked = Doctor::new(&sshd).look();
    assert_eq!(looked.code, 255);
    looked.has("login", "failed", &["authentication failed", "takes no keys, only password"]);
}

#[test]
fn a_changed_host_key_is_told_with_the_command_that_forgets_it() {
    let sshd = Sshd::builder().start();
    sshd.change_host_keys();
    let looked = Doctor::new(&sshd).look();
    assert_eq!(looked.code, 255);
    let command = format!(
        "ssh-keygen -R '[127.0.0.1]:{}' -f '{}'",
        sshd.port(),
        sshd.known_hosts().display()
    );
    looked.has("kex", "failed", &["the host key has changed", "Offending ED25519 key", &command]);
    looked.is_helpful();
}

#[test]
fn an_unknown_host_key_is_told_before_and_after() {
    let sshd = Sshd::builder().start();
    let doctor = Doctor::new(&sshd);
    let none = doctor.home.path().join("none").display().to_string();
    let doctor = doctor.option("UserKnownHostsFile", &none).option("StrictHostKeyChecking", "yes");
    let looked = doctor.look();
    assert_eq!(looked.code, 255);
    let keyscan = format!("ssh-keyscan -p {} 127.0.0.1", sshd.port());
    looked.has("known_hosts", "warning", &["is not known", &keyscan]);
    looked.has("kex", "failed", &["the host key is unknown", &keyscan]);
    looked.is_helpful();

    let looked = doctor.option("StrictHostKeyChecking", "accept-new").look();
    looked.has("known_hosts", "ok", &["accepted now"]);
    assert_eq!(looked.code, 0);
}

#[test]
fn a_port_on_which_nothing_listens_is_told() {
    let sshd = Sshd::builder().start();
    sshd.kill();
    let looked = Doctor::new(&sshd).look();
    assert_eq!(looked.code, 255);
    let port = format!("listens on port {}", sshd.port());
    looked.has("tcp", "failed", &["connection refused", "Connection refused", &port]);
    looked.is_helpful();
}

#[test]
fn a_host_that_says_nothing_is_a_timeout_after_tcp() {
    let sshd = Sshd::builder().start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let doctor = Doctor::new(&sshd).say("port", port).env("SSH_POOL_CONNECTION_TIMEOUT_MS", "1000");
    let looked = doctor.look();
    assert_eq!(looked.code, 124);
    looked.has("tcp", "ok", &[]);
    let what = format!("what listens on port {port}");
    looked.has(
        "server",
        "failed",
        &["timed out", "no login within 1s", &what, "raise connect_timeout"],
    );
    looked.is_helpful();
}

#[test]
fn a_server_that_runs_nothing_is_a_timeout_after_the_login() {
    let sshd = Sshd::builder().force_command("sleep 300").start();
    let looked = Doctor::new(&sshd).env("SSH_POOL_CONNECTION_TIMEOUT_MS", "3000").look();
    assert_eq!((looked.code, sshd.logins()), (124, 1));
    looked.has("login", "ok", &[]);
    looked.has(
        "account",
        "failed",
        &["timed out", "the server ran no command", "start-up file", "raise connect_timeout"],
    );
    looked.is_helpful();
}

#[test]
fn a_name_that_is_not_resolved_is_told_once_with_advice() {
    let sshd = Sshd::builder().start();
    let looked = Doctor::new(&sshd).say("address", "\"no-such-host.invalid\"").look();
    assert_eq!(looked.code, 255);
    looked.has(
        "name",
        "failed",
        &["no-such-host.invalid is not resolved", "address in [hosts.NAME]"],
    );
    looked.has("tcp", "failed", &["name not resolved"]);
}

#[rstest]
#[case::too_open(0o644, None, "failed", &["is too open: its mode is 0644", "chmod 600 "], "login")]
#[case::no_key(0o600, Some("this is not a key\n"), "failed", &["is no private key"], "login")]
#[case::public(0o600, Some("ssh-ed25519 AAAA me\n"), "failed", &["is a public key", "without .pub"], "login")]
fn a_bad_key_file_is_told_before_the_login_that_fails(
    #[case] mode: u32,
    #[case] text: Option<&str>,
    #[case] status: &str,
    #[case] words: &[&str],
    #[case] step: &str,
) {
    let sshd = Sshd::builder().start();
    let doctor = Doctor::new(&sshd);
    let text = text
        .map_or_else(|| fs::read(sshd.identity_file()).expect("it is there"), |text| text.into());
    let key = doctor.file("key", text, mode);
    let looked = doctor.say("identity_file", format!("{key:?}")).look();
    assert_eq!((looked.code, sshd.logins()), (255, 0));
    looked.has("key", status, words);
    looked.has(step, "failed", &[]);
    looked.is_helpful();
}

#[test]
fn a_key_with_a_passphrase_is_told() {
    let sshd = Sshd::builder().start();
    let doctor = Doctor::new(&sshd);
    let key = doctor.home.path().join("locked");
    let mut keygen = pooled::command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "passphrase", "-f"]).arg(&key);
    assert_eq!(run(&mut keygen, PATIENCE).code(), 0);
    let looked = doctor.say("identity_file", format!("{key:?}")).look();
    assert_eq!(looked.code, 255);
    looked.has("key", "warning", &["has a passphrase", "ssh-add "]);
    looked.is_helpful();
}

#[test]
fn a_key_file_that_is_missing_is_told_before_anything_is_connected() {
    let sshd = Sshd::builder().start();
    let looked = Doctor::new(&sshd).say("identity_file", "\"/nonexistent/key\"").look();
    assert_eq!(looked.code, 255);
    looked.has(
        "ssh_config",
        "failed",
        &["bad identity file", "/nonexistent/key: No such file", "identity_file in [hosts"],
    );
    looked.has("connect", "skipped", &["not tried"]);
    assert_eq!(sshd.log().matches("Connection from").count(), 0);

    // One that ssh's own configuration names does no harm where there is another.
    let doctor = Doctor::new(&sshd);
    let config = fs::read_to_string(sshd.ssh_config()).expect("it is there")
        + "    IdentityFile /nonexistent/other\n";
    let config = doctor.file("config", config, 0o600);
    let mut command = doctor.command(&["--json", "lab"]);
    command.arg("-F").arg(&config).env("XDG_CONFIG_HOME", "/proc/nonexistent");
    let ended = run(&mut command, PATIENCE);
    let looked = Looked {
        code: ended.code(),
        value: serde_json::from_str(&ended.stdout).expect("it is JSON"),
    };
    assert_eq!(looked.code, 0);
    looked.has("key", "failed", &["/nonexistent/other cannot be read", "No such file"]);
    looked.has("ssh_config", "ok", &[&config.display().to_string(), "(-F)"]);
}

#[test]
fn no_common_algorithm_is_told_with_the_option_that_has_it() {
    let sshd = Sshd::builder().start();
    let looked = Doctor::new(&sshd).option("KexAlgorithms", "diffie-hellman-group1-sha1").look();
    assert_eq!(looked.code, 255);
    looked.has("server", "ok", &["OpenSSH_"]);
    looked.has(
        "kex",
        "failed",
        &["no common algorithm", "Their offer: ", "KexAlgorithms = \"+…\""],
    );
    looked.is_helpful();
}

#[test]
fn an_option_that_ssh_does_not_know_is_told() {
    let sshd = Sshd::builder().start();
    let looked = Doctor::new(&sshd).option("NoSuchOption", "1").look();
    assert_eq!(looked.code, 255);
    looked.has("ssh_config", "failed", &["bad ssh configuration", "nosuchoption", "ssh_config(5)"]);
    looked.is_helpful();
}

#[test]
fn a_server_that_drops_logins_is_told() {
    let sshd = Sshd::builder().max_startups("1:100:1").start();
    let mut held = TcpStream::connect(("127.0.0.1", sshd.port())).expect("it listens");
    // Once it has greeted, it counts as a login that is not finished.
    held.read_exact(&mut [0; 4]).expect("it greets");
    let looked = Doctor::new(&sshd).look();
    assert_eq!(looked.code, 255);
    looked.has(
        "server",
        "failed",
        &["the server dropped the login", "MaxStartups", "PerSourcePenalties"],
    );
    looked.is_helpful();
}

#[rstest]
#[case::stdout("echo welcome", "writes 8 bytes to stdout: \"welcome\"")]
#[case::stderr("echo oops >&2", "writes 5 bytes to stderr: \"oops\"")]
fn a_start_up_file_that_prints_is_told(#[case] text: &str, #[case] told: &str) {
    let Some(sshd) = Sshd::builder().login_shell("/bin/bash").start_or_skip() else { return };
    assert_eq!(sshd.exec(&format!("echo '{text}' >~/.bashrc")).code(), 0);
    let looked = Doctor::new(&sshd).look();
    assert_eq!(looked.code, 0);
    looked.has("account", "warning", &[told, "start-up file", "[ -t 0 ]"]);
    looked.has("account", "ok", &["a POSIX shell"]);
    looked.is_helpful();
}

#[test]
fn a_start_up_file_that_is_slow_is_told() {
    let Some(sshd) = Sshd::builder().login_shell("/bin/bash").start_or_skip() else { return };
    assert_eq!(sshd.exec("echo 'sleep 1.5' >~/.bashrc").code(), 0);
    let looked = Doctor::new(&sshd).look();
    assert_eq!(looked.code, 0);
    looked.has("account", "warning", &["until it ran an echo", "~/.bashrc"]);
    looked.is_helpful();
}

#[rstest]
#[case::csh("/bin/tcsh")]
#[case::fish("/usr/bin/fish")]
fn another_shell_is_told_and_no_fault(#[case] shell: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).max_sessions(4).start_or_skip() else {
        return;
    };
    let looked = Doctor::new(&sshd).look();
    assert_eq!((looked.code, &looked.value["facts"]["account"]), (0, &"shell".into()));
    looked.has("account", "ok", &["no POSIX one"]);
    looked.has("command", "ok", &[]);
    looked.has("sessions", "warning", &["4 at once"]);
}

#[test]
fn a_forced_command_is_told_and_runs_once() {
    let sshd =
        Sshd::builder().force_command("echo run >>\"$HOME/runs\"; echo no shell for you").start();
    let looked = Doctor::new(&sshd).look();
    assert_eq!((looked.code, &looked.value["facts"]["account"]), (0, &"silent".into()));
    looked.has("account", "warning", &["no shell answers", "forced command"]);
    looked.has("command", "skipped", &[]);
    looked.is_helpful();
    assert_eq!(sshd.exec("wc -l <\"$HOME/runs\"").stdout.trim(), "1");
}

/// The account is described by what has answered.
#[rstest]
#[case::nologin("/usr/sbin/nologin", "it exited with status 1 and said: This account is")]
#[case::nothing("/bin/false", "it exited with status 1 and said nothing")]
fn d10_an_account_without_a_shell_is_told_by_doctor_and_warm(
    #[case] shell: &str,
    #[case] answer: &str,
) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let looked = Doctor::new(&sshd).look();
    assert_eq!((looked.code, &looked.value["facts"]["account"]), (0, &"silent".into()));
    looked.has("account", "warning", &["no shell answers", answer, "nologin"]);
    let text = Doctor::new(&sshd).text().stdout;
    let told = "lab: logged in; whether commands can run was not tried, since no shell answers\n";
    assert!(text.ends_with(told), "{text}");
    let home = Home::new();
    let warm = home.run_on(&sshd, &["warm", "lab"]);
    assert_eq!(warm.code(), 0, "{}", warm.stderr);
    assert!(warm.stdout.contains(&format!("; no shell answers there: {answer}")), "{warm:?}");
    let again = home.run_on(&sshd, &["warm", "--json", "lab"]);
    let again: Value = serde_json::from_str(&again.stdout).expect("it is JSON");
    assert!(again[0]["no_shell"].as_str().is_some_and(|no| no.starts_with(answer)), "{again}");
}

#[rstest]
#[case::runs("false", &["ProxyCommand false failed"])]
#[case::is_missing("no-such-program", &["not found"])]
fn a_proxy_is_told_and_what_is_wrong_with_it(#[case] program: &str, #[case] words: &[&str]) {
    let sshd = Sshd::builder().start();
    let looked = Doctor::new(&sshd).option("ProxyCommand", program).look();
    assert_eq!(looked.code, 255);
    looked.has("name", "skipped", &["the proxy"]);
    looked.has("server", "failed", &[words, &["ProxyCommand works by itself"]].concat());
    looked.is_helpful();
}

#[test]
fn a_directory_whose_path_is_too_long_is_told() {
    let sshd = Sshd::builder().start();
    let doctor = Doctor::new(&sshd);
    let long = doctor.home.path().join("d".repeat(100));
    fs::create_dir(&long).expect("a directory");
    let looked = doctor.env("XDG_RUNTIME_DIR", &long).look();
    assert_eq!((looked.code, sshd.logins()), (255, 0));
    looked.has(
        "sockets",
        "failed",
        &["local failure", "bytes long", "set XDG_RUNTIME_DIR or TMPDIR"],
    );
    looked.is_helpful();
}

#[test]
fn a_directory_without_room_is_told() {
    let sshd = Sshd::builder().start();
    let doctor = Doctor::new(&sshd);
    let runtime = doctor.home.path().join("run");
    fs::create_dir(&runtime).expect("a directory");
    let doctor = doctor.env("XDG_RUNTIME_DIR", &runtime);
    let command = doctor.command(&["--json", "lab"]);
    // Room for names, and not for what is in the files.
    let script = "mount -t tmpfs -o size=16k,mode=700 none \"$XDG_RUNTIME_DIR\" && exec \"$@\"";
    let inside = |options: &[&str], words: &[&std::ffi::OsStr]| {
        let mut inside = pooled::command("unshare");
        inside.args(options).args(["sh", "-c", script, "sh"]).args(words);
        inside.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside
    };
    let possible = [&["--mount"][..], &["--map-root-user", "--mount"][..]];
    let possible = possible
        .into_iter()
        .find(|options| run(&mut inside(options, &["true".as_ref()]), PATIENCE).code() == 0);
    let Some(options) = possible else {
        return common::skip("neither root nor a user namespace may mount a file system here");
    };
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let ended = run(&mut inside(options, &words), PATIENCE);
    let value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let looked = Looked { code: ended.code(), value };
    assert_eq!((looked.code, sshd.logins()), (255, 0));
    looked.has("sockets", "failed", &["local failure", "No space left on device", "make room"]);
    looked.is_helpful();
}

#[test]
fn a_missing_ssh_is_told() {
    let sshd = Sshd::builder().start();
    let doctor = Doctor::new(&sshd);
    let empty = doctor.home.path().join("empty");
    fs::create_dir(&empty).expect("a directory");
    let looked = doctor.env("PATH", empty).look();
    assert_eq!(looked.code, 255);
    looked.has("ssh", "failed", &["there is no ssh program", "openssh-client"]);
}

#[test]
fn an_agent_is_asked_for_its_keys_and_may_be_dead() {
    let sshd = Sshd::builder().start();
    let doctor = Doctor::new(&sshd);
    let socket = doctor.home.path().join("ssh-agent");
    let looked = Doctor::new(&sshd).env("SSH_AUTH_SOCK", &socket).look();
    looked.has("ssh-agent", "warning", &["does not answer", "ssh-agent"]);
    looked.is_helpful();

    let mut agent = pooled::command("ssh-agent");
    agent.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).stderr(Stdio::null());
    let _agent = Killed(agent.spawn().expect("it starts"));
    common::wait_for("the agent", PATIENCE, || socket.exists());
    let doctor = doctor.env("SSH_AUTH_SOCK", &socket);
    doctor.look().has("ssh-agent", "ok", &["answers, and has no keys"]);
    let added = run(
        pooled::command("ssh-add").arg(sshd.identity_file()).env("SSH_AUTH_SOCK", &socket),
        PATIENCE,
    );
    assert_eq!(added.code(), 0, "{}", added.stderr);
    let looked = doctor.look();
    looked.has("ssh-agent", "ok", &["has 1 key"]);
    assert_eq!(looked.code, 0);
}

/// A process that is not to be left behind by a test that fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // A test that has failed already must not panic a second time.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[rstest]
#[case::unknown_key(
    "[pool]\nmax_conections = 3\n",
    "config.toml:2: unknown key \"max_conections\" in [pool]"
)]
#[case::no_toml("[pool\n", "config.toml:1: not valid TOML")]
fn a_bad_configuration_file_is_wrong_usage_by_file_line_and_key(
    #[case] text: &str,
    #[case] told: &str,
) {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("config.toml");
    fs::write(&file, text).expect("a file");
    let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    let ended = run(command.args(["doctor", "web1", "--config"]).arg(&file), PATIENCE);
    assert_eq!(
        (ended.code(), &*ended.stdout, ended.stderr.lines().count()),
        (2, "", 1),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stderr.starts_with("sshpool: ") && ended.stderr.contains(told),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_signal_ends_it_without_another_word() {
    let sshd = Sshd::builder().start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let doctor = Doctor::new(&sshd).say("port", port);
    let mut child = doctor.command(&["lab"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let _login = listener.accept().expect("it connects");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut text = String::new();
    while !text.contains("\nok       name ") {
        assert!(stdout.read_line(&mut text).expect("text") > 0, "{text}");
    }
    pooled::send(child.id(), Signal::SIGTERM);
    let end = Instant::now() + PATIENCE;
    let status = common::process::wait_until(&mut child, end).expect("it ends");
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    stdout.read_to_string(&mut text).expect("text");
    assert!(!text.contains("failed"), "{text}");
}

/// On a terminal, and not where `NO_COLOR` is set.
#[test]
fn colours_are_for_a_terminal_and_for_whoever_wants_them() {
    let sshd = Sshd::builder().start();
    sshd.kill();
    let doctor = Doctor::new(&sshd);
    if !Path::new("/usr/bin/script").exists() {
        return common::skip("there is no script(1) to make a terminal");
    }
    for (no_color, coloured) in [("", true), ("1", false)] {
        let command = doctor.command(&["lab"]);
        let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
        let line =
            words.iter().map(|word| format!("'{}'", word.display())).collect::<Vec<_>>().join(" ");
        let mut script = pooled::command("script");
        script.args(["-qec", &line, "/dev/null"]);
        script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        script.env("NO_COLOR", no_color);
        let ended = run(&mut script, PATIENCE);
        assert_eq!(ended.stdout.contains("\x1b[31mfailed"), coloured, "{}", ended.stdout);
        assert!(ended.stdout.contains("failed"), "{}", ended.stdout);
    }
}
