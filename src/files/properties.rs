//! Whatever bytes a name and its contents have, a shell here puts the contents under that name, and
//! gives them back.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Output, Stdio};

use proptest::prelude::*;

use super::text::{self, Target, Trailer, Wanted};
use super::{Mode, Options};

/// Runs a text as an account's shell does.
fn run(directory: &Path, text: &OsStr, input: &[u8]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the shell reads what is written for it")]
    let mut command = std::process::Command::new("sh");
    command.arg("-c").arg(text).current_dir(directory);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("there is a shell");
    // It need not read all of it.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// A name that a file can have: no slash, no NUL, and not that of a directory.
fn name() -> impl Strategy<Value = OsString> {
    let special = prop::sample::select(b"'\"\\ \n$`!*?[]~#;&|<>(){}-=%\t".to_vec());
    let byte = prop_oneof![special, any::<u8>().prop_filter("NUL, /", |b| !b"\0/".contains(b))];
    prop::collection::vec(byte, 1..40)
        .prop_filter("a directory", |name| name != b"." && name != b"..")
        .prop_map(OsString::from_vec)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn contents_get_their_name_and_come_back(
        name in name(),
        contents in prop::collection::vec(any::<u8>(), 0..600),
        is_small in any::<bool>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let options = &Options::new().sync(false);
        let target = Target {
            path: Path::new(&name),
            name: None,
            mode: Mode::New(0o644),
            length: Some(contents.len() as u64),
            trailer: Trailer::None,
            time: None,
            options,
        };
        let here = || {
            let entries = std::fs::read_dir(directory.path()).expect("it is ours").flatten();
            entries.map(|entry| entry.file_name()).collect::<Vec<_>>()
        };
        // What is cut off gets no name, and leaves nothing.
        if !contents.is_empty() {
            let part = &contents[..cut.index(contents.len())];
            let ended = run(directory.path(), &text::receive(&target), part);
            prop_assert!(!ended.status.success());
            prop_assert_eq!(here(), Vec::<OsString>::new());
        }
        let ended = match is_small {
            true => {
                let text = text::receive_small(&target, &contents).expect("it is small");
                run(directory.path(), &text, b"")
            }
            false => run(directory.path(), &text::receive(&target), &contents),
        };
        prop_assert!(ended.status.success(), "{:?}", ended);
        prop_assert_eq!(here(), vec![name.clone()]);
        let written = std::fs::read(directory.path().join(&name)).expect("it is there");
        prop_assert_eq!(&written, &contents);
        for by_sh in [false, true] {
            let text = text::send(Path::new(&name), Wanted::default(), by_sh);
            let sent = run(directory.path(), &text, b"").stdout;
            let expected = [text::SIGN, b"\n", &contents[..]].concat();
            prop_assert_eq!(OsStr::from_bytes(&sent), OsStr::from_bytes(&expected));
        }
    }
}
