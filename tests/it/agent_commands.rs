//! Commands over the agent are as without it: statuses, bytes, signals, and whose settings, keys
//! and files count.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::{Value, json};

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, run, wait_until};
use crate::lab::common::sshd::{Image, Sshd};
use crate::lab::common::wait_for;
use crate::lab::pooled::{PATIENCE, command, send};

fn shown(ended: &Ended) -> (i32, &str, &str) {
    (ended.code(), &ended.stdout, &ended.stderr)
}

/// Runs it with the agent, twice, and without, and compares.
#[track_caller]
fn same(home: &Home, sshd: &Sshd, args: &[&str]) -> Ended {
    let alone = home.run_on(sshd, &[&["--no-agent"], args].concat());
    for time in ["cold", "warm"] {
        let shared = home.run_on(sshd, args);
        let (code, stdout, stderr) = shown(&shared);
        // A failure that is remembered says so, and the pool of a single command has nothing to
        // remember.
        let stderr = match (stderr.find(" (tried "), stderr.find(" tries now)")) {
            (Some(from), Some(to)) => {
                stderr[..from].to_owned() + &stderr[to + " tries now)".len()..]
            }
            _ => stderr.to_owned(),
        };
        assert_eq!((code, stdout, &*stderr), shown(&alone), "{args:?}, {time}");
    }
    alone
}

#[rstest]
#[case::success(&["exec", "lab", "--", "echo out; echo err >&2"], 0)]
#[case::status(&["exec", "lab", "--", "exit 3"], 3)]
#[case::the_status_of_ssh_itself(&["exec", "lab", "--", "exit 255"], 255)]
#[case::a_signal(&["exec", "lab", "--", "kill -9 $$"], 255)]
#[case::a_timeout(&["exec", "--timeout", "500ms", "lab", "--", "echo begun; sleep 300"], 124)]
#[case::too_much(&["exec", "--max-output", "5", "lab", "--", "echo 1234567"], 255)]
#[case::no_bytes(&["exec", "lab", "true"], 0)]
#[case::not_found(&["exec", "lab", "nosuchprogram"], 127)]
#[case::nobody_listens(&["exec", "127.99.99.99:1", "true"], 255)]
#[case::no_such_host(&["exec", "nosuchhost.invalid", "true"], 255)]
#[case::nul(&["exec", "lab", "--", "printf 'a\\0b'"], 0)]
#[case::a_long_command(&["exec", "lab", "--", "true", LONG], 0)]
fn statuses_and_texts_are_the_same(#[case] args: &[&str], #[case] code: i32) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(same(&home, &sshd, args).code(), code);
}

/// Longer than what fits into an argument beside others.
const LONG: &str = match std::str::from_utf8(&[b'x'; 100_000]) {
    Ok(text) => text,
    Err(_) => panic!("it is text"),
};

#[test]
fn json_reports_are_the_same() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    for (args, code) in [
        (&["--json", "lab", "--", "echo out; echo err >&2; exit 7"][..], 7),
        (&["--json", "--timeout", "1s", "lab", "--", "echo out; sleep 300"], 124),
        (&["--json", "--max-output", "5", "lab", "--", "echo 1234567; sleep 300"], 255),
        (&["--json", "lab", "--", "kill -9 $$"], 255),
        (&["--json", "127.99.99.99:1", "--", "true"], 255),
    ] {
        let report = |more: &[&str]| {
            let ended = home.run_on(&sshd, &[more, &["exec"], args].concat());
            let mut report: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
            assert_eq!((ended.code(), &*ended.stderr), (code, ""), "{args:?}");
            report["elapsed_ms"].take();
            report
        };
        assert_eq!(report(&[]), report(&["--no-agent"]), "{args:?}");
    }
}

