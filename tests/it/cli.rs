//! The program, as a user meets it: output, exit statuses, one-line errors.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rstest::rstest;
use tempfile::TempDir;

use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{self, wait_for};
use crate::lab::pooled::{self, PATIENCE, processes_with};

/// The program in an environment of its own: no settings, no configuration file, a private
/// directory for sockets.
struct Program {
    home: TempDir,
}

impl Program {
    fn new() -> Self {
        Program { home: tempfile::tempdir().expect("a directory") }
    }

    fn config(&self, text: &str) {
        let directory = self.home.path().join("sshpool");
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("config.toml"), text).expect("a file");
    }

    fn command<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
        command
            .args(args)
            .env("XDG_CONFIG_HOME", self.home.path())
            .env("XDG_RUNTIME_DIR", self.home.path());
        command
    }

    #[track_caller]
    fn run<S: AsRef<std::ffi::OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        run(&mut self.command(args), PATIENCE)
    }

    /// `sshpool -F CONFIG exec …`
    #[track_caller]
    fn exec(&self, sshd: &Sshd, args: &[&str]) -> Ended {
        run(&mut self.exec_command(sshd, args), PATIENCE)
    }

    fn exec_command(&self, sshd: &Sshd, args: &[&str]) -> Command {
        let mut command = self.command([Path::new("-F"), &sshd.ssh_config(), Path::new("exec")]);
        command.args(args);
        command
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(processes_with(&self.home.path().to_string_lossy()), [""; 0]);
        let left = std::fs::read_dir(self.home.path()).expect("it is ours").flatten();
        let left: Vec<_> =
            left.map(|file| file.file_name()).filter(|name| name != "sshpool").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[track_caller]
fn assert_is(ended: &Ended, code: i32, stdout: &str, stderr: &str) {
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (code, stdout, stderr));
}

#[rstest]
#[case(&["lab", "--", "echo out; echo err >&2; exit 7"], 7, "out\n", "err\n")]
#[case(&["lab", "echo", "a  b"], 0, "a b\n", "")]
#[case(&["lab", "echo", "-n", "x"], 0, "x", "")]
#[case(&["lab", "--", "exit 255"], 255, "", "")]
#[case(&["lab", "--", "kill -9 $$"], 255, "", "sshpool: lab: command ended without a status (a signal killed it, or the server tells none)\n")]
#[case(&["--timeout", "500ms", "lab", "sleep", "300"], 124, "", "sshpool: lab: command timed out after 500ms (--timeout, or command_timeout in the settings)\n")]
#[case(&["--max-output", "5", "lab", "--", "echo 1234567"], 255, "12345", "sshpool: lab: command wrote more than 5 bytes to stdout\n")]
#[case(&["lab", "--", "cat"], 0, "", "")]
fn exec_is_as_the_command_was(
    #[case] args: &[&str],
    #[case] code: i32,
    #[case] stdout: &str,
    #[case] stderr: &str,
) {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    assert_is(&program.exec(&sshd, args), code, stdout, stderr);
    program.assert_nothing_is_left();
}

#[test]
fn json_is_one_object() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let ended = program.exec(&sshd, &["--json", "lab", "--", "echo out; echo err >&2; exit 7"]);
    assert_eq!((ended.code(), &*ended.stderr), (7, ""));
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!(value["host"], "lab");
    assert_eq!(value["exit_code"], 7);
    assert_eq!(value["error"], serde_json::Value::Null);
    assert_eq!((&value["stdout"], &value["stderr"]), (&"out\n".into(), &"err\n".into()));
    assert!(value["elapsed_ms"].is_u64());

    let ended =
        program.exec(&sshd, &["--json", "--timeout", "1s", "lab", "--", "echo out; sleep 300"]);
    assert_eq!(ended.code(), 124);
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!(
        (&value["exit_code"], &value["stdout"]),
        (&serde_json::Value::Null, &"out\n".into())
    );
    assert_eq!(
        value["error"],
        "command timed out after 1s (--timeout, or command_timeout in the settings)"
    );

    let ended = program.exec(&sshd, &["--json", "--max-output", "5", "lab", "--", "echo 1234567"]);
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!((ended.code(), &value["stdout"]), (255, &"12345".into()));
    let expected =
        "command wrote more than 5 bytes to stdout (--max-output, or max_output in the settings)";
    assert_eq!(value["error"], expected);

    let ended = program.exec(&sshd, &["--json", "lab", "--", "printf 'a\\377b'"]);
    let value: serde_json::Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!(value["stdout"], "a\u{fffd}b");
    program.assert_nothing_is_left();
}

