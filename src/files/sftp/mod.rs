//! What the scripts do, for accounts that run none: over the server's sftp.
//!
//! A [`Job`] has the streams of a script. It reads and writes what the script would, says in the
//! system's words what the script would say, and ends with its status. So who copies knows of sftp
//! only where a job is begun.
//!
//! Three things differ, since nothing of ours runs on the host. A digest is worked out here, from
//! what is read there once more. The bits of a umask that let somebody execute are taken to be
//! those that let him read. And where this process is killed, or the connection is lost, nobody
//! removes the temporary name.

mod failed;
mod receive;
mod send;
mod tree;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::TokioCompatFile;
use openssh_sftp_client::fs::Fs;
use openssh_sftp_client::metadata::{MetaData, Permissions};
use openssh_sftp_client::{Sftp, SftpOptions};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;

use super::error::{FileError, no_commands};
use super::source::hex;
use super::text::{self, SIGN, Target, Wanted};
use crate::command::{Child, ChildEnds, Command, ExitStatus, Runner, Stdin};
use crate::error::{Error, Remote};
use crate::host::Host;
use failed::{BROKE_OFF, Failed, NO_UTF_8, NoAnswer, kind, of_io};
use receive::Receive;

/// What is kept of each stream.
const RELAY: usize = 256 * 1024;
/// What is read at once.
const PIECE: usize = 64 * 1024;
/// How long it may take to remove what is left.
const CLEANING: Duration = Duration::from_secs(5);

/// How long a server that has closed its output may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// What is to be done.
pub(super) enum Job {
    /// Prints a file or the archive of a directory, as [`text::send`].
    Send(PathBuf, Wanted),
    /// Takes a file, as [`text::receive`].
    Receive(Receive),
    /// Takes the archive of a directory, whose last file has this name, as [`text::receive_tree`].
    ReceiveTree(Receive, String),
}

impl Job {
    pub(super) fn receive(target: &Target<'_>) -> Self {
        Job::Receive(Receive::of(target))
    }

    pub(super) fn receive_tree(target: &Target<'_>, mark: &str) -> Self {
        Job::ReceiveTree(Receive::of(target), mark.to_owned())
    }
}

/// Begins with a job for this file.
///
/// Dropping the child, or telling it to end, removes what the job has not yet given its name.
pub(super) async fn start(
    runner: &dyn Runner,
    host: &Host,
    path: &Path,
    job: Job,
) -> Result<Child, FileError> {
    let command = Command::subsystem(runner.shared(), host, "sftp");
    let mut server = command.stdin(Stdin::Piped).timeout(None).spawn().await?;
    const NEW: &str = "nobody has taken it";
    let (stdin, stdout) = (server.stdin.take().expect(NEW), server.stdout.take().expect(NEW));
    let mut said = server.stderr.take().expect(NEW);
    // What it says is read, or it would wait for somebody to do so.
    tokio::spawn(async move { tokio::io::copy(&mut said, &mut tokio::io::sink()).await });
    let hello = Sftp::new(stdin, stdout, SftpOptions::new());
    let patience = runner.defaults().connect_timeout;
    let sftp = match tokio::time::timeout(patience, hello).await {
        Ok(Ok(sftp)) => sftp,
        // It is no sftp that has answered. If the connection is lost, that is what is told.
        Ok(Err(_)) => {
            match tokio::time::timeout(CLEANING, server.wait()).await {
                Ok(ended) => drop(ended?),
                Err(_) => drop(server.end().await),
            }
            return Err(no_commands(host, path));
        }
        Err(_) => {
            server.end().await;
            return Err(no_commands(host, path));
        }
    };
    let ((ours, stdin), (out, stdout)) = (tokio::io::duplex(RELAY), tokio::io::duplex(RELAY));
    let (err, stderr) = tokio::io::duplex(RELAY);
    let (child, ends) = Child::new(host, Some(ours), out, err);
    tokio::spawn(run(job, sftp, server, Streams { stdin, stdout, stderr }, ends));
    Ok(child)
}

