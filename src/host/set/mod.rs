//! Many hosts in few words: `web[01-20],db1`.
//!
//! [`HostSet`] reads the notation of pdsh, ClusterShell and Slurm and writes it again ([`fold`]).
//! What may be the name of a host is not decided here but by [`Host`]: every word that the ranges
//! stand for is read as one.

mod fold;
mod natural;
mod notation;
#[cfg(test)]
mod properties;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use crate::host::{Host, HostError, shortened};

pub use fold::fold;
pub(crate) use natural::compare;
pub(crate) use notation::{Item, read};

/// More hosts than this are a slip of the hand: `web[1-99999999]`.
pub const MOST_HOSTS: usize = 65_536;

/// Destinations, `[user@]host[:port]`, in the order in which they were named, each of them once.
///
/// Words stand between commas or blanks. Brackets have numbers and ranges: `web[1-3,7]`, with
/// leading zeros `[01-20]`, every second one `[0-8/2]`, and as many of them as are wanted:
/// `rack[1-2]-node[1-4]`. Brackets around an IPv6 address are not a range: `[::1]:2222`.
///
/// ```
/// use sshpool::HostSet;
///
/// let mut hosts: HostSet = "deploy@web[1-3]:2222, db1".parse()?;
/// hosts.remove(&"web2".parse()?);
/// assert_eq!(hosts.iter().collect::<Vec<_>>(), ["deploy@web1:2222", "deploy@web3:2222", "db1"]);
/// assert_eq!(hosts.to_string(), "db1,deploy@web[1,3]:2222");
/// # Ok::<(), sshpool::HostSetError>(())
/// ```
///
/// Groups, such as `@web`, are known to a configuration:
/// [`Config::host_set`](crate::Config::host_set).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostSet {
    hosts: Vec<String>,
    known: HashSet<String>,
}

/// Why a text does not name hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostSetError {
    /// Brackets that cannot be understood.
    #[error("invalid hosts {word:?}: {reason}")]
    Notation {
        /// The word that has them.
        word: String,
        /// What is wrong with them.
        reason: String,
    },
    /// What cannot be a host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// More than [`MOST_HOSTS`].
    #[error("{word:?} makes it more than {MOST_HOSTS} hosts")]
    TooMany {
        /// The word that was too much.
        word: String,
    },
    /// A group that is not known.
    #[error("unknown group {name:?}: {advice}")]
    UnknownGroup {
        /// Its name, without the `@`.
        name: String,
        /// The known groups, or the nearest one.
        advice: String,
    },
}

impl HostSet {
    /// No host.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether this very destination is one of them.
    pub fn contains(&self, destination: &str) -> bool {
        self.known.contains(destination)
    }

    /// The destinations. Each can be parsed as a [`Host`].
    pub fn iter(&self) -> std::slice::Iter<'_, String> {
        self.hosts.iter()
    }

    /// Adds those of another set that are not there yet.
    ///
    /// # Errors
    ///
    /// [`HostSetError::TooMany`].
    pub fn add(&mut self, others: &HostSet) -> Result<(), HostSetError> {
        others.iter().try_for_each(|host| self.insert(host.clone()))
    }

    /// Takes out what the other set names, and says how many that were. A name alone takes out that
    /// host for every user and port: who writes `web1` wants nothing to happen on web1. With a user
    /// or a port only these are meant.
    pub fn remove(&mut self, others: &HostSet) -> usize {
        let mut named: HashMap<String, Vec<Host>> = HashMap::new();
        for host in others.iter().map(|host| parsed(host)) {
            named.entry(host.name().to_owned()).or_default().push(host);
        }
        let is_meant = |host: &Host| {
            named.get(host.name()).into_iter().flatten().any(|other| {
                other.get_user().is_none_or(|user| host.get_user() == Some(user))
                    && other.get_port().is_none_or(|port| host.get_port() == Some(port))
            })
        };
        let before = self.len();
        self.hosts.retain(|host| !is_meant(&parsed(host)));
        self.known = self.hosts.iter().cloned().collect();
        before - self.len()
    }

    /// Adds what a reader has found to be a host.
    pub(crate) fn insert(&mut self, destination: String) -> Result<(), HostSetError> {
        if self.known.contains(&destination) {
            return Ok(());
        }
        if self.len() == MOST_HOSTS {
            return Err(HostSetError::TooMany { word: shortened(&destination) });
        }
        self.known.insert(destination.clone());
        self.hosts.push(destination);
        Ok(())
    }
}

fn parsed(destination: &str) -> Host {
    // UNWRAP: what is in a set was read as a host, and what a host is written as is read as the
    // same again.
    destination.parse().expect("it was a host")
}

/// Reads hosts and ranges of them; a group is an error here.
impl FromStr for HostSet {
    type Err = HostSetError;

    fn from_str(text: &str) -> Result<Self, HostSetError> {
        let mut set = HostSet::new();
        for item in read(text)? {
            match item {
                Item::Host(host) => set.insert(host)?,
                Item::Group(name) => {
                    let advice = "groups are known to a configuration only".to_owned();
                    return Err(HostSetError::UnknownGroup { name: shortened(&name), advice });
                }
            }
        }
        Ok(set)
    }
}

/// As [`fold`] has it.
impl fmt::Display for HostSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fold(&self.hosts))
    }
}

impl<'a> IntoIterator for &'a HostSet {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn set(text: &str) -> HostSet {
        text.parse().expect("hosts")
    }

    #[rstest]
    #[case::name("web1,web2,web3", "web2", "web[1,3]")]
    #[case::any_user_and_port("a@web1:22,web1,b@web1,web2", "web1", "web2")]
    #[case::one_user("a@web1:22,b@web1", "a@web1", "b@web1")]
    #[case::one_port("web1:22,web1:23,web1", "web1:23", "web1,web1:22")]
    #[case::longer_names("web1,web10", "web1", "web10")]
    #[case::range("web[1-20]", "web[3-19],db1", "web[1-2,20]")]
    #[case::address("::1,[::1]:22,::2", "::1", "::2")]
    #[case::nothing_there("web1", "web2", "web1")]
    fn removing(#[case] from: &str, #[case] what: &str, #[case] left: &str) {
        let mut hosts = set(from);
        let before = hosts.len();
        let removed = hosts.remove(&set(what));
        assert_eq!((hosts.to_string(), before - removed), (left.to_owned(), hosts.len()));
        assert!(hosts.iter().all(|host| hosts.contains(host)));
    }

    #[test]
    fn a_set_has_an_order_and_an_end() {
        let mut hosts = set("db1 web2,web1,web2\tdb1\n");
        assert_eq!(hosts.iter().collect::<Vec<_>>(), ["db1", "web2", "web1"]);
        hosts.add(&set("web3,db1")).expect("few");
        assert_eq!(hosts.to_string(), "db1,web[1-3]");
        hosts.add(&set("n[1-65532]")).expect("just as many");
        let error = hosts.add(&set("web3,one")).expect_err("one more");
        assert_eq!(error.to_string(), "\"one\" makes it more than 65536 hosts");
    }

    #[test]
    fn a_group_is_not_known_here() {
        let error = "web1,@web".parse::<HostSet>().expect_err("no groups");
        assert_eq!(
            error.to_string(),
            "unknown group \"web\": groups are known to a configuration only"
        );
    }
}
