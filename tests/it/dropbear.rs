//! Dropbear, the server of small machines: it is not OpenSSH in its limits, its log and in what it
//! makes of a command, and nobody who uses a pool should notice.

use std::time::Duration;

use futures_util::StreamExt;
use rstest::rstest;
use sshpool::{ConnectErrorKind as Kind, Error, Host, Pool, PoolConfig, Stdin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::lab::common::sshd::{Release, Sshd, release};
use crate::lab::common::{self, wait_for_async};
use crate::lab::pooled::plain::{Plain, Seen};
use crate::lab::pooled::{self, PATIENCE, config, host, pool};

/// The pool's settings, as far as this version of Dropbear bears them.
///
/// Dropbear 2022.83 up to 2024.86 closes a session at once that is opened in the same instant in
/// which a command of the same connection ends (https://github.com/mkj/dropbear/issues/321, mended
/// in 2025.87). The command then runs unheard, or the whole connection goes with `Failed assertion
/// (common-channel.c:705)`. Plain ssh over a control master fails there as well, so one session at
/// a time is what can be had.
fn bearable(settings: PoolConfig) -> PoolConfig {
    match release() {
        Release::Trixie => settings,
        Release::Bookworm => settings.sessions_per_connection(1).standby_sessions(0),
    }
}

fn dropbear(arguments: &[&str]) -> Option<Sshd> {
    Sshd::builder().dropbear(arguments).start_or_skip()
}

async fn standby_is_there(pool: &Pool) {
    let wanted = pool.config().standby_sessions;
    wait_for_async("the sessions in standby", PATIENCE, || pool.stats().standby_sessions == wanted)
        .await;
}

/// The process ids of the commands that clients run there, of Dropbear's processes for connections,
/// and of nothing else.
fn running(sshd: &Sshd) -> Vec<String> {
    // Its own command line is no command of a client, nor is Dropbear that listens, whose parent is
    // process 1.
    let shown = sshd
        .exec("ps -A -o pid=,ppid=,user=,args= | awk '$2 > 1 && $4 != \"ps\" && $4 != \"awk\" && !/ps -A/'");
    assert_eq!(shown.code(), 0, "{shown:?}");
    let ours = |line: &&str| line.contains("dropbear") || line.contains(" lab ");
    shown.stdout.lines().filter(ours).map(str::to_owned).collect()
}

/// Counted on the server, since Dropbear does not log what it runs.
fn runs(sshd: &Sshd) -> (usize, usize) {
    let counted = sshd.exec("sort ~/ran | uniq -d | wc -l; wc -l <~/ran");
    let numbers: Vec<usize> =
        counted.stdout.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let &[twice, all] = &numbers[..] else { panic!("no numbers: {counted:?}") };
    (twice, all)
}

#[rstest]
#[case("true")]
#[case("echo out; echo err >&2; exit 3")]
#[case("exit 124")]
#[case("exit 255")]
#[case("kill -9 $$")]
#[case("kill -TERM $$")]
#[case("no-such-program 2>/dev/null")]
#[case("printf 'no line end'")]
#[tokio::test]
async fn a_command_ends_as_it_does_by_plain_ssh(
    #[case] text: &str,
    #[values(0, 2)] standby_sessions: usize,
) {
    let Some(sshd) = dropbear(&[]) else { return };
    let plain = Plain::start(&sshd);
    let expected = plain.run(text, None).await.expect("plain ssh runs it");
    let (pool, host) = (pool(bearable(config().standby_sessions(standby_sessions))), host(&sshd));
    for _ in 0..3 {
        let output = timeout(PATIENCE, pool.shell(&host, text).output()).await.expect("it ends");
        assert_eq!(Seen::from(output.expect("it ran")), expected);
        standby_is_there(&pool).await;
    }
    let child = pool.shell(&host, text).spawn().await.expect("it starts");
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends");
    assert_eq!(Seen::from(output.expect("it ran")), expected);
    let stats = pool.stats();
    assert_eq!(stats.standby_hits > 0, pool.config().standby_sessions > 0, "{stats:?}");
    assert_eq!(
        (sshd.logins(), stats.plain_connections),
        (2, 0),
        "one login of plain ssh, one of the pool"
    );
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_megabyte_of_any_bytes_comes_back(#[values(0, 2)] standby_sessions: usize) {
    let Some(sshd) = dropbear(&[]) else { return };
    let (pool, host) = (pool(bearable(config().standby_sessions(standby_sessions))), host(&sshd));
    let bytes: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    for _ in 0..3 {
        let ran = timeout(PATIENCE, pool.shell(&host, "cat").stdin(bytes.clone()).output())
            .await
            .expect("it ends");
        assert!(ran.expect("it runs").stdout == bytes, "every byte comes back");
        standby_is_there(&pool).await;
    }
    // A command need not read what it is given.
    let ran = timeout(PATIENCE, pool.shell(&host, "echo done").stdin(bytes.clone()).output())
        .await
        .expect("it ends");
    assert_eq!(ran.expect("it runs").stdout, b"done\n");
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn streams_are_pipes_in_both_directions() {
    let Some(sshd) = dropbear(&[]) else { return };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    let mut child = pool
        .shell(
            &host,
            "while read -r line; do echo \"out $line\"; echo \"err $line\" >&2; done; exit 4",
        )
        .stdin(Stdin::Piped)
        .spawn()
        .await
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut stderr = child.stderr.take().expect("a pipe");
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await.expect("it reads");
        let mut echo = [0; 8];
        timeout(PATIENCE, stdout.read_exact(&mut echo))
            .await
            .expect("at once")
            .expect("it answers");
        assert_eq!(echo, format!("out {word}\n").as_bytes());
        timeout(PATIENCE, stderr.read_exact(&mut echo))
            .await
            .expect("at once")
            .expect("it answers");
        assert_eq!(echo, format!("err {word}\n").as_bytes());
    }
    drop(stdin);
    let status = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("it ran");
    assert_eq!(status.code(), Some(4));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_timeout_keeps_what_had_arrived_and_the_connection() {
    let Some(sshd) = dropbear(&[]) else { return };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    let command =
        pool.shell(&host, "echo out; echo err >&2; sleep 300").timeout(Duration::from_secs(2));
    match command.output().await {
        Err(Error::TimedOut { partial, .. }) => {
            assert_eq!((&partial.stdout[..], &partial.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(pool.exec(&host, "echo on").await.expect("the connection lives"), "on");
    assert_eq!((sshd.logins(), pool.stats().commands_timed_out), (1, 1));
    pool.close_within(Duration::ZERO).await;
}

/// What sshd does: the shell that it starts leads a group. Here the group is that of Dropbear's
/// process for the connection, and whoever ends it ends the connection, with the other commands on
/// it.
#[rstest]
#[tokio::test]
async fn a_command_is_in_the_process_group_of_its_connection() {
    let Some(sshd) = dropbear(&[]) else { return };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    let text =
        "ps -o pgid= -p $$; ps -o pid= -p $PPID; kill -s CONT -- -$$ 2>/dev/null || echo no group";
    let shown = pool.exec(&host, text).await.expect("it runs");
    let shown: Vec<&str> = shown.lines().map(str::trim).collect();
    assert!(shown.len() == 3 && shown[0] == shown[1] && shown[2] == "no group", "{shown:?}");
    pool.close().await;
}

/// The marker that a command has begun is output, and what the pool makes of its absence where no
/// status came either must not be that the command may run again.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dropbear_ran_unheard_does_not_run_again() {
    let Some(sshd) = dropbear(&[]) else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let all = (0..600).map(|number| {
        let (pool, host) = (pool.clone(), host.clone());
        // Whatever becomes of it: an error is all that can be had where the connection goes.
        async move { drop(pool.exec(&host, &format!("echo {number} >>~/ran; echo {number}")).await) }
    });
    timeout(PATIENCE, futures_util::stream::iter(all).buffer_unordered(8).count())
        .await
        .expect("all end");
    pool.close().await;
    let (twice, all) = runs(&sshd);
    assert!(all > 0 && twice == 0, "{twice} of {all} ran more than once");
}

/// Dropbear has no limit of sessions that anybody comes near to (a thousand channels), but allows
/// an address five logins at once that are not finished.
#[rstest]
#[case::within_its_limits(config())]
#[case::more_connections_than_it_lets_log_in_at_once(config().max_connections(12).sessions_per_connection(2))]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_at_once_run_once_each(#[case] settings: PoolConfig) {
    let Some(sshd) = dropbear(&[]) else { return };
    let most = settings.max_connections;
    let (pool, host) = (pool(bearable(settings)), host(&sshd));
    let all = (0..300).map(|number| {
        let (pool, host) = (pool.clone(), host.clone());
        async move {
            let text = pool.exec(&host, &format!("echo {number} >>~/ran; echo {number}")).await;
            assert_eq!(text.expect("no command fails"), number.to_string());
        }
    });
    timeout(PATIENCE, futures_util::stream::iter(all).buffer_unordered(300).count())
        .await
        .expect("all end");
    assert_eq!(runs(&sshd), (0, 300));
    wait_for_async("the end of the last login", PATIENCE, || pool.stats().connecting == 0).await;
    assert!((1..=most).contains(&sshd.logins()), "{} logins", sshd.logins());
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn sixty_sessions_share_one_connection() {
    let Some(sshd) = dropbear(&[]) else { return };
    let settings = config().max_connections(1).sessions_per_connection(60).standby_sessions(0);
    let (pool, host) = (pool(settings), host(&sshd));
    let mut children = Vec::new();
    for number in 0..60 {
        let command = pool.shell(&host, format!("echo begun; read -r line; echo {number} $line"));
        let mut child = command.stdin(Stdin::Piped).spawn().await.expect("it starts");
        let mut begun = [0; 6];
        let stdout = child.stdout.as_mut().expect("a pipe");
        timeout(PATIENCE, stdout.read_exact(&mut begun)).await.expect("at once").expect("it runs");
        children.push(child);
    }
    assert_eq!((pool.stats().open_sessions, sshd.logins()), (60, 1));
    for (number, mut child) in children.into_iter().enumerate() {
        child.stdin.take().expect("a pipe").write_all(b"go\n").await.expect("it reads");
        let output =
            timeout(PATIENCE, child.wait_with_output()).await.expect("it ends").expect("it ran");
        assert_eq!(output.stdout, format!("{number} go\n").as_bytes());
    }
    assert_eq!(pool.stats().refused_sessions, 0);
    pool.close().await;
}

#[rstest]
#[case(&["ed25519"])]
#[case(&["rsa"])]
#[case(&["ecdsa"])]
#[tokio::test]
async fn each_type_of_host_key_serves_and_a_changed_one_is_told(#[case] types: &[&str]) {
    let Some(sshd) = Sshd::builder().host_key_types(types).dropbear(&[]).start_or_skip() else {
        return;
    };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    let strict = host.option("StrictHostKeyChecking", "yes").expect("a valid option");
    assert_eq!(pool.exec(&strict, "echo known").await.expect("the key is known"), "known");
    pool.close_host(&strict).await;
    sshd.change_host_keys();
    let error = pool.exec(&strict, "true").await.expect_err("the key is another one");
    assert!(
        matches!(&error, Error::Connect { source, .. } if source.kind() == Kind::HostKeyChanged),
        "{error}"
    );
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_key_that_it_does_not_know_is_told_and_tried_once() {
    let Some(sshd) = dropbear(&[]) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key");
    let mut keygen = pooled::command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
    assert_eq!(common::process::run(&mut keygen, PATIENCE).code(), 0);
    let host = Host::new("lab")
        .and_then(|host| host.address("127.0.0.1"))
        .and_then(|host| host.port(sshd.port()))
        .and_then(|host| host.user(sshd.user()))
        .and_then(|host| host.config_file("none"))
        .and_then(|host| host.option("UserKnownHostsFile", sshd.known_hosts().to_string_lossy()))
        .and_then(|host| host.identity_file(&key))
        .expect("a valid host");
    let pool = pool(bearable(config()));
    for _ in 0..2 {
        let error = pool.exec(&host, "true").await.expect_err("it is not let in");
        let Error::Connect { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.kind(), Kind::Authentication, "{error}");
        assert!(error.to_string().contains("Permission denied (publickey"), "{error}");
    }
    assert_eq!(sshd.log().matches("Child connection from").count(), 1);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_forced_command_runs_once_for_each_command_and_once_to_learn_of_it() {
    let Some(sshd) = dropbear(&["-c", "echo run >>~/ran; cat; echo $SSH_ORIGINAL_COMMAND; exit 3"])
    else {
        return;
    };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    for _ in 0..4 {
        let ran = timeout(PATIENCE, pool.shell(&host, "asked").stdin("in ").output())
            .await
            .expect("it ends");
        let output = ran.expect("it runs");
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(3), &b"in asked\n"[..]));
    }
    assert_eq!(runs(&sshd).1, 4 + 1);
    assert_eq!((sshd.logins(), pool.stats().plain_connections), (1, 1));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_connection_that_goes_is_a_loss_and_another_one_is_made() {
    let Some(sshd) = dropbear(&[]) else { return };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    let mut child =
        pool.shell(&host, "echo begun; exec sleep 300").spawn().await.expect("it starts");
    child.stdout.as_mut().expect("a pipe").read_exact(&mut [0; 6]).await.expect("it runs");
    sshd.kill_connections();
    let end = timeout(PATIENCE, child.wait()).await.expect("it ends");
    assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}");
    assert_eq!(pool.exec(&host, "echo again").await.expect("another connection"), "again");
    assert_eq!(sshd.logins(), 2);
    pool.close().await;
}

/// Small machines end connections on which nothing happens (`-I`). The pool finds out by itself,
/// and callers do not.
#[rstest]
#[tokio::test]
async fn a_connection_that_the_server_ended_for_idleness_costs_a_login_only() {
    let Some(sshd) = dropbear(&["-I", "3"]) else { return };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    for round in 1..=2 {
        assert_eq!(pool.exec(&host, "echo served").await.expect("it runs"), "served");
        assert_eq!(sshd.logins(), round);
        wait_for_async("the server to end the connection", PATIENCE, || {
            sshd.log().matches("Idle timeout").count() == round
                && pool.stats().total_connections == 0
        })
        .await;
    }
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_close_leaves_nothing_here_or_there() {
    let Some(sshd) = dropbear(&[]) else { return };
    let (pool, host) = (pool(bearable(config())), host(&sshd));
    let ssh_config = sshd.ssh_config().display().to_string();
    assert_eq!(pool.exec(&host, "echo on").await.expect("it runs"), "on");
    standby_is_there(&pool).await;
    assert_ne!(running(&sshd), [""; 0], "a connection and sessions in standby are there");
    assert_ne!(pooled::processes_with(&ssh_config), [""; 0], "and the master");
    timeout(PATIENCE, pool.close()).await.expect("the close ends");
    assert_eq!(pooled::processes_with(&ssh_config), [""; 0]);
    wait_for_async("the end of what ran there", PATIENCE, || running(&sshd).is_empty()).await;
    assert!(sshd.log().contains("Exit (lab)"), "Dropbear was told of the end:\n{}", sshd.log());
}
