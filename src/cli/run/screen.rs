//! What is written, whole lines at a time, and the bar that shows how far it is, where a terminal
//! is to show it.
//!
//! One lock for stdout and stderr: they can be one and the same terminal, and nothing is to get
//! into a line. The bar is always taken away before anything is written and drawn again afterwards.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::stat::{SFlag, fstat};
use tokio::io::{AsyncWrite, AsyncWriteExt, Stderr, Stdout};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::state::State;
use crate::cli::failure::{Failure, cannot_write};

/// Where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    Stdout,
    Stderr,
}

impl To {
    fn name(self) -> &'static str {
        match self {
            To::Stdout => "stdout",
            To::Stderr => "stderr",
        }
    }
}

pub(super) struct Screen {
    streams: Mutex<Streams>,
    state: Arc<State>,
    has_bar: bool,
    /// Ctrl-C leaves `^C` in a line on the terminal.
    on_terminal: bool,
}

struct Streams {
    stdout: Stdout,
    stderr: Stderr,
    drawn: Option<Instant>,
}

/// The bar stands on the terminal.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// To the beginning of the line, and empties it.
const ERASE: &str = "\r\x1b[K";
/// What is over sooner needs no bar.
const QUICK: Duration = Duration::from_millis(400);
const TICK: Duration = Duration::from_millis(200);
/// The bar is not drawn more often, however much is written.
const MOST_OFTEN: Duration = Duration::from_millis(50);
/// How long a word about a signal waits for those that write.
const PATIENCE: Duration = Duration::from_millis(200);

/// Takes the bar away, just before a signal ends the program.
pub(in crate::cli) fn leave() {
    if DRAWN.swap(false, Ordering::Relaxed) {
        crate::cli::output::messages::tell(ERASE.to_owned());
    }
}

impl Screen {
    pub(super) fn new(state: Arc<State>) -> Self {
        let on_terminal = io::stderr().is_terminal() && !is_dumb();
        // What reads a pipe may write to the same terminal, into the line of the bar. So does the
        // log.
        let has_bar =
            on_terminal && !is_pipe(io::stdout()) && !tracing::enabled!(tracing::Level::INFO);
        let streams =
            Streams { stdout: tokio::io::stdout(), stderr: tokio::io::stderr(), drawn: None };
        Screen { streams: Mutex::new(streams), state, has_bar, on_terminal }
    }

    /// Writes whole lines of what the commands write.
    pub(super) async fn show(&self, to: To, lines: &[u8]) -> Result<(), Failure> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut streams = self.streams.lock().await;
        let last = streams.drawn;
        streams.erase().await;
        let written = match to {
            To::Stdout => write(&mut streams.stdout, lines).await,
            To::Stderr => write(&mut streams.stderr, lines).await,
        };
        written.map_err(|error| cannot_write(to.name(), &error))?;
        if last.is_some_and(|last| last.elapsed() > MOST_OFTEN) {
            streams.draw(&self.state).await;
        }
        Ok(())
    }

    /// A line on stderr.
    pub(super) async fn complain(&self, message: &str) {
        // When it cannot be written there is nobody left to tell.
        let _ = self.show(To::Stderr, format!("sshpool: {message}\n").as_bytes()).await;
    }

    /// A line on stderr, even if somebody is stuck in writing.
    pub(super) async fn interrupt(&self, message: &str) {
        let erase = if self.on_terminal { ERASE } else { "" };
        match timeout(PATIENCE, self.streams.lock()).await {
            Ok(mut streams) => {
                streams.erase().await;
                streams.tell(format!("{erase}sshpool: {message}\n").as_bytes()).await;
            }
            Err(_) => crate::cli::output::complain(message),
        }
    }

    /// Keeps the bar up to date for as long as it is polled.
    pub(super) async fn keep_up<T>(&self) -> T {
        if self.has_bar {
            tokio::time::sleep(QUICK).await;
            let mut ticks = interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.streams.lock().await.draw(&self.state).await;
            }
        }
        std::future::pending().await
    }

    /// Takes the bar away for good.
    pub(super) async fn clear(&self) {
        self.streams.lock().await.erase().await;
    }
}

impl Streams {
    async fn erase(&mut self) {
        if self.drawn.take().is_some() {
            self.tell(ERASE.as_bytes()).await;
            DRAWN.store(false, Ordering::Relaxed);
        }
    }

    async fn draw(&mut self, state: &State) {
        if crate::pool::signals::is_ending() {
            return;
        }
        let width = terminal_size::terminal_size_of(io::stderr())
            .map_or(80, |(width, _)| usize::from(width.0));
        // In the last column a terminal may begin a new line.
        let bar = state.bar(width.saturating_sub(1));
        DRAWN.store(true, Ordering::Relaxed);
        self.drawn = Some(Instant::now());
        self.tell(format!("\r{bar}\x1b[K").as_bytes()).await;
    }

    async fn tell(&mut self, bytes: &[u8]) {
        // When it cannot be written there is nobody left to tell.
        let _ = write(&mut self.stderr, bytes).await;
    }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// A terminal that writes, and can do nothing else.
pub(super) fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

fn is_pipe(stream: impl AsFd) -> bool {
    fstat(stream).is_ok_and(|stat| {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK
    })
}
