//! Starting an agent where there is none, once, however many want one.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::place::{Place, create};
use crate::error::plain;

/// How long another one may take to start an agent, or an old one to make room.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(2);

/// What an agent says when clients can connect.
pub(crate) const READY: &str = "ready\n";

/// Starts an agent unless another process does so, and returns when there is one that listens. `arguments` are those of `sshpool agent`.
pub(crate) async fn start(place: &Place, arguments: &[std::ffi::OsString]) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let _lock = loop {
        if let Some(lock) = place.lock_start()? {
            break lock;
        }
        if Instant::now() >= deadline {
            return Err("another process has not finished starting it".to_owned());
        }
        sleep(LOOK).await;
    };
    // Whoever had the lock before has started one.
    if listens(place) {
        return Ok(());
    }
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {}", plain(&error)))?;
    let log = create(&place.log())
        .map_err(|error| format!("cannot open {}: {}", place.log().display(), plain(&error)))?;
    // Of the agent before.
    let _ = log.set_len(0);
    #[expect(clippy::disallowed_methods, reason = "it is this program, not ssh")]
    let mut command = std::process::Command::new(&program);
    command.arg("agent").arg("--detach").args(arguments).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
    let mut child =
        command.spawn().map_err(|error| format!("cannot start {}: {}", program.display(), plain(&error)))?;
    let stdout = child.stdout.take().expect("it is piped");
    // It says one word, and closes its stdout then, or by ending.
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        let _ = stdout.take(READY.len() as u64).read_to_string(&mut said);
        said
    });
    let said = tokio::time::timeout(PATIENCE, said).await;
    if matches!(&said, Ok(Ok(said)) if said == READY) {
        return Ok(());
    }
    let words = std::fs::read_to_string(place.log()).unwrap_or_default();
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it has said nothing");
    Err(crate::error::printable(last.strip_prefix("sshpool: ").unwrap_or(last)))
}

/// Whether somebody takes connections.
fn listens(place: &Place) -> bool {
    std::os::unix::net::UnixStream::connect(place.socket()).is_ok()
}
