//! What docs/agent-api.md shows is what happens: its commands, its Python and its JavaScript are
//! run as they stand there.

use rstest::rstest;

use crate::lab::agents::Home;
use crate::lab::common;
use crate::lab::common::process::{Ended, path_with_sshpool, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::documents::{blocks, matches, section};
use crate::lab::pooled::{PATIENCE, command};

const GUIDE: &str = include_str!("../../docs/agent-api.md");

/// A home where `web1` is a server, and this program is on the PATH.
struct Reader {
    home: Home,
    _sshd: Sshd,
}

impl Reader {
    fn new() -> Self {
        let (sshd, home) = (Sshd::builder().start(), Home::new());
        let config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
        let file = home.path().join("ssh_config");
        std::fs::write(&file, config.replace("Host lab", "Host web1")).expect("a file");
        // The settings of the program's clients here, so that those of the API share its pool.
        let pool = "[pool]\nconnect_timeout = \"30s\"\n";
        home.config(&format!("{pool}[hosts.web1]\nssh_config = \"{}\"\n", file.display()));
        Reader { home, _sshd: sshd }
    }

    #[track_caller]
    fn run(&self, program: &str, args: &[&str]) -> Ended {
        let mut command = self.home.in_its_place(command(program), args);
        run(command.env("PATH", path_with_sshpool()), PATIENCE)
    }
}

/// Whether a program is there; otherwise the test is skipped.
fn has(program: &str) -> bool {
    let found = which::which(program).is_ok();
    if !found {
        common::skip(&format!("there is no {program}"));
    }
    found
}

/// The commands of the console blocks, each with what it prints.
fn commands() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in blocks(GUIDE, "console").iter().flat_map(|block| block.lines()) {
        match line.strip_prefix("$ ") {
            Some(command) => all.push((command.to_owned(), String::new())),
            None => {
                let (_, output) = all.last_mut().expect("a block begins with a command");
                output.push_str(line);
                output.push('\n');
            }
        }
    }
    all
}

#[test]
fn the_commands_print_what_is_shown() {
    if !has("curl") {
        return;
    }
    let reader = Reader::new();
    let commands = commands();
    let mark = "-- the end of a command --";
    // One shell for all of them: a function is for the ones below it. An answer of curl ends with a
    // line, except where it is to.
    let script: String =
        commands.iter().map(|(command, _)| format!("{command}\necho '{mark}'\n")).collect();
    let ran = reader.run("sh", &["-c", &script]);
    assert_eq!((ran.code(), &*ran.stderr), (0, ""));
    let printed: Vec<_> = ran.stdout.split(&format!("{mark}\n")).collect();
    assert_eq!(printed.len(), commands.len() + 1);
    for ((command, expected), printed) in commands.iter().zip(printed) {
        assert!(matches(expected, printed), "$ {command}\n{printed}\nand not\n{expected}");
    }
}

#[rstest]
#[case::python("## Python", "python", "python3", "pool.py")]
#[case::node("## Node and TypeScript", "js", "node", "pool.mjs")]
fn the_programs_print_what_is_shown(
    #[case] heading: &str,
    #[case] language: &str,
    #[case] program: &str,
    #[case] file: &str,
) {
    if !has(program) {
        return;
    }
    let reader = Reader::new();
    // Somebody has to start the agent.
    assert_eq!(reader.run("sshpool", &["exec", "web1", "true"]).code(), 0);
    let part = section(GUIDE, heading);
    std::fs::write(reader.home.path().join("work").join(file), blocks(part, language)[0])
        .expect("a file");
    let ran = reader.run(program, &[file]);
    assert_eq!((ran.code(), &*ran.stderr), (0, ""));
    assert!(matches(blocks(part, "text")[0], &ran.stdout), "{}", ran.stdout);
    common::wait_for("the end of what it has left", PATIENCE, || {
        reader.home.status()["agent"]["commands"] == 0
    });
}

/// The tables have every kind with its status, as the description has them.
#[test]
fn the_errors_are_those_of_the_description() {
    let description: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/agent-api.openapi.json"))
            .expect("it is JSON");
    let problem = &description["components"]["schemas"]["Problem"]["properties"];
    let told = |name: &str| {
        let kinds = problem[name]["enum"].as_array().expect("a list").iter();
        kinds.map(|kind| format!("`{}`", kind.as_str().expect("text"))).collect::<Vec<_>>()
    };
    let errors = section(GUIDE, "## Errors");
    for kind in told("kind") {
        assert!(
            errors
                .lines()
                .any(|line| line.starts_with("| ") && line.contains(&format!("| {kind} |"))),
            "{kind}"
        );
    }
    for cause in told("cause") {
        assert!(errors.contains(&cause), "{cause}");
    }
}
