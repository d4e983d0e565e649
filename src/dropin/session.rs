//! The session that a command line asks for: whether it has a terminal, and what runs in it.

use std::ffi::OsStr;
use std::io::IsTerminal;

use super::command_line::{CommandLine, Opt};
use super::configuration::{SessionSettings, Tty};
use super::options;

/// What the command line and the configuration say of the session.
#[derive(Debug, Default)]
pub(super) struct SessionRequest {
    tty: Option<Tty>,
    is_subsystem: bool,
    is_forward: bool,
    stdin_null: bool,
    command: Option<String>,
}

impl SessionRequest {
    /// `settings` is what `ssh -G` has said, where it was asked; it has what the command line says,
    /// too.
    pub(super) fn of(line: &CommandLine<'_>, settings: SessionSettings) -> Self {
        let mut session = SessionRequest {
            tty: settings.tty,
            is_subsystem: settings.is_subsystem,
            stdin_null: settings.stdin_null,
            command: settings.command,
            ..SessionRequest::default()
        };
        let mut letters = None;
        for option in &line.options {
            match option {
                // As ssh counts them.
                Opt::Flag(b'T') => letters = Some(Tty::No),
                Opt::Flag(b't') => {
                    letters = Some(if letters == Some(Tty::Yes) { Tty::Force } else { Tty::Yes });
                }
                Opt::Flag(b's') => session.is_subsystem = true,
                Opt::Flag(b'n') => session.stdin_null = true,
                Opt::Value(b'W', _) => session.is_forward = true,
                Opt::Value(b'o', text) => session.read_option(&text.to_string_lossy()),
                _ => {}
            }
        }
        session.tty = letters.or(session.tty);
        if !line.command.is_empty() {
            let words: Vec<_> =
                line.command.iter().map(|word| OsStr::to_string_lossy(word)).collect();
            session.command = Some(words.join(" "));
        }
        session
    }

    fn read_option(&mut self, text: &str) {
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

    use super::*;
    use crate::dropin::command_line::parse;
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
    fn commands_without_a_terminal(#[case] line: &str, #[case] expected: Option<&str>) {
        let words: Vec<_> = line.split_whitespace().map(OsString::from).collect();
        let line = parse(&words).1.expect("it is understood");
        let found =
            SessionRequest::of(&line, SessionSettings::default()).command_without_terminal();
        assert_eq!(found.as_deref(), expected);
    }

    #[test]
    fn what_the_configuration_says_counts_where_the_line_says_nothing() {
        let words = ["-n", "web1", "top"].map(OsString::from);
        let line = parse(&words).1.expect("it is understood");
        let settings = SessionSettings { tty: Some(Tty::Force), ..SessionSettings::default() };
        assert_eq!(SessionRequest::of(&line, settings).command_without_terminal(), None);
        let words = ["-n", "-T", "web1", "top"].map(OsString::from);
        let line = parse(&words).1.expect("it is understood");
        let settings = SessionSettings { tty: Some(Tty::Force), ..SessionSettings::default() };
        assert_eq!(
            SessionRequest::of(&line, settings).command_without_terminal().as_deref(),
            Some("top")
        );
    }
}
