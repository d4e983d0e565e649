//! What is said between the agent and its clients: JSON in requests and answers, and frames where
//! bytes stream both ways.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::caller::PlaceSpec;
use crate::command::ExitStatus;
use crate::config::PoolConfig;
use crate::error::Remote;
use crate::error::{ConnectError, ConnectErrorKind, Error, PartialOutput};
use crate::host::place::{Given, Place};
use crate::host::{Host, HostError};
use crate::pool::{ConnectionInfo, Lease};

/// The version of the program: an agent of another one is replaced.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What `Upgrade` says when a connection is to carry frames.
pub(crate) const FRAMES: &str = "sshpool-frames";
/// The header with a client's version. Only the program itself sends it.
pub(crate) const VERSION_HEADER: &str = "sshpool-version";

/// A host, by what is written for it (which the agent looks up in its configuration file), or in
/// full.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum HostSpec {
    Name(String),
    Whole(WholeHost),
}

/// By hand: a derived one would only say that nothing has matched.
impl<'de> Deserialize<'de> for HostSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = HostSpec;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a host, as \"web1\" or as an object with a name")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<HostSpec, E> {
                Ok(HostSpec::Name(name.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HostSpec, A::Error> {
                WholeHost::deserialize(MapAccessDeserializer::new(map)).map(HostSpec::Whole)
            }
        }
        from.deserialize_any(Either)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WholeHost {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_file_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssh_config: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ssh_config_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    options: Vec<(String, String)>,
}

impl From<&Host> for WholeHost {
    fn from(host: &Host) -> Self {
        // The agent's directory is another one than the client's. "none" is a word of ssh's, not a
        // file.
        let absolute = |path: &std::path::Path| match path.to_str() {
            Some("none") => path.to_owned(),
            _ => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
        };
        let encoded = |path: Option<&std::path::Path>| {
            path.map_or((None, None), |path| {
                text_or_base64(absolute(path).into_os_string().into_vec())
            })
        };
        let (identity_file, identity_file_base64) = encoded(host.get_identity_file());
        let (ssh_config, ssh_config_base64) = encoded(host.get_config_file());
        WholeHost {
            name: host.name().to_owned(),
            address: host.get_address().map(str::to_owned),
            port: host.get_port(),
            user: host.get_user().map(str::to_owned),
            identity_file,
            identity_file_base64,
            ssh_config,
            ssh_config_base64,
            options: host
                .get_options()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}

impl WholeHost {
    /// The host, or why it is none.
    pub(crate) fn host(self) -> Result<Host, String> {
        let identity_file = one_of(
            "identity_file",
            self.identity_file.as_ref(),
            self.identity_file_base64.as_ref(),
        )?;
        let config_file =
            one_of("ssh_config", self.ssh_config.as_ref(), self.ssh_config_base64.as_ref())?;
        self.with(identity_file, config_file).map_err(|error| error.to_string())
    }

    fn with(
        self,
        identity_file: Option<OsString>,
        config_file: Option<OsString>,
    ) -> Result<Host, HostError> {
        let mut host = Host::new(self.name)?;
        if let Some(address) = self.address {
            host = host.address(address)?;
        }
        if let Some(port) = self.port {
            host = host.port(port)?;
        }
        if let Some(user) = self.user {
            host = host.user(user)?;
        }
        if let Some(file) = identity_file {
            host = host.identity_file(file)?;
        }
        if let Some(file) = config_file {
            host = host.config_file(file)?;
        }
        self.options.into_iter().try_fold(host, |host, (key, value)| host.any_option(key, value))
    }
}

/// Bytes as an object has them: as text where they are, else in base64, under a key of its own.
fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.into_bytes()))),
    }
}

/// The bytes of such a pair, of which there is one at most. The second key is that of the first
/// with `_base64` behind it.
fn one_of(
    key: &str,
    text: Option<&String>,
    base64: Option<&String>,
) -> Result<Option<OsString>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{key} and {key}_base64: give one of them")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(text)) => of_base64(key, text).map(|bytes| Some(OsString::from_vec(bytes))),
        (None, None) => Ok(None),
    }
}

fn of_base64(key: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("{key}_base64: not base64: {error}"))
}

/// What every request that concerns a host can say beside it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    /// Where the client stands.
    pub place: Option<PlaceSpec>,
    /// The settings of the pool.
    pub settings: Option<Settings>,
    /// The client's `SSH_AUTH_SOCK`, for a login that the request causes; empty for none, the
    /// agent's own when it is left out.
    pub auth_sock: Option<String>,
}

