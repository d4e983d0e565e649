//! A session: one spawned `ssh -S` process, one remote command.
//!
//! Its end is never ambiguous. ssh gives 255 for a command that exited with 255, for one that a
//! signal killed, for a lost connection and for a session that was never opened; its own log tells
//! these apart. The log is a FIFO that we read, so the end is known as soon as ssh tells of it,
//! which it does when the master has closed the session and all output is in our pipes; what ssh
//! still has to do until its process is gone takes longer than many a command. Whether a command
//! without an exit status was killed or lost, and whether all output of one with a status has
//! arrived, is told by the master: it must have outlived the session.

use std::borrow::Cow;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::bootstrap::{self, Group, Marker};
use super::diagnosis::{self, SessionLog};
use super::lane::{self, Lane, Lanes};
use super::log::Log;
use super::master::Master;
use super::runtime::Claim;
use super::supervisor::Counted;
use crate::transport::{self, NotOpened, Output, Script, SessionEnd, Streams};

/// Dropping it ends the local process. The remote command notices only when it reads or writes.
#[derive(Debug)]
pub(crate) struct Session {
    /// There until it is dropped.
    process: Option<Process>,
    /// What the bootstrap prints when it has its command; nothing where the command was an
    /// argument.
    marker: Option<Marker>,
    /// Of the command, until its end is known.
    group: Group,
    /// The command goes to the bootstrap, and is not an argument.
    bootstrapped: bool,
    /// It was opened before the command was known.
    ahead: bool,
    /// Its shell runs one command after another, and this one is not its last.
    lane: Option<Lane>,
    lanes: Arc<Lanes>,
    /// When it was opened: its start-up files are read then.
    since: Instant,
    /// The loop of the lane has ended by itself.
    loop_ended: bool,
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: Log,
    /// Given back behind the child, which is dropped first.
    _claims: (Counted, Claim),
}

impl Process {
    /// Completes when ssh has said this, or has ended without.
    ///
    /// Cancel safe.
    async fn says<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        tokio::select! {
            biased;
            found = self.log.says(&wanted) => found,
            // One that ends before it opens its log never closes it.
            _ = self.child.wait() => wanted(&self.log.rest()),
        }
    }
}

impl Drop for Session {
    /// A process that was waited for is gone. One whose end was only told has a little left to do,
    /// which nobody needs; it counts until it is gone, without anybody waiting.
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take()
            && process.child.id().is_some()
            && let Ok(runtime) = Handle::try_current()
        {
            // It fails only where the process has just gone.
            let _ = process.child.start_kill();
            runtime.spawn(async move {
                // All of it, with its claims.
                let mut process = process;
                process.child.wait().await
            });
        }
    }
}

impl Session {
    pub(super) fn spawn(
        mut command: Command,
        log: Log,
        claims: (Counted, Claim),
        stdin: Stdio,
        marker: Option<Marker>,
        group: Group,
        lanes: Arc<Lanes>,
    ) -> Result<Self, NotOpened> {
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(NotOpened::NoProcess)?;
        let (process, bootstrapped) =
            (Some(Process { child, log, _claims: claims }), marker.is_some());
        Ok(Session {
            process,
            marker,
            group,
            bootstrapped,
            ahead: false,
            lane: None,
            lanes,
            since: Instant::now(),
            loop_ended: false,
        })
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it is there until this is dropped")
    }

    /// The local ssh.
    pub(super) fn client(&mut self) -> &mut Child {
        &mut self.process().child
    }

    /// The same, as one that was opened before its command was known.
    pub(super) fn ahead(mut self) -> Self {
        self.ahead = true;
        self
    }

    /// Whether the shell of an idle session runs a command that does nothing. False where that
    /// cannot be found out here: it has ended, or cannot run another command behind this one.
    ///
    /// Not cancel safe: a session that has not answered is of no use any more.
    pub(super) async fn answers(&mut self, master: &Master) -> bool {
        use transport::Session as _;
        if !self.runs() || !self.lane.as_ref().is_none_or(Lane::is_idle) {
            return false;
        }
        let script = Script::new(":");
        let Some(Streams { stdin, mut stdout, mut stderr }) = self.streams_of_one(&script) else {
            return false;
        };
        let Some(mut stdin) = stdin else { return false };
        let line = self.preface(&script).into_owned();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (written, ..) = tokio::join!(
            stdin.write_all(&line),
            stdout.read_to_end(&mut out),
            stderr.read_to_end(&mut err),
        );
        written.is_ok() && self.wait(master).await == SessionEnd::Exited(0)
    }

