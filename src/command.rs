//! Commands in the manner of `std::process`.
//!
//! [`Command`] collects what to run and how; [`Command::output`], [`Command::status`] and [`Command::spawn`] run it. What reaches the
//! remote shell is one text, put together here and nowhere else: arguments are escaped, shell text is taken as it is.

use std::fmt::Write as _;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use crate::child::Child;
use crate::error::{Error, PartialOutput};
use crate::openssh::{OpenSsh, Session, SessionEnd, Streams};
use crate::{Pool, pool};

/// How a command ended: with a status of its own, or by a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus(Option<i32>);

impl ExitStatus {
    pub(crate) fn exited(code: i32) -> Self {
        ExitStatus(Some(code))
    }

    pub(crate) fn killed() -> Self {
        ExitStatus(None)
    }

    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self.0 == Some(0)
    }

    /// The status that it exited with, 0 to 255, or `None` when a signal ended it. (Which one, OpenSSH's multiplexing does not tell.)
    pub fn code(self) -> Option<i32> {
        self.0
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(code) => write!(f, "exit status: {code}"),
            None => f.write_str("killed by a signal"),
        }
    }
}

/// What a finished command left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Every byte of its standard output.
    pub stdout: Vec<u8>,
    /// Every byte of its standard error; nothing of ssh's own is mixed in.
    pub stderr: Vec<u8>,
}

/// What a command reads as its standard input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdin {
    /// Nothing: end of input at once. The default.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// What the caller writes to [`Child::stdin`]; for [`Command::spawn`] only.
    Piped,
}

impl From<&[u8]> for Stdin {
    fn from(bytes: &[u8]) -> Self {
        Stdin::Bytes(bytes.into())
    }
}

impl From<Vec<u8>> for Stdin {
    fn from(bytes: Vec<u8>) -> Self {
        Stdin::Bytes(bytes.into())
    }
}

impl From<&str> for Stdin {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<String> for Stdin {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

/// What to run on a host, and how. Made by [`Pool::command`], [`Pool::shell`], [`Lease::command`](crate::Lease::command) and
/// [`Lease::shell`](crate::Lease::shell).
///
/// The remote side runs it with the account's login shell. Arguments are escaped so that sh, dash, bash, zsh, ksh, BusyBox and fish
/// give the program exactly what was said here; [`env`](Self::env) and [`current_dir`](Self::current_dir) need one of these shells too.
#[derive(Clone, Debug)]
#[must_use = "a command does nothing until output, status or spawn is awaited"]
pub struct Command {
    target: Target,
    text: String,
    problem: Option<String>,
    env: Vec<(String, String)>,
    current_dir: Option<String>,
    stdin: Stdin,
    timeout: Limit,
    max_output: Option<usize>,
}

/// Where the command gets its connection from.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Any connection to this host.
    Pool(Pool, Arc<crate::Host>),
    /// The one that a lease holds.
    Lease(Pool, Arc<pool::Lease<OpenSsh>>, Arc<crate::Host>),
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    /// What the pool's configuration says, where that applies.
    Default,
    Set(Option<Duration>),
}

impl Command {
    pub(crate) fn program(target: Target, program: &str) -> Self {
        let mut command = Self::shell(target, String::new());
        command.push_word(program);
        command
    }

    pub(crate) fn shell(target: Target, text: String) -> Self {
        let problem = text.contains('\0').then(|| "a command cannot contain a NUL byte".to_owned());
        Command {
            target,
            text,
            problem,
            env: Vec::new(),
            current_dir: None,
            stdin: Stdin::Empty,
            timeout: Limit::Default,
            max_output: None,
        }
    }

    /// Adds one argument, which arrives at the program as it is here, whatever it contains (but for NUL).
    ///
    /// On a command made of shell text it is appended to the text, escaped.
    pub fn arg(mut self, arg: impl AsRef<str>) -> Self {
        self.text.push(' ');
        self.push_word(arg.as_ref());
        self
    }

