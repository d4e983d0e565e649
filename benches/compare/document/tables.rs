//! The tables: nobody is left out of them, and neither are errors.

use std::fmt::Write as _;
use std::time::Duration;

use crate::document::format;
use crate::latency::{Row, Table};
use crate::peers::Kind;
use crate::plan::Command;
use crate::support::facts::cell;
use crate::support::stats;
use crate::turn::Turn;
use crate::widths::{self, Burst, Cell, Results};

pub fn distance(round_trip: Duration) -> String {
    match round_trip.as_millis() {
        0 => "on loopback".to_owned(),
        ms => format!("with a round trip of {ms} ms"),
    }
}

/// Where, and with which command if it is not the one that does nothing.
pub fn place(table: &Table) -> String {
    let distance = distance(table.round_trip);
    match table.command {
        Command::True => distance,
        Command::Cat => format!("{distance}, {}", table.command.name()),
    }
}

/// What is in the first columns.
pub fn introduction(table: &Table) -> &'static str {
    if table.is_loop {
        "The first two columns have the time of a whole turn by the number of its commands, which is what a loop takes; then come the median \
         and the 95th percentile of the single commands of all rounds, and what the client's side computes for each command (see below). \
         Milliseconds."
    } else {
        "The first two columns have the median command of a turn; then come the median and the 95th percentile of the single commands of \
         all rounds. Milliseconds."
    }
}

pub fn latency(table: &Table, kex: &str) -> String {
    let mut place = place(table);
    place[..1].make_ascii_uppercase();
    let mut text = format!("### {place}\n\n");
    if let Some(ms) = table.measured {
        _ = writeln!(text, "The proxy itself takes {} ms there and back.\n", format::ms(ms));
    }
    let figure = if table.is_loop { "mean" } else { "median" };
    _ = writeln!(
        text,
        "| | {figure} | range | single: median | 95 % | against sshpool |{} commands | errors | logins |",
        if table.is_loop { " client computes |" } else { "" }
    );
    _ = writeln!(text, "|---|{}", "--:|".repeat(if table.is_loop { 9 } else { 8 }));
    let medians = table.rows.iter().filter_map(|row| Some(row.spread(table.figure)?.median));
    let fastest = medians.fold(f64::INFINITY, f64::min);
    let ours = table.median(Kind::Pool);
    for row in &table.rows {
        let name = match row.kind {
            Kind::Cold => format!("{} ({kex})", row.kind.name()),
            kind => kind.name().to_owned(),
        };
        text += &latency_row(table, row, &name, fastest, ours);
    }
    text.push('\n');
    for row in &table.rows {
        if let Some(error) = row.first_error() {
            _ = writeln!(text, "First error of {}: {error}\n", row.kind.name());
        }
    }
    text
}

fn latency_row(table: &Table, row: &Row, name: &str, fastest: f64, ours: Option<f64>) -> String {
    let computes =
        |shown: String| if table.is_loop { format!(" {shown} |") } else { String::new() };
    if let Some(why) = &row.missing {
        return format!("| {name} | {} | | | | |{} | | |\n", cell(why), computes(String::new()));
    }
    let Some(spread) = row.spread(table.figure) else {
        return format!(
            "| {name} | no command succeeded | | | | |{} 0 | {} | {} |\n",
            computes(String::new()),
            row.errors(),
            row.logins()
        );
    };
    let all = row.all();
    let single = |part| stats::percentile(&all, part).map_or("-".to_owned(), format::ms);
    let median = format::ms(spread.median);
    let median = if spread.median <= fastest { format!("**{median}**") } else { median };
    let against =
        ours.map_or("-".to_owned(), |ours| format!("{} ×", format::ms(spread.median / ours)));
    let cpu = row.spread(Turn::cpu_of_each).map_or("-".to_owned(), |cpu| format::ms(cpu.median));
    format!(
        "| {name} | {median} | {} | {} | {} | {against} |{} {} | {} | {} |\n",
        format::range(spread),
        single(0.5),
        single(0.95),
        computes(cpu),
        all.len() + row.errors(),
        row.errors(),
        row.logins()
    )
}