/// A job that may take as long as a command.
pub(super) async fn in_time<T>(
    runner: &dyn Runner,
    host: &Host,
    job: impl Future<Output = Result<T, FileError>>,
) -> Result<T, FileError> {
    let after = runner.defaults().command_timeout;
    tokio::time::timeout(after, job).await.unwrap_or_else(|_| {
        let remote = Remote::may_live_on("its sftp server did not answer in time");
        let (host, partial) = (host.name().to_owned(), Arc::default());
        Err(Error::TimedOut { host, after, remote, partial }.into())
    })
}

/// The other sides of what a child has.
struct Streams {
    stdin: DuplexStream,
    stdout: DuplexStream,
    stderr: DuplexStream,
}

/// Does it, or ends it when nobody wants it any more.
async fn run(job: Job, sftp: Sftp, mut server: Child, streams: Streams, mut ends: ChildEnds) {
    let Streams { stdin, mut stdout, mut stderr } = streams;
    let (_counted, mut leaving) = (Counted::new(), LEAVING.subscribe());
    let mut left = Left::new(&sftp);
    let done = async {
        match job {
            Job::Send(path, wanted) => send::send(&sftp, &path, wanted, &mut stdout).await,
            Job::Receive(target) => {
                receive::receive(&sftp, target, stdin, &mut left).await?;
                says(&mut stdout, SIGN).await
            }
            Job::ReceiveTree(target, mark) => {
                tree::receive(&sftp, target, &mark, stdin, &mut left).await?;
                says(&mut stdout, SIGN).await
            }
        }
    };
    let done = tokio::select! {
        biased;
        done = done => Some(done),
        // Nobody may have anything to say to it at the moment.
        _ = server.wait() => Some(Err(Failed::Gone)),
        () = ends.stopped() => None,
        _ = leaving.wait_for(|leaving| *leaving) => None,
    };
    let is_done = done.is_some();
    // Before that is removed which may fill the disk.
    let told = match done {
        Some(Err(failed)) => failed.told().await.map(Some),
        _ => Ok(None),
    };
    let _ = tokio::time::timeout(CLEANING, left.remove()).await;
    let told = match told {
        Ok(told) => Ok(told),
        // If the connection is lost, that is what is told.
        Err(NoAnswer) => match tokio::time::timeout(ENDING, server.wait()).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) => Ok(Some("its sftp server has ended".to_owned())),
            // What it says cannot be understood.
            Err(_) => Ok(Some(NO_UTF_8.to_owned())),
        },
    };
    drop((left, sftp));
    let result = match told {
        Ok(Some(told)) => {
            let _ = stderr.write_all(format!("sshpool: {told}\n").as_bytes()).await;
            Ok(ExitStatus::exited(1))
        }
        Ok(None) if is_done => Ok(ExitStatus::exited(0)),
        Ok(None) => Ok(ExitStatus::killed()),
        Err(error) => Err(error),
    };
    let remote = match &result {
        Ok(_) => Remote::Ended,
        Err(error) => Remote::may_live_on(error.to_string()),
    };
    ends.ended(result, remote);
}

/// This process is about to end.
static LEAVING: LazyLock<watch::Sender<bool>> = LazyLock::new(|| watch::channel(false).0);

/// How many jobs there are. A std mutex: held to count.
static JOBS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

struct Counted;

impl Counted {
    fn new() -> Self {
        *JOBS.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        *JOBS.0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        JOBS.1.notify_all();
    }
}

/// Ends all jobs, and waits until what they would leave is removed. For a process that is about to
/// end, and whose tasks go on meanwhile.
pub(crate) fn end_jobs() {
    LEAVING.send_replace(true);
    let jobs = JOBS.0.lock().unwrap_or_else(PoisonError::into_inner);
    // Whatever comes of it: it ends now.
    let _ = JOBS.1.wait_timeout_while(jobs, CLEANING, |jobs| *jobs > 0);
}

