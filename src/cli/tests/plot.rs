//! The picture. Not in its file: benchmarks that use that would have its tests too.

use crate::cli::output::plot::{Series, distributions};

fn series(name: &str, values: &[f64]) -> Series {
    Series { name: name.to_owned(), values: values.to_vec() }
}

/// Whether every element that is opened is closed, in the right order, and what is text has no
/// markup of its own.
fn is_well_formed(svg: &str) -> bool {
    let mut open = Vec::new();
    for piece in svg.split('<').skip(1) {
        let Some((tag, text)) = piece.split_once('>') else { return false };
        if text.contains('>') || tag.matches('"').count() % 2 == 1 {
            return false;
        }
        let name = tag.split_whitespace().next().unwrap_or_default();
        match (name.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) if open.pop() != Some(name) => return false,
            (Some(_), _) | (None, true) => {}
            (None, false) => open.push(name),
        }
    }
    open.is_empty()
}

#[test]
fn every_series_has_a_row_with_its_median() {
    let svg = distributions(
        "both",
        &[series("cold", &[180.0, 190.123, 250.0]), series("warm", &[6.0, 1.0, 2.345])],
    );
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && is_well_formed(&svg), "{svg}");
    for text in [">cold<", ">190.1 ms<", ">warm<", ">2.35 ms<", ">both<"] {
        assert!(svg.contains(text), "{text} is missing in {svg}");
    }
    assert!(
        svg.contains("warm: median 2.35 ms, 5th to 95th percentile 1.00 to 6.00 ms, 3 values"),
        "{svg}"
    );
}

/// The labels of the axis.
fn ticks(svg: &str) -> Vec<f64> {
    let labels = svg.lines().filter(|line| line.contains("\"middle\""));
    labels.filter_map(|line| line.split(['>', '<']).nth(2)?.parse().ok()).collect()
}

#[test]
fn the_axis_goes_from_the_tick_below_all_to_the_tick_above_all() {
    for (values, expected) in [
        (&[3.0, 30.0][..], &[2.0, 5.0, 10.0, 20.0, 50.0][..]),
        (&[1.0, 10.0], &[1.0, 2.0, 5.0, 10.0]),
        (&[0.03], &[0.02, 0.05]),
        (&[5.0], &[2.0, 5.0, 10.0]),
        (&[], &[1.0, 2.0, 5.0, 10.0]),
    ] {
        assert_eq!(ticks(&distributions("", &[series("", values)])), expected, "{values:?}");
    }
}

#[test]
fn ticks_are_labelled_as_numbers_without_a_tail() {
    let svg = distributions("", &[series("", &[0.03, 0.3, 3.0])]);
    for label in ["0.02", "0.05", "0.1", "0.2", "0.5", "1", "2", "5"] {
        assert!(svg.contains(&format!(">{label}</text>")), "{label} is missing in {svg}");
    }
}

#[test]
fn where_all_labels_would_not_fit_there_are_those_of_powers_of_ten() {
    let svg = distributions("", &[series("", &[0.001, 1e6])]);
    assert!(svg.contains(">1000<") && !svg.contains(">2000<"), "{svg}");
}

#[test]
fn a_series_without_values_says_so() {
    let svg =
        distributions("", &[series("none", &[]), series("no numbers", &[f64::NAN, f64::INFINITY])]);
    assert!(svg.matches(">no data<").count() == 2 && is_well_formed(&svg), "{svg}");
    assert!(is_well_formed(&distributions("", &[])));
}

#[test]
fn values_that_no_logarithmic_axis_has_do_no_harm() {
    let svg = distributions("", &[series("", &[0.0, -1.0, 5.0, 1e300])]);
    assert!(!svg.contains("NaN") && !svg.contains("inf") && is_well_formed(&svg), "{svg}");
}

#[test]
fn names_are_text_and_not_markup() {
    let svg = distributions("a < b & c", &[series("<script>\u{7}\"x\"", &[1.0])]);
    assert!(
        svg.contains("a &lt; b &amp; c") && svg.contains("&lt;script&gt;\u{fffd}&quot;x&quot;"),
        "{svg}"
    );
    assert!(is_well_formed(&svg));
}

#[test]
fn a_long_name_is_whole_in_the_tip_only() {
    let name = "ä".repeat(60);
    let svg = distributions("", &[series(&name, &[1.0])]);
    let shown = format!(">{}…</text>", "ä".repeat(39));
    assert!(svg.contains(&shown) && svg.contains(&format!("<title>{name}: median")), "{svg}");
}

#[test]
fn many_values_make_no_large_picture_and_the_order_does_not_matter() {
    let mut values: Vec<f64> = (1..=10_000).map(f64::from).collect();
    let svg = distributions("", &[series("", &values)]);
    assert!(svg.len() < 20_000, "{}", svg.len());
    values.reverse();
    assert_eq!(distributions("", &[series("", &values)]), svg);
}
