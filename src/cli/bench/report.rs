//! What was measured, as a table and as JSON.

use std::time::Duration;

use serde::Serialize;

use super::run::{Contender, Pattern, Run};

/// The times of one way, in milliseconds.
#[derive(Serialize)]
pub(super) struct Times {
    median_ms: Option<f64>,
    p95_ms: Option<f64>,
    min_ms: Option<f64>,
    max_ms: Option<f64>,
    errors: usize,
    /// The first of them.
    error: Option<String>,
    /// Those that succeeded, in a second in which some ran: pauses do not count. Null for one at a
    /// time with a pause before each: that is no rate that could be had.
    commands_per_second: Option<f64>,
    /// How many times faster its median is than that of plain ssh.
    ratio: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct Report {
    pub host: String,
    pub kex: Option<String>,
    pub command: &'static str,
    pub count: u32,
    pub concurrency: u32,
    pub pause_ms: f64,
    pub cold: Times,
    pub pooled: Times,
    pub pooled_tight: Times,
    /// Null when the pool has no standby in the first place.
    pub no_standby: Option<Times>,
    pub no_standby_tight: Option<Times>,
    /// That of `pooled`.
    pub ratio: Option<f64>,
    /// The pool's first command, with its login. It is among no other times.
    pub first_ms: f64,
    /// Logins of the pool.
    pub connects: u64,
    /// The part of the pool's commands that made no login, 0 to 1.
    pub reuse_rate: f64,
    /// The pool's commands that took a session which was opened ahead, ready or still opening; null
    /// when it opens none.
    pub standby_hits: Option<u64>,
}

impl Times {
    /// Of a way that was run with so many at once.
    pub(super) fn of(way: Contender, width: u32) -> Self {
        let has_rate = way.pattern == Pattern::Tight || width > 1;
        Times::of_runs(way.runs, has_rate.then_some(way.busy))
    }

    /// `busy` is the time in which they ran, where that makes a rate.
    fn of_runs(runs: Vec<Run>, busy: Option<Duration>) -> Self {
        let (mut values, mut failures) = (Vec::new(), Vec::new());
        for run in runs {
            match run {
                Ok(time) => values.push(time.as_secs_f64() * 1000.0),
                Err(failure) => failures.push(failure),
            }
        }
        values.sort_by(f64::total_cmp);
        let rate = |busy: Duration| {
            if busy.is_zero() { 0.0 } else { values.len() as f64 / busy.as_secs_f64() }
        };
        Times {
            median_ms: percentile(&values, 0.5),
            p95_ms: percentile(&values, 0.95),
            min_ms: values.first().copied(),
            max_ms: values.last().copied(),
            errors: failures.len(),
            error: failures.into_iter().next(),
            commands_per_second: busy.map(rate),
            ratio: None,
        }
    }

    fn row(&self, name: &str) -> String {
        let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.2}"));
        let [median, p95, min, max] =
            [self.median_ms, self.p95_ms, self.min_ms, self.max_ms].map(ms);
        let ratio = self.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.1}x"));
        let rate = self.commands_per_second.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
        let errors = self.errors;
        format!("{name:<18}{median:>9}{p95:>9}{min:>9}{max:>9}{errors:>8}{rate:>9}{ratio:>8}")
    }
}

/// The smallest value that at least `part` of all do not exceed. `sorted` is in ascending order.
fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

impl Report {
    /// Fills in what follows from the rest.
    pub(super) fn with_ratios(mut self) -> Self {
        let cold = self.cold.median_ms;
        let ways = [&mut self.cold, &mut self.pooled, &mut self.pooled_tight].into_iter();
        for times in ways.chain(&mut self.no_standby).chain(&mut self.no_standby_tight) {
            times.ratio = cold.zip(times.median_ms).map(|(cold, median)| cold / median);
        }
        self.ratio = self.pooled.ratio;
        self.reuse_rate = 1.0 - self.connects as f64 / self.commands() as f64;
        self
    }

    /// Those of the pool: of both patterns, and the first.
    fn commands(&self) -> u64 {
        1 + 2 * u64::from(self.count)
    }

    /// In the order of the rows.
    fn ways(&self) -> Vec<(&'static str, &Times)> {
        let always = [
            ("cold ssh", &self.cold),
            ("pooled", &self.pooled),
            ("pooled, tight", &self.pooled_tight),
        ];
        let sometimes =
            [("no standby", &self.no_standby), ("no standby, tight", &self.no_standby_tight)];
        let sometimes =
            sometimes.into_iter().filter_map(|(name, times)| Some((name, times.as_ref()?)));
        always.into_iter().chain(sometimes).collect()
    }

    pub(super) fn errors(&self) -> usize {
        self.ways().iter().map(|(_, times)| times.errors).sum()
    }

    fn title(&self) -> String {
        let Report { host, command, count, concurrency, pause_ms, .. } = self;
        format!(
            "{host}: \"{command}\", {count} times each way, {concurrency} at once, {pause_ms} ms before each"
        )
    }

