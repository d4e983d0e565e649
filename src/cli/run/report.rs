//! One object a host, as `--json` prints it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::choice::Target;
use super::outcome::End;

/// The names are those of `exec --json`.
#[derive(Serialize)]
struct Report<'a> {
    host: &'a str,
    exit_code: Option<i32>,
    error: Option<String>,
    error_kind: Option<&'static str>,
    stdout: Option<&'a str>,
    stderr: Option<&'a str>,
    /// In place of those that are not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
    elapsed_ms: u128,
}

/// A line.
pub(super) fn report(
    target: &Target,
    end: &End,
    out: &[u8],
    err: &[u8],
    elapsed: Duration,
) -> Vec<u8> {
    let (stdout, stdout_base64) = text_or_base64(out);
    let (stderr, stderr_base64) = text_or_base64(err);
    let report = Report {
        host: &target.label,
        exit_code: match end {
            End::Ended(status) => status.code(),
            _ => None,
        },
        error: end.error(&target.host),
        error_kind: end.kind(),
        stdout,
        stderr,
        stdout_base64,
        stderr_base64,
        elapsed_ms: elapsed.as_millis(),
    };
    let mut line = serde_json::to_vec(&report).expect("it has text keys and whole numbers");
    line.push(b'\n');
    line
}

pub(super) fn text_or_base64(bytes: &[u8]) -> (Option<&str>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}
