//! Copies from hosts.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures_util::FutureExt;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::archive::{self, Pieces};
use super::error::{FileError, FileErrorKind, explain, no_commands};
use super::local::{NewFile, place_tree};
use super::read::line;
use super::sftp::{self, Job};
use super::source::hex;
use super::text::{self, ERROR, TRAILER, TREE, Wanted};
use super::{Copied, Options};
use crate::command::{Child, ChildStdout, Runner};
use crate::host::Host;

/// A file or a directory of a host, whose contents are about to come.
#[derive(Debug)]
pub struct Download {
    host: Host,
    path: PathBuf,
    options: Options,
    child: Child,
    stdout: ChildStdout,
    /// What has come with the first line, and is not of it.
    first: Vec<u8>,
    is_tree: bool,
    facts: Facts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    mode: Option<u32>,
    length: Option<u64>,
    time: Option<u64>,
}

impl Facts {
    fn of(text: &str) -> Self {
        let mut words = text.split_ascii_whitespace();
        let mode = words.next().and_then(|word| u32::from_str_radix(word, 8).ok());
        let mut number = || words.next().and_then(|word| word.parse().ok());
        Facts { mode, length: number(), time: number() }
    }
}

/// Copies a file, or with [`Options::recursive`] a directory, of a host to this machine. Where the
/// path here is a directory, it gets the same name in it.
///
/// # Errors
///
/// [`FileError`], one line with the host and the file. The name here has its old contents then.
///
/// # Cancel safety
///
/// Dropping the future ends the copy, and nothing has the name then.
pub async fn download(
    runner: &dyn Runner,
    host: &Host,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    options: &Options,
) -> Result<Copied, FileError> {
    let download = Download::begin(runner, host, from.as_ref(), options).await?;
    download.save(to.as_ref(), &|_| {}).await
}

impl Download {
    /// Asks the host, which begins to send.
    ///
    /// # Errors
    ///
    /// [`FileError`], one line with the host and the file.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or what it has given, ends the command on the host.
    pub async fn begin(
        runner: &dyn Runner,
        host: &Host,
        path: &Path,
        options: &Options,
    ) -> Result<Self, FileError> {
        let wanted = Wanted { facts: true, sha256: options.sha256, recursive: options.recursive };
        // The account's own shell may not understand it.
        match Self::ask(runner, host, path, wanted, options, false).await {
            Ok(download) => Ok(download),
            Err(Some(error)) => Err(error),
            Err(None) if !runner.has_shell(host).await? => {
                let job = Job::Send(path.to_owned(), wanted);
                let child = sftp::start(runner, host, path, job).await?;
                Self::answered(child, host, path, options, true)
                    .await
                    .map_err(|error| error.unwrap_or_else(|| no_commands(host, path)))
            }
            Err(None) => Self::ask(runner, host, path, wanted, options, true)
                .await
                .map_err(|error| error.unwrap_or_else(|| no_commands(host, path))),
        }
    }

    /// `Err(None)` where something else has answered.
    async fn ask(
        runner: &dyn Runner,
        host: &Host,
        path: &Path,
        wanted: Wanted,
        options: &Options,
        by_sh: bool,
    ) -> Result<Self, Option<FileError>> {
        let command = runner.shell(host, text::send(path, wanted, by_sh)).timeout(None);
        let child = command.spawn_and_read().await.map_err(|error| Some(error.into()))?;
        Self::answered(child, host, path, options, by_sh).await
    }

