//! The agent: one background process of a user that holds a pool for all commands of the program,
//! and for programs in other languages.
//!
//! It speaks HTTP/1.1 with JSON over a Unix socket, as Docker's engine does; `docs/agent-api.md`
//! has every request. `protocol` is what is said over the socket, `server` the agent, `client` the
//! other side: it finds an agent, or starts one. Both know the `directory` in which the socket is.
//!
//! The agent is a plain user of [`Pool`](crate::Pool): it starts no command that a client did not
//! ask for, and ends the command of a client that goes away.

pub(crate) mod client;
pub(crate) mod directory;
pub(crate) mod exit_watch;
pub(crate) mod protocol;
pub(crate) mod server;
pub(crate) mod standing;

pub use client::Client;
pub(crate) use protocol::{CommandResult, Failure, text_or_base64};
