//! How Docker's client is called, and what is made of what other programs in its place say: sudo,
//! podman with its providers, a daemon elsewhere. The programs are written on the server; what they
//! say was recorded from the real ones. tests/it/compose.rs has a real Compose.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Instant;

use rstest::rstest;
use serde_json::Value;

use crate::lab::agents::Home;
use crate::lab::common;
use crate::lab::common::process::Ended;
use crate::lab::common::sshd::{Kind, Sshd};
use crate::lab::pooled::{PATIENCE, command};

/// Writes a program on the server.
fn write(sshd: &Sshd, path: &str, text: &str) {
    let text = format!(
        "mkdir -p \"$(dirname {path})\" && cat >{path} <<'END' && chmod +x {path}\n{text}\nEND"
    );
    let ended = sshd.exec(&text);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
}

/// A docker that lists one project, whose name tells how it was called.
const TELLS: &str = "#!/bin/sh\n\
    printf '[{\"Name\":\"%s|%s|%s|%s\",\"Status\":\"running(1)\"}]\\n' \
    \"${0##*/}\" \"$*\" \"$DOCKER_HOST\" \"$DOCKER_CONTEXT\"";
/// As sudo: the variables of the caller are gone.
const SUDO: &str = "#!/bin/sh\n[ \"$1\" = -n ] && shift\nexec env -u DOCKER_HOST \"$@\"";

fn first_project(ended: &Ended) -> String {
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
    let answers: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    answers[0]["projects"][0]["name"].as_str().expect("a name").to_owned()
}

/// Only in a directory of the home's, whatever the account's shell is.
#[rstest]
fn g2_docker_is_called_as_the_settings_of_the_host_say(
    #[values("/bin/sh", "/bin/bash", "/usr/bin/fish", "/bin/tcsh", "/usr/bin/zsh")] shell: &str,
) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let home = Home::new();
    // Fish and csh do not read a here document of sh.
    for (name, text) in [("docker", TELLS), ("podman", TELLS), ("sudo", SUDO)] {
        let made = format!(
            "/bin/sh -c 'mkdir -p ~/my\\ bin && cat >~/my\\ bin/{name} && chmod +x ~/my\\ bin/{name}'"
        );
        let mut ssh = home.on(&sshd, &["exec", "--stdin", "lab", "--", &made]);
        let mut ssh = ssh.stdin(Stdio::piped()).spawn().expect("it starts");
        ssh.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
        assert!(ssh.wait().expect("it ends").success());
    }
    let missing = home.run_on(&sshd, &["compose", "lab", "ls"]);
    assert_eq!(
        (missing.code(), &*missing.stderr),
        (255, "sshpool: lab: docker is not installed, or not on the PATH of this account\n")
    );

    let asked = |table: &str, options: &[&str]| {
        home.config(&format!("[hosts.lab.docker]\npath = [\"~/my bin\"]\n{table}"));
        let words = [&["compose"], options, &["lab", "ls", "--json"]].concat();
        first_project(&home.run_on(&sshd, &words))
    };
    assert_eq!(asked("", &[]), "docker|compose ls --format json||");
    assert_eq!(asked("program = \"podman\"", &[]), "podman|compose ls --format json||");
    assert_eq!(
        asked("host = \"unix:///run/a;b\"", &[]),
        "docker|compose ls --format json|unix:///run/a;b|"
    );
    assert_eq!(asked("context = \"far\"", &[]), "docker|compose ls --format json||far");
    assert_eq!(
        asked("program = [\"sudo\", \"-n\", \"docker\"]\nhost = \"tcp://h:1\"", &[]),
        "docker|--host=tcp://h:1 compose ls --format json||"
    );
    // What is said for once.
    assert_eq!(
        asked("host = \"tcp://h:1\"", &["--docker", "sudo -n podman", "--docker-context=c"]),
        "podman|--context=c compose ls --format json||"
    );
}

#[test]
fn g2_what_is_wrong_is_told_before_anything_runs() {
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    for (options, text) in [
        (
            &["--docker=-x"][..],
            "docker.program: \"-x\" is not valid: expected a program first, such as \"docker\"",
        ),
        (&["--docker", " "], "docker.program: \"\" is not valid: expected a program first"),
        (&["--docker-host", "a b"], "docker.host: \"a b\" is not valid: expected SCHEME://"),
        (
            &["--docker-context", "$(id)"],
            "docker.context: \"$(id)\" is not valid: expected letters",
        ),
    ] {
        let words = [&["compose"], options, &["lab", "ls"]].concat();
        let ended = home.run_on(&sshd, &words);
        assert_eq!((ended.code(), ended.stderr.lines().count()), (2, 1), "{ended:?}");
        assert!(ended.stderr.starts_with(&format!("sshpool: {text}")), "{ended:?}");
    }
    assert_eq!(sshd.logins(), 0);
}

