//! Names as plain ssh takes them, and bytes that are no UTF-8: in names of hosts and users, in
//! commands, in paths, in files that are read. Plain ssh is run in the same place, and has to give
//! the same.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::json;

use crate::lab::agents::{Home, request};
use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{self, PATIENCE, command};

/// `caf\xe9`: Latin-1, and no UTF-8.
const CAFE: &[u8] = b"caf\xe9";

fn cafe() -> &'static OsStr {
    OsStr::from_bytes(CAFE)
}

/// The server's configuration with something before it, beside the other files of the test.
fn config(home: &Home, sshd: &Sshd, name: &OsStr, before: &str, aliases: &str) -> PathBuf {
    let text = std::fs::read_to_string(sshd.ssh_config()).expect("it is there");
    let path = home.path().join(name);
    std::fs::write(
        &path,
        before.to_owned() + &text.replace("Host lab\n", &format!("Host lab {aliases}\n")),
    )
    .expect("a file");
    path
}

/// Plain ssh, where this test's clients are.
#[track_caller]
fn plain(home: &Home, words: &[&OsStr]) -> Ended {
    let options = ["-T", "-o", "BatchMode=yes", "-o", "ControlPath=none"].map(OsStr::new);
    run(&mut home.in_its_place(command("ssh"), options.iter().chain(words)), PATIENCE)
}

fn words<'a>(words: &[&'a str]) -> Vec<&'a OsStr> {
    words.iter().map(|word| OsStr::new(*word)).collect()
}

#[track_caller]
fn assert_no_panic(ended: &Ended) {
    assert!(
        !ended.stderr.contains("panicked") && ended.status.code().is_some_and(|code| code != 101),
        "{ended:?}"
    );
}

/// Names that ssh takes as aliases are taken, by the agent and without it; those that it refuses do
/// not get anywhere.
#[test]
fn b8_aliases_are_those_that_plain_ssh_takes() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let names = [
        "a+b", "x^y", "ünï", "a=b", "a/b", "a~b", "a%b", "a#b", "[x]", "a_b.c", "日本", "a,b",
        "a;b", "a$b", "a b", "-a", "a\\b", "a(b", "../../x",
    ];
    let config =
        config(&home, &sshd, "F".as_ref(), "", &names.map(|name| format!("\"{name}\"")).join(" "));
    let mut taken = 0;
    for name in names {
        let expected = plain(
            &home,
            &[
                OsStr::new("-F"),
                config.as_os_str(),
                "--".as_ref(),
                name.as_ref(),
                "echo taken".as_ref(),
            ],
        );
        for agent in [&[][..], &["--no-agent"]] {
            let mut program = home.command(["-F".as_ref(), config.as_os_str()]);
            let ended = run(program.args(agent).args(["exec", "--", name, "echo taken"]), PATIENCE);
            assert_eq!(
                (&ended.stdout, ended.code() == 0),
                (&expected.stdout, expected.code() == 0),
                "{name}: {ended:?} {expected:?}"
            );
            assert_eq!(
                ended.stderr.lines().count(),
                usize::from(ended.code() != 0),
                "{name}: {ended:?}"
            );
        }
        taken += usize::from(expected.code() == 0);
    }
    assert!(taken >= 11, "{taken}");
    // One in the TOML file is called by its name, also where its name looks like a port's.
    home.config("[hosts.'a:b']\naddress = 'lab'\n[hosts.'a+c']\nssh_config = '/nonexistent'\n[groups]\nodd = 'a+b,x^y'\n");
    let ended = run(
        home.command(["-F".as_ref(), config.as_os_str()]).args([
            "run",
            "-g",
            "odd",
            "--dry-run",
            "true",
        ]),
        PATIENCE,
    );
    assert_eq!(ended.stdout, "a+b,x^y (2 hosts): true\n", "{ended:?}");
    let out = home.path().join("out");
    let mut program = home.command([
        "-F".as_ref(),
        config.as_os_str(),
        "run".as_ref(),
        "--out".as_ref(),
        out.as_os_str(),
    ]);
    let ended = run(program.args(["-w", "a+b,a/b,../../x", "--", "echo taken"]), PATIENCE);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let mut files: Vec<_> = std::fs::read_dir(&out)
        .expect("it was made")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    files.sort();
    let expected = [
        "..%2F..%2Fx.stderr",
        "..%2F..%2Fx.stdout",
        "a%2Fb.stderr",
        "a%2Fb.stdout",
        "a+b.stderr",
        "a+b.stdout",
    ];
    assert_eq!(files, expected.map(OsString::from));
    // What an alias with a comma stands for where there are many: two hosts.
    let ended = run(
        home.command(["-F".as_ref(), config.as_os_str()]).args([
            "run",
            "-w",
            "a,b",
            "--dry-run",
            "true",
        ]),
        PATIENCE,
    );
    assert_eq!(ended.stdout, "a,b (2 hosts): true\n", "{ended:?}");
}

