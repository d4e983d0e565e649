//! The texts for the remote shell.
//!
//! Each is `sh -c TEXT`, whatever the account's own shell is: names and values stand in it as words
//! that every shell reads as they are here. What a text needs to know is set before its script.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::{Mode, Options};
use crate::command::escape::escape;

/// What a script prints when all is done, or before the contents of a file. An account that answers
/// every command with something else does not say it.
pub(super) const SIGN: &[u8] = b"sshpool_file";

const RECEIVE: &str = include_str!("receive.sh");
const RECEIVE_TREE: &str = include_str!("receive-tree.sh");

/// How long the word is that ends what is sent. A SHA-256 has as many digits.
pub(super) const TRAILER: usize = 64;

/// What ends the input, so that one that was cut off is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trailer {
    /// The length tells.
    None,
    /// This word.
    Word(String),
    /// The SHA-256 of all before it.
    Sum,
}

/// Where contents go on a host.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub path: &'a Path,
    /// Its name in there, where the path is a directory.
    pub name: Option<&'a OsStr>,
    pub mode: Mode,
    pub length: Option<u64>,
    pub trailer: Trailer,
    /// Seconds since 1970.
    pub time: Option<i64>,
    pub options: &'a Options,
}

/// Words that nobody guesses.
pub(super) fn random_word(length: usize) -> String {
    let mut word = String::new();
    while word.len() < length {
        word.push_str(&format!("{:016x}", RandomState::new().hash_one(std::process::id())));
    }
    word.truncate(length);
    word
}

/// A path that no program takes for an option. An empty one is the directory where commands begin.
pub(super) fn plain_path(path: &Path) -> Vec<u8> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.starts_with(b"/") { bytes.to_vec() } else { [b"./", bytes].concat() }
}

/// Bytes for printf. What stands for itself is nothing else to any shell, begins no command and is
/// no option; the rest is digits.
fn octal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    let mut next = bytes.iter().skip(1);
    for &byte in bytes {
        let is_before_a_digit = next.next().is_some_and(u8::is_ascii_digit);
        match byte {
            b'-' if text.is_empty() => text.push_str("\\055"),
            b' ' | b'.' | b',' | b':' | b'/' | b'_' | b'-' | b'+' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            0 if !is_before_a_digit => text.push_str("\\0"),
            _ => write!(text, "\\{byte:03o}").expect("writing to a String cannot fail"),
        }
    }
    text
}

/// A text that sets variables for a script.
struct Script(Vec<u8>);

impl Script {
    fn new() -> Self {
        Script(Vec::new())
    }

    fn set(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        if value.contains(&b'\n') {
            // csh has no line breaks within quotes.
            self.text("$(printf ");
            escape(octal(value).as_bytes(), &mut self.0);
            self.text("x);").text(name).text("=${").text(name).text("%x};");
        } else {
            escape(value, &mut self.0);
            self.0.push(b';');
        }
        self
    }

    /// A script, in one line.
    fn script(&mut self, script: &str) -> &mut Self {
        let mut is_open = true;
        for line in script.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            if line.is_empty() {
                continue;
            }
            self.text(if is_open { " " } else { "; " });
            let (line, goes_on) = match line.strip_suffix('\\') {
                Some(line) => (line, true),
                None => (line, false),
            };
            self.text(line);
            const OPEN: &[&str] = &["then", "else", "do", "in", "{", "(", "|", ";;", " '"];
            is_open = goes_on || OPEN.iter().any(|end| line.ends_with(end));
        }
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// For the account's own shell. One that does not understand it stumbles over the first word,
    /// and has done nothing.
    fn own_command(&self) -> OsString {
        OsString::from_vec([b"case x in (x) ", &self.0[..], b" ;; esac"].concat())
    }

    /// For sh, whatever the account's own shell is.
    fn command(&self) -> OsString {
        let mut text = b"sh -c ".to_vec();
        escape(&self.0, &mut text);
        OsString::from_vec(text)
    }
}

