//! Options that have had another name: ssh takes both.

const RENAMED: &[(&str, &str)] = &[
    ("challengeresponseauthentication", "kbdinteractiveauthentication"),
    ("dsaauthentication", "pubkeyauthentication"),
    ("hostbasedkeytypes", "hostbasedacceptedalgorithms"),
    ("identityfile2", "identityfile"),
    ("keepalive", "tcpkeepalive"),
    ("pubkeyacceptedkeytypes", "pubkeyacceptedalgorithms"),
    ("skeyauthentication", "kbdinteractiveauthentication"),
    ("smartcarddevice", "pkcs11provider"),
    ("tisauthentication", "kbdinteractiveauthentication"),
];

/// Today's name of an option that is given in small letters.
pub(super) fn todays(keyword: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == keyword).map_or(keyword, |(_, new)| new)
}