/// What sshd logged of users that it does not know.
fn unknown_users(sshd: &Sshd) -> Vec<String> {
    let log = sshd.log();
    let users =
        log.lines().filter_map(|line| line.split_once("Invalid user ")?.1.rsplit_once(" from "));
    users.map(|(user, _)| user.to_owned()).collect()
}

/// The server sees the very user that it sees from plain ssh, whatever ssh would expand elsewhere.
#[rstest]
#[case::warpgate("nobody2:x", "nobody2%3Ax")]
#[case::hash("a#b", "a%23b")]
#[case::percent("a%b", "a%25b")]
#[case::token("a%h%r", "a%25h%25r")]
#[case::cloud_foundry("cf:3e1d-4f/0", "cf%3A3e1d-4f%2F0")]
#[case::style("nobody1:style", "nobody1:style")]
#[case::domain("CORP\\john", "CORP%5Cjohn")]
#[case::machine("web1x$", "web1x$")]
#[case::blank("John Doe", "John+Doe")]
#[case::at("a+b@c.org", "a%2Bb%40c.org")]
#[case::not_ascii("ünï", "%C3%BCn%c3%af")]
#[case::brackets("a[1,2]*?~!^=", "a[1,2]*?~!^=")]
fn b8_users_reach_the_server_as_from_plain_ssh(#[case] user: &str, #[case] encoded: &str) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let seen = home.path().join("seen");
    let config = config(&home, &sshd, "F".as_ref(), "", "h1");
    let file = config.as_os_str();
    let at = format!("{user}@lab");
    let uri = format!("ssh://{encoded}@h1:{}", sshd.port());
    let sees = |words: &[&OsStr], of_ours: bool| {
        let before = unknown_users(&sshd).len();
        let ended = match of_ours {
            true => run(
                home.command(["--no-agent".as_ref(), "-F".as_ref(), file]).arg("exec").args(words),
                PATIENCE,
            ),
            false => plain(&home, &[&["-F".as_ref(), file][..], words].concat()),
        };
        assert_eq!(ended.code(), 255, "{ended:?}");
        let users = unknown_users(&sshd).split_off(before);
        assert_eq!(users.len(), 1, "{ended:?}\n{}", sshd.log());
        users[0].clone()
    };
    let expected = sees(&words(&["-l", user, "lab", "true"]), false);
    assert_eq!(sees(&words(&[&at, "true"]), false), expected);
    assert_eq!(sees(&words(&[&at, "true"]), true), expected);
    assert_eq!(sees(&words(&[&uri, "true"]), false), expected);
    assert_eq!(sees(&words(&[&uri, "true"]), true), expected);

    // In what ssh expands it is what plain ssh makes of it, too.
    // A shell that writes beside its output, for ssh ends what has closed that.
    let script = "printf \"%%s|\" \"$@\"";
    let proxy = format!(
        "Host p\nProxyCommand sh -c '{script} >>{}; exit 1' sh '%r' %r %h %n\n",
        seen.display()
    );
    std::fs::write(&config, proxy).expect("a file");
    let expands = |command: &mut Command| {
        let _ = std::fs::remove_file(&seen);
        assert_ne!(run(command, PATIENCE).code(), 0);
        String::from_utf8_lossy(&std::fs::read(&seen).unwrap_or_default()).into_owned()
    };
    let at = format!("{user}@p");
    let expected = expands(
        home.in_its_place(command("ssh"), words(&["-o", "BatchMode=yes"]))
            .arg("-F")
            .args([file])
            .args([&*at, "true"]),
    );
    assert!(!expected.is_empty());
    assert_eq!(
        expands(
            home.command(["--no-agent".as_ref(), "-F".as_ref(), file]).args(["exec", &at, "true"])
        ),
        expected
    );
}

