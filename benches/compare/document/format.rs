//! Figures and words as the document has them.

use crate::latency::Table;
use crate::support::stats::Spread;

/// Three digits or so: more would be noise.
pub fn ms(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

pub fn range(spread: Spread) -> String {
    format!("{} to {}", ms(spread.least), ms(spread.greatest))
}

/// A ratio and its range.
pub fn ratio(spread: Spread) -> String {
    format!("{} ({})", ms(spread.median), range(spread))
}

pub fn rate(spread: Spread) -> String {
    format!("{:.0}", spread.median)
}

pub fn rate_range(spread: Spread) -> String {
    format!("{:.0} to {:.0}", spread.least, spread.greatest)
}

pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// How many rounds there were.
pub fn rounds(table: &Table) -> String {
    count(table.rows.iter().map(|row| row.turns.len()).max().unwrap_or(0), "round")
}
