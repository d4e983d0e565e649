//! Text from elsewhere, made fit for a message, a log or a terminal.

use std::fmt::{self, Write as _};
use std::io;

/// Text from a server or a shell, made fit for a terminal and a log: one line, no control
/// characters.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\t' | '\n' | '\r' => out.push(' '),
            // Bidirectional overrides reorder what is displayed around them.
            c if c.is_control()
                || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                out.extend(c.escape_unicode());
            }
            c => out.push(c),
        }
    }
    out
}

/// Bytes for `{:?}`: in quotes, escaped, and of what is long only both ends and the length.
pub(crate) struct Text<'a>(pub &'a [u8]);

impl Text<'_> {
    /// How many bytes of each end are shown. What is not longer than both is shown whole.
    const END: usize = 500;
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |f: &mut fmt::Formatter<'_>, bytes: &[u8]| {
            f.write_char('"')?;
            for chunk in bytes.utf8_chunks() {
                write!(f, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())?;
            }
            f.write_char('"')
        };
        let length = self.0.len();
        if length <= 2 * Self::END {
            return quoted(f, self.0);
        }
        // Where a character begins, or where there is none: it goes on for three bytes at most.
        let boundary = |at: usize| {
            let goes_on = |byte: &&u8| **byte & 0b1100_0000 == 0b1000_0000;
            at + self.0[at..].iter().take(3).take_while(goes_on).count()
        };
        let (head, tail) =
            (&self.0[..boundary(Self::END)], &self.0[boundary(length - Self::END)..]);
        quoted(f, head)?;
        f.write_str(" … ")?;
        quoted(f, tail)?;
        write!(f, " ({length} bytes)")
    }
}

/// What the system says, without its number and without a path that the message names already.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error ").map_or(&*text, |(words, _)| words).to_owned()
}

/// An error without the host before it: most errors name their host by themselves, and once is
/// enough.
pub(crate) fn without_host(error: &impl fmt::Display, host: &str) -> String {
    let text = error.to_string();
    text.strip_prefix(host).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("plain text", "plain text")]
    #[case("two\r\nlines\r\n", "two  lines")]
    #[case("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}")]
    #[case("a\u{202e}b", "a\\u{202e}b")]
    #[case("grün", "grün")]
    fn text_from_elsewhere_is_made_printable(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(printable(text), expected);
    }

    #[rstest]
    #[case::text(b"a \"b\"\n\tgr\xc3\xbcn", r#""a \"b\"\n\tgrün""#)]
    #[case::no_text(b"\x1b\xff\0a\xc3", r#""\u{1b}\xff\0a\xc3""#)]
    #[case::nothing(b"", r#""""#)]
    fn output_is_shown_as_text(#[case] bytes: &[u8], #[case] expected: &str) {
        assert_eq!(format!("{:?}", Text(bytes)), expected);
    }

    #[rstest]
    #[case::whole(1000, "a", "a", 1000, None)]
    #[case::one_too_long(1001, "a", "a", 500, Some(500))]
    #[case::large(1 << 20, "a", "a", 500, Some(500))]
    // 500 is no multiple of 3: the character at the cut stays whole in front, and is left out
    // behind.
    #[case::wide(3000, "€", "€", 167, Some(166))]
    #[case::not_even_text(3000, "\u{80}", "\\x80", 503, Some(497))]
    fn long_output_is_cut_and_its_length_said(
        #[case] length: usize,
        #[case] piece: &str,
        #[case] shown: &str,
        #[case] head: usize,
        #[case] tail: Option<usize>,
    ) {
        // The second byte of U+0080 alone is the middle of a character that has no beginning.
        let piece = if piece == "\u{80}" { &piece.as_bytes()[1..] } else { piece.as_bytes() };
        let expected = match tail {
            None => format!("\"{}\"", shown.repeat(head)),
            Some(tail) => {
                format!("\"{}\" … \"{}\" ({length} bytes)", shown.repeat(head), shown.repeat(tail))
            }
        };
        assert_eq!(format!("{:?}", Text(&piece.repeat(length / piece.len()))), expected);
    }
}
