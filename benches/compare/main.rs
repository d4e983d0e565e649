//! What a command takes by sshpool, and by what others use: OpenSSH's own client, cold and over a
//! master, the `openssh` crate, asyncssh and node-ssh. `scripts/bench` installs the last two and
//! runs this.
//!
//! `cargo bench --bench compare [-- [--quick] [--document FILE]]`
//!
//! Writes the document, target/benchmarks.md unless it is told another file, and pictures beside
//! it. All figures of a document are of one run; peers that are not there are told in its tables.

mod document;
mod driver;
mod lab;
mod latency;
mod machine;
mod peers;
mod plan;
mod ssh;
#[path = "../support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "shared with others, which use more of it")]
mod support;
mod turn;
mod widths;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use document::{Measured, Tables};
use lab::Lab;
use peers::{Kind, Peer};
use plan::Plan;
use support::Arguments;
use support::common::sshd::Sshd;

fn main() -> ExitCode {
    let Some(Arguments { quick, document }) = Arguments::read("compare", "benchmarks.md") else {
        return ExitCode::from(2);
    };
    let plan = if quick { Plan::quick() } else { Plan::full() };
    // One peer sends it to the server, as Debian's clients do.
    // SAFETY: this process has no other thread yet.
    unsafe { std::env::set_var("LANG", "C.UTF-8") };
    let sshd = support::server().start();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let measured = runtime.block_on(measure(plan, &sshd));
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
    match document::write(&measured, &document, &kept) {
        Ok(()) => {
            println!("{} is written", document.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{} cannot be written: {error}", document.display());
            ExitCode::FAILURE
        }
    }
}

async fn measure(plan: Plan, sshd: &Sshd) -> Measured {
    let started = Instant::now();
    let lab = Lab::new(sshd, plan.near.round_trip).await;
    let mut peers = connect(&Kind::ALL, &lab, plan.near.command).await;
    let facts = machine::facts(sshd, &lab, &peers).await;
    let [spaced, tight] = latency::measure(&plan.near, &lab, &mut peers).await;
    let widths = widths::measure(&plan.widths, plan.near.command, &lab, &mut peers).await;
    close(peers).await;

    let lab = Lab::new(sshd, plan.cat.round_trip).await;
    let mut peers = connect(&Kind::ALL, &lab, plan.cat.command).await;
    let [cat_spaced, cat_tight] = latency::measure(&plan.cat, &lab, &mut peers).await;
    close(peers).await;
    let lab = Lab::new(sshd, plan.cat.round_trip).await;
    let mut peers = connect(&Kind::OF_BOUNDS, &lab, plan.cat.command).await;
    let widths_of_cat =
        widths::measure(&plan.widths_of_cat, plan.cat.command, &lab, &mut peers).await;
    close(peers).await;

    let lab = Lab::new(sshd, plan.distant.round_trip).await;
    let mut peers = connect(&Kind::ALL, &lab, plan.distant.command).await;
    let [distant_spaced, distant_tight] = latency::measure(&plan.distant, &lab, &mut peers).await;
    close(peers).await;

    let tables = Tables { spaced, tight, cat_spaced, cat_tight, distant_spaced, distant_tight };
    Measured { plan, facts, tables, widths, widths_of_cat, duration: started.elapsed() }
}

async fn connect(kinds: &[Kind], lab: &Lab<'_>, command: plan::Command) -> Vec<Peer> {
    let mut peers = Vec::new();
    for &kind in kinds {
        peers.push(Peer::start(kind, lab, command).await);
    }
    peers
}

async fn close(peers: Vec<Peer>) {
    for peer in peers {
        peer.close().await;
    }
}
