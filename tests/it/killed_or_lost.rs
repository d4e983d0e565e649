//! A command without a status was killed by a signal, or its connection was lost: the caller is
//! told which of the two.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rstest::rstest;

use crate::lab::agents::Home;
use crate::lab::common::process::{make_program, outside, run};
use crate::lab::common::skip;
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{PATIENCE, command};

/// ssh removes the path of its control socket last, long after it has closed its sockets on a busy
/// machine: here it takes a second.
const SLOW_END: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <time.h>

int unlink(const char *path) {
    int (*real)(const char *) = (int (*)(const char *))dlsym(RTLD_NEXT, "unlink");
    const char *name = strrchr(path, '/');
    struct timespec left = {1, 0};
    /* Not the name with a dot that the socket is bound to at first. A signal interrupts no system call either. */
    if (strstr(path, "/sshpool-") && name && !strchr(name, '.'))
        while (nanosleep(&left, &left) != 0) {}
    return real(path);
}
"#;

/// A directory with an `ssh` whose masters take their time to end; `None` where no C compiler is.
fn slow_ssh(home: &Home) -> Option<PathBuf> {
    let directory = home.path().join("slow");
    std::fs::create_dir(&directory).expect("a directory");
    let (source, library) = (directory.join("slow.c"), directory.join("slow.so"));
    std::fs::write(&source, SLOW_END).expect("a file");
    let mut compile = outside("cc");
    compile.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let compiled = compile.stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !compiled.is_ok_and(|status| status.success()) {
        skip("there is no C compiler");
        return None;
    }
    let found = run(command("sh").args(["-c", "command -v ssh"]), PATIENCE);
    let text = format!(
        "#!/bin/sh\nLD_PRELOAD='{}' exec '{}' \"$@\"\n",
        library.display(),
        found.stdout.trim()
    );
    let program = directory.join("ssh");
    make_program(&program, &text);
    Some(directory)
}

/// With this directory at the front of PATH.
fn with(directory: &Path, mut command: Command) -> Command {
    let path = std::env::var("PATH").expect("there is one");
    command.env("PATH", format!("{}:{path}", directory.display()));
    command
}

/// Begins with a command, and returns when it runs.
fn begun(mut command: Command) -> Child {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    child.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it begins");
    child
}

fn told(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// What happens while a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// All processes of the server are killed, one by one.
    ServerKilled,
    /// Those for the connection; the command lives on.
    ConnectionKilled,
    /// The pool asks a master to end that ends already.
    ServerKilledAndClosed,
    /// The command's own, and nothing else.
    CommandKilled,
}

/// Two commands at once: one waits for its input, and one has none.
#[rstest]
#[case(Event::ServerKilled, "connection lost while the command ran: ")]
#[case(Event::ConnectionKilled, "connection lost while the command ran: ")]
#[case(Event::ServerKilledAndClosed, "connection lost while the command ran: ")]
#[case(
    Event::CommandKilled,
    "command ended without a status (a signal killed it, or the server tells none)"
)]
fn c6_a_master_that_ends_slowly_has_not_outlived_its_sessions(
    #[case] event: Event,
    #[case] text: &str,
) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let Some(slow) = slow_ssh(&home) else { return };
    let wait = "echo begun; echo $$ >>~/pids; cat; sleep 300";
    let mut reads = home.on(&sshd, &["exec", "--stdin", "--timeout", "0", "lab", "--", wait]);
    reads.stdin(Stdio::piped());
    let waits = home.on(&sshd, &["exec", "--timeout", "0", "lab", "--", wait]);
    let mut children = [reads, waits].map(|command| begun(with(&slow, command)));
    // The end of input would be an end of its own.
    let input = children[0].stdin.take();
    match event {
        Event::ServerKilled => sshd.kill(),
        Event::ConnectionKilled => sshd.kill_connections(),
        Event::ServerKilledAndClosed => {
            sshd.kill();
            let closed =
                run(&mut with(&slow, home.on(&sshd, &["close", "--now", "lab"])), PATIENCE);
            assert_eq!(closed.code(), 0, "{}", closed.stderr);
        }
        Event::CommandKilled => {
            let killed = sshd.exec("kill -s KILL -- $(sed s/^/-/ ~/pids)");
            assert_eq!(killed.code(), 0, "{}", killed.stderr);
        }
    }
    for child in children {
        let (code, said) = told(child);
        assert!(
            code == Some(255) && said.contains(text) && said.lines().count() == 1,
            "{code:?}: {said}"
        );
    }
    drop(input);
}
