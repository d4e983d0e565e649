//! For any command line: where we would have the agent connect, and as whom, is where ssh itself
//! would, for the same words. ssh is asked for both (`ssh -G`).

use std::ffi::OsString;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::select;

use super::asked;
use crate::dropin::options;
use crate::openssh::of_host;

/// What decides where a connection goes, as whom, and how.
const DECIDES: &[&str] = &[
    "addressfamily",
    "bindaddress",
    "bindinterface",
    "certificatefile",
    "ciphers",
    "globalknownhostsfile",
    "host",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityagent",
    "identityfile",
    "kexalgorithms",
    "macs",
    "port",
    "proxycommand",
    "proxyjump",
    "pubkeyauthentication",
    "user",
    "userknownhostsfile",
];

const CONFIG: &str = "Host web*
    User deploy
    Port 2222
    IdentityFile ~/.ssh/web
Match user other
    HostName 10.0.0.2
    ProxyJump bastion
Host db
    HostName 10.0.0.3
    IdentityFile /keys/db
";

/// Words that set something, rightly or not.
fn option() -> impl Strategy<Value = Vec<String>> {
    let user = select(vec!["deploy", "other", "a@b", "--", "-x", "a b", "\"root\"", ""]);
    let port = select(vec!["22", "2222", "0", "ssh", "+5", "022", "70000"]);
    let path = select(vec![
        "/etc/passwd",
        "/no such/key",
        "~/.ssh/x",
        "key",
        "%d/x",
        "${HOME}/x",
        "none",
        "/a#b",
    ]);
    let name = select(vec!["10.0.0.1", "web2", "::1", "%h.example", "a b"]);
    let flag =
        select(vec!["-4", "-6", "-C", "-T", "-tt", "-A", "-a", "-n", "-q", "-x", "-4C", "-vT"]);
    let long = (
        select(vec![
            "User",
            "user",
            "Port",
            "HostName",
            "IdentityFile",
            "ProxyJump",
            "HostKeyAlias",
            "Compression",
            "UserKnownHostsFile",
            "BindAddress",
            "AddressFamily",
            "PubkeyAuthentication",
            "ControlPath",
            "IdentitiesOnly",
            "Ciphers",
            "BatchMode",
            "IdentityAgent",
            "CertificateFile",
            "ProxyCommand",
        ]),
        select(vec!["=", " ", " = ", "= ", "  ", "=="]),
        select(vec![
            "other",
            "deploy",
            "22",
            "yes",
            "no",
            "none",
            "/a/b",
            "\"/a b\"",
            "/a /b",
            "inet6",
            "aes256-ctr",
            "bastion",
            "a,b:23",
            "10.0.0.9",
            "\"yes\"",
            "x #y",
            "%h",
            "rel/ative",
            "",
        ]),
    );
    let value = |letter: &'static str| {
        move |value: &str| {
            vec![vec![format!("{letter}{value}")], vec![letter.to_owned(), value.to_owned()]]
        }
    };
    let one = |ways: Vec<Vec<String>>| select(ways);
    prop_oneof![
        3 => flag.prop_map(|flag| vec![flag.to_owned()]),
        2 => user.prop_flat_map(move |user| one(value("-l")(user))),
        2 => port.prop_flat_map(move |port| one(value("-p")(port))),
        2 => path.prop_flat_map(move |path| one(value("-i")(path))),
        1 => name.prop_flat_map(move |name| one(value("-J")(name))),
        1 => name_of_cipher().prop_flat_map(move |cipher| one(value("-c")(cipher))),
        6 => long.prop_flat_map(move |(option, is, text)| {
            let text = format!("{option}{is}{text}");
            select(vec![vec![format!("-o{text}")], vec!["-o".to_owned(), text.clone()], vec!["-To".to_owned(), text]])
        }),
    ]
}

fn name_of_cipher() -> impl Strategy<Value = &'static str> {
    select(vec!["aes128-ctr", "aes256-ctr,aes128-ctr", "+aes128-cbc", "nosuch"])
}

