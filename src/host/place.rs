//! The place of a caller: its directory and its environment, as far as they are known here.
//!
//! What ssh decides depends on where it is started: it reads variables by itself, its configuration
//! may name variables and relative paths, and the programs that it runs see everything. So a
//! command is answered as plain ssh would answer it in the caller's place, and two callers share a
//! connection only where their places make no difference to it ([`Sharing`]).
//!
//! A pool inside a program answers in the program's own place. The agent is told the places of its
//! clients: the variables of [`TABLE`] and the directory with each request, and more only where the
//! configuration makes more of the place matter ([`Needs`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// When a variable that ssh or one of its libraries reads by itself counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// For each login.
    Always,
    /// Where GSSAPI is on.
    Gssapi,
    /// Where ssh runs a program through the shell: ProxyCommand, ProxyJump.
    Shell,
    /// Where ssh would ask by a program of the caller's.
    Askpass,
    /// By what the ssh-agents behind the sockets hold; by the socket where it is forwarded.
    Keys,
    /// For no login by itself. The configuration of most systems has sessions send it.
    Sessions,
    /// For no login by itself. A configuration that includes files by relative paths or `~` goes by
    /// it.
    Mentioned,
}

/// The variables that are told with each request. A `*` at the end stands for any name that begins
/// so.
///
/// Sources: environment of ssh(1), ssh-agent(1), resolver(5), hostname(7), ld.so(8), the MIT
/// Kerberos and OpenSSL documentation. Test `each_variable_of_the_table_counts_as_it_says`.
pub(crate) const TABLE: &[(&str, Counts)] = &[
    ("SSH_AUTH_SOCK", Counts::Keys),
    ("SSH_SK_PROVIDER", Counts::Always),
    ("HOSTALIASES", Counts::Always),
    ("LOCALDOMAIN", Counts::Always),
    ("RES_OPTIONS", Counts::Always),
    ("LD_*", Counts::Always),
    ("OPENSSL_CONF", Counts::Always),
    ("OPENSSL_MODULES", Counts::Always),
    ("KRB5CCNAME", Counts::Gssapi),
    ("KRB5_CONFIG", Counts::Gssapi),
    ("SHELL", Counts::Shell),
    ("SSH_ASKPASS", Counts::Askpass),
    ("SSH_ASKPASS_REQUIRE", Counts::Askpass),
    ("DISPLAY", Counts::Askpass),
    ("WAYLAND_DISPLAY", Counts::Askpass),
    ("HOME", Counts::Mentioned),
    ("LANG", Counts::Sessions),
    ("LC_*", Counts::Sessions),
];

/// Variables that differ from one call to the next and say nothing of what a program does. Where a
/// program of the user's takes part in a login, callers share in spite of these, and the program
/// sees the first caller's.
pub(crate) const VOLATILE: &[&str] = &[
    "_",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "COLUMNS",
    "LINES",
    "WINDOWID",
    "TERM_SESSION_ID",
    "SSH_TTY",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "GPG_TTY",
    "TMUX_PANE",
    "STY",
    "XDG_SESSION_ID",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
];

/// An environment is not longer than a system lets it be.
pub(crate) const LARGEST_ENVIRONMENT: usize = 2 << 20;

pub(crate) type Environment = BTreeMap<OsString, OsString>;

/// Where a caller stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its directory. `None` where it has none any more.
    pub directory: Option<PathBuf>,
    /// The ssh program that its PATH leads to.
    pub ssh: Option<PathBuf>,
    /// Somebody can be asked on a terminal.
    pub terminal: bool,
    /// What is known of its environment. `None` for the environment of this process.
    pub given: Option<Given>,
}

/// The part of an environment that somebody else has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub variables: Environment,
    /// Names and patterns beyond those of the table whose variables are all there.
    pub told: BTreeSet<String>,
    /// It is the whole environment.
    pub whole: bool,
}

/// What has to be known of a place beyond what was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Names, and patterns with `*` and `?`.
    pub variables: BTreeSet<String>,
    /// The whole environment.
    pub whole: bool,
}

impl Needs {
    pub(crate) fn is_empty(&self) -> bool {
        !self.whole && self.variables.is_empty()
    }
}

impl Place {
    /// The place of this process.
    pub(crate) fn own() -> Self {
        Place { directory: std::env::current_dir().ok(), ssh: None, terminal: false, given: None }
    }

    pub(crate) fn is_own(&self) -> bool {
        self.given.is_none()
    }

