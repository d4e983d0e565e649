//! The agent's life: it is started once, shared by all, and leaves nothing, however it goes. No
//! command is lost over that, and none runs twice.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::json;

use crate::lab::agents::{Answer, Home, read_head, request};
use crate::lab::common::process::{run, wait_until};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{self, wait_for};
use crate::lab::pooled::{self, PATIENCE, command, is_alive, send};

/// An agent in the foreground, which does not end with the first client.
fn in_the_foreground(home: &Home, args: &[&str]) -> Child {
    let child = home.command(["agent"].iter().chain(args)).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    home.wait_for_the_agent();
    child
}

#[track_caller]
fn ended(child: &mut Child) -> std::process::ExitStatus {
    wait_until(child, Instant::now() + PATIENCE).expect("it ends")
}

#[test]
fn two_processes_in_a_row_make_one_login() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(home.exec(&sshd, "echo one"), "one\n");
    let pid = home.pid();
    assert_eq!(home.exec(&sshd, "echo two"), "two\n");
    assert_eq!((sshd.logins(), home.pid()), (1, pid));
    home.assert_programs(1);
    assert!(home.count("ssh") > 0, "its connection");
}

#[test]
fn ten_at_once_on_a_cold_host_make_one_login_and_start_one_agent() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let begin = |_| {
        let mut command = home.on(&sshd, &["exec", "lab", "--", "echo $PPID"]);
        command.env("SSH_POOL_SESSIONS_PER_CONNECTION", "10").env("SSH_POOL_STANDBY_SESSIONS", "0");
        command.stdout(Stdio::piped()).spawn().expect("it starts")
    };
    let all: Vec<_> = (0..10).map(begin).collect();
    for child in all {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success());
    }
    assert_eq!(sshd.logins(), 1);
    home.assert_programs(1);
    let log = std::fs::read_to_string(home.place().join("agent.log")).expect("there is a log");
    assert_eq!(log.matches("listening").count(), 1, "{log}");
}

#[rstest]
#[case::by_the_file(true)]
#[case::by_the_flag(false)]
fn the_connection_goes_after_its_idle_time_and_the_agent_after_its_own(#[case] file: bool) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let (connection, agent) = (Duration::from_secs(2), Duration::from_secs(3));
    home.config(if file {
        "[pool]\nidle_timeout = \"2s\"\n[agent]\nidle_timeout = \"3s\"\n"
    } else {
        ""
    });
    let mut foreground = (!file).then(|| in_the_foreground(&home, &["--idle-timeout", "3s"]));
    let exec = |command: &str| {
        let mut exec = home.on(&sshd, &["exec", "lab", command]);
        if !file {
            exec.env("SSH_POOL_IDLE_TIMEOUT_MS", "2000");
        }
        assert_eq!(common::process::run(&mut exec, PATIENCE).code(), 0);
    };
    exec("true");
    let used = Instant::now();
    exec("true");
    let pid = home.pid();
    wait_for("the end of the connection", PATIENCE, || home.count("ssh") == 0);
    assert!(used.elapsed() >= connection, "the last use counts");
    assert_eq!((sshd.logins(), home.pid()), (1, pid), "the agent goes on");
    let asked = Instant::now();
    wait_for("the end of the agent", PATIENCE, || !is_alive(pid));
    // It looks twenty times in its idle time.
    assert!(asked.elapsed() >= agent * 9 / 10, "a client that asks is a use");
    assert!(!home.socket().exists());
    if let Some(agent) = &mut foreground {
        assert_eq!(ended(agent).code(), Some(0));
    }
    home.assert_nothing_is_left();
    exec("true");
    assert_eq!(sshd.logins(), 2);
}

#[rstest]
#[case(&["close", "--all"])]
#[case(&["close", "lab"])]
#[case(&["close", "--all", "--now"])]
fn what_is_closed_leaves_no_ssh_process(#[case] close: &[&str]) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    wait_for("a session in standby", PATIENCE, || home.count("ssh") > 1);
    let closed = home.run_on(&sshd, close);
    assert_eq!(home.count("ssh"), 0);
    assert_eq!((closed.code(), &*closed.stdout, &*closed.stderr), (0, "1 connection closed\n", ""));
    let closed = home.run_on(&sshd, close);
    assert_eq!((closed.code(), &*closed.stdout), (0, "0 connections closed\n"));
    assert_eq!(home.exec(&sshd, "echo again"), "again\n");
}