impl Origin {
    /// The place that the request is answered in: the client's, or the agent's own. `Err` says in
    /// one line what is wrong with it.
    pub(crate) fn place(self) -> Result<Place, String> {
        let mut place = match self.place {
            Some(place) => place.place()?,
            None => Place {
                directory: Some("/".into()),
                given: Some(Given { whole: true, ..Given::default() }),
                ..Place::default()
            },
        };
        if let (Some(path), Some(given)) = (self.auth_sock, &mut place.given) {
            if !path.is_empty() && (!path.starts_with('/') || path.contains('\0')) {
                return Err("auth_sock: expected an absolute path, or \"\" for none".to_owned());
            }
            given.variables.remove(OsStr::new("SSH_AUTH_SOCK"));
            if !path.is_empty() {
                given.variables.insert("SSH_AUTH_SOCK".into(), path.into());
            }
        }
        Ok(place)
    }
}

/// The settings of a pool, but for those that each command has by itself. What is left out is as
/// the agent was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_connections: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connect_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_checks: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check_interval_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sessions_per_connection: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acquire_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standby_sessions: Option<usize>,
    /// Whether `connect_timeout_ms` counts though the ssh_config's `ConnectTimeout` is longer: so
    /// it does where it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep_connect_timeout: Option<bool>,
}

impl From<&PoolConfig> for Settings {
    fn from(config: &PoolConfig) -> Self {
        let ms = |time: Duration| Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        Settings {
            max_connections: Some(config.max_connections),
            idle_timeout_ms: ms(config.idle_timeout),
            connect_timeout_ms: ms(config.connect_timeout),
            health_checks: Some(config.health_checks),
            health_check_interval_ms: ms(config.health_check_interval),
            sessions_per_connection: Some(config.sessions_per_connection),
            acquire_timeout_ms: ms(config.acquire_timeout),
            standby_sessions: Some(config.standby_sessions),
            keep_connect_timeout: Some(config.keep_connect_timeout),
        }
    }
}

impl Settings {
    /// These settings, and the others' where there are none.
    pub(crate) fn over(&self, default: &PoolConfig) -> PoolConfig {
        let time = |ms: Option<u64>, default: Duration| ms.map_or(default, Duration::from_millis);
        PoolConfig {
            max_connections: self.max_connections.unwrap_or(default.max_connections),
            idle_timeout: time(self.idle_timeout_ms, default.idle_timeout),
            connect_timeout: time(self.connect_timeout_ms, default.connect_timeout),
            health_checks: self.health_checks.unwrap_or(default.health_checks),
            health_check_interval: time(
                self.health_check_interval_ms,
                default.health_check_interval,
            ),
            sessions_per_connection: self
                .sessions_per_connection
                .unwrap_or(default.sessions_per_connection),
            acquire_timeout: time(self.acquire_timeout_ms, default.acquire_timeout),
            standby_sessions: self.standby_sessions.unwrap_or(default.standby_sessions),
            keep_connect_timeout: self
                .keep_connect_timeout
                .unwrap_or(self.connect_timeout_ms.is_some() || default.keep_connect_timeout),
            command_timeout: default.command_timeout,
            max_output: default.max_output,
        }
    }
}

/// A command to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exec {
    pub host: HostSpec,
    /// Shell text…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command_base64: Option<String>,
    /// … or a program and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argv: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    argv_base64: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env_base64: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cwd_base64: Option<String>,
    /// What it reads: text, or any bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_base64: Option<String>,
    /// With frames: what it reads comes in frames.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_stream: bool,
    /// 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Of each stream, for an answer that has all output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<usize>,
    /// The name of a lease: the connection to run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_sock: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<PlaceSpec>,
}

/// A connection that is held for a client.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Leased {
    /// Its name, for commands that are to run on it.
    pub lease: String,
    #[serde(flatten)]
    pub connected: Connected,
}

/// Shell text, or a program and its arguments.
pub(crate) enum What {
    Text(OsString),
    Words(Vec<OsString>),
}

impl Exec {
    /// The same, on the connection that this lease holds.
    pub(crate) fn over(self, lease: Option<&str>) -> Self {
        Exec { lease: lease.map(str::to_owned), ..self }
    }

