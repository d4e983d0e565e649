//! Servers that open one session on a connection, or close it with a command's end, beside plain
//! ssh: each command works, at the price of a login.

use std::path::Path;
use std::time::Duration;

use rstest::rstest;
use sshpool::Host;
use tokio::time::timeout;

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, make_program, run};
use crate::lab::common::wait_for;
use crate::lab::few_sessions::{FewSessions, Habit};
use crate::lab::pooled::{self, PATIENCE, command, config, pool};

/// A server and an agent.
struct Lab {
    server: FewSessions,
    home: Home,
}

impl Lab {
    fn new(habit: Habit) -> Option<Self> {
        Some(Lab { server: FewSessions::start_or_skip(habit)?, home: Home::new() })
    }

    fn on(&self, words: &[&str]) -> std::process::Command {
        let config = self.server.ssh_config();
        let mut command = self.home.command(["-F".as_ref(), config.as_os_str()]);
        command.args(words);
        command
    }

    #[track_caller]
    fn exec(&self, text: &str) -> Ended {
        run(&mut self.on(&["exec", "lab", "--", text]), PATIENCE)
    }

    fn plain(&self, text: &str) -> Ended {
        let mut ssh = command("ssh");
        ssh.arg("-F").arg(self.server.ssh_config());
        ssh.args(["-o", "LogLevel=ERROR", "-n", "lab", text]);
        run(&mut ssh, PATIENCE)
    }

    /// The command is as by plain ssh, be it the first one or another.
    #[track_caller]
    fn is_plain(&self, text: &str) {
        let (plain, pooled) = (self.plain(text), self.exec(text));
        assert_eq!(
            (pooled.code(), &pooled.stdout, &pooled.stderr),
            (plain.code(), &plain.stdout, &plain.stderr),
            "{text:.60}"
        );
    }

    /// Has the pool find out what the server does: by one connection that ends nobody does.
    #[track_caller]
    fn learns(&self) {
        for _ in 0..2 {
            assert_eq!(self.exec("true").code(), 0);
            wait_for("the end of the connection", PATIENCE, || {
                let status = self.home.get("/v1/status").json();
                status["connections"].as_array().is_some_and(Vec::is_empty)
            });
        }
    }
}

/// Whatever the first command is: one that the session of the proof runs as a lane, one that needs
/// a session of its own, one that writes a lot.
#[rstest]
fn each_command_is_as_by_plain_ssh(
    #[values(
        Habit::Refuses,
        Habit::Closes,
        Habit::Silent,
        Habit::Ends,
        Habit::Goodbye,
        Habit::Tiny
    )]
    habit: Habit,
) {
    let Some(lab) = Lab::new(habit) else { return };
    for text in [
        "echo out; echo err >&2; exit 3",
        "set -- a b; echo $#; exit 4",
        "head -c 3000000 /dev/zero | tr '\\0' x",
        "exit 255",
        "true",
    ] {
        lab.is_plain(text);
        let before = lab.server.logins();
        for _ in 0..3 {
            lab.is_plain(text);
        }
        // Three of plain ssh, and as many at most.
        assert!(lab.server.logins() <= before + 6, "{text}");
    }
}

#[rstest]
fn a_command_costs_one_login_once_the_server_is_known(
    #[values(
        Habit::Refuses,
        Habit::Closes,
        Habit::Silent,
        Habit::Ends,
        Habit::Goodbye,
        Habit::Tiny
    )]
    habit: Habit,
) {
    let Some(lab) = Lab::new(habit) else { return };
    lab.learns();
    let (logins, sessions) = (lab.server.logins(), lab.server.sessions());
    assert_eq!(logins, 2);
    for number in 1..=5 {
        let ended = lab.exec("echo out; exit 3");
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (3, "out\n", ""));
        assert_eq!(lab.server.logins(), logins + number);
    }
    if habit != Habit::Tiny {
        assert_eq!(lab.server.sessions() - sessions, 5, "nothing else is opened");
    }
}

