//! ssh's own messages, which pass through this process: what ssh says of the shared connection is
//! not for the caller.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Takes ssh's own messages; removed when this is dropped.
pub(super) struct MessageLog(Option<(PathBuf, pipe::Receiver)>);

impl MessageLog {
    /// One beside this control socket. A FIFO, because ssh closes all descriptors that it inherits.
    pub(super) fn beside(socket: &Path) -> Self {
        MessageLog(fifo(socket))
    }

    /// For a caller who has said where the messages go.
    pub(super) fn none() -> Self {
        MessageLog(None)
    }

    pub(super) fn arguments(&self) -> Vec<OsString> {
        self.0.iter().flat_map(|(path, _)| ["-E".into(), path.clone().into_os_string()]).collect()
    }

    /// Passes on what ssh says, line by line. Completes never.
    ///
    /// Cancel safe.
    pub(super) async fn pass_on(&mut self, lines: &mut Lines) {
        if let Some((_, pipe)) = &mut self.0 {
            while let Ok(1..) = pipe.read_buf(&mut lines.bytes).await {
                lines.pass_on();
            }
        }
        std::future::pending().await
    }

    /// Passes on the rest of what an ssh has said that has ended.
    pub(super) fn finish(self, lines: &mut Lines) {
        if let Some((_, pipe)) = &self.0 {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = nix::unistd::read(pipe, &mut buffer) {
                lines.bytes.extend_from_slice(&buffer[..read]);
            }
        }
        lines.pass_on();
        let rest = std::mem::take(&mut lines.bytes);
        write(&rest);
    }
}

impl Drop for MessageLog {
    fn drop(&mut self) {
        if let Some((path, _)) = &self.0 {
            // It is gone with its directory when the agent has ended.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What ssh says, in lines.
#[derive(Default)]
pub(super) struct Lines {
    /// Of a line that is not whole yet.
    bytes: Vec<u8>,
    /// ssh has said that it gets no session on the connection: it logs in by itself.
    pub logs_in: bool,
}

impl Lines {
    fn pass_on(&mut self) {
        let Some(end) = self.bytes.iter().rposition(|byte| *byte == b'\n') else { return };
        let rest = self.bytes.split_off(end + 1);
        let whole = std::mem::replace(&mut self.bytes, rest);
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            if is_of_the_connection(line) {
                self.logs_in = true;
            } else {
                write(line);
            }
        }
    }
}

fn write(bytes: &[u8]) {
    // Nobody may be there to read it.
    let _ = io::stderr().write_all(bytes);
}

/// What ssh says when it gets no session on a shared connection, before it logs in by itself.
fn is_of_the_connection(line: &[u8]) -> bool {
    line.starts_with(b"mux_client_") || line.starts_with(b"Control socket connect(")
}

#[cfg(target_os = "linux")]
fn fifo(socket: &Path) -> Option<(PathBuf, pipe::Receiver)> {
    use nix::sys::stat::Mode;
    let path = socket.with_file_name(format!("said-{}", std::process::id()));
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).ok()?;
    // Open for both, it is at its end only when we say so.
    match pipe::OpenOptions::new().read_write(true).open_receiver(&path) {
        Ok(pipe) => Some((path, pipe)),
        Err(_) => {
            let _ = std::fs::remove_file(path);
            None
        }
    }
}

/// Elsewhere such a FIFO is at its end before ssh has opened it.
#[cfg(not(target_os = "linux"))]
fn fifo(_socket: &Path) -> Option<(PathBuf, pipe::Receiver)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "mux_client_request_session: session request failed: Session open refused by peer\r\n",
        true
    )]
    #[case("Control socket connect(/run/x/0): Connection refused\r\n", true)]
    #[case("Warning: Permanently added 'x' to the list of known hosts.\r\n", false)]
    #[case("lab@x: Permission denied (publickey).\r\n", false)]
    fn lines_about_the_connection(#[case] line: &str, #[case] expected: bool) {
        assert_eq!(is_of_the_connection(line.as_bytes()), expected);
    }
}
