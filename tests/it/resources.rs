//! What is said of a host is what `/proc`, `df` and `nproc` say there: on Debian, on a machine of
//! BusyBox alone, and where parts are missing.

use std::process::Stdio;
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::Value;
use sshpool::Error;
use sshpool::resources::HostResources;

use crate::lab::agents::Home;
use crate::lab::common;
use crate::lab::common::process::run;
use crate::lab::common::sshd::{Image, Kind, Sshd};
use crate::lab::pooled::{PATIENCE, command, config, host, pool};

/// What a program prints on the server, trimmed.
fn there(sshd: &Sshd, command: &str) -> String {
    let ended = sshd.exec(command);
    assert_eq!(ended.code(), 0, "{command}: {}", ended.stderr);
    ended.stdout.trim().to_owned()
}

fn number(text: &str) -> f64 {
    text.split_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("{text:?} is no number"))
}

#[rstest]
#[case::debian_bookworm(Image::Login)]
#[case::debian_trixie(Image::Compose)]
#[case::busybox(Image::BusyBox)]
#[tokio::test]
async fn resources_are_what_the_host_says(#[case] image: Image) {
    let Some(sshd) = Sshd::builder().image(image).start_or_skip() else { return };
    let (pool, host) = (pool(config().standby_sessions(0)), host(&sshd));
    if image == Image::BusyBox {
        let programs = "for program in sh cat df nproc sleep grep timeout; do readlink -f $(command -v $program); done | sort -u";
        assert_eq!(pool.exec(&host, programs).await.expect("it runs"), "/bin/busybox");
    }
    let uptime_before = number(&there(&sshd, "cat /proc/uptime"));
    let found = HostResources::of(&pool, &host).await.expect("an answer");
    assert_eq!(found.unreadable, [""; 0]);

    assert_eq!(found.hostname, Some(there(&sshd, "cat /proc/sys/kernel/hostname")));
    let uptime = found.uptime_seconds.expect("there is one");
    assert!(
        (uptime_before..=number(&there(&sshd, "cat /proc/uptime"))).contains(&uptime),
        "{uptime}"
    );
    assert_eq!(found.cpu_count.expect("there are some").to_string(), there(&sshd, "nproc"));
    assert!((0.0..=100.0).contains(&found.cpu_percent.expect("it was measured")));

    // These move, but not by much between two looks.
    let load = found.load_average.expect("there is one");
    let truth = there(&sshd, "cat /proc/loadavg");
    let truth: Vec<f64> = truth.split(' ').take(3).map(number).collect();
    for (found, truth) in [load.one, load.five, load.fifteen].into_iter().zip(truth) {
        assert!((found - truth).abs() < 5.0, "{found} and {truth}");
    }
    let memory = found.memory.expect("there is some");
    let meminfo = there(&sshd, "cat /proc/meminfo");
    let truth = |name: &str| {
        let line =
            meminfo.lines().find_map(|line| line.strip_prefix(name)).expect("it is in meminfo");
        number(line) * 1024.0
    };
    assert_eq!(memory.total_bytes as f64, truth("MemTotal:"));
    let total = truth("MemTotal:");
    for (found, name) in
        [(memory.free_bytes, "MemFree:"), (memory.available_bytes, "MemAvailable:")]
    {
        let found = found.expect("it is told") as f64;
        assert!((found - truth(name)).abs() < total / 4.0, "{name} {found} and {}", truth(name));
    }
    assert_eq!(
        memory.used_bytes.zip(memory.available_bytes).map(|(a, b)| a + b),
        Some(memory.total_bytes)
    );

    // Every disk is in df's own list with these numbers, and the root is among them.
    let df = there(&sshd, "df -P -k");
    let disks = found.disks.expect("df answers");
    for disk in &disks {
        let line = df.lines().find(|line| line.ends_with(&format!(" {}", disk.mount)));
        let words: Vec<&str> =
            line.unwrap_or_else(|| panic!("{disk:?} is not in\n{df}")).split_whitespace().collect();
        assert_eq!(
            (words[0], words[1].parse::<u64>()),
            (&*disk.device, Ok(disk.size_bytes / 1024))
        );
        for (found, truth) in [(disk.used_bytes, words[2]), (disk.available_bytes, words[3])] {
            assert!(
                (found as f64 - number(truth) * 1024.0).abs() < disk.size_bytes as f64 / 10.0,
                "{disk:?} and {words:?}"
            );
        }
        let percent: i16 = words[4].trim_end_matches('%').parse().expect("a percentage");
        assert!(
            (i16::from(disk.used_percent.expect("there is one")) - percent).abs() <= 5,
            "{disk:?} and {words:?}"
        );
    }
    let root = disks.iter().find(|disk| disk.mount == "/").expect("there is a root");
    if let Kind::Container(_) = sshd.kind() {
        assert_eq!((&*root.device, root.file_system.as_deref()), ("overlay", Some("overlay")));
    }
    assert!(
        disks.iter().all(|disk| !["tmpfs", "proc", "devtmpfs"].contains(&disk.device.as_str())),
        "{disks:?}"
    );

    assert_eq!(sshd.logins(), 1);
    // That of the login is the first command's.
    let sessions = if image == Image::BusyBox { 2 } else { 1 };
    assert_eq!(sshd.sessions_opened(), sessions);
    pool.close().await;
}

