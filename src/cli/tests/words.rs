//! Random words: whatever stands on the command line or in a request, it is understood or refused,
//! and nothing panics.
//!
//! A short run is a part of the tests. `SSHPOOL_FUZZ_SECONDS` makes it longer, `SSHPOOL_FUZZ_SEED`
//! another one; a failure names its seed.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::agent::protocol::{self, Exec, HostSpec};
use crate::cli::commands::{completions, ssh};
use crate::cli::output::messages::one_line;
use crate::cli::tips;
use crate::config::Config;
use crate::host::Host;
use crate::host::set::HostSet;

/// The next number of a row that looks random and is the same each time.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        // xorshift64*, as Vigna has it.
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits fit") % end
    }

    fn one_of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len())]
    }
}

/// Words that mean something somewhere.
const KNOWN: &[&str] = &[
    "exec",
    "run",
    "compose",
    "resources",
    "warm",
    "status",
    "close",
    "metrics",
    "agent",
    "ssh",
    "bench",
    "doctor",
    "completions",
    "man",
    "help",
    "--help",
    "-F",
    "--config",
    "-v",
    "--no-agent",
    "--json",
    "--stdin",
    "--timeout",
    "--timeout=1s",
    "--max-output",
    "-w",
    "-g",
    "-x",
    "--hosts",
    "--out",
    "-f",
    "-t",
    "-b",
    "--fold",
    "--dry-run",
    "--color=always",
    "--",
    "-",
    "h1",
    "lab@h1:22",
    "ssh://lab@h1:22",
    "web[1-3]",
    "@web",
    "[::1]:22",
    "a+b",
    "x^y",
    "ls",
    "ps",
    "up",
    "logs",
    "--file",
    "-o",
    "--all",
    "--now",
    "stop",
    "start",
    "bash",
    "--watch=1s",
    "-l",
    "-p",
    "true",
    "",
    "0",
    "99999999999999999999",
    "-1",
    "1.5s",
    "10MiB",
    "=",
    "--=",
    "-=",
    "'",
    "\"",
    "$(x)",
    "\u{feff}h1",
];

/// Bytes at which readers of something stop.
const BYTES: &[u8] =
    b"[]-,/:@%+=#!~^ \t\n\r'\"`$\\;&<>|(){}*?.019azAZ\0\x1b\x7f\xff\xe9\xc3\xa9\xef\xbb\xbf";

fn word(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0..=5 => random.one_of(KNOWN).as_bytes().to_vec(),
        6..=8 => (0..random.below(10)).map(|_| BYTES[random.below(BYTES.len())]).collect(),
        9 => (0..random.below(20)).map(|_| random.next().to_be_bytes()[0]).collect(),
        10 => {
            let mut word = random.one_of(KNOWN).as_bytes().to_vec();
            let at = random.below(word.len() + 1);
            word.insert(at, BYTES[random.below(BYTES.len())]);
            word
        }
        _ => vec![BYTES[random.below(BYTES.len())]; random.below(3) * 5_000],
    }
}

/// Runs it again and again, for two seconds or as long as was asked for.
fn again_and_again(round: impl Fn(&mut Random)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("SSHPOOL_FUZZ_SEED").unwrap_or(0x5eed);
    let end = Instant::now()
        + number("SSHPOOL_FUZZ_SECONDS").map_or(Duration::from_secs(1), Duration::from_secs);
    for seed in first.. {
        // 0 stays 0 for ever.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let begun = Instant::now();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| round(&mut random)));
        assert!(outcome.is_ok(), "it panics with SSHPOOL_FUZZ_SEED={seed}");
        // The machine may have something else to do for a while.
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "it hangs with SSHPOOL_FUZZ_SEED={seed}"
        );
        if Instant::now() >= end {
            return;
        }
    }
}

