//! What `ssh -G` answers: every option of ssh for one host, as its configuration has it.

use std::sync::Arc;
use std::time::Duration;

/// The answer for a host, or for a hop on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Without the options that belong to sessions.
    text: Arc<str>,
    /// Where the lines of `text` are, by their options, those of one option in their order: each
    /// command looks up many, and each host has an answer.
    lines: Box<[Line]>,
    /// The patterns of the variables that sessions send.
    pub send: Vec<String>,
}

/// Options whose value is a path, or several.
const PATHS: &[&str] = &[
    "identityfile",
    "certificatefile",
    "userknownhostsfile",
    "globalknownhostsfile",
    "revokedhostkeys",
    "identityagent",
    "forwardagent",
    "pkcs11provider",
    "securitykeyprovider",
];

/// More than anybody waits, and short enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// Words that such an option has in the place of a path.
const WORDS: &[&str] = &["none", "no", "yes", "any", "internal", "SSH_AUTH_SOCK"];

/// Options by which a program of the user's takes part in a login. (A PKCS#11 provider is loaded
/// into ssh, and sees as much as a program.)
const PROGRAMS: &[&str] = &["proxycommand", "knownhostscommand", "pkcs11provider"];

/// An option and its value, with one blank between them or nothing behind the option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    option: (usize, usize),
    end: usize,
}

impl Line {
    fn option(self, text: &str) -> &str {
        &text[self.option.0..self.option.1]
    }

    fn value(self, text: &str) -> &str {
        text[self.option.1..self.end].trim_start_matches(' ')
    }
}

impl Answer {
    pub(super) fn new(answered: &str) -> Self {
        let (mut text, mut send, mut lines) = (String::new(), Vec::new(), Vec::new());
        for line in answered.lines().map(str::trim_end) {
            match line.strip_prefix("sendenv ") {
                Some(pattern) => send.push(pattern.to_owned()),
                None => {
                    let (start, option) = (text.len(), line.find(' ').unwrap_or(line.len()));
                    text.push_str(line);
                    lines.push(Line { option: (start, start + option), end: text.len() });
                    text.push('\n');
                }
            }
        }
        lines.sort_by(|one, other| one.option(&text).cmp(other.option(&text)));
        Answer { text: text.into(), lines: lines.into(), send }
    }

    pub(crate) fn text(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The first value of an option, by its name in small letters.
    pub(crate) fn value(&self, option: &str) -> Option<&str> {
        self.values(option).next()
    }

    pub(crate) fn values<'a>(&'a self, option: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let text = &*self.text;
        let first = self.lines.partition_point(|line| line.option(text) < option);
        let behind = self.lines.partition_point(|line| line.option(text) <= option);
        self.lines[first..behind].iter().map(|line| line.value(text))
    }

    fn is(&self, option: &str, value: &str) -> bool {
        self.value(option).is_some_and(|found| found.eq_ignore_ascii_case(value))
    }

    /// The user, the host and the port of the login.
    pub(crate) fn destination(&self) -> Option<(&str, &str, u16)> {
        Some((self.value("user")?, self.value("hostname")?, self.value("port")?.parse().ok()?))
    }

    /// Whether some value is made of the hops on the way (`%j`, and `%C`, which has it in it).
    pub(crate) fn mentions_hops(&self) -> bool {
        let of_sessions = ["controlpath", "localcommand", "remotecommand"];
        let mut others =
            self.lines.iter().filter(|line| !of_sessions.contains(&line.option(&self.text)));
        others.any(|line| ["%j", "%C"].iter().any(|it| line.value(&self.text).contains(it)))
    }

    /// Hops on the way, the one that is connected to first first.
    pub(crate) fn hops(&self) -> Vec<&str> {
        match self.value("proxyjump") {
            None => Vec::new(),
            Some(value) if value.eq_ignore_ascii_case("none") => Vec::new(),
            Some(value) => value.split(',').collect(),
        }
    }

    /// Whether a program of the user's takes part.
    pub(crate) fn runs_a_program(&self) -> bool {
        PROGRAMS
            .iter()
            .any(|option| self.values(option).any(|value| !value.eq_ignore_ascii_case("none")))
    }

    /// Whether the connection goes another way than straight over TCP.
    pub(crate) fn has_proxy(&self) -> bool {
        let is_set =
            |option| self.value(option).is_some_and(|value| !value.eq_ignore_ascii_case("none"));
        is_set("proxyjump") || is_set("proxycommand")
    }

    pub(crate) fn has_gssapi(&self) -> bool {
        ["gssapiauthentication", "gssapikeyexchange"].iter().any(|option| self.is(option, "yes"))
    }

    pub(crate) fn is_batch(&self) -> bool {
        self.is("batchmode", "yes")
    }

    /// Whether sessions get at the caller's ssh-agent.
    pub(crate) fn forwards_agent(&self) -> bool {
        self.value("forwardagent").is_some_and(|value| !value.eq_ignore_ascii_case("no"))
    }

    /// Whether a login puts keys into the caller's ssh-agent.
    pub(crate) fn adds_keys(&self) -> bool {
        self.value("addkeystoagent").is_some_and(|value| !["false", "no"].contains(&value))
    }

    /// Whether the ssh-agent is that of the environment.
    pub(crate) fn uses_auth_sock(&self) -> bool {
        self.value("identityagent").is_none_or(|value| value == "SSH_AUTH_SOCK")
    }

    /// The ssh-agent of the configuration, as it is written there.
    pub(crate) fn identity_agent(&self) -> Option<&str> {
        self.value("identityagent").filter(|value| !["SSH_AUTH_SOCK", "none"].contains(value))
    }

