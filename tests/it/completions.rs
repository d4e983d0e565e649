//! Completions load in the shells that they are for and complete what is there; man pages are
//! well-formed and name every subcommand.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::process::Command;

use rstest::rstest;
use tempfile::TempDir;

use crate::lab::common::process::{Ended, path, path_with_sshpool, run};
use crate::lab::common::skip;
use crate::lab::pooled::{self, PATIENCE};

/// A home with hosts in both files, and one that is included.
struct Home(TempDir);

impl Home {
    fn new() -> Home {
        let home = Home(tempfile::tempdir().expect("a directory"));
        home.write(".config/sshpool/config.toml", "[hosts.web1]\n[hosts.web2]\nport = 22\n");
        home.write(".ssh/config", "Include more/*\nHost web3 *.internal !not\n  User x\nHost *\n");
        home.write(".ssh/more/a", "Host db1 db2\n");
        home.write("other/config", "Host web9\n");
        home.write("other/file name", "");
        home
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    /// A program in this home, with `sshpool` on PATH.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = pooled::command(program);
        command.env("PATH", path_with_sshpool()).env("HOME", self.0.path()).env("TERM", "dumb");
        command.current_dir(self.0.path());
        command
    }

    /// What this shell offers at the end of the line, or none where there is no such shell.
    fn offered(&self, shell: &str, line: &str) -> Option<Vec<String>> {
        let ended = match shell {
            "bash" => self.bash(line),
            "zsh" => self.zsh(line),
            _ => run(self.command("fish").args(["--no-config", "-c", FISH, line]), PATIENCE),
        };
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{shell}: {line}");
        let words =
            ended.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned());
        Some(words.collect())
    }

    fn bash(&self, line: &str) -> Ended {
        run(self.command("bash").args(["--norc", "-c", BASH, "bash", line]), PATIENCE)
    }

    fn zsh(&self, line: &str) -> Ended {
        run(self.command("zsh").args(["-f", "-c", ZSH, "zsh", line]), PATIENCE)
    }
}

