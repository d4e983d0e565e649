//! What a pool counts.

use std::iter::Sum;
use std::ops::AddAssign;

/// Statistics of a pool, or of one host of it, at one instant.
///
/// The gauges are read off the connections themselves, not kept beside them: `active_connections +
/// idle_connections == total_connections` always. Counters only grow, from the making of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Stats {
    /// Callers that were served at once, over a connection that was there.
    pub pool_hits: u64,
    /// Callers that had to wait for a login; several can wait for one.
    pub pool_misses: u64,
    /// Connections that at least one caller uses.
    pub active_connections: usize,
    /// Connections that nobody uses.
    pub idle_connections: usize,
    /// Connections that are there: active and idle.
    pub total_connections: usize,
    /// Logins under way.
    pub connecting: usize,
    /// Callers that queue.
    pub waiting: usize,
    /// Sessions that callers hold.
    pub open_sessions: usize,
    /// Sessions opened ahead of need that nobody has taken, those that are still opening among
    /// them.
    pub standby_sessions: usize,
    /// Connections to accounts without a POSIX shell (csh, fish, a forced command): their commands
    /// go as arguments, and no session is opened ahead of need. Decided when the connection is
    /// made, and when a shell ends before it has begun with a command.
    pub plain_connections: usize,
    /// Logins that succeeded.
    pub connects: u64,
    /// Logins that failed.
    pub failed_connects: u64,
    /// Probes that succeeded: of idle connections, and of those on which a command had timed out.
    pub health_checks_passed: u64,
    /// Connections that were found not to work any more, by a probe or, idle, by their own end;
    /// each was removed.
    pub health_check_failures: u64,
    /// Commands that took a session opened ahead of need, be it ready or still opening.
    pub standby_hits: u64,
    /// Commands that took a session in which others had run.
    pub reused_sessions: u64,
    /// Sessions that a server refused to open (its `MaxSessions`); the commands were run later or
    /// elsewhere.
    pub refused_sessions: u64,
    /// Commands that were started.
    pub commands_run: u64,
    /// Commands that took longer than their timeout.
    pub commands_timed_out: u64,
}

impl AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        // Taken apart, so that a new field cannot be forgotten here.
        let Stats {
            pool_hits,
            pool_misses,
            active_connections,
            idle_connections,
            total_connections,
            connecting,
            waiting,
            open_sessions,
            standby_sessions,
            plain_connections,
            connects,
            failed_connects,
            health_checks_passed,
            health_check_failures,
            standby_hits,
            reused_sessions,
            refused_sessions,
            commands_run,
            commands_timed_out,
        } = other;
        self.pool_hits += pool_hits;
        self.pool_misses += pool_misses;
        self.active_connections += active_connections;
        self.idle_connections += idle_connections;
        self.total_connections += total_connections;
        self.connecting += connecting;
        self.waiting += waiting;
        self.open_sessions += open_sessions;
        self.standby_sessions += standby_sessions;
        self.plain_connections += plain_connections;
        self.connects += connects;
        self.failed_connects += failed_connects;
        self.health_checks_passed += health_checks_passed;
        self.health_check_failures += health_check_failures;
        self.standby_hits += standby_hits;
        self.reused_sessions += reused_sessions;
        self.refused_sessions += refused_sessions;
        self.commands_run += commands_run;
        self.commands_timed_out += commands_timed_out;
    }
}

impl Sum for Stats {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Stats::default(), |mut all, one| {
            all += one;
            all
        })
    }
}
