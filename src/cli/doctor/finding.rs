//! What was found, one thing after another, and how it is told.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::cli::colour::Colour;
use crate::text::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// Commands run, or may, but it is not as it should be.
    Warning,
    Failed,
    /// Not looked at: it does not apply here, or something before it has failed.
    Skipped,
}

/// One thing that was looked at. Each of its texts is one line.
#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub check: &'static str,
    pub status: Status,
    /// What is, or what is wrong.
    pub what: String,
    /// Why it is wrong.
    pub why: Option<String>,
    /// What to do about it.
    pub todo: Option<String>,
    #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
    pub elapsed: Option<Duration>,
}

impl Finding {
    pub(super) fn new(check: &'static str, status: Status, what: impl AsRef<str>) -> Self {
        let what = printable(what.as_ref());
        Finding { check, status, what, why: None, todo: None, elapsed: None }
    }

    pub(super) fn ok(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Ok, what)
    }

    pub(super) fn warning(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Warning, what)
    }

    pub(super) fn failed(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Failed, what)
    }

    pub(super) fn skipped(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Skipped, what)
    }

    pub(super) fn why(mut self, why: impl AsRef<str>) -> Self {
        self.why = Some(printable(why.as_ref()));
        self
    }

    pub(super) fn todo(mut self, todo: impl AsRef<str>) -> Self {
        self.todo = Some(printable(todo.as_ref()));
        self
    }

    pub(super) fn took(mut self, elapsed: Duration) -> Self {
        self.elapsed = Some(elapsed);
        self
    }
}

fn milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // Thousandths are more than anybody reads.
    time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3).serialize(serializer)
}

/// As wide as the longest name of a check, and as a time.
const CHECKS: usize = "known_hosts".len();
const TIMES: usize = "1234 ms".len();

impl Finding {
    /// Its lines, with a mark, in columns that are the same for all.
    pub(super) fn lines(&self, colours: bool) -> String {
        let (mark, colour) = match self.status {
            Status::Ok => ("ok", Colour::Green),
            Status::Warning => ("warning", Colour::Yellow),
            Status::Failed => ("failed", Colour::Red),
            Status::Skipped => ("-", Colour::Dim),
        };
        let mark = colour.paint(format_args!("{mark:<7}"), colours);
        let Finding { check, what, why, todo, .. } = self;
        let time = self.elapsed.map(shown).unwrap_or_default();
        let mut lines = format!("{mark}  {check:<CHECKS$}  {time:>TIMES$}  {what}\n");
        let indent = " ".repeat(7 + 2 + CHECKS + 2 + TIMES + 2);
        for (word, text) in [("why: ", why), ("do:  ", todo)] {
            if let Some(text) = text {
                lines += &format!("{indent}{}{text}\n", Colour::Dim.paint(word, colours));
            }
        }
        lines
    }
}

/// With as many places as say something.
pub(super) fn shown(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    match ms {
        ..10.0 => format!("{ms:.1} ms"),
        ..10_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn a_finding_has_a_mark_and_what_to_do() {
        let ok = Finding::ok("ssh", "9.2").took(Duration::from_millis(6));
        assert_eq!(ok.lines(false), "ok       ssh           6.0 ms  9.2\n");
        assert!(ok.lines(true).starts_with("\x1b[32mok     \x1b[0m  ssh "));
        let failed = Finding::failed("login", "no\nway").why("because").todo("this");
        let indent = " ".repeat(31);
        let expected = format!(
            "failed   login                 no way\n{indent}why: because\n{indent}do:  this\n"
        );
        assert_eq!(failed.lines(false), expected);
    }

    #[rstest]
    #[case(300, "0.3 ms")]
    #[case(12_345, "12 ms")]
    #[case(1_234_567, "1235 ms")]
    #[case(12_345_678, "12.3 s")]
    fn times_for_people(#[case] us: u64, #[case] text: &str) {
        assert_eq!(shown(Duration::from_micros(us)), text);
    }
}
