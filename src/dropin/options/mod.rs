//! What the options of ssh are to a connection of the pool. [`table`] has a row for each keyword of
//! `ssh_config(5)`.
//!
//! Some options concern the session alone, and the client that we become minds them. Some decide
//! where the connection goes, as whom, or how: the agent is asked for such a connection, and only
//! those who say the same share it. Some are said of the host itself (user, port, keys). Some make
//! no difference to a shared connection. What cannot be had over a shared connection, or is not
//! known here, is for plain ssh.

mod table;

use std::time::Duration;

use table::{Row, row};

/// What an option is to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dropin) enum Kind {
    /// The client minds it: it is carried by the session.
    Session,
    /// It makes no difference to a connection of the pool, which asks nobody anything, is watched
    /// over, forwards nothing and gets no further keys; or ssh itself ignores it.
    NoEffect,
    /// Part of what the agent is asked for.
    Connection,
    /// The same, and its values are files.
    Files,
    User,
    Port,
    IdentityFile,
    ConnectTimeout,
    /// Agent forwarding.
    Forwarding,
    /// Names of options that ssh is to pass over where it does not know them.
    IgnoreUnknown,
    /// Plain ssh has to do it, for this reason.
    Plain(&'static str),
}

/// Those that can be said several times, and then add up.
pub(in crate::dropin) const ADD_UP: &[&str] = &["certificatefile", "identityfile"];

/// Whether an option, in small letters, is one of the table that ssh itself knows here.
pub(in crate::dropin) fn is_known(option: &str) -> bool {
    row(option).is_some_and(|row| cfg!(target_os = "macos") || !matches!(row, Row::Apple))
}

/// Where the value has no part in what this option is: what it is. `option` in small letters.
pub(in crate::dropin) fn kind_of_all(option: &str) -> Option<Kind> {
    match row(option) {
        Some(Row::Is(kind @ (Kind::Session | Kind::NoEffect))) => Some(kind),
        _ => None,
    }
}

/// `option` in small letters, with its value.
pub(in crate::dropin) fn kind(option: &str, value: &str) -> Kind {
    let lower = value.to_ascii_lowercase();
    let is = |words: &[&str]| words.contains(&&*lower);
    match row(option) {
        Some(Row::Is(kind)) => kind,
        Some(Row::Off(_)) if is(&["no", "false"]) => Kind::NoEffect,
        Some(Row::None(_)) if is(&["none"]) => Kind::Connection,
        Some(Row::Off(why) | Row::None(why)) => Kind::Plain(why),
        Some(Row::ControlPath) if is(&["none"]) => Kind::Plain("no shared connection is wanted"),
        Some(Row::ControlPath) => Kind::NoEffect,
        Some(Row::SessionType) if is(&["none"]) => {
            Kind::Plain("over a shared connection there is always a session")
        }
        Some(Row::SessionType) => Kind::Session,
        // The pool's own way, to accept new ones, is stricter than all others but these.
        Some(Row::StrictHostKeyChecking) if is(&["yes", "true", "ask"]) => Kind::Connection,
        Some(Row::StrictHostKeyChecking) => Kind::NoEffect,
        // Whom the keys let in, they let in by these ways too; without them it would be somebody
        // else.
        Some(Row::PubkeyAuthentication) if is(&["yes", "true"]) => Kind::NoEffect,
        Some(Row::PreferredAuthentications) if lower.split(',').any(|way| way == "publickey") => {
            Kind::NoEffect
        }
        Some(Row::PubkeyAuthentication | Row::PreferredAuthentications) => Kind::Connection,
        Some(Row::Apple) if cfg!(target_os = "macos") => Kind::Connection,
        Some(Row::Apple) => Kind::Plain("only Apple's ssh knows it"),
        None => Kind::Plain("it is not known here whether it can be shared"),
    }
}

/// Whether one of the patterns of an `IgnoreUnknown` is for this option, which is in small letters.
pub(in crate::dropin) fn is_ignored(patterns: &str, option: &str) -> bool {
    let mut is = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern)
                if matches(pattern.to_ascii_lowercase().as_bytes(), option.as_bytes()) =>
            {
                return false;
            }
            Some(_) => {}
            None => is |= matches(pattern.to_ascii_lowercase().as_bytes(), option.as_bytes()),
        }
    }
    is
}

