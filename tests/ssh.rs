//! `sshpool ssh`, also by the name `ssh`: what is passed on is what was given, commands share a login, and where they cannot it is plain ssh.

mod agents;
mod common;
mod pooled;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::process::{self, Ended, run};
use common::sshd::Sshd;
use common::wait_for;
use nix::sys::signal::Signal;
use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

use agents::Home;
use pooled::{PATIENCE, send};

/// A directory in which this program is `ssh`.
fn link() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    symlink(env!("CARGO_BIN_EXE_sshpool"), directory.path().join("ssh")).expect("a link");
    directory
}

/// A directory in which `ssh` is this script.
fn script(text: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ssh");
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
    directory
}

/// `PATH` with these directories before all others.
fn path_with(directories: &[&Path]) -> OsString {
    let path = process::path();
    let directories = directories.iter().map(|directory| directory.to_path_buf());
    std::env::join_paths(directories.chain(std::env::split_paths(&path))).expect("no path has a colon")
}

fn real_ssh() -> PathBuf {
    which::which_in("ssh", Some(process::path()), "/").expect("there is an ssh")
}

/// `sshpool ssh -F CONFIG WORDS`, or `ssh` that is a link to it.
fn ssh_of(home: &Home, sshd: &Sshd, by_name: Option<&Path>, words: &[&str]) -> Command {
    let mut command = match by_name {
        Some(link) => home.in_its_place(pooled::command(link.join("ssh")), [""; 0]),
        None => home.command(["ssh"]),
    };
    command.arg("-F").arg(sshd.ssh_config()).args(words);
    command
}

#[track_caller]
fn ssh(home: &Home, sshd: &Sshd, words: &[&str]) -> Ended {
    run(&mut ssh_of(home, sshd, None, words), PATIENCE)
}

/// What is said for ourselves under `-v`.
fn said(ended: &Ended) -> Vec<&str> {
    ended.stderr.lines().filter(|line| line.starts_with("sshpool: ")).collect()
}

/// Shows its words, each on a line of its own.
const SHOW: &str = "#!/bin/sh\nfor word; do printf '%s\\0' \"$word\"; done\n";

