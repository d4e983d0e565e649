//! `sshpool run`: one command on many hosts.

mod choice;
mod folding;
mod job;
mod lines;
mod outcome;
mod report;
mod screen;
mod state;

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio::sync::watch;

use self::choice::{Choice, Target};
use self::folding::Folding;
use self::job::{Job, Style};
use self::outcome::worst;
use self::screen::Screen;
use self::state::State;
use super::args::joined;
use super::failure::{Failure, cannot_read};
use super::output::{print_json, write};
use super::setup::Setup;
use super::sudo::ByUser;
use crate::agent::text_or_base64;
use crate::command::{Command, Runner, Stdin};
use crate::config;
use crate::fleet::Each;
use crate::host::Host;
use crate::host::set::fold;
use crate::pool::signals;
use crate::text::plain;

pub(super) use self::lines::Lines;
pub(super) use self::screen::leave;

pub(super) const USAGE: &str = "sshpool run [OPTIONS] <-w HOSTS|-g GROUP|--hosts FILE> -- COMMAND…";

pub(super) const HELP: &str = "\
Examples:
  sshpool run -w 'web[1-20],db1' -- uptime
  sshpool run -g web -x web7 -b -- 'dpkg -l nginx | tail -1'
  sshpool run --hosts hosts.txt -f 4 -t 5m --fail-fast -- 'sudo apt-get -y upgrade'
  sshpool run -w @all --json -- df -P / | jq -r 'select(.exit_code != 0).host'
  sshpool run -g web --stdin -- 'cat > /tmp/motd' < motd

Hosts: web1, deploy@web1:2222, web[01-20], rack[1-2]-node[1,3,5-9], [::1]:22; @GROUP is a group from
the [groups] of the TOML file:
  [groups]
  web = \"web[1-20]\"
  all = [\"@web\", \"db1\"]

Exit status, the first that holds:
  2    wrong usage or configuration; nothing was run
  255  some host could not be reached, or was lost, or its output could not be written here
  124  on some host the command took longer than -t
  1    on some host the command ended with another status than 0, by a signal, or wrote too much
  0    all succeeded
  130, 143 after Ctrl-C and SIGTERM; 141 when whoever read the output has gone away";

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    choice: Choice,

    /// How many hosts have the command at once
    #[arg(short = 'f', long, value_name = "N", default_value = "32")]
    width: NonZeroUsize,

    /// End the command on a host after this time, such as 90s or 5m; 0 for no limit. Connecting
    /// does not count: it has the connect_timeout of the settings [default: the command_timeout of
    /// the settings, 30s]
    #[arg(short, long, value_name = "DURATION", value_parser = config::parse_duration)]
    timeout: Option<Duration>,

    /// Start the command on no more hosts when it has failed on one. Where it runs then it is let
    /// finish
    #[arg(long)]
    fail_fast: bool,

    /// Give the command this program's stdin, all of it on each host; otherwise it reads nothing
    #[arg(long)]
    stdin: bool,

    /// Show equal output once, below the hosts that it came from, when all are done
    #[arg(short = 'b', long, group = "output")]
    fold: bool,

    /// Print one JSON object a line for each host, when it is done
    #[arg(long, group = "output")]
    json: bool,

    /// Write the output into files of this directory, HOST.stdout and HOST.stderr, in place of
    /// those that are there
    #[arg(long, value_name = "DIR", group = "output")]
    out: Option<PathBuf>,

    /// Print which hosts it would be, and the command, and run nothing
    #[arg(long)]
    dry_run: bool,

    /// Whether hosts have colours; auto is on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: When,

    #[command(flatten)]
    by_user: ByUser,

    /// The command and its words
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

impl When {
    fn applies(self, is_terminal: bool) -> bool {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        match self {
            When::Always => true,
            When::Never => false,
            When::Auto => is_terminal && set("NO_COLOR").is_none() && !screen::is_dumb(),
        }
    }
}

/// A run of which everything is known: nothing that the user has said can be wrong any more.
pub(super) struct Prepared {
    run: Run,
    targets: Vec<Target>,
    input: Stdin,
}

impl Run {
    /// Finds out which hosts are meant, and reads what there is to read. `None` when there is
    /// nothing to run.
    pub(super) async fn prepare(self, setup: &Setup) -> Result<Option<Prepared>, Failure> {
        let targets = self.choice.targets(setup, &self.command, self.stdin)?;
        let text = joined(&self.command);
        if self.dry_run {
            self.show(&targets, &text).await?;
            return Ok(None);
        }
        if let Some(directory) = &self.out {
            std::fs::create_dir_all(directory).map_err(|error| {
                Failure::Usage(format!("cannot make {}: {}", directory.display(), plain(&error)))
            })?;
        }
        let input = if self.stdin { all_of_stdin()? } else { Stdin::Empty };
        Ok(Some(Prepared { run: self, targets, input }))
    }

    /// What would be run, and where.
    async fn show(&self, targets: &[Target], text: &OsStr) -> Result<(), Failure> {
        let labels: Vec<&str> = targets.iter().map(|target| &*target.label).collect();
        if self.json {
            let (command, base64) = text_or_base64(text.as_bytes().to_vec());
            let mut shown = serde_json::json!({ "hosts": labels, "command": command });
            if let Some(base64) = base64 {
                shown["command_base64"] = base64.into();
            }
            return print_json(&shown).await;
        }
        let heading = format!("{} ({}): ", fold(&labels), hosts(labels.len()));
        write([heading.as_bytes(), text.as_bytes(), b"\n"].concat()).await
    }
}

/// Before there is a pool: a signal simply ends the program while it waits for its input.
fn all_of_stdin() -> Result<Stdin, Failure> {
    let mut input = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::io::stdin(), &mut input);
    read.map_err(|error| cannot_read(&error))?;
    Ok(input.into())
}

