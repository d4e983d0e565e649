//! Ansible, in an environment of its own.

use std::path::PathBuf;

use super::python;

/// For Python 3.11 to 3.13, here and on the server.
const VERSION: &str = "2.18.19";

/// The directory of its programs. An error says why there is none.
pub fn programs() -> Result<PathBuf, String> {
    python::programs("ansible", "ansible-core", VERSION)
}
