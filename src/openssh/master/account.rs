//! What an account is like, and the proofs that commands can run on it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Master;
use super::closing::BEGINNING;
use crate::host::Variables;
use crate::openssh::examine::Limit;
use crate::openssh::session::Session;
use crate::openssh::{alive, bootstrap, diagnosis};
use crate::transport::{Input, Marker as _, Script, Session as _, SessionEnd, Streams};

/// So much of what an account prints is looked through for the answer to an echo. No start-up file
/// prints that much.
const MOST_NOISE: u64 = 1024 * 1024;

/// What runs on the other side when a session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// A shell that the bootstrap works in. → Shell (when a command has not begun there)
    Posix,
    /// A shell, and another one: csh, fish.
    Shell,
    /// Something that does not answer an echo, such as a forced command.
    Silent,
}

impl Account {
    pub(super) const ALL: [Account; 3] = [Account::Posix, Account::Shell, Account::Silent];
}

/// How long an answer over a connection that has been silent is waited for, at least.
const SHORTEST_ECHO: Duration = Duration::from_millis(200);

impl Master {
    /// Proves that a command could run now: the master answers for itself, and the server runs an
    /// echo. `Err` says what did not work.
    pub(crate) async fn probe(&self, over: Option<&mut Session>) -> Result<(), String> {
        let deadline = Instant::now() + self.call_timeout;
        self.check(deadline).await?;
        if self.is_silent() {
            return Ok(());
        }
        // A session that has ended says nothing of the connection.
        if let Some(session) = over
            && let Ok(true) = timeout_at(deadline, session.answers(self)).await
        {
            return Ok(());
        }
        match timeout_at(deadline, self.echo(&bootstrap::echo())).await {
            // A refusal is an answer of the server too.
            Ok(Echo::Answer(_) | Echo::Refused(_)) => Ok(()),
            Ok(Echo::Failed(reason)) => Err(reason),
            Err(_) => Err(format!("no answer from the server within {:?}", self.call_timeout)),
        }
    }

    /// Whether a shell answers over this session in a short time, which goes by how long the last
    /// echo took.
    pub(crate) async fn is_heard(&self, over: &mut Session) -> Option<bool> {
        let limit = self.last_echo().map_or(SHORTEST_ECHO, |took| SHORTEST_ECHO.max(took * 4));
        let begun = Instant::now();
        match timeout(limit, over.answers(self)).await {
            Ok(true) => {
                self.echo_took(begun.elapsed());
                Some(true)
            }
            Ok(false) => None,
            Err(_) => Some(false),
        }
    }

    fn echo_took(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.echo_took.store(micros.max(1), Ordering::Relaxed);
    }

    /// The part of a probe that asks nothing of the server.
    pub(crate) async fn answers(&self) -> Result<(), String> {
        self.check(Instant::now() + self.call_timeout).await
    }

    /// Whether the master behind the socket is our child and answers. Says nothing about the
    /// server.
    pub(in crate::openssh) async fn check(&self, deadline: Instant) -> Result<(), String> {
        if let Some(reason) = self.end_reason() {
            return Err(reason);
        }
        if alive::master_behind(&self.socket, deadline).await.is_ok_and(|pid| pid == self.pid) {
            return Ok(());
        }
        // What the program says is the reason.
        let finished = self.call("check", deadline).await?;
        match diagnosis::check_pid(&finished.stderr) {
            Some(pid) if pid == self.pid => Ok(()),
            Some(pid) => Err(format!("another process ({pid}) answers on the control socket")),
            None => {
                Err(diagnosis::master_end(&finished.stderr, "the control master does not answer"))
            }
        }
    }

    /// Whether our child is who listens on the socket. The system knows, and that costs no process;
    /// what else `ssh -O check` would say the echo says, too.
    pub(super) async fn is_behind_its_socket(&self, deadline: Instant) -> Result<(), String> {
        let listener = tokio::net::UnixStream::connect(&self.socket).await;
        match listener.and_then(|stream| stream.peer_cred()).ok().and_then(|peer| peer.pid()) {
            Some(pid) if pid == self.pid.cast_signed() => Ok(()),
            // It has ended, or the system does not tell.
            _ => self.check(deadline).await,
        }
    }

