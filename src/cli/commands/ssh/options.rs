//! What the options of ssh are to a connection of the pool: one table, with a row for each keyword
//! of `ssh_config(5)`.
//!
//! Some options concern the session alone, and the client that we become minds them. Some decide
//! where the connection goes, as whom, or how: the agent is asked for such a connection, and only
//! those who say the same share it. Some are said of the host itself (user, port, keys). Some make
//! no difference to a shared connection. What cannot be had over a shared connection, or is not
//! known here, is for plain ssh.

/// What an option is to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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

/// What a keyword is, as far as the value has no part in it.
#[derive(Clone, Copy)]
enum Row {
    Is(Kind),
    /// Switched off it makes no difference; else plain ssh has to do it, for this reason.
    Off(&'static str),
    /// `none` is part of the connection; else plain ssh has to do it, for this reason.
    None(&'static str),
    ControlPath,
    SessionType,
    StrictHostKeyChecking,
    PubkeyAuthentication,
    PreferredAuthentications,
    /// Only Apple's ssh knows it.
    Apple,
}

const SESSION: Row = Row::Is(Kind::Session);
const NO_EFFECT: Row = Row::Is(Kind::NoEffect);
const CONNECTION: Row = Row::Is(Kind::Connection);
const FILES: Row = Row::Is(Kind::Files);
const FORWARD: Row =
    Row::Is(Kind::Plain("a forward would outlive this command on a shared connection"));
const FILE_STRUCTURE: Row = Row::Is(Kind::Plain("what it changes is for ssh to find out"));

/// Every keyword of OpenSSH 7.6 to 10.x, of Debian's and of Apple's, the deprecated ones included.
/// In the order of the alphabet.
const TABLE: &[(&str, Row)] = &[
    ("addkeystoagent", NO_EFFECT),
    ("addressfamily", CONNECTION),
    ("afstokenpassing", NO_EFFECT),
    ("batchmode", SESSION),
    ("bindaddress", CONNECTION),
    ("bindinterface", CONNECTION),
    ("canonicaldomains", CONNECTION),
    ("canonicalizefallbacklocal", CONNECTION),
    ("canonicalizehostname", CONNECTION),
    ("canonicalizemaxdots", CONNECTION),
    ("canonicalizepermittedcnames", CONNECTION),
    ("casignaturealgorithms", CONNECTION),
    ("certificatefile", FILES),
    ("challengeresponseauthentication", NO_EFFECT),
    // Its time-outs are kept by the process that has the connection.
    ("channeltimeout", CONNECTION),
    ("checkhostip", CONNECTION),
    ("cipher", NO_EFFECT),
    ("ciphers", CONNECTION),
    ("clearallforwardings", SESSION),
    // A connection with it is slower or faster and the same. Ansible always wants it.
    ("compression", NO_EFFECT),
    ("compressionlevel", NO_EFFECT),
    ("connectionattempts", NO_EFFECT),
    ("connecttimeout", Row::Is(Kind::ConnectTimeout)),
    ("controlmaster", NO_EFFECT),
    ("controlpath", Row::ControlPath),
    ("controlpersist", NO_EFFECT),
    ("dsaauthentication", Row::PubkeyAuthentication),
    ("dynamicforward", FORWARD),
    ("enableescapecommandline", SESSION),
    ("enablesshkeysign", NO_EFFECT),
    ("escapechar", SESSION),
    ("exitonforwardfailure", NO_EFFECT),
    ("fallbacktorsh", NO_EFFECT),
    ("fingerprinthash", NO_EFFECT),
    ("forkafterauthentication", Row::Off("it goes on in the background")),
    ("forwardagent", Row::Is(Kind::Forwarding)),
    ("forwardx11", Row::Off("a shared connection forwards no X11")),
    ("forwardx11timeout", NO_EFFECT),
    ("forwardx11trusted", NO_EFFECT),
    ("gatewayports", NO_EFFECT),
    ("globalknownhostsfile", FILES),
    ("globalknownhostsfile2", NO_EFFECT),
    ("gssapiauthentication", CONNECTION),
    ("gssapiclientidentity", CONNECTION),
    ("gssapidelegatecredentials", CONNECTION),
    ("gssapikexalgorithms", CONNECTION),
    ("gssapikeyexchange", CONNECTION),
    ("gssapirenewalforcesrekey", CONNECTION),
    ("gssapiserveridentity", CONNECTION),
    ("gssapitrustdns", CONNECTION),
    ("hashknownhosts", CONNECTION),
    ("host", FILE_STRUCTURE),
    ("hostbasedacceptedalgorithms", CONNECTION),
    ("hostbasedauthentication", CONNECTION),
    ("hostbasedkeytypes", CONNECTION),
    ("hostkeyalgorithms", CONNECTION),
    ("hostkeyalias", CONNECTION),
    ("hostname", CONNECTION),
    ("identitiesonly", CONNECTION),
    ("identityagent", FILES),
    ("identityfile", Row::Is(Kind::IdentityFile)),
    ("identityfile2", Row::Is(Kind::IdentityFile)),
    ("ignoreunknown", Row::Is(Kind::IgnoreUnknown)),
    ("include", FILE_STRUCTURE),
    ("ipqos", CONNECTION),
    ("kbdinteractiveauthentication", NO_EFFECT),
    ("kbdinteractivedevices", NO_EFFECT),
    ("keepalive", NO_EFFECT),
    ("kerberosauthentication", NO_EFFECT),
    ("kerberostgtpassing", NO_EFFECT),
    ("kexalgorithms", CONNECTION),
    ("knownhostscommand", Row::None("a program of the caller's tells which host keys are right")),
    ("localcommand", NO_EFFECT),
    ("localforward", FORWARD),
    ("loglevel", SESSION),
    ("logverbose", SESSION),
    ("macs", CONNECTION),
    ("match", FILE_STRUCTURE),
    ("nohostauthenticationforlocalhost", CONNECTION),
    ("numberofpasswordprompts", NO_EFFECT),
    // The process that has the connection hides when keys are pressed.
    ("obscurekeystroketiming", CONNECTION),
    ("passwordauthentication", NO_EFFECT),
    ("permitlocalcommand", Row::Off("over a shared connection there is no local command")),
    ("permitremoteopen", NO_EFFECT),
    ("pkcs11provider", Row::None("the keys are in a PKCS#11 token")),
    ("port", Row::Is(Kind::Port)),
    ("preferredauthentications", Row::PreferredAuthentications),
    ("protocol", NO_EFFECT),
    ("proxycommand", Row::None("it goes by a ProxyCommand of its own")),
    ("proxyjump", CONNECTION),
    ("proxyusefdpass", CONNECTION),
    ("pubkeyacceptedalgorithms", CONNECTION),
    ("pubkeyacceptedkeytypes", CONNECTION),
    ("pubkeyauthentication", Row::PubkeyAuthentication),
    ("refuseconnection", Row::Is(Kind::Plain("ssh is to refuse it"))),
    ("rekeylimit", CONNECTION),
    ("remotecommand", SESSION),
    ("remoteforward", FORWARD),
    ("requesttty", SESSION),
    ("requiredrsasize", CONNECTION),
    ("revokedhostkeys", FILES),
    ("rhostsauthentication", NO_EFFECT),
    ("rhostsrsaauthentication", NO_EFFECT),
    ("rsaauthentication", NO_EFFECT),
    ("securitykeyprovider", FILES),
    ("sendenv", SESSION),
    ("serveralivecountmax", NO_EFFECT),
    ("serveraliveinterval", NO_EFFECT),
    ("sessiontype", Row::SessionType),
    ("setenv", SESSION),
    ("skeyauthentication", NO_EFFECT),
    ("smartcarddevice", Row::None("the keys are in a PKCS#11 token")),
    ("stdinnull", SESSION),
    ("streamlocalbindmask", NO_EFFECT),
    ("streamlocalbindunlink", NO_EFFECT),
    ("stricthostkeychecking", Row::StrictHostKeyChecking),
    ("syslogfacility", SESSION),
    ("tag", CONNECTION),
    ("tcpkeepalive", NO_EFFECT),
    ("tisauthentication", NO_EFFECT),
    ("tunnel", Row::Off("a shared connection has no tunnel")),
    ("tunneldevice", NO_EFFECT),
    ("updatehostkeys", NO_EFFECT),
    ("usekeychain", Row::Apple),
    ("useprivilegedport", NO_EFFECT),
    ("user", Row::Is(Kind::User)),
    ("userknownhostsfile", FILES),
    ("userknownhostsfile2", NO_EFFECT),
    ("useroaming", NO_EFFECT),
    ("usersh", NO_EFFECT),
    ("verifyhostkeydns", CONNECTION),
    ("versionaddendum", CONNECTION),
    ("visualhostkey", NO_EFFECT),
    ("warnweakcrypto", NO_EFFECT),
    ("xauthlocation", NO_EFFECT),
];

/// Those that can be said several times, and then add up.
pub(super) const ADD_UP: &[&str] = &["certificatefile", "identityfile"];

fn row(option: &str) -> Option<Row> {
    let at = TABLE.binary_search_by(|(name, _)| (*name).cmp(option)).ok()?;
    Some(TABLE[at].1)
}

/// Whether an option, in small letters, is one of the table that ssh itself knows here.
pub(super) fn is_known(option: &str) -> bool {
    row(option).is_some_and(|row| cfg!(target_os = "macos") || !matches!(row, Row::Apple))
}

/// Where the value has no part in what this option is: what it is. `option` in small letters.
pub(super) fn kind_of_all(option: &str) -> Option<Kind> {
    match row(option) {
        Some(Row::Is(kind @ (Kind::Session | Kind::NoEffect))) => Some(kind),
        _ => None,
    }
}

/// `option` in small letters, with its value.
pub(super) fn kind(option: &str, value: &str) -> Kind {
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
pub(super) fn is_ignored(patterns: &str, option: &str) -> bool {
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

/// A path that the agent, which is in another directory, understands as this program does; and
/// words that stand for none.
pub(super) fn is_the_same_anywhere(option: &str, path: &str) -> bool {
    path.starts_with(['/', '~'])
        || path.starts_with("%d/")
        || path.eq_ignore_ascii_case("none")
        || (option == "identityagent" && path == "SSH_AUTH_SOCK")
        || (option == "securitykeyprovider" && path == "internal")
}

/// The keyword of the value of `-o`, in small letters; empty for what begins with none.
pub(super) fn keyword(text: &str) -> String {
    let text = text.trim_start_matches([' ', '\t', '\r']);
    let end = text.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len());
    text[..end].to_ascii_lowercase()
}

/// Reads the value of `-o`: an option in small letters, and its value without the quotes around it.
/// `None` for what is not simple.
pub(super) fn read(text: &str) -> Option<(String, String)> {
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

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|(one, _), (next, _)| one < next));
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
