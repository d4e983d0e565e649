//! The guard: it cleans up when this process is gone, however it ended.
//!
//! A guard is one `sh` per pool whose stdin is a pipe that only we hold. It is told of every master
//! before that becomes ssh (the forked child writes its own pid, so that there is no instant at
//! which a master runs unannounced) and again when it was reaped. When the pipe closes, because the
//! pool was closed or because this process died, the guard ends the process groups that are left,
//! removes the sockets of forwards and the socket directory, and ends. Sessions end with their
//! master and need no guard, with one exception: a session that has not opened its log yet waits
//! for a reader of it, so the guard reads it, for a moment.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};

use tokio::process::{Child, Command};
use tokio::time::{Duration, timeout};

use super::program;

/// `kill -TERM -PID` is the form that every sh understands (BusyBox does not know `--`, dash no
/// `kill -s TERM -PID`); the whole takes about 0.2 s. The directory is moved away, so that no
/// session opens a log in it any more. It is moved into a new directory: in a shared place a link
/// of another user could lead it anywhere.
const SCRIPT: &str = r#"
trap '' HUP INT TERM QUIT PIPE
live=
while read -r what pid; do
    case $what in
    +) live="$live $pid" ;;
    -) kept=
       for p in $live; do [ "$p" = "$pid" ] || kept="$kept $p"; done
       live=$kept ;;
    =) live=$pid ;;
    esac