#[tokio::test]
async fn a_busy_machine_is_seen_to_be_busy() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let spin = pool.shell(&host, "n=$(nproc); while [ $n -gt 0 ]; do (while :; do :; done) & pids=\"$pids $!\"; n=$((n-1)); done; echo on; cat; kill $pids");
    let mut spinning = spin.stdin(sshpool::Stdin::Piped).spawn().await.expect("it starts");
    let mut stdout = spinning.stdout.take().expect("not taken yet");
    tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut [0; 3]).await.expect("it is on");
    let found = HostResources::of(&pool, &host).await.expect("an answer");
    drop(spinning.stdin.take());
    spinning.wait().await.expect("it ends");
    let percent = found.cpu_percent.expect("it was measured");
    assert!(percent > 80.0, "{percent}");
    pool.close_within(Duration::ZERO).await;
}

/// Fish does not understand the script, and need not; csh neither.
#[rstest]
#[case::fish("/usr/bin/fish")]
#[case::tcsh("/bin/tcsh")]
#[tokio::test]
async fn any_login_shell_will_do(#[case] shell: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let found = HostResources::of(&pool, &host).await.expect("an answer");
    assert!(
        found.memory.is_some() && found.disks.is_some() && found.unreadable.is_empty(),
        "{found:?}"
    );
    pool.close().await;
}

#[tokio::test]
async fn what_is_missing_is_none_and_a_df_that_hangs_costs_only_the_disks() {
    // Programs that lie in the way: no nproc and no getconf to ask, no meminfo, and a df that never
    // answers.
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    let (pool, host) = (pool(config()), host(&sshd));
    let lies = "mkdir -p $0 && cd $0 && printf '#!/bin/sh\\nexit 1\\n' >nproc && cp nproc getconf && \
                printf '#!/bin/sh\\nexec sleep 300\\n' >df && \
                printf '#!/bin/sh\\n[ \"$1\" = /proc/meminfo ] || exec /bin/cat \"$@\"\\n' >cat && chmod +x *";
    let made = pool
        .command(&host, "/bin/sh")
        .args(["-c", lies, directory])
        .output()
        .await
        .expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let found = HostResources::of(&pool, &host).await.expect("an answer");
    assert_eq!((&found.memory, &found.disks), (&None, &None));
    assert_eq!(found.unreadable, ["df: no answer"]);
    assert!(found.cpu_count.is_some_and(|count| count > 0), "counted in /proc/stat");
    assert!(found.hostname.is_some() && found.uptime_seconds.is_some());
    pool.close_within(Duration::ZERO).await;
}

#[tokio::test]
async fn a_host_that_runs_something_else_is_an_error_or_knows_nothing() {
    let sshd = Sshd::builder().force_command("echo no entry >&2; exit 1").start();
    let (pool, host) = (pool(config()), host(&sshd));
    match HostResources::of(&pool, &host).await {
        Err(Error::Failed { code: 1, stderr, .. }) => assert_eq!(stderr, "no entry"),
        other => panic!("{other:?}"),
    }
    pool.close().await;
}

/// `sshpool -F CONFIG resources …`
fn resources(sshd: &Sshd, args: &[&str]) -> std::process::Command {
    let mut program = command(env!("CARGO_BIN_EXE_sshpool"));
    let config = sshd.ssh_config();
    program.arg("-F").arg(&config).arg("resources").args(args);
    program.env("XDG_CONFIG_HOME", config.parent().expect("a directory"));
    program
}

