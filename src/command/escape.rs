//! Words for a remote shell.

#[cfg(test)]
mod properties;

/// Appends `word` so that a shell takes it for exactly this one word.
///
/// Single quotes do it for everything but three characters that some shell treats specially even
/// there: the quote itself, the backslash (fish) and `!` (csh). Those stand outside of the quotes,
/// behind a backslash, which every shell reads the same way.
pub(crate) fn escape(word: &[u8], into: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-./:,@%+".contains(byte);
    if !word.is_empty() && word.iter().all(plain) {
        into.extend_from_slice(word);
        return;
    }
    let mut quoted = false;
    // None of the three is a byte of a longer character, in UTF-8 or in Latin-1.
    for &byte in word {
        let special = matches!(byte, b'\'' | b'\\' | b'!');
        if special == quoted {
            into.push(b'\'');
            quoted = !quoted;
        }
        if special {
            into.push(b'\\');
        }
        into.push(byte);
    }
    if quoted {
        into.push(b'\'');
    } else if word.is_empty() {
        into.extend_from_slice(b"''");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("plain-1.2/x:y,z@w%+", "plain-1.2/x:y,z@w%+")]
    #[case("", "''")]
    #[case("a b", "'a b'")]
    #[case("it's", "'it'\\''s'")]
    #[case("\\", "\\\\")]
    #[case("a\\b", "'a'\\\\'b'")]
    #[case("!", "\\!")]
    #[case("$(reboot)", "'$(reboot)'")]
    #[case("a\nb", "'a\nb'")]
    #[case("~", "'~'")]
    #[case("x=1", "'x=1'")]
    fn words_are_escaped(#[case] word: &str, #[case] expected: &str) {
        let mut text = Vec::new();
        escape(word.as_bytes(), &mut text);
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    #[test]
    fn b9_words_are_bytes() {
        let mut text = Vec::new();
        escape(b"caf\xe9 '\xff!", &mut text);
        assert_eq!(text, b"'caf\xe9 '\\''\xff'\\!");
    }
}
