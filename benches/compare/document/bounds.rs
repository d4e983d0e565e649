//! The figures that sshpool is held to, and whether they are kept. A bound that could not be
//! measured is not kept.

use std::fmt::Write as _;

use sshpool::PoolConfig;

use crate::document::{Measured, format};
use crate::latency::Table;
use crate::peers::Kind;
use crate::plan::BURST;
use crate::support::stats::Spread;
use crate::turn::Turn;
use crate::widths::{self, Burst};

struct Bound {
    what: String,
    bound: String,
    /// What was measured, and whether that keeps it.
    outcome: Option<(String, bool)>,
}

/// The time of one command at a distance, in milliseconds: 1.1 round trips. A client of a master
/// needs 2, a login 6 or more.
const DISTANT: f64 = 44.0;
/// How many commands a second there are to be, as a multiple of those of others at their best
/// widths without errors.
const RATES: [(Kind, f64); 2] = [(Kind::Bare, 3.5), (Kind::NativeMux, 1.2)];

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
    let [spaced, tight, distant, distant_tight] = &measured.tables;
    let kex = measured.fact("key exchange");
    let mut bounds = vec![
        Bound {
            what: format!("spaced, against cold ssh ({kex})"),
            bound: "at least 150 times faster".to_owned(),
            outcome: spaced
                .ratio(Kind::Cold, Kind::Pool)
                .map(|ratio| (format::ratio(ratio), ratio.median >= 150.0)),
        },
        at_most("spaced", spaced, Kind::Pool, Kind::NativeMux, 0.75),
    ];
    // The bound is meant for the fastest of the others. Should that be another one, it is told as
    // well.
    if let Some(fastest) = fastest_of_others(spaced).filter(|&fastest| fastest != Kind::NativeMux) {
        bounds.push(at_most("spaced", spaced, Kind::Pool, fastest, 0.75));
    }
    bounds.push(at_most("tight", tight, Kind::Pool, Kind::Bare, 0.25));
    bounds.push(at_most("tight", tight, Kind::Pool, Kind::NativeMux, 0.6));
    bounds.push(at_most(
        "tight, `standby_sessions = 0`",
        tight,
        Kind::PoolWithoutStandby,
        Kind::Bare,
        1.05,
    ));
    for (what, table) in [("spaced", distant), ("tight", distant_tight)] {
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
    bounds.extend(burst(measured));
    bounds
}

fn at_most(what: &str, table: &Table, ours: Kind, other: Kind, most: f64) -> Bound {
    Bound {
        what: format!("{what}, against {}", other.name()),
        bound: format!("at most {most} of its time"),
        outcome: table.ratio(ours, other).map(|ratio| (format::ratio(ratio), ratio.median <= most)),
    }
}

fn fastest_of_others(table: &Table) -> Option<Kind> {
    let others = Kind::ALL.into_iter().filter(|kind| !kind.is_ours());
    let medians = others.filter_map(|kind| Some((kind, table.median(kind)?)));
    Some(medians.min_by(|one, other| one.1.total_cmp(&other.1))?.0)
}

fn burst(measured: &Measured) -> Vec<Bound> {
    let results = &measured.widths;
    let burst = results
        .bursts
        .iter()
        .find(|burst| burst.kind == Kind::Pool)
        .filter(|burst| !burst.first.is_empty());
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
    let most = Burst::max_connections();
    let mut bounds = vec![
        Bound {
            what: format!("{BURST} at once: errors"),
            bound: "none".to_owned(),
            outcome: burst.map(|burst| (burst.errors().to_string(), burst.errors() == 0)),
        },
        Bound {
            what: format!("{BURST} at once: logins of a pool"),
            bound: format!("at most `max_connections`, {most}"),
            outcome: burst
                .map(|burst| (burst.most_logins().to_string(), burst.most_logins() <= most)),
        },
    ];
    for (other, least) in RATES {
        let bound = format!("at least {least} times {} at its best width", other.name());
        bounds.push(Bound {
            what: format!("{BURST} at once, its other connections made meanwhile: commands/s"),
            bound: bound.clone(),
            outcome: rate(|burst| &burst.first, other, least),
        });
        bounds.push(Bound {
            what: format!("{BURST} at once, all connections there: commands/s"),
            bound,
            outcome: rate(|burst| &burst.again, other, least),
        });
    }
    bounds
}
