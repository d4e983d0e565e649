//! The agent: one background process of a user that holds a pool for all commands of the program,
//! and for programs in other languages.
//!
//! It speaks HTTP/1.1 with JSON over a Unix socket, as Docker's engine does; `docs/agent-api.md`
//! has every request. `place` says where the socket is and who may be there, `wire` what is said
//! over it, `server` leads the agent through its life, `routes` answers, `commands` runs what
//! clients ask for, [`Client`] is the other side, `runner` its commands, `leases` the connections
//! that clients hold, `start` makes an agent where there is none.
//!
//! The agent is a plain user of [`Pool`](crate::Pool): it starts no command that a client did not
//! ask for, and ends the command of a client that goes away.

mod caller;
mod calls;
pub(crate) mod client;
mod commands;
pub(crate) mod held;
mod http;
mod leases;
mod lines;
mod metrics;
mod peer;
pub(crate) mod place;
mod pools;
pub(crate) mod questions;
pub(crate) mod request;
mod routes;
mod runner;
pub(crate) mod server;
pub(crate) mod standing;
pub(crate) mod start;
mod way;
pub(crate) mod wire;

pub use client::Client;
pub(crate) use way::Way;
pub(crate) use wire::{CommandResult, Failure, text_or_base64};
