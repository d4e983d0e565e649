//! Lines on stderr.

use std::fmt::Display;
use std::time::Duration;

use crate::pool::signals;
use crate::text::printable;

/// A message without what a terminal or a reader of lines takes for more than letters, whatever
/// names and values are in it. Of one that is too long the beginning and the end are left.
pub(in crate::cli) fn one_line(message: &str) -> String {
    const LONGEST: usize = 4000;
    let line = printable(message);
    let place = |nth: usize| line.char_indices().nth(nth).map(|(at, _)| at);
    let last = line.char_indices().rev().nth(LONGEST / 2).map(|(at, _)| at);
    match (place(LONGEST), place(LONGEST / 2), last) {
        (Some(_), Some(head), Some(tail)) => format!("{}…{}", &line[..head], &line[tail..]),
        _ => line,
    }
}

/// How long it is tried to tell what was wrong.
const COMPLAINT: Duration = Duration::from_secs(1);

/// One line on stderr.
pub(in crate::cli) fn complain(message: impl Display) {
    // What ends while we end is ended by us.
    if !signals::is_ending() {
        tell(format!("sshpool: {message}\n"));
    }
}

/// Writes to stderr, if that takes it.
pub(in crate::cli) fn tell(line: String) {
    use std::io::Write;
    // A pipe that is full and that nobody reads would keep us for ever. When it cannot be written
    // there is nobody left to tell.
    let (written, done) = std::sync::mpsc::channel();
    let write = {
        let line = line.clone();
        move || {
            let _ = std::io::stderr().write_all(line.as_bytes());
            let _ = written.send(());
        }
    };
    match std::thread::Builder::new().spawn(write) {
        Ok(_) => drop(done.recv_timeout(COMPLAINT)),
        Err(_) => drop(std::io::stderr().write_all(line.as_bytes())),
    }
}
