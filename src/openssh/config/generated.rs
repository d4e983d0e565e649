//! Configurations of several files that include each other, in all the ways that lines can be
//! spelled.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::tests::Random;

/// Files by their paths below the directory. `home` is where an `Include` looks that has no
/// absolute path.
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
    "Match host target exec \"test -z '$PLACE'\"",
    "Match exec=true",
    "Match final",
    "Match canonical host x",
    "Match localuser nobody",
];

/// Lines of each file, which are joined by line ends.
pub(super) struct Case {
    pub files: Vec<(PathBuf, Vec<Vec<u8>>)>,
    end: &'static [u8],
}

impl Case {
    pub fn new(random: &mut Random, root: &Path) -> Self {
        let mut case = Case { files: Vec::new(), end: b"\n" };
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
                    0..3 => Case::include(random, root, index),
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

    fn include(random: &mut Random, root: &Path, index: usize) -> Vec<u8> {
        let mut line = Vec::new();
        for _ in 0..1 + random.below(2) {
            // Files that include each other are tried now and then.
            let from = if random.one_in(60) { 0 } else { index + 1 };
            let Some(targets) = FILES.get(from..).filter(|targets| !targets.is_empty()) else {
                continue;
            };
            let target = random.of(targets);
            let path = match target.strip_prefix("home/") {
                Some(own) if random.one_in(2) => match own.strip_prefix(".ssh/") {
                    Some(own) => own.to_owned(),
                    None => format!("~/{own}"),
                },
                _ => root.join(target).to_str().expect("it is text").to_owned(),
            };
            // A pattern for the whole of its own directory has a file include itself.
            let has_own = Path::new(target).parent() != Path::new(FILES[index]).parent();
            let path = patterned(random, &path, has_own);
            line.push(quoted(random, &path));
        }
        if random.one_in(10) {
            line.push(b"# comment".to_vec());
        }
        if line.is_empty() {
            line.push(root.join("missing").into_os_string().into_vec());
        }
        respelled(random, [b"Include ".to_vec(), line.join(&b" "[..])].concat())
    }

    pub fn write(&self, without: Option<(usize, usize)>) {
        for (index, (path, lines)) in self.files.iter().enumerate() {
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            let lines: Vec<_> = lines
                .iter()
                .enumerate()
                .map(|(line, text)| if without == Some((index, line)) { &b""[..] } else { text })
                .collect();
            std::fs::write(path, lines.join(self.end)).expect("a file");
            // ssh reads no file that others may write to.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
                .expect("its own file");
        }
    }
}

/// Now and then with a pattern in its last part.
fn patterned(random: &mut Random, path: &str, with_all: bool) -> String {
    let escaped = path.replace('\\', "\\\\").replace('[', "\\[");
    let (directory, name) = escaped.rsplit_once('/').unwrap_or(("", &escaped));
    let directory = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    match random.below(8) {
        0 if with_all => format!("{directory}*"),
        1 if with_all => format!("{directory}*.conf"),
        // For ssh, a letter of two bytes are two.
        2 => {
            let first = name.chars().next().map_or(0, char::len_utf8);
            format!("{directory}{}{}", "?".repeat(first), name.get(first..).unwrap_or_default())
        }
        3 if name.starts_with(|first: char| first.is_ascii_alphanumeric()) => {
            format!("{directory}[!.]{}", name.get(1..).unwrap_or_default())
        }
        4 if path.starts_with('/') => {
            format!(
                "/*{}",
                escaped.get(escaped[1..].find('/').map_or(0, |at| at + 1)..).unwrap_or_default()
            )
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
