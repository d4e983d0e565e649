//! What is asked of the agent for whole command lines.

mod cases;
mod properties;

use std::ffi::OsString;

use super::command_line::parse;
use super::request::HostRequest;
use crate::host::Host;

/// What we would ask the agent for; `None` where it is left to plain ssh.
fn asked(words: &[OsString]) -> Option<Host> {
    let line = parse(words).1.ok()?;
    HostRequest::of(&line, |name| Host::new(name), None).ok()?.host.ok()
}
