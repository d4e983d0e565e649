//! The one reader of ssh_config: which files count, and what they mention.
//!
//! It decides nothing that `ssh -G` can tell. What it does not understand counts as mentioned, and
//! makes the whole unclear: then ssh is to be asked. Where versions of ssh read a line in more than
//! one way, each of them counts.

mod criteria;
mod glob;
mod include;
mod keywords;
mod line;
mod variables;
mod walk;
mod watch;

#[cfg(test)]
mod against_ssh;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use criteria::is_the_same_everywhere;
pub(crate) use watch::{FileSeen, Listing};

/// Where ssh was built to look for the system's configuration, nearly everywhere.
const SYSTEM: &str = "/etc/ssh";

/// What ssh is told to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source<'a> {
    /// The user's own file, then the system's.
    User,
    /// The one of `-F`.
    File(&'a Path),
    /// `-F none`.
    None,
}

impl<'a> Source<'a> {
    /// By the value of `-F`, if there is one.
    pub(crate) fn of(named: Option<&'a Path>) -> Self {
        match named {
            None => Source::User,
            Some(file) if file.as_os_str().eq_ignore_ascii_case("none") => Source::None,
            Some(file) => Source::File(file),
        }
    }
}

/// Where ssh would be started.
struct Place<'a> {
    directory: &'a Path,
    /// As the list of users has it.
    home: &'a Path,
    system: &'a Path,
    variable: &'a dyn Fn(&OsStr) -> Option<OsString>,
}

/// What the files have.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    files: Vec<FileSeen>,
    listings: Vec<Listing>,
    mentions: Vec<Mention>,
    unclear: Vec<Unclear>,
    variables: BTreeSet<OsString>,
    /// Variables that decide which files are included, as they were.
    places: BTreeMap<OsString, Option<OsString>>,
}

/// A line that says something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// In small letters, and today's name of it.
    pub keyword: String,
    /// Without quotes and escapes.
    pub arguments: Vec<OsString>,
    /// What stands behind the keyword.
    pub rest: OsString,
    /// The innermost one, or the one of the file that includes this one. Those around it count too.
    pub block: Arc<Block>,
    /// Its place in [`Reading::files`].
    pub file: usize,
    /// From 1.
    pub line: usize,
}

/// For which hosts lines count.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Block {
    /// For all of them.
    None,
    /// The patterns.
    Host(Vec<OsString>),
    /// The words.
    Match(Vec<OsString>),
}

/// Something that could not be read or understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unclear {
    /// The file, or the one that names it.
    pub path: PathBuf,
    /// A fragment of a sentence.
    pub why: &'static str,
}

/// Reads what ssh would read, started in `directory` by a user whose home is `home` in the list of
/// users, and with these variables.
pub(crate) fn read(
    source: Source<'_>,
    directory: &Path,
    home: &Path,
    variable: &dyn Fn(&OsStr) -> Option<OsString>,
) -> Reading {
    read_in(source, &Place { directory, home, system: Path::new(SYSTEM), variable })
}

/// Reads what ssh would read if this process started it.
pub(crate) fn read_here(source: Source<'_>) -> Reading {
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    read(source, &directory, &home().unwrap_or_default(), &|name| std::env::var_os(name))
}

/// The user's home directory as ssh finds it, which does not look at `HOME` (for its own file; an
/// `Include` does).
pub(crate) fn home() -> Option<PathBuf> {
    nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.dir)
}

fn read_in(source: Source<'_>, place: &Place<'_>) -> Reading {
    let mut walk = walk::Walk::new(place);
    match source {
        Source::User => {
            walk.start(&place.home.join(".ssh/config"), walk::Origin::Usual, true);
            walk.start(&place.system.join("ssh_config"), walk::Origin::Usual, false);
        }
        Source::File(file) => walk.start(&place.directory.join(file), walk::Origin::Named, true),
        Source::None => {}
    }
    walk.finish()
}

impl Reading {
    /// All files that count, also those that are not there.
    pub(crate) fn files(&self) -> &[FileSeen] {
        &self.files
    }

    /// The lines with this keyword, whose spelling does not matter.
    pub(crate) fn mentions(&self, keyword: &str) -> impl Iterator<Item = &Mention> {
        let keyword = keyword.to_ascii_lowercase();
        let keyword = keywords::todays(&keyword).to_owned();
        self.mentions.iter().filter(move |mention| mention.keyword == keyword)
    }

    /// What could not be read or understood.
    pub(crate) fn unclear(&self) -> &[Unclear] {
        &self.unclear
    }

    /// Whether one of these options may be set: it is mentioned, or something is unclear.
    pub(crate) fn may_set(&self, keywords: &[&str]) -> bool {
        !self.unclear.is_empty()
            || keywords.iter().any(|keyword| self.mentions(keyword).next().is_some())
    }

    /// The same of any option that is wanted, which is asked by its name of today in small letters.
    pub(crate) fn may_mention(&self, wanted: impl Fn(&str) -> bool) -> bool {
        !self.unclear.is_empty() || self.mentions.iter().any(|mention| wanted(&mention.keyword))
    }

    /// What the lines of `Match` ask for, in small letters and without negation.
    pub(crate) fn match_criteria(&self) -> BTreeSet<String> {
        use std::os::unix::ffi::OsStrExt;
        self.mentions("match").flat_map(|mention| criteria::of(mention.rest.as_bytes())).collect()
    }

    /// Whether only ssh can tell, in the caller's place and each time: a program, a network or
    /// something unknown decides.
    pub(crate) fn needs_asking(&self) -> bool {
        let is_known = |criterion: &String| criteria::is_the_same_everywhere(criterion);
        !self.unclear.is_empty() || !self.match_criteria().iter().all(is_known)
    }

    /// The variables that are mentioned anywhere, and `HOME` where an `Include` goes by it.
    pub(crate) fn variables(&self) -> &BTreeSet<OsString> {
        &self.variables
    }

    /// Whether the same files would be included with these variables.
    pub(crate) fn fits(&self, variable: &dyn Fn(&OsStr) -> Option<OsString>) -> bool {
        self.places.iter().all(|(name, value)| variable(name) == *value)
    }

    /// Whether all files are as they were, and no other ones have come. Their content is looked at
    /// only where they were changed just before they were read. Variables are not looked at: see
    /// [`fits`](Self::fits).
    pub(crate) fn is_current(&self) -> bool {
        self.files.iter().all(FileSeen::is_current) && self.listings.iter().all(Listing::is_current)
    }

    /// Names of hosts that stand in `Host` lines and are no patterns, each once.
    pub(crate) fn host_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for name in self.mentions("host").flat_map(|mention| &mention.arguments) {
            let name =
                name.to_str().filter(|name| !name.is_empty() && !name.contains(['*', '?', '!']));
            if let Some(name) = name.filter(|name| !names.iter().any(|known| known == name)) {
                names.push(name.to_owned());
            }
        }
        names
    }
}
