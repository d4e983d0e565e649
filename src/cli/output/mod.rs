//! Text for people and programs: what goes to stdout and stderr, and how it looks.
//!
//! Writing never panics and never blocks for ever: nobody may be there to read.

pub(super) mod colour;
pub(super) mod plot;
pub(super) mod stdio;
pub(super) mod table;
pub(super) mod watched;

use std::fmt::Display;
use std::time::Duration;

use super::failure::{Failure, cannot_print};
use crate::pool::signals;
use crate::text::printable;

/// A message without what a terminal or a reader of lines takes for more than letters, whatever
/// names and values are in it. Of one that is too long the beginning and the end are left.
pub(super) fn one_line(message: &str) -> String {
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
pub(super) fn complain(message: impl Display) {
    // What ends while we end is ended by us.
    if !signals::is_ending() {
        tell(format!("sshpool: {message}\n"));
    }
}

/// Writes to stderr, if that takes it.
pub(super) fn tell(line: String) {
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

/// One object on stdout.
pub(super) async fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).expect("the reports have text keys and finite numbers");
    print(&text).await
}

/// A line on stdout.
pub(super) async fn print(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n")).await
}

/// Writes to stdout. Signals are heard meanwhile: whoever is to read may never do so.
pub(super) async fn write(text: impl Into<Vec<u8>>) -> Result<(), Failure> {
    use tokio::io::AsyncWriteExt;
    let mut stdout = tokio::io::stdout();
    let written = async {
        stdout.write_all(&text.into()).await?;
        stdout.flush().await
    };
    written.await.map_err(|error| cannot_print(&error))
}
