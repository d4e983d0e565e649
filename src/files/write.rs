//! Contents that go to a host.

use std::path::Path;

use tokio::io::AsyncWriteExt;

use super::error::{FileError, explain, no_commands};
use super::sftp::{self, Job};
use super::text::{self, SIGN, Target, Trailer};
use super::{Mode, Options};
use crate::command::{Output, Runner};
use crate::host::Host;

/// Writes a file on a host: the name has the old contents or all of the new ones.
///
/// What is small is one command, and one that a session can run in which others have run.
///
/// ```no_run
/// # async fn example(pool: &sshpool::Pool, host: &sshpool::Host) -> Result<(), sshpool::files::FileError> {
/// use sshpool::files::{self, Options};
///
/// files::write(pool, host, "/srv/app/token", "secret\n", &Options::new().mode(0o600)).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`FileError`], one line with the host and the file. Nothing of the contents is left then, unless
/// it is [`Error::Lost`](crate::Error::Lost): the last that was heard was before the end, and the
/// name has the old contents or the new ones.
///
/// # Cancel safety
///
/// As [`Command::output`](crate::Command::output).
pub async fn write(
    runner: &dyn Runner,
    host: &Host,
    path: impl AsRef<Path>,
    contents: impl AsRef<[u8]>,
    options: &Options,
) -> Result<(), FileError> {
    let (path, contents) = (path.as_ref(), contents.as_ref());
    let mode = options.mode.map_or(Mode::New(0o666), Mode::Exact);
    let target = Target {
        path,
        name: None,
        mode,
        length: Some(contents.len() as u64),
        trailer: Trailer::None,
        time: None,
        options,
    };
    write_to(runner, host, &target, contents).await
}

/// Writes what is in memory.
pub(super) async fn write_to(
    runner: &dyn Runner,
    host: &Host,
    target: &Target<'_>,
    contents: &[u8],
) -> Result<(), FileError> {
    let is_simple = target.trailer == Trailer::None && target.time.is_none();
    let small = (is_simple && contents.len() <= text::SMALL)
        .then(|| text::receive_small(target, contents))
        .flatten();
    if let Some(text) = small {
        let output = runner.shell(host, text).output().await?;
        if output.status.success() && done(host, target.path, &output).is_ok() {
            return Ok(());
        }
    }
    // What has another meaning for the account than ours is not sent to it.
    if !runner.has_shell(host).await? {
        return sftp::in_time(runner, host, write_by_sftp(runner, host, target, contents)).await;
    }
    let command = runner.shell(host, text::receive(target)).stdin(contents);
    done(host, target.path, &command.output().await?)
}

async fn write_by_sftp(
    runner: &dyn Runner,
    host: &Host,
    target: &Target<'_>,
    contents: &[u8],
) -> Result<(), FileError> {
    let mut child = sftp::start(runner, host, target.path, Job::receive(target)).await?;
    let mut stdin = child.stdin.take().expect("nobody has taken it");
    let feed = async move {
        // Who takes no more says why when it ends.
        let _ = stdin.write_all(contents).await;
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    done(host, target.path, &output?)
}

/// Whether the script on the host has come to its end.
pub(super) fn done(host: &Host, path: &Path, output: &Output) -> Result<(), FileError> {
    if !output.status.success() {
        return Err(explain(host, path, output.status.code(), &output.stderr));
    }
    let says_so = output.stdout.split(|&byte| byte == b'\n').any(|line| line == SIGN);
    if says_so { Ok(()) } else { Err(no_commands(host, path)) }
}
