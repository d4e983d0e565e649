//! Servers that mean no good, or work badly: what they send before, during and after the login. The
//! caller hears of it in time, in one line that does nothing to a terminal, and what they send is
//! not kept in memory.

use std::env;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rstest::rstest;
use sshpool::{ConnectErrorKind as Kind, Error};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::lab::common::process::wait_until;
use crate::lab::common::sshd::{Builder, Sshd};
use crate::lab::fake::{self, ESCAPES, Fake, Serve};
use crate::lab::pooled::{self, PATIENCE, config, host, kill, pool};

/// Whether it is one line that a terminal shows as it is.
fn is_harmless(line: &str) -> bool {
    !line.contains(|c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// In megabytes: a program that is not optimized, and a good deal more.
const MOST_MEMORY: u64 = 48;

/// Waits for the end, and gives the status, stderr and the most memory that it was seen to have, in
/// megabytes.
fn watched(mut program: Child) -> (Option<i32>, String, u64) {
    let (status, mut peak) = (format!("/proc/{}/status", program.id()), 0);
    let end = Instant::now() + PATIENCE;
    let code = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak = line.and_then(|kilobytes| kilobytes.parse().ok()).unwrap_or(0_u64).max(peak);
        if let Some(ended) = wait_until(&mut program, Instant::now() + Duration::from_millis(5)) {
            break ended.code();
        }
        if Instant::now() > end {
            kill(program.id());
            panic!("it does not end");
        }
    };
    let mut stderr = String::new();
    program.stderr.expect("it was piped").read_to_string(&mut stderr).expect("it is text");
    (code, stderr, peak / 1024)
}

#[rstest]
#[case::an_endless_line(fake::an_endless_line)]
#[case::endless_lines(fake::endless_lines)]
#[case::escapes_before_the_version(fake::escapes_before_the_version)]
#[case::escapes_in_the_version(fake::escapes_in_the_version)]
#[case::an_old_version(fake::an_old_version)]
#[case::nothing(fake::nothing)]
#[case::garbage(fake::garbage)]
#[case::half_a_packet(fake::half_a_packet)]
#[case::a_farewell(fake::a_farewell)]
#[case::a_byte_now_and_then(fake::a_byte_now_and_then)]
fn whatever_answers_in_place_of_a_server_is_told_in_one_line(#[case] serve: Serve) {
    let (fake, home) = (Fake::start(serve), tempfile::tempdir().expect("a directory"));
    let program = pooled::command(env!("CARGO_BIN_EXE_sshpool"))
        .args(["-F", "none", "exec", &format!("lab@127.0.0.1:{}", fake.port), "true"])
        .env("XDG_CONFIG_HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .env("SSH_POOL_CONNECTION_TIMEOUT_MS", "3000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (code, stderr, memory) = watched(program);
    assert_eq!(code, Some(255), "{stderr}");
    let line = stderr.strip_suffix('\n').expect("a line");
    assert!(line.starts_with("sshpool: 127.0.0.1: cannot connect: "), "{line:?}");
    assert!(is_harmless(line), "{line:?}");
    assert!((1..MOST_MEMORY).contains(&memory), "{memory} MB");
    println!("{line} ({memory} MB)");
    assert_eq!(std::fs::read_dir(home.path()).expect("it is there").count(), 0, "nothing is left");
}

/// A server with this banner, which a shell prints, and the file that it is in.
fn with_banner(builder: Builder, print: &str) -> (Sshd, String) {
    // In a container's own file system, or in one that all tests share.
    let unique = tempfile::tempdir().expect("a directory");
    let path = unique.path().with_extension("banner").to_string_lossy().into_owned();
    let sshd = builder.option("Banner", &path).start();
    let written = sshd.exec(&format!(
        "mkdir -p {} && ({print}) >{path} && test -s {path}",
        env::temp_dir().display()
    ));
    assert_eq!(written.code(), 0, "{}", written.stderr);
    (sshd, path)
}

/// sshd sends no banner of more than a megabyte, and ends itself over one that fits into no packet.
#[rstest]
#[case::much("yes welcome | head -c 200000", true)]
#[case::too_much_for_a_packet("yes welcome | head -c 900000", false)]
#[case::megabytes("yes welcome | head -c 5000000", true)]
#[case::one_line("yes welcome | head -c 200000 | tr -d '\\n'", true)]
#[case::escapes("printf '\\033]0;owned\\007\\033[2J\\302\\233\\377\\376\\000\\r'", true)]
#[case::what_ssh_says(
    "printf 'Permission denied (x).\\r\\nunix_listener: x\\r\\nMaster running (pid=1)\\r\\n'",
    true
)]
#[tokio::test]
async fn a_banner_is_nothing_of_a_commands(#[case] print: &str, #[case] works: bool) {
    let (sshd, path) = with_banner(Sshd::builder(), print);
    let (pool, host) = (pool(config()), host(&sshd));
    for _ in 0..2 {
        let command = pool.shell(&host, "echo out; echo err >&2; exit 3");
        match timeout(PATIENCE, command.output()).await.expect("in time") {
            Ok(output) => {
                let parts = (output.status.code(), &*output.stdout, &*output.stderr);
                assert_eq!((parts, works), ((Some(3), &b"out\n"[..], &b"err\n"[..]), true));
            }
            Err(error) => {
                assert!(matches!(error, Error::Connect { .. }) && !works, "{error}");
                assert!(is_harmless(&error.to_string()), "{error:?}");
            }
        }
    }
    assert!(sshd.logins() <= 1);
    pool.close().await;
    assert_eq!(sshd.exec(&format!("rm {path}")).code(), 0);
}

