//! The texts by which OpenSSH says why a login failed, what each means, and what somebody can do
//! about it.
//!
//! This is the only table of them: the line that an error quotes, its kind and its advice come from
//! one row. The texts are those of 7.6 to 10.5; `tests/recorded/openssh-texts.tsv` lists them with
//! the versions that have them, and a test holds this table against that list.

use crate::error::ConnectErrorKind as Kind;
use crate::error::advice::KNOWN_KEY_WANTED;
use crate::error::advice::for_host;

/// One cause of a failed login.
#[derive(Debug)]
pub(super) struct Cause {
    texts: Texts,
    pub kind: Kind,
    /// What to do about this cause, where that is something else than what its kind advises.
    advice: Option<&'static str>,
}

#[derive(Debug)]
enum Texts {
    /// A line has all of these, in this order.
    All(&'static [&'static str]),
    /// A line names a line of ssh's configuration: [`is_of_configuration`].
    ConfigurationLine,
}

/// The server asks for what a program in the background cannot give.
const ASKS: &str =
    "the server wants to ask for a password or a code: `sshpool warm HOST` on a terminal";
/// The server takes keys, and took none of ours. ssh says nothing of a passphrase that it may not
/// ask for.
const NO_KEY: &str = "check user and key with `ssh -v`; for a passphrase, a password or a code: `sshpool warm \
                      HOST` on a terminal, or an ssh-agent";
const TOO_MANY_KEYS: &str = "the server stops listening after some keys: offer one only, with IdentityFile and \
                             IdentitiesOnly yes in ssh_config, or identity_file in [hosts.HOST]";
const AGENT_REFUSED: &str = "the ssh-agent has the key and does not sign: unlock it, confirm the request or \
                             touch the key, then try again";
const AGENT_SILENT: &str = "see that the ssh-agent runs and answers: `ssh-add -l`";
const NO_DEVICE: &str = "plug in the security key that holds this key, and touch it when it blinks";
const NO_PIN: &str = "the key wants its PIN: `sshpool warm HOST` on a terminal, or an ssh-agent";
const CANNOT_SIGN: &str = "see that the key can sign: unlock it, touch it or enter its PIN";
const NO_SIGNATURE: &str = "no signature algorithm of this key is allowed on both sides: see \
                            PubkeyAcceptedAlgorithms here and in the server's sshd_config, or use a key of \
                            another type";
const CERTIFICATE_EXPIRED: &str = "the host needs a new certificate, from whoever signs for it";
const CERTIFICATE_EARLY: &str = "compare the clocks on both sides; else the host needs another certificate, \
                                 from whoever signs for it";
const CERTIFICATE_NAME: &str = "connect by a name that the certificate lists, or say in ssh_config by which one \
                                to check it: HostKeyAlias";
const CERTIFICATE_SIGNED: &str = "see CASignatureAlgorithms in ssh_config; else the host needs another \
                                  certificate, from whoever signs for it";
const NO_LIST_OF_REVOKED: &str =
    "the file that RevokedHostKeys names has to be there, readable, and a list of keys or a KRL";
const ASKS_ABOUT_HOST_KEY: &str = "nobody could be asked about it: `sshpool warm HOST` on a terminal asks, and remembers the answer";
const HOST_KEY_ALGORITHM: &str = "see HostKeyAlgorithms and RequiredRSASize in ssh_config";
const NO_FORWARDING: &str = "the jump host must not forward there: see AllowTcpForwarding and PermitOpen in its \
                             sshd_config, and the options of the key in its authorized_keys";
const CHMOD: &str = "chmod 600 the file, so that nobody else can read it";
const NO_FILE: &str = "name a file that is there, and a private key: IdentityFile in ssh_config, or \
                       identity_file in [hosts.HOST]";
const NO_VARIABLE: &str = "set the variable, or take it out of ssh_config";

