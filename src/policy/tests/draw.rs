//! What a random schedule is made of, drawn from a seed.

use super::plan::{Login, Nature, Plan, Probe, Standby, Trial};
use super::{Duration, Host, PoolConfig, SessionReuse, ms};
use crate::error::ConnectErrorKind as Kind;
use crate::transport::Trial as Outcome;

pub(super) struct Schedule {
    pub config: PoolConfig,
    pub fortune: Fortune,
    pub callers: Vec<Caller>,
    pub deeds: Vec<Deed>,
    pub end: End,
}

/// How much luck logins and connections have.
#[derive(Clone, Copy)]
pub(super) struct Fortune {
    connect_timeout: Duration,
    /// Per cent.
    failing: u64,
    dying: u64,
    sick: u64,
    /// Servers of which nobody knows how many sessions they open, with this outcome of trials.
    trial: Option<Outcome>,
}

/// Asks, holds and gives back, again and again.
pub(super) struct Caller {
    pub host: Host,
    pub arrives: Duration,
    /// Its task is ended from outside.
    pub killed: Option<Duration>,
    pub rounds: Vec<Round>,
}

#[derive(Clone, Copy)]
pub(super) struct Round {
    /// How long it waits by itself, whatever the pool promises.
    pub patience: Option<Duration>,
    pub holds: Duration,
    pub ending: Ending,
    pub rests: Duration,
}

#[derive(Clone, Copy)]
pub(super) enum Ending {
    Released,
    Refused,
    Broken,
    Suspect,
}

/// Somebody closes something.
pub(super) struct Deed {
    pub after: Duration,
    pub patience: Duration,
    /// Or the whole pool.
    pub host: Option<Host>,
}

#[derive(Clone, Copy)]
pub(super) enum End {
    /// Everything grows idle.
    Idle,
    Close,
    Drop,
}

impl Schedule {
    pub(super) fn draw(random: &mut Random) -> Self {
        let config = PoolConfig {
            max_connections: random.up_to(1, 4) as usize,
            sessions_per_connection: random.up_to(1, 4) as usize,
            acquire_timeout: if random.chance(20) {
                Duration::ZERO
            } else {
                random.millis(1, 2000)
            },
            idle_timeout: random.millis(50, 3000),
            connect_timeout: random.millis(50, 500),
            health_checks: random.chance(70),
            health_check_interval: random.millis(20, 1000),
            standby_sessions: random.pick([0, 1, 2, 2, 5]),
            session_reuse: random.pick([
                SessionReuse::Off,
                SessionReuse::Exact,
                SessionReuse::Fast,
            ]),
            ..PoolConfig::default()
        };
        let fortune = Fortune {
            connect_timeout: config.connect_timeout,
            failing: random.pick([0, 0, 5, 30, 80]),
            dying: random.pick([0, 0, 20, 60]),
            sick: random.pick([0, 0, 20, 60]),
            trial: random.chance(20).then(|| {
                random.pick([Outcome::Opens, Outcome::Refuses, Outcome::Ends, Outcome::Fails])
            }),
        };
        // The first two are one host, but for the address; the others have their key, but nothing
        // else in common with them.
        let hosts = ["web1", "web1", "root@web1", "web2", "lab@web1", "web1:22"];
        let hosts = hosts.map(|text| text.parse::<Host>().expect("valid"));
        let [first, second, hosts @ ..] = hosts;
        let mut hosts: Vec<Host> =
            [first, second.address("10.0.0.2").expect("valid")].into_iter().chain(hosts).collect();
        hosts.truncate(random.up_to(1, 6) as usize);

        let burst = random.chance(30);
        let refusals = if random.chance(50) { random.up_to(1, 40) } else { 0 };
        let breaks = random.pick([0, 0, 5, 30]);
        let impatient = random.pick([0, 10, 50]);
        let mut callers = Vec::new();
        for _ in 0..random.up_to(5, 40) {
            let mut rounds = Vec::new();
            for _ in 0..random.up_to(1, 3) {
                let ending = match random.chance(refusals) {
                    true => Ending::Refused,
                    false if random.chance(breaks) => Ending::Broken,
                    false if random.chance(breaks * 2) => Ending::Suspect,
                    false => Ending::Released,
                };
                let holds =
                    if random.chance(5) { random.millis(0, 5000) } else { random.millis(0, 300) };
                rounds.push(Round {
                    patience: random.chance(impatient).then(|| random.millis(0, 500)),
                    holds: if random.chance(20) { Duration::ZERO } else { holds },
                    ending,
                    rests: random.millis(0, 1000),
                });
            }
            callers.push(Caller {
                host: random.pick_from(&hosts).clone(),
                arrives: if burst { Duration::ZERO } else { random.millis(0, 3000) },
                killed: random.chance(impatient / 2).then(|| random.millis(0, 3000)),
                rounds,
            });
        }
        let mut deeds = Vec::new();
        for _ in 0..random.pick([0, 0, 0, 1, 3]) {
            deeds.push(Deed {
                after: random.millis(0, 4000),
                patience: random.pick([Duration::ZERO, ms(50), ms(1000)]),
                host: (!random.chance(15)).then(|| random.pick_from(&hosts).clone()),
            });
        }
        Schedule {
            config,
            fortune,
            callers,
            deeds,
            end: random.pick([End::Idle, End::Close, End::Drop]),
        }
    }
}

impl Fortune {
    pub(super) fn plan(self, random: &mut Random) -> Plan {
        let zero = Duration::ZERO;
        let kinds = [
            Kind::Refused,
            Kind::ServerBusy,
            Kind::Other,
            Kind::Authentication,
            Kind::HostKeyChanged,
        ];
        let login = match random.chance(self.failing) {
            true if random.chance(15) => Login::Hangs,
            true if random.chance(5) => Login::NeverReturns,
            true if random.chance(5) => Login::Panics,
            true if random.chance(10) => Login::IsDropped,
            true => Login::Fails(random.pick(kinds)),
            false => Login::Succeeds,
        };
        let probe = match random.chance(self.sick) {
            true if random.chance(30) => Probe::Hangs,
            true => Probe::Fails(random.millis(0, 50)),
            false => Probe::Passes(random.pick([zero, ms(1), ms(30)])),
        };
        let nature = Nature {
            dies_after: random.chance(self.dying).then(|| random.millis(0, 2000)),
            noticed_after: random.pick([zero, zero, ms(1), ms(20)]),
            probe,
            closing: random.pick([zero, ms(1), ms(200)]),
            standby: match random.chance(self.sick) {
                true => random.pick([Standby::IsStale, Standby::Fails, Standby::IsPlain]),
                false => Standby::Works,
            },
            deaf: false,
            silent: random.chance(self.dying / 2),
            by_server: random.chance(80),
            trial: self.trial.map(|outcome| Trial { after: random.millis(0, 50), outcome }),
        };
        let after = if random.chance(10) { zero } else { random.millis(0, 100) };
        // Some take longer than they may.
        let after = if random.chance(5) { after + self.connect_timeout } else { after };
        Plan { after, login, nature }
    }
}

/// Splitmix64: small, and good enough for dice.
pub(super) struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Both included.
    pub(super) fn up_to(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(super) fn millis(&mut self, least: u64, most: u64) -> Duration {
        ms(self.up_to(least, most))
    }

    pub(super) fn pick<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        *self.pick_from(&all)
    }

    pub(super) fn pick_from<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.next() as usize % all.len()]
    }
}
