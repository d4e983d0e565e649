//! What figures were measured on.

use std::fmt::Write as _;
use std::fs;
use std::process::Stdio;

use super::common::process;
use super::common::sshd::{Kind, Sshd};

/// Lines for a document: what it is, and which one.
pub struct Facts(Vec<(String, String)>);

impl Facts {
    /// Those that every document has.
    pub fn of(sshd: &Sshd) -> Facts {
        let mut facts = Facts(Vec::new());
        facts.add("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
        facts.add("processor", processor());
        let cores = std::thread::available_parallelism();
        facts.add("cores", cores.ok().map(|cores| cores.to_string()));
        facts.add("kernel", said("uname", &["-sr"]));
        facts.add("load averages after the build", load());
        facts.add("sshpool", Some(format!("{}, {}", env!("CARGO_PKG_VERSION"), commit())));
        facts.add("ssh", said("ssh", &["-V"]));
        let runs_in = match sshd.kind() {
            Kind::Container(engine) => format!("a container of {engine}, on the host's network"),
            Kind::Process => "a process of whoever ran this".to_owned(),
        };
        facts.add("sshd runs in", Some(runs_in));
        facts
    }

    pub fn add(&mut self, name: &str, value: Option<String>) {
        self.0.push((name.to_owned(), value.unwrap_or_else(|| "unknown".to_owned())));
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(fact, _)| fact == name).map_or("unknown", |(_, value)| value)
    }

    /// The last part of a document.
    pub fn section(&self) -> String {
        let mut text = String::from("## Machine and versions\n\n| | |\n|---|---|\n");
        for (name, value) in &self.0 {
            _ = writeln!(text, "| {name} | {} |", cell(value));
        }
        text
    }
}

/// What programs say may have what a table is made of.
pub fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

/// The first line that a program says. `ssh -V` says it on stderr.
pub fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = process::outside(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let said = String::from_utf8_lossy(&said);
    output.status.success().then(|| said.lines().next().unwrap_or_default().trim().to_owned())
}

fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The averages of 1, 5 and 15 minutes.
fn load() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    Some(text.split_whitespace().take(3).collect::<Vec<_>>().join(", "))
}

fn commit() -> String {
    let Some(commit) = said("git", &["rev-parse", "--short", "HEAD"]) else {
        return "not from a repository".to_owned();
    };
    // The document itself is written by the run.
    let changed =
        said("git", &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]);
    let changed = changed.is_some_and(|line| !line.is_empty());
    format!("commit {commit}{}", if changed { " with changes" } else { "" })
}
