//! What has been read and answered, and is kept for as long as it holds.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::resolver::Resolver;
use crate::host::place::{Needs, Part, Place};
use crate::openssh::answer::Answer;
use crate::openssh::config::{self, Reading};
use crate::openssh::keys;
use crate::transport::NotResolved;

#[derive(Debug, Default)]
pub(super) struct State {
    pub readings: HashMap<Option<PathBuf>, Vec<Read>>,
    pub next_reading: u64,
    pub answers: HashMap<Asked, Kept<Arc<OnceCell<Arc<Answer>>>>>,
    pub addresses: HashMap<(String, u16), Kept<String>>,
    pub held: HashMap<PathBuf, Held>,
}

/// The configuration as it was read for callers with these variables.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub number: u64,
    pub reading: Arc<Reading>,
    pub used: Instant,
}

/// What an answer of `ssh -G` depends on, where that is not everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    pub reading: u64,
    pub variables: Vec<(OsString, Option<OsString>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Kept<T> {
    pub value: T,
    pub used: Instant,
}

/// What an ssh-agent held when it was asked last.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Device, inode and time of its socket: another agent makes another one.
    pub socket: (u64, u64, i64, i64),
    pub keys: Option<Arc<[Vec<u8>]>>,
    pub used: Instant,
}

/// Entries that were not used for this long are forgotten.
pub(super) const KEPT: Duration = Duration::from_secs(600);
/// The most entries of each kind. When there are more, those unused for longest are forgotten.
pub(super) const MOST: usize = 2048;

impl Resolver {
    /// The configuration for this place; it is read again if a file of it has changed.
    pub(super) fn read(
        &self,
        file: Option<&Path>,
        place: &Place,
        needs: &mut Needs,
    ) -> Result<Read, NotResolved> {
        let now = Instant::now();
        let key = file.map(Path::to_owned);
        let known: Vec<Read> = self.lock().readings.get(&key).cloned().unwrap_or_default();
        let looked_up = std::cell::RefCell::new(Needs::default());
        let variable = |name: &OsStr| place.variable(name, &mut looked_up.borrow_mut());
        if let Some(read) = known.into_iter().find(|read| read.reading.fits(&variable))
            && read.reading.is_current()
        {
            // Variables that its files are chosen by have to be known of this place, too.
            *needs = looked_up.into_inner();
            if !needs.is_empty() {
                return Err(NotResolved::Needs(std::mem::take(needs)));
            }
            let mut state = self.lock();
            let kept = state.readings.get_mut(&key).into_iter().flatten();
            kept.filter(|kept| kept.number == read.number).for_each(|kept| kept.used = now);
            return Ok(read);
        }
        *looked_up.borrow_mut() = Needs::default();
        let source = config::Source::of(file);
        let directory = place.directory.as_deref().unwrap_or(Path::new("/"));
        let reading = Arc::new(config::read(
            source,
            directory,
            &config::home().unwrap_or_default(),
            &variable,
        ));
        let missed = looked_up.borrow().clone();
        if !missed.is_empty() {
            return Err(NotResolved::Needs(missed));
        }
        let mut state = self.lock();
        state.next_reading += 1;
        let read = Read { number: state.next_reading, reading, used: now };
        let others = state.readings.entry(key).or_default();
        others.retain(|other| !other.reading.fits(&variable) && now - other.used < KEPT);
        if others.len() >= 16 {
            others.remove(0);
        }
        others.push(read.clone());
        Ok(read)
    }

    /// What callers with the ssh-agent behind this socket have in common: its keys, or the socket
    /// where it does not tell.
    pub(super) async fn keys_behind(&self, path: &Path, fresh: bool) -> Part {
        match self.held(path, fresh).await {
            Some(keys) => Part::Keys(keys),
            None => Part::Variable("SSH_AUTH_SOCK".into(), Some(path.into())),
        }
    }

    /// The keys that the ssh-agent behind this socket holds, as it said when the socket was first
    /// seen or before the last login.
    pub(super) async fn held(&self, path: &Path, fresh: bool) -> Option<Arc<[Vec<u8>]>> {
        let found = std::fs::metadata(path).ok()?;
        let socket = (found.dev(), found.ino(), found.ctime(), found.ctime_nsec());
        let now = Instant::now();
        if !fresh
            && let Some(held) = self.lock().held.get_mut(path)
            && held.socket == socket
        {
            held.used = now;
            return held.keys.clone();
        }
        let keys = keys::listed(path.as_os_str()).await.ok().map(|mut keys| {
            keys.sort();
            Arc::from(keys)
        });
        let mut state = self.lock();
        if state.held.len() >= MOST {
            state.forget();
        }
        state.held.insert(path.to_owned(), Held { socket, keys: Option::clone(&keys), used: now });
        keys
    }

    /// Forgets entries that were not used for long.
    pub(crate) fn sweep(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        state.answers.retain(|_, kept| now - kept.used < KEPT);
        state.addresses.retain(|_, kept| now - kept.used < KEPT);
        state.held.retain(|_, held| now - held.used < KEPT);
        state.readings.retain(|_, readings| {
            readings.retain(|read| now - read.used < KEPT);
            !readings.is_empty()
        });
    }
}

impl State {
    /// Makes room: what was not used for longest goes.
    pub(super) fn forget(&mut self) {
        fn half<K: Clone + Eq + std::hash::Hash, V>(
            map: &mut HashMap<K, V>,
            used: impl Fn(&V) -> Instant,
        ) {
            let mut times: Vec<Instant> = map.values().map(&used).collect();
            times.sort_unstable();
            let Some(&middle) = times.get(times.len() / 2) else { return };
            map.retain(|_, value| used(value) > middle);
        }
        if self.answers.len() >= MOST {
            half(&mut self.answers, |kept| kept.used);
        }
        if self.addresses.len() >= MOST {
            half(&mut self.addresses, |kept| kept.used);
        }
        if self.held.len() >= MOST {
            half(&mut self.held, |held| held.used);
        }
    }
}
