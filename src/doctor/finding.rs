//! A finding: one thing that was looked at.

use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::text::printable;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Ok,
    /// Commands run, or may, but it is not as it should be.
    Warning,
    Failed,
    /// Not looked at: it does not apply here, or something before it has failed.
    Skipped,
}

/// One thing that was looked at. Each of its texts is one line.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
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
    pub(crate) fn new(check: &'static str, status: Status, what: impl AsRef<str>) -> Self {
        let what = printable(what.as_ref());
        Finding { check, status, what, why: None, todo: None, elapsed: None }
    }

    pub(crate) fn ok(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Ok, what)
    }

    pub(crate) fn warning(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Warning, what)
    }

    pub(crate) fn failed(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Failed, what)
    }

    pub(crate) fn skipped(check: &'static str, what: impl AsRef<str>) -> Self {
        Finding::new(check, Status::Skipped, what)
    }

    pub(crate) fn why(mut self, why: impl AsRef<str>) -> Self {
        self.why = Some(printable(why.as_ref()));
        self
    }

    pub(crate) fn todo(mut self, todo: impl AsRef<str>) -> Self {
        self.todo = Some(printable(todo.as_ref()));
        self
    }

    pub(crate) fn took(mut self, elapsed: Duration) -> Self {
        self.elapsed = Some(elapsed);
        self
    }
}

fn milliseconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    // Thousandths are more than anybody reads.
    time.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3).serialize(serializer)
}

/// A time for people, with as many places as say something.
pub(crate) fn duration_text(time: Duration) -> String {
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

    #[rstest]
    #[case(300, "0.3 ms")]
    #[case(12_345, "12 ms")]
    #[case(1_234_567, "1235 ms")]
    #[case(12_345_678, "12.3 s")]
    fn times_for_people(#[case] us: u64, #[case] text: &str) {
        assert_eq!(duration_text(Duration::from_micros(us)), text);
    }
}