    /// What the program asks for: shell text, with frames. What it reads comes in frames, too.
    pub(crate) fn new(
        host: &Host,
        text: OsString,
        reads: bool,
        timeout: Option<Duration>,
        origin: Origin,
    ) -> Self {
        // 0 is none, and the shortest limit is over before it is looked at.
        let ms = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let (command, command_base64) = text_or_base64(text.into_vec());
        Exec {
            host: HostSpec::Whole(host.into()),
            command,
            command_base64,
            argv: None,
            argv_base64: None,
            env: BTreeMap::new(),
            env_base64: BTreeMap::new(),
            cwd: None,
            cwd_base64: None,
            stdin: None,
            stdin_base64: None,
            stdin_stream: reads,
            timeout_ms: Some(timeout.map_or(0, ms)),
            max_output_bytes: None,
            lease: None,
            settings: origin.settings,
            auth_sock: origin.auth_sock,
            place: origin.place,
        }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin {
            place: self.place.clone(),
            settings: self.settings.clone(),
            auth_sock: self.auth_sock.clone(),
        }
    }

    /// What is to be run.
    pub(crate) fn what(&self) -> Result<What, String> {
        let text = one_of("command", self.command.as_ref(), self.command_base64.as_ref())?;
        let argv = match (&self.argv, &self.argv_base64) {
            (Some(_), Some(_)) => return Err("argv and argv_base64: give one of them".to_owned()),
            (Some(words), None) => Some(words.iter().map(OsString::from).collect()),
            (None, Some(words)) => {
                let words =
                    words.iter().map(|word| of_base64("argv", word).map(OsString::from_vec));
                Some(words.collect::<Result<_, _>>()?)
            }
            (None, None) => None,
        };
        match (text, argv) {
            (Some(text), None) => Ok(What::Text(text)),
            (None, Some(words)) => Ok(What::Words(words)),
            _ => Err("give either command or argv".to_owned()),
        }
    }

    /// Its variables.
    pub(crate) fn env(&self) -> Result<BTreeMap<OsString, OsString>, String> {
        let mut all: BTreeMap<OsString, OsString> =
            self.env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        for (name, value) in &self.env_base64 {
            let value = OsString::from_vec(of_base64("env", value)?);
            if all.insert(name.into(), value).is_some() {
                return Err(format!("env and env_base64: both have {name:?}"));
            }
        }
        Ok(all)
    }

    /// Its working directory.
    pub(crate) fn cwd(&self) -> Result<Option<OsString>, String> {
        one_of("cwd", self.cwd.as_ref(), self.cwd_base64.as_ref())
    }

    /// The bytes that it reads.
    pub(crate) fn input(&self) -> Result<Option<Vec<u8>>, String> {
        let input = one_of("stdin", self.stdin.as_ref(), self.stdin_base64.as_ref())?;
        Ok(input.map(OsString::into_vec))
    }
}

/// A connection that is wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connect {
    pub host: HostSpec,
    /// Keep a session of it for the process that asks, until that ends: it is going to use the
    /// control socket.
    #[serde(default)]
    pub hold: bool,
    /// Try now: what has failed before is forgotten.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retry: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    settings: Option<Settings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth_sock: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<PlaceSpec>,
}

impl Connect {
    pub(crate) fn new(host: &Host, hold: bool, retry: bool, origin: Origin) -> Self {
        let Origin { place, settings, auth_sock } = origin;
        Connect { host: HostSpec::Whole(host.into()), hold, retry, settings, auth_sock, place }
    }

    pub(crate) fn origin(&self) -> Origin {
        Origin {
            place: self.place.clone(),
            settings: self.settings.clone(),
            auth_sock: self.auth_sock.clone(),
        }
    }
}

/// A connection that is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Connected {
    /// The process id of its control master.
    pub pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    control_path_base64: Option<String>,
    /// Whatever is asked for there may run a forced command.
    #[serde(default)]
    pub forced: bool,
}

impl Connected {
    pub(crate) fn of(lease: &Lease) -> Self {
        let path = lease.control_path().as_os_str().to_owned();
        let (control_path, control_path_base64) = text_or_base64(path.into_vec());
        Connected {
            pid: lease.master_pid(),
            control_path,
            control_path_base64,
            forced: lease.is_silent(),
        }
    }

    /// Where its control socket is. An agent says it rightly; what is none is no path.
    pub(crate) fn control_path(&self) -> std::path::PathBuf {
        let path =
            one_of("control_path", self.control_path.as_ref(), self.control_path_base64.as_ref());
        path.ok().flatten().unwrap_or_default().into()
    }
}

/// The connections that a host's next command could run on, by the process ids of their control
/// masters.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Masters {
    pub pids: Vec<u32>,
}

