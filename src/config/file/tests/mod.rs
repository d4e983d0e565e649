mod hosts;
mod pool;
mod structure;

use std::fs;
use std::path::Path;

use rstest::rstest;

use crate::config::{Config, ConfigError, PoolConfig};

fn read(text: &str) -> Result<Config, ConfigError> {
    Config::from_toml(text, Path::new("config.toml"))
}

fn message(text: &str) -> String {
    let message = read(text).expect_err("the file is not valid").to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    message
}

#[rstest]
#[case::nothing("")]
#[case::comment("# nothing\n")]
#[case::byte_order_mark("\u{feff}[pool]\n")]
#[case::empty_tables("[pool]\n[hosts]\n")]
fn an_empty_file_gives_the_defaults(#[case] text: &str) {
    let config = read(text).expect("valid");
    assert_eq!(config.pool, PoolConfig::default());
    assert!(config.hosts.is_empty());
}

#[test]
fn loading() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.toml");
    let load = |content: &[u8]| {
        fs::write(&path, content).expect("written");
        Config::load(&path)
    };
    let shown = path.display();

    let config = load(b"[hosts.web1]\nidentity_file = 'key'").expect("valid");
    assert_eq!(
        config.hosts["web1"].get_identity_file(),
        Some(directory.path().join("key").as_path())
    );
    let error = load(b"[pool]\nx = 1").expect_err("unknown key").to_string();
    assert!(error.starts_with(&format!("{shown}:2: unknown key \"x\" in [pool]: ")), "{error}");
    let error = load(b"[pool]\n# \xff").expect_err("not UTF-8").to_string();
    assert_eq!(error, format!("{shown}:2: not UTF-8: save the file as UTF-8 text"));
}

#[rstest]
#[case::missing(
    "no-such-directory/config.toml",
    "cannot read no-such-directory/config.toml: No such file or directory"
)]
#[case::directory("/", "cannot read /: Is a directory")]
#[case::control_characters(
    "no\nsuch\u{1b}",
    "cannot read no\\nsuch\\u{1b}: No such file or directory"
)]
fn a_file_that_cannot_be_read(#[case] path: &str, #[case] expected: &str) {
    assert_eq!(Config::load(Path::new(path)).expect_err("unreadable").to_string(), expected);
}

#[test]
fn b10_a_mark_and_the_line_ends_of_windows_say_nothing() {
    let text = "\u{feff}[hosts.\"a+b\"]  \r\nport = 2222\t\r\n[groups]\r\nall = 'a+b,x^y[1-2]'\r\n";
    let config = read(text).expect("valid");
    assert_eq!(config.host("a+b").expect("a host").get_port(), Some(2222));
    assert_eq!(config.host_set("@all").expect("a group").to_string(), "a+b,x^y[1-2]");
    let message = message("\u{feff}[pool]\r\nx = 1\r\n");
    assert!(message.starts_with("config.toml:2: unknown key \"x\""), "{message}");
}

/// A good file, damaged at every place in many ways: no panic, and every error is one line with
/// a place.
#[test]
fn damaged_files_never_panic() {
    let good = "[pool]\nidle_timeout = \"1.5s\"\nmax_output = 0x10\n[hosts.'ä']\nport = \
        22\noptions = { A = true, B = [1] }\n";
    let damages = ["\0", "\n", "\"", "'''", "[", "}", ".", "=", "-", "9", "é", "\\u"];
    for index in (0..=good.len()).filter(|&index| good.is_char_boundary(index)) {
        let (before, after) = good.split_at(index);
        let rest: String = after.chars().skip(1).collect();
        let damaged = damages.map(|damage| format!("{before}{damage}{rest}"));
        for text in damaged.into_iter().chain([before.to_owned(), after.to_owned()]) {
            if let Err(error) = read(&text) {
                let error = error.to_string();
                assert!(
                    error.starts_with("config.toml:") && !error.contains(char::is_control),
                    "{error:?}"
                );
            }
        }
    }
    let deep = format!("a = {}", "[".repeat(100_000));
    assert!(message(&deep).starts_with("config.toml:1: not valid TOML: "));
}
