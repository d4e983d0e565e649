//! Finding the agent, and starting one where there is none: once, however many want one.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{self, SigHandler, SigSet, Signal};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::NoAgent;
use crate::agent::directory::{Directory, create, is_us};
use crate::text::plain;

/// How long another one may take to start an agent, or an old one to make room; and how long an
/// agent may be too busy to take a client.
const PATIENCE: Duration = Duration::from_secs(10);
/// An agent can leave, or be killed, as soon as it was started. More often than that something is
/// wrong.
const STARTS: usize = 3;

/// What an agent says when clients can connect.
pub(crate) const READY: &str = "ready\n";

/// A connection to an agent that listens. Where there is none it is started, unless `arguments`,
/// those of `sshpool agent`, are `None`.
pub(crate) async fn connect(
    directory: &Directory,
    arguments: Option<&[OsString]>,
) -> Result<UnixStream, NoAgent> {
    let deadline = Instant::now() + PATIENCE;
    let (mut started, mut pause) = (0, Duration::from_millis(1));
    loop {
        if let Some(stream) = try_connect(directory).await? {
            return Ok(stream);
        }
        let Some(arguments) = arguments else { return Err(NoAgent::NotThere) };
        let failed = |why| NoAgent::Failed(format!("the agent could not be started: {why}"));
        if let Some(_lock) = directory.lock_start().map_err(failed)? {
            // Whoever had the lock before may have started one.
            if let Some(stream) = try_connect(directory).await? {
                return Ok(stream);
            }
            if started == STARTS {
                return Err(NoAgent::Failed("the agent ends as soon as it is started".to_owned()));
            }
            start(directory, arguments).await.map_err(failed)?;
            started += 1;
            continue;
        }
        if Instant::now() >= deadline {
            return Err(failed("another process has not finished starting it".to_owned()));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// `None` where nobody listens.
async fn try_connect(directory: &Directory) -> Result<Option<UnixStream>, NoAgent> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        match UnixStream::connect(directory.socket()).await {
            Ok(stream) if stream.peer_cred().is_ok_and(|peer| is_us(peer.uid())) => {
                return Ok(Some(stream));
            }
            Ok(_) => {
                let why = "another user's process is at the agent's socket";
                return Err(NoAgent::Failed(why.to_owned()));
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            // More clients wait to be taken than the system lets wait.
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline =>
            {
                sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            Err(error) => {
                return Err(NoAgent::Failed(format!(
                    "cannot connect to the agent: {}",
                    plain(&error)
                )));
            }
        }
    }
}

/// Starts one, and returns when it listens.
async fn start(directory: &Directory, arguments: &[OsString]) -> Result<(), String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this program: {}", plain(&error)))?;
    let log = create(&directory.log())?;
    // Of the agent before.
    let _ = log.set_len(0);
    keep_descriptors();
    #[expect(clippy::disallowed_methods, reason = "it is this program, not ssh")]
    let mut command = std::process::Command::new(&program);
    // It may have another name, by which it would be something else: `ssh`, for one.
    command.arg0("sshpool");
    command.arg("agent").arg("--detach").args(arguments).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    command.env_clear().envs(own_environment());
    // SAFETY: setsid, sigaction and sigprocmask are async-signal-safe. A session of its own keeps
    // the signals of the terminal away, and the terminal from being held.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            // Started under nohup or by a job that blocks signals, an agent for everybody is not to
            // be deaf.
            for signal in Signal::iterator() {
                // Two of them cannot be changed.
                let _ = signal::signal(signal, SigHandler::SigDfl);
            }
            SigSet::empty().thread_set_mask()?;
            Ok(())
        });
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start {}: {}", program.display(), plain(&error)))?;
    let stdout = child.stdout.take().expect("it is piped");
    // It says one word, and closes its stdout then, or by ending.
    let said = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        let _ = stdout.take(READY.len() as u64).read_to_string(&mut said);
        said
    });
    let said = tokio::time::timeout(PATIENCE, said).await;
    // It may end before we do: somebody has to hear of it.
    std::thread::Builder::new().name("agent".to_owned()).spawn(move || child.wait()).ok();
    if matches!(&said, Ok(Ok(said)) if said == READY) {
        return Ok(());
    }
    let words = std::fs::read_to_string(directory.log()).unwrap_or_default();
    let last = words.lines().rev().find_map(|line| line.strip_prefix("sshpool: "));
    Err(crate::text::printable(last.unwrap_or("it has said nothing")))
}

/// The environment of an agent: nothing of whoever starts it but where its own files are. What its
/// masters need of their callers they are given by each.
fn own_environment() -> Vec<(&'static str, OsString)> {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:\
                        /run/current-system/sw/bin:/opt/homebrew/bin";
    let mut environment = vec![("PATH", PATH.into())];
    if let Ok(Some(user)) = nix::unistd::User::from_uid(nix::unistd::getuid()) {
        environment.extend([
            ("HOME", user.dir.into_os_string()),
            ("USER", user.name.clone().into()),
            ("LOGNAME", user.name.into()),
        ]);
    }
    let directories = ["XDG_RUNTIME_DIR", "TMPDIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"];
    environment
        .extend(directories.into_iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    environment
}

/// What this program was given by whoever has started it, beside the three standard streams, is not
/// for the agent: a pipe would never end, and a lock never be free, for as long as it lives.
fn keep_descriptors() {
    let Ok(listed) = std::fs::read_dir("/dev/fd") else { return };
    for number in
        listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
    {
        if number > 2 {
            // SAFETY: it changes a flag of the descriptor, or fails where that is not open any
            // more. Nobody here hands one on by number.
            unsafe { nix::libc::fcntl(number, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC) };
        }
    }
}