#[test]
fn an_agent_that_is_killed_leaves_nothing_and_the_next_command_works() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let mut running = home.on(&sshd, &["exec", "lab", "--", "echo begun; sleep 300"]);
    let mut running =
        running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    running.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it begins");
    let pid = home.pid();
    pooled::kill(pid);
    let output = running.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(255));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(told, "sshpool: lab: connection lost while the command ran: the agent has ended\n");
    wait_for("the end of all that it had", Duration::from_secs(2), || home.processes().is_empty());
    assert!(home.socket().exists(), "it had no time for that");
    let status = home.run(["status"]);
    assert_eq!((status.code(), &*status.stdout), (0, "no agent runs\n"));
    assert_eq!(home.exec(&sshd, "echo again"), "again\n");
    assert_ne!(home.pid(), pid);
}

/// Commands in a row while the agent is told to leave again and again, or leaves whenever nobody is
/// there.
#[rstest]
#[case::told(true)]
#[case::idle(false)]
fn no_command_is_lost_or_run_twice_while_agents_leave(#[case] told: bool) {
    const EACH: usize = 12;
    let (sshd, home) = (Sshd::builder().max_startups("100").start(), Home::new());
    if !told {
        home.config(
            "[pool]\nidle_timeout = \"1ms\"\nstandby_sessions = 0\n[agent]\nidle_timeout = \"1ms\"\n",
        );
    }
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let agents = scope.spawn(|| {
            let mut stopped = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                if told {
                    let stop = home.run(["agent", "stop"]);
                    assert_eq!(stop.code(), 0, "{}", stop.stderr);
                    stopped += usize::from(stop.stderr.is_empty());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            stopped
        });
        let lanes: Vec<_> = (0..3)
            .map(|lane| {
                let (home, sshd) = (&home, &sshd);
                scope.spawn(move || {
                    for number in 0..EACH {
                        let ran = home.run_on(
                            sshd,
                            &["exec", "lab", "--", &format!("echo {lane}-{number} >>~/ran")],
                        );
                        assert_eq!((ran.code(), &*ran.stderr), (0, ""), "{lane}-{number}");
                        // All of them have a moment in which nothing runs.
                        std::thread::sleep(Duration::from_millis(30));
                    }
                })
            })
            .collect();
        let lanes: Vec<_> = lanes.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        let stopped = agents.join().expect("no panic");
        assert!(lanes.iter().all(Result::is_ok), "a command failed");
        assert!(!told || stopped > 1, "{stopped} agents left meanwhile");
    });
    let ran = sshd.exec("sort ran").stdout;
    let ran: Vec<_> = ran.lines().collect();
    assert_eq!(ran.len(), ran.iter().collect::<BTreeSet<_>>().len(), "twice: {ran:?}");
    assert_eq!(ran.len(), 3 * EACH, "{ran:?}");
    if !told {
        wait_for("the end of the last agent", PATIENCE, || home.processes().is_empty());
        assert!(sshd.logins() > 1, "agents came and went");
    }
}

#[rstest]
#[case::stop(&["agent", "stop"], None, true)]
#[case::stop_now(&["agent", "stop", "--now"], None, false)]
#[case::term(&[], Some(Signal::SIGTERM), false)]
#[case::interrupt(&[], Some(Signal::SIGINT), false)]
#[case::hangup(&[], Some(Signal::SIGHUP), false)]
fn what_runs_when_the_agent_is_told_to_end(
    #[case] args: &[&str],
    #[case] signal: Option<Signal>,
    #[case] finishes: bool,
) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut agent = in_the_foreground(&home, &[]);
    let wait = "echo begun; until [ -e ~/go ]; do sleep 0.05; done; echo done";
    let mut running = home.on(&sshd, &["exec", "lab", "--", wait]);
    let mut running =
        running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    running.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it begins");
    let pid = home.pid();
    match signal {
        Some(signal) => send(pid, signal),
        None => {
            let mut stopping = home.command(args).spawn().expect("it starts");
            wait_for("the end of the socket", PATIENCE, || !home.socket().exists());
            if finishes {
                sshd.exec("touch go");
            }
            assert_eq!(ended(&mut stopping).code(), Some(0));
        }
    }
    let output = running.wait_with_output().expect("it ends");
    let shown = (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned());
    assert_eq!(
        shown,
        if finishes { (Some(0), "done\n".to_owned()) } else { (Some(255), String::new()) }
    );
    let status = ended(&mut agent);
    assert_eq!(
        (status.code(), status.signal()),
        (signal.is_none().then_some(0), signal.map(|s| s as i32))
    );
    home.assert_nothing_is_left();
}

