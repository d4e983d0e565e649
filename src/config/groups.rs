//! The `[groups]` of the file: names for sets of hosts, which may name each other.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::advice::advice;
use super::file::{Reader, Value, in_file_order, written_key};
use super::{Config, ConfigError};
use crate::host::set::{HostSet, HostSetError, Item, read};
use crate::host::shortened;

/// How deep groups may be nested.
const DEEPEST: usize = 32;

impl Config {
    /// Reads hosts, ranges of them (see [`HostSet`]) and groups of this configuration:
    /// `web[1-3],@db`.
    ///
    /// # Errors
    ///
    /// For what is neither a host nor a group of this configuration, and for more than
    /// [`MOST_HOSTS`](crate::MOST_HOSTS).
    pub fn host_set(&self, text: &str) -> Result<HostSet, HostSetError> {
        let mut set = HostSet::new();
        for item in read(text)? {
            match item {
                Item::Host(host) => set.insert(host)?,
                Item::Group(name) => match self.groups.get(&name) {
                    Some(group) => set.add(group)?,
                    None => return Err(unknown(&name, self.groups.keys())),
                },
            }
        }
        Ok(set)
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> HostSetError {
    let known: Vec<&str> = known.map(String::as_str).collect();
    let advice = if known.is_empty() {
        "the configuration file has no [groups]".to_owned()
    } else {
        advice(name, &known)
    };
    HostSetError::UnknownGroup { name: shortened(name), advice }
}

/// What the file says of a group: hosts and groups, each with its place.
type Members = Vec<(Item, Range<usize>)>;

impl Reader<'_> {
    pub(super) fn groups(
        &self,
        table: &DeTable<'_>,
    ) -> Result<BTreeMap<String, HostSet>, ConfigError> {
        let mut written = BTreeMap::new();
        let mut order = Vec::new();
        for (key, value) in in_file_order(table) {
            let name = key.get_ref();
            let place = format!("groups.{}", written_key(name));
            let word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || !name.chars().all(word) {
                let reason =
                    "the name of a group is made of letters, digits, \".\", \"_\" and \"-\"";
                return Err(self.error(key.span(), format!("{place}: {reason}")));
            }
            written.insert(name.to_string(), self.members(&place, value)?);
            order.push(name.to_string());
        }
        let mut resolved = BTreeMap::new();
        for name in order {
            self.resolve(&name, &written, &mut resolved, &mut Vec::new())?;
        }
        Ok(resolved)
    }

    /// One text, or a list of such.
    fn members(&self, place: &str, value: &Value<'_>) -> Result<Members, ConfigError> {
        const EXPECTED: &str = "hosts in quotes, such as \"web[1-3],db1\", or a list of such";
        let texts = match value.get_ref() {
            DeValue::String(_) => vec![value],
            DeValue::Array(values) => values.iter().collect(),
            _ => return Err(self.invalid(place, value, EXPECTED)),
        };
        let mut members = Vec::new();
        for value in texts {
            let text =
                value.get_ref().as_str().ok_or_else(|| self.invalid(place, value, EXPECTED))?;
            let items = read(text)
                .map_err(|error| self.error(value.span(), format!("{place}: {error}")))?;
            members.extend(items.into_iter().map(|item| (item, value.span())));
        }
        Ok(members)
    }

    /// Resolves a group, after the groups that it names. `path` has the groups that led to it.
    fn resolve(
        &self,
        name: &str,
        written: &BTreeMap<String, Members>,
        resolved: &mut BTreeMap<String, HostSet>,
        path: &mut Vec<String>,
    ) -> Result<(), ConfigError> {
        if resolved.contains_key(name) {
            return Ok(());
        }
        path.push(name.to_owned());
        let mut set = HostSet::new();
        for (item, span) in &written[name] {
            let wrong = |reason: String| {
                self.error(span.clone(), format!("groups.{}: {reason}", written_key(name)))
            };
            match item {
                Item::Host(host) => set.insert(host.clone()),
                Item::Group(other) if !written.contains_key(other) => {
                    Err(unknown(other, written.keys()))
                }
                Item::Group(other) => {
                    if let Some(start) = path.iter().position(|name| name == other) {
                        let way: Vec<String> = path[start..]
                            .iter()
                            .chain([other])
                            .map(|name| format!("@{name}"))
                            .collect();
                        return Err(wrong(format!(
                            "a group that has itself in it: {}",
                            way.join(" in ")
                        )));
                    }
                    if path.len() == DEEPEST {
                        return Err(wrong(format!(
                            "groups are in each other more than {DEEPEST} deep"
                        )));
                    }
                    self.resolve(other, written, resolved, path)?;
                    set.add(&resolved[other])
                }
            }
            .map_err(|error| wrong(error.to_string()))?;
        }
        path.pop();
        resolved.insert(name.to_owned(), set);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use rstest::rstest;

    fn config(text: &str) -> Result<Config, ConfigError> {
        Config::from_toml(text, Path::new("config.toml"))
    }

    #[test]
    fn groups_name_hosts_and_each_other() {
        let text = "
            [groups]
            all = ['@web', '@db', 'bastion']
            web = 'web[1-3],web2'
            db = 'deploy@db[1-2]:2222'
            rack1 = ['web1', 'db1']
            rack2 = 'web2'
            nobody = ''
            none = []
        ";
        let config = config(text).expect("valid");
        let set =
            |text: &str| config.host_set(text).expect("known").iter().cloned().collect::<Vec<_>>();
        assert_eq!(
            set("@all"),
            ["web1", "web2", "web3", "deploy@db1:2222", "deploy@db2:2222", "bastion"]
        );
        assert_eq!(set("x[1-2],@rack[1-2],web1"), ["x1", "x2", "web1", "db1", "web2"]);
        assert_eq!(set("@nobody @none"), [""; 0]);
        let error = |text: &str| config.host_set(text).expect_err("unknown").to_string();
        assert_eq!(error("@webs"), "unknown group \"webs\": did you mean \"web\"?");
        let known = "all, db, nobody, none, rack1, rack2, web";
        assert_eq!(
            error("@kitchen"),
            format!("unknown group \"kitchen\": expected one of {known}")
        );
        let error = Config::default().host_set("@web").expect_err("unknown").to_string();
        assert_eq!(error, "unknown group \"web\": the configuration file has no [groups]");
    }

    #[rstest]
    #[case::no_hosts(
        "[groups]\nweb = 5",
        "config.toml:2: groups.web: 5 is not valid: expected hosts in quotes, such as \
            \"web[1-3],db1\", or a list of such"
    )]
    #[case::no_text(
        "[groups]\nweb = [\n'a',\n1]",
        "config.toml:4: groups.web: 1 is not valid: expected hosts in quotes"
    )]
    #[case::table(
        "[groups.web]\nhosts = 'a'",
        "config.toml:1: groups.web: a table is not valid: expected hosts"
    )]
    #[case::groups(
        "groups = 'web1'",
        "config.toml:1: groups: \"web1\" is not valid: expected a table, [groups]"
    )]
    #[case::host(
        "[groups]\nweb = ['a',\n'-b[1-2]']",
        "config.toml:3: groups.web: invalid host name \"-b1\": it must not start with \"-\""
    )]
    #[case::range(
        "[groups]\nweb = 'a['",
        "config.toml:2: groups.web: invalid hosts \"a[\": a bracket is not closed"
    )]
    #[case::many(
        "[groups]\nweb = 'a[1-99999]'",
        "config.toml:2: groups.web: \"a[1-99999]\" makes it more than 65536 hosts"
    )]
    #[case::many_together(
        "[groups]\na = 'a[1-60000]'\nb = 'b[1-60000]'\nc = '@a,@b'",
        "config.toml:4: groups.c: \"b5537\" makes it more than 65536 hosts"
    )]
    #[case::name(
        "[groups]\n'a b' = 'web1'",
        "config.toml:2: groups.\"a b\": the name of a group is made of"
    )]
    #[case::at(
        "[groups]\n'@web' = 'web1'",
        "config.toml:2: groups.\"@web\": the name of a group is made of"
    )]
    #[case::unknown(
        "[groups]\nweb = 'a'\n\nall = 'b,@wep'",
        "config.toml:4: groups.all: unknown group \"wep\": did you mean \"web\"?"
    )]
    #[case::itself(
        "[groups]\nweb = 'a,@web'",
        "config.toml:2: groups.web: a group that has itself in it: @web in @web"
    )]
    #[case::cycle(
        "[groups]\nx = '@a'\na = '@b'\nb = ['b1',\n'@c']\nc = '@a'",
        "config.toml:6: groups.c: a group that has itself in it: @a in @b in @c in @a"
    )]
    fn bad_groups(#[case] text: &str, #[case] expected: &str) {
        let message = config(text).expect_err("it is wrong").to_string();
        assert!(message.starts_with(expected), "{message}");
    }

    #[test]
    fn groups_are_in_each_other_to_a_depth() {
        let chain = |length: usize| {
            let groups: String = (1..length).map(|n| format!("g{n} = '@g{}'\n", n + 1)).collect();
            config(&format!("[groups]\n{groups}g{length} = 'web1'\n"))
        };
        assert!(chain(DEEPEST).is_ok());
        let message = chain(DEEPEST + 1).expect_err("too deep").to_string();
        assert_eq!(
            message,
            "config.toml:33: groups.g32: groups are in each other more than 32 deep"
        );
        assert!(chain(100_000).is_err());
    }
}
