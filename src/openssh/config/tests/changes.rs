//! What is noticed of files later.

use std::path::Path;
use std::time::Duration;

use rstest::rstest;

use super::Tree;
use crate::openssh::config::Source;

/// Each change, just after the files were written and read, within one tick of the clock.
#[rstest]
#[case::nothing("config", |_: &Tree| {}, true)]
#[case::content("config", |tree: &Tree| tree.write("Conf.d/a", "Port 2\n"), false)]
#[case::gone("config", |tree: &Tree| std::fs::remove_file(tree.path("Conf.d/a")).unwrap(), false)]
#[case::another("config", |tree: &Tree| tree.write("Conf.d/b", ""), false)]
#[case::hidden("config", |tree: &Tree| tree.write("Conf.d/.b", ""), true)]
#[case::missing("config", |tree: &Tree| tree.write("later", ""), false)]
#[case::directory("config", |tree: &Tree| tree.write("none/x", ""), false)]
#[case::empty_directory(
    "config",
    |tree: &Tree| std::fs::create_dir(tree.path("none")).unwrap(),
    true
)]
#[case::replaced("config", |tree: &Tree| {
    tree.write("new", "Port 1\n");
    std::fs::rename(tree.path("new"), tree.path("Conf.d/a")).unwrap();
}, false)]
#[case::mode("config", |tree: &Tree| {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(tree.path("config"), std::fs::Permissions::from_mode(0o600)).unwrap();
}, false)]
#[case::time_set_back("config", |tree: &Tree| {
    let before = std::fs::metadata(tree.path("Conf.d/a")).unwrap().modified().unwrap();
    tree.write("Conf.d/a", "Port 2\n");
    let file = std::fs::File::options().write(true).open(tree.path("Conf.d/a")).unwrap();
    file.set_modified(before).unwrap();
}, false)]
#[case::elsewhere("config", |tree: &Tree| tree.write("home/.ssh/config", "Port 3\n"), true)]
fn changes_are_noticed(#[case] file: &str, #[case] change: fn(&Tree), #[case] is_current: bool) {
    let text = "Include DIR/Conf.d/* DIR/later DIR/none/*\n";
    let tree = Tree::new(&[("config", text), ("Conf.d/a", "Port 1\n")]);
    let reading = tree.read(Source::File(Path::new(file)));
    assert!(reading.is_current());
    change(&tree);
    assert_eq!(reading.is_current(), is_current);
    assert_eq!(reading.is_current(), is_current, "the first look changes nothing");
}

#[test]
fn changes_are_noticed_after_a_while() {
    let tree = Tree::new(&[("config", "Include DIR/Conf.d/*\n"), ("Conf.d/a", "Port 1\n")]);
    let young = tree.read(Source::File(Path::new("config")));
    // Nobody can set the time of the last change.
    std::thread::sleep(Duration::from_millis(2100));
    let old = tree.read(Source::File(Path::new("config")));
    // The look settles what was young.
    assert!(young.is_current() && old.is_current());
    tree.write("Conf.d/.swp", "");
    assert!(young.is_current() && old.is_current());
    tree.write("Conf.d/a", "Port 2\n");
    assert!(!young.is_current() && !old.is_current());
}
