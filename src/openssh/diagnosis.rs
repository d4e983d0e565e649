//! What ssh's texts mean: those of a failed login are in the table of `texts`. No other module
//! knows them, but for those that only `sshpool doctor` asks for (`trace`, `examine`).
//!
//! A *master's* stderr tells why a login failed: [`connect_failure`]. A *session's* debug log
//! tells, when the status is 255, whether the command exited with 255, ended in some other way, or
//! never started: [`session_log`]. Only an explicit refusal or a socket that could not be used
//! counts as "never started"; where the text leaves a doubt, the command may have run.

use std::path::Path;

use super::texts::{self, Line};
use super::trace::DEBUG;
use crate::error::{ConnectError, ConnectErrorKind as Kind};

/// How many of ssh's lines an error keeps.
const LINES_KEPT: usize = 20;

/// What stands before the words of what makes the connection in place of ssh itself.
const WAY: &str = "the jump host or ProxyCommand failed: ";

/// Why a master ended before it was ready. `fallback` says what is known when ssh said nothing.
pub(super) fn connect_failure(stderr: &str, fallback: &str) -> ConnectError {
    let lines: Vec<Line<'_>> = said(stderr).collect();
    let (kind, detail, advice) = match end_of_the_way(&lines) {
        Some(end) => of_the_way(&lines[..end], lines[end].text),
        None => of_the_login(&lines, fallback),
    };
    let error = ConnectError::new(kind, detail, last_lines(stderr)).advising(advice);
    if is_denied(&lines) { error.refused() } else { error }
}