/// Where Docker's client is missing, or does not come to do anything.
#[rstest]
#[case::sudo_asks(
    "sudo",
    "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1",
    &["--docker", "sudo -n docker"],
    "docker compose failed with code 1: sudo: a password is required"
)]
#[case::sudo_without_docker(
    "sudo",
    "#!/bin/sh\necho \"sudo: $2: command not found\" >&2\nexit 1",
    &["--docker", "sudo -n docker"],
    "docker is not installed, or not on the PATH of this account"
)]
#[case::podman_without_a_provider(
    "podman",
    "#!/bin/sh\nprintf 'Error: looking up compose provider failed\\n7 errors occurred:\\n\\t* exec: \
     \"docker-compose\": executable file not found in $PATH\\n\\n' >&2\nexit 125",
    &["--docker", "podman"],
    "the Compose plugin of podman is not installed"
)]
#[case::docker_without_the_plugin(
    "docker",
    "#!/bin/sh\nprintf 'unknown flag: --format\\nSee '\"'docker --help'\"'.\\n' >&2\nexit 125",
    &[],
    "the Compose plugin of docker is not installed"
)]
// As the shell of an account that is turned away says it: to stdout.
#[case::turned_away(
    "docker",
    "#!/bin/sh\necho 'This account is currently not available.'\nexit 1",
    &[],
    "docker compose failed with code 1: This account is currently not available."
)]
fn a_reason_is_told_in_one_line(
    #[case] name: &str,
    #[case] program: &str,
    #[case] options: &[&str],
    #[case] expected: &str,
) {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    write(&sshd, &format!("{directory}/{name}"), program);
    let words = [&["compose"], options, &["lab", "ls"]].concat();
    let ended = home.run_on(&sshd, &words);
    assert_eq!((ended.code(), &*ended.stderr), (255, &*format!("sshpool: lab: {expected}\n")));
}

/// What `podman compose` says before its provider does anything.
const PODMAN: &str = "#!/bin/sh\n\
    echo '>>>> Executing external compose provider \"/usr/bin/podman-compose\". Please see \
    podman-compose(1) for how to disable this message. <<<<' >&2\n\
    case \"$*\" in\n\
    *' ls '*) echo '[{\"Name\":\"shop\",\"Status\":\"running(1)\"}]'; echo 'exit code: 0' ;;\n\
    *'-p shop ps '*) echo '[{\"Service\":\"web\",\"Name\":\"shop_web_1\",\"State\":\"running\"},\
    {\"Service\":\"web\",\"Name\":\"shop_web_2\",\"State\":\"running\"}]'; echo 'exit code: 0' ;;\n\
    *' ps '*) echo '[]' ;;\n\
    esac\n";

#[test]
fn g4_notices_are_read_over() {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    write(&sshd, &format!("{directory}/podman"), PODMAN);
    home.config("[hosts.lab.docker]\nprogram = \"podman\"\n");
    let asked = |words: &[&str]| home.run_on(&sshd, &[&["compose", "lab"], words].concat());

    let listed = asked(&["ls"]);
    assert_eq!((listed.code(), &*listed.stderr), (0, ""));
    assert!(listed.stdout.ends_with("shop     running  running(1)\n"), "{}", listed.stdout);
    // G8: replicas are told apart.
    let shown = asked(&["ps", "shop"]);
    let rows: Vec<Vec<&str>> =
        shown.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["web", "shop_web_1", "running", "-", "-"]);
    assert_eq!(rows[2], ["web", "shop_web_2", "running", "-", "-"]);
    assert_eq!((shown.code(), &*shown.stderr, rows.len()), (0, "", 3));
    for action in ["restart", "stop", "logs"] {
        let ended = asked(&[action, "nosuch"]);
        let expected = "sshpool: lab: there is no project \"nosuch\": it has no containers";
        assert_eq!((ended.code(), ended.last_words()), (1, expected), "{action}");
        assert_eq!(asked(&[action, "shop"]).code(), 0, "{action}");
    }
}

/// A docker that tells its words.
const WORDS: &str = "#!/bin/sh\nfor word; do printf '[%s]' \"$word\"; done; echo";

