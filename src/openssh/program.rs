//! The `ssh` program: where it is, which version it is, and short calls of it.
//!
//! This is the only place that creates processes (clippy's `disallowed-methods` keeps it so).
//! Everything that is started here is killed when its handle is dropped, and every short call has a
//! deadline: an `ssh -O check` can hang for ever (a stopped master).

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};

/// How much of what a short call prints is kept. `ssh -G` prints about 6 KiB.
const MOST_OUTPUT: u64 = 256 * 1024;

/// The version that ssh reports of itself, such as `OpenSSH_9.2p1 Debian-2+deb12u7, OpenSSL
/// 3.0.17`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshVersion {
    text: String,
    number: Option<(u32, u32)>,
}

impl SshVersion {
    fn parse(text: &str) -> Self {
        let text = crate::text::printable(text.lines().next().unwrap_or_default());
        let number = text.split_once("OpenSSH_").and_then(|(_, rest)| {
            // Windows' port calls itself `OpenSSH_for_Windows_9.5p1`.
            let rest = rest.strip_prefix("for_Windows_").unwrap_or(rest);
            let (major, rest) = rest.split_once('.')?;
            let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        SshVersion { text, number }
    }

    /// The whole line, as `ssh -V` prints it.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Major and minor number, when the text has them.
    pub fn number(&self) -> Option<(u32, u32)> {
        self.number
    }

    #[cfg(test)]
    pub(super) fn for_tests(major: u32, minor: u32) -> Self {
        SshVersion { text: String::new(), number: Some((major, minor)) }
    }

    pub(super) fn at_least(&self, major: u32, minor: u32) -> bool {
        self.number.is_some_and(|number| number >= (major, minor))
    }
}

/// The ssh program that this pool runs.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    version: OnceCell<SshVersion>,
}

/// What a short call left.
#[derive(Debug)]
pub(super) struct Finished {
    /// Exit status, or `None` when a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Finds `ssh` on PATH. Nothing is started. This program itself can be there by that name
    /// (`sshpool ssh`), and is not what is meant.
    pub(crate) fn find() -> Result<Self, which::Error> {
        Self::find_but(|_| false)
    }

    /// The same, without the programs that are skipped.
    pub(crate) fn find_but(passed_over: impl Fn(&Path) -> bool) -> Result<Self, which::Error> {
        let found = which::which_all("ssh")?.find(|path| !is_ours(path) && !passed_over(path));
        let path = found.ok_or(which::Error::CannotFindBinaryPath)?;
        Ok(Program { path, version: OnceCell::new() })
    }

    /// The one at this path, whatever is there.
    pub(crate) fn of(path: PathBuf) -> Self {
        Program { path, version: OnceCell::new() }
    }

    /// The program at this path, if it is not our own.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let there = path.is_file() && !is_ours(path);
        there.then(|| Program { path: path.to_owned(), version: OnceCell::new() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What `ssh -G` prints with these arguments; `None` where it fails.
    pub(crate) async fn resolved(
        &self,
        arguments: Vec<OsString>,
        deadline: Instant,
    ) -> Option<String> {
        let finished = self.call([vec!["-G".into()], arguments].concat(), deadline).await.ok()?;
        (finished.code == Some(0)).then_some(finished.stdout)
    }

    /// Becomes this program. Returns only where it cannot.
    pub(crate) fn become_it(
        &self,
        arguments: &[OsString],
        environment: &[(&str, OsString)],
    ) -> io::Error {
        use std::os::unix::process::CommandExt;
        #[expect(clippy::disallowed_methods, reason = "this is the one place that the rule leaves")]
        let mut command = std::process::Command::new(&self.path);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value)));
        command.exec()
    }

    /// Starts this program as a child that has our standard streams, and that ends with us.
    pub(crate) fn start(
        &self,
        arguments: &[OsString],
        environment: &[(&str, OsString)],
    ) -> io::Result<Child> {
        let mut command = command(&self.path);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value)));
        #[cfg(target_os = "linux")]
        // SAFETY: between fork and exec it makes one system call, which takes no memory and no
        // lock.
        unsafe {
            // If this process is killed, ssh must end, too. It fails only for a number that is no
            // signal.
            command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?));
        }
        command.spawn()
    }

    /// Asks once, then remembers.
    pub(crate) async fn version(&self, deadline: Instant) -> io::Result<&SshVersion> {
        self.version
            .get_or_try_init(|| async {
                let finished = self.call(vec!["-V".into()], deadline).await?;
                Ok(SshVersion::parse(&finished.stderr))
            })
            .await
    }

    /// A command of this program.
    pub(super) fn command(&self, args: Vec<OsString>) -> Command {
        let mut command = command(&self.path);
        command.args(args);
        command
    }

    /// A client of a master, in a process group of its own: a Ctrl-C typed at our terminal is ours
    /// to handle, not its.
    pub(super) fn client(&self, args: Vec<OsString>) -> Command {
        let mut command = self.command(args);
        command.process_group(0);
        command
    }

    /// Runs a short call with empty input to its end, or to the deadline (`ErrorKind::TimedOut`),
    /// where it is killed.
    pub(super) async fn call(
        &self,
        args: Vec<OsString>,
        deadline: Instant,
    ) -> io::Result<Finished> {
        self.call_with(args, deadline, ()).await
    }

    /// The same. What is kept is dropped when the process is gone, whatever becomes of the call.
    pub(super) async fn call_with<K: Send + 'static>(
        &self,
        args: Vec<OsString>,
        deadline: Instant,
        kept: K,
    ) -> io::Result<Finished> {
        finish(captured(&mut self.client(args)).spawn()?, deadline, kept).await
    }
}

