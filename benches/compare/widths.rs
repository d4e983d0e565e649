//! Many commands at once: how wide each peer can go, and how many commands a second it runs then.

use std::time::Instant;

use sshpool::PoolConfig;

use crate::lab::Lab;
use crate::latency;
use crate::peers::{Kind, Peer};
use crate::plan::{self, BURST};
use crate::support::stats::Spread;
use crate::turn::{Pattern, Turn};

/// One peer at one width, a turn for each time that it was measured.
pub struct Cell {
    pub width: usize,
    pub turns: Vec<Turn>,
    /// The rounds that these turns were in; none is the search, which came before them.
    rounds: Vec<Option<usize>>,
}

impl Cell {
    pub fn rate(&self) -> Spread {
        let rates: Vec<_> = self.turns.iter().map(Turn::rate).collect();
        Spread::of(&rates).expect("a cell has been measured")
    }

    pub fn errors(&self) -> usize {
        self.turns.iter().map(|turn| turn.errors).sum()
    }

    pub fn logins(&self) -> usize {
        self.turns.iter().map(|turn| turn.logins).sum()
    }

    pub fn commands(&self) -> usize {
        self.turns.iter().map(|turn| turn.ms.len() + turn.errors).sum()
    }

    /// Without an error in any round, and without a login that the peer is not for.
    pub fn is_clean(&self, kind: Kind) -> bool {
        self.turns.iter().all(|turn| turn.errors == 0 && kind.may_log_in(turn.logins))
    }
}

pub struct Row {
    pub kind: Kind,
    pub missing: Option<String>,
    /// In ascending order of the widths.
    pub cells: Vec<Cell>,
}

impl Row {
    /// The clean widths, the fastest first.
    fn best(&self) -> Vec<&Cell> {
        let mut clean: Vec<_> = self.cells.iter().filter(|cell| cell.is_clean(self.kind)).collect();
        clean.sort_by(|one, other| other.rate().median.total_cmp(&one.rate().median));
        clean
    }

    /// The clean width with the most commands a second. One that was measured only once may have
    /// been lucky.
    pub fn fastest(&self) -> Option<&Cell> {
        let best = self.best();
        best.iter().find(|cell| cell.turns.len() > 1).or(best.first()).copied()
    }

    /// The widest of the widths up to which all are clean.
    pub fn widest(&self) -> Option<usize> {
        Some(self.cells.iter().take_while(|cell| cell.is_clean(self.kind)).last()?.width)
    }

    /// The most commands a second that it ran in a round, at a clean width.
    fn rate_in(&self, round: usize) -> Option<f64> {
        let turns = self.best().into_iter().flat_map(|cell| cell.turns.iter().zip(&cell.rounds));
        let rates = turns.filter(|(_, of)| **of == Some(round)).map(|(turn, _)| turn.rate());
        rates.max_by(f64::total_cmp)
    }

    pub fn first_error(&self) -> Option<(usize, &str)> {
        self.cells.iter().find_map(|cell| {
            cell.turns.iter().find_map(|turn| Some((cell.width, turn.first_error.as_deref()?)))
        })
    }
}

/// All commands at once on a pool of its own.
pub struct Burst {
    pub kind: Kind,
    /// By a pool that has had one command. Its logins are all that the pool has made, that of this
    /// command included.
    pub first: Vec<Turn>,
    /// By the same pool, directly after that.
    pub again: Vec<Turn>,
}

pub struct Results {
    pub command: plan::Command,
    pub widths: &'static [usize],
    pub count: plan::Count,
    pub rows: Vec<Row>,
    pub bursts: Vec<Burst>,
}

impl Results {
    pub fn row(&self, kind: Kind) -> &Row {
        self.rows.iter().find(|row| row.kind == kind).expect("all peers have a row")
    }
}