fn hosts(count: usize) -> String {
    if count == 1 { "1 host".to_owned() } else { format!("{count} hosts") }
}

/// The command for a host.
fn command(runner: &dyn Runner, host: &Host, text: &OsStr) -> Command {
    runner.shell(host, text)
}

impl Prepared {
    /// The host to name when nothing can be run at all.
    pub(super) fn first(&self) -> &str {
        &self.targets[0].label
    }

    pub(super) fn by_user(&self) -> &ByUser {
        &self.run.by_user
    }

    pub(super) async fn run(self, runner: &dyn Runner) -> Result<u8, Failure> {
        let Prepared { run, targets, input } = &self;
        let (on_stdout, on_stderr) =
            (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let colors = (run.color.applies(on_stdout), run.color.applies(on_stderr));
        let state = Arc::new(State::new(targets.iter().map(|target| target.label.clone())));
        let screen = Screen::new(Arc::clone(&state));
        let (stop, stopped) = watch::channel(false);
        let timeout = run.timeout.unwrap_or(runner.defaults().command_timeout);
        let job = Job {
            text: joined(&run.command),
            timeout: (!timeout.is_zero()).then_some(timeout),
            input,
            runner,
            screen: &screen,
            state: &state,
            stop: &stop,
            stopped,
            style: match &run.out {
                _ if run.fold => Style::Fold(Folding::default()),
                _ if run.json => Style::Json,
                Some(directory) => Style::Files(directory),
                None => Style::Lines { colors },
            },
        };
        // A pool of this process listens by itself; for an agent nobody has asked yet.
        signals::end_on_signals().map_err(|error| {
            Failure::Output(format!("cannot handle signals: {}", plain(&error)))
        })?;
        let failure = {
            let work = work(&job, targets, run);
            tokio::select! {
                failure = work => failure,
                never = screen.keep_up() => never,
                never = hear_interrupts(&state, &screen, &stop) => never,
            }
        };
        if signals::is_ending() {
            // What is done now was cut off by us. The handler closes the pool and ends the process.
            return Ok(0);
        }
        screen.clear().await;
        if let Some(failure) = failure {
            return Err(failure);
        }
        if let Style::Fold(folding) = &job.style {
            folding.print(&screen, targets, colors).await?;
        }
        let failed = state.failed();
        if let Some(summary) = state.summary() {
            screen.complain(&summary).await;
        }
        if state.is_interrupted() { Err(Failure::Interrupted) } else { Ok(worst(&failed)) }
    }
}

/// Runs the command everywhere. Gives what ended it all before its end.
async fn work(job: &Job<'_>, targets: &[Target], run: &Run) -> Option<Failure> {
    let mut each = Each::new(targets, run.width, |target| job.run(target));
    let mut stopped = job.stopped.clone();
    let mut failure = None;
    loop {
        let done = tokio::select! {
            done = each.next() => done,
            // The sender is the job's own.
            Ok(_) = stopped.wait_for(|stop| *stop), if !job.state.is_stopped() => {
                job.state.stop();
                each.stop();
                continue;
            }
        };
        let Some((_, end)) = done else { return failure };
        match end {
            Ok(success) => {
                if run.fail_fast && !success && !each.stop().is_empty() {
                    job.state.stop();
                }
            }
            Err(fatal) => failure = failure.or(Some(fatal)),
        }
    }
}

/// The first Ctrl-C shows what is still running, the second one ends it. The third one finds nobody
/// here, and ends us at once.
async fn hear_interrupts<T>(state: &State, screen: &Screen, stop: &watch::Sender<bool>) -> T {
    signals::next_interrupt().await;
    // Before anything is written: whoever presses twice is to be heard twice.
    let second = signals::next_interrupt();
    screen.interrupt(&state.running()).await;
    second.await;
    state.interrupt();
    stop.send_replace(true);
    screen.interrupt(&state.ending()).await;
    std::future::pending().await
}
