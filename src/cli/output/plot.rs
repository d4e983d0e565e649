//! A picture of how long things took: an SVG with a row for each way of doing them, on one
//! logarithmic axis.
//!
//! It stands by itself, so that benchmarks can use the file too; for that reason its tests are in
//! tests/plot.rs. There is no background, and all colours are of a middle lightness: what is drawn
//! can be read on white and on black.

use std::fmt::Write as _;

/// What was measured in one way.
pub struct Series {
    /// What the row is called.
    pub name: String,
    /// Milliseconds, in any order. What is no finite number is left out.
    pub values: Vec<f64>,
}

const WIDTH: f64 = 900.0;
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
/// A logarithm needs a least value: a microsecond, which nothing that goes through a network is
/// below. What is over the most, some years, is no time that was measured.
const BOUNDS: (f64, f64) = (0.001, 1e12);

const INK: &str = "#7d838c";
const COLOURS: [&str; 6] = ["#d9622b", "#2f8fd0", "#1f9e75", "#b8689f", "#c08a00", "#7a76d1"];

/// An SVG of these series, a row for each from top to bottom.
///
/// Columns show where the times lie, the thin bar reaches from the 5th to the 95th percentile, the
/// thick one from quartile to quartile, and the stroke and the number at the right are the median.
/// The same input gives the same text.
pub fn distributions(title: &str, series: &[Series]) -> String {
    let rows: Vec<Row> = series.iter().map(Row::of).collect();
    let longest = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let axis = Axis::over(&rows, 24.0 + longest as f64 * CHARACTER);
    let foot = TOP + ROW * rows.len() as f64;
    let height = foot + BOTTOM;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"{INK}\">\n<title>{}</title>\n",
        escaped(title)
    );
    let title = escaped(&shortened(title, 100));
    line(
        &mut svg,
        format_args!(
            "<text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{title}</text>"
        ),
    );
    axis.draw(&mut svg, foot);
    for (index, row) in rows.iter().enumerate() {
        row.draw(&mut svg, &axis, TOP + ROW * index as f64, COLOURS[index % COLOURS.len()]);
    }
    svg.push_str("</svg>\n");
    svg
}

/// A series that is ready to be drawn.
struct Row {
    name: String,
    label: String,
    /// In ascending order, and within the bounds.
    values: Vec<f64>,
}

impl Row {
    fn of(series: &Series) -> Self {
        let finite = series.values.iter().filter(|value| value.is_finite());
        let mut values: Vec<f64> = finite.map(|value| value.clamp(BOUNDS.0, BOUNDS.1)).collect();
        values.sort_by(f64::total_cmp);
        Row { name: escaped(&series.name), label: shortened(&series.name, 40), values }
    }

    /// The smallest value that at least this part of all do not exceed. Only where there are
    /// values.
    fn percentile(&self, part: f64) -> f64 {
        let rank = (self.values.len() as f64 * part).ceil() as usize;
        self.values[rank.saturating_sub(1)]
    }

    fn draw(&self, svg: &mut String, axis: &Axis, top: f64, colour: &str) {
        let base = top + HEIGHT + 8.0;
        let names_end = axis.left - 12.0;
        line(svg, format_args!("<g fill=\"{colour}\">"));
        let label = escaped(&self.label);
        line(
            svg,
            format_args!(
                "<text x=\"{names_end:.1}\" y=\"{base:.1}\" text-anchor=\"end\" fill=\"{INK}\">{label}</text>"
            ),
        );
        if self.values.is_empty() {
            let x = axis.left + 8.0;
            line(
                svg,
                format_args!(
                    "<text x=\"{x:.1}\" y=\"{base:.1}\" fill=\"{INK}\">no data</text></g>"
                ),
            );
            return;
        }
        let [low, first, median, third, high] =
            [0.05, 0.25, 0.5, 0.75, 0.95].map(|part| self.percentile(part));
        let [low_text, median_text, high_text] = [low, median, high].map(number);
        let count = self.values.len();
        line(
            svg,
            format_args!(
                "<title>{}: median {median_text} ms, 5th to 95th percentile {low_text} to {high_text} ms, {count} values</title>",
                self.name
            ),
        );
        line(
            svg,
            format_args!(
                "<path fill-opacity=\"0.55\" d=\"{}\"/>",
                columns(&self.values, axis, base)
            ),
        );
        bar(svg, axis, [low, high], base + 5.5, 3.0);
        bar(svg, axis, [first, third], base + 3.0, 8.0);
        let x = axis.x(median);
        let (from, to) = (base - HEIGHT, base + 14.0);
        line(
            svg,
            format_args!(
                "<path stroke=\"{colour}\" stroke-width=\"2\" d=\"M{x:.1} {from:.1}V{to:.1}\"/>\n\
                 <text x=\"{:.1}\" y=\"{base:.1}\" text-anchor=\"end\" font-weight=\"bold\">{median_text} ms</text></g>",
                WIDTH - 12.0
            ),
        );
    }
}