#[test]
fn b9_no_command_line_makes_a_panic() {
    again_and_again(|random| {
        let mut words = vec![OsString::from("sshpool")];
        words.extend((0..random.below(7)).map(|_| OsString::from_vec(word(random))));
        let place = ssh::place(&words);
        let end = place.map_or(words.len(), |place| place + 1);
        match tips::parse(&words[..end]) {
            Ok(cli) => assert!(!format!("{cli:?}").is_empty()),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
        let lossy: Vec<String> =
            words[1..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
        // Files that are named are read for it, and some block or have no end; these words name
        // none.
        if !lossy.iter().any(|word| word.contains('/')) {
            let _ = completions::offered(tips::command(), &lossy);
        }
    });
}

#[test]
fn b8_no_word_for_a_host_makes_a_panic() {
    let config =
        Config::from_toml("[hosts.\"a+b\"]\n[groups]\nweb = 'web[1-3]'", Path::new("c.toml"))
            .expect("valid");
    again_and_again(|random| {
        let text = String::from_utf8_lossy(&word(random)).into_owned();
        let check = |error: &dyn std::fmt::Display| {
            let line = error.to_string();
            assert!(line.len() < 6_000 && !line.contains('\n'), "{line}");
        };
        match text.parse::<Host>() {
            Ok(host) => {
                let again: Host = host.key().to_string().parse().expect("a key is read again");
                assert_eq!(again.name(), host.name());
            }
            Err(error) => check(&error),
        }
        match text.parse::<HostSet>().and_then(|_| config.host_set(&text)) {
            Ok(set) if set.len() < 1_000 => {
                let again: HostSet = set.to_string().parse().expect("it is read again");
                assert_eq!(again.len(), set.len(), "{text:?}");
                for host in &set {
                    assert!(config.host(host).is_ok(), "{host:?}");
                }
            }
            Ok(_) => {}
            Err(error) => check(&error),
        }
        assert!(!one_line(&text).contains(char::is_control));
    });
}

/// A request that may be one.
fn request(random: &mut Random) -> String {
    const KEYS: &[&str] = &[
        "host",
        "command",
        "command_base64",
        "argv",
        "argv_base64",
        "env",
        "env_base64",
        "cwd",
        "cwd_base64",
        "stdin",
        "stdin_base64",
        "stdin_stream",
        "timeout_ms",
        "max_output_bytes",
        "auth_sock",
        "settings",
        "name",
        "user",
        "identity_file",
        "identity_file_base64",
        "ssh_config",
        "ssh_config_base64",
        "options",
        "port",
        "x",
    ];
    fn value(random: &mut Random, depth: usize) -> serde_json::Value {
        let text = |random: &mut Random| String::from_utf8_lossy(&word(random)).into_owned();
        match random.below(if depth > 3 { 6 } else { 9 }) {
            0 => serde_json::Value::Null,
            1 => random.next().into(),
            2 => (random.below(2) == 0).into(),
            3 => "Y2Fm6Q==".into(),
            4..=5 => text(random).into(),
            6 => (0..random.below(4)).map(|_| value(random, depth + 1)).collect(),
            _ => {
                let pairs = (0..random.below(4)).map(|_| {
                    let key = if random.below(4) == 0 {
                        text(random)
                    } else {
                        random.one_of(KEYS).to_owned()
                    };
                    (key, value(random, depth + 1))
                });
                serde_json::Value::Object(pairs.collect())
            }
        }
    }
    let mut body = serde_json::json!({ "host": "h1", "command": "true" });
    if random.below(2) == 0 {
        body = serde_json::json!({ "host": { "name": "h1" }, "argv_base64": ["Y2Fm6Q=="] });
    }
    for _ in 0..random.below(4) {
        let key = random.one_of(KEYS);
        body[key] = value(random, 0);
    }
    let mut text = body.to_string();
    if random.below(4) == 0 {
        let at = text.floor_char_boundary(random.below(text.len()));
        text.insert(at, char::from(BYTES[random.below(BYTES.len())]));
    }
    text
}

#[test]
fn b9_no_request_makes_a_panic() {
    again_and_again(|random| {
        let text = request(random);
        let Ok(exec) = serde_json::from_str::<Exec>(&text) else { return };
        if let HostSpec::Whole(host) = exec.host.clone() {
            drop(host.host());
        }
        drop((exec.what().is_ok(), exec.env(), exec.cwd(), exec.input()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let bytes: Vec<u8> = (0..random.below(5)).flat_map(|_| word(random)).collect();
        runtime.block_on(async {
            let mut from = &bytes[..];
            let mut frame = Vec::new();
            // Each frame takes eight bytes at least.
            for _ in 0..=bytes.len() / 8 {
                if !matches!(protocol::read_frame(&mut from, &mut frame).await, Ok(Some(_))) {
                    break;
                }
            }
        });
    });
}

#[test]
fn what_is_long_is_told_in_a_line_that_can_be_read() {
    let line = one_line(&format!("a\nb{}ü{}\u{1b}z", "ä".repeat(100_000), "ö".repeat(100_000)));
    assert!(
        line.starts_with("a bää") && line.ends_with("\\u{1b}z") && line.contains("ä…ö"),
        "{line}"
    );
    assert!(line.chars().count() < 4100 && one_line("ü").len() == 2, "{}", line.len());
    let long = "a".repeat(100_000);
    for text in [
        format!("@{long}"),
        long.clone(),
        format!("[{long}]"),
        format!("{long}[1-2]"),
        format!("h:{long}"),
    ] {
        let error = Config::default().host_set(&text).expect_err("it is none").to_string();
        assert!(error.len() < 1_000, "{}", error.len());
        assert!(text.parse::<HostSet>().is_err_and(|error| error.to_string().len() < 1_000));
    }
}

#[test]
fn b9_what_is_not_utf8_comes_through_the_protocol() {
    let bytes = OsStr::from_bytes(b"/keys/caf\xe9");
    let host = Host::new("h1")
        .and_then(|host| host.identity_file(bytes))
        .and_then(|host| host.config_file(bytes));
    let host = host.expect("a valid host");
    let exec = Exec::new(
        &host,
        OsString::from_vec(b"echo caf\xe9".to_vec()),
        false,
        None,
        protocol::Origin::default(),
    );
    let text = serde_json::to_string(&exec).expect("it is JSON");
    assert!(
        text.contains(r#""command_base64":"ZWNobyBjYWbp""#) && !text.contains("\"command\""),
        "{text}"
    );
    let again: Exec = serde_json::from_str(&text).expect("it is read again");
    let HostSpec::Whole(again_host) = again.host.clone() else { panic!("it was whole") };
    assert_eq!(again_host.host().expect("a host"), host);
    match again.what() {
        Ok(protocol::What::Text(text)) => assert_eq!(text.as_bytes(), b"echo caf\xe9"),
        _ => panic!("it is shell text"),
    }
    // What is text stays text.
    let host =
        Host::new("h1").and_then(|host| host.identity_file("/keys/é")).expect("a valid host");
    let exec = Exec::new(&host, "echo é".into(), false, None, protocol::Origin::default());
    let text = serde_json::to_string(&exec).expect("it is JSON");
    assert!(text.contains(r#""command":"echo é""#) && !text.contains("_base64"), "{text}");
}