/// URIs are taken where plain ssh takes them, and mean the same.
#[test]
fn b8_uris_are_those_that_plain_ssh_takes() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let (config, port) = (config(&home, &sshd, "F".as_ref(), "", "h1"), sshd.port());
    let user = sshd.user();
    for (uri, taken) in [
        ("ssh://lab".to_owned(), true),
        (format!("ssh://{user}@h1:{port}"), true),
        (format!("ssh://{user};fingerprint=x@h1:{port}/"), true),
        (format!("ssh://[h1]:{port}"), true),
        ("ssh://h1:".to_owned(), true),
        ("ssh://h1/x".to_owned(), false),
        ("ssh://@h1".to_owned(), false),
        ("ssh://a%zz@h1".to_owned(), false),
        ("ssh://h1:0".to_owned(), false),
        ("ssh://-oProxyCommand=x".to_owned(), false),
    ] {
        let expected = plain(
            &home,
            &[&["-F".as_ref(), config.as_os_str()][..], &words(&[&uri, "echo taken"])].concat(),
        );
        assert_eq!(expected.code() == 0, taken, "{uri}: {expected:?}");
        // Where there may be many hosts, brackets without a colon are ranges.
        let words_of_ours = if uri.contains("[h1]") { &["exec"][..] } else { &["exec", "run"] };
        for word in words_of_ours {
            let word = *word;
            let mut program = home.command(["-F".as_ref(), config.as_os_str(), word.as_ref()]);
            if word == "run" {
                program.args(["--json", "-w"]);
            }
            let ended = run(program.args([&*uri, "echo taken"]), PATIENCE);
            assert_eq!(ended.stdout.contains("taken"), taken, "{word} {uri}: {ended:?}");
            if !taken {
                assert_eq!(
                    (ended.code(), ended.stderr.lines().count()),
                    (2, 1),
                    "{uri}: {ended:?}"
                );
            }
        }
    }
}

/// What is refused is refused before anything is started, and a way round is named.
#[rstest]
#[case("a;b", "give the host a name without it, by Host and HostName in the ssh_config")]
#[case("a`b", "give the host a name without it, by Host and HostName in the ssh_config")]
#[case("u;x@lab", "a User in the ssh_config can have it")]
#[case("u$x@lab", "a User in the ssh_config can have it")]
#[case("lab:ssh", "a name with a colon stands in brackets: \"[lab:ssh]\"")]
fn b8_a_refusal_names_a_way_round(#[case] host: &str, #[case] way_round: &str) {
    let home = Home::new();
    let ended = home.run(["exec", host, "true"]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (2, 1), "{ended:?}");
    assert!(ended.stderr.contains(way_round), "{ended:?}");
}

