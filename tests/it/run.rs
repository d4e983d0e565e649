//! `sshpool run`, as a user meets it: one command on many hosts. The hosts are aliases of one
//! server.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::Signal;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::common::process::{Ended, run, wait_until};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for;
use crate::lab::pooled::{self, PATIENCE, processes_with, send};

/// The program in an environment of its own, with a server of many names. Nothing listens where
/// `dead` hosts are.
struct Lab {
    sshd: Sshd,
    home: TempDir,
}

impl Lab {
    fn new() -> Self {
        // Several logins at once are what this is about.
        let lab = Lab {
            sshd: Sshd::builder().max_startups("100").start(),
            home: tempfile::tempdir().expect("a directory"),
        };
        let config = std::fs::read_to_string(lab.sshd.ssh_config()).expect("the fixture has one");
        let config = format!("Host dead*\n    Port 1\n{}", config.replace("Host lab", "Host *"));
        std::fs::write(lab.ssh_config(), config).expect("a file");
        lab.config("[pool]\nconnect_timeout = \"30s\"\n");
        lab
    }

    fn ssh_config(&self) -> PathBuf {
        self.home.path().join("ssh_config")
    }

    fn config(&self, text: &str) {
        std::fs::write(self.home.path().join("config.toml"), text).expect("a file");
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
        command
            .arg("-F")
            .arg(self.ssh_config())
            .arg("--config")
            .arg(self.home.path().join("config.toml"));
        command.arg("run").args(args).env("XDG_RUNTIME_DIR", self.home.path());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> Ended {
        run(&mut self.command(args), PATIENCE)
    }

    /// With its output in pipes.
    fn start(&self, args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
        let mut command = self.command(args);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        (child, stdout)
    }

    /// An empty directory on the server, in the home of its account there: it goes with the server.
    fn directory(&self) -> String {
        let made = self.sshd.exec("mktemp -d \"$PWD/run-XXXXXX\"");
        let directory = made.stdout.trim().to_owned();
        assert!(directory.starts_with('/'), "{made:?}");
        directory
    }

    fn assert_nothing_is_left(&self) {
        let socket = |line: &String| !line.contains("sshd:");
        let left: Vec<_> = processes_with(&self.home.path().to_string_lossy())
            .into_iter()
            .filter(socket)
            .collect();
        assert_eq!(left, [""; 0]);
        let left = std::fs::read_dir(self.home.path()).expect("it is ours").flatten();
        let left = left.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
        assert_eq!(left.collect::<Vec<_>>(), [""; 0]);
    }
}

/// Hosts finish in any order.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

fn pid(child: &Child) -> u32 {
    child.id()
}

#[track_caller]
fn stderr_of(mut child: Child) -> (std::process::ExitStatus, String) {
    let mut stderr = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
    (wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends"), stderr)
}

#[track_caller]
fn line(stdout: &mut impl BufRead) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    line
}

const REFUSED: &str =
    "cannot connect: connection refused: connect to host 127.0.0.1 port 1: Connection refused";

#[test]
fn each_line_has_its_host_and_failures_are_summed_up() {
    let lab = Lab::new();
    let ended =
        lab.run(&["-w", "web[1-2]", "--", "echo out; printf 'a  b' ; echo err >&2; exit 3"]);
    assert_eq!(ended.code(), 1);
    assert_eq!(sorted(&ended.stdout), ["web1: a  b", "web1: out", "web2: a  b", "web2: out"]);
    assert!(ended.stdout.ends_with('\n'));
    let summary = "sshpool: 2 of 2 failed: exit 3: web[1-2]";
    assert_eq!(sorted(&ended.stderr), [summary, "web1: err", "web2: err"]);
    assert_eq!(ended.stderr.lines().last(), Some(summary));

    let ended = lab.run(&["-w", "web[1-2],dead1", "cat; printf '\\n\\377'"]);
    assert_eq!(ended.code(), 255);
    assert_eq!(sorted(&ended.stdout), ["web1: ", "web1: \u{fffd}", "web2: ", "web2: \u{fffd}"]);
    let summary = "sshpool: 1 of 3 failed: cannot connect (connection refused): dead1";
    assert_eq!(ended.stderr, format!("sshpool: dead1: {REFUSED}\n{summary}\n"));
    lab.assert_nothing_is_left();
}

#[test]
fn equal_output_is_shown_once() {
    let lab = Lab::new();
    let directory = lab.directory();
    // One of them is the first.
    let command = format!(
        "if mkdir {directory}/first 2>/dev/null; then printf one; else echo other; fi; echo e >&2"
    );
    let ended = lab.run(&["-b", "-w", "web[1-4],dead1", "--color", "never", "--", &command]);
    assert_eq!(ended.code(), 255, "{}", ended.stderr);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    let rule = "---------------";
    let (others, first) = lines.split_at(4);
    assert_eq!((others[0], others[2], others[3]), (rule, rule, "other"), "{}", ended.stdout);
    assert!(others[1].starts_with("web[") && others[1].ends_with("] (3)"), "{}", ended.stdout);
    assert_eq!(
        (first[0], first[2], first[3], first.len()),
        (rule, rule, "one", 4),
        "{}",
        ended.stdout
    );
    assert!(first[1].starts_with("web") && first[1].len() == 4 && ended.stdout.ends_with('\n'));
    let expected = format!(
        "{rule}\nweb[1-4] (4)\n{rule}\ne\nsshpool: 1 of 5 failed: cannot connect (connection refused): dead1\n"
    );
    assert_eq!(ended.stderr, format!("sshpool: dead1: {REFUSED}\n{expected}"));
}

#[test]
fn json_is_an_object_a_line() {
    let lab = Lab::new();
    let directory = lab.directory();
    let command = format!(
        "if mkdir {directory}/a; then printf 'a\\377'; exit 3; elif mkdir {directory}/b; then kill -9 $$; \
         elif mkdir {directory}/c; then echo here; sleep 300; else echo fine; fi 2>/dev/null"
    );
    let ended = lab.run(&["--json", "-t", "2s", "-w", "web[1-4],dead1", "--", &command]);
    assert_eq!(ended.code(), 255, "{}", ended.stderr);
    let objects: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let hosts: BTreeSet<&str> =
        objects.iter().filter_map(|object| object["host"].as_str()).collect();
    assert_eq!(hosts, BTreeSet::from(["dead1", "web1", "web2", "web3", "web4"]));
    let of = |kind: &str, code: Value| {
        let kind_is = |object: &Value| object["error_kind"].as_str().unwrap_or_default() == kind;
        let is = |object: &&Value| kind_is(object) && object["exit_code"] == code;
        objects.iter().find(is).unwrap_or_else(|| panic!("{kind} {code}: {}", ended.stdout))
    };
    let fine = of("", 0.into());
    assert_eq!(
        (&fine["stdout"], &fine["stderr"], &fine["error"]),
        (&"fine\n".into(), &"".into(), &Value::Null)
    );
    assert!(fine["elapsed_ms"].is_u64() && fine.get("stdout_base64").is_none(), "{fine}");
    let failed = of("", 3.into());
    assert_eq!((&failed["stdout"], &failed["stdout_base64"]), (&Value::Null, &"Yf8=".into()));
    assert_eq!(
        of("killed", Value::Null)["error"],
        "command ended without a status (a signal killed it, or the server tells none)"
    );
    let slow = of("timeout", Value::Null);
    assert_eq!(slow["stdout"], "here\n");
    assert_eq!(
        slow["error"],
        "command timed out after 2s (-t, or command_timeout in the settings)"
    );
    let dead = of("refused", Value::Null);
    assert_eq!((&dead["host"], &dead["error"]), (&"dead1".into(), &REFUSED.into()));
    let causes = [
        "exit 3: web",
        "ended without a status: web",
        "timed out after 2s: web",
        "(connection refused): dead1",
    ];
    assert!(ended.stderr.starts_with("sshpool: 4 of 5 failed: exit 3: web"), "{}", ended.stderr);
    assert!(causes.iter().all(|cause| ended.stderr.contains(cause)), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1);
}

#[test]
fn files_take_the_output() {
    let lab = Lab::new();
    let out = lab.home.path().join("new/out");
    let out_text = out.to_str().expect("text");
    let read = |name: &str| {
        std::fs::read(out.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    let user = lab.sshd.user().to_owned();
    let second = format!("{user}@web2:{}", lab.sshd.port());
    let hosts = format!("web1,{second}");
    let ended =
        lab.run(&["--out", out_text, "-w", &hosts, "--", "printf 'a\\377\\n\\0b'; echo err >&2"]);
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "", ""));
    for label in ["web1", &second] {
        assert_eq!(read(&format!("{label}.stdout")), b"a\xff\n\0b");
        assert_eq!(read(&format!("{label}.stderr")), b"err\n");
    }

    // What was there is replaced, and a link is not followed.
    let elsewhere = lab.home.path().join("elsewhere");
    std::fs::write(&elsewhere, "mine").expect("a file");
    std::fs::remove_file(out.join("web1.stderr")).expect("a file");
    std::os::unix::fs::symlink(&elsewhere, out.join("web1.stderr")).expect("a link");
    let ended =
        lab.run(&["--out", out_text, "-w", "web1,dead1", "--", "echo new; echo new >&2; exit 1"]);
    assert_eq!((ended.code(), &*ended.stdout), (255, ""));
    assert_eq!((read("web1.stdout"), read("web1.stderr")), (b"new\n".to_vec(), b"new\n".to_vec()));
    assert_eq!(std::fs::read(&elsewhere).expect("a file"), b"mine");

    // One that cannot be written keeps the others from nothing.
    std::fs::remove_file(out.join("web1.stdout")).expect("a file");
    std::fs::create_dir(out.join("web1.stdout")).expect("a directory");
    let ended = lab.run(&["--out", out_text, "-w", "web[1,3]", "echo", "x"]);
    assert_eq!((ended.code(), read("web3.stdout")), (255, b"x\n".to_vec()));
    let message = format!("sshpool: web1: cannot write {out_text}/web1.stdout: Is a directory\n");
    assert_eq!(ended.stderr, message + "sshpool: 1 of 2 failed: output not written: web1\n");
    let ended = lab.run(&["--out", "/dev/null/x", "-w", "web1", "true"]);
    assert_eq!(
        (ended.code(), &*ended.stderr),
        (2, "sshpool: cannot make /dev/null/x: Not a directory\n")
    );
}

#[test]
fn hosts_are_chosen_in_many_ways_and_each_of_them_once() {
    let lab = Lab::new();
    let config = "[hosts.box]\nuser = 'deploy'\n[groups]\nweb = 'web[1-4],web[3-6]'\nall = ['@web', 'db1']\nrack1 = 'r1'\nrack2 = 'r2'\n";
    lab.config(config);
    let file = lab.home.path().join("hosts");
    std::fs::write(&file, "# all of them\nweb1 web2,web3 # three\n\n  db[1-2]\n@rack1\n")
        .expect("a file");
    let file = file.to_str().expect("text");
    let chosen = |args: &[&str]| {
        let args: Vec<&str> =
            args.iter().copied().chain(["--dry-run", "--json", "--", "ls", "-l"]).collect();
        let ended = lab.run(&args);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
        let object: Value = serde_json::from_str(&ended.stdout).expect("an object");
        assert_eq!(object["command"], "ls -l");
        let hosts = object["hosts"].as_array().expect("a list").iter();
        (hosts.map(|host| host.as_str().expect("text")).collect::<Vec<_>>().join(" "), ended.stderr)
    };
    let plain = |args: &[&str]| {
        let (hosts, stderr) = chosen(args);
        assert_eq!(stderr, "");
        hosts
    };
    assert_eq!(plain(&["-w", "db1,web[1-2/1]", "-w", "web2 web3"]), "db1 web1 web2 web3");
    assert_eq!(plain(&["-g", "all"]), "web1 web2 web3 web4 web5 web6 db1");
    assert_eq!(plain(&["-g", "rack[1-2]", "-g", "@web", "-x", "web[2-9]"]), "r1 r2 web1");
    assert_eq!(plain(&["-g", "rack1,rack2", "-w", "@rack1"]), "r1 r2");
    assert_eq!(plain(&["-g", "all", "-x", "@web"]), "db1");
    assert_eq!(plain(&["-w", "a@web1:22,b@web2,[::1]:22", "-x", "web1", "-x", "::1"]), "b@web2");
    assert_eq!(plain(&["--hosts", file, "-x", "db2"]), "web1 web2 web3 db1 r1");
    // The file says that these are one and the same.
    assert_eq!(plain(&["-w", "box,deploy@box,root@box"]), "box root@box");
    let (hosts, stderr) = chosen(&["-g", "web", "-x", "wbe1"]);
    assert_eq!(hosts, "web1 web2 web3 web4 web5 web6");
    assert_eq!(stderr, "sshpool: -x wbe1 leaves nobody out: none of these hosts was chosen\n");

    let ended = lab.run(&["-w", "web[1-3],db1", "--dry-run", "ls", "-l"]);
    assert_eq!(
        (ended.code(), &*ended.stdout, &*ended.stderr),
        (0, "db1,web[1-3] (4 hosts): ls -l\n", "")
    );
    let mut command = lab.command(&["--hosts", "-", "--dry-run", "true"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"web1\nweb2 # two\n").expect("it reads");
    let output = child.wait_with_output().expect("it is our child");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "web[1-2] (2 hosts): true\n");
    assert_eq!(lab.sshd.logins(), 0);
    lab.assert_nothing_is_left();
}

/// One line, and no process.
#[rstest]
#[case::nobody(&["true"], "no hosts: name them with -w HOSTS, -g GROUP or --hosts FILE")]
#[case::forgotten_before_a_line(&["web1", "--", "uptime"], "no hosts: name them with -w HOSTS, -g GROUP or --hosts FILE, such as sshpool run -w web1 -- uptime")]
#[case::forgotten(&["web1", "uptime"], "no hosts: name them with -w HOSTS, -g GROUP or --hosts FILE, such as sshpool run -w web1 -- uptime")]
#[case::behind(&["uptime", "-w", "web1"], "no hosts: options such as -w stand before the command")]
#[case::empty(&["-w", ",", "true"], "there are no hosts in what was named")]
#[case::all_left_out(&["-w", "web[1-3]", "-x", "web[1-9]", "true"], "-x leaves out all hosts that were chosen")]
#[case::bracket(&["-w", "web[1-", "true"], "invalid hosts \"web[1-\": a bracket is not closed")]
#[case::name(&["-w", "a;b", "true"], "invalid host name \"a;b\": it must not contain ';'")]
#[case::option(&["-w", "web1,-oProxyCommand=x", "true"], "invalid host name \"-oProxyCommand=x\": it must not start with \"-\"")]
#[case::too_many(&["-w", "web[1-100000]", "true"], "\"web[1-100000]\" makes it more than 65536 hosts")]
#[case::unknown_group(&["-g", "wep", "true"], "unknown group \"wep\": did you mean \"web\"?")]
#[case::unknown_group_to_leave_out(&["-w", "web1", "-x", "@kitchen", "true"], "unknown group \"kitchen\": expected one of db, web")]
#[case::no_file(&["--hosts", "/nonexistent", "true"], "cannot read /nonexistent: No such file or directory")]
#[case::stdin_twice(&["--hosts", "-", "--stdin", "cat"], "stdin can be read only once: write the hosts into a file")]
#[case::nothing_at_once(&["-w", "web1", "-f", "0", "true"], "error: invalid value '0' for '--width <N>'")]
#[case::no_unit(&["-w", "web1", "-t", "30", "true"], "error: invalid value '30' for '--timeout <DURATION>': write one number and one unit (ms, s, m or h)")]
#[case::two_styles(&["-w", "web1", "-b", "--json", "true"], "error: the argument '--fold' cannot be used with '--json'")]
#[case::no_command(&["-w", "web1"], "error: the following required arguments were not provided")]
fn wrong_usage_is_told(#[case] args: &[&str], #[case] message: &str) {
    let home = tempfile::tempdir().expect("a directory");
    let config = home.path().join("config.toml");
    std::fs::write(&config, "[groups]\nweb = 'web1'\ndb = 'db1'\n").expect("a file");
    let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    command.arg("--config").arg(&config).arg("run").args(args);
    let ended = run(command.env("XDG_RUNTIME_DIR", home.path()), PATIENCE);
    assert_eq!((ended.code(), &*ended.stdout), (2, ""), "{}", ended.stderr);
    let text = ended.stderr.strip_prefix("sshpool: ").unwrap_or(&ended.stderr);
    assert!(text.starts_with(message), "{}", ended.stderr);
    assert!(
        message.starts_with("error: ") || ended.stderr.lines().count() == 1,
        "{}",
        ended.stderr
    );
}

#[test]
fn a_bad_line_of_a_file_is_named() {
    let lab = Lab::new();
    let file = lab.home.path().join("hosts");
    let file_text = file.to_str().expect("text");
    for (text, message) in [
        (&b"web1\n\nweb[3-1]\n"[..], ":3: invalid hosts \"web[3-1]\": 3-1 goes down"),
        (b"web1\n@web\n", ":2: unknown group \"web\": the configuration file has no [groups]"),
        (b"web1\n\xff\n", ":2: not UTF-8: save the file as UTF-8 text"),
    ] {
        std::fs::write(&file, text).expect("a file");
        let ended = lab.run(&["--hosts", file_text, "true"]);
        assert_eq!(ended.code(), 2, "{}", ended.stderr);
        assert!(
            ended.stderr.starts_with(&format!("sshpool: {file_text}{message}")),
            "{}",
            ended.stderr
        );
    }
    lab.config("[groups]\nweb = 'a'\nall = '@wep'\n");
    let ended = lab.run(&["-w", "web1", "true"]);
    let message = "config.toml:3: groups.all: unknown group \"wep\": did you mean \"web\"?\n";
    assert!(ended.code() == 2 && ended.stderr.ends_with(message), "{}", ended.stderr);
}

#[rstest]
#[case::all_well("web[1-2]", "true", 0)]
#[case::some_failed("web[1-2]", "mkdir DIR/first", 1)]
#[case::a_status_of_255_is_the_commands("web1", "exit 255", 1)]
#[case::a_signal("web1", "kill -9 $$", 1)]
#[case::a_timeout_is_worse("web[1-2]", "if mkdir DIR/first; then sleep 300; else exit 7; fi", 124)]
#[case::nobody_there_is_worst("web1,dead1", "sleep 300", 255)]
fn the_status_is_that_of_the_worst(
    #[case] hosts: &str,
    #[case] command: &str,
    #[case] status: i32,
) {
    let lab = Lab::new();
    let command = command.replace("DIR", &lab.directory());
    let ended = lab.run(&["-t", "2s", "-w", hosts, "--", &command]);
    assert_eq!(ended.code(), status, "{}", ended.stderr);
    assert_eq!(ended.stderr.is_empty(), status == 0, "{}", ended.stderr);
    lab.assert_nothing_is_left();
}

#[test]
fn the_first_failure_can_be_the_last() {
    let lab = Lab::new();
    let directory = lab.directory();
    let command = format!("touch {directory}/$$; [ $(ls {directory} | wc -l) -lt 3 ]");
    let ended = lab.run(&["--fail-fast", "-f", "1", "-w", "web[1-6]", "--", &command]);
    assert_eq!(ended.code(), 1);
    assert_eq!(ended.stderr, "sshpool: 1 of 6 failed: exit 1: web3; not started: web[4-6]\n");
    assert_eq!(lab.sshd.exec(&format!("ls {directory} | wc -l")).stdout.trim(), "3");

    // What runs already is let finish.
    let directory = lab.directory();
    let command = format!(
        "if mkdir {directory}/first; then while [ ! -e {directory}/second ]; do sleep 0.1; done; exit 5; \
         else touch {directory}/second; sleep 1; echo finished; fi 2>/dev/null"
    );
    let ended = lab.run(&["--fail-fast", "-f", "2", "-w", "web[1-4]", "--", &command]);
    assert_eq!(ended.code(), 1);
    assert!(ended.stdout.ends_with(": finished\n"), "{}", ended.stdout);
    assert!(ended.stderr.ends_with("; not started: web[3-4]\n"), "{}", ended.stderr);
}

#[test]
fn stdin_is_given_to_all_of_them_when_asked() {
    let lab = Lab::new();
    let input = "0123456789\n".repeat(30_000);
    for (args, expected) in [(&["--stdin"][..], input.len()), (&[], 0)] {
        let args: Vec<&str> =
            args.iter().copied().chain(["-w", "web[1-3]", "-b", "wc -c | tr -d ' '"]).collect();
        let mut command = lab.command(&args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let feed = std::thread::spawn({
            let input = input.clone();
            // Without --stdin nobody reads it.
            move || drop(stdin.write_all(input.as_bytes()))
        });
        let output = child.wait_with_output().expect("it is our child");
        feed.join().expect("no panic");
        let expected = format!("---------------\nweb[1-3] (3)\n---------------\n{expected}\n");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
}

#[test]
fn a_slow_host_keeps_nobody_waiting() {
    let lab = Lab::new();
    let directory = lab.directory();
    let command = format!(
        "if mkdir {directory}/first 2>/dev/null; then echo begun; while [ ! -e {directory}/go ]; do sleep 0.1; done; echo late; else echo quick; fi"
    );
    let (child, mut stdout) = lab.start(&["-t", "0", "-w", "web[1-4],dead1", "--", &command]);
    let lines: BTreeSet<String> = (0..4).map(|_| line(&mut stdout)).collect();
    assert_eq!(lines.iter().filter(|line| line.ends_with(": quick\n")).count(), 3, "{lines:?}");
    lab.sshd.exec(&format!("touch {directory}/go"));
    assert!(line(&mut stdout).ends_with(": late\n"));
    let (status, stderr) = stderr_of(child);
    assert_eq!(status.code(), Some(255), "{stderr}");
}

#[test]
fn no_more_hosts_than_the_width_have_the_command_at_once() {
    let lab = Lab::new();
    let directory = lab.directory();
    let command = format!(
        "touch {directory}/$$; ls {directory} | wc -l; sleep 0.2; ls {directory} | wc -l; rm {directory}/$$"
    );
    let ended = lab.run(&["-f", "8", "-w", "web[1-50]", "--", &command]);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    let mut hosts = BTreeMap::new();
    for line in ended.stdout.lines() {
        let (host, count) = line.split_once(": ").expect("a host");
        let count: usize = count.trim().parse().expect("a number");
        assert!((1..=8).contains(&count), "{line}");
        *hosts.entry(host).or_insert(0) += 1;
    }
    assert!(hosts.len() == 50 && hosts.values().all(|lines| *lines == 2), "{hosts:?}");
    assert_eq!(lab.sshd.logins(), 50);
    lab.assert_nothing_is_left();
}

#[test]
fn much_output_of_many_hosts_is_not_mixed() {
    let lab = Lab::new();
    // 3 MB on stdout and 1 MB on stderr from each, in lines of all lengths up to some kilobytes.
    let command = "awk -v p=$$ 'BEGIN { s = sprintf(\"%2000s\", \"\"); gsub(/ /, \"x\", s); \
                   for (i = 0; i < 3000; i++) { n = (i * 37) % 2000; print p \"-\" i \"-\" substr(s, 1, n) \".\"; \
                   if (i % 3 == 0) print p \"-\" i \"-\" substr(s, 1, n) \".\" > \"/dev/stderr\" } }'";
    let ended = lab.run(&["-w", "web[1-5]", "--", command]);
    assert_eq!(ended.code(), 0);
    for (text, step) in [(&ended.stdout, 1), (&ended.stderr, 3)] {
        let mut seen: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
        for line in text.lines() {
            let (host, rest) = line.split_once(": ").expect("a host");
            let parts: Vec<&str> = rest.splitn(3, '-').collect();
            let (pid, next) = seen.entry(host).or_insert((parts[0], 0));
            assert_eq!((parts[0], parts[1]), (*pid, &*next.to_string()), "{host}");
            assert_eq!(parts[2], "x".repeat(*next * 37 % 2000) + ".");
            *next += step;
        }
        assert!(seen.len() == 5 && seen.values().all(|(_, next)| *next == 3000), "{seen:?}");
    }
}

#[test]
fn too_much_to_be_held_is_an_error_that_says_what_to_do() {
    let lab = Lab::new();
    lab.config("[pool]\nmax_output = 1000\n");
    let ended = lab.run(&["-b", "-w", "web1", "yes"]);
    assert_eq!(ended.code(), 1);
    let message = "sshpool: web1: command wrote more than 1000 bytes to stdout (max_output in the settings; --out DIR has no limit)\n";
    assert!(ended.stderr.starts_with(message), "{}", ended.stderr);
    assert!(
        ended.stderr.ends_with("sshpool: 1 of 1 failed: wrote too much: web1\n"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stdout.len(), "---------------\nweb1\n---------------\n".len() + 1000);
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly_and_everywhere() {
    let lab = Lab::new();
    let directory = lab.directory();
    let command = format!("touch {directory}/$$; yes");
    let (child, mut stdout) = lab.start(&["-t", "0", "-w", "web[1-3]", "--", &command]);
    wait_for("all of them", PATIENCE, || {
        line(&mut stdout);
        lab.sshd.exec(&format!("ls {directory} | wc -l")).stdout.trim() == "3"
    });
    drop(stdout);
    let (status, stderr) = stderr_of(child);
    assert_eq!((status.code(), &*stderr), (Some(141), ""));
    assert_all_ended(&lab, &directory);
    lab.assert_nothing_is_left();
}

/// As `2>&1 >/dev/null | head -1` does it.
#[test]
fn a_reader_of_stderr_that_goes_away_ends_it_everywhere() {
    let lab = Lab::new();
    let directory = lab.directory();
    let command = format!("touch {directory}/$$; yes >&2");
    let (mut child, _stdout) = lab.start(&["-t", "0", "-w", "web[1-3]", "--", &command]);
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    wait_for("all of them", PATIENCE, || {
        line(&mut stderr);
        lab.sshd.exec(&format!("ls {directory} | wc -l")).stdout.trim() == "3"
    });
    drop(stderr);
    let status = wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(141));
    assert_all_ended(&lab, &directory);
    lab.assert_nothing_is_left();
}

/// What is to be read may never be.
#[test]
fn a_reader_that_does_not_read_holds_up_neither_a_timeout_nor_an_interrupt() {
    let lab = Lab::new();
    let endless = "while :; do printf xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\\\\n; done; printf x";
    let (child, _stdout) = lab.start(&["-t", "2s", "-w", "web[1-2]", "--", endless]);
    let (status, stderr) = stderr_of(child);
    assert_eq!(status.code(), Some(124), "{stderr}");
    assert!(stderr.ends_with("sshpool: 2 of 2 failed: timed out after 2s: web[1-2]\n"), "{stderr}");

    let (mut child, mut stdout) = lab.start(&["-t", "0", "-w", "web[1-2]", "--", endless]);
    line(&mut stdout);
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    send(pid(&child), Signal::SIGINT);
    assert!(line(&mut stderr).starts_with("sshpool: still running on "));
    send(pid(&child), Signal::SIGINT);
    let status = wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{status:?}");
    lab.assert_nothing_is_left();
}

#[test]
fn output_that_cannot_be_written_ends_it_with_a_line() {
    let lab = Lab::new();
    let mut command = lab.command(&["-t", "0", "-w", "web[1-2]", "yes"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let output =
        command.stdout(full).stderr(Stdio::piped()).spawn().expect("it starts").wait_with_output();
    let output = output.expect("it is our child");
    let message = "sshpool: cannot write to stdout: No space left on device\n";
    assert_eq!(
        (output.status.code(), &*String::from_utf8_lossy(&output.stderr)),
        (Some(255), message)
    );
    lab.assert_nothing_is_left();
}

#[track_caller]
fn assert_all_ended(lab: &Lab, directory: &str) {
    let pids = lab.sshd.exec(&format!("ls {directory}")).stdout;
    assert!(!pids.is_empty());
    for pid in pids.split_whitespace() {
        assert!(!lab.sshd.is_alive(pid.parse().expect("a pid")), "{pid}");
    }
}

/// Three that run until somebody writes into the directory, of five.
fn three_running(
    lab: &Lab,
    args: &[&str],
) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let directory = lab.directory();
    let command =
        format!("touch {directory}/$$; echo on; while [ ! -e {directory}-go ]; do sleep 0.1; done");
    let args: Vec<&str> = args
        .iter()
        .copied()
        .chain(["-t", "0", "-f", "3", "-w", "web[1-5]", "--", &command])
        .collect();
    let (child, stdout) = lab.start(&args);
    let there = || lab.sshd.exec(&format!("ls {directory} | wc -l")).stdout.trim() == "3";
    wait_for("three of them", PATIENCE, there);
    (child, stdout, directory)
}

#[test]
fn the_first_interrupt_shows_what_runs_and_the_second_one_ends_it() {
    let lab = Lab::new();
    let (mut child, mut stdout, directory) = three_running(&lab, &["--json"]);
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    send(pid(&child), Signal::SIGINT);
    let shown =
        "sshpool: still running on 3: web[1-3] (0 of 5 done, 2 waiting); Ctrl-C again ends it\n";
    assert_eq!(line(&mut stderr), shown);
    send(pid(&child), Signal::SIGINT);
    assert_eq!(
        line(&mut stderr),
        "sshpool: ending it on web[1-3]; Ctrl-C again does not wait for that\n"
    );
    // What was gathered until then is not lost.
    for _ in 0..3 {
        let object: Value = serde_json::from_str(&line(&mut stdout)).expect("an object");
        let expected: (&Value, &Value) = (&"stopped".into(), &"on\n".into());
        assert_eq!((&object["error_kind"], &object["stdout"]), expected);
    }
    assert_eq!(
        line(&mut stderr),
        "sshpool: 3 of 5 failed: ended by Ctrl-C: web[1-3]; not started: web[4-5]\n"
    );
    let status = wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{status:?}");
    assert_all_ended(&lab, &directory);
    lab.assert_nothing_is_left();
}

#[test]
fn one_interrupt_ends_nothing() {
    let lab = Lab::new();
    let (mut child, _stdout, directory) = three_running(&lab, &[]);
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe"));
    send(pid(&child), Signal::SIGINT);
    assert!(line(&mut stderr).starts_with("sshpool: still running on 3: web[1-3] "));
    lab.sshd.exec(&format!("touch {directory}-go"));
    let status = wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn sigterm_ends_it_at_once() {
    let lab = Lab::new();
    let (child, _stdout, directory) = three_running(&lab, &[]);
    send(pid(&child), Signal::SIGTERM);
    let (status, stderr) = stderr_of(child);
    assert_eq!((status.signal(), &*stderr), (Some(Signal::SIGTERM as i32), ""));
    assert_all_ended(&lab, &directory);
    lab.assert_nothing_is_left();
}

#[test]
fn colours_are_for_terminals_or_for_who_wants_them() {
    let lab = Lab::new();
    let ended = lab.run(&["--color", "always", "-w", "web[1-2]", "--", "echo o; echo e >&2"]);
    let expected = ["\x1b[32mweb2:\x1b[0m ", "\x1b[36mweb1:\x1b[0m "];
    assert_eq!(sorted(&ended.stdout), expected.map(|prefix| prefix.to_owned() + "o"));
    assert_eq!(sorted(&ended.stderr), expected.map(|prefix| prefix.to_owned() + "e"));
    let ended = lab.run(&["-w", "web1", "echo", "o"]);
    assert_eq!(ended.stdout, "web1: o\n");
}

/// A terminal, as far as this program uses one: to the beginning of the line, and empties the line.
fn as_seen(written: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut rest = written;
    while let Some(c) = rest.chars().next() {
        let line = lines.last_mut().expect("there is one");
        if let Some(after) = rest.strip_prefix("\r\n") {
            lines.push(String::new());
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix('\r') {
            // Whatever the program writes there next, it empties the line with it.
            line.clear();
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("\x1b[K") {
            rest = after;
            continue;
        }
        line.push(c);
        rest = &rest[c.len_utf8()..];
    }
    lines
}

/// On a terminal of script(1)'s.
fn on_terminal(lab: &Lab, args: &str) -> Child {
    let mut script = pooled::command("script");
    let program = format!(
        "stty cols 60; exec {:?} -F {:?} --config {:?} run {args}",
        env!("CARGO_BIN_EXE_sshpool"),
        lab.ssh_config(),
        lab.home.path().join("config.toml")
    );
    script
        .args(["-qefc", &program, "/dev/null"])
        .env("XDG_RUNTIME_DIR", lab.home.path())
        .env("TERM", "xterm");
    script.stdin(Stdio::piped()).stdout(Stdio::piped());
    script.spawn().expect("util-linux has it")
}

#[test]
fn a_terminal_has_a_bar_that_leaves_nothing_behind() {
    let lab = Lab::new();
    let directory = lab.directory();
    let wait = format!("while [ ! -e {directory}/go ]; do sleep 0.1; done");
    let args = format!("-f 2 -w web[1-3],dead1 -- 'echo one; {wait}; echo two; echo three >&2'");
    let mut child = on_terminal(&lab, &args);
    let mut written = String::new();
    let mut buffer = [0; 4096];
    let mut stdout = child.stdout.take().expect("a pipe");
    while !written.contains("] 0/4 ") || written.matches("one\r\n").count() < 2 {
        let read = stdout.read(&mut buffer).expect("it goes on");
        assert!(read > 0, "{written:?}");
        written += std::str::from_utf8(&buffer[..read]).expect("text");
    }
    lab.sshd.exec(&format!("touch {directory}/go"));
    stdout.read_to_string(&mut written).expect("text");
    assert_eq!(child.wait().expect("it is our child").code(), Some(255), "{written:?}");
    let seen = as_seen(&written);
    let (last, lines) = seen.split_last().expect("lines");
    assert_eq!(last, "", "{written:?}");
    let colored = |place: usize, text: &str| {
        format!("\x1b[{}mweb{}:\x1b[0m {text}", ["36", "32", "33"][place], place + 1)
    };
    let mut expected: Vec<String> =
        (0..3).flat_map(|place| ["one", "two", "three"].map(|text| colored(place, text))).collect();
    expected.push(format!("sshpool: dead1: {REFUSED}"));
    expected.push("sshpool: 1 of 4 failed: cannot connect (connection refused): dead1".to_owned());
    let mut lines = lines.to_vec();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected, "{written:?}");
}

#[test]
fn ctrl_c_twice_on_a_terminal_ends_it() {
    let lab = Lab::new();
    let mut child = on_terminal(&lab, "-w web[1-2] -- 'echo on; sleep 300'");
    let (mut stdin, mut stdout) =
        (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let (mut written, mut buffer) = (String::new(), [0; 4096]);
    let mut until = |written: &mut String, done: &dyn Fn(&str) -> bool| {
        while !done(written) {
            let read = stdout.read(&mut buffer).expect("it goes on");
            assert!(read > 0, "{written:?}");
            *written += std::str::from_utf8(&buffer[..read]).expect("text");
        }
    };
    until(&mut written, &|written| written.matches("on\r\n").count() == 2);
    stdin.write_all(b"\x03").expect("it reads");
    until(&mut written, &|written| written.contains("still running on 2: web[1-2]"));
    stdin.write_all(b"\x03").expect("it reads");
    until(&mut written, &|written| written.contains("failed: ended by Ctrl-C: web[1-2]\r\n"));
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert_eq!(child.wait().expect("it is our child").code(), Some(130), "{written:?}{rest:?}");
    lab.assert_nothing_is_left();
}
