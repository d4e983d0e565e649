//! An agent of a test's own, and raw conversations with it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::common::process::{Ended, run};
use super::common::sshd::Sshd;
use super::common::wait_for;
use super::pooled::{PATIENCE, command};

/// A private directory for the agent, so that what clients start is nobody else's. Dropped, it
/// stops the agent and looks whether something is left.
pub struct Home {
    home: TempDir,
}

impl Home {
    pub fn new() -> Self {
        let home = tempfile::Builder::new().prefix("agent-").tempdir().expect("a directory");
        let private =
            |name: &str| std::fs::DirBuilder::new().mode(0o700).create(home.path().join(name));
        for name in ["run", "config", "work"] {
            private(name).expect("a directory");
        }
        Home { home }
    }

    pub fn path(&self) -> &Path {
        self.home.path()
    }

    /// `XDG_RUNTIME_DIR`.
    pub fn runtime(&self) -> PathBuf {
        self.home.path().join("run")
    }

    /// The agent's directory.
    pub fn place(&self) -> PathBuf {
        self.runtime().join("sshpool")
    }

    pub fn socket(&self) -> PathBuf {
        self.place().join("agent.sock")
    }

    /// The TOML file that is read when none is named.
    pub fn config(&self, text: &str) {
        let directory = self.home.path().join("config/sshpool");
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("config.toml"), text).expect("a file");
    }

    /// The program, as a client of this agent. Logins may take their time where many tests run at
    /// once.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        self.in_its_place(command(env!("CARGO_BIN_EXE_sshpool")), args)
    }

    /// Another program, in the environment of this agent's clients.
    pub fn in_its_place<S: AsRef<OsStr>>(
        &self,
        mut command: Command,
        args: impl IntoIterator<Item = S>,
    ) -> Command {
        command
            .args(args)
            .env_remove("SSHPOOL_AGENT")
            .env("SSH_POOL_CONNECTION_TIMEOUT_MS", "30000")
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .env("XDG_RUNTIME_DIR", self.runtime())
            .current_dir(self.home.path().join("work"));
        command
    }

    #[track_caller]
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Ended {
        run(&mut self.command(args), PATIENCE)
    }

    /// `sshpool -F CONFIG ARGS`, where `lab` is this server.
    pub fn on(&self, sshd: &Sshd, args: &[&str]) -> Command {
        let mut command = self.command([OsStr::new("-F"), sshd.ssh_config().as_os_str()]);
        command.args(args);
        command
    }

    #[track_caller]
    pub fn run_on(&self, sshd: &Sshd, args: &[&str]) -> Ended {
        run(&mut self.on(sshd, args), PATIENCE)
    }

    /// Runs a command on the server that has to succeed, and gives what it wrote.
    #[track_caller]
    pub fn exec(&self, sshd: &Sshd, command: &str) -> String {
        let ended = self.run_on(sshd, &["exec", "lab", "--", command]);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{command}");
        ended.stdout
    }

    /// What the agent says of itself.
    #[track_caller]
    pub fn status(&self) -> serde_json::Value {
        self.get("/v1/status").json()
    }

    #[track_caller]
    pub fn pid(&self) -> u32 {
        let pid = self.status()["agent"]["pid"].as_u64().expect("it has one");
        pid.try_into().expect("a pid fits")
    }

    /// Until clients can connect: the socket is a file before it listens.
    #[track_caller]
    pub fn wait_for_the_agent(&self) {
        let listens = || UnixStream::connect(self.socket()).is_ok();
        wait_for("an agent that listens", PATIENCE, listens);
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("an agent listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
        stream
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        self.ask("POST", path, "", &body.to_string())
    }

    /// One request. `head` has further lines.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        let mut stream = self.connect();
        let head = format!("connection: close\r\n{head}");
        stream.write_all(request(method, path, &head, body).as_bytes()).expect("it reads");
        Answer::read(&mut stream)
    }

    /// Begins with a command whose streams come in frames.
    #[track_caller]
    pub fn frames(&self, body: &serde_json::Value) -> Frames {
        let mut stream = self.connect();
        let head = "connection: upgrade\r\nupgrade: sshpool-frames\r\n";
        let request = request("POST", "/v1/exec", head, &body.to_string());
        stream.write_all(request.as_bytes()).expect("it reads");
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Frames(stream)
    }

    /// All processes that were started for clients of this agent, with what they are called:
    /// agents, masters, sessions and guards.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let mark = format!("XDG_RUNTIME_DIR={}", self.runtime().display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("there is a /proc").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // One that has just gone is not there to be found, and neither is a zombie.
            let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
                found.push((pid, name.trim().to_owned()));
            }
        }
        found
    }

    pub fn count(&self, name: &str) -> usize {
        self.processes().iter().filter(|(_, found)| found == name).count()
    }

    /// There are so many of our program. (For a moment what it starts is called as it is: between
    /// fork and exec.)
    #[track_caller]
    pub fn assert_programs(&self, expected: usize) {
        wait_for(&format!("{expected} of our program"), PATIENCE, || {
            self.count("sshpool") == expected
        });
    }

    /// Everything is over but for what an agent leaves in its directory. (An agent that others have
    /// replaced may take a moment.)
    #[track_caller]
    pub fn assert_nothing_is_left(&self) {
        wait_for("the end of all processes", PATIENCE, || self.processes().is_empty());
        let left: Vec<_> =
            std::fs::read_dir(self.runtime()).expect("it is ours").flatten().collect();
        let left: Vec<_> = left
            .iter()
            .map(std::fs::DirEntry::file_name)
            .filter(|name| name != "sshpool")
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.socket().exists(), "the socket is left");
        for file in std::fs::read_dir(self.place()).into_iter().flatten().flatten() {
            let found = file.metadata().expect("nobody removes it");
            // A link has no mode of its own.
            assert!(
                found.is_symlink() || found.mode() & 0o077 == 0,
                "{:?} is for its user alone",
                file.file_name()
            );
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.place().join("agent.log")).unwrap_or_default();
            eprintln!("the agent's log:\n{log}");
            for (pid, _) in self.processes() {
                // One that has just gone is no matter, and a test that has failed must not panic
                // again.
                let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            return;
        }
        let stopped = self.run(["agent", "stop", "--now"]);
        assert_eq!(stopped.code(), 0, "{}", stopped.stderr);
        self.assert_nothing_is_left();
    }
}

