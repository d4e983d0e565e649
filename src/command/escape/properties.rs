//! What holds for any word: the shells that are here give it back as it was.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use proptest::collection::vec;
use proptest::prelude::*;

use super::escape;

/// How each is told to read no start-up file. sh is there for certain.
const SHELLS: &[(&str, &[&str])] = &[
    ("sh", &[]),
    ("dash", &[]),
    ("bash", &["--norc", "--noprofile"]),
    ("zsh", &["-f"]),
    ("ksh", &[]),
    ("mksh", &[]),
    ("busybox", &["sh"]),
    ("fish", &["--no-config"]),
];

fn shells() -> Vec<(PathBuf, &'static [&'static str])> {
    let found = |&(name, options)| which::which(name).ok().map(|path| (path, options));
    SHELLS.iter().filter_map(found).collect()
}

#[expect(clippy::disallowed_methods, reason = "the rule keeps ssh in one module of the crate")]
fn printed(shell: &PathBuf, options: &[&str], command: &[u8]) -> Vec<u8> {
    let command = OsStr::from_bytes(command);
    let output = std::process::Command::new(shell).args(options).arg("-c").arg(command).output();
    output.expect("the shell was found").stdout
}

/// Any text but for NUL, which no shell can be given, and much of what shells mean something by.
fn word() -> impl Strategy<Value = Vec<u8>> {
    let special = "[ \t\n\r'\"\\\\!$`~*?\\[\\]{}()<>|&;#^=%,@:+\\-a-c0-2\u{1}\u{1b}\u{7f}äß€\u{1f600}\u{202e}]{0,12}";
    let text = prop_oneof![
        special,
        "[^\0]{0,20}",
        "-[a-z-]{0,4}",
        "[$!\\\\'\"]{0,8}",
        Just("\\c".to_owned())
    ];
    let bytes = vec(prop_oneof![1..=255_u8, Just(b'\''), Just(b'\\'), 0x80..=255_u8], 0..12);
    prop_oneof![4 => text.prop_map(String::into_bytes), 1 => bytes]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_shell_gives_back_what_was_said(words in vec(word(), 1..20)) {
        // Not the shell's own printf: it is the words that are looked at, and each program gets
        // them as they are.
        let mut command = b"/usr/bin/env printf '%s\\0'".to_vec();
        for word in &words {
            command.push(b' ');
            escape(word, &mut command);
        }
        let expected: Vec<u8> = words.iter().flat_map(|word| word.iter().copied().chain([0])).collect();
        let shells = shells();
        prop_assert!(!shells.is_empty());
        for (shell, options) in shells {
            let output = printed(&shell, options, &command);
            prop_assert_eq!(
                output.escape_ascii().to_string(), expected.escape_ascii().to_string(),
                "{}: {}", shell.display(), command.escape_ascii()
            );
        }
    }

    /// It can be told where a word ends: what follows is not part of it, and what came before is
    /// not either.
    #[test]
    fn a_word_ends_where_it_ends(word in word()) {
        let mut command = b"printf %s ".to_vec();
        escape(&word, &mut command);
        command.extend(b"; echo over");
        let output = printed(&"/bin/sh".into(), &[], &command);
        prop_assert_eq!(output, [&word[..], b"over\n"].concat());
    }
}
