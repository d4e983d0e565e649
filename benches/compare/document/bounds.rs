//! The figures that sshpool is held to, and whether they are kept. A bound that could not be
//! measured is not kept.

use std::fmt::Write as _;

use sshpool::PoolConfig;

use crate::document::{Measured, Tables, format};
use crate::latency::Table;
use crate::peers::Kind;
use crate::plan::{BURST, GAP};
use crate::support::stats::Spread;
use crate::turn::Turn;
use crate::widths::{self, Burst, Results};

struct Bound {
    what: String,
    bound: String,
    /// What was measured, and whether that keeps it.
    outcome: Option<(String, bool)>,
}

/// The time of one command at a distance, in milliseconds: 1.1 round trips. A client of a master
/// needs 2, a login 6 or more.
const DISTANT: f64 = 44.0;
/// How many times faster than a login.
const COLD: f64 = 150.0;
/// What the client's side may compute for each command, in milliseconds.
const COMPUTING: f64 = 0.6;

/// What one of ours is held to, against each of these others.
struct Held {
    kind: Kind,
    /// The most time that a command may take in a loop, as a part of theirs.
    tight: [(Kind, f64); 2],
    /// How many commands a second there are to be, as a multiple of those of the others at their
    /// best widths without errors.
    rates: [(Kind, f64); 2],
}

const EXACT: Held = Held {
    kind: Kind::Pool,
    tight: [(Kind::Bare, 0.25), (Kind::NativeMux, 0.6)],
    rates: [(Kind::Bare, 3.5), (Kind::NativeMux, 1.2)],
};
const FAST: Held = Held {
    kind: Kind::PoolFast,
    tight: [(Kind::Bare, 0.2), (Kind::NativeMux, 0.4)],
    rates: [(Kind::Bare, 6.0), (Kind::NativeMux, 2.0)],
};

pub fn section(measured: &Measured) -> String {
    let mut text = format!(
        "## Figures it is held to\n\nsshpool as it comes (`standby_sessions = {}`), unless the row says otherwise. A ratio is the \
         median of those of the rounds, with their range. Those in the tables below are of the medians, or means, of all rounds; where the \
         rounds differ, so do the two.\n\n| what | bound | measured | |\n|---|---|---|---|\n",
        PoolConfig::default().standby_sessions
    );
    for Bound { what, bound, outcome } in bounds(measured) {
        let (shown, verdict) = match outcome {
            Some((shown, kept)) => (shown, if kept { "kept" } else { "**missed**" }),
            None => ("not measured".to_owned(), "**unknown**"),
        };
        _ = writeln!(text, "| {what} | {bound} | {shown} | {verdict} |");
    }
    text.push('\n');
    text
}

fn bounds(measured: &Measured) -> Vec<Bound> {
    let Tables { spaced, tight, cat_spaced, cat_tight, distant_spaced, distant_tight } =
        &measured.tables;
    let mut bounds = Vec::new();
    for table in [spaced, cat_spaced] {
        bounds.push(against_cold(table, measured.fact("key exchange")));
    }
    bounds.push(at_most("spaced", spaced, Kind::Pool, Kind::NativeMux, 0.75));
    // The bound is meant for the fastest of the others. Should that be another one, it is told as
    // well.
    if let Some(fastest) = fastest_of_others(spaced).filter(|&fastest| fastest != Kind::NativeMux) {
        bounds.push(at_most("spaced", spaced, Kind::Pool, fastest, 0.75));
    }
    for Held { kind, tight: others, .. } in [EXACT, FAST] {
        for table in [tight, cat_tight] {
            bounds.extend(others.map(|(other, most)| at_most("tight", table, kind, other, most)));
        }
    }
    let with_locale = |(other, most)| at_most("tight", tight, Kind::PoolWithLocale, other, most);
    bounds.extend(EXACT.tight.map(with_locale));
    bounds.push(at_most("tight", tight, Kind::PoolWithoutStandby, Kind::Bare, 1.05));
    for (what, table) in [("spaced", distant_spaced), ("tight", distant_tight)] {
        bounds.push(Bound {
            what: format!("{what}, with a round trip of 40 ms"),
            bound: format!("at most {DISTANT} ms"),
            outcome: table.row(Kind::Pool).spread(table.figure).map(|spread| {
                (
                    format!("{} ms ({})", format::ms(spread.median), format::range(spread)),
                    spread.median <= DISTANT,
                )
            }),
        });
    }
    for results in [&measured.widths, &measured.widths_of_cat] {
        bounds.extend(burst(results, &EXACT));
    }
    for results in [&measured.widths, &measured.widths_of_cat] {
        bounds.extend(burst(results, &FAST));
    }
    for table in [tight, cat_tight] {
        let what = format!("tight, {}", table.command.name());
        bounds.push(computing(&what, table.row(Kind::Pool).spread(Turn::cpu_of_each)));
    }
    for results in [&measured.widths, &measured.widths_of_cat] {
        let what = format!("{}, all connections there", at_once(results));
        let spread = burst_of(results, Kind::Pool).and_then(|burst| widths::cpu(&burst.again));
        bounds.push(computing(&what, spread));
    }
    bounds
}