#[test]
fn stdin_goes_through_when_asked() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let input = "0123456789\n".repeat(50_000);
    for args in [&["--stdin", "lab", "cat"][..], &["--stdin", "--json", "lab", "cat"]] {
        let mut child = program
            .exec_command(&sshd, args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let feed = std::thread::spawn({
            let input = input.clone();
            move || stdin.write_all(input.as_bytes())
        });
        let mut output = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut output).expect("text");
        feed.join().expect("no panic").expect("it reads");
        assert!(child.wait().expect("it is our child").success());
        let echo = match serde_json::from_str::<serde_json::Value>(&output) {
            Ok(value) => value["stdout"].as_str().expect("text").to_owned(),
            Err(_) => output,
        };
        assert!(echo == input);
    }
}

#[test]
fn an_open_stdin_does_not_keep_the_program() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut child = program
        .exec_command(&sshd, &["--stdin", "lab", "--", "exit 3"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it starts");
    let _stdin = child.stdin.take();
    let end = std::time::Instant::now() + PATIENCE;
    let status = common::process::wait_until(&mut child, end).expect("it ends");
    assert_eq!(status.code(), Some(3));
}

#[test]
fn output_comes_as_it_is_written() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut child = program
        .exec_command(&sshd, &["--stdin", "lab", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (mut stdin, mut stdout) =
        (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    for word in [b"one\n", b"two\n"] {
        stdin.write_all(word).expect("it reads");
        let mut echo = [0; 4];
        stdout.read_exact(&mut echo).expect("it answers before the input ends");
        assert_eq!(&echo, word);
    }
    drop(stdin);
    assert!(child.wait().expect("it is our child").success());
}

#[test]
fn a_reader_that_goes_away_ends_the_program_quietly() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut child = program
        .exec_command(&sshd, &["lab", "yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 2]).expect("it writes");
    drop(stdout);
    let output = child.wait_with_output().expect("it is our child");
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(141), ""));
    program.assert_nothing_is_left();
}

#[rstest]
#[case(nix::sys::signal::Signal::SIGINT)]
#[case(nix::sys::signal::Signal::SIGTERM)]
fn a_signal_ends_it_as_signals_do_and_leaves_nothing(#[case] signal: nix::sys::signal::Signal) {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut child = program
        .exec_command(&sshd, &["lab", "--", "echo here; sleep 300"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdout = child.stdout.take().expect("a pipe");
    stdout.read_exact(&mut [0; 5]).expect("it runs");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, signal).expect("it is our child");
    let output = child.wait_with_output().expect("it is our child");
    assert_eq!(output.status.signal(), Some(signal as i32), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "nobody else has ended the command");
    program.assert_nothing_is_left();
}

#[test]
fn a_program_that_is_killed_leaves_nothing() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut child = program
        .exec_command(&sshd, &["lab", "--", "echo here; sleep 300"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdout.take().expect("a pipe").read_exact(&mut [0; 5]).expect("it runs");
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    let place = program.home.path().to_string_lossy().into_owned();
    wait_for("the end of all", Duration::from_secs(2), || {
        processes_with(&place).is_empty()
            && std::fs::read_dir(&place).expect("it is ours").next().is_none()
    });
}

/// One line on stderr, nothing on stdout, and no process that acts on it: the pool's directory is
/// made before the first one.
#[rstest]
#[case::option_as_name(&["exec", "--", "-oProxyCommand=touch pwned", "true"], "sshpool: invalid host name \"-oProxyCommand=touch pwned\": it must not start with \"-\"")]
#[case::user_with_semicolon(&["exec", "a;b@web1", "true"], "sshpool: invalid user \"a;b\": it must not contain ';'")]
#[case::port_0(&["exec", "web1:0", "true"], "sshpool: invalid port \"0\": expected a number from 1 to 65535")]
#[case::port_70000(&["exec", "web1:70000", "true"], "sshpool: invalid port \"70000\": expected a number from 1 to 65535")]
#[case::no_such_file(&["--config", "/nonexistent.toml", "exec", "web1", "true"], "sshpool: cannot read /nonexistent.toml: No such file or directory")]
fn bad_input_is_one_clear_line(#[case] args: &[&str], #[case] message: &str) {
    let program = Program::new();
    let ended = program.run(args);
    assert_eq!((ended.code(), &*ended.stdout), (2, ""), "{}", ended.stderr);
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    program.assert_nothing_is_left();
}

/// `.invalid` is never resolved (RFC 6761).
#[rstest]
#[case::in_no_file("", true)]
#[case::in_a_file_with_an_address("[hosts.\"web1.invalid\"]\naddress = \"other.invalid\"\n", false)]
fn a_name_that_is_in_no_file_is_told_so(#[case] config: &str, #[case] told: bool) {
    let program = Program::new();
    program.config(config);
    let ended = program.run(["-F", "none", "exec", "web1.invalid", "true"]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (255, 1), "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("sshpool: web1.invalid: cannot connect: name not resolved: "),
        "{}",
        ended.stderr
    );
    let advice = " (neither [hosts] of the TOML file nor the ssh_config has an address for \"web1.invalid\")\n";
    assert_eq!(ended.stderr.ends_with(advice), told, "{}", ended.stderr);
}

#[test]
fn options_behind_any_other_action_of_compose_are_told_their_place() {
    let ended = Program::new().run(["compose", "web1", "top", "--timeout", "1s", "shop"]);
    let message = "sshpool: top takes its project first, and options such as --file and --timeout stand before the host: \
                   sshpool compose [OPTION]… HOST top PROJECT [ARGUMENT]…\n";
    assert_is(&ended, 2, "", message);
}

#[rstest]
#[case::unknown_key(
    "[pool]\nmax_conections = 3\n",
    "config.toml:2: unknown key \"max_conections\" in [pool]"
)]
#[case::bad_value(
    "[pool]\nidle_timeout = 60\n",
    "config.toml:2: pool.idle_timeout: 60 is not valid"
)]
#[case::bad_host("[hosts.web1]\nuser = \"a;b\"\n", "config.toml:2: hosts.web1")]
#[case::bad_syntax("[pool\n", "config.toml:1: ")]
fn a_bad_configuration_is_named_by_file_line_and_key(#[case] text: &str, #[case] message: &str) {
    let program = Program::new();
    program.config(text);
    let ended = program.run(["exec", "web1", "true"]);
    assert_eq!(ended.code(), 2, "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("sshpool: ") && ended.stderr.contains(message),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    program.assert_nothing_is_left();
}

#[test]
fn a_bad_environment_variable_is_named_with_its_value() {
    let program = Program::new();
    let mut command = program.command(["exec", "web1", "true"]);
    let ended = run(command.env("SSH_POOL_MAX_CONNECTIONS", "many"), PATIENCE);
    assert_is(
        &ended,
        2,
        "",
        "sshpool: environment variable SSH_POOL_MAX_CONNECTIONS: \"many\" is not valid: expected a whole number from 1 to 1000\n",
    );
    program.assert_nothing_is_left();
}

#[test]
fn an_unknown_environment_variable_is_named_with_the_one_that_was_meant() {
    let program = Program::new();
    let mut command = program.command(["exec", "web1", "true"]);
    let ended = run(command.env("SSH_POOL_CONNECT_TIMEOUT_MS", "5000"), PATIENCE);
    assert_is(
        &ended,
        2,
        "",
        "sshpool: unknown environment variable \"SSH_POOL_CONNECT_TIMEOUT_MS\": did you mean \"SSH_POOL_CONNECTION_TIMEOUT_MS\"?\n",
    );
    program.assert_nothing_is_left();
}

#[rstest]
#[case::host(&["web1", "true"], "did you mean \"sshpool exec web1 …\"?")]
#[case::no_host(&["cmd", "web1"], "did you mean \"sshpool exec HOST COMMAND…\"?")]
#[case::volumes(&["compose", "web1", "down", "shop", "-v"], "to remove volumes write -o=--volumes")]
#[case::host_forgotten(&["compose", "ls", "web1"], "the host comes first: sshpool compose HOST ls")]
#[case::near(&["exce", "web1", "true"], "'exec'")]
#[case::timeout(&["exec", "--timeout", "1m30s", "web1", "true"], "write one number and one unit (ms, s, m or h), such as \"90s\"")]
#[case::max_output(&["exec", "--max-output", "0", "web1", "true"], "the least is 1B")]
fn usage_errors_say_what_was_meant(#[case] args: &[&str], #[case] advice: &str) {
    let ended = Program::new().run(args);
    assert_eq!((ended.code(), &*ended.stdout), (2, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(advice), "{}", ended.stderr);
    let tips = ended.stderr.matches("tip: ").count();
    assert!(tips <= 1, "{}", ended.stderr);
}

#[test]
fn usage_errors_have_status_2() {
    let program = Program::new();
    for args in [
        &["exec", "web1"][..],
        &["no-such-command"],
        &["exec", "--timeout", "soon", "web1", "true"],
        &[],
    ] {
        let ended = program.run(args);
        assert_eq!((ended.code(), &*ended.stdout), (2, ""), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn no_ssh_on_path_is_said_in_one_line() {
    let program = Program::new();
    let mut command = program.command(["exec", "web1", "true"]);
    let ended = run(command.env("PATH", program.home.path()), PATIENCE);
    assert_is(
        &ended,
        255,
        "",
        "sshpool: web1: no ssh program found in PATH: install the OpenSSH client (Debian: openssh-client)\n",
    );
}

#[test]
fn a_missing_identity_file_is_named_before_anything_is_started() {
    let program = Program::new();
    program.config(
        "[hosts.web1]\naddress = \"127.0.0.1\"\nport = 1\nidentity_file = \"/nonexistent/key\"\n",
    );
    let ended = program.run(["exec", "web1", "true"]);
    assert_is(
        &ended,
        255,
        "",
        "sshpool: web1: cannot connect: bad identity file: /nonexistent/key: No such file or directory\n",
    );
    program.assert_nothing_is_left();
}

#[test]
fn a_bad_option_is_found_by_ssh_and_is_no_wrong_usage() {
    let program = Program::new();
    program.config(
        "[hosts.web1]\naddress = \"127.0.0.1\"\nport = 1\n[hosts.web1.options]\nNoSuchOption = \"x\"\n",
    );
    let ended = program.run(["exec", "web1", "true"]);
    assert_eq!((ended.code(), &*ended.stdout), (255, ""), "{}", ended.stderr);
    let message = "sshpool: web1: cannot connect: bad ssh configuration: ";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    program.assert_nothing_is_left();
}

#[rstest]
#[case::runtime_directory("XDG_RUNTIME_DIR", 0)]
#[case::directory_for_temporary_files("TMPDIR", 255)]
fn only_a_runtime_directory_that_is_missing_has_another_in_its_place(
    #[case] name: &str,
    #[case] code: i32,
) {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut command = program.exec_command(&sshd, &["lab", "true"]);
    let ended = run(command.env_remove("XDG_RUNTIME_DIR").env(name, "/proc/nonexistent"), PATIENCE);
    assert_eq!(ended.code(), code, "{}", ended.stderr);
    let message = "sshpool: lab: cannot connect: local failure: no directory for control sockets below /proc/nonexistent: ";
    assert_eq!(ended.stderr.starts_with(message), code == 255, "{}", ended.stderr);
}

#[test]
fn a_path_that_is_too_long_for_a_socket_is_refused_before_the_login() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let long = program.home.path().join("d".repeat(100));
    std::fs::create_dir(&long).expect("a directory");
    let mut command = program.exec_command(&sshd, &["lab", "true"]);
    let ended = run(command.env("XDG_RUNTIME_DIR", &long), PATIENCE);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (255, 1), "{}", ended.stderr);
    let message =
        "sshpool: lab: cannot connect: local failure: the path for control sockets would be ";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("set XDG_RUNTIME_DIR or TMPDIR to a shorter directory"),
        "{}",
        ended.stderr
    );
    assert_eq!(sshd.logins(), 0);
}

#[test]
fn a_host_of_the_configuration_file_is_found_by_its_name() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    program.config(&format!(
        "[pool]\ncommand_timeout = \"1s\"\n[hosts.box]\naddress = \"127.0.0.1\"\nport = {}\nuser = {:?}\nidentity_file = {:?}\n\
         ssh_config = \"none\"\n[hosts.box.options]\nUserKnownHostsFile = {:?}\nHostKeyAlias = \"box\"\n",
        sshd.port(),
        sshd.user(),
        sshd.identity_file(),
        program.home.path().join("sshpool/known_hosts"),
    ));
    assert_is(&program.run(["exec", "box", "echo", "here"]), 0, "here\n", "");
    let ended = program.run(["exec", "box", "sleep", "300"]);
    assert_is(
        &ended,
        124,
        "",
        "sshpool: box: command timed out after 1s (--timeout, or command_timeout in the settings)\n",
    );
}

#[test]
fn a_user_and_a_port_are_put_over_those_of_the_configuration_file() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    // What is not said again, the key and the options for instance, is still that of the file.
    program.config(&format!(
        "[hosts.box]\naddress = \"127.0.0.1\"\nport = 1\nuser = \"nobody-there\"\nidentity_file = {:?}\nssh_config = \"none\"\n\
         [hosts.box.options]\nUserKnownHostsFile = {:?}\nHostKeyAlias = \"box\"\n",
        sshd.identity_file(),
        program.home.path().join("sshpool/known_hosts"),
    ));
    let (user, port) = (sshd.user(), sshd.port());
    assert_is(
        &program.run(["exec", &format!("{user}@box:{port}"), "echo", "here"]),
        0,
        "here\n",
        "",
    );
    let ended = program.run(["exec", &format!("box:{port}"), "true"]);
    let message = "sshpool: box: cannot connect: authentication failed: nobody-there@127.0.0.1: ";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    let ended = program.run(["exec", &format!("{user}@box"), "true"]);
    let message =
        "sshpool: box: cannot connect: connection refused: connect to host 127.0.0.1 port 1: ";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    program.assert_nothing_is_left();
}

