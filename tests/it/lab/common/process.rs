//! Programs that tests start: in an environment that is the same on every machine, and run to their
//! end with a deadline.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

use super::LOOK;

/// What of the environment of whoever runs the tests reaches the programs that they start: where
/// programs and temporary files are, what the tests and the toolchain say to each other, and where
/// a python3 that is a script of pyenv's finds the real one. Names that end in `*` are beginnings.
const PASSED_ON: &[&str] = &[
    "LLVM_PROFILE_FILE",
    "LOGNAME",
    "PATH",
    "PYENV_ROOT",
    "PYENV_VERSION",
    "RUST_BACKTRACE",
    "RUST_MIN_STACK",
    "SSHPOOL_SEED",
    "SSHPOOL_SKIP_LOG",
    "SSHPOOL_TEST_*",
    "TMPDIR",
    "USER",
];

/// A program to start, in an environment of the tests' own: no ssh-agent, no settings of anybody's,
/// a home without files, a language and a terminal that are known, and no signal that is ignored or
/// blocked. A test adds what it is about.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = outside(program);
    command.env_clear();
    command.envs(env::vars_os().filter(|(name, _)| is_passed_on(name)));
    command.env("PATH", path()).env("HOME", home()).env("SHELL", "/bin/sh");
    command.env("LANG", "C.UTF-8").env("TERM", "xterm");
    command.env("XDG_STATE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("state"));
    command
}

/// A program of this machine that needs the environment it has there: a container engine, whose
/// images are where the user's home and variables say, and what fetches something over their proxy.
pub fn outside(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    if signals_are_changed() {
        // SAFETY: between fork and exec nothing happens but system calls that are safe there.
        unsafe { command.pre_exec(default_signals) };
    }
    command
}

fn is_passed_on(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    PASSED_ON.iter().any(|passed| match passed.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *passed,
    })
}

/// That of whoever runs the tests, without directories whose `ssh` is a link to an installed
/// sshpool; without one, what a shell would take.
pub fn path() -> OsString {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let is_real = |directory: &PathBuf| {
        let ssh = directory.join("ssh").canonicalize().unwrap_or_default();
        ssh.file_name() != Some("sshpool".as_ref())
    };
    env::join_paths(env::split_paths(&path).filter(is_real)).expect("they had no colon")
}

/// A PATH on which what is in this directory is found before anything else.
pub fn path_with(directory: &Path) -> OsString {
    let path = path();
    let directories = [directory.to_owned()].into_iter().chain(env::split_paths(&path));
    env::join_paths(directories).expect("the directory has no colon")
}

/// [`path_with`] the directory of our program.
pub fn path_with_sshpool() -> OsString {
    // Tests of the library alone are built without it.
    let Some(program) = option_env!("CARGO_BIN_EXE_sshpool") else {
        panic!("the program is not built")
    };
    path_with(Path::new(program).parent().expect("it is in a directory"))
}

/// A directory for all tests that want nothing in their home.
fn home() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("home");
    fs::create_dir_all(&home).expect("target is ours");
    home
}

/// Whether what this process starts would ignore a signal, as under nohup and in the background of
/// a script, or have one blocked. (What Rust does to SIGPIPE it undoes for children.)
fn signals_are_changed() -> bool {
    static CHANGED: OnceLock<bool> = OnceLock::new();
    *CHANGED.get_or_init(|| {
        // Where this cannot be read, nothing is undone.
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let signals = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|signals| u64::from_str_radix(signals.trim(), 16).ok())
        };
        // Those behind the 31 with a name are the C library's.
        let counts = 0x7fff_ffff & !(1 << (Signal::SIGPIPE as i32 - 1));
        let changed =
            |name: &str, counts: u64| signals(name).is_some_and(|signals| signals & counts != 0);
        changed("SigIgn:", counts) || changed("SigBlk:", u64::MAX)
    })
}

fn default_signals() -> io::Result<()> {
    for number in
        Signal::iterator().filter(|number| !matches!(number, Signal::SIGKILL | Signal::SIGSTOP))
    {
        // SAFETY: the default is no handler of ours.
        unsafe { signal(number, SigHandler::SigDfl)? };
    }
    Ok(SigSet::empty().thread_set_mask()?)
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The exit status, or 128 and the signal's number as a shell has it.
    pub fn code(&self) -> i32 {
        let signal = || 128 + self.status.signal().unwrap_or_default();
        self.status.code().unwrap_or_else(signal)
    }

    /// The last line of stderr that is not empty: where programs say what was the matter.
    pub fn last_words(&self) -> &str {
        self.stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default()
    }
}

/// Runs a program with an empty stdin and returns what it said. Panics when it cannot be started,
/// and kills it and panics when it has not ended by the deadline.
#[track_caller]
pub fn run(command: &mut Command, deadline: Duration) -> Ended {
    // Files and not pipes: what a program leaves behind may hold a pipe open, and its end would
    // never come.
    let mut stdout = tempfile::tempfile().expect("a temporary file can be made");
    let mut stderr = tempfile::tempfile().expect("a temporary file can be made");
    let clone = |file: &File| file.try_clone().expect("a file can be duplicated");
    command.stdin(Stdio::null()).stdout(clone(&stdout)).stderr(clone(&stderr));

    let mut child =
        command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    let Some(status) = wait_until(&mut child, Instant::now() + deadline) else {
        let _ = child.kill();
        let _ = child.wait();
        panic!(
            "{command:?} did not end within {deadline:?}\n{}{}",
            text(&mut stdout),
            text(&mut stderr)
        );
    };
    Ended { status, stdout: text(&mut stdout), stderr: text(&mut stderr) }
}

/// Waits for the end of a child until a moment; none when it still runs then.
pub fn wait_until(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    loop {
        // UNWRAP: waiting for one's own child fails only when somebody else has reaped it, which
        // nobody does.
        let status = child.try_wait().expect("a child can be waited for");
        if status.is_some() || Instant::now() >= end {
            return status;
        }
        std::thread::sleep(LOOK / 5);
    }
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .expect("a temporary file can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Makes a program of this text. Another process writes it: while this one had it open, a process
/// that another test starts just then would have it open as well for a moment, and a file that is
/// open for writing cannot be run ("Text file busy").
pub fn make_program(path: &Path, text: &str) {
    let mut made = command("/bin/sh");
    made.args(["-c", "cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut made = made.spawn().expect("there is a shell");
    let mut stdin = made.stdin.take().expect("it is piped");
    stdin.write_all(text.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(made.wait().expect("it was started here").success(), "{}", path.display());
}

/// Copies a program, as [`make_program`] makes one.
pub fn copy_program(from: &Path, to: &Path) {
    let copied = run(command("cp").arg("-p").args([from, to]), Duration::from_secs(60));
    assert_eq!(copied.code(), 0, "{}", copied.stderr);
}
