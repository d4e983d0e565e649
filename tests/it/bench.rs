//! `sshpool bench`, as a user meets it. Nothing is said here about how fast anything is: the
//! machine may be busy.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{self, PATIENCE, processes_with};
use crate::lab::{common, documents};

const GUIDE: &str = include_str!("../../docs/cli.md");

/// A server, and a home for the program without any settings.
struct Bench {
    sshd: Sshd,
    home: TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench::of(Sshd::builder().start())
    }

    fn of(sshd: Sshd) -> Self {
        Bench { sshd, home: tempfile::tempdir().expect("a directory") }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// `sshpool -F CONFIG bench ARGS lab`
    fn command(&self, args: &[&str]) -> Command {
        let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
        command.arg("-F").arg(self.sshd.ssh_config()).arg("bench").args(args).arg("lab");
        command.env("XDG_CONFIG_HOME", self.home.path()).env("XDG_RUNTIME_DIR", self.home.path());
        // Where many tests run at once a login may take its time.
        command.env("SSH_POOL_CONNECTION_TIMEOUT_MS", "30000");
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Ended {
        run(&mut self.command(args), PATIENCE)
    }

    /// The object that it prints.
    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let ended = self.run(&[&["--json"], args].concat());
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
        serde_json::from_str(&ended.stdout).expect("it is JSON")
    }

    fn settings(&self, text: &str) {
        std::fs::create_dir_all(self.file("sshpool")).expect("a directory");
        std::fs::write(self.file("sshpool/config.toml"), text).expect("a file");
    }

    fn assert_no_process_is_left(&self) {
        assert_eq!(processes_with(&self.home.path().to_string_lossy()), [""; 0]);
    }
}

const WAYS: [(&str, &str); 5] = [
    ("cold", "cold ssh"),
    ("pooled", "pooled"),
    ("pooled_tight", "pooled, tight"),
    ("no_standby", "no standby"),
    ("no_standby_tight", "no standby, tight"),
];

/// Whether the line is the row of this way.
fn is_row(line: &str, way: &str) -> bool {
    line.strip_prefix(way).is_some_and(|rest| rest.starts_with("  "))
}

#[test]
fn the_table_has_a_row_for_each_way() {
    let bench = Bench::new();
    let ended = bench.run(&["--count", "3", "--pause", "1ms"]);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines[0], "lab: \"true\", 3 times each way, 1 at once, 1 ms before each");
    for (_, way) in WAYS {
        let row = lines.iter().find(|line| is_row(line, way));
        assert!(row.is_some_and(|row| row.ends_with('x')), "{way} is missing in\n{}", ended.stdout);
    }
    for word in ["median", "p95", "min", "max", "errors", "per s", "ratio", "\nreuse ", "\nkex "] {
        assert!(ended.stdout.contains(word), "{word} is missing in\n{}", ended.stdout);
    }
    bench.assert_no_process_is_left();
}

/// But for the numbers, which are those of another machine.
#[test]
fn the_table_is_as_the_guide_shows_it() {
    let bench = Bench::new();
    let shown = documents::blocks(documents::section(GUIDE, "## sshpool bench"), "text")[0];
    let printed = bench.run(&["--count", "2", "--pause", "1ms"]).stdout;
    let heads = |table: &str| {
        let mut lines = table.lines();
        let title =
            lines.next().expect("a title").split_once(": ").expect("a host").1.split(' ').next();
        let columns = lines.next().expect("a line of columns").to_owned();
        let rows: Vec<_> =
            lines.map(|line| line.split("  ").next().unwrap_or_default().to_owned()).collect();
        (title.map(str::to_owned), columns, rows)
    };
    assert_eq!(heads(shown), heads(&printed), "{shown}\n{printed}");
}

#[test]
fn the_guide_names_every_option() {
    let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    let help = run(command.args(["bench", "-h"]), PATIENCE).stdout;
    let text = documents::section(GUIDE, "## sshpool bench");
    for option in ["--count", "--concurrency", "--pause", "--json"] {
        assert!(help.contains(option) && text.contains(&format!("| `{option}")), "{option}");
    }
}

