//! Copies to hosts.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::error::{FileError, FileErrorKind};
use super::sftp::{self, Job};
use super::source::{Piece, Source};
use super::text::{self, Target, Trailer};
use super::write::{done, write_to};
use super::{Copied, Mode, Options};
use crate::command::{Child, Output, Runner, Stdin};
use crate::host::Host;

/// Told how many more bytes a host has taken, by the host's place in the list.
pub type Progress<'a> = &'a (dyn Fn(usize, u64) + Sync);

/// What is copied, and to which name on the hosts.
#[derive(Debug)]
#[must_use = "nothing is copied until it is awaited"]
pub struct Upload<'a> {
    source: Source,
    name: Option<OsString>,
    to: &'a Path,
    options: Options,
}

impl<'a> Upload<'a> {
    /// A file, or with [`Options::recursive`] a directory, of this machine.
    ///
    /// # Errors
    ///
    /// [`FileError::Local`] where it cannot be read.
    pub fn new(from: &Path, to: &'a Path, options: &Options) -> Result<Self, FileError> {
        let source = Source::open(from, options.recursive)?;
        // `dir/.` is what is in it.
        let is_content = from.as_os_str().as_bytes().ends_with(b"/.");
        let name = from.file_name().filter(|_| !is_content).map(OsStr::to_owned);
        Ok(Upload { name, source, to, options: *options })
    }

    /// What comes on standard input.
    pub fn stdin(to: &'a Path, options: &Options) -> Self {
        Upload { source: Source::stdin(), name: None, to, options: *options }
    }

    /// What comes from a reader, which is asked in a thread of its own.
    pub(crate) fn reader(
        from: Box<dyn Read + Send>,
        length: Option<u64>,
        to: &'a Path,
        options: &Options,
    ) -> Self {
        Upload { source: Source::reader(from, length), name: None, to, options: *options }
    }

    /// How many bytes it has, where that is known beforehand.
    pub fn length(&self) -> Option<u64> {
        self.source.length
    }

    /// Copies it to all of these hosts at once, and reads it once. What one of them cannot take is
    /// in its place.
    ///
    /// The slowest of them sets the pace of all, since what is read is kept for none of them. One
    /// that does not answer any more is given up as with any command.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the copies, and nothing has the name then.
    pub async fn run(
        mut self,
        runner: &dyn Runner,
        hosts: &[Host],
        progress: Progress<'_>,
    ) -> Vec<Result<Copied, FileError>> {
        let options = self.options;
        // Those need the whole script.
        let is_simple = !options.sha256 && !options.preserve;
        let small = is_simple.then(|| self.source.read_small(text::SMALL)).transpose();
        let small = match small {
            Ok(small) => small.flatten(),
            Err(error) => return vec![Err(error); hosts.len()],
        };
        let mark = text::random_word(text::TRAILER);
        let (source, to) = (self.source, self.to);
        let target = Self::target(&source, self.name.as_deref(), to, &options, &mark);
        if let Some(small) = small {
            let copies = hosts.iter().enumerate().map(async |(place, host)| {
                write_to(runner, host, &target, &small).await?;
                progress(place, small.len() as u64);
                Ok(Copied { bytes: small.len() as u64, sha256: None })
            });
            return futures_util::future::join_all(copies).await;
        }
        let is_tree = source.is_tree();
        let trailer = target.trailer.clone();
        let receivers = source.spread(hosts.len(), options.sha256, &mark, options.preserve);
        let copies = hosts.iter().zip(receivers).enumerate();
        let copies = copies.map(async |(place, (host, pieces))| {
            // Each has a temporary name of its own: two names of a host may be one machine.
            let text = match is_tree {
                true => text::receive_tree(&target, &mark),
                false => text::receive(&target),
            };
            let progress = |bytes| progress(place, bytes);
            let child = if runner.has_shell(host).await? {
                let command = runner.shell(host, text).stdin(Stdin::Piped).timeout(None);
                command.spawn_and_read().await?
            } else {
                let job = match is_tree {
                    true => Job::receive_tree(&target, &mark),
                    false => Job::receive(&target),
                };
                sftp::start(runner, host, to, job).await?
            };
            send(child, host, to, pieces, &trailer, &progress).await
        });
        futures_util::future::join_all(copies).await
    }

