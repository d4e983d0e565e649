//! Generated configurations, read by ssh and by the reader. Where ssh's answer hangs on a line, the
//! reader has to have seen that line.
//!
//! `SSHPOOL_READER_CASES` has more of them tried, `SSHPOOL_READER_SEED` others.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::generated::Case;
use super::tests::Random;
use super::{Reading, Source, read};

/// What ssh has to say, and the files that it has read.
struct Answer {
    resolved: Option<String>,
    files: BTreeSet<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "ssh itself is what is compared with")]
fn ask(root: &Path, place: &str) -> Answer {
    let mut ssh = std::process::Command::new("ssh");
    ssh.args(["-G", "-v", "-F"]).arg(root.join("Main")).args(["--", "target"]);
    ssh.current_dir(root)
        .env("HOME", root.join("home"))
        .env("PLACE", place)
        .env("SHELL", "/bin/sh");
    let output = ssh.stdin(std::process::Stdio::null()).output().expect("ssh is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let read =
        said.lines().filter_map(|line| line.strip_prefix("debug1: Reading configuration data "));
    Answer {
        resolved: output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned()),
        files: read.map(|path| PathBuf::from(unescaped(path.trim_end()))).collect(),
    }
}

/// ssh writes bytes that are not ASCII as octal numbers, and a backslash twice.
fn unescaped(text: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => bytes.push(*byte),
        }
    }
    OsString::from_vec(bytes)
}

fn read_as(root: &Path, place: &str) -> Reading {
    let home = root.join("home");
    let variable = |name: &OsStr| match name.as_bytes() {
        b"HOME" => Some(home.clone().into_os_string()),
        b"PLACE" => Some(place.into()),
        _ => None,
    };
    let own = super::home().expect("tests are run by a user");
    read(Source::File(Path::new("Main")), root, &own, &variable)
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicUsize,
    files: AtomicUsize,
    lines: AtomicUsize,
    places: AtomicUsize,
    exact: AtomicUsize,
}

fn try_one(seed: u64, counts: &Counts) {
    let random = &mut Random::new(seed);
    let directory = tempfile::Builder::new().prefix("Reader").tempdir().expect("a directory");
    let root = directory.path();
    let case = Case::new(random, root);
    case.write(None);
    let reading = read_as(root, "here");
    let answer = ask(root, "here");
    let show = || {
        let files = case.files.iter().map(|(path, lines)| {
            format!("== {}\n{}\n", path.display(), String::from_utf8_lossy(&lines.join(&b"\n"[..])))
        });
        format!("seed {seed}\n{}{reading:#?}", files.collect::<String>())
    };
    let there = reading
        .files()
        .iter()
        .filter(|file| file.is_there())
        .map(|file| file.path().components().collect());
    let there: BTreeSet<PathBuf> = there.collect();
    let missed: Vec<_> = answer
        .files
        .iter()
        .filter(|path| !there.contains(&path.components().collect::<PathBuf>()))
        .collect();
    assert!(missed.is_empty(), "ssh reads {missed:?}: {}", show());
    counts.files.fetch_add(answer.files.len(), Ordering::Relaxed);
    if answer.resolved.is_some() {
        counts.answered.fetch_add(1, Ordering::Relaxed);
        if reading.unclear().is_empty() {
            let regular: BTreeSet<_> =
                there.iter().filter(|path| path.is_file()).cloned().collect();
            let read: BTreeSet<_> = answer
                .files
                .iter()
                .map(|path| path.components().collect::<PathBuf>())
                .filter(|path| path.is_file())
                .collect();
            assert_eq!(regular, read, "{}", show());
            counts.exact.fetch_add(1, Ordering::Relaxed);
        }
    }
    // Another place.
    if ask(root, "").resolved != answer.resolved {
        counts.places.fetch_add(1, Ordering::Relaxed);
        assert!(
            reading.needs_asking() || reading.variables().contains(OsStr::new("PLACE")),
            "{}",
            show()
        );
    }
    // One line less.
    let read = case.files.iter().enumerate().filter(|(_, (path, _))| there.contains(path));
    let read: Vec<_> = read.map(|(file, _)| file).collect();
    for _ in 0..2 {
        let file = if random.one_in(8) { random.below(case.files.len()) } else { random.of(&read) };
        let (path, lines) = &case.files[file];
        let line = random.below(lines.len());
        case.write(Some((file, line)));
        assert!(
            !there.contains(path) || !reading.is_current() || lines[line].is_empty(),
            "{}",
            show()
        );
        if ask(root, "here").resolved != answer.resolved {
            counts.lines.fetch_add(1, Ordering::Relaxed);
            let is_seen = |mention: &super::Mention| {
                let seen = reading.files()[mention.file].path();
                mention.line == line + 1
                    && (seen == path || seen.components().eq(path.components()))
            };
            assert!(
                reading.mentions.iter().any(is_seen),
                "line {} of {path:?}: {}",
                line + 1,
                show()
            );
        }
    }
}

#[test]
fn what_ssh_goes_by_is_seen() {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let cases = number("SSHPOOL_READER_CASES").unwrap_or(120);
    let first = number("SSHPOOL_READER_SEED").unwrap_or(0);
    let counts = Counts::default();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let number =
                        u64::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("it fits");
                    if number >= cases {
                        break;
                    }
                    try_one(first + number, &counts);
                }
            });
        }
    });
    println!("{cases} cases: {counts:?}");
    // A generator whose cases ssh does not take, or that changes nothing, shows nothing.
    let least = |count: &AtomicUsize, part| {
        assert!(count.load(Ordering::Relaxed) as u64 * part >= cases, "{counts:?}")
    };
    least(&counts.answered, 3);
    least(&counts.lines, 10);
    least(&counts.places, 20);
}
