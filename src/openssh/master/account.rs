//! What an account is like, and the proofs that commands can run on it.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout, timeout_at};

use super::Master;
use crate::host::Variables;
use crate::openssh::session::Session;
use crate::openssh::{alive, bootstrap, diagnosis, first};
use crate::text::printable;
use crate::transport::{Input, Script, Session as _, SessionEnd, Sessions, Streams};

/// So much is read where an echo proves something. No start-up file prints that much.
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
    const ALL: [Account; 3] = [Account::Posix, Account::Shell, Account::Silent];

    /// That of this number.
    pub(super) fn of(number: u8) -> Self {
        Self::ALL[usize::from(number)]
    }
}

/// Of what is no shell, so many lines are looked at for one with words, and so much is told of it.
const LINES: usize = 100;
const LONGEST: usize = 200;

/// How long an answer over a connection that has been silent is waited for, at least.
const SHORTEST_ECHO: Duration = Duration::from_millis(200);
/// The same, where this machine has many other connections to ask.
const BUSY_ECHO: Duration = Duration::from_secs(1);

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
        // Another session could end the connection.
        if self.sessions() != Sessions::Several {
            return Ok(());
        }
        timeout_at(deadline, self.echo()).await.unwrap_or_else(|_| {
            Err(format!("no answer from the server within {:?}", self.call_timeout))
        })
    }

    /// Whether a shell answers over this session in a short time, which goes by how long the last
    /// echo took.
    pub(crate) async fn is_heard(&self, over: &mut Session, busy: bool) -> Option<bool> {
        let shortest = if busy { BUSY_ECHO } else { SHORTEST_ECHO };
        let limit = self.last_echo().map_or(shortest, |took| shortest.max(took * 4));
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
        self.cut_log();
        // The program itself is asked once, behind the first command, and where something is odd:
        // what it says is the reason then.
        let was_asked = self.was_asked.swap(true, Ordering::Relaxed);
        if was_asked
            && alive::master_behind(&self.socket, deadline).await.is_ok_and(|pid| self.is_ours(pid))
        {
            return Ok(());
        }
        let finished = self.call("check", deadline).await?;
        match diagnosis::check_pid(&finished.stderr) {
            Some(pid) if self.is_ours(pid) => Ok(()),
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
            Some(pid) if self.is_ours(pid.cast_unsigned()) => Ok(()),
            // It has ended, or the system does not tell.
            _ => self.check(deadline).await,
        }
    }

    /// Opens the first session of a login. It tells what the account is like, and is kept for the
    /// first command where that can be written to it.
    pub(super) async fn open_first(&self) -> Result<Account, Fruitless> {
        let started = Instant::now();
        let variables = Arc::clone(&self.route.variables);
        let marker = Some(bootstrap::marker());
        let mut session = self
            .spawn(&Script::new(bootstrap::probe()), Input::Piped, "", marker, &variables)
            .map_err(|why| Fruitless::Failed(why.to_string()))?;
        let answer = first::answer(session.client()).await;
        let is_posix = answer.is_posix();
        if is_posix {
            self.ran();
            self.echo_took(started.elapsed());
            // Then our own lines would be shown with each command.
            if bootstrap::is_traced(&answer.stdout, &answer.stderr) {
                return Ok(Account::Shell);
            }
            let is_quiet = bootstrap::is_quiet(&answer.stdout, &answer.stderr);
            self.lanes.set_work(is_quiet);
            // Nothing was written until now, and a start-up file that reads would still wait.
            self.input_proven.store(answer.has_input, Ordering::Relaxed);
            // What start-up files print comes with each command, and has been read here.
            if is_quiet
                && answer.has_input
                && first::write_bootstrap(session.client(), self.bootstrap_text()).await
            {
                *self.first() = Some((session.ahead(), variables));
            }
            return Ok(Account::Posix);
        }
        let has_word = bootstrap::has_word(&answer.stdout);
        if answer.is_endless {
            // A server that was told that one stream is not read any more does not read the other
            // one either, and what runs there would wait: the session is ended.
            drop(session);
            self.ran();
            return Ok(if has_word { Account::Shell } else { Account::Silent });
        }
        match session.wait(self).await {
            end @ (SessionEnd::Exited(_) | SessionEnd::NotBegun) => {
                self.echo_took(started.elapsed());
                if has_word {
                    return Ok(Account::Shell);
                }
                let _ = self.no_shell.set(no_shell(&end, &answer));
                Ok(Account::Silent)
            }
            // That was bad luck, and is not remembered.
            SessionEnd::Killed => Ok(Account::Shell),
            SessionEnd::Refused(reason) => Err(Fruitless::Refused(reason)),
            SessionEnd::NotReached(reason)
            | SessionEnd::Lost(reason)
            | SessionEnd::ClientKilled(reason) => Err(Fruitless::Failed(reason)),
        }
    }

    /// The session that has proven the login and waits for a command, once.
    pub(crate) fn take_first(&self) -> Option<First> {
        self.first().take()
    }

    fn first(&self) -> MutexGuard<'_, Option<First>> {
        self.first.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// A session that prints a word. A refusal is an answer of the server, too.
    async fn echo(&self) -> Result<(), String> {
        let started = Instant::now();
        match self.echo_ends().await {
            Ok(()) => {
                self.echo_took(started.elapsed());
                Ok(())
            }
            Err(
                SessionEnd::NotReached(reason)
                | SessionEnd::Lost(reason)
                | SessionEnd::ClientKilled(reason),
            ) => Err(reason),
            Err(_) => Ok(()),
        }
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
        // Another session could end the connection. The command itself will find out.
        if self.sessions() != Sessions::Several {
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
        if self.sessions() == Sessions::One {
            self.remembered.insert(&self.host, Account::Shell as u8);
        }
    }
}

/// The first session of a login, and the variables that it sends.
pub(super) type First = (Session, Arc<Variables>);

/// A first session that has told nothing of the account.
pub(super) enum Fruitless {
    /// The connection lives, and has no session to spare.
    Refused(String),
    Failed(String),
}

/// What something that is no shell has answered, in a line.
fn no_shell(end: &SessionEnd, answer: &first::Answer) -> String {
    let status = match end {
        SessionEnd::Exited(code) => format!("it exited with status {code}"),
        _ => "it ended".to_owned(),
    };
    let said = [&answer.stdout, &answer.stderr].into_iter();
    let said = said.flat_map(|said| said.split(|&byte| byte == b'\n').take(LINES));
    let mut said = said.map(|line| printable(&String::from_utf8_lossy(line)));
    match said.find(|line| !line.is_empty()) {
        Some(line) => {
            format!("{status} and said: {}", line.chars().take(LONGEST).collect::<String>())
        }
        None => format!("{status} and said nothing"),
    }
}
