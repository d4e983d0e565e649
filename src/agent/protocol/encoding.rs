//! Text, or bytes that are none.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Bytes as an object has them: as text where they are, else in base64, under a key of its own.
pub(crate) fn text_or_base64(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.into_bytes()))),
    }
}

/// The bytes of such a pair, of which there is one at most. The second key is that of the first
/// with `_base64` behind it.
pub(super) fn one_of(
    key: &str,
    text: Option<&String>,
    base64: Option<&String>,
) -> Result<Option<OsString>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{key} and {key}_base64: give one of them")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(text)) => of_base64(key, text).map(|bytes| Some(OsString::from_vec(bytes))),
        (None, None) => Ok(None),
    }
}

pub(super) fn of_base64(key: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("{key}_base64: not base64: {error}"))
}
