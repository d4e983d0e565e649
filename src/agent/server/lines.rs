//! What a command writes and how it ends, as lines of JSON.

use bytes::Bytes;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Running;
use super::commands::PIECE;
use super::peer::Peer;
use crate::agent::protocol::{End, Ended, Streams};
use crate::command::{Child, ChildStderr, ChildStdout};
use crate::host::Host;

/// What a command writes and how it ends, as lines of JSON.
pub(super) struct Lines {
    /// `None` once the end was told.
    child: Option<Child>,
    stdout: Option<Text<ChildStdout>>,
    stderr: Option<Text<ChildStderr>>,
    client: Peer,
    host: Host,
    running: Running,
}

impl Lines {
    pub(super) fn new(mut child: Child, client: Peer, host: Host, running: Running) -> Self {
        let stdout = child.stdout.take().map(|from| Text { from, bytes: Vec::new() });
        let stderr = child.stderr.take().map(|from| Text { from, bytes: Vec::new() });
        Lines { child: Some(child), stdout, stderr, client, host, running }
    }

    /// Cancel safe but for the end of a client that is gone.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            let child = self.child.as_mut()?;
            let (piece, is_stdout) = tokio::select! {
                piece = next_of(&mut self.stdout), if self.stdout.is_some() => (piece, true),
                piece = next_of(&mut self.stderr), if self.stderr.is_some() => (piece, false),
                status = child.wait(), if self.stdout.is_none() && self.stderr.is_none() => {
                    self.child = None;
                    return Some(line(&match status {
                        Ok(status) => End::Ended(Ended { exit_code: status.code() }),
                        Err(error) => End::Failed(self.running.refusal_of_streamed(&error, &self.host)),
                    }));
                }
                () = self.client.gone() => {
                    let child = self.child.take()?;
                    child.end().await;
                    return None;
                }
            };
            match piece {
                Some(piece) if is_stdout => return Some(line(&Streams::of_stdout(piece))),
                Some(piece) => return Some(line(&Streams::of_stderr(piece))),
                None if is_stdout => self.stdout = None,
                None => self.stderr = None,
            }
        }
    }
}

async fn next_of<R: AsyncRead + Unpin>(text: &mut Option<Text<R>>) -> Option<Vec<u8>> {
    match text {
        Some(text) => text.next().await,
        None => None,
    }
}

/// A stream in pieces that part no character, as far as it is text.
struct Text<R> {
    from: R,
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Text<R> {
    /// The next piece. Cancel safe.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            self.bytes.reserve(PIECE);
            // A pipe of ours does not fail to be read; if it does, there is nothing more to come
            // from it.
            let read = self.from.read_buf(&mut self.bytes).await.unwrap_or(0);
            if read == 0 {
                let rest = std::mem::take(&mut self.bytes);
                return (!rest.is_empty()).then_some(rest);
            }
            let whole = match std::str::from_utf8(&self.bytes) {
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                _ => self.bytes.len(),
            };
            if whole > 0 {
                let part = self.bytes.split_off(whole);
                return Some(std::mem::replace(&mut self.bytes, part));
            }
        }
    }
}

fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).expect("it has text keys");
    text.push(b'\n');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn pieces_of_text_part_no_character() {
        let (mut to, from) = tokio::io::duplex(3);
        let write = async {
            to.write_all("aä€b".as_bytes()).await.expect("it is read");
            to.write_all(b"\xe2\x82").await.expect("it is read");
            drop(to);
        };
        let mut text = Text { from, bytes: Vec::new() };
        let read = async {
            let mut pieces = Vec::new();
            while let Some(piece) = text.next().await {
                pieces.push(piece);
            }
            pieces
        };
        let ((), mut pieces) = tokio::join!(write, read);
        assert_eq!(
            pieces.pop(),
            Some(b"\xe2\x82".to_vec()),
            "what is never whole comes at the end"
        );
        assert!(
            pieces.len() > 1 && pieces.iter().all(|piece| std::str::from_utf8(piece).is_ok()),
            "{pieces:?}"
        );
        assert_eq!(pieces.concat(), "aä€b".as_bytes());
    }
}
