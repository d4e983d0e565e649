//! The debug log of a session.

use super::last_reason;
use crate::openssh::texts::Line;

/// What the debug log says of a session whose command has left no status.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::openssh) enum SessionLog {
    /// It started, and no exit status came back.
    StartedAndEnded,
    /// The local ssh got a signal that it ends by itself on. Whether the command ran, and to its
    /// end, is not known.
    Signalled(String),
    /// The server would not open another session: not executed.
    Refused(String),
    /// The master could not be reached, or turned the request down: not executed.
    NotReached(String),
    /// The request was sent, and its outcome is not known.
    Unknown(String),
}

/// Whether the server has opened the session, by the log of one that still runs.
pub(in crate::openssh) fn was_opened(log: &str) -> bool {
    log.contains(OPENED)
}

const OPENED: &str = "mux_client_request_session: master session id: ";

/// The number of the session's channel on its master.
pub(in crate::openssh) fn channel_of(log: &str) -> Option<u32> {
    log.split_once(OPENED)?.1.lines().next()?.trim_end().parse().ok()
}

/// The status of the remote command, in the log of a session that may still run. Its line is ssh's
/// last but for those of its own end.
pub(in crate::openssh) fn exit_status(log: &str) -> Option<i32> {
    let (before, _) = log.rsplit_once('\n')?;
    before.lines().rev().find_map(|line| {
        line.split_once("debug2: Received exit status from master ")?.1.trim_end().parse().ok()
    })
}

pub(in crate::openssh) fn session_log(log: &str) -> SessionLog {
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
