//! Tables for people.

use std::fmt::Write as _;

/// Columns as wide as their widest cell, two blanks between them. What came from a host is made fit
/// for a terminal.
pub(in crate::cli) fn aligned(table: &[Vec<String>]) -> String {
    let table: Vec<Vec<String>> = table
        .iter()
        .map(|row| row.iter().map(|cell| crate::text::printable(cell)).collect())
        .collect();
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        table
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &table {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ").expect("writing to a String cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.pop();
    text
}
