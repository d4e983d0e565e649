//! A file, or a directory as an archive, from the host.

use std::path::Path;

use openssh_sftp_client::Sftp;
use openssh_sftp_client::metadata::MetaData;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::{Failed, Reader, absent, found, is_directory, mode_of, path_of, says, tree};
use crate::files::text::{ERROR, SIGN, TREE, Wanted};

/// Prints it behind its line with the sign and the facts.
pub(super) async fn send(
    sftp: &Sftp,
    path: &Path,
    wanted: Wanted,
    stdout: &mut DuplexStream,
) -> Result<(), Failed> {
    let path = path_of(path);
    let begun = begin(sftp, &path, wanted).await;
    let line = match &begun {
        Ok(found) if is_directory(found) => TREE.to_owned(),
        Ok(found) if wanted.facts => facts(found),
        Ok(_) => String::new(),
        Err(_) => ERROR.to_owned(),
    };
    says(stdout, &[SIGN, line.as_bytes()].concat()).await?;
    if is_directory(&begun?) {
        return tree::send(sftp, &path, stdout).await;
    }
    let mut file = Reader::open(sftp, &path).await?;
    loop {
        match file.next().await? {
            [] => break,
            bytes => stdout.write_all(bytes).await.map_err(|_| Failed::Unheard)?,
        }
    }
    if wanted.sha256 {
        let digest = Reader::open(sftp, &path).await?.sha256().await?;
        says(stdout, digest.as_bytes()).await?;
    }
    Ok(())
}

/// What it is, if it can be read.
async fn begin(sftp: &Sftp, path: &Path, wanted: Wanted) -> Result<MetaData, Failed> {
    let mut fs = sftp.fs();
    let file = match found(&mut fs, path).await? {
        None => return Err(absent(&mut fs, path).await),
        Some(found) if is_directory(&found) && wanted.recursive => return Ok(found),
        Some(found) if is_directory(&found) => return Err(Failed::says("Is a directory")),
        Some(found) => found,
    };
    sftp.open(path).await?.close().await?;
    Ok(file)
}

fn facts(found: &MetaData) -> String {
    let (mode, length) = (mode_of(found), found.len().unwrap_or(0));
    let time = found.modified().map_or(0, |time| time.as_duration().as_secs());
    format!(" {mode:o} {length} {time}")
}
