//! What README.md and docs/ show is true: the examples are run, the table of settings is compared
//! with the settings.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sshpool::{Config, PoolConfig};

use crate::lab::common::process::{make_program, path_with, path_with_sshpool, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::documents::{blocks, matches, section};
use crate::lab::itself;
use crate::lab::pooled::{PATIENCE, command, example};

const README: &str = include_str!("../../README.md");
const LIBRARY: &str = include_str!("../../docs/library.md");
const SETTINGS: &str = include_str!("../../docs/settings.md");
const HELLO: &str = include_str!("../../examples/hello.rs");
const QUICKSTART: &str = include_str!("../../examples/quickstart.rs");
const MANY: &str = include_str!("../../examples/many.rs");

/// The cells of the rows of the first table, without its head.
fn table(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    rows.take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn code(cell: &str) -> &str {
    cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')).expect("the cell is code")
}

// ---- the library example ----

#[test]
fn the_library_examples_are_those_that_are_built() {
    assert_eq!(blocks(README, "rust"), [HELLO]);
    assert_eq!(blocks(LIBRARY, "rust"), [QUICKSTART, MANY]);
}

#[test]
fn the_library_example_prints_what_is_shown() {
    let sshd = Sshd::builder().start();
    let mut program = command(example("quickstart"));
    program.arg("lab").arg(sshd.ssh_config()).env("SSH_POOL_CONNECTION_TIMEOUT_MS", "30000");
    let ended = run(&mut program, PATIENCE);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
    assert_eq!(ended.stdout, blocks(LIBRARY, "text")[0]);
    assert_eq!(sshd.logins(), 1);
}

/// Its host is found where ssh finds it: an ssh on the way says which ssh_config is the user's.
#[test]
fn the_shortest_example_runs_two_commands_over_one_login() {
    let sshd = Sshd::builder().start();
    let home = tempfile::tempdir().expect("a directory");
    let ssh_config = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let config = home.path().join("ssh_config");
    std::fs::write(&config, ssh_config.replace("Host lab", "Host web1")).expect("a file");
    let ssh = which::which("ssh").expect("there is an ssh");
    let wrapper = home.path().join("ssh");
    let text = format!(
        "#!/bin/sh\ncase \" $* \" in *' -F '*) exec {ssh:?} \"$@\" ;; esac\nexec {ssh:?} -F {config:?} \"$@\"\n"
    );
    make_program(&wrapper, &text);

    let mut program = command(example("hello"));
    program.env("PATH", path_with(home.path())).env("SSH_POOL_CONNECTION_TIMEOUT_MS", "30000");
    let ended = run(&mut program, PATIENCE);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
    assert_eq!(ended.stdout, "Linux\n42\n");
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn the_example_of_many_hosts_prints_what_is_shown() {
    let (sshd, stranger, down) =
        (Sshd::builder().start(), Sshd::builder().start(), Sshd::builder().start());
    down.kill();
    // The second server lets its own key in, and not that of the first.
    let hosts = [("web1", &sshd), ("web2", &stranger), ("web3", &down)];
    let text: String = hosts.iter().map(|(name, server)| host_table(name, server, &sshd)).collect();
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("config.toml");
    std::fs::write(&file, format!("pool.connect_timeout = \"30s\"\n{text}"))
        .expect("a file in a new directory");

    let ended = run(command(example("many")).arg(&file), PATIENCE);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
    let expected = blocks(LIBRARY, "text")[1];
    assert!(matches(expected, &ended.stdout), "{}instead of\n{expected}", ended.stdout);
    assert_eq!((sshd.logins(), stranger.logins()), (1, 0));
}

/// `[hosts.NAME]` for this server, with the key of another.
fn host_table(name: &str, sshd: &Sshd, key: &Sshd) -> String {
    format!(
        "[hosts.{name}]\naddress = \"127.0.0.1\"\nport = {}\nuser = {:?}\nidentity_file = {:?}\nssh_config = \"none\"\n\
         [hosts.{name}.options]\nUserKnownHostsFile = {:?}\nGlobalKnownHostsFile = \"none\"\n",
        sshd.port(),
        sshd.user(),
        key.identity_file(),
        sshd.known_hosts(),
    )
}

#[test]
fn the_way_to_depend_on_the_library_is_right() {
    let text = section(LIBRARY, "## How to depend on it");
    let shown: toml::Table = blocks(text, "toml")[0].parse().expect("it is TOML");
    assert_eq!(shown["dependencies"]["sshpool"]["default-features"], toml::Value::Boolean(false));
    let version = concat!("Rust ", env!("CARGO_PKG_RUST_VERSION"), " or later");
    assert!(text.contains(version), "{version}");
}

// ---- the program ----

/// One line behind `$ `, and what follows it up to the next.
struct Step {
    line: String,
    output: String,
}

fn steps(block: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("$ ") {
            Some(line) => steps.push(Step { line: line.to_owned(), output: String::new() }),
            None => {
                let output = &mut steps.last_mut().expect("a block begins with a command").output;
                *output += line;
                *output += "\n";
            }
        }
    }
    steps
}

#[test]
fn the_console_examples_print_what_the_readme_says() {
    let sshd = Sshd::builder().start();
    let home = tempfile::tempdir().expect("a directory");
    let directory = home.path().join("sshpool");
    std::fs::create_dir(&directory).expect("a directory in a new directory");
    let runtime = home.path().join("run");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&runtime)
        .expect("a directory in a new directory");
    let hosts = ["web1", "web2", "web3"].map(|name| host_table(name, &sshd, &sshd)).concat();
    let config = format!("pool.connect_timeout = \"30s\"\n{hosts}");
    std::fs::write(directory.join("config.toml"), config).expect("a file in a new directory");

    let steps: Vec<_> = blocks(README, "console").into_iter().flat_map(steps).collect();
    assert!(steps.iter().any(|step| step.line.starts_with("sshpool exec web1 ")));
    let mut status = 0;
    for Step { line, output } in steps {
        // The status of the step before is there to be printed, as at a prompt.
        let mut shell = command("sh");
        shell.args(["-c", &format!("exec 2>&1; (exit {status})\n{line}")]);
        shell
            .env("PATH", path_with_sshpool())
            .env("XDG_CONFIG_HOME", home.path())
            .env("XDG_RUNTIME_DIR", &runtime);
        shell.env_remove("SSHPOOL_AGENT");
        let ended = run(&mut shell, PATIENCE);
        assert!(matches(&output, &ended.stdout), "$ {line}\n{}instead of\n{output}", ended.stdout);
        status = ended.code();
    }
    let mut stop = command(env!("CARGO_BIN_EXE_sshpool"));
    stop.args(["agent", "stop"])
        .env("XDG_CONFIG_HOME", home.path())
        .env("XDG_RUNTIME_DIR", &runtime);
    assert_eq!(run(&mut stop, PATIENCE).code(), 0);
}

#[test]
fn dots_stand_for_anything_within_a_line() {
    for (expected, actual, right) in [
        ("a\n", "a\n", true),
        ("a…c\n", "abbc\n", true),
        ("a…c…e\n", "abcde\n", true),
        ("a…c\n", "ac\n", true),
        ("a…c\n", "ab\nc\n", false),
        ("a…c\n", "abcd\n", false),
        ("a\n", "ab\n", false),
    ] {
        assert_eq!(matches(expected, actual), right, "{expected:?} {actual:?}");
    }
}

// ---- the settings ----

/// `{ name: value, … }` as names and values.
fn fields(config: &PoolConfig) -> BTreeMap<String, String> {
    let text = format!("{config:#?}");
    let fields = text.lines().filter_map(|line| line.trim().trim_end_matches(',').split_once(": "));
    // This one says of a setting whether it was set, and is none by itself.
    let settings = fields.filter(|(name, _)| *name != "keep_connect_timeout");
    settings.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_table_of_settings_has_every_name_and_default() {
    let table = table(section(SETTINGS, "## Settings of the pool"));
    let names: Vec<_> = table.iter().map(|row| code(row[0]).to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, fields(&PoolConfig::default()).into_keys().collect::<Vec<_>>());

    for row in &table {
        let (name, default) = (code(row[0]), code(row[1]));
        // Numbers and flags stand in the file as they are, durations and sizes in quotes.
        let bare = default.parse::<bool>().is_ok() || default.parse::<u64>().is_ok();
        let value = if bare { default.to_owned() } else { format!("{default:?}") };
        let config =
            Config::from_toml(&format!("[pool]\n{name} = {value}\n"), "docs/settings.md".as_ref());
        let mut pool = config.unwrap_or_else(|error| panic!("{error}")).pool;
        pool.keep_connect_timeout = false;
        assert_eq!(pool, PoolConfig::default(), "the default of {name} is not {default}");
    }
}

/// Where this is set, [`settings_as_this_process_has_them`] prints them.
const ASKED: &str = "SSHPOOL_TEST_PRINT_SETTINGS";

#[test]
fn settings_as_this_process_has_them() {
    if std::env::var_os(ASKED).is_some() {
        println!("{:#?}", PoolConfig::from_env().expect("the value is valid"));
    }
}

/// Each variable is given another value in a process of its own, where the setting in its row, and
/// no other, is another then.
#[test]
fn the_table_of_settings_has_every_variable() {
    for row in table(section(SETTINGS, "## Settings of the pool")) {
        let (name, variable) = (code(row[0]), code(row[2]));
        let mut defaults = fields(&PoolConfig::default());
        let value = match defaults[name].as_str() {
            "true" => "false",
            "Exact" => "off",
            _ => "77",
        };
        let mut other = command(itself::program());
        itself::only(&mut other, "readme::settings_as_this_process_has_them");
        let ended = run(other.env(ASKED, "1").env(variable, value), PATIENCE);
        itself::assert_passed(&ended);

        defaults.remove(name).expect("the setting is there");
        let (changed, unchanged): (Vec<_>, Vec<_>) = ended
            .stdout
            .lines()
            .filter_map(|line| line.trim().trim_end_matches(',').split_once(": "))
            .filter(|(field, _)| *field != "keep_connect_timeout")
            .partition(|(field, _)| *field == name);
        assert!(
            matches!(changed[..], [(_, set)] if set.to_lowercase().starts_with(value)),
            "{variable}: {changed:?}"
        );
        for (field, default) in &defaults {
            assert!(
                unchanged.contains(&(field.as_str(), default.as_str())),
                "{variable} changes {field}"
            );
        }
    }
}

#[test]
fn the_configuration_files_that_are_shown_are_valid() {
    for block in blocks(SETTINGS, "toml") {
        let config = Config::from_toml(block, "docs/settings.md".as_ref())
            .unwrap_or_else(|error| panic!("{error}\n{block}"));
        assert_ne!(config, Config::default(), "it says something:\n{block}");
    }
}

// ---- links ----

/// README.md, CHANGELOG.md and the documents, by their paths in the project.
fn all_documents() -> BTreeMap<PathBuf, String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().expect("it is there");
    let documents = std::fs::read_dir(project.join("docs")).expect("there are documents");
    let documents = documents.map(|entry| entry.expect("an entry").path());
    let all = documents.chain(["README.md", "CHANGELOG.md"].map(|name| project.join(name)));
    all.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| (path.clone(), std::fs::read_to_string(&path).expect("it is text")))
        .collect()
}

/// The lines that are not in a fenced block.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// The headings, as a link names them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = all_documents();
    let mut links = 0;
    for (path, text) in &documents {
        let prose = prose(text).collect::<Vec<_>>().join(" ");
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path.clone(),
                file => path.parent().expect("a directory").join(file),
            };
            let file =
                file.canonicalize().unwrap_or_else(|_| panic!("{}: {target}", path.display()));
            let found = anchor.is_empty()
                || documents
                    .get(&file)
                    .is_some_and(|text| anchors(text).iter().any(|a| a == anchor));
            assert!(found, "{}: {target}", path.display());
        }
    }
    assert!(links > 50, "{links}");
}

/// A first look at the project, which nobody reads to its end if it is long.
#[test]
fn the_readme_is_short() {
    assert!(README.lines().count() <= 150);
    let long: Vec<_> = prose(README).filter(|line| line.chars().count() > 100).collect();
    assert!(long.iter().all(|line| line.starts_with('|')), "{long:#?}");
}
