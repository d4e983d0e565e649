//! `sshpool ssh`, also by the name `ssh`: what is passed on is what was given, commands share a
//! login, and where they cannot it is plain ssh.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

use crate::lab::agents::Home;
use crate::lab::common::process::{self, Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for;
use crate::lab::pooled::{self, PATIENCE, send};

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
    process::make_program(&path, text);
    directory
}

/// `PATH` with these directories before all others.
fn path_with(directories: &[&Path]) -> OsString {
    let path = process::path();
    let directories = directories.iter().map(|directory| directory.to_path_buf());
    std::env::join_paths(directories.chain(std::env::split_paths(&path)))
        .expect("no path has a colon")
}

pub fn real_ssh() -> PathBuf {
    which::which_in("ssh", Some(process::path()), "/").expect("there is an ssh")
}

/// `sshpool ssh -F CONFIG WORDS`, or `ssh` that is a link to it.
pub fn ssh_of(home: &Home, sshd: &Sshd, by_name: Option<&Path>, words: &[&str]) -> Command {
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
    // The agent logs in by the caller's ssh, too: for it this one is the real one.
    let words = "case $1$2 in -V*|-M*|-G*|-Fnone|*ForkAfterAuthentication=no) exec /usr/bin/ssh \"$@\";; esac\n";
    let fake = script(&SHOW.replacen("for word", &format!("{words}for word"), 1));
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut warm = home.on(&sshd, &["warm", "lab"]);
    assert_eq!(run(warm.env("PATH", path_with(&[fake.path()])), PATIENCE).code(), 0);
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
    for words in [
        &["lab", "cat"] as &[_],
        &["-o", "ControlMaster=auto", "-oControlPath=/x/%C", "lab", "-T", "cat"],
    ] {
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
        // What is typed is shown, too, and the shell's prompt; but no line that is typed ends like
        // an answer.
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
    let resized = run(
        pooled::command("stty").args(["-F", tty.trim(), "rows", "40", "cols", "100"]),
        PATIENCE,
    );
    assert_eq!(resized.code(), 0, "{}", resized.stderr);
    // The trap runs when the shell has read a line that comes behind the change.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                stdin.write_all(b"\n").expect("it reads");
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let changed = until("40 100");
        is_over.store(true, Ordering::Relaxed);
        changed.expect("a change of the size is passed on");
    });
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
#[case::no_master_of_a_path(&["-o", "ControlPath=\"/nowhere/a b\"", "-O", "check", "lab"])]
#[case::nothing_to_stop(&["-O", "stop", "-oControlPath=/nowhere/x", "lab"])]
#[case::two_questions(&["-O", "check", "-O", "stop", "lab"])]
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
    let words: Vec<_> =
        words.iter().map(|word| word.replace("CONFIG-WITHOUT-KEY", without_key)).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let plain = home
        .in_its_place(pooled::command(real_ssh()), ["-F"])
        .arg(sshd.ssh_config())
        .args(&words)
        .output();
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
    std::fs::set_permissions(open.join("sshpool"), PermissionsExt::from_mode(0o755))
        .expect("it is ours");
    for (words, expected) in [
        (&["lab", "echo hi"] as &[_], None),
        (&["-v", "lab", "echo hi"], Some("is open to others")),
    ] {
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
    let ended = run(
        ssh_of(&home, &sshd, None, &["lab", "echo hi"]).env("PATH", path_with(&[late.path()])),
        PATIENCE,
    );
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
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it can be started");
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
    let copies =
        [tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory")];
    for copy in &copies {
        process::copy_program(env!("CARGO_BIN_EXE_sshpool").as_ref(), &copy.path().join("ssh"));
    }
    let path = path_with(&[link.path(), copies[0].path(), copies[1].path(), link.path()]);
    for first in [link.path(), copies[0].path(), copies[1].path()] {
        let ended = run(
            ssh_of(&home, &sshd, Some(first), &["lab", "echo hi"]).env("PATH", &path),
            PATIENCE,
        );
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "hi\n", ""));
    }
    assert_eq!(sshd.logins(), 1);
    let alone =
        run(ssh_of(&home, &sshd, Some(link.path()), &["-V"]).env("PATH", link.path()), PATIENCE);
    assert!(alone.stderr.starts_with("OpenSSH_"), "{}", alone.stderr);
    // Nor is it what the agent runs.
    let own = PathBuf::from(env!("CARGO_BIN_EXE_sshpool")).canonicalize().expect("it is there");
    for (pid, name) in home.processes().iter().filter(|(_, name)| name == "ssh") {
        assert_ne!(
            std::fs::read_link(format!("/proc/{pid}/exe")).ok(),
            Some(own.clone()),
            "{name}"
        );
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
        let ended =
            ssh(&home, &sshd, &[&words as &[_], &["-o", "BatchMode=yes", "lab", "true"]].concat());
        assert_eq!(ended.code(), 255, "{words:?}");
        assert!(
            ended.stderr.contains("nobody-here@127.0.0.1: Permission denied"),
            "{}",
            ended.stderr
        );
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
    let mut keys =
        keys.arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().expect("there is one");
    wait_for("the agent with the keys", PATIENCE, || socket.exists());
    let added = run(
        pooled::command("ssh-add").arg(sshd.identity_file()).env("SSH_AUTH_SOCK", &socket),
        PATIENCE,
    );
    assert_eq!(added.code(), 0, "{}", added.stderr);
    let asked = |words: &[&str]| {
        run(ssh_of(&home, &sshd, None, words).env("SSH_AUTH_SOCK", &socket), PATIENCE)
    };
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
    assert_eq!(
        shown(command.env("PATH", path_with(&[fake.path()]))),
        ["--help", "--json", "--no-agent"]
    );
    let help = home.run(["help", "ssh"]);
    assert!(help.stdout.contains("GIT_SSH_COMMAND"), "{}", help.stdout);
}