/// Takes the contents from its input.
pub(super) fn receive(target: &Target<'_>) -> OsString {
    let mut script = Script::new();
    let trailer = match &target.trailer {
        Trailer::None => "",
        Trailer::Word(word) => word,
        Trailer::Sum => "sum",
    };
    script
        .set("p", &plain_path(target.path))
        .set("n", target.name.map_or(b"", OsStrExt::as_bytes))
        .set("r", random_word(16).as_bytes())
        .set("m", target.mode.change().as_bytes())
        .set("x", if target.mode.is_exact() { b"x" } else { b"" })
        .set("l", target.length.map_or_else(String::new, |length| length.to_string()).as_bytes())
        .set("k", trailer.as_bytes())
        .set("u", target.time.map_or_else(String::new, touch).as_bytes())
        .set("y", if target.options.sync { b"y" } else { b"" })
        .script(RECEIVE);
    script.command()
}

/// Takes the archive of a directory from its input, whose last file has the name `mark`.
pub(super) fn receive_tree(target: &Target<'_>, mark: &str) -> OsString {
    let mut script = Script::new();
    script
        .set("p", &plain_path(target.path))
        .set("n", target.name.map_or(b"", OsStrExt::as_bytes))
        .set("r", random_word(16).as_bytes())
        .set("m", target.mode.change().as_bytes())
        .set("k", mark.as_bytes())
        .set("x", if target.time.is_some() { b"x" } else { b"" })
        .set("y", if target.options.sync { b"y" } else { b"" })
        .script(RECEIVE_TREE);
    script.command()
}

/// What a text has room for that has the contents in itself: a shell reads it byte after byte, and
/// above that a session with input is faster (measured).
const ROOM: usize = 4 * 1024;
/// No longer contents have room in it.
pub(super) const SMALL: usize = ROOM;

/// Has the contents in itself, so that a session that runs one command after another can take it.
/// It does what the whole script does, for targets where that is simple, with as few processes as
/// that takes, and in words that such sessions take. Where it fails it has done nothing, and the
/// whole script does it or says why not.
///
/// `None` where the contents are too long for that.
pub(super) fn receive_small(target: &Target<'_>, contents: &[u8]) -> Option<OsString> {
    let contents = octal(contents);
    if contents.len() > ROOM {
        return None;
    }
    let mut script = Script::new();
    script
        .set("p", &plain_path(target.path))
        .set("n", target.name.map_or(b"", OsStrExt::as_bytes))
        .set("t", format!(".sshpool_{}", random_word(16)).as_bytes())
        .text(" if [ -d \"$p\" ]; then p=${p%/}/$n; fi; ")
        .text("if [ -h \"$p\" ] || [ -d \"$p\" ] || [ ! -d \"${p%/*}/\" ]; then exit 1; fi; ")
        .text("case $p in */) exit 1 ;; esac; t=${p%/*}/$t; ")
        .text("if [ -u \"$p\" ] || [ -g \"$p\" ]; then exit 1; fi; ")
        // The new file gets what the old one had.
        .text("if [ -f \"$p\" ]; then command cp -p --attributes-only \"$p\" \"$t\" || exit 1; ")
        .text("elif [ -e \"$p\" ]; then exit 1; fi; ");
    // The shell makes a file that nobody can execute, as far as the umask lets it.
    match target.mode {
        Mode::Exact(_) => script.text("umask 077 && "),
        Mode::New(mode) => {
            let lacks = [("u-r", 0o400), ("u-w", 0o200), ("g-r", 0o40), ("g-w", 0o20), ("o-r", 4)];
            let lacks = lacks.into_iter().chain([("o-w", 2)]);
            let lacks: Vec<&str> =
                lacks.filter(|(_, bit)| mode & bit == 0).map(|(change, _)| change).collect();
            match lacks.is_empty() {
                true => &mut script,
                false => script.text("umask ").text(&lacks.join(",")).text(" && "),
            }
        }
    };
    script.text("printf '").text(&contents).text("' >\"$t\" && ");
    let change = target.mode.change();
    match target.mode {
        Mode::Exact(_) => script.text("command chmod ").text(&change).text(" \"$t\" && "),
        Mode::New(mode) if mode & 0o111 != 0 => {
            script.text("{ [ -f \"$p\" ] || command chmod ").text(&change).text(" \"$t\"; } && ")
        }
        Mode::New(_) => &mut script,
    };
    if target.options.sync {
        script.text("command sync \"$t\" && ");
    }
    script
        .text("command mv -f \"$t\" \"$p\" && printf \"sshpool_file\\n\" || ")
        .text("{ command rm -f \"$t\"; exit 1; }");
    Some(script.own_command())
}