/// As bash itself calls it.
const BASH: &str = r#"
source <(sshpool completions bash)
COMP_LINE=$1 COMP_POINT=${#1}
_sshpool sshpool
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// compinit loads it; what would be shown is caught where it is handed over.
const ZSH: &str = r#"
autoload -Uz compinit && compinit -u -D
source <(sshpool completions zsh)
[[ $_comps[sshpool] == _sshpool ]] || print -u2 "it is not loaded"
_describe() { shift $(( $# - 1 )); print -rl -- "${(@)${(@P)1}%%:*}"; }
_files() { print -r -- "FILES $*"; }
compset() { return 1; }
words=("${(@s: :)1}")
CURRENT=$#words PREFIX=$words[-1]
# Its status says whether there was something to offer.
_sshpool || true
"#;

/// One that is installed for all users is another one.
const FISH: &str = r#"
set fish_complete_path
sshpool completions fish | source
complete -C $argv[1]
"#;

/// Whether the shell is there; the test is skipped without it.
fn is_there(shell: &str) -> bool {
    let there = which::which_in(shell, Some(path()), "/").is_ok();
    if !there {
        skip(&format!("there is no {shell}"));
    }
    there
}

#[rstest]
#[case::subcommand("sshpool doct", &["doctor"])]
#[case::option("sshpool exec --time", &["--timeout"])]
#[case::option_behind_others("sshpool -v exec --timeout 5s --max", &["--max-output"])]
#[case::hosts("sshpool exec w", &["web1", "web2", "web3"])]
#[case::included_hosts("sshpool doctor db", &["db1", "db2"])]
#[case::hosts_of_another_file("sshpool -F other/config exec web", &["web1", "web2", "web9"])]
#[case::action("sshpool compose web1 resta", &["restart"])]
#[case::values("sshpool completions z", &["zsh"])]
#[case::pages("sshpool man exe", &["exec"])]
#[case::nothing("sshpool exec web1 -- l", &[])]
fn words_are_completed(
    #[values("bash", "zsh", "fish")] shell: &str,
    #[case] line: &str,
    #[case] expected: &[&str],
) {
    if !is_there(shell) {
        return;
    }
    let offered = Home::new().offered(shell, line).expect("it is there");
    let offered: Vec<_> = offered.iter().filter(|word| !word.is_empty()).collect();
    assert_eq!(offered, expected, "{shell}: {line}");
}

/// bash takes what begins with `@`, and what stands behind `:`, for a word of its own.
#[rstest]
#[case::bash("bash", "@web1")]
#[case::zsh("zsh", "me@web1")]
#[case::fish("fish", "me@web1")]
fn a_user_stands_before_a_host(#[case] shell: &str, #[case] expected: &str) {
    if is_there(shell) {
        assert_eq!(
            Home::new().offered(shell, "sshpool exec me@web1").expect("it is there"),
            [expected]
        );
    }
}

#[rstest]
#[case::bash("bash", "other/file name")]
#[case::zsh("zsh", "FILES ")]
#[case::fish("fish", "other/file name")]
fn files_are_completed_by_the_shell(#[case] shell: &str, #[case] expected: &str) {
    if is_there(shell) {
        let offered = Home::new().offered(shell, "sshpool --config other/fi").expect("it is there");
        assert_eq!(offered, [expected], "{shell}");
    }
}

/// As a file in a directory of `$fpath`.
#[test]
fn zsh_loads_it_from_its_path() {
    if !is_there("zsh") {
        return;
    }
    let home = Home::new();
    let script = run(home.command("sshpool").args(["completions", "zsh"]), PATIENCE).stdout;
    home.write("functions/_sshpool", &script);
    let line = "fpath=($HOME/functions $fpath); autoload -Uz compinit && compinit -u -D && print $_comps[sshpool]";
    let ended = run(home.command("zsh").args(["-f", "-c", line]), PATIENCE);
    assert_eq!((&*ended.stdout, &*ended.stderr), ("_sshpool\n", ""));
}

/// Whoever types does not want to read errors.
#[test]
fn what_goes_wrong_is_silence() {
    let home = Home::new();
    home.write(".config/sshpool/config.toml", "[pool\n");
    home.write(".ssh/config", "Include \"/nonexistent/*\" config\nHost \"\nInclude [\n\u{0}\n");
    let many = "x".repeat(100_000);
    for words in [
        &["exec", ""][..],
        &["--config", "/dev/zero", "exec", ""],
        &["-F", "/", "exec", "w"],
        &[],
        &[&many, ""],
    ] {
        let ended = run(home.command("sshpool").arg("__complete").args(words), PATIENCE);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{words:?}");
        assert!(ended.stdout.starts_with("words\n"), "{}", ended.stdout);
    }
    use std::os::unix::ffi::OsStringExt;
    let ended = run(
        home.command("sshpool")
            .args(["__complete", "exec"])
            .arg(OsString::from_vec(b"\xff".into())),
        PATIENCE,
    );
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "words\n", ""));
}

/// Nothing but silence where the program is gone, from the whole PATH: another one may be installed
/// beside the shell.
#[rstest]
#[case::bash("bash", BASH)]
#[case::fish("fish", FISH)]
fn a_program_that_is_gone_is_no_noise(#[case] shell: &str, #[case] load: &str) {
    if !is_there(shell) {
        return;
    }
    let home = Home::new();
    let script = run(home.command("sshpool").args(["completions", shell]), PATIENCE).stdout;
    home.write("script", &script);
    let load = load
        .replace("<(sshpool completions bash)", "./script")
        .replace("sshpool completions fish | source", "source script");
    let mut command = home.command(which::which_in(shell, Some(path()), "/").expect("it is there"));
    command.env("PATH", home.0.path());
    match shell {
        "bash" => command.args(["--norc", "-c", &load, "bash", "sshpool exec w"]),
        _ => command.args(["--no-config", "-c", &load, "sshpool exec w"]),
    };
    let ended = run(&mut command, PATIENCE);
    assert_eq!((ended.stdout.trim(), &*ended.stderr), ("", ""));
}

/// The names that the help lists under "Commands:", for each of those with their path.
fn subcommands(home: &Home, path: &[String]) -> Vec<Vec<String>> {
    let help = run(home.command("sshpool").args(path).arg("-h"), PATIENCE).stdout;
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let names =
        list.take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let names =
        names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    let mut found = Vec::new();
    for name in names {
        let path = [path, &[name.to_owned()]].concat();
        found.extend(subcommands(home, &path));
        found.push(path);
    }
    found
}

#[test]
fn man_pages_are_there_for_every_subcommand_and_well_formed() {
    let home = Home::new();
    let out = home.0.path().join("man/man1");
    let ended = run(home.command("sshpool").args(["man", "--out"]).arg(&out), PATIENCE);
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "", ""));
    let all = subcommands(&home, &[]);
    assert!(all.len() > 10, "{all:?}");
    let main = fs::read_to_string(out.join("sshpool.1")).expect("it was written");
    for path in &all {
        let page = format!("sshpool-{}.1", path.join("-"));
        let text =
            fs::read_to_string(out.join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        let printed = run(home.command("sshpool").arg("man").args(path), PATIENCE);
        assert_eq!((printed.code(), &printed.stdout), (0, &text), "{page}");
        let name = format!("sshpool\\-{}(1)", path.join("-").replace('-', "\\-"));
        assert!(path.len() > 1 || main.contains(&name), "{name} is not in the page of the program");
    }
    let pages: Vec<_> =
        fs::read_dir(&out).expect("it is there").flatten().map(|file| file.path()).collect();
    assert_eq!(pages.len(), all.len() + 1);

    if is_there("man") {
        for page in &pages {
            let mut man = home.command("man");
            // What groff has to say about it, and nothing else, is on stderr then.
            man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]).arg(page);
            let ended = run(man.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80"), PATIENCE);
            assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", page.display());
        }
    }
    if is_there("mandoc") {
        for page in &pages {
            let ended = run(
                home.command("mandoc").args(["-T", "lint", "-W", "warning"]).arg(page),
                PATIENCE,
            );
            // The same version is the same page, whenever it is made: it has no date.
            let remarks: Vec<_> =
                ended.stdout.lines().filter(|line| !line.contains("missing date")).collect();
            assert_eq!(remarks, [""; 0], "{}", page.display());
        }
    }
}

#[test]
fn a_page_that_is_not_there_is_wrong_usage() {
    let home = Home::new();
    let ended = run(home.command("sshpool").args(["man", "compose", "bogus"]), PATIENCE);
    let message = "sshpool: no such subcommand of sshpool-compose: \"bogus\"\n";
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (2, "", message));
    let ended = run(home.command("sshpool").args(["man", "--out", "/dev/null/x"]), PATIENCE);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (255, 1), "{}", ended.stderr);
}
