//! From the start of sudo to the begin of the command.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::Sudo;
use super::conversation::{Conversation, Said};
use super::text::Signs;
use crate::command::{Child, ChildStderr, Request, Runner, Stdin, Timeout};
use crate::error::Error;
use crate::host::shortened;
use crate::text::printable;

/// How long the ending of a command by sudo may take: sudo itself, TERM, two seconds, and KILL.
pub(super) const ENDING: Duration = Duration::from_secs(10);
/// Who asks something else than we know, and says no more for so long, waits for an answer that it
/// will not get.
const SILENCE: Duration = Duration::from_secs(10);

const NO_SUDO: &str = "there is no sudo in PATH (doas reads a terminal, and cannot be used)";

/// A command that has begun.
pub(super) struct Begun {
    pub child: Child,
    /// What it is to be ended by.
    pub number: String,
    /// What was read of its stderr.
    pub words: Vec<u8>,
    pub stderr: ChildStderr,
    /// When its time is over.
    pub deadline: Option<Instant>,
}

/// The limit of a command that may take so long and whose limit is seen to here: it is for an
/// account whose shell never gets to sudo.
pub(super) fn with_grace(limit: Option<Duration>) -> Timeout {
    limit.map_or(Timeout::Never, |limit| Timeout::After(limit.saturating_add(ENDING)))
}

/// Starts sudo, answers its question, and completes when the command has begun, within this time
/// from the start of sudo. The limit of the request is for all of the command.
pub(super) async fn begun(
    runner: &dyn Runner,
    sudo: &Sudo,
    request: Request,
    limit: Option<Duration>,
) -> Result<Begun, Error> {
    let host = request.host.clone();
    let refused = |reason: String| Error::Sudo { host: host.name().to_owned(), reason };
    if let Some(user) = &sudo.user
        && (user.is_empty() || user.contains('\0') || user.starts_with('-'))
    {
        let user = shortened(&format!("{user:?}"));
        return Err(refused(format!("{user} is not the name of a user")));
    }
    let signs = Signs::new();
    let text = signs.text(sudo, &request.text);
    let request = Request { text, stdin: Stdin::Piped, ..request };
    let mut child = runner.spawn(request).await?;
    // An overflowing deadline means no deadline.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let mut stderr = child.stderr.take().expect("nobody has taken it");
    let talk = talk(&mut child, &mut stderr, sudo, &signs);
    let refusal = match (deadline, limit) {
        (Some(deadline), Some(after)) => match timeout_at(deadline, talk).await {
            Ok(talked) => talked,
            Err(_) => {
                // sudo ends with its input.
                let (host, remote) = (host.name().to_owned(), child.end().await);
                return Err(Error::TimedOut { host, after, remote, partial: Arc::default() });
            }
        },
        _ => talk.await,
    };
    let reason = match refusal {
        Ok(Begin { number, words }) => {
            if let Some(stdin) = &mut child.stdin {
                // Where it has gone, its end tells why.
                let _ = stdin.write_all(b"\n").await;
                let _ = stdin.flush().await;
            }
            return Ok(Begun { child, number, words, stderr, deadline });
        }
        Err(Refusal::Said(reason)) => reason,
        Err(Refusal::Ended(said)) => not_begun(&mut child, said).await?,
    };
    Err(Error::Sudo { host: host.name().to_owned(), reason })
}

/// What a conversation comes to.
struct Begin {
    number: String,
    words: Vec<u8>,
}

enum Refusal {
    Said(String),
    /// sudo has ended, and this was its last line.
    Ended(String),
}

async fn talk(
    child: &mut Child,
    stderr: &mut ChildStderr,
    sudo: &Sudo,
    signs: &Signs,
) -> Result<Begin, Refusal> {
    let mut conversation = Conversation::new(signs);
    let mut is_told = false;
    let mut bytes = [0; 4096];
    loop {
        let read = match timeout(SILENCE, stderr.read(&mut bytes)).await {
            // A pipe does not fail; if it ever does, there is nothing more to come from it.
            Ok(read) => read.unwrap_or(0),
            Err(_) if conversation.asks() => {
                let asked = printable(&conversation.last_line());
                return Err(Refusal::Said(format!(
                    "something on the host asks what sshpool cannot answer: {asked:?}"
                )));
            }
            Err(_) => continue,
        };
        let mut new = &bytes[..read];
        loop {
            match conversation.take(new) {
                Said::More => break,
                Said::Question => answer(child, sudo, &mut is_told).await.map_err(Refusal::Said)?,
                Said::Begun(number) => return Ok(Begin { number, words: conversation.words() }),
            }
            new = &[];
        }
        if read == 0 {
            return Err(Refusal::Ended(printable(&conversation.last_line())));
        }
    }
}

/// sudo has asked. `Err` says why it gets no answer; then sudo reads the end of its input, and
/// gives up.
async fn answer(child: &mut Child, sudo: &Sudo, is_told: &mut bool) -> Result<(), String> {
    if std::mem::replace(is_told, true) {
        return Err("the password is wrong".to_owned());
    }
    let Some(password) = &sudo.password else {
        return Err(
            "it asks for a password, and there is none (sshpool asks for it with -K)".to_owned()
        );
    };
    if let Some(stdin) = &mut child.stdin {
        // Where it has gone, its end tells why.
        let _ = stdin.write_all(password.line()).await;
        let _ = stdin.flush().await;
    }
    Ok(())
}

/// Why the command has not begun, where sudo has ended with these words.
async fn not_begun(child: &mut Child, said: String) -> Result<String, Error> {
    let status = child.wait().await?;
    Ok(match (status.code(), said.as_str()) {
        (Some(127), "") => NO_SUDO.to_owned(),
        (Some(127), _) => format!("{NO_SUDO}: {said}"),
        (_, "") => status.to_string(),
        (..) => said,
    })
}
