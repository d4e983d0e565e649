//! From the start of sudo to the begin of the command.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Sudo;
use super::conversation::{Conversation, Said};
use super::text::Signs;
use crate::command::{Child, ChildStderr, Request, Runner, Stdin, Timeout};
use crate::error::{Error, Remote};
use crate::host::{Host, shortened};
use crate::text::printable;

/// Who asks something else than we know, and says no more for so long, waits for an answer that it
/// will not get.
const SILENCE: Duration = Duration::from_secs(10);

/// A command that has begun.
pub(super) struct Begun {
    pub child: Child,
    /// What it is to be ended by.
    pub number: String,
    /// What was read of its stderr.
    pub words: Vec<u8>,
    pub stderr: ChildStderr,
}

/// Starts sudo, answers its question, and completes when the command has begun, within this time
/// from the start of sudo.
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
    let request = Request { text, stdin: Stdin::Piped, timeout: Timeout::Never, ..request };
    let child = runner.spawn(request).await?;
    let talk = talk(child, sudo, &signs, &host);
    match limit {
        None => talk.await,
        // sudo ends with its input.
        Some(after) => timeout(after, talk).await.unwrap_or_else(|_| {
            let (host, remote) = (host.name().to_owned(), Remote::Ended);
            Err(Error::TimedOut { host, after, remote, partial: Arc::default() })
        }),
    }
}

async fn talk(mut child: Child, sudo: &Sudo, signs: &Signs, host: &Host) -> Result<Begun, Error> {
    let refused = |reason: String| Error::Sudo { host: host.name().to_owned(), reason };
    let mut stderr = child.stderr.take().expect("nobody has taken it");
    let mut conversation = Conversation::new(signs);
    let mut is_told = false;
    let mut bytes = [0; 4096];
    loop {
        let read = match timeout(SILENCE, stderr.read(&mut bytes)).await {
            // A pipe does not fail; if it ever does, there is nothing more to come from it.
            Ok(read) => read.unwrap_or(0),
            Err(_) if conversation.asks() => {
                let asked = printable(&conversation.last_line());
                return Err(refused(format!(
                    "something on the host asks what sshpool cannot answer: {asked:?}"
                )));
            }
            Err(_) => continue,
        };
        let mut new = &bytes[..read];
        loop {
            match conversation.take(new) {
                Said::More => break,
                Said::Question => answer(&mut child, sudo, &mut is_told).await.map_err(refused)?,
                Said::Begun(number) => {
                    let words = conversation.words();
                    return Ok(Begun { child, number, words, stderr });
                }
            }
            new = &[];
        }
        if read == 0 {
            return Err(not_begun(child, &conversation, host).await);
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

/// sudo has ended, and the command has not begun.
async fn not_begun(mut child: Child, conversation: &Conversation, host: &Host) -> Error {
    let status = match child.wait().await {
        Ok(status) => status,
        Err(error) => return error,
    };
    let said = printable(&conversation.last_line());
    let reason = match (status.code(), said.as_str()) {
        (Some(127), _) => format!(
            "there is no sudo in PATH (doas reads a terminal, and cannot be used){}",
            if said.is_empty() { said } else { format!(": {said}") }
        ),
        (_, "") => format!("{status}"),
        (..) => said,
    };
    Error::Sudo { host: host.name().to_owned(), reason }
}
