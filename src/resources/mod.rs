//! What a host has and uses: CPU, memory, disks.
//!
//! [`HostResources::of`] runs one script on the host and reads what it prints, so it costs one
//! command, and about 0.2 s of it are the interval over which the use of the CPUs is measured. The
//! script is plain POSIX `sh` over `/proc`: any Linux has that, BusyBox included. What a host does
//! not tell is `None`, never zero.
//!
//! ```no_run
//! use sshpool::resources::HostResources;
//! # async fn example(pool: &sshpool::Pool, host: &sshpool::Host) -> Result<(), sshpool::Error> {
//! let found = HostResources::of(pool, host).await?;
//! if let Some(memory) = found.memory {
//!     println!("{} of {} bytes used", memory.used_bytes.unwrap_or_default(), memory.total_bytes);
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod properties;
mod read;

use std::time::Duration;

use serde::Serialize;

use crate::command::Runner;
use crate::error::Error;
use crate::host::Host;

const SCRIPT: &str = include_str!("probe.sh");
const LIMIT: Duration = Duration::from_secs(15);

/// What one host has and uses at one moment. In JSON the names are the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HostResources {
    /// As the kernel has it, which need not be the name that the host is reached by.
    pub hostname: Option<String>,
    /// Seconds since it was started.
    pub uptime_seconds: Option<f64>,
    /// Processes that run or want to, averaged.
    pub load_average: Option<LoadAverage>,
    /// CPUs that a process may use, as `nproc` counts them.
    pub cpu_count: Option<u32>,
    /// The part of all CPU time that was used during the measurement of about 0.2 s, 0 to 100.
    /// Waiting for disks does not count as use.
    pub cpu_percent: Option<f64>,
    /// Main memory.
    pub memory: Option<Memory>,
    /// Swap; a machine without any has 0 bytes of it.
    pub swap: Option<Swap>,
    /// What the control groups of the session allow, where that is less than the machine has: in a
    /// container, for one. `None` where nothing is limited.
    pub cgroup: Option<Cgroup>,
    /// The mounted file systems that store something. `None` when `df` gave no answer (a network
    /// file system can hang).
    pub disks: Option<Vec<Disk>>,
    /// What the host said and what could not be read, a line each.
    pub unreadable: Vec<String>,
}

/// The load averages of `/proc/loadavg`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LoadAverage {
    /// Of the last minute.
    pub one: f64,
    /// Of the last five minutes.
    pub five: f64,
    /// Of the last fifteen minutes.
    pub fifteen: f64,
}

/// Main memory in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Memory {
    /// All of it (`MemTotal`).
    pub total_bytes: u64,
    /// What is not available: `MemTotal` less `MemAvailable`, as `free` of procps 4 has it.
    pub used_bytes: Option<u64>,
    /// What nothing at all uses (`MemFree`): caches are not in it.
    pub free_bytes: Option<u64>,
    /// What programs can still have without swapping (`MemAvailable`); kernels before 3.14 do not
    /// tell.
    pub available_bytes: Option<u64>,
    /// `used_bytes` of `total_bytes`, 0 to 100.
    pub used_percent: Option<f64>,
}

/// Swap in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Swap {
    /// All of it (`SwapTotal`).
    pub total_bytes: u64,
    /// What is used: `SwapTotal` less `SwapFree`.
    pub used_bytes: u64,
    /// What is free (`SwapFree`).
    pub free_bytes: u64,
    /// `used_bytes` of `total_bytes`, 0 to 100; `None` where there is no swap.
    pub used_percent: Option<f64>,
}

/// The limits of control groups, of version 1 or 2. Of a group and those around it the tightest
/// limit counts; what is not below what the machine has is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cgroup {
    /// CPUs that may be used at once, such as 1.5.
    pub cpu_limit: Option<f64>,
    /// Memory that may be used.
    pub memory_limit_bytes: Option<u64>,
    /// What is used of that, caches that nobody has used lately left out, as `docker stats` has it.
    pub memory_used_bytes: Option<u64>,
    /// `memory_used_bytes` of `memory_limit_bytes`, 0 to 100.
    pub memory_used_percent: Option<f64>,
    /// Swap that may be used, beside the memory.
    pub swap_limit_bytes: Option<u64>,
}

/// The files that a file system can have, and has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Inodes {
    /// All of them.
    pub total: u64,
    /// Those that are used.
    pub used: u64,
    /// Those that are left.
    pub free: u64,
    /// `used` of `total`, rounded up, 0 to 100 as `df -i` says it.
    pub used_percent: Option<u8>,
}

/// A mounted file system, in bytes as `df` counts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Disk {
    /// Such as `/dev/sda1` or `server:/export`.
    pub device: String,
    /// The directory. A device that is mounted at several is listed with the shortest.
    pub mount: String,
    /// Such as `ext4`.
    pub file_system: Option<String>,
    /// All of it.
    pub size_bytes: u64,
    /// What is used.
    pub used_bytes: u64,
    /// What ordinary users can still have: less than the rest where some is kept for root.
    pub available_bytes: u64,
    /// `used` of `used + available`, rounded up, 0 to 100 as `df` says it.
    pub used_percent: Option<u8>,
    /// Its inodes; `None` where it has no fixed number of them, or `df` does not tell.
    pub inodes: Option<Inodes>,
}

impl HostResources {
    /// Asks one host, within 15 s. Several are asked at once by [`on_each`](crate::on_each).
    ///
    /// # Errors
    ///
    /// [`Error`] when the command could not be run to its end; [`Error::Failed`] when there is no
    /// `sh`. A part that is missing is no error.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`](crate::Command::output).
    pub async fn of(runner: &dyn Runner, host: &Host) -> Result<Self, Error> {
        // As input and not as an argument: no login shell has to understand it.
        let script = runner.command(host, "sh").stdin(SCRIPT).timeout(LIMIT);
        match script.output().await {
            Ok(output) => {
                let found = read::resources(&String::from_utf8_lossy(&output.stdout));
                match output.status.code() {
                    // Without a single part there was no script: a forced command, or no sh.
                    Some(code) if code != 0 && found == Self::default() => {
                        // An account that is turned away is often told so on stdout.
                        let words = match output.stderr.iter().all(u8::is_ascii_whitespace) {
                            true => &output.stdout,
                            false => &output.stderr,
                        };
                        let stderr = String::from_utf8_lossy(words).trim_end().to_owned();
                        Err(Error::Failed { host: host.name().to_owned(), code, stderr })
                    }
                    _ => Ok(found),
                }
            }
            Err(Error::TimedOut { partial, .. }) if !partial.stdout.is_empty() => {
                Ok(read::resources(&String::from_utf8_lossy(&partial.stdout)))
            }
            Err(error) => Err(error),
        }
    }
}