#[track_caller]
fn shown(command: &mut Command) -> Vec<OsString> {
    let output = command.stdin(Stdio::null()).output().expect("it can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let words = output.stdout.split_inclusive(|byte| *byte == 0);
    words.map(|word| OsString::from_vec(word[..word.len() - 1].to_vec())).collect()
}

fn word() -> impl Strategy<Value = OsString> {
    let known = [
        "-v",
        "-p",
        "22",
        "-o",
        "User=x",
        "--",
        "-",
        "",
        "lab",
        "deploy@lab",
        "-F",
        "none",
        "-S",
        "-N",
        "--help",
        "-V",
        "-h",
        "--no-agent",
        "--config",
        "ssh",
        "a b",
        "'",
        "\"",
        "$HOME",
        "\n",
        "-oControlPath=/x",
        "ssh://lab:1/",
        "-tt4",
        "-A",
    ];
    prop_oneof![
        3 => proptest::sample::select(known.to_vec()).prop_map(OsString::from),
        1 => proptest::collection::vec(1..=255u8, 0..6).prop_map(OsString::from_vec),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_passed_on_is_what_was_given(words in proptest::collection::vec(word(), 0..8)) {
        let (home, ssh, link) = (Home::new(), script(SHOW), link());
        let path = path_with(&[link.path(), ssh.path()]);
        let own = home.command(["--no-agent", "ssh"]);
        let named = home.in_its_place(pooled::command(link.path().join("ssh")), [""; 0]);
        for (mut command, variable) in [(own, "on"), (named, "off")] {
            command.args(&words).env("PATH", &path).env("SSHPOOL_AGENT", variable);
            prop_assert_eq!(shown(&mut command), words.clone());
        }
    }
}

#[test]
fn over_a_connection_the_words_are_the_same_behind_two_of_ours() {
    let (sshd, home, fake) = (Sshd::builder().start(), Home::new(), script(SHOW));
    assert_eq!(home.run_on(&sshd, &["warm", "lab"]).code(), 0);
    let ansible = [
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=60s",
        "-o",
        "ControlPath=\"/tmp/x\"",
        "-tt",
        "lab",
        "-q",
        "echo $x",
        "",
    ];
    let mut command = ssh_of(&home, &sshd, None, &ansible);
    let words = shown(command.env("PATH", path_with(&[fake.path()])));
    assert_eq!(words[0], "-S");
    assert_eq!(words[2..4], ["-o", "ControlMaster=no"]);
    assert_eq!(words[4], "-F");
    assert_eq!(words[6..], ansible);
    assert!(Path::new(&words[1]).starts_with(home.runtime()), "{words:?}");
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn all_names_share_one_login() {
    let (sshd, home, link) = (Sshd::builder().start(), Home::new(), link());
    let first = ssh(&home, &sshd, &["lab", "echo out; echo err >&2; exit 3"]);
    assert_eq!((first.code(), &*first.stdout, &*first.stderr), (3, "out\n", "err\n"));
    for words in
        [&["lab", "cat"] as &[_], &["-o", "ControlMaster=auto", "-oControlPath=/x/%C", "lab", "-T", "cat"]]
    {
        let mut child = ssh_of(&home, &sshd, Some(link.path()), words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be started");
        let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let mut stdin = child.stdin.take().expect("it is piped");
        let writer = std::thread::spawn({
            let bytes = bytes.clone();
            move || stdin.write_all(&bytes)
        });
        let output = child.wait_with_output().expect("it ends");
        writer.join().expect("no panic").expect("all is read");
        assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
    }
    assert_eq!(home.exec(&sshd, "echo exec"), "exec\n");
    let words = ["-v", "-W", &format!("127.0.0.1:{}", sshd.port()), "lab"];
    let forwarded = ssh(&home, &sshd, &words);
    assert!(forwarded.stdout.starts_with("SSH-2.0-"), "{forwarded:?}");
    assert_eq!(sshd.logins(), 1);
    assert_eq!(home.status()["connections"].as_array().map(Vec::len), Some(1));
}

/// A terminal of script(1)'s, in which a shell runs this.
fn on_terminal(home: &Home, text: &str) -> Child {
    let mut script =
        home.in_its_place(pooled::command("timeout"), ["60", "script", "-qec", text, "/dev/null"]);
    script.env("SHELL", "/bin/sh").env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("util-linux has it")
}

#[test]
fn a_terminal_is_that_of_ssh() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let note = home.path().join("tty");
    let shell = format!(
        "tty >{}; stty rows 33 cols 77; exec {} -F {} ssh lab",
        note.display(),
        env!("CARGO_BIN_EXE_sshpool"),
        sshd.ssh_config().display()
    );
    let mut child = on_terminal(&home, &shell);
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut until = |text: &str| {
        // What is typed is shown, too, and the shell's prompt; but no line that is typed ends like an answer.
        lines.find(|line| line.as_ref().expect("it is text").trim_end().ends_with(text)).map(drop)
    };
    // Whatever the login shell of the account is.
    stdin.write_all(b"exec sh -c 'echo oth\"\"er; exec sh'\n").expect("it reads");
    until("other").expect("a shell answers");
    stdin
        .write_all(b"stty size; echo \"over $SSH_TTY\" | cut -c 1-9; trap 'stty size' WINCH\n")
        .expect("it reads");
    until("33 77").expect("the size is known");
    until("over /dev").expect("there is a terminal");
    stdin.write_all(b"echo sett''led\n").expect("it reads");
    until("settled").expect("a shell answers");
    let tty = std::fs::read_to_string(&note).expect("it was written");
    let resized =
        run(pooled::command("stty").args(["-F", tty.trim(), "rows", "40", "cols", "100"]), PATIENCE);
    assert_eq!(resized.code(), 0, "{}", resized.stderr);
    // The trap runs when the shell has read a line.
    stdin.write_all(b"\n").expect("it reads");
    until("40 100").expect("a change of the size is passed on");
    // By the one who is interrupted: only then is it certain that the terminal is its own.
    stdin.write_all(b"sh -c 'echo wai\"\"ting; exec sleep 300'\n").expect("it reads");
    until("waiting").expect("it begins");
    stdin.write_all(b"\x03exit 7\n").expect("it reads");
    while lines.next().is_some_and(|line| line.is_ok()) {}
    assert_eq!(child.wait().expect("it ends").code(), Some(7));
    assert_eq!(sshd.logins(), 1);
}

/// Whatever fails with ssh fails as it does there, and is told as there.
#[rstest]
#[case::key(&["-o", "IdentityFile=/nokey", "-F", "CONFIG-WITHOUT-KEY", "lab", "true"])]
#[case::refused(&["-p", "1", "lab", "true"])]
#[case::name(&["sshpool-test.invalid", "true"])]
#[case::bad_name(&["--", "-lab", "true"])]
#[case::option(&["-o", "NoSuchOption=1", "lab", "true"])]
#[case::letter(&["-Z", "lab"])]
#[case::port(&["-p", "x", "lab", "true"])]
#[case::nothing(&[])]
#[case::version(&["-V"])]
#[case::ciphers(&["-Q", "cipher"])]
#[case::resolved(&["-G", "lab"])]
#[case::no_master(&["-O", "check", "lab"])]
#[case::host_key(&["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "lab", "true"])]
#[case::status(&["lab", "exit 255"])]
#[case::forwards(&["-o", "ExitOnForwardFailure=yes", "-L", "1:::2:3:4", "lab", "true"])]
fn what_fails_is_told_by_ssh(#[case] words: &[&str]) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let without_key = home.path().join("without_key");
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let config: Vec<_> = config.lines().filter(|line| !line.contains("IdentityFile")).collect();
    std::fs::write(&without_key, config.join("\n")).expect("a file");
    let without_key = without_key.to_str().expect("it is UTF-8");
    let words: Vec<_> = words.iter().map(|word| word.replace("CONFIG-WITHOUT-KEY", without_key)).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let plain =
        home.in_its_place(pooled::command(real_ssh()), ["-F"]).arg(sshd.ssh_config()).args(&words).output();
    let plain = plain.expect("there is an ssh");
    let ours = ssh(&home, &sshd, &words);
    assert_eq!(Some(ours.code()), plain.status.code(), "{}", ours.stderr);
    assert_eq!(ours.stdout, String::from_utf8_lossy(&plain.stdout));
    // Of two key exchanges, one of two servers' temporary names, and so on, nothing is said.
    assert_eq!(ours.stderr, String::from_utf8_lossy(&plain.stderr));
}

#[rstest]
#[case::forward(&["-L", "PORT:127.0.0.1:1", "lab", "echo hi"], "a forward would outlive this command on a shared connection")]
#[case::own_master(&["-S", "/nowhere", "lab", "echo hi"], "the control socket was named (-S)")]
#[case::alone(&["-o", "ControlPath=none", "lab", "echo hi"], "no shared connection is wanted (-o controlpath)")]
#[case::config(&["alias", "echo hi"], "the ssh_config has a forward, which would outlive this command on a shared connection")]
fn what_cannot_be_shared_is_plain_ssh(#[case] words: &[&str], #[case] why: &str) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port")
        .port();
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let config = format!(
        "Host alias\n  LocalForward {port} 127.0.0.1:1\n{}",
        config.replace("Host lab", "Host lab alias")
    );
    std::fs::write(home.path().join("ssh_config"), config).expect("a file");
    let config = home.path().join("ssh_config");
    let words: Vec<_> = words.iter().map(|word| word.replace("PORT", &port.to_string())).collect();
    let words = || words.iter().map(OsStr::new);
    let args = || [OsStr::new("ssh"), "-F".as_ref(), config.as_os_str()].into_iter().chain(words());
    let quiet = home.run(args());
    assert_eq!((quiet.code(), &*quiet.stdout, &*quiet.stderr), (0, "hi\n", ""));
    let told = home.run(std::iter::once(OsStr::new("-v")).chain(args()));
    assert_eq!(said(&told), [format!("sshpool: plain ssh: {why}")]);
    assert_eq!(sshd.logins(), 2);
    // The same host without it is shared.
    let shared = ssh(&home, &sshd, &["-v", "lab", "echo hi"]);
    assert!(said(&shared)[0].starts_with("sshpool: ssh goes over "), "{}", shared.stderr);
}

#[test]
fn without_an_agent_it_is_plain_ssh_and_says_so_under_v() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let words = ["lab", "echo hi"];
    let off = run(ssh_of(&home, &sshd, None, &words).env("SSHPOOL_AGENT", "off"), PATIENCE);
    assert_eq!((off.code(), &*off.stdout, &*off.stderr), (0, "hi\n", ""));
    assert!(!home.place().exists(), "no agent was looked for");

    // Open to others, so that it is not used.
    let open = home.path().join("open");
    std::fs::create_dir_all(open.join("sshpool")).expect("a directory");
    std::fs::set_permissions(open.join("sshpool"), PermissionsExt::from_mode(0o755)).expect("it is ours");
    for (words, expected) in
        [(&["lab", "echo hi"] as &[_], None), (&["-v", "lab", "echo hi"], Some("is open to others"))]
    {
        let ended = run(ssh_of(&home, &sshd, None, words).env("XDG_RUNTIME_DIR", &open), PATIENCE);
        assert_eq!((ended.code(), &*ended.stdout), (0, "hi\n"));
        match expected {
            None => assert_eq!(ended.stderr, ""),
            Some(text) => assert!(said(&ended)[0].contains(text), "{}", ended.stderr),
        }
    }
    assert_eq!(sshd.logins(), 3);
}

#[test]
fn a_connection_that_is_gone_is_a_login_of_ssh() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(home.run_on(&sshd, &["warm", "lab"]).code(), 0);
    // It is lost between the agent's answer and ssh.
    let pid = home.status()["connections"][0]["pid"].as_u64().expect("it has one");
    let text = format!("#!/bin/sh\nkill -9 {pid}\nexec {} \"$@\"\n", real_ssh().display());
    let late = script(&text);
    let ended =
        run(ssh_of(&home, &sshd, None, &["lab", "echo hi"]).env("PATH", path_with(&[late.path()])), PATIENCE);
    assert_eq!((ended.code(), &*ended.stdout), (0, "hi\n"));
    assert_eq!(sshd.logins(), 2);
}

#[test]
fn a_connection_lives_as_long_as_its_ssh() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut command = ssh_of(&home, &sshd, None, &["lab", "echo on; read x; echo \"$x\""]);
    command.env("SSH_POOL_IDLE_TIMEOUT_MS", "100").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    assert_eq!(lines.next().expect("it begins").expect("it is text"), "on");
    wait_for("the connection to be older than its idle timeout", PATIENCE, || {
        home.status()["connections"][0]["age_ms"].as_u64().is_some_and(|age| age > 1000)
    });
    assert_eq!(home.status()["connections"][0]["sessions"], 1);
    stdin.write_all(b"done\n").expect("it reads");
    assert_eq!(lines.next().expect("it answers").expect("it is text"), "done");
    assert!(child.wait().expect("it ends").success());
    wait_for("the end of the connection", PATIENCE, || {
        home.status()["connections"].as_array().is_some_and(Vec::is_empty)
    });
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn a_signal_ends_it_as_it_ends_ssh() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut command = ssh_of(&home, &sshd, None, &["lab", "echo on; cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    lines.next().expect("it begins").expect("it is text");
    send(child.id(), Signal::SIGTERM);
    // ssh handles it by itself, and says 255.
    assert_eq!(child.wait().expect("it ends").code(), Some(255));
    wait_for("the agent to know", PATIENCE, || home.status()["connections"][0]["sessions"] == 0);
}

/// A server that says nothing: ssh has its own time for it, and the agent half of that.
#[test]
fn the_agent_is_waited_for_half_of_the_time_that_ssh_has() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    sshd.freeze();
    let ended = ssh(&home, &sshd, &["-v", "-o", "ConnectTimeout=2", "lab", "true"]);
    assert_eq!(ended.code(), 255);
    assert_eq!(said(&ended), ["sshpool: plain ssh: the agent has not connected within 1s"]);
    assert!(ended.last_words().contains("timed out"), "{}", ended.stderr);
    sshd.thaw();
    let ended = ssh(&home, &sshd, &["-o", "ConnectTimeout=60", "lab", "echo hi"]);
    assert_eq!((ended.code(), &*ended.stdout), (0, "hi\n"));
}

#[test]
fn the_real_ssh_is_found_behind_links_and_copies() {
    let (sshd, home, link) = (Sshd::builder().start(), Home::new(), link());
    let copies = [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    for copy in &copies {
        std::fs::copy(env!("CARGO_BIN_EXE_sshpool"), copy.path().join("ssh")).expect("a file");
    }
    let path = path_with(&[link.path(), copies[0].path(), copies[1].path(), link.path()]);
    for first in [link.path(), copies[0].path(), copies[1].path()] {
        let ended = run(ssh_of(&home, &sshd, Some(first), &["lab", "echo hi"]).env("PATH", &path), PATIENCE);
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "hi\n", ""));
    }
    assert_eq!(sshd.logins(), 1);
    let alone = run(ssh_of(&home, &sshd, Some(link.path()), &["-V"]).env("PATH", link.path()), PATIENCE);
    assert!(alone.stderr.starts_with("OpenSSH_"), "{}", alone.stderr);
    // Nor is it what the agent runs.
    let own = PathBuf::from(env!("CARGO_BIN_EXE_sshpool")).canonicalize().expect("it is there");
    for (pid, name) in home.processes().iter().filter(|(_, name)| name == "ssh") {
        assert_ne!(std::fs::read_link(format!("/proc/{pid}/exe")).ok(), Some(own.clone()), "{name}");
    }
}

