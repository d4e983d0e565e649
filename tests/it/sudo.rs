//! Commands by sudo: what they print, with which status they end and what they may read is as by
//! plain ssh and `sudo -S`; the password goes to sudo and nowhere else, and once.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use rstest::rstest;
use sshpool::{Error, Password, Remote, Sudo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::lab::agents::Home;
use crate::lab::common::process::run;
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{wait_for, wait_for_async};
use crate::lab::pooled::{PATIENCE, command, config, host, pool, send};

pub const PASSWORD: &str = "correct horse 'battery' \\staple";

/// A server whose account has a password, with these lines in its sudoers.
pub fn server(shell: &str, sudoers: &str) -> Option<Sshd> {
    let sshd = Sshd::builder().login_shell(shell).start_or_skip()?;
    Some(with_sudoers(sshd, sudoers))
}

fn with_sudoers(sshd: Sshd, sudoers: &str) -> Sshd {
    sshd.as_root(&format!(
        "cat >/root/password <<'E'\nlab:{PASSWORD}\nE\nchpasswd </root/password\n\
         rm /root/password\ncat >/etc/sudoers.d/lab <<'E'\n\
         Defaults logfile=/var/log/sudo.log\n{sudoers}\nE\nchmod 440 /etc/sudoers.d/lab"
    ));
    sshd
}

fn password() -> Password {
    Password::new(PASSWORD).expect("it is one")
}

pub fn with_password() -> Sudo {
    Sudo::new().password(password())
}

pub const ALL: &str = "lab ALL=(ALL:ALL) ALL";

/// What prints, ends and reads in different ways.
#[rstest]
#[case::sh("/bin/sh")]
#[case::bash("/bin/bash")]
#[case::zsh("/bin/zsh")]
#[case::busybox("/usr/local/bin/ash")]
#[case::csh("/bin/tcsh")]
#[case::fish("/usr/bin/fish")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_what_it_is_by_plain_ssh_and_sudo(#[case] shell: &str) {
    let Some(sshd) = server(shell, ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    for (text, input) in [
        ("id -u; echo \"$SUDO_USER $HOME $0 $#\"", ""),
        ("echo no >&2; exit 3", ""),
        ("kill -9 $$", ""),
        ("cat; echo end", "first\nsecond\nno end"),
        ("head -c 3 /etc/shadow; cat >&2", "x"),
        ("cat", ""),
        ("printf 'a\\0b'; true '\\''!'", ""),
        ("nosuchprogram", ""),
        ("(", ""),
    ] {
        let mut plain = command("ssh");
        plain.arg("-F").arg(sshd.ssh_config()).arg("lab");
        // As every shell of these reads it.
        let special = |c: char| match c {
            '\'' | '\\' | '!' => format!("'\\{c}'"),
            c => c.to_string(),
        };
        let quoted: String = text.chars().map(special).collect();
        plain.arg(format!("sudo -k -S -p '' -- /bin/sh -c '{quoted}'"));
        plain.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = plain.spawn().expect("it starts");
        let lines = format!("{PASSWORD}\n{input}");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), lines.as_bytes())
            .expect("it reads");
        let plain = child.wait_with_output().expect("it ends");

        let by_pool = pool.shell(&host, text).stdin(input).sudo(&with_password()).output();
        let by_pool = timeout(PATIENCE, by_pool).await.expect("it ends").expect("it runs");
        // Here sudo is in the place of the account's shell, which some shells are not by plain ssh:
        // they tell a signal with a status, and in words.
        if text.starts_with("kill") {
            assert_eq!(by_pool.status.code(), None);
            assert!(matches!(plain.status.code(), Some(255 | 137)), "{plain:?}");
            continue;
        }
        assert_eq!(by_pool.status.code(), plain.status.code(), "{text}: {by_pool:?} {plain:?}");
        assert_eq!(by_pool.stdout, plain.stdout, "{text}");
        let words = |stderr: &[u8]| String::from_utf8_lossy(stderr).replace("/bin/sh: 1: ", "sh: ");
        assert_eq!(words(&by_pool.stderr), words(&plain.stderr), "{text}");
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_as_the_user_that_was_said() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let by = |user: &str| with_password().user(user);
    let who = pool.command(&host, "id").arg("-un").sudo(&by("nobody")).output().await;
    assert_eq!(who.expect("it runs").stdout, b"nobody\n");
    let who = pool.command(&host, "id").arg("-u").sudo(&by("#1")).output().await;
    assert_eq!(who.expect("it runs").stdout, b"1\n");
    // What is set and where it runs are the command's.
    let here = pool.command(&host, "sh").args(["-c", "pwd; echo $WHAT"]).current_dir("/tmp");
    let here = here.env("WHAT", "it's").sudo(&with_password()).output().await.expect("it runs");
    assert_eq!(String::from_utf8_lossy(&here.stdout), "/tmp\nit's\n");
    // On one connection, and through a runner that is made once.
    let lease = pool.acquire(&host).await.expect("a connection");
    let root = with_password().over(&lease);
    for _ in 0..3 {
        let ran = root.command(&host, "id").arg("-u").output().await.expect("it runs");
        assert_eq!(ran.stdout, b"0\n");
    }
    assert!(root.command(&host, "false").status().await.expect("it runs").code() == Some(1));
    assert_eq!(sshd.logins(), 1);
    let log = sshd.as_root("cat /var/log/sudo.log");
    assert!(log.replace("\n    ", " ").contains("id -u"), "sudo's log names what ran: {log}");
    drop((root, lease));
    for bad in ["", "-h", "a\0b", "nosuch"] {
        let error = pool.command(&host, "id").sudo(&by(bad)).output().await.expect_err("no user");
        assert!(matches!(error, Error::Sudo { .. }) && error.never_started(), "{error}");
    }
    pool.close().await;
}

