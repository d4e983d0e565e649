//! Files that are written and read while faults strike: a name has the old contents or all of the
//! new ones, and what was said is what happened.
//!
//! Each copier has a file of its own and does one thing after the other, so that it knows what may
//! be in it: after a write that was told as done the new contents, and after one that was told as
//! failed the old ones. A write whose end was not heard may be done at any time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sshpool::Error;
use sshpool::files::{self, FileError, Options};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::disk;
use crate::ends::Ends;
use crate::faults::{self, Fault};
use crate::load::Load;
use crate::random::Random;
use crate::{COPIES, ROUNDING};

/// Copiers at once.
const COPIERS: usize = 2;
/// A write or a read has at most two commands, and looks at a connection between them.
const COMMANDS: u32 = 3;

/// Runs the copiers of a round until it stops.
pub async fn run(load: Arc<Load>, log: Arc<faults::Log>) -> Ends {
    let mut copiers = JoinSet::new();
    for copier in 0..COPIERS {
        copiers.spawn(one_after_another(Arc::clone(&load), Arc::clone(&log), copier));
    }
    Ends::of(copiers).await
}

async fn one_after_another(load: Arc<Load>, log: Arc<faults::Log>, copier: usize) -> Ends {
    let mut seen = Ends::default();
    let config = load.pool.config();
    let command = config.command_timeout + config.acquire_timeout + config.connect_timeout;
    let patience = command * COMMANDS + ROUNDING;
    let path = format!("{}chaos-{}-{}-copy-{copier}", disk::directory(), load.seed, load.round);
    // What may be in the file, besides what may come there late; none is that it is not there.
    let mut may_be = vec![None];
    // Of writes whose ends were not heard: the host may do them at any time.
    let mut late = Vec::new();
    let mut number = 0;
    while !load.stop.load(Ordering::Relaxed) {
        let mut random = Random::of(load.seed, &[COPIES, copier as u64, number]);
        number += 1;
        let length = random.pick(&[0, 1, 1000, 4096, 100_000, 2_000_000]);
        let started = Instant::now();
        let end = if random.percent(60) {
            let new = Contents { copier, number, length };
            let options = Options::new().sync(random.percent(20));
            let write = files::write(&load.pool, &load.host, &path, new.bytes(), &options);
            match timeout(patience, write).await {
                Ok(Ok(())) => {
                    may_be = vec![Some(new)];
                    "written"
                }
                Ok(Err(error)) if error.kind() == Some(files::FileErrorKind::NoSpace) => {
                    let strikes = log.between(started, Instant::now());
                    if !strikes.iter().any(|strike| strike.fault == Fault::DiskFull) {
                        seen.failures.push(format!("copy {copier}-{number}: {error}"));
                    }
                    "no space"
                }
                Ok(Err(error)) if is_over(&error) => "not written",
                Ok(Err(_)) => {
                    late.push(Some(new));
                    "written or not"
                }
                Err(_) => "hung",
            }
        } else {
            let read = files::read(&load.pool, &load.host, &path);
            let allowed: Vec<Option<Contents>> = may_be.iter().chain(&late).copied().collect();
            match timeout(patience, read).await {
                Ok(Ok(bytes)) => match allowed.iter().flatten().find(|may| may.bytes() == bytes) {
                    Some(found) => {
                        may_be = vec![Some(*found)];
                        "read"
                    }
                    None => {
                        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(30)]);
                        seen.failures.push(format!(
                            "copy {copier}-{number}: {} bytes {start:?}, not of {allowed:?}",
                            bytes.len()
                        ));
                        "wrong"
                    }
                },
                Ok(Err(error)) if error.kind() == Some(files::FileErrorKind::NotFound) => {
                    if !may_be.contains(&None) {
                        seen.failures.push(format!("copy {copier}-{number}: {error}"));
                    }
                    "not there"
                }
                Ok(Err(_)) => "not read",
                Err(_) => "hung",
            }
        };
        if end == "hung" {
            seen.failures.push(format!("copy {copier}-{number} did not end within {patience:?}"));
        }
        seen.count(end);
        // While a host is left alone after a failure, callers get that failure at once.
        sleep(random.millis(50, 300)).await;
    }
    seen
}

/// Whether nothing of a write that failed so goes on, or has been done.
fn is_over(error: &FileError) -> bool {
    match error {
        FileError::Run(Error::TimedOut { .. } | Error::Lost { .. } | Error::OutputLimit { .. }) => {
            false
        }
        FileError::Run(error) => error.never_started(),
        _ => true,
    }
}

/// What a write writes, and no other one.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Contents {
    copier: usize,
    number: u64,
    length: usize,
}

impl Contents {
    fn bytes(self) -> Vec<u8> {
        let word = format!("{}-{}-{}\n", self.copier, self.number, self.length);
        word.bytes().cycle().take(self.length).collect()
    }
}
