//! An agent that holds many connections: what it takes while nobody asks it for anything, and one
//! command on all of them.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::support::stats::Spread;
use crate::support::{cpu, milliseconds};

/// What an agent takes that has nothing to do but to keep its connections, with all processes that
/// it has on this machine.
pub struct Idle {
    pub hosts: usize,
    pub connect_seconds: f64,
    pub resident_mib: f64,
    /// Of one core, in percent: the agent's own.
    pub cpu: f64,
    /// With its masters, sessions and all others, ended or not.
    pub cpu_of_all: f64,
    pub processes: usize,
    /// Of all of them together; what several share is counted once.
    pub memory_mib: f64,
    pub seconds: u64,
    pub health_checks: u64,
}

/// One command on all hosts that an agent has connections to.
pub struct OnAll {
    /// Seconds, of those without an error.
    pub seconds: Option<Spread>,
    pub runs: usize,
    /// Made meanwhile: the connections were there.
    pub logins: usize,
    pub first_error: Option<String>,
}

/// Connects to so many hosts; gives the seconds that it took.
pub fn connect(lab: &Lab, hosts: usize) -> Result<f64, String> {
    let started = Instant::now();
    let mut warm = lab.sshpool();
    warm.args(["warm", "--batch", "--json"]).args((1..=hosts).map(|number| format!("h{number}")));
    let output = warm.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        let failed = said.lines().find(|line| !line.contains("\"error\":null"));
        return Err(format!("{}: {}", output.status, failed.unwrap_or("no host is named")));
    }
    let seconds = started.elapsed().as_secs_f64();
    match connections(lab) {
        there if there == hosts => Ok(seconds),
        there => Err(format!("{there} of {hosts} connections are there")),
    }
}

/// Measures for so long. The connections are there.
pub fn idle(lab: &Lab, hosts: usize, connect_seconds: f64, time: Duration) -> Result<Idle, String> {
    let pid = status(lab)["agent"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.ok_or("the agent does not tell its pid")?;
    // Then the sessions ahead of need are there, and each master has had its first check, which
    // starts a program.
    std::thread::sleep(Duration::from_secs(40).min(time));
    let checks = health_checks(lab);
    let look = || (cpu::of(pid).unwrap_or(0.0), cpu::family(pid), Instant::now());
    let (own, all, began) = look();
    std::thread::sleep(time);
    let (own_after, all_after, ended) = look();
    let lasted = ended.duration_since(began).as_secs_f64() * 1000.0;
    let (processes, memory_mib) = (cpu::count(pid), cpu::memory(pid));
    let health_checks = health_checks(lab) - checks;
    match connections(lab) {
        there if there == hosts => Ok(Idle {
            hosts,
            connect_seconds,
            resident_mib: resident(pid),
            cpu: (own_after - own) / lasted * 100.0,
            cpu_of_all: (all_after - all) / lasted * 100.0,
            processes,
            memory_mib,
            seconds: time.as_secs(),
            health_checks,
        }),
        there => Err(format!("{there} of {hosts} connections are left")),
    }
}

/// `true` on all hosts by one `sshpool run`, so many times, with a second between them.
pub fn on_all(lab: &Lab, hosts: usize, runs: usize) -> OnAll {
    let (mut times, mut first_error) = (Vec::new(), None);
    let (width, before) = (hosts.to_string(), lab.logins());
    // The first one is not counted.
    for number in 0..=runs {
        std::thread::sleep(Duration::from_secs(1));
        let mut run = lab.sshpool();
        run.args(["run", "-w", &format!("h[1-{hosts}]"), "-f", &width, "--", "true"]);
        let started = Instant::now();
        let output = run.stdin(Stdio::null()).output().expect("the program can be started");
        let time = milliseconds(started) / 1000.0;
        if output.status.success() {
            times.extend((number > 0).then_some(time));
        } else {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = said.lines().next().unwrap_or_default();
            first_error.get_or_insert(format!("{}: {line}", output.status));
        }
    }
    let logins = lab.logins() - before;
    OnAll { seconds: Spread::of(&times), runs, logins, first_error }
}

/// How many hosts the client and the server of such a lab have memory for.
pub fn that_memory_carries(wanted: usize) -> usize {
    /// Of the processes of both sides for one connection with its sessions, and some more.
    const EACH_KIB: usize = 16 * 1024;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<usize>().ok());
    kib.map_or(wanted, |kib| wanted.min(kib / EACH_KIB))
}

fn status(lab: &Lab) -> serde_json::Value {
    let output = lab.sshpool().args(["status", "--json"]).output();
    serde_json::from_slice(&output.expect("the program can be started").stdout)
        .expect("status prints JSON")
}

fn connections(lab: &Lab) -> usize {
    status(lab)["connections"].as_array().map_or(0, Vec::len)
}

fn health_checks(lab: &Lab) -> u64 {
    let output = lab.sshpool().arg("metrics").output().expect("the program can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("sshpool_agent_health_checks_passed_total "));
    line.and_then(|number| number.trim().parse().ok()).expect("the metrics have it")
}

fn resident(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a resident set");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}
