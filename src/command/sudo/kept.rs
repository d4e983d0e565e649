//! Shells of another user that are kept for commands to come ([`Sudo::reuse`](super::Sudo::reuse)).
//!
//! A shell is begun as a command by sudo is, and belongs to one runner and one host. It is at work
//! or waits. It runs the commands that have no input ([`text::LOOP`]), one after another, each in a
//! shell of its own. It is closed when it is [`OLDEST`], has waited for [`UNUSED`], writes what no
//! command has, or its runner is gone; a command that is given up ends it by sudo.
//!
//! A command is written to a shell once, and to no other one afterwards: whatever becomes of it.

use std::ffi::OsStr;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::begin::{Begun, begun};
use super::runner::{ByUser, Running, UnderWay, given_up};
use super::text;
use crate::command::{
    Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Request, Stdin, Timeout,
};
use crate::error::{Error, PartialOutput};
use crate::host::Host;

/// So long a shell is given commands.
const OLDEST: Duration = Duration::from_secs(5 * 60);
/// So long one waits for a command: it takes up a session of its connection.
const UNUSED: Duration = Duration::from_secs(30);
/// So many wait on a host at most, where it can have at least so many sessions: others need some.
const MOST: usize = 2;
const ENOUGH: usize = 8;
/// What has waited for so long is asked whether it is still there, before it gets a command.
const SILENT: Duration = Duration::from_secs(5);
/// So long it has for the answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The shells of one runner that wait.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Vec<(Arc<Host>, Shell)>>);

/// A shell of another user.
#[derive(Debug)]
struct Shell {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    /// What it is to be ended by.
    number: String,
    since: Instant,
    used: Instant,
}

/// What a command comes to: how it has ended, and what it wrote.
pub(super) type Ended = Result<(Result<ExitStatus, Error>, PartialOutput), Error>;

/// Why a command has not come to its end.
enum Broken {
    /// It has written more than is kept to this stream.
    TooMuch(&'static str),
    /// Its shell has ended.
    Gone,
}

impl Kept {
    fn shells(&self) -> MutexGuard<'_, Vec<(Arc<Host>, Shell)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits, and that is there.
    async fn take(&self, host: &Host) -> Option<Shell> {
        loop {
            let mut shell = {
                let mut shells = self.shells();
                let place = shells.iter().rposition(|(of, _)| **of == *host)?;
                shells.remove(place).1
            };
            if shell.is_of_use() && shell.is_there().await {
                return Some(shell);
            }
            tokio::spawn(shell.close());
        }
    }

    /// Keeps one that has run a command.
    fn put(self: &Arc<Self>, host: Arc<Host>, mut shell: Shell) {
        shell.used = Instant::now();
        let mut shells = self.shells();
        let is_full = shells.iter().filter(|(of, _)| *of == host).count() >= MOST;
        if is_full || !shell.is_of_use() {
            tokio::spawn(shell.close());
            return;
        }
        shells.push((host, shell));
        drop(shells);
        tokio::spawn(close_unused(Arc::downgrade(self)));
    }
}

/// Closes what waits for too long, when that is so for one that waits now.
async fn close_unused(kept: Weak<Kept>) {
    sleep(UNUSED).await;
    let Some(kept) = kept.upgrade() else { return };
    let mut shells = kept.shells();
    for (_, shell) in shells.extract_if(.., |(_, shell)| !shell.is_of_use()) {
        tokio::spawn(shell.close());
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Without a runtime their children are dropped, which does the same less gently.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            for (_, shell) in self.shells().drain(..) {
                runtime.spawn(shell.close());
            }
        }
    }
}

impl Shell {
    fn is_of_use(&self) -> bool {
        self.since.elapsed() < OLDEST && self.used.elapsed() < UNUSED
    }

