//! Projects and services as plain values.

use std::fmt;

use serde::{Serialize, Serializer};

/// A project, as `docker compose ls` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Project {
    /// Its name.
    pub name: String,
    /// What its containers do, taken together.
    pub status: Status,
    /// The same in Compose's own words, such as `running(2), exited(1)`.
    pub detail: String,
    /// The files that its containers were made from: paths on the host. Compose gives them for all
    /// containers together, also where a later `up` has left some of them as they were.
    pub config_files: Vec<String>,
    /// It was made from standard input, or a part of it was.
    pub from_stdin: bool,
}

/// What the containers of a project do, taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Status {
    /// All run.
    Running,
    /// Some run.
    Partial,
    /// None runs, or there are none.
    Stopped,
    /// What was said about them cannot be read.
    Unknown,
}

/// The status of a project's services, as `docker compose ps --all` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ProjectStatus {
    /// The project's name.
    pub project: String,
    /// All services taken together. [`Status::Unknown`] when a line cannot be read.
    pub status: Status,
    /// One entry for each container: a service that is scaled has several.
    pub services: Vec<Service>,
    /// The lines of the answer that cannot be read, with the reasons.
    pub unreadable: Vec<String>,
}

impl ProjectStatus {
    /// Compose has answered that there are no containers.
    pub(in crate::docker) fn is_nothing(&self) -> bool {
        self.services.is_empty() && self.unreadable.is_empty()
    }
}

/// A container of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Service {
    /// The name of the service.
    pub name: String,
    /// The name of the container.
    pub container: String,
    /// What the container does.
    pub state: ContainerState,
    /// What its health check says (`healthy`, `unhealthy`, `starting`), when it has one.
    pub health: Option<String>,
    /// The status that it exited with, when it has ended.
    pub exit_code: Option<i32>,
    /// Its ports.
    pub publishers: Vec<Publisher>,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Publisher {
    /// The address of the host that it is published on; `None` for one that is not published.
    pub address: Option<String>,
    /// The port of the host; `None` for one that is not published.
    pub published_port: Option<u16>,
    /// The port of the container.
    pub target_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// The state of a container.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// It runs.
    Running,
    /// It has ended, and is being started again.
    Restarting,
    /// Frozen.
    Paused,
    /// On its way out.
    Removing,
    /// It has ended.
    Exited,
    /// It could not be removed.
    Dead,
    /// A word that is not one of the above.
    Other(String),
}

impl ContainerState {
    pub(super) fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "created" => ContainerState::Created,
            "running" => ContainerState::Running,
            "restarting" => ContainerState::Restarting,
            "paused" => ContainerState::Paused,
            "removing" => ContainerState::Removing,
            "exited" => ContainerState::Exited,
            "dead" => ContainerState::Dead,
            other => ContainerState::Other(crate::text::printable(other)),
        }
    }

    /// Docker's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            ContainerState::Created => "created",
            ContainerState::Running => "running",
            ContainerState::Restarting => "restarting",
            ContainerState::Paused => "paused",
            ContainerState::Removing => "removing",
            ContainerState::Exited => "exited",
            ContainerState::Dead => "dead",
            ContainerState::Other(word) => word,
        }
    }
}

impl fmt::Display for ContainerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for ContainerState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Status::Running => "running",
            Status::Partial => "partial",
            Status::Stopped => "stopped",
            Status::Unknown => "unknown",
        })
    }
}

impl Status {
    pub(super) fn of(states: impl IntoIterator<Item = ContainerState>) -> Self {
        let (mut all, mut running) = (0, 0);
        for state in states {
            all += 1;
            match state {
                ContainerState::Running => running += 1,
                ContainerState::Other(_) => return Status::Unknown,
                _ => {}
            }
        }
        match running {
            0 => Status::Stopped,
            _ if running == all => Status::Running,
            _ => Status::Partial,
        }
    }

    /// Reads `running(2), exited(1)`.
    pub(super) fn from_counts(text: &str) -> Self {
        let count = |part: &str| {
            let (word, number) = part.trim().strip_suffix(')')?.split_once('(')?;
            number.parse::<u32>().ok().filter(|&number| number > 0)?;
            Some(ContainerState::from_word(word))
        };
        match text.split(',').map(count).collect::<Option<Vec<_>>>() {
            Some(states) => Status::of(states),
            None => Status::Unknown,
        }
    }
}
