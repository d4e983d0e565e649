//! What an examination collects, and what it gives at the end.

use serde::{Serialize, Serializer};

use super::finding::{Finding, Status};
use crate::error::Error;
use crate::openssh::{Limit, Resolved};

/// Whether commands can run on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Works,
    /// No command can run, because the time ran out.
    TimedOut,
    /// No command can run, for another reason.
    Fails,
}

impl Verdict {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            Error::TimedOut { .. } => Verdict::TimedOut,
            _ => Verdict::Fails,
        }
    }
}

/// The whole of an examination. Its JSON is an interface: see `docs/cli.md`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub host: String,
    #[serde(rename = "ok", serialize_with = "works")]
    pub verdict: Verdict,
    pub checks: Vec<Finding>,
    pub facts: Facts,
}

fn works<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(*verdict == Verdict::Works)
}

impl Report {
    /// Whether something is not as it should be that something can be done about.
    pub(crate) fn has_advice(&self) -> bool {
        self.checks.iter().any(|finding| finding.status != Status::Ok && finding.todo.is_some())
    }
}

/// Facts that a program may want. Those that were not found out are `null`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Facts {
    pub ssh: Ssh,
    pub hostname: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub proxy: Option<String>,
    /// What the server calls itself.
    pub server: Option<String>,
    pub kex: Option<String>,
    pub host_key: Option<String>,
    /// `posix`, `shell` (another one) or `silent`.
    pub account: Option<&'static str>,
    /// The whole connect.
    pub connect_ms: Option<f64>,
    /// The median of some commands that do nothing.
    pub command_ms: Option<f64>,
    /// How many sessions at once the server opened on one connection.
    pub sessions: Option<usize>,
    /// Whether the server opens no more than that. Otherwise no more were asked for.
    pub sessions_limited: Option<bool>,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Ssh {
    pub path: Option<String>,
    pub version: Option<String>,
}

impl Facts {
    pub(super) fn resolve(&mut self, resolved: &Resolved) {
        self.hostname = Some(resolved.destination.hostname.clone());
        self.port = Some(resolved.destination.port);
        self.user = Some(resolved.user.clone());
        self.proxy.clone_from(&resolved.destination.proxy);
    }

    pub(super) fn limit(&mut self, limit: Limit) {
        let (sessions, limited) = match limit {
            Limit::Is(sessions) => (sessions, true),
            Limit::AtLeast(sessions) => (sessions, false),
        };
        self.sessions = Some(sessions);
        self.sessions_limited = Some(limited);
    }
}

/// Collects the findings, and shows each of them to the observer.
pub(super) struct Recorder<'a> {
    observe: &'a mut dyn FnMut(&Finding),
    findings: Vec<Finding>,
    pub facts: Facts,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(observe: &'a mut dyn FnMut(&Finding)) -> Self {
        Recorder { observe, findings: Vec::new(), facts: Facts::default() }
    }

    pub(super) fn add(&mut self, finding: Finding) {
        (self.observe)(&finding);
        self.findings.push(finding);
    }

    /// Whether this check was made and has failed.
    pub(super) fn has_failed(&self, check: &str) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.check == check && finding.status == Status::Failed)
    }

    pub(super) fn report(self, host: &str, verdict: Verdict) -> Report {
        let Recorder { findings, facts, .. } = self;
        Report { host: host.to_owned(), verdict, checks: findings, facts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_shown_at_once_and_reported_at_the_end() {
        let mut seen = Vec::new();
        let mut observe = |finding: &Finding| seen.push(finding.check);
        let mut recorder = Recorder::new(&mut observe);
        recorder.add(Finding::ok("ssh", "9.2"));
        recorder.add(Finding::failed("name", "unknown").todo("check it"));
        assert!(recorder.has_failed("name") && !recorder.has_failed("ssh"));
        let report = recorder.report("web1", Verdict::Fails);
        assert_eq!(seen, ["ssh", "name"]);
        assert!(report.has_advice());
        let json = serde_json::to_value(&report).expect("it is JSON");
        assert_eq!((&json["host"], &json["ok"]), (&"web1".into(), &false.into()));
        assert_eq!(json["checks"][1]["todo"], "check it");
        assert!(json["facts"]["port"].is_null() && json.get("verdict").is_none());
    }
}
