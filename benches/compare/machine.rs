//! What the figures were measured on, beside what every benchmark says of it.

use std::fs;
use std::path::Path;

use crate::lab::Lab;
use crate::peers::Peer;
use crate::support::common::sshd::Sshd;
use crate::support::facts::{Facts, said};

pub async fn facts(sshd: &Sshd, lab: &Lab<'_>, peers: &[Peer]) -> Facts {
    let mut facts = Facts::of(sshd);
    facts.add("sshd", lab.banner().await);
    facts.add("login shell", shell(sshd));
    facts.add("key exchange", lab.kex());
    for package in ["openssh", "openssh-mux-client"] {
        facts.add(&format!("{package} crate"), locked(package));
    }
    for peer in peers {
        match (peer.driver(), peer.missing()) {
            (Some(driver), _) => {
                for (name, version) in &driver.hello.versions {
                    facts.add(name, Some(version.clone()));
                }
                let no_delay = if driver.hello.no_delay { "on" } else { "off" };
                let name = format!("TCP_NODELAY of {}", peer.kind.name());
                facts.add(&name, Some(no_delay.to_owned()));
            }
            (None, Some(why)) => facts.add(peer.kind.name(), Some(why.to_owned())),
            (None, None) => {}
        }
    }
    facts.add("rustc", said("rustc", &["--version"]));
    facts
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