#[test]
fn a_key_that_is_refused_is_told_the_same() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let key = home.path().join("other");
    let made = run(
        command("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key),
        PATIENCE,
    );
    assert_eq!(made.code(), 0);
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let right = format!("{}", sshd.identity_file().display());
    let file = home.path().join("wrong");
    std::fs::write(&file, config.replace(&right, &key.display().to_string())).expect("a file");
    let exec = |more: &[&str]| {
        let mut command = home.command(more);
        command.arg("-F").arg(&file).args(["exec", "lab", "true"]);
        run(&mut command, PATIENCE)
    };
    let (shared, alone) = (exec(&[]), exec(&["--no-agent"]));
    assert_eq!(shown(&shared), shown(&alone));
    assert!(
        alone.code() == 255 && alone.stderr.contains("authentication failed"),
        "{}",
        alone.stderr
    );
    assert_eq!(sshd.logins(), 0);
}

/// Bytes of every value, with what could be taken for frames and for ends of lines.
fn bytes(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..count).map(next).collect()
}

#[rstest]
#[case::as_it_comes(&["exec", "--stdin", "lab", "--", "tee /dev/stderr"])]
#[case::at_the_end(&["exec", "--stdin", "--json", "lab", "--", "base64; echo >&2"])]
fn megabytes_go_both_ways_as_they_are(#[case] args: &[&str]) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let input = bytes(5 << 20);
    let mut child = home
        .on(&sshd, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("it was piped");
    let feed = std::thread::spawn({
        let input = input.clone();
        move || stdin.write_all(&input)
    });
    let output = child.wait_with_output().expect("it ends");
    feed.join().expect("no panic").expect("it reads");
    assert_eq!(output.status.code(), Some(0));
    if args.contains(&"--json") {
        use base64::Engine;
        let report: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let text: String = report["stdout"].as_str().expect("text").split_whitespace().collect();
        assert!(base64::engine::general_purpose::STANDARD.decode(text).expect("base64") == input);
    } else {
        assert!(output.stdout == input && output.stderr == input);
    }
}

/// However a client goes, and whatever its command does then, the command is ended.
#[rstest]
#[case::interrupt(Some(Signal::SIGINT), "sleep 300")]
#[case::term(Some(Signal::SIGTERM), "sleep 300")]
#[case::kill(Some(Signal::SIGKILL), "sleep 300")]
#[case::kill_while_it_writes(Some(Signal::SIGKILL), "yes")]
#[case::closed_pipe(None, "yes")]
fn a_client_that_goes_away_has_its_command_ended(
    #[case] signal: Option<Signal>,
    #[case] what: &str,
) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    // It never reads what it is given: that is in everybody's way.
    for stdin in [false, true] {
        let input: &[&str] = if stdin { &["--stdin"] } else { &[] };
        let text = format!("echo $$; {what}");
        let mut client =
            home.on(&sshd, &[&["exec", "--timeout", "0"], input, &["lab", "--", &text]].concat());
        let zeros = std::fs::File::open("/dev/zero").expect("there is one");
        client.stdin(if stdin { Stdio::from(zeros) } else { Stdio::null() });
        let mut client = client.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdout = client.stdout.take().expect("it was piped");
        let pid = line(&mut stdout).parse().expect("a pid");
        if stdin {
            // Until everything between is full.
            wait_for("input that nobody takes", PATIENCE, || is_stuck(client.id()));
        }
        match signal {
            Some(signal) => send(client.id(), signal),
            None => drop(stdout),
        }
        let status = wait_until(&mut client, Instant::now() + PATIENCE).expect("it ends");
        if signal.is_none() {
            assert_eq!(status.code(), Some(141));
        }
        wait_for("the end of the remote command", PATIENCE, || !sshd.is_alive(pid));
        wait_for("an agent that knows", PATIENCE, || home.status()["agent"]["commands"] == 0);
    }
    assert_eq!(sshd.logins(), 1, "the connection is as good as before");
}

fn line(from: &mut impl Read) -> String {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        from.read_exact(&mut byte).expect("a line comes to its end");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text").trim().to_owned()
}

