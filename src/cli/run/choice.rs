//! Which hosts are meant.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::failure::Failure;
use crate::cli::output::complain;
use crate::cli::setup::Setup;
use crate::host::set::HostSet;
use crate::host::{Host, shortened};
use crate::text::plain;

#[derive(Debug, Args)]
pub(super) struct Choice {
    /// Hosts, with commas between them: names, [user@]host[:port], ranges such as web[1-20], groups
    /// such as @web
    #[arg(short = 'w', value_name = "HOSTS")]
    which: Vec<String>,

    /// The hosts of a group from the [groups] of the TOML file; several with commas between them
    #[arg(short, long, value_name = "GROUP")]
    group: Vec<String>,

    /// Hosts from a file, one a line or as for -w; a word that begins with # begins a comment, and - is stdin
    #[arg(long, value_name = "FILE")]
    hosts: Vec<PathBuf>,

    /// Leave these hosts out, named as for -w. A name alone leaves the host out whatever its user
    /// and port
    #[arg(short = 'x', long, value_name = "HOSTS")]
    exclude: Vec<String>,
}

/// A host, and what it is called here: as the user did.
pub(super) struct Target {
    pub label: String,
    pub host: Host,
    /// Counted from 0.
    pub place: usize,
}

impl Choice {
    /// The hosts in the order in which they were named, each of them once. There is at least one.
    pub(super) fn targets(
        &self,
        setup: &Setup,
        command: &[OsString],
        stdin_is_taken: bool,
    ) -> Result<Vec<Target>, Failure> {
        let mut set = self.named(setup, stdin_is_taken)?;
        if set.is_empty() {
            return Err(Failure::Usage(self.nobody(command)));
        }
        for text in &self.exclude {
            let excluded = setup.config.host_set(text).map_err(usage)?;
            if set.remove(&excluded) == 0 && !excluded.is_empty() {
                complain(format_args!(
                    "-x {text} leaves nobody out: none of these hosts was chosen"
                ));
            }
        }
        if set.is_empty() {
            return Err(Failure::Usage("-x leaves out all hosts that were chosen".to_owned()));
        }
        // web1 and deploy@web1 can be one and the same, where the file says so.
        let mut seen = HashSet::new();
        let mut targets = Vec::new();
        for label in &set {
            let host = setup.host(label)?;
            if seen.insert(host.identity().clone()) {
                targets.push(Target { label: label.clone(), host, place: targets.len() });
            }
        }
        Ok(targets)
    }

    fn named(&self, setup: &Setup, stdin_is_taken: bool) -> Result<HostSet, Failure> {
        let mut set = setup.host_set(&self.which)?;
        for text in &self.group {
            for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                let name = name.strip_prefix('@').unwrap_or(name);
                set.add(&setup.config.host_set(&format!("@{name}")).map_err(usage)?)
                    .map_err(usage)?;
            }
        }
        let from_stdin = self.hosts.iter().filter(|path| is_stdin(path)).count();
        if from_stdin > 1 || (from_stdin == 1 && stdin_is_taken) {
            return Err(Failure::Usage(
                "stdin can be read only once: write the hosts into a file".to_owned(),
            ));
        }
        for path in &self.hosts {
            let (name, bytes) = contents(path)?;
            for (number, line) in lines(&bytes) {
                let wrong = |reason: &dyn std::fmt::Display| {
                    Failure::Usage(format!("{name}:{number}: {reason}"))
                };
                let hosts = std::str::from_utf8(line)
                    .map_err(|_| wrong(&"not UTF-8: save the file as UTF-8 text"))?;
                let hosts = setup.config.host_set(hosts);
                hosts.and_then(|hosts| set.add(&hosts)).map_err(|error| wrong(&error))?;
            }
        }
        Ok(set)
    }

    /// Why there is nobody, and what to do about it.
    fn nobody(&self, command: &[OsString]) -> String {
        if !(self.which.is_empty() && self.group.is_empty() && self.hosts.is_empty()) {
            return "there are no hosts in what was named".to_owned();
        }
        let advice = "name them with -w HOSTS, -g GROUP or --hosts FILE";
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        let is_option = |word: &Cow<'_, str>| {
            ["-w", "-g", "--group", "--hosts"]
                .iter()
                .any(|option| word.split('=').next() == Some(option))
        };
        match &*words {
            _ if words.iter().any(is_option) => {
                "no hosts: options such as -w stand before the command".to_owned()
            }
            [first, rest @ ..] if !rest.is_empty() && first.parse::<HostSet>().is_ok() => {
                let words = rest.strip_prefix(&[Cow::from("--")]).unwrap_or(rest).join(" ");
                shortened(&format!("no hosts: {advice}, such as sshpool run -w {first} -- {words}"))
            }
            _ => format!("no hosts: {advice}"),
        }
    }
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// The lines of a file, counted from 1, without comments: these begin with a `#` at the beginning
/// of a word, for there are users with one within. In a comment any bytes may stand. Editors put a
/// mark before the first line.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    bytes.split(|byte| *byte == b'\n').enumerate().map(|(number, line)| {
        let begins =
            |at: usize| at == 0 || line[at - 1].is_ascii_whitespace() || line[at - 1] == b',';
        let end = (0..line.len()).find(|&at| line[at] == b'#' && begins(at));
        (number + 1, &line[..end.unwrap_or(line.len())])
    })
}

/// A file's name for messages, and its bytes.
fn contents(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let (name, bytes) = if is_stdin(path) {
        let mut bytes = Vec::new();
        ("stdin".to_owned(), std::io::stdin().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.display().to_string(), std::fs::read(path))
    };
    match bytes {
        Ok(bytes) => Ok((name, bytes)),
        Err(error) => Err(Failure::Usage(format!("cannot read {name}: {}", plain(&error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::mark(b"\xef\xbb\xbfh1\nh2", &[&b"h1"[..], b"h2"])]
    #[case::mark_before_a_comment(b"\xef\xbb\xbf# all\nh1\n", &[&b""[..], b"h1", b""])]
    #[case::windows(b"h1  \r\nh2\t\r\n", &[&b"h1  \r"[..], b"h2\t\r", b""])]
    #[case::comments(b"#\xe9\nh1 # caf\xe9\nh2,#x\n", &[&b""[..], b"h1 ", b"h2,", b""])]
    #[case::users(b"a#b@h1 #c", &[&b"a#b@h1 "[..]])]
    #[case::nothing(b"", &[&b""[..]])]
    fn b10_a_file_of_hosts_has_lines(#[case] bytes: &[u8], #[case] expected: &[&[u8]]) {
        let lines: Vec<_> = lines(bytes).collect();
        assert_eq!(lines, (1..).zip(expected.iter().copied()).collect::<Vec<_>>());
    }
}
