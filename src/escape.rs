//! Words for a remote shell.

#[cfg(test)]
mod properties;

/// Appends `word` so that a shell takes it for exactly this one word.
///
/// Single quotes do it for everything but three characters that some shell treats specially even there: the quote itself, the backslash
/// (fish) and `!` (csh). Those stand outside of the quotes, behind a backslash, which every shell reads the same way.
pub(crate) fn escape(word: &str, into: &mut String) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        into.push_str(word);
        return;
    }
    let mut quoted = false;
    for c in word.chars() {
        let special = matches!(c, '\'' | '\\' | '!');
        if special == quoted {
            into.push('\'');
            quoted = !quoted;
        }
        if special {
            into.push('\\');
        }
        into.push(c);
    }
    if quoted {
        into.push('\'');
    } else if word.is_empty() {
        into.push_str("''");
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
        let mut text = String::new();
        escape(word, &mut text);
        assert_eq!(text, expected);
    }
}
