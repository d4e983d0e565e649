//! What must be true whenever nothing more can happen without time passing.
//!
//! The statistics of the pool are compared with the books of the fake, and the books with what the
//! pool has promised to those who wait. An instant later all of it may be different, so this is
//! called when the runtime has nothing left to run.

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
    for (key, cell) in &pool.lock().cells {
        let stats = cell.stats();
        let tenants = cell.tenants();
        world.books(|truth| {
            // A connection on which nothing has run counts as a login under way for a while.
            let may_be_silent =
                |facts: &&Facts| facts.nature.silent || facts.nature.trial.is_some();
            let silent = truth.connections.iter().filter(may_be_silent).count();
            let under_way = truth.logins_under_way() + silent;
            let is_used_up = truth.is_used_up(key, under_way);
            let Truth { hosts, connections, violations, .. } = truth;
            let hosts: Vec<&HostTruth> = hosts.iter().filter(|host| host.key == *key).collect();
            let there: Vec<&Facts> =
                hosts.iter().flat_map(|host| &host.there).map(|&id| &connections[id]).collect();
            let all =
                All { config: &world.config, stats, tenants, is_used_up, hosts: &hosts, there };
            let mut broken = all.counts();
            for &host in &hosts {
                let there: Vec<&Facts> = host.there.iter().map(|&id| &connections[id]).collect();
                let view = View { now, config: &world.config, host, all: &all, there };
                broken.extend(view.queue());
                broken.extend(view.upkeep());
            }
            for broken in broken {
                violations.push(format!(
                    "after {:?}, {broken}: {stats:?}\n  {hosts:?}\n {:?}",
                    now - world.born,
                    all.there
                ));
            }
        });
    }
}

/// All hosts of one key at one instant: they share the slots.
struct All<'a> {
    config: &'a PoolConfig,
    stats: Stats,
    tenants: usize,
    /// The account of some host may have to wait.
    is_used_up: bool,
    hosts: &'a [&'a HostTruth],
    /// Their connections, those included that are being closed.
    there: Vec<&'a Facts>,
}

impl All<'_> {
    /// Connections that the pool may hand out, or believes that it may.
    fn open(&self) -> impl Iterator<Item = &Facts> {
        self.there.iter().copied().filter(|facts| !facts.closing)
    }

    fn sum(&self, of: impl Fn(&HostTruth) -> u64) -> u64 {
        self.hosts.iter().map(|host| of(host)).sum()
    }

    fn under_way(&self) -> usize {
        self.hosts.iter().map(|host| host.logins_under_way).sum()
    }

    /// Places that nobody has.
    fn free(&self) -> usize {
        self.config.max_connections.saturating_sub(self.there.len() + self.under_way())
    }

    /// The pool counts what there is.
    fn counts(&self) -> Vec<&'static str> {
        let stats = self.stats;
        let sessions: usize = self.open().map(|facts| facts.sessions).sum();
        let standbys: usize = self.open().map(|facts| facts.standbys).sum();
        // A probe or a trial has one of them meanwhile.
        let lends = |facts: &Facts| facts.probing > 0 || facts.trying;
        let lent = self.open().filter(|facts| lends(facts) && facts.standbys > 0).count();
        // Where there may be no other, the session of the proof is kept whatever the setting says.
        let only = self.open().filter(|facts| facts.nature.trial.is_some()).count();
        let active = self.open().filter(|facts| facts.sessions > 0).count();
        // A login that is given up at the very instant of its closing may be in one count only.
        let was_closed = self.hosts.iter().any(|host| host.last_closed.is_some());
        let failures_agree = was_closed || stats.failed_connects == self.sum(|host| host.failed);
        // Who waits, who has a connection, and who has failed is remembered, and nobody else.
        let needed = |host: &&&HostTruth| {
            let is_there = !host.there.is_empty() || host.logins_under_way > 0;
            is_there || !host.asking.is_empty() || host.failed > 0 || host.last_fruitless.is_some()
        };
        let needed = self.hosts.iter().filter(needed).count();
        broken([
            (
                "active and idle are not the total",
                stats.active_connections + stats.idle_connections == stats.total_connections,
            ),
            (
                "more connections than allowed",
                self.there.len() + self.under_way() <= self.config.max_connections,
            ),
            ("the total is wrong", stats.total_connections == self.open().count()),
            ("the active ones are wrong", stats.active_connections == active),
            ("sessions are lost", stats.open_sessions == sessions),
            ("standbys are lost", (standbys - lent..=standbys).contains(&stats.standby_sessions)),
            (
                "too many standbys",
                stats.standby_sessions <= self.config.standby_sessions * self.hosts.len() + only,
            ),
            (
                "a standby outlives its connection",
                self.there
                    .iter()
                    .all(|facts| !facts.closing || facts.standbys <= usize::from(lends(facts))),
            ),
            (
                "standbys are in the way of callers",
                self.open().all(|facts| {
                    // A probe runs beside the sessions of callers.
                    let probed = facts.standbys.min(usize::from(lends(facts)));
                    facts.standbys - probed + facts.sessions <= self.config.sessions_per_connection
                }),
            ),
            (
                "plain connections are wrong",
                stats.plain_connections
                    == self.open().filter(|facts| facts.nature.standby == Standby::IsPlain).count(),
            ),
            ("logins under way are wrong", stats.connecting == self.under_way()),
            (
                "the queue is wrong",
                stats.waiting == self.hosts.iter().map(|host| host.asking.len()).sum::<usize>(),
            ),
            ("successful logins are wrong", stats.connects == self.sum(|host| host.succeeded)),
            ("failed logins are wrong", failures_agree),
            ("refusals are wrong", stats.refused_sessions == self.sum(|host| host.refusals)),
            (
                "more hits and misses than callers",
                stats.pool_hits + stats.pool_misses <= self.sum(|host| host.asked),
            ),
            ("somebody is remembered for nothing", self.tenants <= needed),
        ])
    }
}