#[rstest]
#[case::wrong(ALL, Some("no"), "the password is wrong")]
#[case::none(ALL, None, "it asks for a password, and there is none (sshpool asks for it with -K)")]
#[case::not_allowed(
    "lab ALL=(ALL) /bin/ls",
    Some(PASSWORD),
    "Sorry, user lab is not allowed to execute"
)]
#[case::unknown("", Some(PASSWORD), "lab is not in the sudoers file.")]
#[case::a_terminal(
    "lab ALL=(ALL) ALL\nDefaults requiretty",
    Some(PASSWORD),
    "sudo: sorry, you must have a tty to run sudo"
)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sudo_refuses_is_told(
    #[case] sudoers: &str,
    #[case] password: Option<&str>,
    #[case] told: &str,
) {
    let Some(sshd) = server("/bin/bash", sudoers) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let sudo = password.map(|text| Password::new(text).expect("it is one"));
    let sudo = sudo.map_or(Sudo::new(), |password| Sudo::new().password(password));
    // No line of the input is another try.
    let input = format!("{PASSWORD}\n{PASSWORD}\n");
    let ran = pool.shell(&host, "touch /root/ran; cat").stdin(input).sudo(&sudo).output();
    let error = timeout(PATIENCE, ran).await.expect("it ends").expect_err("it is refused");
    let text = error.to_string();
    assert!(text.starts_with("lab: sudo did not run the command: "), "{text}");
    assert!(text.contains(told) && !text.contains(PASSWORD), "{text}");
    assert!(matches!(error, Error::Sudo { .. }) && error.never_started());
    sshd.as_root("! [ -e /root/ran ]");
    if password == Some("no") {
        // sudo itself is told the end of its input, and counts one try.
        wait_for_async("sudo's own end", PATIENCE, || {
            sshd.as_root("cat /var/log/sudo.log").contains("1 incorrect password attempt")
        })
        .await;
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_sudo_that_is_said() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    sshd.as_root("mv /usr/bin/sudo /usr/bin/elsewhere");
    let (pool, host) = (pool(config()), host(&sshd));
    let error = pool.command(&host, "id").sudo(&with_password()).output().await.expect_err("no");
    assert!(error.to_string().contains("there is no sudo in PATH"), "{error}");
    pool.close().await;
}

/// Where sudo asks nothing, nothing is told: the command would read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_nobody_asks_for_stays_here() {
    let Some(sshd) = server("/bin/bash", "lab ALL=(ALL) NOPASSWD: ALL") else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    for input in ["", "its own\n"] {
        let ran = pool.shell(&host, "cat").stdin(input).sudo(&with_password()).output().await;
        assert_eq!(ran.expect("it runs").stdout, input.as_bytes());
    }
    pool.close().await;
}

/// What a process prints that is not sudo is no question, and the password no answer to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_question_is_answered() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    sshd.as_root(
        "mv /usr/bin/sudo /usr/bin/elsewhere; printf '%s\\n' '#!/bin/sh' \
         'printf \"Verification code: \" >&2; head -n 1 >/tmp/answer' >/usr/bin/sudo; \
         chmod 755 /usr/bin/sudo",
    );
    let (pool, host) = (pool(config()), host(&sshd));
    let error = pool.command(&host, "id").sudo(&with_password()).output().await.expect_err("no");
    let told = "something on the host asks what sshpool cannot answer: \"Verification code:\"";
    assert!(error.to_string().ends_with(told), "{error}");
    wait_for_async("its end", PATIENCE, || sshd.exec("[ -e /tmp/answer ]").code() == 0).await;
    assert_eq!(sshd.as_root("cat /tmp/answer"), "");
    pool.close().await;
}