/// Counts what lies within the same few pixels. One path, so that a picture of many values is not
/// large.
fn columns(values: &[f64], axis: &Axis, base: f64) -> String {
    let mut counts: Vec<(usize, usize)> = Vec::new();
    for &value in values {
        let column = ((axis.x(value) - axis.left) / COLUMN) as usize;
        match counts.last_mut() {
            Some((last, count)) if *last == column => *count += 1,
            _ => counts.push((column, 1)),
        }
    }
    let most = counts.iter().map(|&(_, count)| count).max().unwrap_or(1) as f64;
    let mut path = String::new();
    for (column, count) in counts {
        let x = axis.left + column as f64 * COLUMN;
        // A single value among thousands is to be seen, too.
        let height = (HEIGHT * count as f64 / most).max(1.5);
        write!(path, "M{x:.1} {base:.1}v-{height:.1}h{COLUMN}v{height:.1}z")
            .expect("a String takes everything");
    }
    path
}

fn bar(svg: &mut String, axis: &Axis, [from, to]: [f64; 2], y: f64, height: f64) {
    let x = axis.x(from);
    // One that is narrower than a pixel would not be seen.
    let width = (axis.x(to) - x).max(1.0);
    line(
        svg,
        format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" rx=\"1\"/>"
        ),
    );
}

/// Logarithmic, from a tick to a tick.
struct Axis {
    left: f64,
    right: f64,
    /// 1, 2 and 5 times powers of ten, at least two of them.
    ticks: Vec<f64>,
}

impl Axis {
    fn over(rows: &[Row], left: f64) -> Self {
        let least =
            rows.iter().filter_map(|row| row.values.first()).copied().min_by(f64::total_cmp);
        let most = rows.iter().filter_map(|row| row.values.last()).copied().max_by(f64::total_cmp);
        let (least, most) = (least.unwrap_or(1.0), most.unwrap_or(10.0));
        let mut first = 3 * least.log10().floor() as i32 - 3;
        while tick(first + 1) <= least {
            first += 1;
        }
        let mut last = first;
        while tick(last) < most {
            last += 1;
        }
        if first == last {
            (first, last) = (first - 1, last + 1);
        }
        Axis { left, right: WIDTH - RIGHT, ticks: (first..=last).map(tick).collect() }
    }

    fn ends(&self) -> (f64, f64) {
        (self.ticks[0], self.ticks[self.ticks.len() - 1])
    }

    fn x(&self, value: f64) -> f64 {
        let (least, most) = self.ends();
        self.left + (self.right - self.left) * (value / least).ln() / (most / least).ln()
    }

    fn draw(&self, svg: &mut String, foot: f64) {
        let distance = (self.right - self.left) / (self.ticks.len() - 1) as f64;
        for &tick in &self.ticks {
            let x = self.x(tick);
            line(
                svg,
                format_args!(
                    "<path stroke=\"{INK}\" stroke-opacity=\"0.3\" d=\"M{x:.1} {:.1}V{foot:.1}\"/>",
                    TOP - 6.0
                ),
            );
            let is_power_of_ten = (tick.log10() - tick.log10().round()).abs() < 1e-9;
            if distance >= LABEL || is_power_of_ten {
                line(
                    svg,
                    format_args!(
                        "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
                        foot + 18.0
                    ),
                );
            }
        }
        let (x, y) = ((self.left + self.right) / 2.0, foot + 38.0);
        line(svg, format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">ms</text>"));
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

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

/// As text of XML, which knows no control characters either.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(svg, "{text}").expect("a String takes everything");
}
