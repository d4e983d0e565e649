//! How far copies are, on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// More hosts than these have one bar together.
const MOST_BARS: usize = 8;

/// What is over sooner is not drawn.
const TICK: Duration = Duration::from_millis(200);

pub(super) struct Bars {
    all: MultiProgress,
    is_shown: bool,
}

/// The bars of one source: one for each host, or one for all.
pub(super) struct Shown<'a> {
    bars: Vec<ProgressBar>,
    all: &'a Bars,
    hosts: usize,
}

impl Bars {
    pub(super) fn new(quiet: bool) -> Self {
        let is_shown = !quiet && std::io::stderr().is_terminal();
        let target = match is_shown {
            true => ProgressDrawTarget::stderr_with_hz(10),
            false => ProgressDrawTarget::hidden(),
        };
        Bars { all: MultiProgress::with_draw_target(target), is_shown }
    }

    pub(super) fn of<'a>(
        &'a self,
        name: &str,
        hosts: impl ExactSizeIterator<Item = &'a str>,
        length: Option<u64>,
    ) -> Shown<'a> {
        let count = hosts.len();
        if !self.is_shown {
            return Shown { bars: Vec::new(), all: self, hosts: count };
        }
        let name = crate::text::printable(name);
        let bar = |label: String, length: Option<u64>| {
            let bar = self.all.add(length.map_or_else(ProgressBar::no_length, ProgressBar::new));
            bar.set_style(style(length.is_some()));
            bar.set_prefix(label);
            bar.enable_steady_tick(TICK);
            bar
        };
        let bars = if count > MOST_BARS {
            let length = length.map(|length| length * count as u64);
            vec![bar(format!("{name} ({count} hosts)"), length)]
        } else {
            hosts.map(|host| bar(format!("{host}: {name}"), length)).collect()
        };
        Shown { bars, all: self, hosts: count }
    }
}

fn style(has_length: bool) -> ProgressStyle {
    let template = match has_length {
        true => {
            "{prefix} [{bar:20}] {percent:>3}% {binary_bytes}/{binary_total_bytes} \
             {binary_bytes_per_sec} {eta}"
        }
        false => "{prefix} {binary_bytes} {binary_bytes_per_sec} {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("it is a valid template");
    style.progress_chars("=> ")
}

impl Shown<'_> {
    fn bar(&self, place: usize) -> Option<&ProgressBar> {
        self.bars.get(if self.bars.len() == self.hosts { place } else { 0 })
    }

    pub(super) fn add(&self, place: usize, bytes: u64) {
        if let Some(bar) = self.bar(place) {
            bar.inc(bytes);
        }
    }

    /// What was not known before.
    pub(super) fn has_length(&self, place: usize, length: Option<u64>) {
        if let (Some(bar), Some(length)) = (self.bar(place), length) {
            bar.set_style(style(true));
            bar.set_length(bar.length().unwrap_or(0) + length);
        }
    }
}

/// They are taken away; what failed is told below.
impl Drop for Shown<'_> {
    fn drop(&mut self) {
        for bar in &self.bars {
            bar.finish_and_clear();
            self.all.all.remove(bar);
        }
    }
}
