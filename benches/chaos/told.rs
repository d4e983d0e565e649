//! What a caller is told of a command, and whether that can be.

use sshpool::{ConnectErrorKind, Error, Output, PartialOutput, Remote};

use crate::job::{End, Job};

/// What the caller knows of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// To its end, whatever its status.
    Ran,
    NeverStarted,
    Lost,
    TimedOut,
    TooMuch,
    /// The caller went away.
    Cancelled,
    /// Nothing came back in time.
    Hung,
}

/// What has come of a command.
#[derive(Clone, Debug)]
pub struct Told {
    pub outcome: Outcome,
    /// The error's kind; nothing where there was none.
    pub kind: &'static str,
    /// The error, or the status.
    pub words: String,
    /// The error says that nothing is left on the server.
    pub gone: bool,
    /// What is not as it has to be.
    pub wrong: Option<String>,
}

pub fn exec(job: &Job, result: Result<String, Error>) -> Told {
    let trimmed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (out, err) = (trimmed(&job.stdout), trimmed(&job.stderr));
    match result {
        Ok(text) => ended(job, Some(0), None)
            .unless(|| differs(job, "stdout", text.as_bytes(), out.as_bytes())),
        Err(Error::Failed { code, stderr, .. }) => ended(job, Some(code), None)
            .unless(|| differs(job, "stderr", stderr.as_bytes(), err.as_bytes())),
        Err(Error::Killed { stderr, .. }) => ended(job, None, None)
            .unless(|| differs(job, "stderr", stderr.as_bytes(), err.as_bytes())),
        Err(error) => failed(job, &error, Compare::Partial),
    }
}

pub fn output(job: &Job, result: Result<Output, Error>) -> Told {
    match result {
        Ok(output) => ended(job, output.status.code(), Some((&output.stdout, &output.stderr))),
        Err(error) => failed(job, &error, Compare::Partial),
    }
}

/// A command that ended, with its streams where they were collected.
pub fn ended(job: &Job, code: Option<i32>, streams: Option<(&[u8], &[u8])>) -> Told {
    let words = code.map_or("killed by a signal".to_owned(), |code| format!("status {code}"));
    let right = match job.end {
        End::Status(expected) => code == Some(expected),
        End::Killed => code.is_none(),
        End::TimedOut => false,
        End::TooMuch => false,
    };
    let told =
        Told { outcome: Outcome::Ran, kind: "", gone: false, wrong: None, words: words.clone() };
    let told =
        told.unless(|| (!right).then(|| format!("{words}, where {:?} was to come", job.end)));
    told.unless(|| {
        let (stdout, stderr) = streams?;
        differs(job, "stdout", stdout, &job.stdout)
            .or_else(|| differs(job, "stderr", stderr, &job.stderr))
    })
}

/// What is known of the output of a command that failed.
pub enum Compare<'a> {
    Nothing,
    /// What the error has.
    Partial,
    /// What was read from the streams.
    Read(&'a PartialOutput),
}

pub fn failed(job: &Job, error: &Error, compare: Compare<'_>) -> Told {
    let (outcome, kind) = match error {
        Error::Lost { .. } => (Outcome::Lost, "Lost"),
        Error::TimedOut { .. } => (Outcome::TimedOut, "TimedOut"),
        Error::OutputLimit { .. } => (Outcome::TooMuch, "OutputLimit"),
        Error::Connect { .. } => (Outcome::NeverStarted, "Connect"),
        Error::Exhausted { .. } => (Outcome::NeverStarted, "Exhausted"),
        Error::Closed { .. } => (Outcome::NeverStarted, "Closed"),
        Error::NeverStarted { .. } => (Outcome::NeverStarted, "NeverStarted"),
        Error::Io { .. } => (Outcome::NeverStarted, "Io"),
        _ => (Outcome::NeverStarted, "other"),
    };
    let gone = matches!(
        error,
        Error::TimedOut { remote: Remote::Ended, .. }
            | Error::OutputLimit { remote: Remote::Ended, .. }
    );
    let told = Told { outcome, kind, words: error.to_string(), gone, wrong: None };
    let told = told.unless(|| unexpected(job, error));
    let partial = match (compare, error) {
        (Compare::Nothing, _) => return told,
        (Compare::Read(seen), _) => seen,
        (
            Compare::Partial,
            Error::Lost { partial, .. }
            | Error::TimedOut { partial, .. }
            | Error::OutputLimit { partial, .. },
        ) => partial,
        (Compare::Partial, _) => return told,
    };
    told.unless(|| {
        beginning(job, "stdout", &partial.stdout, &job.stdout)
            .or_else(|| beginning(job, "stderr", &partial.stderr, &job.stderr))
    })
}

