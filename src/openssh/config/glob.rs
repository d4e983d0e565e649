//! Patterns of file names as `Include` has them, over bytes. ssh brings its own glob(3) on most
//! systems; where implementations differ, a name matches here if one of them would have it.

/// A piece of a pattern between slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Segment(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Token {
    Byte(u8),
    One,
    Many,
    Set(Set),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Set {
    negated: bool,
    /// With both ends.
    ranges: Vec<(u8, u8)>,
    /// What is read in more than one way matches everything.
    everything: bool,
}

/// Takes a pattern apart. `false` where a bracket is open over a slash: that is read in more than
/// one way.
pub(super) fn segments(pattern: &[u8]) -> (Vec<Segment>, bool) {
    let mut is_clear = true;
    let mut segments = Vec::new();
    for (index, text) in pattern.split(|byte| *byte == b'/').enumerate() {
        let (segment, has_open_bracket) = segment(text);
        let later = pattern.split(|byte| *byte == b'/').skip(index + 1);
        is_clear &= !has_open_bracket || !later.flatten().any(|byte| *byte == b']');
        if !text.is_empty() {
            segments.push(segment);
        }
    }
    (segments, is_clear)
}

fn segment(mut text: &[u8]) -> (Segment, bool) {
    let mut tokens = Vec::new();
    let mut has_open_bracket = false;
    while let Some((byte, rest)) = text.split_first() {
        text = rest;
        match byte {
            b'*' if tokens.last() == Some(&Token::Many) => {}
            b'*' => tokens.push(Token::Many),
            b'?' => tokens.push(Token::One),
            b'\\' => match rest.split_first() {
                Some((escaped, rest)) => {
                    tokens.push(Token::Byte(*escaped));
                    text = rest;
                }
                None => tokens.push(Token::Byte(b'\\')),
            },
            b'[' => match set(rest) {
                Some((set, rest)) => {
                    tokens.push(Token::Set(set));
                    text = rest;
                }
                None => {
                    has_open_bracket = true;
                    tokens.push(Token::Byte(b'['));
                }
            },
            byte => tokens.push(Token::Byte(*byte)),
        }
    }
    (Segment(tokens), has_open_bracket)
}

/// What is behind a `[`, up to the `]` that closes it.
fn set(text: &[u8]) -> Option<(Set, &[u8])> {
    let mut set = Set::default();
    let mut rest = match text {
        [b'!', rest @ ..] => {
            set.negated = true;
            rest
        }
        // A negation for some.
        [b'^', rest @ ..] => {
            set.everything = true;
            rest
        }
        _ => text,
    };
    let mut is_first = true;
    loop {
        let (byte, after) = rest.split_first()?;
        match (*byte, after) {
            (b']', _) if !is_first => return Some((set, after)),
            (b'[', [b':' | b'.' | b'=', more @ ..]) => {
                set.everything = true;
                // Up to its own end, if there is one.
                rest = match more
                    .windows(2)
                    .position(|pair| matches!(pair, [b':' | b'.' | b'=', b']']))
                {
                    Some(at) => more.get(at + 2..).unwrap_or_default(),
                    None => after,
                };
            }
            (b'\\', [escaped, more @ ..]) => {
                set.ranges.push((*escaped, *escaped));
                // The end of a range may be escaped too.
                set.everything |= more.starts_with(b"-");
                rest = more;
            }
            (from, [b'-', to, more @ ..]) if *to != b']' => {
                set.everything |= *to == b'\\' || !from.is_ascii() || !to.is_ascii();
                set.ranges.push((from, *to));
                rest = if *to == b'\\' { more.get(1..).unwrap_or_default() } else { more };
            }
            (byte, _) => {
                set.ranges.push((byte, byte));
                rest = after;
            }
        }
        is_first = false;
    }
}

impl Set {
    fn has(&self, byte: u8) -> bool {
        let is_in = self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&byte));
        self.everything || is_in != self.negated
    }
}

impl Segment {
    /// The name that it stands for, if it stands for one.
    pub fn name(&self) -> Option<Vec<u8>> {
        self.0
            .iter()
            .map(|token| if let Token::Byte(byte) = token { Some(*byte) } else { None })
            .collect()
    }

    pub fn matches(&self, name: &[u8]) -> bool {
        if name.starts_with(b".") && self.0.first() != Some(&Token::Byte(b'.')) {
            return false;
        }
        // Which lengths of the name's beginning the tokens so far match.
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        for token in &self.0 {
            let mut next = vec![false; name.len() + 1];
            for start in (0..=name.len()).filter(|start| reached[*start]) {
                match token {
                    Token::Many => next[start..].fill(true),
                    Token::Byte(byte) if name.get(start) == Some(byte) => next[start + 1] = true,
                    Token::Byte(_) => {}
                    Token::One | Token::Set(_) => {
                        let Some(byte) = name.get(start) else { continue };
                        if matches!(token, Token::One)
                            || matches!(token, Token::Set(set) if set.has(*byte))
                        {
                            next[start + 1] = true;
                        }
                        // Some implementations see characters.
                        if let Some(length) = character(&name[start..]) {
                            next[start + length] = true;
                        }
                    }
                }
            }
            reached = next;
        }
        reached[name.len()]
    }
}

/// The length of a character that is more than a byte.
fn character(text: &[u8]) -> Option<usize> {
    (2..=4).find(|length| text.get(..*length).is_some_and(is_one_character))
}

fn is_one_character(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.chars().count() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("*.conf", &["a.conf", "A.B.conf"], &["a.CONF", ".conf", ".a.conf", "a.conf2", ""])]
    #[case("a?c", &["abc", "a\u{e9}c"], &["ac", "abbc"])]
    #[case("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"])]
    #[case("[!a-c]x", &["dx", "-x"], &["ax"])]
    #[case("[]a]x", &["]x", "ax"], &["bx"])]
    #[case("[a-]x", &["ax", "-x"], &["bx"])]
    #[case("[[:digit:]]x", &["1x"], &["x"])]
    #[case("[ab", &["[ab"], &["a"])]
    #[case("\\*x", &["*x"], &["ax", "\\*x"])]
    #[case("a\\", &["a\\"], &["a"])]
    #[case("**a**", &["a", "bab"], &["b"])]
    #[case(".*", &[".a"], &["a"])]
    #[case("[.]a", &[], &[".a"])]
    #[case("*a*a*a*a*b", &["aaaab"], &["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"])]
    fn names_match(#[case] pattern: &str, #[case] fitting: &[&str], #[case] others: &[&str]) {
        let (found, is_clear) = segments(pattern.as_bytes());
        assert!(is_clear && found.len() == 1);
        assert!(fitting.iter().all(|name| found[0].matches(name.as_bytes())));
        assert!(!others.iter().any(|name| found[0].matches(name.as_bytes())));
    }

    #[test]
    fn a_segment_may_be_a_name() {
        let (found, is_clear) = segments(b"/etc//Conf.d/a\\*/[x/y]");
        let names: Vec<_> = found.iter().map(Segment::name).collect();
        assert_eq!(names.len(), 5);
        assert_eq!(names[2], Some(b"a*".to_vec()));
        assert!(!is_clear);
        assert_eq!(segments(b"/a?").0[0].name(), None);
    }
}