/// Commands are bytes: as arguments, in many forms, with the agent and without it, as from plain
/// ssh.
#[rstest]
#[case::word(b"printf %s caf\xe9")]
#[case::quoted(b"printf %s 'caf\xe9 \xff'")]
#[case::lines(b"printf %s a\xe9\nprintf %s \x80\xc3")]
#[case::cut_off(b"printf %s '\xc3\xa9\xc3'")]
#[case::utf8("printf %s 'ünï'".as_bytes())]
fn b9_a_command_is_bytes(#[case] text: &[u8]) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let text = OsStr::from_bytes(text);
    let mut hex = OsString::from("{ ");
    hex.push(text);
    hex.push("\n} | od -An -tx1");
    let config = sshd.ssh_config();
    let expected = plain(&home, &["-F".as_ref(), config.as_os_str(), "lab".as_ref(), &hex]);
    assert_eq!(expected.code(), 0, "{expected:?}");
    for agent in [&[][..], &["--no-agent"]] {
        for word in [
            &["exec", "lab"][..],
            &["exec", "--json", "lab"],
            &["run", "-w", "lab", "--"],
            &["run", "--json", "-w", "lab", "--"],
        ] {
            let mut program = home.command(["-F".as_ref(), config.as_os_str()]);
            let ended = run(program.args(agent).args(word).arg(&hex), PATIENCE);
            assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{word:?} {ended:?}");
            let bytes = expected.stdout.trim_end_matches('\n');
            assert!(ended.stdout.contains(bytes), "{word:?} {ended:?} {expected:?}");
        }
    }
    // The words may be several, and a command that is only shown is shown as it is.
    let shown =
        run(home.command(["run", "-w", "lab", "--dry-run", "--json", "--"]).arg(text), PATIENCE);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("it is JSON");
    match text.to_str() {
        Some(text) => assert_eq!(shown["command"], text),
        None => assert_eq!(shown["command_base64"], STANDARD.encode(text.as_bytes())),
    }
}

/// Paths are bytes: those of -F and of the TOML file, the directory that the caller stands in, that
/// of the sockets, that of the output.
#[test]
fn b9_paths_are_bytes() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let place = home.path().join(cafe());
    std::fs::create_dir(&place).expect("a directory");
    let config = config(&home, &sshd, OsStr::from_bytes(b"caf\xe9/c\xe9"), "", "h1");
    let toml = place.join(OsStr::from_bytes(b"t\xe9.toml"));
    std::fs::write(&toml, "[hosts.web]\naddress = '127.0.0.1'\nssh_config = 'web.conf'\n")
        .expect("a file");
    let name = OsStr::from_bytes(b"c\xe9");
    for agent in [&[][..], &["--no-agent"]] {
        for file in [config.as_os_str(), name] {
            let expected = run(
                home.in_its_place(command("ssh"), ["-F".as_ref(), file])
                    .args(["lab", "echo taken"])
                    .current_dir(&place),
                PATIENCE,
            );
            assert_eq!(expected.stdout, "taken\n", "{expected:?}");
            let ended = run(
                home.command(agent)
                    .arg("-F")
                    .arg(file)
                    .args(["exec", "lab", "echo taken"])
                    .current_dir(&place),
                PATIENCE,
            );
            assert_eq!((&*ended.stdout, &*ended.stderr), ("taken\n", ""), "{ended:?}");
        }
        // Of the TOML file's directory another path is made.
        std::fs::write(
            place.join("web.conf"),
            std::fs::read_to_string(&config)
                .expect("it is there")
                .replace("Host lab h1", "Host web"),
        )
        .expect("a file");
        let ended = run(
            home.command(agent).arg("--config").arg(&toml).args(["exec", "web", "echo taken"]),
            PATIENCE,
        );
        assert_eq!((&*ended.stdout, &*ended.stderr), ("taken\n", ""), "{ended:?}");
    }
    let out = place.join(OsStr::from_bytes(b"o\xe9"));
    let ended = run(
        home.command([
            "-F".as_ref(),
            config.as_os_str(),
            "run".as_ref(),
            "-w".as_ref(),
            "lab".as_ref(),
            "--out".as_ref(),
            out.as_os_str(),
        ])
        .arg("echo taken"),
        PATIENCE,
    );
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(std::fs::read(out.join("lab.stdout")).expect("it was made"), b"taken\n");
    // A directory for sockets of such a name.
    let runtime = home.path().join(OsStr::from_bytes(b"r\xe9"));
    std::fs::create_dir(&runtime).expect("a directory");
    std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    let there = |words: &[&str]| {
        let mut program = home.command(["-F".as_ref(), config.as_os_str()]);
        run(program.args(words).env("XDG_RUNTIME_DIR", &runtime), PATIENCE)
    };
    for words in [
        &["exec", "lab", "echo taken"][..],
        &["ssh", "lab", "echo taken"],
        &["warm", "lab"],
        &["status"],
        &["doctor", "lab"],
    ] {
        let ended = there(words);
        assert_eq!(ended.code(), 0, "{words:?} {ended:?}");
        assert_no_panic(&ended);
    }
    assert_eq!(there(&["agent", "stop", "--now"]).code(), 0);
}

