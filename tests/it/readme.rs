//! What README.md and docs/ show is true: the examples are run, the table of settings is compared
//! with the settings.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;

use sshpool::{Config, PoolConfig};

use crate::lab::common::process::{path_with_sshpool, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::documents::{blocks, matches, section};
use crate::lab::itself;
use crate::lab::pooled::{PATIENCE, command, example};

const README: &str = include_str!("../../README.md");
const GUIDE: &str = include_str!("../../docs/ssh-connection-pooling.md");
const QUICKSTART: &str = include_str!("../../examples/quickstart.rs");
const MANY: &str = include_str!("../../examples/many.rs");

/// Without the section that needs a host with Docker: that is for tests/docker_docs.rs.
fn readme() -> String {
    README.replace(section(README, "## Docker hosts"), "")
}

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
    assert_eq!(blocks(&readme(), "rust"), [QUICKSTART, MANY]);
}

#[test]
fn the_library_example_prints_what_the_readme_says() {
    let sshd = Sshd::builder().start();
    let mut program = command(example("quickstart"));
    program.arg("lab").arg(sshd.ssh_config()).env("SSH_POOL_CONNECTION_TIMEOUT_MS", "30000");
    let ended = run(&mut program, PATIENCE);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{}", ended.stdout);
    assert_eq!(ended.stdout, blocks(section(README, "## From Rust"), "text")[0]);
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn the_example_of_many_hosts_prints_what_the_readme_says() {
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
    let expected = blocks(section(README, "## From Rust"), "text")[1];
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
    let text = section(README, "## From Rust");
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

    let steps: Vec<_> = blocks(&readme(), "console").into_iter().flat_map(steps).collect();
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
    let table = table(section(README, "## Settings"));
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
            Config::from_toml(&format!("[pool]\n{name} = {value}\n"), "README.md".as_ref());
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
    for row in table(section(README, "## Settings")) {
        let (name, variable) = (code(row[0]), code(row[2]));
        let mut defaults = fields(&PoolConfig::default());
        let value = if defaults[name] == "true" { "false" } else { "77" };
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
            matches!(changed[..], [(_, set)] if set.starts_with(value)),
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
    for (name, text) in
        [("README.md", section(README, "## Settings")), ("docs/ssh-connection-pooling.md", GUIDE)]
    {
        for block in blocks(text, "toml") {
            let config = Config::from_toml(block, name.as_ref())
                .unwrap_or_else(|error| panic!("{error}\n{block}"));
            assert_ne!(config, Config::default(), "it says something:\n{block}");
        }
    }
}
