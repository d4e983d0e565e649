//! A file to the host.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use openssh_sftp_client::file::{File, TokioCompatFile};
use openssh_sftp_client::fs::Fs;
use openssh_sftp_client::metadata::{MetaData, MetaDataBuilder};
use openssh_sftp_client::{Sftp, UnixTimeStamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    BROKE_OFF, Failed, Left, PIECE, Reader, absent, by_umask, found, is_directory, kind, mode_of,
    of_io, path_of, permissions,
};
use crate::files::Mode;
use crate::files::text::{TRAILER, Target, Trailer, random_word};

/// Where it goes, and what it is to be.
pub(in crate::files) struct Receive {
    pub(super) path: PathBuf,
    name: Option<OsString>,
    pub(super) mode: Mode,
    length: Option<u64>,
    trailer: Trailer,
    /// The time of the file; of a directory, whether modes and times are the archive's.
    pub(super) time: Option<i64>,
    pub(super) sync: bool,
}

impl Receive {
    pub(super) fn of(target: &Target<'_>) -> Self {
        Receive {
            path: path_of(target.path),
            name: target.name.map(OsString::from),
            mode: target.mode,
            length: target.length,
            trailer: target.trailer.clone(),
            time: target.time,
            sync: target.options.sync,
        }
    }

    /// What is at the target, which is in a directory that is there under its own name by now.
    pub(super) async fn in_directory(&mut self, fs: &mut Fs) -> Result<Option<MetaData>, Failed> {
        let there = found(fs, &self.path).await?;
        match (&there, &self.name) {
            (Some(directory), Some(name)) if is_directory(directory) => {
                self.path.push(name);
                found(fs, &self.path).await
            }
            _ => Ok(there),
        }
    }

    /// A link stays, and leads to the new contents.
    pub(super) async fn follow(&mut self, fs: &mut Fs) -> Result<(), Failed> {
        if let Ok(found) = fs.symlink_metadata(&self.path).await
            && found.file_type().is_some_and(|kind| kind.is_symlink())
        {
            let led = fs.canonicalize(&self.path).await;
            self.path = led.map_err(|_| Failed::says("its link leads nowhere"))?;
        }
        Ok(())
    }
}

/// A temporary name in this directory.
pub(super) fn temporary_in(directory: &Path) -> PathBuf {
    directory.join(format!(".sshpool_{}", random_word(16)))
}

/// The directory that a file is in, which has to be there.
pub(super) async fn directory_of(fs: &mut Fs, path: &Path) -> Result<PathBuf, Failed> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    };
    match found(fs, &directory).await? {
        Some(found) if is_directory(&found) => Ok(directory),
        Some(_) => Err(Failed::says("Not a directory")),
        None => Err(absent(fs, &directory).await),
    }
}

/// Gives what comes on `stdin` its name, all of it or nothing.
pub(super) async fn receive(
    sftp: &Sftp,
    mut target: Receive,
    stdin: DuplexStream,
    left: &mut Left,
) -> Result<(), Failed> {
    let mut fs = sftp.fs();
    let there = target.in_directory(&mut fs).await?;
    if there.as_ref().is_some_and(is_directory) {
        return Err(Failed::says("Is a directory"));
    }
    if target.path.as_os_str().as_bytes().ends_with(b"/") {
        let file: PathBuf = target.path.components().collect();
        let is_there = found(&mut fs, &file).await?.is_some();
        let text = if is_there { "Not a directory" } else { "No such file or directory" };
        return Err(Failed::says(text));
    }
    target.follow(&mut fs).await?;
    let old = there.filter(|found| found.file_type().is_none_or(|kind| kind.is_file()));
    if there.is_some() && old.is_none() {
        if target.trailer != Trailer::None {
            let only = "not a regular file: it takes only what has a known length, and no digest";
            return Err(Failed::says(only));
        }
        let file = sftp.options().write(true).open(&target.path).await?;
        return Taken::default().take(file, stdin).await.map(drop).map_err(|failed| match failed {
            // It writes at places, which a pipe has not.
            Failed::Sftp(error) if kind(&error).is_some() => {
                Failed::says("not a regular file: its sftp server cannot write to it")
            }
            failed => failed,
        });
    }
    let directory = directory_of(&mut fs, &target.path).await?;
    let temporary = temporary_in(&directory);
    let cannot = |error| Failed::Write(error, sftp.fs(), directory.clone());
    // Before it is there: somebody may give up while it is being made.
    left.add(&temporary, false);
    let file = sftp.options().write(true).create_new(true).open(&temporary).await;
    let file = file.map_err(cannot)?;
    // Before there are contents in it: they are never open to more people than at the end.
    access(&mut fs, &temporary, old.as_ref(), target.mode).await?;
    let keeps = if target.trailer == Trailer::None { 0 } else { TRAILER };
    let mut taken = Taken { keeps, ..Taken::default() };
    let mut file = taken.take(file, stdin).await.map_err(|failed| match failed {
        Failed::Sftp(error) => cannot(error),
        failed => failed,
    })?;
    let is_whole = target.length.is_none_or(|length| length == taken.length)
        && match &target.trailer {
            Trailer::None => true,
            Trailer::Word(word) => taken.tail == word.as_bytes(),
            Trailer::Sum => taken.tail.len() == TRAILER,
        };
    if !is_whole {
        return Err(Failed::says(BROKE_OFF));
    }
    if let Mode::Exact(mode) = target.mode
        && mode & 0o6000 != 0
    {
        // Writing has taken them away.
        fs.set_permissions(&temporary, permissions(mode)).await?;
    }
    if target.sync && sftp.support_fsync() {
        file.sync_all().await.map_err(cannot)?;
    }
    file.close().await.map_err(cannot)?;
    if target.trailer == Trailer::Sum {
        let digest = Reader::open(sftp, &temporary).await?.sha256().await?;
        if digest.as_bytes() != taken.tail {
            let changed = "the copy broke off or was changed on its way: other SHA-256";
            return Err(Failed::says(changed));
        }
    }
    set_time(&mut fs, &temporary, target.time).await?;
    give_name(sftp, &temporary, &target.path).await?;
    left.has_names();
    Ok(())
}