/// What ssh asks somebody while it logs in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Whose login it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    pub prompt: String,
    /// "confirm" for a yes or no, "none" for something to be done (touch a key); otherwise an
    /// answer is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Connections that are not wanted any more.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    #[serde(default)]
    pub hosts: Vec<HostSpec>,
    #[serde(default)]
    pub all: bool,
    /// Commands that run are ended at once.
    #[serde(default)]
    pub now: bool,
}

/// The agent is to end. One of another version must be able to read it: what it does not know it
/// passes over.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stop {
    #[serde(default)]
    pub now: bool,
    /// Commands that run may go on to their ends.
    #[serde(default)]
    pub drain: bool,
    /// Not if it is of this version: another client has replaced the old one in the meantime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless_version: Option<String>,
}

/// What there is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub agent: About,
    pub connections: Vec<ConnectionInfo>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct About {
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub idle_timeout_ms: u64,
    /// Clients that are connected, beside the one that asks.
    pub clients: usize,
    pub commands: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct KnownHost {
    pub name: String,
    pub connections: usize,
}

/// Bytes as an object has them: as text where they are, else in base64.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Streams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
}

impl Streams {
    pub(crate) fn both(stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Streams::new(Some(stdout), Some(stderr))
    }

    fn new(stdout: Option<Vec<u8>>, stderr: Option<Vec<u8>>) -> Self {
        let encoded = |bytes: Option<Vec<u8>>| bytes.map_or((None, None), text_or_base64);
        let ((stdout, stdout_base64), (stderr, stderr_base64)) = (encoded(stdout), encoded(stderr));
        Streams { stdout, stdout_base64, stderr, stderr_base64 }
    }

    pub(crate) fn of_stdout(bytes: Vec<u8>) -> Self {
        Streams::new(Some(bytes), None)
    }

    pub(crate) fn of_stderr(bytes: Vec<u8>) -> Self {
        Streams::new(None, Some(bytes))
    }

    /// Standard output and standard error.
    pub(crate) fn bytes(self) -> (Vec<u8>, Vec<u8>) {
        let decoded = |text: Option<String>, base64: Option<String>| match (text, base64) {
            (Some(text), _) => text.into_bytes(),
            // The agent's own; if it is none there is nothing to be had.
            (None, Some(text)) => STANDARD.decode(text).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        (decoded(self.stdout, self.stdout_base64), decoded(self.stderr, self.stderr_base64))
    }
}

/// How a command ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Its status, 0 to 255; null when a signal ended it.
    pub exit_code: Option<i32>,
}

impl Ended {
    pub(crate) fn status(&self) -> ExitStatus {
        self.exit_code.map_or_else(ExitStatus::killed, ExitStatus::exited)
    }
}

/// The answer to a command that was run to its end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Finished {
    #[serde(flatten)]
    pub ended: Ended,
    #[serde(flatten)]
    pub streams: Streams,
}

/// The last frame of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum End {
    // The first that fits is taken, and a status may be left out.
    Failed(Refusal),
    Ended(Ended),
}

/// What an answer that is no success has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub error: Box<Problem>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Problem {
    #[serde(flatten)]
    pub cause: Cause,
    /// One line: host, what was tried, why it failed.
    pub message: String,
    /// Whether the command provably did not run.
    pub never_started: bool,
    /// What had been written until then, where the answer has all output.
    #[serde(flatten)]
    pub partial: Streams,
}

/// Why something was not done.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Cause {
    /// The request is not one, or has a value that is not valid.
    Invalid,
    /// There is no such path.
    NotFound,
    /// The path is there, but not with this method.
    WrongMethod,
    /// The request has begun, and did not come to its end in time.
    TooSlow,
    /// The request is longer than the agent takes.
    TooLarge,
    /// More commands, or pools with different settings, than the agent takes.
    TooMany,
    /// More clients than the agent takes.
    TooManyClients,
    /// The agent is about to end: another one can be asked in a moment.
    Leaving,
    /// The agent is of another version than the client.
    OtherVersion,
    /// More has to be known of the client's place: these variables, by names and patterns, or all
    /// of the environment.
    Place {
        variables: std::collections::BTreeSet<String>,
        whole: bool,
    },
    /// The client stands where the agent cannot: with another root, in other namespaces, with other
    /// ids.
    Elsewhere,
    Connect {
        host: String,
        cause: ConnectErrorKind,
        detail: String,
        /// What to do about it, with `HOST` for the name of the host.
        #[serde(default)]
        advice: Option<String>,
        #[serde(default)]
        ssh_output: Vec<String>,
        /// Nothing was tried for this answer: how long ago it was, and when it will be again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tried_ms_ago: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next_try_in_ms: Option<u64>,
    },
    Exhausted {
        host: String,
        port: u16,
        max_connections: usize,
    },
    Closed {
        host: String,
    },
    NeverStarted {
        host: String,
        reason: String,
    },
    Lost {
        host: String,
        reason: String,
    },
    TimedOut {
        host: String,
        after_ms: u64,
        /// Why it may still run there; null when it was ended.
        may_live_on: Option<String>,
    },
    OutputLimit {
        host: String,
        stream: String,
        limit_bytes: usize,
        may_live_on: Option<String>,
    },
    /// Something on this machine: no more processes or descriptors, for instance.
    Local {
        host: String,
        reason: String,
    },
}

