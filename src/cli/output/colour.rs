//! Colours on a terminal, for whoever wants them: `NO_COLOR` (<https://no-color.org>) and a
//! terminal that is `dumb` have none.

use std::fmt::Display;
use std::io::IsTerminal;

use anstyle::{AnsiColor, Style};

pub(in crate::cli) const RED: Style = AnsiColor::Red.on_default();
pub(in crate::cli) const GREEN: Style = AnsiColor::Green.on_default();
pub(in crate::cli) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(in crate::cli) const DIM: Style = Style::new().dimmed();

/// Whether what is written to this stream has colours.
pub(in crate::cli) fn wanted(stream: &impl IsTerminal) -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    stream.is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

/// The text in this style, where there are colours.
pub(in crate::cli) fn paint(style: Style, text: impl Display, colours: bool) -> String {
    if colours { format!("{style}{text}{style:#}") } else { text.to_string() }
}
