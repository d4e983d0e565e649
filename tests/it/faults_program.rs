//! The program where something fails: one line that says what, the exit status for it, in bounded
//! time; and nothing is left.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rstest::rstest;
use tempfile::TempDir;

use crate::lab::common;
use crate::lab::common::process::{copy_program, run, wait_until};
use crate::lab::faulty::{COMMAND, Fault, MARGIN, Scene};
use crate::lab::pooled::{self, PATIENCE, processes_with, send};

/// The program with a directory of its own for what it makes.
struct Program {
    directory: TempDir,
}

impl Program {
    fn new() -> Program {
        Program { directory: tempfile::tempdir().expect("a directory") }
    }

    /// With these words before it, and these behind it.
    fn command(&self, before: &[&str], after: &[&str]) -> Command {
        self.command_of(Path::new(env!("CARGO_BIN_EXE_sshpool")), before, after)
    }

    fn command_of(&self, program: &Path, before: &[&str], after: &[&str]) -> Command {
        let mut command = match before.split_first() {
            Some((first, rest)) => {
                let mut command = pooled::command(first);
                command.args(rest).arg(program);
                command
            }
            None => pooled::command(program),
        };
        let directory = self.directory.path();
        command.args(after).env("XDG_CONFIG_HOME", directory).env("XDG_RUNTIME_DIR", directory);
        command
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        let directory = self.directory.path();
        assert_eq!(processes_with(&directory.to_string_lossy()), [""; 0]);
        let left: Vec<PathBuf> = std::fs::read_dir(directory)
            .expect("it is ours")
            .flatten()
            .map(|file| file.path())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// One line on stderr, and the status for "could not be run".
#[track_caller]
fn assert_one_line(ended: &common::process::Ended, text: &str) {
    assert_eq!(ended.code(), 255, "{}", ended.stderr);
    assert!(
        ended.stderr.starts_with("sshpool: ") && ended.stderr.contains(text),
        "{}",
        ended.stderr
    );
    assert_eq!((ended.stderr.lines().count(), &*ended.stdout), (1, ""), "{}", ended.stderr);
}

#[rstest]
#[case(Fault::Frozen, 124, "sshpool: lab: command timed out after 3s")]
#[case(Fault::Swallowed, 124, "sshpool: lab: command timed out after 3s")]
#[case(Fault::MasterStopped, 124, "sshpool: lab: command timed out after 3s")]
#[case(Fault::Reset, 255, "sshpool: lab: connection lost while the command ran: client_loop: ")]
#[case(Fault::Rebooted, 255, "sshpool: lab: connection lost while the command ran: Connection to ")]
#[case(
    Fault::MasterKilled,
    255,
    "sshpool: lab: connection lost while the command ran: the control master "
)]
fn a_command_is_cut_off(#[case] fault: Fault, #[case] status: i32, #[case] text: &str) {
    let (scene, program) = (Scene::new(), Program::new());
    let ssh_config = scene.proxy.ssh_config(&scene.sshd).display().to_string();
    let timeout = format!("{}s", COMMAND.as_secs());
    let words = ["-F", &ssh_config, "exec", "--timeout", &timeout, "lab", "echo begun; sleep 300"];
    let mut command = program.command(&[], &words);
    let mut running =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    running.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it runs");
    scene.begin(fault);
    let ended = wait_until(&mut running, Instant::now() + COMMAND + MARGIN).expect("it ends");
    let mut stderr = String::new();
    running
        .stderr
        .take()
        .expect("it was piped")
        .read_to_string(&mut stderr)
        .expect("it can be read");
    assert_eq!(ended.code(), Some(status), "{stderr}");
    assert!(stderr.starts_with(text) && stderr.lines().count() == 1, "{stderr}");
    program.assert_nothing_is_left();
    scene.end(fault);
}

/// Ctrl-C and a service manager do not have to wait for a network that is gone.
#[rstest]
#[case(Fault::Frozen)]
#[case(Fault::Swallowed)]
#[case(Fault::MasterStopped)]
fn a_signal_ends_it_though_nothing_answers(#[case] fault: Fault) {
    let (scene, program) = (Scene::new(), Program::new());
    let ssh_config = scene.proxy.ssh_config(&scene.sshd).display().to_string();
    let words = ["-F", &ssh_config, "exec", "--timeout", "0", "lab", "echo begun; sleep 300"];
    let mut running =
        program.command(&[], &words).stdout(Stdio::piped()).spawn().expect("it starts");
    running.stdout.as_mut().expect("it was piped").read_exact(&mut [0; 6]).expect("it runs");
    scene.begin(fault);
    send(running.id(), Signal::SIGTERM);
    let ended = wait_until(&mut running, Instant::now() + MARGIN).expect("it ends");
    assert_eq!(ended.signal(), Some(Signal::SIGTERM as i32));
    program.assert_nothing_is_left();
    scene.end(fault);
}

/// Where nothing listens, so that with enough of everything it is a refused connection.
const NOWHERE: &[&str] = &["-F", "none", "exec", "127.0.0.1:9", "true"];

#[rstest]
fn too_few_descriptors() {
    let program = Program::new();
    // With fewer the system does not start a program that has libraries.
    for limit in 4..=40 {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let ended = run(&mut program.command(&["sh", "-c", &script, "sh"], NOWHERE), PATIENCE);
        let expected = if limit < 40 { "" } else { "connection refused" };
        assert_one_line(&ended, expected);
        let known = ["Too many open files", "connection refused"]
            .iter()
            .any(|text| ended.stderr.contains(text));
        let names = ended.stderr.matches("127.0.0.1: ").count();
        assert!(
            known && names <= 1 && !ended.stderr.contains("localhost"),
            "{limit} descriptors: {}",
            ended.stderr
        );
        program.assert_nothing_is_left();
    }
}

#[rstest]
fn too_few_processes() {
    let program = Program::new();
    let id = |arguments: &[&str]| -> u32 {
        run(pooled::command("id").args(arguments), PATIENCE)
            .stdout
            .trim()
            .parse()
            .expect("a number")
    };
    // Nobody limits root.
    let nobody = (id(&["-u"]) == 0).then(|| (id(&["-u", "nobody"]), id(&["-g", "nobody"])));
    let copy = tempfile::tempdir().expect("a directory");
    let path = copy.path().join("sshpool");
    copy_program(env!("CARGO_BIN_EXE_sshpool").as_ref(), &path);
    for directory in [copy.path(), program.directory.path()] {
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))
            .expect("it is ours");
    }
    for limit in 1..=3 {
        let limit = format!("--nproc={limit}");
        let mut command = program.command_of(&path, &["prlimit", &limit], NOWHERE);
        if let Some((user, group)) = nobody {
            command.current_dir("/").uid(user).gid(group);
        }
        let ended = run(&mut command, Duration::from_secs(60));
        assert_one_line(&ended, "Resource temporarily unavailable");
        program.assert_nothing_is_left();
    }
}
