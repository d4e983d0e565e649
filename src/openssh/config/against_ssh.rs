//! Generated configurations, read by ssh and by the reader. Where ssh's answer hangs on a line, the reader has to have seen that line.
//!
//! `SSHPOOL_READER_CASES` has more of them tried, `SSHPOOL_READER_SEED` others.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::tests::Random;
use super::{Reading, Source, read};

/// Files by their paths below the directory. `home` is where an `Include` looks that has no absolute path.
const FILES: &[&str] = &[
    "Main",
    "Conf.d/10-A.conf",
    "Conf.d/20-b.conf",
    "Conf.d/.hidden.conf",
    "With Blank/c d.conf",
    "x/e=f.conf",
    "x/h#i.conf",
    "x/it's.conf",
    "x/[q].conf",
    "x/back\\slash.conf",
    "x/\u{e9}.conf",
    "x/$V.conf",
    "x/%h.conf",
    "home/.ssh/Own.conf",
    "home/.ssh/Sub/Z.conf",
    "home/at.home",
];

const OPTIONS: &[&str] = &[
    "Port @",
    "User u@",
    "HostName h@",
    "StrictHostKeyChecking yes",
    "StrictHostKeyChecking no",
    "IdentityFile /m/@",
    "IdentityFile2 /m/@",
    "CertificateFile /m/@",
    "SendEnv M_@",
    "SetEnv S=@",
    "LocalForward @ a:1",
    "ProxyCommand p @ # x",
    "ConnectTimeout @",
    "UserKnownHostsFile \"/m/@ a\" ~/@",
    "HostKeyAlias k@",
    "IdentityAgent $PLACE",
    "ForwardAgent /m/@",
    "ControlPath /m/@/${PLACE}",
    "KeepAlive no",
    "ChallengeResponseAuthentication no",
    "HostbasedKeyTypes ssh-rsa",
    "AddressFamily inet",
    "LogLevel VERBOSE",
    "NoSuchOption @",
    "IgnoreUnknown NoSuch*",
    "CanonicalDomains d.@",
];

const BLOCKS: &[&str] = &[
    "Host target",
    "Host other",
    "Host *",
    "Host t* !x",
    "Host \"target\" 'b'",
    "Match all",
    "Match host target",
    "Match Host=target",
    "Match originalhost t*,x",
    "Match user root",
    "Match !host other",
    "Match exec \"test -n '$PLACE'\"",
    "Match host target exec \"test -z \\\"$PLACE\\\"\"",
    "Match exec=true",
    "Match final",
    "Match canonical host x",
    "Match localuser nobody",
];

/// Lines of each file, which are joined by line ends.
struct Case {
    files: Vec<(PathBuf, Vec<Vec<u8>>)>,
    end: &'static [u8],
    /// All versions of ssh read the arguments of `Include` in the same way.
    is_plain: bool,
}

impl Case {
    fn new(random: &mut Random, root: &Path) -> Self {
        let mut case = Case { files: Vec::new(), end: b"\n", is_plain: true };
        if random.one_in(5) {
            case.end = b"\r\n";
        }
        let with_nonsense = random.one_in(10);
        let mut number = 1000;
        for (index, name) in FILES.iter().enumerate() {
            if index > 0 && random.one_in(3) {
                continue;
            }
            let mut lines = Vec::new();
            for _ in 0..2 + random.below(5) {
                number += 1;
                let line = match random.below(if index == 0 { 6 } else { 9 }) {
                    0..3 => case.include(random, root, index),
                    3 => {
                        let block = random.of(BLOCKS);
                        respelled(random, block)
                    }
                    _ => {
                        let option = random.of(OPTIONS);
                        let is_taken = with_nonsense || !option.starts_with("NoSuch");
                        let option = if is_taken { option } else { "Compression yes" };
                        respelled(random, option.replace('@', &number.to_string()))
                    }
                };
                lines.push(line);
            }
            case.files.push((root.join(name), lines));
        }
        case
    }

    fn include(&mut self, random: &mut Random, root: &Path, index: usize) -> Vec<u8> {
        let mut line = Vec::new();
        for _ in 0..1 + random.below(2) {
            // Files that include each other are tried now and then.
            let from = if random.one_in(40) { 0 } else { index + 1 };
            let Some(targets) = FILES.get(from..).filter(|targets| !targets.is_empty()) else { continue };
            let target = random.of(targets);
            let path = match target.strip_prefix("home/") {
                Some(own) if random.one_in(2) => match own.strip_prefix(".ssh/") {
                    Some(own) => own.to_owned(),
                    None => format!("~/{own}"),
                },
                _ => root.join(target).to_str().expect("it is text").to_owned(),
            };
            let path = patterned(random, &path);
            self.is_plain &= !path.contains(['$', '%', '=', '#', '\'', '\\', '"', ' ']);
            line.push(quoted(random, &path));
        }
        if random.one_in(10) {
            line.push(b"# comment".to_vec());
            self.is_plain = false;
        }
        if line.is_empty() {
            line.push(root.join("missing").into_os_string().into_vec());
        }
        respelled(random, [b"Include ".to_vec(), line.join(&b" "[..])].concat())
    }