/// Why this error cannot be, whatever happens to the server, the network and this machine.
fn unexpected(job: &Job, error: &Error) -> Option<String> {
    use ConnectErrorKind as Kind;
    let possible = match error {
        Error::Connect { source, .. } => !matches!(
            source.kind(),
            Kind::Authentication
                | Kind::HostKeyChanged
                | Kind::HostKeyUnknown
                | Kind::Name
                | Kind::KeyFile
                | Kind::Algorithms
                | Kind::SshMissing
                | Kind::BadOption
        ),
        Error::OutputLimit { partial, .. } => {
            return match job.end {
                End::TooMuch => differs(job, "stdout", &partial.stdout, &job.stdout),
                _ => Some("it had no limit of its own".to_owned()),
            };
        }
        Error::Exhausted { .. }
        | Error::Closed { .. }
        | Error::NeverStarted { .. }
        | Error::Io { .. }
        | Error::Lost { .. }
        | Error::TimedOut { .. } => true,
        _ => false,
    };
    let claims =
        error.never_started() == !matches!(error, Error::Lost { .. } | Error::TimedOut { .. });
    match (possible, claims) {
        (true, true) => None,
        (false, _) => Some(format!("nothing here is a reason for that: {error}")),
        (true, false) => Some(format!("never_started() is {}", error.never_started())),
    }
}

impl Told {
    /// The first thing that is wrong stays.
    fn unless(mut self, wrong: impl FnOnce() -> Option<String>) -> Told {
        self.wrong = self.wrong.or_else(wrong);
        self
    }
}

fn differs(job: &Job, stream: &str, seen: &[u8], expected: &[u8]) -> Option<String> {
    (seen != expected).then(|| difference(job, stream, seen, expected))
}

pub fn beginning(job: &Job, stream: &str, seen: &[u8], expected: &[u8]) -> Option<String> {
    (!expected.starts_with(seen)).then(|| difference(job, stream, seen, expected))
}

fn difference(job: &Job, stream: &str, seen: &[u8], expected: &[u8]) -> String {
    if let Some(line) = line_of_another(job, seen) {
        return format!("{stream} has a line of another command: {line:?}");
    }
    let same = seen.iter().zip(expected).take_while(|(seen, expected)| seen == expected).count();
    let around = |bytes: &[u8]| {
        let bytes = &bytes[same.saturating_sub(20).min(bytes.len())..(same + 60).min(bytes.len())];
        bytes.escape_ascii().to_string()
    };
    format!(
        "{stream} has {} bytes of {} and differs from byte {same} on: \"{}\", where \"{}\" was to come",
        seen.len(),
        expected.len(),
        around(seen),
        around(expected)
    )
}

/// The first line that has the id of another command in it. Only whole lines count: the last one
/// may have been cut in its id.
fn line_of_another(job: &Job, seen: &[u8]) -> Option<String> {
    let is_of_another =
        |line: &&str| line.split_ascii_whitespace().any(|word| Job::is_id(word) && word != job.id);
    let lines = seen.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let mut lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
    lines.find(is_of_another).map(str::to_owned)
}
