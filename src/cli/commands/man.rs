//! `sshpool man`: the man pages, by the same description of the command line that it is parsed by.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use roff::{Inline, Roff, bold, roman};

use crate::cli::failure::{Failure, cannot_print};
use crate::cli::output::write;
use crate::text::plain;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool man | man -l -                                the page of the program
  sshpool man compose ls | man -l -                     that of a subcommand
  sshpool man --out ~/.local/share/man/man1             all of them, for man(1) to find")]
pub(in crate::cli) struct Man {
    /// The subcommand whose page is printed, without one that of the program
    #[arg(value_name = "SUBCOMMAND", conflicts_with = "out")]
    command: Vec<String>,

    /// Write all pages into this directory, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

impl Man {
    pub(in crate::cli) async fn run(&self, program: Command) -> Result<u8, Failure> {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        if let Some(directory) = &self.out {
            write_all(&program, directory).map_err(|error| {
                Failure::Output(format!(
                    "cannot write to {}: {}",
                    directory.display(),
                    plain(&error)
                ))
            })?;
            return Ok(0);
        }
        let mut command = &program;
        for word in &self.command {
            let found = command.find_subcommand(word).filter(|found| !found.is_hide_set());
            command = found.ok_or_else(|| {
                Failure::Usage(format!("no such subcommand of {}: {word:?}", name(command)))
            })?;
        }
        let page = page(command, &program).map_err(|error| cannot_print(&error))?;
        write(page).await?;
        Ok(0)
    }
}

/// The names that stand in a page's title and file: `sshpool-compose-ls`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn write_all(program: &Command, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        std::fs::write(directory.join(format!("{}.1", name(command))), page(command, program)?)?;
        left.extend(command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()));
    }
    Ok(())
}

fn page(command: &Command, program: &Command) -> io::Result<String> {
    let is_program = command.get_name() == program.get_name();
    // Examples and the like have a section of their own, as they are.
    let after =
        command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
    // As the help shows it; of an option that has a value the other form would not say so.
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim_start().to_owned();
    let man =
        clap_mangen::Man::new(command.clone().override_usage(usage).mut_args(with_values_in_line));
    let mut bytes = Vec::new();
    let out = &mut bytes;
    let (title, version) =
        (name(command).to_uppercase(), program.get_version().unwrap_or_default());
    // Without a date: the same version is the same page, whenever it is built.
    writeln!(out, ".TH \"{title}\" \"1\" \"\" \"sshpool {version}\" \"sshpool\"")?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(out)?;
    }
    if command.get_subcommands().any(|subcommand| !subcommand.is_hide_set()) {
        man.render_subcommands_section(out)?;
    }
    if let Some(after) = after {
        examples(&after, out)?;
    }
    if is_program {
        tail(out)?;
    }
    see_also(command, program, is_program, out)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The values that an option can have as the help shows them: the list that would be made of them
/// is not well-formed.
fn with_values_in_line(argument: Arg) -> Arg {
    let values = argument.get_possible_values();
    if values.is_empty() || argument.is_hide_possible_values_set() {
        return argument;
    }
    let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let help = format!("{help} [possible values: {}]", names.join(", "));
    argument.help(help).hide_possible_values(true)
}

/// The text behind the options, line by line.
fn examples(text: &str, out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in text.lines().skip_while(|line| line.trim() == "Examples:") {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
    roff.to_writer(out)
}

/// What holds for all subcommands.
fn tail(out: &mut dyn Write) -> io::Result<()> {
    let mut roff = Roff::new();
    let mut list = |title: &str, items: &[(&str, &str)]| {
        roff.control("SH", [title]);
        for (term, text) in items {
            roff.control("TP", []);
            roff.text([bold(*term)]);
            roff.text([roman(*text)]);
        }
    };
    list(
        "EXIT STATUS",
        &[
            ("0", "Everything went well."),
            ("1", "Some of several commands or runs failed."),
            ("2", "Wrong usage or configuration; a line on stderr names it."),
            ("124", "The time ran out."),
            ("141", "Whoever read the output has gone away."),
            ("255", "It could not be run, or its connection was lost; a line on stderr says why."),
        ],
    );
    list(
        "FILES",
        &[
            (
                "$XDG_CONFIG_HOME/sshpool/config.toml",
                "Settings and hosts, below ~/.config where the variable is not set. --config names another.",
            ),
            (
                "~/.ssh/config, /etc/ssh/ssh_config",
                "As for ssh(1). -F names another in their place.",
            ),
            (
                "$XDG_RUNTIME_DIR/sshpool",
                "The agent's socket, in a directory of the user's own in TMPDIR or /tmp where the variable is not set.",
            ),
            ("$XDG_RUNTIME_DIR/sshpool-XXXXXX", "Control sockets, while there are connections."),
        ],
    );
    list(
        "ENVIRONMENT",
        &[
            (
                "SSH_POOL_*",
                "Settings, over those of the file: SSH_POOL_MAX_CONNECTIONS, SSH_POOL_IDLE_TIMEOUT_MS and so on.",
            ),
            (
                "SSHPOOL_AGENT",
                "on or off: whether there is an agent, as --no-agent says it for one command.",
            ),
            ("SSH_AUTH_SOCK", "The agent that has the keys, as for ssh(1)."),
            ("NO_COLOR", "No colours, if it is set to anything."),
        ],
    );
    roff.to_writer(out)
}

fn see_also(
    command: &Command,
    program: &Command,
    is_program: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut pages: Vec<String> = Vec::new();
    if !is_program {
        pages.push(program.get_name().to_owned());
    }
    let subcommands = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    pages.extend(subcommands.map(|subcommand| name(subcommand).to_owned()));
    let mut line: Vec<Inline> = Vec::new();
    for page in pages {
        line.extend([bold(page), roman("(1), ")]);
    }
    line.extend([bold("ssh"), roman("(1), "), bold("ssh_config"), roman("(5)")]);
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text(line);
    roff.to_writer(out)
}