/// As a row calls one of ours.
fn of(kind: Kind) -> String {
    if kind == Kind::Pool { String::new() } else { format!(", {}", kind.name()) }
}

fn against_cold(table: &Table, kex: &str) -> Bound {
    Bound {
        what: format!(
            "spaced by {} s, {}, against cold ssh ({kex})",
            GAP.as_secs(),
            table.command.name()
        ),
        bound: format!("at least {COLD} times faster"),
        outcome: table
            .ratio(Kind::Cold, Kind::Pool)
            .map(|ratio| (format::ratio(ratio), ratio.median >= COLD)),
    }
}

fn at_most(what: &str, table: &Table, ours: Kind, other: Kind, most: f64) -> Bound {
    Bound {
        what: format!("{what}, {}{}, against {}", table.command.name(), of(ours), other.name()),
        bound: format!("at most {most} of its time"),
        outcome: table.ratio(ours, other).map(|ratio| (format::ratio(ratio), ratio.median <= most)),
    }
}

fn computing(what: &str, spread: Option<Spread>) -> Bound {
    let shown = |spread: Spread| {
        let shown = format!("{} ms ({})", format::ms(spread.median), format::range(spread));
        (shown, spread.median <= COMPUTING)
    };
    Bound {
        what: format!("{what}: computing of the client's side for each command"),
        bound: format!("at most {COMPUTING} ms"),
        outcome: spread.map(shown),
    }
}

fn fastest_of_others(table: &Table) -> Option<Kind> {
    let others = Kind::ALL.into_iter().filter(|kind| !kind.is_ours());
    let medians = others.filter_map(|kind| Some((kind, table.median(kind)?)));
    Some(medians.min_by(|one, other| one.1.total_cmp(&other.1))?.0)
}

fn burst_of(results: &Results, kind: Kind) -> Option<&Burst> {
    results.bursts.iter().find(|burst| burst.kind == kind).filter(|burst| !burst.first.is_empty())
}

fn at_once(results: &Results) -> String {
    format!("{BURST} at once, {}", results.command.name())
}

fn burst(results: &Results, held: &Held) -> Vec<Bound> {
    let burst = burst_of(results, held.kind);
    let rate = |turns: fn(&Burst) -> &Vec<Turn>, other: Kind, least: f64| {
        let (turns, other) = (turns(burst?), results.row(other));
        let (ours, theirs) = (widths::rate(turns)?, other.fastest()?);
        // Without a round in which both were measured there are the medians.
        let medians = || Spread::of(&[ours.median / theirs.rate().median]);
        let ratio = widths::ratio(turns, other).or_else(medians)?;
        let shown = format!(
            "{} times theirs; {} against {} at a width of {}",
            format::ratio(ratio),
            format::rate(ours),
            format::rate(theirs.rate()),
            theirs.width
        );
        Some((shown, ratio.median >= least))
    };
    let what = format!("{}{}", at_once(results), of(held.kind));
    let most = Burst::max_connections();
    let mut bounds = vec![
        Bound {
            what: format!("{what}: errors"),
            bound: "none".to_owned(),
            outcome: burst.map(|burst| (burst.errors().to_string(), burst.errors() == 0)),
        },
        Bound {
            what: format!("{what}: logins of a pool"),
            bound: format!("at most `max_connections`, {most}"),
            outcome: burst
                .map(|burst| (burst.most_logins().to_string(), burst.most_logins() <= most)),
        },
    ];
    for (other, least) in held.rates {
        let bound = format!("at least {least} times {} at its best width", other.name());
        bounds.push(Bound {
            what: format!("{what}, its other connections made meanwhile: commands/s"),
            bound: bound.clone(),
            outcome: rate(|burst| &burst.first, other, least),
        });
        bounds.push(Bound {
            what: format!("{what}, all connections there: commands/s"),
            bound,
            outcome: rate(|burst| &burst.again, other, least),
        });
    }
    bounds
}
