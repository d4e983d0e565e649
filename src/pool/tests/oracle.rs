//! What must be true whenever nothing more can happen without time passing.
//!
//! The statistics of the pool are compared with the books of the fake, and the books with what the pool has promised to those who wait.
//! An instant later all of it may be different, so this is called when the runtime has nothing left to run.

use super::plan::Standby;
use super::world::{Facts, HostTruth, Outcome, PERMANENT, Phase, SHORTEST_PAUSE, Truth};
use super::*;

/// The longest pause after so many failed logins in a row.
fn longest_pause(failures: u32) -> Duration {
    ms((200 << failures.saturating_sub(1).min(16)).min(30_000))
}

/// The longest rest of a connection that refuses sessions.
const LONGEST_REST: Duration = secs(1);

pub(super) fn inspect(pool: &Core<Fake>, world: &World) {
    let now = Instant::now();
    for (identity, cell) in &pool.lock().cells {
        let stats = cell.stats();
        world.books(|truth| {
            let Truth { hosts, connections, violations, .. } = truth;
            let host =
                hosts.iter().find(|host| host.identity == *identity).expect("every caller is in the books");
            let there: Vec<&Facts> = host.there.iter().map(|&id| &connections[id]).collect();
            let view = View { now, config: &world.config, stats, host, there };
            for broken in view.counts().into_iter().chain(view.queue()).chain(view.upkeep()) {
                violations.push(format!(
                    "after {:?}, {broken}: {stats:?}\n  {host:?}\n {:?}",
                    now - world.born,
                    view.there
                ));
            }
        });
    }
}

/// One host at one instant.
struct View<'a> {
    now: Instant,
    config: &'a PoolConfig,
    stats: Stats,
    host: &'a HostTruth,
    /// Its connections, those included that are being closed.
    there: Vec<&'a Facts>,
}

impl View<'_> {
    /// Connections that the pool may hand out, or believes that it may.
    fn open(&self) -> impl Iterator<Item = &Facts> {
        self.there.iter().copied().filter(|facts| !facts.closing)
    }

    /// Connections that nobody gets before a probe.
    fn suspects(&self) -> impl Iterator<Item = &Facts> {
        let most = self.config.sessions_per_connection;
        self.open().filter(move |facts| facts.suspect.is_some() && facts.sessions < most)
    }

    /// The pool counts what there is.
    fn counts(&self) -> Vec<&'static str> {
        let (stats, host) = (self.stats, self.host);
        let sessions: usize = self.open().map(|facts| facts.sessions).sum();
        let standbys: usize = self.open().map(|facts| facts.standbys).sum();
        let active = self.open().filter(|facts| facts.sessions > 0).count();
        // A login that is given up at the very instant of its closing may be in one count only.
        let failures_agree = host.last_closed.is_some() || stats.failed_connects == host.failed;
        broken([
            (
                "active and idle are not the total",
                stats.active_connections + stats.idle_connections == stats.total_connections,
            ),
            (
                "more connections than allowed",
                self.there.len() + host.logins_under_way <= self.config.max_connections,
            ),
            ("the total is wrong", stats.total_connections == self.open().count()),
            ("the active ones are wrong", stats.active_connections == active),
            ("sessions are lost", stats.open_sessions == sessions),
            ("standbys are lost", stats.standby_sessions == standbys),
            ("too many standbys", stats.standby_sessions <= self.config.standby_sessions),
            (
                "a standby outlives its connection",
                self.there.iter().all(|facts| !facts.closing || facts.standbys == 0),
            ),
            (
                "standbys are in the way of callers",
                self.open()
                    .all(|facts| facts.standbys + facts.sessions <= self.config.sessions_per_connection),
            ),
            (
                "plain connections are wrong",
                stats.plain_connections
                    == self.open().filter(|facts| facts.nature.standby == Standby::IsPlain).count(),
            ),
            ("logins under way are wrong", stats.connecting == host.logins_under_way),
            ("the queue is wrong", stats.waiting == host.asking.len()),
            ("successful logins are wrong", stats.connects == host.succeeded),
            ("failed logins are wrong", failures_agree),
            ("refusals are wrong", stats.refused_sessions == host.refusals),
            ("more hits and misses than callers", stats.pool_hits + stats.pool_misses <= host.asked),
        ])
    }

    /// Nobody waits for nothing.
    fn queue(&self) -> Vec<&'static str> {
        let (now, host) = (self.now, self.host);
        let most = self.config.sessions_per_connection;
        let waiting = host.asking.len();
        if waiting == 0 {
            return Vec::new();
        }
        let rests = host.last_refusal.is_some_and(|at| now <= at + LONGEST_REST);
        let busy = |facts: &&Facts| facts.phase() == Phase::Up;
        let full = self.open().filter(busy).all(|facts| {
            // How many sessions a connection takes after a refusal is the pool's own business, but one it takes.
            facts.sessions == most
                || facts.suspect.is_some()
                || (host.refusals > 0 && (rests || facts.sessions > 0))
        });
        let room = self.config.max_connections > self.there.len() + host.logins_under_way;
        // A suspect is expected to serve as many as a login.
        let tried = host.logins_under_way + self.suspects().count();
        let growth = match host.outcome {
            _ if tried * most >= waiting => true,
            Outcome::Uncertain => true,
            Outcome::Succeeded => false,
            Outcome::None => host.logins_under_way > 0,
            Outcome::Failed(failed) => {
                let again = failed.at + longest_pause(host.failures_in_a_row);
                let again = if failed.perhaps_permanent { failed.at + PERMANENT } else { again };
                host.logins_under_way > 0 || now <= again
            }
        };
        let backs_off = matches!(host.outcome, Outcome::Failed(failed) if now < failed.at + SHORTEST_PAUSE);
        let hopeless = backs_off && host.logins_under_way == 0 && self.open().next().is_none();
        let busy =
            if rests { 0 } else { self.open().filter(busy).count() - self.suspects().filter(busy).count() };
        let overdue = host.asking.iter().filter(|&&until| until < now).count();
        let expected = (self.config.max_connections - busy) * most;
        let coming = self.there.len() + host.logins_under_way > busy;
        broken([
            ("somebody waits beside a free session", full),
            ("a login is due that was not started", growth || !room),
            ("somebody waits, and nothing is there", self.there.len() + host.logins_under_way > 0),
            ("somebody waits for a login that may not be tried", !hopeless),
            ("somebody was forgotten in the queue", overdue == 0 || (overdue <= expected && coming)),
        ])
    }

    /// Unused connections are looked after in time.
    fn upkeep(&self) -> Vec<&'static str> {
        let unused = self.open().filter(|facts| facts.sessions == 0 && facts.phase() == Phase::Up);
        // A caller that went away may have had a session that it never saw, which counts as use.
        let used = |facts: &Facts| self.host.last_vanished.map_or(facts.used, |at| at.max(facts.used));
        let (mut idle, mut unchecked) = (true, true);
        for facts in unused {
            idle &= self.now < used(facts) + self.config.idle_timeout;
            unchecked &= !self.config.health_checks
                || facts.probing > 0
                || self.now < used(facts).max(facts.proven) + self.config.health_check_interval;
        }
        broken([("an idle connection was forgotten", idle), ("a health check was forgotten", unchecked)])
    }
}

fn broken<const N: usize>(promises: [(&'static str, bool); N]) -> Vec<&'static str> {
    promises.into_iter().filter(|(_, kept)| !kept).map(|(promise, _)| promise).collect()
}
