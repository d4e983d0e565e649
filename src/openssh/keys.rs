//! The keys that an ssh-agent holds, asked for over its socket in its own protocol
//! (draft-miller-ssh-agent): one request and one answer, each behind its length in four bytes. No
//! process is started for it.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an agent may take. One that hangs never answers, and a caller waits.
const DEADLINE: Duration = Duration::from_millis(300);
/// `SSH_AGENTC_REQUEST_IDENTITIES`, behind its length.
const REQUEST: [u8; 5] = [0, 0, 0, 1, 11];
/// `SSH_AGENT_IDENTITIES_ANSWER`.
const ANSWER: u8 = 12;
/// ssh takes no longer answer either.
const LONGEST: usize = 256 * 1024;

/// The public keys of the agent behind this socket, each as it is sent over the wire, in the
/// agent's order.
pub(super) async fn listed(socket: &OsStr) -> io::Result<Vec<Vec<u8>>> {
    match timeout(DEADLINE, ask(socket)).await {
        Ok(answer) => keys(&answer?).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

async fn ask(socket: &OsStr) -> io::Result<Vec<u8>> {
    let mut agent = UnixStream::connect(socket).await?;
    agent.write_all(&REQUEST).await?;
    let length = agent.read_u32().await? as usize;
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length];
    agent.read_exact(&mut answer).await?;
    Ok(answer)
}

/// What stands in an answer: its kind, the number of keys, and for each the key and a comment.
fn keys(answer: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (&ANSWER, mut rest) = answer.split_first()? else { return None };
    let count = number(&mut rest)?;
    let mut keys = Vec::new();
    for _ in 0..count {
        keys.push(text(&mut rest)?.to_vec());
        text(&mut rest)?;
    }
    rest.is_empty().then_some(keys)
}

fn number(rest: &mut &[u8]) -> Option<usize> {
    let (bytes, behind) = rest.split_first_chunk()?;
    *rest = behind;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)?;
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::path::Path;
    use std::time::Instant;

    #[rstest]
    #[case(&[12, 0, 0, 0, 0], Some(0))]
    #[case(&[12, 0, 0, 0, 1, 0, 0, 0, 1, b'k', 0, 0, 0, 0], Some(1))]
    #[case(&[12, 0, 0, 0, 1, 0, 0, 0, 2, b'k', 0, 0, 0, 0], None)]
    #[case(&[12, 0, 0, 0, 1], None)]
    #[case(&[12, 255, 255, 255, 255], None)]
    #[case(&[12, 0, 0, 0, 0, 0], None)]
    #[case(&[5], None)]
    #[case(&[], None)]
    fn answers(#[case] answer: &[u8], #[case] count: Option<usize>) {
        assert_eq!(keys(answer).map(|keys| keys.len()), count);
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the rule is for ssh; this is a test's own helper"
    )]
    fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .current_dir(directory)
            .env("SSH_AUTH_SOCK", directory.join("agent"));
        let output = command.output().expect("OpenSSH's programs are there");
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[tokio::test]
    async fn a_real_agent_says_what_it_holds() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let started = run("ssh-agent", &["-a", "agent"], path);
        let pid = started.split("SSH_AGENT_PID=").nth(1).and_then(|rest| rest.split(';').next());
        let pid = nix::unistd::Pid::from_raw(
            pid.and_then(|pid| pid.parse().ok()).expect("it says its pid"),
        );
        let socket = path.join("agent");
        assert_eq!(listed(socket.as_os_str()).await.expect("an answer"), Vec::<Vec<u8>>::new());
        for name in ["a", "b"] {
            run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", name], path);
            run("ssh-add", &["-q", name], path);
        }
        let both = listed(socket.as_os_str()).await.expect("an answer");
        assert_eq!(both.len(), 2);
        run("ssh-add", &["-q", "-d", "a"], path);
        assert_eq!(listed(socket.as_os_str()).await.expect("an answer"), both[1..]);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is ours");
    }

    #[tokio::test]
    async fn an_agent_that_hangs_or_talks_nonsense_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("agent");
        let missing = listed(socket.as_os_str()).await.expect_err("nobody listens");
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let listener = tokio::net::UnixListener::bind(&socket).expect("it listens");
        let started = Instant::now();
        let hung = listed(socket.as_os_str()).await.expect_err("it never answers");
        assert_eq!(hung.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= DEADLINE && started.elapsed() < Duration::from_secs(20));
        for nonsense in [&b"\xff\xff\xff\xffxxxx"[..], &[0, 0, 0, 1, 5], &[0, 0, 0, 9, 12], b"x"] {
            let talks = async {
                // Those before have waited in vain.
                loop {
                    let (mut stream, _) = listener.accept().await.expect("somebody asks");
                    if stream.write_all(nonsense).await.is_ok() {
                        let _ = stream.shutdown().await;
                    }
                }
            };
            tokio::select! {
                answer = listed(socket.as_os_str()) => assert!(answer.is_err()),
                () = talks => unreachable!("it goes on"),
            }
        }
    }
}
