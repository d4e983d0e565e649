//! What ssh's texts mean. No other module knows them, but for those that only `sshpool doctor` asks for (`trace`, `examine`).
//!
//! A *master's* stderr tells why a login failed: [`connect_failure`]. A *session's* debug log tells, when the status is 255, whether
//! the command exited with 255, ended in some other way, or never started: [`session_log`]. Only an explicit refusal or a socket that
//! could not be used counts as "never started"; where the text leaves a doubt, the command may have run.

use std::path::Path;

use super::trace::DEBUG;
use crate::error::{ConnectError, ConnectErrorKind as Kind};

/// The causes of a failed login by the texts that give them away, the most telling first: a bad key file is followed by
/// "Permission denied", and a changed host key by "Host key verification failed".
const CONNECT_TEXTS: &[(&str, Kind)] = &[
    ("command-line: line ", Kind::BadOption),
    ("command-line line ", Kind::BadOption),
    ("Bad configuration option", Kind::BadOption),
    ("terminating, ", Kind::BadOption),
    ("Can't open user config file", Kind::BadOption),
    ("Bad owner or permissions on ", Kind::BadOption),
    ("unix_listener: ", Kind::Local),
    ("ControlSocket ", Kind::Local),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Kind::HostKeyChanged),
    (" host key is known for ", Kind::HostKeyUnknown),
    ("Host key verification failed", Kind::HostKeyUnknown),
    ("Unable to negotiate with ", Kind::Algorithms),
    ("Could not resolve hostname ", Kind::Name),
    ("UNPROTECTED PRIVATE KEY FILE", Kind::KeyFile),
    ("Identity file ", Kind::KeyFile),
    ("Load key ", Kind::KeyFile),
    ("Permission denied (", Kind::Authentication),
    ("Too many authentication failures", Kind::Authentication),
    ("No supported authentication methods", Kind::Authentication),
    (": Connection refused", Kind::Refused),
    (" timed out", Kind::TimedOut),
    ("Timeout, server ", Kind::TimedOut),
    ("No route to host", Kind::Unreachable),
    ("Network is unreachable", Kind::Unreachable),
    ("exchange_identification: read: ", Kind::ServerBusy),
    ("exchange_identification: Connection ", Kind::ServerBusy),
    ("Not allowed at this time", Kind::ServerBusy),
    // What answers is no SSH server, or says itself why it does not want us; what follows says only that it is over.
    ("exchange_identification: ", Kind::Other),
    ("Received disconnect from ", Kind::Other),
];

/// How many of ssh's lines an error keeps.
const LINES_KEPT: usize = 20;

/// Why a master ended before it was ready. `fallback` says what is known when ssh said nothing.
pub(super) fn connect_failure(stderr: &str, fallback: &str) -> ConnectError {
    let lines: Vec<&str> = said(stderr).collect();
    // The server's banner comes before that, and may say anything.
    let is_denied = lines.last().is_some_and(|line| line.contains("Permission denied ("));
    let possible = |kind| !is_denied || matches!(kind, Kind::Authentication | Kind::KeyFile);
    let found = CONNECT_TEXTS.iter().filter(|(_, kind)| possible(*kind)).find_map(|&(text, kind)| {
        lines.iter().rev().find(|line| line.contains(text)).map(|line| (kind, *line))
    });
    let (kind, line) = match found {
        Some(found) => found,
        None => (Kind::Other, lines.last().copied().unwrap_or(fallback)),
    };
    // ssh's word for the other end of a pipe: the server itself was never reached.
    if let Some(at) = lines.iter().position(|line| line.contains("UNKNOWN port 65535"))
        && matches!(kind, Kind::ServerBusy | Kind::Other | Kind::HostKeyUnknown)
    {
        let before = lines[..at].iter().rfind(|line| !line.contains("kex_exchange_identification: "));
        let detail = format!("the jump host or ProxyCommand failed: {}", before.unwrap_or(&line));
        let kind = if kind == Kind::HostKeyUnknown { kind } else { Kind::Other };
        return ConnectError::new(kind, detail, last_lines(stderr));
    }
    let detail = match kind {
        // The telling line is a banner; what the user needs is the host and the file, which stand further down.
        Kind::HostKeyChanged => {
            let offending = lines.iter().find(|line| line.starts_with("Offending "));
            let host =
                lines.iter().find_map(|line| line.strip_prefix("Host key for ")?.split_once(" has changed"));
            let place = offending.map_or("remote host identification has changed", |line| line);
            host.map_or(place.to_owned(), |(host, _)| format!("{place} for {host}"))
        }
        Kind::KeyFile if line.contains("UNPROTECTED") => lines
            .iter()
            .find(|line| line.starts_with("Permissions ") || line.starts_with("Load key "))
            .map_or_else(|| line.to_owned(), |line| (*line).to_owned()),
        _ => line.trim_start_matches("ssh: ").trim_start_matches("Warning: ").to_owned(),
    };
    ConnectError::new(kind, detail, last_lines(stderr))
}

