//! The end of a master: seen, or brought about.

use std::ffi::OsString;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::Master;
use crate::openssh::launch::Launch;
use crate::openssh::presence::{self, Presence};
use crate::openssh::supervisor::{CLOSED, End, How, runs};
use crate::openssh::{args, ends, program};
use crate::transport::{self, NotEnded, Sessions};

/// Said where the task that watched a master was stopped from outside.
pub(super) const SUPERVISOR_GONE: &str = "the runtime that the pool lived in was shut down";
/// How often it is looked whether a master was alive when a session had ended, where the first look
/// does not tell, and how long after one another. A dying master needs a few milliseconds from the
/// closing of its sockets to its end, and one that nobody can see at the moment ends as quickly.
/// Looks are counted and not time: where the whole machine stands still, no time has passed for the
/// master.
const MOST_LOOKS: usize = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long the words of commands that have just begun are waited for when the connection is
/// closed.
pub(super) const BEGINNING: Duration = Duration::from_millis(100);
/// Between two looks at whether they have come.
const LOOK: Duration = Duration::from_millis(3);

impl Master {
    /// Whether the connection was there when a session on it had ended, or a connection that it
    /// forwards, so that the end and all that came before are those of the other side. `Err` says
    /// why it was not.
    ///
    /// [`presence`] says why a master that listens was alive when the session had ended. One that
    /// listens no more has lost its connection, and ends; or it was told to drain, and ends later
    /// (tests `a_loss_is_told_though_a_status_had_come`, `c6_…`).
    pub(crate) async fn outlived(&self) -> Result<(), String> {
        let seen = Instant::now();
        // Since when it is known to leave by itself.
        let mut leaves = None;
        for _ in 0..MOST_LOOKS {
            match presence::look(self.listener(), &self.socket) {
                Presence::Listens => return Ok(()),
                Presence::IsLeaving if self.notes.heard.load(Ordering::Relaxed) => {}
                Presence::IsLeaving => drop(leaves.get_or_insert_with(Instant::now)),
                Presence::Unseen => {}
            }
            if timeout(LOOK_AGAIN, self.ended()).await.is_ok() {
                break;
            }
        }
        match self.ended.borrow().as_ref() {
            Some(End { how: How::Drained, .. }) => Ok(()),
            // Until then it was alive, unless it was leaving already.
            Some(End { how: How::Asked(at), .. })
                if *at > seen && leaves.is_none_or(|leaves| *at < leaves) =>
            {
                Ok(())
            }
            Some(End { reason, .. }) => Err(reason.clone()),
            // Its supervisor can be in a runtime that nobody drives.
            None if !runs(Pid::from_raw(self.pid.cast_signed())) => {
                Err("the control master has ended".to_owned())
            }
            // Somebody else has told it to drain.
            None => Ok(()),
        }
    }

    /// Whether the session of this channel had come to its end before the connection ended, with
    /// all its output.
    pub(in crate::openssh) fn had_all_of(&self, channel: u32) -> bool {
        self.ended.borrow().as_ref().is_some_and(|end| ends::is_whole(&end.stderr, channel))
    }

