//! What is told, as it is found, or at the end as one object.

use std::io;

use serde::Serialize;

use super::finding::{Finding, Status};
use crate::cli::{Failure, colour, print_json, write};
use crate::openssh::{Limit, Resolved};
use crate::pool::signals;

pub(super) struct Report {
    json: bool,
    colours: bool,
    findings: Vec<Finding>,
    pub facts: Facts,
}

/// What a program may want to know. What was not found out is `null`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Facts {
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
    /// Whether that is all that it opens. Otherwise no more were asked for.
    pub sessions_limited: Option<bool>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Ssh {
    pub path: Option<String>,
    pub version: Option<String>,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Whole<'a> {
    host: &'a str,
    /// Whether commands can run.
    ok: bool,
    checks: &'a [Finding],
    facts: &'a Facts,
}

impl Report {
    pub(super) fn new(json: bool) -> Self {
        let colours = colour::wanted(&io::stdout());
        Report { json, colours, findings: Vec::new(), facts: Facts::default() }
    }

    pub(super) async fn tell(&mut self, finding: Finding) -> Result<(), Failure> {
        unless_ending().await;
        if !self.json {
            write(finding.lines(self.colours)).await?;
        }
        self.findings.push(finding);
        Ok(())
    }

    /// Whether this was looked at and has failed.
    pub(super) fn has_failed(&self, check: &str) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.check == check && finding.status == Status::Failed)
    }

    /// The last line, or the object.
    pub(super) async fn end(self, host: &str, ok: bool) -> Result<(), Failure> {
        unless_ending().await;
        let Report { json, colours, findings, facts } = self;
        if json {
            return print_json(&Whole { host, ok, checks: &findings, facts: &facts }).await;
        }
        let warnings = findings
            .iter()
            .filter(|finding| finding.status != Status::Ok && finding.todo.is_some())
            .count();
        let verdict = match (ok, warnings) {
            (false, _) => {
                colour::Colour::Red.paint(format_args!("{host}: no command can run"), colours)
            }
            (true, 0) => {
                colour::Colour::Green.paint(format_args!("{host}: commands can run"), colours)
            }
            (true, _) => colour::Colour::Yellow.paint(
                format_args!("{host}: commands can run; see what is not as it should be"),
                colours,
            ),
        };
        write(format!("{verdict}\n")).await
    }
}

/// A signal closes the pool, and that is all that would be found then. The handler ends the
/// process.
async fn unless_ending() {
    if signals::is_ending() {
        std::future::pending::<()>().await;
    }
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
