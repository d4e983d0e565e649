//! What fits at the end of a command line, by the same description of it that it is parsed by.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command};

use super::hosts;

/// What is offered.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// `words`, or what else the shell itself finds: `files`, `directories`.
    pub kind: &'static str,
    /// With a word about each.
    pub words: Vec<(String, String)>,
}

/// How far the line was understood.
struct Place<'a> {
    program: &'a Command,
    command: &'a Command,
    /// How many positional arguments of the command are there already.
    positionals: usize,
    /// The option whose value comes next.
    option: Option<&'a Arg>,
    /// Behind `--`.
    literal: bool,
    files: Files,
}

/// What the line says where hosts are to be looked for.
#[derive(Debug, Default)]
struct Files {
    ssh_config: Option<PathBuf>,
    config: Option<PathBuf>,
}

/// `words` are those behind the program; the last one, which may be empty, is the one to complete.
pub(super) fn offer(mut program: Command, words: &[String]) -> Offer {
    program.build();
    let (last, before) =
        words.split_last().map_or(("", words), |(last, before)| (last.as_str(), before));
    let mut place = Place {
        program: &program,
        command: &program,
        positionals: 0,
        option: None,
        literal: false,
        files: Files::default(),
    };
    for word in before {
        place.step(word);
    }
    let mut offer = place.offer(last);
    offer.words.retain(|(word, _)| word.starts_with(last));
    offer
}

impl<'a> Place<'a> {
    fn step(&mut self, word: &str) {
        if let Some(option) = self.option.take() {
            self.note(option, word);
        } else if self.is_raw() || self.literal || word == "-" || !word.starts_with('-') {
            self.positional(word);
        } else if word == "--" {
            self.literal = true;
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) =
                long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            if let Some(option) = self.long(name).filter(|option| takes_value(option)) {
                match value {
                    Some(value) => self.note(option, value),
                    None if option.is_require_equals_set() => {}
                    None => self.option = Some(option),
                }
            }
        } else {
            for (at, short) in word.char_indices().skip(1) {
                let Some(option) = self.short(short).filter(|option| takes_value(option)) else {
                    continue;
                };
                match &word[at + short.len_utf8()..] {
                    "" => self.option = Some(option),
                    value => self.note(option, value.trim_start_matches('=')),
                }
                break;
            }
        }
    }

    fn positional(&mut self, word: &str) {
        match self.command.find_subcommand(word).filter(|_| !self.literal && !self.is_raw()) {
            Some(subcommand) => {
                self.command = subcommand;
                self.positionals = 0;
            }
            None => self.positionals += 1,
        }
    }

    /// Whether everything from here on is somebody else's command line.
    fn is_raw(&self) -> bool {
        let at = self.positionals.saturating_sub(1);
        self.positionals > 0
            && self.command.get_positionals().nth(at).is_some_and(Arg::is_trailing_var_arg_set)
    }

    fn note(&mut self, option: &Arg, value: &str) {
        match option.get_id().as_str() {
            "ssh_config" => self.files.ssh_config = Some(value.into()),
            "config" => self.files.config = Some(value.into()),
            _ => {}
        }
    }

    fn offer(&self, last: &str) -> Offer {
        if let Some(option) = self.option {
            return self.values(option, last, "");
        }
        if self.is_raw() {
            return Offer { kind: "words", words: Vec::new() };
        }
        if !self.literal && last.starts_with('-') {
            return match last.strip_prefix("--").and_then(|long| long.split_once('=')) {
                Some((name, value)) => match self.long(name) {
                    Some(option) => self.values(option, value, &format!("--{name}=")),
                    None => Offer { kind: "words", words: Vec::new() },
                },
                None => Offer { kind: "words", words: self.options() },
            };
        }
        let mut offer = match self.argument() {
            Some(argument) => self.values(argument, last, ""),
            None => Offer { kind: "words", words: Vec::new() },
        };
        if !self.literal {
            let subcommands =
                self.command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
            offer.words.extend(subcommands.map(|subcommand| {
                (
                    subcommand.get_name().to_owned(),
                    about(subcommand.get_about().map(ToString::to_string)),
                )
            }));
        }
        offer
    }

    /// The positional argument that comes next.
    fn argument(&self) -> Option<&'a Arg> {
        let mut positionals = self.command.get_positionals();
        positionals.nth(self.positionals).or_else(|| {
            // The last one may take several.
            let last = self.command.get_positionals().last()?;
            last.get_num_args()
                .is_some_and(|number| number.max_values() > 1)
                .then_some(last)
                .or_else(|| matches!(last.get_action(), ArgAction::Append).then_some(last))
        })
    }

    /// `before` is what stands in the same word before the value.
    fn values(&self, argument: &Arg, last: &str, before: &str) -> Offer {
        let with = |words: Vec<(String, String)>| {
            let words =
                words.into_iter().map(|(word, about)| (format!("{before}{word}"), about)).collect();
            Offer { kind: "words", words }
        };
        let possible: Vec<_> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| {
                (value.get_name().to_owned(), about(value.get_help().map(ToString::to_string)))
            })
            .collect();
        if !possible.is_empty() {
            return with(possible);
        }
        let name =
            argument.get_value_names().unwrap_or_default().first().map_or("", |name| name.as_str());
        match name {
            "FILE" => Offer { kind: "files", words: Vec::new() },
            "DIR" => Offer { kind: "directories", words: Vec::new() },
            "GROUP" => with(named(hosts::groups(self.files.config.as_deref()), "a group")),
            "SUBCOMMAND" => with(named(subcommands(self.program), "")),
            _ if name.starts_with("HOST") => with(self.hosts(last)),
            _ => Offer { kind: "words", words: Vec::new() },
        }
    }

    /// With the user or the list that was typed before the name.
    fn hosts(&self, last: &str) -> Vec<(String, String)> {
        let typed = last.rfind([',', '@']).map_or("", |at| &last[..=at]);
        let Files { ssh_config, config } = &self.files;
        let found = hosts::known(config.as_deref(), ssh_config.as_deref());
        found
            .into_iter()
            .map(|(name, about)| (format!("{typed}{name}"), about.to_owned()))
            .collect()
    }

    fn options(&self) -> Vec<(String, String)> {
        let mut words = Vec::new();
        for option in self
            .command
            .get_opts()
            .chain(self.command.get_arguments().filter(|arg| !takes_value(arg)))
        {
            if option.is_hide_set() || option.is_positional() {
                continue;
            }
            let help = about(option.get_help().map(ToString::to_string));
            let long = option.get_long().map(|long| format!("--{long}"));
            let short = option.get_short().map(|short| format!("-{short}"));
            for word in long.into_iter().chain(short) {
                if !words.iter().any(|(known, _)| *known == word) {
                    words.push((word, help.clone()));
                }
            }
        }
        words
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|argument| argument.get_long() == Some(name))
    }

    fn short(&self, name: char) -> Option<&'a Arg> {
        self.command.get_arguments().find(|argument| argument.get_short() == Some(name))
    }
}