#[test]
fn g3_options_of_compose_stand_before_the_action() {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    write(&sshd, &format!("{directory}/docker"), WORDS);
    let expected = "[compose][--ansi=never][-p][shop][-f][/a.yaml][-f][/b c.yaml]\
        [--profile=x][--profile=--y][--env-file=/e][--project-directory=/d]";
    let options = [
        "--file=/a.yaml",
        "--file=/b c.yaml",
        "--profile=x",
        "--profile=--y",
        "--env-file=/e",
        "--project-directory=/d",
    ];
    let behind = [&["compose", "lab", "up", "shop", "_web"], &options[..]].concat();
    let before = [&["compose"], &options[..], &["lab", "build", "shop", "--pull"]].concat();
    for (words, action) in [(behind, "[up][--detach][_web]\n"), (before, "[build][--pull]\n")] {
        let ended = home.run_on(&sshd, &words);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{words:?}");
        assert_eq!(ended.stdout, format!("{expected}{action}"));
    }
    for (option, value) in [("--profile", ""), ("--env-file", ""), ("--project-directory", "")] {
        let ended = home.run_on(&sshd, &["compose", option, value, "lab", "up", "shop"]);
        assert_eq!(ended.code(), 2, "{ended:?}");
    }
}

/// G1: whatever Compose allows, and what its `ls` lists.
#[test]
fn g1_names_are_passed_on_and_never_taken_for_options() {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    write(&sshd, &format!("{directory}/docker"), WORDS);
    for (project, service) in
        [("shop", "_web"), ("shop", ".hidden"), ("My.Shop", "a"), ("_x", "A.b")]
    {
        let ended = home.run_on(&sshd, &["compose", "lab", "start", project, service]);
        let expected = format!("[compose][--ansi=never][-p][{project}][start][{service}]\n");
        assert_eq!((ended.code(), ended.stdout), (0, expected), "{}", ended.stderr);
    }
    for name in ["-x", "--all", "a b", "a/b", "$x", "..", ""] {
        for words in [["start", "--", name, "a"], ["start", "--", "a", name]] {
            let ended = home.run_on(&sshd, &[&["compose", "lab"], &words[..]].concat());
            assert_eq!(ended.code(), 2, "{words:?}: {ended:?}");
            assert!(ended.stderr.starts_with("sshpool: invalid "), "{ended:?}");
        }
    }
}

/// Hosts that are one server: what they do is told by host.
fn two_hosts(home: &Home, sshd: &Sshd) {
    let mut text = "[groups]\nall = \"h[1-2]\"\n".to_owned();
    for name in ["h1", "h2"] {
        text += &format!(
            "[hosts.{name}]\naddress = \"127.0.0.1\"\nport = {}\nuser = {:?}\nidentity_file = {:?}\n\
             ssh_config = \"none\"\ndocker = {{ program = \"{name}-docker\" }}\n\
             [hosts.{name}.options]\nUserKnownHostsFile = {:?}\nGlobalKnownHostsFile = \"none\"\n",
            sshd.port(),
            sshd.user(),
            sshd.identity_file(),
            sshd.known_hosts(),
        );
    }
    home.config(&text);
}

#[test]
fn g5_actions_on_several_hosts_are_told_before_and_done_by_yes() {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    two_hosts(&home, &sshd);
    let done = format!("{directory}/done");
    let acts = format!(
        "#!/bin/sh\ncase \" $* \" in *' restart '*) echo \"${{0##*/}} $*\" >>{done}; \
         echo ' Container shop-web-1  Restarting' >&2; [ \"${{0##*/}}\" = h1-docker ] || \
         {{ echo no such service: web >&2; exit 14; }} ;; *) echo one; echo two ;; esac"
    );
    for name in ["h1", "h2"] {
        write(&sshd, &format!("{directory}/{name}-docker"), &acts);
    }
    let asked = |words: &[&str]| home.run_on(&sshd, &[&["compose"], words].concat());
    let done = || sshd.exec(&format!("sort {done}")).stdout;

    // Nobody can be asked.
    for hosts in ["h[1-2]", "@all", "h1,h2"] {
        let ended = asked(&[hosts, "restart", "shop", "web"]);
        let expected = "sshpool: restart shop web on 2 hosts (h[1-2]): --yes does it, and there is \
            no terminal to ask on\n";
        assert_eq!((ended.code(), &*ended.stderr), (2, expected));
    }
    assert_eq!(done(), "");

    let ended = asked(&["h[1-2]", "restart", "shop", "web", "--yes"]);
    let mut lines: Vec<_> = ended.stderr.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "h1:  Container shop-web-1  Restarting",
            "h2:  Container shop-web-1  Restarting",
            "h2: no such service: web",
            "sshpool: h2: restart shop web ended with 14",
        ]
    );
    assert_eq!((ended.code(), &*ended.stdout), (14, ""));
    let told = "h1-docker compose --ansi=never -p shop restart web\n\
        h2-docker compose --ansi=never -p shop restart web\n";
    assert_eq!(done(), told);

    // What only looks needs no question.
    let ended = asked(&["@all", "top", "shop"]);
    let mut lines: Vec<_> = ended.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!((ended.code(), lines), (0, vec!["h1: one", "h1: two", "h2: one", "h2: two"]));
    let ended = asked(&["@all", "exec", "--stdin", "--yes", "shop", "web", "cat"]);
    assert_eq!(ended.code(), 2, "{ended:?}");

    // On a terminal it is asked, and only a yes is one.
    for (answer, happens) in [("n", false), ("", false), ("y", true)] {
        let before = done();
        let shown = on_a_terminal(&home, "compose h[1-2] restart shop web", answer);
        assert!(shown.contains("h1: restart shop web\r\n"), "{shown}");
        assert!(shown.contains("h2: restart shop web\r\n"), "{shown}");
        assert!(shown.contains("Do this on 2 hosts? [y/N] "), "{shown}");
        assert_eq!(shown.contains("sshpool: nothing was done"), !happens, "{shown}");
        assert_eq!(done() != before, happens);
    }
}