    async fn answered(
        mut child: Child,
        host: &Host,
        path: &Path,
        options: &Options,
        by_sh: bool,
    ) -> Result<Self, Option<FileError>> {
        let mut stdout = child.stdout.take().expect("nobody has taken it");
        let mut first = Vec::new();
        // It is longer than any that the text there prints.
        const LONGEST: usize = 256;
        while first.len() < LONGEST && !first.contains(&b'\n') {
            match stdout.read_buf(&mut first).await {
                Ok(1..) => {}
                _ => break,
            }
        }
        let line = line(&first);
        let Some((facts, length)) = line.filter(|(facts, _)| *facts != ERROR) else {
            let has_failed = line.is_some();
            // Something else may write without an end.
            let mut rest = stdout.take(64 * 1024);
            let mut sink = tokio::io::sink();
            let mut stderr = child.stderr.take().expect("nobody has taken it").take(64 * 1024);
            let mut said = Vec::new();
            let (_, _) =
                tokio::join!(tokio::io::copy(&mut rest, &mut sink), stderr.read_to_end(&mut said));
            if rest.limit() == 0 {
                child.end().await;
                return Err(None);
            }
            let status = child.wait().await.map_err(|error| Some(error.into()))?;
            return Err(match status.success() {
                true => None,
                false if has_failed => Some(explain(host, path, status.code(), &said)),
                // The account's own shell has not understood it.
                false if !by_sh => None,
                false => Some(explain(host, path, status.code(), &said)),
            });
        };
        let is_tree = facts == TREE;
        let facts = Facts::of(facts);
        first.drain(..length);
        let (host, path, options) = (host.clone(), path.to_owned(), *options);
        Ok(Download { host, path, options, child, stdout, first, is_tree, facts })
    }

    /// How many bytes it has, where the host tells.
    pub fn length(&self) -> Option<u64> {
        self.facts.length
    }

