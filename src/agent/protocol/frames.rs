//! Frames, where bytes stream both ways.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A frame: a byte that says what it is, three of 0, the length in four bytes (the highest first),
/// and so many bytes. As Docker's engine has them.
pub(crate) mod frame {
    /// To the agent: input, of any length. One without bytes is its end.
    pub(crate) const STDIN: u8 = 0;
    /// To the client: output.
    pub(crate) const STDOUT: u8 = 1;
    pub(crate) const STDERR: u8 = 2;
    /// To the client, the last one: how it ended, in JSON.
    pub(crate) const END: u8 = 3;
    /// To the client: the command has begun.
    pub(crate) const STARTED: u8 = 4;
    /// To the agent: end the command. The last frame comes when that is done. Closing this side of
    /// the connection does the same, and is heard even where input is on its way that the command
    /// does not read.
    pub(crate) const KILL: u8 = 5;
    /// To the client: somebody is to be asked. To the agent: the answer.
    pub(crate) const QUESTION: u8 = 6;
    pub(crate) const ANSWER: u8 = 7;
}

pub(crate) const FRAME_HEADER: usize = 8;
/// The longest that is read as a whole.
pub(crate) const LONGEST_FRAME: usize = 1 << 20;

/// The header of a frame of so many bytes.
pub(crate) fn header(kind: u8, length: usize) -> [u8; FRAME_HEADER] {
    let length = u32::try_from(length).expect("a frame is shorter than its bound");
    let [a, b, c, d] = length.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// Writes one frame.
pub(crate) async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    bytes: &[u8],
) -> io::Result<()> {
    let mut frame = Vec::with_capacity(FRAME_HEADER + bytes.len());
    frame.extend_from_slice(&header(kind, bytes.len()));
    frame.extend_from_slice(bytes);
    to.write_all(&frame).await?;
    to.flush().await
}

/// Reads one frame into `bytes`, and gives its kind; `None` at the end between two frames. Not
/// cancel safe.
pub(crate) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> io::Result<Option<u8>> {
    let mut header = [0; FRAME_HEADER];
    if from.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[1..]).await?;
    let [kind, _, _, _, length @ ..] = header;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    bytes.resize(length, 0);
    from.read_exact(bytes).await?;
    Ok(Some(kind))
}