/// The name is free, or a file's that is replaced in one step.
pub(super) async fn give_name(sftp: &Sftp, from: &Path, to: &Path) -> Result<(), Failed> {
    let mut fs = sftp.fs();
    match fs.rename(from, to).await {
        Err(_) if !sftp.support_posix_rename() && found(&mut fs, to).await?.is_some() => {
            Err(Failed::says("its sftp server cannot replace a file in one step"))
        }
        renamed => Ok(renamed?),
    }
}

/// Gives a new file the access of the old one, or that of a new one.
pub(super) async fn access(
    fs: &mut Fs,
    path: &Path,
    old: Option<&MetaData>,
    mode: Mode,
) -> Result<(), Failed> {
    let mode = match (mode, old) {
        (Mode::Exact(mode), _) => mode,
        (Mode::New(_), Some(old)) => {
            if let (Some(user), Some(group)) = (old.uid(), old.gid()) {
                // Only root may give files away.
                let owner = MetaDataBuilder::new().id((user, group)).create();
                let _ = fs.set_metadata(path, owner).await;
            }
            mode_of(old) & 0o777
        }
        (Mode::New(mode), None) => by_umask(mode, mode_of(&fs.metadata(path).await?)),
    };
    Ok(fs.set_permissions(path, permissions(mode)).await?)
}

/// Seconds since 1970; sftp has 32 bits for them.
pub(super) async fn set_time(fs: &mut Fs, path: &Path, time: Option<i64>) -> Result<(), Failed> {
    let Some(time) = time else { return Ok(()) };
    let seconds = time.clamp(0, u32::MAX.into());
    let time = u32::try_from(seconds).ok().and_then(UnixTimeStamp::from_raw);
    let Some(time) = time else { return Ok(()) };
    Ok(fs.set_metadata(path, MetaDataBuilder::new().time(time, time).create()).await?)
}

/// What has come.
#[derive(Default)]
struct Taken {
    length: u64,
    /// So many bytes of its end are not of the file.
    keeps: usize,
    tail: Vec<u8>,
}

impl Taken {
    /// Writes what comes, to its end, but for the tail.
    async fn take(&mut self, file: File, mut from: DuplexStream) -> Result<File, Failed> {
        let mut file = Box::pin(TokioCompatFile::new(file));
        let mut buffer = vec![0; PIECE];
        loop {
            // A pipe of ours does not fail to be read.
            let read = from.read(&mut buffer).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            self.tail.extend_from_slice(&buffer[..read]);
            let contents = self.tail.len().saturating_sub(self.keeps);
            file.write_all(&self.tail[..contents]).await.map_err(of_io)?;
            self.length += contents as u64;
            self.tail.drain(..contents);
        }
        file.flush().await.map_err(of_io)?;
        // Behind a flush nothing is left but the file.
        Ok(file.as_mut().as_mut_file().clone())
    }
}