#[test]
fn the_program_prints_a_table_or_json_and_says_which_hosts_did_not_answer() {
    let sshd = Sshd::builder().start();
    let ended = run(&mut resources(&sshd, &["lab"]), PATIENCE);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    let (hosts, disks) = ended.stdout.split_once("\n\n").expect("two tables");
    assert!(hosts.starts_with("HOSTNAME  UPTIME ") && hosts.lines().count() == 2, "{hosts}");
    assert!(disks.starts_with("DEVICE ") && disks.lines().count() > 1, "{disks}");

    let ended = run(&mut resources(&sshd, &["lab", "127.0.0.1:1", "--json"]), PATIENCE);
    assert_eq!((ended.code(), &*ended.stderr), (255, ""));
    let answers: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    assert_eq!((&answers[0]["host"], &answers[0]["error"]), (&"lab".into(), &Value::Null));
    assert!(
        answers[0]["memory"]["total_bytes"].is_u64() && answers[0]["disks"][0]["mount"].is_string(),
        "{answers}"
    );
    assert!(
        answers[1]["error"].as_str().is_some_and(|error| error.starts_with("cannot connect: ")),
        "{answers}"
    );
    assert!(answers[1].get("memory").is_none(), "nothing is known of it");

    let ended = run(&mut resources(&sshd, &["lab", "127.0.0.1:1"]), PATIENCE);
    assert_eq!(ended.code(), 255);
    assert!(ended.stdout.starts_with("HOST  HOSTNAME "), "{}", ended.stdout);
    assert!(
        ended.stderr.starts_with("sshpool: 127.0.0.1: cannot connect: connection refused: "),
        "{}",
        ended.stderr
    );
}

#[test]
fn watching_refreshes_over_one_connection_until_interrupted() {
    let sshd = Sshd::builder().start();
    let mut child = resources(&sshd, &["lab", "--watch=10ms", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let stdout = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = std::io::BufRead::lines(stdout);
    for _ in 0..3 {
        let line = lines.next().expect("a line").expect("text");
        let answers: Value = serde_json::from_str(&line).expect("each line is a whole answer");
        assert_eq!(answers[0]["host"], "lab");
    }
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("it is our child");
    let status =
        common::process::wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2));
    assert_eq!(sshd.logins(), 1);
}

/// On a terminal (of `script`) each refresh takes the place of the one before.
#[test]
fn watching_on_a_terminal_stays_in_place() {
    let sshd = Sshd::builder().start();
    let program = format!(
        "{:?} -F {:?} resources lab --watch=10ms",
        env!("CARGO_BIN_EXE_sshpool"),
        sshd.ssh_config()
    );
    let mut terminal = command("script");
    terminal.args([
        "--quiet",
        "--return",
        "--command",
        &format!("stty rows 4 cols 100; {program}"),
        "/dev/null",
    ]);
    terminal
        .env("XDG_CONFIG_HOME", sshd.ssh_config().parent().expect("a directory"))
        .stdin(Stdio::piped());
    let mut child = terminal.stdout(Stdio::piped()).spawn().expect("util-linux has script");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut text = String::new();
    while text.matches("\x1b[H").count() < 3 {
        let mut bytes = [0; 4096];
        let read = std::io::Read::read(&mut stdout, &mut bytes).expect("a pipe can be read");
        assert!(read > 0, "it ended: {text}");
        text += &String::from_utf8_lossy(&bytes[..read]);
    }
    // Ctrl-C.
    std::io::Write::write_all(child.stdin.as_mut().expect("a pipe"), b"\x03")
        .expect("somebody reads");
    common::process::wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    assert_eq!(text.matches("\x1b[2J").count(), 1, "cleared once: {text:?}");
    let second = text.split("\x1b[H").nth(2).expect("there are three");
    assert!(
        second.trim_start().starts_with("HOSTNAME ") && second.matches('\n').count() <= 3,
        "four rows: {second:?}"
    );
}

#[tokio::test]
async fn a_host_that_does_not_answer_in_time_is_a_timeout() {
    let sshd = Sshd::builder().start();
    let settings = config().connect_timeout(Duration::from_secs(1));
    let (pool, host) = (pool(settings), host(&sshd));
    sshd.freeze();
    let error = HostResources::of(&pool, &host).await.expect_err("it is frozen");
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    pool.close_within(Duration::ZERO).await;
}

