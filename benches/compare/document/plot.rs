//! A picture of how long things took: a row for each way of doing them, on one logarithmic axis.

use std::fmt::Write as _;

use super::chart::{INK, WIDTH, head};
use crate::support::stats::percentile;

const ROW: f64 = 58.0;
/// Above the first row: the title.
const TOP: f64 = 46.0;
/// Below the last row: the axis and its unit.
const BOTTOM: f64 = 48.0;
/// Beside the axis: the medians.
const RIGHT: f64 = 100.0;
/// How high the most frequent times of a row stand.
const HEIGHT: f64 = 26.0;
/// How wide a column of times is that are counted together.
const COLUMN: f64 = 3.0;
/// About the width of a character at the size of the names.
const CHARACTER: f64 = 7.3;
/// Labels of ticks that are nearer than this run into each other.
const LABEL: f64 = 42.0;

const COLOURS: [&str; 6] = ["#d9622b", "#2f8fd0", "#1f9e75", "#b8689f", "#c08a00", "#7a76d1"];

/// An SVG with a row for each of these names and times in milliseconds, from top to bottom.
///
/// Columns show where the times lie, the thin bar reaches from the 5th to the 95th percentile, the
/// thick one from quartile to quartile, and the stroke and the number at the right are the median.
pub fn distributions(title: &str, rows: &[(&str, Vec<f64>)]) -> String {
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let axis = Axis::over(rows, 24.0 + longest as f64 * CHARACTER);
    let foot = TOP + ROW * rows.len() as f64;
    let mut svg = head(title, foot + BOTTOM);
    axis.draw(&mut svg, foot);
    for (index, (name, times)) in rows.iter().enumerate() {
        let (base, colour) =
            (TOP + ROW * index as f64 + HEIGHT + 8.0, COLOURS[index % COLOURS.len()]);
        _ = writeln!(
            svg,
            "<g fill=\"{colour}\">\n<text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\" fill=\"{INK}\">{name}</text>",
            axis.left - 12.0
        );
        if times.is_empty() {
            let x = axis.left + 8.0;
            _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{base:.1}\" fill=\"{INK}\">no data</text>");
        } else {
            row(&mut svg, &axis, base, colour, name, times);
        }
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

fn row(svg: &mut String, axis: &Axis, base: f64, colour: &str, name: &str, times: &[f64]) {
    let [low, first, median, third, high] =
        [0.05, 0.25, 0.5, 0.75, 0.95].map(|part| percentile(times, part).expect("there are times"));
    let [low_text, median_text, high_text] = [low, median, high].map(number);
    _ = writeln!(
        svg,
        "<title>{name}: median {median_text} ms, 5th to 95th percentile {low_text} to {high_text} ms, {} values</title>\n\
         <path fill-opacity=\"0.55\" d=\"{}\"/>",
        times.len(),
        columns(times, axis, base)
    );
    for ([from, to], y, height) in
        [([low, high], base + 5.5, 3.0), ([first, third], base + 3.0, 8.0)]
    {
        let x = axis.x(from);
        // One that is narrower than a pixel would not be seen.
        let width = (axis.x(to) - x).max(1.0);
        _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"1\"/>"
        );
    }
    _ = writeln!(
        svg,
        "<path stroke=\"{colour}\" stroke-width=\"2\" d=\"M{:.1} {:.1}V{:.1}\"/>\n\
         <text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\" font-weight=\"bold\">{median_text} ms</text>",
        axis.x(median),
        base - HEIGHT,
        base + 14.0,
        WIDTH - 12.0
    );
}

/// Counts what lies within the same few pixels. One path, so that a picture of many values is not
/// large.
fn columns(times: &[f64], axis: &Axis, base: f64) -> String {
    let mut counts = std::collections::BTreeMap::<usize, usize>::new();
    for &time in times {
        *counts.entry(((axis.x(time) - axis.left) / COLUMN) as usize).or_default() += 1;
    }
    let most = counts.values().copied().max().unwrap_or(1) as f64;
    let mut path = String::new();
    for (column, count) in counts {
        let x = axis.left + column as f64 * COLUMN;
        // A single value among thousands is to be seen, too.
        let height = (HEIGHT * count as f64 / most).max(1.5);
        _ = write!(path, "M{x:.1} {base:.1}v-{height:.1}h{COLUMN}v{height:.1}z");
    }
    path
}

/// Logarithmic, from a tick to a tick.
struct Axis {
    left: f64,
    right: f64,
    /// 1, 2 and 5 times powers of ten, at least two of them.
    ticks: Vec<f64>,
}

impl Axis {
    fn over(rows: &[(&str, Vec<f64>)], left: f64) -> Self {
        let all = || rows.iter().flat_map(|(_, times)| times.iter().copied());
        let least = all().min_by(f64::total_cmp).unwrap_or(1.0);
        let most = all().max_by(f64::total_cmp).unwrap_or(10.0);
        let mut first = 3 * least.log10().floor() as i32 - 3;
        while tick(first + 1) <= least {
            first += 1;
        }
        let mut last = first + 1;
        while tick(last) < most {
            last += 1;
        }
        Axis { left, right: WIDTH - RIGHT, ticks: (first..=last).map(tick).collect() }
    }

    fn x(&self, value: f64) -> f64 {
        let (least, most) = (self.ticks[0], self.ticks[self.ticks.len() - 1]);
        self.left + (self.right - self.left) * (value / least).ln() / (most / least).ln()
    }

    fn draw(&self, svg: &mut String, foot: f64) {
        let distance = (self.right - self.left) / (self.ticks.len() - 1) as f64;
        for &tick in &self.ticks {
            let x = self.x(tick);
            _ = writeln!(
                svg,
                "<path stroke=\"{INK}\" stroke-opacity=\"0.3\" d=\"M{x:.1} {:.1}V{foot:.1}\"/>",
                TOP - 6.0
            );
            let is_power_of_ten = (tick.log10() - tick.log10().round()).abs() < 1e-9;
            if distance >= LABEL || is_power_of_ten {
                let y = foot + 18.0;
                _ = writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{tick}</text>"
                );
            }
        }
        let (x, y) = ((self.left + self.right) / 2.0, foot + 38.0);
        _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">ms</text>");
    }
}

/// The number of a tick: 0 is 1 ms, 1 is 2 ms, 2 is 5 ms, 3 is 10 ms, and so on in both directions.
fn tick(index: i32) -> f64 {
    let digit = [1.0, 2.0, 5.0][index.rem_euclid(3) as usize];
    let decade = index.div_euclid(3);
    // Powers of ten are exact where their exponent is not negative, and so the number is printed
    // without a tail.
    let power = 10_f64.powi(decade.abs());
    if decade < 0 { digit / power } else { digit * power }
}

/// Two places below 10, and one above.
fn number(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}
