//! What watches a master: the task that owns its process from the launch to the end.
//!
//! It waits for the end, or is asked for it; notes why; and removes what the process leaves. Whoever holds the master learns of the end by
//! a watch channel, a moment after the system knows: [`runs`] and [`is_exiting`] ask the system itself.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::diagnosis;
use super::runtime::Tenancy;

/// How often SIGTERM is sent: ssh can miss one that comes just before it begins to wait for something else.
const REPEAT: Duration = Duration::from_millis(50);
/// Between the first SIGTERM and SIGKILL. A master that is not stopped needs a few milliseconds.
const GRACE: Duration = Duration::from_millis(500);

/// What the supervisor has to know to tell why a master has ended.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Where in its log the time begins in which it was ready.
    pub ready_at: AtomicU64,
    /// It was told to end when its last session has.
    pub draining: AtomicBool,
}

/// The end of a master.
#[derive(Clone, Debug)]
pub(super) struct End {
    /// In one line.
    pub reason: String,
    /// It was drained: it ended by itself, when its last session had.
    pub drained: bool,
    /// The last of what it wrote.
    pub stderr: Arc<str>,
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
            status = self.child.wait() => (status, false),
            // A message and a closed channel mean the same.
            _ = self.kill.recv() => (self.end().await, true),
        };
        // What it left in its group (a jump host's ssh, a ProxyCommand) has nobody to talk to any more.
        self.signal(Signal::SIGKILL);
        let fallback = match &status {
            Ok(status) => format!("the control master ended ({status})"),
            Err(error) => format!("the control master cannot be waited for: {error}"),
        };
        let log = log_of(&self.socket);
        let stderr =
            diagnosis::read_tail(&log, self.notes.ready_at.load(Ordering::Relaxed)).unwrap_or_default();
        let reason = match asked {
            true => "the pool closed the connection".to_owned(),
            false => diagnosis::master_end(&stderr, &fallback),
        };
        // Its status is 255 then as well, but it has nothing to say.
        let drained = !asked
            && self.notes.draining.load(Ordering::Relaxed)
            && status.is_ok_and(|status| status.code().is_some())
            && diagnosis::last_word(&stderr).is_none();
        tracing::debug!(pid = self.pid, reason, "master ended");
        // ssh removes its socket unless it was killed; neither file is missed if it is gone already.
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(&log);
        let Supervisor { tenancy, ended, .. } = self;
        drop(tenancy);
        ended.send_replace(Some(End { reason, drained, stderr: stderr.into() }));
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
        // The group may be gone already. Its number is not given to a new process while the
        // group has members, and a moment after the end of the last one it has not been given to anybody either.
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

/// Where nix has no waitid, a process that has ended counts as running until the supervisor has heard of it.
#[cfg(not(target_os = "linux"))]
pub(super) fn runs(child: Pid) -> bool {
    nix::sys::signal::kill(child, None).is_ok()
}

/// Whether the process has begun to exit: `PF_EXITING` in the flags of proc_pid_stat(5), which stands there before its descriptors are
/// closed.
#[cfg(target_os = "linux")]
pub(super) fn is_exiting(pid: u32) -> bool {
    const PF_EXITING: u64 = 0x4;
    let flags = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name in brackets, which can contain anything: state, parent, group, session, terminal, its group, flags.
        stat.rsplit_once(") ")?.1.split(' ').nth(6)?.parse::<u64>().ok()
    };
    // One that is not there has exited.
    flags().is_none_or(|flags| flags & PF_EXITING != 0)
}

/// Nobody tells: one that is being killed may be taken for alive for a moment.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_exiting(_: u32) -> bool {
    false
}

/// Where a master writes what it has to say.
pub(super) fn log_of(socket: &Path) -> PathBuf {
    socket.with_extension("log")
}
