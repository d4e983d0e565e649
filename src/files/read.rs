//! Contents that come from a host.

use std::path::Path;

use super::error::{FileError, FileErrorKind, explain};
use super::text::{self, SIGN, Wanted};
use crate::command::Runner;
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
            None if !by_sh => {}
            None if output.status.success() => break,
            None => return Err(explain(host, path, output.status.code(), &output.stderr)),
        }
    }
    Err(no_commands(host, path))
}

/// The first line of what a host sends, without the sign, and its length.
pub(super) fn line(output: &[u8]) -> Option<(&str, usize)> {
    let end = output.iter().position(|&byte| byte == b'\n')?;
    let facts = std::str::from_utf8(output[..end].strip_prefix(SIGN)?).ok()?;
    Some((facts, end + 1))
}

/// The command has succeeded, and was another one.
pub(super) fn no_commands(host: &Host, path: &Path) -> FileError {
    let text = "the account does not run commands: it answered with something else (a forced \
                command, or a shell of its own?)";
    FileError::remote(host, path, FileErrorKind::Unsupported, text)
}
