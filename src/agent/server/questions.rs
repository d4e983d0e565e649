//! Asking the person who wants a connection: passwords, one-time codes, passphrases, host keys.
//!
//! ssh asks by starting a program (`SSH_ASKPASS`), which is ours under the name `sshpool-askpass`.
//! It gives the question to the agent, with the token of the login in its environment; the agent
//! passes it on to the client that waits for that login, and the answer back. An answer goes
//! through memory only: it is in no file, no log and no process list.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

use crate::agent::directory::Directory;
use crate::agent::protocol::{
    self, ASKPASS_PROGRAM, ASKPASS_SOCKET, ASKPASS_TOKEN, Connected, Question, Refusal, frame,
};
use crate::error::{ConnectErrorKind, Error};
use crate::host::{Asked, Askpass, Host, Login};
use crate::pool::{Lease, Pool};

/// How long a login with questions may take: as long as a server waits for one (`LoginGraceTime`).
const PATIENCE: Duration = Duration::from_secs(120);

type Asking = (Question, oneshot::Sender<String>);

/// Who is to be asked, by token.
#[derive(Debug, Default)]
pub(super) struct Questions {
    next: AtomicU64,
    /// A std mutex: held for a look.
    waiting: Mutex<HashMap<String, mpsc::UnboundedSender<Asking>>>,
}

impl Questions {
    /// The answer; `None` where nobody gives one.
    pub(super) async fn ask(&self, question: Question) -> Option<String> {
        let client = self.lock().get(&question.token).cloned()?;
        let (sender, answer) = oneshot::channel();
        client.send((question, sender)).ok()?;
        answer.await.ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::UnboundedSender<Asking>>> {
        // Nothing below panics half-way through a change.
        self.waiting.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// One who can be asked, as long as it is there.
struct Askable<'a> {
    questions: &'a Questions,
    token: String,
}

impl Drop for Askable<'_> {
    fn drop(&mut self) {
        self.questions.lock().remove(&self.token);
    }
}

/// The link to this program under its name as one that asks.
fn program(directory: &Directory) -> Result<PathBuf, String> {
    let mut own =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    if !own.exists() {
        // It was replaced while it ran; the system still has it.
        own = format!("/proc/{}/exe", std::process::id()).into();
    }
    directory.link(ASKPASS_PROGRAM, &own)
}

/// Connects for a client that can be asked.
pub(super) async fn connect(
    questions: &Questions,
    directory: &Directory,
    pool: Pool,
    host: Host,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let program = match program(directory) {
        Ok(program) => program,
        Err(why) => return end(&mut to, Err(Refusal::new(protocol::Cause::Invalid, why))).await,
    };
    // Nobody else can be there, and it is no secret to our own user.
    let token =
        format!("{}-{}", std::process::id(), questions.next.fetch_add(1, Ordering::Relaxed));
    let (sender, mut asked) = mpsc::unbounded_channel();
    questions.lock().insert(token.clone(), sender);
    let askable = Askable { questions, token };
    let environment =
        vec![(ASKPASS_SOCKET, directory.socket().into()), (ASKPASS_TOKEN, (&askable.token).into())];
    let login = host.login().clone();
    let host = host.with_login(Login {
        askpass: Some(Arc::new(Askpass { program, environment, asked: Asked::default() })),
        limit: Some(PATIENCE),
        ..login
    });
    let has_asked = || host.login().has_asked();
    let connected = async {
        // What has failed before has failed without a question.
        pool.reset(&host);
        match pool.acquire(&host).await {
            // So has a login that was under way.
            Err(Error::Connect { source, .. })
                if source.kind() == ConnectErrorKind::Authentication && !has_asked() =>
            {
                pool.reset(&host);
                pool.acquire(&host).await
            }
            other => other,
        }
    };
    let mut connected = std::pin::pin!(connected);
    let mut bytes = Vec::new();
    loop {
        tokio::select! {
            lease = &mut connected => {
                let lease: Result<Lease, Error> = lease;
                let connected = lease.as_ref().map(Connected::of);
                let refused = |error: &Error| Refusal::of(error, host.name());
                return end(&mut to, connected.map_err(refused)).await;
            }
            Some((question, answer)) = asked.recv() => {
                if let Some(askpass) = &host.login().askpass {
                    askpass.asked.set();
                }
                let question = Question { token: String::new(), ..question };
                let text = serde_json::to_vec(&question).expect("it has text keys");
                let sent = protocol::write_frame(&mut to, frame::QUESTION, &text).await;
                // The login waits for the answer, and so do we.
                let answered = match sent {
                    Ok(()) => protocol::read_frame(&mut from, &mut bytes).await,
                    Err(error) => Err(error),
                };
                match answered {
                    Ok(Some(frame::ANSWER)) => {
                        let text = String::from_utf8(std::mem::take(&mut bytes));
                        let _ = answer.send(text.map_err(|_| io::ErrorKind::InvalidData)?);
                    }
                    // No answer is one, too: ssh is told that there is none.
                    Ok(Some(_)) => drop(answer),
                    Ok(None) | Err(_) => {
                        give_up(&pool, &host).await;
                        return Ok(());
                    }
                }
            }
        }
    }
}

/// Ends a login whose questions nobody answers any more: ssh would go on with empty answers, which
/// count as wrong ones.
async fn give_up(pool: &Pool, host: &Host) {
    let is_there =
        pool.stats_by_host().get(&host.key()).is_some_and(|stats| stats.total_connections > 0);
    if !is_there {
        pool.close_host_within(host, Duration::ZERO).await;
    }
}

async fn end(
    to: &mut (impl AsyncWrite + Unpin),
    result: Result<Connected, Refusal>,
) -> io::Result<()> {
    let bytes = match result {
        Ok(connected) => serde_json::to_vec(&connected),
        Err(refused) => serde_json::to_vec(&refused),
    };
    protocol::write_frame(to, frame::END, &bytes.expect("it has text keys")).await?;
    to.shutdown().await
}
