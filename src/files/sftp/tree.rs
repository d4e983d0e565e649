//! A directory, from the host and to it. On this side it is an archive, as it is for the scripts.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use openssh_sftp_client::Sftp;
use openssh_sftp_client::file::TokioCompatFile;
use openssh_sftp_client::fs::Fs;
use tar::{Builder, EntryType, Header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use super::receive::{Receive, directory_of, give_name, set_time, temporary_in};
use super::{
    BROKE_OFF, Failed, Left, PIECE, Reader, by_umask, found, is_directory, mode_of, of_io,
    permissions,
};
use crate::files::Mode;
use crate::files::archive::{Pieces, below};

/// A block of an archive.
const BLOCK: u64 = 512;

/// Prints the archive of what is in a directory. Links are followed.
pub(super) async fn send(
    sftp: &Sftp,
    root: &Path,
    stdout: &mut DuplexStream,
) -> Result<(), Failed> {
    let mut fs = sftp.fs();
    let mut headers = Builder::new(Vec::new());
    // Directories to go through, with the real paths of those that they are in.
    let mut waiting = vec![(PathBuf::new(), Vec::new())];
    while let Some((name, mut above)) = waiting.pop() {
        let real = fs.canonicalize(root.join(&name)).await?;
        if above.contains(&real) {
            let text = "a link that leads back to a directory which it is in";
            return Err(Failed::says(format!("{}: {text}", name.display())));
        }
        above.push(real);
        for entry in names(&mut fs, &root.join(&name)).await? {
            let entry = name.join(entry);
            let path = root.join(&entry);
            let what = fs.metadata(&path).await?;
            let time = what.modified().map_or(0, |time| time.as_duration().as_secs());
            let length = what.len().unwrap_or(0);
            let mut header = Header::new_gnu();
            header.set_mode(mode_of(&what));
            header.set_mtime(time);
            if is_directory(&what) {
                header.set_entry_type(EntryType::Directory);
                header.set_size(0);
                print(&mut headers, &mut header, &entry, stdout).await?;
                waiting.push((entry, above.clone()));
                continue;
            }
            if what.file_type().is_none_or(|kind| !kind.is_file()) {
                return Err(Failed::says(format!("{}: not a regular file", entry.display())));
            }
            header.set_entry_type(EntryType::Regular);
            header.set_size(length);
            print(&mut headers, &mut header, &entry, stdout).await?;
            contents(sftp, &path, length, stdout).await?;
        }
    }
    let end = headers.into_inner().map_err(|_| Failed::Unheard)?;
    stdout.write_all(&end).await.map_err(|_| Failed::Unheard)
}

async fn names(fs: &mut Fs, directory: &Path) -> Result<Vec<PathBuf>, Failed> {
    let mut entries = Box::pin(fs.open_dir(directory).await?.read_dir());
    let mut names = Vec::new();
    while let Some(entry) = entries.next().await {
        let entry = entry?;
        let name = entry.filename();
        if name != Path::new(".") && name != Path::new("..") {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Prints what stands before the contents of an entry.
async fn print(
    headers: &mut Builder<Vec<u8>>,
    header: &mut Header,
    name: &Path,
    stdout: &mut DuplexStream,
) -> Result<(), Failed> {
    let made = headers.append_data(header, name, io::empty());
    made.map_err(|error| Failed::says(format!("{}: {error}", name.display())))?;
    let bytes = std::mem::take(headers.get_mut());
    stdout.write_all(&bytes).await.map_err(|_| Failed::Unheard)
}

/// As many bytes of a file as were announced.
async fn contents(
    sftp: &Sftp,
    path: &Path,
    length: u64,
    stdout: &mut DuplexStream,
) -> Result<(), Failed> {
    let (mut file, mut left) = (Reader::open(sftp, path).await?, length);
    loop {
        let bytes = file.next().await?;
        if bytes.is_empty() {
            break;
        }
        let some = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        left -= some.len() as u64;
        stdout.write_all(some).await.map_err(|_| Failed::Unheard)?;
    }
    if left > 0 {
        return Err(Failed::says(format!("{}: it became shorter", path.display())));
    }
    let fill = length.next_multiple_of(BLOCK) - length;
    let fill = vec![0; usize::try_from(fill).unwrap_or(0)];
    stdout.write_all(&fill).await.map_err(|_| Failed::Unheard)
}

/// Makes the directory of the archive on `stdin`, all of it or nothing. Where there is one already,
/// each file of the archive takes its place in it.
pub(super) async fn receive(
    sftp: &Sftp,
    mut target: Receive,
    mark: &str,
    stdin: DuplexStream,
    left: &mut Left,
) -> Result<(), Failed> {
    let mut fs = sftp.fs();
    let there = target.in_directory(&mut fs).await?;
    if there.as_ref().is_some_and(|found| !is_directory(found)) {
        return Err(Failed::says("Not a directory"));
    }
    // Without a slash at its end.
    target.path = target.path.components().collect();
    target.follow(&mut fs).await?;
    let beside = match there.is_some() {
        true => target.path.clone(),
        false => directory_of(&mut fs, &target.path).await?,
    };
    let cannot = |error| Failed::Write(error, sftp.fs(), beside.clone());
    let temporary = temporary_in(&beside);
    left.add(&temporary, true);
    fs.create_dir(&temporary).await.map_err(cannot)?;
    let given = mode_of(&fs.metadata(&temporary).await?);
    // What is made in it gets the group of the directory that it is for, where that is so there.
    let inherited = given & 0o2000;
    fs.set_permissions(&temporary, permissions(inherited | 0o700)).await?;

    let is_exact = target.time.is_some();
    let mut entries = entries(stdin);
    let mut directories: Vec<(PathBuf, Facts)> = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut is_whole = false;
    while let Some(entry) = entries.recv().await {
        match entry {
            Entry::Directory(name, facts) => {
                let path = temporary.join(&name);
                left.add(&path, true);
                // It may be in its place before it has its mode: nobody else looks into it until then.
                let mut made = fs.dir_builder();
                made.permissions(permissions(0o700)).create(&path).await.map_err(cannot)?;
                directories.push((name, facts));
            }
            Entry::File(name, ..) if name == Path::new(mark) => is_whole = true,
            Entry::File(name, facts, contents) => {
                let path = temporary.join(&name);
                left.add(&path, false);
                let file = sftp.options().write(true).create_new(true).open(&path).await;
                let file = file.map_err(cannot)?;
                write(sftp, file, contents, target.sync).await.map_err(|failed| match failed {
                    Failed::Sftp(error) => cannot(error),
                    failed => failed,
                })?;
                let mode = match is_exact {
                    true => facts.mode,
                    false => by_umask(facts.mode & 0o777, mode_of(&fs.metadata(&path).await?)),
                };
                fs.set_permissions(&path, permissions(mode)).await?;
                set_time(&mut fs, &path, facts.time.filter(|_| is_exact)).await?;
                files.push(name);
            }
            Entry::Failed(text) => return Err(Failed::Says(text)),
        }
    }
    if !is_whole {
        return Err(Failed::says(BROKE_OFF));
    }
    let finish = async |root: &Path, names: &[(PathBuf, Facts)]| {
        let mut fs = sftp.fs();
        for (name, facts) in names.iter().rev() {
            let mode = if is_exact { facts.mode } else { facts.mode & 0o777 & given | inherited };
            let path = root.join(name);
            fs.set_permissions(&path, permissions(mode)).await?;
            set_time(&mut fs, &path, facts.time.filter(|_| is_exact)).await?;
        }
        Ok::<(), Failed>(())
    };
    // One that cannot be written to is to be so when all is in it, and when it is in its place.
    if there.is_some() {
        let moved = merge(sftp, &temporary, &target.path, directories, &files).await?;
        left.has_files();
        finish(&target.path, &moved).await?;
    } else {
        finish(&temporary, &directories).await?;
        let mode = match target.mode {
            Mode::Exact(mode) => mode,
            Mode::New(mode) => mode & given | inherited,
        };
        fs.set_permissions(&temporary, permissions(mode)).await?;
        give_name(sftp, &temporary, &target.path).await?;
        left.has_names();
    }
    Ok(())
}

/// Moves what is in a directory into another one: a directory that is not there whole, each other
/// file over the one that may be there. Gives the directories that were not there.
async fn merge(
    sftp: &Sftp,
    from: &Path,
    to: &Path,
    directories: Vec<(PathBuf, Facts)>,
    files: &[PathBuf],
) -> Result<Vec<(PathBuf, Facts)>, Failed> {
    let mut fs = sftp.fs();
    let mut moved: Vec<(PathBuf, Facts)> = Vec::new();
    for (name, facts) in directories {
        if moved.iter().any(|(above, _)| name.starts_with(above)) {
            moved.push((name, facts));
            continue;
        }
        match found(&mut fs, &to.join(&name)).await? {
            None => {
                give_name(sftp, &from.join(&name), &to.join(&name)).await?;
                moved.push((name, facts));
            }
            Some(found) if is_directory(&found) => {}
            Some(_) => {
                return Err(Failed::says(format!("{}: Not a directory", name.display())));
            }
        }
    }
    for name in files {
        if !moved.iter().any(|(above, _)| name.starts_with(above)) {
            give_name(sftp, &from.join(name), &to.join(name)).await?;
        }
    }
    Ok(moved)
}

/// Writes the contents of a file, which come in pieces.
async fn write(
    sftp: &Sftp,
    file: openssh_sftp_client::file::File,
    mut contents: mpsc::Receiver<Vec<u8>>,
    sync: bool,
) -> Result<(), Failed> {
    let mut file = Box::pin(TokioCompatFile::new(file));
    while let Some(piece) = contents.recv().await {
        file.write_all(&piece).await.map_err(of_io)?;
    }
    file.flush().await.map_err(of_io)?;
    if sync && sftp.support_fsync() {
        file.as_mut().as_mut_file().sync_all().await?;
    }
    Ok(())
}

/// Mode, and seconds since 1970.
struct Facts {
    mode: u32,
    time: Option<i64>,
}

/// What stands in an archive.
enum Entry {
    Directory(PathBuf, Facts),
    File(PathBuf, Facts, mpsc::Receiver<Vec<u8>>),
    Failed(String),
}

/// Reads an archive in a thread of its own, which waits until each entry is taken.
fn entries(mut stdin: DuplexStream) -> mpsc::Receiver<Entry> {
    let (pieces, receiver) = mpsc::channel(8);
    let (sender, entries) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            // A pipe of ours does not fail to be read.
            if stdin.read_buf(&mut piece).await.unwrap_or(0) == 0
                || pieces.send(piece).await.is_err()
            {
                return;
            }
        }
    });
    tokio::task::spawn_blocking(move || {
        let mut pieces = Pieces::new(receiver, Vec::new());
        // Who does not want to hear more has ended by itself.
        if let Err(error) = read_entries(&mut pieces, &sender) {
            let _ = sender.blocking_send(Entry::Failed(error.to_string()));
        }
        // What stands behind the end of an archive fills its last block.
        let _ = io::copy(&mut pieces, &mut io::sink());
    });
    entries
}

fn read_entries(from: &mut impl Read, to: &mpsc::Sender<Entry>) -> io::Result<()> {
    let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    let mut archive = tar::Archive::new(from);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = below(Path::new(""), &entry.path()?);
        let Some(name) = name else {
            return Err(io::Error::other("a name that leads elsewhere"));
        };
        let header = entry.header();
        let time = header.mtime().ok().and_then(|time| i64::try_from(time).ok());
        let facts = Facts { mode: header.mode()? & 0o7777, time };
        if header.entry_type() == EntryType::Directory {
            to.blocking_send(Entry::Directory(name, facts)).map_err(gone)?;
            continue;
        }
        let (sender, contents) = mpsc::channel(8);
        to.blocking_send(Entry::File(name, facts, contents)).map_err(gone)?;
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            if (&mut entry).take(PIECE as u64).read_to_end(&mut piece)? == 0 {
                break;
            }
            // Whoever writes it has failed, or passes over it.
            if sender.blocking_send(piece).is_err() {
                break;
            }
        }
    }
    Ok(())
}