#[test]
fn the_object_has_the_same_for_programs() {
    let bench = Bench::new();
    let value = bench.json(&["--count", "5", "--concurrency", "2", "--pause", "1ms"]);
    assert_eq!((&value["host"], &value["command"]), (&"lab".into(), &"true".into()));
    assert_eq!((&value["count"], &value["concurrency"]), (&5.into(), &2.into()));
    assert_eq!(value["pause_ms"], 1.0);
    for (name, _) in WAYS {
        let way = &value[name];
        assert_eq!((&way["errors"], &way["error"]), (&0.into(), &Value::Null), "{name}: {value}");
        let number =
            |field: &str| way[field].as_f64().unwrap_or_else(|| panic!("{name}.{field}: {value}"));
        let [min, median, p95, max] = ["min_ms", "median_ms", "p95_ms", "max_ms"].map(number);
        assert!(0.0 < min && min <= median && median <= p95 && p95 <= max, "{name}: {value}");
        assert!(number("commands_per_second") > 0.0 && number("ratio") > 0.0, "{name}: {value}");
    }
    assert_eq!(value["ratio"], value["pooled"]["ratio"]);
    assert!(value["first_ms"].as_f64().is_some_and(|first| first > 0.0), "{value}");
    // Eleven commands of the pool, of which the first logged in.
    assert_eq!(value["connects"], 1);
    assert!(
        value["reuse_rate"].as_f64().is_some_and(|rate| (rate - 10.0 / 11.0).abs() < 1e-9),
        "{value}"
    );
    assert!(value["kex"].as_str().is_some_and(|kex| kex.contains("25519")), "{value}");
    bench.assert_no_process_is_left();
}

#[test]
fn a_pool_without_standby_is_not_measured_twice() {
    let bench = Bench::new();
    bench.settings("[pool]\nstandby_sessions = 0\n");
    let value = bench.json(&["--count", "1", "--pause", "1ms"]);
    for name in ["no_standby", "no_standby_tight", "standby_hits"] {
        assert_eq!(value.get(name), Some(&Value::Null), "{name}: {value}");
    }
    let ended = bench.run(&["--count", "1", "--pause", "1ms"]);
    assert!(!ended.stdout.contains("no standby"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("standby   none: the settings have standby_sessions = 0\n"),
        "{}",
        ended.stdout
    );
    // Plain ssh for the key exchange and for the one command, and the pool.
    assert_eq!(bench.sshd.logins(), 2 * 3);
}

#[test]
fn it_fails_where_no_login_is_possible() {
    let bench = Bench::of(Sshd::builder().option("AuthorizedKeysFile", "none").start());
    let ended = bench.run(&[]);
    assert_eq!((ended.code(), &*ended.stdout), (255, ""));
    let message = "sshpool: lab: cannot connect: authentication failed: ";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    bench.assert_no_process_is_left();
}

#[test]
fn an_account_that_runs_something_else_has_nothing_to_measure() {
    let bench = Bench::of(Sshd::builder().force_command("exit 3").start());
    let ended = bench.run(&[]);
    let message = "sshpool: lab: the command \"true\" ended with exit status: 3: there is nothing to measure\n";
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (255, "", message));
}

#[test]
fn a_signal_in_the_middle_ends_both_pools() {
    let bench = Bench::new();
    let mut child = bench.command(&["--count", "10000"]).spawn().expect("it starts");
    // Two pools, the key exchange, and the first command by plain ssh.
    common::wait_for("the fourth login", PATIENCE, || bench.sshd.logins() >= 4);
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("it is our child");
    let status = common::process::wait_until(&mut child, std::time::Instant::now() + PATIENCE);
    assert_eq!(status.expect("it ends").signal(), Some(15));
    bench.assert_no_process_is_left();
}

#[rstest]
#[case(&["--count", "0"], "invalid value '0' for '--count <N>': 0 is not in 1..=10000")]
#[case(&["--concurrency", "many"], "invalid value 'many' for '--concurrency <N>': invalid digit found in string")]
#[case(&["--pause", "50"], "invalid value '50' for '--pause <DURATION>': write one number and one unit (ms, s, m or h), such as \"90s\"")]
#[case(&["--pause", "0"], "invalid value '0' for '--pause <DURATION>': the least is 1ms; without a pause are the ways that are called tight")]
#[case::an_option_of_former_times(&["--rtt", "40ms"], "unexpected argument '--rtt' found")]
#[case::an_option_of_former_times(&["--svg", "x.svg"], "unexpected argument '--svg' found")]
fn wrong_values_are_told_in_one_line(#[case] args: &[&str], #[case] message: &str) {
    let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    let ended = run(command.args(["bench", "lab"]).args(args), PATIENCE);
    assert_eq!((ended.code(), &*ended.stdout), (2, ""), "{}", ended.stderr);
    assert!(ended.stderr.starts_with(&format!("error: {message}")), "{}", ended.stderr);
}

#[test]
fn the_help_has_examples_that_can_be_run() {
    let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    let help = run(command.args(["bench", "--help"]), PATIENCE).stdout;
    let examples = help.split("Examples:\n").nth(1).expect("there are examples");
    for line in examples.lines() {
        let line = line.trim().split("  ").next().expect("a line has a beginning");
        let words = line.split(" | ").next().expect("a line has a beginning").split(' ').skip(1);
        // A file that is not there ends it when all of its words have been understood.
        let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
        let ended = run(command.args(["--config", "/nonexistent.toml"]).args(words), PATIENCE);
        assert!(
            ended.stderr.starts_with("sshpool: cannot read /nonexistent.toml"),
            "{line}: {}",
            ended.stderr
        );
    }
}