/// The library takes what std's Command takes.
#[test]
fn b9_the_library_takes_bytes() {
    let sshd = Sshd::builder().start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let pool = pooled::pool(pooled::config());
        let host = pooled::host(&sshd);
        let directory = PathBuf::from(OsString::from_iter([
            OsStr::new("/tmp/sshpool-"),
            cafe(),
            OsStr::new(&std::process::id().to_string()),
        ]));
        pool.command(&host, "mkdir").arg(&directory).output().await.expect("it runs");
        let output = pool
            .command(&host, "sh")
            .args([
                OsStr::new("-c"),
                OsStr::new("printf '%s|%s|' \"$1\" \"$V\"; pwd"),
                OsStr::new("sh"),
                cafe(),
            ])
            .env("V", cafe())
            .current_dir(&directory)
            .output()
            .await
            .expect("it runs");
        let expected = [CAFE, b"|", CAFE, b"|", directory.as_os_str().as_bytes(), b"\n"].concat();
        assert_eq!(output.stdout.escape_ascii().to_string(), expected.escape_ascii().to_string());
        let mut text = OsString::from("printf ");
        text.push(cafe());
        assert_eq!(pool.shell(&host, &text).output().await.expect("it runs").stdout, CAFE);
        assert!(pool.exec(&host, text).await.is_ok());
        pool.command(&host, "rmdir").arg(&directory).output().await.expect("it runs");
        // What cannot be is told, and runs nothing.
        for name in [OsStr::new(""), OsStr::new("1a"), cafe(), OsStr::new("A=B")] {
            let error =
                pool.shell(&host, "true").env(name, "x").output().await.expect_err("no such name");
            assert!(error.never_started(), "{error}");
        }
        pool.close().await;
    });
}