    /// The streams of this text, one line, as the next command of a session that has run others.
    /// None where it has not.
    pub(super) fn in_lane(&mut self, script: &Script) -> Option<Streams> {
        let text = script.text().to_str()?;
        let streams = self.lane.as_mut()?.begin(bootstrap::nonce(), text).ok()?;
        self.marker = None;
        self.group.renew();
        let marker = bootstrap::marker_of(self.group.clone());
        Some(Streams {
            stdin: Some(Box::new(streams.stdin)),
            stdout: Output::new(Box::new(streams.stdout), Some(Box::new(marker))),
            stderr: Box::new(streams.stderr),
        })
    }

    /// Whether this session, which has ended so, was whole before the connection ended.
    fn was_whole(&mut self, end: &SessionEnd, master: &Master) -> bool {
        matches!(end, SessionEnd::Exited(_) | SessionEnd::Killed)
            && diagnosis::channel_of(&self.process().log.rest())
                .is_some_and(|channel| master.had_all_of(channel))
    }

    fn runs(&mut self) -> bool {
        matches!(self.process().child.try_wait(), Ok(None))
    }

    /// Waits for the end of the process, and says what it means.
    ///
    /// Cancel safe.
    async fn end(&mut self, master: &Master) -> SessionEnd {
        let process = self.process();
        let end = match process.says(diagnosis::exit_status).await {
            Some(code) => SessionEnd::Exited(code),
            None => match process.child.wait().await.map(|status| (status, status.code())) {
                Ok((_, Some(status))) => {
                    let gone = !process.log.path().exists();
                    let log = process.log.rest();
                    if log.is_empty() && gone && status != 0 {
                        // ssh opens its log before anything else.
                        let reason = "the directory of the control sockets is gone".to_owned();
                        SessionEnd::NotReached(reason)
                    } else {
                        // Where a FIFO without a writer is at its end (not on Linux) nobody has
                        // looked yet.
                        diagnosis::exit_status(&log)
                            .map_or_else(|| classify(&log, status), SessionEnd::Exited)
                    }
                }
                Ok((status, None)) => {
                    SessionEnd::ClientKilled(format!("the local ssh ended ({status})"))
                }
                Err(error) => {
                    SessionEnd::Lost(format!("the local ssh cannot be waited for: {error}"))
                }
            },
        };
        if !matches!(end, SessionEnd::Refused(_) | SessionEnd::NotReached(_)) {
            master.ran();
        }
        let end = match end {
            // ssh passes a status on as soon as it has come, and output that was still on its way
            // when the connection went is missing. And what the end of the master was says more of
            // a loss than what its client makes of that.
            SessionEnd::Exited(_)
            | SessionEnd::Killed
            | SessionEnd::ClientKilled(_)
            | SessionEnd::Lost(_) => match (master.outlived().await, master.why_commands_end()) {
                (Err(reason), _) if !self.was_whole(&end, master) => SessionEnd::Lost(reason),
                // That signal was ours.
                (_, Some(reason)) if end == SessionEnd::Killed => {
                    SessionEnd::Lost(reason.to_owned())
                }
                (_, _) => end,
            },
            end => end,
        };
        // Not before: whoever gives up meanwhile has to end what a lost connection has left.
        if !matches!(end, SessionEnd::Lost(_) | SessionEnd::ClientKilled(_)) {
            self.group.forget();
        }
        end
    }
}

impl transport::Session for Session {
    type Connection = Master;

    fn is_there(&mut self) -> bool {
        self.runs()
            && match &self.lane {
                Some(lane) => !lane.has_ended() || lane.is_free(),
                // It has a command, or may wait for one for too long.
                None => self.marker.is_none() || !self.ahead || self.lanes.is_young(self.since),
            }
    }

    async fn opened(&mut self, master: &Master) -> Result<(), SessionEnd> {
        match self.process().says(|log| diagnosis::was_opened(log).then_some(())).await {
            Some(()) => Ok(()),
            None => Err(self.wait(master).await),
        }
    }

    fn take_streams(&mut self) -> Streams {
        if let Some(lane) = self.lane.take() {
            // No copies of its pipes could be made: this command is its last one.
            let (stdin, stdout, stderr) = lane.into_pipes();
            let marker = bootstrap::marker_of(self.group.clone());
            return Streams {
                stdin: Some(Box::new(stdin)),
                stdout: Output::new(Box::new(stdout), Some(Box::new(marker))),
                stderr: Box::new(stderr),
            };
        }
        const ONCE: &str = "they were piped, and nobody has taken them";
        let child = &mut self.process().child;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let marker = self.marker.take().map(|marker| Box::new(marker) as _);
        Streams {
            stdin: stdin.map(|stdin| Box::new(stdin) as _),
            stdout: Output::new(Box::new(stdout.expect(ONCE)), marker),
            stderr: Box::new(stderr.expect(ONCE)),
        }
    }