/// One host at one instant.
struct View<'a> {
    now: Instant,
    config: &'a PoolConfig,
    host: &'a HostTruth,
    all: &'a All<'a>,
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

    /// Callers wait who have the key in common with this host, but no connections.
    fn others_wait(&self) -> bool {
        let is_other = |host: &&&HostTruth| host.identity != self.host.identity;
        self.all.hosts.iter().filter(is_other).any(|host| !host.asking.is_empty())
    }

    /// Sessions that are in use may serve those who wait sooner than a login would. How long that
    /// is hoped for is told by how long a login takes: at most so long.
    fn is_awaited(&self, now: Instant) -> bool {
        let PoolConfig { session_reuse, connect_timeout, acquire_timeout, .. } = self.config;
        let came = self.host.asking.iter().min().map(|&until| until - *acquire_timeout);
        let used = self.open().filter(|facts| facts.sessions > 0).map(|facts| facts.used).max();
        let moved = used.max(self.host.last_given_back).max(self.host.last_vanished).max(came);
        *session_reuse != SessionReuse::Off
            && used.and(moved).is_some_and(|moved| now <= moved + *connect_timeout + secs(1))
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
        // What comes of a trial is waited for, too.
        let busy = |facts: &&Facts| facts.phase() == Phase::Up && !facts.trying;
        let full = self.open().filter(busy).all(|facts| {
            // How many sessions a connection takes after a refusal is the pool's own business, but
            // one it takes.
            facts.sessions == most
                // It has no other session, or it is being found out.
                || facts.nature.trial.is_some()
                || facts.suspect.is_some()
                // It may have to make room for them.
                || self.others_wait()
                || (host.refusals > 0 && (rests || facts.sessions > 0))
        });
        let room = self.all.free() > 0;
        let is_there = self.open().next().is_some();
        // A suspect is expected to serve as many as a login.
        let tried = host.logins_under_way + self.suspects().count();
        // A connection that was of no use to anybody is followed by a pause; and failures of others
        // with this account count.
        let fruitless = host.last_fruitless.is_some_and(|at| {
            now <= at + longest_pause(host.fruitless + host.failures_in_a_row).max(PERMANENT)
        });
        let growth = match host.outcome {
            _ if fruitless || self.all.is_used_up => true,
            _ if tried * most >= waiting => true,
            _ if self.is_awaited(now) => true,
            _ if self.there.iter().any(|facts| facts.trying) => true,
            Outcome::Uncertain => true,
            // Who has no connection left may have been forgotten, and is a stranger again.
            Outcome::Succeeded => !is_there && host.logins_under_way > 0,
            Outcome::None => host.logins_under_way > 0,
            Outcome::Failed(failed) => {
                let again = failed.at + longest_pause(host.failures_in_a_row);
                let again = if failed.perhaps_permanent { failed.at + PERMANENT } else { again };
                host.logins_under_way > 0 || now <= again
            }
        };
        let backs_off =
            matches!(host.outcome, Outcome::Failed(failed) if now < failed.at + SHORTEST_PAUSE);
        let busy_server = matches!(host.outcome, Outcome::Failed(failed) if failed.is_busy);
        let hopeless =
            backs_off && !busy_server && host.logins_under_way == 0 && self.open().next().is_none();
        let busy = if rests {
            0
        } else {
            self.open().filter(busy).count() - self.suspects().filter(busy).count()
        };
        let overdue = host.asking.iter().filter(|&&until| until < now).count();
        let others = self.all.open().count() - self.open().count() + self.all.under_way()
            - host.logins_under_way;
        let expected = self.config.max_connections.saturating_sub(busy + others) * most;
        let coming = self.there.len() + host.logins_under_way > busy
            || self.all.there.iter().any(|facts| facts.closing)
            || self.all.is_used_up;
        broken([
            ("somebody waits beside a free session", full),
            ("a login is due that was not started", growth || !room),
            (
                "somebody waits, and nothing is there",
                (self.there.len() + host.logins_under_way > 0
                    || !room
                    || busy_server
                    || self.all.is_used_up),
            ),
            ("somebody waits for a login that may not be tried", !hopeless),
            (
                "somebody was forgotten in the queue",
                overdue == 0 || (overdue <= expected && coming),
            ),
        ])
    }

    /// Unused connections are looked after in time.
    fn upkeep(&self) -> Vec<&'static str> {
        let unused = self.open().filter(|facts| facts.sessions == 0 && facts.phase() == Phase::Up);
        // A caller that went away may have had a session that it never saw, which counts as use.
        let used =
            |facts: &Facts| self.host.last_vanished.map_or(facts.used, |at| at.max(facts.used));
        let (mut idle, mut unchecked) = (true, true);
        for facts in unused {
            idle &= self.now < used(facts) + self.config.idle_timeout;
            unchecked &= !self.config.health_checks
                || facts.probing > 0
                || self.now < used(facts).max(facts.proven) + self.config.health_check_interval;
        }
        broken([
            ("an idle connection was forgotten", idle),
            ("a health check was forgotten", unchecked),
        ])
    }
}

fn broken<const N: usize>(promises: [(&'static str, bool); N]) -> Vec<&'static str> {
    promises.into_iter().filter(|(_, kept)| !kept).map(|(promise, _)| promise).collect()
}
