//! Sessions that run one command after another, when something is done to them: never a wrong
//! answer, and nothing runs twice.

use std::time::Duration;

use rstest::rstest;
use sshpool::{Error, Host, Pool, PoolConfig, SessionReuse};
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::plain::Plain;
use crate::lab::pooled::{PATIENCE, clients_of, config, host, kill, pool};
use crate::lanes::server_with;

fn reusing(reuse: SessionReuse) -> PoolConfig {
    config().session_reuse(reuse).standby_sessions(1).sessions_per_connection(4)
}

/// A pool whose next command goes over a session that has run others.
pub async fn used(sshd: &Sshd, reuse: SessionReuse) -> (Pool, Host) {
    let (pool, host) = (pool(reusing(reuse)), host(sshd));
    let before = pool.stats().reused_sessions;
    for _ in 0..50 {
        pool.exec(&host, "true").await.expect("it runs");
        if pool.stats().reused_sessions > before + 2 {
            return (pool, host);
        }
    }
    panic!("no session was used again: {:?}", pool.stats());
}

/// How often the command with this name has run.
fn runs(sshd: &Sshd, name: &str) -> usize {
    sshd.exec(&format!("cat {name} 2>/dev/null")).stdout.lines().count()
}

pub async fn goes_on(pool: &Pool, host: &Host) {
    for number in 0..3 {
        let text = format!("echo next {number}");
        let next = timeout(PATIENCE, pool.exec(host, text)).await.expect("it ends");
        assert_eq!(next.expect("it runs"), format!("next {number}"));
    }
}

/// Who the shell of the session is: the leader of its terminal session.
const LOOP: &str = "read -r _ _ _ _ _ loop _ </proc/self/stat; echo $loop";

pub async fn the_loop(pool: &Pool, host: &Host) -> String {
    // In a file: a command with these words would get a session of its own.
    pool.exec(host, format!("echo '{LOOP}' >the-loop")).await.expect("it runs");
    pool.exec(host, "sh the-loop").await.expect("it runs")
}

