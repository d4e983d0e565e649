//! What was measured, for people.

use std::fmt::Write as _;

use crate::idle::{Idle, OnAll};
use crate::large::BYTES;
use crate::support::facts::cell;
use crate::support::stats::Spread;
use crate::{Measured, Most, Row};

pub fn text(measured: &Measured) -> String {
    let mut out = String::from(
        "# Benchmarks of the program\n\n<!-- Written by scripts/bench. -->\n\nWhole processes, from their start to their end, with the agent \
         and its connections there: what a person or a script waits for. The hosts are names of one server on the machine that is also the \
         client, so that they share its cores; where nothing is there, each is a server of its own. Medians of the rounds, with their range; ratios are of the same round.\n\n## Figures it is \
         held to\n\n| what | bound | measured | |\n|---|---|---|---|\n",
    );
    let Measured {
        spaced,
        tight,
        many_spaced,
        many_tight,
        many_cold,
        large,
        idle,
        most,
        hosts,
        facts,
    } = measured;
    let mut bound = |what: &str, bound: f64, ratio: Option<Spread>| {
        let Some(Spread { median, least, greatest }) = ratio else {
            line(
                &mut out,
                format_args!("| {what} | at most {bound} | not measured | **unknown** |"),
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
    let [output, input] = large;
    for (what, rows) in [("output", output), ("input", input)] {
        let megabytes = BYTES / 1_000_000;
        bound(
            &format!(
                "`sshpool exec` with {megabytes} MB of {what}, against `ssh -F none -S SOCKET`"
            ),
            1.0,
            rows[0].against(&rows[1]),
        );
    }
    at_rest(&mut out, idle, 2.0, 20.0);
    match most {
        Ok(most) => {
            on_all(&mut out, most);
            at_rest(&mut out, &most.idle, 8.0, 60.0);
        }
        Err(why) => {
            let why = cell(why);
            line(&mut out, format_args!("| the most hosts connected | | {why} | **missed** |"));
        }
    }
    out.push_str(
        "\nThe computing and the processes are those of the agent and of all below it: masters, sessions, the guard; of those that have \
         ended, too; from 40 s after the logins on, when each master has had its first check, which calls `ssh -O check`. \
         The memory of all is their PSS: what several share is divided among them.\n",
    );
    let of_most = most.iter().filter_map(|most| most.idle.as_ref().ok());
    for idle in idle.iter().chain(of_most) {
        line(&mut out, format_args!("\n{}", about(idle)));
    }
    if let Ok(most) = most
        && most.hosts < most.wanted
    {
        line(
            &mut out,
            format_args!(
                "\nThis machine's memory carries {} of {} hosts.",
                most.hosts, most.wanted
            ),
        );
    }
    for (title, rows) in [
        ("One command, spaced by 50 ms", spaced),
        ("One command directly after the other", tight),
        ("100 MB of output", output),
        ("100 MB of input", input),
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

fn verdict(is_kept: bool) -> &'static str {
    if is_kept { "kept" } else { "**missed**" }
}

/// What an agent may take that has nothing to do: percents of a core, and MiB.
fn at_rest(out: &mut String, idle: &Result<Idle, String>, cpu: f64, memory: f64) {
    let idle = match idle {
        Ok(idle) => idle,
        Err(why) => {
            let why = cell(why);
            line(out, format_args!("| hosts connected, nothing to do | | {why} | **missed** |"));
            return;
        }
    };
    let Idle { hosts, resident_mib, cpu_of_all, .. } = idle;
    line(
        out,
        format_args!(
            "| {hosts} hosts connected, nothing to do: computing of all processes of the client's side | at most {cpu} % of a core | \
             {cpu_of_all:.2} % | {} |",
            verdict(*cpu_of_all <= cpu)
        ),
    );
    line(
        out,
        format_args!(
            "| memory of the agent with {hosts} hosts connected | at most {memory} MiB | {resident_mib:.1} MiB | {} |",
            verdict(*resident_mib <= memory)
        ),
    );
}

fn on_all(out: &mut String, most: &Most) {
    const SECONDS: f64 = 3.0;
    let Most { hosts, on_all: OnAll { seconds, runs, logins, first_error }, .. } = most;
    let what = format!("`true` on {hosts} hosts by `sshpool run`, warm");
    let (shown, is_kept) = match seconds {
        Some(Spread { median, least, greatest }) => {
            (format!("{median:.2} s ({least:.2} to {greatest:.2})"), *median <= SECONDS)
        }
        None => ("not once without an error".to_owned(), false),
    };
    line(out, format_args!("| {what} | at most {SECONDS} s | {shown} | {} |", verdict(is_kept)));
    let errors = first_error.as_ref().map_or("none".to_owned(), |error| cell(error));
    let is_kept = verdict(first_error.is_none());
    line(out, format_args!("| the same: errors in {runs} runs | none | {errors} | {is_kept} |"));
    line(
        out,
        format_args!(
            "| the same: logins meanwhile | none | {logins} | {} |",
            verdict(*logins == 0)
        ),
    );
}

/// What is not held to a bound.
fn about(idle: &Idle) -> String {
    format!(
        "{} hosts: {} processes of the client's side with {:.0} MiB together, {:.1} MiB a host. {} health checks in {} s. The agent's own \
         process takes {:.2} % of a core. Connecting took {:.1} s.",
        idle.hosts,
        idle.processes,
        idle.memory_mib,
        idle.memory_mib / idle.hosts as f64,
        idle.health_checks,
        idle.seconds,
        idle.cpu,
        idle.connect_seconds
    )
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