/// As ssh matches: `*` and `?`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // Where to go on when what stands behind the last star does not match: one byte further.
    let (mut at, mut of, mut star) = (0, 0, None);
    while of < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[of] => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((place, from)) = star else { return false };
                star = Some((place, from + 1));
                (at, of) = (place + 1, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The keyword of the value of `-o`, in small letters; empty for what begins with none.
pub(in crate::dropin) fn keyword(text: &str) -> String {
    let text = text.trim_start_matches([' ', '\t', '\r']);
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    text[..end].to_ascii_lowercase()
}

/// Reads the value of `-o`: an option in small letters, and its value without the quotes around it.
/// `None` for what is not simple.
pub(in crate::dropin) fn read(text: &str) -> Option<(String, String)> {
    let text = text.trim_matches([' ', '\t', '\r']);
    let end = text.find(|c: char| !c.is_ascii_alphanumeric())?;
    let (option, rest) = text.split_at(end);
    let rest = rest.trim_start_matches([' ', '\t']);
    let separated = rest.len() < text.len() - end;
    let rest = match rest.strip_prefix('=') {
        Some(value) => value.trim_start_matches([' ', '\t']),
        None if separated => rest,
        None => return None,
    };
    let value = match rest.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"')?,
        None => rest,
    };
    // Comments, other quotes and what is taken from the environment.
    let is_simple = !value.is_empty()
        && !value.contains(['"', '\'', '\\', '#', '$'])
        && !value.contains(char::is_control);
    // Several words in quotes are one, and without them several.
    let is_one_word = rest.len() == value.len() || !value.contains(char::is_whitespace);
    let option = option.to_ascii_lowercase();
    (!option.is_empty() && is_simple && (is_one_word || option == "identityfile"))
        .then(|| (option, value.to_owned()))
}

/// As ssh reads a time: seconds, or with a unit. `None` where there is no limit, or it is not read.
pub(in crate::dropin) fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => (&text[..end], &text[end..]),
        None => (text, "s"),
    };
    let number: u64 = number.parse().ok().filter(|number| (1..100_000).contains(number))?;
    match unit {
        "s" | "S" => Some(Duration::from_secs(number)),
        "m" | "M" => Some(Duration::from_secs(60 * number)),
        "h" | "H" => Some(Duration::from_secs(3600 * number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Port=22", Some(("port", "22")))]
    #[case("Port 22", Some(("port", "22")))]
    #[case(" port =\t22 ", Some(("port", "22")))]
    #[case("Port= 22", Some(("port", "22")))]
    #[case("User=\"root\"", Some(("user", "root")))]
    #[case("User \"root\"", Some(("user", "root")))]
    #[case("IdentityFile=\"/a b\"", Some(("identityfile", "/a b")))]
    #[case("UserKnownHostsFile=/a /b", Some(("userknownhostsfile", "/a /b")))]
    #[case("UserKnownHostsFile=\"/a b\"", None)]
    #[case("Port==22", Some(("port", "=22")))]
    #[case("Port", None)]
    #[case("Port=", None)]
    #[case("=22", None)]
    #[case("#Port=22", None)]
    #[case("", None)]
    #[case("User=a #b", None)]
    #[case("User=a\"b\"", None)]
    #[case("User=\"a\" \"b\"", None)]
    #[case("User=a\\b", None)]
    #[case("IdentityFile=${HOME}/key", None)]
    fn options(#[case] text: &str, #[case] read_as: Option<(&str, &str)>) {
        let found = read(text);
        assert_eq!(found.as_ref().map(|(option, value)| (&**option, &**value)), read_as);
    }

    #[rstest]
    #[case("batchmode", "yes", Kind::Session)]
    #[case("controlmaster", "auto", Kind::NoEffect)]
    #[case("controlpath", "/x", Kind::NoEffect)]
    #[case("protocol", "2", Kind::NoEffect)]
    #[case("knownhostscommand", "none", Kind::Connection)]
    #[case("securitykeyprovider", "internal", Kind::Files)]
    #[case("hostname", "10.0.0.1", Kind::Connection)]
    #[case("stricthostkeychecking", "yes", Kind::Connection)]
    #[case("stricthostkeychecking", "no", Kind::NoEffect)]
    #[case("preferredauthentications", "gssapi-with-mic,publickey", Kind::NoEffect)]
    #[case("preferredauthentications", "password", Kind::Connection)]
    #[case("forwardx11", "No", Kind::NoEffect)]
    #[case("userknownhostsfile", "/dev/null ~/.ssh/other", Kind::Files)]
    fn kinds(#[case] option: &str, #[case] value: &str, #[case] expected: Kind) {
        assert_eq!(kind(option, value), expected);
    }

    #[rstest]
    #[case("controlpath", "none")]
    #[case("forwardx11", "yes")]
    #[case("proxycommand", "nc %h %p")]
    #[case("localforward", "1 a:2")]
    #[case("knownhostscommand", "/bin/keys %H")]
    #[case("usekeychain", "yes")]
    #[case("include", "/x")]
    #[case("nosuchoption", "x")]
    fn what_is_for_plain_ssh(#[case] option: &str, #[case] value: &str) {
        assert!(matches!(kind(option, value), Kind::Plain(_)));
    }

    #[rstest]
    #[case("UseKeychain", "usekeychain", true)]
    #[case("a,use*,b", "usekeychain", true)]
    #[case("*", "anything", true)]
    #[case("use?eychain", "usekeychain", true)]
    #[case("!usekeychain,*", "usekeychain", false)]
    #[case("keychain", "usekeychain", false)]
    #[case("*c*n", "usekeychain", true)]
    #[case("use", "usekeychain", false)]
    #[case("", "usekeychain", false)]
    fn names_of_unknown_options(
        #[case] patterns: &str,
        #[case] option: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(is_ignored(patterns, option), expected);
    }
}