    /// Whether it waits for a command: it has not ended, says nothing, and answers where nothing
    /// has been heard of it for a while.
    async fn is_there(&mut self) -> bool {
        let mut byte = [0];
        // Both the end of a stream and a byte in it are too much.
        if self.child.wait().now_or_never().is_some()
            || self.stdout.read(&mut byte).now_or_never().is_some()
            || self.stderr.read(&mut byte).now_or_never().is_some()
        {
            return false;
        }
        if self.used.elapsed() < SILENT {
            return true;
        }
        let mut output = PartialOutput::default();
        let nothing = self.run(OsStr::new(""), None, &mut output);
        matches!(timeout(ANSWER, nothing).await, Ok(Ok(status)) if status.success())
    }

    /// Runs a command to its end. Without a limit what it writes is thrown away.
    async fn run(
        &mut self,
        text: &OsStr,
        limit: Option<usize>,
        output: &mut PartialOutput,
    ) -> Result<ExitStatus, Broken> {
        let word = || format!("{:016x}", RandomState::new().hash_one(0));
        let (of_status, of_end) = (word(), word());
        let lines = text.as_bytes().split(|byte| *byte == b'\n').count();
        let command = [
            format!("{lines}\n").as_bytes(),
            text.as_bytes(),
            format!("\n{of_status}\n{of_end}\n").as_bytes(),
        ]
        .concat();
        let write = async {
            self.stdin.write_all(&command).await.map_err(|_| Broken::Gone)?;
            self.stdin.flush().await.map_err(|_| Broken::Gone)
        };
        let mut status = None;
        let of_status = Some((format!("\x1e{of_status} ").into_bytes(), &mut status));
        let end = format!("\x1e{of_end}\n").into_bytes();
        let out = Reading { stream: "stdout", end: &end, limit, status: of_status };
        let err = Reading { stream: "stderr", end: &end, limit, status: None };
        tokio::try_join!(
            write,
            out.read(&mut self.stdout, &mut output.stdout),
            err.read(&mut self.stderr, &mut output.stderr),
        )?;
        status.map(ExitStatus::exited).ok_or(Broken::Gone)
    }

    /// Lets it end by itself, which it does when its input ends.
    async fn close(self) {
        let Shell { mut child, stdin, stdout, stderr, .. } = self;
        drop((stdin, stdout, stderr));
        let _ = timeout(ANSWER, child.wait()).await;
    }
}

/// The reading of one stream, up to the sign of its end.
struct Reading<'a> {
    stream: &'static str,
    end: &'a [u8],
    limit: Option<usize>,
    /// What stands before the status, and where that is to be put.
    status: Option<(Vec<u8>, &'a mut Option<i32>)>,
}

impl Reading<'_> {
    async fn read(
        mut self,
        from: &mut (impl AsyncRead + Unpin),
        into: &mut Vec<u8>,
    ) -> Result<(), Broken> {
        // A sign is shorter than that.
        const SIGNS: usize = 64;
        let mut looked_at: usize = 0;
        loop {
            // A pipe does not fail; if it ever does, there is nothing more to come from it.
            if !matches!(from.read_buf(into).await, Ok(1..)) {
                return Err(Broken::Gone);
            }
            let begin = looked_at.saturating_sub(SIGNS);
            if let Some((sign, status)) = &mut self.status
                && let Some(found) = memchr::memmem::find(&into[begin..], sign)
            {
                let (at, from) = (begin + found, begin + found + sign.len());
                if let Some(length) = memchr::memchr(b'\n', &into[from..]) {
                    let told = std::str::from_utf8(&into[from..from + length]);
                    **status = told.ok().and_then(|told| told.parse().ok());
                    into.drain(at..=from + length);
                    self.status = None;
                }
            }
            let is_over = into.ends_with(self.end);
            if is_over {
                into.truncate(into.len() - self.end.len());
            }
            match self.limit {
                None => drop(into.drain(..into.len().saturating_sub(SIGNS))),
                Some(limit) if into.len() > limit + if is_over { 0 } else { SIGNS } => {
                    into.truncate(limit);
                    return Err(Broken::TooMuch(self.stream));
                }
                Some(_) => {}
            }
            if is_over {
                return Ok(());
            }
            looked_at = into.len();
        }
    }
}

