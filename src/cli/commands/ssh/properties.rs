//! For any command line: where we would have the agent connect, and as whom, is where ssh itself
//! would, for the same words. ssh is asked for both (`ssh -G`).

use std::ffi::OsString;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::sample::select;

use super::wish::wish;
use super::words;
use crate::host::Host;
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

/// What we would ask the agent for; `None` where it is left to plain ssh.
fn asked(words: &[OsString]) -> Option<Host> {
    let line = words::read(words).1.ok()?;
    wish(&line, |name| Host::new(name), None).ok()?.host.ok()
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

/// What those programs pass that call ssh most.
#[rstest::rstest]
// git
#[case(&["-o", "SendEnv=GIT_PROTOCOL", "git@web1", "git-upload-pack '/x.git'"])]
#[case(&["-p", "2222", "-4", "deploy@web1", "git-receive-pack '/x.git'"])]
// rsync
#[case(&["-l", "deploy", "web1", "rsync", "--server", "--sender", "-vlogDtpre.iLsfxCIvu", ".", "/x"])]
// scp and sftp
#[case(&["-x", "-oPermitLocalCommand=no", "-oClearAllForwardings=yes", "-oRemoteCommand=none", "-oRequestTTY=no", "-s", "--", "web1", "sftp"])]
#[case(&["-oForwardX11 no", "-oPermitLocalCommand no", "-oClearAllForwardings yes", "-o", "ForwardAgent no", "-p", "22", "-l", "x", "-s", "--", "web1", "sftp"])]
// Ansible
#[case(&["-vvv", "-C", "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", "StrictHostKeyChecking=no", "-o", "Port=22",
    "-o", "IdentityFile=\"/keys/x\"", "-o", "KbdInteractiveAuthentication=no",
    "-o", "PreferredAuthentications=gssapi-with-mic,gssapi-keyex,hostbased,publickey", "-o", "PasswordAuthentication=no",
    "-o", "User=\"root\"", "-o", "ConnectTimeout=10", "-o", "ControlPath=\"/root/.ansible/cp/0123456789\"", "-tt", "web1",
    "/bin/sh -c 'echo ~root && sleep 0'"])]
// Docker
#[case(&["-o", "ConnectTimeout=30", "-T", "-l", "deploy", "-p", "2222", "--", "web1", "docker", "system", "dial-stdio"])]
// A jump host's own
#[case(&["-l", "x", "-W", "[10.0.0.1]:22", "bastion"])]
fn callers_are_understood(#[case] line: &[&str]) {
    let words: Vec<_> = line.iter().map(OsString::from).collect();
    let read = words::read(&words).1.expect("it is a line of ssh");
    let host = wish(&read, |name| Host::new(name), None).expect("it has a name").host;
    host.unwrap_or_else(|why| panic!("{line:?} is left to plain ssh: {why}"));
}

/// Each of these is of the same connection as without it.
#[rstest::rstest]
#[case(&["-2", "web1"])]
#[case(&["-2xa", "-q", "-n", "-y", "-C", "-e", "none", "-T", "web1"])]
#[case(&["-o", "Protocol=2", "web1"])]
#[case(&["-o", "FingerprintHash=md5", "web1"])]
#[case(&["-o", "IgnoreUnknown=UseKeychain", "-o", "UseKeychain=yes", "web1"])]
#[case(&["-oIgnoreUnknown *", "-oUseKeychain yes", "web1"])]
#[case(&["-o", "ControlPath=/tmp/a b/%C", "-o", "ControlPath \"${HOME}/x\"", "web1"])]
#[case(&["-o", "RemoteCommand=echo \"$x\" # y", "web1"])]
#[case(&["-o", "ExitOnForwardFailure=yes", "-o", "StreamLocalBindUnlink=yes", "-o", "PermitRemoteOpen=any", "web1"])]
#[case(&["-o", "UsePrivilegedPort=no", "-o", "CompressionLevel=9", "-o", "EnableSSHKeysign=yes", "web1"])]
#[case(&["-o", "BatchMode=yes", "-o", "BatchMode=no", "web1"])]
fn what_makes_no_difference(#[case] line: &[&str]) {
    let words: Vec<_> = [&["-F", "none"], line].concat().iter().map(OsString::from).collect();
    let plain = ["-F", "none", "web1"].map(OsString::from);
    assert_eq!(asked(&words).expect("it is shared"), asked(&plain).expect("it is shared"));
}