    /// A session that prints a word, and what it tells of the account.
    pub(super) async fn echo(&self, command: &str) -> Echo {
        let started = Instant::now();
        let mut session =
            match self.spawn(command, Input::Bytes(b""), "", None, &Variables::default()) {
                Ok(session) => session,
                Err(why) => return Echo::Failed(why.to_string()),
            };
        let Streams { stdout, mut stderr, .. } = session.take_streams();
        let mut text = Vec::new();
        // A forced command may write for ever. Then the session is ended, and not only its output:
        // a server that was told that one stream is not read any more does not read the other one
        // either, and what runs there would wait.
        let read = async {
            // A pipe does not fail; if it ever does, the word is missing, and that is the answer.
            let _ = stdout.take(MOST_NOISE).read_to_end(&mut text).await;
            if text.len() as u64 == MOST_NOISE { Err(()) } else { Ok(()) }
        };
        let mut said = Vec::new();
        let mut sink = tokio::io::sink();
        let stderr = async {
            // More than is looked at is read all the same, or the writer would wait.
            let _ = (&mut stderr).take(MOST_NOISE).read_to_end(&mut said).await;
            Ok(tokio::io::copy(&mut stderr, &mut sink).await)
        };
        let end = match tokio::try_join!(read, stderr, async { Ok(session.wait(self).await) }) {
            Ok((.., end)) => end,
            Err(()) => {
                drop(session);
                SessionEnd::Killed
            }
        };
        match end {
            SessionEnd::Exited(_) | SessionEnd::Killed | SessionEnd::NotBegun => {
                self.echo_took(started.elapsed());
                let killed = end == SessionEnd::Killed && (text.len() as u64) < MOST_NOISE;
                Echo::Answer(if bootstrap::marker().take_from(&mut text) {
                    // Else each command would be told what start-up files do.
                    let is_quiet = bootstrap::is_quiet(&text, &said);
                    self.lanes.set_work(is_quiet);
                    Account::Posix
                } else if bootstrap::has_word(&text) {
                    Account::Shell
                } else if killed {
                    // That was bad luck, and is not remembered.
                    Account::Shell
                } else {
                    Account::Silent
                })
            }
            SessionEnd::Refused(reason) => Echo::Refused(reason),
            SessionEnd::NotReached(reason)
            | SessionEnd::Lost(reason)
            | SessionEnd::ClientKilled(reason) => Echo::Failed(reason),
        }
    }

    /// How many sessions the server opens on this connection at once, found out by opening them one
    /// after another up to so many. They wait for input and do nothing, and they end with it.
    /// `others` says how many wait in standby.
    ///
    /// `None` where what runs in a session is not ours to choose. `Err` says what else came in
    /// between.
    pub(crate) async fn most_sessions(
        &self,
        most: usize,
        others: impl Fn() -> usize,
    ) -> Option<Result<Limit, String>> {
        let mut opened = Vec::new();
        let mut refused = false;
        while opened.len() + others() < most {
            let session = match self.account() {
                Account::Posix => self.bootstrap(Input::Piped, ""),
                Account::Shell => {
                    self.spawn("cat >/dev/null", Input::Piped, "", None, &Variables::default())
                }
                Account::Silent => return None,
            };
            let mut session = match session {
                Ok(session) => session,
                Err(why) => return Some(Err(why.to_string())),
            };
            // Taken before it is waited for, which would close the input.
            let streams = session.take_streams();
            match session.opened(self).await {
                Ok(()) => {
                    opened.push((session, streams));
                    refused = false;
                }
                // The server may not have noticed yet that a command before has ended.
                Err(SessionEnd::Refused(_)) if !refused => {
                    refused = true;
                    sleep(BEGINNING).await;
                }
                Err(SessionEnd::Refused(_)) => return Some(Ok(Limit::Is(opened.len() + others()))),
                Err(end) => return Some(Err(format!("{end:?}"))),
            }
        }
        Some(Ok(Limit::AtLeast(opened.len() + others())))
    }

    /// Whether commands go as arguments, and no session can be opened before its command is known.
    pub(crate) fn is_plain(&self) -> bool {
        self.account() != Account::Posix
    }

    /// Finds out, once, whether a start-up file takes what is written to a shell. A command with an
    /// input of its own cannot: it would wait for its line, and that would wait for somebody to
    /// write.
    pub(crate) async fn prove_input(&self) {
        if self.is_plain() || self.input_proven.load(Ordering::Relaxed) {
            return;
        }
        let script = Script::new(String::new());
        let Ok(mut session) = self.bootstrap(Input::Bytes(b""), bootstrap::line_of(&script)) else {
            return;
        };
        let Streams { mut stdout, .. } = session.take_streams();
        let ended = timeout(self.call_timeout, async {
            // A pipe does not fail; if it ever does, the word is missing, and that is the answer.
            let mut text = (&mut stdout).take(MOST_NOISE);
            let _ = tokio::io::copy(&mut text, &mut tokio::io::sink()).await;
            session.wait(self).await
        })
        .await;
        match ended {
            Ok(_) if stdout.has_begun() => self.input_proven.store(true, Ordering::Relaxed),
            Ok(end) => drop(session.not_begun(end, self)),
            // The command itself will find out.
            Err(_) => {}
        }
    }

    /// The bootstrap did not work this time: it is not tried again on this connection.
    pub(in crate::openssh) fn takes_arguments(&self) {
        tracing::warn!(
            pid = self.pid,
            "the account's shell ended before a command had begun; the next ones go as arguments"
        );
        self.account.store(Account::Shell as u8, Ordering::Relaxed);
    }
}

pub(super) enum Echo {
    /// A session ran, and tells what the account is like.
    Answer(Account),
    /// The connection lives, and has no session to spare.
    Refused(String),
    Failed(String),
}
