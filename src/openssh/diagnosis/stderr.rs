//! The lines that a master or another ssh has written to its stderr.

use crate::openssh::texts::{self, Line};
use crate::openssh::trace::DEBUG;

/// How many of ssh's lines an error keeps.
pub(super) const LINES_KEPT: usize = 20;

/// The lines of a master's stderr, without its debug lines and the line about its success.
pub(super) fn said(stderr: &str) -> impl DoubleEndedIterator<Item = Line<'_>> {
    let of_steps = |line: &str| {
        line.starts_with(DEBUG)
            || line.starts_with("debug2: ")
            || line.starts_with("Authenticated to ")
    };
    // Not `lines`, which takes away the CR by which ssh's own lines are known.
    let lines = stderr.split('\n').map(Line::of);
    lines.filter(move |line| !line.text.is_empty() && !of_steps(line.text))
}

/// The last of what ssh wrote, for an error to keep.
pub(in crate::openssh) fn last_lines(stderr: &str) -> Vec<String> {
    let lines: Vec<_> = said(stderr).collect();
    lines[lines.len().saturating_sub(LINES_KEPT)..]
        .iter()
        .map(|line| line.text.to_owned())
        .collect()
}

/// The last line that may say why something ended. A host key that was accepted and a session that
/// was refused are no reasons.
pub(in crate::openssh) fn last_word(stderr: &str) -> Option<&str> {
    last_reason(said(stderr))
}

/// The last line that may say what a login waits for. It has not ended, so only what names a cause
/// counts: another line is the server's banner, or a warning that is not known yet. By a proxy it
/// may be a word of the program that makes the connection, and that has no form.
pub(in crate::openssh) fn waits_for(stderr: &str, by_proxy: bool) -> Option<&str> {
    let may_be = |line: &str| {
        // A certificate that does not do was followed by a key that did: otherwise ssh would have
        // ended.
        !line.starts_with("Certificate ") && (by_proxy || texts::is_cause(line))
    };
    last_reason(said(stderr).filter(|line| may_be(line.text)))
}

pub(super) fn last_reason<'a>(
    lines: impl DoubleEndedIterator<Item = impl std::borrow::Borrow<Line<'a>>>,
) -> Option<&'a str> {
    let mut lines = lines.map(|line| line.borrow().text);
    lines.rfind(|line| !line.is_empty() && !texts::is_note(line))
}

/// Why a master that had been ready ended: its last line, or what is known without one.
pub(in crate::openssh) fn master_end(stderr: &str, fallback: &str) -> String {
    crate::text::printable(last_word(stderr).unwrap_or(fallback))
}

/// Whether it was the server that has closed a connection after its login. Before one ssh says so
/// in other words.
pub(in crate::openssh) fn is_closed_by_server(stderr: &str) -> bool {
    said(stderr).any(|line| {
        line.text.starts_with("Connection to ") && line.text.contains(" closed by remote host")
    })
}

/// The pid in `Master running (pid=N)`, which `-O check` prints on stderr.
pub(in crate::openssh) fn check_pid(stderr: &str) -> Option<u32> {
    stderr.split_once("Master running (pid=")?.1.split_once(')')?.0.parse().ok()
}

/// The key exchange that `ssh -v` says it agreed on.
pub(in crate::openssh) fn kex_algorithm(verbose: &str) -> Option<String> {
    let rest = verbose.lines().find_map(|line| line.split_once("kex: algorithm: "))?.1;
    Some(crate::text::printable(rest))
}
