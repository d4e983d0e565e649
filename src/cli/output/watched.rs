//! What is shown again and again, with `--watch`: on a terminal each time takes the place of the
//! one before.

use std::io::IsTerminal;

use super::{print, write};
use crate::cli::failure::Failure;

/// Where it is shown.
#[derive(Default)]
pub(in crate::cli) struct Watched {
    began: bool,
}

impl Watched {
    /// Shows it in the place of what was there before; where nobody looks, below that and an empty
    /// line.
    pub(in crate::cli) async fn show(&mut self, text: &str) -> Result<(), Failure> {
        if !std::io::stdout().is_terminal() {
            return print(&format!("{text}\n")).await;
        }
        // Cleared once; then each line is written over the one before it, which does not flicker.
        // What does not fit would scroll.
        let start = if std::mem::replace(&mut self.began, true) { "" } else { "\x1b[2J" };
        let (width, height) = terminal_size::terminal_size()
            .map_or((usize::MAX, usize::MAX), |(width, height)| {
                (usize::from(width.0), usize::from(height.0))
            });
        let lines = fitted(text, width, height.saturating_sub(1));
        let lines: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        write(format!("{start}\x1b[H{lines}\x1b[J")).await
    }
}

/// The lines as far as they fit; the last one says how many do not.
fn fitted(text: &str, width: usize, height: usize) -> Vec<String> {
    let mut lines: Vec<String> =
        text.lines().map(|line| line.chars().take(width).collect()).collect();
    if lines.len() > height {
        let kept = height.saturating_sub(1);
        let left = format!("… {} more lines", lines.len() - kept);
        lines.truncate(kept);
        lines.push(left);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a\nb\nc", 80, 3, &["a", "b", "c"])]
    #[case("a\nb\nc\nd", 80, 3, &["a", "b", "… 2 more lines"])]
    #[case("äöü\nb", 2, 2, &["äö", "b"])]
    fn a_screen_has_its_size(
        #[case] text: &str,
        #[case] width: usize,
        #[case] height: usize,
        #[case] lines: &[&str],
    ) {
        assert_eq!(fitted(text, width, height), lines);
    }
}
