//! What a command has written, and how it has ended.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::Refusal;
use super::encoding::text_or_base64;
use crate::command::ExitStatus;

/// Bytes as an object has them: as text where they are, else in base64.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Streams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdout_base64: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stderr_base64: Option<String>,
}

impl Streams {
    pub(crate) fn both(stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Streams::new(Some(stdout), Some(stderr))
    }

    fn new(stdout: Option<Vec<u8>>, stderr: Option<Vec<u8>>) -> Self {
        let encoded = |bytes: Option<Vec<u8>>| bytes.map_or((None, None), text_or_base64);
        let ((stdout, stdout_base64), (stderr, stderr_base64)) = (encoded(stdout), encoded(stderr));
        Streams { stdout, stdout_base64, stderr, stderr_base64 }
    }

    pub(crate) fn of_stdout(bytes: Vec<u8>) -> Self {
        Streams::new(Some(bytes), None)
    }

    pub(crate) fn of_stderr(bytes: Vec<u8>) -> Self {
        Streams::new(None, Some(bytes))
    }

    /// Standard output and standard error.
    pub(crate) fn bytes(self) -> (Vec<u8>, Vec<u8>) {
        let decoded = |text: Option<String>, base64: Option<String>| match (text, base64) {
            (Some(text), _) => text.into_bytes(),
            // The agent's own; if it is none there is nothing to be had.
            (None, Some(text)) => STANDARD.decode(text).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        (decoded(self.stdout, self.stdout_base64), decoded(self.stderr, self.stderr_base64))
    }
}

/// How a command ended.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Its status, 0 to 255; null when a signal ended it.
    pub exit_code: Option<i32>,
}

impl Ended {
    pub(crate) fn status(&self) -> ExitStatus {
        self.exit_code.map_or_else(ExitStatus::killed, ExitStatus::exited)
    }
}

/// The last frame of a command.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum End {
    // The first that fits is taken, and a status may be left out.
    Failed(Refusal),
    Ended(Ended),
}
