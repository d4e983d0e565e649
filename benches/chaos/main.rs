//! Chaos: callers run commands on one server while faults strike, and everything that a caller was
//! told is compared with what the server recorded. A command that was reported as run ran once, one
//! that was reported as never started never ran, all others ran once at most; and nothing is left:
//! no process, no descriptor, no socket, no memory. Clients of a forward read streams meanwhile:
//! one that has ended cleanly is complete. Files are written and read: each has the old contents or
//! the new ones. Commands by sudo are compared with root's own record. In every other round the
//! server is behind a jump host, which faults strike, too.
//!
//! `cargo bench --bench chaos [-- [--minutes N] [--seed S] [--reuse exact|fast|off]]`; `scripts/chaos`
//! does so. `--reuse` is the `session_reuse` of all rounds.
//!
//! A run is a row of rounds. Each has a pool of its own and draws everything from its seed: the
//! settings, the commands, the faults. The first round has the seed that the run was given, the
//! next ones the numbers that follow, so that each can be repeated alone. What is drawn is the same
//! again; what happens at the same time is not quite.

mod copies;
mod disk;
mod ends;
mod faults;
mod footprint;
mod job;
mod judge;
mod lab;
mod leftover;
mod load;
mod random;
mod report;
mod round;
mod run;
mod streams;
mod sudo;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with others, which use more of it")]
mod support;
mod told;

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sshpool::{Pool, PoolConfig, SessionReuse};

use footprint::Footprint;
use lab::Lab;
use report::Report;

/// Paths below the seed.
const FAULTS: u64 = 1;
const WORK: u64 = 2;
const SETTINGS: u64 = 3;
const STREAMS: u64 = 4;
const COPIES: u64 = 5;
const HOP: u64 = 6;
const SUDO: u64 = 7;

/// A command hangs that has not come back so long after everything that it may wait for.
const ROUNDING: Duration = Duration::from_secs(10);

/// For `close` and `close_host`, which give commands 5 s.
const CLOSING: Duration = Duration::from_secs(20);

/// Descriptors of this process: enough for the load, and few enough to be taken away quickly.
const DESCRIPTORS: u64 = 1024;

/// How much more memory may be in use after the second half of the rounds than after the first, in
/// KiB. With streams of forwards it goes up and down by some MiB from round to round, without a trend
/// (6 to 15 MiB in rounds of a thousand commands); what is lost with each command is more over a run
/// of some minutes.
const MEMORY: u64 = 12 * 1024;

struct Arguments {
    minutes: f64,
    seed: u64,
    /// None: each round draws its own.
    reuse: Option<SessionReuse>,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("usage: scripts/chaos [--minutes N] [--seed S] [--reuse {}]", round::reuses());
        return ExitCode::from(2);
    };
    let directory =
        tempfile::Builder::new().prefix("chaos").tempdir().expect("a temporary directory");
    let sockets = Lab::sockets(directory.path());
    std::fs::create_dir(&sockets).expect("a directory in a new directory");
    // SAFETY: this process has no other thread yet.
    unsafe { std::env::set_var("XDG_RUNTIME_DIR", &sockets) };
    limit_descriptors();
    faults::watch_panics();
    let lab = Arc::new(Lab::new(directory));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_keep_alive(Duration::from_millis(500))
        .build()
        .expect("a runtime");
    let mut report = runtime.block_on(chaos(&arguments, &lab));
    drop(runtime);
    if faults::PANICKED.load(Ordering::Relaxed) {
        report.fail("something panicked: see above");
    }
    report.print();
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Option<Arguments> {
    let seed = RandomState::new().hash_one(std::process::id()) % 1_000_000_000;
    let mut arguments = Arguments { minutes: 1.0, seed, reuse: None };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            // Cargo says so to every benchmark.
            "--bench" => {}
            "--minutes" => arguments.minutes = given.next()?.parse().ok()?,
            "--seed" => arguments.seed = given.next()?.parse().ok()?,
            "--reuse" => arguments.reuse = Some(given.next()?.parse().ok()?),
            _ => return None,
        }
    }
    // A day is enough.
    (arguments.minutes > 0.0 && arguments.minutes <= 1440.0).then_some(arguments)
}

fn limit_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("every system has this limit");
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(most), most)
        .expect("a limit can be lowered");
}

async fn chaos(arguments: &Arguments, lab: &Arc<Lab>) -> Report {
    let reuse = arguments.reuse.map_or_else(String::new, |reuse| format!(" --reuse {reuse}"));
    println!("chaos --minutes {} --seed {}{reuse}", arguments.minutes, arguments.seed);
    warm_up(lab).await;
    let before = Footprint::look();
    let total = Duration::from_secs_f64(arguments.minutes * 60.0);
    // Two at least, for the halves, and none of more than half a minute.
    let rounds = ((total.as_secs_f64() / 30.0).ceil() as usize).max(2);
    let mut report = Report::new(arguments.seed, before);
    for number in 0..rounds {
        let seed = arguments.seed.wrapping_add(number as u64);
        let lasts = total / u32::try_from(rounds).expect("a day has fewer rounds");
        let settings = round::Settings::draw(seed, arguments.reuse);
        report.add(round::run(lab, seed, number, settings, lasts, before).await);
    }
    report.compare_memory(MEMORY);
    for (number, lines) in report.lines().into_iter().enumerate() {
        let (record, foreign) = lab.read_record(&format!("r{number}"));
        let now =
            record.values().map(|entry| entry.starts + entry.ends).sum::<usize>() + foreign.len();
        if now != lines {
            report.fail(&format!(
                "the record of round {number} had {lines} lines, and has {now} now"
            ));
        }
    }
    report
}

/// What this process makes once and keeps, it makes before it is measured.
async fn warm_up(lab: &Lab) {
    let config = PoolConfig::default().connect_timeout(Duration::from_secs(30));
    let pool = Pool::new(config).expect("there is an ssh, and the settings are valid");
    let works = pool.exec(&lab.host(15, false), "echo works").await;
    assert_eq!(works.expect("the server answers"), "works");
    pool.close().await;
    let left = footprint::processes_with(&Path::new(&lab.own_sockets()).display().to_string());
    assert!(left.expect("there is a /proc").is_empty(), "close leaves a process behind");
}