pub fn request(method: &str, path: &str, head: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n{head}\r\n{body}",
        body.len()
    )
}

/// Up to the empty line.
#[track_caller]
pub fn read_head(stream: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head comes to its end");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head is text")
}

/// What the agent has answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn read(stream: &mut UnixStream) -> Self {
        let text = read_head(stream);
        let mut lines = text.lines();
        let status = lines.next().expect("there is a first line");
        let status =
            status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("it has a status");
        let head: BTreeMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = Vec::new();
        match head.get("content-length").and_then(|length| length.parse().ok()) {
            Some(length) => {
                body.resize(length, 0);
                stream.read_exact(&mut body).expect("the body comes to its end");
            }
            None => loop {
                let mut line = Vec::new();
                while !line.ends_with(b"\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).expect("a chunk has a length");
                    line.push(byte[0]);
                }
                let length = std::str::from_utf8(&line).expect("text").trim();
                let length = usize::from_str_radix(length, 16).expect("a length");
                let mut chunk = vec![0; length + 2];
                stream.read_exact(&mut chunk).expect("the chunk comes to its end");
                if length == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..length]);
            },
        }
        Answer { status, head, body }
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        assert_eq!(
            self.head.get("content-type").map(String::as_str),
            Some("application/json"),
            "{self:?}"
        );
        serde_json::from_slice(&self.body).expect("it is JSON")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// That of a refusal.
    #[track_caller]
    pub fn kind(&self) -> String {
        let json = self.json();
        assert!(json["error"]["message"].is_string(), "{json}");
        json["error"]["kind"].as_str().expect("a refusal has a kind").to_owned()
    }
}

/// A connection that carries frames.
pub struct Frames(pub UnixStream);

impl Frames {
    pub fn send(&mut self, kind: u8, bytes: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(bytes.len()).expect("it is short").to_be_bytes();
        self.0.write_all(&[kind, 0, 0, 0])?;
        self.0.write_all(&length)?;
        self.0.write_all(bytes)
    }

    /// The next frame; `None` at the end.
    #[track_caller]
    pub fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 8];
        if self.0.read(&mut header[..1]).expect("it answers") == 0 {
            return None;
        }
        self.0.read_exact(&mut header[1..]).expect("a frame has a header");
        let [kind, 0, 0, 0, length @ ..] = header else { panic!("no frame: {header:?}") };
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut bytes).expect("a frame comes to its end");
        Some((kind, bytes))
    }

    /// What is left: stdout, stderr, and what the last frame says.
    #[track_caller]
    pub fn rest(&mut self) -> (Vec<u8>, Vec<u8>, serde_json::Value) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        loop {
            match self.next().expect("there is a last frame") {
                (1, bytes) => out.extend(bytes),
                (2, bytes) => err.extend(bytes),
                (3, bytes) => {
                    assert!(self.next().is_none(), "it is the last one");
                    return (out, err, serde_json::from_slice(&bytes).expect("it is JSON"));
                }
                (4, _) => {}
                (kind, _) => panic!("a frame of kind {kind} for a client"),
            }
        }
    }
}