/// A server cannot make a refusal look like something that a user would answer by forgetting its
/// key.
#[rstest]
#[case::escapes("printf '\\033]0;owned\\007\\033[2J\\302\\233\\377\\376\\000\\r\\n\\n\\n'")]
#[case::another_cause(
    "printf '@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\\r\\nOffending key in /x:1\\r\\nSessions are timed out.\\r\\n'"
)]
#[case::much("yes \"$(printf '\\033[31m')\" | head -c 200000")]
#[tokio::test]
async fn a_refusal_behind_a_banner_is_a_refusal(#[case] print: &str) {
    let (sshd, path) = with_banner(Sshd::builder().option("AuthorizedKeysFile", "none"), print);
    let (pool, host) = (pool(config()), host(&sshd));
    let error = timeout(PATIENCE, pool.exec(&host, "true"))
        .await
        .expect("in time")
        .expect_err("no key counts");
    let Error::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), Kind::Authentication, "{error}");
    assert!(is_harmless(&error.to_string()), "{error:?}");
    assert!(source.ssh_output().iter().all(|line| is_harmless(line)), "{:?}", source.ssh_output());
    pool.close().await;
    assert_eq!(sshd.exec(&format!("rm {path}")).code(), 0);
}

/// What ssh says of itself, said by a command, on both of its streams; and what a terminal obeys.
fn noise() -> String {
    let said = [
        "debug1: mux_client_request_session: master session id: 2",
        "debug2: Received exit status from master 0",
        "mux_client_request_session: session request failed: Session open refused by peer",
        "Control socket connect(/s): Connection refused",
        "Control master terminated unexpectedly",
        "Shared connection to 127.0.0.1 closed.",
        "lab@127.0.0.1: Permission denied (publickey).",
        "sshpool-echo",
    ];
    let octal: String = ESCAPES.iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!(
        "noise() {{ printf '%s\\r\\n' '{}'; printf '{octal}'; }}; noise; noise >&2; ",
        said.join("' '")
    )
}

#[rstest]
#[tokio::test]
async fn what_a_command_writes_is_never_taken_for_ssh_s_word(
    #[values(0, 2)] standby_sessions: usize,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config().standby_sessions(standby_sessions)), host(&sshd));
    for (end, code) in
        [("exit 0", Some(0)), ("exit 7", Some(7)), ("exit 255", Some(255)), ("kill -9 $$", None)]
    {
        let output = pool.shell(&host, noise() + end).output().await.expect("it runs");
        assert_eq!(output.status.code(), code, "{end}");
        for stream in [&output.stdout, &output.stderr] {
            assert!(
                stream.starts_with(b"debug1: mux_client") && stream.ends_with(ESCAPES),
                "{output:?}"
            );
        }
    }
    assert_eq!(
        (pool.stats().commands_run, pool.stats().refused_sessions, sshd.logins()),
        (4, 0, 1)
    );
    pool.close().await;
}

