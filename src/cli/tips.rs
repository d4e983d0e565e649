//! The command line as it is understood, and what somebody probably meant where it is not.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches};

use super::program::Cli;
use crate::host::shortened;

/// Reads the command line. What is wrong with it comes with one tip at most.
pub(super) fn parse(words: &[OsString]) -> Result<Cli, clap::Error> {
    if let Some(cli) = quickly(words) {
        return Ok(cli);
    }
    let matches = command().try_get_matches_from(words).map_err(|error| advised(error, words))?;
    Cli::from_arg_matches(&matches)
}

/// Reads it as the first subcommand that it may be, where that is one that is called often. What is
/// understood so means the same to all of them.
fn quickly(words: &[OsString]) -> Option<Cli> {
    let command = words.iter().skip(1).find_map(|word| Cli::with_only(word.to_str()?))?;
    Cli::from_arg_matches(&command.try_get_matches_from(words).ok()?).ok()
}

/// Behind an action of Compose there is no `-v`: for Compose it means something else there, and
/// with `down` that is the end of the volumes. Who means that is not to see a log in its place.
pub(super) fn command() -> clap::Command {
    let verbose = Arg::new("verbose").long("verbose").action(ArgAction::Count);
    let verbose = verbose.help(
        "Write a log to stderr; twice for details (its short form, -v, stands before the host)",
    );
    Cli::command().mut_subcommand("compose", |compose| {
        compose.mut_subcommands(|action| action.arg(verbose.clone().global(true)))
    })
}

