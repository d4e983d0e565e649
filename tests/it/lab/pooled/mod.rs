//! What tests of the pool share: a host of the test server, settings that are not in a hurry, and a
//! look at what processes there are.

pub mod plain;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use sshpool::{Host, Pool, PoolConfig};

use super::common::sshd::Sshd;
use super::common::{process, wait_for_async};

/// Longer than anything takes that works, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The test server, as its ssh_config calls it.
pub fn host(sshd: &Sshd) -> Host {
    host_of(&sshd.ssh_config())
}

pub fn host_of(ssh_config: &Path) -> Host {
    Host::new("lab").and_then(|host| host.config_file(ssh_config)).expect("a valid host")
}

/// The defaults, but for a login that may take its time where many tests run at once.
pub fn config() -> PoolConfig {
    PoolConfig::default().connect_timeout(Duration::from_secs(30))
}

pub fn pool(config: PoolConfig) -> Pool {
    Pool::new(config).expect("there is an ssh, and the settings are valid")
}

/// A program to start, in the tests' own environment.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> std::process::Command {
    let mut command = process::command(program);
    // What a test runs is to end with it: those of the agent say otherwise.
    command.env("SSHPOOL_AGENT", "off");
    command
}

/// The command lines of all processes that have `text` in theirs, without zombies.
pub fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("there is a /proc").flatten() {
        // A process that has just gone is not there to be found.
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(text) {
            found.push(line);
        }
    }
    found
}

/// Whether the process is there and not a zombie.
pub fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in brackets may itself contain brackets and blanks.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

pub fn kill(pid: u32) {
    send(pid, Signal::SIGKILL);
}

pub fn send(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid fits"));
    nix::sys::signal::kill(pid, signal).expect("the process is ours");
}

/// The local clients of this master: they name its socket.
pub fn clients_of(master: u32) -> Vec<u32> {
    let words = |pid: u32| -> Vec<String> {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    };
    let socket = |words: &[String]| {
        let place = words.iter().position(|word| word == "-S")?;
        words.get(place + 1).cloned()
    };
    let wanted = socket(&words(master)).expect("a master has a socket");
    let pids = std::fs::read_dir("/proc").expect("there is a /proc").flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    pids.filter(|&pid| pid != master && socket(&words(pid)).as_ref() == Some(&wanted)).collect()
}

/// Waits until all sessions in standby are open. An ssh that has got its session catches signals;
/// before that they end it, or go by where whoever started the tests ignores them (mux.c of
/// OpenSSH).
pub async fn standby_is_open(pool: &Pool, master: u32) {
    let sessions = pool.config().standby_sessions;
    let catches = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|signals| u64::from_str_radix(signals.trim(), 16).ok());
        caught.is_some_and(|signals| signals & 1 << (Signal::SIGTERM as i32 - 1) != 0)
    };
    wait_for_async("the sessions in standby", PATIENCE, || {
        let clients = clients_of(master);
        pool.stats().standby_sessions == sessions
            && clients.len() == sessions
            && clients.into_iter().all(catches)
    })
    .await;
}

/// Cargo builds the examples with the tests, beside the directory of this binary, unless it is told
/// to build something else only.
pub fn example(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its program");
    let path = own
        .parent()
        .and_then(Path::parent)
        .expect("cargo's directories")
        .join("examples")
        .join(name);
    let built = |path: &Path| path.metadata().and_then(|file| file.modified()).ok();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
    assert!(
        built(&path) > built(&source),
        "{} is missing or old: run `cargo build --examples`, or all tests",
        path.display()
    );
    path
}
