//! Whether two outcomes are the same one.
//!
//! Five differences are allowed. All come from where a shell has its command from: as an argument
//! (`-c`), or in some other way.
//!
//! A shell's own complaint begins with the shell's name and with the place where it was reading
//! (`sh: 1: eval: …`, `(eval):1: …`, `bash: eval: line 1: …`). There the place may differ, and the
//! process id in bash's report about a child that was killed always does. bash also shows the first
//! line of a text with a mistake in it as it was given to it.
//!
//! And a shell that knows that it is at its last command may become that command. If a signal ends
//! that, then the session is killed; where the shell stays, it says so and exits with 128 and the
//! number of the signal.
//!
//! And bash (5.2), when its text ends within quotes, exits with 2; but with the status of the
//! command before, if that had failed and the text was an argument.
//!
//! And zsh (5.9), when a mistake makes it give up, runs what `trap … EXIT` has left to be done; but
//! not if its text was an argument.
//!
//! And BusyBox's shell (1.35) ignores SIGQUIT, and a command that it becomes inherits that. One that
//! it starts beside itself does not.

use super::super::pooled::plain::Seen;

/// What is different, if anything is.
pub fn difference(shell: &str, plain: &Seen, pooled: &Seen) -> Option<String> {
    if plain == pooled || same(shell, plain, pooled) {
        return None;
    }
    let mut text = String::new();
    if plain.code != pooled.code {
        text.push_str(&format!(
            "status: {:?} by plain ssh, {:?} pooled\n",
            plain.code, pooled.code
        ));
    }
    for (name, plain, pooled) in
        [("stdout", &plain.stdout, &pooled.stdout), ("stderr", &plain.stderr, &pooled.stderr)]
    {
        let mark = if plain == pooled { "same" } else { "different" };
        text.push_str(&format!("{name} ({mark}), plain:  {}\n", escaped(plain)));
        if plain != pooled {
            text.push_str(&format!("{name}, pooled: {}\n", escaped(pooled)));
        }
    }
    Some(text)
}

/// What the traps in the texts print at the end.
const LAST_DEED: &[u8] = b"bye\n";

fn same(shell: &str, plain: &Seen, pooled: &Seen) -> bool {
    let name = shell.rsplit('/').next().expect("a split has a part");
    // A complaint may have been sent to the other stream (`2>&1`).
    let (wrote, also_wrote) =
        (without_places(name, &plain.stdout), without_places(name, &pooled.stdout));
    let gave_up =
        name == "zsh" && plain.code.is_some_and(|code| code != 0) && !plain.stderr.is_empty();
    let last_deed = also_wrote.strip_prefix(&*wrote);
    if !(last_deed == Some(b"") || gave_up && last_deed == Some(LAST_DEED)) {
        return false;
    }
    let (said, also_said) =
        (without_places(name, &plain.stderr), without_places(name, &pooled.stderr));
    match (plain.code, pooled.code) {
        (None, Some(129..=159)) => also_said
            .strip_prefix(&*said)
            .is_some_and(|more| more.is_empty() || reports_a_death(name, more)),
        (Some(1..), Some(2)) if name == "bash" && ends_within_quotes(&said) => said == also_said,
        (code, other) => code == other && said == also_said,
    }
}

fn ends_within_quotes(complaints: &[u8]) -> bool {
    let complaints = String::from_utf8_lossy(complaints);
    complaints
        .lines()
        .next_back()
        .is_some_and(|last| last.contains("unexpected EOF while looking for matching"))
}

/// As /proc tells it, of a process that ignores SIGQUIT alone.
const IGNORES_QUIT: &[u8] = b"SigIgn:\t0000000000000004\n";
const IGNORES_NOTHING: &[u8] = b"SigIgn:\t0000000000000000\n";

const DEATHS: &[&str] = &[
    "Killed",
    "Terminated",
    "Aborted",
    "Hangup",
    "Segmentation fault",
    "Alarm clock",
    "User defined signal 1",
];

/// What a shell says of a child that a signal ended: the signal in words, and in bash, but for
/// SIGTERM, more around it.
fn reports_a_death(shell: &str, text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let words = match shell {
        "bash" => text
            .strip_prefix("bash: line ")
            .and_then(|text| text.split_once(": "))
            .map_or(&*text, |(_, words)| words),
        _ => &text,
    };
    DEATHS.iter().any(|death| words.starts_with(death)) && text.ends_with('\n')
}

