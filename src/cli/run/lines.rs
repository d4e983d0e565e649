//! Output in whole lines, each with its host before it.

/// A line is held until its end has come, so that nothing gets into it. One that is longer is
/// parted: nobody's memory is endless.
const LONGEST: usize = 1024 * 1024;

/// Makes lines of what comes in pieces.
pub(in crate::cli) struct Lines {
    prefix: Vec<u8>,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    longest: usize,
    colored: bool,
}

/// Easy to tell apart, and none of them looks like an error.
const COLORS: [&str; 10] = ["36", "32", "33", "35", "34", "96", "92", "93", "95", "94"];

impl Lines {
    /// With the name before each line; the nth one has the nth colour.
    pub(in crate::cli) fn new(name: &str, color: Option<usize>) -> Self {
        let prefix = match color {
            Some(nth) => format!("\x1b[{}m{name}:\x1b[0m ", COLORS[nth % COLORS.len()]),
            None => format!("{name}: "),
        };
        Lines {
            prefix: prefix.into_bytes(),
            begun: Vec::new(),
            longest: LONGEST,
            colored: color.is_some(),
        }
    }

    /// The lines that are whole now.
    pub(in crate::cli) fn take(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            self.add(line, &mut whole);
            self.end(&mut whole);
        }
        self.add(bytes, &mut whole);
        whole
    }

    /// What is left at the end, with the end of line that it lacks.
    pub(in crate::cli) fn finish(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        if !self.begun.is_empty() {
            self.end(&mut whole);
        }
        whole
    }

    fn add(&mut self, mut part: &[u8], whole: &mut Vec<u8>) {
        while self.begun.len() + part.len() > self.longest {
            let (fits, rest) = part.split_at(self.longest - self.begun.len());
            self.begun.extend_from_slice(fits);
            part = rest;
            self.end(whole);
        }
        self.begun.extend_from_slice(part);
    }

    fn end(&mut self, whole: &mut Vec<u8>) {
        whole.extend_from_slice(&self.prefix);
        // A colour that a line leaves on would be that of the next host's.
        let leaves_on = self.colored && self.begun.contains(&b'\x1b');
        whole.append(&mut self.begun);
        if leaves_on {
            whole.extend_from_slice(b"\x1b[0m");
        }
        whole.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use rstest::rstest;

    fn lines(longest: usize, pieces: &[&[u8]]) -> Vec<u8> {
        let mut lines = Lines { longest, ..Lines::new("h", None) };
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| lines.take(piece)).collect();
        all.extend(lines.finish());
        all
    }

    #[rstest]
    #[case::nothing(&[&b""[..]], b"")]
    #[case::line(&[&b"a\n"[..]], b"h: a\n")]
    #[case::empty_line(&[&b"\n\n"[..]], b"h: \nh: \n")]
    #[case::pieces(&[&b"a"[..], b"b\nc", b"\n"], b"h: ab\nh: c\n")]
    #[case::no_end(&[&b"a\nb"[..]], b"h: a\nh: b\n")]
    #[case::binary(&[&b"\xff\0\r\nb"[..]], b"h: \xff\0\r\nh: b\n")]
    #[case::just_long_enough(&[&b"1234\n12"[..], b"34", b"\n"], b"h: 1234\nh: 1234\n")]
    #[case::too_long(&[&b"123"[..], b"456789\n"], b"h: 1234\nh: 5678\nh: 9\n")]
    fn lines_are_whole(#[case] pieces: &[&[u8]], #[case] expected: &[u8]) {
        assert_eq!(lines(4, pieces), expected);
    }

    #[test]
    fn the_host_has_its_colour_and_no_other_goes_past_its_line() {
        let mut lines = Lines::new("web1", Some(11));
        let text = lines.take(b"a\n\x1b[31mb\n");
        let expected = "\x1b[32mweb1:\x1b[0m a\n\x1b[32mweb1:\x1b[0m \x1b[31mb\x1b[0m\n";
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    proptest! {
        #[test]
        fn however_it_comes_it_is_the_same(
            text in vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
            cuts in vec(0..200_usize, 0..10),
            longest in 1..50_usize,
        ) {
            let mut pieces = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut start = 0;
            for cut in cuts.into_iter().chain([text.len()]) {
                pieces.push(&text[start..cut]);
                start = cut;
            }
            let written = lines(longest, &pieces);
            prop_assert_eq!(&written, &lines(longest, &[&text]));
            let mut read = Vec::new();
            for line in written.split_inclusive(|byte| *byte == b'\n') {
                let line = line.strip_prefix(b"h: ").expect("each line has its host");
                prop_assert!(line.len() <= longest + 1 && line.ends_with(b"\n"));
                read.extend_from_slice(line);
            }
            if text.split(|byte| *byte == b'\n').all(|line| line.len() <= longest) {
                let end: &[u8] = if text.is_empty() || text.ends_with(b"\n") { b"" } else { b"\n" };
                prop_assert_eq!(read, [&*text, end].concat());
            }
        }
    }
}
