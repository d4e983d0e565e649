//! How much is measured. `--quick` is for checking that everything works, and its figures are for
//! nothing else.

use std::time::{Duration, Instant};

use crate::peers::Kind;

/// What all peers run. It does nothing, so that what is measured is the way there and back.
pub const COMMAND: &str = "true";

/// Between commands that do not follow each other directly. It is not counted.
pub const PAUSE: Duration = Duration::from_millis(50);

/// For one command; what takes longer is an error. The drivers in benches/peers have the same.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// No turn begins another command after this. The drivers in benches/peers have the same.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a program meets that runs many commands at once on one host.
pub const BURST: usize = 500;

/// How often one peer runs the command in one turn, and a login, which takes so much longer.
#[derive(Clone, Copy)]
pub struct Count {
    commands: usize,
    logins: usize,
}

impl Count {
    pub fn of(self, kind: Kind) -> usize {
        if kind == Kind::Cold { self.logins } else { self.commands }
    }
}

/// One command after another, with one round trip.
pub struct Latency {
    pub round_trip: Duration,
    pub rounds: usize,
    pub tight: Count,
    pub spaced: Count,
    /// No round begins that would end after this by the look of those before, however many there
    /// were to be.
    pub limit: Duration,
}

/// Whether another round, after so many that began at this moment, can be expected to end within
/// the limit. The first one has to be.
pub fn has_time(started: Instant, rounds: usize, limit: Duration) -> bool {
    let elapsed = started.elapsed().as_secs_f64();
    rounds == 0 || elapsed + elapsed / rounds as f64 <= limit.as_secs_f64()
}

/// Many commands at once.
pub struct Widths {
    pub widths: &'static [usize],
    pub count: Count,
    /// How often the best widths are measured again after all have been looked at.
    pub rounds: usize,
    /// No round begins that would end after this by the look of those before, however many there
    /// were to be.
    pub limit: Duration,
}

pub struct Plan {
    pub quick: bool,
    pub near: Latency,
    pub distant: Latency,
    pub widths: Widths,
}

impl Plan {
    pub fn full() -> Plan {
        Plan {
            quick: false,
            near: Latency {
                round_trip: Duration::ZERO,
                rounds: 7,
                tight: Count { commands: 100, logins: 10 },
                spaced: Count { commands: 30, logins: 8 },
                limit: Duration::from_secs(240),
            },
            distant: Latency {
                round_trip: Duration::from_millis(40),
                rounds: 5,
                tight: Count { commands: 12, logins: 3 },
                spaced: Count { commands: 12, logins: 3 },
                limit: Duration::from_secs(210),
            },
            widths: Widths {
                widths: &[1, 2, 4, 5, 6, 8, 10, 12, 16],
                count: Count { commands: BURST, logins: 24 },
                rounds: 3,
                limit: Duration::from_secs(240),
            },
        }
    }

    pub fn quick() -> Plan {
        let limit = Duration::from_secs(40);
        Plan {
            quick: true,
            near: Latency {
                round_trip: Duration::ZERO,
                rounds: 2,
                tight: Count { commands: 20, logins: 3 },
                spaced: Count { commands: 8, logins: 3 },
                limit,
            },
            distant: Latency {
                round_trip: Duration::from_millis(40),
                rounds: 1,
                tight: Count { commands: 5, logins: 2 },
                spaced: Count { commands: 5, logins: 2 },
                limit,
            },
            widths: Widths {
                widths: &[1, 5, 8, 12],
                count: Count { commands: 60, logins: 4 },
                rounds: 1,
                limit,
            },
        }
    }
}
