//! What strikes at random: the server, the network, and the pool's own processes, files and
//! descriptors.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::footprint;
use crate::lab::Lab;
use crate::random::Random;

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    ServerFrozen,
    ServerRebooted,
    ConnectionsKilled,
    NetworkSwallows,
    NetworkDelays,
    NetworkResets,
    /// The other side is not there any more, and nobody says so.
    NetworkForgets,
    /// Of the server, where files are copied to.
    DiskFull,
    MasterStopped,
    MasterKilled,
    SessionKilled,
    DirectoryRemoved,
    NoDescriptors,
    HopFrozen,
    HopRebooted,
    HopConnectionsKilled,
}

/// Of each list one fault is on at a time. The last one is for rounds with a jump host.
const TRACKS: [&[Fault]; 3] = [
    &[
        Fault::ServerFrozen,
        Fault::ServerRebooted,
        Fault::ConnectionsKilled,
        Fault::NetworkSwallows,
        Fault::NetworkDelays,
        Fault::NetworkResets,
        Fault::NetworkForgets,
        Fault::DiskFull,
    ],
    &[
        Fault::MasterStopped,
        Fault::MasterKilled,
        Fault::MasterKilled,
        Fault::SessionKilled,
        Fault::SessionKilled,
        Fault::SessionKilled,
        Fault::DirectoryRemoved,
        Fault::NoDescriptors,
    ],
    &[Fault::HopFrozen, Fault::HopRebooted, Fault::HopConnectionsKilled],
];

/// What has struck, and when.
#[derive(Default)]
pub struct Log(Mutex<Vec<Strike>>);

#[derive(Clone, Debug)]
pub struct Strike {
    pub fault: Fault,
    pub from: Instant,
    pub until: Instant,
    pub what: String,
}

impl Log {
    fn strikes(&self) -> MutexGuard<'_, Vec<Strike>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is on from now.
    fn begin(&self, fault: Fault) -> Instant {
        let from = Instant::now();
        let until = from + Duration::from_secs(3600);
        self.strikes().push(Strike { fault, from, until, what: "it is on".to_owned() });
        from
    }

    /// The one that began then is over; none where there was nothing to do it to.
    fn end(&self, fault: Fault, from: Instant, what: Option<String>) {
        let mut strikes = self.strikes();
        let place = strikes.iter().rposition(|strike| (strike.fault, strike.from) == (fault, from));
        let place = place.expect("it has begun");
        match what {
            Some(what) => {
                (strikes[place].until, strikes[place].what) = (Instant::now(), what);
            }
            None => drop(strikes.remove(place)),
        }
    }

    pub fn counted(&self) -> BTreeMap<Fault, usize> {
        let mut counted = BTreeMap::new();
        for strike in self.strikes().iter() {
            *counted.entry(strike.fault).or_default() += 1;
        }
        counted
    }

    /// What was on at some time between these two, or had just been.
    pub fn between(&self, from: Instant, until: Instant) -> Vec<Strike> {
        const AFTER: Duration = Duration::from_secs(5);
        self.strikes()
            .iter()
            .filter(|strike| strike.from <= until && strike.until + AFTER >= from)
            .cloned()
            .collect()
    }
}

/// What a storm is drawn from.
#[derive(Clone, Copy)]
pub struct Draw {
    pub seed: u64,
    /// Of the storm in its round.
    pub number: u64,
    pub is_over_hop: bool,
}

/// Lets faults strike for a while; when this returns, none is on. One that cannot be done at all
/// panics.
pub fn storm(lab: &Lab, log: &Log, draw: Draw, lasts: Duration) {
    let Draw { seed, number, is_over_hop } = draw;
    let end = Instant::now() + lasts;
    let stopped = Mutex::new(Vec::new());
    // Two at once for want of descriptors would wait for each other.
    std::thread::scope(|scope| {
        let tracks = if is_over_hop { TRACKS.len() } else { TRACKS.len() - 1 };
        for (track, faults) in (0..).zip(&TRACKS[..tracks]) {
            let stopped = &stopped;
            scope.spawn(move || {
                let mut random = Random::of(seed, &[crate::FAULTS, number, track]);
                loop {
                    let pause = random.millis(50, 3000);
                    let (fault, mut own) = (random.pick(faults), Random::of(random.next(), &[]));
                    std::thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
                    if Instant::now() >= end {
                        return;
                    }
                    let from = log.begin(fault);
                    log.end(fault, from, strike(lab, fault, &mut own, stopped));
                }
            });
        }
    });
    // Some go on at last, the others stay as they are: the pool has to see to them.
    let mut random = Random::of(seed, &[crate::FAULTS, number, 99]);
    for pid in stopped.into_inner().unwrap_or_else(PoisonError::into_inner) {
        if random.percent(50) {
            signal(pid, Signal::SIGCONT);
        }
    }
}

