//! How many logins commands cost, counted in the server's own log.

use rstest::rstest;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{PATIENCE, config, host, pool};

#[rstest]
#[case::one_after_another(10, 1, 1)]
#[case::twenty_at_once(20, 20, 5)]
#[case::five_hundred_at_once(500, 500, 5)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_share_logins(
    #[case] commands: usize,
    #[case] at_once: usize,
    #[case] most_logins: usize,
) {
    let sshd = Sshd::builder().start();
    let (pool, host) = (pool(config()), host(&sshd));
    let mut tasks = JoinSet::new();
    for number in 0..commands {
        if tasks.len() == at_once {
            tasks.join_next().await.expect("there is a task").expect("it does not panic");
        }
        let (pool, host) = (pool.clone(), host.clone());
        tasks.spawn(async move {
            let text = pool.exec(&host, &format!("echo {number}")).await.expect("no command fails");
            assert_eq!(text, number.to_string());
        });
    }
    timeout(PATIENCE, tasks.join_all()).await.expect("all commands end");

    // A login that the queue needed may come when the commands have found other sessions.
    wait_for_async("the end of the last login", PATIENCE, || pool.stats().connecting == 0).await;
    let (stats, logins) = (pool.stats(), sshd.logins());
    assert!((1..=most_logins).contains(&logins), "{logins} logins");
    assert_eq!(stats.connects, logins as u64, "the pool counts as the server does");
    assert_eq!(stats.commands_run, commands as u64);
    assert_eq!(stats.failed_connects + stats.commands_timed_out, 0);
    assert_eq!((stats.open_sessions, stats.waiting, stats.active_connections), (0, 0, 0));
    assert_eq!(stats.idle_connections, logins);
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_server_that_allows_two_sessions_is_never_a_callers_problem() {
    let sshd = Sshd::builder().max_sessions(2).start();
    let (pool, host) = (pool(config().standby_sessions(0)), host(&sshd));
    let mut tasks = JoinSet::new();
    for number in 0..100 {
        let (pool, host) = (pool.clone(), host.clone());
        // As long as more than two of them meet on one connection for certain.
        let text = format!("sleep 0.2; echo {number} >>numbers; echo {number}");
        tasks.spawn(async move { pool.exec(&host, &text).await });
    }
    let results = timeout(PATIENCE, tasks.join_all()).await.expect("all commands end");
    for result in &results {
        assert!(result.is_ok(), "{result:?}");
    }
    wait_for_async("the end of the last login", PATIENCE, || pool.stats().connecting == 0).await;
    let stats = pool.stats();
    assert!(stats.refused_sessions > 0, "the server did refuse: {stats:?}");
    assert!(sshd.logins() <= 5);
    let numbers = pool.exec(&host, "sort -n numbers").await.expect("it runs");
    let expected: Vec<_> = (0..results.len()).map(|number| number.to_string()).collect();
    assert_eq!(numbers.lines().collect::<Vec<_>>(), expected, "each ran once");
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn hosts_that_differ_in_more_than_the_address_do_not_share() {
    let sshd = Sshd::builder().start();
    let pool = pool(config());
    let plain = host(&sshd);
    let elsewhere = host(&sshd).address("127.0.0.2").expect("a valid address");
    let other = host(&sshd).option("Compression", "yes").expect("a valid option");
    for host in [&plain, &elsewhere, &other, &plain] {
        pool.exec(host, "true").await.expect("it runs");
    }
    assert_eq!(sshd.logins(), 2, "the address does not tell them apart, the option does");
    pool.close().await;
}
