//! `sshpool resources`.

use std::time::Duration;

use clap::Args;

use super::failure::Failure;
use super::many::{Answer, Many, rows};
use super::output::complain;
use super::output::watched::Watched;
use crate::command::Runner;
use crate::config;
use crate::host::Host;
use crate::pool::signals;
use crate::resources::{Cgroup, Disk, HostResources, Swap};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool resources 'web[1-3]' db1        what they have and what of it is used
  sshpool resources --watch=5s web1,web2  again and again, in place
  sshpool resources --json web1 | jq '.[].disks[] | select(.used_percent > 90)'")]
pub(super) struct Resources {
    /// Names, ranges and groups, as for run -w
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,

    /// Ask again and again, with this pause, until interrupted; a terminal is refreshed in place,
    /// and with --json each time is a line
    #[arg(long, value_name = "DURATION", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = config::parse_duration)]
    watch: Option<Duration>,

    #[command(flatten)]
    many: Many,
}

impl Resources {
    pub(super) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Whether it asks more than once.
    pub(super) fn watches(&self) -> bool {
        self.watch.is_some()
    }

    pub(super) async fn run(&self, runner: &dyn Runner, hosts: &[Host]) -> Result<u8, Failure> {
        let mut words = self.hosts.iter().flat_map(|hosts| hosts.split(',')).map(str::trim);
        if let (Some(_), Some(pause)) =
            (self.watch, words.find(|word| config::parse_duration(word).is_ok()))
        {
            return Err(Failure::Usage(format!(
                "{pause} is taken for a host: write --watch={pause}"
            )));
        }
        let ask = |host| async move {
            let found = HostResources::of(runner, host).await;
            found.map_err(|error| Failure::of(Host::name(host), &error))
        };
        let mut screen = Watched::default();
        loop {
            let answers = self.many.ask(hosts, ask).await?;
            if signals::is_ending() {
                // What was asked was cut off by us. The handler closes the pool and ends the
                // process.
                return Ok(0);
            }
            let tables =
                |answers: &[_]| format!("{}\n\n{}", hosts_table(answers), disks_table(answers));
            let Some(pause) = self.watch else {
                let status = self.many.show(&answers, tables).await?;
                if !self.many.json() {
                    answers.iter().flat_map(unreadable).for_each(complain);
                }
                return Ok(status);
            };
            if self.many.json() {
                self.many.show(&answers, tables).await?;
            } else {
                // What is wrong has its place on the screen, before the disks: these are what does
                // not fit.
                let errors = answers.iter().filter_map(|answer| {
                    Some(format!("{}: {}", answer.host, answer.error.as_ref()?))
                });
                let remarks = errors.chain(answers.iter().flat_map(unreadable));
                let remarks: String = remarks.map(|line| format!("{line}\n")).collect();
                screen
                    .show(&format!(
                        "{}\n{remarks}\n{}",
                        hosts_table(&answers),
                        disks_table(&answers)
                    ))
                    .await?;
            }
            tokio::time::sleep(pause).await;
        }
    }
}

/// What the host said and what could not be read.
fn unreadable(answer: &Answer<HostResources>) -> impl Iterator<Item = String> {
    let lines = answer.found.iter().flat_map(|found| &found.unreadable);
    lines.map(|line| format!("{}: cannot be read: {line}", answer.host))
}

const HOST_COLUMNS: &[&str] = &[
    "HOSTNAME",
    "UPTIME",
    "LOAD",
    "CPUS",
    "CPU",
    "MEMORY",
    "USED",
    "AVAILABLE",
    "USE",
    "SWAP",
    "LIMITS",
];
const DISK_COLUMNS: &[&str] =
    &["DEVICE", "MOUNT", "TYPE", "SIZE", "USED", "AVAILABLE", "USE", "INODES"];

fn hosts_table(answers: &[Answer<HostResources>]) -> String {
    rows(answers, HOST_COLUMNS, std::slice::from_ref, host_row)
}