/// Hosts are named as for `run`: lists and groups, each host once.
#[test]
fn hosts_are_named_as_for_run() {
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    home.config("[groups]\nall = ['lab']\nempty = []\n");
    let hostnames = |words: &[&str]| {
        let args = [&["resources", "--json"], words].concat();
        let ended = home.run_on(&sshd, &args);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        let found: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
        found.as_array().expect("an answer for each host").len()
    };
    assert_eq!(hostnames(&["lab"]), 1);
    assert_eq!(hostnames(&["@all"]), 1);
    assert_eq!(hostnames(&["@all,lab", "lab"]), 1, "each host once");
    let plain = home.run_on(&sshd, &["compose", "lab", "ls"]);
    let group = home.run_on(&sshd, &["compose", "@all", "ls"]);
    assert_eq!((group.code(), group.stderr), (plain.code(), plain.stderr));
    for args in [&["resources", "@empty"][..], &["compose", "@empty", "ls"]] {
        let ended = home.run_on(&sshd, args);
        let told = "sshpool: @empty: there is no host in it\n";
        assert_eq!((ended.code(), &*ended.stderr), (2, told));
    }
}

/// The part of the script that looks at control groups, on directories of the test's own: those of
/// a service, of version 2, and those of a container, of version 1, which has the paths of outside.
#[rstest]
#[case::version_2(
    "0::/system.slice/a b.service\n",
    &[
        ("cgroup.controllers", "cpu memory\n"),
        ("system.slice/cpu.max", "max 100000\n"),
        ("system.slice/memory.max", "1000\n"),
        ("system.slice/memory.current", "10\n"),
        ("system.slice/memory.stat", "anon 1\ninactive_file 2\n"),
        ("system.slice/a b.service/cpu.max", "50000 100000\n"),
        ("system.slice/a b.service/memory.max", "max\n"),
        ("system.slice/a b.service/memory.current", "5\n"),
        ("system.slice/a b.service/memory.swap.max", "7\n"),
    ],
    "group\ncpu.max 50000 100000\ngroup\ncpu.max max 100000\n\
     group\nmemory.max max\nmemory.current 5\nmemory.swap.max 7\n\
     group\nmemory.max 1000\nmemory.current 10\ninactive_file 2\n"
)]
#[case::version_1(
    "4:memory:/docker/1f\n3:cpuset:/\n2:cpu,cpuacct:/docker/1f\n1:name=systemd:/\n",
    &[
        ("memory/memory.limit_in_bytes", "1000\n"),
        ("memory/memory.usage_in_bytes", "10\n"),
        ("memory/memory.stat", "cache 9\ntotal_inactive_file 2\n"),
        ("cpu/cpu.cfs_quota_us", "50000\n"),
        ("cpu/cpu.cfs_period_us", "100000\n"),
    ],
    "group\nmemory.limit_in_bytes 1000\nmemory.usage_in_bytes 10\ninactive_file 2\n\
     group\ncpu.cfs_quota_us 50000\ncpu.cfs_period_us 100000\n"
)]
#[case::both("1:name=systemd:/x\n0::/x\n", &[("unified/x/memory.max", "5\n")], "group\nmemory.max 5\n")]
#[case::none("", &[], "")]
fn g7_control_groups_are_found(
    #[case] of_the_shell: &str,
    #[case] files: &[(&str, &str)],
    #[case] expected: &str,
    #[values("sh", "bash", "busybox sh")] shell: &str,
) {
    let directory = tempfile::tempdir().expect("a directory");
    for (file, text) in files {
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }
    let own = directory.path().join("of the shell");
    std::fs::write(&own, of_the_shell).expect("a file");
    let script = include_str!("../../src/resources/probe.sh")
        .replace("/proc/self/cgroup", &format!("{own:?}"))
        .replace("root=/sys/fs/cgroup", &format!("root={:?}", directory.path()));
    let words: Vec<&str> = shell.split(' ').collect();
    if run(command("sh").args(["-c", &format!("command -v {}", words[0])]), PATIENCE).code() != 0 {
        return common::skip(&format!("there is no {}", words[0]));
    }
    let ended = run(command(words[0]).args(&words[1..]).args(["-c", &script]), PATIENCE);
    let (_, rest) = ended.stdout.split_once(":: cgroup\n").expect("there is such a part");
    let (found, _) = rest.split_once(":: mounts\n").expect("there is such a part");
    assert_eq!(found, expected);
}
