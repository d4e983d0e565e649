//! Which hosts are meant.

use std::collections::HashSet;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{Failure, Setup, complain};
use crate::error::plain;
use crate::host::Host;
use crate::host_set::HostSet;

#[derive(Debug, Args)]
pub(super) struct Choice {
    /// Hosts, with commas between them: names, [user@]host[:port], ranges such as web[1-20], groups such as @web
    #[arg(short = 'w', value_name = "HOSTS")]
    which: Vec<String>,

    /// The hosts of a group from the [groups] of the TOML file; several with commas between them
    #[arg(short, long, value_name = "GROUP")]
    group: Vec<String>,

    /// Hosts from a file, one a line or as for -w; # begins a comment, and - is stdin
    #[arg(long, value_name = "FILE")]
    hosts: Vec<PathBuf>,

    /// Leave these hosts out, named as for -w. A name alone leaves the host out whatever its user and port
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
        command: &[String],
        stdin_is_taken: bool,
    ) -> Result<Vec<Target>, Failure> {
        let mut set = self.named(setup, stdin_is_taken)?;
        if set.is_empty() {
            return Err(Failure::Usage(self.nobody(command)));
        }
        for text in &self.exclude {
            let excluded = setup.config.host_set(text).map_err(usage)?;
            if set.remove(&excluded) == 0 && !excluded.is_empty() {
                complain(format_args!("-x {text} leaves nobody out: none of these hosts was chosen"));
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
                set.add(&setup.config.host_set(&format!("@{name}")).map_err(usage)?).map_err(usage)?;
            }
        }
        let from_stdin = self.hosts.iter().filter(|path| is_stdin(path)).count();
        if from_stdin > 1 || (from_stdin == 1 && stdin_is_taken) {
            return Err(Failure::Usage(
                "stdin can be read only once: write the hosts into a file".to_owned(),
            ));
        }
        for path in &self.hosts {
            let (name, text) = contents(path)?;
            for (number, line) in text.lines().enumerate() {
                let hosts = line.split('#').next().unwrap_or_default();
                let hosts = setup.config.host_set(hosts);
                hosts
                    .and_then(|hosts| set.add(&hosts))
                    .map_err(|error| Failure::Usage(format!("{name}:{}: {error}", number + 1)))?;
            }
        }
        Ok(set)
    }

    /// Why there is nobody, and what to do about it.
    fn nobody(&self, command: &[String]) -> String {
        if !(self.which.is_empty() && self.group.is_empty() && self.hosts.is_empty()) {
            return "there are no hosts in what was named".to_owned();
        }
        let advice = "name them with -w HOSTS, -g GROUP or --hosts FILE";
        let is_option = |word: &String| {
            ["-w", "-g", "--group", "--hosts"].iter().any(|option| word.split('=').next() == Some(option))
        };
        match command {
            _ if command.iter().any(is_option) => {
                "no hosts: options such as -w stand before the command".to_owned()
            }
            [first, rest @ ..] if !rest.is_empty() && first.parse::<HostSet>().is_ok() => {
                let words = rest.strip_prefix(&["--".to_owned()]).unwrap_or(rest);
                format!("no hosts: {advice}, such as sshpool run -w {first} -- {}", words.join(" "))
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

/// A file's name for messages, and its text.
fn contents(path: &Path) -> Result<(String, String), Failure> {
    let (name, bytes) = if is_stdin(path) {
        let mut bytes = Vec::new();
        ("stdin".to_owned(), std::io::stdin().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.display().to_string(), std::fs::read(path))
    };
    let bytes = bytes.map_err(|error| Failure::Usage(format!("cannot read {name}: {}", plain(&error))))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(_) => Err(Failure::Usage(format!("{name}: not UTF-8: save the file as UTF-8 text"))),
    }
}
