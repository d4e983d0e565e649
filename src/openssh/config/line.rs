//! One line of ssh_config, taken apart as readconf.c does: the keyword by `strdelim`, its arguments
//! by `argv_split`.
//!
//! OpenSSH before 8.7 took the arguments apart with `strdelim` too, so that both ways are here.

use super::keywords;

/// A line that says something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// In small letters, and today's name of it.
    pub keyword: String,
    /// What stands behind the keyword, without blanks around it.
    pub rest: Vec<u8>,
    /// From 1.
    pub number: usize,
}

/// The lines of a file that are neither empty nor comments. ssh sees a line up to its first NUL.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = Line> {
    content.split(|byte| *byte == b'\n').enumerate().filter_map(|(index, line)| {
        let line = line.split(|byte| *byte == 0).next().unwrap_or_default();
        let (keyword, rest) = keyword(line)?;
        Some(Line { keyword, rest, number: index + 1 })
    })
}

/// The keyword of a line, and the rest of it.
fn keyword(line: &[u8]) -> Option<(String, Vec<u8>)> {
    // The first byte stays, whatever it is.
    let blank = |byte: &u8| is_blank(*byte) || *byte == b'\x0c';
    let length =
        line.iter().rposition(|byte| !blank(byte)).map_or(line.len().min(1), |last| last + 1);
    let line = line.get(..length)?;
    let (mut keyword, mut rest) = delimited(line)?;
    if keyword.is_empty() {
        (keyword, rest) = delimited(rest?)?;
    }
    if keyword.is_empty() || keyword.starts_with(b"#") {
        return None;
    }
    let keyword = String::from_utf8_lossy(&keyword).to_ascii_lowercase();
    Some((keywords::todays(&keyword).to_owned(), trimmed(rest.unwrap_or_default()).to_vec()))
}

/// A token, and what comes after it.
type Delimited<'a> = (Vec<u8>, Option<&'a [u8]>);

/// `strdelim` of misc.c: a token up to blanks, `=` or quotes; quotes may begin inside of it and end
/// it. `None` where they do not end.
fn delimited(text: &[u8]) -> Option<Delimited<'_>> {
    let Some(at) = text.iter().position(|byte| is_blank(*byte) || matches!(byte, b'"' | b'='))
    else {
        return Some((text.to_vec(), None));
    };
    let (before, found) = text.split_at(at);
    let (delimiter, after) = found.split_first()?;
    if *delimiter == b'"' {
        let end = after.iter().position(|byte| *byte == b'"')?;
        let (quoted, after) = after.split_at(end);
        return Some((
            [before, quoted].concat(),
            Some(trimmed(after.get(1..).unwrap_or_default())),
        ));
    }
    let mut after = trimmed(after);
    // Of several of them one is skipped.
    if let (b' ' | b'\t' | b'\r' | b'\n', [b'=', more @ ..]) = (delimiter, after) {
        after = trimmed(more);
    }
    Some((before.to_vec(), Some(after)))
}

/// The arguments as OpenSSH before 8.7 had them, and as `Match` has them until 9.9.
pub(super) fn old_arguments(rest: &[u8]) -> Vec<Vec<u8>> {
    let mut arguments = Vec::new();
    let mut rest = Some(rest);
    while let Some((argument, after)) = rest.and_then(delimited) {
        if argument.is_empty() {
            break;
        }
        arguments.push(argument);
        rest = after;
    }
    arguments
}

