//! The pipes of a process: what is in them when it starts, and reading them past the reactor, which
//! may not have heard yet of what has arrived.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::process::Stdio;

use nix::errno::Errno;
use tokio::net::unix::pipe;
use tokio::process::{ChildStderr, ChildStdout};

use crate::transport::{Input, Source};

impl Source for ChildStdout {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_now(self, buf)
    }
}

impl Source for pipe::Receiver {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_now(self, buf)
    }
}

impl Source for ChildStderr {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        read_now(self, buf)
    }
}

/// What has arrived. 0 where nothing has, and at the end.
pub(super) fn read_now(pipe: &impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    match nix::unistd::read(pipe, buf) {
        Err(Errno::EAGAIN) => Ok(0),
        read => Ok(read?),
    }
}

/// What the smallest pipe holds: so much can be written before anybody reads, and without waiting.
const PIPE: usize = 4096;

/// The input of a process that reads `preface` first; all of it in a pipe already, where it fits.
pub(super) fn input_behind(preface: &str, input: Input<'_>) -> io::Result<Stdio> {
    match input {
        Input::Bytes([]) if preface.is_empty() => Ok(Stdio::null()),
        Input::Bytes(bytes) if preface.len() + bytes.len() <= PIPE => {
            let (reader, mut writer) = io::pipe()?;
            writer.write_all(preface.as_bytes())?;
            writer.write_all(bytes)?;
            Ok(Stdio::from(reader))
        }
        Input::Bytes(_) | Input::Piped => Ok(Stdio::piped()),
    }
}
