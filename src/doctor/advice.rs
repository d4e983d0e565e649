//! What to do about each cause of a failed connection: what the error itself advises, and more
//! where more is known here.

use super::finding::Finding;
use crate::error::advice::for_host;
use crate::error::{ConnectError, ConnectErrorKind as Kind};
use crate::host::Host;
use crate::openssh::{Resolved, Step, Trace, texts};

pub(super) const NAME: &str = "check the name; else give the host an address: address in [hosts.NAME], HostName in ssh_config";

/// What failed and why; what to do is for the caller to add.
pub(super) fn failed(check: &'static str, error: &ConnectError) -> Finding {
    Finding::failed(check, error.kind().label()).why(error.detail())
}

/// What to do when ssh does not understand what it is told about a host.
pub(super) fn before_a_connection(kind: Kind) -> &'static str {
    match kind {
        Kind::KeyFile => "name the right file: identity_file in [hosts.NAME]",
        Kind::BadOption => {
            "correct what ssh complains of: in the file and line that it names, or under options in \
             [hosts.NAME] (see ssh_config(5))"
        }
        Kind::TimedOut => {
            "see what the configuration runs (`Match exec`, KnownHostsCommand), or raise connect_timeout"
        }
        _ => "see what `ssh -G HOST` says",
    }
}

/// How the key of an unknown host gets into known_hosts.
pub(super) fn learn_the_key(resolved: &Resolved) -> String {
    let to = &resolved.destination;
    let port = if to.port == 22 { String::new() } else { format!("-p {} ", to.port) };
    match to.proxy {
        Some(_) => "connect once by hand, compare the fingerprint with the server's, and accept it"
            .to_owned(),
        None => format!(
            "get it with `ssh-keyscan {port}{}`, compare it with the server's own, and add it to \
             known_hosts; or let StrictHostKeyChecking be accept-new",
            to.hostname
        ),
    }
}

/// What to do about a connection that failed; `step` is the one that was not done.
pub(super) fn after(
    error: &ConnectError,
    step: Step,
    host: &Host,
    resolved: &Resolved,
    trace: &Trace,
) -> String {
    let to = &resolved.destination;
    let name = host.name();
    let advised = error.own_advice().map(|advice| for_host(advice, name));
    let is_of_the_way = to
        .proxy
        .as_ref()
        .is_some_and(|proxy| error.detail().starts_with(&format!("{proxy} failed: ")));
    if is_of_the_way && error.kind() != Kind::HostKeyChanged {
        // What is known of the host itself does not help.
        let look = "see that the jump host or ProxyCommand works by itself: `sshpool doctor JUMPHOST`, or ssh \
                    to it by hand";
        let advised = error.advice().map(|advice| for_host(advice, name));
        return advised.map_or(look.to_owned(), |advised| format!("{advised}; {look}"));
    }
    match (error.kind(), advised) {
        (Kind::Authentication, advised) => authentication(advised, name, resolved, trace),
        (Kind::HostKeyUnknown, Some(advised)) => {
            format!("{advised}; or {}", learn_the_key(resolved))
        }
        (_, Some(advised)) => advised,
        (kind, None) => of_kind(kind, error, step, host, resolved),
    }
}

fn of_kind(
    kind: Kind,
    error: &ConnectError,
    step: Step,
    host: &Host,
    resolved: &Resolved,
) -> String {
    let to = &resolved.destination;
    let (user, name) = (&resolved.user, host.name());
    match kind {
        Kind::HostKeyChanged => format!(
            "if the server was set up anew: ssh-keygen -R '{}'{}; if not, somebody may be in between: find out first",
            known_as(error).unwrap_or(&to.known_as),
            in_file(error)
        ),
        Kind::HostKeyUnknown => learn_the_key(resolved),
        Kind::Authentication | Kind::HostKeyRevoked | Kind::HostCertificate => {
            for_host(error.advice().unwrap_or_default(), name)
        }
        Kind::Refused => format!(
            "see that sshd runs there and listens on port {}; or correct the port: port in \
             [hosts.NAME], Port in ssh_config",
            to.port
        ),
        Kind::Unreachable => "check the address, the route and the VPN".to_owned(),
        Kind::Name => NAME.to_owned(),
        Kind::KeyFile => {
            "see the lines \"key\" above: name a file that is there, readable and a private key".to_owned()
        }
        Kind::Algorithms => format!(
            "update the older side; until then add what it offers, for this host alone: {} = \"+…\" \
             under options in [hosts.{name}]",
            algorithms(error.detail())
        ),
        Kind::ServerBusy => "wait and try again; on the server see MaxStartups, PerSourcePenalties \
                             (OpenSSH 9.8), fail2ban and hosts.deny"
            .to_owned(),
        Kind::TimedOut => timed_out(step, user, resolved),
        Kind::TooManyFailures => format!(
            "see above what has failed before, and wait; once it is mended, `sshpool warm {name}` tries at once"
        ),
        Kind::SshMissing => "install the OpenSSH client (Debian: openssh-client)".to_owned(),
        Kind::BadOption => before_a_connection(Kind::BadOption).to_owned(),
        Kind::Local => "see what this machine lacks: room, processes, descriptors".to_owned(),
        Kind::Other if to.proxy.is_some() => {
            "see that the jump host or ProxyCommand works by itself: `sshpool doctor JUMPHOST`, or ssh \
             to it by hand"
                .to_owned()
        }
        Kind::Other => format!("see what `ssh -v {name} true` says"),
    }
}