/// Plain ssh with these words, in the same place.
#[track_caller]
fn plain(home: &Home, sshd: &Sshd, words: &[&str]) -> Ended {
    let mut command = home.in_its_place(pooled::command(real_ssh()), ["-F"]);
    run(command.arg(sshd.ssh_config()).args(words), PATIENCE)
}

/// What does not depend on the time or on a temporary name.
fn seen(ended: &Ended) -> (i32, &str, &str) {
    (ended.code(), &ended.stdout, &ended.stderr)
}

/// `-F` of this program goes with the words that are left to ssh, whatever they are.
#[rstest]
#[case::unknown(&["-Z", "lab", "echo hi"])]
#[case::version_one(&["-1", "lab", "echo hi"])]
#[case::tag_or_nothing(&["-P", "lab", "echo hi"])]
#[case::version(&["-V"])]
#[case::ciphers(&["-Q", "cipher"])]
#[case::resolved(&["-G", "lab"])]
#[case::resolved_with_a_letter(&["-vG", "-P", "lab"])]
#[case::forward(&["-O", "forward", "-L", "1:a:2", "lab"])]
#[case::cancel(&["-O", "cancel", "lab"])]
#[case::no_value(&["lab", "-o"])]
#[case::bad_port(&["-p", "x", "lab", "true"])]
#[case::bad_name(&["--", "-lab", "true"])]
#[case::odd_name(&["l+ab", "true"])]
#[case::alone(&["-S", "none", "lab", "echo hi"])]
fn e1_what_is_left_to_ssh_has_the_configuration(#[case] words: &[&str]) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    // A configuration of the user's own is not to be what decides.
    let expected = plain(&home, &sshd, words);
    let ours = home.run_on(&sshd, &[&["ssh"], words].concat());
    if !words.contains(&"-vG") {
        assert_eq!(seen(&ours), seen(&expected), "{words:?}");
    }
    assert_eq!((ours.code(), &ours.stdout), (expected.code(), &expected.stdout), "{words:?}");
}