    /// Adds several arguments.
    pub fn args<S: AsRef<str>>(self, args: impl IntoIterator<Item = S>) -> Self {
        args.into_iter().fold(self, |command, arg| command.arg(arg))
    }

    /// Sets an environment variable for the command. The name must be letters, digits and `_`, not starting with a digit.
    ///
    /// The value is part of the command line that the remote shell is given.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
            self.complain(format!("{name:?} is not a name for an environment variable"));
        }
        if value.contains('\0') {
            self.complain(format!("the value of {name:?} cannot contain a NUL byte"));
        }
        self.env.push((name, value));
        self
    }

    /// Sets several environment variables.
    pub fn envs<K: Into<String>, V: Into<String>>(self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        vars.into_iter().fold(self, |command, (name, value)| command.env(name, value))
    }

    /// Changes to this directory first. If that fails, the command does not run, and the status and the text on stderr are the shell's.
    pub fn current_dir(mut self, directory: impl Into<String>) -> Self {
        let directory = directory.into();
        if directory.is_empty() || directory.contains('\0') {
            self.complain(format!("{directory:?} cannot be a directory"));
        }
        self.current_dir = Some(directory);
        self
    }

    /// Sets what the command reads. Empty by default.
    pub fn stdin(mut self, stdin: impl Into<Stdin>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Limits the time from the start of the command to its end; `None` is no limit.
    ///
    /// Without this call it is `command_timeout` of the pool for [`output`](Self::output) and [`status`](Self::status), and no limit for
    /// [`spawn`](Self::spawn), whose output may well be endless. The time spent waiting for a connection does not count.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = Limit::Set(timeout.into());
        self
    }

    /// Limits the captured bytes of stdout, and of stderr; by default `max_output` of the pool. For [`output`](Self::output) only.
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = Some(bytes);
        self
    }

    /// Runs the command to its end and gives its status and everything that it wrote.
    ///
    /// # Errors
    ///
    /// A status other than 0 is not an error here. See [`Error`] for what is; [`Error::never_started`] tells whether it is safe to run
    /// the command again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the local ssh process and gives the connection back. A remote command that neither reads nor writes
    /// does not notice that.
    pub async fn output(mut self) -> Result<Output, Error> {
        let limit = self.max_output.unwrap_or(self.target.pool().config().max_output);
        let (stdout, stderr) = (Stdio::piped as fn() -> Stdio, Stdio::piped as fn() -> Stdio);
        let mut partial = PartialOutput::default();
        let status = self.run(stdout, stderr, limit, &mut partial).await?;
        Ok(Output { status, stdout: partial.stdout, stderr: partial.stderr })
    }

    /// Runs the command to its end and gives its status. What it writes is thrown away.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output), but for the limit of output.
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn status(mut self) -> Result<ExitStatus, Error> {
        self.run(Stdio::null, Stdio::null, usize::MAX, &mut PartialOutput::default()).await
    }

    /// Starts the command and gives its streams. Returns when a connection is there and the local ssh process runs; a server that
    /// refuses one session more than it allows is asked again, or another connection is taken, behind the streams.
    ///
    /// # Errors
    ///
    /// Those of getting a connection. What happens later, [`Child::wait`] tells.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it completes starts nothing, or ends what was started.
    pub async fn spawn(mut self) -> Result<Child, Error> {
        let text = self.prepare()?;
        let timeout = match self.timeout {
            Limit::Default => None,
            Limit::Set(timeout) => timeout,
        };
        Child::start(self.target, text, std::mem::take(&mut self.stdin), timeout).await
    }

    /// One attempt after the other until the command has started, and then to its end.
    #[tracing::instrument(name = "command", level = "debug", skip_all, fields(host = self.target.host()))]
    async fn run(
        &mut self,
        stdout: fn() -> Stdio,
        stderr: fn() -> Stdio,
        limit: usize,
        partial: &mut PartialOutput,
    ) -> Result<ExitStatus, Error> {
        let text = self.prepare()?;
        let input = match std::mem::take(&mut self.stdin) {
            Stdin::Empty => None,
            Stdin::Bytes(bytes) => Some(bytes),
            Stdin::Piped => {
                let reason = "a piped stdin needs spawn, which gives the pipe".to_owned();
                return Err(Error::InvalidCommand { host: self.target.host().to_owned(), reason });
            }
        };
        let timeout = match self.timeout {
            Limit::Default => Some(self.target.pool().config().command_timeout),
            Limit::Set(timeout) => timeout,
        };
        let mut attempts = Attempts::new(&self.target, timeout);
        loop {
            let lease = attempts.lease().await?;
            let streams = Streams {
                stdin: if input.is_some() { Stdio::piped() } else { Stdio::null() },
                stdout: stdout(),
                stderr: stderr(),
            };
            let mut session =
                lease.connection().open(&text, streams).map_err(|error| attempts.cannot_start(error))?;
            let ran = attempts
                .within(pump(&mut session, &lease, input.as_deref(), limit, partial))
                .await
                .inspect_err(|_| lease.count(|stats| stats.commands_timed_out += 1));
            let end = match ran {
                Ok(Ok(end)) => end,
                Ok(Err(stream)) => {
                    let partial = Arc::new(std::mem::take(partial));
                    return Err(Error::OutputLimit { host: attempts.host(), stream, limit, partial });
                }
                Err(after) => {
                    let partial = Arc::new(std::mem::take(partial));
                    return Err(Error::TimedOut { host: attempts.host(), after, partial });
                }
            };
            tracing::debug!(?end, "session ended");
            if let Some(ended) = attempts.judge(end, lease)? {
                return ended.map_err(|reason| Error::Lost {
                    host: attempts.host(),
                    reason,
                    partial: Arc::new(std::mem::take(partial)),
                });
            }
        }
    }

    /// The text for the remote shell.
    fn prepare(&mut self) -> Result<String, Error> {
        if let Some(reason) = self.problem.take() {
            return Err(Error::InvalidCommand { host: self.target.host().to_owned(), reason });
        }
        let mut text = String::new();
        if let Some(directory) = &self.current_dir {
            // A relative name that starts with a dash would be an option, and `--` is not known to every shell's cd.
            let dot = if directory.starts_with('-') { "./" } else { "" };
            text.push_str("cd ");
            escape(&format!("{dot}{directory}"), &mut text);
            text.push_str(" || exit; ");
        }
        for (name, value) in &self.env {
            write!(text, "export {name}=").expect("writing to a String cannot fail");
            escape(value, &mut text);
            text.push_str("; ");
        }
        text.push_str(&self.text);
        Ok(text)
    }

    fn push_word(&mut self, word: &str) {
        if word.contains('\0') {
            self.complain("an argument cannot contain a NUL byte".to_owned());
        }
        escape(word, &mut self.text);
    }

    fn complain(&mut self, problem: String) {
        self.problem.get_or_insert(problem);
    }
}

