//! Tables for people.

use comfy_table::{Row, Table, presets};

/// Columns as wide as their widest cell, two blanks between them. What came from a host is made fit
/// for a terminal.
pub(in crate::cli) fn aligned(rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.add_rows(
        rows.iter().map(|row| Row::from(row.iter().map(|cell| crate::text::printable(cell)))),
    );
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Rows with `;` between them, cells with `|`.
    #[rstest]
    #[case("HOST|STATE;web1|up", "HOST  STATE\nweb1  up")]
    // Wide characters take two places.
    #[case("A|B;日本|x", "A     B\n日本  x")]
    // A cell stays one line, and an empty one keeps its place.
    #[case("A|B|C;a\nb||c\x1b", "A    B  C\na b     c\\u{1b}")]
    #[case("A|B;a", "A  B\na")]
    fn columns_are_as_wide_as_their_widest_cell(#[case] rows: &str, #[case] text: &str) {
        let row = |row: &str| row.split('|').map(str::to_owned).collect();
        let rows: Vec<Vec<String>> = rows.split(';').map(row).collect();
        assert_eq!(aligned(&rows), text);
    }

    /// Whatever the width of the terminal: a line can be searched and cut as it is.
    #[test]
    fn nothing_is_wrapped() {
        let rows = [vec!["x".repeat(500), "y y ".repeat(100)], vec!["a".into(), "b".into()]];
        assert_eq!(aligned(&rows).lines().count(), 2);
    }
}
