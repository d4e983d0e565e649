//! What this process has: what must not grow.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Counted at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    pub descriptors: usize,
    pub threads: usize,
    /// Zombies too.
    pub children: usize,
    /// In KiB, without what is read from files: how much of the program was needed so far says
    /// nothing.
    pub memory: u64,
}

impl Footprint {
    pub fn look() -> Footprint {
        trim();
        let status = fs::read_to_string("/proc/self/status").expect("there is a /proc");
        let number = |name: &str| {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
            line.trim_end_matches("kB").trim().parse::<u64>().expect("a number")
        };
        Footprint {
            // One of them is the directory that is being read.
            descriptors: fs::read_dir("/proc/self/fd").expect("there is a /proc").count() - 1,
            threads: usize::try_from(number("Threads:")).expect("a few"),
            children: children().expect("there is a /proc"),
            memory: number("RssAnon:"),
        }
    }
}

/// What the descriptors of this process are, for when there are too many.
pub fn descriptors() -> Vec<String> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let name = |path: PathBuf| fs::read_link(&path).ok().map(|to| to.display().to_string());
    entries.filter_map(|entry| name(entry.path())).collect()
}

/// Gives back what is free, so that only what is kept is measured.
fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it is one of malloc's own functions, and may be called at any time from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// A process of ours.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub line: String,
}

/// All processes that have `text` in their command lines. It fails where this process may not open
/// anything.
pub fn processes_with(text: &str) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for pid in pids()? {
        let line = match fs::read(format!("/proc/{pid}/cmdline")) {
            Ok(line) => String::from_utf8_lossy(&line).replace('\0', " "),
            // It has just gone.
            Err(error)
                if matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ESRCH)) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        if line.contains(text) {
            found.push(Process { pid, line });
        }
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

fn pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
}

fn children() -> io::Result<usize> {
    let own = std::process::id().to_string();
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name in brackets: state, parent.
        stat.rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1))
            .is_some_and(|parent| parent == own)
    };
    Ok(pids()?.iter().filter(|pid| is_child(pid)).count())
}

/// What is in a directory.
pub fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
}
