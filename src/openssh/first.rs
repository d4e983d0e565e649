//! The first session of a login: what its shell answers to the [`probe`](bootstrap::probe), while
//! its input stays open for a command.
//!
//! Something that is no shell may wait for input before it says anything. So the input is closed
//! after a while, and then the session serves as a proof only.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use super::bootstrap;

/// So much is looked through. No start-up file prints that much.
const MOST: usize = 1024 * 1024;

/// How long the input stays open while nothing is said.
const SILENCE: Duration = Duration::from_secs(3);

/// How long it stays open when one of the streams has come to its sign. Where start-up files leave
/// both streams in their places, the other sign comes at once.
const BEHIND: Duration = Duration::from_millis(250);

/// What came on the streams up to their signs, or up to their ends.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Its input is still open.
    pub has_input: bool,
    /// It wrote more than is looked through, and had not ended.
    pub is_endless: bool,
}

impl Answer {
    /// Whether a POSIX shell has answered.
    pub(super) fn is_posix(&self) -> bool {
        has(&self.stdout, &bootstrap::probe_end())
    }
}

/// Reads what this client of a session has to say. It has its pipes.
pub(super) async fn answer(child: &mut Child) -> Answer {
    let mut answer = Answer::default();
    let Child { stdin, stdout: Some(stdout), stderr: Some(stderr), .. } = child else {
        return answer;
    };
    let end = bootstrap::probe_end();
    // What was looked through before is not looked through again.
    let ends = |text: &[u8], seen: usize| has(&text[seen.saturating_sub(end.len())..], &end);
    let mut pause = pin!(sleep(SILENCE));
    let (mut reads_stdout, mut reads_stderr) = (true, true);
    while reads_stdout || reads_stderr {
        let seen = (answer.stdout.len(), answer.stderr.len());
        let sign = tokio::select! {
            read = stdout.read_buf(&mut answer.stdout), if reads_stdout => {
                answer.is_endless = answer.stdout.len() >= MOST;
                if answer.is_endless {
                    break;
                }
                let sign = ends(&answer.stdout, seen.0);
                reads_stdout = matches!(read, Ok(1..)) && !sign;
                sign
            }
            read = stderr.read_buf(&mut answer.stderr), if reads_stderr => {
                let sign = ends(&answer.stderr, seen.1);
                reads_stderr = matches!(read, Ok(1..)) && !sign;
                // What is not looked at is read all the same, or the writer would wait.
                if answer.stderr.len() >= MOST {
                    answer.stderr.drain(..MOST / 2);
                }
                sign
            }
            () = &mut pause, if stdin.is_some() => {
                drop(stdin.take());
                false
            }
        };
        if sign {
            pause.as_mut().reset(Instant::now() + BEHIND);
        }
    }
    answer.has_input = stdin.is_some();
    answer
}

/// Gives the shell that has answered what it is to do next, one line. False where that could not be
/// written.
pub(super) async fn write_bootstrap(child: &mut Child, text: &str) -> bool {
    let Some(stdin) = &mut child.stdin else { return false };
    stdin.write_all(format!("{text}\n").as_bytes()).await.is_ok()
}

fn has(text: &[u8], sign: &[u8]) -> bool {
    text.windows(sign.len()).any(|window| window == sign)
}