impl Target {
    pub(crate) fn pool(&self) -> &Pool {
        match self {
            Target::Pool(pool, _) | Target::Lease(pool, ..) => pool,
        }
    }

    pub(crate) fn host(&self) -> &str {
        match self {
            Target::Pool(_, host) | Target::Lease(_, _, host) => host.name(),
        }
    }
}

/// A lease for one attempt: the pool's for a while, or the caller's own.
pub(crate) enum AttemptLease {
    Own(pool::Lease<OpenSsh>),
    Callers(Arc<pool::Lease<OpenSsh>>),
}

impl std::ops::Deref for AttemptLease {
    type Target = pool::Lease<OpenSsh>;

    fn deref(&self) -> &pool::Lease<OpenSsh> {
        match self {
            AttemptLease::Own(lease) => lease,
            AttemptLease::Callers(lease) => lease,
        }
    }
}

/// The attempts to start one command. Only what provably never started is tried again, and only for so long.
pub(crate) struct Attempts {
    target: Target,
    timeout: Option<Duration>,
    /// Set when the first session is opened.
    deadline: Option<Instant>,
    give_up: Option<Instant>,
    /// How often the connection was gone before the command had started.
    not_reached: u32,
    refused: u32,
    /// Why it is being tried again.
    reason: String,
}