    fn target<'t>(
        source: &Source,
        name: Option<&'t OsStr>,
        path: &'t Path,
        options: &'t Options,
        mark: &str,
    ) -> Target<'t> {
        let mode = match options.mode {
            Some(mode) => Mode::Exact(mode),
            None if options.preserve => Mode::Exact(source.mode),
            None => Mode::New(source.mode & 0o777),
        };
        let trailer = match (source.is_tree(), options.sha256, source.length) {
            (true, ..) => Trailer::None,
            (_, true, _) => Trailer::Sum,
            (.., Some(_)) => Trailer::None,
            (.., None) => Trailer::Word(mark.to_owned()),
        };
        let time = source.time.filter(|_| options.preserve);
        Target { path, name, mode, length: source.length, trailer, time, options }
    }
}

/// Sends what comes of a source to a command there, to the end.
async fn send(
    mut child: Child,
    host: &Host,
    path: &Path,
    mut pieces: mpsc::Receiver<Piece>,
    trailer: &Trailer,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Copied, FileError> {
    let mut stdin = child.stdin.take().expect("it is piped");
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut copied = Copied { bytes: 0, sha256: None };
    let feed = async {
        while let Some(piece) = pieces.recv().await {
            let sent = match piece {
                Piece::Bytes(bytes) => {
                    let sent = stdin.write_all(&bytes).await;
                    copied.bytes += bytes.len() as u64;
                    progress(bytes.len() as u64);
                    sent
                }
                Piece::End(sum) => {
                    let end = match trailer {
                        Trailer::None => "",
                        Trailer::Word(word) => word,
                        Trailer::Sum => sum.as_deref().unwrap_or_default(),
                    };
                    let sent = stdin.write_all(end.as_bytes()).await;
                    copied.sha256 = sum;
                    drop(stdin);
                    return sent.is_ok().then_some(()).ok_or(None);
                }
                Piece::Failed(error) => return Err(Some(error)),
            };
            if sent.is_err() {
                // It takes no more, and says why when it ends.
                return Err(None);
            }
        }
        let text = "it was not read to its end".to_owned();
        Err(Some(FileError::remote(host, path, FileErrorKind::Incomplete, text)))
    };
    let ended = {
        let output = async {
            let (stdout, stderr) = tokio::join!(said(stdout), said(stderr));
            let status = child.wait().await?;
            Ok::<_, FileError>(Output { status, stdout, stderr })
        };
        tokio::pin!(output);
        tokio::select! {
            output = &mut output => Ok(output),
            fed = feed => match fed {
                Ok(()) | Err(None) => Ok(output.await),
                Err(Some(error)) => Err(error),
            },
        }
    };
    match ended {
        Ok(output) => done(host, path, &output?).map(|()| copied),
        Err(error) => {
            child.end().await;
            Err(error)
        }
    }
}

/// What a script says: its beginning, and all is read.
async fn said(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    const MOST: u64 = 64 * 1024;
    let mut text = Vec::new();
    if let Some(mut stream) = stream {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come.
        let _ = (&mut stream).take(MOST).read_to_end(&mut text).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    text
}

/// Copies a file, or with [`Options::recursive`] a directory, of this machine to a host. Where the
/// path there is a directory, it gets the same name in it.
///
/// # Errors
///
/// [`FileError`], one line with the host and the file. The name has its old contents then, unless
/// it is [`Error::Lost`](crate::Error::Lost): the end of the copy was not heard of.
///
/// # Cancel safety
///
/// Dropping the future ends the copy, and nothing has the name then.
pub async fn upload(
    runner: &dyn Runner,
    host: &Host,
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    options: &Options,
) -> Result<Copied, FileError> {
    let upload = Upload::new(from.as_ref(), to.as_ref(), options)?;
    let mut copied = upload.run(runner, std::slice::from_ref(host), &|_, _| {}).await;
    copied.pop().expect("there is an answer for each host")
}
