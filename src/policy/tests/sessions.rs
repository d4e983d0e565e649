//! Servers of which nobody knows whether they open several sessions on a connection, and those that
//! open one.

use super::plan::Plan;
use super::*;
use crate::transport::Trial;

/// How often another session was tried.
fn trials(stage: &Stage) -> u64 {
    stage.world.books(|truth| truth.seen.get("trials").copied().unwrap_or_default())
}

/// A pool, and a server whose software tells nothing: each of its connections is tried so.
fn stage(config: PoolConfig, plan: &Plan) -> Stage {
    let stage = Stage::new(config);
    let plan = plan.clone();
    stage.world.plan_with(move || plan.clone());
    stage
}

/// What this server does, it refuses another session.
fn refuses() -> Plan {
    Plan::default().tried(ms(10), Trial::Refuses)
}

/// A command and its end; gives the connection.
async fn run(stage: &Stage) -> usize {
    let held = stage.take(&web1()).await;
    assert!(held.has_session, "a caller is given a connection that is of no use to it");
    held.id
}

#[tokio::test(start_paused = true)]
async fn another_session_is_tried_where_no_command_runs() {
    let stage = stage(config(5, 8), &Plan::default().tried(ms(10), Trial::Opens));
    let first = stage.take(&web1()).await;
    assert!(first.had_standby, "it has the session of the proof");
    let second = stage.take(&web1()).await;
    assert_eq!((second.id, trials(&stage)), (1, 0), "nothing is opened beside a command");
    drop(first);
    settled().await;
    assert_eq!(trials(&stage), 1);
    pass(ms(10)).await;
    // What was learned holds for both, though a command runs on the other one.
    let more: Vec<_> = [stage.take(&web1()).await, stage.take(&web1()).await].into();
    assert!(more.iter().all(|held| held.has_session));
    drop((second, more));
    settled().await;
    assert_eq!((trials(&stage), stage.logins()), (1, 2));
    assert_eq!(stage.stats().standby_sessions, 2, "as with any other server");
}

