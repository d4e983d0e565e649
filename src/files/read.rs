//! Contents that come from a host.

use std::path::Path;
use std::sync::Arc;

use tokio::io::AsyncReadExt;

use super::error::{FileError, explain, no_commands};
use super::sftp::{self, Job};
use super::text::{self, SIGN, Wanted};
use crate::command::Runner;
use crate::error::{Error, PartialOutput};
use crate::host::Host;

/// The contents of a file on a host, all of them or an error. Above `max_output` of the runner's
/// settings that is [`Error::OutputLimit`](crate::Error::OutputLimit): what is large is
/// downloaded.
///
/// It is one command, and one that a session can run in which others have run.
///
/// ```no_run
/// # async fn example(pool: &sshpool::Pool, host: &sshpool::Host) -> Result<(), sshpool::files::FileError> {
/// let motd = sshpool::files::read(pool, host, "/etc/motd").await?;
/// println!("{}", String::from_utf8_lossy(&motd));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`FileError`], one line with the host and the file.
///
/// # Cancel safety
///
/// As [`Command::output`](crate::Command::output).
pub async fn read(
    runner: &dyn Runner,
    host: &Host,
    path: impl AsRef<Path>,
) -> Result<Vec<u8>, FileError> {
    let path = path.as_ref();
    for by_sh in [false, true] {
        let text = text::send(path, Wanted::default(), by_sh);
        let output = runner.shell(host, text).output().await?;
        let mut contents = output.stdout;
        match line(&contents) {
            Some((_, length)) if output.status.success() => {
                contents.drain(..length);
                return Ok(contents);
            }
            Some(_) => return Err(explain(host, path, output.status.code(), &output.stderr)),
            None if !by_sh && !runner.has_shell(host).await? => {
                return sftp::in_time(runner, host, read_by_sftp(runner, host, path)).await;
            }
            None if !by_sh => {}
            None if output.status.success() => break,
            None => return Err(explain(host, path, output.status.code(), &output.stderr)),
        }
    }
    Err(no_commands(host, path))
}

async fn read_by_sftp(runner: &dyn Runner, host: &Host, path: &Path) -> Result<Vec<u8>, FileError> {
    let job = Job::Send(path.to_owned(), Wanted::default());
    let mut child = sftp::start(runner, host, path, job).await?;
    let limit = runner.defaults().max_output;
    let (mut stdout, mut contents) = (child.stdout.take().expect(NEW), Vec::new());
    let most = (SIGN.len() + 1 + limit + 1) as u64;
    // A pipe of ours does not fail to be read; if it does, there is nothing more to come from it.
    let _ = (&mut stdout).take(most).read_to_end(&mut contents).await;
    let line = line(&contents).map(|(_, length)| length);
    if let Some(length) = line {
        contents.drain(..length);
    }
    if contents.len() > limit {
        let remote = child.end().await;
        contents.truncate(limit);
        let partial = Arc::new(PartialOutput { stdout: contents, stderr: Vec::new() });
        let host = host.name().to_owned();
        return Err(Error::OutputLimit { host, stream: "stdout", limit, remote, partial }.into());
    }
    drop(stdout);
    let output = child.wait_with_output().await?;
    match output.status.success() {
        true => Ok(contents),
        false => Err(explain(host, path, output.status.code(), &output.stderr)),
    }
}

const NEW: &str = "nobody has taken it";

/// The first line of what a host sends, without the sign, and its length.
pub(super) fn line(output: &[u8]) -> Option<(&str, usize)> {
    let end = output.iter().position(|&byte| byte == b'\n')?;
    let facts = std::str::from_utf8(output[..end].strip_prefix(SIGN)?).ok()?;
    Some((facts, end + 1))
}