/// Runs the program on a terminal of `script`, gives this answer to its question, and gives what
/// was to be seen.
fn on_a_terminal(home: &Home, words: &str, answer: &str) -> String {
    let mut terminal = home.in_its_place(
        command("script"),
        [
            "--quiet",
            "--return",
            "--command",
            &format!("{:?} {words}", env!("CARGO_BIN_EXE_sshpool")),
            "/dev/null",
        ],
    );
    let mut child = terminal
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux has script");
    let (mut stdin, mut stdout) =
        (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let (mut shown, mut is_answered) = (String::new(), false);
    loop {
        let mut bytes = [0; 4096];
        let read = stdout.read(&mut bytes).expect("a pipe can be read");
        if read == 0 {
            break;
        }
        shown += &String::from_utf8_lossy(&bytes[..read]);
        if !is_answered && shown.contains("[y/N] ") {
            stdin.write_all(format!("{answer}\r").as_bytes()).expect("somebody reads");
            is_answered = true;
        }
    }
    common::process::wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    shown
}

/// A docker whose events and figures come as those of Compose 2.26 do, with a notice among them.
const GOES_ON: &str = r#"#!/bin/sh
case "$*" in
*' stats --format=json'*)
    printf '\033[2J\033[H{"CPUPerc":"0.00%%","Name":"shop-web-1"}\n'
    printf '{"CPUPerc":"1.00%%","Name":"shop-db-1"}\033[K\n\033[J' ;;
*' stats '*|*' stats') printf '\033[2J\033[HNAME CPU %%\nshop-web-1 0.00%%\n' ;;
*' events --json'*) printf 'WARN[0000] old\n{"action":"die","service":"web"}\n' ;;
*) echo '2026-01-01 container die 1f00' ;;
esac
"#;

#[test]
fn streams_come_line_by_line_and_json_has_the_host() {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    two_hosts(&home, &sshd);
    write(&sshd, &format!("{directory}/h1-docker"), GOES_ON);
    write(&sshd, &format!("{directory}/h2-docker"), "#!/bin/sh\necho 'no such thing' >&2; exit 3");
    let asked = |words: &[&str]| home.run_on(&sshd, &[&["compose"], words].concat());
    let stats = "{\"host\":\"h1\",\"CPUPerc\":\"0.00%\",\"Name\":\"shop-web-1\"}\n\
        {\"host\":\"h1\",\"CPUPerc\":\"1.00%\",\"Name\":\"shop-db-1\"}\n";
    let event = "{\"host\":\"h1\",\"action\":\"die\",\"service\":\"web\"}\n";
    for (words, expected) in [
        (&["h1", "stats", "shop", "--json"][..], stats),
        (&["h1", "stats", "shop"], "NAME CPU %\nshop-web-1 0.00%\n"),
        (&["h1", "events", "shop", "web", "--json"], event),
        (&["h1", "events", "shop"], "2026-01-01 container die 1f00\n"),
    ] {
        let ended = asked(words);
        assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, expected, ""), "{words:?}");
    }
    // One that fails keeps the others from nothing.
    let failed = "sshpool: h2: docker compose failed with code 3: no such thing\n";
    let ended = asked(&["h[1-2]", "events", "shop", "--json"]);
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (255, event, failed));
    let ended = asked(&["@all", "stats", "shop"]);
    assert_eq!(ended.stdout, "h1: NAME CPU %\nh1: shop-web-1 0.00%\n");
}

