//! Colours on a terminal, for whoever wants them: `NO_COLOR` (<https://no-color.org>) and a
//! terminal that is `dumb` have none.

use std::fmt::Display;
use std::io::IsTerminal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Colour {
    Red,
    Green,
    Yellow,
    Dim,
}

/// Whether what is written to this stream has colours.
pub(in crate::cli) fn wanted(stream: &impl IsTerminal) -> bool {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    stream.is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb"
}

impl Colour {
    /// The text in this colour, where there are any.
    pub(in crate::cli) fn paint(self, text: impl Display, colours: bool) -> String {
        let code = match self {
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Dim => "2",
        };
        if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }
}