#[test]
fn e1_without_an_agent_it_has_the_configuration_too() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let ended = home.run_on(&sshd, &["--no-agent", "ssh", "lab", "echo hi"]);
    assert_eq!(seen(&ended), (0, "hi\n", ""));
    // Open to others, so that no agent is used.
    let open = home.path().join("open");
    std::fs::create_dir_all(open.join("sshpool")).expect("a directory");
    std::fs::set_permissions(open.join("sshpool"), PermissionsExt::from_mode(0o755))
        .expect("it is ours");
    let ended =
        run(home.on(&sshd, &["ssh", "lab", "echo hi"]).env("XDG_RUNTIME_DIR", &open), PATIENCE);
    assert_eq!(seen(&ended), (0, "hi\n", ""));
    // One that does not answer.
    let silent = home.path().join("silent");
    std::fs::create_dir_all(silent.join("sshpool")).expect("a directory");
    for directory in [silent.clone(), silent.join("sshpool")] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).expect("it is ours");
    }
    let _listener = std::os::unix::net::UnixListener::bind(silent.join("sshpool/agent.sock"))
        .expect("a socket");
    let mut command = home.on(&sshd, &["ssh", "-o", "ConnectTimeout=4", "lab", "echo hi"]);
    let ended = run(command.env("XDG_RUNTIME_DIR", &silent), PATIENCE);
    assert_eq!(seen(&ended), (0, "hi\n", ""));
    // The last `-F` counts, as with ssh.
    let mut command = home.command(["-F", "none", "ssh", "-Z", "-F"]);
    let ended = run(command.arg(sshd.ssh_config()).arg("lab"), PATIENCE);
    assert_eq!(ended.code(), 255);
    assert_eq!(sshd.logins(), 3);
}

/// The host of a line that is not understood keeps what the TOML file says of it.
#[test]
fn e1_what_is_left_to_ssh_has_the_address_of_the_toml_file() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.config(&format!(
        "[hosts.web1]\naddress = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\nidentity_file = \"{}\"\nssh_config = \"none\"\n\
         [hosts.web1.options]\nUserKnownHostsFile = \"{}\"\n",
        sshd.port(),
        sshd.user(),
        sshd.identity_file().display(),
        sshd.known_hosts().display()
    ));
    // Whether -P has a value is for this version of ssh to say.
    let asked =
        run(pooled::command(real_ssh()).args(["-G", "-F", "none", "-P", "x", "y"]), PATIENCE);
    let letter: &[&str] = if asked.stdout.contains("host x\n") { &["-P"] } else { &["-P", "x"] };
    for words in
        [&[letter, &["web1", "echo hi"]].concat()[..], &[&["web1"], letter, &["echo hi"]].concat()]
    {
        let ended = home.run([&["ssh"], words].concat());
        assert_eq!(seen(&ended), (0, "hi\n", ""), "{words:?}");
    }
    // What the caller says goes over it.
    let ended = home.run([&["ssh"], letter, &["-p", "1", "web1", "true"]].concat());
    assert!(ended.stderr.contains("port 1: Connection refused"), "{}", ended.stderr);
    home.config("");
}

/// Over the connection that is there, whatever was said of what makes no difference to it.
#[test]
fn e2_e7_what_makes_no_difference_shares_the_connection() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(home.run_on(&sshd, &["warm", "lab"]).code(), 0);
    let user = format!("{}@lab", sshd.user());
    for words in [
        &["-2"] as &[&str],
        &["-2", "-x", "-a", "-oConnectTimeout=10"],
        &["-x", "-a", "-oClearAllForwardings=yes", "-2"],
        &["-q", "-T", "-n", "-C", "-y", "-g", "-e", "none"],
        &["-o", "Protocol=2"],
        &["-o", "FingerprintHash=md5"],
        &["-o", "IgnoreUnknown=UseKeychain", "-o", "UseKeychain=yes"],
        &["-o", "IgnoreUnknown *", "-o", "UseKeychain yes"],
        &["-o", "ControlPath=\"/nowhere/a b/%C\""],
        &["-o", "AddKeysToAgent=yes", "-o", "UpdateHostKeys=no", "-o", "VisualHostKey=no"],
        &["-o", "EnableSSHKeysign=no", "-o", "StreamLocalBindUnlink=yes", "-o", "TCPKeepAlive=yes"],
    ] {
        let words = [words, &["lab", "echo hi"]].concat();
        assert_eq!(seen(&ssh(&home, &sshd, &words)), (0, "hi\n", ""), "{words:?}");
        assert_eq!(seen(&plain(&home, &sshd, &words)), (0, "hi\n", ""), "{words:?}");
    }
    assert_eq!(sshd.logins(), 1 + 11, "plain ssh has logged in each time, and the pool once");
    // Part of what a connection is shared by: a login for all who say the same.
    for words in [
        &["-4", "lab", "echo hi"] as &[&str],
        &["-k", "lab", "echo hi"],
        &["-o", "KnownHostsCommand=none", "lab", "echo hi"],
        &["-o", "HashKnownHosts=no", "lab", "echo hi"],
        &[&user, "echo hi"],
    ] {
        let before = sshd.logins();
        for _ in 0..3 {
            assert_eq!(seen(&ssh(&home, &sshd, words)), (0, "hi\n", ""), "{words:?}");
        }
        assert_eq!(sshd.logins(), before + 1, "{words:?}");
    }
}

