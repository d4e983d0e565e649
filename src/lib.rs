//! Placeholder
#![warn(missing_docs)]

mod child;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod command;
pub mod config;
mod error;
mod host;
mod openssh;
mod pool;
mod public;
mod signals;

pub use child::{Child, ChildStderr, ChildStdin, ChildStdout};
pub use command::{Command, ExitStatus, Output, Stdin};
pub use config::{Config, ConfigError, PoolConfig};
pub use error::{ConnectError, ConnectErrorKind, Error, PartialOutput};
pub use host::{Host, HostError, PoolKey};
pub use openssh::SshVersion;
pub use pool::Stats;
pub use public::{Lease, Pool, global};
