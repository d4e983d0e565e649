//! What an argument of `Include` names: patterns of files, as every version of ssh may read it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Place;
use super::glob::{self, Segment};

/// A directory, and what is looked for from there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pub base: PathBuf,
    pub segments: Vec<Segment>,
}

/// What came out of it.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub patterns: Vec<Pattern>,
    /// Variables that took part, with their values.
    pub variables: Vec<(OsString, Option<OsString>)>,
    /// Why there may be more.
    pub unclear: Option<&'static str>,
}

/// Paths that are not absolute are those of the user's directory, or of the system's.
pub(super) fn named(argument: &[u8], place: &Place<'_>, is_user: bool) -> Named {
    let mut named = Named::default();
    let mut paths = vec![argument.to_vec()];
    // From 9.9 on these are replaced. Before, they stand for themselves.
    if argument.contains(&b'%') || argument.windows(2).any(|pair| pair == b"${") {
        paths.extend(replaced(argument, place, &mut named));
    }
    for path in paths {
        match path.first() {
            Some(b'/') => named.add(place, &path),
            Some(b'~') if is_user => named.add_home(place, &path),
            Some(b'~') => {
                named.unclear =
                    Some("the system's configuration includes files of a home directory")
            }
            _ if is_user => named.add_home(place, &[b"~/.ssh/", &*path].concat()),
            _ => named.add(place, &[place.system.as_os_str().as_bytes(), b"/", &path].concat()),
        }
    }
    named
}

impl Named {
    fn add(&mut self, place: &Place<'_>, pattern: &[u8]) {
        let (segments, is_clear) = glob::segments(pattern);
        if !is_clear {
            self.unclear = Some("a bracket of a pattern is not closed");
        }
        let base = if pattern.starts_with(b"/") { Path::new("/") } else { place.directory };
        self.patterns.push(Pattern { base: base.to_owned(), segments });
    }

    /// glob(3) takes `~` for `HOME`, which ssh does not look at for its own file.
    fn add_home(&mut self, place: &Place<'_>, path: &[u8]) {
        let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
        let (user, rest) = path.split_at(end);
        let mut homes = Vec::new();
        if user == b"~" {
            let home = (place.variable)(OsStr::new("HOME"));
            // Empty or not there it is the one of the list of users, for some.
            if home.as_ref().is_none_or(|home| home.is_empty()) {
                homes.push(place.home.as_os_str().to_owned());
            }
            homes.extend(home.clone());
            self.variables.push(("HOME".into(), home));
        } else {
            let name = String::from_utf8_lossy(user.get(1..).unwrap_or_default()).into_owned();
            match nix::unistd::User::from_name(&name) {
                Ok(Some(user)) => homes.push(user.dir.into_os_string()),
                _ => {
                    self.unclear = Some("a home directory of nobody is named");
                    self.add(place, path);
                }
            }
        }
        for home in homes {
            if home.as_bytes().iter().any(|byte| b"*?[\\".contains(byte)) {
                self.unclear = Some("the path of the home directory is a pattern");
            }
            self.add(place, &[home.as_bytes(), rest].concat());
        }
    }
}

/// With variables and tokens replaced. `None` where ssh does not take it.
fn replaced(argument: &[u8], place: &Place<'_>, named: &mut Named) -> Option<Vec<u8>> {
    let mut path = Vec::new();
    let mut rest = argument;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (*byte, after) {
            (b'$', [b'{', after @ ..]) => {
                let Some(end) = after.iter().position(|byte| *byte == b'}').filter(|end| *end > 0)
                else {
                    named.unclear = Some("a variable in an Include has no end");
                    return None;
                };
                let (name, after) = after.split_at(end);
                rest = after.get(1..).unwrap_or_default();
                let name = OsString::from_vec(name.to_vec());
                let value = (place.variable)(&name);
                named.variables.push((name, value.clone()));
                // Without a value ssh goes on without the file.
                path.extend(value?.into_vec());
            }
            (b'%', [token, after @ ..]) => {
                rest = after;
                match token {
                    b'%' => path.push(b'%'),
                    b'd' => path.extend(place.home.as_os_str().as_bytes()),
                    b'i' => path.extend(nix::unistd::getuid().to_string().into_bytes()),
                    // The others belong to the host.
                    _ => {
                        named.unclear = Some("an Include has a token");
                        path.push(b'*');
                    }
                }
            }
            _ => path.push(*byte),
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn variable(name: &OsStr) -> Option<OsString> {
        match name.to_str()? {
            "HOME" => Some("/h".into()),
            "X" => Some("Xx/*".into()),
            "HERE" => Some("~".into()),
            _ => None,
        }
    }

    fn found(argument: &str, is_user: bool) -> (Vec<Pattern>, bool) {
        let place = Place {
            directory: Path::new("/here"),
            home: Path::new("/home/u"),
            system: Path::new("/sys/ssh"),
            variable: &variable,
        };
        let named = named(argument.as_bytes(), &place, is_user);
        (named.patterns, named.unclear.is_none())
    }

    #[rstest]
    #[case("/Etc/A.conf", true, &["/Etc/A.conf"], true)]
    #[case("a/B", true, &["/h/.ssh/a/B"], true)]
    #[case("a/B", false, &["/sys/ssh/a/B"], true)]
    #[case("~/a", true, &["/h/a"], true)]
    #[case("~/a", false, &[], false)]
    #[case("~no-such-user/a", true, &["~no-such-user/a"], false)]
    #[case("/a/${X}", true, &["/a/${X}", "/a/Xx/*"], true)]
    #[case("${HERE}/a", true, &["/h/.ssh/${HERE}/a", "/h/a"], true)]
    #[case("/a/${NOT_SET}", true, &["/a/${NOT_SET}"], true)]
    #[case("/a/${X", true, &["/a/${X"], false)]
    #[case("/a/%d/%%", true, &["/a/%d/%%", "/a/home/u/%"], true)]
    #[case("/a/%h.conf", true, &["/a/%h.conf", "/a/*.conf"], false)]
    #[case("", true, &["/h/.ssh/"], true)]
    fn arguments_name_patterns(
        #[case] argument: &str,
        #[case] is_user: bool,
        #[case] expected: &[&str],
        #[case] is_clear: bool,
    ) {
        let pattern = |text: &&str| Pattern {
            base: if text.starts_with('/') { "/" } else { "/here" }.into(),
            segments: glob::segments(text.as_bytes()).0,
        };
        assert_eq!(found(argument, is_user), (expected.iter().map(pattern).collect(), is_clear));
    }
}