/// Ctrl-C ends what runs there, though it says nothing.
#[rstest]
#[case::over_the_agent(&[])]
#[case::by_itself(&["--no-agent"])]
fn an_interrupt_ends_a_stream_on_the_host(#[case] way: &[&str]) {
    let home = Home::new();
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path().to_str().expect("text");
    let sshd = Sshd::builder().env("PATH", &format!("{directory}:/usr/bin:/bin")).start();
    let pid = format!("{directory}/pid");
    write(
        &sshd,
        &format!("{directory}/docker"),
        &format!("#!/bin/sh\necho $$ >{pid}\necho '{{\"a\":1}}'\nexec sleep 300"),
    );
    let words = [way, &["compose", "lab", "events", "shop", "--json"]].concat();
    let mut child = home.on(&sshd, &words).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = [0; 8];
    let stdout = child.stdout.as_mut().expect("a pipe");
    stdout.read_exact(&mut line).expect("a line comes while it goes on");
    assert_eq!(&line, b"{\"host\":");
    let remote = sshd.exec(&format!("cat {pid}")).stdout.trim().parse().expect("a pid");
    assert!(sshd.is_alive(remote));
    let signal = nix::sys::signal::Signal::SIGINT;
    let own = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(own, signal).expect("it is our child");
    let status =
        common::process::wait_until(&mut child, Instant::now() + PATIENCE).expect("it ends");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2));
    common::wait_for("the end of docker on the host", PATIENCE, || !sshd.is_alive(remote));
}

/// G10: where no shell does what it is asked, its words are the reason.
#[test]
fn g10_an_account_that_is_turned_away_is_told_with_its_words() {
    let Some(sshd) = Sshd::builder().login_shell("/usr/sbin/nologin").start_or_skip() else {
        return;
    };
    let home = Home::new();
    for words in [&["resources", "lab"][..], &["compose", "lab", "ls"]] {
        let ended = home.run_on(&sshd, words);
        assert_eq!(ended.code(), 255);
        assert!(ended.stderr.contains("This account is currently not available."), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    }
}

#[rstest]
fn g10_a_path_without_sh_is_told_with_the_words_of_the_shell(
    #[values("/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/local/bin/ash")] shell: &str,
) {
    let server = Sshd::builder().login_shell(shell).env("PATH", "/nonexistent");
    let Some(sshd) = server.start_or_skip() else { return };
    let home = Home::new();
    let ended = home.run_on(&sshd, &["resources", "lab"]);
    assert_eq!(ended.code(), 255);
    assert!(ended.stderr.contains("not found"), "{ended:?}");
    // Nor does anything else wait for programs that are not there.
    assert_eq!(home.exec(&sshd, "echo here"), "here\n");
    let ended = home.run_on(&sshd, &["compose", "lab", "ls"]);
    let expected = "sshpool: lab: docker is not installed, or not on the PATH of this account\n";
    assert_eq!(ended.stderr, expected);
}

/// Those of version 1 or 2, as this machine has them.
#[test]
fn g7_limits_of_a_container_are_shown() {
    let memory = 300 << 20;
    let server = Sshd::builder().run_option("--memory=300m").run_option("--cpus=1.5");
    let Some(sshd) = server.start_or_skip() else { return };
    if sshd.kind() == Kind::Process {
        return common::skip("a private sshd process has no limits of its own");
    }
    let ended = Home::new().run_on(&sshd, &["resources", "lab", "--json"]);
    let answers: Value = serde_json::from_str(&ended.stdout).expect("it is JSON");
    let cgroup = &answers[0]["cgroup"];
    assert_eq!(cgroup["cpu_limit"], 1.5, "{answers}");
    assert_eq!(cgroup["memory_limit_bytes"], memory, "{answers}");
    let used = cgroup["memory_used_bytes"].as_u64().expect("it is told");
    assert!(used > 0 && used <= memory, "{answers}");
    assert!(answers[0]["memory"]["total_bytes"].as_u64().is_some_and(|total| total > memory));
    assert!(answers[0]["swap"]["total_bytes"].is_u64(), "{answers}");
    let df = sshd.exec("df -P -i /").stdout;
    let inodes = df.lines().last().and_then(|line| line.split_whitespace().nth(1));
    let root = answers[0]["disks"].as_array().expect("disks").iter().find(|d| d["mount"] == "/");
    let total = root.expect("there is a root")["inodes"]["total"].as_u64();
    assert_eq!(total.map(|total| total.to_string()).as_deref(), inodes, "{answers}");
}