macro_rules! causes {
    ($(($($text:literal),+ => $kind:ident $(, $advice:ident)?)),+ $(,)?) => {
        &[$(Cause {
            texts: Texts::All(&[$($text),+]),
            kind: Kind::$kind,
            advice: causes!(@ $($advice)?),
        }),+]
    };
    (@) => { None };
    (@ $advice:ident) => { Some($advice) };
}

/// A line of the configuration. The first such line counts, where of the others it is the last.
const OF_CONFIGURATION: Cause =
    Cause { texts: Texts::ConfigurationLine, kind: Kind::BadOption, advice: None };

/// The causes, the most telling first: a bad key file is followed by "Permission denied", a changed
/// host key and a certificate by "Host key verification failed".
const CAUSES: &[Cause] = causes![
    ("Can't open user config file" => BadOption),
    ("Bad owner or permissions on " => BadOption),
    ("env var ${", "} has no value" => BadOption, NO_VARIABLE),
    ("percent_expand: unknown key %" => BadOption),
    ("invalid environment variable expansion" => BadOption, NO_VARIABLE),
    ("Bad configuration option" => BadOption),
    ("terminating, ", "bad configuration options" => BadOption),
    ("hostname contains invalid characters" => BadOption),
    ("remote username contains invalid characters" => BadOption),
    ("unix_listener: " => Local),
    ("ControlSocket " => Local),
    ("ControlPath too long" => Local),
    // Who answers comes before who we are: no other failure of the same login is as grave.
    (" is marked as revoked" => HostKeyRevoked),
    (" was revoked and you have requested strict checking" => HostKeyRevoked),
    ("Host key ", " revoked by file " => HostKeyRevoked),
    ("REVOKED HOST KEY DETECTED" => HostKeyRevoked),
    ("Error checking host key ", " in revoked keys file " => BadOption, NO_LIST_OF_REVOKED),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED" => HostKeyChanged),
    (" differs from the key for the IP address " => HostKeyChanged),
    ("Certificate invalid: expired" => HostCertificate, CERTIFICATE_EXPIRED),
    ("Certificate invalid: not yet valid" => HostCertificate, CERTIFICATE_EARLY),
    ("Certificate invalid: name is not a listed principal" => HostCertificate, CERTIFICATE_NAME),
    ("Certificate invalid: " => HostCertificate),
    ("Certificate lacks principal list" => HostCertificate),
    ("Certificate ", "contains unsupported critical options" => HostCertificate),
    ("Certificate signed with disallowed algorithm" => HostCertificate, CERTIFICATE_SIGNED),
    ("Bad server host key" => Algorithms, HOST_KEY_ALGORITHM),
    ("Server host key ", " not in HostKeyAlgorithms" => Algorithms, HOST_KEY_ALGORITHM),
    ("host key ", " not permitted by HostkeyAlgorithms" => Algorithms, HOST_KEY_ALGORITHM),
    (" host key is known for " => HostKeyUnknown, KNOWN_KEY_WANTED),
    ("Host key verification failed" => HostKeyUnknown, ASKS_ABOUT_HOST_KEY),
    ("Unable to negotiate with " => Algorithms),
    ("Could not resolve hostname " => Name),
    // The server wanted a signature by this key: it is the right one.
    ("signing failed", "agent refused operation" => Authentication, AGENT_REFUSED),
    ("signing failed", "device not found" => Authentication, NO_DEVICE),
    ("signing failed", "incorrect passphrase" => Authentication, NO_PIN),
    ("signing failed", "signature algorithm not supported" => Authentication, NO_SIGNATURE),
    ("communication with agent failed" => Authentication, AGENT_SILENT),
    ("signing failed" => Authentication, CANNOT_SIGN),
    ("no mutual signature supported" => Authentication, NO_SIGNATURE),
    ("returned incorrect signature type" => Authentication, NO_SIGNATURE),
    ("UNPROTECTED PRIVATE KEY FILE" => KeyFile, CHMOD),
    ("Identity file ", " not accessible: " => KeyFile, NO_FILE),
    ("Load key " => KeyFile),
    ("contents do not match public" => KeyFile),
    ("no such identity: " => KeyFile, NO_FILE),
    ("Too many authentication failures" => Authentication, TOO_MANY_KEYS),
    ("Permission denied (" => Authentication),
    ("Authentication failed." => Authentication),
    // What a jump host's server says of the way on.
    ("open failed: administratively prohibited" => Other, NO_FORWARDING),
    (": Connection refused" => Refused),
    (" timed out" => TimedOut),
    ("Timeout, server " => TimedOut),
    ("No route to host" => Unreachable),
    ("Network is unreachable" => Unreachable),
    ("connect to host ", " port " => Unreachable),
    (": open failed: connect failed: ", "not known" => Name),
    (": open failed: connect failed: ", "name resolution" => Name),
    ("exchange_identification: read: " => ServerBusy),
    ("exchange_identification: Connection " => ServerBusy),
    ("Not allowed at this time" => ServerBusy),
    // What answers is no SSH server, or says itself why it does not want us; what follows says only
    // that it is over.
    ("exchange_identification: " => Other),
    ("Received disconnect from " => Other),
    ("channel ", ": open failed: " => Other),
    ("stdio forwarding failed" => Other),
];

