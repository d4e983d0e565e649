//! A command to run.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::encoding::{of_base64, one_of, text_or_base64};
use super::place::PlaceSpec;
use super::{HostSpec, Origin, Settings};
use crate::host::Host;

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
    /// The command is the name of a subsystem of the server's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_subsystem: bool,
    /// With frames: what it reads comes in frames.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_stream: bool,
    /// 0 for no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Of each stream, for an answer that has all output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_bytes: Option<usize>,
    /// A session that runs no other command.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_session: bool,
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

/// Shell text, or a program and its arguments.
pub(crate) enum What {
    Text(OsString),
    Words(Vec<OsString>),
}

impl Exec {
    /// The same, on the connection that this lease holds, or in a session of its own.
    pub(crate) fn over(self, lease: Option<&str>, fresh_session: bool) -> Self {
        Exec { lease: lease.map(str::to_owned), fresh_session, ..self }
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
            is_subsystem: false,
            stdin_stream: reads,
            timeout_ms: Some(timeout.map_or(0, ms)),
            max_output_bytes: None,
            fresh_session: false,
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