/// What is to be gone when the job ends without having given it its name.
struct Left {
    fs: Fs,
    /// Files, and directories behind what is in them.
    names: Vec<(PathBuf, bool)>,
}

impl Left {
    fn new(sftp: &Sftp) -> Self {
        Left { fs: sftp.fs(), names: Vec::new() }
    }

    fn add(&mut self, path: &Path, is_directory: bool) {
        self.names.push((path.to_owned(), is_directory));
    }

    /// All of it has its names.
    fn has_names(&mut self) {
        self.names.clear();
    }

    /// Its files have their names, and of its directories those that did not need one have not.
    fn has_files(&mut self) {
        self.names.retain(|(_, is_directory)| *is_directory);
    }

    async fn remove(&mut self) {
        // From one that cannot be written to nothing can be removed.
        for (path, _) in self.names.iter().filter(|(_, is_directory)| *is_directory) {
            let _ = self.fs.set_permissions(path, permissions(0o700)).await;
        }
        for (path, is_directory) in self.names.drain(..).rev() {
            let _ = match is_directory {
                true => self.fs.remove_dir(&path).await,
                false => self.fs.remove_file(&path).await,
            };
        }
    }
}

async fn says(stdout: &mut DuplexStream, line: &[u8]) -> Result<(), Failed> {
    stdout.write_all(line).await.map_err(|_| Failed::Unheard)?;
    stdout.write_all(b"\n").await.map_err(|_| Failed::Unheard)
}

/// As the scripts have it; sftp's own paths begin in the home of the account, too.
fn path_of(path: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(text::plain_path(path)).into()
}

/// What is there, if anything is.
async fn found(fs: &mut Fs, path: &Path) -> Result<Option<MetaData>, Failed> {
    match fs.metadata(path).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(kind(&error), Some(SftpErrorKind::NoSuchFile)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Why nothing is at this path, for which sftp has one word.
async fn absent(fs: &mut Fs, path: &Path) -> Failed {
    for above in path.ancestors().skip(1) {
        match found(fs, above).await {
            Ok(Some(found)) if !is_directory(&found) => return Failed::says("Not a directory"),
            Ok(None) => {}
            _ => break,
        }
    }
    Failed::says("No such file or directory")
}

fn is_directory(found: &MetaData) -> bool {
    found.file_type().is_some_and(|kind| kind.is_dir())
}

fn mode_of(found: &MetaData) -> u32 {
    found.permissions().map_or(0, |mode| mode.as_raw().bits()) & 0o7777
}

fn permissions(mode: u32) -> Permissions {
    Permissions::from((mode & 0o7777) as u16)
}

/// What is left of a mode where a new file has got `given`. Who may read may execute.
fn by_umask(mode: u32, given: u32) -> u32 {
    mode & (given & 0o666 | (given & 0o444) >> 2)
}

/// A file of the host that is read to its end.
struct Reader {
    file: Pin<Box<TokioCompatFile>>,
    buffer: Vec<u8>,
}

impl Reader {
    async fn open(sftp: &Sftp, path: &Path) -> Result<Self, Failed> {
        let file = Box::pin(TokioCompatFile::new(sftp.open(path).await?));
        Ok(Reader { file, buffer: vec![0; PIECE] })
    }

    /// More of it; nothing at its end.
    async fn next(&mut self) -> Result<&[u8], Failed> {
        let read = self.file.read(&mut self.buffer).await.map_err(of_io)?;
        Ok(&self.buffer[..read])
    }

    /// The SHA-256 of what is left.
    async fn sha256(mut self) -> Result<String, Failed> {
        let mut digest = Sha256::new();
        loop {
            match self.next().await? {
                [] => return Ok(hex(&digest.finalize())),
                bytes => digest.update(bytes),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_umask_is_seen_in_what_a_new_file_has() {
        assert_eq!(by_umask(0o777, 0o644), 0o755);
        assert_eq!(by_umask(0o666, 0o600), 0o600);
        assert_eq!(by_umask(0o640, 0o664), 0o640);
        assert_eq!(by_umask(0o755, 0o640), 0o750);
    }
}
