//! Equal output once, below the hosts that it came from.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::choice::Target;
use super::screen::{Screen, To};
use crate::cli::failure::Failure;
use crate::host::set::{compare, fold};

/// What was written, and by which hosts.
#[derive(Default)]
pub(super) struct Folding {
    /// A std mutex: held to put something in.
    written: Mutex<[Written; 2]>,
}

type Written = HashMap<Vec<u8>, Vec<usize>>;

impl Folding {
    pub(super) fn add(&self, place: usize, out: Vec<u8>, err: Vec<u8>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        for (written, output) in written.iter_mut().zip([out, err]) {
            if !output.is_empty() {
                written.entry(output).or_default().push(place);
            }
        }
    }

    /// What most hosts have written comes first. What was written to stderr goes there.
    pub(super) async fn print(
        &self,
        screen: &Screen,
        targets: &[Target],
        colors: (bool, bool),
    ) -> Result<(), Failure> {
        let [out, err] =
            std::mem::take(&mut *self.written.lock().unwrap_or_else(PoisonError::into_inner));
        for (to, written, color) in [(To::Stderr, err, colors.1), (To::Stdout, out, colors.0)] {
            for (output, labels) in ordered(written, targets) {
                let text = section(&labels, output, color);
                screen.show(to, &text).await?;
            }
        }
        Ok(())
    }
}

fn ordered(written: Written, targets: &[Target]) -> Vec<(Vec<u8>, Vec<&str>)> {
    let mut sections: Vec<(Vec<u8>, Vec<&str>)> = written
        .into_iter()
        .map(|(output, places)| {
            let mut labels: Vec<&str> =
                places.into_iter().map(|place| &*targets[place].label).collect();
            labels.sort_by(|a, b| compare(a, b));
            (output, labels)
        })
        .collect();
    sections.sort_by(|(_, a), (_, b)| b.len().cmp(&a.len()).then_with(|| compare(a[0], b[0])));
    sections
}

/// As dshbak and clush show it.
fn section(labels: &[&str], mut output: Vec<u8>, color: bool) -> Vec<u8> {
    const RULE: &str = "---------------";
    let mut heading = fold(labels);
    if labels.len() > 1 {
        heading += &format!(" ({})", labels.len());
    }
    if color {
        heading = format!("\x1b[0;36m{heading}\x1b[0m");
    }
    let mut text = format!("{RULE}\n{heading}\n{RULE}\n").into_bytes();
    text.append(&mut output);
    if !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text
}
