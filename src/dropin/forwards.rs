//! Ports and sockets that a command line has forwarded, and nothing else (`-N`). The agent does
//! that, where ssh would do the same.

use std::ffi::OsString;

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::command_line::{CommandLine, Opt};
use super::connection::Request;
use super::supervised::{Signals, catch, next};
use super::{RESOLVING, RealSsh, Reason};
use crate::agent::Client;
use crate::agent::client::Forwarded;
use crate::agent::protocol::WhatForwarded;
use crate::forward::{Endpoint, ForwardSpec};

/// Options that say how forwards are made, and what ssh has for them where nobody says it. The
/// agent makes them so.
const DEFAULTS: &[(&str, &str)] = &[
    ("clearallforwardings", "no"),
    ("gatewayports", "no"),
    ("permitremoteopen", "any"),
    ("streamlocalbindmask", "0177"),
    ("streamlocalbindunlink", "no"),
];

/// Signals that end ssh where it only forwards.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTERM];

/// What a line wants forwarded as long as this process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarding(Vec<ForwardSpec>);

/// Forwards of this process.
pub(crate) struct Forwards {
    all: Vec<Forwarded>,
    signals: Vec<(Signal, Signals)>,
}

impl Forwarding {
    /// What the line wants; none where it has no forward. An error says why that is for plain ssh.
    pub(super) fn of(line: &CommandLine<'_>) -> Result<Option<Self>, Reason> {
        let (mut specs, mut has_session) = (Vec::new(), true);
        let mut beside = None;
        for option in &line.options {
            let spec = match option {
                Opt::Flag(b'N') => {
                    has_session = false;
                    continue;
                }
                Opt::Flag(b'g') => {
                    beside = Some("forwards are for other machines, too (-g)");
                    continue;
                }
                Opt::Value(b'W' | b'E' | b'O', _) | Opt::Flag(b's' | b'y') => {
                    beside = Some("ssh is to do something beside its forwards");
                    continue;
                }
                Opt::Value(b'L', text) => text.to_str().map(ForwardSpec::local),
                Opt::Value(b'R', text) => text.to_str().map(ForwardSpec::remote),
                Opt::Value(b'D', text) => text.to_str().map(ForwardSpec::dynamic),
                _ => continue,
            };
            specs.push(spec);
        }
        match (specs.is_empty(), has_session) {
            (true, true) => return Ok(None),
            (true, false) => {
                return Err("over a shared connection there is always a session (-N)".to_owned());
            }
            (false, false) if line.command.is_empty() => {}
            (false, _) => {
                return Err(
                    "a forward would outlive this command on a shared connection".to_owned()
                );
            }
        }
        if let Some(why) = beside {
            return Err(why.to_owned());
        }
        let mut all: Vec<ForwardSpec> = Vec::new();
        for spec in specs {
            let spec = spec.ok_or("a value is not UTF-8")?.map_err(|error| error.to_string())?;
            if matches!(spec.listen(), Endpoint::Port { port: 0, .. }) {
                return Err("the port is to be chosen, which ssh says or refuses".to_owned());
            }
            if all.contains(&spec) {
                return Err("a forward is said twice".to_owned());
            }
            all.push(spec);
        }
        Ok(Some(Forwarding(all)))
    }
}

/// The line without its forwards, to be asked what the ssh_config says beside them.
fn others(line: &CommandLine<'_>) -> Vec<OsString> {
    let mut words = Vec::new();
    for option in &line.options {
        match option {
            Opt::Flag(b'N') | Opt::Value(b'L' | b'R' | b'D', _) => {}
            Opt::Flag(letter) => words.push(format!("-{}", char::from(*letter)).into()),
            Opt::Value(letter, value) => {
                words.extend([format!("-{}", char::from(*letter)).into(), value.clone()]);
            }
        }
    }
    words.extend(["--".into(), line.destination.to_owned()]);
    words
}

impl Request<'_> {
    /// Has the agent forward: first the login, then the forwards, as ssh does.
    ///
    /// # Errors
    ///
    /// Why it is plain ssh that has to do it.
    pub(crate) async fn forward(
        &self,
        Forwarding(specs): &Forwarding,
        client: &Client,
    ) -> Result<Forwards, Reason> {
        self.is_as_by_default().await?;
        self.connected(client).await?;
        let mut all = Vec::new();
        for spec in specs {
            let begun = client.forward(self.host(), &WhatForwarded::Spec(spec)).await;
            let (_, forwarded) = begun.map_err(|error| error.to_string())?;
            all.push(forwarded);
        }
        // Until now a signal has killed this process, as it kills ssh before its login. From now on
        // ssh exits with a status of its own.
        let signals = catch(&ENDING).map_err(|error| error.to_string())?;
        Ok(Forwards { all, signals })
    }

    /// Whether the ssh_config has nothing that would make another forward of it.
    async fn is_as_by_default(&self) -> Result<(), Reason> {
        let ssh = RealSsh::find().map_err(|error| error.to_string())?;
        let asked = [self.arguments(), &others(self.line())].concat();
        let resolved = ssh.program().resolved(asked, Instant::now() + RESOLVING).await;
        let resolved = resolved.ok_or("ssh -G fails")?;
        self.settings_of(&resolved)?;
        for (option, default) in DEFAULTS {
            let is_other = |line: &str| {
                let value = line.strip_prefix(option).and_then(|rest| rest.strip_prefix(' '));
                value.is_some_and(|value| value != *default)
            };
            if resolved.lines().any(is_other) {
                return Err(format!("the ssh_config says {option}"));
            }
        }
        Ok(())
    }
}

impl Forwards {
    /// Completes with the status that ssh would have: when a signal has come, or when the agent
    /// has ended.
    pub(crate) async fn ended(self) -> u8 {
        let Forwards { mut all, mut signals } = self;
        let all = all.iter_mut().map(async |one| while one.next().await.is_some() {});
        let first = futures_util::future::select_all(all.map(Box::pin));
        tokio::select! {
            // As OpenSSH 9.2 exits.
            signal = next(&mut signals) => if signal == Signal::SIGTERM { 0 } else { u8::MAX },
            _ = first => u8::MAX,
        }
    }
}
