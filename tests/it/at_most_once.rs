//! No command runs twice, whatever breaks while many of them run, and what is told of each is true.

use std::collections::HashMap;
use std::time::Duration;

use rstest::rstest;
use sshpool::{Error, PoolConfig};
use tokio::task::JoinSet;

use crate::lab::common::wait_for_async;
use crate::lab::faulty::{COMMAND, CONNECT, Fault, Scene, recorded, told_within};
use crate::lab::pooled::PATIENCE;

const ROUNDS: usize = 3;
const COMMANDS: usize = 40;
const QUEUE: Duration = Duration::from_secs(5);

#[rstest]
#[case(Fault::Frozen)]
#[case(Fault::Swallowed)]
#[case(Fault::Reset)]
#[case(Fault::Rebooted)]
#[case(Fault::MasterStopped)]
#[case(Fault::MasterKilled)]
#[tokio::test]
async fn no_command_runs_twice(#[case] fault: Fault) {
    let settings = |config: &mut PoolConfig| {
        (config.max_connections, config.acquire_timeout) = (2, QUEUE);
    };
    let scene = Scene::with(settings, |host| host);
    let mut told = HashMap::new();
    for round in 0..ROUNDS {
        scene.recovers().await;
        let before = scene.pool.stats();
        let mut callers = JoinSet::new();
        for number in 0..COMMANDS {
            let name = format!("{round}-{number}");
            // Some have ended when it happens, some run, some wait.
            let command = format!("{}sleep 0.{number:02}", recorded(&name));
            let command = scene.pool.shell(&scene.host, command);
            callers.spawn(async move {
                let outcome = match number % 2 {
                    0 => command.output().await.map(|output| output.status),
                    _ => match command.timeout(COMMAND).spawn().await {
                        Ok(mut child) => child.wait().await,
                        Err(error) => Err(error),
                    },
                };
                (name, outcome)
            });
        }
        let some = before.commands_run + COMMANDS as u64 / 4 * (1 + round as u64);
        wait_for_async("some commands", PATIENCE, || scene.pool.stats().commands_run >= some).await;
        scene.begin(fault);
        if matches!(fault, Fault::Frozen | Fault::Swallowed) {
            let timed_out = || scene.pool.stats().commands_timed_out > before.commands_timed_out;
            wait_for_async("a timeout", PATIENCE, timed_out).await;
        }
        scene.end(fault);
        // A queue, a check, a login, and the command itself.
        told.extend(told_within(QUEUE + 2 * CONNECT + COMMAND, callers.join_all()).await);
    }
    assert_eq!(told.len(), ROUNDS * COMMANDS);
    scene.recovers().await;
    scene.leaves_nothing().await;

    let ran = scene.sshd.exec("cat ~/ran").stdout;
    let mut failed = 0;
    for (name, outcome) in told {
        let times = ran.lines().filter(|line| **line == name).count();
        let expected = match &outcome {
            Ok(status) => {
                assert!(status.success(), "{name}: {status}");
                1..=1
            }
            Err(error) if error.never_started() => 0..=0,
            Err(Error::Lost { reason, .. }) => {
                // What ssh says of the place that is no place (`ProxyCommand=false`).
                assert!(!reason.contains("UNKNOWN port"), "{name}: {reason}");
                0..=1
            }
            Err(Error::TimedOut { .. }) => 0..=1,
            Err(error) => panic!("{name}: {error:?}"),
        };
        failed += usize::from(outcome.is_err());
        assert!(expected.contains(&times), "{name} ran {times} times: {outcome:?}");
    }
    assert!(failed > 0, "it happened while commands ran");
}
