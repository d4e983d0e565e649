//! Who gets a session that has run a command.

use super::*;
use crate::host::Caller;

fn stage(session_reuse: SessionReuse) -> Stage {
    Stage::new(PoolConfig { session_reuse, ..config(1, 8) })
}

/// A process for which somebody keeps the pool.
fn of_process(pid: i32) -> Host {
    web1().for_caller(Caller::Process { pid, started: 7 })
}

/// A command of this caller, in a session that is used again.
async fn command(stage: &Stage, host: &Host) {
    let held = stage.take_alone(host).await;
    let session = held.lease().standby(host.login(), |_| true);
    held.lease().keep(session.expect("a session waits"), host.login());
    drop(held);
    settled().await;
}

fn reused(stage: &Stage) -> u64 {
    stage.stats().reused_sessions
}

#[tokio::test(start_paused = true)]
async fn a_used_session_serves_its_caller_only_where_it_is_fast() {
    for (reuse, shared) in [(SessionReuse::Exact, 1), (SessionReuse::Fast, 0)] {
        let stage = stage(reuse);
        let [first, second] = [of_process(1), of_process(2)];
        let again = web1().for_caller(Caller::Process { pid: 1, started: 8 });
        drop(stage.take(&first).await);
        settled().await;
        command(&stage, &first).await;
        assert_eq!(reused(&stage), 0);
        command(&stage, &first).await;
        assert_eq!(reused(&stage), 1, "its own");
        for (number, other) in [second, again, web1()].iter().enumerate() {
            command(&stage, other).await;
            assert_eq!(reused(&stage), 1 + shared * (number as u64 + 1), "{reuse}: {other:?}");
        }
    }
}

/// Callers that come once each, as commands of the program do, find a session that is for
/// everybody.
#[tokio::test(start_paused = true)]
async fn sessions_of_others_make_room_for_new_ones() {
    let stage = stage(SessionReuse::Fast);
    drop(stage.take(&of_process(1)).await);
    settled().await;
    for pid in 2..20 {
        command(&stage, &of_process(pid)).await;
        assert_eq!(stage.stats().standby_sessions, 2);
    }
    assert_eq!((reused(&stage), stage.stats().standby_hits), (0, 18));
    // Half of them could not be used by the next one, and went.
    let opened = stage.world.books(|truth| truth.seen["standbys opened"]);
    assert!(opened <= 2 + 18, "{opened}");
}

/// More sessions than one caller leaves behind: its own stay.
#[tokio::test(start_paused = true)]
async fn what_is_too_much_is_first_that_of_others() {
    let stage = stage(SessionReuse::Fast);
    let [first, second] = [of_process(1), of_process(2)];
    drop(stage.take(&first).await);
    settled().await;
    command(&stage, &first).await;
    // It has its own and one that is new. Another one takes the new one, and keeps it.
    let held = stage.take_alone(&second).await;
    let session = held.lease().standby(second.login(), |_| true).expect("a new one waits");
    // The first one has come back meanwhile, and has its own.
    let back = stage.take(&first).await;
    assert!(back.had_standby && reused(&stage) == 1);
    held.lease().keep(session, second.login());
    assert!(held.lease().standby(first.login(), |_| true).is_none());
    assert!(held.lease().standby(second.login(), |_| true).is_some());
}

/// Those who end together leave their sessions to those who wait, who have none until they run.
#[tokio::test(start_paused = true)]
async fn who_waits_gets_a_used_session_however_many_end_at_once() {
    let stage = Stage::new(PoolConfig { session_reuse: SessionReuse::Exact, ..config(1, 2) });
    let host = web1();
    drop(stage.take(&host).await);
    settled().await;
    let mut running = Vec::new();
    for _ in 0..2 {
        let held = stage.take_alone(&host).await;
        let session = held.lease().standby(host.login(), |_| true);
        running.push((held, session.expect("a session waits")));
    }
    let waiting = [stage.caller(&host).await, stage.caller(&host).await];
    let before = reused(&stage);
    for (held, session) in running {
        held.lease().keep(session, host.login());
        drop(held);
    }
    settled().await;
    for caller in waiting {
        assert!(served(caller).await.had_standby);
    }
    assert_eq!(reused(&stage), before + 2);
}