fn line() -> impl Strategy<Value = Vec<String>> {
    let destination = select(vec![
        "web1",
        "db",
        "other@web1",
        "a@b@db",
        "ssh://db",
        "ssh://other@web1:23",
        "ssh://web1:23/",
        "ssh://a%40b@db",
        "::1",
        "[::1]",
        "ssh://[::1]:5",
        "@web1",
        "web1:22",
        "fe80::1%lo",
        "-",
        "WEB1",
    ]);
    let options = || prop::collection::vec(option(), 0..4).prop_map(|options| options.concat());
    let dashes = || select(vec![None, None, None, Some("--".to_owned())]);
    let command = select(vec![vec![], vec!["true"], vec!["ls", "-l", "-p", "9"], vec!["-", "-p"]]);
    (options(), dashes(), destination, options(), dashes(), command).prop_map(
        |(one, two, three, four, five, six)| {
            let six = six.into_iter().map(str::to_owned);
            one.into_iter()
                .chain(two)
                .chain([three.to_owned()])
                .chain(four)
                .chain(five)
                .chain(six)
                .collect()
        },
    )
}

/// What `ssh -G` says with these words; `None` where it fails.
#[expect(
    clippy::disallowed_methods,
    reason = "the rule keeps ssh in one module; this compares with it"
)]
fn resolved(words: &[OsString]) -> Option<Vec<String>> {
    let output = std::process::Command::new("ssh")
        .arg("-G")
        .args(words)
        .stdin(std::process::Stdio::null())
        .output();
    let output = output.expect("there is an ssh");
    let decides = |line: &&str| DECIDES.contains(&line.split(' ').next().unwrap_or_default());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().filter(decides).map(absolute).collect())
}

/// Files of this directory, as whoever is in another one has to name them.
fn absolute(line: &str) -> String {
    const FILES: &[&str] = &[
        "certificatefile",
        "globalknownhostsfile",
        "identityagent",
        "identityfile",
        "userknownhostsfile",
    ];
    let Some((option, paths)) = line.split_once(' ').filter(|(option, _)| FILES.contains(option))
    else {
        return line.to_owned();
    };
    let paths = paths.trim_start();
    let path = |path: &str| match path {
        "none" | "SSH_AUTH_SOCK" => path.to_owned(),
        _ if path.starts_with('$') => path.to_owned(),
        _ if path.starts_with(['/', '~']) || path.starts_with("%d/") => path.to_owned(),
        _ => std::path::absolute(path).expect("there is a current directory").display().to_string(),
    };
    // A path with a blank is one of an identity file, and absolute.
    match paths.starts_with('/') && option == "identityfile" {
        true => line.to_owned(),
        false => format!("{option} {}", paths.split(' ').map(path).collect::<Vec<_>>().join(" ")),
    }
}

/// A configuration file for the time of a test.
fn config() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config");
    std::fs::write(&path, CONFIG).expect("a file");
    (directory, path)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_agent_connects_where_ssh_would(line in line()) {
        let (_directory, config) = config();
        let mut words = vec![OsString::from("-F"), config.into_os_string()];
        words.extend(line.into_iter().map(OsString::from));
        if let (Some(host), Some(by_ssh)) = (asked(&words), resolved(&words)) {
            let ours = [of_host(&host), vec!["--".into(), host.name().into()]].concat();
            prop_assert_eq!(resolved(&ours), Some(by_ssh), "{:?}", ours);
        }
    }
}

/// The property would hold if all were left to plain ssh.
#[test]
fn much_of_it_is_understood() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut count = 0;
    for _ in 0..1000 {
        let line = line().new_tree(&mut runner).expect("a line").current();
        count +=
            usize::from(asked(&line.into_iter().map(OsString::from).collect::<Vec<_>>()).is_some());
    }
    assert!((150..950).contains(&count), "{count} of 1000");
}

/// What ssh itself knows is in the table: whatever it says of a host with `ssh -G`.
#[test]
fn every_option_that_ssh_names_is_known() {
    let resolved = all_of("none");
    let text = String::from_utf8_lossy(&resolved.stdout).into_owned();
    let unknown: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|option| !options::is_known(&option.to_ascii_lowercase()))
        .collect();
    assert!(unknown.is_empty() && text.lines().count() > 40, "{unknown:?}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the rule keeps ssh in one module; this compares with it"
)]
fn all_of(config: &str) -> std::process::Output {
    std::process::Command::new("ssh")
        .args(["-G", "-F", config, "web1"])
        .output()
        .expect("there is an ssh")
}