/// What it has read does not change any more.
fn is_stuck(pid: u32) -> bool {
    let read = || {
        let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        io.lines()
            .find_map(|line| line.strip_prefix("rchar: ")?.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let before = read();
    std::thread::sleep(Duration::from_millis(200));
    before > 100_000 && read() == before
}

#[test]
fn a_slow_reader_slows_its_own_command_only() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let pid = home.pid();
    let resident = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says so");
        kib.trim().trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    let host = json!({"name": "lab", "ssh_config": sshd.ssh_config()});
    let slow: Vec<_> = (0..4)
        .map(|_| {
            let count = "head -c 1000000000 /dev/zero | tee -a ~/written";
            let mut frames = home.frames(&json!({"host": host, "command": count, "timeout_ms": 0}));
            assert_eq!(frames.next(), Some((4, vec![])));
            frames
        })
        .collect();
    let written =
        || sshd.exec("stat -c %s written").stdout.trim().parse::<u64>().expect("a number");
    let mut last = 0;
    wait_for("commands that wait for their readers", PATIENCE, || {
        let before = std::mem::replace(&mut last, written());
        std::thread::sleep(Duration::from_millis(300));
        last > 0 && last == before
    });
    assert!(last < 64 << 20, "{last} bytes are on their way");
    let big = home.exec(&sshd, "head -c 20000000 /dev/zero");
    assert_eq!(big.len(), 20_000_000, "others are not slowed");
    assert_eq!(written(), last);
    assert!(resident() < 100 * 1024, "{} KiB are used", resident());
    for mut frames in slow {
        // It goes on where it was.
        let mut read = 0;
        while read < 3_000_000 {
            let (kind, bytes) = frames.next().expect("there is more");
            assert_eq!(kind, 1);
            read += bytes.len();
        }
    }
    wait_for("an agent that knows of their ends", PATIENCE, || {
        home.status()["agent"]["commands"] == 0
    });
}

#[test]
fn compose_and_resources_go_over_the_agent() {
    let server = Sshd::builder().image(Image::Compose).docker_socket();
    let (Some(sshd), home) = (server.start_or_skip(), Home::new()) else { return };
    let json = |args: &[&str]| {
        let ended = home.run_on(&sshd, args);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{args:?}");
        serde_json::from_str::<Value>(&ended.stdout).expect("it is JSON")
    };
    let resources = json(&["resources", "--json", "lab"]);
    assert!(resources.to_string().contains("hostname"), "{resources}");
    json(&["compose", "lab", "ls", "--json"]);
    same(&home, &sshd, &["compose", "lab", "ps", "nosuchproject"]);
    // One without the agent.
    assert_eq!(sshd.logins(), 2);
    home.assert_programs(1);
}

/// The agent was started by a client that has no key of its own, and the next one has.
#[test]
fn the_keys_of_the_client_count() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let kept =
        config.lines().filter(|line| !line.contains("Identit")).collect::<Vec<_>>().join("\n");
    let file = home.path().join("keyless");
    std::fs::write(&file, format!("{kept}\n    IdentityFile none\n")).expect("a file");
    let exec = |socket: Option<&OsStr>| {
        let mut exec = home.command([OsStr::new("-F"), file.as_os_str()]);
        exec.args(["exec", "lab", "echo", "in"]);
        if let Some(socket) = socket {
            exec.env("SSH_AUTH_SOCK", socket);
        }
        run(&mut exec, PATIENCE)
    };
    let refused = exec(None);
    assert!(
        refused.code() == 255 && refused.stderr.contains("authentication failed"),
        "{}",
        refused.stderr
    );

    let socket = home.path().join("keys");
    let mut keys = command("ssh-agent");
    let mut keys =
        keys.args(["-D", "-a"]).arg(&socket).stdout(Stdio::null()).spawn().expect("there is one");
    wait_for("an ssh-agent", PATIENCE, || socket.exists());
    let mut add = command("ssh-add");
    let added =
        run(add.arg("-q").arg(sshd.identity_file()).env("SSH_AUTH_SOCK", &socket), PATIENCE);
    assert_eq!(added.code(), 0, "{}", added.stderr);
    let logged_in = exec(Some(socket.as_os_str()));
    assert_eq!(shown(&logged_in), (0, "in\n", ""));
    let refused = exec(None);
    assert_eq!(refused.code(), 255, "a connection is for those with the same keys");
    assert_eq!(shown(&exec(Some(socket.as_os_str()))), (0, "in\n", ""));
    assert_eq!(sshd.logins(), 1);
    keys.kill().and_then(|()| keys.wait()).expect("it is ours");
}