    /// Why a command was lost that was ended because the connection is being closed.
    pub(in crate::openssh) fn why_commands_end(&self) -> Option<&'static str> {
        self.notes.ends_commands.load(Ordering::Relaxed).then_some(CLOSED)
    }

    /// Whether the process runs at this instant. The system knows of its end a moment before the
    /// supervisor does.
    pub(crate) fn is_alive(&self) -> bool {
        self.end_reason().is_none() && runs(Pid::from_raw(self.pid.cast_signed()))
    }

    /// Completes when the process has ended, and says why.
    pub(crate) async fn ended(&self) -> transport::End {
        let mut ended = self.ended.clone();
        // Without a supervisor (its runtime was shut down) the process is gone as well: it dies
        // with its handle.
        let _ = ended.wait_for(Option::is_some).await;
        let reason = self.end_reason().unwrap_or_else(|| SUPERVISOR_GONE.to_owned());
        let by_server = self.ended.borrow().as_ref().is_some_and(|end| end.by_server);
        transport::End { reason, by_server }
    }

    /// A session has run on it.
    pub(crate) fn ran(&self) {
        self.notes.has_run.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_run(&self) -> bool {
        self.notes.has_run.load(Ordering::Relaxed) || !self.notes.running().is_empty()
    }

    /// Why it ended, if it has.
    pub(in crate::openssh) fn end_reason(&self) -> Option<String> {
        self.ended.borrow().as_ref().map(|end| end.reason.clone())
    }

    /// Ends it: with patience, sessions that run may finish within it, and no new ones are taken;
    /// without, at once. Returns when the process is gone.
    pub(crate) async fn close(&self, patience: Duration) {
        if self.end_reason().is_none() && !patience.is_zero() {
            let deadline = Instant::now() + patience;
            if timeout_at(deadline, self.drain()).await.is_err() {
                tracing::debug!(
                    pid = self.pid,
                    "sessions still run at the deadline and are cut off"
                );
            }
        }
        self.end_what_runs().await;
        // The supervisor has ended already when the process has.
        let _ = self.kill.send(());
        self.ended().await;
    }

    /// Ends the commands that run: cutting the connection would leave them behind.
    async fn end_what_runs(&self) {
        if !self.is_alive() {
            return;
        }
        // The word of a command that has just begun may be on its way.
        let _ = timeout(BEGINNING, async {
            while !self.notes.all_known() {
                sleep(LOOK).await;
            }
        })
        .await;
        let groups = self.notes.running();
        if groups.is_empty() {
            return;
        }
        self.notes.ends_commands.store(true, Ordering::Relaxed);
        let ending = async {
            let here = match self.sessions() {
                Sessions::Several => self.end_groups(None, &groups).await,
                _ => Err(NotEnded::Refused),
            };
            match here {
                Err(NotEnded::Refused) => self.end_groups_from_elsewhere(&groups).await,
                outcome => outcome,
            }
        };
        match timeout(transport::ENDING, ending).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(
                pid = self.pid,
                ?why,
                "commands may live on behind a connection that is closed"
            ),
            Err(_) => tracing::warn!(
                pid = self.pid,
                "commands may live on behind a connection that is closed: no answer"
            ),
        }
    }

    /// Where the commands take all sessions that the server opens on one connection another one is
    /// made, for this alone.
    async fn end_groups_from_elsewhere(&self, groups: &[i32]) -> Result<(), NotEnded> {
        let deadline = Instant::now() + self.call_timeout;
        let launch = Launch {
            program: &self.program,
            runtime: &self.runtime,
            connect_timeout: self.call_timeout,
            deadline,
            lanes: self.lanes.settings(),
            trace: None,
            sessions: self.sessions(),
        };
        // Nothing is proven of it: that would take a session.
        let other = Self::connect(&self.host, &self.route, launch, None, self.way.clone()).await;
        let other = other.map_err(|error| NotEnded::NotHere(error.to_string()))?;
        let outcome = other.end_groups(None, groups).await;
        let _ = other.kill.send(());
        other.ended().await;
        outcome
    }

    /// Takes no new sessions and waits until the last one has ended: ours, and then what others run
    /// over its socket. As long as ours run it listens on, so that they can be ended. Called again,
    /// it goes on waiting.
    async fn drain(&self) {
        self.notes.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            _ = self.ended() => return,
            () = self.notes.last_session() => {}
        }
        if !self.notes.heard.load(Ordering::Relaxed) {
            let told = self.call("stop", Instant::now() + self.call_timeout).await;
            self.notes
                .heard
                .store(told.is_ok_and(|finished| finished.code == Some(0)), Ordering::Relaxed);
        }
        // Where there is no way to tell it nothing of ours is left on it.
        if self.notes.heard.load(Ordering::Relaxed) {
            self.ended().await;
        }
    }

    pub(super) async fn call(
        &self,
        operation: &str,
        deadline: Instant,
    ) -> Result<program::Finished, String> {
        self.called(operation, args::control(&self.socket, operation), deadline).await
    }

    pub(in crate::openssh) async fn called(
        &self,
        operation: &str,
        args: Vec<OsString>,
        deadline: Instant,
    ) -> Result<program::Finished, String> {
        let called = self.program.call_with(args, deadline, self.runtime.claim()).await;
        called.map_err(|error| match error.kind() {
            std::io::ErrorKind::TimedOut => "the control master does not answer".to_owned(),
            _ => format!("cannot start ssh -O {operation}: {error}"),
        })
    }
}
