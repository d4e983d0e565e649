//! What the figures were measured on.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::common::process;
use crate::common::sshd::{Kind, Sshd};
use crate::lab::Lab;
use crate::peers::Peer;

/// Lines for the document: what it is, and which one.
pub type Facts = Vec<(String, String)>;

pub async fn facts(sshd: &Sshd, lab: &Lab<'_>, peers: &[Peer]) -> Facts {
    let mut facts = Facts::new();
    let mut fact = |name: &str, value: Option<String>| {
        facts.push((name.to_owned(), value.unwrap_or_else(|| "unknown".to_owned())));
    };
    fact("date", said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]));
    fact("processor", processor());
    fact("cores", std::thread::available_parallelism().ok().map(|cores| cores.to_string()));
    fact("kernel", said("uname", &["-sr"]));
    fact(
        "load averages after the build",
        fs::read_to_string("/proc/loadavg").ok().as_deref().map(load),
    );
    fact("sshpool", Some(format!("{}, {}", env!("CARGO_PKG_VERSION"), commit())));
    fact("ssh", said("ssh", &["-V"]));
    fact("sshd", lab.banner().await);
    fact("sshd runs in", Some(home_of(sshd)));
    fact("login shell", shell(sshd));
    fact("key exchange", lab.kex());
    for package in ["openssh", "openssh-mux-client"] {
        fact(&format!("{package} crate"), locked(package));
    }
    for peer in peers {
        match (peer.driver(), peer.missing()) {
            (Some(driver), _) => {
                driver
                    .hello
                    .versions
                    .iter()
                    .for_each(|(name, version)| fact(name, Some(version.clone())));
                let no_delay = if driver.hello.no_delay { "on" } else { "off" };
                fact(&format!("TCP_NODELAY of {}", peer.kind.name()), Some(no_delay.to_owned()));
            }
            (None, Some(why)) => fact(peer.kind.name(), Some(why.to_owned())),
            (None, None) => {}
        }
    }
    fact("rustc", said("rustc", &["--version"]));
    facts
}

/// The first line that a program says. `ssh -V` says it on stderr.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
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
fn load(text: &str) -> String {
    text.split_whitespace().take(3).collect::<Vec<_>>().join(", ")
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

fn home_of(sshd: &Sshd) -> String {
    match sshd.kind() {
        Kind::Container(engine) => format!("a container of {engine}, on the host's network"),
        Kind::Process => "a process of whoever ran this".to_owned(),
    }
}

fn shell(sshd: &Sshd) -> Option<String> {
    let ended = sshd.exec("readlink -f \"$(getent passwd \"$(id -un)\" | cut -d : -f 7)\"");
    (ended.code() == 0).then(|| ended.stdout.trim().to_owned())
}

/// The version of a crate that this program was built with.
fn locked(package: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).ok()?;
    let lock: toml::Table = text.parse().ok()?;
    let is_it =
        |entry: &&toml::Value| entry.get("name").and_then(toml::Value::as_str) == Some(package);
    let entry = lock.get("package")?.as_array()?.iter().find(is_it)?;
    Some(entry.get("version")?.as_str()?.to_owned())
}
