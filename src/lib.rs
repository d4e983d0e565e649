//! sshpool keeps authenticated OpenSSH connections open and runs commands over them: the first
//! command on a host costs a login, the next one a few milliseconds.
//!
//! It uses no SSH library. It launches and supervises the system's own `ssh -M -S SOCKET` control
//! masters and runs each command by spawning `ssh -S SOCKET`. So everything in the user's
//! `ssh_config` works: aliases, `ProxyJump`, agents, hardware keys, certificates.
//!
//! ```no_run
#![doc = include_str!("../examples/quickstart.rs")]
//! ```
//!
//! # What to expect
//!
//! - A [`Pool`] is a cheap handle; connections are made when a command needs one, shared by up to
//!   [`sessions_per_connection`](PoolConfig::sessions_per_connection) commands at once, and closed
//!   when nobody has used them for [`idle_timeout`](PoolConfig::idle_timeout). More are made when
//!   all are full, up to [`max_connections`](PoolConfig::max_connections) per host; then callers
//!   queue.
//! - A [`Host`] is a name with optional address, port, user, key, ssh_config file and further
//!   options. What could be read as an option or as shell text is refused when the host is made.
//! - [`Pool::exec`] gives text, [`Pool::command`] a builder in the manner of
//!   [`std::process::Command`]. Arguments are escaped; [`Pool::shell`] takes shell text.
//! - How a command ended is never ambiguous: it exited with a status (255 included), a signal
//!   killed it, it was lost with its connection, or it never started. [`Error::never_started`]
//!   tells whether running it again is safe; what never started is tried again by the pool itself,
//!   within limits.
//! - [`Pool::forward`] forwards ports and sockets, as `-L`, `-R` and `-D` of ssh do. A listener on
//!   this side stays when its connection is lost, and a client whose connection is lost is reset:
//!   what it has read does not look complete.
//! - Nothing is left behind on this machine, by [`Pool::close`], by dropping everything, by a panic
//!   or by `kill -9`: no process, no socket, no directory.
//! - The pool never asks for a password, and never logs in unless a command or [`Pool::acquire`]
//!   needs a connection.
//!
//! # Limits
//!
//! - Unix only, and an OpenSSH client on `PATH`: 7.6 or later, since it has to know `accept-new`
//!   (tested with 9.2 and 10.0).
//! - When a command times out, writes too much or its future is dropped, its remote process group
//!   is ended: TERM, and KILL two seconds later. What has left the group (a daemon) is on its own.
//!   Without a POSIX shell (csh, fish, a forced command) the group is not known: only the local ssh
//!   is ended then, and the error says so ([`Remote`]).
//! - OpenSSH's multiplexing does not tell which signal ended a command.
//!
//! # Logs
//!
//! The crate logs by `tracing`: a span per connection (`connection`, with the host and the slot),
//! per health check and per command; what happens to connections at the level info, what went wrong
//! at warn, details at debug. Commands and their output are never logged.

#![warn(missing_docs)]
// What only the program and the agent use is here without them, too, so that no other file has to
// ask which of them is built.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod command;
pub mod config;
pub mod docker;
#[cfg(feature = "cli")]
mod doctor;
#[cfg(feature = "cli")]
mod dropin;
mod error;
mod execution;
pub mod files;
mod fleet;
mod forward;
mod host;
mod openssh;
mod policy;
mod pool;
pub mod resources;
mod text;
mod transport;

pub use command::{
    Child, ChildEnds, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Output, Password,
    PasswordError, Pending, Request, Runner, Stdin, Sudo, Timeout,
};
pub use config::{
    AgentConfig, Config, ConfigError, DockerConfig, PoolConfig, SessionReuse, SudoConfig,
};
pub use error::{ConnectError, ConnectErrorKind, Error, ErrorKind, PartialOutput, Remote};
pub use fleet::{Each, Fleet, Outcome, Outcomes, on_each};
pub use forward::{Direction, Endpoint, ForwardSpec, ForwardSpecError, OWN_SOCKET};
pub use host::set::{HostSet, HostSetError, MOST_HOSTS, fold};
pub use host::{Host, HostError, PoolKey};
pub use openssh::SshVersion;
pub use policy::Stats;
pub use pool::{
    ConnectionInfo, Forward, ForwardEvent, ForwardEvents, ForwardStatus, Lease, Pool, global,
};