    fn suits(&self, script: &Script, again: bool) -> bool {
        self.lane.is_none() || again && lane::is_suited(script.text().as_bytes())
    }

    fn streams_of_one(&mut self, script: &Script) -> Option<Streams> {
        let text = script.text();
        if !self.bootstrapped || !self.lanes.work() || !lane::is_suited(text.as_bytes()) {
            return None;
        }
        if self.lane.is_none() {
            // A session without its pipes is of no use to anybody, and its end is told as usual.
            self.lane =
                Lane::of(&mut self.process.as_mut()?.child, self.since, &self.lanes).ok()?;
        }
        self.in_lane(script)
    }

    fn goes_on(&self) -> bool {
        let Some(lane) = &self.lane else { return false };
        if lane.is_noisy() {
            self.lanes.set_work(false);
        }
        lane.goes_on()
    }

    fn is_idle(&self) -> bool {
        // One that has had no command is as it was.
        self.lane.as_ref().is_none_or(Lane::is_idle)
    }

    fn preface<'a>(&self, script: &'a Script) -> Cow<'a, [u8]> {
        if let Some(lane) = &self.lane {
            return Cow::Owned(lane.line().into());
        }
        let line = if self.bootstrapped { bootstrap::line_of(script) } else { "" };
        Cow::Borrowed(line.as_bytes())
    }

    fn tells_begin(&self) -> bool {
        self.bootstrapped
    }

    fn group(&self) -> transport::Group {
        match self.group.known() {
            Some(group) => transport::Group::Known(group),
            None if self.group.is_unknown() => transport::Group::NotBegun,
            None if self.group.is_gone() => transport::Group::Gone,
            None => transport::Group::None,
        }
    }

    /// Waits for its end. All that the command has written is then in the pipes; they stay open
    /// until the process is gone.
    ///
    /// Cancel safe: dropped and called again, it gives the same.
    async fn wait(&mut self, master: &Master) -> SessionEnd {
        let Some(lane) = &self.lane else { return self.end(master).await };
        let (ended, told) = (lane.ended(), lane.told());
        tokio::select! {
            biased;
            status = ended => {
                self.group.forget();
                master.ran();
                SessionEnd::Exited(status)
            }
            end = self.end(master) => match end {
                SessionEnd::Exited(status) => {
                    // A loop ends behind a command that has left something behind, with its status.
                    if told.await == Some(status) {
                        return end;
                    }
                    self.loop_ended = true;
                    let reason = format!("the shell of its session has ended ({status})");
                    SessionEnd::ClientKilled(reason)
                }
                end => end,
            },
        }
    }

    /// The end of a session whose command has not begun: the shell ended before. Where the session
    /// was opened for it, the bootstrap does not work on this account (a start-up file exits, or
    /// reads the input), and commands go as arguments from now on. One that was opened ahead of
    /// need may just have been there for too long (`TMOUT`).
    ///
    /// Without a status nothing is known: the server may have closed the session while the shell
    /// took its command, and ran it unheard (test `what_dropbear_ran_unheard_does_not_run_again`).
    fn not_begun(&self, end: SessionEnd, master: &Master) -> SessionEnd {
        match end {
            // So its own shell says, or that one was there for too long.
            _ if self.loop_ended => {
                self.lanes.set_work(false);
                SessionEnd::NotBegun
            }
            SessionEnd::Exited(_) if self.ahead => SessionEnd::NotBegun,
            SessionEnd::Exited(_) => {
                master.takes_arguments();
                SessionEnd::NotBegun
            }
            // The loop of a lane that had run a command may have been killed before this one came.
            SessionEnd::Killed if self.lane.is_some() => {
                SessionEnd::ClientKilled("its shell was killed".to_owned())
            }
            // As if by a signal, as it is by plain ssh, and that says nothing about the account.
            end => end,
        }
    }
}

/// What a status means that ssh's log does not confirm as the remote command's own.
fn classify(log: &str, code: i32) -> SessionEnd {
    match diagnosis::session_log(log) {
        // Nothing but a command that exited with 0 makes ssh do so, whatever it calls that in its
        // log.
        _ if code == 0 => SessionEnd::Exited(0),
        SessionLog::Refused(reason) => SessionEnd::Refused(reason),
        SessionLog::NotReached(reason) => SessionEnd::NotReached(reason),
        SessionLog::StartedAndEnded => SessionEnd::Killed,
        SessionLog::Signalled(reason) => {
            SessionEnd::ClientKilled(format!("the local ssh ended ({reason})"))
        }
        // Among others: a broken ssh writes no log.
        SessionLog::Unknown(reason) => SessionEnd::Lost(format!("{reason} (its status is {code})")),
    }
}
