//! Ports and sockets that a command line has forwarded and nothing else: without a session (`-N`),
//! or by the master that there is (`-O forward`, `-O cancel`). The agent does that, where ssh would
//! do the same.

use std::ffi::OsString;

use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::{Instant, timeout};

use super::command_line::{CommandLine, Opt};
use super::connection::{ANSWER, Question, Request};
use super::{RESOLVING, RealSsh, Reason};
use crate::agent::Client;
use crate::agent::client::Forwarded;
use crate::agent::protocol::{ForwardInfo, WhatForwarded};
use crate::forward::{Direction, Endpoint, ForwardSpec};

/// Options that say how forwards are made, and what ssh has for them where nobody says it. The
/// agent makes them so.
const DEFAULTS: &[(&str, &str)] = &[
    ("gatewayports", "no"),
    ("streamlocalbindmask", "0177"),
    ("streamlocalbindunlink", "no"),
    ("forkafterauthentication", "no"),
];

/// What a line wants of its forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarding {
    pub wish: Wish,
    specs: Vec<ForwardSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// As long as this process runs.
    Run,
    /// From now on.
    Keep,
    Cancel,
}

/// What has come of it.
pub(crate) enum Begun {
    Running(Running),
    /// There is nothing more to do.
    Done,
    /// A master refuses it, with these words of ssh's and this status.
    Refused(&'static str, u8),
}

/// Forwards of this process.
pub(crate) struct Running {
    forwards: Vec<Forwarded>,
    signals: Vec<(u8, Signals)>,
}

impl Forwarding {
    /// What the line wants; none where it has no forward. An error says why that is for plain ssh.
    pub(super) fn of(line: &CommandLine<'_>) -> Result<Option<Self>, Reason> {
        let (mut specs, mut has_session, mut question) = (Vec::new(), true, None);
        let mut given = Ok(());
        for option in &line.options {
            let spec = match option {
                Opt::Flag(b'N') => {
                    has_session = false;
                    continue;
                }
                Opt::Flag(b'g') => {
                    given = Err("forwards are for other machines, too (-g)".to_owned());
                    continue;
                }
                Opt::Value(b'W' | b'E', _) | Opt::Flag(b'y') => {
                    given = Err("ssh is to do something beside its forwards".to_owned());
                    continue;
                }
                Opt::Value(b'O', what) => {
                    question = what.to_str();
                    continue;
                }
                Opt::Value(b'L', text) => text.to_str().map(ForwardSpec::local),
                Opt::Value(b'R', text) => text.to_str().map(ForwardSpec::remote),
                Opt::Value(b'D', text) => text.to_str().map(ForwardSpec::dynamic),
                _ => continue,
            };
            match spec {
                Some(Ok(spec)) => specs.push(spec),
                Some(Err(error)) => given = Err(error.to_string()),
                None => given = Err("a value is not UTF-8".to_owned()),
            }
        }
        let wish = match question {
            Some("forward") => Wish::Keep,
            Some("cancel") => Wish::Cancel,
            Some(_) => return Ok(None),
            None if specs.is_empty() && has_session => return Ok(None),
            None if specs.is_empty() => {
                return Err("over a shared connection there is always a session (-N)".to_owned());
            }
            None if has_session || !line.command.is_empty() => {
                return Err(
                    "a forward would outlive this command on a shared connection".to_owned()
                );
            }
            None => Wish::Run,
        };
        given?;
        if specs.is_empty() {
            return Err("there is nothing to forward (-O)".to_owned());
        }
        let is_chosen = |spec: &ForwardSpec| {
            let at = matches!(spec.listen(), Endpoint::Port { port: 0, .. });
            at && spec.direction() == Direction::Remote
        };
        if specs.iter().any(is_chosen) {
            return Err("the host is to choose a port, which ssh says".to_owned());
        }
        Ok(Some(Forwarding { wish, specs }))
    }
}

/// The line without its forwards, to be asked what the ssh_config says beside them.
fn others(line: &CommandLine<'_>) -> Vec<OsString> {
    let mut words = Vec::new();
    for option in &line.options {
        match option {
            Opt::Flag(b'N') | Opt::Value(b'L' | b'R' | b'D' | b'O', _) => {}
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
    /// Has the agent do it.
    ///
    /// # Errors
    ///
    /// Why it is plain ssh that has to do it.
    pub(crate) async fn forward(
        &self,
        forwarding: &Forwarding,
        client: &Client,
    ) -> Result<Begun, Reason> {
        self.is_as_by_default().await?;
        match forwarding.wish {
            Wish::Run => self.run_forwards(&forwarding.specs, client).await.map(Begun::Running),
            Wish::Keep => {
                self.masters(Question::Check, client).await?;
                let kept = self.kept(client).await?;
                let mut new = Vec::new();
                for spec in forwarding.specs.iter().filter(|spec| of(&kept, spec).is_none()) {
                    match client.keep_forward(self.host(), &WhatForwarded::Spec(spec)).await {
                        Ok(info) => new.push(info.id),
                        Err(_) => {
                            for id in new {
                                let _ = client.remove_forward(id).await;
                            }
                            let words = "mux_client_forward: forwarding request failed: Port \
                                forwarding failed\r\nmuxclient: master forward request failed\r\n";
                            return Ok(Begun::Refused(words, 255));
                        }
                    }
                }
                Ok(Begun::Done)
            }
            Wish::Cancel => {
                self.masters(Question::Check, client).await?;
                let kept = self.kept(client).await?;
                for spec in &forwarding.specs {
                    let removed = match of(&kept, spec) {
                        Some(id) => matches!(client.remove_forward(id).await, Ok(Ok(()))),
                        None => false,
                    };
                    if !removed {
                        let words = "mux_client_forward: forwarding request failed: port not \
                            forwarded\r\nmuxclient: master cancel forward request failed\r\n";
                        return Ok(Begun::Refused(words, 0));
                    }
                }
                Ok(Begun::Done)
            }
        }
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

    /// As ssh does: first the login, then the forwards.
    async fn run_forwards(
        &self,
        specs: &[ForwardSpec],
        client: &Client,
    ) -> Result<Running, Reason> {
        let mut signals = Vec::new();
        // A signal means this to ssh, which exits with such a status.
        for (kind, status) in [
            (SignalKind::interrupt(), 255),
            (SignalKind::hangup(), 255),
            (SignalKind::quit(), 255),
            (SignalKind::terminate(), 0),
        ] {
            let number = nix::sys::signal::Signal::try_from(kind.as_raw_value());
            if !number.is_ok_and(crate::pool::signals::is_ignored) {
                signals.push((status, signal(kind).map_err(|error| error.to_string())?));
            }
        }
        self.connected(client).await?;
        let mut forwards = Vec::new();
        for spec in specs {
            let begun = client.forward(self.host(), &WhatForwarded::Spec(spec)).await;
            let (_, forwarded) = begun.map_err(|error| error.to_string())?;
            forwards.push(forwarded);
        }
        Ok(Running { forwards, signals })
    }

    /// The forwards to this host that the agent keeps.
    async fn kept(&self, client: &Client) -> Result<Vec<ForwardInfo>, Reason> {
        let all = timeout(ANSWER, client.forwards()).await.map_err(|late| late.to_string())?;
        let all = all.map_err(|no| no.to_string())?;
        let host = self.host().key().to_string();
        Ok(all.into_iter().filter(|one| one.kept && one.host == host).collect())
    }
}

/// The number of this one.
fn of(kept: &[ForwardInfo], spec: &ForwardSpec) -> Option<u64> {
    let forward = spec.to_string();
    kept.iter().find(|one| one.forward == forward).map(|one| one.id)
}

impl Running {
    /// Completes with the status that ssh would have: when a signal has come, or when the agent
    /// has ended.
    pub(crate) async fn ended(self) -> u8 {
        let Running { mut forwards, mut signals } = self;
        let signalled = std::future::poll_fn(|context| {
            let come = signals.iter_mut().find_map(|(status, stream)| {
                stream.poll_recv(context).is_ready().then_some(*status)
            });
            come.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        });
        let all = forwards.iter_mut().map(async |one| while one.next().await.is_some() {});
        let first = futures_util::future::select_all(all.map(Box::pin));
        tokio::select! {
            status = signalled => status,
            _ = first => u8::MAX,
        }
    }
}