    /// What `ConnectTimeout` allows for each attempt to connect.
    pub(crate) fn connect_timeout(&self) -> Option<Duration> {
        let seconds = self.value("connecttimeout").and_then(|value| value.parse().ok());
        seconds.map(Duration::from_secs)
    }

    /// What `ConnectTimeout` and `ConnectionAttempts` allow for a login. ssh waits a second between
    /// two attempts.
    pub(crate) fn allows(&self) -> Option<Duration> {
        const PAUSE: Duration = Duration::from_secs(1);
        let attempts: u32 =
            self.value("connectionattempts").and_then(|value| value.parse().ok()).unwrap_or(1);
        let each = self.connect_timeout()?.min(LONGEST);
        Some((each + PAUSE).saturating_mul(attempts.max(1)).min(LONGEST) - PAUSE)
    }

    /// The names of variables that it leaves for ssh to expand at a login.
    pub(crate) fn variables(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut rest = &*self.text;
        while let Some((_, behind)) = rest.split_once("${") {
            let (name, after) = behind.split_once('}').unwrap_or((behind, ""));
            // A name has no line break; then it was no variable.
            if !name.contains('\n') {
                names.push(name);
            }
            rest = after;
        }
        for option in ["identityagent", "forwardagent"] {
            let named = self.value(option).and_then(|value| value.strip_prefix('$'));
            names.extend(named.filter(|name| !name.starts_with('{')));
        }
        names
    }

    /// Whether some path is relative to the caller's directory. `variable` gives what stands first
    /// in a path that begins with a variable.
    pub(crate) fn has_relative_path(
        &self,
        mut variable: impl FnMut(&str) -> Option<String>,
    ) -> bool {
        let mut is_relative = |path: &str| match path.as_bytes().first() {
            None | Some(b'/' | b'~') => false,
            _ if WORDS.contains(&path) || path.starts_with("%d") => false,
            Some(b'$') => {
                let name = path[1..].trim_start_matches('{');
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let value = variable(&name[..end.unwrap_or(name.len())]);
                value.is_none_or(|value| !value.starts_with(['/', '~']))
            }
            _ => true,
        };
        PATHS
            .iter()
            .flat_map(|option| self.values(option))
            // A path with blanks looks like several, and is relative sooner than not.
            .any(|value| value.split_whitespace().any(|path| is_relative(path.trim_matches('"'))))
    }

    /// Files by which it is decided whether the server is the right one.
    pub(crate) fn known_hosts(&self) -> impl Iterator<Item = &str> {
        let lists = ["userknownhostsfile", "globalknownhostsfile", "revokedhostkeys"];
        lists.into_iter().flat_map(|option| self.values(option)).flat_map(str::split_whitespace)
    }

    /// Files with what is shown to the server.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        ["identityfile", "certificatefile"].into_iter().flat_map(|option| self.values(option))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn of(text: &str) -> Answer {
        Answer::new(text)
    }

    #[test]
    fn options_of_sessions_stand_aside() {
        let answer = of("user lab\nsendenv LANG\nport 22\nsendenv LC_*\nhostname h\n");
        assert_eq!(answer.send, ["LANG", "LC_*"]);
        assert_eq!(
            answer,
            Answer { send: answer.send.clone(), ..of("user lab\nport 22\nhostname h\n") }
        );
        assert_eq!(answer.destination(), Some(("lab", "h", 22)));
    }

    #[rstest]
    #[case("identityfile ~/.ssh/id_rsa\nuserknownhostsfile /a /b\n", false)]
    #[case("identityfile %d/x\nidentityagent SSH_AUTH_SOCK\nsecuritykeyprovider internal\n", false)]
    #[case("identityfile key\n", true)]
    #[case("identityfile %h.key\n", true)]
    #[case("userknownhostsfile /a b\n", true)]
    #[case("identityfile ${ABSOLUTE}/key\nforwardagent $ABSOLUTE\n", false)]
    #[case("identityfile ${RELATIVE}/key\n", true)]
    #[case("certificatefile ${MISSING}\n", true)]
    #[case("proxycommand ./px\n", false)]
    fn relative_paths_are_seen(#[case] text: &str, #[case] is_relative: bool) {
        let variable = |name: &str| match name {
            "ABSOLUTE" => Some("/x".to_owned()),
            "RELATIVE" => Some("x".to_owned()),
            _ => None,
        };
        assert_eq!(of(text).has_relative_path(variable), is_relative);
    }

    #[test]
    fn variables_are_named() {
        let answer =
            of("identityfile a/${A}/${B}\nforwardagent $FA\nidentityagent ${C}\nuser x${\n");
        assert_eq!(answer.variables(), ["A", "B", "C", "FA"]);
    }

    #[rstest]
    #[case("", false)]
    #[case("proxycommand none\n", false)]
    #[case("proxycommand nc %h %p\n", true)]
    #[case("knownhostscommand /x\n", true)]
    #[case("proxyjump a\n", false)]
    fn programs_are_seen(#[case] text: &str, #[case] runs: bool) {
        assert_eq!(of(text).runs_a_program(), runs);
    }

    #[test]
    fn times_are_read() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let answer = of("connecttimeout 30\nconnectionattempts 3\n");
        assert_eq!((answer.connect_timeout(), answer.allows()), (seconds(30), seconds(92)));
        assert_eq!(of("connecttimeout 7\n").allows(), seconds(7));
        assert_eq!(of("connecttimeout none\nconnectionattempts 3\n").allows(), None);
        let endless =
            of("connecttimeout 18446744073709551615\nconnectionattempts 4294967295\n").allows();
        assert!(endless.is_some_and(|time| time <= LONGEST), "{endless:?}");
    }
}