#[test]
fn a_client_that_does_not_read_does_not_keep_the_agent() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let host = json!({"name": "lab", "ssh_config": sshd.ssh_config()});
    let mut frames = home.frames(&json!({"host": host, "command": "yes", "timeout_ms": 0}));
    assert_eq!(frames.next(), Some((4, vec![])));
    // And one that has not said yet what it wants.
    let _silent = home.connect();
    let pid = home.pid();
    assert_eq!(home.run(["agent", "stop", "--now"]).code(), 0);
    assert!(!is_alive(pid));
    home.assert_nothing_is_left();
    drop(frames);
}

/// As somebody has stopped it, or the whole machine. What it was asked for meanwhile is not done
/// when nobody waits for it any more. It takes half a minute, beside the others.
#[test]
fn an_agent_that_does_not_answer_is_not_waited_for() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut agent = in_the_foreground(&home, &[]);
    home.exec(&sshd, "true");
    send(agent.id(), Signal::SIGSTOP);
    let ended = home.run_on(&sshd, &["exec", "lab", "--", "touch ~/ran"]);
    let told = "sshpool: lab: connection lost while the command ran: the agent has not answered within 30s\n";
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (255, "", told));
    send(agent.id(), Signal::SIGCONT);
    home.exec(&sshd, "test ! -e ~/ran");
    wait_for("an agent without commands", PATIENCE, || home.status()["agent"]["commands"] == 0);
    home.exec(&sshd, "test ! -e ~/ran");
    assert_eq!(home.run(["agent", "stop"]).code(), 0);
    assert_eq!(self::ended(&mut agent).code(), Some(0));
}

#[test]
fn a_second_signal_does_not_wait() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut agent = in_the_foreground(&home, &[]);
    home.exec(&sshd, "true");
    // A server that does not answer keeps whoever ends a command there.
    let mut running = home.on(&sshd, &["exec", "lab", "--", "echo begun; sleep 300"]);
    let mut running =
        running.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    running.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it begins");
    sshd.freeze();
    send(agent.id(), Signal::SIGTERM);
    wait_for("the end of the socket", PATIENCE, || !home.socket().exists());
    send(agent.id(), Signal::SIGTERM);
    let status = ended(&mut agent);
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(ended(&mut running).code(), Some(255));
    sshd.thaw();
}

/// As systemd starts it for a socket unit (sd_listen_fds(3)): with the listener as descriptor 3.
fn by_a_socket(home: &Home, listener: &UnixListener, number: &str) -> std::process::Command {
    let text = format!("exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS={number} exec \"$@\"");
    let mut sh = home.in_its_place(command("sh"), ["-c", &text, "sh"]);
    sh.args([env!("CARGO_BIN_EXE_sshpool"), "agent"]).stderr(Stdio::piped());
    sh.stdin(std::os::fd::OwnedFd::from(listener.try_clone().expect("a copy")));
    sh
}

#[test]
fn a_socket_of_systemd_outlives_the_agent_and_starts_the_next() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    std::fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    let listener = UnixListener::bind(home.socket()).expect("a socket");
    for round in 0..2 {
        // Whoever comes first waits until there is an agent.
        let mut first = home.on(&sshd, &["exec", "lab", "--", "echo $PPID; ls -l /proc/self/fd"]);
        let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut agent = by_a_socket(&home, &listener, "1").spawn().expect("it starts");
        let first = first.wait_with_output().expect("it ends");
        assert!(first.status.success(), "{first:?}");
        assert_eq!(home.pid(), agent.id());
        assert_eq!(sshd.logins(), round + 1);
        if round == 0 {
            assert_eq!(home.run(["agent", "stop"]).code(), 0);
            assert_eq!(ended(&mut agent).code(), Some(0));
        } else {
            send(agent.id(), Signal::SIGTERM);
            assert_eq!(ended(&mut agent).signal(), Some(Signal::SIGTERM as i32));
        }
        assert!(home.socket().exists(), "it is systemd's");
        assert_eq!(home.count("ssh"), 0);
    }
    std::fs::remove_file(home.socket()).expect("it is there");
}

