//! What the script prints.

use super::{Disk, HostResources, LoadAverage, Memory};
use crate::text::printable;

/// Kinds of file systems that have a size and store nothing, or nothing that could fill up by
/// itself. Those without a size are left out anyway.
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

/// The parts by their names. What comes before the first one (start-up files may print) is
/// nobody's.
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

/// As df of GNU shows a name.
fn without_controls(name: &str) -> String {
    name.replace(char::is_control, "?")
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
    let Some((heading, lines)) = lines.split_first() else {
        unreadable.push("df: no answer".to_owned());
        return None;
    };
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
            .rfind(|mount| {
                printable(&mount.directory) == disk.mount
                    || without_controls(&mount.directory) == disk.mount
            })
            .map(|mount| mount.kind.clone());
        if disk.size_bytes == 0 || !is_real(&disk) {
            continue;
        }
        // A file system that is mounted several times. What is no path may well be the name of
        // several.
        let same = disks
            .iter_mut()
            .find(|other| other.device == disk.device && disk.device.starts_with('/'));
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
    let blocks = |word: &str| word.parse::<u64>().ok()?.checked_mul(1024);
    // A reserve that root has used up makes this one negative.
    let left = |word: &str| match word.strip_prefix('-') {
        Some(digits) => digits.parse::<u64>().ok().map(|_| 0),
        None => blocks(word),
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
            percent => {
                Some(percent.strip_suffix('%')?.parse().ok()?).filter(|percent| *percent <= 100)
            }
        };
        Some(Disk {
            device: printable(&line[..begin]),
            mount: printable(&line[mount..]),
            file_system: None,
            size_bytes: blocks(size)?,
            used_bytes: blocks(used)?,
            available_bytes: left(available)?,
            used_percent,
        })
    })
}

