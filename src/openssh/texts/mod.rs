//! The texts by which OpenSSH says why a login failed, what each means, and what somebody can do
//! about it.
//!
//! This is the only table of them: the line that an error quotes, its kind and its advice come from
//! one row. The texts are those of 7.6 to 10.5; `tests/recorded/openssh-texts.tsv` lists them with
//! the versions that have them, and a test holds this table against that list.

mod table;
#[cfg(test)]
mod tests;

use crate::error::ConnectErrorKind as Kind;
use crate::error::advice::for_host;
use table::{ASKS, BEFORE_A_LINE, CAUSES, NO_KEY, NOTES, OF_CONFIGURATION};

/// One cause of a failed login.
#[derive(Debug)]
pub(super) struct Cause {
    texts: Texts,
    pub kind: Kind,
    /// The advice on this cause, where it differs from the advice on its kind.
    advice: Option<&'static str>,
}

#[derive(Debug)]
enum Texts {
    /// A line has all of these, in this order.
    All(&'static [&'static str]),
    /// A line names a line of ssh's configuration: [`is_of_configuration`].
    ConfigurationLine,
}

/// The first cause of the table that a line names for which `possible` holds, and that line: the
/// last one that names it. Lines that ssh wrote itself come before those of others (a server's
/// banner, a ProxyCommand).
pub(super) fn find<'a>(
    lines: &[Line<'a>],
    possible: impl Fn(Kind) -> bool,
) -> Option<(&'static Cause, &'a str)> {
    let own: Vec<Line<'_>> = lines.iter().filter(|line| line.is_own).copied().collect();
    [own.as_slice(), lines].into_iter().find_map(|lines| {
        if possible(Kind::BadOption)
            && let Some(line) = lines.iter().find(|line| is_of_configuration(line.text))
        {
            return Some((&OF_CONFIGURATION, line.text));
        }
        CAUSES.iter().filter(|cause| possible(cause.kind)).find_map(|cause| {
            lines.iter().rev().find(|line| cause.is_in(line.text)).map(|line| (cause, line.text))
        })
    })
}

/// Whether a line names a cause.
pub(super) fn is_cause(line: &str) -> bool {
    is_of_configuration(line) || CAUSES.iter().any(|cause| cause.is_in(line))
}

/// Whether a line is never a reason, whatever comes of the login.
pub(super) fn is_note(line: &str) -> bool {
    line.starts_with("** ") || NOTES.iter().any(|note| line.contains(note))
}

/// Whether a line says what is wrong in the line of the configuration that ssh names behind it.
pub(super) fn is_before_a_line(line: &str) -> bool {
    BEFORE_A_LINE.iter().any(|text| line.contains(text))
}

/// `FILE line 3: Bad port 'abc'.`, `FILE: line 3: Bad configuration option: x`. Shells write `NAME:
/// line 3: …`, with a colon.
fn is_of_configuration(line: &str) -> bool {
    line.match_indices(" line ").any(|(at, word)| {
        let (file, rest) = (&line[..at], &line[at + word.len()..]);
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some(message) = rest[digits..].strip_prefix(": ") else { return false };
        let is_form = match file.strip_suffix(':') {
            Some(_) => message.starts_with("Bad configuration option"),
            None => true,
        };
        digits > 0 && !file.is_empty() && is_form
    })
}

/// A line of ssh's stderr.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub text: &'a str,
    /// ssh ends its own lines with CR LF. Those of a server's banner and of other programs end in
    /// LF, mostly.
    pub is_own: bool,
}

impl<'a> Line<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        let text = line.trim();
        // One of the few that ssh writes without its log.
        let is_own = line.ends_with('\r') || text.starts_with("Warning: Identity file ");
        Line { text, is_own }
    }
}

impl Cause {
    fn is_in(&self, line: &str) -> bool {
        match self.texts {
            Texts::ConfigurationLine => is_of_configuration(line),
            Texts::All(texts) => {
                let mut rest = line;
                texts.iter().all(|text| match rest.split_once(text) {
                    Some((_, behind)) => {
                        rest = behind;
                        true
                    }
                    None => false,
                })
            }
        }
    }

    /// What to do, where this line of ssh says more than its kind does.
    pub(super) fn advice(&self, line: &str) -> Option<&'static str> {
        let methods = line.split_once("Permission denied (").map(|(_, methods)| methods);
        match methods {
            Some(methods) if self.kind == Kind::Authentication => {
                let has = |method| methods.contains(method);
                match has("publickey") {
                    true => Some(NO_KEY),
                    false if has("password") || has("keyboard-interactive") => Some(ASKS),
                    false => None,
                }
            }
            _ => self.advice,
        }
    }
}

/// Whether this advice does not say why the server took no key. `sshpool doctor` knows which keys
/// were offered, and can say more.
pub(crate) fn is_about_any_key(advice: &str, host: &str) -> bool {
    advice == for_host(NO_KEY, host)
}