/// Also those that meet before anything is known.
#[rstest]
fn commands_that_meet_run_once_each(
    #[values(
        Habit::Refuses,
        Habit::Closes,
        Habit::Silent,
        Habit::Ends,
        Habit::Goodbye,
        Habit::Tiny
    )]
    habit: Habit,
    #[values(false, true)] is_learned: bool,
) {
    let Some(lab) = Lab::new(habit) else { return };
    if is_learned {
        lab.learns();
    }
    let ran = lab.server.path("ran");
    let text = |number| format!("echo {number} >>{}; echo {number}; exit {number}", ran.display());
    std::thread::scope(|scope| {
        for number in 1..=8 {
            let (lab, text) = (&lab, text(number));
            scope.spawn(move || {
                let ended = lab.exec(&text);
                let expected = (number, format!("{number}\n"), String::new());
                assert_eq!((ended.code(), ended.stdout, ended.stderr), expected);
            });
        }
    });
    assert_eq!(lab.server.lines("ran"), 8);
    assert!(lab.server.logins() <= 2 * 8 + 2, "{} logins", lab.server.logins());
}

#[rstest]
fn a_command_reads_its_input(
    #[values(
        Habit::Refuses,
        Habit::Closes,
        Habit::Silent,
        Habit::Ends,
        Habit::Goodbye,
        Habit::Tiny
    )]
    habit: Habit,
) {
    let Some(lab) = Lab::new(habit) else { return };
    let input = lab.server.path("input");
    std::fs::write(&input, "x".repeat(300_000)).expect("a file");
    for way in [&["exec", "--stdin"][..], &["exec", "--stdin"], &["--no-agent", "exec", "--stdin"]]
    {
        let words = [way, &["lab", "--", "wc -c; exit 5"]].concat();
        let mut shell = command("sh");
        shell.args(["-c", "input=$1; shift; exec \"$@\" <\"$input\"", "sh"]).arg(&input);
        let pooled = lab.on(&words);
        shell.arg(pooled.get_program()).args(pooled.get_args());
        let environment = pooled.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let ended = run(shell.envs(environment), PATIENCE);
        assert_eq!((ended.code(), ended.stdout.trim(), &*ended.stderr), (5, "300000", ""));
    }
}

#[rstest]
fn ssh_goes_over_the_agent_and_says_nothing_of_its_own(
    #[values(
        Habit::Refuses,
        Habit::Closes,
        Habit::Silent,
        Habit::Ends,
        Habit::Goodbye,
        Habit::Tiny
    )]
    habit: Habit,
) {
    let Some(lab) = Lab::new(habit) else { return };
    for _ in 0..3 {
        let ended = run(&mut lab.on(&["ssh", "lab", "echo out; exit 7"]), PATIENCE);
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (7, "out\n", ""));
    }
    // The first of them finds out what the server does, by two connections at most.
    assert!(lab.server.logins() <= 5, "{} logins", lab.server.logins());
}

#[rstest]
#[tokio::test]
async fn a_lease_runs_several_commands(
    #[values(
        Habit::Refuses,
        Habit::Closes,
        Habit::Silent,
        Habit::Ends,
        Habit::Goodbye,
        Habit::Tiny
    )]
    habit: Habit,
    #[values(1, 5)] max_connections: usize,
) {
    let Some(server) = FewSessions::start_or_skip(habit) else { return };
    let (pool, host) = (pool(config().max_connections(max_connections)), host(&server));
    for _ in 0..2 {
        let lease =
            timeout(PATIENCE, pool.acquire(&host)).await.expect("in time").expect("a lease");
        for text in ["echo 1", "echo 1; :", "cat; echo 1"] {
            let output = timeout(PATIENCE, lease.exec(text)).await.expect("in time");
            assert_eq!(output.expect("it runs"), "1", "{text}");
        }
        drop(lease);
    }
    pool.close().await;
}

#[rstest]
#[case(Habit::Refuses)]
#[case(Habit::Closes)]
#[case(Habit::Silent)]
#[case(Habit::Ends)]
fn a_command_that_is_given_up_is_ended_there(
    #[case] habit: Habit,
    #[values(false, true)] is_learned: bool,
) {
    let Some(lab) = Lab::new(habit) else { return };
    if is_learned {
        lab.learns();
    }
    let beats = lab.server.path("beats");
    let text = format!("while :; do echo >>{}; sleep 0.1; done", beats.display());
    let mut exec = lab.on(&["exec", "--timeout", "1s", "lab", "--", &text]);
    let ended = run(&mut exec, PATIENCE);
    assert_eq!(ended.code(), 124, "{}", ended.stderr);
    assert!(!ended.stderr.contains("may still run"), "{}", ended.stderr);
    // It was ended before that was said.
    let before = lab.server.lines("beats");
    assert!(before > 0);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(lab.server.lines("beats"), before);
}

