//! What the script prints.

use super::{Disk, HostResources, LoadAverage, Memory};
use crate::error::printable;

/// Kinds of file systems that have a size and store nothing, or nothing that could fill up by itself. Those without a size are left out
/// anyway.
const NOT_REAL: &[&str] = &[
    "autofs",
    "devtmpfs",
    "efivarfs",
    "erofs",
    "fuse.gvfsd-fuse",
    "fuse.lxcfs",
    "fuse.portal",
    "fuse.snapfuse",
    "iso9660",
    "ramfs",
    "squashfs",
    "tmpfs",
    "udf",
];

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
            "uptime" => set(&mut found.uptime_seconds, first, |line| number(line.split(' ').next()?)),
            "loadavg" => set(&mut found.load_average, first, load_average),
            "cpus" => set(&mut found.cpu_count, first, |line| line.parse().ok().filter(|&count| count > 0)),
            "cpu" => {
                cpu.extend(cpu_times(first));
                first.is_empty() || !cpu.is_empty()
            }
            "meminfo" => {
                found.memory = memory(&lines);
                first.is_empty() || found.memory.is_some()
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

/// The parts by their names. What comes before the first one (start-up files may print) is nobody's.
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

/// False when there is something, and it cannot be read.
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

/// Busy and all ticks of `cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL GUEST GUEST_NICE`, of which old kernels have only the first.
fn cpu_times(line: &str) -> Option<(u64, u64)> {
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    // Guests are in the user's time already.
    let all = ticks.iter().take(8).sum();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    Some((all - idle, all))
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

fn memory(lines: &[&str]) -> Option<Memory> {
    let bytes = |name: &str| {
        let value = lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let total_bytes = bytes("MemTotal").filter(|&total| total > 0)?;
    let available_bytes = bytes("MemAvailable");
    let used_bytes = available_bytes.and_then(|available| total_bytes.checked_sub(available));
    Some(Memory {
        total_bytes,
        used_bytes,
        free_bytes: bytes("MemFree"),
        available_bytes,
        used_percent: used_bytes.map(|used| rounded(used as f64 / total_bytes as f64 * 100.0)),
    })
}

struct Mount {
    directory: String,
    kind: String,
}

impl Mount {
    /// `DEVICE DIRECTORY KIND OPTIONS 0 0`, blanks in the names as `\040`.
    fn read(line: &str) -> Option<Self> {
        let mut words = line.split(' ').skip(1);
        Some(Mount { directory: unescaped(words.next()?), kind: words.next()?.to_owned() })
    }
}

/// `\` and three octal digits stand for one byte.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, more)) = rest.split_first() {
        match (first, more) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', more @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = more;
            }
            _ => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `None` when there is not even a heading, or one that does not say what the numbers are.
fn disks(lines: &[&str], mounts: &[Mount], unreadable: &mut Vec<String>) -> Option<Vec<Disk>> {
    let (heading, lines) = lines.split_first()?;
    if heading.split_whitespace().nth(1) != Some("1024-blocks") {
        unreadable.push(format!("df: its blocks are not of 1024 bytes: {:?}", printable(heading)));
        return None;
    }
    let mut disks: Vec<Disk> = Vec::new();
    for line in lines {
        let Some(mut disk) = disk(line) else {
            unreadable.push(format!("df: {:?}", printable(line)));
            continue;
        };
        // What is mounted over something hides it, and comes later.
        disk.file_system = mounts
            .iter()
            .rfind(|mount| printable(&mount.directory) == disk.mount)
            .map(|mount| mount.kind.clone());
        if disk.size_bytes == 0 || !is_real(&disk) {
            continue;
        }
        // A file system that is mounted several times. What is no path may well be the name of several.
        let same = disks.iter_mut().find(|other| other.device == disk.device && disk.device.starts_with('/'));
        match same {
            Some(other) if disk.mount.len() < other.mount.len() => *other = disk,
            Some(_) => {}
            None => disks.push(disk),
        }
    }
    Some(disks)
}

/// `DEVICE SIZE USED AVAILABLE PERCENT% DIRECTORY`, with blanks in the names perhaps.
fn disk(line: &str) -> Option<Disk> {
    let words: Vec<&str> = line.split(' ').collect();
    let words: Vec<(usize, &str)> = {
        // Where each begins, to cut the names out whole.
        let mut at = 0;
        let begins = words.into_iter().map(|word| {
            let begin = at;
            at += word.len() + 1;
            (begin, word)
        });
        begins.filter(|(_, word)| !word.is_empty()).collect()
    };
    // A reserve that root has used up makes what is available negative.
    let blocks = |word: &str| match word.strip_prefix('-') {
        Some(digits) => digits.parse::<u64>().ok().map(|_| 0),
        None => word.parse::<u64>().ok()?.checked_mul(1024),
    };
    words.windows(5).skip(1).find_map(|window| {
        let [(begin, size), (_, used), (_, available), (_, percent), (mount, _)] = *window else {
            return None;
        };
        if !line[mount..].starts_with('/') {
            return None;
        }
        let used_percent = match percent {
            "-" => None,
            percent => Some(percent.strip_suffix('%')?.parse().ok()?),
        };
        Some(Disk {
            device: printable(&line[..begin]),
            mount: printable(&line[mount..]),
            file_system: None,
            size_bytes: blocks(size)?,
            used_bytes: blocks(used)?,
            available_bytes: blocks(available)?,
            used_percent,
        })
    })
}

fn is_real(disk: &Disk) -> bool {
    match disk.file_system.as_deref() {
        // That of a container's root; those that a machine has beside it are its containers'.
        Some("overlay") => disk.mount == "/",
        Some(kind) => !NOT_REAL.contains(&kind),
        None => disk.device.starts_with('/') || disk.device.contains(":/"),
    }
}
