//! Where a client stands, as it tells the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::host::place::{Given, LARGEST_ENVIRONMENT, Needs, Place, TABLE};

/// Where a client stands. What is left out is as it is for the agent: the directory `/`, and an
/// environment that says nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PlaceSpec {
    /// An absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<Bytes>,
    /// Variables that are set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Bytes>,
    /// Names and patterns of which all variables that are set are in `environment`, beyond those
    /// that always are.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub told: BTreeSet<String>,
    /// `environment` is all of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// The ssh that the client's PATH leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Bytes>,
    /// The client has a terminal, on which ssh would ask.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// See [`super::standing`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standing: Option<String>,
}

/// Bytes in JSON: text where they are text, and else `{"base64": "…"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub OsString);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum BytesForm {
    Text(String),
    Base64 { base64: String },
}

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => to.serialize_str(text),
            None => BytesForm::Base64 { base64: STANDARD.encode(self.0.as_bytes()) }.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bytes = match BytesForm::deserialize(from)? {
            BytesForm::Text(text) => text.into_bytes(),
            BytesForm::Base64 { base64 } => STANDARD.decode(base64).map_err(de::Error::custom)?,
        };
        if bytes.contains(&0) {
            return Err(de::Error::custom("it has a NUL byte"));
        }
        Ok(Bytes(OsString::from_vec(bytes)))
    }
}

impl PlaceSpec {
    /// That of this process, as much of it as always counts.
    pub(crate) fn here(standing: String) -> Self {
        let mut place = PlaceSpec {
            directory: std::env::current_dir().ok().map(|path| Bytes(path.into())),
            ssh: crate::openssh::Program::find().ok().map(|found| Bytes(found.path().into())),
            terminal: std::fs::File::open("/dev/tty").is_ok(),
            standing: Some(standing),
            ..PlaceSpec::default()
        };
        let rows: Vec<String> = TABLE.iter().map(|(row, _)| (*row).to_owned()).collect();
        place.add(&rows);
        place
    }

    /// What of this process's environment is needed beyond that.
    pub(crate) fn tell(&mut self, needs: &Needs) {
        self.whole |= needs.whole;
        if self.whole {
            self.add(&["*".to_owned()]);
        } else {
            let patterns: Vec<String> = needs.variables.iter().cloned().collect();
            self.add(&patterns);
            self.told.extend(patterns);
        }
    }

    fn add(&mut self, patterns: &[String]) {
        for (name, value) in Place::own().matching(patterns, &mut Needs::default()) {
            // A name that is no text nobody asks for.
            if let Ok(name) = name.into_string() {
                self.environment.insert(name, Bytes(value));
            }
        }
    }

    /// `Err` says in one line what is wrong with it.
    pub(super) fn place(self) -> Result<Place, String> {
        let absolute =
            |what: &str, path: Option<Bytes>| match path.map(|path| PathBuf::from(path.0)) {
                Some(path) if !path.is_absolute() => {
                    Err(format!("place: {what}: expected an absolute path"))
                }
                path => Ok(path),
            };
        let length: usize =
            self.environment.iter().map(|(name, value)| name.len() + value.0.len()).sum();
        if length > LARGEST_ENVIRONMENT {
            return Err(format!("place: environment: more than {LARGEST_ENVIRONMENT} bytes"));
        }
        if let Some(name) =
            self.environment.keys().find(|name| name.is_empty() || name.contains(['=', '\0']))
        {
            return Err(format!("place: environment: {name:?} is not a name of a variable"));
        }
        Ok(Place {
            directory: absolute("directory", self.directory)?,
            ssh: absolute("ssh", self.ssh)?,
            terminal: self.terminal,
            given: Some(Given {
                variables: self
                    .environment
                    .into_iter()
                    .map(|(name, value)| (name.into(), value.0))
                    .collect(),
                told: self.told,
                whole: self.whole,
            }),
        })
    }
}
