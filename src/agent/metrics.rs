//! Statistics as Prometheus reads them.

use std::fmt::Write as _;

use serde_json::Value;

use super::server::Agent;
use super::wire::VERSION;

/// Those that go up and down.
const GAUGES: &[&str] = &[
    "active_connections",
    "idle_connections",
    "total_connections",
    "connecting",
    "waiting",
    "open_sessions",
    "standby_sessions",
    "plain_connections",
];

/// The names are those of [`Stats`](crate::Stats), with `sshpool_` before them and the host as a label.
pub(super) fn text(agent: &Agent) -> String {
    let pools = &agent.pools;
    let hosts: Vec<(String, Value)> = pools
        .stats_by_host()
        .into_iter()
        .map(|(host, stats)| (host, serde_json::to_value(stats).expect("it has numbers only")))
        .collect();
    let all = serde_json::to_value(pools.stats()).expect("it has numbers only");
    let mut text = String::new();
    for (name, sum) in all.as_object().into_iter().flatten() {
        let kind = if GAUGES.contains(&name.as_str()) { "gauge" } else { "counter" };
        let mut line = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to a String cannot fail")
        };
        line(format_args!("# TYPE sshpool_{name} {kind}"));
        for (host, stats) in &hosts {
            // A host's name has nothing that would have to be escaped.
            line(format_args!("sshpool_{name}{{host=\"{host}\"}} {}", stats[name]));
        }
        line(format_args!("# TYPE sshpool_agent_{name} {kind}"));
        line(format_args!("sshpool_agent_{name} {sum}"));
    }
    let own = [
        ("clients", agent.clients() as f64),
        ("commands", agent.commands() as f64),
        ("uptime_seconds", agent.uptime().as_secs_f64()),
    ];
    for (name, value) in own {
        text.push_str(&format!("# TYPE sshpool_agent_{name} gauge\nsshpool_agent_{name} {value}\n"));
    }
    text.push_str(&format!(
        "# TYPE sshpool_agent_info gauge\nsshpool_agent_info{{version=\"{VERSION}\"}} 1\n"
    ));
    text
}
