//! One tenant is retired, and the others are not.

use super::*;

#[tokio::test(start_paused = true)]
async fn one_identity_can_be_retired_while_its_commands_finish() {
    let stage = Stage::new(config(3, 2));
    let (first, second) = (stage.take(&identity(0)).await, stage.take(&identity(0)).await);
    let idle = stage.take(&identity(0)).await;
    drop(idle);
    drop(stage.take(&identity(1)).await);
    settled().await;
    assert_eq!(stage.there(), 3);
    stage.world.condemn(|host| host.identity == *identity(0).identity());
    stage.pool.retire(&identity(0));
    settled().await;
    assert_eq!(stage.there(), 2, "the one that nobody used is gone");
    assert!(stage.pool.connections(&identity(0)).is_empty());
    use crate::transport::Connection as _;
    assert!(first.connection().is_alive());
    let start = Instant::now();
    let next = stage.take(&identity(0)).await;
    assert!(next.id != first.id && start.elapsed() == LOGIN, "the next caller logs in anew");
    drop(first);
    settled().await;
    assert!(second.connection().is_alive());
    drop(second);
    settled().await;
    assert_eq!((stage.there(), stage.logins()), (2, 4));
    assert_eq!(stage.pool.connections(&identity(0)).len(), 1);
    assert_eq!(stage.pool.connections(&identity(1)).len(), 1, "the other one is not concerned");
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_under_way_is_retired_too_and_who_waits_for_it_gets_another_one() {
    let stage = stage(2);
    let waits = stage.caller(&identity(0)).await;
    pass(ms(50)).await;
    stage.world.condemn(|_| true);
    stage.pool.retire(&identity(0));
    pass(LOGIN).await;
    drop(served(waits).await);
    assert_eq!(stage.logins(), 2);
    stage.pool.retire(&Host::new("unknown").unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_place_of_a_retired_connection_is_waited_for() {
    let stage = stage(1);
    let held = stage.take(&identity(0)).await;
    stage.world.condemn(|_| true);
    stage.pool.retire(&identity(0));
    let (own, other) = (stage.caller(&identity(0)).await, stage.caller(&identity(1)).await);
    pass(secs(1)).await;
    assert_eq!(totals(&stage), (1, 0, 2));
    drop(held);
    pass(LOGIN).await;
    drop(served(own).await);
    pass(LOGIN).await;
    drop(served(other).await);
}