/// Lines that ssh writes where nothing has failed yet, or beside the reason. They are never given
/// as one.
const NOTES: &[&str] = &[
    "** WARNING: connection is not using a post-quantum key exchange algorithm",
    "** This session may be vulnerable to ",
    "** The server may need to be upgraded",
    "Permanently added",
    "to the list of known hosts (",
    "not in list of known hosts",
    "Host key fingerprint is",
    "Learned new hostkey: ",
    "Deprecating obsolete hostkey: ",
    "this server does not support rekeying",
    "This session will eventually fail",
    "Pseudo-terminal will not be allocated",
    "but this does not map back to the address",
    "reverse mapping checking getaddrinfo for ",
    "Permission denied, please try again",
    "Warning: No xauth data",
    "Warning: untrusted X11 forwarding setup failed",
    "remote port forwarding failed for listen ",
    "Could not create directory ",
    ": open failed: ",
    "Killed by signal ",
    "Authenticated to ",
];

/// What ssh writes before it names the line of the configuration that it complains of, with what is
/// wrong in that line.
const BEFORE_A_LINE: &[&str] = &[
    "Missing Match criteria for ",
    "Unsupported Match attribute ",
    "One or more attributes required for Match",
    "Unsupported KEX algorithm ",
    "env var ${",
];

/// The first cause of the table that a line names for which `possible` holds, and that line: the
/// last one that names it. Lines that ssh wrote itself come before those of others (a server's
/// banner, a ProxyCommand).
pub(super) fn find<'a>(
    lines: &[Line<'a>],
    possible: impl Fn(Kind) -> bool,
) -> Option<(&'static Cause, &'a str)> {
    let own: Vec<Line<'_>> = lines.iter().filter(|line| line.is_own).copied().collect();
    [own.as_slice(), lines].into_iter().find_map(|lines| {
        if possible(Kind::BadOption)
            && let Some(line) = lines.iter().find(|line| is_of_configuration(line.text))
        {
            return Some((&OF_CONFIGURATION, line.text));
        }
        CAUSES.iter().filter(|cause| possible(cause.kind)).find_map(|cause| {
            lines.iter().rev().find(|line| cause.is_in(line.text)).map(|line| (cause, line.text))
        })
    })
}

/// Whether a line names a cause.
pub(super) fn is_cause(line: &str) -> bool {
    is_of_configuration(line) || CAUSES.iter().any(|cause| cause.is_in(line))
}

/// Whether a line is never a reason, whatever comes of the login.
pub(super) fn is_note(line: &str) -> bool {
    line.starts_with("** ") || NOTES.iter().any(|note| line.contains(note))
}

/// Whether a line says what is wrong in the line of the configuration that ssh names behind it.
pub(super) fn is_before_a_line(line: &str) -> bool {
    BEFORE_A_LINE.iter().any(|text| line.contains(text))
}