#[test]
fn the_settings_of_the_client_count() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let with = |command: &mut Command| {
        for (name, value) in [
            ("MAX_CONNECTIONS", "1"),
            ("SESSIONS_PER_CONNECTION", "1"),
            ("ACQUIRE_TIMEOUT_MS", "0"),
        ] {
            command.env(format!("SSH_POOL_{name}"), value);
        }
    };
    let mut first = home.on(&sshd, &["exec", "--stdin", "lab", "--", "echo begun; cat"]);
    with(&mut first);
    let mut first = first.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    assert_eq!(line(first.stdout.as_mut().expect("it was piped")), "begun");
    let mut second = home.on(&sshd, &["exec", "lab", "true"]);
    with(&mut second);
    let second = run(&mut second, PATIENCE);
    let told = "sshpool: lab: Connection pool exhausted for lab:22 (max: 1)\n";
    assert_eq!(shown(&second), (255, "", told));
    assert_eq!(home.exec(&sshd, "echo others"), "others\n");
    assert_eq!(sshd.logins(), 2);
    // The agent, and the first client.
    home.assert_programs(2);
    drop(first.stdin.take());
    assert_eq!(first.wait().expect("it ends").code(), Some(0));
    let mut wrong = home.on(&sshd, &["exec", "lab", "true"]);
    wrong.env("SSH_POOL_MAX_CONNECTIONS", "0");
    assert_eq!(run(&mut wrong, PATIENCE).code(), 2);
}

/// What is relative is so for the client, wherever and as whoever the agent was started.
#[test]
fn relative_paths_and_homes_are_those_of_the_client() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let other = home.path().join("other");
    std::fs::create_dir_all(other.join(".config")).expect("a directory");
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let keyless =
        config.lines().filter(|line| !line.contains("IdentityFile")).collect::<Vec<_>>().join("\n");
    std::fs::write(other.join("ssh_config"), keyless).expect("a file");
    std::fs::copy(sshd.identity_file(), other.join("key")).expect("a file");
    std::fs::set_permissions(
        other.join("key"),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )
    .expect("ours");
    let toml = |key: &str| format!("[hosts.lab]\nidentity_file = \"{key}\"\n");
    std::fs::write(other.join("here.toml"), toml("key")).expect("a file");
    std::fs::write(other.join("home.toml"), toml("~/key")).expect("a file");
    for file in ["here.toml", "home.toml"] {
        let mut exec =
            home.command(["-F", "ssh_config", "--config", file, "exec", "lab", "echo", file]);
        let ended = run(exec.current_dir(&other).env("HOME", &other), PATIENCE);
        assert_eq!(shown(&ended), (0, &*format!("{file}\n"), ""), "{file}");
    }
    assert_eq!(sshd.logins(), 2, "the two files name the same key");
    home.assert_programs(1);
}