/// The text without what a complaint of this shell says about its place, and without process ids in
/// it.
///
/// It can stand in the middle of a line, behind what the command has written.
fn without_places(shell: &str, text: &[u8]) -> Vec<u8> {
    let mut left = text;
    let mut kept = Vec::new();
    while !left.is_empty() {
        if shell == "ash"
            && let Some(rest) = left.strip_prefix(IGNORES_QUIT)
        {
            kept.extend_from_slice(IGNORES_NOTHING);
            left = rest;
        } else if let Some((beginning, rest)) = beginning(shell, left).or_else(|| report(left)) {
            kept.extend_from_slice(beginning.as_bytes());
            left = rest;
        } else {
            kept.push(left[0]);
            left = &left[1..];
            // bash's report has a line for each program of a pipeline.
            if kept.ends_with(b"\n") {
                left = behind_process_id(left).unwrap_or(left);
            }
        }
    }
    kept
}

/// How a complaint begins, where the text begins with one, but for what may differ; and what
/// follows.
fn beginning<'a>(shell: &str, text: &'a [u8]) -> Option<(String, &'a [u8])> {
    if shell == "zsh" {
        let rest = text.strip_prefix(b"zsh:").or_else(|| text.strip_prefix(b"(eval):"))?;
        return Some(("zsh:".to_owned(), rest));
    }
    let rest = text.strip_prefix(shell.as_bytes())?.strip_prefix(b": ")?;
    match shell {
        // It names a line only within an `eval`.
        "ash" => {
            let rest = rest.strip_prefix(b"eval: ").unwrap_or(rest);
            let rest =
                rest.strip_prefix(b"line ").and_then(line_number).map_or(rest, |(_, rest)| rest);
            Some(("ash: ".to_owned(), rest))
        }
        "bash" => {
            let rest =
                rest.strip_prefix(b"-c: ").or_else(|| rest.strip_prefix(b"eval: ")).unwrap_or(rest);
            let (line, rest) = line_number(rest.strip_prefix(b"line ")?)?;
            let rest = behind_process_id(rest).unwrap_or(rest);
            let Some(shown) = rest.strip_prefix(b"`") else {
                return Some((format!("bash: line {line}: "), rest));
            };
            // It shows the line with a mistake in it: on the first one the pool forgets its own
            // variable; and each quotes in its own way.
            let shown = shown.strip_prefix(b"unset sshpool; ").unwrap_or(shown);
            let length = shown.iter().position(|&byte| byte == b'\n').unwrap_or(shown.len());
            let line_shown = String::from_utf8_lossy(&shown[..length]).replace(['\'', '\\'], "");
            Some((format!("bash: line {line}: {line_shown}"), &shown[length..]))
        }
        // dash names the line first. Within an `eval` it names that for want of another command's
        // name.
        _ => {
            let (line, rest) = line_number(rest)?;
            let rest = rest.strip_prefix(b"eval: ").unwrap_or(rest);
            Some((format!("{shell}: {line}: "), rest))
        }
    }
}

/// The part of bash's report about a child that ends with its process id. Any shell can have called
/// bash.
fn report(text: &[u8]) -> Option<(String, &[u8])> {
    let (line, rest) = line_number(text.strip_prefix(b": line ")?)?;
    Some((format!(": line {line}: "), behind_process_id(rest)?))
}

/// The number in `NUMBER: `, and what follows.
fn line_number(text: &[u8]) -> Option<(&str, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&text[..digits]).expect("digits are ASCII");
    text[digits..].strip_prefix(b": ").filter(|_| digits > 0).map(|rest| (number, rest))
}

/// What follows the process id in bash's report about a child that a signal ended: blanks, digits,
/// a blank, and how it ended.
fn behind_process_id(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text[digits..].strip_prefix(b" ")?;
    let ends = ["Done", "Exit ", "Broken pipe"].iter().chain(DEATHS);
    (digits > 0 && ends.map(|end| end.as_bytes()).any(|end| rest.starts_with(end))).then_some(rest)
}

/// Bytes as a string literal, cut where they are too many to look at.
pub fn escaped(bytes: &[u8]) -> String {
    const MOST: usize = 3000;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => format!("{:?}", text.chars().take(MOST).collect::<String>()),
        Err(_) => format!("b\"{}\"", bytes[..bytes.len().min(MOST)].escape_ascii()),
    };
    if bytes.len() > MOST { text + "…" } else { text }
}