/// `FILE line 3: Bad port 'abc'.`, `FILE: line 3: Bad configuration option: x`. Shells write `NAME:
/// line 3: …`, with a colon.
fn is_of_configuration(line: &str) -> bool {
    line.match_indices(" line ").any(|(at, word)| {
        let (file, rest) = (&line[..at], &line[at + word.len()..]);
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some(message) = rest[digits..].strip_prefix(": ") else { return false };
        let is_form = match file.strip_suffix(':') {
            Some(_) => message.starts_with("Bad configuration option"),
            None => true,
        };
        digits > 0 && !file.is_empty() && is_form
    })
}

/// A line of ssh's stderr.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub text: &'a str,
    /// ssh ends its own lines with CR LF. Those of a server's banner and of other programs end in
    /// LF, mostly.
    pub is_own: bool,
}

impl<'a> Line<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        let text = line.trim();
        // One of the few that ssh writes without its log.
        let is_own = line.ends_with('\r') || text.starts_with("Warning: Identity file ");
        Line { text, is_own }
    }
}

impl Cause {
    fn is_in(&self, line: &str) -> bool {
        match self.texts {
            Texts::ConfigurationLine => is_of_configuration(line),
            Texts::All(texts) => {
                let mut rest = line;
                texts.iter().all(|text| match rest.split_once(text) {
                    Some((_, behind)) => {
                        rest = behind;
                        true
                    }
                    None => false,
                })
            }
        }
    }

    /// What to do, where this line of ssh says more than its kind does.
    pub(super) fn advice(&self, line: &str) -> Option<&'static str> {
        let methods = line.split_once("Permission denied (").map(|(_, methods)| methods);
        match methods {
            Some(methods) if self.kind == Kind::Authentication => {
                let has = |method| methods.contains(method);
                match has("publickey") {
                    true => Some(NO_KEY),
                    false if has("password") || has("keyboard-interactive") => Some(ASKS),
                    false => None,
                }
            }
            _ => self.advice,
        }
    }
}

