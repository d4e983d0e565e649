//! How a request names a host.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::encoding::{one_of, text_or_base64};
use crate::host::{Host, HostError};

/// A host, by what is written for it (which the agent looks up in its configuration file), or in
/// full.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum HostSpec {
    Name(String),
    Whole(WholeHost),
}

impl HostSpec {
    /// The name, or what was written for it.
    pub(crate) fn name(&self) -> &str {
        match self {
            HostSpec::Name(name) => name,
            HostSpec::Whole(host) => &host.name,
        }
    }
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forced_command: Option<bool>,
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
            forced_command: host.get_forced_command(),
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
        if let Some(is_forced) = self.forced_command {
            host = host.forced_command(is_forced);
        }
        self.options.into_iter().try_fold(host, |host, (key, value)| host.any_option(key, value))
    }
}
