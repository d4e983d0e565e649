//! How far a run has come.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tokio::time::Instant;

use super::outcome::Cause;
use crate::host::set::fold;

pub(super) struct State {
    labels: Vec<String>,
    begun: Instant,
    /// A std mutex: held for a look or a change, never across an await.
    inner: Mutex<Inner>,
}

struct Inner {
    hosts: Vec<Progress>,
    /// No more hosts are begun with.
    stopped: bool,
    interrupted: bool,
}

/// In this order, but for what is stopped: that is never begun.
#[derive(Clone, Debug, PartialEq)]
enum Progress {
    Waiting,
    Running,
    Succeeded,
    Failed(Cause),
}

/// How wide the bar itself is.
const BAR: usize = 20;

impl State {
    pub(super) fn new(labels: impl IntoIterator<Item = String>) -> Self {
        let labels: Vec<String> = labels.into_iter().collect();
        let hosts = vec![Progress::Waiting; labels.len()];
        let inner = Mutex::new(Inner { hosts, stopped: false, interrupted: false });
        State { labels, begun: Instant::now(), inner }
    }

    pub(super) fn begin(&self, place: usize) {
        self.lock().hosts[place] = Progress::Running;
    }

    pub(super) fn end(&self, place: usize, cause: Option<Cause>) {
        self.lock().hosts[place] = cause.map_or(Progress::Succeeded, Progress::Failed);
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    pub(super) fn interrupt(&self) {
        self.lock().interrupted = true;
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.lock().interrupted
    }

    /// Why it failed where it did.
    pub(super) fn failed(&self) -> Vec<Cause> {
        self.lock().causes().map(|(_, cause)| cause.clone()).collect()
    }

    /// What the first Ctrl-C shows.
    pub(super) fn running(&self) -> String {
        let inner = self.lock();
        let running = match inner.count(&Progress::Running) {
            0 => "nothing is running".to_owned(),
            count => {
                format!("still running on {count}: {}", self.names(inner.are(&Progress::Running)))
            }
        };
        let waiting = match inner.count(&Progress::Waiting) {
            0 => String::new(),
            count if inner.stopped => format!(", {count} not to be started"),
            count => format!(", {count} waiting"),
        };
        let all = self.labels.len();
        format!("{running} ({} of {all} done{waiting}); Ctrl-C again ends it", inner.done())
    }

    /// What the second Ctrl-C shows.
    pub(super) fn ending(&self) -> String {
        let inner = self.lock();
        format!(
            "ending it on {}; Ctrl-C again does not wait for that",
            self.names(inner.are(&Progress::Running))
        )
    }

    /// How it went, if not well.
    pub(super) fn summary(&self) -> Option<String> {
        let inner = self.lock();
        let mut by_cause: BTreeMap<&Cause, Vec<usize>> = BTreeMap::new();
        for (place, cause) in inner.causes() {
            by_cause.entry(cause).or_default().push(place);
        }
        let failed: usize = by_cause.values().map(Vec::len).sum();
        let mut parts: Vec<String> = by_cause
            .into_iter()
            .map(|(cause, places)| format!("{cause}: {}", self.names(places)))
            .collect();
        if inner.count(&Progress::Waiting) > 0 {
            parts.push(format!("not started: {}", self.names(inner.are(&Progress::Waiting))));
        }
        if parts.is_empty() {
            return None;
        }
        Some(format!("{failed} of {} failed: {}", self.labels.len(), parts.join("; ")))
    }

    /// A line for a terminal of this width.
    pub(super) fn bar(&self, width: usize) -> String {
        let inner = self.lock();
        let (all, done) = (self.labels.len(), inner.done());
        let filled = done * BAR / all;
        let mut bar = "=".repeat(filled);
        if filled < BAR {
            bar.push('>');
        }
        let mut line = format!("[{bar:<BAR$}] {done}/{all}");
        let failed = inner.causes().count();
        if failed > 0 {
            line += &format!(", {failed} failed");
        }
        line += &format!(" {}s", self.begun.elapsed().as_secs());
        if inner.count(&Progress::Running) > 0 {
            line += &format!(" {}", self.names(inner.are(&Progress::Running)));
        }
        if line.chars().count() > width {
            line = line.chars().take(width.saturating_sub(1)).chain(['…']).collect();
        }
        line
    }

    fn names(&self, places: impl IntoIterator<Item = usize>) -> String {
        fold(places.into_iter().map(|place| &self.labels[place]))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that holds it panics half-way through a change.
        self.inner.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Inner {
    fn are(&self, progress: &Progress) -> impl Iterator<Item = usize> {
        self.hosts.iter().enumerate().filter(move |(_, is)| *is == progress).map(|(place, _)| place)
    }

    fn count(&self, progress: &Progress) -> usize {
        self.are(progress).count()
    }

    fn done(&self) -> usize {
        self.hosts.len() - self.count(&Progress::Waiting) - self.count(&Progress::Running)
    }

    fn causes(&self) -> impl Iterator<Item = (usize, &Cause)> {
        self.hosts.iter().enumerate().filter_map(|(place, is)| match is {
            Progress::Failed(cause) => Some((place, cause)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(["web1", "web2", "web3", "db1", "db2"].map(str::to_owned))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_shown_on_the_way() {
        let state = state();
        assert_eq!(state.bar(80), "[>                   ] 0/5 0s");
        (0..3).for_each(|place| state.begin(place));
        state.end(1, None);
        tokio::time::advance(std::time::Duration::from_secs(7)).await;
        assert_eq!(state.bar(80), "[====>               ] 1/5 7s web[1,3]");
        state.end(0, Some(Cause::Exit(3)));
        assert_eq!(state.bar(80), "[========>           ] 2/5, 1 failed 7s web3");
        assert_eq!(state.bar(30), "[========>           ] 2/5, 1…");
        assert_eq!(
            state.running(),
            "still running on 1: web3 (2 of 5 done, 2 waiting); Ctrl-C again ends it"
        );
        state.stop();
        state.end(2, None);
        assert_eq!(
            state.running(),
            "nothing is running (3 of 5 done, 2 not to be started); Ctrl-C again ends it"
        );
        (3..5).for_each(|place| state.end(place, None));
        assert_eq!(state.bar(80), "[====================] 5/5, 1 failed 7s");
    }

    #[tokio::test]
    async fn what_is_said_at_the_end() {
        let state = state();
        (0..5).for_each(|place| state.end(place, None));
        assert_eq!(state.summary(), None);
        state.end(1, Some(Cause::Connect("connection refused")));
        for place in [0, 2] {
            state.end(place, Some(Cause::Exit(1)));
        }
        let summary = "3 of 5 failed: exit 1: web[1,3]; cannot connect (connection refused): web2";
        assert_eq!(state.summary().as_deref(), Some(summary));
        let state = self::state();
        state.end(0, Some(Cause::Exit(1)));
        assert_eq!(
            state.summary().as_deref(),
            Some("1 of 5 failed: exit 1: web1; not started: db[1-2],web[2-3]")
        );
    }
}