pub fn widths(results: &Results) -> String {
    let mut text = String::from(
        "## Many commands at once\n\nCommands a second on loopback, at the width at which the peer ran most of them without an error; then \
         the widest up to which there was none at all, and what happened beyond that. A login that a client makes because its session was \
         refused counts as an error does; a pool grows up to `max_connections`.\n\n\
         | | best width | commands/s | range | client computes, ms | rounds | no errors up to | beyond |\n\
         |---|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for row in &results.rows {
        let name = row.kind.name();
        if let Some(why) = &row.missing {
            _ = writeln!(text, "| {name} | {} | | | | | | |", cell(why));
            continue;
        }
        let widest = row.widest();
        let beyond = row.cells.iter().find(|cell| !cell.is_clean(row.kind));
        let beyond = match beyond {
            Some(cell) => {
                format!("at {}: {}", cell.width, trouble(cell, row.kind).unwrap_or_default())
            }
            None if widest == results.widths.last().copied() => "no errors at any width".to_owned(),
            None => "not tried, for want of time".to_owned(),
        };
        let widest = widest.map_or("-".to_owned(), |width| width.to_string());
        let best = row.fastest().map_or("- | - | - | - | -".to_owned(), |cell| {
            let rate = cell.rate();
            format!(
                "{} | {} | {} | {} | {}",
                cell.width,
                format::rate(rate),
                format::rate_range(rate),
                computing(&cell.turns),
                cell.turns.len()
            )
        });
        _ = writeln!(text, "| {name} | {best} | {widest} | {beyond} |");
    }
    text += "\nAll widths, with what went wrong at them. `-`: not tried.\n\n|";
    for width in results.widths {
        _ = write!(text, " | {width}");
    }
    _ = writeln!(text, " |\n|---{}|", "|--:".repeat(results.widths.len()));
    for row in &results.rows {
        _ = write!(text, "| {}", row.kind.name());
        for &width in results.widths {
            let shown =
                row.cells.iter().find(|cell| cell.width == width).map_or("-".to_owned(), |cell| {
                    let rate = format::rate(cell.rate());
                    trouble(cell, row.kind)
                        .map_or(rate.clone(), |trouble| format!("{rate} ({trouble})"))
                });
            _ = write!(text, " | {shown}");
        }
        text += " |\n";
    }
    text.push('\n');
    for row in &results.rows {
        if let Some((width, error)) = row.first_error() {
            _ = writeln!(text, "First error of {}, at {width}: {error}\n", row.kind.name());
        }
    }
    text
}

/// What was not as it should be, of how many commands.
fn trouble(cell: &Cell, kind: Kind) -> Option<String> {
    if cell.is_clean(kind) {
        return None;
    }
    let mut troubles = Vec::new();
    if cell.errors() > 0 {
        troubles.push(format::count(cell.errors(), "error"));
    }
    if kind != Kind::Cold && cell.logins() > 0 {
        troubles.push(format::count(cell.logins(), "login"));
    }
    Some(format!("{} in {}", troubles.join(", "), cell.commands()))
}

/// Milliseconds of each command.
fn computing(turns: &[Turn]) -> String {
    widths::cpu(turns).map_or("-".to_owned(), |cpu| format::ms(cpu.median))
}

pub fn bursts(results: &Results) -> String {
    let mut text =
        format!("### {} at once on a pool: {}\n\n", crate::plan::BURST, results.command.name());
    text += match results.command {
        Command::True => {
            "The first time on a pool that has run one command and so has one connection: the others are made meanwhile, and their logins \
             count. Then once more.\n\n"
        }
        Command::Cat => {
            "The same, and beside it the peers that bounds name, at their best widths.\n\n"
        }
    };
    text += "| | first: commands/s | range | client computes, ms | again: commands/s | range | client computes, ms | errors | most logins |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for burst in &results.bursts {
        let column = |turns: &[Turn]| {
            let spread = widths::rate(turns);
            spread.map_or("- | - | -".to_owned(), |spread| {
                let (rate, range) = (format::rate(spread), format::rate_range(spread));
                format!("{rate} | {range} | {}", computing(turns))
            })
        };
        _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} of at most {} |",
            burst.kind.name(),
            column(&burst.first),
            column(&burst.again),
            burst.errors(),
            burst.most_logins(),
            Burst::max_connections()
        );
    }
    if results.command == Command::Cat {
        for row in results.rows.iter().filter(|row| !row.kind.is_ours()) {
            let name = row.kind.name();
            let Some(cell) = row.fastest() else {
                let why = row.missing.as_deref().unwrap_or("errors at every width");
                _ = writeln!(text, "| {name} | | | | {} | | | | |", cell(why));
                continue;
            };
            let (rate, range) = (format::rate(cell.rate()), format::rate_range(cell.rate()));
            _ = writeln!(
                text,
                "| {name}, {} wide | | | | {rate} | {range} | {} | {} | |",
                cell.width,
                computing(&cell.turns),
                cell.errors()
            );
        }
    }
    text.push('\n');
    for burst in &results.bursts {
        if let Some(error) = burst.first_error() {
            _ = writeln!(text, "First error of {}: {error}\n", burst.kind.name());
        }
    }
    text
}