    /// A variable. One that was not told is missed in `needs`.
    pub(crate) fn variable(&self, name: &OsStr, needs: &mut Needs) -> Option<OsString> {
        let Some(given) = &self.given else { return std::env::var_os(name) };
        let known = given.whole
            || is_in_table(name)
            || given.told.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()));
        if !known {
            needs.variables.insert(name.to_string_lossy().into_owned());
        }
        given.variables.get(name).cloned()
    }

    /// All variables whose names match one of these patterns. Those that were not told are missed
    /// in `needs`.
    pub(crate) fn matching(&self, patterns: &[String], needs: &mut Needs) -> Environment {
        let wanted = |name: &OsString| {
            patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
        };
        let Some(given) = &self.given else {
            return std::env::vars_os().filter(|(name, _)| wanted(name)).collect();
        };
        for pattern in patterns {
            let is_told = given.whole
                || given.told.contains(pattern)
                || TABLE.iter().any(|(row, _)| row == pattern)
                || (!pattern.contains(['*', '?']) && is_in_table(pattern.as_ref()));
            if !is_told {
                needs.variables.insert(pattern.clone());
            }
        }
        let found = given.variables.iter().filter(|(name, _)| wanted(name));
        found.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The whole environment.
    pub(crate) fn whole(&self, needs: &mut Needs) -> Environment {
        match &self.given {
            None => std::env::vars_os().collect(),
            Some(given) => {
                needs.whole |= !given.whole;
                given.variables.clone()
            }
        }
    }

    /// A path as it is meant here.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        match &self.directory {
            Some(directory) => directory.join(path),
            None => path.to_owned(),
        }
    }
}

/// Without the variables that say nothing of what a program does.
pub(crate) fn lasting(environment: &Environment) -> Environment {
    let lasting = environment.iter().filter(|(name, _)| {
        !VOLATILE.iter().any(|volatile| name.as_bytes() == volatile.as_bytes())
    });
    lasting.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn is_in_table(name: &OsStr) -> bool {
    TABLE.iter().any(|(row, _)| matches(row.as_bytes(), name.as_bytes()))
}

/// ssh's own patterns: `*` for any characters, `?` for one.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                // The last star takes one more.
                Some((star_at, taken)) => {
                    star = Some((star_at, taken + 1));
                    at = star_at + 1;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// What two callers must have in common, beside their hosts, to share a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sharing {
    hash: u64,
    parts: Arc<Vec<Part>>,
}

/// One of the things that a login depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// The program that is run as ssh.
    Ssh(PathBuf),
    /// What `ssh -G` says of the host or of one of the hops to it.
    Answer(Arc<str>),
    Variable(OsString, Option<OsString>),
    Directory(Option<PathBuf>),
    Environment(Environment),
    /// The public keys that an ssh-agent holds, sorted.
    Keys(Arc<[Vec<u8>]>),
}

impl Sharing {
    /// The same with another last part; `None` where that is the same.
    pub(crate) fn with_last(&self, part: Part) -> Option<Self> {
        let (last, others) = self.parts.split_last()?;
        (*last != part).then(|| Sharing::new([others, &[part]].concat()))
    }

    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let mut hasher = DefaultHasher::new();
        parts.hash(&mut hasher);
        Sharing { hash: hasher.finish(), parts: Arc::new(parts) }
    }
}

/// The parts themselves are compared: a hash alone would let somebody's command run as somebody
/// else some day.
impl PartialEq for Sharing {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && (Arc::ptr_eq(&self.parts, &other.parts) || self.parts == other.parts)
    }
}

impl Eq for Sharing {}

impl Hash for Sharing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("LC_*", "LC_ALL", true)]
    #[case("LC_*", "LC_", true)]
    #[case("LC_*", "LANG", false)]
    #[case("*", "", true)]
    #[case("?", "", false)]
    #[case("a*b*c", "axxbyyc", true)]
    #[case("a*b*c", "axxbyy", false)]
    #[case("A?", "AB", true)]
    #[case("A?", "ABC", false)]
    fn patterns_match_as_those_of_ssh(
        #[case] pattern: &str,
        #[case] text: &str,
        #[case] is_it: bool,
    ) {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), is_it);
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        let pattern = "*a".repeat(2000) + "b";
        assert!(!matches(pattern.as_bytes(), "a".repeat(4000).as_bytes()));
    }

    fn given(variables: &[(&str, &str)], told: &[&str]) -> Place {
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let told = told.iter().map(|&name| name.to_owned()).collect();
        Place { given: Some(Given { variables, told, whole: false }), ..Place::default() }
    }

    #[test]
    fn what_was_not_told_is_missed() {
        let place = given(&[("FOO_A", "1"), ("LANG", "C")], &["FOO_*"]);
        let mut needs = Needs::default();
        assert_eq!(place.variable("FOO_A".as_ref(), &mut needs), Some("1".into()));
        assert_eq!(place.variable("FOO_B".as_ref(), &mut needs), None);
        assert_eq!(
            place.variable("LD_PRELOAD".as_ref(), &mut needs),
            None,
            "it was told as not set"
        );
        assert_eq!(place.matching(&["LANG".into(), "LC_*".into()], &mut needs).len(), 1);
        assert!(needs.is_empty(), "{needs:?}");
        assert_eq!(place.variable("BAR".as_ref(), &mut needs), None);
        place.matching(&["B?Z".into(), "FOO_*".into()], &mut needs);
        assert_eq!(
            needs.variables.iter().collect::<Vec<_>>(),
            ["B?Z", "BAR"].iter().collect::<Vec<_>>()
        );
        assert!(!needs.whole);
        place.whole(&mut needs);
        assert!(needs.whole);
    }

    #[test]
    fn sharing_compares_what_it_was_made_of() {
        let of = |name: &str| Sharing::new(vec![Part::Variable("A".into(), Some(name.into()))]);
        assert_eq!(of("1"), of("1"));
        assert_ne!(of("1"), of("2"));
        assert_ne!(of("1"), Sharing::new(vec![Part::Variable("A".into(), None)]));
    }
}
