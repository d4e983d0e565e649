//! The form of a session: whether it has a terminal, and what runs in it.

use std::ffi::OsStr;
use std::io::IsTerminal;

use super::configuration::{Tty, Wanted};
use super::options;
use super::words::{Given, Line};

/// What the command line and the configuration say of the session.
#[derive(Debug, Default)]
pub(super) struct Form {
    tty: Option<Tty>,
    is_subsystem: bool,
    is_forward: bool,
    stdin_null: bool,
    command: Option<String>,
}

impl Form {
    /// `wanted` is what `ssh -G` has said, where it was asked; it has what the command line says,
    /// too.
    pub(super) fn of(line: &Line<'_>, wanted: Wanted) -> Self {
        let mut form = Form {
            tty: wanted.tty,
            is_subsystem: wanted.is_subsystem,
            stdin_null: wanted.stdin_null,
            command: wanted.command,
            ..Form::default()
        };
        let mut letters = None;
        for given in &line.given {
            match given {
                // As ssh counts them.
                Given::Flag(b'T') => letters = Some(Tty::No),
                Given::Flag(b't') => {
                    letters = Some(if letters == Some(Tty::Yes) { Tty::Force } else { Tty::Yes });
                }
                Given::Flag(b's') => form.is_subsystem = true,
                Given::Flag(b'n') => form.stdin_null = true,
                Given::Value(b'W', _) => form.is_forward = true,
                Given::Value(b'o', text) => form.hear(&text.to_string_lossy()),
                _ => {}
            }
        }
        form.tty = letters.or(form.tty);
        if !line.command.is_empty() {
            let words: Vec<_> =
                line.command.iter().map(|word| OsStr::to_string_lossy(word)).collect();
            form.command = Some(words.join(" "));
        }
        form
    }

    fn hear(&mut self, text: &str) {
        let keyword = options::keyword(text);
        let Some((_, value)) = options::read(text) else {
            if keyword == "remotecommand" {
                // Whatever it is, it is a command.
                self.command.get_or_insert_default();
            }
            return;
        };
        match &*keyword {
            "requesttty" if self.tty.is_none() => {
                self.tty = match &*value.to_ascii_lowercase() {
                    "no" | "false" => Some(Tty::No),
                    "yes" | "true" => Some(Tty::Yes),
                    "force" => Some(Tty::Force),
                    _ => None,
                }
            }
            "sessiontype" => self.is_subsystem |= value.eq_ignore_ascii_case("subsystem"),
            "stdinnull" => {
                self.stdin_null |= matches!(&*value.to_ascii_lowercase(), "yes" | "true")
            }
            "remotecommand" if !value.eq_ignore_ascii_case("none") => {
                self.command.get_or_insert(value);
            }
            _ => {}
        }
    }

    /// What runs in a session that has no terminal, empty for a shell; `None` where there is one,
    /// and for a subsystem or a forward.
    pub(super) fn command_without_terminal(self) -> Option<String> {
        let is_terminal = || std::io::stdin().is_terminal() && !self.stdin_null;
        let has_terminal = match self.tty {
            Some(Tty::No) => false,
            Some(Tty::Force) => true,
            Some(Tty::Yes) => is_terminal(),
            None => self.command.is_none() && is_terminal(),
        };
        let is_command = !has_terminal && !self.is_subsystem && !self.is_forward;
        is_command.then(|| self.command.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::words;
    use super::*;
    use rstest::rstest;

    /// As if stdin was no terminal: `-n`.
    #[rstest]
    #[case("-n web1 sleep 43", Some("sleep 43"))]
    #[case("-n web1 a  b", Some("a b"))]
    #[case("-n -t web1 top", Some("top"))]
    #[case("-n -tt web1 top", None)]
    #[case("-n -tt -T web1 top", Some("top"))]
    #[case("-n -oRequestTTY=force web1 top", None)]
    #[case("-n -T -oRequestTTY=force web1 top", Some("top"))]
    #[case("-n web1", Some(""))]
    #[case("-n -oRemoteCommand=top web1", Some("top"))]
    #[case("-n -s web1 sftp", None)]
    #[case("-n -oSessionType=subsystem web1 sftp", None)]
    #[case("-n -W a:1 web1", None)]
    fn forms(#[case] line: &str, #[case] expected: Option<&str>) {
        let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        let line = words::read(&words).1.expect("it is understood");
        let found = Form::of(&line, Wanted::default()).command_without_terminal();
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn what_the_configuration_says_counts_where_the_line_says_nothing() {
        let words = ["-n", "web1", "top"].map(OsString::from);
        let line = words::read(&words).1.expect("it is understood");
        let wanted = Wanted { tty: Some(Tty::Force), ..Wanted::default() };
        assert_eq!(Form::of(&line, wanted).command_without_terminal(), None);
        let words = ["-n", "-T", "web1", "top"].map(OsString::from);
        let line = words::read(&words).1.expect("it is understood");
        let wanted = Wanted { tty: Some(Tty::Force), ..Wanted::default() };
        assert_eq!(Form::of(&line, wanted).command_without_terminal().as_deref(), Some("top"));
    }
}
