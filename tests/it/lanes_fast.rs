//! Sessions that run one command after another in `fast`: whom they serve, and when they go.

use std::collections::HashSet;

use rstest::rstest;
use serde_json::json;
use sshpool::SessionReuse;

use crate::lab::agents::Home;
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{PATIENCE, config, host, pool};
use crate::lanes_broken::{goes_on, the_loop, used};

fn server() -> Option<Sshd> {
    Sshd::builder().login_shell("/bin/bash").start_or_skip()
}

/// A command that leaves a process in its group is the last one of its session, and its own answer
/// has what plain ssh's has.
#[rstest]
#[case::without_streams("sleep 2 >/dev/null 2>&1 & echo soon", "soon\n", "")]
#[case::with_stdout("{ sleep 1; echo late; } & echo soon", "soon\nlate\n", "")]
#[case::with_stderr("{ sleep 1; echo late >&2; } >/dev/null & echo soon", "soon\n", "late\n")]
#[case::below_it("(sleep 2 >/dev/null 2>&1 & ); echo soon; exit 3", "soon\n", "")]
#[tokio::test]
async fn a_leftover_ends_the_session(
    #[case] text: &str,
    #[case] stdout: &str,
    #[case] stderr: &str,
) {
    let Some(sshd) = server() else { return };
    let (pool, host) = used(&sshd, SessionReuse::Fast).await;
    let before = the_loop(&pool, &host).await;
    assert_eq!(the_loop(&pool, &host).await, before, "nothing speaks against it");
    let output = pool.shell(&host, text).output().await.expect("it runs");
    let seen = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(seen, (stdout.into(), stderr.into()));
    assert_eq!(output.status.code(), Some(if text.ends_with("exit 3") { 3 } else { 0 }));
    assert_ne!(the_loop(&pool, &host).await, before);
    goes_on(&pool, &host).await;
    assert_eq!(sshd.logins(), 1);
    pool.close().await;
}

/// Handles of one pool are one caller; another pool is another one.
#[tokio::test]
async fn two_pools_share_no_session() {
    let Some(sshd) = server() else { return };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let (pool, host) = (pool(config().session_reuse(SessionReuse::Fast)), host(&sshd));
        let mut own = HashSet::new();
        for _ in 0..6 {
            own.insert(the_loop(&pool.clone(), &host).await);
            own.insert(the_loop(&pool, &host).await);
        }
        assert!(own.len() < 12 && pool.stats().reused_sessions > 0, "{own:?}");
        seen.push((own, pool));
    }
    assert!(seen[0].0.is_disjoint(&seen[1].0), "{seen:?}");
    for (_, pool) in seen {
        pool.close().await;
    }
}

/// Processes that are clients of one agent share its connection, and no session that has run a
/// command. This process asks again and again; each command of the program is another one.
#[tokio::test]
async fn two_clients_of_the_agent_share_no_used_session() {
    let Some(sshd) = server() else { return };
    let home = Home::new();
    home.config("[pool]\nsession_reuse = \"fast\"\nsession_max_age = \"1h\"\n");
    let script = "read -r _ _ _ _ _ loop _ </proc/self/stat; echo $loop";
    assert!(sshd.exec(&format!("echo '{script}' >/tmp/loop")).status.success());
    let by_program = || home.exec(&sshd, "sh /tmp/loop");
    let here = || {
        // What the program's own commands say.
        let host = json!({"name": "lab", "ssh_config": sshd.ssh_config()});
        let settings = json!({"connect_timeout_ms": 30_000});
        let command = json!({"host": host, "settings": settings, "command": "sh /tmp/loop"});
        let answer = home.post("/v1/exec", &command).json();
        answer["stdout"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let (mut theirs, mut ours, mut again) = (HashSet::new(), HashSet::new(), 0);
    for round in 0..10 {
        assert!(theirs.insert(by_program()), "round {round}: {theirs:?}");
        for _ in 0..3 {
            again += usize::from(!ours.insert(here()));
        }
    }
    assert!(ours.is_disjoint(&theirs), "{ours:?}, {theirs:?}");
    assert!(again >= 10, "{again} of 30 commands found the session of one before");
    assert_eq!(sshd.logins(), 1, "they share the connection");
}

/// Where the shell has no process groups, `fast` is as `exact`: an end is waited for though the
/// process that holds a stream has left the session.
#[tokio::test]
async fn other_shells_are_exact() {
    let Some(sshd) = Sshd::builder().login_shell("/bin/dash").start_or_skip() else { return };
    let (pool, host) = used(&sshd, SessionReuse::Fast).await;
    let before = sshd.sessions_opened();
    for _ in 0..3 {
        let text = "(setsid sh -c 'sleep 0.3; echo late' 2>/dev/null & ); echo soon";
        assert_eq!(pool.exec(&host, text).await.expect("it runs"), "soon\nlate");
        assert_eq!(pool.exec(&host, "echo next").await.expect("it runs"), "next");
    }
    assert_eq!(sshd.sessions_opened(), before);
    wait_for_async("nobody", PATIENCE, || pool.stats().open_sessions == 0).await;
    pool.close().await;
}
