//! Sockets outside of the pool's private directory, which are to be gone with their process: for
//! each there is a link in that directory, which the guard follows when it cleans up.

use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::runtime::Runtime;

/// A socket of ours. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Of the file: somebody else may have put another one there.
    inode: u64,
    link: PathBuf,
    _runtime: Arc<Runtime>,
}

impl SocketFile {
    pub(super) fn new(runtime: Arc<Runtime>, path: &Path) -> io::Result<Self> {
        let inode = std::fs::symlink_metadata(path)?.ino();
        // The guard reads the inode from the name.
        let mut link = runtime.fresh_path().into_os_string();
        link.push(format!("-{inode}.at"));
        let link = PathBuf::from(link);
        symlink(path, &link)?;
        Ok(SocketFile { path: path.to_owned(), inode, link, _runtime: runtime })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = std::fs::symlink_metadata(&self.path);
        if found.is_ok_and(|found| found.ino() == self.inode)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a socket is left behind");
        }
        // It is gone when somebody else has removed its directory.
        let _ = std::fs::remove_file(&self.link);
    }
}