/// Whether the server's last word was a refusal. Its banner comes before that, and may say
/// anything.
fn is_denied(lines: &[Line<'_>]) -> bool {
    let was_heard = lines.iter().rev().find(|line| !line.text.starts_with("Disconnected from "));
    was_heard.is_some_and(|line| {
        line.text.contains("Permission denied (")
            || line.text.contains("Too many authentication failures")
    })
}

/// The cause that these lines name, else the last that may be one.
fn of_the_login(lines: &[Line<'_>], fallback: &str) -> (Kind, String, Option<&'static str>) {
    let is_denied = is_denied(lines);
    // What is wrong with a certificate counts where the key alone did not do, either.
    let is_nobody = lines.iter().any(|line| line.text.contains("Host key verification failed"))
        || lines.last().is_some_and(|line| line.text.starts_with("Certificate "));
    let possible = |kind| match kind {
        Kind::Authentication | Kind::KeyFile => true,
        Kind::HostCertificate => !is_denied && is_nobody,
        _ => !is_denied,
    };
    match texts::find(lines, possible) {
        Some((cause, line)) => (cause.kind, detail(cause.kind, line, lines), cause.advice(line)),
        None => (Kind::Other, last_reason(lines.iter()).unwrap_or(fallback).to_owned(), None),
    }
}

/// Where ssh says that the other end of a pipe is gone: the server itself was not reached, or is no
/// longer. 7.6 does not say that it is one.
fn end_of_the_way(lines: &[Line<'_>]) -> Option<usize> {
    const PIPE: &str = "UNKNOWN port 65535";
    let at = lines.iter().position(|line| {
        ["Connection closed by ", "Connection reset by ", "Connection to ", "banner exchange: "]
            .iter()
            .any(|start| line.text.starts_with(start) && line.text.contains(PIPE))
    });
    at.or_else(|| {
        let (last, before) = lines.split_last()?;
        let is_told = last.text == "ssh_exchange_identification: Connection closed by remote host"
            && before.iter().any(|line| !texts::is_note(line.text));
        is_told.then_some(before.len())
    })
}

/// What the jump host's ssh or the ProxyCommand said before it ended.
fn of_the_way(before: &[Line<'_>], end: &str) -> (Kind, String, Option<&'static str>) {
    // That of ssh itself, which heard nothing.
    let ours = before.iter().rposition(|line| line.text.contains("exchange_identification: "));
    let said: Vec<Line<'_>> = before
        .iter()
        .enumerate()
        .filter(|(at, _)| Some(*at) != ours)
        .map(|(_, line)| *line)
        .collect();
    let heard = ours.map_or(end, |at| before[at].text);
    let (kind, detail, advice) = of_the_login(&said, heard);
    (kind, format!("{WAY}{detail}"), advice)
}

/// Whether this failed on the way to the host, and what it failed on has no name yet.
pub(super) fn is_of_the_way(error: &ConnectError) -> bool {
    error.detail().starts_with(WAY)
}

/// The same error, in which the way has its name: a line of ssh_config, such as `ProxyJump
/// bastion`.
pub(super) fn by_way_of(proxy: &str, error: ConnectError) -> ConnectError {
    match error.detail().strip_prefix(WAY) {
        Some(rest) => {
            let detail = format!("{proxy} failed: {rest}");
            error.with_detail(detail)
        }
        None => error,
    }
}

/// The line for people: that which names the cause, and where it is a banner the one that says
/// more.
fn detail(kind: Kind, line: &str, lines: &[Line<'_>]) -> String {
    let texts = || lines.iter().map(|line| line.text);
    match kind {
        // The telling line is a banner; what the user needs is the host and the file, which stand
        // further down.
        Kind::HostKeyChanged => {
            let offending = texts().find(|line| line.starts_with("Offending "));
            let host = texts()
                .find_map(|line| line.strip_prefix("Host key for ")?.split_once(" has changed"));
            let place = offending.unwrap_or("remote host identification has changed");
            host.map_or(place.to_owned(), |(host, _)| format!("{place} for {host}"))
        }
        Kind::KeyFile if line.contains("UNPROTECTED") => texts()
            .find(|line| line.starts_with("Permissions ") || line.starts_with("Load key "))
            .unwrap_or(line)
            .to_owned(),
        // The line of the file; what is wrong with it may stand before.
        Kind::BadOption => {
            let at = texts().position(|other| other == line).unwrap_or_default();
            let before = at
                .checked_sub(1)
                .map(|at| lines[at].text)
                .filter(|line| texts::is_before_a_line(line));
            before.map_or(line.to_owned(), |before| format!("{line} ({before})"))
        }
        _ => line.trim_start_matches("ssh: ").trim_start_matches("Warning: ").to_owned(),
    }
}

/// The lines of a master's stderr, without those by which it tells of its steps to whoever watches
/// a login.
fn said(stderr: &str) -> impl DoubleEndedIterator<Item = Line<'_>> {
    let of_steps = |line: &str| line.starts_with(DEBUG) || line.starts_with("Authenticated to ");
    // Not `lines`, which takes away the CR by which ssh's own lines are known.
    let lines = stderr.split('\n').map(Line::of);
    lines.filter(move |line| !line.text.is_empty() && !of_steps(line.text))
}

/// The last of what ssh wrote, for an error to keep.
pub(super) fn last_lines(stderr: &str) -> Vec<String> {
    let lines: Vec<_> = said(stderr).collect();
    lines[lines.len().saturating_sub(LINES_KEPT)..]
        .iter()
        .map(|line| line.text.to_owned())
        .collect()
}

/// The last line that may say why something ended. A host key that was accepted and a session that
/// was refused are no reasons.
pub(super) fn last_word(stderr: &str) -> Option<&str> {
    last_reason(said(stderr))
}

/// The last line that may say what a login waits for. It has not ended, so only what names a cause
/// counts: another line is the server's banner, or a warning that is not known yet. By a proxy it
/// may be a word of the program that makes the connection, and that has no form.
pub(super) fn waits_for(stderr: &str, by_proxy: bool) -> Option<&str> {
    let may_be = |line: &str| {
        // A certificate that does not do was followed by a key that did: otherwise ssh would have
        // ended.
        !line.starts_with("Certificate ") && (by_proxy || texts::is_cause(line))
    };
    last_reason(said(stderr).filter(|line| may_be(line.text)))
}

fn last_reason<'a>(
    lines: impl DoubleEndedIterator<Item = impl std::borrow::Borrow<Line<'a>>>,
) -> Option<&'a str> {
    let mut lines = lines.map(|line| line.borrow().text);
    lines.rfind(|line| !line.is_empty() && !texts::is_note(line))
}

/// Why a master that had been ready ended: its last line, or what is known without one.
pub(super) fn master_end(stderr: &str, fallback: &str) -> String {
    crate::text::printable(last_word(stderr).unwrap_or(fallback))
}

/// Whether it was the server that has closed a connection after its login. Before one ssh says so
/// in other words.
pub(super) fn is_closed_by_server(stderr: &str) -> bool {
    said(stderr).any(|line| {
        line.text.starts_with("Connection to ") && line.text.contains(" closed by remote host")
    })
}

/// The pid in `Master running (pid=N)`, which `-O check` prints on stderr.
pub(super) fn check_pid(stderr: &str) -> Option<u32> {
    stderr.split_once("Master running (pid=")?.1.split_once(')')?.0.parse().ok()
}

/// The key exchange that `ssh -v` says it agreed on.
pub(super) fn kex_algorithm(verbose: &str) -> Option<String> {
    let rest = verbose.lines().find_map(|line| line.split_once("kex: algorithm: "))?.1;
    Some(crate::text::printable(rest))
}

/// What the debug log says of a session whose command has left no status.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionLog {
    /// It started, and no exit status came back.
    StartedAndEnded,
    /// The local ssh got a signal that it ends by itself on. Whether the command ran, and to its
    /// end, is not known.
    Signalled(String),
    /// The server would not open another session: not executed.
    Refused(String),
    /// The master could not be reached, or turned the request down: not executed.
    NotReached(String),
    /// The request was sent, and nothing is known of what became of it.
    Unknown(String),
}

/// Whether the server has opened the session, by the log of one that still runs.
pub(super) fn was_opened(log: &str) -> bool {
    log.contains(OPENED)
}

const OPENED: &str = "mux_client_request_session: master session id: ";

/// The status of the remote command, in the log of a session that may still run. Its line is ssh's
/// last but for those of its own end.
pub(super) fn exit_status(log: &str) -> Option<i32> {
    let (before, _) = log.rsplit_once('\n')?;
    before.lines().rev().find_map(|line| {
        line.split_once("debug2: Received exit status from master ")?.1.trim_end().parse().ok()
    })
}

pub(super) fn session_log(log: &str) -> SessionLog {
    let find = |text: &str| log.lines().map(str::trim).find(|line| line.contains(text));
    if let Some(line) = find("Exiting on signal") {
        return SessionLog::Signalled(reason(line));
    }
    if was_opened(log) {
        return SessionLog::StartedAndEnded;
    }
    if let Some(line) = find("mux_client_request_session: session request failed: ") {
        return SessionLog::Refused(reason(line));
    }
    for text in [
        "Control socket ",
        "muxclient: master hello exchange failed",
        "master refused session request: ",
    ] {
        if let Some(line) = find(text) {
            return SessionLog::NotReached(reason(line));
        }
    }
    let last = last_reason(log.split('\n').map(Line::of));
    SessionLog::Unknown(reason(last.unwrap_or("ssh left no word in its log")))
}

/// ssh's line without the level and function that stand before the message.
fn reason(line: &str) -> String {
    let line = line.trim_start_matches("debug1: ").trim_start_matches("debug2: ");
    let line = line.strip_prefix("mux_client_request_session: ").unwrap_or(line);
    crate::text::printable(line)
}

/// The last part of a file that ssh wrote, from `from` on. The start of a long one (a banner of
/// megabytes, say) is of no interest. `None` for a file that is not there.
pub(super) fn read_tail(path: &Path, from: u64) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    const MOST: u64 = 64 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST).max(from)))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    Some(String::from_utf8_lossy(&read().ok()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::by_a_key("lab@h: Permission denied (publickey).\n", true)]
    #[case::without_one(
        "no such identity: /k: No such file or directory\nlab@h: Permission denied (publickey).\n",
        true
    )]
    #[case::by_a_host_key("Host key verification failed.\n", true)]
    #[case::by_a_key_file("Load key \"/k\": invalid format\n", false)]
    #[case::by_nobody("ssh: connect to host h port 1: Connection refused\n", false)]
    #[case::by_a_busy_server(
        "kex_exchange_identification: read: Connection reset by peer\n",
        false
    )]
    fn what_the_server_has_refused_counts(#[case] stderr: &str, #[case] counts: bool) {
        let error = connect_failure(stderr, "it ended");
        assert_eq!(error.is_counted(), counts, "{error}");
    }

    #[rstest]
    #[case("Connection to 127.0.0.1 closed by remote host.\r\n", true)]
    #[case("Timeout, server 127.0.0.1 not responding.\r\n", false)]
    #[case("kex_exchange_identification: Connection closed by remote host\r\n", false)]
    #[case("Connection closed by 127.0.0.1 port 22\r\n", false)]
    #[case("", false)]
    fn who_has_closed_a_connection_is_told(#[case] stderr: &str, #[case] by_server: bool) {
        assert_eq!(is_closed_by_server(stderr), by_server);
    }

    #[rstest]
    #[case::authentication(
        "lab@127.0.0.1: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "lab@127.0.0.1: Permission denied (publickey)."
    )]
    #[case::authentication_behind_a_banner(
        "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nSessions are timed out.\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "authentication failed: lab@h: Permission denied (publickey)."
    )]
    #[case::too_many(
        "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\r\nDisconnected from 127.0.0.1 port 22\r\n",
        Kind::Authentication,
        "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures"
    )]
    #[case::changed(
        "@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nOffending ED25519 key in /k:1\r\n\
         Host key for web1 has changed and you have requested strict checking.\r\nHost key verification failed.\r\n",
        Kind::HostKeyChanged,
        "Offending ED25519 key in /k:1 for web1"
    )]
    #[case::unknown(
        "No ED25519 host key is known for web1 and you have requested strict checking.\r\nHost key verification failed.\r\n",
        Kind::HostKeyUnknown,
        "No ED25519 host key is known for web1 and you have requested strict checking."
    )]
    #[case::refused(
        "ssh: connect to host 127.0.0.1 port 9: Connection refused\r\n",
        Kind::Refused,
        "connect to host 127.0.0.1 port 9: Connection refused"
    )]
    #[case::silent(
        "Connection timed out during banner exchange\r\nConnection to 127.0.0.1 port 9 timed out\r\n",
        Kind::TimedOut,
        "Connection to 127.0.0.1 port 9 timed out"
    )]
    #[case::no_route(
        "ssh: connect to host 10.0.0.1 port 22: No route to host\r\n",
        Kind::Unreachable,
        "connect to host 10.0.0.1 port 22: No route to host"
    )]
    #[case::name(
        "ssh: Could not resolve hostname x: Name or service not known\r\n",
        Kind::Name,
        "Could not resolve hostname x: Name or service not known"
    )]
    #[case::open_key(
        "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\r\nPermissions 0644 for '/k' are too open.\r\nLoad key \"/k\": bad permissions\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::KeyFile,
        "Permissions 0644 for '/k' are too open."
    )]
    #[case::no_key(
        "Warning: Identity file nokey not accessible: No such file or directory.\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::KeyFile,
        "Identity file nokey not accessible: No such file or directory."
    )]
    #[case::algorithms(
        "Unable to negotiate with 127.0.0.1 port 9: no matching key exchange method found. Their offer: x\r\n",
        Kind::Algorithms,
        "Unable to negotiate with 127.0.0.1 port 9: no matching key exchange method found. Their offer: x"
    )]
    #[case::option(
        "command-line: line 0: Bad configuration option: nosuch\r\n",
        Kind::BadOption,
        "command-line: line 0: Bad configuration option: nosuch"
    )]
    #[case::busy(
        "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 127.0.0.1 port 9\r\n",
        Kind::ServerBusy,
        "kex_exchange_identification: read: Connection reset by peer"
    )]
    #[case::no_server(
        "kex_exchange_identification: banner line too long\r\nbanner exchange: Connection to 127.0.0.1 port 9: could not read protocol version\r\n",
        Kind::Other,
        "ssh failed: kex_exchange_identification: banner line too long"
    )]
    #[case::farewell(
        "Received disconnect from 127.0.0.1 port 9:2: go away\r\nDisconnected from 127.0.0.1 port 9\r\n",
        Kind::Other,
        "ssh failed: Received disconnect from 127.0.0.1 port 9:2: go away"
    )]
    #[case::other("first\r\nsomething new\r\n", Kind::Other, "something new")]
    #[case::nothing("", Kind::Other, "it ended with status 255")]
    fn each_cause_has_its_kind_and_its_line(
        #[case] stderr: &str,
        #[case] kind: Kind,
        #[case] detail: &str,
    ) {
        let error = connect_failure(stderr, "it ended with status 255");
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(detail), "{error}");
    }

    /// Each is followed by the lines that ssh writes behind it; the first line of the expected is a
    /// piece of the detail, the second one of the advice, or `-` where there is none.
    #[rstest]
    #[case::f1_agent_refused(
        "sign_and_send_pubkey: signing failed for ED25519 \"me@x\" from agent: agent refused operation\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "signing failed for ED25519 \"me@x\" from agent: agent refused operation",
        "unlock it, confirm"
    )]
    #[case::f1_agent_refused_7_6(
        "sign_and_send_pubkey: signing failed: agent refused operation\r\nPermission denied (publickey).\r\n",
        Kind::Authentication,
        "signing failed: agent refused operation",
        "unlock it, confirm"
    )]
    #[case::f1_agent_gone(
        "sign_and_send_pubkey: signing failed for RSA \"k\" from agent: communication with agent failed\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "communication with agent failed",
        "ssh-add -l"
    )]
    #[case::f1_no_device(
        "sign_and_send_pubkey: signing failed for ED25519-SK \"/k\": device not found\r\nlab@h: Permission denied (publickey,password).\r\n",
        Kind::Authentication,
        "device not found",
        "plug in the security key"
    )]
    #[case::f1_no_pin(
        "sign_and_send_pubkey: signing failed for ECDSA-SK \"/k\": incorrect passphrase supplied to decrypt private key\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "incorrect passphrase",
        "PIN: `sshpool warm HOST`"
    )]
    #[case::f1_other(
        "sign_and_send_pubkey: signing failed for ED25519-SK \"/k\": invalid format\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "invalid format",
        "touch it"
    )]
    #[case::f1_no_mutual(
        "sign_and_send_pubkey: no mutual signature supported\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "no mutual signature supported",
        "PubkeyAcceptedAlgorithms"
    )]
    #[case::f1_wrong_signature(
        "agent key RSA SHA256:x returned incorrect signature type\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "agent key RSA SHA256:x returned incorrect signature type",
        "PubkeyAcceptedAlgorithms"
    )]
    #[case::f2_expired(
        "Certificate invalid: expired\r\nNo ED25519 host key is known for h and you have requested strict checking.\r\nHost key verification failed.\r\n",
        Kind::HostCertificate,
        "Certificate invalid: expired",
        "new certificate"
    )]
    #[case::f2_principal(
        "Certificate invalid: name is not a listed principal\r\nHost key verification failed.\r\n",
        Kind::HostCertificate,
        "name is not a listed principal",
        "HostKeyAlias"
    )]
    #[case::f2_early(
        "Certificate invalid: not yet valid\r\nHost key verification failed.\r\n",
        Kind::HostCertificate,
        "not yet valid",
        "clocks"
    )]
    #[case::f2_wrong_type(
        "Certificate invalid: not a host certificate\r\nHost key verification failed.\r\n",
        Kind::HostCertificate,
        "not a host certificate",
        "another certificate"
    )]
    #[case::f2_critical_option(
        "Certificate for h contains unsupported critical options(s)\r\nHost key verification failed.\r\n",
        Kind::HostCertificate,
        "unsupported critical options",
        "another certificate"
    )]
    #[case::f2_but_the_key_is_known(
        "Certificate invalid: expired\r\nConnection closed by 127.0.0.1 port 22\r\n",
        Kind::Other,
        "ssh failed: Connection closed by 127.0.0.1 port 22",
        "-"
    )]
    #[case::f2_but_the_key_is_known_and_we_are_not(
        "Certificate invalid: expired\r\nlab@h: Permission denied (publickey).\r\n",
        Kind::Authentication,
        "Permission denied",
        "check user and key"
    )]
    #[case::f3_marked(
        "@@@\r\n@       WARNING: REVOKED HOST KEY DETECTED!               @\r\n@@@\r\nThe ED25519 host key for h is marked as revoked.\r\n\
         This could mean that a stolen key is being used to\r\nimpersonate this host.\r\nED25519 host key for h was revoked and you have requested strict checking.\r\n\
         Host key verification failed.\r\n",
        Kind::HostKeyRevoked,
        "The ED25519 host key for h is marked as revoked.",
        "somebody else"
    )]
    #[case::f3_by_file(
        "Host key ED25519 SHA256:x revoked by file /r\r\nHost key verification failed.\r\n",
        Kind::HostKeyRevoked,
        "Host key ED25519 SHA256:x revoked by file /r",
        "somebody else"
    )]
    #[case::f3_no_file(
        "Error checking host key ED25519 SHA256:x in revoked keys file /r: No such file or directory\r\nHost key verification failed.\r\n",
        Kind::BadOption,
        "in revoked keys file /r: No such file or directory",
        "RevokedHostKeys"
    )]
    #[case::f4_keyboard(
        "lab@h: Permission denied (keyboard-interactive).\r\n",
        Kind::Authentication,
        "(keyboard-interactive)",
        "`sshpool warm HOST`"
    )]
    #[case::f4_password(
        "lab@h: Permission denied (password,keyboard-interactive).\r\n",
        Kind::Authentication,
        "(password,",
        "wants to ask for a password"
    )]
    #[case::f4_neither(
        "lab@h: Permission denied (gssapi-with-mic).\r\n",
        Kind::Authentication,
        "(gssapi-with-mic)",
        "check user and key"
    )]
    #[case::f4_asks(
        "Host key verification failed.\r\n",
        Kind::HostKeyUnknown,
        "Host key verification failed.",
        "`sshpool warm HOST`"
    )]
    #[case::f4_strict(
        "No RSA host key is known for h and you have requested strict checking.\r\nHost key verification failed.\r\n",
        Kind::HostKeyUnknown,
        "No RSA host key is known for h",
        "add the key to known_hosts"
    )]
    #[case::f5_refused(
        "bob@bastion: Permission denied (publickey).\r\nkex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        Kind::Authentication,
        "the jump host or ProxyCommand failed: bob@bastion: Permission denied (publickey).",
        "check user and key"
    )]
    #[case::f5_refused_7_6(
        "bob@bastion: Permission denied (password).\r\nssh_exchange_identification: Connection closed by remote host\r\n",
        Kind::Authentication,
        "the jump host or ProxyCommand failed: bob@bastion: Permission denied (password).",
        "`sshpool warm HOST`"
    )]
    #[case::f5_unknown(
        "No ED25519 host key is known for bastion and you have requested strict checking.\r\nHost key verification failed.\r\n\
         kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        Kind::HostKeyUnknown,
        "failed: No ED25519 host key is known for bastion",
        "add the key"
    )]
    #[case::f5_prohibited(
        "channel 0: open failed: administratively prohibited: open failed\r\nstdio forwarding failed\r\n\
         kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        Kind::Other,
        "failed: channel 0: open failed: administratively prohibited: open failed",
        "AllowTcpForwarding"
    )]
    #[case::f5_nothing_listens(
        "channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n\
         kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        Kind::Refused,
        "failed: channel 0: open failed: connect failed: Connection refused",
        "-"
    )]
    #[case::f5_no_name(
        "channel 0: open failed: connect failed: Name or service not known\r\nstdio forwarding failed\r\n\
         kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        Kind::Name,
        "connect failed: Name or service not known",
        "-"
    )]
    #[case::f5_dropped(
        "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 10.0.0.1 port 22\r\n\
         kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        Kind::ServerBusy,
        "failed: kex_exchange_identification: read: Connection reset by peer",
        "MaxStartups"
    )]
    #[case::f5_a_program(
        "/bin/bash: line 1: nosuch: command not found\nkex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
        Kind::Other,
        "failed: /bin/bash: line 1: nosuch: command not found",
        "-"
    )]
    #[case::f5_beyond_it(
        "Unable to negotiate with UNKNOWN port 65535: no matching cipher found. Their offer: x\r\n",
        Kind::Algorithms,
        "no matching cipher found",
        "-"
    )]
    #[case::f6_no_reason(
        "** WARNING: connection is not using a post-quantum key exchange algorithm.\r\n** This session may be vulnerable to \"store now, decrypt later\" attacks.\r\n\
         ** The server may need to be upgraded. See https://openssh.com/pq.html\r\n",
        Kind::Other,
        "it ended with status 255",
        "-"
    )]
    #[case::f6_behind_the_reason(
        "something new\r\nWarning: Permanently added 'h' (ED25519) to the list of known hosts.\r\n** something later\r\n",
        Kind::Other,
        "something new",
        "-"
    )]
    #[case::f7_too_many(
        "Welcome: your session timed out.\nReceived disconnect from 127.0.0.1 port 22:2: Too many authentication failures\r\nDisconnected from 127.0.0.1 port 22\r\n",
        Kind::Authentication,
        "Too many authentication failures",
        "IdentitiesOnly"
    )]
    #[case::b5_port(
        "/c line 2: Bad port 'abc'.\r\n/c: terminating, 1 bad configuration options\r\n",
        Kind::BadOption,
        "bad ssh configuration: /c line 2: Bad port 'abc'.",
        "-"
    )]
    #[case::b5_the_first_of_them(
        "/c line 1: Bad port 'abc'.\r\n/c line 2: Bad SSH2 cipher spec 'nosuch'.\r\n/c: line 3: Bad configuration option: foo\r\n/c: terminating, 3 bad configuration options\r\n",
        Kind::BadOption,
        "/c line 1: Bad port 'abc'.",
        "-"
    )]
    #[case::b5_match(
        "Unsupported Match attribute foo\r\n/c line 2: Bad Match condition\r\n/c: terminating, 1 bad configuration options\r\n",
        Kind::BadOption,
        "/c line 2: Bad Match condition (Unsupported Match attribute foo)",
        "-"
    )]
    #[case::b5_at_once(
        "/c line 2: bad port number in permitremoteopen\r\n",
        Kind::BadOption,
        "/c line 2: bad port number",
        "-"
    )]
    #[case::b5_variable(
        "vdollar_percent_expand: env var ${NOSUCH} has no value\r\ninvalid environment variable expansion\r\n",
        Kind::BadOption,
        "env var ${NOSUCH} has no value",
        "set the variable"
    )]
    #[case::without_carriage_returns(
        "Certificate invalid: expired\nHost key verification failed.\n",
        Kind::HostCertificate,
        "Certificate invalid: expired",
        "new certificate"
    )]
    fn the_line_with_the_cause_is_quoted_and_the_advice_fits(
        #[case] stderr: &str,
        #[case] kind: Kind,
        #[case] detail: &str,
        #[case] advice: &str,
    ) {
        let error = connect_failure(stderr, "it ended with status 255");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(detail), "{error}");
        match advice {
            "-" => assert_eq!(error.advice(), None, "{error}"),
            _ => assert!(error.advice().is_some_and(|told| told.contains(advice)), "{error}"),
        }
        assert!(!error.told_of("web1").contains("HOST"), "{}", error.told_of("web1"));
    }

    #[test]
    fn the_way_gets_its_name() {
        let stderr = "Host key verification failed.\r\nkex_exchange_identification: Connection closed by remote host\r\n\
            Connection closed by UNKNOWN port 65535\r\n";
        let error = connect_failure(stderr, "");
        assert!(is_of_the_way(&error), "{error}");
        let named = by_way_of("ProxyJump bastion", error.clone());
        assert!(
            named
                .to_string()
                .contains(": ProxyJump bastion failed: Host key verification failed. ("),
            "{named}"
        );
        assert_eq!(
            (named.kind(), named.advice(), named.ssh_output()),
            (error.kind(), error.advice(), error.ssh_output())
        );
        let other = connect_failure("lab@h: Permission denied (publickey).\r\n", "");
        assert!(!is_of_the_way(&other));
        assert_eq!(by_way_of("ProxyJump bastion", other.clone()), other);
    }

    #[rstest]
    #[case::post_quantum(
        "** WARNING: connection is not using a post-quantum key exchange algorithm.\r\n** x\r\n",
        None
    )]
    #[case::banner("Authorized users only: all timed\nsessions are logged\n", None)]
    #[case::banner_of_a_device("***\r\nWARNING: go away\r\n***\r\n", None)]
    #[case::accepted(
        "Warning: Permanently added 'h' (ED25519) to the list of known hosts.\r\n",
        None
    )]
    #[case::certificate("Certificate invalid: expired\r\n", None)]
    #[case::one_address(
        "ssh: connect to host ::1 port 22: Network is unreachable\r\nWelcome\n",
        Some("ssh: connect to host ::1 port 22: Network is unreachable")
    )]
    #[case::nothing("", None)]
    fn what_a_login_waits_for_is_no_warning_and_no_banner(
        #[case] stderr: &str,
        #[case] expected: Option<&str>,
    ) {
        assert_eq!(waits_for(stderr, false), expected);
    }

    #[test]
    fn by_a_proxy_its_own_words_may_be_what_is_waited_for() {
        assert_eq!(
            waits_for("log in at https://x\n** WARNING: y\r\n", true),
            Some("log in at https://x")
        );
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let text: String = (0..1000).map(|n| format!("line {n}\r\n")).collect();
        let error = connect_failure(&text, "");
        assert_eq!(error.ssh_output().len(), LINES_KEPT);
        assert_eq!(error.ssh_output()[LINES_KEPT - 1], "line 999");
    }

    #[rstest]
    #[case::ended(
        "debug1: mux_client_request_session: master session id: 2\r\ndebug2: Control master terminated unexpectedly\r\n",
        SessionLog::StartedAndEnded
    )]
    #[case::signalled(
        "debug1: mux_client_request_session: master session id: 2\r\ndebug2: Exiting on signal: Terminated\r\n",
        SessionLog::Signalled("Exiting on signal: Terminated".into())
    )]
    #[case::refused(
        "debug2: mux_client_hello_exchange: master version 4\r\nmux_client_request_session: session request failed: Session open refused by peer\r\n",
        SessionLog::Refused("session request failed: Session open refused by peer".into())
    )]
    #[case::missing("debug1: Control socket \"P\" does not exist\r\n", SessionLog::NotReached("Control socket \"P\" does not exist".into()))]
    #[case::stale("Control socket connect(P): Connection refused\r\n", SessionLog::NotReached("Control socket connect(P): Connection refused".into()))]
    #[case::killed_before_hello(
        "debug1: mux_client_hello_exchange: read packet failed\r\nmuxclient: master hello exchange failed\r\n",
        SessionLog::NotReached("muxclient: master hello exchange failed".into())
    )]
    #[case::killed_after_the_request(
        "debug2: mux_client_hello_exchange: master version 4\r\nmux_client_request_session: read from master failed: Broken pipe\r\n",
        SessionLog::Unknown("read from master failed: Broken pipe".into())
    )]
    #[case::empty("", SessionLog::Unknown("ssh left no word in its log".into()))]
    fn a_session_log_is_read(#[case] log: &str, #[case] expected: SessionLog) {
        assert_eq!(session_log(log), expected);
        assert_eq!(exit_status(log), None);
    }

    #[rstest]
    #[case("debug2: Received exit status from master 255\r\n", Some(255))]
    #[case("debug1: x\r\ndebug2: Received exit status from master 0\r\ndebug1: y\r\n", Some(0))]
    #[case("debug2: Received exit status from master 25", None)]
    fn the_log_has_the_status_as_soon_as_its_line_is_whole(
        #[case] log: &str,
        #[case] status: Option<i32>,
    ) {
        assert_eq!(exit_status(log), status);
    }

    #[test]
    fn the_key_exchange_is_read() {
        let text = "debug1: kex: algorithm: curve25519-sha256\r\ndebug1: kex: host key algorithm: ssh-ed25519\r\n";
        assert_eq!(kex_algorithm(text).as_deref(), Some("curve25519-sha256"));
        assert_eq!(kex_algorithm(""), None);
    }

    #[rstest]
    #[case("Master running (pid=123)\r\n", Some(123))]
    #[case("Control socket connect(P): Connection refused\r\n", None)]
    fn the_master_says_its_pid(#[case] stderr: &str, #[case] pid: Option<u32>) {
        assert_eq!(check_pid(stderr), pid);
    }
}