fn advised(mut error: clap::Error, words: &[OsString]) -> clap::Error {
    // clap does not say which word it is.
    if error.kind() == ErrorKind::InvalidUtf8
        && let Some(word) = words.iter().find(|word| word.to_str().is_none())
    {
        let shown = shortened(&format!("{word:?}"));
        let text =
            format!("{shown} is not UTF-8: only commands, their words and paths need not be\n");
        return clap::Error::raw(ErrorKind::InvalidUtf8, text);
    }
    let long = |value: &ContextValue| match value {
        ContextValue::String(text) if shortened(text) != *text => Some(shortened(text)),
        _ => None,
    };
    let long: Vec<_> =
        error.context().filter_map(|(kind, value)| Some((kind, long(value)?))).collect();
    for (kind, text) in long {
        error.insert(kind, ContextValue::String(text));
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let usage = error.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let of_compose = usage.split_once("sshpool compose ").map(|(_, usage)| usage);
    let tip = match (error.kind(), of_compose) {
        // With a name that is nearly one of the subcommands clap says that.
        (ErrorKind::InvalidSubcommand, _)
            if error.get(ContextKind::SuggestedSubcommand).is_none() =>
        {
            text(ContextKind::InvalidSubcommand).map(|name| no_subcommand(&name))
        }
        (ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument, Some(_))
            if host_is_missing(words) =>
        {
            let action = first_word_of_compose(words).unwrap_or_default();
            Some(format!("the host comes first: sshpool compose HOST {action} …"))
        }
        // Compose has many more options than we have; clap would advise to take them for services.
        // With one that is nearly one of ours clap says that, and it is enough.
        (ErrorKind::UnknownArgument, Some(usage)) => match error.get(ContextKind::SuggestedArg) {
            None => {
                text(ContextKind::InvalidArg).map(|word| not_of_compose(action_of(usage), &word))
            }
            Some(_) => {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(Vec::new()));
                None
            }
        },
        _ => None,
    };
    if let Some(tip) = tip {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// A host where the name of a subcommand belongs is a slip that comes easily: ssh takes it. But not
/// every word there is one.
fn no_subcommand(name: &str) -> String {
    if is_action(name) {
        format!("did you mean \"sshpool compose HOST {name} …\"?")
    } else if matches!(name, "shell" | "sh" | "command" | "cmd") {
        "did you mean \"sshpool exec HOST COMMAND…\"?".to_owned()
    } else {
        format!("did you mean \"sshpool exec {name} …\"?")
    }
}

/// What to write instead of a word that this action of Compose, if it is known which, does not
/// take.
fn not_of_compose(action: Option<&str>, word: &str) -> String {
    let option = word.split('=').next().unwrap_or(word);
    match (action, option) {
        (None, _) => {
            "options of an action stand behind it: sshpool compose HOST ACTION …".to_owned()
        }
        (Some("down"), "-v") => {
            "to remove volumes write -o=--volumes; this program's own -v stands before the host"
                .to_owned()
        }
        (Some(_), "-v") => {
            "this program's own -v stands before the host: sshpool compose -v HOST …".to_owned()
        }
        (Some("up"), "-d" | "--detach") => {
            format!("up works in the background by itself: leave {option} out")
        }
        (Some(action), "-f") if action != "logs" => {
            "a Compose file is given by --file=FILE".to_owned()
        }
        (Some("exec"), "-i" | "--interactive") => {
            "--stdin gives the command this program's stdin; there is no terminal".to_owned()
        }
        (Some("exec"), "-t" | "-T" | "--tty" | "--no-TTY") => {
            format!("there is no terminal: leave {option} out")
        }
        (Some("ps"), "-a" | "--all") => {
            format!("ps shows containers that have ended, too: leave {option} out")
        }
        (Some("ls"), option) if option.starts_with('-') => {
            format!(
                "ls takes no options of Compose's own: sshpool exec HOST -- docker compose ls {word}"
            )
        }
        (Some("ps"), option) if option.starts_with('-') => {
            format!(
                "ps takes no options of Compose's own: sshpool exec HOST -- docker compose -p PROJECT ps {word}"
            )
        }
        (Some(action @ ("ls" | "ps")), _) => {
            format!("{action} takes nothing more: leave {word} out")
        }
        (Some(_), _) => format!("an option of Compose's own is given by --option={word}"),
    }
}

/// The action in a usage such as `<HOST[,HOST…]> ps [OPTIONS] <PROJECT>`.
fn action_of(usage: &str) -> Option<&str> {
    usage.split_whitespace().find(|word| is_action(word))
}

fn is_action(word: &str) -> bool {
    let command = Cli::command();
    command
        .find_subcommand("compose")
        .is_some_and(|compose| compose.find_subcommand(word).is_some())
}

/// An action where the host belongs.
fn host_is_missing(words: &[OsString]) -> bool {
    first_word_of_compose(words).is_some_and(is_action)
}

/// The first word behind `compose` that is no option and no value of one.
fn first_word_of_compose(words: &[OsString]) -> Option<&str> {
    let mut words =
        words.iter().map(|word| word.to_str().unwrap_or("-")).skip_while(|word| *word != "compose");
    words.next();
    while let Some(word) = words.next() {
        match word {
            "-F"
            | "--config"
            | "--file"
            | "--timeout"
            | "--profile"
            | "--env-file"
            | "--project-directory"
            | "--docker"
            | "--docker-host"
            | "--docker-context" => {
                _ = words.next();
            }
            option if option.starts_with('-') => {}
            word => return Some(word),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[rstest]
    #[case("sshpool web1 true", "did you mean \"sshpool exec web1 …\"?")]
    #[case("sshpool cmd web1 true", "did you mean \"sshpool exec HOST COMMAND…\"?")]
    #[case("sshpool restart web1 shop", "did you mean \"sshpool compose HOST restart …\"?")]
    #[case(
        "sshpool compose web1 ps shop -a",
        "ps shows containers that have ended, too: leave -a out"
    )]
    #[case(
        "sshpool compose web1 ps shop -q",
        "ps takes no options of Compose's own: sshpool exec HOST -- docker compose -p PROJECT ps -q"
    )]
    #[case("sshpool compose web1 ps shop web", "ps takes nothing more: leave web out")]
    #[case("sshpool compose web1 up shop -d", "up works in the background by itself: leave -d out")]
    #[case("sshpool compose web1 up shop -f x.yaml", "a Compose file is given by --file=FILE")]
    #[case(
        "sshpool compose web1 up shop --build",
        "an option of Compose's own is given by --option=--build"
    )]
    #[case(
        "sshpool compose web1 exec shop -it web sh",
        "--stdin gives the command this program's stdin; there is no terminal"
    )]
    #[case(
        "sshpool compose web1 --json ls",
        "options of an action stand behind it: sshpool compose HOST ACTION …"
    )]
    #[case("sshpool compose ls web1", "the host comes first: sshpool compose HOST ls …")]
    #[case("sshpool compose -v --timeout 1s ls", "the host comes first: sshpool compose HOST ls …")]
    #[case(
        "sshpool compose restart web1 shop",
        "the host comes first: sshpool compose HOST restart …"
    )]
    #[case(
        "sshpool compose web1 down shop -v",
        "to remove volumes write -o=--volumes; this program's own -v stands before the host"
    )]
    #[case(
        "sshpool compose web1 down -vv shop",
        "to remove volumes write -o=--volumes; this program's own -v stands before the host"
    )]
    #[case(
        "sshpool compose web1 ls -v",
        "this program's own -v stands before the host: sshpool compose -v HOST …"
    )]
    #[case("sshpool compose web1 ls --verbos", "a similar argument exists: '--verbose'")]
    fn one_tip_says_what_was_meant(#[case] line: &str, #[case] tip: &str) {
        let text = parsed(line).expect_err("it is not understood").to_string();
        let tips: Vec<_> =
            text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")).collect();
        assert_eq!(tips, [tip], "{text}");
    }

    #[rstest]
    #[case("sshpool exec web1 true", 0)]
    #[case("sshpool exec -v web1 true", 1)]
    #[case("sshpool -v compose web1 ls -a", 1)]
    #[case("sshpool compose -vv web1 down shop", 2)]
    #[case("sshpool compose web1 -v down shop", 1)]
    #[case("sshpool compose web1 down shop --verbose", 1)]
    #[case("sshpool compose web1 exec shop web ls -v", 0)]
    #[case("sshpool compose web1 top shop -v", 0)]
    #[case("sshpool compose web1 down shop -o=-v", 0)]
    fn a_log_is_asked_for_before_an_action_of_compose(#[case] line: &str, #[case] verbose: u8) {
        assert_eq!(parsed(line).expect("it is understood").global.verbose, verbose);
    }

    /// Whether the short way is taken, and that it comes to the same.
    #[rstest]
    #[case("sshpool exec web1 true", true)]
    #[case("sshpool -vF c exec --config=x -v --json web1 -- run -x", true)]
    #[case("sshpool --no-agent run -w web[1-3] -b -- uptime", true)]
    #[case("sshpool cp -r --config exec a web1:b", true)]
    #[case("sshpool ssh", true)]
    #[case("sshpool -F exec run -w web1 true", false)]
    #[case("sshpool compose web1 exec shop web ls", false)]
    #[case("sshpool status", false)]
    fn what_is_called_often_is_read_in_a_shorter_way(#[case] line: &str, #[case] short: bool) {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        let matches = command().try_get_matches_from(&words).expect("it is understood");
        let all = format!("{:?}", Cli::from_arg_matches(&matches).expect("it is understood"));
        let quickly = quickly(&words);
        assert_eq!(quickly.is_some(), short);
        assert!(quickly.is_none_or(|cli| format!("{cli:?}") == all), "{all}");
        assert_eq!(format!("{:?}", parse(&words).expect("it is understood")), all);
    }
}
