//! What is told at the end.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use crate::footprint::Footprint;
use crate::round::Found;

pub struct Report {
    seed: u64,
    before: Footprint,
    all: Found,
    /// Of each round.
    lines: Vec<usize>,
    memory: Vec<u64>,
}

impl Report {
    pub fn new(seed: u64, before: Footprint) -> Report {
        Report { seed, before, all: Found::default(), lines: Vec::new(), memory: Vec::new() }
    }

    /// Adds a round, and tells at once what it has found.
    pub fn add(&mut self, found: Found) {
        for failure in &found.failures {
            println!("FAILED {failure}");
        }
        let Found {
            outcomes,
            never_started,
            faults,
            outliving,
            leftovers,
            streams,
            copies,
            sudo,
            failures,
            slowest_recovery,
            lines,
            memory,
        } = found;
        add(&mut self.all.outcomes, outcomes);
        add(&mut self.all.never_started, never_started);
        add(&mut self.all.faults, faults);
        add(&mut self.all.outliving, outliving);
        add(&mut self.all.leftovers, leftovers);
        add(&mut self.all.streams, streams);
        add(&mut self.all.copies, copies);
        add(&mut self.all.sudo, sudo);
        self.all.failures.extend(failures);
        self.all.slowest_recovery = self.all.slowest_recovery.max(slowest_recovery);
        self.lines.push(lines);
        self.memory.push(memory);
    }

    pub fn fail(&mut self, failure: &str) {
        println!("FAILED {failure}");
        self.all.failures.push(failure.to_owned());
    }

    pub fn passed(&self) -> bool {
        self.all.failures.is_empty()
    }

    /// How many lines the record of each round had at its end.
    pub fn lines(&self) -> Vec<usize> {
        self.lines.clone()
    }

    /// Whether no more is in use after the second half than after the first, but for so many KiB.
    pub fn compare_memory(&mut self, margin: u64) {
        let (first, second) = self.memory.split_at(self.memory.len() / 2);
        let (Some(first), Some(second)) = (first.last(), second.last()) else { return };
        if *second > first + margin {
            self.fail(&format!(
                "{first} KiB are in use after the first half, {second} KiB after the second"
            ));
        }
    }

    pub fn print(&self) {
        let all = &self.all;
        println!();
        table("commands", &all.outcomes);
        table("errors of commands that never started", &all.never_started);
        table("faults", &all.faults);
        table("commands that outlived their callers on the server", &all.outliving);
        table("streams of a forward", &all.streams);
        table("copies of files", &all.copies);
        table("commands by sudo", &all.sudo);
        table("processes that commands left behind on purpose", &all.leftovers);
        let memory: Vec<String> = self.memory.iter().map(u64::to_string).collect();
        println!(
            "memory before: {} KiB; after each round: {}",
            self.before.memory,
            memory.join(" ")
        );
        println!("slowest recovery: {:.1} s", Duration::as_secs_f64(&all.slowest_recovery));
        println!("mismatches (their details are above): {}", all.failures.len());
        for failure in &all.failures {
            println!("  {}", failure.lines().next().unwrap_or_default());
        }
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        println!("{verdict}, seed {}", self.seed);
    }
}

fn add<K: Ord>(all: &mut BTreeMap<K, usize>, more: BTreeMap<K, usize>) {
    for (key, count) in more {
        *all.entry(key).or_default() += count;
    }
}

fn table<K: Debug>(title: &str, rows: &BTreeMap<K, usize>) {
    println!("{title}: {}", rows.values().sum::<usize>());
    for (key, count) in rows {
        println!("  {:<20} {count:>7}", format!("{key:?}").trim_matches('"'));
    }
}
