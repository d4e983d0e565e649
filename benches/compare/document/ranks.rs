//! Who is the fastest in what, in words. Where sshpool is not, everybody who is faster is named.

use std::cmp::Ordering;
use std::fmt::Write as _;

use crate::document::{Measured, format, tables};
use crate::latency::Table;
use crate::peers::Kind;
use crate::support::stats::Spread;
use crate::widths;

pub fn section(measured: &Measured) -> String {
    let mut text = String::from("## Where sshpool loses, and where it wins\n\n");
    let mut places: Vec<_> = measured.tables.all().into_iter().map(latency).collect();
    places.push(at_once(measured));
    // First what there is to lose.
    places.sort_by_key(|place| place.won);
    for place in places {
        _ = writeln!(text, "- {}", place.text);
    }
    text.push('\n');
    text
}

struct Place {
    won: bool,
    text: String,
}

impl Place {
    fn nowhere(what: &str) -> Place {
        Place { won: false, text: format!("{what}: sshpool has no figure.") }
    }
}

/// A name, and its figure.
type Entry = (&'static str, Spread);

fn latency(table: &Table) -> Place {
    let what = format!("{}, {}", table.title, tables::place(table));
    let entry = |kind: Kind| Some((kind.name(), table.row(kind).spread(table.figure)?));
    let Some(ours) = entry(Kind::Pool) else { return Place::nowhere(&what) };
    let others: Vec<Entry> =
        Kind::ALL.into_iter().filter(|&kind| kind != Kind::Pool).filter_map(entry).collect();
    place(
        &what,
        ours,
        others,
        |value| format!("{} ms", format::ms(value)),
        |one, other| one.total_cmp(&other),
    )
}

fn at_once(measured: &Measured) -> Place {
    let results = &measured.widths;
    let what = format!(
        "Commands a second, {} at once on a pool whose connections are there",
        crate::plan::BURST
    );
    let burst = results.bursts.iter().find(|burst| burst.kind == Kind::Pool);
    let Some(ours) = burst.and_then(|burst| widths::rate(&burst.again)) else {
        return Place::nowhere(&what);
    };
    let others = results.rows.iter().filter(|row| !row.kind.is_ours());
    let others: Vec<Entry> =
        others.filter_map(|row| Some((row.kind.name(), row.fastest()?.rate()))).collect();
    let what = format!("{what}, against the others at their best widths");
    place(
        &what,
        (Kind::Pool.name(), ours),
        others,
        |value| format!("{value:.0}"),
        |one, other| other.total_cmp(&one),
    )
}

/// `order` has the better one first.
fn place(
    what: &str,
    ours: Entry,
    mut others: Vec<Entry>,
    shown: impl Fn(f64) -> String,
    order: fn(f64, f64) -> Ordering,
) -> Place {
    let better = |one, other| order(one, other) == Ordering::Less;
    let own = shown(ours.1.median);
    others.sort_by(|one, other| order(one.1.median, other.1.median));
    let told = |&(name, spread): &Entry| {
        let overlap = spread.least <= ours.1.greatest && ours.1.least <= spread.greatest;
        let overlap = if overlap { "; the ranges overlap" } else { "" };
        let times = format::ms(spread.median / ours.1.median);
        format!("{name}: {}, {times} times sshpool's{overlap}", shown(spread.median))
    };
    let ahead: Vec<_> =
        others.iter().filter(|(_, other)| better(other.median, ours.1.median)).collect();
    if !ahead.is_empty() {
        let lines: String =
            ahead.into_iter().map(|entry| format!("\n  - {}", told(entry))).collect();
        return Place {
            won: false,
            text: format!("**{what}**: sshpool has {own}. Ahead of it:{lines}"),
        };
    }
    let next =
        others.first().map(|other| format!("\n  - next is {}", told(other))).unwrap_or_default();
    Place { won: true, text: format!("{what}: sshpool is the fastest with {own}{next}") }
}
