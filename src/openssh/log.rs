//! The log of one ssh, which is read as it is written.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use crate::transport::NotOpened;

/// ssh's own messages: a FIFO, removed with its session.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    pipe: pipe::Receiver,
    bytes: Vec<u8>,
}

impl Log {
    pub(super) fn create(path: PathBuf) -> Result<Self, NotOpened> {
        match mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Err(NotOpened::NoDirectory(Errno::ENOENT.into())),
            // No room: the connection is as good as before.
            Err(error) => return Err(NotOpened::NoProcess(error.into())),
        }
        match pipe::OpenOptions::new().open_receiver(&path) {
            Ok(pipe) => Ok(Log { path, pipe, bytes: Vec::new() }),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(NotOpened::NoProcess(error))
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }

    /// Reads until ssh has said this, or nothing more comes.
    ///
    /// Cancel safe: what was read is kept.
    pub(super) async fn says<T>(&mut self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = wanted(&self.text()) {
                return Some(found);
            }
            if !matches!(self.pipe.read_buf(&mut self.bytes).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// Everything, of an ssh that has ended.
    pub(super) fn rest(&mut self) -> std::borrow::Cow<'_, str> {
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = nix::unistd::read(&self.pipe, &mut buffer) {
            self.bytes.extend_from_slice(&buffer[..read]);
        }
        self.text()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // It is gone when somebody else has removed its directory.
        let _ = std::fs::remove_file(&self.path);
    }
}