fn subcommands(program: &Command) -> Vec<String> {
    let names = program.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    names.map(|subcommand| subcommand.get_name().to_owned()).collect()
}

fn named(words: Vec<String>, about: &str) -> Vec<(String, String)> {
    words.into_iter().map(|word| (word, about.to_owned())).collect()
}

fn takes_value(argument: &Arg) -> bool {
    !argument.is_positional() && argument.get_action().takes_values()
}

/// The first words of a help text, in one line.
fn about(help: Option<String>) -> String {
    const LONGEST: usize = 70;
    let help = help.unwrap_or_default();
    let line = help.split(['\n', ';', '[']).next().unwrap_or_default().trim();
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// The words that are offered, without their descriptions.
    fn offered(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        offer(crate::cli::tips::command(), &words).words.into_iter().map(|(word, _)| word).collect()
    }

    #[rstest]
    #[case("ex", &["exec"])]
    #[case("-F x ex", &["exec"])]
    #[case("exec --ti", &["--timeout"])]
    #[case("exec --timeout 5s --js", &["--json"])]
    #[case("exec --timeout=5s --js", &["--json"])]
    #[case("completions ", &["bash", "zsh", "fish"])]
    #[case("compose web1 rest", &["restart"])]
    #[case("compose web1 restart --verb", &["--verbose"])]
    #[case("exec web1 --ti", &["--timeout"])]
    #[case("exec web1 ls -", &[])]
    #[case("exec web1 -- ex", &[])]
    #[case("exec --timeout ", &[])]
    #[case("no-such-command --bogus", &[])]
    fn words_fit_their_place(#[case] line: &str, #[case] expected: &[&str]) {
        assert_eq!(offered(line), expected);
    }

    #[rstest]
    #[case("-F ", "files")]
    #[case("--config=x", "files")]
    #[case("exec ", "words")]
    fn files_are_left_to_the_shell(#[case] line: &str, #[case] kind: &str) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        assert_eq!(offer(crate::cli::tips::command(), &words).kind, kind);
    }

    #[test]
    fn hosts_come_from_the_files_of_the_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("c.toml"), "[hosts.web1]\n[groups]\nfront = []\n").expect("a file");
        std::fs::write(path("ssh"), "Host web2 *.net\n").expect("a file");
        let files = format!("--config {} -F {}", path("c.toml"), path("ssh"));
        assert_eq!(offered(&format!("{files} exec w")), ["web1", "web2"]);
        assert_eq!(offered(&format!("{files} exec me@web1")), ["me@web1"]);
        assert_eq!(offered(&format!("{files} resources web1,w")), ["web1,web1", "web1,web2"]);
        assert_eq!(offered(&format!("{files} resources web1 w")), ["web1", "web2"]);
        assert_eq!(offered(&format!("{files} exec web1 w")), [""; 0]);
        assert!(offered(&format!("doctor {files} w")).contains(&"web2".to_owned()));
    }
}