/// A relative path is the caller's.
#[test]
fn e7_files_of_the_callers_directory_share_a_connection() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    std::fs::copy(sshd.known_hosts(), home.path().join("work/known")).expect("a file");
    let words =
        ["-o", "UserKnownHostsFile=known", "-o", "StrictHostKeyChecking=yes", "lab", "echo hi"];
    for _ in 0..2 {
        assert_eq!(seen(&ssh(&home, &sshd, &words)), (0, "hi\n", ""));
    }
    assert_eq!(sshd.logins(), 1);
    std::fs::write(home.path().join("work/other"), "").expect("a file");
    let words =
        ["-o", "UserKnownHostsFile=other", "-o", "StrictHostKeyChecking=yes", "lab", "echo hi"];
    let ended = ssh(&home, &sshd, &words);
    assert_eq!(ended.code(), 255);
    assert!(ended.stderr.contains("Host key verification failed"), "{}", ended.stderr);
}

/// What the configuration has that ssh does not know, `IgnoreUnknown` passes over, for the agent's
/// ssh too.
#[test]
fn e7_ignore_unknown_reaches_the_agent_where_the_configuration_needs_it() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let config = home.path().join("work/config");
    let text = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    std::fs::write(&config, format!("NoSuchThing yes\n{text}")).expect("a file");
    let words = |ignore: &'static str| ["ssh", "-F", "config", "-o", ignore, "lab", "echo hi"];
    for _ in 0..2 {
        assert_eq!(seen(&home.run(words("IgnoreUnknown=NoSuch*"))), (0, "hi\n", ""));
    }
    assert_eq!(sshd.logins(), 1);
    let ended = home.run(words("IgnoreUnknown=Other"));
    assert_eq!(ended.code(), 255);
    assert!(ended.stderr.contains("Bad configuration option: nosuchthing"), "{}", ended.stderr);
}

#[test]
fn e7_a_style_behind_the_user_shares_a_connection() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let user = format!("{}:style", sshd.user());
    for words in
        [vec![format!("{user}@lab")], vec!["-l".to_owned(), user.clone(), "lab".to_owned()]]
    {
        let words: Vec<_> = words.iter().map(String::as_str).chain(["echo hi"]).collect();
        assert_eq!(seen(&ssh(&home, &sshd, &words)), (0, "hi\n", ""), "{words:?}");
        assert_eq!(seen(&plain(&home, &sshd, &words)), (0, "hi\n", ""), "{words:?}");
    }
    assert_eq!(sshd.logins(), 1 + 2);
}

/// A process that has written a number, and the rest of what it writes.
fn begun(mut command: Command) -> (Child, u32) {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it can be started");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it is text");
    (child, line.trim().parse().expect("a process id"))
}

/// A signal that ends ssh ends the remote command, as with exec, where there is no terminal.
#[rstest]
#[case::interrupt(Signal::SIGINT, "echo $$; exec sleep 600")]
#[case::terminate(Signal::SIGTERM, "echo $$; sleep 600")]
#[case::hang_up(Signal::SIGHUP, "echo $$; sleep 600 | cat; true")]
#[case::stubborn(Signal::SIGINT, "trap '' TERM INT; echo $$; while :; do sleep 600; done")]
#[case::lines(Signal::SIGTERM, "echo $$\nsleep 600\ntrue")]
#[case::expanded(Signal::SIGINT, "echo $$; n=60; exec sleep ${n}0")]
fn e6_a_signal_ends_the_remote_command(#[case] signal: Signal, #[case] text: &str) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let (mut child, pid) = begun(ssh_of(&home, &sshd, None, &["lab", text]));
    assert!(sshd.is_alive(pid));
    send(child.id(), signal);
    // As ssh says it.
    assert_eq!(child.wait().expect("it ends").code(), Some(255));
    wait_for("the end of the remote command", PATIENCE, || !sshd.is_alive(pid));
    wait_for("the agent to know", PATIENCE, || home.status()["connections"][0]["sessions"] == 0);
    assert_eq!(sshd.logins(), 1);
}