/// A connection that is gone is replaced by another at once; one that fails as soon as it is there is not worth many attempts.
const MOST_NOT_REACHED: u32 = 3;

impl Attempts {
    pub(crate) fn new(target: &Target, timeout: Option<Duration>) -> Self {
        Attempts {
            target: target.clone(),
            timeout,
            deadline: None,
            give_up: None,
            not_reached: 0,
            refused: 0,
            reason: String::new(),
        }
    }

    pub(crate) fn host(&self) -> String {
        self.target.host().to_owned()
    }

    /// A lease for the next attempt.
    pub(crate) async fn lease(&mut self) -> Result<AttemptLease, Error> {
        let lease = match &self.target {
            Target::Lease(_, lease, _) => {
                if self.refused > 0 {
                    // Other connections are not for this command; the server frees a session a moment after its end.
                    let pause = Duration::from_millis(2 << self.refused.min(6));
                    tokio::time::sleep(pause).await;
                    self.check_patience()?;
                }
                AttemptLease::Callers(Arc::clone(lease))
            }
            Target::Pool(pool, host) => {
                let acquire = pool.core().acquire(host);
                let lease = match self.give_up {
                    None => acquire.await?,
                    Some(give_up) => {
                        self.check_patience()?;
                        timeout_at(give_up, acquire).await.unwrap_or_else(|_| Err(self.never_started()))?
                    }
                };
                AttemptLease::Own(lease)
            }
        };
        if self.give_up.is_none() {
            let now = Instant::now();
            self.deadline = self.timeout.map(|timeout| now + timeout);
            // A refusal is a kind of queueing. Even who does not want to queue gives the server a moment to free a session.
            let patience = self.target.pool().config().acquire_timeout.max(Duration::from_secs(1));
            self.give_up =
                Some(self.deadline.map_or(now + patience, |deadline| deadline.min(now + patience)));
        }
        lease.count(|stats| stats.commands_run += u64::from(self.refused + self.not_reached == 0));
        Ok(lease)
    }

    /// Runs this attempt's part within the command's timeout, or gives the timeout.
    pub(crate) async fn within<R>(&self, part: impl Future<Output = R>) -> Result<R, Duration> {
        match (self.deadline, self.timeout) {
            (Some(deadline), Some(timeout)) => timeout_at(deadline, part).await.map_err(|_| timeout),
            _ => Ok(part.await),
        }
    }

    /// What follows from the end of an attempt: `None` for another one, otherwise the status, or why it was lost.
    pub(crate) fn judge(
        &mut self,
        end: SessionEnd,
        lease: AttemptLease,
    ) -> Result<Option<Result<ExitStatus, String>>, Error> {
        match end {
            SessionEnd::Exited(code) => Ok(Some(Ok(ExitStatus::exited(code)))),
            SessionEnd::Killed => Ok(Some(Ok(ExitStatus::killed()))),
            SessionEnd::Lost(reason) => {
                lease.broken();
                Ok(Some(Err(reason)))
            }
            SessionEnd::Refused(reason) => {
                tracing::debug!(host = self.target.host(), reason, "session refused; trying again");
                (self.reason, self.refused) = (reason, self.refused + 1);
                match lease {
                    AttemptLease::Own(lease) => lease.refused(),
                    AttemptLease::Callers(lease) => lease.count(|stats| stats.refused_sessions += 1),
                }
                self.check_patience().map(|()| None)
            }
            SessionEnd::NotReached(reason) => {
                tracing::debug!(
                    host = self.target.host(),
                    reason,
                    "connection gone before the command started"
                );
                lease.broken();
                (self.reason, self.not_reached) = (reason, self.not_reached + 1);
                match lease {
                    AttemptLease::Own(_) if self.not_reached < MOST_NOT_REACHED => Ok(None),
                    _ => Err(self.never_started()),
                }
            }
        }
    }

