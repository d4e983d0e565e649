//! Strings with anything in them that a command can be given, and ways to write them for a POSIX
//! shell.

use super::Random;

/// What some shell or other, or what stands between us and it, takes for something else.
const AWKWARD: &[&str] = &[
    "",
    " ",
    "\n",
    "\\",
    "\\\\",
    "\\n",
    "\\0101",
    "\\c",
    "%s",
    "%",
    "'",
    "\"",
    "$HOME",
    "$(id)",
    "`id`",
    "!",
    "!!",
    "~",
    "~lab",
    "*",
    "?",
    "[a-z]",
    "{a,b}",
    "#",
    "-n",
    "-e",
    "--",
    "=ls",
    "a=b",
    "a\nb",
    "a\n",
    "a\n\n",
    "\na",
    "a\r\n",
    "\r",
    "\t",
    "\x1eRDY 1\n",
    "\x03\x04",
    "\x7f",
    "\u{1}\u{1}",
    "\u{feff}",
    "\u{ffff}",
];

const LETTERS: &[char] =
    &['a', 'b', 'c', 'n', 'r', 't', 'x', 'u', 'E', 'R', 'Z', '0', '1', '7', '8', '9'];
const SPECIAL: &[char] = &[
    '\'', '"', '\\', '$', '`', '!', '~', '*', '?', '[', ']', '{', '}', '(', ')', '<', '>', '|',
    '&', ';', '#', '=', '%', '^', '-', '+', ',', '.', ':', '@', '/', '_',
];
/// Their bytes have values between 0x81 and 0x88, which some shells use among themselves as marks.
const MARKS: &[char] = &[
    '\u{81}', '\u{82}', '\u{83}', '\u{84}', '\u{85}', '\u{86}', '\u{87}', '\u{88}', 'Á', 'Â', 'Ã',
    'Ä', 'Å', 'Æ', 'Ç', 'È', 'с', 'т', 'у', 'ф', 'х', 'ц', 'ч', 'ш', '\u{1041}', '\u{2081}',
];
const FAR: &[char] = &[
    '\u{80}',
    '\u{83}',
    '\u{9b}',
    '\u{9f}',
    '\u{a0}',
    '\u{ad}',
    'ÿ',
    '\u{300}',
    '\u{7ff}',
    '\u{800}',
    '\u{2028}',
    '\u{d7ff}',
    '\u{e000}',
    '\u{fffd}',
    '\u{ffff}',
    '\u{10000}',
    '😀',
    '\u{10ffff}',
    'ü',
    '漢',
    '🏳',
];

/// A string of any bytes but NUL that a Rust string can hold.
pub fn word(random: &mut Random) -> String {
    if random.chance(25) {
        return random.pick(AWKWARD).to_owned();
    }
    let length = if random.chance(3) { random.up_to(50, 400) } else { random.up_to(0, 12) };
    (0..length).map(|_| character(random)).collect()
}

fn character(random: &mut Random) -> char {
    match random.up_to(0, 11) {
        0..4 => random.pick(LETTERS),
        4..7 => random.pick(SPECIAL),
        7 => random.pick(&[' ', '\t', '\n', '\r', ' ', '\n']),
        8 => {
            if random.chance(5) {
                '\u{7f}'
            } else {
                char::from(random.up_to(1, 0x1f) as u8)
            }
        }
        9 => random.pick(MARKS),
        10 => random.pick(FAR),
        _ => char::from_u32(random.up_to(1, 0x10_ffff) as u32).unwrap_or('\u{7f}'),
    }
}

/// One line of text, without what a shell would expand in a here-document.
pub fn plain_line(random: &mut Random) -> String {
    word(random).replace(['\n', '$', '`', '\\'], "")
}

/// The word as a shell's text that means exactly it.
pub fn quoted(word: &str, random: &mut Random) -> String {
    match random.up_to(0, 4) {
        0 | 1 => single(word),
        2 => double(word),
        3 => backslashes(word),
        _ => {
            let middle = word
                .char_indices()
                .nth(random.up_to(0, word.chars().count()))
                .map_or(word.len(), |at| at.0);
            let (first, second) = word.split_at(middle);
            format!(
                "{}{}",
                double(first),
                if random.chance(50) { single(second) } else { backslashes(second) }
            )
        }
    }
}

/// As a careful user would write it by hand.
pub fn single(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn double(word: &str) -> String {
    let mut text = "\"".to_owned();
    for c in word.chars() {
        if matches!(c, '"' | '\\' | '$' | '`') {
            text.push('\\');
        }
        text.push(c);
    }
    text + "\""
}

fn backslashes(word: &str) -> String {
    let mut text = String::new();
    for c in word.chars() {
        match c {
            // Behind a backslash it would be a line that continues.
            '\n' => text.push_str("'\n'"),
            'a'..='z' | 'A'..='Z' | '0'..='9' => text.push(c),
            c => text.extend(['\\', c]),
        }
    }
    if text.is_empty() { "''".to_owned() } else { text }
}

/// Input for a command, at most about as long as `most`.
pub fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let length = random.up_to(1, most);
    match random.up_to(0, 2) {
        // Blocks that differ, so that one that is lost, doubled or moved is seen.
        0 => {
            (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(length).collect()
        }
        1 => (0..length).map(|at| if at % 7 == 0 { 0 } else { (at / 7) as u8 }).collect(),
        _ => (0..length).map(|_| random.pick(b"ab \t\\\n0")).collect(),
    }
}
