//! What ssh's texts mean: those of a failed login are in the table of `texts`. No other module
//! knows them, except those that only `sshpool doctor` reads (`trace`, `examine`).
//!
//! A *master's* stderr tells why a login failed: [`connect_failure`]. A *session's* debug log
//! tells, when the status is 255, whether the command exited with 255, ended in some other way, or
//! never started: [`session_log`]. Only an explicit refusal or a socket that could not be used
//! counts as "never started"; where the text leaves a doubt, the command may have run.

mod session;
mod stderr;
#[cfg(test)]
mod tests;

use std::path::Path;

use super::texts::{self, Line};
use crate::error::{ConnectError, ConnectErrorKind as Kind};
pub(super) use session::{SessionLog, channel_of, exit_status, session_log, was_opened};
pub(super) use stderr::kex_algorithm;
pub(super) use stderr::{
    check_pid, is_closed_by_server, last_lines, last_word, master_end, waits_for,
};
use stderr::{last_reason, said};

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
    Some(without_places(&String::from_utf8_lossy(&read().ok()?)))
}

/// The lines without the place in ssh's source that `LogVerbose` puts before some of them:
/// `packet.c:ssh_packet_read_poll_seqnr():1782 (pid=12): `.
fn without_places(log: &str) -> String {
    log.split_inclusive('\n').flat_map(without_place).collect()
}

fn without_place(line: &str) -> [&str; 2] {
    let is_level = |level: &str| level.len() == 6 && level.starts_with("debug");
    let behind = match line.split_once(": ") {
        Some((level, behind)) if is_level(level) => behind,
        _ => line,
    };
    let level = &line[..line.len() - behind.len()];
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let is_number = |number: &str| number.chars().all(|c| c.is_ascii_digit());
    let is_place = |place: &str| {
        let (file, rest) = place.split_once(".c:")?;
        let (function, rest) = rest.split_once("():")?;
        let (number, pid) = rest.split_once(" (pid=")?;
        let is_one = [file, function].into_iter().all(is_name);
        (is_one && is_number(number) && is_number(pid)).then_some(())
    };
    match behind.split_once("): ") {
        Some((place, text)) if is_place(place).is_some() => [level, text],
        _ => [level, behind],
    }
}
