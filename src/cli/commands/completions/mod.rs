//! `sshpool completions`, and what the scripts that it prints call back for.
//!
//! A script is a few lines that never change: it gives the words of the command line to this
//! program and shows the words that come back. So what is offered is always what this version
//! knows, hosts of the files included. What goes wrong is silence: nobody wants to read errors
//! while typing.

mod hosts;
mod words;

use std::ffi::OsString;
use std::io::Write;

use clap::{Args, ValueEnum};

use crate::cli::failure::Failure;
use crate::cli::output::write;

/// The first argument by which a script calls back. Not in the help: it is for scripts only.
const CALL: &str = "__complete";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(sshpool completions bash)                                          for this shell; or:
  sshpool completions bash >~/.local/share/bash-completion/completions/sshpool
  sshpool completions zsh >\"${fpath[1]}/_sshpool\"
  sshpool completions fish >~/.config/fish/completions/sshpool.fish")]
pub(in crate::cli) struct Completions {
    /// For which shell: bash, zsh or fish
    #[arg(value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(in crate::cli) async fn run(&self) -> Result<u8, Failure> {
        let script = match self.shell {
            Shell::Bash => include_str!("sshpool.bash"),
            Shell::Zsh => include_str!("sshpool.zsh"),
            Shell::Fish => include_str!("sshpool.fish"),
        };
        write(script.to_owned()).await?;
        Ok(0)
    }
}

/// What is offered for these words.
#[cfg(test)]
pub(in crate::cli) fn offered(program: clap::Command, words: &[String]) -> Vec<String> {
    words::offer(program, words).words.into_iter().map(|(word, _)| word).collect()
}

/// Answers a script, if it is one that asks. The first line of the answer says what else to offer
/// (`words`, `files`, `directories`), then comes a line for each word, with a tab before its
/// description.
pub(in crate::cli) fn answer(arguments: &[OsString], program: fn() -> clap::Command) -> bool {
    if arguments.get(1).is_none_or(|first| first != CALL) {
        return false;
    }
    let words: Vec<String> =
        arguments[2..].iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let offer = words::offer(program(), &words);
    let mut text = format!("{}\n", offer.kind);
    for (word, about) in &offer.words {
        text += &format!("{word}\t{about}\n");
    }
    // A shell that does not read any more has no use for it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    true
}