/// The protocol has bytes in base64 under keys of their own, and both ways give the same.
#[test]
fn b9_the_protocol_has_bytes_in_base64() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let config = config(&home, &sshd, OsStr::from_bytes(b"c\xe9"), "", "h1");
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let host = json!({ "name": "lab", "ssh_config_base64": base64(config.as_os_str().as_bytes()) });
    let parent =
        home.exec(&sshd, "d=$(mktemp -d) && mkdir \"$d/$(printf 'caf\\351')\" && printf %s \"$d\"");
    let directory = Path::new(&parent).join(cafe());
    let printed = base64(CAFE);
    for (request, expected) in [
        (json!({ "command_base64": base64(b"printf caf\xe9") }), &printed),
        (json!({ "argv_base64": [base64(b"printf"), base64(b"%s"), base64(CAFE)] }), &printed),
        (json!({ "command": "printf %s \"$V\"", "env_base64": { "V": base64(CAFE) } }), &printed),
        (
            json!({ "command": "printf %s \"${PWD##*/}\"", "cwd_base64": base64(directory.as_os_str().as_bytes()) }),
            &printed,
        ),
        (json!({ "command": "cat", "stdin_base64": base64(CAFE) }), &printed),
    ] {
        let mut request = request;
        request["host"] = host.clone();
        let answer = home.post("/v1/exec", &request);
        assert_eq!(
            (answer.status, &answer.json()["stdout_base64"]),
            (200, &json!(expected)),
            "{request} {}",
            answer.text()
        );
    }
    home.exec(&sshd, &format!("rm -r {parent}"));
    for (request, message) in [
        (
            json!({ "command": "a", "command_base64": "YQ==" }),
            "command and command_base64: give one of them",
        ),
        (
            json!({ "argv": ["a"], "argv_base64": ["YQ=="] }),
            "argv and argv_base64: give one of them",
        ),
        (json!({ "command": "a", "argv_base64": ["YQ=="] }), "give either command or argv"),
        (
            json!({ "argv": ["sftp"], "is_subsystem": true }),
            "is_subsystem: it has a name (command)",
        ),
        (
            json!({ "command": "sftp", "is_subsystem": true, "cwd": "/" }),
            "is_subsystem: it has a name (command)",
        ),
        (json!({ "command_base64": "?" }), "command_base64: not base64"),
        (json!({ "argv_base64": ["YQ==", "?"] }), "argv_base64: not base64"),
        (json!({ "argv_base64": [] }), "argv: it has no program"),
        (
            json!({ "command": "a", "env": { "V": "1" }, "env_base64": { "V": "YQ==" } }),
            "env and env_base64: both have \"V\"",
        ),
        (json!({ "command_base64": "AA==" }), "a command cannot contain a NUL byte"),
        (json!({ "command": "a", "cwd_base64": "AA==" }), "cannot be a directory"),
        (json!({ "command": "a", "env_base64": { "V": "AA==" } }), "cannot contain a NUL byte"),
        (
            json!({ "command": "a", "host": { "name": "lab", "identity_file": "x", "identity_file_base64": "YQ==" } }),
            "give one of them",
        ),
    ] {
        let mut request = request;
        if request["host"].is_null() {
            request["host"] = host.clone();
        }
        let answer = home.post("/v1/exec", &request);
        assert_eq!((answer.status, answer.kind()), (400, "invalid".to_owned()), "{request}");
        assert!(
            answer.json()["error"]["message"].as_str().is_some_and(|text| text.contains(message)),
            "{}",
            answer.text()
        );
    }
    let answer = home.post("/v1/connect", &json!({ "host": host }));
    assert!(answer.json()["control_path"].is_string(), "{}", answer.text());
}

/// Each subcommand refuses words that are no text, are empty, or have no end with one clear line,
/// or takes them.
#[test]
fn b9_no_subcommand_panics() {
    let home = Home::new();
    let long = "a".repeat(100_000);
    let config = home.path().join("F");
    std::fs::write(&config, "Host *\nProxyCommand false\n").expect("a file");
    let odd: Vec<OsString> = vec![
        OsString::from(cafe()),
        OsString::new(),
        long.clone().into(),
        "\u{1b}[31m".into(),
        format!("ssh://{long}@h").into(),
        OsStr::from_bytes(b"-\xff").into(),
    ];
    let lines: &[&[&str]] = &[
        &["exec", "?", "true"],
        &["run", "-w", "?", "true"],
        &["run", "--hosts", "?", "true"],
        &["run", "-w", "h1", "--dry-run", "--", "?"],
        &["run", "?", "x"],
        &["compose", "?", "ls"],
        &["compose", "h", "ps", "?"],
        &["compose", "h", "?"],
        &["compose", "h", "?", "p"],
        &["compose", "h", "top", "?"],
        &["compose", "h", "restart", "?", "s"],
        &["compose", "--file", "?", "h", "ls"],
        &["resources", "?"],
        &["warm", "--batch", "?"],
        &["close", "?"],
        &["doctor", "?"],
        &["bench", "?"],
        &["completions", "?"],
        &["man", "?"],
        &["metrics", "?"],
        &["agent", "stop", "?"],
        &["status", "?"],
        &["--config", "?", "status"],
        &["__complete", "?", "?"],
        &["__complete", "exec", "?"],
        &["ssh", "?"],
        &["ssh", "-o", "?", "h"],
        &["ssh", "-F", "?", "h"],
        &["?"],
    ];
    for line in lines {
        for word in &odd {
            let words = line
                .iter()
                .map(|part| if *part == "?" { word.as_os_str() } else { OsStr::new(part) });
            let mut program =
                home.command(["--no-agent".as_ref(), "-F".as_ref(), config.as_os_str()]);
            // Nothing of it gets as far as a server: there is none.
            if line[0] == "__complete" {
                program = home.command([""; 0]);
            }
            let ended =
                run(program.args(words).env("SSH_POOL_CONNECTION_TIMEOUT_MS", "2000"), PATIENCE);
            let shown: String = format!("{line:?} {word:?}").chars().take(200).collect();
            assert!(!ended.stderr.contains("panicked"), "{shown}: {}", ended.stderr);
            assert!(matches!(ended.code(), 0 | 1 | 2 | 255), "{shown}: {}", ended.code());
            assert!(
                ended.stderr.len() < 8_000 || line[0] == "ssh",
                "{shown}: {}",
                ended.stderr.len()
            );
        }
    }
}

