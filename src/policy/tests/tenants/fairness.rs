//! A busy tenant takes nothing from the others.

use rstest::rstest;

use super::*;

/// Callers of an identity that come again and again, `width` at once.
fn busy(stage: &Arc<Stage>, host: Host, width: usize, until: Instant) -> Vec<JoinHandle<u32>> {
    let one = |stage: Arc<Stage>, host: Host| async move {
        let mut served = 0;
        while Instant::now() < until {
            let held = stage.take(&host).await;
            served += 1;
            sleep(ms(20)).await;
            drop(held);
        }
        served
    };
    (0..width).map(|_| tokio::spawn(one(Arc::clone(stage), host.clone()))).collect()
}

/// Each of some identities has more callers than the key has sessions, for a minute.
#[rstest]
#[case::two_and_one_connection(2, 1, 1)]
#[case::three_and_one_connection(3, 1, 1)]
#[case::two_and_one_wide_connection(2, 1, 4)]
#[case::three_and_two_connections(3, 2, 2)]
#[case::two_and_five_connections(2, 5, 2)]
#[case::seven_and_five_connections(7, 5, 1)]
#[tokio::test(start_paused = true)]
async fn no_identity_is_starved_by_a_busy_one(
    #[case] identities: usize,
    #[case] max: usize,
    #[case] sessions: usize,
) {
    let settings = PoolConfig { acquire_timeout: secs(600), ..config(max, sessions) };
    let stage = Arc::new(Stage::new(settings));
    let end = Instant::now() + secs(60);
    let callers: Vec<_> = (0..identities)
        // The first one has far more than the others.
        .map(|number| busy(&stage, identity(number), if number == 0 { 30 } else { 3 }, end))
        .collect();
    let mut served = Vec::new();
    for of_identity in callers {
        let mut all = 0;
        for caller in of_identity {
            all += caller.await.expect("callers do not panic");
        }
        served.push(all);
    }
    // A turn costs a login, and some sessions.
    let turns = 60_000 / (120 * identities as u32);
    assert!(served.iter().all(|&times| times >= turns / 3), "{served:?}");
    assert_eq!(stage.stats().waiting, 0);
    if max >= identities * 2 {
        assert!(stage.logins() <= max + identities, "{} logins", stage.logins());
    }
}

/// Two busy identities do not take connections from each other once each has its part.
#[tokio::test(start_paused = true)]
async fn busy_identities_keep_their_connections() {
    let settings = PoolConfig { acquire_timeout: secs(600), ..config(4, 1) };
    let stage = Arc::new(Stage::new(settings));
    let end = Instant::now() + secs(20);
    let callers: Vec<_> =
        (0..2).flat_map(|number| busy(&stage, identity(number), 6, end)).collect();
    pass(secs(10)).await;
    let logins = stage.logins();
    pass(secs(9)).await;
    assert_eq!(stage.logins(), logins);
    for caller in callers {
        caller.await.unwrap();
    }
}
