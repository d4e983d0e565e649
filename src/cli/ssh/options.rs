//! What the options of ssh are to a connection of the pool.
//!
//! Each is one of four kinds. Some concern the session alone, and the client that we become minds them. Some decide where the connection
//! goes, as whom, or how: the agent is asked for such a connection, and only those who say the same share it. Some are said of the host
//! itself (user, port, keys). And what cannot be had over a shared connection, or is not known here, is for plain ssh.

/// What an option is to a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The client's own affair, or one that the pool decides.
    Session,
    /// Part of what the agent is asked for.
    Connection,
    User,
    Port,
    IdentityFile,
    ConnectTimeout,
    /// Agent forwarding.
    Forwarding,
    /// Plain ssh has to do it, for this reason.
    Plain(&'static str),
}

/// The client minds them by itself, or they make no difference to a connection of the pool, which asks nobody anything, is watched over,
/// and gets no further keys. With `Compression` it is slower or faster and the same; Ansible always wants it.
const SESSION: &[&str] = &[
    "addkeystoagent",
    "batchmode",
    "challengeresponseauthentication",
    "clearallforwardings",
    "compression",
    "connectionattempts",
    "controlmaster",
    "controlpersist",
    "enableescapecommandline",
    "escapechar",
    "exitonforwardfailure",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "kbdinteractiveauthentication",
    "kbdinteractivedevices",
    "localcommand",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "obscurekeystroketiming",
    "passwordauthentication",
    "remotecommand",
    "requesttty",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "setenv",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tcpkeepalive",
    "tunneldevice",
    "updatehostkeys",
    "visualhostkey",
    "xauthlocation",
];

const CONNECTION: &[&str] = &[
    "addressfamily",
    "bindaddress",
    "bindinterface",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizehostname",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "casignaturealgorithms",
    "checkhostip",
    "ciphers",
    "gssapiauthentication",
    "gssapidelegatecredentials",
    "gssapikeyexchange",
    "gssapitrustdns",
    "hashknownhosts",
    "hostbasedacceptedalgorithms",
    "hostbasedauthentication",
    "hostbasedkeytypes",
    "hostkeyalgorithms",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "ipqos",
    "kexalgorithms",
    "macs",
    "nohostauthenticationforlocalhost",
    "proxyjump",
    "pubkeyacceptedalgorithms",
    "pubkeyacceptedkeytypes",
    "rekeylimit",
    "requiredrsasize",
    "verifyhostkeydns",
];

/// Connection, too, with files as their values.
const FILES: &[&str] =
    &["certificatefile", "globalknownhostsfile", "identityagent", "revokedhostkeys", "userknownhostsfile"];

/// Those that can be said several times, and then add up.
pub(super) const ADD_UP: &[&str] = &["certificatefile", "identityfile"];

/// `option` in small letters, with its value.
pub(super) fn kind(option: &str, value: &str) -> Kind {
    let lower = value.to_ascii_lowercase();
    let is = |words: &[&str]| words.contains(&&*lower);
    let off = is(&["no", "false"]);
    match option {
        "user" => Kind::User,
        "port" => Kind::Port,
        "identityfile" => Kind::IdentityFile,
        "connecttimeout" => Kind::ConnectTimeout,
        "forwardagent" => Kind::Forwarding,
        "controlpath" if is(&["none"]) => Kind::Plain("no shared connection is wanted"),
        "controlpath" => Kind::Session,
        "forwardx11" | "permitlocalcommand" | "tunnel" | "forkafterauthentication" if off => Kind::Session,
        "forwardx11" => Kind::Plain("a shared connection forwards no X11"),
        "permitlocalcommand" => Kind::Plain("over a shared connection there is no local command"),
        "tunnel" => Kind::Plain("a shared connection has no tunnel"),
        "forkafterauthentication" => Kind::Plain("it goes on in the background"),
        "sessiontype" if is(&["none"]) => Kind::Plain("over a shared connection there is always a session"),
        "sessiontype" => Kind::Session,
        "localforward" | "remoteforward" | "dynamicforward" => {
            Kind::Plain("a forward would outlive this command on a shared connection")
        }
        // The pool's own way, to accept new ones, is stricter than all others but these.
        "stricthostkeychecking" if is(&["yes", "true", "ask"]) => Kind::Connection,
        "stricthostkeychecking" => Kind::Session,
        // Whom the keys let in, they let in by these ways too; without them it would be somebody else.
        "pubkeyauthentication" if is(&["yes", "true"]) => Kind::Session,
        "preferredauthentications" if lower.split(',').any(|way| way == "publickey") => Kind::Session,
        "pubkeyauthentication" | "preferredauthentications" => Kind::Connection,
        "proxycommand" if is(&["none"]) => Kind::Connection,
        "proxycommand" => Kind::Plain("it goes by a ProxyCommand of its own"),
        _ if SESSION.contains(&option) => Kind::Session,
        _ if CONNECTION.contains(&option) => Kind::Connection,
        _ if FILES.contains(&option)
            && value.split_whitespace().all(|path| is_the_same_anywhere(option, path)) =>
        {
            Kind::Connection
        }
        _ if FILES.contains(&option) => Kind::Plain("a path depends on where it is read"),
        _ => Kind::Plain("it is not known here whether it can be shared"),
    }
}

/// A path that the agent, which is in another directory, understands as this program does; and words that stand for none.
pub(super) fn is_the_same_anywhere(option: &str, path: &str) -> bool {
    path.starts_with(['/', '~'])
        || path.starts_with("%d/")
        || path.eq_ignore_ascii_case("none")
        || (option == "identityagent" && path == "SSH_AUTH_SOCK")
}

/// Reads the value of `-o`: an option in small letters, and its value without the quotes around it. `None` for what is not simple.
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
    #[case("controlmaster", "auto", Kind::Session)]
    #[case("controlpath", "/x", Kind::Session)]
    #[case("hostname", "10.0.0.1", Kind::Connection)]
    #[case("stricthostkeychecking", "yes", Kind::Connection)]
    #[case("stricthostkeychecking", "no", Kind::Session)]
    #[case("preferredauthentications", "gssapi-with-mic,publickey", Kind::Session)]
    #[case("preferredauthentications", "password", Kind::Connection)]
    #[case("forwardx11", "No", Kind::Session)]
    #[case("userknownhostsfile", "/dev/null ~/.ssh/other", Kind::Connection)]
    fn kinds(#[case] option: &str, #[case] value: &str, #[case] expected: Kind) {
        assert_eq!(kind(option, value), expected);
    }

    #[rstest]
    #[case("controlpath", "none")]
    #[case("forwardx11", "yes")]
    #[case("proxycommand", "nc %h %p")]
    #[case("localforward", "1 a:2")]
    #[case("userknownhostsfile", "known")]
    #[case("identityagent", "agent.sock")]
    #[case("include", "/x")]
    #[case("nosuchoption", "x")]
    fn what_is_for_plain_ssh(#[case] option: &str, #[case] value: &str) {
        assert!(matches!(kind(option, value), Kind::Plain(_)));
    }
}