done
for p in $live; do kill -TERM "-$p" 2>/dev/null; done
if [ -n "$live" ]; then sleep 0.2 2>/dev/null || sleep 1; fi
for p in $live; do kill -KILL "-$p" 2>/dev/null; done
at=$1 gone=$1.gone
if ! mkdir -m 700 -- "$gone" 2>/dev/null; then gone=
elif mv -- "$1" "$gone/d" 2>/dev/null; then at=$gone/d
fi
for link in "$at"/*-*.at; do
    [ -S "$link" ] || continue
    inode=${link##*-}
    found=$(set -f; set -- $(ls -diL -- "$link" 2>/dev/null); echo "$1")
    [ "$found.at" != "$inode" ] || rm -f -- "$(readlink "$link")"
done
for log in "$at"/*; do [ ! -p "$log" ] || : <>"$log"; done
exec rm -rf -- "$at" ${gone:+"$gone"}
"#;

#[derive(Debug)]
pub(super) struct Guard {
    directory: PathBuf,
    /// Says that the pool lives (see [`leftover`](super::leftover)); each guard has a copy, so that
    /// nobody takes the pool for one that is gone while its guard cleans up.
    alive: Option<OwnedFd>,
    /// A std mutex: held for a write of a few bytes into a pipe, never across an await.
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Both are there until `finish`.
    shell: Option<Child>,
    pipe: Option<io::PipeWriter>,
    /// The masters that it knows of, to tell a successor.
    live: Vec<u32>,
}

impl Guard {
    /// Starts the guard of the pool whose sockets are in `directory`.
    pub(super) fn start(directory: &Path, alive: Option<OwnedFd>) -> io::Result<Self> {
        let (shell, pipe) = start_shell(directory, alive.as_ref())?;
        let state = Mutex::new(State { shell: Some(shell), pipe: Some(pipe), live: Vec::new() });
        Ok(Guard { directory: directory.to_owned(), alive, state })
    }

    /// Spawns `command` as the leader of a new session, announced to the guard. A new session has
    /// no terminal: programs that a login starts (a jump host's ssh, a ProxyCommand) cannot ask
    /// there, where the user would not see the question.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<(Child, u32)> {
        let mut state = self.lock();
        let guard = Arc::new(AtomicI32::new(-1));
        let told = Arc::clone(&guard);
        // SAFETY: between fork and exec only async-signal-safe calls are made (setsid, getpid,
        // sigaction, write), nothing is allocated, and the descriptor is open in the child since
        // the lock keeps it open here until the spawn has returned.
        unsafe {
            command.pre_exec(move || {
                nix::unistd::setsid()?;
                give_back()?;
                announce(told.load(Ordering::Relaxed))
            });
        }
        let mut spawn = |state: &State| {
            guard.store(state.pipe.as_ref().ok_or_else(finished)?.as_raw_fd(), Ordering::Relaxed);
            command.spawn()
        };
        // The guard may have been killed. Another one takes over, and is told the same pids.
        if state.shell.as_mut().ok_or_else(finished)?.try_wait()?.is_some() {
            state.replace(self)?;
        }
        let spawned = match spawn(&state) {
            // It was just dying.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                state.replace(self)?;
                spawn(&state)
            }
            spawned => spawned,
        };
        match spawned {
            Ok(child) => {
                let pid = child.id().expect("a child that was not waited for has a pid");
                state.live.push(pid);
                Ok((child, pid))
            }
            Err(error) => {
                // It may have announced a pid and then failed to become ssh.
                state.tell_all()?;
                Err(error)
            }
        }
    }

    /// The master with this pid was reaped: another process may soon have its number.
    pub(super) fn reaped(&self, pid: u32) {
        let mut state = self.lock();
        state.live.retain(|&live| live != pid);
        if let Err(error) = state.tell(&format!("- {pid}\n")) {
            tracing::warn!(pid, %error, "the guard process is gone; the next connection starts \
                another");
        }
    }

    /// Closes the pipe and waits until the guard has cleaned up and ended. One that does not
    /// (it was stopped by a signal) is killed: it has no process left to end, and the caller looks
    /// after the directory.
    pub(super) async fn finish(&self) {
        let shell = {
            let mut state = self.lock();
            state.pipe = None;
            state.shell.take()
        };
        if let Some(mut shell) = shell
            && timeout(Duration::from_secs(2), shell.wait()).await.is_err()
        {
            tracing::warn!("the guard process did not end within 2 s and is killed");
            // It fails only where it has just gone; and what was killed is gone in a moment.
            let _ = timeout(Duration::from_secs(1), shell.kill()).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing below panics half-way through a change.
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl State {
    fn replace(&mut self, guard: &Guard) -> io::Result<()> {
        let (shell, pipe) = start_shell(&guard.directory, guard.alive.as_ref())?;
        (self.shell, self.pipe) = (Some(shell), Some(pipe));
        self.tell_all()
    }

    /// A short write into a pipe is not cut, and the guard reads at once: the pipe is never full.
    fn tell(&mut self, line: &str) -> io::Result<()> {
        self.pipe.as_mut().ok_or_else(finished)?.write_all(line.as_bytes())
    }

    fn tell_all(&mut self) -> io::Result<()> {
        let live: Vec<String> = self.live.iter().map(u32::to_string).collect();
        self.tell(&format!("= {}\n", live.join(" ")))
    }
}

fn finished() -> io::Error {
    io::Error::other("the pool is closed")
}

fn start_shell(directory: &Path, alive: Option<&OwnedFd>) -> io::Result<(Child, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    let alive = alive.map(AsRawFd::as_raw_fd);
    let mut command = program::command(Path::new("/bin/sh"));
    command
        .args(["-c", SCRIPT, "sshpool-guard"])
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(reader)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // The guard must outlive us by a moment: dropping its handle closes the pipe, and that ends
        // it.
        .kill_on_drop(false);
    // SAFETY: setsid and fcntl are async-signal-safe, and the descriptor is open in the child since
    // the caller has it. A session of its own keeps a Ctrl-C or a hang-up of the terminal away from
    // the guard.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::setsid()?;
            if let Some(alive) = alive {
                fcntl(BorrowedFd::borrow_raw(alive), FcntlArg::F_SETFD(FdFlag::empty()))?;
            }
            Ok(())
        });
    }
    Ok((command.spawn()?, writer))
}

/// The limit of descriptors for programs of callers: soft and hard, where this process has raised
/// its own.
static DESCRIPTORS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// From now on masters, and what they start, are started with this limit of descriptors, as those
/// are that do not ask for more: programs that use select break above 1024.
pub(crate) fn give_back_descriptors(soft: u64, hard: u64) {
    DESCRIPTORS[1].store(hard, Ordering::Relaxed);
    DESCRIPTORS[0].store(soft, Ordering::Relaxed);
}

/// Runs between fork and exec: one system call.
fn give_back() -> io::Result<()> {
    let [soft, hard] = [0, 1].map(|which: usize| DESCRIPTORS[which].load(Ordering::Relaxed));
    if soft > 0 {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?;
    }
    Ok(())
}

/// Writes `+ PID` to the guard. Runs between fork and exec: no allocation, no formatting machinery.
fn announce(guard: RawFd) -> io::Result<()> {
    let mut line = [b' '; 16];
    let mut at = line.len() - 1;
    line[at] = b'\n';
    let mut pid = std::process::id();
    while pid > 0 {
        at -= 1;
        line[at] = b'0' + (pid % 10) as u8;
        pid /= 10;
    }
    line[0] = b'+';
    // SAFETY: the caller keeps the descriptor open, and this process has no handlers and no threads
    // yet.
    let (guard, before) =
        unsafe { (BorrowedFd::borrow_raw(guard), signal(Signal::SIGPIPE, SigHandler::SigIgn)?) };
    // Where the guard is gone that is an error of the spawn, and not the death of the child.
    let written = nix::unistd::write(guard, &line);
    // SAFETY: as above.
    unsafe { signal(Signal::SIGPIPE, before)? };
    written?;
    Ok(())
}