#[test]
fn hosts_of_the_toml_file_are_known_to_ssh() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.config(&format!(
        "[hosts.web1]\naddress = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\nidentity_file = \"{}\"\nssh_config = \"none\"\n\
         [hosts.web1.options]\nUserKnownHostsFile = \"{}\"\n",
        sshd.port(),
        sshd.user(),
        sshd.identity_file().display(),
        sshd.known_hosts().display()
    ));
    for words in [
        &["ssh", "web1", "echo hi"] as &[_],
        &["--no-agent", "ssh", "web1", "echo hi"],
        &["ssh", "-S", "none", "web1", "echo hi"],
    ] {
        let ended = home.run(words);
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "hi\n", ""), "{words:?}");
    }
    assert_eq!(sshd.logins(), 3);
    assert_eq!(home.run(["exec", "web1", "--", "echo", "hi"]).stdout, "hi\n");
    assert_eq!(sshd.logins(), 3, "exec and ssh share a connection");
    home.config("[hosts.web1]\nadress = \"127.0.0.1\"\n");
    let ended = home.run(["ssh", "web1", "true"]);
    assert_eq!(ended.code(), 255);
    assert!(ended.stderr.contains("config.toml:2: unknown key \"adress\""), "{}", ended.stderr);
    assert!(home.run(["ssh", "-V"]).stderr.starts_with("OpenSSH_"));
    home.config("");
}

