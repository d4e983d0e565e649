//! Reading the pipes of a process past the reactor, which may not have heard yet of what has
//! arrived.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use tokio::net::unix::pipe;
use tokio::process::{ChildStderr, ChildStdout};

use crate::transport::Source;

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
