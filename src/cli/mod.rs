//! The command line: parses, calls the library, prints.
//!
//! `program` describes the command line, `tips` says what was probably meant where it is not
//! understood, `setup` reads the settings, `dispatch` calls the subcommand, `commands` has one file for each, `output`
//! writes, `failure` gives the exit status.
//!
//! Not part of the library's interface: it is public only so that the program can reach it.

mod args;
mod ask;
mod backend;
mod bench;
mod commands;
mod compose;
mod dispatch;
mod failure;
mod many;
mod output;
mod program;
mod relay;
mod resources;
mod run;
mod setup;
mod sudo;
mod tips;

use std::process::ExitCode;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use commands::{completions, ssh};
use failure::{NOT_RUN, fail};
use output::{colour, stdio};
use program::{Cli, Command, Global};

use crate::agent::protocol;
use crate::pool::signals::{self, AtTheEnd};
use crate::text::plain;

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if completions::answer(&words, tips::command) {
        return ExitCode::SUCCESS;
    }
    let name = words.first().and_then(|word| std::path::Path::new(word).file_name());
    if name == Some(protocol::ASKPASS_PROGRAM.as_ref()) {
        return ask::askpass(
            words.get(1).map_or_else(String::new, |word| word.to_string_lossy().into_owned()),
        );
    }
    if name == Some("ssh".as_ref()) {
        return ssh::main(ssh::Own::default(), &words[1..]);
    }
    // What stands behind `ssh` is for nobody but that.
    let end = ssh::place(&words).map_or(words.len(), |place| place + 1);
    let cli = tips::parse(&words[..end]).unwrap_or_else(|error| error.exit());
    log_to_stderr(match &cli.command {
        Command::Agent(agent) => agent.verbosity(cli.global.verbose),
        _ => cli.global.verbose,
    });
    if let Command::Ssh(_) = cli.command {
        let Global { ssh_config, config, verbose, no_agent } = cli.global;
        return ssh::main(
            ssh::Own { ssh_config, config, verbose: verbose > 0, no_agent },
            &words[end..],
        );
    }
    stdio::make_blocking();
    signals::at_the_end(AtTheEnd { connected: crate::files::end_jobs, last: leave });
    let code = run_to_the_end(cli);
    stdio::restore();
    code
}

/// Just before a signal ends the program.
fn leave() {
    ask::show_again();
    crate::files::remove_temporaries();
    run::leave();
    stdio::restore();
}

fn run_to_the_end(cli: Cli) -> ExitCode {
    let runtime = match signals::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start: {}", plain(&error)), NOT_RUN),
    };
    let result = runtime.block_on(dispatch::run(cli));
    // A read of our stdin may still wait for a line that nobody will type.
    runtime.shutdown_background();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(failure) => failure.end(),
    }
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => return,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    let lines = tracing_subscriber::fmt::layer()
        // A stderr that nobody reads any more is no reason to panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(colour::wanted(&std::io::stderr()));
    let ours = Targets::new().with_target("sshpool", level);
    tracing_subscriber::registry().with(lines).with(ours).init();
}

#[cfg(test)]
mod tests {
    mod words;
}
