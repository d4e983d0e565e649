//! Bytes of any kind.

use std::path::Path;

use super::{Random, Tree};
use crate::openssh::config::{Source, criteria, glob, line};

const PIECES: &[&[u8]] = &[
    b"Include ",
    b"include=",
    b"DIR/",
    b"more/",
    b"*",
    b"?",
    b"[",
    b"]",
    b"[!a-",
    b"\\",
    b"\"",
    b"'",
    b" ",
    b"\t",
    b"\n",
    b"\r\n",
    b"#",
    b"=",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"Host ",
    b"Match ",
    b"exec ",
    b"all",
    b"host=",
    b"!",
    b"${",
    b"}",
    b"$",
    b"%",
    b"%d",
    b"~",
    b"~root/",
    b"a",
    b"Port 22",
    b"IgnoreUnknown x",
    b"\x0c",
    b"..",
    b"/",
    b"[[:",
    b":]",
];

/// Random bytes, or a few pieces of a configuration with some of them in between.
fn bytes(random: &mut Random, directory: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let only_bytes = random.one_in(4);
    for _ in 0..random.below(40) {
        match random.of(PIECES) {
            _ if only_bytes || random.one_in(8) => {
                bytes.push(u8::try_from(random.below(256)).expect("it fits"));
            }
            b"DIR/" => bytes.extend([directory, b"/"].concat()),
            piece => bytes.extend_from_slice(piece),
        }
    }
    bytes
}

/// None of them makes it panic.
#[test]
fn any_bytes_are_taken_apart() {
    let mut random = Random::new(41);
    for _ in 0..5000 {
        let bytes = bytes(&mut random, b"/d");
        for line in line::lines(&bytes) {
            assert!(!line.keyword.is_empty() && line.number > 0);
            criteria::of(&line.rest);
        }
        line::arguments(&bytes);
        let (segments, _) = glob::segments(&bytes);
        for segment in &segments {
            segment.matches(&bytes);
            // What is a name matches itself.
            assert!(segment.name().is_none_or(|name| segment.matches(&name)));
        }
    }
}

/// Or wait.
#[test]
fn any_bytes_are_read() {
    let tree = Tree::new(&[("more/a", "Host a\n"), ("more/b", "Include DIR/config\n")]);
    let directory = tree.0.path().to_str().expect("it is text").as_bytes();
    let mut random = Random::new(14);
    for _ in 0..1000 {
        let bytes = bytes(&mut random, directory);
        std::fs::write(tree.path("config"), &bytes).expect("a file");
        let reading = tree.read(Source::File(Path::new("config")));
        reading.needs_asking();
        assert!(reading.is_current());
    }
}
