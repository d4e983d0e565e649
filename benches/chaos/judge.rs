//! The comparison of what callers were told with what the server recorded.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::faults;
use crate::lab::Lab;
use crate::load::Done;
use crate::round::{Found, SETTLING};
use crate::told::Outcome;

/// How long the commands of a round may live on.
const OUTLIVING: Duration = Duration::from_secs(4);

/// Compares what callers were told with what commands did.
pub fn judge(lab: &Lab, round: &str, done: &[Done], log: &faults::Log, found: &mut Found) {
    let living = lab.still_living(round, OUTLIVING);
    lab.end(&living);
    let left = lab.still_living(round, SETTLING);
    if !left.is_empty() {
        found.failures.push(format!("{round}: these commands cannot be ended: {left:?}"));
    }
    let (record, foreign) = lab.read_record(round);
    found.lines =
        record.values().map(|entry| entry.starts + entry.ends).sum::<usize>() + foreign.len();
    found
        .failures
        .extend(foreign.iter().map(|line| format!("{round}: the record has a line {line:?}")));
    let known: BTreeSet<&str> = done.iter().map(|done| done.job.id.as_str()).collect();
    let unknown = record.keys().filter(|id| !known.contains(id.as_str()));
    found
        .failures
        .extend(unknown.map(|id| format!("{round}: the record has {id}, which nobody ran")));

    for Done { job, told, started, ended } in done {
        *found.outcomes.entry(told.outcome).or_default() += 1;
        if told.outcome == Outcome::NeverStarted {
            *found.never_started.entry(told.kind).or_default() += 1;
        }
        let entry = record.get(&job.id).copied().unwrap_or_default();
        let ran_as_told = match told.outcome {
            Outcome::Ran => entry.starts == 1 && entry.ends == usize::from(job.says_end()),
            Outcome::NeverStarted => entry.starts == 0 && entry.ends == 0,
            _ => entry.starts <= 1 && entry.ends <= entry.starts,
        };
        let mut wrong = told.wrong.clone();
        if !ran_as_told {
            wrong.get_or_insert("the record says otherwise".to_owned());
        }
        if let Some(kind) = job.leftover.filter(|_| entry.starts > 0) {
            *found.leftovers.entry(kind).or_default() += 1;
        }
        if living.contains_key(&job.id) {
            *found.outliving.entry(told.outcome).or_default() += 1;
            if told.gone {
                wrong.get_or_insert("its processes live on".to_owned());
            }
        }
        if let Some(wrong) = wrong {
            let mut text = format!(
                "{}: {wrong}\n    {:?} to end with {:?}, told {:?} ({}) after {:?}; recorded {} starts and {} ends\n    {}",
                job.id,
                job.method,
                job.end,
                told.outcome,
                told.words,
                ended.duration_since(*started),
                entry.starts,
                entry.ends,
                shortened(&job.text),
            );
            for strike in log.between(*started, *ended) {
                let at = |instant| since(*started, instant);
                write!(
                    text,
                    "\n    {:?} from {:.3} s to {:.3} s: {}",
                    strike.fault,
                    at(strike.from),
                    at(strike.until),
                    strike.what
                )
                .expect("a String takes everything");
            }
            found.failures.push(text);
        }
    }
}

/// In seconds, and negative for what was before.
fn since(start: Instant, instant: Instant) -> f64 {
    match instant.checked_duration_since(start) {
        Some(after) => after.as_secs_f64(),
        None => -start.duration_since(instant).as_secs_f64(),
    }
}

fn shortened(text: &str) -> String {
    let text = text.replace('\n', "\\n");
    match text.char_indices().nth(400) {
        Some((at, _)) => format!("{}... ({} bytes)", &text[..at], text.len()),
        None => text,
    }
}