/// Files that editors of other systems have written: a mark before the first line, their ends of
/// lines, blanks, comments in Latin-1.
#[test]
fn b10_a_file_of_hosts_is_read_as_it_is_meant() {
    let home = Home::new();
    let file = home.path().join("hosts");
    let shown = |bytes: &[u8]| {
        std::fs::write(&file, bytes).expect("a file");
        run(home.command(["run", "--dry-run", "--hosts"]).arg(&file).arg("true"), PATIENCE)
    };
    for bytes in [
        &b"\xef\xbb\xbfh1\nlab:x@h2:22\n"[..],
        b"\xef\xbb\xbfh1\r\nlab:x@h2:22\r\n",
        b"h1   \t\r\n  lab:x@h2:22\t\r\n\r\n",
        b"# caf\xe9\nh1 # \xff\xfe\nlab:x@h2:22",
        b"\xef\xbb\xbf# caf\xe9\r\nh1,lab:x@h2:22,#\xe9\r\n",
    ] {
        let ended = shown(bytes);
        assert_eq!(ended.stdout, "h1,lab:x@h2:22 (2 hosts): true\n", "{ended:?}");
    }
    // A `#` within a word is a letter of it, as for ssh.
    assert_eq!(shown(b"a#b@h1\n").stdout, "a#b@h1 (1 host): true\n");
    let ended = shown(b"h1\nh\xe9\n");
    assert_eq!((ended.code(), ended.stderr.lines().count()), (2, 1), "{ended:?}");
    assert!(ended.stderr.contains("hosts:2: not UTF-8: "), "{ended:?}");
    let mut child = home.command(["run", "--dry-run", "--hosts", "-", "true"]);
    let mut child = child
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(b"\xef\xbb\xbfh1\r\n").expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.stdout, b"h1 (1 host): true\n");
}

#[test]
fn b10_the_toml_file_may_have_a_mark() {
    let home = Home::new();
    home.config("\u{feff}[hosts.\"a+b\"]  \r\nport = 24711\r\n[groups]\r\nodd = 'a+b,x^y'\r\n");
    let ended = home.run(["run", "-g", "odd", "--dry-run", "true"]);
    assert_eq!(ended.stdout, "a+b,x^y (2 hosts): true\n", "{ended:?}");
    home.config("\u{feff}[pool]\r\nx = 1\r\n");
    let ended = home.run(["run", "-w", "h", "--dry-run", "true"]);
    assert!(ended.code() == 2 && ended.stderr.contains("config.toml:2: unknown key"), "{ended:?}");
    home.config("");
}

