//! Passing on the streams of a command that runs, every byte as it comes.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::failure::{Failure, NOT_RUN, cannot_read};
use super::output::complain;
use crate::command::Child;
use crate::command::ExitStatus;
use crate::error::{Error, NO_STATUS};

/// How much is written at once.
const BATCH: usize = 256 * 1024;

/// How much is remembered of the end of a stream.
const LAST: usize = 64 * 1024;

/// What is known of a command whose streams were passed on.
pub(super) struct Relayed {
    pub status: ExitStatus,
    /// It wrote nothing to stdout.
    pub no_stdout: bool,
    /// The end of what it wrote to stderr.
    pub last_words: Vec<u8>,
}

impl Relayed {
    /// The status for this program to end with, after a line about a signal if one ended the
    /// command.
    pub(super) fn exit_code(&self, host: &str) -> u8 {
        if let Some(words) = killed(self.status) {
            complain(format_args!("{host}: {words}"));
        }
        exit_code(self.status)
    }
}

/// How long what a command has written is still passed on when it was given up: whoever is to read
/// it may not do so.
pub(super) const LAST_WRITES: Duration = Duration::from_secs(1);

/// Relays the command's streams until it has ended. `most` limits each output.
pub(super) async fn relay(mut child: Child, host: &str, most: usize) -> Result<Relayed, Failure> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let copies = async {
        tokio::try_join!(
            copy(stdout, tokio::io::stdout(), "stdout", most),
            copy(stderr, tokio::io::stderr(), "stderr", most),
        )
    };
    let mut copies = pin!(copies);
    let ends = async {
        let (copied, end) = tokio::select! {
            copied = &mut copies => match copied {
                Ok(copied) => (Some(copied), child.wait().await),
                Err(stopped) => return Err(Unfinished::Stopped(stopped)),
            },
            end = child.wait() => match end {
                // However slow the reader is, all of it is the command's.
                Ok(status) => (Some(copies.await.map_err(Unfinished::Stopped)?), Ok(status)),
                Err(error) => {
                    let _ = timeout(LAST_WRITES, copies).await;
                    (None, Err(error))
                }
            },
        };
        let status = end.map_err(|error| Unfinished::Failed(Failure::of(host, &error)))?;
        let (last_out, last_words) = copied.unwrap_or_default();
        Ok(Relayed { status, no_stdout: last_out.is_empty(), last_words })
    };
    let unfinished = tokio::select! {
        relayed = ends => match relayed {
            Ok(relayed) => return Ok(relayed),
            Err(unfinished) => unfinished,
        },
        Err(error) = feed(stdin) => Unfinished::Failed(cannot_read(&error)),
    };
    let remote = child.end().await;
    Err(match unfinished {
        Unfinished::Failed(failure) => failure,
        Unfinished::Stopped(Stopped::NobodyReads) => Failure::NobodyReads,
        Unfinished::Stopped(Stopped::Limit(stream)) => {
            let (name, partial) = (host.to_owned(), Arc::default());
            Failure::of(
                host,
                &Error::OutputLimit { host: name, stream, limit: most, remote, partial },
            )
        }
        Unfinished::Stopped(Stopped::Failed(stream, error)) => {
            let error = crate::text::plain(&error);
            Failure::Output(format!("{host}: the command's {stream} cannot be written: {error}"))
        }
    })
}

pub(super) fn exit_code(status: ExitStatus) -> u8 {
    // ssh gives 255 for a command that a signal ended, and so do we. A status is 0 to 255.
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_RUN)
}

pub(super) fn killed(status: ExitStatus) -> Option<String> {
    status.code().is_none().then(|| NO_STATUS.to_owned())
}

/// Passes our stdin on. `Err` when it cannot be read.
async fn feed(to: Option<impl AsyncWrite + Unpin>) -> io::Result<()> {
    let Some(mut to) = to else {
        return Ok(());
    };
    let mut from = tokio::io::stdin();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        // A command need not read its input.
        if read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return Ok(());
        }
    }
}

/// Why a command was not relayed to its end.
enum Unfinished {
    Stopped(Stopped),
    Failed(Failure),
}

enum Stopped {
    NobodyReads,
    Limit(&'static str),
    Failed(&'static str, io::Error),
}

/// Copies until the end, or until `most` bytes were written and there are more. Gives the last that
/// it has copied.
async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    mut to: impl AsyncWrite + Unpin,
    stream: &'static str,
    most: usize,
) -> Result<Vec<u8>, Stopped> {
    let mut last = Vec::new();
    let Some(mut from) = from else {
        return Ok(last);
    };
    let stopped = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Stopped::NobodyReads,
        _ => Stopped::Failed(stream, error),
    };
    let mut left = most;
    let mut buffer = vec![0; BATCH];
    loop {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come from
        // it.
        let mut read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return Ok(last);
        }
        // Each write goes to another thread: what is there already goes with it. An end is found
        // once more.
        while read < BATCH
            && let Some(Ok(more @ 1..)) = from.read(&mut buffer[read..]).now_or_never()
        {
            read += more;
        }
        let kept = read.min(left);
        to.write_all(&buffer[..kept]).await.map_err(stopped)?;
        to.flush().await.map_err(stopped)?;
        left -= kept;
        last.extend_from_slice(&buffer[kept.saturating_sub(LAST)..kept]);
        last.drain(..last.len().saturating_sub(LAST));
        if read > kept {
            return Err(Stopped::Limit(stream));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_up_to_its_limit_is_copied_whole_and_then_no_more() {
        let mut out = Vec::new();
        let copied = copy(Some(&b"12345"[..]), &mut out, "stdout", 5).await;
        assert!(copied.is_ok_and(|last| last == b"12345"));
        assert_eq!(out, b"12345");
        let mut out = Vec::new();
        let stopped = copy(Some(&b"123456"[..]), &mut out, "stdout", 5).await;
        assert!(matches!(stopped, Err(Stopped::Limit("stdout"))));
        assert_eq!(out, b"12345");
    }
}
