//! What watches a master: the task that owns its process from the launch to the end.
//!
//! It waits for the end, or is asked for it; notes why; and removes what the process leaves.
//! Whoever holds the master learns of the end by a watch channel, a moment after the system knows:
//! [`runs`] and [`presence`](super::presence) ask the system itself.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::bootstrap::Group;
use super::diagnosis;
use super::runtime::Tenancy;

/// How often SIGTERM is sent: ssh can miss one that comes just before it begins to wait for
/// something else.
const REPEAT: Duration = Duration::from_millis(50);
/// Between the first SIGTERM and SIGKILL. A master that is not stopped needs a few milliseconds.
const GRACE: Duration = Duration::from_millis(500);

/// Why a command was lost whose connection the pool has closed.
pub(crate) const CLOSED: &str = "the pool closed the connection";

/// What the supervisor and the holder of a master have to know of each other.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Where in its log the time begins in which it was ready.
    pub ready_at: AtomicU64,
    /// It was told to end when its last session has.
    pub draining: AtomicBool,
    /// A session was opened on it and ran.
    pub has_run: AtomicBool,
    /// It has answered that it will.
    pub heard: AtomicBool,
    /// What runs in its sessions is ended, because it is to be closed.
    pub ends_commands: AtomicBool,
    /// Sessions that run.
    sessions: watch::Sender<usize>,
    /// What runs in them. A std mutex: held for a look.
    groups: Mutex<Vec<Group>>,
}

/// One session, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    notes: Arc<Notes>,
    group: Group,
}

impl Notes {
    pub(super) fn counted(self: &Arc<Self>, group: Group) -> Counted {
        self.sessions.send_modify(|sessions| *sessions += 1);
        self.groups().push(group.clone());
        Counted { notes: Arc::clone(self), group }
    }

    /// The process groups of the commands that run.
    pub(super) fn running(&self) -> Vec<i32> {
        self.groups().iter().filter_map(Group::known).collect()
    }

    /// No session is left of which it is not known what runs in it.
    pub(super) fn all_known(&self) -> bool {
        !self.groups().iter().any(Group::is_unknown)
    }

    fn groups(&self) -> MutexGuard<'_, Vec<Group>> {
        self.groups.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    pub(super) async fn last_session(&self) {
        // The sender is in `self`: the channel is open.
        let _ = self.sessions.subscribe().wait_for(|&sessions| sessions == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.notes.groups().retain(|group| !group.is(&self.group));
        self.notes.sessions.send_modify(|sessions| *sessions -= 1);
    }
}

/// The end of a master.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// In one line.
    pub reason: String,
    pub how: How,
    /// The server has closed the connection, by ssh's own words.
    pub by_server: bool,
    /// The last of what it wrote.
    pub stderr: Arc<str>,
}

/// How a master has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// By itself, when its last session had, as it was told.
    Drained,
    /// It was alive until this moment, when it was asked to end.
    Asked(Instant),
    /// In any other way.
    Lost,
}

/// Owns the process of a master from its launch to its end.
pub(super) struct Supervisor {
    pub child: Child,
    pub pid: u32,
    pub socket: PathBuf,
    pub notes: Arc<Notes>,
    pub tenancy: Tenancy,
    pub kill: mpsc::UnboundedReceiver<()>,
    pub ended: watch::Sender<Option<End>>,
}

impl Supervisor {
    pub(super) async fn run(mut self) {
        let (status, asked) = tokio::select! {
            biased;
            status = self.child.wait() => (status, None),
            // A message and a closed channel mean the same.
            _ = self.kill.recv() => {
                // One that has ended already has not ended because of that.
                let asked = runs(Pid::from_raw(self.pid.cast_signed())).then(Instant::now);
                (self.end().await, asked)
            }
        };
        // What it left in its group (a jump host's ssh, a ProxyCommand) has nobody to talk to any
        // more.
        self.signal(Signal::SIGKILL);
        let fallback = match &status {
            Ok(status) => format!("the control master ended ({status})"),
            Err(error) => format!("the control master cannot be waited for: {error}"),
        };
        let log = log_of(&self.socket);
        let stderr = diagnosis::read_tail(&log, self.notes.ready_at.load(Ordering::Relaxed));
        let has_log = stderr.is_some();
        let stderr = stderr.unwrap_or_default();
        let reason = match asked {
            Some(_) => CLOSED.to_owned(),
            None => diagnosis::master_end(&stderr, &fallback),
        };
        // One that we have ended does not say so.
        let is_lost = matches!(&status, Ok(status) if status.code() == Some(255));
        let by_server = is_lost && diagnosis::is_closed_by_server(&stderr);
        // A master that was drained ends with 255 and has nothing to say; one that got a SIGTERM
        // ends with 0.
        let drained = has_log
            && self.notes.draining.load(Ordering::Relaxed)
            && status.is_ok_and(|status| status.code() == Some(255))
            && diagnosis::last_word(&stderr).is_none();
        let how = match asked {
            Some(at) => How::Asked(at),
            None if drained => How::Drained,
            None => How::Lost,
        };
        tracing::debug!(pid = self.pid, reason, "master ended");
        // ssh removes its socket unless it was killed; neither file is missed if it is gone
        // already.
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&log);
        let Supervisor { tenancy, ended, .. } = self;
        drop(tenancy);
        ended.send_replace(Some(End { reason, how, by_server, stderr: stderr.into() }));
    }

    /// TERM, then KILL.
    async fn end(&mut self) -> std::io::Result<ExitStatus> {
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            self.signal(Signal::SIGTERM);
            if let Ok(status) = timeout(REPEAT, self.child.wait()).await {
                return status;
            }
        }
        self.signal(Signal::SIGKILL);
        self.child.wait().await
    }

    fn signal(&self, signal: Signal) {
        // The group may be gone already. Its number is not given to a new process while the group
        // has members, and a moment after the end of the last one it has not been given to anybody
        // either.
        let _ = killpg(Pid::from_raw(self.pid.cast_signed()), signal);
    }
}

/// Whether this child of ours still runs. Only looks: to wait for it is the supervisor's part.
#[cfg(target_os = "linux")]
pub(super) fn runs(child: Pid) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    matches!(waitid(Id::Pid(child), look), Ok(WaitStatus::StillAlive))
}

/// Where nix has no waitid, a process that has ended counts as running until the supervisor has
/// heard of it.
#[cfg(not(target_os = "linux"))]
pub(super) fn runs(child: Pid) -> bool {
    nix::sys::signal::kill(child, None).is_ok()
}

/// Where a master writes what it has to say.
pub(super) fn log_of(socket: &Path) -> PathBuf {
    socket.with_extension("log")
}