/// Whether this is the program that runs, or a link to `sshpool`.
fn is_ours(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Ok(real) = path.canonicalize() else { return false };
    let same = |own: PathBuf| match (own.metadata(), real.metadata()) {
        (Ok(own), Ok(found)) => (own.dev(), own.ino()) == (found.dev(), found.ino()),
        _ => false,
    };
    real.file_name() == Some("sshpool".as_ref())
        || std::env::current_exe().is_ok_and(|own| same(own.clone()) || is_a_copy(&own, &real))
}

/// Whether two files have the same content. Of other lengths nothing is read.
fn is_a_copy(own: &Path, other: &Path) -> bool {
    let length = |path: &Path| path.metadata().map(|found| found.len()).ok();
    length(own) == length(other)
        && matches!((std::fs::read(own), std::fs::read(other)), (Ok(a), Ok(b)) if a == b)
}

/// Runs a short call of one of ssh's other programs (`ssh-add`, `ssh-keygen`), found on PATH.
/// `environment` is added to ours.
pub(super) async fn call_other(
    name: &str,
    args: Vec<OsString>,
    environment: &[(&str, &Path)],
    deadline: Instant,
) -> io::Result<Finished> {
    let path = which::which(name).map_err(|_| io::ErrorKind::NotFound)?;
    let mut command = command(&path);
    command.args(args).envs(environment.iter().copied()).process_group(0);
    finish(captured(&mut command).spawn()?, deadline, ()).await
}

/// No input, and both outputs to be read.
pub(super) fn captured(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// How long output is still read after the end: what a configuration has started may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(50);

/// Waits for the end of a process that leads a group and whose output is [`captured`]. The group is
/// killed at the deadline, and when the future is dropped.
pub(super) async fn finish<K: Send + 'static>(
    mut child: Child,
    deadline: Instant,
    kept: K,
) -> io::Result<Finished> {
    let stdout = child.stdout.take().expect("stdout was piped");
    let stderr = child.stderr.take().expect("stderr was piped");
    let mut group = Group(Some((child, kept)));
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = timeout_at(deadline, async {
        let (mut stdout, mut stderr) = (stdout.take(MOST_OUTPUT), stderr.take(MOST_OUTPUT));
        let read =
            async { tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err)) };
        let mut read = pin!(read);
        tokio::select! {
            // A pipe does not fail; if it ever does, there is nothing more to come from it.
            _ = &mut read => group.wait().await,
            status = group.wait() => {
                let _ = timeout(LAST_WORDS, read).await;
                status
            }
        }
    });
    let code = status.await??.code();
    Ok(Finished {
        code,
        stdout: String::from_utf8_lossy(&out).into_owned(),
        stderr: String::from_utf8_lossy(&err).into_owned(),
    })
}

/// A process and its group, which are killed when this is dropped before the process has ended.
struct Group<K: Send + 'static>(Option<(Child, K)>);

impl<K: Send + 'static> Group<K> {
    async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.0.as_mut().expect("it is there until this is dropped").0.wait().await
    }
}

impl<K: Send + 'static> Drop for Group<K> {
    fn drop(&mut self) {
        // There is no id any more once it was waited for.
        if let Some((mut child, kept)) = self.0.take()
            && let Some(pid) = child.id()
        {
            let _ = killpg(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            if let Ok(runtime) = Handle::try_current() {
                runtime.spawn(async move {
                    let _ = child.wait().await;
                    drop(kept);
                });
            }
        }
    }
}

/// The one place where a process of this crate begins. What it starts dies with its handle.
#[expect(clippy::disallowed_methods, reason = "this is the one place that the rule leaves")]
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.kill_on_drop(true);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("OpenSSH_9.2p1 Debian-2+deb12u7, OpenSSL 3.0.17 1 Jul 2025", Some((9, 2)))]
    #[case("OpenSSH_10.0p2, LibreSSL 3.3.6", Some((10, 0)))]
    #[case("OpenSSH_for_Windows_9.5p1, LibreSSL 3.8.2", Some((9, 5)))]
    #[case("Sun_SSH_2.2", None)]
    #[case("", None)]
    fn versions_are_read(#[case] text: &str, #[case] number: Option<(u32, u32)>) {
        let version = SshVersion::parse(text);
        assert_eq!(version.number(), number);
        assert_eq!(version.text(), text);
    }

    #[test]
    fn versions_compare_by_number() {
        let version = SshVersion::parse("OpenSSH_10.0p2");
        assert!(version.at_least(9, 8) && version.at_least(10, 0) && !version.at_least(10, 1));
    }
}
