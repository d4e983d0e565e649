//! What the benchmarks share: the servers and networks of the tests, facts about the machine, and
//! the few figures that many times are made into.

#[path = "../../tests/it/lab/common/mod.rs"]
pub mod common;
pub mod cpu;
pub mod facts;
pub mod master;
#[path = "../../tests/it/lab/pooled/mod.rs"]
pub mod pooled;
pub mod stats;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::proxy::Proxy;

/// What a benchmark that writes a document is told.
pub struct Arguments {
    /// Measure too little for the figures to mean much.
    pub quick: bool,
    pub document: PathBuf,
}

impl Arguments {
    /// Those of this process. `document` is the file below `target` that is written unless another
    /// one is given. Without a result it has said how the benchmark is run.
    pub fn read(bench: &str, document: &str) -> Option<Arguments> {
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("target").join(document);
        let mut arguments = Arguments { quick: false, document };
        let mut given = std::env::args().skip(1);
        while let Some(argument) = given.next() {
            match (argument.as_str(), &mut given) {
                // Cargo says so to every benchmark.
                ("--bench", _) => {}
                ("--quick", _) => arguments.quick = true,
                ("--document", given) if given.len() > 0 => {
                    arguments.document = given.next()?.into()
                }
                _ => {
                    eprintln!(
                        "usage: cargo bench --bench {bench} [-- [--quick] [--document FILE]]"
                    );
                    return None;
                }
            }
        }
        Some(arguments)
    }
}

/// How often to measure, for a benchmark that is told nothing else.
pub fn rounds(default: usize) -> usize {
    std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(default)
}

/// A server's port from afar: a round trip takes so long. The handshake of TCP is not delayed, and
/// so a login takes one round trip less than it would over a real distance.
pub fn distant(server: u16, round_trip: Duration) -> Proxy {
    let proxy = Proxy::to(server);
    proxy.delay(round_trip / 2);
    proxy
}

pub fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// A server whose account has the shell that accounts have: bash. In a process that is the user's.
pub fn server() -> common::sshd::Builder {
    let builder = common::sshd::Sshd::builder();
    match common::sshd::kind() {
        common::sshd::Kind::Container(_) => builder.login_shell("/bin/bash"),
        common::sshd::Kind::Process => builder,
    }
}