/// The account may not signal root's processes: sudo ends them, too.
#[rstest]
#[case::time("sleep 300 & sleep 300")]
#[case::deaf("trap '' TERM; sleep 300; sleep 300")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_ended_there(
    #[case] text: &str,
    #[values("late", "dropped", "killed", "too much")] how: &str,
) {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let long = pool.shell(&host, format!("echo begun; {text}")).sudo(&with_password());
    let runs = || sshd.exec("pgrep -u root -x sleep").code() == 0;
    match how {
        "late" => {
            let error = long.timeout(Duration::from_secs(2)).output().await.expect_err("late");
            let Error::TimedOut { remote, partial, .. } = &error else { panic!("{error}") };
            assert_eq!((remote, &*partial.stdout), (&Remote::Ended, &b"begun\n"[..]));
        }
        "too much" => {
            let error = long.max_output(3).output().await.expect_err("too much");
            let Error::OutputLimit { remote, .. } = &error else { panic!("{error}") };
            assert_eq!(remote, &Remote::Ended);
        }
        _ => {
            let mut child = long.spawn().await.expect("it begins");
            wait_for_async("it runs", PATIENCE, runs).await;
            if how == "dropped" {
                drop(child);
            } else {
                child.kill();
                let end = timeout(PATIENCE, child.wait()).await.expect("it ends");
                assert_eq!(end.expect("it was told to").code(), None);
            }
        }
    }
    wait_for_async("nothing is left", PATIENCE, || !runs()).await;
    pool.close().await;
}

/// The same where the connection has no session beside the command's own.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_ended_there_without_another_session(
    #[values("late", "dropped")] how: &str,
) {
    let builder = Sshd::builder().login_shell("/bin/bash").max_sessions(1);
    let Some(sshd) = builder.start_or_skip() else { return };
    let sshd = with_sudoers(sshd, ALL);
    let config = config().max_connections(1).sessions_per_connection(1).standby_sessions(0);
    let (pool, host) = (pool(config), host(&sshd));
    let runs = || !sshd.as_root("pgrep -x sleep || true").is_empty();
    let long = pool.shell(&host, "echo begun; sleep 300 & sleep 300").sudo(&with_password());
    if how == "late" {
        let error = long.timeout(Duration::from_secs(2)).output().await.expect_err("late");
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    } else {
        let child = long.spawn().await.expect("it begins");
        wait_for_async("it runs", PATIENCE, runs).await;
        drop(child);
    }
    wait_for_async("nothing is left", PATIENCE, || !runs()).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_streams_and_the_input_of_a_child_are_the_commands() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let command = pool.shell(&host, "read -r x; echo \"got $x\"; echo err >&2; cat | wc -c");
    let command = command.stdin(sshpool::Stdin::Piped).sudo(&with_password());
    let mut child = command.spawn().await.expect("it begins");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"one\n").await.expect("it reads");
    let mut stdout = child.stdout.take().expect("not taken");
    let mut first = [0; 8];
    stdout.read_exact(&mut first).await.expect("a line");
    assert_eq!(&first, b"got one\n");
    stdin.write_all(&vec![b'x'; 3_000_000]).await.expect("it reads");
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.expect("text");
    let output = child.wait_with_output().await.expect("it ends");
    assert_eq!((rest.trim(), &*output.stderr), ("3000000", &b"err\n"[..]));
    pool.close().await;
}

#[rstest]
#[case::over_the_agent(&[])]
#[case::by_itself(&["--no-agent"])]
fn a_signal_ends_what_runs_as_root(
    #[case] how: &[&str],
    #[values(Signal::SIGINT, Signal::SIGTERM)] signal: Signal,
) {
    let Some(sshd) = server("/bin/bash", "lab ALL=(ALL) NOPASSWD: ALL") else { return };
    let home = Home::new();
    let words = [how, &["exec", "--sudo", "lab", "--", "echo begun; sleep 300"]].concat();
    let mut exec = home.on(&sshd, &words);
    let mut exec = exec.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    exec.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 6]).expect("it begins");
    send(exec.id(), signal);
    let output = exec.wait_with_output().expect("it ends");
    assert_eq!(output.status.signal(), Some(signal as i32));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let runs = || sshd.exec("pgrep -u root -x sleep").code() == 0;
    wait_for("nothing is left", PATIENCE, || !runs());
}

