//! What Compose prints for programs.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// What became of a project's services, as `docker compose ps --all` shows it.
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
    pub(super) fn is_nothing(&self) -> bool {
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
    pub state: State,
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
pub enum State {
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

impl State {
    fn from_word(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "created" => State::Created,
            "running" => State::Running,
            "restarting" => State::Restarting,
            "paused" => State::Paused,
            "removing" => State::Removing,
            "exited" => State::Exited,
            "dead" => State::Dead,
            other => State::Other(crate::text::printable(other)),
        }
    }

    /// Docker's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            State::Created => "created",
            State::Running => "running",
            State::Restarting => "restarting",
            State::Paused => "paused",
            State::Removing => "removing",
            State::Exited => "exited",
            State::Dead => "dead",
            State::Other(word) => word,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for State {
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
    fn of(states: impl IntoIterator<Item = State>) -> Self {
        let (mut all, mut running) = (0, 0);
        for state in states {
            all += 1;
            match state {
                State::Running => running += 1,
                State::Other(_) => return Status::Unknown,
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
    fn from_counts(text: &str) -> Self {
        let count = |part: &str| {
            let (word, number) = part.trim().strip_suffix(')')?.split_once('(')?;
            number.parse::<u32>().ok().filter(|&number| number > 0)?;
            Some(State::from_word(word))
        };
        match text.split(',').map(count).collect::<Option<Vec<_>>>() {
            Some(states) => Status::of(states),
            None => Status::Unknown,
        }
    }
}

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
        serde_json::from_str(text.trim()).map_err(|error| format!("{error} in {}", shown(text)))?;
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
        let state = State::from_word(&raw.state);
        let ended = matches!(state, State::Exited | State::Dead);
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
/// Compose 2.20), or one object in each line.
pub(super) fn project_status(project: &str, text: &str) -> ProjectStatus {
    let text = without_greeting(text);
    let (mut services, mut unreadable) = (Vec::new(), Vec::new());
    let mut take = |place: String, part: serde_json::Result<RawService>, source: &str| match part {
        Ok(raw) => services.push(Service::from(raw)),
        Err(error) => unreadable.push(format!("{place}: {error} in {}", shown(source))),
    };
    match serde_json::from_str::<Vec<serde_json::Value>>(text.trim()) {
        Ok(values) => {
            for (index, value) in values.into_iter().enumerate() {
                let source = value.to_string();
                take(format!("entry {}", index + 1), serde_json::from_value(value), &source);
            }
        }
        Err(_) => {
            for (index, line) in
                text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
            {
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const EXPECTED: &str = "\
        api/harbour-api-1 running - - 3000/tcp\n\
        api/harbour-api-2 running - - 3000/tcp\n\
        cache/harbour-cache-1 running unhealthy - \n\
        flaky/harbour-flaky-1 restarting - - \n\
        job/harbour-job-1 exited - 3 \n\
        killed/harbour-killed-1 exited - 137 \n\
        later/harbour-later-1 created - - \n\
        migrate/harbour-migrate-1 exited - 0 \n\
        search/harbour-search-1 running starting - \n\
        web/harbour-web-1 running healthy - 0.0.0.0:5353->53/udp,0.0.0.0:8443->443/tcp,127.0.0.1:8080->80/tcp,9000/tcp,:::5353->53/udp,:::8443->443/tcp\n\
        worker/harbour-once exited - 7 \n\
        worker/harbour-worker-1 paused - - \n";

    /// A line for each container, sorted: the versions have them in different orders.
    fn lines(services: &[Service]) -> String {
        let publisher = |port: &Publisher| match (&port.address, port.published_port) {
            (Some(address), Some(published)) => {
                format!("{address}:{published}->{}/{}", port.target_port, port.protocol)
            }
            (None, None) => format!("{}/{}", port.target_port, port.protocol),
            other => panic!("{other:?}"),
        };
        let mut lines: Vec<String> = Vec::new();
        for service in services {
            let mut ports: Vec<_> = service.publishers.iter().map(publisher).collect();
            ports.sort();
            let code = service.exit_code.map_or("-".to_owned(), |code| code.to_string());
            let health = service.health.as_deref().unwrap_or("-");
            let Service { name, container, state, .. } = service;
            lines.push(format!("{name}/{container} {state} {health} {code} {}\n", ports.join(",")));
        }
        lines.sort();
        lines.concat()
    }

    #[rstest]
    #[case::array_2_20_1(include_str!("../../tests/recorded/ps-2.20.1-array.json"))]
    #[case::array_2_20_3(include_str!("../../tests/recorded/ps-2.20.3-array.json"))]
    #[case::lines_2_21_0(include_str!("../../tests/recorded/ps-2.21.0-lines.json"))]
    #[case::lines_2_26_1(include_str!("../../tests/recorded/ps-2.26.1-lines.json"))]
    #[case::lines_2_31_0(include_str!("../../tests/recorded/ps-2.31.0-lines.json"))]
    #[case::lines_2_40_3(include_str!("../../tests/recorded/ps-2.40.3-lines.json"))]
    fn every_version_says_the_same(#[case] recorded: &str) {
        let found = project_status("harbour", recorded);
        assert_eq!(
            (&*found.project, found.status, &found.unreadable[..]),
            ("harbour", Status::Partial, &[][..])
        );
        assert_eq!(lines(&found.services), EXPECTED);
    }

    #[test]
    fn one_line_is_a_whole_document_too() {
        let found =
            project_status("notes", include_str!("../../tests/recorded/ps-2.40.3-lines-one.json"));
        assert_eq!(
            (found.status, found.services.len(), found.unreadable.len()),
            (Status::Running, 1, 0)
        );
    }

    #[rstest]
    #[case::array(include_str!("../../tests/recorded/ps-2.20.3-array-empty.json"))]
    #[case::lines(include_str!("../../tests/recorded/ps-2.21.0-lines-empty.json"))]
    fn a_project_without_containers_is_stopped(#[case] recorded: &str) {
        let found = project_status("nosuch", recorded);
        assert!(found.is_nothing() && found.status == Status::Stopped);
    }

    #[rstest]
    #[case::line("{\"Service\":\"web\",\"State\":\"running\"}\n{\"Service\":\"db\"\nWARN[0000] text\n", &["line 2: ", "line 3: "])]
    #[case::array("[{\"Service\":\"web\",\"State\":\"running\"},{\"Service\":\"db\"}]", &["entry 2: missing field `State`"])]
    #[case::kind("{\"Service\":\"web\",\"State\":\"running\"}\n{\"Service\":\"web\",\"State\":1}", &["line 2: "])]
    fn what_cannot_be_read_is_reported_and_the_rest_is_there(
        #[case] text: &str,
        #[case] reports: &[&str],
    ) {
        let found = project_status("shop", text);
        assert_eq!((found.status, found.services.len()), (Status::Unknown, 1));
        assert_eq!(found.unreadable.len(), reports.len(), "{:?}", found.unreadable);
        for (line, report) in found.unreadable.iter().zip(reports) {
            assert!(line.starts_with(report) && !line.contains('\n'), "{line}");
        }
    }

    #[rstest]
    #[case::v2_20_3(include_str!("../../tests/recorded/ls-2.20.3-all.json"))]
    #[case::v2_40_3(include_str!("../../tests/recorded/ls-2.40.3-all.json"))]
    fn projects_are_listed(#[case] recorded: &str) {
        let found = projects(recorded).expect("it can be read");
        let found: Vec<_> =
            found.iter().map(|p| (&*p.name, p.status, p.config_files.join(" "))).collect();
        let expected = [
            ("harbour", Status::Partial, "/srv/harbour/compose.yaml"),
            ("notes", Status::Running, "/srv/notes/compose.yaml /srv/notes/compose.override.yaml"),
            ("piped", Status::Running, ""),
            ("sets", Status::Stopped, "/srv/sets/docker-compose.yml"),
        ];
        assert_eq!(found, expected.map(|(name, status, files)| (name, status, files.to_owned())));
        assert!(
            projects(include_str!("../../tests/recorded/ls-2.40.3-empty.json"))
                .expect("it is empty")
                .is_empty()
        );
        assert_eq!(
            projects(include_str!("../../tests/recorded/ls-2.40.3.json"))
                .expect("it can be read")
                .len(),
            3
        );
    }

    #[rstest]
    #[case("/srv/a.yaml", &["/srv/a.yaml"], false)]
    #[case("/srv/a.yaml,/srv/b.yaml", &["/srv/a.yaml", "/srv/b.yaml"], false)]
    #[case("/srv/a, b/c.yaml,/srv/d.yaml", &["/srv/a, b/c.yaml", "/srv/d.yaml"], false)]
    #[case("/srv/a.yaml,-", &["/srv/a.yaml"], true)]
    #[case("-", &[], true)]
    #[case("N/A", &[], false)]
    #[case("", &[], false)]
    fn files_of_a_project(#[case] list: &str, #[case] files: &[&str], #[case] from_stdin: bool) {
        let text = format!(
            "Welcome!\n[{{\"Name\":\"shop\",\"Status\":\"running(1)\",\"ConfigFiles\":{list:?}}}]\n"
        );
        let found = &projects(&text).expect("it can be read")[0];
        assert_eq!(
            (&found.config_files[..], found.from_stdin),
            (files.iter().map(|f| (*f).to_owned()).collect::<Vec<_>>().as_slice(), from_stdin)
        );
    }

    #[test]
    fn a_greeting_before_the_answer_is_not_part_of_it() {
        let line = "{\"Service\":\"web\",\"State\":\"running\"}\n";
        let found = project_status("shop", &format!("[info] welcome to web1\n\n{line}{line}"));
        assert_eq!(
            (found.status, found.services.len(), found.unreadable.len()),
            (Status::Running, 2, 0)
        );
        let found = project_status("shop", "Welcome to web1\n");
        assert_eq!((found.status, found.unreadable.len()), (Status::Unknown, 1));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error_of_one_line() {
        let error = projects("[{\"Status\":\"running(1)\"}]\n\u{1b}[31m").expect_err("no name");
        assert!(error.contains("in \"[{") && !error.contains(char::is_control), "{error}");
    }

    #[rstest]
    #[case("running(2)", Status::Running)]
    #[case("running(2), exited(1)", Status::Partial)]
    #[case("exited(1), running(2)", Status::Partial)]
    #[case("paused(1), running(2)", Status::Partial)]
    #[case("exited(1)", Status::Stopped)]
    #[case("created(1), exited(3)", Status::Stopped)]
    #[case("running", Status::Unknown)]
    #[case("running(x)", Status::Unknown)]
    #[case("running(0)", Status::Unknown)]
    #[case("dreaming(1)", Status::Unknown)]
    #[case("", Status::Unknown)]
    fn counts_of_containers_are_a_status(#[case] text: &str, #[case] status: Status) {
        assert_eq!(Status::from_counts(text), status);
    }
}
