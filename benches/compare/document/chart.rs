//! A picture of commands a second by the width, and what pictures have in common. There is no
//! background, and all colours are of a middle lightness: what is drawn can be read on white and on
//! black.

use std::fmt::Write as _;

use crate::widths::Results;

pub const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 60.0;
/// Where the lines end and their names begin.
const RIGHT: f64 = 690.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 390.0;
/// How near to each other two names may stand.
const LINE: f64 = 17.0;

pub const INK: &str = "#7d838c";
/// One for each peer.
const COLOURS: [&str; 11] = [
    "#7d838c", "#c08a00", "#d9622b", "#8c6d46", "#2f8fd0", "#1f9e75", "#4f9d2f", "#c23b6e",
    "#d0505a", "#a0679f", "#7a76d1",
];

/// The beginning of a picture. A title has nothing in it that is markup.
pub fn head(title: &str, height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"{INK}\">\n<title>{title}</title>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\" font-weight=\"bold\">{title}</text>\n"
    )
}

/// A line for each peer. A hollow mark is a width with errors or unwanted logins.
pub fn rates(results: &Results) -> String {
    let most = results
        .rows
        .iter()
        .flat_map(|row| &row.cells)
        .map(|cell| cell.rate().median)
        .fold(1.0, f64::max);
    let step = step(most);
    let top = (most / step).ceil() * step;
    let x = |width: usize| {
        let index =
            results.widths.iter().position(|&other| other == width).expect("it is one of them");
        LEFT + 20.0
            + (RIGHT - LEFT - 40.0) * index as f64 / (results.widths.len() - 1).max(1) as f64
    };
    let y = |rate: f64| BOTTOM - (BOTTOM - TOP) * rate / top;

    let title =
        "Commands a second, by how many are run at once (hollow: with errors or unwanted logins)";
    let mut svg = head(title, HEIGHT);
    for tick in 0..=(top / step).round() as usize {
        let rate = step * tick as f64;
        let at = y(rate);
        _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"{INK}\" stroke-opacity=\"0.25\"/>"
        );
        _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{rate}</text>",
            LEFT - 8.0,
            at + 4.5
        );
    }
    for &width in results.widths {
        _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{width}</text>",
            x(width),
            BOTTOM + 20.0
        );
    }
    let mut names = Vec::new();
    for (row, colour) in results.rows.iter().zip(COLOURS) {
        let points: Vec<_> =
            row.cells.iter().map(|cell| (x(cell.width), y(cell.rate().median), cell)).collect();
        let line: Vec<_> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            line.join(" ")
        );
        for (x, y, cell) in &points {
            let fill = if cell.is_clean(row.kind) { colour } else { "none" };
            _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"{colour}\"><title>{}: {} at once, {:.0} a second, \
                 {} errors</title></circle>",
                row.kind.name(),
                cell.width,
                cell.rate().median,
                cell.errors()
            );
        }
        names.push((
            points.last().map_or(BOTTOM, |(_, y, _)| *y),
            row.kind.name(),
            colour,
            points.last().map(|(x, ..)| *x),
        ));
    }
    // From top to bottom, and none over another.
    names.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut least = TOP;
    for (index, (y, name, colour, end)) in names.iter().enumerate() {
        let room = LINE * (names.len() - index - 1) as f64;
        let at = y.max(least).min(BOTTOM - room);
        least = at + LINE;
        let name = if end.is_some() { (*name).to_owned() } else { format!("{name}: no data") };
        if let Some(end) = end {
            _ = writeln!(
                svg,
                "<path d=\"M{:.1} {y:.1}L{RIGHT} {at:.1}\" stroke=\"{colour}\" stroke-opacity=\"0.4\" stroke-dasharray=\"2 3\"/>",
                end + 6.0
            );
        }
        _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            RIGHT + 6.0,
            at + 4.5
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A round number of which some four to eight make up the most.
fn step(most: f64) -> f64 {
    let mut step = 10.0_f64.powf((most / 8.0).max(1.0).log10().floor());
    for factor in [2.0, 2.5, 2.0] {
        if most / step > 8.0 {
            step *= factor;
        }
    }
    step
}
