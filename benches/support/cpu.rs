//! What the processes of the client's side compute, and what memory they have.
//!
//! Of a process that runs, the kernel is asked for its clock, which is exact; /proc has it in
//! hundredths of a second only, which is more than a master takes for some hundred commands. What
//! has ended is in the account of its parent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use nix::libc;

/// Milliseconds of computing by this process, by all processes below it, those that have ended
/// included, and by those that name `place` in their command lines: masters that have put
/// themselves into the background name a socket.
///
/// Two of them enclose what is measured, [`before`] and [`after`]: what the looking itself takes is
/// outside.
pub fn before(place: &str) -> f64 {
    let others = others(place);
    others + own()
}

pub fn after(place: &str) -> f64 {
    let own = own();
    own + others(place)
}

fn own() -> f64 {
    of(std::process::id()).expect("this process runs") + ended(libc::RUSAGE_CHILDREN)
}

fn others(place: &str) -> f64 {
    let own = std::process::id();
    let processes = processes();
    let mut family = below(own, &processes);
    family.extend(processes.keys().filter(|&&pid| pid != own && names(pid, place)));
    family.iter().map(|pid| all_of(*pid, &processes)).sum()
}

/// Milliseconds of computing by a process and by all that are below it, the ended ones included,
/// which are known to hundredths of a second.
pub fn family(pid: u32) -> f64 {
    let processes = processes();
    let below = below(pid, &processes);
    all_of(pid, &processes) + below.iter().map(|pid| all_of(*pid, &processes)).sum::<f64>()
}

/// A process, and those of its children that have ended. Nothing for one that has just gone.
fn all_of(pid: u32, processes: &BTreeMap<u32, Process>) -> f64 {
    of(pid).unwrap_or(0.0) + processes.get(&pid).map_or(0.0, |process| process.ended_children)
}

/// Milliseconds of a process itself.
pub fn of(pid: u32) -> Option<f64> {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: both write to the place that they are given, and to nothing else.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    (!failed).then(|| time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6)
}

/// Milliseconds of this process's own children that have ended.
fn ended(of: libc::c_int) -> f64 {
    // SAFETY: all of it is numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: it writes to the place that it is given, and to nothing else.
    let failed = unsafe { libc::getrusage(of, &raw mut usage) } != 0;
    assert!(!failed, "a process may ask for its own usage");
    let milliseconds = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime)
}

struct Process {
    parent: u32,
    /// Milliseconds.
    ended_children: f64,
}

fn processes() -> BTreeMap<u32, Process> {
    let entries = fs::read_dir("/proc").expect("there is a /proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, process(pid)?))).collect()
}

fn process(pid: u32) -> Option<Process> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name in brackets: state, parent, and further on the times.
    let words: Vec<&str> = text.rsplit_once(") ")?.1.split_whitespace().collect();
    let number = |at: usize| words.get(at)?.parse::<f64>().ok();
    // 100 in a second on all systems that have /proc like this.
    let ended_children = (number(13)? + number(14)?) * 10.0;
    Some(Process { parent: words.get(1)?.parse().ok()?, ended_children })
}

/// All that are below a process.
fn below(root: u32, processes: &BTreeMap<u32, Process>) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    loop {
        let is_new = |(pid, process): &(&u32, &Process)| {
            !found.contains(*pid) && (process.parent == root || found.contains(&process.parent))
        };
        let more: Vec<u32> = processes.iter().filter(is_new).map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn names(pid: u32, place: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(place)
}

/// How many processes there are: this one and all below it.
pub fn count(pid: u32) -> usize {
    1 + below(pid, &processes()).len()
}

/// MiB of a process and of all below it, where a page that several share is divided among them.
pub fn memory(pid: u32) -> f64 {
    let mut family = below(pid, &processes());
    family.insert(pid);
    let shares = family.iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<f64>().ok()
    });
    shares.sum::<f64>() / 1024.0
}