    /// Writes it to a file or a directory here: all of it or nothing. `progress` is told how many
    /// more bytes have come.
    ///
    /// # Errors
    ///
    /// As [`download`].
    ///
    /// # Cancel safety
    ///
    /// As [`download`].
    pub async fn save(
        self,
        to: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Copied, FileError> {
        let name = self.path.file_name();
        let to = match (to.is_dir(), name) {
            (true, Some(name)) => to.join(name),
            _ => to.to_owned(),
        };
        if self.is_tree {
            return self.save_tree(&to, progress).await;
        }
        let cannot = |error: io::Error| FileError::local(&to, &error);
        let mode = self.options.mode.or(self.facts.mode).unwrap_or(0o666);
        let (preserve, sync, time) = (self.options.preserve, self.options.sync, self.facts.time);
        let is_exact = preserve || self.options.mode.is_some();
        let (file, mut writer) = NewFile::create(&to).map_err(cannot)?;
        let copied = self.pass(&mut writer, &to, progress).await?;
        let into = writer.into_std().await;
        let time = time.filter(|_| preserve);
        let placed =
            tokio::task::spawn_blocking(move || file.place(&into, mode, is_exact, time, sync));
        placed.await.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(cannot)?;
        Ok(copied)
    }

    /// Writes it to a stream here, as it comes. What was written before an error stays written.
    ///
    /// # Errors
    ///
    /// [`FileError`]; where the stream fails it names `to`.
    pub async fn write_to(
        self,
        mut stream: impl AsyncWrite + Unpin,
        to: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Copied, FileError> {
        if self.is_tree {
            let text = "Is a directory";
            return Err(FileError::remote(
                &self.host,
                &self.path,
                FileErrorKind::IsDirectory,
                text,
            ));
        }
        self.pass(&mut stream, to, progress).await
    }

    async fn pass(
        self,
        to: &mut (impl AsyncWrite + Unpin),
        name: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Copied, FileError> {
        let Download { host, path, options, mut child, mut stdout, first, .. } = self;
        let mut stderr = child.stderr.take().expect("nobody has taken it");
        let mut sum = options.sha256.then(Sha256::new);
        let kept = if options.sha256 { TRAILER + 1 } else { 0 };
        let (mut copied, mut buffer) = (Copied { bytes: 0, sha256: None }, first);
        let passed = async {
            loop {
                let ready = buffer.len().saturating_sub(kept);
                if ready > 0 {
                    let written = to.write_all(&buffer[..ready]).await;
                    written.map_err(|error| FileError::local(name, &error))?;
                    if let Some(sum) = &mut sum {
                        sum.update(&buffer[..ready]);
                    }
                    copied.bytes += ready as u64;
                    progress(ready as u64);
                    buffer.drain(..ready);
                }
                buffer.reserve(BATCH);
                // A pipe of ours does not fail to be read; if it does, there is nothing more to
                // come from it.
                if stdout.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    break;
                }
                // Each write goes to another thread: what is there already goes with it.
                while buffer.len() < BATCH
                    && let Some(Ok(1..)) = stdout.read_buf(&mut buffer).now_or_never()
                {
                }
            }
            to.flush().await.map_err(|error| FileError::local(name, &error))
        };
        let mut said = Vec::new();
        let (passed, _) = tokio::join!(passed, stderr.read_to_end(&mut said));
        if let Err(error) = passed {
            child.end().await;
            return Err(error);
        }
        let status = child.wait().await?;
        if !status.success() {
            return Err(explain(&host, &path, status.code(), &said));
        }
        if let Some(sum) = sum {
            let (here, there) = (hex(&sum.finalize()), String::from_utf8_lossy(&buffer));
            if there.trim_end() != here {
                let text = match there.len() {
                    0 => {
                        "no SHA-256 has come: the host has none of sha256sum, shasum, sha256, \
                          openssl"
                    }
                    _ => "the SHA-256 there is another one: it was changed while it was read",
                };
                return Err(FileError::remote(&host, &path, FileErrorKind::Incomplete, text));
            }
            copied.sha256 = Some(here);
        }
        Ok(copied)
    }

    async fn save_tree(
        self,
        to: &Path,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Copied, FileError> {
        let Download { host, path, options, mut child, mut stdout, first, .. } = self;
        let mut stderr = child.stderr.take().expect("nobody has taken it");
        let (sender, receiver) = mpsc::channel(8);
        let (target, shown) = (to.to_owned(), to.to_owned());
        let (placed, wait) = mpsc::channel::<bool>(1);
        let unpacked = tokio::task::spawn_blocking(move || {
            let mut pieces = Pieces::new(receiver, first);
            let unpack = |into: &Path| {
                archive::unpack(&mut pieces, into, &shown, options.preserve)?;
                // What stands behind the end of an archive fills its last block.
                let _ = io::copy(&mut pieces, &mut io::sink());
                Ok(())
            };
            place_tree(&target, &options, unpack, wait)
        });
        let (mut bytes, is_at_end) = (0, AtomicBool::new(false));
        let pass = async {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = stdout.read_buf(&mut piece).await.unwrap_or(0);
                bytes += read as u64;
                progress(read as u64);
                if read == 0 {
                    is_at_end.store(true, Relaxed);
                    break;
                }
                if sender.send(piece).await.is_err() {
                    break;
                }
            }
            drop(sender);
        };
        let mut said = Vec::new();
        let errors = async {
            let _ = stderr.read_to_end(&mut said).await;
        };
        tokio::pin!(unpacked);
        let (early, status) = {
            let end = async {
                tokio::join!(pass, errors);
                child.wait().await
            };
            tokio::pin!(end);
            tokio::select! {
                early = &mut unpacked => match is_at_end.load(Relaxed) {
                    // Where the archive has no end, the host knows why.
                    true => (Some(early), Some(end.await)),
                    false => (Some(early), None),
                },
                status = &mut end => (None, Some(status)),
            }
        };
        let failed = match status {
            Some(Ok(status)) if status.success() => None,
            Some(Ok(status)) => Some(explain(&host, &path, status.code(), &said)),
            Some(Err(error)) => Some(error.into()),
            None => {
                child.end().await;
                None
            }
        };
        let _ = placed.send(failed.is_none()).await;
        // When it has ended its temporary directory is gone.
        let unpacked = match early {
            Some(early) => early,
            None => unpacked.await,
        };
        if let Some(failed) = failed {
            return Err(failed);
        }
        unpacked.unwrap_or_else(|error| Err(FileError::local(to, &io::Error::other(error))))?;
        Ok(Copied { bytes, sha256: None })
    }
}

/// How much is written at once.
const BATCH: usize = 512 * 1024;
/// How much is read at once.
const PIECE: usize = 128 * 1024;
