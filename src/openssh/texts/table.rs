//! The causes with their kinds and their advice, and the lines that name no cause.

use super::{Cause, Texts};
use crate::error::ConnectErrorKind as Kind;
use crate::error::advice::KNOWN_KEY_WANTED;

/// The server asks for what a program in the background cannot give.
pub(super) const ASKS: &str =
    "the server wants to ask for a password or a code: `sshpool warm HOST` on a terminal";
/// The server takes keys, and took none of ours. Where ssh was not allowed to ask for a passphrase,
/// it does not say so.
pub(super) const NO_KEY: &str = "check user and key with `ssh -v`; for a passphrase, a password or \
    a code: `sshpool warm \
                      HOST` on a terminal, or an ssh-agent";
const TOO_MANY_KEYS: &str = "the server stops listening after some keys: offer one only, with \
    IdentityFile and \
                             IdentitiesOnly yes in ssh_config, or identity_file in [hosts.HOST]";
const AGENT_REFUSED: &str = "the ssh-agent has the key and does not sign: unlock it, confirm the \
    request or \
                             touch the key, then try again";
const AGENT_SILENT: &str = "see that the ssh-agent runs and answers: `ssh-add -l`";
const NO_DEVICE: &str = "plug in the security key that holds this key, and touch it when it blinks";
const NO_PIN: &str = "the key wants its PIN: `sshpool warm HOST` on a terminal, or an ssh-agent";
const CANNOT_SIGN: &str = "see that the key can sign: unlock it, touch it or enter its PIN";
const NO_SIGNATURE: &str = "no signature algorithm of this key is allowed on both sides: see \
                            PubkeyAcceptedAlgorithms here and in the server's sshd_config, or use \
                            a key of \
                            another type";
const CERTIFICATE_EXPIRED: &str = "the host needs a new certificate, from whoever signs for it";
const CERTIFICATE_EARLY: &str = "compare the clocks on both sides; else the host needs another \
    certificate, \
                                 from whoever signs for it";
const CERTIFICATE_NAME: &str = "connect by a name that the certificate lists, or say in ssh_config \
    by which one \
                                to check it: HostKeyAlias";
const CERTIFICATE_SIGNED: &str = "see CASignatureAlgorithms in ssh_config; else the host needs \
    another \
                                  certificate, from whoever signs for it";
pub(super) const NO_LIST_OF_REVOKED: &str =
    "the file that RevokedHostKeys names has to be there, readable, and a list of keys or a KRL";
const ASKS_ABOUT_HOST_KEY: &str = "nobody could be asked about it: `sshpool warm HOST` on a \
    terminal asks, and remembers the answer";
const HOST_KEY_ALGORITHM: &str = "see HostKeyAlgorithms and RequiredRSASize in ssh_config";
const NO_FORWARDING: &str = "the jump host must not forward there: see AllowTcpForwarding and \
    PermitOpen in its \
                             sshd_config, and the options of the key in its authorized_keys";
const CHMOD: &str = "chmod 600 the file, so that nobody else can read it";
const NO_FILE: &str = "name a file that is there, and a private key: IdentityFile in ssh_config, \
    or \
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
pub(super) const OF_CONFIGURATION: Cause =
    Cause { texts: Texts::ConfigurationLine, kind: Kind::BadOption, advice: None };

/// The causes, the most telling first: a bad key file is followed by "Permission denied", a changed
/// host key and a certificate by "Host key verification failed".
pub(super) const CAUSES: &[Cause] = causes![
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
pub(super) const NOTES: &[&str] = &[
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
pub(super) const BEFORE_A_LINE: &[&str] = &[
    "Missing Match criteria for ",
    "Unsupported Match attribute ",
    "One or more attributes required for Match",
    "Unsupported KEX algorithm ",
    "env var ${",
];
