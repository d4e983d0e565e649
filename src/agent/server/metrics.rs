//! Statistics as Prometheus reads them.

use std::fmt::Write as _;

use serde_json::Value;

use super::Agent;
use crate::agent::protocol::VERSION;

/// Those of [`Stats`](crate::Stats): the field there, the name here, and what it is. Names that end
/// in `_total` are counters, as is the custom of Prometheus, the others gauges.
const METRICS: &[(&str, &str, &str)] = &[
    (
        "pool_hits",
        "pool_hits_total",
        "Callers that were served at once, over a connection that was there.",
    ),
    ("pool_misses", "pool_misses_total", "Callers that had to wait for a login."),
    ("active_connections", "active_connections", "Connections that at least one caller uses."),
    ("idle_connections", "idle_connections", "Connections that nobody uses."),
    ("total_connections", "connections", "Connections that are there."),
    ("connecting", "connecting", "Logins under way."),
    ("waiting", "waiting", "Callers that queue."),
    ("open_sessions", "open_sessions", "Sessions that callers hold."),
    ("standby_sessions", "standby_sessions", "Sessions opened ahead of need."),
    ("plain_connections", "plain_connections", "Connections to accounts without a POSIX shell."),
    ("connects", "connects_total", "Logins that succeeded."),
    ("failed_connects", "failed_connects_total", "Logins that failed."),
    ("health_checks_passed", "health_checks_passed_total", "Probes that succeeded."),
    (
        "health_check_failures",
        "health_check_failures_total",
        "Connections that were found not to work any more.",
    ),
    ("standby_hits", "standby_hits_total", "Commands that took a session opened ahead of need."),
    (
        "reused_sessions",
        "reused_sessions_total",
        "Commands that took a session in which others had run.",
    ),
    ("refused_sessions", "refused_sessions_total", "Sessions that a server refused to open."),
    ("commands_run", "commands_run_total", "Commands that were started."),
    (
        "commands_timed_out",
        "commands_timed_out_total",
        "Commands that took longer than their timeout.",
    ),
];

/// `sshpool_NAME` by host, and `sshpool_agent_NAME` in all.
pub(super) fn text(agent: &Agent) -> String {
    let pools = &agent.pools;
    let hosts: Vec<(String, Value)> = pools
        .stats_by_host()
        .into_iter()
        .map(|(host, stats)| (host, serde_json::to_value(stats).expect("it has numbers only")))
        .collect();
    let all = serde_json::to_value(pools.stats()).expect("it has numbers only");
    let mut text = String::new();
    for (field, name, help) in METRICS {
        head(&mut text, name, help);
        for (host, stats) in &hosts {
            // A host's name has nothing that would have to be escaped.
            line(&mut text, format_args!("sshpool_{name}{{host=\"{host}\"}} {}", stats[field]));
        }
        head(&mut text, &format!("agent_{name}"), help);
        line(&mut text, format_args!("sshpool_agent_{name} {}", all[field]));
    }
    let (forwards, open) = agent.forwards.counts();
    let own = [
        ("agent_clients", "Clients that are connected to the agent.", agent.clients() as f64),
        ("agent_commands", "Commands that run.", agent.commands() as f64),
        ("agent_forwards", "Forwards that are there.", agent.forwards.count() as f64),
        ("agent_forward_clients_open", "Clients of forwards that are connected.", open as f64),
        ("agent_forward_clients_total", "Clients of forwards that came.", forwards.clients as f64),
        (
            "agent_forward_failures_total",
            "Times that a forward's client was reset, or that a host did not listen for one.",
            forwards.failures as f64,
        ),
        (
            "agent_forward_sent_bytes_total",
            "Bytes from clients of forwards to hosts.",
            forwards.sent as f64,
        ),
        (
            "agent_forward_received_bytes_total",
            "Bytes from hosts to clients of forwards.",
            forwards.received as f64,
        ),
        ("agent_uptime_seconds", "Time since the agent was started.", agent.uptime().as_secs_f64()),
    ];
    for (name, help, value) in own {
        head(&mut text, name, help);
        line(&mut text, format_args!("sshpool_{name} {value}"));
    }
    head(&mut text, "agent_info", "The agent's version.");
    line(&mut text, format_args!("sshpool_agent_info{{version=\"{VERSION}\"}} 1"));
    text
}

fn head(text: &mut String, name: &str, help: &str) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    line(text, format_args!("# HELP sshpool_{name} {help}\n# TYPE sshpool_{name} {kind}"));
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_that_is_counted_is_left_out() {
        let stats =
            serde_json::to_value(crate::policy::Stats::default()).expect("it has numbers only");
        let mut counted: Vec<_> =
            stats.as_object().expect("it has fields").keys().cloned().collect();
        let mut told: Vec<_> =
            super::METRICS.iter().map(|(field, ..)| (*field).to_owned()).collect();
        counted.sort();
        told.sort();
        assert_eq!(told, counted);
    }
}
