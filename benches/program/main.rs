//! The program and its agent as a person uses them: whole processes, from their start to their end,
//! against what else there is.
//!
//! `cargo bench --bench program [-- [--quick] [--document FILE]]`, which `scripts/bench` runs at
//! its end. One command on a warm agent against `ssh -S` on a live master, with much output and
//! input too; one command on 20 hosts against `xargs -P20 ssh` over masters, pdsh and clush; what
//! an agent with 200 hosts takes; and 1,000 hosts, as far as memory carries them.
//! Ways take turns within a round, and ratios are of one round. The hosts are aliases of one server
//! on this machine.

mod document;
mod idle;
mod lab;
mod large;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with others, which use more of it")]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use idle::{Idle, OnAll};
use lab::{Lab, Way};
use support::Arguments;
use support::facts::Facts;
use support::stats::{Spread, median};

/// Before each command of those that are spaced.
const PAUSE: Duration = Duration::from_millis(50);
/// The same for those on many hosts: what one has left to do in the background does not burden the
/// next.
const LONG_PAUSE: Duration = Duration::from_secs(1);

pub struct Plan {
    rounds: usize,
    /// Commands of a round, each way.
    commands: usize,
    hosts: usize,
    many_rounds: usize,
    cold_rounds: usize,
    large_rounds: usize,
    connected: usize,
    idle: Duration,
    /// Connected in the last part.
    most: usize,
    most_runs: usize,
    most_idle: Duration,
}

impl Plan {
    const FULL: Plan = Plan {
        rounds: 5,
        commands: 40,
        hosts: 20,
        many_rounds: 7,
        cold_rounds: 5,
        large_rounds: 5,
        connected: 200,
        // Health checks come every 30 s, and a session is used for 60 s.
        idle: Duration::from_secs(60),
        most: 1000,
        most_runs: 5,
        most_idle: Duration::from_secs(60),
    };
    const QUICK: Plan = Plan {
        rounds: 2,
        commands: 5,
        hosts: 5,
        many_rounds: 2,
        cold_rounds: 1,
        large_rounds: 1,
        connected: 10,
        idle: Duration::from_secs(5),
        most: 20,
        most_runs: 2,
        most_idle: Duration::from_secs(5),
    };
}

/// The times of one way, in milliseconds: one figure a round.
pub struct Row {
    pub name: String,
    pub rounds: Vec<f64>,
    /// Why there are none.
    pub missing: Option<String>,
}

impl Row {
    pub fn spread(&self) -> Option<Spread> {
        Spread::of(&self.rounds)
    }

    /// Round by round.
    pub fn against(&self, other: &Row) -> Option<Spread> {
        Spread::of(
            &self
                .rounds
                .iter()
                .zip(&other.rounds)
                .map(|(own, others)| own / others)
                .collect::<Vec<_>>(),
        )
    }
}

/// With as many hosts as are asked for, or as memory carries.
pub struct Most {
    pub wanted: usize,
    pub hosts: usize,
    pub on_all: OnAll,
    pub idle: Result<Idle, String>,
}

pub struct Measured {
    pub spaced: Vec<Row>,
    pub tight: Vec<Row>,
    pub many_spaced: Vec<Row>,
    pub many_tight: Vec<Row>,
    pub many_cold: Vec<Row>,
    pub large: [Vec<Row>; 2],
    pub idle: Result<Idle, String>,
    /// With the most hosts.
    pub most: Result<Most, String>,
    pub hosts: usize,
    pub facts: Facts,
}

fn main() -> ExitCode {
    let name = "benchmarks-program.md";
    let Some(Arguments { quick, document }) = Arguments::read("program", name) else {
        return ExitCode::from(2);
    };
    let plan = if quick { Plan::QUICK } else { Plan::FULL };
    let measured = measure(&plan);
    let text = document::text(&measured);
    print!("{text}");
    std::fs::write(&document, text).expect("the document can be written");
    println!("{} is written", document.display());
    ExitCode::SUCCESS
}