#[test]
fn verbose_logs_what_the_pool_does() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let config = sshd.ssh_config();
    let quiet = program.exec(&sshd, &["lab", "true"]);
    assert_eq!(quiet.stderr, "");
    let verbose = program.run([
        Path::new("-v"),
        Path::new("-F"),
        &config,
        Path::new("exec"),
        Path::new("lab"),
        Path::new("true"),
    ]);
    assert!(verbose.stderr.contains("connected"), "{}", verbose.stderr);
}

/// What is to be read may never be.
#[test]
fn a_reader_that_does_not_read_holds_up_neither_a_timeout_nor_a_signal() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut child = program
        .exec_command(&sshd, &["--timeout", "1s", "lab", "yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let end = std::time::Instant::now() + PATIENCE;
    assert_eq!(common::process::wait_until(&mut child, end).expect("it ends").code(), Some(124));

    let mut child = program
        .exec_command(&sshd, &["--json", "lab", "--", "head -c 300000 /dev/zero"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It is ready to be read, and more of it than a pipe holds.
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 1]).expect("it begins");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is our child");
    let status = common::process::wait_until(&mut child, end).expect("it ends");
    assert_eq!(status.signal(), Some(15));
    program.assert_nothing_is_left();
}

#[test]
fn streams_that_were_left_non_blocking_lose_nothing() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("a flag can be set");
    let feed = std::thread::spawn(move || {
        for _ in 0..20 {
            writer.write_all(&[b'x'; 1000]).expect("somebody reads");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let mut command = program.exec_command(&sshd, &["--stdin", "lab", "wc -c"]);
    let output =
        command.stdin(reader.try_clone().expect("a descriptor")).output().expect("it runs");
    feed.join().expect("no panic");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "20000");
    let flags =
        OFlag::from_bits_retain(fcntl(&reader, FcntlArg::F_GETFL).expect("a flag can be read"));
    assert!(flags.contains(OFlag::O_NONBLOCK), "it is left as it was");
}

#[rstest]
#[case::full(
    "exec lab -- 'echo hi' >/dev/full",
    255,
    "sshpool: lab: the command's stdout cannot be written: No space left on device\n"
)]
#[case::json_full(
    "exec --json lab -- 'echo hi' >/dev/full",
    255,
    "sshpool: cannot write to stdout: No space left on device\n"
)]
#[case::no_input("exec --stdin lab -- cat </", 2, "sshpool: cannot read stdin: Is a directory\n")]
fn streams_that_do_not_work_are_told(#[case] line: &str, #[case] code: i32, #[case] stderr: &str) {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut shell = pooled::command("sh");
    let line = format!("{:?} -F {:?} {line}", env!("CARGO_BIN_EXE_sshpool"), sshd.ssh_config());
    shell.args(["-c", &line]).env("XDG_CONFIG_HOME", program.home.path());
    assert_is(&run(&mut shell, PATIENCE), code, "", stderr);
}