#[test]
fn who_asks_for_another_account_does_not_share_a_connection() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(ssh(&home, &sshd, &["lab", "true"]).code(), 0);
    for words in [["-l", "nobody-here"], ["-o", "User=nobody-here"]] {
        let ended = ssh(&home, &sshd, &[&words as &[_], &["-o", "BatchMode=yes", "lab", "true"]].concat());
        assert_eq!(ended.code(), 255, "{words:?}");
        assert!(ended.stderr.contains("nobody-here@127.0.0.1: Permission denied"), "{}", ended.stderr);
    }
    // The address counts, though it does not for the pool's other hosts.
    let elsewhere = ssh(&home, &sshd, &["-o", "HostName=127.0.0.2", "lab", "true"]);
    assert_eq!(elsewhere.code(), 255);
    assert!(elsewhere.stderr.contains("connect to host 127.0.0.2"), "{}", elsewhere.stderr);
}

#[test]
fn an_agent_is_forwarded() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let socket = home.path().join("keys");
    let mut keys = pooled::command("ssh-agent");
    let mut keys = keys.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().expect("there is one");
    wait_for("the agent with the keys", PATIENCE, || socket.exists());
    let added =
        run(pooled::command("ssh-add").arg(sshd.identity_file()).env("SSH_AUTH_SOCK", &socket), PATIENCE);
    assert_eq!(added.code(), 0, "{}", added.stderr);
    let asked =
        |words: &[&str]| run(ssh_of(&home, &sshd, None, words).env("SSH_AUTH_SOCK", &socket), PATIENCE);
    let without = asked(&["lab", "ssh-add -l"]);
    for words in [["-A", "lab", "ssh-add -l"], ["-oForwardAgent=yes", "lab", "ssh-add -l"]] {
        let ended = asked(&words);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains("(ED25519)"), "{ended:?}");
    }
    assert_ne!(without.code(), 0, "{without:?}");
    // One for those that forward it, one for the others.
    assert_eq!(sshd.logins(), 2);
    let _ = keys.kill();
    let _ = keys.wait();
}

#[test]
fn the_words_behind_ssh_are_not_ours() {
    let home = Home::new();
    let fake = script(SHOW);
    let ended = home.run(["ssh"]);
    assert!(ended.stderr.starts_with("usage: ssh ["), "{}", ended.stderr);
    let mut command = home.command(["--no-agent", "-v", "ssh", "--help", "--json", "--no-agent"]);
    assert_eq!(shown(command.env("PATH", path_with(&[fake.path()]))), ["--help", "--json", "--no-agent"]);
    let help = home.run(["help", "ssh"]);
    assert!(help.stdout.contains("GIT_SSH_COMMAND"), "{}", help.stdout);
}