/// The lines of a master's stderr, without those by which it tells of its steps to whoever watches a login.
fn said(stderr: &str) -> impl DoubleEndedIterator<Item = &str> {
    let of_steps = |line: &str| line.starts_with(DEBUG) || line.starts_with("Authenticated to ");
    stderr.lines().map(str::trim).filter(move |line| !line.is_empty() && !of_steps(line))
}

/// The last of what ssh wrote, for an error to keep.
pub(super) fn last_lines(stderr: &str) -> Vec<String> {
    let lines: Vec<&str> = said(stderr).collect();
    lines[lines.len().saturating_sub(LINES_KEPT)..].iter().map(|line| (*line).to_owned()).collect()
}

/// The last line that may say why something ended. A host key that was accepted and a session that was refused are no reasons.
pub(super) fn last_word(stderr: &str) -> Option<&str> {
    last_reason(said(stderr))
}

fn last_reason<'a>(mut lines: impl DoubleEndedIterator<Item = &'a str>) -> Option<&'a str> {
    let is_no_reason = |line: &str| line.contains("Permanently added") || line.contains(": open failed: ");
    lines.rfind(|line| !line.is_empty() && !is_no_reason(line))
}

/// Why a master that had been ready ended: its last line, or what is known without one.
pub(super) fn master_end(stderr: &str, fallback: &str) -> String {
    crate::error::printable(last_word(stderr).unwrap_or(fallback))
}

/// Whether it was the server that has closed a connection after its login. Before one ssh says so in other words.
pub(super) fn is_closed_by_server(stderr: &str) -> bool {
    said(stderr).any(|line| line.starts_with("Connection to ") && line.contains(" closed by remote host"))
}

/// The pid in `Master running (pid=N)`, which `-O check` prints on stderr.
pub(super) fn check_pid(stderr: &str) -> Option<u32> {
    stderr.split_once("Master running (pid=")?.1.split_once(')')?.0.parse().ok()
}

/// What `ssh -G` says about unknown host keys, such as `ask`.
pub(super) fn host_key_checking(resolved: &str) -> Option<&str> {
    resolved_value(resolved, "stricthostkeychecking")
}

/// What `ssh -G` says about an option, by its name in small letters.
pub(super) fn resolved_value<'a>(resolved: &'a str, option: &str) -> Option<&'a str> {
    resolved.lines().find_map(|line| line.trim().strip_prefix(option)?.strip_prefix(' '))
}

/// The key exchange that `ssh -v` says it agreed on.
#[cfg(feature = "cli")]
pub(super) fn kex_algorithm(verbose: &str) -> Option<String> {
    let rest = verbose.lines().find_map(|line| line.split_once("kex: algorithm: "))?.1;
    Some(crate::error::printable(rest))
}

/// What the debug log says of a session whose command has left no status.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionLog {
    /// It started, and no exit status came back.
    StartedAndEnded,
    /// The local ssh got a signal that it ends by itself on. Whether the command ran, and to its end, is not known.
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

/// The status of the remote command, in the log of a session that may still run. Its line is ssh's last but for those of its own end.
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
    for text in
        ["Control socket ", "muxclient: master hello exchange failed", "master refused session request: "]
    {
        if let Some(line) = find(text) {
            return SessionLog::NotReached(reason(line));
        }
    }
    let last = last_reason(log.lines().map(str::trim));
    SessionLog::Unknown(reason(last.unwrap_or("ssh left no word in its log")))
}

/// ssh's line without the level and function that stand before the message.
fn reason(line: &str) -> String {
    let line = line.trim_start_matches("debug1: ").trim_start_matches("debug2: ");
    let line = line.strip_prefix("mux_client_request_session: ").unwrap_or(line);
    crate::error::printable(line)
}

/// The last part of a file that ssh wrote, from `from` on. The start of a long one (a banner of megabytes, say) is of no interest. `None`
/// for a file that is not there.
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
    fn each_cause_has_its_kind_and_its_line(#[case] stderr: &str, #[case] kind: Kind, #[case] detail: &str) {
        let error = connect_failure(stderr, "it ended with status 255");
        assert_eq!(error.kind(), kind);
        assert!(error.to_string().contains(detail), "{error}");
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
    fn the_log_has_the_status_as_soon_as_its_line_is_whole(#[case] log: &str, #[case] status: Option<i32>) {
        assert_eq!(exit_status(log), status);
    }

    #[cfg(feature = "cli")]
    #[test]
    fn the_key_exchange_is_read() {
        let text =
            "debug1: kex: algorithm: curve25519-sha256\r\ndebug1: kex: host key algorithm: ssh-ed25519\r\n";
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
