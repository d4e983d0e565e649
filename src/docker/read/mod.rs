//! What Compose prints for programs.

#[cfg(test)]
mod tests;
mod values;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

pub use values::{ContainerState, Project, ProjectStatus, Publisher, Service, Status};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object for each project")]
struct RawProject {
    name: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    config_files: String,
}

/// Reads the answer of `docker compose ls --format json`: one array.
pub(super) fn projects(text: &str) -> Result<Vec<Project>, String> {
    let text = without_greeting(text);
    let raw: Vec<RawProject> =
        first(text).map_err(|error| format!("{error} in {}", shown(text)))?;
    let project = |raw: RawProject| Project {
        name: raw.name,
        status: Status::from_counts(&raw.status),
        detail: raw.status,
        from_stdin: raw.config_files.split(',').any(|file| file == "-"),
        config_files: files(&raw.config_files),
    };
    Ok(raw.into_iter().map(project).collect())
}

/// Paths with commas between them. They are absolute, so that what does not begin with `/` belongs
/// to the path before it; `-` was standard input, and `N/A` is what Compose says of containers
/// without that label.
fn files(list: &str) -> Vec<String> {
    let mut files: Vec<String> = Vec::new();
    for part in list.split(',') {
        match (part, files.last_mut()) {
            ("-" | "N/A" | "", _) => {}
            (part, Some(path)) if !part.starts_with('/') => *path = format!("{path},{part}"),
            (part, _) => files.push(part.to_owned()),
        }
    }
    files
}

/// The JSON at the beginning. Behind it a provider of Compose may say something more.
fn first<T: DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter();
    // Without any there is the error of an end that came too early.
    values.next().unwrap_or_else(|| serde_json::from_str(""))
}

/// Start-up files of the account can print before Docker does. Where nothing looks like an answer
/// it is left as it is, to be reported.
fn without_greeting(text: &str) -> &str {
    let begins = |line: &str| ["{\"", "[{", "[]"].iter().any(|text| line.starts_with(text));
    let is_answer = |line: &str| begins(line) || line.trim_end() == "[";
    let before = text.split_inclusive('\n').take_while(|line| !is_answer(line)).map(str::len).sum();
    if before < text.len() { &text[before..] } else { text }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object for each container")]
struct RawService {
    service: String,
    #[serde(default)]
    name: String,
    state: String,
    #[serde(default)]
    health: String,
    #[serde(default)]
    exit_code: Option<i32>,
    #[serde(default, deserialize_with = "null_is_empty")]
    publishers: Vec<RawPublisher>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an object for each port")]
struct RawPublisher {
    #[serde(default, rename = "URL")]
    url: String,
    #[serde(default)]
    published_port: u16,
    target_port: u16,
    #[serde(default)]
    protocol: String,
}

fn null_is_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<RawPublisher>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl From<RawService> for Service {
    fn from(raw: RawService) -> Self {
        let state = ContainerState::from_word(&raw.state);
        let ended = matches!(state, ContainerState::Exited | ContainerState::Dead);
        let publisher = |raw: RawPublisher| Publisher {
            address: Some(raw.url).filter(|url| !url.is_empty() && raw.published_port > 0),
            published_port: Some(raw.published_port).filter(|&port| port > 0),
            target_port: raw.target_port,
            protocol: raw.protocol,
        };
        Service {
            name: raw.service,
            container: raw.name,
            health: Some(raw.health).filter(|health| !health.is_empty()),
            exit_code: raw.exit_code.filter(|_| ended),
            // A range that is only exposed is told as port 0.
            publishers: raw
                .publishers
                .into_iter()
                .filter(|raw| raw.target_port > 0)
                .map(publisher)
                .collect(),
            state,
        }
    }
}

/// Reads the answer of `docker compose ps --format json` in both of its shapes: one array (until
/// Compose 2.20), or one object in each line. Lines behind the first object that are no object are
/// somebody's notices.
pub(super) fn project_status(project: &str, text: &str) -> ProjectStatus {
    let text = without_greeting(text);
    let (mut services, mut unreadable) = (Vec::new(), Vec::new());
    let mut take = |place: String, part: serde_json::Result<RawService>, source: &str| match part {
        Ok(raw) => services.push(Service::from(raw)),
        Err(error) => unreadable.push(format!("{place}: {error} in {}", shown(source))),
    };
    match first::<Vec<serde_json::Value>>(text) {
        Ok(values) => {
            for (index, value) in values.into_iter().enumerate() {
                let source = value.to_string();
                take(format!("entry {}", index + 1), serde_json::from_value(value), &source);
            }
        }
        Err(_) => {
            let begins = |line: &str| line.trim_start().starts_with('{');
            let is_answer = text.lines().any(begins);
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            for (index, line) in lines.filter(|(_, line)| begins(line) || !is_answer) {
                take(format!("line {}", index + 1), serde_json::from_str(line), line);
            }
        }
    }
    let status = match unreadable.is_empty() {
        true => Status::of(services.iter().map(|service| service.state.clone())),
        false => Status::Unknown,
    };
    ProjectStatus { project: project.to_owned(), status, services, unreadable }
}

/// A piece of an answer for a message.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    let text = crate::text::printable(text);
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
