//! A lane: a session whose remote shell runs one command after another.
//!
//! The loop of the shell ([`shell`]) runs each command in a subshell that has no input, and says
//! when that is over. The loop goes on when nobody holds the streams of the command any more, as
//! plain ssh ends. Two signs tell the end: the status, which comes among the output, and the last
//! line of each stream. Both carry numbers that are drawn for this command and that the loop reads
//! behind the command's end, so the command cannot know them.
//!
//! Not every command may run so. A subshell is not a fresh shell, and [`is_suited`] takes only
//! texts that cannot tell the difference; in doubt a command gets a session of its own. A shell
//! whose options would change the loop itself refuses, with a status, before it has begun.
//!
//! A lane is free → at work → free, until it is too old ([`LaneSettings`]), has run
//! [`MOST_COMMANDS`], something unexpected comes, or its command is given up: then the whole
//! session is ended.

mod shell;
mod stream;
mod suited;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::watch;
use tokio::time::Instant;

pub(super) use shell::lane;
pub(super) use stream::UntilEnd;
use stream::{First, Progress, Signs};
pub(super) use suited::is_suited;

/// So many commands a lane runs: what a shell may gather in its memory goes with it.
const MOST_COMMANDS: u32 = 1_000;

/// How sessions are used again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneSettings {
    /// So long a session is given commands after its start-up files were read: what they gain is
    /// seen by then.
    pub max_age: Duration,
    /// What they write has no way through another process, where the shell can do so.
    pub is_fast: bool,
}

/// What holds for the lanes of one connection.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Shells of its account work as lanes, for all that is known.
    work: AtomicBool,
    settings: LaneSettings,
}

impl Lanes {
    pub(super) fn new(settings: LaneSettings) -> Self {
        Lanes { work: AtomicBool::new(true), settings }
    }

    pub(super) fn settings(&self) -> LaneSettings {
        self.settings
    }

    pub(super) fn work(&self) -> bool {
        self.work.load(Ordering::Relaxed)
    }

    /// Whether they work turned out.
    pub(super) fn set_work(&self, work: bool) {
        self.work.store(work, Ordering::Relaxed);
    }

    /// Whether a session that was opened then may get a command now.
    pub(super) fn is_young(&self, since: Instant) -> bool {
        since.elapsed() < self.settings.max_age
    }

    /// Whether such a session is worth being kept for a command to come. One that is about to be
    /// too old is replaced before somebody needs it.
    fn is_worth_keeping(&self, since: Instant) -> bool {
        since.elapsed() < self.settings.max_age / 4 * 3
    }
}

/// The text of a command as one that a lane reads, with the numbers of its signs behind it.
fn line_of(nonce: &str, text: &str, signs: &Signs) -> String {
    format!("{nonce}-laneunset sshpool; {text}\n{}\n{}\n", signs.status, signs.end)
}

/// The local part of a lane: the pipes of its ssh. Each command gets copies of them.
#[derive(Debug)]
pub(super) struct Lane {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    since: Instant,
    lanes: Arc<Lanes>,
    /// How many commands it has had.
    commands: u32,
    progress: Arc<watch::Sender<Progress>>,
    line: String,
}

/// The streams of one command.
pub(super) struct LaneStreams {
    pub stdin: pipe::Sender,
    pub stdout: UntilEnd,
    pub stderr: UntilEnd,
}