/// ssh's own file: ends of lines, blanks and comments of any bytes are as plain ssh has them; a
/// mark it refuses, and so it is told.
#[rstest]
#[case::windows("# caf\u{e9}\r\n\r\n", true)]
#[case::blanks("  \t \n\t# x  \n", true)]
#[case::mark("\u{feff}", false)]
#[case::mark_in_a_line("\u{feff}Host x\n", false)]
fn b10_the_ssh_config_is_read_as_by_plain_ssh(#[case] before: &str, #[case] works: bool) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let path = config(&home, &sshd, "F".as_ref(), before, "h1");
    if before.contains('\r') {
        let text = std::fs::read(&path).expect("it is there");
        // Latin-1 in the comment, and the ends of lines of Windows everywhere.
        let text = String::from_utf8_lossy(&text).replace("\r\n", "\n").replace('\n', " \r\n");
        let bytes: Vec<u8> =
            text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
        std::fs::write(&path, bytes).expect("a file");
    }
    let expected =
        plain(&home, &["-F".as_ref(), path.as_os_str(), "lab".as_ref(), "echo taken".as_ref()]);
    assert_eq!(expected.code() == 0, works, "{expected:?}");
    for agent in [&[][..], &["--no-agent"]] {
        let ended = run(
            home.command(agent).arg("-F").arg(&path).args(["exec", "lab", "echo taken"]),
            PATIENCE,
        );
        assert_eq!((&ended.stdout, ended.code() == 0), (&expected.stdout, works), "{ended:?}");
        if !works {
            assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
        }
    }
}

/// Random requests and frames: the agent answers or closes, and lives on. `SSHPOOL_FUZZ_SECONDS`
/// makes it longer, `SSHPOOL_FUZZ_SEED` another.
#[test]
fn b9_no_bytes_on_its_socket_end_the_agent() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    let pid = home.pid();
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SSHPOOL_FUZZ_SEED").unwrap_or(0x5eed);
    let end = Instant::now() + Duration::from_secs(number("SSHPOOL_FUZZ_SECONDS").unwrap_or(2));
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |end: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits fit") % end
    };
    let whole = json!({ "name": "lab", "ssh_config": sshd.ssh_config() });
    let config: &[u8] = b"{}[]\":,\\u0\xff\xe9\xc3\xa9\0\n\r 1a-";
    for round in 0..1_000_000_u64 {
        let body = json!({ "host": whole, "command_base64": STANDARD.encode(format!("true {}\u{e9}", next(1000))), "stdin_stream": next(2) == 0 });
        let mut bytes = match next(5) {
            0 => (0..next(300)).map(|_| u8::try_from(next(256)).expect("a byte")).collect(),
            1 => request("POST", "/v1/close", "", &body.to_string()).into_bytes(),
            2 => request(
                "POST",
                "/v1/exec",
                "connection: upgrade\r\nupgrade: sshpool-frames\r\n",
                &body.to_string(),
            )
            .into_bytes(),
            _ => {
                request("POST", "/v1/exec", "connection: close\r\n", &body.to_string()).into_bytes()
            }
        };
        for _ in 0..next(3) {
            let at = next(bytes.len() + 1);
            bytes.insert(at, config[next(config.len())]);
        }
        // Frames, or what is none.
        for _ in 0..next(3) {
            let kind = u8::try_from(next(9)).expect("a byte");
            let length = u32::try_from([0, 1, 5, 1 << 20, 1 << 30][next(5)]).expect("it fits");
            bytes.extend([kind, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
            bytes.extend((0..next(20)).map(|_| u8::try_from(next(256)).expect("a byte")));
        }
        let mut stream = home.connect();
        // It may have said no already.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let hangs = read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(
            !hangs,
            "SSHPOOL_FUZZ_SEED={seed}, round {round}: no end of {}",
            bytes.escape_ascii()
        );
        if Instant::now() >= end {
            break;
        }
    }
    assert_eq!(home.pid(), pid, "SSHPOOL_FUZZ_SEED={seed}: the agent has ended");
    assert_eq!(home.exec(&sshd, "echo alive"), "alive\n");
    let log = std::fs::read_to_string(home.place().join("agent.log")).unwrap_or_default();
    assert!(!log.contains("panicked"), "SSHPOOL_FUZZ_SEED={seed}: {log}");
    assert!(Path::new(&home.socket()).exists());
}
