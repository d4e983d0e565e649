//! Giving a command its input and reading what it writes, to its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::running::Running;
use crate::error::{Error, PartialOutput, Remote};
use crate::transport::{Session as _, SessionEnd, Source, Streams, Transport};

/// How long output is still read after a loss.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(100);

/// A stream that went over the limit.
#[derive(Debug)]
pub(super) struct Excess {
    stream: &'static str,
    limit: usize,
}

impl Excess {
    pub(super) fn into_error(self, host: String, remote: Remote, partial: PartialOutput) -> Error {
        let Excess { stream, limit } = self;
        Error::OutputLimit { host, stream, limit, remote, partial: Arc::new(partial) }
    }
}

/// Whether so much of a stream may be kept.
pub(super) fn check(kept: &[u8], limit: Option<usize>, stream: &'static str) -> Result<(), Excess> {
    match limit {
        Some(limit) if kept.len() > limit => Err(Excess { stream, limit }),
        _ => Ok(()),
    }
}

/// Writes to a command. It need not read its input: that it closed the pipe is no failure.
pub(super) async fn feed(stdin: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    if !bytes.is_empty() {
        let _ = stdin.write_all(bytes).await;
    }
}

/// Gives a command that has begun its input, and reads it to its end. Without a limit what it
/// writes is thrown away.
pub(super) async fn pump<T: Transport>(
    running: &mut Running<T>,
    input: &[u8],
    limit: Option<usize>,
    output: &mut PartialOutput,
) -> Result<SessionEnd, Excess> {
    let connection = running.connection();
    let (session, Streams { stdin, stdout, stderr }) = running.session_and_streams();
    let mut stdout = Capture { from: stdout, into: &mut output.stdout, limit, name: "stdout" };
    let mut stderr = Capture { from: stderr, into: &mut output.stderr, limit, name: "stderr" };
    let end = {
        let feed = async {
            if let Some(stdin) = stdin {
                feed(stdin, input).await;
            }
            // The end of input.
            drop(stdin.take());
            Ok(())
        };
        let mut read = pin!(async { tokio::try_join!(feed, stdout.read(), stderr.read()) });
        tokio::select! {
            biased;
            end = session.wait(&connection) => {
                // The local ssh was killed, perhaps: then output may be on its way through the
                // master.
                if let SessionEnd::Lost(_) | SessionEnd::ClientKilled(_) = end {
                    drop(timeout(LAST_WORDS, read).await);
                }
                end
            }
            read = &mut read => {
                read?;
                session.wait(&connection).await
            }
        }
    };
    stdout.rest()?;
    stderr.rest()?;
    Ok(end)
}

/// Reads what is left of a session that has ended.
pub(super) fn rest(
    streams: &mut Streams,
    limit: Option<usize>,
    output: &mut PartialOutput,
) -> Result<(), Excess> {
    let Streams { stdout, stderr, .. } = streams;
    let out = Capture { from: stdout, into: &mut output.stdout, limit, name: "stdout" }.rest();
    let err = Capture { from: stderr, into: &mut output.stderr, limit, name: "stderr" }.rest();
    out.and(err)
}

/// One stream of a command, read into memory.
struct Capture<'a, S: ?Sized> {
    from: &'a mut S,
    into: &'a mut Vec<u8>,
    /// Without one what comes is thrown away.
    limit: Option<usize>,
    name: &'static str,
}

impl<S: Source + ?Sized> Capture<'_, S> {
    /// Reads to the end.
    async fn read(&mut self) -> Result<(), Excess> {
        // A pipe does not fail; if it ever does, there is nothing more to come from it.
        while let Ok(1..) = self.from.read_buf(self.into).await {
            self.took()?;
        }
        Ok(())
    }

    /// Reads what has arrived. Nothing more comes.
    fn rest(&mut self) -> Result<(), Excess> {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = self.from.read_now(&mut buffer) {
            self.into.extend_from_slice(&buffer[..read]);
            self.took()?;
        }
        Ok(())
    }

    fn took(&mut self) -> Result<(), Excess> {
        match self.limit {
            None => self.into.clear(),
            Some(limit) => {
                let excess = check(self.into, Some(limit), self.name);
                self.into.truncate(limit);
                excess?;
            }
        }
        Ok(())
    }
}