fn disks_table(answers: &[Answer<HostResources>]) -> String {
    rows(answers, DISK_COLUMNS, |found| found.disks.as_deref().unwrap_or_default(), disk_row)
}

fn host_row(found: &HostResources) -> Vec<String> {
    let memory = found.memory.as_ref();
    vec![
        found.hostname.clone().unwrap_or_else(dash),
        found.uptime_seconds.map_or_else(dash, uptime),
        found.load_average.map_or_else(dash, |load| {
            format!("{:.2} {:.2} {:.2}", load.one, load.five, load.fifteen)
        }),
        or_dash(found.cpu_count),
        percent(found.cpu_percent),
        memory.map_or_else(dash, |memory| size(memory.total_bytes)),
        memory.and_then(|memory| memory.used_bytes).map_or_else(dash, size),
        memory.and_then(|memory| memory.available_bytes).map_or_else(dash, size),
        percent(memory.and_then(|memory| memory.used_percent)),
        found.swap.as_ref().map_or_else(dash, swap),
        found.cgroup.as_ref().map_or_else(dash, limits),
    ]
}

fn disk_row(disk: &Disk) -> Vec<String> {
    vec![
        disk.device.clone(),
        disk.mount.clone(),
        disk.file_system.clone().unwrap_or_else(dash),
        size(disk.size_bytes),
        size(disk.used_bytes),
        size(disk.available_bytes),
        disk.used_percent.map_or_else(dash, |percent| format!("{percent}%")),
        disk.inodes
            .and_then(|inodes| inodes.used_percent)
            .map_or_else(dash, |percent| format!("{percent}%")),
    ]
}

fn swap(swap: &Swap) -> String {
    match swap.used_percent {
        None => "none".to_owned(),
        used => format!("{} of {}", percent(used), size(swap.total_bytes)),
    }
}

/// What control groups allow: CPUs, and memory with what of it is used.
fn limits(cgroup: &Cgroup) -> String {
    let cpus = cgroup.cpu_limit.map(|cpus| format!("{cpus} CPUs"));
    let memory = cgroup.memory_limit_bytes.map(|limit| match cgroup.memory_used_percent {
        Some(used) => format!("{} of {}", percent(Some(used)), size(limit)),
        None => size(limit),
    });
    let swap = cgroup.swap_limit_bytes.map(|limit| format!("swap {}", size(limit)));
    [cpus, memory, swap].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn dash() -> String {
    "-".to_owned()
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(dash, |value| value.to_string())
}

fn percent(value: Option<f64>) -> String {
    value.map_or_else(dash, |value| format!("{value:.1}%"))
}

/// The two largest units: `3d 4h`, `4h 5m`, `5m 6s`.
fn uptime(seconds: f64) -> String {
    // A number of seconds that was read as finite and not negative.
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// In powers of 1024, with one place below ten.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter();
    let mut unit = units.next().expect("there are seven");
    while value >= 1023.5 {
        value /= 1024.0;
        unit = units.next().expect("64 bits end at 16 EiB");
    }
    let places = usize::from(value < 9.95 && bytes >= 1024);
    format!("{value:.places$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0 B")]
    #[case(1023, "1023 B")]
    #[case(1024, "1.0 KiB")]
    #[case(10_188, "9.9 KiB")]
    #[case(10_240, "10 KiB")]
    #[case(1_048_570, "1.0 MiB")]
    #[case(252 << 30, "252 GiB")]
    #[case(u64::MAX, "16 EiB")]
    fn sizes_for_people(#[case] bytes: u64, #[case] text: &str) {
        assert_eq!(size(bytes), text);
    }

    #[rstest]
    #[case(0.0, "0m 0s")]
    #[case(3599.9, "59m 59s")]
    #[case(3600.0, "1h 0m")]
    #[case(90_061.0, "1d 1h")]
    fn uptimes_for_people(#[case] seconds: f64, #[case] text: &str) {
        assert_eq!(uptime(seconds), text);
    }
}
