//! What docs/cli.md shows is what happens: its console blocks are run, over an agent, but for those
//! of `sshpool run` and `sshpool ssh` (tests/run.rs and tests/ssh.rs have that), and it leaves no
//! subcommand and no option out.

use std::os::unix::fs::DirBuilderExt;
use std::process::Command;

use crate::lab::common;
use crate::lab::common::process::{path_with_sshpool, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::documents::{blocks, matches, section};
use crate::lab::pooled::{self, PATIENCE};

const GUIDE: &str = include_str!("../../docs/cli.md");

fn command(program: &str) -> Command {
    let mut command = pooled::command(program);
    command.env("PATH", path_with_sshpool());
    command
}

/// The options in the help of a command, by their long names where they have one.
fn options(path: &[&str]) -> Vec<String> {
    let help = run(command("sshpool").args(path).arg("-h"), PATIENCE).stdout;
    let lines = help
        .lines()
        .skip_while(|line| *line != "Options:")
        .skip(1)
        .take_while(|line| line.starts_with(' '));
    let names = lines.filter_map(|line| {
        // An explanation that goes on in the next line begins with something else.
        let words = line.split_whitespace().take_while(|word| word.starts_with('-'));
        words.last()?.split(['[', ',', '.']).next()
    });
    names.map(str::to_owned).collect()
}

#[test]
fn the_console_blocks_print_what_they_say() {
    let sshd = Sshd::builder().start();
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("sshpool");
    std::fs::create_dir(&directory).expect("a directory in a new directory");
    let config = format!(
        "pool.connect_timeout = \"30s\"\n\
         [hosts.web1]\naddress = \"127.0.0.1\"\nport = {}\nuser = {:?}\nidentity_file = {:?}\nssh_config = \"none\"\n\
         [hosts.web1.options]\nUserKnownHostsFile = {:?}\nGlobalKnownHostsFile = \"none\"\n\
         [hosts.db1]\naddress = \"127.0.0.1\"\nport = 1\nssh_config = \"none\"\n",
        sshd.port(),
        sshd.user(),
        sshd.identity_file(),
        sshd.known_hosts(),
    );
    std::fs::write(directory.join("config.toml"), config).expect("a file in a new directory");

    let runtime = home.path().join("run");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&runtime)
        .expect("a directory in a new directory");
    let text = ["run", "ssh"].iter().fold(GUIDE.to_owned(), |text, name| {
        text.replace(section(GUIDE, &format!("## sshpool {name}")), "")
    });
    let jq = run(pooled::command("sh").args(["-c", "command -v jq"]), PATIENCE).code() == 0;
    let mut steps: Vec<(&str, String)> = Vec::new();
    for line in blocks(&text, "console").into_iter().flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(line) => steps.push((line, String::new())),
            None => {
                steps.last_mut().expect("a block begins with a command").1 += &format!("{line}\n")
            }
        }
    }
    assert!(steps.len() > 10);
    let mut status = 0;
    for (line, expected) in steps {
        if line.contains("jq ") && !jq {
            common::skip("there is no jq");
            continue;
        }
        // The status of the step before is there to be printed, as at a prompt.
        let mut shell = command("sh");
        shell.args(["-c", &format!("exec 2>&1; (exit {status})\n{line}")]).current_dir(home.path());
        shell
            .env("XDG_CONFIG_HOME", home.path())
            .env("XDG_RUNTIME_DIR", &runtime)
            .env_remove("SSHPOOL_AGENT");
        let ended = run(&mut shell, PATIENCE);
        assert!(
            matches(&expected, &ended.stdout),
            "$ {line}\n{}instead of\n{expected}",
            ended.stdout
        );
        status = ended.code();
    }
    // The section of the agent has stopped it, and nothing behind that starts another.
    assert!(!runtime.join("sshpool/agent.sock").exists());
}

#[test]
fn every_subcommand_has_its_section() {
    let help = run(command("sshpool").arg("-h"), PATIENCE).stdout;
    let names = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty());
    let names: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 10, "{help}");
    for name in names.into_iter().filter(|name| *name != "help") {
        let heading = format!("\n## sshpool {name}\n");
        assert!(GUIDE.contains(&heading), "there is no{heading}");
        assert!(
            GUIDE.contains(&format!("[`{name}`](#sshpool-{name})")),
            "{name} is not in the first table"
        );
    }
}

#[test]
fn the_options_of_what_is_told_here_are_told() {
    for (path, heading) in [
        (&[][..], "## Options of every command"),
        (&["exec"], "## sshpool exec"),
        (&["compose"], "## sshpool compose"),
        (&["cp"], "## sshpool cp"),
        (&["resources"], "## sshpool resources"),
        (&["forward"], "## sshpool forward"),
        (&["forward", "ls"], "## sshpool forward"),
        (&["forward", "rm"], "## sshpool forward"),
        (&["docker"], "## sshpool docker"),
        (&["docker-env"], "## sshpool docker-env"),
        (&["warm"], "## sshpool warm"),
        (&["status"], "## sshpool status"),
        (&["close"], "## sshpool close"),
        (&["metrics"], "## sshpool metrics"),
        (&["agent"], "## sshpool agent"),
        (&["agent", "stop"], "## sshpool agent"),
        (&["doctor"], "## sshpool doctor"),
        (&["man"], "## sshpool man"),
    ] {
        let everywhere = ["--config", "--verbose", "--no-agent", "--help", "--version", "-F"];
        for option in options(path) {
            let is_told = section(GUIDE, heading).contains(&option);
            assert!(
                is_told || !path.is_empty() && everywhere.contains(&&*option),
                "{heading}: {option}"
            );
        }
    }
}