/// One that another is to replace does not wait for what runs: the next one has the same socket.
#[test]
fn an_agent_of_systemds_socket_that_drains_ends_what_runs() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    std::fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    let listener = UnixListener::bind(home.socket()).expect("a socket");
    let mut agent = by_a_socket(&home, &listener, "1").spawn().expect("it starts");
    let mut running = home.on(&sshd, &["exec", "lab", "--", "echo begun; sleep 300"]);
    let mut running =
        running.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    running.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it begins");
    let answer = home.ask("POST", "/v1/stop", "", "{\"drain\": true}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(ended(&mut agent).code(), Some(0));
    assert_eq!(ended(&mut running).code(), Some(255));
    wait_for("the command's end", PATIENCE, || sshd.exec("pgrep -x sleep").code() != 0);
    assert_eq!(home.count("ssh"), 0);
    std::fs::remove_file(home.socket()).expect("it is there");
}

#[rstest]
#[case::another_place("1", "elsewhere", "write ListenStream=%t/sshpool/agent.sock")]
#[case::several("2", "agent.sock", "one ListenStream= is expected")]
fn a_socket_of_systemd_is_at_our_place(
    #[case] number: &str,
    #[case] name: &str,
    #[case] why: &str,
) {
    let home = Home::new();
    std::fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    let listener = UnixListener::bind(home.place().join(name)).expect("a socket");
    let ended = run(&mut by_a_socket(&home, &listener, number), PATIENCE);
    std::fs::remove_file(home.place().join(name)).expect("it is there");
    let socket = home.socket().display().to_string();
    let told = format!("sshpool: the socket of systemd is not {socket}: {why}\n");
    assert_eq!((ended.code(), &*ended.stderr), (255, &*told));
}

#[test]
fn a_second_agent_says_that_there_is_one() {
    let home = Home::new();
    let mut agent = in_the_foreground(&home, &[]);
    let second = home.run(["agent"]);
    let told = "sshpool: an agent runs already (`sshpool agent stop` ends it)\n";
    assert_eq!((second.code(), &*second.stdout, &*second.stderr), (255, "", told));
    let version = home.get("/v1/version").json();
    assert_eq!(version, json!({"api": 1, "pid": agent.id(), "version": env!("CARGO_PKG_VERSION")}));
    assert_eq!(home.get("/v1/health").json(), json!({"ok": true}));
    assert_eq!(home.run(["agent", "stop"]).code(), 0);
    assert_eq!(ended(&mut agent).code(), Some(0));
    let none = home.run(["agent", "stop"]);
    assert_eq!((none.code(), &*none.stderr), (0, "sshpool: no agent runs\n"));
}

/// Two can stop it at once, or it leaves by itself just then.
#[test]
fn an_agent_that_is_gone_before_it_answers_was_stopped() {
    let home = Home::new();
    std::fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    let listener = UnixListener::bind(home.socket()).expect("a socket");
    let socket = home.socket();
    let leaves = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        read_head(&mut client);
        std::fs::remove_file(socket).expect("it is there");
    });
    let stopped = home.run(["agent", "stop"]);
    leaves.join().expect("no panic");
    assert_eq!((stopped.code(), &*stopped.stderr), (0, "sshpool: no agent runs\n"));
}

/// As a cleaner of temporary files does it. The agent that nobody finds any more lets the next one
/// alone.
#[test]
fn an_agent_whose_socket_was_removed_leaves() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let mut agent = in_the_foreground(&home, &["--idle-timeout", "2s"]);
    home.exec(&sshd, "true");
    std::fs::remove_dir_all(home.place()).expect("it is ours");
    assert_eq!(home.exec(&sshd, "echo next"), "next\n");
    let next = home.pid();
    assert_ne!(next, agent.id());
    assert_eq!(ended(&mut agent).code(), Some(0));
    assert_eq!(home.pid(), next);
}

