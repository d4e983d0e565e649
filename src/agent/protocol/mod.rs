//! What is said between the agent and its clients: JSON in requests and answers, and frames where
//! bytes stream both ways.

mod connection;
mod encoding;
mod ended;
mod exec;
mod forward;
mod frames;
mod host;
mod origin;
mod place;
mod refusal;
mod result;
mod status;

pub(crate) use connection::{Close, Connect, Connected, Leased, Masters, Question, Stop};
pub(crate) use encoding::text_or_base64;
pub(crate) use ended::{End, Ended, Streams};
pub(crate) use exec::{Exec, What};
pub(crate) use forward::{ForwardInfo, Forwards, Happened, NewForward, What as WhatForwarded};
pub(crate) use frames::{FRAME_HEADER, frame, header, read_frame, write_frame};
pub(crate) use host::HostSpec;
pub(crate) use origin::{Origin, Settings};
pub(crate) use place::PlaceSpec;
pub(crate) use refusal::{Cause, Refusal};
pub(crate) use result::{CommandResult, Failure};
pub(crate) use status::{About, KnownHost, Status};

/// The version of the program: an agent of another one is replaced.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What `Upgrade` says when a connection is to carry frames.
pub(crate) const FRAMES: &str = "sshpool-frames";
/// The header with a client's version. Only the program itself sends it.
pub(crate) const VERSION_HEADER: &str = "sshpool-version";

/// The name under which the program passes a question of ssh on.
pub(crate) const ASKPASS_PROGRAM: &str = "sshpool-askpass";
/// What is in the environment of that program.
pub(crate) const ASKPASS_SOCKET: &str = "SSHPOOL_ASKPASS_SOCKET";
pub(crate) const ASKPASS_TOKEN: &str = "SSHPOOL_ASKPASS_TOKEN";