pub async fn measure(
    plan: &plan::Widths,
    command: plan::Command,
    lab: &Lab<'_>,
    peers: &mut [Peer],
) -> Results {
    let row = |peer: &Peer| Row {
        kind: peer.kind,
        missing: peer.missing().map(str::to_owned),
        cells: Vec::new(),
    };
    let mut rows: Vec<_> = peers.iter().map(row).collect();
    let started = Instant::now();
    // Every width, up to the second one in a row that is not clean: what is wider only fails more.
    for (turn, &width) in plan.widths.iter().enumerate() {
        if turn > 0 && started.elapsed() > plan.limit {
            break;
        }
        for index in 0..peers.len() {
            let index = (index + turn) % peers.len();
            let (peer, row) = (&mut peers[index], &mut rows[index]);
            let failed = row.cells.iter().rev().take_while(|cell| !cell.is_clean(row.kind)).count();
            if row.missing.is_none() && failed < 2 {
                row.cells.push(Cell { width, turns: Vec::new(), rounds: Vec::new() });
                again(peer, row, width, None, plan, lab).await;
            }
        }
    }
    let mut bursts: Vec<_> = rows
        .iter()
        .filter(|row| row.kind.is_ours() && row.missing.is_none())
        .map(|row| Burst { kind: row.kind, first: Vec::new(), again: Vec::new() })
        .collect();
    let searched = Instant::now();
    for round in 0..plan.rounds {
        if !plan::has_time(searched, round, plan.limit.saturating_sub(searched - started)) {
            break;
        }
        for index in 0..peers.len() {
            let index = (index + round) % peers.len();
            let (peer, row) = (&mut peers[index], &mut rows[index]);
            let tried = if Kind::OF_BOUNDS.contains(&row.kind) { 2 } else { 1 };
            let best: Vec<_> = row.best().iter().take(tried).map(|cell| cell.width).collect();
            for width in best {
                again(peer, row, width, Some(round), plan, lab).await;
            }
        }
        for burst in &mut bursts {
            burst.measure(command, lab).await;
        }
    }
    Results { command, widths: plan.widths, count: plan.count, rows, bursts }
}

/// Measures a width of a peer once more.
async fn again(
    peer: &mut Peer,
    row: &mut Row,
    width: usize,
    round: Option<usize>,
    plan: &plan::Widths,
    lab: &Lab<'_>,
) {
    let pattern = Pattern::Width { width, commands: plan.count.of(peer.kind) };
    let turn = latency::turn(peer, lab, pattern).await;
    eprintln!(
        "width {width}, {}: {:.0}/s, {} errors, {} logins",
        peer.kind.name(),
        turn.rate(),
        turn.errors,
        turn.logins
    );
    let cell =
        row.cells.iter_mut().find(|cell| cell.width == width).expect("it has been measured before");
    cell.turns.push(turn);
    cell.rounds.push(round);
}

impl Burst {
    async fn measure(&mut self, command: plan::Command, lab: &Lab<'_>) {
        let pattern = Pattern::Width { width: BURST, commands: BURST };
        let before = lab.sshd.logins();
        let mut peer = Peer::start(self.kind, lab, command).await;
        tokio::time::sleep(latency::SETTLE).await;
        let mut first = latency::computing(&mut peer, lab, pattern).await;
        first.logins = lab.sshd.logins() - before;
        tokio::time::sleep(latency::SETTLE).await;
        let mut again = latency::computing(&mut peer, lab, pattern).await;
        again.logins = lab.sshd.logins() - before - first.logins;
        for (name, turn) in [("first", &first), ("again", &again)] {
            eprintln!(
                "{BURST} at once, {}, {name}: {:.0}/s, {} errors, {} logins",
                self.kind.name(),
                turn.rate(),
                turn.errors,
                turn.logins
            );
        }
        self.first.push(first);
        self.again.push(again);
        peer.close().await;
    }

    pub fn errors(&self) -> usize {
        self.first.iter().chain(&self.again).map(|turn| turn.errors).sum()
    }

    pub fn first_error(&self) -> Option<&str> {
        self.first.iter().chain(&self.again).find_map(|turn| turn.first_error.as_deref())
    }

    /// The most logins that one of the pools made.
    pub fn most_logins(&self) -> usize {
        let logins =
            self.first.iter().zip(&self.again).map(|(first, again)| first.logins + again.logins);
        logins.max().unwrap_or(0)
    }

    pub fn max_connections() -> usize {
        PoolConfig::default().max_connections
    }
}

/// How many times as many commands a second these turns, one for each round, made as a peer at its
/// best width, in the same round.
pub fn ratio(turns: &[Turn], row: &Row) -> Option<Spread> {
    let ratios = turns
        .iter()
        .enumerate()
        .filter_map(|(round, turn)| Some(turn.rate() / row.rate_in(round)?));
    Spread::of(&ratios.collect::<Vec<_>>())
}

/// What the client's side computes for each command, in milliseconds, over the rounds.
pub fn cpu(turns: &[Turn]) -> Option<Spread> {
    Spread::of(&turns.iter().filter_map(Turn::cpu_of_each).collect::<Vec<_>>())
}

/// Commands a second over the rounds.
pub fn rate(turns: &[Turn]) -> Option<Spread> {
    Spread::of(&turns.iter().map(Turn::rate).collect::<Vec<_>>())
}