/// Of another version, as far as the program can tell: it wants to be asked by its own kind only,
/// but knows how to leave.
#[test]
fn an_agent_of_another_version_is_replaced() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    std::fs::create_dir(home.place()).expect("a directory");
    std::fs::set_permissions(home.place(), std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .expect("ours");
    let old = UnixListener::bind(home.socket()).expect("a socket");
    let socket = home.socket();
    let asked = std::thread::spawn(move || {
        let mut asked = Vec::new();
        loop {
            let (mut client, _) = old.accept().expect("a client");
            let mut head = read_head(&mut client);
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let mut body = vec![0; length.parse().expect("a length")];
            client.read_exact(&mut body).expect("a body");
            let stops = head.starts_with("POST /v1/stop ");
            let (status, answer) = match (stops, head.contains("sshpool-version:")) {
                (true, false) => ("200 OK", json!({"pid": 1})),
                _ => {
                    let error = json!({"kind": "other_version", "message": "another", "never_started": true});
                    ("409 Conflict", json!({ "error": error }))
                }
            };
            if stops {
                std::fs::remove_file(&socket).expect("it is there");
            }
            let answer = answer.to_string();
            let text =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            client.write_all(text.as_bytes()).expect("it reads");
            head.truncate(head.find(" HTTP").expect("a request"));
            asked.push((head, String::from_utf8(body).expect("text")));
            if stops {
                return asked;
            }
        }
    });
    let status = home.run(["status"]);
    assert_eq!(
        (status.code(), &*status.stderr),
        (255, "sshpool: another\n"),
        "who only looks replaces nobody"
    );
    assert_eq!(home.exec(&sshd, "echo new"), "new\n");
    let asked = asked.join().expect("no panic");
    let requests: Vec<_> = asked.iter().map(|(request, _)| &**request).collect();
    assert_eq!(requests, ["GET /v1/status", "POST /v1/exec", "POST /v1/stop"]);
    let stop: serde_json::Value = serde_json::from_str(&asked[2].1).expect("JSON");
    assert_eq!(
        stop,
        json!({"now": false, "drain": true, "unless_version": env!("CARGO_PKG_VERSION")})
    );
}

/// The other side of it: what runs on the old one goes on, and the new one is there beside it.
#[test]
fn an_agent_that_is_replaced_lets_what_runs_finish() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let wait = "echo begun; until [ -e ~/go ]; do sleep 0.05; done; echo done";
    let mut running = home.on(&sshd, &["exec", "lab", "--", wait]);
    let mut running = running.stdout(Stdio::piped()).spawn().expect("it starts");
    running.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it begins");
    let old = home.pid();
    let newer = home.ask("GET", "/v1/status", "sshpool-version: 99.0.0\r\n", "");
    assert_eq!((newer.status, &*newer.kind()), (409, "other_version"));
    let own =
        home.post("/v1/stop", &json!({"drain": true, "unless_version": env!("CARGO_PKG_VERSION")}));
    assert_eq!((own.status, &*own.kind()), (409, "other_version"), "somebody was quicker");
    let stop = home
        .post("/v1/stop", &json!({"drain": true, "unless_version": "99.0.0", "of": "the future"}));
    assert_eq!(stop.json(), json!({ "pid": old }));
    wait_for("the end of the socket", PATIENCE, || !home.socket().exists());
    assert_eq!(home.exec(&sshd, "echo new"), "new\n");
    assert_ne!(home.pid(), old);
    assert!(is_alive(old), "it has a command");
    sshd.exec("touch go");
    let output = running.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"done\n"[..]));
    wait_for("the end of the old one", PATIENCE, || !is_alive(old));
}

/// As nohup starts it.
#[test]
fn a_signal_that_was_ignored_from_the_start_is_ignored() {
    let home = Home::new();
    let args = ["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sshpool"), "agent"];
    let mut agent =
        home.in_its_place(command("sh"), args).stderr(Stdio::piped()).spawn().expect("it starts");
    home.wait_for_the_agent();
    send(agent.id(), Signal::SIGHUP);
    assert_eq!(home.pid(), agent.id());
    send(agent.id(), Signal::SIGTERM);
    assert_eq!(ended(&mut agent).signal(), Some(Signal::SIGTERM as i32));
}

