//! Passing on the streams of a command that runs, every byte as it comes.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Failure, NOT_RUN};
use crate::child::Child;
use crate::command::ExitStatus;
use crate::error::Error;

/// How much is remembered of the end of a stream.
const LAST: usize = 64 * 1024;

/// What is known of a command whose streams were passed on.
pub(super) struct Relayed {
    pub status: ExitStatus,
    /// It wrote nothing at all.
    pub quiet: bool,
    /// The end of what it wrote to stderr.
    pub last_words: Vec<u8>,
}

impl Relayed {
    /// The status for this program to end with, after a line about a signal if one ended the command.
    pub(super) fn exit_code(&self, host: &str) -> u8 {
        if let Some(words) = killed(self.status) {
            super::complain(format_args!("{host}: {words}"));
        }
        exit_code(self.status)
    }
}

/// Relays the command's streams until it has ended. `most` limits each output.
pub(super) async fn relay(mut child: Child, host: &str, most: usize) -> Result<Relayed, Failure> {
    let failure = |error: Error| Failure::of(host, &error);
    let stdin = child.stdin.take().map(|to| tokio::spawn(feed(to)));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let copied = tokio::try_join!(
        copy(stdout, tokio::io::stdout(), "stdout", most),
        copy(stderr, tokio::io::stderr(), "stderr", most),
    );
    let (last_out, last_words) = match copied {
        Ok(last) => last,
        Err(Stopped::NobodyReads) => return Err(Failure::NobodyReads),
        Err(Stopped::Limit(stream)) => {
            let (host, partial) = (host.to_owned(), Arc::default());
            return Err(failure(Error::OutputLimit { host, stream, limit: most, partial }));
        }
        Err(Stopped::Failed(stream, error)) => {
            let error = crate::error::plain(&error);
            return Err(Failure::Output(format!(
                "{host}: the command's {stream} cannot be written: {error}"
            )));
        }
    };
    let status = child.wait().await.map_err(failure)?;
    if let Some(stdin) = stdin {
        stdin.abort();
    }
    Ok(Relayed { status, quiet: last_out.is_empty() && last_words.is_empty(), last_words })
}

pub(super) fn exit_code(status: ExitStatus) -> u8 {
    // ssh gives 255 for a command that a signal ended, and so do we. A status is 0 to 255.
    status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(NOT_RUN)
}

pub(super) fn killed(status: ExitStatus) -> Option<String> {
    status.code().is_none().then(|| "command was killed by a signal".to_owned())
}

async fn feed(mut to: impl AsyncWrite + Unpin) {
    // A command need not read its input, and an input that cannot be read any more has ended.
    let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut to).await;
}

enum Stopped {
    NobodyReads,
    Limit(&'static str),
    Failed(&'static str, io::Error),
}

/// Copies until the end, or until `most` bytes were written and there are more. Gives the last that it has copied.
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
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come from it.
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return Ok(last);
        }
        let kept = read.min(left);
        to.write_all(&buffer[..kept]).await.map_err(stopped)?;
        to.flush().await.map_err(stopped)?;
        left -= kept;
        last.extend_from_slice(&buffer[..kept]);
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