#[test]
fn two_files_are_two_sets_of_hosts_over_one_agent() {
    let home = Home::new();
    let servers =
        [Sshd::builder().env("WHO", "first").start(), Sshd::builder().env("WHO", "second").start()];
    let files = [home.path().join("first.toml"), home.path().join("second.toml")];
    for (sshd, file) in servers.iter().zip(&files) {
        let config = sshd.ssh_config();
        let text = format!(
            "[hosts.web1]\nssh_config = \"{}\"\naddress = \"127.0.0.1\"\nport = {}\nuser = \"{}\"\nidentity_file = \"{}\"\n",
            config.display(),
            sshd.port(),
            sshd.user(),
            sshd.identity_file().display()
        );
        let known = format!(
            "[hosts.web1.options]\nUserKnownHostsFile = \"{}\"\n",
            sshd.known_hosts().display()
        );
        std::fs::write(file, text + &known).expect("a file");
    }
    for _ in 0..2 {
        for (file, name) in files.iter().zip(["first", "second"]) {
            let mut exec = home.command([OsStr::new("--config"), file.as_os_str()]);
            let ended = run(exec.args(["exec", "web1", "echo $WHO"]), PATIENCE);
            assert_eq!(shown(&ended), (0, &*format!("{name}\n"), ""));
        }
    }
    assert_eq!(servers.each_ref().map(Sshd::logins), [1, 1]);
    home.assert_programs(1);
}

#[test]
fn what_is_counted_is_what_was_done() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    for number in 0..5 {
        home.exec(&sshd, &format!("exit $(({number} * 0))"));
    }
    assert_eq!(
        home.run_on(&sshd, &["exec", "--timeout", "500ms", "lab", "sleep", "300"]).code(),
        124
    );
    let stats = home.get("/v1/stats").json();
    let total = &stats["total"];
    assert_eq!(stats["hosts"]["lab:22"], *total, "there is one host");
    let counted = |name: &str| total[name].as_u64().unwrap_or_else(|| panic!("{name} is a number"));
    assert_eq!(
        [counted("commands_run"), counted("commands_timed_out"), counted("connects")],
        [6, 1, 1]
    );
    assert_eq!([counted("pool_misses"), counted("failed_connects"), counted("waiting")], [1, 0, 0]);
    assert!(counted("pool_hits") >= 5);
    assert_eq!(counted("active_connections") + counted("idle_connections"), 1);
    let metrics = home.run(["metrics"]);
    assert_eq!(metrics.code(), 0);
    for line in [
        "# TYPE sshpool_commands_run_total counter",
        "sshpool_commands_run_total{host=\"lab:22\"} 6",
        "sshpool_agent_commands_run_total 6",
        "# TYPE sshpool_connections gauge",
        "sshpool_agent_connections 1",
        "sshpool_agent_commands 0",
        "sshpool_agent_clients 1",
    ] {
        assert!(metrics.stdout.lines().any(|found| found == line), "{line}\n{}", metrics.stdout);
    }
    // What a pool has counted that is gone stays.
    assert_eq!(home.run(["close", "--all"]).code(), 0);
    wait_for("a pool that was let go", PATIENCE, || home.count("sh") == 0);
    let after = home.get("/v1/stats").json();
    assert_eq!(
        (&after["total"]["commands_run"], &after["hosts"]["lab:22"]["commands_run"]),
        (&json!(6), &json!(6))
    );
    assert_eq!(after["total"]["total_connections"], 0);
    home.exec(&sshd, "true");
    assert_eq!(home.get("/v1/stats").json()["total"]["commands_run"], 7);
}

#[test]
fn ranges_and_groups_are_warmed_and_closed() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.config("[groups]\nall = \"lab\"\n");
    let warmed = home.run_on(&sshd, &["warm", "@all,lab"]);
    assert!(warmed.stdout.starts_with("lab: connected in "), "{}{}", warmed.stdout, warmed.stderr);
    assert_eq!((warmed.stdout.lines().count(), sshd.logins()), (1, 1));
    assert_eq!(
        shown(&home.run_on(&sshd, &["close", "la[1-2]b", "@all"])),
        (0, "1 connection closed\n", "")
    );
    for (words, told) in [
        (["warm", "@al"], "unknown group \"al\""),
        (["warm", ","], "invalid host name \",\""),
        (["warm", ""], "invalid host name \"\""),
        (["close", "lab[1-"], "lab[1-"),
    ] {
        let ended = home.run_on(&sshd, &words);
        assert_eq!(ended.code(), 2, "{words:?}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(told) && ended.stderr.lines().count() == 1,
            "{}",
            ended.stderr
        );
    }
}

