//! Sessions that run one command after another (`session_reuse`, `exact` and `fast`): each command
//! is answered as in a session of its own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rstest::rstest;
use sshpool::{Error, Host, Pool, PoolConfig, Remote, SessionReuse};
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::plain::{Plain, Seen};
use crate::lab::pooled::{PATIENCE, config, host, pool};
use crate::lab::random::Random;
use crate::lab::random::case::surroundings;
use crate::lab::random::script::script;
use crate::lab::random::verdict::difference;

/// A server whose account has this shell; without one, what the server gives it.
pub fn server_with(shell: &str) -> Option<Sshd> {
    match shell {
        "" => Some(Sshd::builder().start()),
        shell => Sshd::builder().login_shell(shell).start_or_skip(),
    }
}

/// One session at hand, so that each command finds what the one before has left.
pub fn reusing(reuse: SessionReuse) -> PoolConfig {
    config().session_reuse(reuse).standby_sessions(1).sessions_per_connection(2)
}

async fn run(pool: &Pool, host: &Host, text: &str) -> (Option<i32>, Vec<u8>, Vec<u8>) {
    let command = pool.shell(host, text).output();
    let output = timeout(PATIENCE, command).await.expect("it ends").expect("it ran");
    (output.status.code(), output.stdout, output.stderr)
}

/// Whether shells of this server run one command after another.
async fn shares(sshd: &Sshd, pool: &Pool, host: &Host) -> bool {
    run(pool, host, "true").await;
    wait_for_async("a session at hand", PATIENCE, || pool.stats().standby_sessions == 1).await;
    run(pool, host, "true").await;
    let before = sshd.sessions_opened();
    for _ in 0..3 {
        run(pool, host, "true").await;
    }
    sshd.sessions_opened() == before
}

