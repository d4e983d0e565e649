//! The host that a command line asks the agent for, so that nobody's command runs as somebody else.

use std::time::Duration;

use super::Reason;
use super::command_line::{CommandLine, Opt};
use super::forwards::Forwarding;
use super::overrides::Overrides;
use crate::host::{Host, HostError};

/// A host, as the agent and as plain ssh have to be asked for it.
#[derive(Debug)]
pub(super) struct HostRequest {
    /// The host that the agent has to be asked for, or why plain ssh has to do it.
    pub host: Result<Host, Reason>,
    /// What the settings say of the host and the command line does not: plain ssh does not know
    /// it.
    pub additions: Host,
    /// The `ConnectTimeout` that was given.
    pub timeout: Option<Duration>,
    /// What is forwarded, where nothing else is wanted.
    pub forwarding: Option<Forwarding>,
}

impl HostRequest {
    /// Understands a line. `known` gives the host of a name as the settings have it; `auth_sock` is
    /// the agent with the caller's keys.
    ///
    /// # Errors
    ///
    /// When the destination is no name of a host; ssh says so in its own words.
    pub(super) fn of(
        line: &CommandLine<'_>,
        known: impl FnOnce(&str) -> Result<Host, HostError>,
        auth_sock: Option<&str>,
    ) -> Result<Self, Reason> {
        let mut overrides = Overrides::default();
        // All options are read, also those behind one that is for plain ssh.
        let mut plain = None;
        let mut add = |overrides: &mut Overrides, options: &[Opt]| {
            for option in options {
                if let Err(reason) = overrides.add(option) {
                    plain.get_or_insert(reason);
                }
            }
        };
        let (before, behind) = line.options.split_at(line.options_before);
        add(&mut overrides, before);
        let name = overrides.destination(line.destination)?;
        add(&mut overrides, behind);
        let known = known(name).map_err(|error| error.to_string())?;
        let additions = overrides.additions(&known).map_err(|error| error.to_string())?;
        let timeout = overrides.timeout;
        let (forwarding, refused) = match Forwarding::of(line) {
            Ok(forwarding) => (forwarding, None),
            Err(reason) => (None, Some(reason)),
        };
        let host = match plain.or(refused) {
            Some(reason) => Err(reason),
            None => overrides.forward_agent(auth_sock).and_then(|()| {
                overrides.pass_over_unknown(&additions);
                overrides.applied_to(additions.clone()).map_err(|error| error.to_string())
            }),
        };
        Ok(HostRequest { host, additions, timeout, forwarding })
    }
}