impl Refusal {
    /// Of the request itself, or of the agent.
    pub(crate) fn new(cause: Cause, message: impl Into<String>) -> Self {
        let message = message.into();
        let problem = Problem { cause, message, never_started: true, partial: Streams::default() };
        Refusal { error: Box::new(problem) }
    }

    /// Of a frame of a command that ran already.
    pub(crate) fn in_a_frame(message: String) -> Self {
        let mut refusal = Refusal::new(Cause::Invalid, message);
        refusal.error.never_started = false;
        refusal
    }

    /// Of a command whose output is with the client already.
    pub(crate) fn without_output(mut self) -> Self {
        self.error.partial = Streams::default();
        self
    }

    pub(crate) fn of(error: &Error, host: &str) -> Self {
        let host = host.to_owned();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        // Who reads this has no pool to call.
        let error = &match error {
            Error::Connect { host: name, source } => {
                Error::Connect { host: name.clone(), source: source.clone().for_program(&host) }
            }
            other => other.clone(),
        };
        let left = |remote: &Remote| match remote {
            Remote::Ended => None,
            Remote::MayLiveOn(reason) => Some(reason.to_string()),
        };
        let mut output = Streams::default();
        if let Error::Lost { partial, .. }
        | Error::TimedOut { partial, .. }
        | Error::OutputLimit { partial, .. } = error
        {
            output = Streams::both(partial.stdout.clone(), partial.stderr.clone());
        }
        let cause = match error {
            Error::Host(_) | Error::Config(_) | Error::InvalidCommand { .. } => Cause::Invalid,
            Error::Connect { source, .. } => Cause::Connect {
                host,
                cause: source.kind(),
                detail: source.detail().to_owned(),
                advice: source.advice().map(str::to_owned),
                ssh_output: source.ssh_output().to_vec(),
                tried_ms_ago: source.tried_ago().map(ms),
                next_try_in_ms: source.next_try_in().map(ms),
            },
            Error::Exhausted { key, max, .. } => Cause::Exhausted {
                host: key.name().to_owned(),
                port: key.port(),
                max_connections: *max,
            },
            Error::Closed { .. } => Cause::Closed { host },
            Error::NeverStarted { reason, .. } => {
                Cause::NeverStarted { host, reason: reason.clone() }
            }
            Error::Lost { reason, .. } => Cause::Lost { host, reason: reason.clone() },
            Error::TimedOut { after, remote, .. } => Cause::TimedOut {
                host,
                after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                may_live_on: left(remote),
            },
            Error::OutputLimit { stream, limit, remote, .. } => Cause::OutputLimit {
                host,
                stream: (*stream).to_owned(),
                limit_bytes: *limit,
                may_live_on: left(remote),
            },
            Error::SshNotFound | Error::Io { .. } | Error::Failed { .. } | Error::Killed { .. } => {
                let text = error.to_string();
                let reason = text.strip_prefix(&format!("{host}: ")).unwrap_or(&text).to_owned();
                Cause::Local { host, reason }
            }
        };
        let (message, never_started) = (error.to_string(), error.never_started());
        Refusal { error: Box::new(Problem { cause, message, never_started, partial: output }) }
    }