impl Lane {
    /// Takes the pipes of a session that is to be a lane, and that was opened then.
    pub(super) fn of(
        child: &mut Child,
        since: Instant,
        lanes: &Arc<Lanes>,
    ) -> io::Result<Option<Self>> {
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Ok(None);
        };
        Ok(Some(Lane {
            stdin: stdin.into_owned_fd()?,
            stdout: stdout.into_owned_fd()?,
            stderr: stderr.into_owned_fd()?,
            since,
            lanes: Arc::clone(lanes),
            commands: 0,
            progress: Arc::default(),
            line: String::new(),
        }))
    }

    /// Begins with a command of this text.
    pub(super) fn begin(&mut self, nonce: &str, text: &str) -> io::Result<LaneStreams> {
        let signs = Signs::new();
        self.line = line_of(nonce, text, &signs);
        self.progress = Arc::default();
        let stream = |pipe: &OwnedFd, is_stdout, first| -> io::Result<UntilEnd> {
            let source = pipe::Receiver::from_owned_fd(pipe.try_clone()?)?;
            Ok(UntilEnd::new(source, is_stdout, &signs, first, &self.progress))
        };
        // That a command begins is told by the marker, which is taken out where it is looked for.
        let begins = First { sign: format!("\x1e{nonce} ").into_bytes(), is_for_us: false };
        let is_first = self.commands == 0;
        self.commands += 1;
        let lane_begins = First { sign: format!("\x1e{nonce}\n").into_bytes(), is_for_us: true };
        Ok(LaneStreams {
            stdin: pipe::Sender::from_owned_fd(self.stdin.try_clone()?)?,
            stdout: stream(&self.stdout, true, Some(begins))?,
            stderr: stream(&self.stderr, false, is_first.then_some(lane_begins))?,
        })
    }

    /// What is written to the loop for the command that was begun with.
    pub(super) fn line(&self) -> &str {
        &self.line
    }

    /// Completes when the command has ended and all that it wrote was read, with its status.
    ///
    /// Cancel safe.
    pub(super) fn ended(&self) -> impl Future<Output = i32> + Send + 'static {
        let mut progress = self.progress.subscribe();
        async move {
            let has_ended = |progress: &Progress| progress.ended().is_some();
            let ended = progress.wait_for(has_ended).await.ok().and_then(|now| now.ended());
            match ended {
                Some(status) => status,
                // The lane is gone, and its process tells.
                None => std::future::pending().await,
            }
        }
    }

    /// Completes when its command's status was told, or cannot be any more.
    ///
    /// Cancel safe.
    pub(super) fn told(&self) -> impl Future<Output = Option<i32>> + Send + 'static {
        let mut progress = self.progress.subscribe();
        async move {
            let is_told = |progress: &Progress| progress.status.is_some() || progress.is_unread;
            progress.wait_for(is_told).await.ok().and_then(|progress| progress.status)
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.progress.borrow().ended().is_some()
    }

    /// The pipes themselves.
    pub(super) fn into_pipes(self) -> (pipe::Sender, pipe::Receiver, pipe::Receiver) {
        const REGISTERED: &str = "a pipe that was registered with the runtime before";
        (
            pipe::Sender::from_owned_fd(self.stdin).expect(REGISTERED),
            pipe::Receiver::from_owned_fd(self.stdout).expect(REGISTERED),
            pipe::Receiver::from_owned_fd(self.stderr).expect(REGISTERED),
        )
    }

    /// Whether a start-up file has printed something: by plain ssh that comes with each command.
    pub(super) fn is_noisy(&self) -> bool {
        self.progress.borrow().is_noisy
    }

    /// Whether its command has ended, and nothing speaks against another one but its age.
    pub(super) fn is_idle(&self) -> bool {
        self.progress.borrow().is_clean() && self.is_silent()
    }

    /// Whether its command has ended and nothing speaks against another one.
    pub(super) fn is_free(&self) -> bool {
        self.lanes.is_young(self.since) && self.is_idle()
    }

    /// Whether it is to be kept for another command, which may come a little later.
    pub(super) fn goes_on(&self) -> bool {
        self.commands < MOST_COMMANDS && self.lanes.is_worth_keeping(self.since) && self.is_idle()
    }

    /// Nothing waits to be read: not a byte is to come from a lane without a command.
    fn is_silent(&self) -> bool {
        let mut pipes =
            [&self.stdout, &self.stderr].map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN));
        matches!(poll(&mut pipes, PollTimeout::ZERO), Ok(0))
    }
}
