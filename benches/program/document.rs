//! What was measured, for people.

use std::fmt::Write as _;

use crate::support::stats::Spread;
use crate::{Measured, Row};

pub fn text(measured: &Measured) -> String {
    let mut out = String::from(
        "# Benchmarks of the program\n\n<!-- Written by scripts/bench. -->\n\nWhole processes, from their start to their end, with the agent \
         and its connections there: what a person or a script waits for. The hosts are names of one server on the machine that is also the \
         client, so that they share its cores. Medians of the rounds, with their range; ratios are of the same round.\n\n## Figures it is \
         held to\n\n| what | bound | measured | |\n|---|---|---|---|\n",
    );
    let Measured { spaced, tight, many_spaced, many_tight, many_cold, idle, hosts, facts } =
        measured;
    let mut bound = |what: &str, bound: f64, ratio: Option<Spread>| {
        let Some(Spread { median, least, greatest }) = ratio else {
            line(
                &mut out,
                format_args!("| {what} | at most {bound} | not measured | **missed** |"),
            );
            return;
        };
        let verdict = if median <= bound { "kept" } else { "**missed**" };
        line(
            &mut out,
            format_args!(
                "| {what} | at most {bound} | {median:.2} ({least:.2} to {greatest:.2}) | {verdict} |"
            ),
        );
    };
    bound(
        "`sshpool exec`, spaced by 50 ms, against `ssh -F none -S SOCKET`",
        0.5,
        spaced[0].against(&spaced[1]),
    );
    bound("the same, one directly after the other", 0.5, tight[0].against(&tight[1]));
    bound(
        &format!(
            "{hosts} hosts by `sshpool run`, warm, spaced by a second, against `xargs ssh` over masters"
        ),
        0.25,
        many_spaced[0].against(&many_spaced[1]),
    );
    bound("the same, one directly after the other", 0.25, many_tight[0].against(&many_tight[1]));
    bound(
        &format!("{hosts} hosts, cold, agent included, against pdsh without masters"),
        1.05,
        many_cold[0].against(&many_cold[1]),
    );
    let single = |value: f64, bound: f64| if value <= bound { "kept" } else { "**missed**" };
    let memory = single(idle.resident_mib, 20.0);
    line(
        &mut out,
        format_args!(
            "| memory of the agent with {} hosts connected | at most 20 MiB | {:.1} MiB | {memory} |",
            idle.hosts, idle.resident_mib
        ),
    );
    let cpu = single(idle.cpu_with_children, 2.0);
    line(
        &mut out,
        format_args!(
            "| computing of the agent and of the processes of its health checks meanwhile | at most 2 % of a core | {:.2} % | {cpu} |",
            idle.cpu_with_children
        ),
    );
    line(
        &mut out,
        format_args!(
            "\nIt made {} health checks in {} s. The agent's own process takes {:.1} % of a core. Connecting to the {} hosts took {:.1} s.",
            idle.health_checks, idle.seconds, idle.cpu, idle.hosts, idle.connect_seconds
        ),
    );
    for (title, rows) in [
        ("One command, spaced by 50 ms", spaced),
        ("One command directly after the other", tight),
        ("Many hosts, connections there, spaced by a second", many_spaced),
        ("Many hosts, connections there, one directly after the other", many_tight),
        ("Many hosts, nothing there", many_cold),
    ] {
        table(&mut out, title, rows);
    }
    out.push('\n');
    out.push_str(&facts.section());
    out
}

fn table(out: &mut String, title: &str, rows: &[Row]) {
    line(
        out,
        format_args!(
            "\n## {title}\n\nMilliseconds.\n\n| | median | range | against sshpool |\n|---|--:|--:|--:|"
        ),
    );
    for row in rows {
        match (row.spread(), &row.missing) {
            (_, Some(why)) => line(out, format_args!("| {} | | | {why} |", row.name)),
            (Some(Spread { median, least, greatest }), None) => {
                let ratio = row
                    .against(&rows[0])
                    .map_or_else(String::new, |ratio| format!("{:.2} ×", ratio.median));
                line(
                    out,
                    format_args!(
                        "| {} | {median:.2} | {least:.2} to {greatest:.2} | {ratio} |",
                        row.name
                    ),
                );
            }
            (None, None) => {}
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}