/// Of two of the same, the other one goes on; and so does what exec runs.
#[test]
fn e6_the_commands_of_others_go_on() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let text = "echo $$; sleep 600";
    let (mut first, one) = begun(ssh_of(&home, &sshd, None, &["lab", text]));
    let (mut second, two) = begun(ssh_of(&home, &sshd, None, &["lab", text]));
    let (mut third, three) = begun(home.on(&sshd, &["exec", "--timeout", "0", "lab", "--", text]));
    send(second.id(), Signal::SIGTERM);
    assert_eq!(second.wait().expect("it ends").code(), Some(255));
    wait_for("the end of the second one", PATIENCE, || !sshd.is_alive(two));
    assert!(sshd.is_alive(one) && sshd.is_alive(three));
    for (child, pid) in [(&mut first, one), (&mut third, three)] {
        send(child.id(), Signal::SIGTERM);
        child.wait().expect("it ends");
        wait_for("the end of the others", PATIENCE, || !sshd.is_alive(pid));
    }
    assert_eq!(sshd.logins(), 1);
}

/// A shell that reads its commands.
#[test]
fn e6_a_shell_without_a_terminal_is_ended_too() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut child = ssh_of(&home, &sshd, None, &["-T", "lab"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"echo p''id $$\nsleep 600\n").expect("it reads");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let pid =
        lines.find_map(|line| line.expect("it is text").strip_prefix("pid ").map(str::to_owned));
    let pid = pid.expect("a shell answers").parse().expect("a process id");
    send(child.id(), Signal::SIGINT);
    assert_eq!(child.wait().expect("it ends").code(), Some(255));
    wait_for("the end of the shell", PATIENCE, || !sshd.is_alive(pid));
}

/// ssh closes what it inherits, and whoever waits for its end does not wait for us.
#[test]
fn e6_descriptors_that_were_inherited_are_closed() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(home.run_on(&sshd, &["warm", "lab"]).code(), 0);
    let text = format!(
        "{{ {} -F {} ssh -n lab 'sleep 600' 3>&1 >/dev/null 2>&1 & echo $!; }} | cat",
        env!("CARGO_BIN_EXE_sshpool"),
        sshd.ssh_config().display()
    );
    // It ends when nobody holds the pipe any more.
    let ended = run(&mut home.in_its_place(pooled::command("sh"), ["-c", &text]), PATIENCE);
    let pid: u32 = ended.stdout.trim().parse().expect("a process id");
    send(pid, Signal::SIGTERM);
    wait_for("the end of the session", PATIENCE, || {
        home.status()["connections"][0]["sessions"] == 0
    });
}

/// A forced command does not run once more only because it is to be ended.
#[test]
fn e6_a_forced_command_is_not_asked_to_end_itself() {
    let sshd = Sshd::builder()
        .option(
            "ForceCommand",
            "echo ran >>$HOME/ran; [ \"$SSH_ORIGINAL_COMMAND\" != anything ] || exec sleep 600",
        )
        .start();
    let home = Home::new();
    assert_eq!(home.run_on(&sshd, &["warm", "lab"]).code(), 0);
    let runs = || sshd.exec("cat ran 2>/dev/null || true").stdout.lines().count();
    let before = runs();
    let mut command = ssh_of(&home, &sshd, None, &["-n", "lab", "anything"]);
    let mut child = command.spawn().expect("it can be started");
    wait_for("the command to run", PATIENCE, || runs() > before);
    send(child.id(), Signal::SIGTERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(255));
    assert_eq!(runs(), before + 1);
}

/// A server that opens one session on a connection: nobody hears of it but as with plain ssh.
#[test]
fn e5_where_the_server_opens_one_session_it_is_quiet() {
    let sshd = Sshd::builder().option("MaxSessions", "1").start();
    let home = Home::new();
    for number in 0..4 {
        let text = format!("echo {number}; echo err >&2; exit {number}");
        let ended = ssh(&home, &sshd, &["lab", &text]);
        assert_eq!(seen(&ended), seen(&plain(&home, &sshd, &["lab", &text])));
    }
    // While another one has the session.
    let (mut child, _) = begun(ssh_of(&home, &sshd, None, &["lab", "echo $$; sleep 600"]));
    let ended = ssh(&home, &sshd, &["lab", "echo hi"]);
    assert_eq!(seen(&ended), (0, "hi\n", ""));
    send(child.id(), Signal::SIGTERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(255));
    // The log of ssh is the caller's where the caller names one.
    let log = home.path().join("work/log");
    let ended = ssh(&home, &sshd, &["-E", log.to_str().expect("it is UTF-8"), "lab", "echo hi"]);
    assert_eq!(seen(&ended), (0, "hi\n", ""));
}