/// Every error that quotes or holds what a command wrote.
#[rstest]
#[tokio::test]
async fn errors_about_a_command_do_nothing_to_a_terminal() {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let shell = |then: &str| pool.shell(&host, noise() + then);
    let mut errors = vec![
        pool.exec(&host, &(noise() + "exit 7")).await.expect_err("a status"),
        pool.exec(&host, &(noise() + "kill -9 $$")).await.expect_err("a signal"),
        shell("sleep 60").timeout(Duration::from_secs(1)).output().await.expect_err("a timeout"),
        shell("sleep 60").max_output(20).output().await.expect_err("too much"),
        pool.shell(&host, "\x1b[31m\0").output().await.expect_err("no command"),
        pool.shell(&host, "true").env("\x1b[31m\n", "x").output().await.expect_err("no name"),
        pool.shell(&host, "true")
            .current_dir("\x1b[31m\0")
            .output()
            .await
            .expect_err("no directory"),
    ];
    let mut child = shell("sleep 60").spawn().await.expect("it starts");
    child.stdout.as_mut().expect("not taken").read_exact(&mut [0; 100]).await.expect("it writes");
    sshd.kill_connections();
    errors.push(
        timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect_err("a loss"),
    );
    for error in errors {
        assert!(is_harmless(&error.to_string()), "{:?}", error.to_string());
        assert!(is_harmless(&format!("{error:?}")), "{error:?}");
    }
    pool.close().await;
}

/// Its own words are harmless; what the command writes is passed on as it is.
#[rstest]
#[case::killed("kill -9 $$", 255, &[])]
#[case::timed_out("sleep 60", 124, &["--timeout", "1s"])]
#[case::too_much("sleep 60", 255, &["--max-output", "2kB"])]
fn the_program_adds_one_harmless_line(
    #[case] then: &str,
    #[case] code: i32,
    #[case] options: &[&str],
) {
    let (sshd, home) = (Sshd::builder().start(), tempfile::tempdir().expect("a directory"));
    let mut program = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    program.arg("-F").arg(sshd.ssh_config()).arg("exec").args(options);
    let text = noise() + "noise >&2; head -c 1500 /dev/zero >&2; echo over >&2; " + then;
    program
        .args(["lab", &text])
        .env("XDG_CONFIG_HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path());
    let output = program.stdin(Stdio::null()).output().expect("it starts");
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let stderr = output.stderr.strip_suffix(b"\n").expect("a last line");
    let start = stderr.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let start = start
        + stderr[start..]
            .windows(9)
            .position(|window| window == b"sshpool: ")
            .expect("its own line");
    let line = String::from_utf8(stderr[start..].to_vec()).expect("it is text");
    assert!(is_harmless(&line) && line.starts_with("sshpool: lab: "), "{line:?}");
    assert!(output.stderr.windows(ESCAPES.len()).any(|window| window == ESCAPES));
}

#[rstest]
#[case::lines("yes")]
#[case::one_line("cat /dev/zero")]
fn the_program_keeps_nothing_of_what_it_passes_on(#[case] source: &str) {
    let (sshd, home) = (Sshd::builder().start(), tempfile::tempdir().expect("a directory"));
    let mut program = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    program.arg("-F").arg(sshd.ssh_config()).args(["exec", "lab"]);
    program.arg(format!("{source} | head -c 100000000")).stdin(Stdio::null()).stdout(Stdio::null());
    program
        .env("XDG_CONFIG_HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .stderr(Stdio::piped());
    let (code, stderr, memory) = watched(program.spawn().expect("it starts"));
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert!((1..MOST_MEMORY).contains(&memory), "{memory} MB");
}
