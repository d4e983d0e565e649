//! One command after another: all peers in turns, round after round.

use std::time::{Duration, Instant};

use crate::lab::Lab;
use crate::peers::{Kind, Peer};
use crate::plan;
use crate::support::cpu;
use crate::support::stats::Spread;
use crate::turn::{Pattern, Turn};

/// Before a turn, so that what the one before has left to do is done: sessions that are opened
/// ahead of need, processes that end.
pub const SETTLE: Duration = Duration::from_millis(200);

/// What one peer did in one pattern, a turn for each round.
pub struct Row {
    pub kind: Kind,
    /// Why there is none.
    pub missing: Option<String>,
    pub turns: Vec<Turn>,
}

impl Row {
    pub fn of(peer: &Peer) -> Row {
        Row { kind: peer.kind, missing: peer.missing().map(str::to_owned), turns: Vec::new() }
    }

    /// A figure of each round.
    pub fn spread(&self, figure: impl Fn(&Turn) -> Option<f64>) -> Option<Spread> {
        Spread::of(&self.turns.iter().filter_map(figure).collect::<Vec<_>>())
    }

    /// The times of all commands of all rounds.
    pub fn all(&self) -> Vec<f64> {
        self.turns.iter().flat_map(|turn| turn.ms.iter().copied()).collect()
    }

    pub fn errors(&self) -> usize {
        self.turns.iter().map(|turn| turn.errors).sum()
    }

    pub fn logins(&self) -> usize {
        self.turns.iter().map(|turn| turn.logins).sum()
    }

    pub fn first_error(&self) -> Option<&str> {
        self.turns.iter().find_map(|turn| turn.first_error.as_deref())
    }
}

/// The figure of a turn by which peers are compared.
pub type Figure = fn(&Turn) -> Option<f64>;

/// All peers in one pattern, with one command and at one distance.
pub struct Table {
    /// Which one it is, as a name of a file.
    pub slug: &'static str,
    pub title: &'static str,
    pub command: plan::Command,
    pub round_trip: Duration,
    /// What the proxy takes, in milliseconds.
    pub measured: Option<f64>,
    pub figure: Figure,
    pub is_loop: bool,
    pub commands: plan::Count,
    pub rows: Vec<Row>,
}

impl Table {
    pub fn row(&self, kind: Kind) -> &Row {
        self.rows.iter().find(|row| row.kind == kind).expect("all peers have a row")
    }

    pub fn median(&self, kind: Kind) -> Option<f64> {
        Some(self.row(kind).spread(self.figure)?.median)
    }

    /// How the figures of two peers relate in each round: noise that lasts longer than a round
    /// meets both alike.
    pub fn ratio(&self, one: Kind, other: Kind) -> Option<Spread> {
        let pairs = self.row(one).turns.iter().zip(&self.row(other).turns);
        let ratios: Vec<_> = pairs
            .filter_map(|(one, other)| Some((self.figure)(one)? / (self.figure)(other)?))
            .collect();
        Spread::of(&ratios)
    }
}

/// Both patterns at one distance and with one command: the spaced one, and the tight one.
pub async fn measure(plan: &plan::Latency, lab: &Lab<'_>, peers: &mut [Peer]) -> [Table; 2] {
    let rows = || peers.iter().map(Row::of).collect();
    let slugs = match (plan.command, plan.round_trip.is_zero()) {
        (plan::Command::Cat, _) => ["spaced-cat", "tight-cat"],
        (plan::Command::True, true) => ["spaced-near", "tight-near"],
        (plan::Command::True, false) => ["spaced-distant", "tight-distant"],
    };
    let mut spaced = Table {
        slug: slugs[0],
        title: "One command after another, with a pause",
        command: plan.command,
        round_trip: plan.round_trip,
        measured: lab.measured,
        figure: Turn::median,
        is_loop: false,
        commands: plan::Count::same(plan.spaced),
        rows: rows(),
    };
    let mut tight = Table {
        slug: slugs[1],
        title: "One command directly after the other",
        figure: Turn::mean,
        is_loop: true,
        commands: plan.tight,
        rows: rows(),
        ..spaced
    };
    let started = Instant::now();
    for round in 0..plan.rounds {
        if !plan::has_time(started, round, plan.limit) {
            break;
        }
        with_gaps(&mut spaced, plan.spaced, lab, peers, round).await;
        report(&spaced, round, started);
        // Another one begins each time, so that nobody always comes after the same one.
        for index in 0..peers.len() {
            let index = (index + round) % peers.len();
            let peer = &mut peers[index];
            if peer.missing().is_none() {
                let commands = tight.commands.of(peer.kind);
                let turn = turn(peer, lab, Pattern::Tight { commands }).await;
                tight.rows[index].turns.push(turn);
            }
        }
        report(&tight, round, started);
    }
    [spaced, tight]
}

/// A round of the spaced pattern: while one peer pauses, the others run their command.
async fn with_gaps(
    table: &mut Table,
    commands: usize,
    lab: &Lab<'_>,
    peers: &mut [Peer],
    round: usize,
) {
    let mut turns = vec![Turn::default(); peers.len()];
    // The first one shows that the peer is ready, and does not count.
    for number in 0..=commands {
        let began = Instant::now();
        for place in 0..peers.len() {
            let index = (place + round) % peers.len();
            let peer = &mut peers[index];
            if peer.missing().is_some() {
                continue;
            }
            let before = lab.sshd.logins();
            tokio::time::sleep(plan::SLOT).await;
            let mut turn = peer.turn(Pattern::Tight { commands: 1 }).await;
            turn.logins = lab.sshd.logins() - before;
            if number > 0 {
                turns[index].append(turn);
            }
        }
        tokio::time::sleep(plan::GAP.saturating_sub(began.elapsed())).await;
    }
    for (row, turn) in table.rows.iter_mut().zip(turns) {
        if row.missing.is_none() {
            row.turns.push(turn);
        }
    }
}

/// A turn of a peer that is warm, with the logins that it made and with what the client's side
/// computed.
pub async fn turn(peer: &mut Peer, lab: &Lab<'_>, pattern: Pattern) -> Turn {
    let before = lab.sshd.logins();
    if peer.kind != Kind::Cold {
        peer.turn(Pattern::Spaced { commands: 3 }).await;
    }
    tokio::time::sleep(SETTLE).await;
    let mut turn = computing(peer, lab, pattern).await;
    turn.logins = lab.sshd.logins() - before;
    turn
}

/// A turn, with what the client's side computed in it.
pub async fn computing(peer: &mut Peer, lab: &Lab<'_>, pattern: Pattern) -> Turn {
    let before = cpu::before(lab.place());
    let mut turn = peer.turn(pattern).await;
    turn.cpu = cpu::after(lab.place()) - before;
    turn
}

/// Tells whoever waits what has come of the last round.
fn report(table: &Table, round: usize, started: Instant) {
    let figures = table.rows.iter().map(|row| {
        let figure = row.turns.last().and_then(table.figure);
        format!(
            "{} {}",
            row.kind.name(),
            figure.map_or("-".to_owned(), |figure| format!("{figure:.2}"))
        )
    });
    let figures: Vec<_> = figures.collect();
    eprintln!(
        "{} s, {}, round {}: {}",
        started.elapsed().as_secs(),
        table.slug,
        round + 1,
        figures.join(" | ")
    );
}