#[tokio::test(start_paused = true)]
async fn a_server_of_one_session_costs_a_login_for_each_command_and_is_learned_once() {
    // One connection may end for another reason.
    for (outcome, needed) in [(Trial::Refuses, 1), (Trial::Ends, 2)] {
        let stage = stage(config(5, 8), &Plan::default().tried(ms(10), outcome));
        for number in 0..needed {
            assert_eq!(run(&stage).await, number);
            pass(ms(10)).await;
            assert_eq!((trials(&stage), stage.there()), (number as u64 + 1, 0));
        }
        for number in needed..20 {
            let begun = Instant::now();
            assert_eq!(run(&stage).await, number);
            assert_eq!(begun.elapsed(), LOGIN, "no pause of a failure is in between");
            settled().await;
            assert_eq!((trials(&stage), stage.there()), (needed as u64, 0));
        }
        let stats = stage.stats();
        assert_eq!(
            (stats.connects, stats.failed_connects, stats.health_check_failures),
            (20, 0, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_during_a_trial_gets_its_connection_afterwards() {
    let stage = stage(config(1, 8), &Plan::default().tried(ms(30), Trial::Opens));
    run(&stage).await;
    settled().await;
    let waits = stage.caller(&web1()).await;
    assert!(!waits.is_finished());
    pass(ms(30)).await;
    assert_eq!((served(waits).await.id, stage.logins()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_lasts_is_not_waited_for_longer_than_a_login_takes() {
    let config = PoolConfig { session_reuse: SessionReuse::Exact, ..config(2, 8) };
    let stage = stage(config, &Plan::default().tried(secs(2), Trial::Refuses));
    run(&stage).await;
    settled().await;
    let begun = Instant::now();
    assert_eq!(run(&stage).await, 1);
    assert_eq!(begun.elapsed(), 2 * LOGIN);
    pass(secs(2)).await;
    assert_eq!(trials(&stage), 1, "one outcome is for all connections");
    run(&stage).await;
}

#[tokio::test(start_paused = true)]
async fn callers_that_meet_at_a_server_of_one_session_have_a_connection_each() {
    let stage = stage(config(3, 8), &refuses());
    run(&stage).await;
    pass(ms(10)).await;
    let begun = Instant::now();
    let mut callers = Vec::new();
    for _ in 0..6 {
        callers.push(stage.caller(&web1()).await);
    }
    at(begun + LOGIN).await;
    let mut held = Vec::new();
    let mut waits = Vec::new();
    for caller in callers {
        match caller.is_finished() {
            true => held.push(served(caller).await),
            false => waits.push(caller),
        }
    }
    let mut ids: Vec<_> = held.iter().map(|held| held.id).collect();
    ids.dedup();
    assert_eq!((ids.len(), waits.len()), (3, 3));
    drop(held);
    pass(LOGIN).await;
    for caller in waits {
        drop(served(caller).await);
    }
    assert_eq!(stage.logins(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_the_waiting_session_does_not_suit_has_the_trial_first() {
    for (outcome, connection) in [(Trial::Opens, 0), (Trial::Refuses, 1)] {
        let plan = Plan::default().tried(ms(10), outcome);
        let stage = stage(PoolConfig { standby_sessions: 0, ..config(1, 8) }, &plan);
        let held = stage.take_alone(&web1()).await;
        assert!(!held.lease().opens());
        let begun = Instant::now();
        held.does_not_suit().await;
        assert_eq!(begun.elapsed(), ms(10));
        assert_eq!(run(&stage).await, connection);
        assert_eq!(trials(&stage), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn without_sessions_ahead_of_need_none_is_tried_before_somebody_needs_it() {
    let plan = Plan::default().tried(ms(10), Trial::Opens);
    let stage = stage(PoolConfig { standby_sessions: 0, ..config(1, 8) }, &plan);
    run(&stage).await;
    settled().await;
    assert_eq!(trials(&stage), 0);
    run(&stage).await;
    assert_eq!((trials(&stage), stage.logins()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_trial_in_which_something_else_came_in_between_tells_nothing() {
    let stage = stage(config(1, 8), &Plan::default().tried(ms(10), Trial::Fails));
    for number in 0..4 {
        assert_eq!(run(&stage).await, number);
        pass(ms(10)).await;
        assert_eq!(trials(&stage), number as u64 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_is_forgotten_by_a_close_a_reset_and_after_an_hour() {
    let stage = stage(config(1, 8), &refuses());
    let mut learned = 0;
    for forget in [0, 1, 2, 3] {
        match forget {
            0 => {}
            1 => stage.close_host(&web1(), Duration::ZERO).await,
            2 => stage.pool.reset(&web1()),
            _ => pass(secs(3600)).await,
        }
        learned += 1;
        for _ in 0..3 {
            run(&stage).await;
            pass(ms(10)).await;
            assert_eq!(trials(&stage), learned, "{forget}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_ends_during_a_trial_is_no_failed_login() {
    let plan = Plan::default().tried(secs(1), Trial::Ends);
    let stage = stage(config(1, 8), &plan);
    let held = stage.take(&web1()).await;
    let connection = Arc::clone(held.connection());
    held.unused();
    settled().await;
    assert_eq!(trials(&stage), 1);
    connection.die();
    settled().await;
    let begun = Instant::now();
    run(&stage).await;
    assert_eq!(begun.elapsed(), LOGIN);
}

#[tokio::test(start_paused = true)]
async fn another_identity_is_another_server() {
    let stage = stage(config(2, 8), &refuses());
    run(&stage).await;
    pass(ms(10)).await;
    let other = web1().user("other").expect("a valid name");
    drop(stage.take(&other).await);
    pass(ms(10)).await;
    assert_eq!(trials(&stage), 2);
    run(&stage).await;
    pass(ms(10)).await;
    assert_eq!(trials(&stage), 2);
}

/// A server may end the connection later than the trial has waited for.
#[tokio::test(start_paused = true)]
async fn a_server_that_ends_each_connection_behind_its_use_is_learned_in_spite_of_the_trial() {
    for (later, is_learned) in [(ms(500), true), (secs(5), false)] {
        let plan = Plan::default().tried(ms(10), Trial::Opens);
        let stage = stage(config(1, 8), &plan);
        for number in 0..4 {
            let held = stage.take(&web1()).await;
            let connection = Arc::clone(held.connection());
            drop(held);
            pass(later).await;
            connection.die();
            settled().await;
            // One may have ended for another reason.
            let is_single = is_learned && number > 0;
            let two = [stage.caller(&web1()).await, stage.caller(&web1()).await];
            pass(LOGIN).await;
            assert_eq!(two.iter().filter(|caller| caller.is_finished()).count() == 1, is_single);
            for caller in two {
                caller.abort();
            }
            settled().await;
        }
    }
}
