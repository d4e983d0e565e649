//! Who is compared, and how each of them is made ready and asked for a turn.

use std::sync::Arc;
use std::time::Duration;

use openssh::{Session, SessionBuilder};
use sshpool::{Host, Pool, PoolConfig, SessionReuse};

use crate::driver::Driver;
use crate::lab::Lab;
use crate::plan;
use crate::ssh::{self, Ssh};
use crate::support::pooled;
use crate::turn::{self, Pattern, Turn};

/// The peers, in the order of all tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Cold,
    ControlMaster,
    Bare,
    ProcessMux,
    NativeMux,
    Asyncssh,
    NodeSsh,
    Pool,
    /// With `session_reuse = "fast"`.
    PoolFast,
    /// With what Debian's clients send of their environment.
    PoolWithLocale,
    PoolWithoutStandby,
}

impl Kind {
    pub const ALL: [Kind; 11] = [
        Kind::Cold,
        Kind::ControlMaster,
        Kind::Bare,
        Kind::ProcessMux,
        Kind::NativeMux,
        Kind::Asyncssh,
        Kind::NodeSsh,
        Kind::Pool,
        Kind::PoolFast,
        Kind::PoolWithLocale,
        Kind::PoolWithoutStandby,
    ];

    /// Those that the bounds of many commands at once are about.
    pub const OF_BOUNDS: [Kind; 4] = [Kind::Bare, Kind::NativeMux, Kind::Pool, Kind::PoolFast];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Cold => "cold ssh",
            Kind::ControlMaster => "ssh, ControlMaster auto",
            Kind::Bare => "ssh -F none -S SOCKET",
            Kind::ProcessMux => "openssh crate, process-mux",
            Kind::NativeMux => "openssh crate, native-mux",
            Kind::Asyncssh => "asyncssh",
            Kind::NodeSsh => "node-ssh",
            Kind::Pool => "sshpool",
            Kind::PoolFast => "sshpool, fast",
            Kind::PoolWithLocale => "sshpool, LANG sent",
            Kind::PoolWithoutStandby => "sshpool, no standby",
        }
    }

    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Kind::Pool | Kind::PoolFast | Kind::PoolWithLocale | Kind::PoolWithoutStandby
        )
    }

    /// What it is, for the reader of the document.
    pub fn description(self) -> &'static str {
        match self {
            Kind::Cold => "`ssh -F CONFIG -o BatchMode=yes HOST true`, a login each",
            Kind::ControlMaster => {
                "`ssh -F CONFIG HOST true`, with `ControlMaster auto`, `ControlPath …/%C` and `ControlPersist 10m` in the configuration; \
                 the master is there"
            }
            Kind::Bare => {
                "`ssh -F none -S SOCKET … true` over a live master: the least that a process of OpenSSH takes"
            }
            Kind::ProcessMux => {
                "`session.raw_command(\"true\").output()`; it starts an `ssh -S` for each command, which reads the user's ssh_config"
            }
            Kind::NativeMux => {
                "the same call over the crate's own implementation of the master's protocol, without a process"
            }
            Kind::Asyncssh => "`conn.run(\"true\")` on one connection, in Python",
            Kind::NodeSsh => {
                "`ssh.execCommand(\"true\")` on one connection, in Node.js; `setNoDelay(true)` by the benchmark"
            }
            Kind::Pool => {
                "`pool.shell(&host, \"true\").output()` with the defaults, but for `idle_timeout`, which outlasts the others' turns"
            }
            Kind::PoolFast => "the same with `session_reuse = \"fast\"`",
            Kind::PoolWithLocale => {
                "the same with the defaults; LANG is set, the ssh_config has Debian's `SendEnv LANG LC_*`, and the server's \
                 `AcceptEnv LANG LC_*`"
            }
            Kind::PoolWithoutStandby => "the same with `standby_sessions = 0`",
        }
    }

    /// Whether these logins are what the peer is for. A multiplexing client that logs in by itself
    /// has silently lost its master's help, and the pool grows up to `max_connections`.
    pub fn may_log_in(self, logins: usize) -> bool {
        match self {
            Kind::Cold => true,
            kind if kind.is_ours() => logins <= PoolConfig::default().max_connections,
            _ => logins == 0,
        }
    }
}

/// A peer that is ready, or why there is none.
pub struct Peer {
    pub kind: Kind,
    command: plan::Command,
    ready: Result<Ready, String>,
}

enum Ready {
    Ssh(Ssh),
    Crate(Arc<Session>),
    Driver(Box<Driver>),
    Pool(Pool, Box<Host>),
}

impl Peer {
    /// Makes the connection, if it is a peer that keeps one. What fails is kept for the tables.
    pub async fn start(kind: Kind, lab: &Lab<'_>, command: plan::Command) -> Peer {
        let ready = ready(kind, lab, command).await;
        if let Err(why) = &ready {
            eprintln!("{}: {why}", kind.name());
        }
        Peer { kind, command, ready }
    }