/// What was done; none where there was nothing to do it to.
fn strike(
    lab: &Lab,
    fault: Fault,
    random: &mut Random,
    stopped: &Mutex<Vec<i32>>,
) -> Option<String> {
    let lasts =
        if random.percent(70) { random.millis(50, 1500) } else { random.millis(1500, 6000) };
    let mut what = format!("{lasts:?}");
    match fault {
        Fault::ServerFrozen => {
            lab.sshd.freeze();
            std::thread::sleep(lasts);
            lab.sshd.thaw();
        }
        Fault::ServerRebooted => {
            what.clear();
            if random.percent(50) {
                lab.sshd.restart();
            } else {
                lab.sshd.kill();
                std::thread::sleep(lasts / 2);
                lab.sshd.restart();
                what = format!("{:?}", lasts / 2);
            }
        }
        Fault::ConnectionsKilled => {
            what.clear();
            lab.sshd.kill_connections();
        }
        Fault::NetworkSwallows => {
            lab.proxy.swallow();
            std::thread::sleep(lasts);
            lab.proxy.pass();
        }
        Fault::NetworkDelays => {
            let delay = random.millis(5, 300);
            lab.proxy.delay(delay);
            std::thread::sleep(lasts);
            lab.proxy.pass();
            what = format!("{lasts:?} by {delay:?}");
        }
        Fault::NetworkResets => {
            what.clear();
            lab.proxy.reset();
        }
        Fault::NetworkForgets => {
            what.clear();
            lab.proxy.lose();
        }
        Fault::DiskFull => {
            let disk = lab.disk.as_ref()?;
            disk.fill();
            std::thread::sleep(lasts);
            disk.make_room();
        }
        Fault::MasterStopped => {
            let pid = one(lab, random, " -M ")?;
            signal(pid, Signal::SIGSTOP);
            what = format!("pid {pid}");
            if random.percent(50) {
                std::thread::sleep(lasts);
                signal(pid, Signal::SIGCONT);
                what = format!("pid {pid} for {lasts:?}");
            } else {
                stopped.lock().unwrap_or_else(PoisonError::into_inner).push(pid);
            }
        }
        Fault::MasterKilled => {
            let pid = one(lab, random, " -M ")?;
            signal(pid, Signal::SIGKILL);
            what = format!("pid {pid}");
        }
        Fault::SessionKilled => {
            let with =
                random.pick(&[Signal::SIGKILL, Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP]);
            // As when a service is stopped, which is told to each of its processes.
            let pids = if random.percent(25) {
                all(lab, " -E ")?
            } else {
                vec![one(lab, random, " -E ")?]
            };
            pids.iter().for_each(|&pid| signal(pid, with));
            what = format!("{pids:?} by {with}");
        }
        Fault::DirectoryRemoved => {
            let directories = footprint::entries(&lab.own_sockets()).ok()?;
            let directory = directories.get(random.below(directories.len().max(1)))?;
            // Somebody may make a file in it meanwhile, and then it is not removed: as with rm.
            let removed = fs::remove_dir_all(directory);
            what = format!("{}: {removed:?}", directory.display());
        }
        Fault::HopFrozen => {
            lab.hop.freeze();
            std::thread::sleep(lasts);
            lab.hop.thaw();
        }
        Fault::HopRebooted => {
            lab.hop.kill();
            std::thread::sleep(lasts / 2);
            lab.hop.restart();
            what = format!("{:?}", lasts / 2);
        }
        Fault::HopConnectionsKilled => {
            what.clear();
            lab.hop.kill_connections();
        }
        Fault::NoDescriptors => {
            let mut taken = Vec::new();
            let lasts = lasts / 2;
            let end = Instant::now() + lasts;
            // What others give back is taken too.
            while Instant::now() < end {
                match File::open("/dev/null") {
                    Ok(file) => taken.push(file),
                    Err(_) => std::thread::sleep(Duration::from_millis(1)),
                }
            }
            what = format!("{lasts:?}, {} taken", taken.len());
        }
    }
    Some(what)
}

/// One of the pool's processes of a kind.
fn one(lab: &Lab, random: &mut Random, kind: &str) -> Option<i32> {
    Some(random.pick(&all(lab, kind)?))
}

/// The pool's processes of a kind; none where there is no such. Where nothing can be opened they
/// cannot be found.
fn all(lab: &Lab, kind: &str) -> Option<Vec<i32>> {
    let sockets = format!("{}/", lab.own_sockets().display());
    let mut found = footprint::processes_with(&sockets).ok()?;
    // ssh alone: the guard has the directory in its command line as well.
    found.retain(|process| process.line.contains(kind) && process.line.contains("ssh "));
    (!found.is_empty()).then(|| found.iter().map(|process| process.pid).collect())
}

fn signal(pid: i32, signal: Signal) {
    // It may have ended by itself.
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Whether something panicked anywhere in this process, in tasks too whose end nobody looks at.
pub static PANICKED: AtomicBool = AtomicBool::new(false);

pub fn watch_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICKED.store(true, Ordering::Relaxed);
        before(info);
    }));
}
