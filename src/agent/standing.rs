//! What of a process's place an agent cannot take upon itself: the root directory, the namespaces,
//! the ids. The agent answers only for clients that stand where it does; the others use pools of
//! their own.
//!
//! The agent writes its standing into its directory, so that a client can compare without asking. A
//! request carries the client's, for the case that another agent has come in between.

use std::fmt::Write;
use std::os::unix::fs::MetadataExt;

use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{getegid, geteuid};
use serde::{Deserialize, Serialize};

/// What an agent writes into its directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// Root directory, namespaces and ids, in one line.
    pub place: String,
    /// How much of each resource it may use, at most.
    limits: Vec<u64>,
}

/// More descriptors than all clients and connections of an agent need.
pub(crate) const DESCRIPTORS: u64 = 65_536;

impl Standing {
    /// That of this process.
    pub(crate) fn own() -> Self {
        Standing { place: place(), limits: limits() }
    }

    /// Whether an agent that stands so would hold this process back: it may use less of something,
    /// and more of nothing.
    pub(crate) fn holds_back(&self, client: &Standing) -> bool {
        let pairs = || self.limits.iter().zip(&client.limits);
        self.limits.len() == client.limits.len()
            && pairs().all(|(agent, client)| agent <= client)
            && pairs().any(|(agent, client)| agent < client)
    }
}

fn place() -> String {
    let mut text = String::new();
    if let Ok(root) = std::fs::metadata("/") {
        let _ = write!(text, "root={}:{} ", root.dev(), root.ino());
    }
    for namespace in ["net", "mnt", "user", "uts"] {
        if let Ok(link) = std::fs::read_link(format!("/proc/self/ns/{namespace}")) {
            let _ = write!(text, "{} ", link.display());
        }
    }
    let _ = write!(text, "uid={} gid={} groups=", geteuid(), getegid());
    let mut groups = groups();
    groups.sort_unstable();
    groups.dedup();
    for group in groups {
        let _ = write!(text, "{group},");
    }
    text
}

#[cfg(not(target_vendor = "apple"))]
fn groups() -> Vec<u32> {
    nix::unistd::getgroups().into_iter().flatten().map(nix::unistd::Gid::as_raw).collect()
}

#[cfg(target_vendor = "apple")]
fn groups() -> Vec<u32> {
    Vec::new()
}

fn limits() -> Vec<u64> {
    let hard = |resource| getrlimit(resource).map_or(u64::MAX, |(_, hard)| hard);
    let mut limits = vec![hard(Resource::RLIMIT_NOFILE).min(DESCRIPTORS)];
    limits.extend([Resource::RLIMIT_CPU, Resource::RLIMIT_FSIZE, Resource::RLIMIT_DATA].map(hard));
    #[cfg(target_os = "linux")]
    limits.extend([Resource::RLIMIT_NPROC, Resource::RLIMIT_AS].map(hard));
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_has_less_and_nothing_more_holds_back() {
        let of = |limits: &[u64]| Standing { place: String::new(), limits: limits.to_vec() };
        assert!(of(&[64, 10]).holds_back(&of(&[1024, 10])));
        assert!(!of(&[64, 10]).holds_back(&of(&[64, 10])));
        assert!(
            !of(&[64, 20]).holds_back(&of(&[1024, 10])),
            "they would replace each other for ever"
        );
        assert!(!of(&[64]).holds_back(&of(&[1024, 10])), "another version's");
        assert_eq!(Standing::own(), Standing::own());
    }
}