/// `argv_split` of misc.c: arguments between blanks, with quotes of both kinds and backslashes, up
/// to a comment. `None` where quotes do not end, which ssh does not accept.
pub(super) fn arguments(rest: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut arguments = Vec::new();
    let mut bytes = rest.iter().copied().peekable();
    while let Some(byte) = bytes.peek().copied() {
        if matches!(byte, b' ' | b'\t') {
            bytes.next();
            continue;
        }
        if byte == b'#' {
            break;
        }
        let mut argument = Vec::new();
        let mut quote = None;
        while let Some(byte) = bytes.next() {
            match (byte, quote) {
                (b'\\', _) => match bytes.peek().copied() {
                    Some(next)
                        if matches!(next, b'\'' | b'"' | b'\\')
                            || (next == b' ' && quote.is_none()) =>
                    {
                        argument.push(next);
                        bytes.next();
                    }
                    _ => argument.push(byte),
                },
                (b' ' | b'\t', None) => break,
                (b'"' | b'\'', None) => quote = Some(byte),
                (_, Some(open)) if byte == open => quote = None,
                _ => argument.push(byte),
            }
        }
        if quote.is_some() {
            return None;
        }
        arguments.push(argument);
    }
    Some(arguments)
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn trimmed(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|byte| !is_blank(*byte)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Host web1", "host", "web1")]
    #[case("  hOST\t web1 \r", "host", "web1")]
    #[case("Port=22", "port", "22")]
    #[case("Port = 22", "port", "22")]
    #[case("Port == 22", "port", "= 22")]
    #[case("=Port 22", "port", "22")]
    #[case(" = Port 22", "port", "22")]
    #[case("\"Port\" 22", "port", "22")]
    #[case("P\"or\"t 22", "por", "t 22")]
    #[case("\"Port\"=22", "port", "=22")]
    #[case("\"\" Port 22", "port", "22")]
    #[case("Port", "port", "")]
    #[case("IdentityFile2 x", "identityfile", "x")]
    #[case("Port 22\u{c}", "port", "22")]
    #[case("\u{feff}Port 22", "\u{feff}port", "22")]
    #[case("Port 22\0Port 23", "port", "22")]
    fn a_line_has_a_keyword(#[case] text: &str, #[case] keyword: &str, #[case] rest: &str) {
        let found: Vec<_> = lines(text.as_bytes()).collect();
        let expected =
            Line { keyword: keyword.to_owned(), rest: rest.as_bytes().to_vec(), number: 1 };
        assert_eq!(found, [expected]);
    }

    #[rstest]
    #[case("")]
    #[case(" \t\r\n\n")]
    #[case("# Port 22")]
    #[case("\t#Port 22")]
    #[case("\"Port 22")]
    #[case(" \"Port 22")]
    #[case("\0Port 22")]
    fn a_line_may_say_nothing(#[case] text: &str) {
        assert_eq!(lines(text.as_bytes()).count(), 0);
    }

    #[rstest]
    #[case("a b\tc", Some(vec!["a", "b", "c"]), vec!["a", "b", "c"])]
    #[case("a # b", Some(vec!["a"]), vec!["a", "#", "b"])]
    #[case("a#b", Some(vec!["a#b"]), vec!["a#b"])]
    #[case("\"a b\" 'c d'", Some(vec!["a b", "c d"]), vec!["a b", "'c", "d'"])]
    #[case("a\\ b", Some(vec!["a b"]), vec!["a\\", "b"])]
    #[case("\"a\\\"b\"", Some(vec!["a\"b"]), vec!["a\\"])]
    #[case("a\\nb", Some(vec!["a\\nb"]), vec!["a\\nb"])]
    #[case("a=b", Some(vec!["a=b"]), vec!["a", "b"])]
    #[case("a\"b c\"d", Some(vec!["ab cd"]), vec!["ab c", "d"])]
    #[case("a \"b", None, vec!["a"])]
    #[case("'", None, vec!["'"])]
    #[case("\"\" a", Some(vec!["", "a"]), vec![])]
    fn arguments_of_both_kinds(
        #[case] rest: &str,
        #[case] expected: Option<Vec<&str>>,
        #[case] before: Vec<&str>,
    ) {
        let bytes = |texts: Vec<&str>| {
            texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>()
        };
        assert_eq!(arguments(rest.as_bytes()), expected.map(bytes));
        assert_eq!(old_arguments(rest.as_bytes()), bytes(before));
    }
}
