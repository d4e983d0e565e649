//! What the ssh_config says about a host: `ssh -G`, asked before each login.

use std::path::Path;

use super::args::{self, System};
use super::diagnosis;
use super::master::Launch;
use super::program;
use super::runtime::local;
use crate::error::{ConnectError, ConnectErrorKind, plain};
use crate::host::Host;

/// Whether unknown host keys are to be accepted: the configuration says so, or says nothing.
pub(super) async fn accepts_new_host_keys(launch: &Launch<'_>, host: &Host) -> Result<bool, ConnectError> {
    let finished = resolve(launch, host, host.get_config_file()).await?;
    if finished.code != Some(0) {
        return Err(diagnosis::connect_failure(&finished.stderr, "ssh -G failed"));
    }
    match diagnosis::host_key_checking(&finished.stdout) {
        Some("accept-new") => return Ok(true),
        // Said, or ssh's default: that looks alike.
        Some("ask") => {}
        _ => return Ok(false),
    }
    for system in [System::Included, System::Copied] {
        let path = launch.runtime.fresh_path();
        let written = args::config_with_default(host, system).and_then(|config| {
            // Nobody else is to have put something there.
            std::io::Write::write_all(&mut std::fs::File::create_new(&path)?, &config)
        });
        written.map_err(|error| local(format!("cannot write {}: {}", path.display(), plain(&error))))?;
        let finished = resolve(launch, host, Some(&path)).await;
        // It is missed by nobody, and goes with its directory at the latest.
        let _ = std::fs::remove_file(&path);
        let finished = finished?;
        if finished.code == Some(0) {
            return Ok(diagnosis::host_key_checking(&finished.stdout) == Some("accept-new"));
        }
        // ssh is stricter about the owner of what is included than about its own file, which may belong to nobody in a container.
        tracing::debug!(
            stderr = finished.stderr.trim(),
            "the configuration cannot be read with a default behind it"
        );
    }
    Ok(false)
}

/// `ssh -G`, under the eyes of the guard like a master: a configuration can run programs.
async fn resolve(
    launch: &Launch<'_>,
    host: &Host,
    config_file: Option<&Path>,
) -> Result<program::Finished, ConnectError> {
    let mut command = launch.program.command(args::resolve(host, config_file));
    let spawned = launch.runtime.spawn(program::captured(&mut command));
    let (child, _tenancy) = spawned.map_err(|error| call_failed("ssh -G", &error))?;
    program::finish(child, launch.deadline).await.map_err(|error| call_failed("ssh -G", &error))
}

pub(super) fn call_failed(what: &str, error: &std::io::Error) -> ConnectError {
    match error.kind() {
        std::io::ErrorKind::NotFound => ConnectError::new(
            ConnectErrorKind::SshMissing,
            "the ssh program is gone from where it was found",
            Vec::new(),
        ),
        std::io::ErrorKind::TimedOut => {
            ConnectError::new(ConnectErrorKind::TimedOut, format!("{what} did not end in time"), Vec::new())
        }
        _ => local(format!("{what}: {}", plain(error))),
    }
}
