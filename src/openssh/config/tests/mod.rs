//! Trees of files, what is found in them, and what is noticed of them later.

mod changes;
mod fuzz;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rstest::rstest;

use super::*;

/// A directory with a home in it, and a place for the system's files.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Tree(tempfile::Builder::new().prefix("Tree").tempdir().expect("a directory"));
        tree.write("etc/ssh_config", "");
        tree.write("home/.ssh/config", "");
        files.iter().for_each(|(name, text)| tree.write(name, text));
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        let directory = self.0.path().to_str().expect("it is text");
        let text = String::from_utf8(text.as_ref().to_vec())
            .map(|text| text.replace("DIR", directory).into_bytes());
        std::fs::write(path, text.unwrap_or_else(|error| error.into_bytes())).expect("a file");
    }

    fn variable(&self, name: &OsStr) -> Option<OsString> {
        match name.to_str()? {
            "HOME" => Some(self.path("home").into_os_string()),
            "WHERE" => Some("Conf.d".into()),
            _ => None,
        }
    }

    fn read(&self, source: Source<'_>) -> Reading {
        let home = self.path("home");
        let system = self.path("etc");
        let variable = |name: &OsStr| self.variable(name);
        read_in(
            source,
            &Place { directory: self.0.path(), home: &home, system: &system, variable: &variable },
        )
    }
}

fn ports(reading: &Reading) -> Vec<&str> {
    reading
        .mentions("Port")
        .map(|mention| mention.arguments[0].to_str().expect("it is text"))
        .collect()
}

/// What is included into a user's configuration.
#[rstest]
#[case::b1_capitals("Include DIR/Conf.d/X.conf", &["1"])]
#[case::b1_in_the_keyword("iNCLUDE DIR/Conf.d/X.conf", &["1"])]
#[case::b1_by_a_pattern("Include DIR/Conf.d/*.conf", &["3", "1"])]
#[case::b1_a_pattern_for_the_directory("Include DIR/C*.d/X.conf", &["1"])]
#[case::b1_in_quotes("Include \"DIR/With Blank/y.conf\"", &["2"])]
#[case::b1_in_single_quotes("Include 'DIR/With Blank/y.conf'", &["2"])]
#[case::b1_escaped("Include DIR/With\\ Blank/y.conf", &["2"])]
#[case::b1_equals("Include=DIR/Conf.d/X.conf", &["1"])]
#[case::b1_equals_with_blanks("Include = DIR/Conf.d/X.conf", &["1"])]
#[case::b1_several("Include DIR/none DIR/Conf.d/X.conf \"DIR/With Blank/y.conf\"", &["1", "2"])]
#[case::b1_comment("Include DIR/Conf.d/X.conf # DIR/Conf.d/A.conf", &["1", "3"])]
#[case::b1_relative("Include Own.conf", &["5"])]
#[case::b1_home("Include ~/Own.conf", &["6"])]
#[case::b1_nested("Include DIR/Outer", &["1", "4"])]
#[case::b1_in_a_block("Host nobody\n Include DIR/Conf.d/X.conf", &["1"])]
#[case::b1_in_a_match("Match host nobody\n\tInclude DIR/Conf.d/X.conf", &["1"])]
#[case::b1_variable("Include DIR/${WHERE}/X.conf", &["1"])]
#[case::b1_token("Include %d/Own.conf", &["6"])]
#[case::crlf("Include DIR/Conf.d/X.conf\r\n", &["1"])]
#[case::keyword_in_quotes("\"Include\" DIR/Conf.d/X.conf", &["1"])]
#[case::no_hidden_files("Include DIR/Conf.d/*", &["3", "1"])]
#[case::hidden_file("Include DIR/Conf.d/.*", &["7"])]
#[case::commented("#Include DIR/Conf.d/X.conf", &[])]
#[case::none("Include DIR/none/* DIR/none", &[])]
#[case::open_quote("Include \"DIR/Conf.d/X.conf", &[])]
fn what_is_included(#[case] text: &str, #[case] expected: &[&str]) {
    let tree = Tree::new(&[
        ("Conf.d/X.conf", "Port 1\n"),
        ("Conf.d/A.conf", "Port 3\n"),
        ("Conf.d/.hidden", "Port 7\n"),
        ("With Blank/y.conf", "pORT=2\n"),
        ("Outer", "Match all\nInclude DIR/Conf.d/X.*\nPort 4\n"),
        ("home/.ssh/Own.conf", "Port 5\n"),
        ("home/Own.conf", "Port 6\n"),
        ("home/.ssh/config", text),
    ]);
    let reading = tree.read(Source::User);
    assert_eq!(ports(&reading), expected);
    assert!(reading.is_current());
    // A file of -F is read in the same way.
    assert_eq!(ports(&tree.read(Source::File(Path::new("home/.ssh/config")))), expected);
    assert_eq!(ports(&tree.read(Source::None)), [""; 0]);
}

