//! What the program does beside commands, against what else there is: copies against scp,
//! forwards against `ssh -L`, hosts behind a jump host against ProxyJump, commands by sudo, and
//! Docker's client over its socket against `ssh://`.
//!
//! `cargo bench --bench reach [-- [--quick] [--document FILE]]`, which `scripts/bench` runs at its
//! end. The two ways of a figure take turns, and ratios are of one round. The servers are on this
//! machine.

mod copies;
mod docker;
mod forwards;
mod hops;
mod lab;
mod sudo;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with others, which use more of it")]
mod support;

use std::fmt::Write as _;
use std::process::ExitCode;

use lab::Lab;
use support::Arguments;
use support::facts::{Facts, cell};
use support::stats::Spread;

pub struct Plan {
    pub rounds: usize,
    /// Bytes of a large copy, and of a large answer over a forward.
    pub large: usize,
    pub largest: usize,
    pub files: usize,
    pub clients: usize,
    pub hosts: usize,
    /// Calls of Docker's client, in a row and at once.
    pub calls: usize,
}

impl Plan {
    const FULL: Plan = Plan {
        rounds: 5,
        large: 100 << 20,
        largest: 1 << 30,
        files: 1000,
        clients: 50,
        hosts: 20,
        calls: 30,
    };
    const QUICK: Plan = Plan {
        rounds: 2,
        large: 4 << 20,
        largest: 16 << 20,
        files: 50,
        clients: 5,
        hosts: 4,
        calls: 3,
    };
}

/// What sshpool takes, and what the other way takes, in milliseconds: one of each for a round.
pub struct Figure {
    pub what: String,
    pub ours: String,
    pub theirs: String,
    /// The largest ratio that is allowed.
    pub bound: f64,
    pub rounds: Vec<(f64, f64)>,
    /// Why there are none.
    pub missing: Option<String>,
}

impl Figure {
    pub fn new(what: impl Into<String>, ours: &str, theirs: &str, bound: f64) -> Self {
        let (what, ours, theirs) = (what.into(), ours.to_owned(), theirs.to_owned());
        Figure { what, ours, theirs, bound, rounds: Vec::new(), missing: None }
    }

    /// Measures both ways so often, each first in every other round.
    pub fn measure(
        mut self,
        rounds: usize,
        mut ours: impl FnMut(usize) -> Result<f64, String>,
        mut theirs: impl FnMut(usize) -> Result<f64, String>,
    ) -> Self {
        // What has to be there is there before anything is measured.
        for round in 0..=rounds {
            let both = if round % 2 == 0 {
                ours(round).and_then(|own| Ok((own, theirs(round)?)))
            } else {
                theirs(round).and_then(|other| Ok((ours(round)?, other)))
            };
            match both {
                Ok(_) if round == 0 => {}
                Ok(both) => self.rounds.push(both),
                Err(why) => {
                    self.missing = Some(why);
                    break;
                }
            }
        }
        self
    }

    pub fn is_missing(mut self, why: String) -> Self {
        self.missing = Some(why);
        self
    }
}

fn main() -> ExitCode {
    let Some(Arguments { quick, document }) = Arguments::read("reach", "benchmarks-reach.md")
    else {
        return ExitCode::from(2);
    };
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let lab = Lab::new();
    let mut figures = copies::measure(&lab, &plan);
    figures.extend(forwards::measure(&lab, &plan));
    figures.extend(sudo::measure(&lab, &plan));
    let (hops, logins) = hops::measure(&plan);
    figures.push(hops);
    let (docker, at_once) = docker::measure(&plan);
    figures.push(docker);
    let text = text(&figures, &[logins, at_once], &lab.facts());
    print!("{text}");
    std::fs::write(&document, text).expect("the document can be written");
    println!("{} is written", document.display());
    ExitCode::SUCCESS
}

/// Something that is not a time: what, the bound, what was found, and whether that keeps it.
pub struct Count(pub String, pub String, pub Result<(String, bool), String>);

fn text(figures: &[Figure], counts: &[Count], facts: &Facts) -> String {
    let mut out = String::from(
        "# Benchmarks of copies, forwards and the rest\n\n<!-- Written by scripts/bench. -->\n\n\
         Whole processes, from their start to their end, with the agent and its connections there, \
         against the same over a master of ssh's own. Client and servers are one machine and share \
         its cores. A ratio is the median of those of the rounds, with their range.\n\n\
         | what | bound | measured | |\n|---|---|---|---|\n",
    );
    for figure in figures {
        let ratios: Vec<f64> = figure.rounds.iter().map(|(ours, theirs)| ours / theirs).collect();
        let bound = format!("at most {} of {}", figure.bound, figure.theirs);
        let (measured, verdict) = match (&figure.missing, Spread::of(&ratios)) {
            (Some(why), _) => (format!("not measured: {}", cell(why)), "**unknown**"),
            (None, None) => ("not measured".to_owned(), "**unknown**"),
            (None, Some(Spread { median, least, greatest })) => (
                format!("{median:.2} ({least:.2} to {greatest:.2})"),
                if median <= figure.bound { "kept" } else { "**missed**" },
            ),
        };
        _ = writeln!(out, "| {} | {bound} | {measured} | {verdict} |", figure.what);
    }
    for Count(what, bound, found) in counts {
        let (measured, verdict) = match found {
            Ok((found, true)) => (found.clone(), "kept"),
            Ok((found, false)) => (found.clone(), "**missed**"),
            Err(why) => (format!("not measured: {}", cell(why)), "**unknown**"),
        };
        _ = writeln!(out, "| {what} | {bound} | {measured} | {verdict} |");
    }
    out.push_str("\n| what | way | median, ms | range |\n|---|---|---|---|\n");
    for figure in figures {
        let (ours, theirs): (Vec<f64>, Vec<f64>) = figure.rounds.iter().copied().unzip();
        for (way, times) in [(&figure.ours, ours), (&figure.theirs, theirs)] {
            if let Some(Spread { median, least, greatest }) = Spread::of(&times) {
                let what = &figure.what;
                _ = writeln!(out, "| {what} | {way} | {median:.1} | {least:.1} to {greatest:.1} |");
            }
        }
    }
    out.push('\n');
    out.push_str(&facts.section());
    out
}
