//! Hours of callers, and thousands of accounts.

use super::*;
use crate::policy::tests::draw::Random;

/// Hours of callers with wrong and right keys, changes, and connections that come and go. The books
/// complain about a fifth failure in ten minutes.
#[test]
fn at_most_four_fail_in_any_ten_minutes_whatever_happens() {
    for seed in 0..8 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut random = Random(seed);
            let stage =
                Stage::new(config(random.up_to(1, 6) as usize, random.up_to(1, 3) as usize));
            let (bad, mut plans) = (random.up_to(10, 100), Random(!seed));
            stage.world.plan_with(move || match plans.chance(bad) {
                true if plans.chance(20) => Plan::is_dropped(),
                true if plans.chance(20) => Plan::fails(Kind::ServerBusy),
                true if plans.chance(20) => {
                    Plan::default().silent().dies_after(plans.millis(0, 100))
                }
                true => Plan::fails(plans.pick([Kind::Authentication, Kind::HostKeyChanged])),
                false => Plan::default().dies_after(plans.millis(0, 900_000)),
            });
            let hosts: Vec<Host> =
                (0..random.up_to(1, 12)).map(|number| alias(&format!("h{number}"))).collect();
            let start = Instant::now();
            while start.elapsed() < secs(2 * 3600) {
                let mut callers = Vec::new();
                for _ in 0..random.up_to(1, 12) {
                    callers.push(stage.caller(random.pick_from(&hosts)).await);
                }
                if random.chance(30) {
                    stage.world.books(|truth| truth.configuration += 1);
                }
                pass(random.millis(0, 200)).await;
                for caller in callers {
                    match random.chance(10) {
                        true => caller.abort(),
                        false => drop(caller.await),
                    }
                }
                let longest = random.pick([100, 5_000, 120_000]);
                pass(random.millis(0, longest)).await;
                // A change may come at any time of a pause.
                stage.world.books(|truth| {
                    truth.hosts.iter_mut().for_each(HostTruth::forgets_failures);
                });
            }
            stage.world.condemn(|_| true);
            stage.pool.close(Duration::ZERO).await;
        });
    }
}

#[tokio::test(start_paused = true)]
async fn accounts_of_which_nothing_is_left_to_say_are_forgotten() {
    let ledger: Arc<Ledger> = Arc::default();
    let world = World::new(&config(2, 1));
    let fake = Fake { world: Arc::clone(&world) };
    let pool = Arc::new(Core::new(fake, config(2, 1), CAPACITY, Arc::clone(&ledger)));
    for number in 0..300 {
        drop(take(&pool, &world, &format!("h{number}").parse().unwrap()).await);
        assert!(ledger.accounts() <= 100, "{}", ledger.accounts());
    }
    world.condemn(|_| true);
    pool.close(Duration::ZERO).await;
}
