//! What holds for any output in the place of the script's.

use proptest::collection::vec;
use proptest::prelude::*;

use super::read::resources;

fn output() -> impl Strategy<Value = String> {
    let part = prop::sample::select(
        &[
            "hostname", "uptime", "loadavg", "cpus", "cpu", "meminfo", "mounts", "df", "cgroup",
            "inodes", "end", "other", "",
        ][..],
    );
    let number = prop_oneof![
        any::<u64>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        Just("-".to_owned()),
        "[0-9]{1,3}%",
    ];
    let line = prop_oneof![
        part.prop_map(|part| format!(":: {part}")),
        vec(number.clone(), 0..12).prop_map(|numbers| format!("cpu  {}", numbers.join(" "))),
        (number.clone(), "MemTotal|MemFree|MemAvailable|SwapTotal|SwapFree")
            .prop_map(|(number, name)| format!("{name}: {number} kB")),
        Just("group".to_owned()),
        (vec(number.clone(), 1..3), "cpu.max|memory.max|memory.current|inactive_file")
            .prop_map(|(numbers, name)| format!("{name} {}", numbers.join(" "))),
        Just("Filesystem Inodes IUsed IFree IUse% Mounted on".to_owned()),
        Just("Filesystem 1024-blocks Used Available Capacity Mounted on".to_owned()),
        (vec(number.clone(), 4), "/[a-z \\x1b\\\\0-7é]{0,8}")
            .prop_map(|(numbers, name)| format!("/dev/a {} {name}", numbers.join(" "))),
        "/dev/a /[a-z\\\\0-7]{0,12} (ext4|overlay|tmpfs) rw 0 0",
        vec(number, 0..5).prop_map(|numbers| numbers.join(" ")),
        any::<String>(),
    ];
    vec(line, 0..40).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn any_output_is_read_within_reason(text in output()) {
        let found = resources(&text);
        let of_memory = found.memory.as_ref().and_then(|memory| memory.used_percent);
        let of_swap = found.swap.as_ref().and_then(|swap| swap.used_percent);
        let of_limit = found.cgroup.as_ref().and_then(|cgroup| cgroup.memory_used_percent);
        let percents = [found.cpu_percent, of_memory, of_swap, of_limit];
        for percent in percents.into_iter().flatten() {
            prop_assert!((0.0..=100.0).contains(&percent), "{percent}");
        }
        let is_time = |seconds: f64| seconds.is_finite() && seconds >= 0.0;
        prop_assert!(found.uptime_seconds.is_none_or(is_time));
        let disks = found.disks.iter().flatten();
        let mut of_disks = disks.clone().filter_map(|disk| disk.used_percent);
        prop_assert!(of_disks.all(|percent| percent <= 100));
        // What people get to read.
        let texts = disks.flat_map(|disk| [&disk.device, &disk.mount]);
        let texts = texts.chain(&found.unreadable).chain(&found.hostname);
        for text in texts {
            prop_assert!(!text.contains(char::is_control), "{text:?}");
        }
    }
}