/// What is wanted of a file besides its contents.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Mode, length and time, as far as there is a program that tells them.
    pub facts: bool,
    /// The SHA-256 behind the contents, as 64 digits and a line break.
    pub sha256: bool,
    /// The archive of all that is in it, where it is a directory.
    pub recursive: bool,
}

/// What stands behind the sign where an archive follows.
pub(super) const TREE: &str = " tree";
/// What stands there where nothing follows, and stderr says why.
pub(super) const ERROR: &str = " error";

/// Prints the contents of a file, behind a line with [`SIGN`] and the facts. `by_sh` is for
/// accounts whose own shell does not understand it.
pub(super) fn send(path: &Path, wanted: Wanted, by_sh: bool) -> OsString {
    let mut script = Script::new();
    script.set("p", &plain_path(path)).text(" if [ -d \"$p\" ]; then ");
    script.text(if wanted.recursive {
        "printf \"sshpool_file tree\\n\"; LC_ALL=C command tar -c -h -f - -C \"$p\" .; else "
    } else {
        "printf \"sshpool_file error\\n\"; printf \"cat: Is a directory\\n\" >&2; exit 1; fi; "
    });
    script.text(
        "if [ ! -r \"$p\" ]; then printf \"sshpool_file error\\n\"; LC_ALL=C command cat \"$p\"; \
         exit 1; fi; ",
    );
    if wanted.facts {
        script.text(
            "command stat -L -c \"sshpool_file %a %s %Y\" \"$p\" 2>/dev/null || \
             command stat -L -f \"sshpool_file %Lp %z %m\" \"$p\" 2>/dev/null || ",
        );
    }
    script.text("printf \"sshpool_file\\n\"; LC_ALL=C command cat \"$p\"");
    if wanted.sha256 {
        script.text(
            " && { sha256sum <\"$p\" || shasum -a 256 <\"$p\" || sha256 <\"$p\" || \
             openssl dgst -sha256 -r <\"$p\"; } 2>/dev/null | cut -c 1-64",
        );
    }
    if wanted.recursive {
        script.text("; fi");
    }
    if by_sh { script.command() } else { script.own_command() }
}

/// Seconds since 1970 as `touch -t` takes them in UTC: CCYYMMDDhhmm.SS.
fn touch(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": civil_from_days.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}.{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(b"", "")]
    #[case(b"-n a-b", "\\055n a-b")]
    #[case(b"--", "\\055-")]
    #[case(b"a\0b\x001%\n", "a\\0b\\0001\\045\\012")]
    fn printf_takes_it_for_its_text(#[case] bytes: &[u8], #[case] expected: &str) {
        assert_eq!(octal(bytes), expected);
    }

    #[rstest]
    #[case(0, "197001010000.00")]
    #[case(951_782_400, "200002290000.00")]
    #[case(1_764_380_967, "202511290149.27")]
    #[case(-1, "196912312359.59")]
    fn a_time_is_one_for_touch(#[case] seconds: i64, #[case] expected: &str) {
        assert_eq!(touch(seconds), expected);
    }

    fn target(path: &Path) -> (OsString, OsString, OsString) {
        let options = &Options::new();
        let (length, trailer) = (Some(3), Trailer::Sum);
        let mode = Mode::New(0o644);
        let target = Target { path, name: None, mode, length, trailer, time: None, options };
        (
            receive_small(&target, b"a'\0").expect("it is small"),
            receive(&target),
            receive_tree(&target, "mark"),
        )
    }

    /// csh takes no others.
    #[test]
    fn texts_are_one_line_that_sh_can_read() {
        let (small, file, tree) = target(Path::new("a\nb"));
        for text in [small, file, tree, send(Path::new("-x"), Wanted::default(), false)] {
            assert!(!text.as_bytes().contains(&b'\n'), "{text:?}");
            #[expect(clippy::disallowed_methods, reason = "the shell reads what is written for it")]
            let checked = std::process::Command::new("sh").arg("-nc").arg(&text).output();
            let checked = checked.expect("there is a shell");
            assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
        }
    }
}
