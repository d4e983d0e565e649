//! The command line of ssh, read as ssh reads it: which words are options, which are their values,
//! which is the destination.
//!
//! Options are single letters, alone or several in a word (`-tt4p22`), a value follows in the same
//! word or is the next one. Behind the destination there can be further options, unless `--` stood
//! before it; the first other word begins the command.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Options without a value, and with one, of OpenSSH 7.6 to 10. `-1` is left out, because it is an
/// error since version 7.6. `-P` is left out, because it has no value (and no effect) before
/// version 9.4 and is a tag since.
const FLAGS: &[u8] = b"246AaCfGgKkMNnqsTtVvXxYy";
const VALUES: &[u8] = b"BbcDEeFIiJLlmOopQRSWw";

/// An option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Opt {
    Flag(u8),
    Value(u8, OsString),
}

/// A command line that is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommandLine<'a> {
    pub options: Vec<Opt>,
    /// How many of them stand before the destination.
    pub options_before: usize,
    pub destination: &'a OsStr,
    pub command: &'a [OsString],
}

/// Why a line is not understood; ssh says so in its own words.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParseError {
    /// There is no such option, or it is not the same in all versions.
    UnknownOption(u8),
    /// An option lacks its value.
    MissingValue(u8),
    NoDestination,
}

/// What letters are taken for that are not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnknownOptions {
    /// Errors.
    Rejected,
    AreFlags,
    HaveValues,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ParseError::UnknownOption(letter) => {
                write!(f, "-{} is not known", letter.escape_ascii())
            }
            ParseError::MissingValue(letter) => write!(f, "-{} has no value", char::from(*letter)),
            ParseError::NoDestination => f.write_str("there is no destination"),
        }
    }
}

/// Reads a command line. The options that were read come with it also where it is not understood
/// to its end.
pub(super) fn parse(words: &[OsString]) -> (Vec<Opt>, Result<CommandLine<'_>, ParseError>) {
    parse_with(words, UnknownOptions::Rejected)
}

/// The same, with an assumption about letters that are not known.
pub(super) fn parse_with(
    words: &[OsString],
    unknown: UnknownOptions,
) -> (Vec<Opt>, Result<CommandLine<'_>, ParseError>) {
    let mut options = Vec::new();
    let result = parse_into(words, unknown, &mut options);
    let result = result.map(|(before, destination, command)| CommandLine {
        options: options.clone(),
        options_before: before,
        destination,
        command,
    });
    (options, result)
}

fn parse_into<'a>(
    words: &'a [OsString],
    unknown: UnknownOptions,
    options: &mut Vec<Opt>,
) -> Result<(usize, &'a OsStr, &'a [OsString]), ParseError> {
    let mut at = parse_options(words, 0, unknown, options)?;
    let before = options.len();
    let destination = words.get(at).ok_or(ParseError::NoDestination)?;
    // As ssh does: it looks at the word before, whatever that was (`-l --`).
    let terminated = at > 0 && words[at - 1] == "--";
    at += 1;
    if !terminated {
        at = parse_options(words, at, unknown, options)?;
    }
    Ok((before, destination, &words[at..]))
}

