//! Accounts, programs and servers that are not quite as usual, beside plain ssh.

use rstest::rstest;

use crate::lab::agents::Home;
use crate::lab::common::process::{make_program, path, path_with, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{PATIENCE, command};

/// The second of them needs a session of its own, and the last one is long.
fn texts() -> [String; 4] {
    [
        "echo out; echo err >&2; exit 3".to_owned(),
        "set -- a b; echo $#; exit 4".to_owned(),
        "echo one; ls -d /nosuch".to_owned(),
        format!("echo {}", "x".repeat(5000)),
    ]
}

/// Runs each text in every way and compares it with plain ssh.
fn is_plain(sshd: &Sshd, home: &Home) {
    for text in texts() {
        let mut ssh = command("ssh");
        ssh.arg("-F").arg(sshd.ssh_config()).args(["-o", "LogLevel=ERROR", "-n", "lab", &text]);
        let plain = run(&mut ssh, PATIENCE);
        for way in [&[][..], &["--no-agent"], &[], &[]] {
            let words = [way, &["exec", "lab", "--", &text]].concat();
            let pooled = home.run_on(sshd, &words);
            assert_eq!(
                (pooled.code(), &pooled.stdout, &pooled.stderr),
                (plain.code(), &plain.stdout, &plain.stderr),
                "{way:?} {text:.60}"
            );
        }
    }
}

#[test]
fn d6_a_restricted_shell_says_nothing_of_its_own() {
    let Some(sshd) = Sshd::builder().login_shell("/bin/rbash").start_or_skip() else { return };
    is_plain(&sshd, &Home::new());
}

#[rstest]
#[case::bash_x("/bin/bash", ".bashrc", "set -x")]
#[case::zsh_x("/usr/bin/zsh", ".zshenv", "set -x")]
#[case::bash_debug("/bin/bash", ".bashrc", "trap 'echo \"it runs $BASH_COMMAND\"' DEBUG")]
#[case::bash_debug_of_few_words("/bin/bash", ".bashrc", "trap 'echo next >&2' DEBUG")]
#[case::zsh_debug("/usr/bin/zsh", ".zshenv", "trap 'echo next' DEBUG")]
fn d9_a_shell_that_tells_of_its_commands_tells_of_these_only(
    #[case] shell: &str,
    #[case] file: &str,
    #[case] text: &str,
) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let written = sshd.exec(&format!("cat >~/{file} <<'END'\n{text}\nEND"));
    assert_eq!(written.code(), 0, "{}", written.stderr);
    is_plain(&sshd, &Home::new());
}

#[test]
fn d11_a_script_that_starts_ssh_is_as_good_as_ssh() {
    let sshd = Sshd::builder().start();
    let home = Home::new();
    let directory = home.path().join("work/bin");
    std::fs::create_dir(&directory).expect("a directory");
    let ssh = which::which_in("ssh", Some(path()), "/");
    let ssh = ssh.expect("there is an ssh");
    let text = format!("#!/bin/sh\n{} \"$@\"\nexit $?\n", ssh.display());
    make_program(&directory.join("ssh"), &text);
    for way in [&["--no-agent"][..], &[], &[], &[]] {
        let words = [way, &["exec", "lab", "--", "echo out; exit 3"]].concat();
        let mut pooled = home.on(&sshd, &words);
        let ended = run(pooled.env("PATH", path_with(&directory)), PATIENCE);
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (3, "out\n", ""), "{way:?}");
    }
    assert_eq!(sshd.logins(), 2);
}

#[rstest]
fn d13_a_server_that_takes_two_logins_at_once_takes_twenty_after_another(
    #[values(&[], &["--no-agent"])] way: &[&str],
) {
    let sshd = Sshd::builder().max_startups("2:100:2").start();
    let home = Home::new();
    let config = std::fs::read_to_string(sshd.ssh_config()).expect("it is there");
    let path = home.path().join("ssh_config");
    std::fs::write(&path, config.replace("Host lab\n", "Host m*\n")).expect("a file");
    let mut pooled = home.command(way);
    pooled.arg("-F").arg(path).args(["run", "-w", "m[1-20]", "--", "echo served"]);
    let ended = run(&mut pooled, PATIENCE);
    assert_eq!((ended.code(), ended.stdout.matches("served").count()), (0, 20), "{ended:?}");
}
