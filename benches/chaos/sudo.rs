//! Commands by sudo while faults strike: each was run as often as its caller was told, by root's
//! own record, and what was told as ended has no process.
//!
//! One caller has a sudo for each command, another one keeps root's shell. Only a container has
//! sudoers of ours.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sshpool::{Error, Password, Remote, Runner, Sudo};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::ends::Ends;
use crate::lab::Lab;
use crate::load::Load;
use crate::random::Random;
use crate::support::common::sshd::{Kind, Sshd, kind};
use crate::{ROUNDING, SUDO};

const PASSWORD: &str = "correct horse battery staple";
/// What root's commands write to.
const RECORD: &str = "/root/chaos-sudo";

/// Whether there is a sudo for us.
pub fn is_there() -> bool {
    kind() != Kind::Process
}

/// Lets the server's account run everything, with its password.
pub fn set_up(sshd: &Sshd) {
    if is_there() {
        sshd.as_root(&format!(
            "echo 'lab:{PASSWORD}' | chpasswd; echo 'lab ALL=(ALL) ALL' >/etc/sudoers.d/lab"
        ));
    }
}

/// What a caller knows of a command.
pub struct Told {
    id: String,
    ran: Ran,
    /// Nothing is left of it.
    is_over: bool,
}

enum Ran {
    Once,
    Never,
    AtMostOnce,
}

/// Runs the callers of a round until it stops.
pub async fn run(load: Arc<Load>) -> (Ends, Vec<Told>) {
    let mut callers = JoinSet::new();
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    if is_there() {
        for reuse in [false, true] {
            let password = Password::new(PASSWORD).expect("it is one");
            let root = Sudo::new().password(password).reuse(reuse).over(&load.pool);
            callers.spawn(one_after_another(Arc::clone(&load), root, reuse, sender.clone()));
        }
    }
    drop(sender);
    let ends = Ends::of(callers).await;
    let mut all = Vec::new();
    while let Some(one) = told.recv().await {
        all.push(one);
    }
    (ends, all)
}

async fn one_after_another(
    load: Arc<Load>,
    root: Arc<dyn Runner>,
    reuse: bool,
    told: tokio::sync::mpsc::UnboundedSender<Told>,
) -> Ends {
    let mut seen = Ends::default();
    let config = load.pool.config();
    // sudo's begin and the ending of a command by another sudo have a time of their own.
    let patience = (config.command_timeout + config.acquire_timeout + config.connect_timeout) * 3
        + ROUNDING * 2;
    let mut number = 0;
    while !load.stop.load(Ordering::Relaxed) {
        let mut random = Random::of(load.seed, &[SUDO, u64::from(reuse), number]);
        number += 1;
        let id = format!("{}-sudo-{}-{number}", load.round, u8::from(reuse));
        let pause = random.pick(&["", "sleep 0.2; ", "sleep 1; ", "sleep 20; "]);
        let text = format!("echo {id} >>{RECORD}; {pause}echo out {id}");
        let run = root.shell(&load.host, text).output();
        let goes_away = random.percent(10);
        let limit = if goes_away { random.millis(0, 1000) } else { patience };
        let (end, ran, is_over) = match timeout(limit, run).await {
            Ok(Ok(output)) if output.status.code() == Some(0) => {
                if output.stdout != format!("out {id}\n").into_bytes() || !output.stderr.is_empty()
                {
                    seen.failures.push(format!("{id}: {output:?}"));
                }
                ("ran", Ran::Once, true)
            }
            // Somebody has ended sudo, or its shell.
            Ok(Ok(_)) => ("killed", Ran::AtMostOnce, false),
            Ok(Err(Error::TimedOut { remote, .. })) => {
                ("timed out", Ran::AtMostOnce, remote == Remote::Ended)
            }
            Ok(Err(error)) if error.never_started() => ("never started", Ran::Never, true),
            Ok(Err(Error::Lost { .. })) => ("lost", Ran::AtMostOnce, false),
            Ok(Err(error)) => {
                seen.failures.push(format!("{id}: {error}"));
                ("wrong", Ran::AtMostOnce, false)
            }
            Err(_) if goes_away => ("cancelled", Ran::AtMostOnce, false),
            Err(_) => {
                seen.failures.push(format!("{id} did not end within {patience:?}"));
                ("hung", Ran::AtMostOnce, false)
            }
        };
        seen.count(end);
        let _ = told.send(Told { id, ran, is_over });
        sleep(random.millis(50, 300)).await;
    }
    seen
}

/// Compares what was told with root's record, and ends what is left of the round.
pub fn judge(lab: &Lab, told: &[Told]) -> Vec<String> {
    if !is_there() {
        return Vec::new();
    }
    let mut failures = Vec::new();
    // A process that has been ended may not be gone quite yet.
    let look = || lab.sshd.as_root("ps -eo args | grep -v '^ps\\|^grep' || true");
    let is_left = |processes: &str, told: &&Told| {
        let has = |line: &str| line.split(['>', ';', ' ']).any(|word| word == told.id);
        told.is_over && processes.lines().any(has)
    };
    let mut processes = look();
    for _ in 0..50 {
        if !told.iter().any(|one| is_left(&processes, &one)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        processes = look();
    }
    for one in told.iter().filter(|one| is_left(&processes, one)) {
        failures.push(format!("{} was told to be over, and has a process", one.id));
    }
    let record = lab.sshd.as_root(&format!("cat {RECORD} 2>/dev/null || true"));
    for Told { id, ran, .. } in told {
        let times = record.lines().filter(|line| line == id).count();
        let is_right = match ran {
            Ran::Once => times == 1,
            Ran::Never => times == 0,
            Ran::AtMostOnce => times <= 1,
        };
        if !is_right {
            failures.push(format!("{id} ran {times} times"));
        }
    }
    lab.sshd.as_root(&format!("rm -f {RECORD}; pkill -x sleep || true"));
    failures
}
