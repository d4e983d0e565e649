//! The server as clients see it at one distance: a port, and configurations for ssh in a directory
//! of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::common::proxy::Proxy;
use crate::support::common::sshd::Sshd;
use crate::support::{distant, milliseconds, pooled, stats};

pub struct Lab<'a> {
    pub sshd: &'a Sshd,
    pub port: u16,
    /// What a byte takes through the proxy and back, in milliseconds. None without a proxy.
    pub measured: Option<f64>,
    ssh_config: PathBuf,
    directory: TempDir,
    _proxy: Option<Proxy>,
}

impl<'a> Lab<'a> {
    pub async fn new(sshd: &'a Sshd, round_trip: Duration) -> Lab<'a> {
        // Short, because sockets are in it whose path must not be long.
        let directory = tempfile::Builder::new().prefix("cmp").tempdir().expect("a directory");
        let (mut port, mut ssh_config) = (sshd.port(), sshd.ssh_config());
        let (mut measured, mut proxy) = (None, None);
        if !round_trip.is_zero() {
            measured = Some(measure(round_trip).await);
            let started = distant(sshd.port(), round_trip);
            (port, ssh_config) = (started.port(), started.ssh_config(sshd));
            proxy = Some(started);
        }
        let lab = Lab { sshd, port, measured, ssh_config, directory, _proxy: proxy };
        lab.write_files();
        lab
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// For those who do not read an ssh_config: the server's, with the port that they see.
    pub fn known_hosts(&self) -> PathBuf {
        self.directory().join("known_hosts")
    }

    /// In which the server is `lab`.
    pub fn ssh_config(&self) -> PathBuf {
        self.ssh_config.clone()
    }

    /// The same with a master, as people write it.
    pub fn ssh_config_with_master(&self) -> PathBuf {
        self.directory().join("ssh_config_with_master")
    }

    /// The same with what Debian's clients come with.
    pub fn ssh_config_with_locale(&self) -> PathBuf {
        self.directory().join("ssh_config_with_locale")
    }

    /// What the processes of this lab's peers name in their command lines.
    pub fn place(&self) -> &str {
        self.directory().to_str().expect("temporary directories have names in UTF-8")
    }

    fn write_files(&self) {
        let known = fs::read_to_string(self.sshd.known_hosts()).expect("the server has one");
        let (own, seen) = (format!("]:{} ", self.sshd.port()), format!("]:{} ", self.port));
        let config = fs::read_to_string(&self.ssh_config).expect("the server has one");
        let master = format!(
            "{config}    ControlMaster auto\n    ControlPath \"{}/%C\"\n    ControlPersist 10m\n",
            self.directory().display()
        );
        for (path, text) in [
            (self.known_hosts(), known.replace(&own, &seen)),
            (self.ssh_config_with_master(), master),
            (self.ssh_config_with_locale(), format!("{config}    SendEnv LANG LC_*\n")),
        ] {
            fs::write(path, text).expect("a file in a new directory");
        }
        // What is read by the command that reads something.
        let made = self.sshd.exec("head -c 1024 /dev/zero | tr '\\0' x >\"$HOME/kib\"");
        assert!(made.status.success(), "the server has room for 1 KiB: {made:?}");
    }

    /// The key exchange that ssh and this server agree on. Most of a login's time is spent in it.
    pub fn kex(&self) -> Option<String> {
        let mut ssh = pooled::command("ssh");
        ssh.arg("-vF")
            .arg(self.ssh_config())
            .args(["-o", "BatchMode=yes", "lab", "true"])
            .stdin(Stdio::null());
        let said = ssh.output().ok()?.stderr;
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().find_map(|line| line.split_once("kex: algorithm: "))?;
        Some(line.1.trim().to_owned())
    }

    /// What the server says it is.
    pub async fn banner(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.sshd.port())).await.ok()?;
        let mut bytes = [0; 255];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut bytes))
            .await
            .ok()?
            .ok()?;
        let line = String::from_utf8_lossy(&bytes[..read]);
        Some(line.lines().next()?.trim_start_matches("SSH-2.0-").trim().to_owned())
    }
}

/// What the proxy really adds: the median time of one byte to a server that sends it back. Timers
/// are never early.
async fn measure(round_trip: Duration) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let echo = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("somebody comes");
        stream.set_nodelay(true).expect("an option can be set");
        let mut byte = [0];
        while stream.read_exact(&mut byte).await.is_ok() && stream.write_all(&byte).await.is_ok() {}
    });
    let proxy = distant(port, round_trip);
    let mut stream = TcpStream::connect(("127.0.0.1", proxy.port())).await.expect("it listens");
    stream.set_nodelay(true).expect("an option can be set");
    let mut times = Vec::new();
    let mut byte = [0];
    for _ in 0..15 {
        let started = Instant::now();
        stream.write_all(&byte).await.expect("it goes out");
        stream.read_exact(&mut byte).await.expect("it comes back");
        times.push(milliseconds(started));
    }
    drop(stream);
    echo.abort();
    stats::median(&times).expect("there are times")
}
