//! What somebody can do about a failed login, where no more is known than its kind.

use super::ConnectErrorKind as Kind;

/// The word in an advice that stands for the name of the host.
pub(crate) const HOST: &str = "HOST";

pub(crate) const KNOWN_KEY_WANTED: &str = "add the key to known_hosts first";

/// What to do about a failure of which no more is known than its kind.
pub(crate) fn of_kind(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Authentication => Some("check user and key with `ssh -v`"),
        Kind::HostKeyChanged => {
            Some("if that is expected, remove the old key with `ssh-keygen -R`")
        }
        Kind::HostKeyUnknown => Some(KNOWN_KEY_WANTED),
        Kind::HostKeyRevoked => Some(
            "whoever answers may be somebody else: do not go on before you know; a host whose key was revoked \
             needs a new one",
        ),
        Kind::HostCertificate => {
            Some("the host needs another certificate, from whoever signs for it")
        }
        Kind::ServerBusy => {
            Some("see MaxStartups and PerSourcePenalties in the server's sshd_config")
        }
        _ => None,
    }
}

/// An advice with the name of the host in it.
pub(crate) fn for_host(advice: &str, host: &str) -> String {
    advice.replace(HOST, host)
}