fn authentication(
    advised: Option<String>,
    name: &str,
    resolved: &Resolved,
    trace: &Trace,
) -> String {
    let offered = trace.offered();
    let methods = trace.methods().unwrap_or_default();
    let takes_keys = methods.is_empty() || methods.split(',').any(|method| method == "publickey");
    let certificate =
        offered.iter().find(|key| key.contains("-CERT ")).map(|key| key.split(' ').next());
    if !takes_keys {
        format!(
            "the server takes no keys, only {methods}: `sshpool warm {name}` on a terminal asks; or let it \
             take keys (PubkeyAuthentication)"
        )
    } else if let Some(advised) = advised.filter(|advised| !texts::is_about_any_key(advised, name))
    {
        advised
    } else if offered.is_empty() {
        "ssh had no key to offer: see the lines \"key\" and \"ssh-agent\" above".to_owned()
    } else if let Some(file) = certificate {
        format!(
            "see with `ssh-keygen -L -f {}` that the certificate is valid now and names the user {}; the \
             server has to trust who signed it (TrustedUserCAKeys), and may have revoked it",
            file.unwrap_or("FILE"),
            resolved.user
        )
    } else {
        let (user, to) = (&resolved.user, &resolved.destination.hostname);
        let port = match resolved.destination.port {
            22 => String::new(),
            port => format!("-p {port} "),
        };
        // A key of an agent has no file here, or a name that is none.
        let file = offered
            .iter()
            .filter_map(|key| key.split(' ').next())
            .find(|name| name.starts_with('/'));
        let key = file.map_or_else(String::new, |file| format!("-i {file} "));
        format!(
            "see that the user {user} is right, and that one of the keys is in its authorized_keys: \
             ssh-copy-id {key}{port}{user}@{to}"
        )
    }
}

fn timed_out(step: Step, user: &str, resolved: &Resolved) -> String {
    let to = &resolved.destination;
    let raise = "raise connect_timeout (SSH_POOL_CONNECTION_TIMEOUT_MS)";
    match step {
        Step::Started | Step::Reached => {
            format!(
                "see that {} is up, and that no firewall drops port {}; if it is only far away, {raise}",
                to.hostname, to.port
            )
        }
        Step::Greeted if to.proxy.is_some() => {
            format!("see that the jump host or ProxyCommand works by itself, or {raise}")
        }
        Step::Greeted => format!(
            "see what listens on port {}: a server that hangs or is overloaded, or no SSH server; if it \
             is only slow, {raise}",
            to.port
        ),
        Step::Exchanged => format!(
            "see whether the server is overloaded, or the network drops large packets (MTU); else {raise}"
        ),
        Step::LoggedIn => format!(
            "see what the server waits for: a name service or PAM (UseDNS, the log of sshd), or a key \
             that wants to be touched; else {raise}"
        ),
        Step::Listening | Step::Answered => {
            format!("see whether this machine is overloaded; else {raise}")
        }
        Step::Echoed => format!(
            "see what hangs there: a start-up file of {user} (~/.bashrc, ~/.zshenv, ~/.ssh/rc) or a \
             forced command; if it is only slow, {raise}"
        ),
    }
}

/// The option of ssh_config that a failed negotiation is about.
fn algorithms(detail: &str) -> &'static str {
    if detail.contains("key exchange") {
        "KexAlgorithms"
    } else if detail.contains("host key type") {
        "HostKeyAlgorithms"
    } else if detail.contains("MAC") {
        "MACs"
    } else {
        "Ciphers"
    }
}

/// The name by which the old key is known, which with a jump host is that of either.
fn known_as(error: &ConnectError) -> Option<&str> {
    error.detail().rsplit_once(" for ").map(|(_, name)| name).filter(|name| !name.contains(' '))
}

/// The file of the old key: `Offending ED25519 key in /k:1 for web1`.
fn in_file(error: &ConnectError) -> String {
    let place = error.detail().split_once(" key in ").map(|(_, rest)| rest);
    let file = place.and_then(|place| place.split(" for ").next()?.rsplit_once(':'));
    file.map_or_else(String::new, |(file, _)| format!(" -f '{file}'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Offending ED25519 key in /a b/k:1 for web1", " -f '/a b/k'")]
    #[case("remote host identification has changed", "")]
    fn the_file_of_the_old_key_is_named(#[case] detail: &str, #[case] expected: &str) {
        let error = ConnectError::new(Kind::HostKeyChanged, detail, Vec::new());
        assert_eq!(in_file(&error), expected);
        assert_eq!(known_as(&error), detail.ends_with(" for web1").then_some("web1"));
    }

    #[rstest]
    #[case("no matching key exchange method found. Their offer: x", "KexAlgorithms")]
    #[case("no matching host key type found. Their offer: x", "HostKeyAlgorithms")]
    #[case("no matching cipher found. Their offer: x", "Ciphers")]
    #[case("no matching MAC found. Their offer: x", "MACs")]
    fn the_option_is_named(#[case] detail: &str, #[case] option: &str) {
        assert_eq!(algorithms(detail), option);
    }
}