/// What ssh itself has to say comes out, and in the same way.
#[test]
fn e5_what_ssh_says_is_passed_on() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(home.run_on(&sshd, &["warm", "lab"]).code(), 0);
    for words in [
        &["-o", "BatchMode=maybe", "lab", "true"] as &[&str],
        &["-o", "LogLevel=none", "lab", "true"],
        &["-t", "lab", "echo hi"],
        &["lab", "nosuchcommand"],
    ] {
        assert_eq!(seen(&ssh(&home, &sshd, words)), seen(&plain(&home, &sshd, words)), "{words:?}");
    }
    let told = ssh(&home, &sshd, &["-v", "lab", "echo hi"]);
    assert!(told.stderr.contains("debug1: "), "{}", told.stderr);
    let left: Vec<_> =
        walk(&home.runtime()).into_iter().filter(|name| name.contains("said-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn walk(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        found.push(entry.path().display().to_string());
        found.extend(walk(&entry.path()));
    }
    found
}

/// `-O` is answered for the connections that the next command would use.
#[rstest]
#[case::alone(&[])]
#[case::quoted(&["-o", "ControlPath=\"/nowhere/a b/%C\""])]
#[case::plain(&["-oControlPath=/nowhere/x", "-o", "ControlMaster=auto", "-o", "ControlPersist=60s"])]
fn e3_questions_to_the_master_are_for_the_pool(#[case] more: &[&str]) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let asked = |what: &str| ssh(&home, &sshd, &[more, &["-O", what, "lab"]].concat());
    // Without a connection it is ssh that says so; no agent is started for it.
    let none = plain(&home, &sshd, &[more, &["-O", "check", "lab"]].concat());
    assert_eq!(seen(&asked("check")), seen(&none));
    assert_eq!(none.code(), 255);
    assert!(!home.socket().exists());

    let command = |text: &str| ssh(&home, &sshd, &[more, &["lab", text]].concat());
    let master = || home.status()["connections"][0]["pid"].as_u64().expect("it has one");
    assert_eq!(seen(&command("echo hi")), (0, "hi\n", ""));
    let first = master();
    let checked = asked("check");
    assert_eq!(seen(&checked), (0, "", &*format!("Master running (pid={first})\r\n")));
    // Somebody else's command.
    let (mut child, pid) = begun(home.on(&sshd, &["exec", "lab", "--", "echo $$; sleep 600"]));
    for (what, says, logins) in
        [("stop", "Stop listening request sent.\r\n", 2), ("exit", "Exit request sent.\r\n", 3)]
    {
        assert_eq!(seen(&asked(what)), (0, "", says));
        assert_eq!(seen(&command("echo anew")), (0, "anew\n", ""));
        assert_eq!(sshd.logins(), logins, "after {what}");
        assert!(sshd.is_alive(pid), "after {what}");
    }
    let checked = asked("check");
    assert!(
        checked.code() == 0 && !checked.stderr.contains(&format!("={first})")),
        "{}",
        checked.stderr
    );
    send(child.id(), Signal::SIGTERM);
    child.wait().expect("it ends");
}

/// The connections of others are nobody's business.
#[test]
fn e3_questions_are_for_the_callers_own_connection() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(ssh(&home, &sshd, &["lab", "true"]).code(), 0);
    for words in [
        &["-l", "nobody-here", "-O", "check", "lab"] as &[&str],
        &["-p", "1", "-O", "check", "lab"],
        &["-o", "ControlPath=none", "-O", "check", "lab"],
        &["-S", "/nowhere/x", "-O", "check", "lab"],
        &["-O", "forward", "-L", "1:a:2", "lab"],
    ] {
        let ours = ssh(&home, &sshd, words);
        assert_eq!(seen(&ours), seen(&plain(&home, &sshd, words)), "{words:?}");
        assert_eq!(ours.code(), 255);
    }
    assert_eq!(ssh(&home, &sshd, &["-O", "check", "lab"]).code(), 0);
}