    /// Another agent can be asked in a moment.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.error.cause, Cause::Leaving)
    }

    /// What the pool of this process would have given.
    pub(crate) fn into_error(self, host: &Host) -> Error {
        let Problem { cause, message, partial, .. } = *self.error;
        let name = host.name().to_owned();
        let remote = |left: Option<String>| match left {
            None => Remote::Ended,
            Some(reason) => Remote::MayLiveOn(reason.into()),
        };
        let (stdout, stderr) = partial.bytes();
        let partial = Arc::new(PartialOutput { stdout, stderr });
        match cause {
            Cause::Connect {
                cause,
                detail,
                advice,
                ssh_output,
                tried_ms_ago,
                next_try_in_ms,
                ..
            } => {
                let mut source = ConnectError::new(cause, detail, ssh_output).advising(advice);
                if let (Some(ago), Some(next)) = (tried_ms_ago, next_try_in_ms) {
                    let (ago, next) = (Duration::from_millis(ago), Duration::from_millis(next));
                    source = source.remembered(ago, next).for_program(&name);
                }
                Error::Connect { host: name, source }
            }
            Cause::Exhausted { max_connections, .. } => {
                Error::Exhausted { key: host.key(), max: max_connections, last_failure: None }
            }
            Cause::Closed { .. } => Error::Closed { host: name },
            Cause::NeverStarted { reason, .. } => Error::NeverStarted { host: name, reason },
            Cause::Lost { reason, .. } => Error::Lost { host: name, reason, partial },
            Cause::TimedOut { after_ms, may_live_on, .. } => Error::TimedOut {
                host: name,
                after: Duration::from_millis(after_ms),
                remote: remote(may_live_on),
                partial,
            },
            Cause::OutputLimit { stream, limit_bytes, may_live_on, .. } => Error::OutputLimit {
                host: name,
                stream: if stream == "stderr" { "stderr" } else { "stdout" },
                limit: limit_bytes,
                remote: remote(may_live_on),
                partial,
            },
            Cause::Invalid => {
                let prefix = format!("{name}: cannot run the command: ");
                let reason = message.strip_prefix(&prefix).unwrap_or(&message).to_owned();
                Error::InvalidCommand { host: name, reason }
            }
            Cause::Local { reason, .. } => Error::io(&name, "the agent", io::Error::other(reason)),
            Cause::NotFound
            | Cause::WrongMethod
            | Cause::TooSlow
            | Cause::TooLarge
            | Cause::TooMany
            | Cause::TooManyClients
            | Cause::Leaving
            | Cause::Place { .. }
            | Cause::Elsewhere
            | Cause::OtherVersion => Error::NeverStarted { host: name, reason: message },
        }
    }
}

// ---- frames ----

/// A frame: a byte that says what it is, three of 0, the length in four bytes (the highest first),
/// and so many bytes. As Docker's engine has them.
pub(crate) mod frame {
    /// To the agent: input, of any length. One without bytes is its end.
    pub(crate) const STDIN: u8 = 0;
    /// To the client: output.
    pub(crate) const STDOUT: u8 = 1;
    pub(crate) const STDERR: u8 = 2;
    /// To the client, the last one: how it ended, in JSON.
    pub(crate) const END: u8 = 3;
    /// To the client: the command has begun.
    pub(crate) const STARTED: u8 = 4;
    /// To the agent: end the command. The last frame comes when that is done. Closing this side of
    /// the connection does the same, and is heard even where input is on its way that the command
    /// does not read.
    pub(crate) const KILL: u8 = 5;
    /// To the client: somebody is to be asked. To the agent: the answer.
    pub(crate) const QUESTION: u8 = 6;
    pub(crate) const ANSWER: u8 = 7;
}

pub(crate) const FRAME_HEADER: usize = 8;
/// The longest that is read as a whole.
pub(crate) const LONGEST_FRAME: usize = 1 << 20;

/// The header of a frame of so many bytes.
pub(crate) fn header(kind: u8, length: usize) -> [u8; FRAME_HEADER] {
    let length = u32::try_from(length).expect("a frame is shorter than its bound");
    let [a, b, c, d] = length.to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// Writes one frame.
pub(crate) async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    kind: u8,
    bytes: &[u8],
) -> io::Result<()> {
    let mut frame = Vec::with_capacity(FRAME_HEADER + bytes.len());
    frame.extend_from_slice(&header(kind, bytes.len()));
    frame.extend_from_slice(bytes);
    to.write_all(&frame).await?;
    to.flush().await
}

/// Reads one frame into `bytes`, and gives its kind; `None` at the end between two frames. Not
/// cancel safe.
pub(crate) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    bytes: &mut Vec<u8>,
) -> io::Result<Option<u8>> {
    let mut header = [0; FRAME_HEADER];
    if from.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut header[1..]).await?;
    let [kind, _, _, _, length @ ..] = header;
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    bytes.resize(length, 0);
    from.read_exact(bytes).await?;
    Ok(Some(kind))
}