fn is_real(disk: &Disk) -> bool {
    match disk.file_system.as_deref() {
        // That of a container's root; those that a machine has beside it are its containers'.
        Some("overlay") => disk.mount == "/",
        Some(kind) => !NOT_REAL.contains(&kind),
        // `/dev/sda1`, `server:/export`, `tank/data`; not `tmpfs` or `overlay`.
        None => disk.device.contains('/'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const WHOLE: &str = "\
motd from a start-up file
:: hostname
web1
:: uptime
3723.45 7000.00
:: loadavg
0.10 1.25 12.00 1/234 5678
:: cpus
4
:: cpu
cpu  100 0 50 800 50 0 0 0 0 0
:: cpu
cpu  130 0 60 840 70 0 0 0 0 0
:: meminfo
MemTotal:       1000000 kB
MemFree:         200000 kB
MemAvailable:    750000 kB
:: mounts
sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sdb1 /my\\040data xfs rw 0 0
/dev/sda1 /var/lib/bind ext4 rw 0 0
overlay /var/lib/docker/overlay2/x/merged overlay rw 0 0
files.lan:/export /net nfs4 rw 0 0
/dev/loop3 /snap/core/1 squashfs ro 0 0
:: df
Filesystem           1024-blocks    Used Available Capacity Mounted on
sysfs                          0       0         0       - /sys
/dev/sda1                   1000     400       550      43% /
tmpfs                        100       1        99       1% /run
/dev/sdb1                   2000    2000        -5     100% /my data
/dev/sda1                   1000     400       550      43% /var/lib/bind
overlay                     1000     400       550      43% /var/lib/docker/overlay2/x/merged
files.lan:/export           4000    1000      3000      25% /net
/dev/loop3                   500     500         0     100% /snap/core/1
:: end
";

    fn disk(device: &str, mount: &str, kind: &str, numbers: [u64; 3], percent: u8) -> Disk {
        let [size, used, available] = numbers.map(|number| number * 1024);
        Disk {
            device: device.into(),
            mount: mount.into(),
            file_system: Some(kind.into()),
            size_bytes: size,
            used_bytes: used,
            available_bytes: available,
            used_percent: Some(percent),
        }
    }

    #[test]
    fn everything_is_read() {
        let found = resources(WHOLE);
        let expected = HostResources {
            hostname: Some("web1".into()),
            uptime_seconds: Some(3723.45),
            load_average: Some(LoadAverage { one: 0.1, five: 1.25, fifteen: 12.0 }),
            cpu_count: Some(4),
            // 40 of 100 ticks; waiting for disks is not use.
            cpu_percent: Some(40.0),
            memory: Some(Memory {
                total_bytes: 1_024_000_000,
                used_bytes: Some(256_000_000),
                free_bytes: Some(204_800_000),
                available_bytes: Some(768_000_000),
                used_percent: Some(25.0),
            }),
            disks: Some(vec![
                disk("/dev/sda1", "/", "ext4", [1000, 400, 550], 43),
                disk("/dev/sdb1", "/my data", "xfs", [2000, 2000, 0], 100),
                disk("files.lan:/export", "/net", "nfs4", [4000, 1000, 3000], 25),
            ]),
            unreadable: Vec::new(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_is_nothing_and_never_zero() {
        let names = [
            "hostname", "uptime", "loadavg", "cpus", "cpu", "cpu", "meminfo", "mounts", "df", "end",
        ];
        let empty: String = names.map(|name| format!(":: {name}\n")).concat();
        let silent = vec!["df: no answer".to_owned()];
        assert_eq!(
            resources(&empty),
            HostResources { unreadable: silent, ..HostResources::default() }
        );
        assert_eq!(resources(""), HostResources::default());
        assert_eq!(resources("Access denied.\n"), HostResources::default());
    }

    /// As when `df` hangs and the command is given up.
    #[rstest]
    fn what_is_cut_off_has_all_before_it(
        #[values(":: df\n", ":: mounts\n", ":: meminfo\n")] cut: &str,
    ) {
        let (before, _) = WHOLE.split_once(cut).expect("it is there");
        let found = resources(&format!("{before}{cut}"));
        assert_eq!((found.cpu_percent, found.disks), (Some(40.0), None));
        assert_eq!(found.memory.is_some(), cut != ":: meminfo\n");
        assert_eq!(found.unreadable.len(), usize::from(cut == ":: df\n"));
    }

    #[rstest]
    #[case("uptime", "soon", "uptime: \"soon\"")]
    #[case("uptime", "NaN 1", "uptime: \"NaN 1\"")]
    #[case("loadavg", "0.1 0.2", "loadavg: \"0.1 0.2\"")]
    #[case("cpus", "0", "cpus: \"0\"")]
    #[case("cpus", "-3", "cpus: \"-3\"")]
    #[case("cpu", "cpu a b c", "cpu: \"cpu a b c\"")]
    #[case("meminfo", "MemTotal: 5 MB", "meminfo: \"MemTotal: 5 MB\"")]
    #[case(
        "df",
        "Filesystem 512-blocks Used Available Capacity Mounted on",
        "df: its blocks are not of 1024 bytes: "
    )]
    #[case(
        "df",
        "Filesystem 1K-blocks Used Available Use% Mounted on",
        "df: its blocks are not of 1024 bytes: "
    )]
    #[case(
        "df",
        "F 1024-blocks U A C M\n/dev/sda1 many 1 1 1% /",
        "df: \"/dev/sda1 many 1 1 1% /\""
    )]
    fn what_cannot_be_read_is_reported_and_is_none(
        #[case] name: &str,
        #[case] text: &str,
        #[case] report: &str,
    ) {
        let found = resources(&format!(":: {name}\n{text}\n"));
        assert_eq!(found.unreadable.len(), 1, "{found:?}");
        assert!(found.unreadable[0].starts_with(report), "{found:?}");
        let (unreadable, disks) =
            (found.unreadable.clone(), found.disks.clone().filter(|disks| !disks.is_empty()));
        let rest = HostResources { unreadable: Vec::new(), disks, ..found };
        assert_eq!(rest, HostResources::default(), "{unreadable:?}");
    }

    #[rstest]
    #[case::no_tick_has_passed((5, 10), (5, 10), None)]
    #[case::it_went_back((5, 10), (4, 20), None)]
    #[case::all((0, 0), (7, 7), Some(100.0))]
    #[case::a_third((0, 0), (1, 3), Some(33.3))]
    fn the_use_of_cpus(
        #[case] before: (u64, u64),
        #[case] after: (u64, u64),
        #[case] percent: Option<f64>,
    ) {
        assert_eq!(cpu_percent(before, after), percent);
    }

    #[test]
    fn an_old_kernel_has_fewer_columns() {
        assert_eq!(cpu_times("cpu 1 2 3 4"), Some((6, 10)));
        assert_eq!(cpu_times("cpu 1 2 3"), None);
        assert_eq!(cpu_times("cpu 18446744073709551615 1 2 3"), None, "and no number is too large");
    }

    #[test]
    fn memory_without_an_estimate_of_what_is_available() {
        let memory = memory(&["MemTotal: 100 kB", "MemFree: 40 kB"]).expect("there is a total");
        assert_eq!(
            (memory.free_bytes, memory.used_bytes, memory.used_percent),
            (Some(40_960), None, None)
        );
    }

    #[rstest]
    #[case("/a\\040b", "/a b")]
    #[case("/a\\134b\\011", "/a\\b\t")]
    #[case("/\\303\\244", "/ä")]
    #[case("/a\\9", "/a\\9")]
    fn names_of_mounts_are_unescaped(#[case] text: &str, #[case] name: &str) {
        assert_eq!(unescaped(text), name);
    }

    /// Where `/proc/mounts` cannot be read, names have to do.
    #[test]
    fn disks_without_their_kinds() {
        let text = ":: df\nFilesystem 1024-blocks Used Available Capacity Mounted on\n\
                    /dev/sda1 10 5 5 50% /\ntmpfs 10 0 10 0% /run\nfiles:/x 10 5 5 50% /net\nC:\\ drive 1 10 5 5 50% /mnt/c\n\
                    tank/data 10 15 -5 150% /tank\n";
        let disks = resources(text).disks.expect("there is a heading");
        let names: Vec<_> = disks.iter().map(|disk| (&*disk.device, &*disk.mount)).collect();
        assert_eq!(names, [("/dev/sda1", "/"), ("files:/x", "/net"), ("tank/data", "/tank")]);
        assert_eq!((disks[2].available_bytes, disks[2].used_percent), (0, None));
    }
}
