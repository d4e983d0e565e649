//! How long a host is left alone after failed logins.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause for a server that is busy. It has not looked at who we are, so nobody is
/// locked out.
const BUSY: Duration = Duration::from_secs(2);
/// The pauses after failures that count, such as a wrong key. The account may have been mended on
/// the server, which nobody sees from here; a few tries will not get it locked.
pub(super) const LONGEST_COUNTED: Duration = Duration::from_secs(120);
const COUNTED: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(30), Duration::from_secs(120)];

/// The pause after the `attempts`-th failure in a row (counted from 1): 200 ms doubling to 30 s, of
/// which a random part of up to a quarter is taken away, so that many callers do not come back at
/// the same instant.
pub(super) fn pause(attempts: u32) -> Duration {
    doubling(attempts, LONGEST)
}

/// The same, after logins that the server dropped before it had looked at them.
pub(super) fn busy(attempts: u32) -> Duration {
    doubling(attempts, BUSY)
}

/// The pause after the `failures`-th failure that counts; `None` where the ledger decides.
pub(super) fn counted(failures: u32) -> Option<Duration> {
    COUNTED.get(failures.saturating_sub(1) as usize).copied()
}

fn doubling(attempts: u32, longest: Duration) -> Duration {
    let full = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(longest);
    // Quality does not matter here, and a std hasher is seeded from the system.
    let random = RandomState::new().hash_one(attempts) as u32;
    full - full / 4 * (random % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(1, 200)]
    #[case(2, 400)]
    #[case(8, 25_600)]
    #[case(9, 30_000)]
    #[case(u32::MAX, 30_000)]
    fn doubles_to_its_limit_with_jitter(#[case] attempts: u32, #[case] most: u64) {
        for _ in 0..100 {
            let pause = pause(attempts).as_millis() as u64;
            assert!(pause <= most && pause >= most * 3 / 4, "{pause}");
        }
    }
}