    fn write(&self, without: Option<(usize, usize)>) {
        for (index, (path, lines)) in self.files.iter().enumerate() {
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            let lines: Vec<_> = lines
                .iter()
                .enumerate()
                .map(|(line, text)| if without == Some((index, line)) { &b""[..] } else { text })
                .collect();
            std::fs::write(path, lines.join(self.end)).expect("a file");
            // ssh reads no file that others may write to.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its own file");
        }
    }
}

/// Now and then with a pattern in its last part.
fn patterned(random: &mut Random, path: &str) -> String {
    let escaped = path.replace('\\', "\\\\").replace('[', "\\[");
    let (directory, name) = escaped.rsplit_once('/').unwrap_or(("", &escaped));
    let directory = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    match random.below(8) {
        0 => format!("{directory}*"),
        1 => format!("{directory}*.conf"),
        2 => format!("{directory}?{}", name.chars().skip(1).collect::<String>()),
        3 if name.starts_with(|first: char| first.is_ascii_alphanumeric()) => {
            format!("{directory}[!.]{}", name.get(1..).unwrap_or_default())
        }
        4 if path.starts_with('/') => {
            format!("/*{}", escaped.get(escaped[1..].find('/').map_or(0, |at| at + 1)..).unwrap_or_default())
        }
        _ => escaped,
    }
}

fn quoted(random: &mut Random, path: &str) -> Vec<u8> {
    let needed = path.contains([' ', '\'', '#']);
    let text = match random.below(4) {
        0 if !path.contains('\'') => format!("'{}'", path.replace('\\', "\\\\")),
        1 => format!("\"{}\"", path.replace('\\', "\\\\")),
        2 if !needed => path.replace('\\', "\\\\"),
        3 if path.contains('/') && !path.contains('\'') => {
            let (before, after) = path.split_once('/').unwrap_or_default();
            format!("{before}/\"{}\"", after.replace('\\', "\\\\"))
        }
        _ => path.replace('\\', "\\\\").replace(' ', "\\ ").replace('\'', "\\'"),
    };
    text.into_bytes()
}

/// The same line with other capitals, blanks and an equals sign.
fn respelled(random: &mut Random, line: impl AsRef<[u8]>) -> Vec<u8> {
    let line = line.as_ref();
    let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    let (keyword, rest) = line.split_at(end);
    let keyword = match random.below(4) {
        0 => keyword.to_ascii_lowercase(),
        1 => keyword.to_ascii_uppercase(),
        2 if random.one_in(4) => [b"\"", keyword, b"\""].concat(),
        _ => keyword.to_vec(),
    };
    let before = random.of::<&[u8]>(&[b"", b"", b"  ", b"\t", b" \t"]);
    let between = random.of::<&[u8]>(&[b" ", b" ", b" ", b"\t", b"  ", b" = ", b" ="]);
    let between = if keyword.starts_with(b"\"") { &b" "[..] } else { between };
    let after = random.of::<&[u8]>(&[b"", b"", b"", b" ", b"\t", b"\x0c"]);
    [before, &*keyword, between, rest.trim_ascii_start(), after].concat()
}

/// What ssh has to say, and the files that it has read.
struct Answer {
    resolved: Option<String>,
    files: BTreeSet<PathBuf>,
}

#[expect(clippy::disallowed_methods, reason = "ssh itself is what is compared with")]
fn ask(root: &Path, place: &str) -> Answer {
    let mut ssh = std::process::Command::new("ssh");
    ssh.args(["-G", "-v", "-F"]).arg(root.join("Main")).args(["--", "target"]);
    ssh.current_dir(root).env("HOME", root.join("home")).env("PLACE", place).env("SHELL", "/bin/sh");
    let output = ssh.stdin(std::process::Stdio::null()).output().expect("ssh is there");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let read = said.lines().filter_map(|line| line.strip_prefix("debug1: Reading configuration data "));
    Answer {
        resolved: output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()),
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
    let there =
        reading.files().iter().filter(|file| file.is_there()).map(|file| file.path().components().collect());
    let there: BTreeSet<PathBuf> = there.collect();
    let missed: Vec<_> =
        answer.files.iter().filter(|path| !there.contains(&path.components().collect::<PathBuf>())).collect();
    assert!(missed.is_empty(), "ssh reads {missed:?}: {}", show());
    counts.files.fetch_add(answer.files.len(), Ordering::Relaxed);
    if answer.resolved.is_some() {
        counts.answered.fetch_add(1, Ordering::Relaxed);
        if case.is_plain && reading.unclear().is_empty() {
            let regular: BTreeSet<_> = there.iter().filter(|path| path.is_file()).cloned().collect();
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
        assert!(reading.needs_asking() || reading.variables().contains(OsStr::new("PLACE")), "{}", show());
    }
    // One line less.
    for _ in 0..2 {
        let file = random.below(case.files.len());
        let (path, lines) = &case.files[file];
        let line = random.below(lines.len());
        case.write(Some((file, line)));
        assert!(!there.contains(path) || !reading.is_current() || lines[line].is_empty(), "{}", show());
        if ask(root, "here").resolved != answer.resolved {
            counts.lines.fetch_add(1, Ordering::Relaxed);
            let is_seen = |mention: &super::Mention| {
                let seen = reading.files()[mention.file].path();
                mention.line == line + 1 && (seen == path || seen.components().eq(path.components()))
            };
            assert!(reading.mentions.iter().any(is_seen), "line {} of {path:?}: {}", line + 1, show());
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
                    let number = u64::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("it fits");
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