/// Reads options from a place on, and gives the place behind them.
fn parse_options(
    words: &[OsString],
    mut at: usize,
    unknown: UnknownOptions,
    options: &mut Vec<Opt>,
) -> Result<usize, ParseError> {
    while let Some(word) = words.get(at) {
        let letters = match word.as_bytes() {
            b"--" => return Ok(at + 1),
            [b'-', letters @ ..] if !letters.is_empty() => letters,
            _ => return Ok(at),
        };
        at += 1;
        for (place, &letter) in letters.iter().enumerate() {
            let is_known = FLAGS.contains(&letter) || VALUES.contains(&letter);
            if FLAGS.contains(&letter) || (!is_known && unknown == UnknownOptions::AreFlags) {
                options.push(Opt::Flag(letter));
                continue;
            }
            if !is_known && unknown == UnknownOptions::Rejected {
                return Err(ParseError::UnknownOption(letter));
            }
            let rest = &letters[place + 1..];
            let value = if rest.is_empty() {
                at += 1;
                words.get(at - 1).ok_or(ParseError::MissingValue(letter))?.clone()
            } else {
                OsString::from_vec(rest.to_vec())
            };
            options.push(Opt::Value(letter, value));
            break;
        }
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
    }

    /// `p=22 t t | web1 | uptime -p`
    fn shown(line: &CommandLine<'_>) -> String {
        let option = |option: &Opt| match option {
            Opt::Flag(letter) => char::from(*letter).to_string(),
            Opt::Value(letter, value) => format!("{}={}", char::from(*letter), value.display()),
        };
        let options: Vec<_> = line.options.iter().map(option).collect();
        let command: Vec<_> = line.command.iter().map(|word| word.to_string_lossy()).collect();
        format!("{} | {} | {}", options.join(" "), line.destination.display(), command.join(" "))
    }

    #[rstest]
    #[case("web1", " | web1 | ")]
    #[case("web1 uptime -p", " | web1 | uptime -p")]
    #[case("-p 22 -tt web1 uptime -p", "p=22 t t | web1 | uptime -p")]
    #[case("-tt4p22 web1", "t t 4 p=22 | web1 | ")]
    #[case("-o A=b -oC=d web1", "o=A=b o=C=d | web1 | ")]
    #[case("web1 -p 22 ls -l", "p=22 | web1 | ls -l")]
    #[case("web1 -- ls -l", " | web1 | ls -l")]
    #[case("web1 -T -- -x", "T | web1 | -x")]
    #[case("-- web1 -p 22", " | web1 | -p 22")]
    #[case("-T -- web1 -- ls", "T | web1 | -- ls")]
    #[case("-l -- web1 -p 22", "l=-- | web1 | -p 22")]
    #[case("-l- web1 -p 22", "l=- p=22 | web1 | ")]
    #[case("- -p 22", "p=22 | - | ")]
    #[case("web1 -", " | web1 | -")]
    #[case("-l deploy web1 -l other true", "l=deploy l=other | web1 | true")]
    #[case("-s -- web1 sftp", "s | web1 | sftp")]
    #[case(
        "-2 -x -a -oConnectTimeout=10 -l deploy web1 date",
        "2 x a o=ConnectTimeout=10 l=deploy | web1 | date"
    )]
    #[case("-2v web1", "2 v | web1 | ")]
    fn lines(#[case] line: &str, #[case] read_as: &str) {
        let words = words(line);
        assert_eq!(shown(&parse(&words).1.expect("it is understood")), read_as);
    }

    #[rstest]
    #[case("", ParseError::NoDestination)]
    #[case("-v", ParseError::NoDestination)]
    #[case("-v --", ParseError::NoDestination)]
    #[case("-p", ParseError::MissingValue(b'p'))]
    #[case("web1 -o", ParseError::MissingValue(b'o'))]
    #[case("-tZ web1", ParseError::UnknownOption(b'Z'))]
    #[case("--help", ParseError::UnknownOption(b'-'))]
    #[case("-P tag web1", ParseError::UnknownOption(b'P'))]
    #[case("-1 web1", ParseError::UnknownOption(b'1'))]
    fn lines_that_are_left_to_ssh(#[case] line: &str, #[case] why: ParseError) {
        assert_eq!(parse(&words(line)).1, Err(why));
    }

    #[rstest]
    #[case("-P x web1 -p 22", UnknownOptions::AreFlags, "P | x | web1 -p 22")]
    #[case("-P x web1 -p 22", UnknownOptions::HaveValues, "P=x p=22 | web1 | ")]
    #[case("-vPx web1", UnknownOptions::HaveValues, "v P=x | web1 | ")]
    #[case("-vPx web1", UnknownOptions::AreFlags, "v P x | web1 | ")]
    fn what_is_not_known_is_a_flag_or_has_a_value(
        #[case] line: &str,
        #[case] unknown: UnknownOptions,
        #[case] read_as: &str,
    ) {
        let words = words(line);
        assert_eq!(shown(&parse_with(&words, unknown).1.expect("it is understood")), read_as);
    }
}
