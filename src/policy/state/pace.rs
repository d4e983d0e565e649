//! How fast sessions become free, and how long a login takes: whether another login is worth it.
//!
//! A queue that is served sooner than a login would take gets no login. How long it takes is judged
//! by the shortest commands of late: where many at once take longer, because a machine has too much
//! to do, another login would only give it more.
//!
//! As long as that is not known, and where no session becomes free any more, a caller waits for as
//! long as a login takes before one is begun for it. So it waits at most twice as long as it would
//! have, and a burst of short commands has no logins that come too late.

use std::time::Duration;

use tokio::time::Instant;

/// What was measured of one tenant.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// For how long callers hold a session at least. It grows with each one that holds it longer.
    held: Option<Duration>,
    /// How long the last login took.
    login: Option<Duration>,
    /// When a session became free last, by a login or by the end of a command.
    moved: Option<Instant>,
}

impl Pace {
    /// A caller has held a session for so long.
    pub(super) fn was_held(&mut self, held: Duration, now: Instant) {
        self.held = Some(self.held.map_or(held, |before| held.min(before + before / 16)));
        self.moved = Some(now);
    }

    pub(super) fn has_logged_in(&mut self, took: Duration, now: Instant) {
        (self.login, self.moved) = (Some(took), Some(now));
    }

    /// From when on a login is worth it for a caller that came at `since` and has so many before it
    /// that wait for one of `sessions`.
    pub(super) fn worth_from(&self, since: Instant, before: usize, sessions: usize) -> Instant {
        let Some(login) = self.login.filter(|_| sessions > 0) else { return since };
        if let Some(held) = self.held {
            let turns = u32::try_from(before / sessions + 1).unwrap_or(u32::MAX);
            if held.saturating_mul(turns) > login {
                return since;
            }
        }
        self.moved.map_or(since, |moved| moved.max(since)) + login
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn a_login_is_worth_it_where_the_queue_lasts_longer() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.worth_from(now, 0, 8), now, "nothing is known");
        pace.has_logged_in(100 * MS, now);
        assert_eq!(pace.worth_from(now - 50 * MS, 0, 8), now + 100 * MS);
        assert_eq!(pace.worth_from(now + 7 * MS, 0, 8), now + 107 * MS);
        assert_eq!(pace.worth_from(now, 500, 0), now, "there is nothing to wait for");
        pace.was_held(2 * MS, now);
        assert_eq!(pace.worth_from(now, 300, 8), now + 100 * MS, "it is served in 76 ms");
        assert_eq!(pace.worth_from(now, 480, 8), now, "it would be served in 122 ms");
        pace.was_held(10_000 * MS, now + MS);
        assert_eq!(pace.worth_from(now, 0, 8), now + 101 * MS, "a long one may be an exception");
        (0..200).for_each(|_| pace.was_held(10_000 * MS, now));
        assert_eq!(pace.worth_from(now, 0, 8), now);
    }
}
