//! The peers that are written in another language: a program of benches/peers that keeps one
//! connection and answers by lines of JSON.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::lab::Lab;
use crate::plan;
use crate::support::pooled;
use crate::turn::{Pattern, Turn};

/// Where `scripts/bench` has put what these programs need, or why it could not.
const PEERS: &str = "SSHPOOL_BENCH_PEERS";

pub struct Driver {
    pub hello: Hello,
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Once an answer has not come, no later one would be to the question.
    broken: Option<String>,
}

/// The first thing that a driver says, when it is connected.
#[derive(Deserialize)]
pub struct Hello {
    pub versions: BTreeMap<String, String>,
    pub no_delay: bool,
}

impl Driver {
    pub async fn asyncssh(lab: &Lab<'_>, command: plan::Command) -> Result<Driver, String> {
        let peers = installed("asyncssh")?;
        let python = peers.join("python/bin/python");
        Driver::start(python.into(), "asyncssh_driver.py", &peers, lab, command).await
    }

    pub async fn node_ssh(lab: &Lab<'_>, command: plan::Command) -> Result<Driver, String> {
        let peers = installed("node-ssh")?;
        Driver::start("node".into(), "node_driver.js", &peers, lab, command).await
    }

    async fn start(
        program: OsString,
        driver: &str,
        peers: &Path,
        lab: &Lab<'_>,
        run: plan::Command,
    ) -> Result<Driver, String> {
        let mut command = pooled::command(&program);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers").join(driver))
            .args(["127.0.0.1", &lab.port.to_string(), lab.sshd.user()])
            .args([lab.sshd.identity_file(), lab.known_hosts()])
            .arg(run.text())
            .env("NODE_PATH", peers.join("node/node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            Command::from(command).kill_on_drop(true).spawn().map_err(|error| error.to_string())?;
        let requests = child.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let hello = match answer(&mut answers, plan::DEADLINE).await {
            Ok(hello) => hello,
            Err(why) => {
                return Err(format!(
                    "does not connect: {}",
                    last_words(&mut child).await.unwrap_or(why)
                ));
            }
        };
        // Nobody reads its complaints any more, and it must not have to wait for that.
        let mut stderr = child.stderr.take().expect("it was not taken");
        tokio::spawn(async move { tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await });
        Ok(Driver { hello, child, requests, answers, broken: None })
    }

    pub async fn turn(&mut self, pattern: Pattern) -> Turn {
        if let Some(why) = &self.broken {
            return Turn::failed(why.clone());
        }
        match self.ask(pattern).await {
            Ok(turn) => turn,
            Err(why) => {
                let _ = self.child.start_kill();
                self.broken = Some(why.clone());
                Turn::failed(why)
            }
        }
    }

    async fn ask(&mut self, pattern: Pattern) -> Result<Turn, String> {
        let line = pattern.request() + "\n";
        self.requests.write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        answer(&mut self.answers, plan::PATIENCE + 2 * plan::DEADLINE).await
    }
}

/// The directory, when this package is in it.
fn installed(package: &str) -> Result<PathBuf, String> {
    let Some(peers) = std::env::var_os(PEERS) else {
        return Err("not installed: `scripts/bench` does that".to_owned());
    };
    let peers = PathBuf::from(peers);
    match std::fs::read_to_string(peers.join(package).with_extension("why")) {
        Ok(why) => Err(format!("not installed: {}", why.trim())),
        Err(_) => Ok(peers),
    }
}

async fn answer<T: DeserializeOwned>(
    answers: &mut Lines<BufReader<ChildStdout>>,
    patience: Duration,
) -> Result<T, String> {
    match tokio::time::timeout(patience, answers.next_line()).await {
        Err(_) => Err(format!("no answer within {patience:?}")),
        Ok(Ok(Some(line))) => {
            serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))
        }
        Ok(Ok(None)) => Err("its program has ended".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
    }
}

/// The last line of its stderr, once it has ended or is made to.
async fn last_words(child: &mut Child) -> Option<String> {
    let _ = child.start_kill();
    let mut text = String::new();
    let read = child.stderr.as_mut()?.read_to_string(&mut text);
    tokio::time::timeout(Duration::from_secs(5), read).await.ok()?.ok()?;
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).map(str::to_owned)
}
