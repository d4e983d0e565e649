//! What could not be copied: told once for all hosts that have the same to say.

use std::collections::BTreeMap;

use super::Named;
use crate::cli::failure::{status_of, told};
use crate::cli::output::complain;
use crate::cli::output::messages::one_line;
use crate::files::FileError;
use crate::host::set::fold;
use crate::text::without_host;

/// A file could not be copied.
const NOT_COPIED: u8 = 1;

#[derive(Default)]
pub(super) struct Failures {
    /// The hosts by what they have to say.
    hosts: BTreeMap<String, Vec<String>>,
    /// What is about this machine, in its order.
    here: Vec<String>,
    status: u8,
}

impl Failures {
    pub(super) fn add(&mut self, named: Option<&Named>, error: &FileError) {
        let status = match error {
            FileError::Run(error) => status_of(error),
            _ => NOT_COPIED,
        };
        // 255 tells of more than 124, and that of more than 1.
        self.status = self.status.max(status);
        let text = match (error, named) {
            (FileError::Run(error), Some(named)) => told(error, named.host.name()),
            (FileError::Remote { .. }, Some(named)) => without_host(error, named.host.name()),
            // It is the same for all hosts.
            _ => {
                let text = error.to_string();
                if !self.here.contains(&text) {
                    self.here.push(text);
                }
                return;
            }
        };
        let hosts = self.hosts.entry(text).or_default();
        hosts.extend(named.map(|named| named.label.clone()));
    }

    /// Tells all of it, and gives the status to end with.
    pub(super) fn tell(self) -> u8 {
        for text in &self.here {
            complain(one_line(text));
        }
        for (text, hosts) in &self.hosts {
            complain(one_line(&format!("{}: {text}", fold(hosts))));
        }
        self.status
    }
}