#[rstest]
#[tokio::test]
async fn commands_share_a_session(
    #[values(SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(reusing(reuse)), host(&sshd));
    assert!(shares(&sshd, &pool, &host).await);
    let before = sshd.sessions_opened();
    for number in 0..30 {
        let expected = (Some(number), format!("out {number}\n").into(), b"err\n".to_vec());
        let text = format!("echo out {number}; echo err >&2; exit {number}");
        assert_eq!(run(&pool, &host, &text).await, expected);
    }
    assert_eq!(sshd.sessions_opened(), before, "no session was opened for them");
    // One that asks for a session of its own gets one, and so does one that could tell.
    let own = pool.shell(&host, "echo own").fresh_session().output().await.expect("it ran");
    assert_eq!(own.stdout, b"own\n");
    let (_, first, _) = run(&pool, &host, "echo $$").await;
    let (_, second, _) = run(&pool, &host, "echo $$").await;
    assert_ne!(first, second);
    assert!(sshd.sessions_opened() >= before + 3);
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

/// What a first command leaves, and what a second one says, which is compared with plain ssh.
const PAIRS: &[(&str, &str)] = &[
    ("cd /", "pwd"),
    ("umask 077", "umask"),
    ("v=1; export v", "echo [${v-none}]; env | grep ^v="),
    ("f ( ) { echo f; }; f", "f"),
    ("false", "echo $?"),
    ("exit 3", "echo here"),
    ("printf x", "printf y"),
    ("(sleep 0.3; echo late) & echo soon", "echo next"),
    ("(sleep 0.3; echo late >&2) & echo soon", "echo next"),
    ("(sleep 1; echo late) >/dev/null 2>&1 & echo soon", "echo next"),
    ("exit 1 >&-", "echo next; echo err >&2"),
    ("head -c 3000000 /dev/zero", "head -c 100000 /dev/zero | wc -c; echo err >&2"),
    ("cat", "cat; wc -c; echo done"),
    ("tr a-z '[\\036*]' <<_\nab\n_", "echo next"),
    ("echo x >/dev/null 9>&1", "echo a >&9; echo b"),
    ("head -c 9999999 /dev/zero | head -c 1 | wc -c", "echo next"),
    ("(cd /; exit 137); echo on", "echo next"),
    ("(sleep 0.2; echo a) & wait; echo $?", "echo next"),
    ("(sleep 0.3; echo late >&2) >/dev/null & exit 4", "echo next"),
    ("(sleep 0.3; echo late >&2; false) >/dev/null & echo soon", "wait; echo $?"),
    ("sleep 100 >/dev/null 2>&1 & echo soon", "echo next"),
    ("setsid sleep 1 >/dev/null 2>&1 & exit 1", "echo next"),
    ("perl -e 'fcntl(STDERR, 4, 2048); fcntl(STDOUT, 4, 2048); print 1'", WRITES_MUCH),
];

/// More than a pipe holds, to both streams. It fails where a command before has left its streams
/// so that writing does not wait.
const WRITES_MUCH: &str = "head -c 3000000 /dev/zero && head -c 3000000 /dev/zero >&2 && echo all";

/// The same, which `fast` cannot have: nobody sees that the first one's child will write.
const PAIRS_OF_EXACT: &[(&str, &str)] =
    &[("(setsid sh -c 'sleep 0.3; echo late' 2>/dev/null & ); echo soon", "echo next")];

#[rstest]
#[case::of_the_server("", SessionReuse::Exact)]
#[case::dash("/bin/dash", SessionReuse::Exact)]
#[case::bash("/bin/bash", SessionReuse::Exact)]
#[case::zsh("/bin/zsh", SessionReuse::Exact)]
#[case::busybox("/usr/local/bin/ash", SessionReuse::Exact)]
#[case::fast_of_the_server("", SessionReuse::Fast)]
#[case::fast_bash("/bin/bash", SessionReuse::Fast)]
#[case::fast_dash("/bin/dash", SessionReuse::Fast)]
#[tokio::test]
async fn nothing_of_a_command_is_seen_by_the_next(
    #[case] shell: &str,
    #[case] reuse: SessionReuse,
) {
    let Some(sshd) = server_with(shell) else { return };
    let (pool, host, plain) = (pool(reusing(reuse)), host(&sshd), Plain::start(&sshd));
    assert!(shares(&sshd, &pool, &host).await);
    let of_exact = if reuse == SessionReuse::Exact { PAIRS_OF_EXACT } else { &[] };
    for (first, second) in PAIRS.iter().chain(of_exact) {
        for text in [first, second, second] {
            let seen = plain.run(text, None).await.expect("plain ssh runs it");
            let (code, stdout, stderr) = run(&pool, &host, text).await;
            assert_eq!((code, &stdout), (seen.code, &seen.stdout), "{first}: {text}");
            // A shell names another place in its own complaints.
            assert_eq!(stderr.is_empty(), seen.stderr.is_empty(), "{first}: {text}: {stderr:?}");
        }
    }
    assert!(pool.stats().reused_sessions > PAIRS.len() as u64, "{:?}", pool.stats());
    pool.close().await;
}

/// A check of an idle connection opens no session where one is idle.
#[tokio::test]
async fn checks_go_over_an_idle_session() {
    let sshd = Sshd::builder().start();
    let settings = reusing(SessionReuse::Exact).health_check_interval(Duration::from_millis(100));
    let (pool, host) = (pool(settings), host(&sshd));
    assert!(shares(&sshd, &pool, &host).await);
    let before = (sshd.sessions_opened(), pool.stats().health_checks_passed);
    let passed = || pool.stats().health_checks_passed >= before.1 + 5;
    wait_for_async("five checks", PATIENCE, passed).await;
    assert_eq!(sshd.sessions_opened(), before.0, "no session was opened for them");
    assert_eq!(run(&pool, &host, "echo next").await.1, b"next\n");
    pool.close().await;
}

/// A command that is given up takes its session with it.
#[rstest]
#[tokio::test]
async fn a_timeout_ends_the_command_and_its_session(
    #[values(SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(reusing(reuse)), host(&sshd));
    assert!(shares(&sshd, &pool, &host).await);
    let command = pool.shell(&host, "echo begun; sleep 300; echo on");
    let error = command.timeout(Duration::from_secs(1)).output().await.expect_err("it takes long");
    let Error::TimedOut { remote, partial, .. } = &error else { panic!("{error:?}") };
    assert_eq!((remote, &*partial.stdout), (&Remote::Ended, &b"begun\n"[..]));
    assert_eq!(run(&pool, &host, "echo next").await.1, b"next\n");
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

/// What is done to the shell of an idle session, or of one that runs a command.
#[rstest]
#[case::killed("kill -9 $loop")]
#[case::ended("kill -TERM $loop")]
#[case::hung_up("kill -HUP $loop")]
#[tokio::test]
async fn a_broken_session_is_replaced(
    #[case] fault: &str,
    #[values(SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(reusing(reuse)), host(&sshd));
    assert!(shares(&sshd, &pool, &host).await);
    // Its shell leads the session of its commands.
    let file = format!("/tmp/shell-{}", sshd.port());
    sshd.exec(&format!("echo 'cut -d\" \" -f6 /proc/$$/stat' >{file}"));
    let shell = run(&pool, &host, &format!("sh {file}; rm {file}")).await.1;
    let shell = String::from_utf8(shell).expect("a number");
    let broke = sshd.exec(&format!("loop={}; {fault}", shell.trim()));
    assert!(broke.status.success(), "{broke:?}");
    // One that comes before the end of the session is known may have run, and is not tried again.
    match pool.shell(&host, "echo next").output().await {
        Ok(output) => assert_eq!(output.stdout, b"next\n"),
        Err(error) => assert!(matches!(&error, Error::Lost { .. }), "{error:?}"),
    }
    for _ in 0..3 {
        assert_eq!(run(&pool, &host, "echo next").await, (Some(0), b"next\n".into(), vec![]));
    }
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

/// Random commands one after another, each compared with plain ssh: what one leaves would show in
/// the next.
#[rstest]
#[case::dash("/bin/dash", SessionReuse::Exact)]
#[case::bash("/bin/bash", SessionReuse::Exact)]
#[case::zsh("/bin/zsh", SessionReuse::Exact)]
#[case::busybox("/usr/local/bin/ash", SessionReuse::Exact)]
#[case::fast_bash("/bin/bash", SessionReuse::Fast)]
#[tokio::test]
async fn random_sequences_end_as_they_do_by_plain_ssh(
    #[case] shell: &'static str,
    #[case] reuse: SessionReuse,
) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let made = sshd.exec(&surroundings());
    assert!(made.status.success(), "{made:?}");
    let (pool, host, plain) = (pool(reusing(reuse)), host(&sshd), Plain::start(&sshd));
    let given = std::env::var("SSHPOOL_SEED").ok();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros() as u64);
    let base = given.map_or(now, |text| text.parse().expect("SSHPOOL_SEED is a number"));
    let count = std::env::var("SSHPOOL_SEQUENCES")
        .map_or(200, |text| text.parse::<u64>().expect("SSHPOOL_SEQUENCES is a number"));
    let mut unsure = 0;
    for seed in base..base + count {
        let mut random = Random(seed);
        // Two or three, of which the earlier ones are there for what they leave.
        for _ in 0..random.up_to(2, 3) {
            let mut text = script(&mut random, None);
            // Texts of one line may share a session. The lines of a here-document are no commands:
            // as such they would do anything, and a part behind a `&` would race with the rest.
            if !text.contains("<<") {
                // A line that goes on is one already.
                text = text.replace("\\\n", "").replace('\n', "; ");
            }
            let ran = plain.run(&text, None).await;
            let seen = ran.unwrap_or_else(|why| panic!("SSHPOOL_SEED={seed}: {text}\n{why}"));
            let output = pool.shell(&host, &text).timeout(PATIENCE).output().await;
            let pooled = Seen::from(
                output.unwrap_or_else(|error| panic!("SSHPOOL_SEED={seed}: {text}\n{error}")),
            );
            let Some(different) = difference(shell, &seen, &pooled) else { continue };
            let mut again = Vec::new();
            for _ in 0..10 {
                again.push(plain.run(&text, None).await.expect("plain ssh runs it"));
            }
            assert!(
                again.iter().any(|again| difference(shell, &seen, again).is_some()),
                "{shell}, SSHPOOL_SEED={seed}: {text}\n{different}"
            );
            unsure += 1;
        }
    }
    let stats = pool.stats();
    assert!(stats.reused_sessions > stats.commands_run / 25, "{stats:?}");
    assert!(unsure <= count / 20, "{unsure} commands were not comparable");
    pool.close().await;
}
