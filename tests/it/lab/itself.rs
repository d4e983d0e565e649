//! This very binary, started once more for one test: in another environment, under another user,
//! or to do what concerns a whole process.

use std::path::PathBuf;
use std::process::Command;

use super::common::process::{Ended, run};
use super::pooled::{PATIENCE, command};

/// The file of this binary.
pub fn program() -> PathBuf {
    std::env::current_exe().expect("a running program knows its file")
}

/// What the test of this thread is called: `module::name`.
pub fn own_name() -> String {
    std::thread::current().name().expect("the test harness names its threads").to_owned()
}

/// Has the binary that `command` starts run this test and no other.
pub fn only<'a>(command: &'a mut Command, test: &str) -> &'a mut Command {
    command.args(["--exact", test, "--nocapture", "--test-threads=1"])
}

/// Panics unless the test ran and passed: where a name is wrong, the binary runs nothing and is
/// content.
#[track_caller]
pub fn assert_passed(ended: &Ended) {
    let passed = ended.code() == 0 && ended.stdout.contains("test result: ok. 1 passed");
    assert!(passed, "{}{}", ended.stdout, ended.stderr);
}

/// Set in the environment of this very binary when it runs one test alone.
const ALONE: &str = "SSHPOOL_TEST_ALONE";

/// For a test that changes what belongs to the whole process. In the process of all tests it runs
/// the test of this thread in a process of its own, panics when it fails there, and returns false:
/// the test is over. In that process it returns true.
#[track_caller]
pub fn is_alone() -> bool {
    let alone = std::env::var_os(ALONE).is_some();
    if !alone {
        let mut test = command(program());
        only(&mut test, &own_name()).env(ALONE, "1");
        assert_passed(&run(&mut test, 10 * PATIENCE));
    }
    alone
}