    pub(crate) fn cannot_start(&self, error: std::io::Error) -> Error {
        Error::io(self.target.host(), "cannot start ssh", error)
    }

    fn check_patience(&self) -> Result<(), Error> {
        match self.give_up {
            Some(give_up) if give_up <= Instant::now() => Err(self.never_started()),
            _ => Ok(()),
        }
    }

    fn never_started(&self) -> Error {
        Error::NeverStarted { host: self.host(), reason: self.reason.clone() }
    }
}

/// How long output is still read after a loss.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Feeds a session and reads it to its end. `Err` names the stream that went over the limit.
async fn pump(
    session: &mut Session,
    lease: &AttemptLease,
    input: Option<&[u8]>,
    limit: usize,
    output: &mut PartialOutput,
) -> Result<SessionEnd, &'static str> {
    let (stdin, stdout, stderr) = (session.take_stdin(), session.take_stdout(), session.take_stderr());
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // A command need not read its input: that it closed the pipe is no failure.
            let _ = stdin.write_all(input).await;
        }
        Ok(())
    };
    let read = async {
        tokio::try_join!(
            feed,
            read_limited(stdout, &mut output.stdout, limit, "stdout"),
            read_limited(stderr, &mut output.stderr, limit, "stderr"),
        )
    };
    let mut read = pin!(read);
    tokio::select! {
        biased;
        read = &mut read => {
            read?;
            Ok(session.wait(lease.connection()).await)
        }
        end = session.wait(lease.connection()) => {
            // The streams end with the session, unless the local ssh was killed: then the master keeps stderr open.
            match end {
                SessionEnd::Lost(_) => drop(timeout(LAST_WORDS, read).await),
                _ => drop(read.await?),
            }
            Ok(end)
        }
    }
}

async fn read_limited(
    stream: Option<impl AsyncRead + Unpin>,
    into: &mut Vec<u8>,
    limit: usize,
    name: &'static str,
) -> Result<(), &'static str> {
    let Some(mut stream) = stream else {
        return Ok(());
    };
    loop {
        match stream.read_buf(into).await {
            // A pipe does not fail; if it ever does, there is nothing more to come from it.
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) if into.len() > limit => {
                into.truncate(limit);
                return Err(name);
            }
            Ok(_) => {}
        }
    }
}

/// Appends `word` so that a shell takes it for exactly this one word.
///
/// Single quotes do it for everything but three characters that some shell treats specially even there: the quote itself, the backslash
/// (fish) and `!` (csh). Those stand outside of the quotes, behind a backslash, which every shell reads the same way.
pub(crate) fn escape(word: &str, into: &mut String) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        into.push_str(word);
        return;
    }
    let mut quoted = false;
    for c in word.chars() {
        let special = matches!(c, '\'' | '\\' | '!');
        if special == quoted {
            into.push('\'');
            quoted = !quoted;
        }
        if special {
            into.push('\\');
        }
        into.push(c);
    }
    if quoted {
        into.push('\'');
    } else if word.is_empty() {
        into.push_str("''");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("plain-1.2/x:y,z@w%+", "plain-1.2/x:y,z@w%+")]
    #[case("", "''")]
    #[case("a b", "'a b'")]
    #[case("it's", "'it'\\''s'")]
    #[case("\\", "\\\\")]
    #[case("a\\b", "'a'\\\\'b'")]
    #[case("!", "\\!")]
    #[case("$(reboot)", "'$(reboot)'")]
    #[case("a\nb", "'a\nb'")]
    #[case("~", "'~'")]
    #[case("x=1", "'x=1'")]
    fn words_are_escaped(#[case] word: &str, #[case] expected: &str) {
        let mut text = String::new();
        escape(word, &mut text);
        assert_eq!(text, expected);
    }
}