#[test]
fn what_the_system_includes_is_beside_its_file() {
    let tree = Tree::new(&[
        ("etc/ssh_config", "Include Parts/*\nPort 9\n"),
        ("etc/Parts/a", "Port 8\n"),
        ("home/.ssh/config", "Port 1\n"),
    ]);
    let reading = tree.read(Source::User);
    assert_eq!(ports(&reading), ["1", "8", "9"]);
    let files: Vec<_> = reading.files().iter().map(FileSeen::path).collect();
    assert_eq!(
        files,
        ["home/.ssh/config", "etc/ssh_config", "etc/Parts/a"].map(|name| tree.path(name))
    );
    tree.write("etc/ssh_config", "Include ~/x\n");
    assert!(tree.read(Source::User).needs_asking());
}

#[test]
fn a_mention_has_its_block() {
    let text =
        "Port 1\nHost a \"b c\"\n Include DIR/more\n Port 2\nMatch host=x\n Include DIR/more\n";
    let tree = Tree::new(&[("config", text), ("more", "Port 3\nHost z\nPort 4\n")]);
    let reading = tree.read(Source::File(Path::new("config")));
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let (host, own) = (Block::Host(words(&["a", "b c"])), Block::Host(words(&["z"])));
    let expected = [
        ("1", Block::None, 1),
        ("3", host.clone(), 1),
        ("4", own, 3),
        ("2", host, 4),
        ("3", Block::Match(words(&["host=x"])), 1),
    ];
    let found: Vec<_> = reading
        .mentions("port")
        .map(|port| (port.rest.to_str(), &*port.block, port.line))
        .collect();
    assert_eq!(found, expected.each_ref().map(|(port, block, line)| (Some(*port), block, *line)));
    let files: Vec<_> = reading.mentions("port").map(|port| port.file).collect();
    assert_eq!(files, [0, 1, 1, 0, 1]);
}

#[rstest]
#[case::nothing("", false)]
#[case::hosts(
    "Host a\nMatch host a user b localuser c\nMatch all\nMatch !canonical final\n",
    false
)]
#[case::tagged("Match originalhost=a tagged x\n", false)]
#[case::exec("Match host a Exec \"true\"\n", true)]
#[case::exec_with_equals("match EXEC=true\n", true)]
#[case::negated("Match !exec true\n", true)]
#[case::network("Match localnetwork 10.0.0.0/8\n", true)]
#[case::command("Match command x\n", true)]
#[case::session("Match sessiontype shell\n", true)]
#[case::version("Match version OpenSSH_10*\n", true)]
#[case::unknown("Match something new\n", true)]
#[case::commented("#Match exec true\nMatch host exec # exec true\n", false)]
#[case::included("Include DIR/more\n", true)]
#[case::itself("Include DIR/config\n", true)]
#[case::token("Include DIR/%h\n", true)]
#[case::nul("Port 1\n\0\n", true)]
#[case::device("Include /dev/zero\n", true)]
#[case::nothing_there("Include DIR/none /dev/null DIR\n", false)]
#[case::link("Include DIR/link\n", true)]
fn only_ssh_can_tell(#[case] text: &str, #[case] needs_asking: bool) {
    let tree = Tree::new(&[("config", text), ("more", "Match exec true\n")]);
    std::os::unix::fs::symlink("nowhere", tree.path("link")).expect("a link");
    let reading = tree.read(Source::File(Path::new("config")));
    assert_eq!(reading.needs_asking(), needs_asking, "{reading:?}");
    assert!(reading.is_current());
}