/// A command that sudo had not let through when its time was over never runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_up_before_the_begin_has_run_nothing() {
    let Some(sshd) = server("/bin/bash", "lab ALL=(ALL) NOPASSWD: ALL") else { return };
    sshd.as_root(
        "mv /usr/bin/sudo /usr/bin/elsewhere; printf '%s\\n' '#!/bin/sh' \
         'sleep 2; /usr/bin/elsewhere \"$@\"; echo $? >/tmp/ended' >/usr/bin/sudo; \
         chmod 755 /usr/bin/sudo; chmod 1777 /tmp",
    );
    let (pool, host) = (pool(config()), host(&sshd));
    let command = pool.shell(&host, "touch /root/ran").sudo(&Sudo::new());
    let error = command.clone().timeout(Duration::from_secs(1)).output().await.expect_err("late");
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert_eq!(command.status().await.expect("it has time").code(), Some(0));
    sshd.as_root("rm /root/ran; sleep 2; ! [ -e /root/ran ]");
    pool.close().await;
}

/// What is piped to the program is the command's, also where the password's program would read it.
#[test]
fn the_input_is_not_for_the_program_that_gives_the_password() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let home = Home::new();
    let secret = home.path().join("secret");
    std::fs::write(&secret, format!("{PASSWORD}\n")).expect("a file");
    let gives = format!("cat >/dev/null; cat {}", secret.display());
    home.config(&format!("[sudo]\npassword_command = [\"sh\", \"-c\", {gives:?}]\n"));
    let input = home.path().join("input");
    std::fs::write(&input, "its own\n").expect("a file");
    let mut exec = home.on(&sshd, &["exec", "--sudo", "--stdin", "lab", "cat"]);
    let ran = exec.stdin(std::fs::File::open(&input).expect("it is there")).output();
    let ran = ran.expect("it starts");
    assert_eq!((ran.status.code(), &*ran.stdout), (Some(0), &b"its own\n"[..]), "{ran:?}");
}

/// The configuration's program gives the password; the agent's memory and logs, and the lists of
/// processes on both sides, have it nowhere else.
#[test]
fn the_program_asks_a_command_and_tells_nobody() {
    let Some(sshd) = server("/bin/bash", ALL) else { return };
    let home = Home::new();
    let secret = home.path().join("secret");
    std::fs::write(&secret, format!("{PASSWORD}\n")).expect("a file");
    home.config(&format!("[sudo]\npassword_command = [\"cat\", {secret:?}]\n"));
    let ran = home.run_on(&sshd, &["exec", "--sudo", "lab", "--", "id -u; exit 3"]);
    assert_eq!((ran.code(), &*ran.stdout, &*ran.stderr), (3, "0\n", ""));
    let ran = home.run_on(&sshd, &["-vv", "exec", "--sudo-user", "nobody", "lab", "id", "-un"]);
    assert_eq!((ran.code(), &*ran.stdout), (0, "nobody\n"));
    assert!(!ran.stderr.contains("battery"), "{}", ran.stderr);
    let ran = home.run_on(&sshd, &["run", "-w", "lab", "--sudo", "--", "id -u"]);
    assert_eq!((ran.code(), &*ran.stdout), (0, "lab: 0\n"));
    let look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n' | grep -c batter[y]";
    let ran = home.run_on(&sshd, &["exec", "--sudo", "lab", "--", look]);
    assert_eq!(ran.stdout, "0\n", "{ran:?}");
    let logs = sshd.as_root("cat /var/log/sudo.log") + &sshd.log();
    assert!(!logs.contains("battery"), "{logs}");
    let files = run(command("grep").args(["-rl", "battery"]).arg(home.path()), PATIENCE).stdout;
    assert_eq!(files.trim(), secret.display().to_string());
    assert_eq!(sshd.logins(), 1);

    let source = home.path().join("motd");
    std::fs::write(&source, "hello\n").expect("a file");
    let name = source.display().to_string();
    let ran = home.run_on(&sshd, &["cp", "--sudo", "-q", &name, "lab:/etc/motd"]);
    assert_eq!(ran.code(), 0, "{ran:?}");
    assert_eq!(sshd.as_root("cat /etc/motd; stat -c %U /etc/motd"), "hello\nroot\n");

    std::fs::write(&secret, "wrong\n").expect("a file");
    let ran = home.run_on(&sshd, &["exec", "--sudo", "lab", "id"]);
    let told = "sshpool: lab: sudo did not run the command: the password is wrong\n";
    assert_eq!((ran.code(), &*ran.stderr), (255, told));
    home.config("[sudo]\npassword_command = [\"false\"]\n");
    let ran = home.run_on(&sshd, &["exec", "--sudo", "lab", "id"]);
    let told = "sshpool: sudo.password_command: false: exit status: 1\n";
    assert_eq!((ran.code(), &*ran.stderr), (2, told));
}
