//! How much is measured. `--quick` is for checking that everything works, and its figures are for
//! nothing else.

use std::time::{Duration, Instant};

use crate::peers::Kind;

/// What all peers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// It does nothing, so that what is measured is the way there and back.
    True,
    /// A file of 1 KiB, which [`Lab`](crate::lab::Lab) makes.
    Cat,
}

impl Command {
    pub fn text(self) -> &'static str {
        match self {
            Command::True => "true",
            Command::Cat => "cat \"$HOME/kib\"",
        }
    }

    /// For the reader of the document.
    pub fn name(self) -> &'static str {
        match self {
            Command::True => "`true`",
            Command::Cat => "`cat` of 1 KiB",
        }
    }
}

/// From one command of a peer to its next one, at least, where they do not follow each other
/// directly.
pub const GAP: Duration = Duration::from_secs(1);

/// Between the commands of different peers in such a gap.
pub const SLOT: Duration = Duration::from_millis(50);

/// Between the commands that are not counted.
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
    /// As often, be it with a login or not.
    pub fn same(commands: usize) -> Count {
        Count { commands, logins: commands }
    }

    pub fn of(self, kind: Kind) -> usize {
        if kind == Kind::Cold { self.logins } else { self.commands }
    }
}

/// One command after another, with one round trip.
#[derive(Clone, Copy)]
pub struct Latency {
    pub round_trip: Duration,
    pub rounds: usize,
    pub command: Command,
    pub tight: Count,
    /// Of each peer in one round, a login too.
    pub spaced: usize,
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
    pub cat: Latency,
    pub distant: Latency,
    pub widths: Widths,
    pub widths_of_cat: Widths,
}

impl Plan {
    pub fn full() -> Plan {
        let near = Latency {
            round_trip: Duration::ZERO,
            rounds: 6,
            command: Command::True,
            tight: Count { commands: 100, logins: 10 },
            spaced: 9,
            limit: Duration::from_secs(180),
        };
        Plan {
            quick: false,
            cat: Latency {
                command: Command::Cat,
                rounds: 5,
                spaced: 6,
                limit: Duration::from_secs(120),
                ..near
            },
            near,
            distant: Latency {
                round_trip: Duration::from_millis(40),
                rounds: 4,
                command: Command::True,
                tight: Count { commands: 12, logins: 3 },
                spaced: 7,
                limit: Duration::from_secs(150),
            },
            widths: Widths {
                widths: &[1, 4, 5, 8, 10, 12, 16],
                count: Count { commands: BURST, logins: 24 },
                rounds: 3,
                limit: Duration::from_secs(240),
            },
            widths_of_cat: Widths {
                widths: &[5, 8, 10],
                count: Count { commands: BURST, logins: 24 },
                rounds: 3,
                limit: Duration::from_secs(90),
            },
        }
    }

    pub fn quick() -> Plan {
        let limit = Duration::from_secs(40);
        let near = Latency {
            round_trip: Duration::ZERO,
            rounds: 2,
            command: Command::True,
            tight: Count { commands: 20, logins: 3 },
            spaced: 3,
            limit,
        };
        let widths = &[1, 5, 8, 12];
        let count = Count { commands: 60, logins: 4 };
        Plan {
            quick: true,
            cat: Latency { command: Command::Cat, rounds: 1, ..near },
            near,
            distant: Latency {
                round_trip: Duration::from_millis(40),
                rounds: 1,
                command: Command::True,
                tight: Count { commands: 5, logins: 2 },
                spaced: 2,
                limit,
            },
            widths: Widths { widths, count, rounds: 1, limit },
            widths_of_cat: Widths { widths: &[5, 8], count, rounds: 1, limit },
        }
    }
}