/// Whoever has started the first client does not wait for the agent, and does not lend it a lock.
#[test]
fn the_agent_keeps_nothing_of_whoever_has_started_it() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let script = "exec 9>lock; flock 9; exec 8>&1; umask 000; \"$@\"";
    let args =
        ["-c", script, "sh", env!("CARGO_BIN_EXE_sshpool"), "-F"].map(std::ffi::OsString::from);
    let mut first = home.in_its_place(command("sh"), args);
    first.arg(sshd.ssh_config()).args(["exec", "lab", "echo", "here"]);
    let output = first.stdout(Stdio::piped()).spawn().expect("it starts").wait_with_output();
    assert_eq!(output.expect("the pipe ends").stdout, b"here\n");
    let free = common::process::run(
        &mut home.in_its_place(command("flock"), ["-n", "lock", "true"]),
        PATIENCE,
    );
    assert_eq!(free.code(), 0, "the lock is free");
    let pid = home.pid();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<_> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    assert_eq!(fields[3], pid.to_string(), "a session of its own");
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/cwd")).expect("it runs"),
        std::path::Path::new("/")
    );
}

#[test]
fn the_log_does_not_grow_without_end() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.config("[agent]\nidle_timeout = \"20s\"\n");
    home.exec(&sshd, "true");
    let log = home.place().join("agent.log");
    let mut file = std::fs::OpenOptions::new().append(true).open(&log).expect("it is ours");
    file.write_all("a line of the log\n".repeat(200_000).as_bytes()).expect("there is room");
    file.write_all(b"the last line\n").expect("there is room");
    // It is empty for a moment.
    wait_for("a shorter log with its last part", PATIENCE, || {
        let text = std::fs::read_to_string(&log).expect("it is text");
        text.len() < 1 << 20
            && text.starts_with("a line of the log\n")
            && text.ends_with("the last line\n")
    });
    home.run_on(&sshd, &["close", "--all"]);
    home.exec(&sshd, "true");
    let text = std::fs::read_to_string(&log).expect("it is text");
    assert!(
        text.len() > 1000 && text.trim_end().ends_with('s') && text.contains("connected elapsed="),
        "it goes on at its end: {}",
        &text[text.len() - 200..]
    );
}

/// Whoever waits goes on waiting, and is served when others have gone.
#[test]
fn without_descriptors_clients_wait() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let args = ["-c", "ulimit -n 60; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sshpool"), "agent"];
    let mut agent = home.in_its_place(command("sh"), args);
    let mut agent = agent
        .args(["--idle-timeout", "60s", "-v"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    home.wait_for_the_agent();
    // Clients that may have more would replace it.
    let in_need = |words: &[&str]| {
        let args = ["-c", "ulimit -n 60; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sshpool"), "-F"];
        let mut client = home.in_its_place(command("sh"), args);
        client.arg(sshd.ssh_config()).args(words);
        client
    };
    assert_eq!(run(&mut in_need(&["exec", "lab", "true"]), PATIENCE).code(), 0);
    let many: Vec<_> = (0..100).map(|_| home.connect()).collect();
    let mut waiting = in_need(&["exec", "lab", "echo", "served"]);
    let waiting = waiting.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut late = home.connect();
    late.set_read_timeout(Some(Duration::from_millis(300))).expect("it is open");
    late.write_all(request("GET", "/v1/health", "", "").as_bytes()).expect("there is room");
    late.read_exact(&mut [0]).expect_err("nobody is served");
    drop(many);
    late.set_read_timeout(Some(PATIENCE)).expect("it is open");
    assert_eq!(Answer::read(&mut late).status, 200);
    let output = waiting.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"served\n"[..]));
    assert_eq!(home.run(["agent", "stop", "--now"]).code(), 0);
    let mut log = String::new();
    agent.stderr.take().expect("it was piped").read_to_string(&mut log).expect("text");
    assert_eq!(ended(&mut agent).code(), Some(0));
    // Not every time that it is tried.
    assert!((1..8).contains(&log.matches("no client can be taken").count()), "{log}");
}