    /// Why it cannot be measured.
    pub fn missing(&self) -> Option<&str> {
        self.ready.as_ref().err().map(String::as_str)
    }

    /// What it is made of, in versions, and whether it has turned Nagle's algorithm off; as it
    /// tells itself.
    pub fn driver(&self) -> Option<&Driver> {
        match &self.ready {
            Ok(Ready::Driver(driver)) => Some(driver),
            _ => None,
        }
    }

    pub async fn turn(&mut self, pattern: Pattern) -> Turn {
        let command = self.command.text();
        match &mut self.ready {
            Err(why) => Turn::failed(why.clone()),
            Ok(Ready::Driver(driver)) => driver.turn(pattern).await,
            Ok(Ready::Ssh(ssh)) => {
                let ssh = ssh.clone();
                turn::run(pattern, move || ssh.command()).await
            }
            Ok(Ready::Crate(session)) => {
                let session = Arc::clone(session);
                turn::run(pattern, move || raw_command(Arc::clone(&session), command)).await
            }
            Ok(Ready::Pool(pool, host)) => {
                let (pool, host) = (pool.clone(), Host::clone(host));
                turn::run(pattern, move || shell(pool.clone(), host.clone(), command)).await
            }
        }
    }

    pub async fn close(self) {
        match self.ready {
            Ok(Ready::Pool(pool, _)) => pool.close().await,
            Ok(Ready::Crate(session)) => {
                // A turn that gave up a command may still hold it; the master ends with its server
                // then.
                if let Some(session) = Arc::into_inner(session) {
                    let _ = session.close().await;
                }
            }
            // These end when they are dropped.
            Ok(Ready::Ssh(_) | Ready::Driver(_)) | Err(_) => {}
        }
    }
}

async fn ready(kind: Kind, lab: &Lab<'_>, command: plan::Command) -> Result<Ready, String> {
    match kind {
        Kind::Cold => Ok(Ready::Ssh(Ssh::cold(lab, command))),
        Kind::ControlMaster => ssh::auto(lab, command).await.map(Ready::Ssh),
        Kind::Bare => ssh::bare(lab, command).map(Ready::Ssh),
        Kind::ProcessMux | Kind::NativeMux => {
            session(kind, lab).await.map(|session| Ready::Crate(session.into()))
        }
        Kind::Asyncssh => {
            Driver::asyncssh(lab, command).await.map(|driver| Ready::Driver(driver.into()))
        }
        Kind::NodeSsh => {
            Driver::node_ssh(lab, command).await.map(|driver| Ready::Driver(driver.into()))
        }
        Kind::Pool | Kind::PoolFast | Kind::PoolWithLocale | Kind::PoolWithoutStandby => {
            let pool = Pool::new(config(kind)?).map_err(|error| error.to_string())?;
            let host = pooled::host_of(&match kind {
                Kind::PoolWithLocale => lab.ssh_config_with_locale(),
                _ => lab.ssh_config(),
            });
            shell(pool.clone(), host.clone(), command.text()).await?;
            Ok(Ready::Pool(pool, Box::new(host)))
        }
    }
}

/// The defaults. A connection that is closed while others have their turns would make a login,
/// which is not what is measured.
fn config(kind: Kind) -> Result<PoolConfig, String> {
    let mut config = PoolConfig::default().idle_timeout(Duration::from_secs(3600));
    match kind {
        Kind::PoolWithoutStandby => config.standby_sessions = 0,
        Kind::PoolFast => config.session_reuse = fast()?,
        _ => {}
    }
    Ok(config)
}

/// A version of sshpool that does not know the word has no such row.
fn fast() -> Result<SessionReuse, String> {
    "fast".parse().map_err(|can_be| format!("not in this version: session_reuse is {can_be}"))
}

async fn session(kind: Kind, lab: &Lab<'_>) -> Result<Session, String> {
    let mut builder = SessionBuilder::default();
    builder.config_file(lab.ssh_config()).control_directory(lab.directory());
    let connected = match kind {
        Kind::ProcessMux => builder.connect("lab").await,
        _ => builder.connect_mux("lab").await,
    };
    connected.map_err(|error| with_sources(&error))
}

async fn raw_command(session: Arc<Session>, command: &str) -> Result<(), String> {
    match session.raw_command(command).output().await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(ssh::failure(&output)),
        Err(error) => Err(with_sources(&error)),
    }
}

async fn shell(pool: Pool, host: Host, command: &str) -> Result<(), String> {
    match pool.shell(&host, command).output().await {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(output.status.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The crate's errors tell what went wrong in their sources.
fn with_sources(mut error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    while let Some(source) = error.source() {
        text = format!("{text}: {source}");
        error = source;
    }
    text
}