    pub(super) fn table(&self) -> String {
        let mut lines = vec![
            self.title(),
            format!(
                "{:<18}{:>9}{:>9}{:>9}{:>9}{:>8}{:>9}{:>8}",
                "times in ms", "median", "p95", "min", "max", "errors", "per s", "ratio"
            ),
        ];
        lines.extend(self.ways().into_iter().map(|(name, times)| times.row(name)));
        let mut fact = |name: &str, text: String| lines.push(format!("{name:<10}{text}"));
        let logins = if self.connects == 1 { "login" } else { "logins" };
        let (reuse, connects, commands) = (self.reuse_rate * 100.0, self.connects, self.commands());
        fact("reuse", format!("{reuse:.1} % ({connects} {logins} for {commands} commands)"));
        fact("first", format!("{:.2} ms, with the login", self.first_ms));
        fact(
            "standby",
            match self.standby_hits {
                Some(hits) => format!(
                    "{hits} of {commands} commands took a session opened ahead, ready or still opening"
                ),
                None => "none: the settings have standby_sessions = 0".to_owned(),
            },
        );
        fact("kex", self.kex.clone().unwrap_or_else(|| "unknown".to_owned()));
        for (name, times) in self.ways() {
            lines.extend(
                times.error.as_ref().map(|error| format!("first error of {name}: {error}")),
            );
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[], 0.5, None)]
    #[case(&[7.0], 0.5, Some(7.0))]
    #[case(&[7.0], 0.95, Some(7.0))]
    #[case(&[1.0, 2.0, 3.0], 0.5, Some(2.0))]
    #[case(&[1.0, 2.0, 3.0, 4.0], 0.5, Some(2.0))]
    #[case(&[1.0, 2.0, 3.0, 4.0], 0.95, Some(4.0))]
    fn percentiles_are_values_that_occurred(
        #[case] sorted: &[f64],
        #[case] part: f64,
        #[case] expected: Option<f64>,
    ) {
        assert_eq!(percentile(sorted, part), expected);
    }

    fn times(runs: &[Result<u64, &str>], busy: Option<u64>) -> Times {
        let runs = runs.iter().map(|run| match run {
            Ok(time) => Ok(Duration::from_millis(*time)),
            Err(why) => Err((*why).to_owned()),
        });
        Times::of_runs(runs.collect(), busy.map(Duration::from_millis))
    }

    #[test]
    fn failed_runs_are_counted_and_not_timed() {
        let times = times(&[Ok(3), Err("no"), Ok(1)], Some(500));
        assert_eq!((times.median_ms, times.p95_ms, times.errors), (Some(1.0), Some(3.0), 1));
        assert_eq!((times.min_ms, times.max_ms), (Some(1.0), Some(3.0)));
        assert_eq!((times.error.as_deref(), times.commands_per_second), (Some("no"), Some(4.0)));
    }

    fn report() -> Report {
        Report {
            host: "web1".to_owned(),
            kex: None,
            command: "true",
            count: 2,
            concurrency: 1,
            pause_ms: 50.0,
            cold: times(&[Ok(300), Ok(200)], None),
            pooled: times(&[Ok(4), Ok(6)], None),
            pooled_tight: times(&[Err("gone"), Err("closed")], Some(10)),
            no_standby: Some(times(&[Ok(8), Ok(8)], Some(16))),
            no_standby_tight: None,
            ratio: None,
            first_ms: 250.0,
            connects: 1,
            reuse_rate: 0.0,
            standby_hits: Some(2),
        }
        .with_ratios()
    }

    #[test]
    fn the_table_has_all_ways_and_facts() {
        let expected = "\
web1: \"true\", 2 times each way, 1 at once, 50 ms before each
times in ms          median      p95      min      max  errors    per s   ratio
cold ssh             200.00   300.00   200.00   300.00       0        -    1.0x
pooled                 4.00     6.00     4.00     6.00       0        -   50.0x
pooled, tight             -        -        -        -       2      0.0       -
no standby             8.00     8.00     8.00     8.00       0    125.0   25.0x
reuse     80.0 % (1 login for 5 commands)
first     250.00 ms, with the login
standby   2 of 5 commands took a session opened ahead, ready or still opening
kex       unknown
first error of pooled, tight: gone";
        assert_eq!(report().table(), expected);
        assert_eq!(report().errors(), 2);
    }

    #[test]
    fn what_was_not_measured_is_null() {
        let value = serde_json::to_value(report()).expect("it has text keys");
        assert_eq!((&value["ratio"], &value["pooled"]["ratio"]), (&50.0.into(), &50.0.into()));
        assert!(
            value["no_standby_tight"].is_null() && value["pooled_tight"]["median_ms"].is_null()
        );
        assert!(value["pooled"]["commands_per_second"].is_null());
    }
}
