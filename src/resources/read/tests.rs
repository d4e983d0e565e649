use super::disks::unescaped;
use super::*;
use crate::resources::Disk;
use crate::resources::{Cgroup, Inodes};
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
SwapTotal:         1000 kB
SwapFree:           750 kB
:: cgroup
group
cpu.max 150000 100000
group
memory.max 102400000
memory.current 51200000
:: mounts
sysfs /sys sysfs rw 0 0
/dev/sda1 / ext4 rw 0 0
tmpfs /run tmpfs rw 0 0
/dev/sdb1 /my\\040data xfs rw 0 0
/dev/sda1 /var/lib/bind ext4 rw 0 0
overlay /var/lib/docker/overlay2/x/merged overlay rw 0 0
files.lan:/export /net nfs4 rw 0 0
/dev/loop3 /snap/core/1 squashfs ro 0 0
composefs /image overlay ro,relatime,lowerdir=/a::/b,redirect_dir=on,metacopy=on 0 0
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
composefs                  14340   14340         0     100% /image
:: inodes
Filesystem           Inodes IUsed IFree IUse% Mounted on
sysfs                     0     0     0     - /sys
/dev/sda1               100    11    89   11% /
/dev/sdb1                 0     0     0     - /my data
/dev/sda1               100    11    89   11% /var/lib/bind
files.lan:/export       200   200     0  100% /net
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
        inodes: None,
    }
}

fn with_inodes(disk: Disk, [total, used, free]: [u64; 3], percent: u8) -> Disk {
    Disk { inodes: Some(Inodes { total, used, free, used_percent: Some(percent) }), ..disk }
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
        swap: Some(Swap {
            total_bytes: 1_024_000,
            used_bytes: 256_000,
            free_bytes: 768_000,
            used_percent: Some(25.0),
        }),
        cgroup: Some(Cgroup {
            cpu_limit: Some(1.5),
            memory_limit_bytes: Some(102_400_000),
            memory_used_bytes: Some(51_200_000),
            memory_used_percent: Some(50.0),
            swap_limit_bytes: None,
        }),
        disks: Some(vec![
            with_inodes(disk("/dev/sda1", "/", "ext4", [1000, 400, 550], 43), [100, 11, 89], 11),
            disk("/dev/sdb1", "/my data", "xfs", [2000, 2000, 0], 100),
            with_inodes(
                disk("files.lan:/export", "/net", "nfs4", [4000, 1000, 3000], 25),
                [200, 200, 0],
                100,
            ),
        ]),
        unreadable: Vec::new(),
    };
    assert_eq!(found, expected);
}

#[test]
fn nothing_is_nothing_and_never_zero() {
    let names =
        ["hostname", "uptime", "loadavg", "cpus", "cpu", "cpu", "meminfo", "mounts", "df", "end"];
    let empty: String = names.map(|name| format!(":: {name}\n")).concat();
    let silent = vec!["df: no answer".to_owned()];
    assert_eq!(resources(&empty), HostResources { unreadable: silent, ..HostResources::default() });
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
#[case("df", "F 1024-blocks U A C M\n/dev/sda1 many 1 1 1% /", "df: \"/dev/sda1 many 1 1 1% /\"")]
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
#[case::of_an_image("ro,relatime,lowerdir=/a::/b,redirect_dir=on,metacopy=on", 0)]
#[case::of_a_live_system("rw,lowerdir=/a,upperdir=/b,workdir=/c", 1)]
#[case::of_a_container_that_is_read_only("ro,lowerdir=/a,upperdir=/b,workdir=/c", 1)]
#[case::options_are_not_known("rw", 1)]
fn g6_a_root_that_nothing_can_be_written_to_is_not_a_full_disk(
    #[case] options: &str,
    #[case] disks: usize,
) {
    let text = format!(
        ":: mounts\ncomposefs / overlay {options} 0 0\n:: df\n\
         Filesystem 1024-blocks Used Available Capacity Mounted on\n\
         composefs 14340 14340 0 100% /\n"
    );
    assert_eq!(resources(&text).disks.expect("df has answered").len(), disks);
}

#[rstest]
#[case::no_swap("SwapTotal: 0 kB\nSwapFree: 0 kB", Some((0, None)))]
#[case::some("SwapTotal: 4 kB\nSwapFree: 1 kB", Some((3072, Some(75.0))))]
#[case::half_told("SwapTotal: 4 kB", None)]
#[case::nonsense("SwapTotal: 4 kB\nSwapFree: 5 kB", None)]
fn g7_swap(#[case] lines: &str, #[case] expected: Option<(u64, Option<f64>)>) {
    let found = swap(&lines.lines().collect::<Vec<_>>());
    assert_eq!(found.map(|swap| (swap.used_bytes, swap.used_percent)), expected);
}

/// BusyBox has another heading, and another df does not know the option.
#[rstest]
#[case("Filesystem Inodes Used Available Use% Mounted on\n/dev/sda1 9 4 5 45% /", Some(4))]
#[case("df: unrecognized option: i", None)]
#[case("Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 9 4 5 45% /", None)]
#[case("", None)]
fn g7_inodes(#[case] lines: &str, #[case] used: Option<u64>) {
    let text = format!(
        ":: mounts\n/dev/sda1 / ext4 rw 0 0\n:: df\n\
         Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 10 5 5 50% /\n\
         :: inodes\n{lines}\n"
    );
    let found = resources(&text);
    let disks = found.disks.expect("df has answered");
    assert_eq!(disks[0].inodes.map(|inodes| inodes.used), used);
    assert_eq!(found.unreadable, [""; 0]);
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
                /dev/sda1 10 5 5 50% /\ntmpfs 10 0 10 0% /run\nfiles:/x 10 5 5 50% \
                /net\nC:\\ drive 1 10 5 5 50% /mnt/c\n\
                tank/data 10 15 -5 150% /tank\n";
    let disks = resources(text).disks.expect("there is a heading");
    let names: Vec<_> = disks.iter().map(|disk| (&*disk.device, &*disk.mount)).collect();
    assert_eq!(names, [("/dev/sda1", "/"), ("files:/x", "/net"), ("tank/data", "/tank")]);
    assert_eq!((disks[2].available_bytes, disks[2].used_percent), (0, None));
}
