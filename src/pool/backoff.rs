//! How long a host is left alone after failed logins.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// The pause after a failure that trying again cannot mend: a wrong key, a host key that has changed.
pub(super) const PERMANENT: Duration = Duration::from_secs(15 * 60);

/// The pause after the `attempts`-th failure in a row (counted from 1): 200 ms doubling to 30 s, of which a random part of up to a
/// quarter is taken away, so that many callers do not come back at the same instant.
pub(super) fn pause(attempts: u32) -> Duration {
    let full = FIRST.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST);
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