/// As under nohup, and in the background of a script.
#[test]
fn a_signal_that_is_ignored_from_the_start_stays_ignored() {
    let (sshd, program) = (Sshd::builder().start(), Program::new());
    let mut shell = pooled::command("sh");
    let words = ["-c", "trap '' INT; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sshpool"), "-F"];
    shell.args(words).arg(sshd.ssh_config()).args([
        "exec",
        "lab",
        "--",
        "echo on; sleep 1; exit 3",
    ]);
    let mut child = shell
        .env("XDG_CONFIG_HOME", program.home.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 3]).expect("it runs");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it is our child");
    assert_eq!(child.wait().expect("it is our child").code(), Some(3));
}

#[test]
fn an_argument_that_is_not_text_is_wrong_usage() {
    use std::os::unix::ffi::OsStrExt;
    let program = Program::new();
    for words in [
        &[&b"exec"[..], b"--bogus", b"\xff"][..],
        &[b"compose", b"web1", b"up", b"shop", b"--build"],
    ] {
        let ended = program.run(words.iter().map(|word| std::ffi::OsStr::from_bytes(word)));
        assert_eq!((ended.code(), &*ended.stdout), (2, ""), "{}", ended.stderr);
        let is_compose = words[0] == b"compose";
        assert_eq!(ended.stderr.contains("--option=--build"), is_compose, "{}", ended.stderr);
    }
}
