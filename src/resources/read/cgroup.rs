//! What control groups allow, in the words of both versions.

use crate::resources::Cgroup;

use super::rounded;

/// What a control group says of itself.
#[derive(Default)]
struct Group {
    memory_limit: Option<u64>,
    memory: Option<u64>,
    /// Of the memory, what is a cache that nobody has used lately.
    inactive_file: u64,
    swap_limit: Option<u64>,
    /// Of memory and swap together, as version 1 has it.
    both_limit: Option<u64>,
    cpu_quota: Option<f64>,
    cpu_period: Option<f64>,
}

/// Version 1 has a number of pages near the largest one for no limit.
const NO_LIMIT: u64 = 1 << 60;

/// The tightest of the limits of a group and those around it. What is not below what the machine
/// has of memory and swap is no limit. `None` where nothing is limited.
pub(super) fn cgroup(lines: &[&str], memory: Option<u64>, swap: Option<u64>) -> Option<Cgroup> {
    let groups = groups(lines);
    let is_limit = |limit: &u64| memory.is_none_or(|memory| *limit < memory);
    let is_limit_of_swap = |limit: &u64| swap.is_none_or(|swap| *limit < swap);
    let tightest = groups
        .iter()
        .filter_map(|group| Some((group.memory_limit.filter(is_limit)?, group)))
        .min_by_key(|(limit, _)| *limit);
    let swap = groups.iter().filter_map(Group::swap).filter(is_limit_of_swap).min();
    let cpu = groups.iter().filter_map(Group::cpus).min_by(f64::total_cmp);

    let memory_limit_bytes = tightest.map(|(limit, _)| limit);
    let memory_used_bytes =
        tightest.and_then(|(_, group)| Some(group.memory?.saturating_sub(group.inactive_file)));
    let percent = |(used, limit): (u64, u64)| {
        (limit > 0).then(|| rounded((used as f64 / limit as f64 * 100.0).min(100.0)))
    };
    let found = Cgroup {
        cpu_limit: cpu,
        memory_limit_bytes,
        memory_used_bytes,
        memory_used_percent: memory_used_bytes.zip(memory_limit_bytes).and_then(percent),
        swap_limit_bytes: swap,
    };
    (found != Cgroup::default()).then_some(found)
}

fn groups(lines: &[&str]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for line in lines {
        if *line == "group" {
            groups.push(Group::default());
            continue;
        }
        let (Some(group), Some((name, value))) = (groups.last_mut(), line.split_once(' ')) else {
            continue;
        };
        // `max` and a negative number are no limit.
        let bytes = value.parse().ok().filter(|bytes| *bytes < NO_LIMIT);
        match name {
            "memory.max" | "memory.limit_in_bytes" => group.memory_limit = bytes,
            "memory.current" | "memory.usage_in_bytes" => group.memory = bytes,
            "inactive_file" => group.inactive_file = bytes.unwrap_or(0),
            "memory.swap.max" => group.swap_limit = bytes,
            "memory.memsw.limit_in_bytes" => group.both_limit = bytes,
            "cpu.max" => {
                let mut numbers = value.split(' ').map(number);
                group.cpu_quota = numbers.next().flatten();
                group.cpu_period = numbers.next().flatten();
            }
            "cpu.cfs_quota_us" => group.cpu_quota = number(value),
            "cpu.cfs_period_us" => group.cpu_period = number(value),
            _ => {}
        }
    }
    groups
}

impl Group {
    fn swap(&self) -> Option<u64> {
        let of_both = || self.both_limit?.checked_sub(self.memory_limit?);
        self.swap_limit.or_else(of_both)
    }

    /// To a hundredth of one.
    fn cpus(&self) -> Option<f64> {
        let cpus = self.cpu_quota? / self.cpu_period?;
        Some((cpus * 100.0).round() / 100.0).filter(|cpus| cpus.is_finite() && *cpus > 0.0)
    }
}

/// Microseconds; none are no quota.
fn number(text: &str) -> Option<f64> {
    text.parse::<u64>().ok().filter(|&number| number > 0).map(|number| number as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const GIB: u64 = 1 << 30;

    /// CPUs, the limit of memory, what is used of it, in percent, and the limit of swap.
    type Limits = (Option<f64>, Option<u64>, Option<u64>, Option<f64>, Option<u64>);

    #[rstest]
    #[case::nothing("", None)]
    #[case::no_limits(
        "group\ncpu.max max 100000\ngroup\nmemory.max max\nmemory.current 5\nmemory.swap.max max",
        None
    )]
    #[case::no_limits_in_version_1(
        "group\nmemory.limit_in_bytes 9223372036854771712\nmemory.usage_in_bytes 5\n\
         memory.memsw.limit_in_bytes 9223372036854771712\ngroup\ncpu.cfs_quota_us -1\n\
         cpu.cfs_period_us 100000",
        None
    )]
    #[case::as_large_as_the_machine("group\nmemory.max 8589934592", None)]
    #[case::version_2(
        "group\ncpu.max 150000 100000\ngroup\nmemory.max 1073741824\nmemory.current 536870912\n\
         memory.swap.max 0\ninactive_file 268435456",
        Some((Some(1.5), Some(GIB), Some(GIB / 4), Some(25.0), Some(0)))
    )]
    #[case::version_1(
        "group\nmemory.limit_in_bytes 1073741824\nmemory.usage_in_bytes 1073741824\n\
         memory.memsw.limit_in_bytes 2147483648\ngroup\ncpu.cfs_quota_us 50000\n\
         cpu.cfs_period_us 100000",
        Some((Some(0.5), Some(GIB), Some(GIB), Some(100.0), Some(GIB)))
    )]
    #[case::the_tightest_counts(
        "group\ncpu.max max 100000\ngroup\ncpu.max 200000 100000\ngroup\ncpu.max 400000 100000\n\
         group\nmemory.max max\nmemory.current 1\ngroup\nmemory.max 1073741824\n\
         memory.current 536870912\ngroup\nmemory.max 2147483648\nmemory.current 3",
        Some((Some(2.0), Some(GIB), Some(GIB / 2), Some(50.0), None))
    )]
    #[case::broken("memory.max 5\ngroup\nmemory.max x\ncpu.max 1\ncpu.max\n\ncpu.max 0 0", None)]
    fn g7_limits_are_read(#[case] text: &str, #[case] expected: Option<Limits>) {
        let found = cgroup(&text.lines().collect::<Vec<_>>(), Some(8 * GIB), Some(4 * GIB));
        let found = found.map(|found| {
            (
                found.cpu_limit,
                found.memory_limit_bytes,
                found.memory_used_bytes,
                found.memory_used_percent,
                found.swap_limit_bytes,
            )
        });
        assert_eq!(found, expected);
    }
}