/// The shell is stopped when its command comes, or while it runs. It goes on when all is over.
#[rstest]
#[case::of_the_server("")]
#[case::bash("/bin/bash")]
#[tokio::test]
async fn a_stopped_shell_runs_nothing_twice(
    #[case] shell: &str,
    #[values(SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    let Some(sshd) = server_with(shell) else { return };
    let (pool, host) = used(&sshd, reuse).await;
    let id = the_loop(&pool, &host).await;
    assert!(sshd.exec(&format!("kill -STOP {id}")).status.success());
    let command = pool.shell(&host, "echo ran >>stopped; echo out");
    let end = command.timeout(Duration::from_secs(1)).output().await;
    // It may have begun; its end was not heard.
    match end {
        Err(Error::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
    sshd.exec(&format!("kill -CONT {id}"));
    goes_on(&pool, &host).await;
    pool.close().await;
    assert!(runs(&sshd, "stopped") <= 1, "{}", runs(&sshd, "stopped"));
    assert_eq!(sshd.logins(), 1);
}

/// The server stops between the writing of a command and its reading. Then the local ssh is killed,
/// or the command is given up; and then the server goes on.
#[rstest]
#[case::local_ssh_killed(true)]
#[case::given_up(false)]
#[tokio::test]
async fn what_a_stopped_server_has_in_hand_runs_at_most_once(
    #[case] is_killed: bool,
    #[values(SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = used(&sshd, reuse).await;
    let master = pool.connections()[0].pid;
    sshd.freeze();
    let limit = Duration::from_secs(if is_killed { 60 } else { 1 });
    let command = pool.shell(&host, "echo ran >>frozen; echo out").timeout(limit);
    let run = tokio::spawn(command.output());
    if is_killed {
        tokio::time::sleep(Duration::from_millis(300)).await;
        clients_of(master).into_iter().for_each(kill);
    }
    let end = timeout(PATIENCE, async {
        if is_killed {
            // What goes to another session, and what was lost, is told when the server goes on.
            tokio::time::sleep(Duration::from_millis(300)).await;
            sshd.thaw();
        }
        run.await.expect("it does not panic")
    });
    let end = end.await.expect("it is told");
    if !is_killed {
        sshd.thaw();
    }
    match end {
        Err(Error::Lost { .. } | Error::TimedOut { .. }) => {}
        other => panic!("{other:?}"),
    }
    goes_on(&pool, &host).await;
    pool.close().await;
    assert!(runs(&sshd, "frozen") <= 1, "{}", runs(&sshd, "frozen"));
}

/// A command prints the signs of its session as far as anybody can know them: the word that all
/// commands of a process have in common, old numbers, and parts of them.
#[rstest]
#[case::of_the_server("")]
#[case::bash("/bin/bash")]
#[tokio::test]
async fn what_looks_like_a_sign_is_output(
    #[case] shell: &str,
    #[values(SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    let Some(sshd) = server_with(shell) else { return };
    let (pool, host) = used(&sshd, reuse).await;
    let id = the_loop(&pool, &host).await;
    // The word stands in the text of the loop.
    let find = format!(
        "tr '\\0' '\\n' </proc/{id}/cmdline | grep -o 'sshpool-[0-9a-f]\\{{16\\}}' | head -n 1"
    );
    let word = pool.exec(&host, find).await.expect("it runs");
    assert!(word.len() > 20, "{word}");
    let plain = Plain::start(&sshd);
    for text in [
        format!("printf '\\036{word} 77\\nout\\036{word} 78\\n'"),
        "printf '\\036s0123456789abcdef 0\\n\\036e0123456789abcdef\\n' | tee /dev/stderr"
            .to_owned(),
        format!("printf '\\036s\\036e\\036\\036{word}'; printf '\\036' >&2; exit 5"),
        format!("printf '{word}-lane echo no\\n'"),
    ] {
        let seen = plain.run(&text, None).await.expect("plain ssh runs it");
        for _ in 0..2 {
            let output = pool.shell(&host, &text).output().await.expect("it runs");
            let pooled = (output.status.code(), output.stdout, output.stderr);
            assert_eq!(pooled, (seen.code, seen.stdout.clone(), seen.stderr.clone()), "{text}");
        }
    }
    pool.close().await;
}

/// Somebody writes to the streams of an idle session, or ends what waits there for the next
/// command.
#[rstest]
#[case::stdout("echo alien >/proc/$loop/fd/1")]
#[case::stderr("echo alien >/proc/$loop/fd/2")]
#[case::all_below_it(
    r#"for p in $(cut -d" " -f1,4 /proc/[0-9]*/stat | grep " $loop\$" | cut -d" " -f1);
    do kill -9 $p; done"#
)]
#[tokio::test]
async fn what_happens_to_an_idle_session_is_no_answer(
    #[case] fault: &str,
    #[values(SessionReuse::Exact, SessionReuse::Fast)] reuse: SessionReuse,
) {
    for shell in ["/bin/bash", "/bin/dash"] {
        let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
        let (pool, host) = used(&sshd, reuse).await;
        let id = the_loop(&pool, &host).await;
        let broke = sshd.exec(&format!("loop={id}; {fault}"));
        assert!(broke.status.success(), "{broke:?}");
        match pool.shell(&host, "echo ran >>alien; echo out").output().await {
            Ok(output) => {
                assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b""[..]));
                assert_eq!(runs(&sshd, "alien"), 1);
            }
            // One that comes before the end of the session is known may have run. On a busy machine
            // it was seen to wait for its time in a session whose processes were killed.
            Err(Error::Lost { .. } | Error::TimedOut { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        goes_on(&pool, &host).await;
        assert!(runs(&sshd, "alien") <= 1);
        wait_for_async("nobody", PATIENCE, || pool.stats().open_sessions == 0).await;
        pool.close().await;
    }
}
