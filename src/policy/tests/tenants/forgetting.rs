//! Tenants that have nothing left are forgotten.

use super::*;

fn remembered(stage: &Stage) -> usize {
    stage.pool.cells().iter().map(|cell| cell.tenants()).sum()
}

#[tokio::test(start_paused = true)]
async fn thousands_of_identities_leave_nothing_but_their_counters() {
    let stage = stage(2);
    for number in 0..1500 {
        drop(stage.take(&identity(number)).await);
        assert!(remembered(&stage) <= 2, "as many as there are connections");
    }
    pass(secs(120)).await;
    assert_eq!((remembered(&stage), stage.there()), (0, 0));
    let stats = stage.pool.stats_by_host()[&web1().key()];
    assert_eq!((stats.connects, stats.pool_misses), (1500, 1500));
    assert_eq!(stats, stage.stats());
}

#[tokio::test(start_paused = true)]
async fn failures_of_thousands_of_identities_are_remembered_within_bounds() {
    let stage = stage(2);
    stage.world.plan_with(|| Plan::fails(Kind::Refused));
    for number in 0..1500 {
        assert_eq!(kind_of(stage.try_take(&identity(number)).await), Kind::Refused);
        assert!(remembered(&stage) <= 1100, "{}", remembered(&stage));
    }
    assert_eq!(stage.stats().failed_connects, 1500);
    pass(secs(3600)).await;
    for number in 0..20 {
        assert_eq!(kind_of(stage.try_take(&identity(number)).await), Kind::Refused);
    }
    stage.pool.reset(&web1());
    assert_eq!(remembered(&stage), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_no_identity_behind() {
    let stage = stage(1);
    let held = stage.take(&identity(0)).await;
    for number in 1..100 {
        let caller = stage.caller(&identity(number)).await;
        assert_eq!(remembered(&stage), 2);
        caller.abort();
        settled().await;
        assert_eq!((remembered(&stage), stage.stats().waiting), (1, 0));
    }
    drop(held);
}
