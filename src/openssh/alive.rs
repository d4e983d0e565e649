//! What `ssh -O check` asks a master, asked by ourselves: no process is started for it.
//!
//! The protocol is OpenSSH's PROTOCOL.mux: each packet is its length and its content, numbers are
//! of four bytes, the greatest first. Both sides say hello with the version; the answer to the
//! alive check has the process id of the master. Both can come in one piece. Anything else than
//! expected is no answer, and then the program itself is asked: its words are the reason that is
//! told.

use std::io;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

const HELLO: u32 = 0x0000_0001;
const ALIVE_CHECK: u32 = 0x1000_0004;
const ALIVE: u32 = 0x8000_0005;
const VERSION: u32 = 4;
/// Any number: the answer has it, too.
const REQUEST: u32 = 1;
/// More than a hello with its extensions has.
const MOST: u32 = 1024;

/// The process id of the master that listens on this socket.
pub(super) async fn master_behind(socket: &Path, deadline: Instant) -> io::Result<u32> {
    timeout_at(deadline, ask(socket)).await?
}

async fn ask(socket: &Path) -> io::Result<u32> {
    let mut stream = UnixStream::connect(socket).await?;
    let request: Vec<u8> = [[HELLO, VERSION], [ALIVE_CHECK, REQUEST]]
        .iter()
        .flat_map(|[kind, value]| [8, *kind, *value])
        .flat_map(u32::to_be_bytes)
        .collect();
    stream.write_all(&request).await?;
    let hello = packet(&mut stream).await?;
    if hello.get(..2) != Some(&[HELLO, VERSION]) {
        return Err(odd("another version of the protocol"));
    }
    match packet(&mut stream).await?[..] {
        [ALIVE, REQUEST, pid] => Ok(pid),
        _ => Err(odd("another answer")),
    }
}

/// The numbers of the next packet. What is no whole number at its end is left out.
async fn packet(stream: &mut UnixStream) -> io::Result<Vec<u32>> {
    let length = stream.read_u32().await?;
    if length > MOST {
        return Err(odd("a packet that is too long"));
    }
    let mut content = vec![0; length as usize];
    stream.read_exact(&mut content).await?;
    Ok(content.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect())
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Duration;
    use tokio::net::UnixListener;

    fn bytes(packets: &[Vec<u32>]) -> Vec<u8> {
        let numbers = packets.iter().flat_map(|packet| {
            let length = 4 * u32::try_from(packet.len()).expect("it is short");
            std::iter::once(length).chain(packet.iter().copied())
        });
        numbers.flat_map(u32::to_be_bytes).collect()
    }

    #[rstest]
    #[case::as_it_is(&[vec![HELLO, 4], vec![ALIVE, 1, 4711]], Some(4711))]
    #[case::with_extensions(&[vec![HELLO, 4, 1, 2, 3], vec![ALIVE, 1, 4711]], Some(4711))]
    #[case::another_version(&[vec![HELLO, 5], vec![ALIVE, 1, 4711]], None)]
    #[case::another_request(&[vec![HELLO, 4], vec![ALIVE, 2, 4711]], None)]
    #[case::a_failure(&[vec![HELLO, 4], vec![0x8000_0003, 1, 0]], None)]
    #[case::nothing(&[], None)]
    #[case::no_second_packet(&[vec![HELLO, 4]], None)]
    #[case::too_long(&[vec![HELLO; 400]], None)]
    #[tokio::test]
    async fn only_the_answer_counts(#[case] answer: &[Vec<u32>], #[case] expected: Option<u32>) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let master = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 24];
            stream.read_exact(&mut request).await.expect("a request");
            assert_eq!(request.as_slice(), bytes(&[vec![HELLO, 4], vec![ALIVE_CHECK, 1]]));
            stream.write_all(&bytes(answer)).await.expect("it is read");
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let (pid, ()) = tokio::join!(master_behind(&path, deadline), master);
        assert_eq!(pid.ok(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_master_that_is_silent_has_until_the_deadline() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).expect("a socket");
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = master_behind(&path, deadline).await.expect_err("nobody answers");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