#[test]
fn variables_are_those_that_are_mentioned() {
    let text = "IdentityFile ~/${KEYS}/id\nIdentityAgent $AGENT\nInclude ${WHERE}/x\nForwardAgent \
        SSH_AUTH_SOCK\n";
    let tree = Tree::new(&[("config", text)]);
    let reading = tree.read(Source::File(Path::new("config")));
    let names: Vec<_> = reading.variables().iter().collect();
    assert_eq!(names, ["AGENT", "HOME", "KEYS", "WHERE"]);
    assert!(reading.fits(&|name| tree.variable(name)));
    // Only what decides which files are read has a value that matters here.
    assert!(reading.fits(&|name| if name == "KEYS" {
        Some("x".into())
    } else {
        tree.variable(name)
    }));
    assert!(!reading.fits(&|name| if name == "WHERE" {
        Some("x".into())
    } else {
        tree.variable(name)
    }));
}

#[test]
fn options_have_more_than_one_name() {
    let tree = Tree::new(&[("config", "IdentityFile2 a\nidentityfile b\nKeepAlive no\n")]);
    let reading = tree.read(Source::File(Path::new("config")));
    assert_eq!(reading.mentions("IdentityFile").count(), 2);
    assert_eq!(reading.mentions("identityfile2").count(), 2);
    assert!(reading.may_set(&["port", "tcpkeepalive"]) && !reading.may_set(&["port"]));
}

#[test]
fn nobody_waits_at_a_fifo() {
    let tree = Tree::new(&[("config", "Include DIR/fifo\nHost a\n")]);
    nix::unistd::mkfifo(&tree.path("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("a FIFO");
    let reading = tree.read(Source::File(Path::new("config")));
    assert_eq!(
        reading.unclear(),
        [Unclear { path: tree.path("fifo"), why: "it is no plain file" }]
    );
    assert!(reading.is_current());
    assert!(tree.read(Source::File(Path::new("fifo"))).needs_asking());
    assert!(tree.read(Source::File(Path::new("none.conf"))).needs_asking());
}

#[test]
fn there_is_an_end_to_it() {
    let tree = Tree::new(&[("config", "Include DIR/many/*\n")]);
    (0..600).for_each(|number| tree.write(&format!("many/{number}"), "Port 1\n"));
    let reading = tree.read(Source::File(Path::new("config")));
    assert!(reading.needs_asking() && reading.files().len() == 500);
    // Sixteen files that each include the next one twice.
    (0..16).for_each(|number| {
        let next = number + 1;
        tree.write(
            &format!("t{number}"),
            format!("Host a{number}\nInclude DIR/t{next}\nHost b\nInclude DIR/t{next}\n"),
        );
    });
    tree.write("t16", "Port 1\n");
    let reading = tree.read(Source::File(Path::new("t0")));
    assert!(!reading.needs_asking(), "{:?}", reading.unclear());
    assert_eq!(ports(&reading).len(), 2);
    let large = vec![b'#'; 5 * 1024 * 1024];
    std::fs::write(tree.path("large"), large).expect("a file");
    assert!(tree.read(Source::File(Path::new("large"))).needs_asking());
    // One file more is deeper than ssh goes.
    tree.write("t16", "Include DIR/t17\n");
    tree.write("t17", "Port 1\n");
    assert!(tree.read(Source::File(Path::new("t0"))).needs_asking());
}

#[test]
fn names_of_hosts_are_no_patterns() {
    let text = "Include DIR/more\nHost web1 !web2 *.net w?b3 \"a b\" web1 # web4\nHost=web5\nHost \
        '' x\u{e9}\n";
    let tree = Tree::new(&[("config", text), ("more", "HOST web6\n")]);
    let reading = tree.read(Source::File(Path::new("config")));
    assert_eq!(reading.host_names(), ["web6", "web1", "a b", "web5", "x\u{e9}"]);
}

/// Numbers from a seed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(0x9E37_79B9_7F4A_7C15))
    }

    /// Below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end.max(1)).expect("it fits"))
            .expect("it fits")
    }

    pub(super) fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len())]
    }
}