/// Each of these is shared by those who say the same.
#[rstest::rstest]
#[case(&["-K", "web1"], "-o gssapiauthentication=yes -o gssapidelegatecredentials=yes")]
#[case(&["-k", "web1"], "-o gssapidelegatecredentials=no")]
#[case(&["-4", "-4", "web1"], "-o addressfamily=inet")]
#[case(&["-o", "KnownHostsCommand=none", "web1"], "-o knownhostscommand=none")]
#[case(&["-o", "Ciphers=aes128-ctr", "-o", "Ciphers=aes256-ctr", "web1"], "-o ciphers=aes128-ctr")]
#[case(&["-o", "IgnoreUnknown=New*", "-o", "NewOption=x", "web1"], "-o ignoreunknown=New* -o newoption=x")]
#[case(&["-o", "SecurityKeyProvider=internal", "-o", "RequiredRSASize=2048", "web1"],
    "-o securitykeyprovider=internal -o requiredrsasize=2048")]
#[case(&["-o", "Tag=x", "web1"], "-o tag=x")]
fn what_is_part_of_the_connection(#[case] line: &[&str], #[case] told: &str) {
    let words: Vec<_> = [&["-F", "none"], line].concat().iter().map(OsString::from).collect();
    let words: Vec<_> = of_host(&asked(&words).expect("it is shared"))
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    assert_eq!(words.join(" "), format!("-F none {told}"));
}

/// What ssh itself knows is in the table: whatever it says of a host with `ssh -G`.
#[test]
fn every_option_that_ssh_names_is_known() {
    let resolved = all_of("none");
    let text = String::from_utf8_lossy(&resolved.stdout).into_owned();
    let unknown: Vec<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|option| !super::options::is_known(&option.to_ascii_lowercase()))
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

#[rstest::rstest]
#[case(&["-N", "web1"])]
#[case(&["-fN", "-L", "1:a:2", "web1"])]
#[case(&["-R", "1:a:2", "web1"])]
#[case(&["-D", "1080", "web1"])]
#[case(&["-X", "web1"])]
#[case(&["-O", "forward", "web1"])]
#[case(&["-S", "/x", "-O", "check", "web1"])]
#[case(&["-o", "ControlPath=none", "-O", "check", "web1"])]
#[case(&["-G", "web1"])]
#[case(&["-M", "web1"])]
#[case(&["-S", "/x", "web1"])]
#[case(&["-w", "0", "web1"])]
#[case(&["-oProxyCommand=nc %h %p", "web1"])]
#[case(&["-o", "LocalForward=1 a:2", "web1"])]
#[case(&["-A", "-a", "web1"])]
#[case(&["-1", "web1"])]
#[case(&["-o", "UseKeychain=yes", "-o", "IgnoreUnknown=UseKeychain", "web1"])]
#[case(&["-4", "-6", "web1"])]
#[case(&["-o", "KnownHostsCommand=/bin/x", "web1"])]
#[case(&["-o", "Match=all", "web1"])]
#[case(&["web1", "-o", "ControlPath=none"])]
fn what_cannot_be_shared_is_left_to_ssh(#[case] line: &[&str]) {
    let words: Vec<_> = line.iter().map(OsString::from).collect();
    assert_eq!(asked(&words), None);
}

#[test]
fn only_who_forwards_the_same_agent_shares_a_connection() {
    let words = ["-A", "web1"].map(OsString::from);
    let line = words::read(&words).1.expect("it is a line of ssh");
    let host = |auth_sock| {
        wish(&line, |name| Host::new(name), auth_sock).expect("it has a name").host.expect("shared")
    };
    assert_ne!(host(Some("/a")), host(Some("/b")));
    assert_eq!(host(Some("")), Host::new("web1").expect("a name"));
}

/// What the TOML file says of a host counts, but for what the caller says; ssh is told so, also
/// where it is left to it.
#[rstest::rstest]
#[case(&["web1"], "-o HostName=10.0.0.7 -p 2222 -l deploy -o ProxyJump=bastion -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
#[case(&["-p", "22", "-l", "x", "web1"], "-o HostName=10.0.0.7 -o ProxyJump=bastion -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
#[case(&["-i", "/etc/passwd", "-J", "b", "x@web1"], "-o HostName=10.0.0.7 -p 2222")]
#[case(&["-o", "ProxyCommand=nc %h %p", "-L", "1:a:2", "web1"], "-o HostName=10.0.0.7 -p 2222 -l deploy -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
#[case(&["-o", "HostName=\"a\" #b", "web1"], "-p 2222 -l deploy -o ProxyJump=bastion -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
fn the_toml_file_counts(#[case] line: &[&str], #[case] told: &str) {
    let words: Vec<_> = line.iter().map(OsString::from).collect();
    let read = words::read(&words).1.expect("it is a line of ssh");
    let known = |name: &str| {
        Host::new(name)?
            .address("10.0.0.7")?
            .port(2222)?
            .user("deploy")?
            .identity_file("/k")?
            .option("ProxyJump", "bastion")
    };
    let own = wish(&read, known, None).expect("it has a name").own;
    let words: Vec<_> =
        of_host(&own).iter().map(|word| word.to_string_lossy().into_owned()).collect();
    assert_eq!(words.join(" "), told);
}
