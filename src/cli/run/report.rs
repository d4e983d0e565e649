//! One object a host, as `--json` prints it.

use std::time::Duration;

use serde::Serialize;

use super::choice::Target;
use super::outcome::End;
use crate::agent::CommandResult;
use crate::command::Output;
use crate::error::PartialOutput;

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    result: CommandResult,
    #[serde(flatten)]
    old: Old,
}

/// The keys that `failure` and the keys in base64 stand for. They go with the next release.
#[derive(Serialize)]
struct Old {
    error: Option<String>,
    error_kind: Option<&'static str>,
    /// Null for what is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    stdout: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<()>,
}

/// A line.
pub(super) fn report(
    target: &Target,
    end: &End,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    elapsed: Duration,
) -> Vec<u8> {
    let is_bytes = |bytes: &[u8]| std::str::from_utf8(bytes).is_err().then_some(());
    let old = Old {
        error: end.error(&target.host),
        error_kind: end.old_kind(),
        stdout: is_bytes(&stdout),
        stderr: is_bytes(&stderr),
    };
    let host = &target.label;
    let result = match (end, end.failure(&target.host)) {
        (End::Ended(status), _) => {
            CommandResult::ended(host, Output { status: *status, stdout, stderr }, elapsed)
        }
        (_, Some(failure)) => {
            CommandResult::failed(host, failure, PartialOutput { stdout, stderr }, elapsed)
        }
        (_, None) => unreachable!("what has not ended has failed"),
    };
    let mut line =
        serde_json::to_vec(&Report { result, old }).expect("it has text keys and whole numbers");
    line.push(b'\n');
    line
}