/// Whether this advice leaves it open why the server took no key. Whoever knows which keys were
/// offered can say more.
pub(crate) fn is_about_any_key(advice: &str, host: &str) -> bool {
    advice == for_host(NO_KEY, host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::advice::of_kind;
    use rstest::rstest;

    /// What the sources of OpenSSH have: what it is, versions, text.
    fn recorded() -> Vec<(&'static str, &'static str, &'static str)> {
        let list = include_str!("../../tests/recorded/openssh-texts.tsv");
        let lines = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let mut fields = lines.map(|line| line.splitn(3, '\t'));
        let recorded: Vec<_> = fields
            .by_ref()
            .map(|mut line| {
                let mut next = || line.next().expect("three fields");
                (next(), next(), next())
            })
            .collect();
        assert!(recorded.len() > 150, "{}", recorded.len());
        recorded
    }

    /// As ssh would write it, of any values.
    fn written(format: &str) -> String {
        let mut text = String::new();
        let mut rest = format;
        while let Some((before, behind)) = rest.split_once('%') {
            text += before;
            let length = behind.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(0);
            let is_long = behind[length..].starts_with("lu");
            text += match behind[length..].chars().next() {
                Some('d' | 'u' | 'l') => "7",
                Some('%') => "%",
                _ => "word",
            };
            rest = &behind[(length + 1 + usize::from(is_long)).min(behind.len())..];
        }
        text + rest
    }

    #[test]
    fn each_text_of_the_table_is_one_of_openssh() {
        let recorded = recorded();
        for cause in CAUSES {
            let Texts::All(texts) = cause.texts else { panic!("{cause:?}") };
            for text in texts {
                let is_there = recorded.iter().any(|(_, _, format)| {
                    format.contains(text) || written(format).contains(text) || text.contains(format)
                });
                assert!(is_there, "{text:?} is in no version");
            }
        }
        for text in NOTES {
            // What a session that was refused leaves in the log of its master.
            let kinds =
                if *text == ": open failed: " { ["part", "part"] } else { ["note", "note"] };
            let is_there = recorded
                .iter()
                .any(|(kind, _, format)| kinds.contains(kind) && format.contains(text));
            assert!(is_there, "{text:?} is in no version");
        }
        for text in BEFORE_A_LINE {
            assert!(
                recorded
                    .iter()
                    .any(|(_, _, format)| written(format).contains(text) || format.contains(text)),
                "{text:?} is in no version"
            );
        }
    }

    #[test]
    fn each_recorded_text_has_its_row() {
        for (kind, versions, format) in recorded() {
            let text = written(format);
            let mut rows = CAUSES.iter().filter(|cause| match cause.texts {
                Texts::All(texts) => {
                    texts.iter().any(|part| text.contains(part) || format.contains(part))
                }
                Texts::ConfigurationLine => false,
            });
            match kind {
                "cause" => {
                    assert!(rows.next().is_some(), "{text:?} names a cause and has no row");
                    assert!(
                        !is_note(&text) || text.contains(": open failed: "),
                        "{text:?} is no note"
                    );
                }
                "line" => assert!(is_of_configuration(&text), "{text:?}"),
                "note" => {
                    assert!(is_note(&text), "{text:?}");
                    assert!(!is_cause(&text), "{text:?} is no cause");
                }
                "before" => assert!(is_before_a_line(&text), "{text:?}"),
                "part" | "system" => {}
                other => panic!("what is {other:?}?"),
            }
            let known = ["7.6", "8.2", "8.9", "9.2", "9.8", "10.0", "10.1", "10.5"];
            assert_eq!(versions.is_empty(), kind == "system", "{format}");
            assert!(
                versions.split_terminator(' ').all(|version| known.contains(&version)),
                "{versions}"
            );
        }
    }

    #[test]
    fn an_advice_names_the_host_and_nothing_else_by_that_word() {
        let all = CAUSES.iter().filter_map(|cause| cause.advice).chain([ASKS, NO_KEY]);
        for advice in all {
            let told = for_host(advice, "web1");
            assert!(!told.contains("HOST"), "{told}");
            assert_eq!(told.matches("web1").count(), advice.matches("HOST").count());
            assert!(
                !advice.ends_with('.') && !advice.contains('\n') && !advice.contains("  "),
                "{advice:?}"
            );
        }
    }

    /// Where the key or the certificate is not to be trusted, nothing says how to trust it.
    #[test]
    fn nobody_is_told_to_add_a_key_that_is_not_to_be_trusted() {
        let kinds = [Kind::HostKeyRevoked, Kind::HostCertificate];
        let of_rows = CAUSES
            .iter()
            .filter(|cause| kinds.contains(&cause.kind))
            .filter_map(|cause| cause.advice);
        for advice in
            of_rows.chain(kinds.into_iter().filter_map(of_kind)).chain([NO_LIST_OF_REVOKED])
        {
            for word in ["add the key", "accept", "keyscan", "known_hosts", "sshpool warm"] {
                assert!(!advice.contains(word), "{advice}");
            }
        }
    }

    #[rstest]
    #[case("/etc/ssh/ssh_config line 12: Bad port 'abc'.", true)]
    #[case("a b line 1: invalid quotes", true)]
    #[case("command-line line 0: Bad port 'abc'.", true)]
    #[case("c: line 3: Bad configuration option: foo", true)]
    #[case("bash: line 1: foo: command not found", false)]
    #[case("/bin/sh: line 1: exec: foo: not found", false)]
    #[case(" line 1: x", false)]
    #[case("on line x: y", false)]
    #[case("c line : y", false)]
    #[case("the end of line 3", false)]
    fn a_line_of_the_configuration_is_known_by_its_form(#[case] line: &str, #[case] is: bool) {
        assert_eq!(is_of_configuration(line), is);
    }
}