/// A device whose commands are its own: what is no shell is asked for nothing else.
#[rstest]
#[case(Habit::Refuses)]
#[case(Habit::Closes)]
#[case(Habit::Silent)]
#[case(Habit::Ends)]
fn a_device_without_a_shell_is_asked_for_what_was_asked(#[case] habit: Habit) {
    let home = Home::new();
    let device = home.path().join("device");
    let asked = home.path().join("asked");
    let text = "#!/bin/sh\ncase $2 in show*) ;; *) echo '% invalid'; exit 1 ;; esac\n\
                echo \"$2\" >>ASKED; echo \"shown: $2\"; exit 2\n";
    make_program(&device, &text.replace("ASKED", asked.to_str().expect("a plain path")));
    let Some(server) = FewSessions::with_shell(habit, &device) else { return };
    let lab = Lab { server, home };
    for number in 1..=4 {
        lab.is_plain("show version");
        let asked = std::fs::read_to_string(&asked).expect("it was asked");
        assert_eq!(asked.lines().count(), 2 * number, "by plain ssh and by the pool");
    }
    // As many as plain ssh, and the one that has found out what the account is like.
    assert_eq!(lab.server.logins(), 4 + 4 + 1);
}

/// The same, of a shell that is no POSIX shell.
#[rstest]
#[case(Habit::Refuses)]
#[case(Habit::Closes)]
#[case(Habit::Silent)]
#[case(Habit::Ends)]
fn another_shell_costs_more_logins_at_first_only(#[case] habit: Habit) {
    let home = Home::new();
    let shell = home.path().join("shell");
    // It knows no more than commands behind one another.
    make_program(
        &shell,
        "#!/bin/sh\ncase $2 in *eval*|*IFS*) echo sshpool-echo; echo 'no such thing' >&2; exit 1 ;; esac\n\
         exec /bin/sh -c \"$2\"\n",
    );
    let Some(server) = FewSessions::with_shell(habit, &shell) else { return };
    let lab = Lab { server, home };
    for _ in 0..4 {
        lab.is_plain("echo out; echo err >&2; exit 3");
    }
    // What is found out costs some. On a machine with a lot to do a connection may seem to have
    // ended for another reason, and it takes one more.
    assert!(lab.server.logins() <= 4 + 4 + 6, "{} logins", lab.server.logins());
}

#[test]
fn a_server_of_unknown_software_that_opens_several_sessions_is_like_any_other() {
    let Some(lab) = Lab::new(Habit::Several) else { return };
    for text in ["echo out; exit 3", "set -- a b; echo $#", "echo out; exit 3"] {
        let ended = lab.exec(text);
        assert_eq!(&*ended.stderr, "", "{text}");
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(lab.exec("sleep 0.5; echo out").stdout, "out\n"));
        }
    });
    // Who comes while it is found out waits for no longer than a login takes, and that is short
    // here: no more than one for each of them.
    let logins = lab.server.logins();
    assert!(logins <= 4, "{logins} logins");
    for _ in 0..3 {
        lab.is_plain("set -- a b; echo $#");
    }
    assert_eq!(lab.server.logins(), logins + 3, "those of plain ssh");
}

#[rstest]
#[case::close(&["close", "lab"])]
#[case::warm(&["warm", "lab"])]
fn what_was_learned_can_be_forgotten(#[case] words: &[&str]) {
    let Some(lab) = Lab::new(Habit::Refuses) else { return };
    lab.learns();
    let asked = lab.server.sessions();
    assert_eq!(run(&mut lab.on(words), PATIENCE).code(), 0);
    lab.is_plain("echo out; exit 3");
    lab.is_plain("echo out; exit 3");
    assert!(lab.server.sessions() >= asked + 4);
}

#[test]
fn doctor_says_what_such_a_server_costs() {
    let Some(lab) = Lab::new(Habit::Closes) else { return };
    let ended = run(&mut lab.on(&["doctor", "lab"]), PATIENCE);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let line = ended.stdout.lines().find(|line| line.contains("on each connection"));
    let line = line.unwrap_or_else(|| panic!("{ended:?}"));
    assert!(line.ends_with("1 on each connection: each command logs in"), "{line}");
}

fn host(server: &FewSessions) -> Host {
    pooled::host_of(Path::new(&server.ssh_config()))
}
