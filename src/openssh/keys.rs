//! What an ssh-agent holds, asked over its socket: draft-miller-ssh-agent, sections 3 and 4.4.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// An ssh-agent answers at once, one that is forwarded in a round trip. One that has hung never does.
const PATIENCE: Duration = Duration::from_millis(300);
/// No answer is longer (`MAX_AGENT_REPLY_LEN` of OpenSSH).
const LONGEST: u32 = 256 * 1024;

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;

/// The public keys that the agent behind this socket holds, in its order.
pub(crate) async fn held(socket: &Path) -> io::Result<Vec<Vec<u8>>> {
    timeout(PATIENCE, async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(&[0, 0, 0, 1, REQUEST_IDENTITIES]).await?;
        let length = stream.read_u32().await?;
        if length == 0 || length > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await?;
        keys(&answer).ok_or_else(|| io::ErrorKind::InvalidData.into())
    })
    .await?
}

/// The keys in an answer: a type, a count, and for each a key and a comment.
fn keys(answer: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (kind, rest) = answer.split_first()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    if *kind != IDENTITIES_ANSWER {
        return None;
    }
    let mut keys = Vec::new();
    for _ in 0..u32::from_be_bytes(*count) {
        let (key, behind) = string(rest)?;
        let (_comment, behind) = string(behind)?;
        keys.push(key.to_owned());
        rest = behind;
    }
    Some(keys)
}

fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_or_refused() {
        let answer = [12, 0, 0, 0, 1, 0, 0, 0, 2, 7, 8, 0, 0, 0, 1, b'c'];
        assert_eq!(keys(&answer), Some(vec![vec![7, 8]]));
        assert_eq!(keys(&[12, 0, 0, 0, 0]), Some(Vec::new()));
        for end in 0..answer.len() {
            assert_eq!(keys(&answer[..end]), None, "{end}");
        }
        assert_eq!(keys(&[5]), None);
        assert_eq!(keys(&[12, 255, 255, 255, 255, 255, 255, 255, 255]), None);
    }
}
