//! The table: every keyword of `ssh_config(5)`, and what it is to a connection of the pool.

use super::Kind;

/// What a keyword is, as far as the value has no part in it.
#[derive(Clone, Copy)]
pub(super) enum Row {
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

/// The row of an option, which is in small letters.
pub(super) fn row(option: &str) -> Option<Row> {
    let at = TABLE.binary_search_by(|(name, _)| (*name).cmp(option)).ok()?;
    Some(TABLE[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.is_sorted_by(|(one, _), (next, _)| one < next));
    }
}