/// How the agent is told to end.
#[derive(Clone, Copy, Debug)]
enum Stop {
    By(&'static [&'static str]),
    Signal(Signal),
}

/// Nobody but the agent has killed the command, and whoever waits for it is told so: in each form,
/// whatever the command makes of its signal.
#[rstest]
#[case::with_patience(Stop::By(&["agent", "stop"]), &["exec", "--timeout", "0"])]
#[case::at_once(Stop::By(&["agent", "stop", "--now"]), &["exec", "--timeout", "0"])]
#[case::collected(Stop::By(&["agent", "stop", "--now"]), &["exec", "--json", "--timeout", "0"])]
#[case::with_input(Stop::By(&["agent", "stop", "--now"]), &["exec", "--stdin", "--timeout", "0"])]
#[case::many_hosts(Stop::By(&["agent", "stop", "--now"]), &["run", "--timeout", "0", "-w"])]
#[case::term(Stop::Signal(Signal::SIGTERM), &["exec", "--timeout", "0"])]
#[case::interrupt(Stop::Signal(Signal::SIGINT), &["run", "--timeout", "0", "-w"])]
fn c5_who_waits_for_a_command_is_told_that_the_agent_was_stopped(
    #[case] stop: Stop,
    #[case] how: &[&str],
) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let text = "echo $$ >~/pid; sleep 300";
    let mut client = home.on(&sshd, &[how, &["lab", "--", text]].concat());
    client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut client = client.spawn().expect("it starts");
    let input = client.stdin.take();
    wait_for("the command", PATIENCE, || sshd.exec("test -s pid").code() == 0);
    let pid = sshd.exec("cat pid").stdout.trim().parse().expect("a pid");
    match stop {
        Stop::By(args) => assert_eq!(home.run(args).code(), 0),
        Stop::Signal(signal) => send(home.pid(), signal),
    }
    let output = client.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr]
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .concat();
    assert!(
        said.contains("connection lost while the command ran: the agent was stopped"),
        "{said}"
    );
    assert!(!said.contains("signal"), "{said}");
    assert_eq!(output.status.code(), Some(255), "{said}");
    drop(input);
    assert!(!sshd.is_alive(pid), "it was ended");
}

/// The same for clients of the socket, and for one who only closes the connections of a host.
#[test]
fn c5_the_socket_says_why_a_command_was_lost() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let host = json!({"name": "lab", "ssh_config": sshd.ssh_config()});
    let frames = |text: &str| {
        let mut frames = home.frames(&json!({"host": host, "command": text, "timeout_ms": 0}));
        assert_eq!(frames.next(), Some((4, vec![])));
        frames
    };
    let mut closed = frames("sleep 300");
    assert_eq!(home.run_on(&sshd, &["close", "--now", "lab"]).code(), 0);
    let (.., end) = closed.rest();
    assert_eq!(
        (&end["error"]["kind"], &end["error"]["reason"]),
        (&json!("lost"), &json!("the pool closed the connection"))
    );
    let (mut stopped, mut own) = (frames("sleep 300"), frames("kill -s KILL $$"));
    let (.., end) = own.rest();
    assert_eq!(end, json!({"exit_code": null}), "that was its own signal");
    assert_eq!(home.run(["agent", "stop", "--now"]).code(), 0);
    let (.., end) = stopped.rest();
    let error = &end["error"];
    assert_eq!(
        (&error["kind"], &error["reason"], &error["never_started"]),
        (&json!("lost"), &json!("the agent was stopped"), &json!(false))
    );
}