fn measure(plan: &Plan) -> Measured {
    let started = Instant::now();
    let begins = |part: &str| eprintln!("{} s: {part}", started.elapsed().as_secs());
    begins("one command");
    let lab = &Lab::new(plan.hosts);
    // What has to be there is there before anything is measured.
    let _master = lab.bare_master();
    let one = [Way::Sshpool, Way::BareMaster, Way::AutoMaster, Way::SshpoolVersion];
    for way in &one {
        lab.time(way, 1).expect("every way of one command works");
    }
    let spaced = rounds(lab, &one, plan.rounds, plan.commands, Some(PAUSE));
    let tight = rounds(lab, &one, plan.rounds, plan.commands, None);

    begins("much output and input");
    let large = large::measure(lab, plan.large_rounds);

    begins("one command on many hosts, warm");
    let many = [
        Way::Run(plan.hosts),
        Way::Xargs(plan.hosts),
        Way::Pdsh(plan.hosts),
        Way::Clush(plan.hosts),
    ];
    let mut many_spaced = rows(&many);
    for (way, row) in many.iter().zip(&mut many_spaced) {
        // The first run connects.
        row.missing = lab.time(way, plan.hosts).err();
    }
    let mut many_tight = rows(&many);
    for (tight, spaced) in many_tight.iter_mut().zip(&many_spaced) {
        tight.missing.clone_from(&spaced.missing);
    }
    for _ in 0..plan.many_rounds {
        turns(
            &many,
            &mut many_spaced,
            || std::thread::sleep(LONG_PAUSE),
            |way| lab.time(way, plan.hosts),
        );
    }
    for _ in 0..plan.many_rounds {
        turns(&many, &mut many_tight, || {}, |way| lab.time(way, plan.hosts));
    }
    lab.close_masters();

    begins("one command on many hosts, cold");
    let cold = [
        Way::Run(plan.hosts),
        Way::PdshWithoutMasters(plan.hosts),
        Way::XargsWithoutMasters(plan.hosts),
    ];
    // Names of one account would be looked at as such: no more logins are under way there than may
    // fail without getting it locked.
    let servers = Lab::of_servers(plan.hosts);
    let mut many_cold = rows(&cold);
    for _ in 0..plan.cold_rounds {
        // The agent too is started anew.
        let before = || {
            servers.stop_agent();
            std::thread::sleep(LONG_PAUSE);
        };
        turns(&cold, &mut many_cold, before, |way| servers.time(way, plan.hosts));
    }
    servers.stop_agent();
    drop(servers);
    lab.stop_agent();
    let facts = lab.facts();
    begins("an idle agent");
    let idle = connected(plan.connected, plan.idle);
    begins("the most hosts");
    let most = most(plan);
    begins("the document");
    Measured {
        spaced,
        tight,
        many_spaced,
        many_tight,
        many_cold,
        large,
        idle,
        most,
        hosts: plan.hosts,
        facts,
    }
}

/// An agent with so many hosts, for so long.
fn connected(hosts: usize, time: Duration) -> Result<Idle, String> {
    let lab = Lab::that_keeps(hosts);
    let seconds = idle::connect(&lab, hosts)?;
    idle::idle(&lab, hosts, seconds, time)
}

fn most(plan: &Plan) -> Result<Most, String> {
    let (wanted, hosts) = (plan.most, idle::that_memory_carries(plan.most));
    let lab = Lab::that_keeps(hosts);
    let seconds = idle::connect(&lab, hosts)?;
    let on_all = idle::on_all(&lab, hosts, plan.most_runs);
    let idle = idle::idle(&lab, hosts, seconds, plan.most_idle);
    Ok(Most { wanted, hosts, on_all, idle })
}

fn rows(ways: &[Way]) -> Vec<Row> {
    ways.iter().map(|way| Row { name: way.name(), rounds: Vec::new(), missing: None }).collect()
}

/// Each way once.
fn turns(
    ways: &[Way],
    rows: &mut [Row],
    before: impl Fn(),
    time: impl Fn(&Way) -> Result<f64, String>,
) {
    for (way, row) in ways.iter().zip(rows) {
        before();
        if row.missing.is_none() {
            match time(way) {
                Ok(time) => row.rounds.push(time),
                Err(why) => row.missing = Some(why),
            }
        }
    }
}

/// Each way's median command, round by round; the ways take turns command by command.
fn rounds(
    lab: &Lab,
    ways: &[Way],
    rounds: usize,
    commands: usize,
    pause: Option<Duration>,
) -> Vec<Row> {
    let mut all = rows(ways);
    for round in 0..rounds {
        let mut times = vec![Vec::new(); ways.len()];
        for turn in 0..commands {
            for place in 0..ways.len() {
                // Nobody always comes behind the same one.
                let index = (place + turn + round) % ways.len();
                if let Some(pause) = pause {
                    std::thread::sleep(pause);
                }
                times[index].push(lab.time(&ways[index], 1).expect("what has worked before works"));
            }
        }
        for (row, times) in all.iter_mut().zip(&times) {
            row.rounds.extend(median(times));
        }
    }
    all
}
