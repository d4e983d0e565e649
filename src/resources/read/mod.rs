//! What the script prints.

mod cgroup;
mod disks;
#[cfg(test)]
mod tests;

use super::{HostResources, LoadAverage, Memory, Swap};
use crate::text::printable;
use cgroup::cgroup;
use disks::{Mount, disks, inodes};

pub(super) fn resources(text: &str) -> HostResources {
    let mut found = HostResources::default();
    let (mut cpu, mut mounts) = (Vec::new(), Vec::new());
    for (name, lines) in parts(text) {
        let first = lines.first().copied().unwrap_or_default();
        let read = match name {
            "hostname" => {
                found.hostname = Some(printable(first)).filter(|name| !name.is_empty());
                true
            }
            "uptime" => {
                set(&mut found.uptime_seconds, first, |line| number(line.split(' ').next()?))
            }
            "loadavg" => set(&mut found.load_average, first, load_average),
            "cpus" => set(&mut found.cpu_count, first, |line| {
                line.parse().ok().filter(|&count| count > 0)
            }),
            "cpu" => {
                cpu.extend(cpu_times(first));
                first.is_empty() || !cpu.is_empty()
            }
            "meminfo" => {
                found.memory = memory(&lines);
                found.swap = swap(&lines);
                first.is_empty() || found.memory.is_some()
            }
            "cgroup" => {
                let memory = found.memory.map(|memory| memory.total_bytes);
                let swap = found.swap.map(|swap| swap.total_bytes);
                found.cgroup = cgroup(&lines, memory, swap);
                true
            }
            "inodes" => {
                inodes(&lines, found.disks.as_deref_mut().unwrap_or_default());
                true
            }
            "mounts" => {
                mounts = lines.iter().filter_map(|line| Mount::read(line)).collect();
                true
            }
            "df" => {
                found.disks = disks(&lines, &mounts, &mut found.unreadable);
                true
            }
            _ => true,
        };
        if !read {
            found.unreadable.push(format!("{name}: {:?}", printable(first)));
        }
    }
    if let [before, after] = cpu[..] {
        found.cpu_percent = cpu_percent(before, after);
    }
    found
}

/// The parts by their names. Text before the first one is skipped: start-up files may print.
fn parts(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix(":: "), parts.last_mut()) {
            (Some(name), _) => parts.push((name, Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            (None, None) => {}
        }
    }
    parts
}

/// Reads a value. False for a line that is not empty and cannot be read.
fn set<T>(value: &mut Option<T>, line: &str, read: impl FnOnce(&str) -> Option<T>) -> bool {
    *value = if line.is_empty() { None } else { read(line) };
    line.is_empty() || value.is_some()
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

fn load_average(line: &str) -> Option<LoadAverage> {
    let mut words = line.split(' ').map(number);
    Some(LoadAverage { one: words.next()??, five: words.next()??, fifteen: words.next()?? })
}

/// Busy and all ticks of `cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL GUEST GUEST_NICE`, of
/// which old kernels have only the first.
fn cpu_times(line: &str) -> Option<(u64, u64)> {
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    // Guests are in the user's time already.
    let all = ticks.iter().take(8).try_fold(0_u64, |all, &more| all.checked_add(more))?;
    let idle = ticks.get(3)?.checked_add(*ticks.get(4).unwrap_or(&0))?;
    Some((all.checked_sub(idle)?, all))
}

/// `None` when no tick has passed, or when iowait went backwards, which it may.
fn cpu_percent(before: (u64, u64), after: (u64, u64)) -> Option<f64> {
    let (busy, all) = (after.0.checked_sub(before.0)?, after.1.checked_sub(before.1)?);
    (all > 0).then(|| rounded(busy.min(all) as f64 / all as f64 * 100.0))
}

/// To a tenth: more is noise.
fn rounded(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

/// A value of /proc/meminfo.
fn bytes(lines: &[&str], name: &str) -> Option<u64> {
    let value = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

fn memory(lines: &[&str]) -> Option<Memory> {
    let total_bytes = bytes(lines, "MemTotal").filter(|&total| total > 0)?;
    let available_bytes = bytes(lines, "MemAvailable");
    let used_bytes = available_bytes.and_then(|available| total_bytes.checked_sub(available));
    Some(Memory {
        total_bytes,
        used_bytes,
        free_bytes: bytes(lines, "MemFree"),
        available_bytes,
        used_percent: used_bytes.map(|used| rounded(used as f64 / total_bytes as f64 * 100.0)),
    })
}

fn swap(lines: &[&str]) -> Option<Swap> {
    let (total_bytes, free_bytes) = (bytes(lines, "SwapTotal")?, bytes(lines, "SwapFree")?);
    let used_bytes = total_bytes.checked_sub(free_bytes)?;
    let percent = || rounded(used_bytes as f64 / total_bytes as f64 * 100.0);
    let used_percent = (total_bytes > 0).then(percent);
    Some(Swap { total_bytes, used_bytes, free_bytes, used_percent })
}
