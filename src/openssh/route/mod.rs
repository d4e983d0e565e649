//! Routes: how a login goes, as ssh says it in the caller's place, and what it depends on.
//!
//! The [`Resolver`] asks `ssh -G` in the caller's place and keeps the answer for as long as nothing
//! changes that it was made from: the configuration with all files that it includes, and the
//! variables that these mention. Where the configuration has ssh look at more than that (`Match
//! exec` and the like), ssh is asked for each command. From the answer it works out what else a
//! login depends on, which is what callers have to have in common to share a connection
//! ([`Sharing`]).

mod kept;
mod place;
mod resolver;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::answer::Answer;
use super::program::Program;
use crate::host::place::{Environment, Sharing};
use crate::host::{Endpoint, Host, Variables};
pub(super) use place::set_environment;
pub(crate) use resolver::Resolver;

/// How a login goes.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(super) program: Arc<Program>,
    /// The ssh_config that was named, as an absolute path.
    pub(super) config_file: Option<PathBuf>,
    pub(super) answer: Arc<Answer>,
    /// What ssh finds in its environment. `None` for the environment of this process.
    pub(super) environment: Option<Environment>,
    /// Where ssh is started, if that makes a difference to a login.
    pub(super) directory: Option<PathBuf>,
    /// ssh asks by a program of the caller's.
    pub(super) asks: bool,
    /// The configuration says something of unknown host keys, somewhere.
    pub(super) mentions_host_keys: bool,
    /// The configuration says something of keepalive messages, somewhere.
    pub(super) mentions_keepalive: bool,
    /// The configuration has blocks that are read last.
    pub(super) has_final: bool,
    /// Files that decide whether an authentication succeeds.
    pub(super) keys: Vec<PathBuf>,
    /// Files that decide whether the server is the right one.
    pub(super) known_hosts: Vec<PathBuf>,
    /// The ssh-agent that is asked for keys.
    pub(super) auth_sock: Option<PathBuf>,
    /// The ssh-agent whose keys are the last part of `sharing`.
    compared: Option<PathBuf>,
    pub(crate) sharing: Sharing,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) variables: Arc<Variables>,
    /// The last hop on the way, where the pool is to have the connection to it.
    pub(super) hop: Option<Host>,
    /// What `ConnectTimeout` and `ConnectionAttempts` allow for a login.
    pub(crate) allows: Option<Duration>,
}

impl Route {
    /// Has a process start with the parts of the caller's place that make a difference.
    pub(super) fn prepare(&self, command: &mut tokio::process::Command) {
        if let Some(environment) = &self.environment {
            set_environment(command, environment);
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
    }
}

/// Two of the same sharing go the same way.
impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.sharing == other.sharing && self.variables == other.variables
    }
}

impl Eq for Route {}