impl ByUser {
    /// Runs a command that has no input to its end, in a shell that is kept. `None` where there
    /// can be none: the command has not run.
    pub(super) async fn over_kept(
        &self,
        kept: &Arc<Kept>,
        request: &Request,
        limit: Option<usize>,
    ) -> Result<Option<(Result<ExitStatus, Error>, PartialOutput)>, Error> {
        let defaults = self.inner.defaults();
        if defaults.max_connections.saturating_mul(defaults.sessions_per_connection) < ENOUGH {
            return Ok(None);
        }
        let after = request.timeout.or(Some(defaults.command_timeout));
        // An overflowing deadline means no deadline.
        let deadline = after.and_then(|after| Instant::now().checked_add(after));
        let shell = match kept.take(&request.host).await {
            Some(shell) => shell,
            None => match self.shell(request, after).await? {
                Some(shell) => shell,
                None => return Ok(None),
            },
        };
        let (sender, receiver) = oneshot::channel();
        let run = At { by: self.clone(), kept: Arc::clone(kept), host: Arc::clone(&request.host) };
        tokio::spawn(run.see_to(shell, request.clone(), limit, deadline.zip(after), sender));
        let ended = receiver.await.unwrap_or_else(|_| {
            let host = request.host.name().to_owned();
            let reason = "the runtime that it was started in was shut down".to_owned();
            Err(Error::Lost { host, reason, partial: Arc::default() })
        });
        ended.map(Some)
    }

    /// Begins with a shell. `None` where what it ran could not be ended with it, or where sudo says
    /// something that each command is to have on its stderr.
    async fn shell(
        &self,
        request: &Request,
        limit: Option<Duration>,
    ) -> Result<Option<Shell>, Error> {
        let request = Request {
            text: text::LOOP.into(),
            stdin: Stdin::Piped,
            timeout: Timeout::Never,
            ..request.clone()
        };
        let begun = begun(&*self.inner, &self.sudo, request, limit).await?;
        let Begun { mut child, number, words, stderr, .. } = begun;
        const NEW: &str = "nobody has taken it";
        let (stdin, stdout) = (child.stdin.take().expect(NEW), child.stdout.take().expect(NEW));
        let now = Instant::now();
        let shell = Shell { child, stdin, stdout, stderr, number, since: now, used: now };
        if words.is_empty() && shell.number.starts_with('-') {
            return Ok(Some(shell));
        }
        tokio::spawn(shell.close());
        Ok(None)
    }
}

/// Where a command runs.
struct At {
    by: ByUser,
    kept: Arc<Kept>,
    host: Arc<Host>,
}

impl At {
    /// Sees to a command until it has ended, or is given up.
    async fn see_to(
        self,
        mut shell: Shell,
        request: Request,
        limit: Option<usize>,
        time: Option<(Instant, Duration)>,
        mut to: oneshot::Sender<Ended>,
    ) {
        let under_way = UnderWay::new();
        let mut output = PartialOutput::default();
        let outcome = {
            let run = pin!(shell.run(&request.text, limit, &mut output));
            tokio::select! {
                biased;
                end = run => Ok(end),
                given_up = given_up(to.closed(), time) => Err(given_up),
            }
        };
        let host = self.host.name().to_owned();
        let given_up = match outcome {
            Ok(Ok(status)) => {
                self.kept.put(self.host, shell);
                let _ = to.send(Ok((Ok(status), output)));
                return;
            }
            Ok(Err(Broken::Gone)) => {
                let reason = "the shell of its user has ended".to_owned();
                let lost = Error::Lost { host, reason, partial: Arc::default() };
                let error = shell.child.wait().await.err().unwrap_or(lost);
                let _ = to.send(Ok((Err(error), output)));
                return;
            }
            Ok(Err(Broken::TooMuch(stream))) => Err(stream),
            Err(given_up) => Ok(given_up),
        };
        let Shell { child, number, .. } = shell;
        let running = Running { child, number, host: self.host, under_way };
        let remote = self.by.end(running).await;
        let _ = to.send(match given_up {
            Ok(given_up) => Ok((given_up.told(host, remote), output)),
            Err(stream) => {
                let (limit, partial) = (limit.unwrap_or_default(), Arc::new(output));
                Err(Error::OutputLimit { host, stream, limit, remote, partial })
            }
        });
    }
}
