//! The command line: parses, calls the library, prints.
//!
//! Not part of the library's interface: it is public only so that the program can reach it.

mod advice;
mod agent;
mod ask;
mod bench;
mod colour;
mod completions;
mod compose;
mod connections;
mod delay;
mod doctor;
mod exec;
mod man;
mod many;
mod plot;
mod relay;
mod resources;
mod run;
mod ssh;
mod stdio;
mod table;
mod watched;

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::agent::Client;
use crate::agent::client::NoAgent;
use crate::agent::questions;
use crate::command::Way;
use crate::config::{self, Config, PoolConfig};
use crate::error::{ConnectErrorKind, Error};
use crate::host::Host;
use crate::host::set::{HostSet, HostSetError};
use crate::pool::Pool;
use crate::pool::signals;
use crate::text::{plain, printable};

/// The command timed out, as timeout(1) says it.
const TIMED_OUT: u8 = 124;
/// The command could not be run, as ssh(1) says it.
const NOT_RUN: u8 = 255;
/// Wrong usage or configuration, as clap says it.
const USAGE: u8 = 2;
/// Whoever read our output has gone away, as a shell says it of a program that SIGPIPE ended.
const NOBODY_READS: u8 = 128 + 13;
/// Ctrl-C, as a shell says it of a program that SIGINT ended.
const INTERRUPTED: u8 = 128 + 2;

/// Keeps authenticated OpenSSH connections open and runs commands over them.
#[derive(Debug, Parser)]
#[command(name = "sshpool", version, max_term_width = 100)]
struct Cli {
    /// Use this ssh_config instead of the user's and the system's
    #[arg(short = 'F', value_name = "FILE", global = true)]
    ssh_config: Option<PathBuf>,

    /// Read settings and hosts from this TOML file [default: sshpool/config.toml in the user's
    /// configuration directory]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// Write a log to stderr; twice for details
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,

    /// Keep no connection for the next command: do without the agent
    #[arg(long, global = true)]
    no_agent: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command on a host
    ///
    /// The words are joined by spaces and given to the remote shell, as ssh does. There is no
    /// terminal. The exit status is the command's own; 124 when it timed out; 255 when it could not
    /// be run, a signal killed it, its connection was lost or it wrote more than --max-output; 141
    /// when whoever read the output has gone away; 2 for wrong usage or configuration. After SIGINT
    /// and SIGTERM the connection is closed, and then this program ends as by that signal.
    Exec(exec::Exec),
    /// Run a command on many hosts
    ///
    /// The words are joined by spaces and given to the remote shells, as ssh does. There is no
    /// terminal. Each line comes with its host before it, as soon as it is there. What failed is
    /// summed up at the end. The first Ctrl-C shows what is still running, the second one ends it,
    /// here and there.
    #[command(override_usage = run::USAGE, after_help = run::HELP)]
    Run(run::Run),
    /// Look at Docker Compose projects on hosts, and change them
    ///
    /// Runs `docker compose` there. The exit status is its own; 255 when it could not be run, and
    /// for ls and ps when some host did not answer.
    Compose(compose::Compose),
    /// Show CPU, memory and disks of hosts
    ///
    /// The exit status is 255 when some host did not answer, 124 when the worst was a timeout.
    Resources(resources::Resources),
    /// Connect to hosts now, so that the next commands find a connection
    ///
    /// On a terminal it asks what ssh asks: passwords, one-time codes, passphrases, unknown host
    /// keys. Afterwards nothing is asked until the connection ends. The exit status is 255 when
    /// some host could not be connected to.
    Warm(connections::Warm),
    /// Show the connections that the agent keeps
    Status(connections::Status),
    /// Close connections
    ///
    /// Commands that run on them have 5 seconds to finish.
    Close(connections::Close),
    /// Print the agent's statistics as Prometheus reads them
    Metrics,
    /// Run the agent in the foreground, or stop it
    ///
    /// The agent is one background process of a user that keeps the connections of all commands.
    /// The first command that needs it starts it, and it ends when it has had no client and no
    /// connection for its idle time. Programs in any language can use it by HTTP over its Unix
    /// socket.
    Agent(agent::Agent),
    /// Be ssh, over a connection of the agent
    ///
    /// Takes what ssh takes and does what ssh does, with a terminal where ssh has one; the options
    /// of this program stand before the word ssh. What cannot go over a shared connection, such as
    /// forwards of ports, is left to plain ssh. So is everything where there is no agent, where a
    /// password has to be asked, and where the agent cannot connect; -v says so. A link of the name
    /// ssh to this program does the same, for programs that take a path.
    #[command(disable_help_flag = true, override_usage = ssh::USAGE, after_help = ssh::HELP)]
    Ssh(ssh::Ssh),
    /// Measure a command through the pool against plain ssh
    ///
    /// The command is `true`, which does nothing. It is run by plain ssh with a login each time, by
    /// the pool, and by a pool that opens no session ahead of need (standby_sessions = 0), in
    /// turns: with a pause before each command, and by the pools also tight, one directly after
    /// another. With many logins at once a real server may drop some (MaxStartups) or ban this
    /// machine (fail2ban). The exit status is 1 when some run failed, 255 when no login was
    /// possible, 2 for wrong usage.
    Bench(bench::Bench),
    /// Find out what is wrong with a host, or that nothing is
    ///
    /// Looks at ssh, its configuration for this host, keys, agent and known hosts, logs in once as
    /// any command does, with the time of each step, and sees what the account and the server are
    /// like. It says what is wrong, why, and what to do about it. Nothing secret is shown. The exit
    /// status is 0 when commands can run, 255 when not, 124 when that is because the time ran out
    /// (connect_timeout), 2 for wrong usage or configuration.
    Doctor(doctor::Doctor),
    /// Print a script that completes command lines, for bash, zsh or fish
    ///
    /// It completes subcommands, options, files, and hosts and groups from the TOML file and the
    /// ssh_config.
    Completions(completions::Completions),
    /// Print or write the man pages
    Man(man::Man),
}

/// Where to.
#[derive(Debug, Args)]
struct Target {
    /// [user@]HOST[:port], where HOST is a name from the [hosts] of the TOML file, an alias of the
    /// ssh_config, or a name or address
    #[arg(value_name = "HOST")]
    host: String,
}

/// What a command of the program needs: the pool, and the host that was meant.
struct Session {
    pool: Pool,
    host: Host,
}

/// How the program ends when it does not end well.
enum Failure {
    /// One line, and the status 2.
    Usage(String),
    /// One line that names the host, and a status.
    Host { host: String, text: String, status: u8 },
    /// One line, and the status 255: what ran may well have done its work.
    Output(String),
    /// Nothing to say: nobody listens.
    NobodyReads,
    /// As by SIGINT; all is said.
    Interrupted,
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if completions::answer(&words) {
        return ExitCode::SUCCESS;
    }
    let name = words.first().and_then(|word| std::path::Path::new(word).file_name());
    if name == Some(questions::PROGRAM.as_ref()) {
        return ask::askpass(
            words.get(1).map_or_else(String::new, |word| word.to_string_lossy().into_owned()),
        );
    }
    if name == Some("ssh".as_ref()) {
        return ssh::main(ssh::Own::default(), &words[1..]);
    }
    // What stands behind `ssh` is for nobody but that.
    let end = ssh::place(&words).map_or(words.len(), |place| place + 1);
    let cli = advice::parse(&words[..end]).unwrap_or_else(|error| error.exit());
    log_to_stderr(match &cli.command {
        Command::Agent(agent) => agent.verbosity(cli.verbose),
        _ => cli.verbose,
    });
    if let Command::Ssh(_) = cli.command {
        let Cli { ssh_config, config, verbose, no_agent, .. } = cli;
        return ssh::main(
            ssh::Own { ssh_config, config, verbose: verbose > 0, no_agent },
            &words[end..],
        );
    }
    stdio::make_blocking();
    signals::at_the_end(leave);
    let code = run_to_the_end(cli);
    stdio::restore();
    code
}

/// Just before a signal ends the program.
fn leave() {
    ask::show_again();
    run::leave();
    stdio::restore();
}

fn run_to_the_end(cli: Cli) -> ExitCode {
    let runtime = match signals::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("cannot start: {}", plain(&error)), NOT_RUN),
    };
    let result = runtime.block_on(run(cli));
    // A read of our stdin may still wait for a line that nobody will type.
    runtime.shutdown_background();
    match result {
        Ok(status) => ExitCode::from(status),
        Err(Failure::Usage(message)) => fail(one_line(&message), USAGE),
        Err(Failure::Output(message)) => fail(one_line(&message), NOT_RUN),
        Err(Failure::NobodyReads) => ExitCode::from(NOBODY_READS),
        Err(Failure::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(Failure::Host { host, text, status }) => {
            fail(one_line(&format!("{host}: {text}")), status)
        }
    }
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    let Cli { ssh_config, config, no_agent, command, .. } = cli;
    let command = match command {
        // What they print does not depend on any settings.
        Command::Completions(completions) => return completions.run().await,
        Command::Man(man) => return man.run().await,
        command => command,
    };
    let piped = ssh_config.as_deref().map(from_a_pipe).transpose()?.flatten();
    let setup = match &piped {
        None => Setup::new(ssh_config, config, no_agent)?,
        Some(copy) => {
            // The next command has another one, and the agent could not read this one again.
            tracing::info!("the ssh_config comes from a pipe: a pool of this command's own");
            Setup::new(Some(copy.path().to_owned()), config, true)?
        }
    };
    let (way, result) = match command {
        Command::Exec(exec) => {
            let host = setup.host(&exec.target.host)?;
            let way = setup.way(host.name(), false).await?;
            let result = exec.run(&way, &host).await;
            (way, result)
        }
        Command::Run(run) => {
            let Some(fleet) = run.prepare(&setup).await? else { return Ok(0) };
            let way = setup.way(fleet.first(), false).await?;
            let result = fleet.run(&way).await;
            (way, result)
        }
        Command::Compose(compose) => {
            let (way, hosts) = setup.open_all(compose.hosts(), false).await?;
            let result = compose.run(&way, &hosts).await;
            (way, result)
        }
        Command::Resources(resources) => {
            let (way, hosts) = setup.open_all(resources.hosts(), resources.watches()).await?;
            let result = resources.run(&way, &hosts).await;
            (way, result)
        }
        Command::Doctor(doctor) => return doctor.run(&setup).await,
        Command::Completions(_) | Command::Man(_) => unreachable!("they have returned"),
        Command::Bench(bench) => {
            let session = setup.open(&bench.target, true)?;
            let result = bench.run(&session).await;
            (Way::Pool(session.pool), result)
        }
        Command::Warm(warm) => return warm.run(&setup).await,
        Command::Status(status) => return status.run(&setup).await,
        Command::Close(close) => return close.run(&setup).await,
        Command::Metrics => return connections::metrics(&setup).await,
        Command::Agent(agent) => return agent.run(&setup).await,
        Command::Ssh(_) => unreachable!("it does not come here"),
    };
    if signals::is_ending() {
        // The handler closes the pool and ends the process by the signal.
        std::future::pending::<()>().await;
    }
    if let Way::Pool(pool) = way {
        // Nothing of ours runs any more, unless it was given up.
        pool.close_within(Duration::ZERO).await;
    }
    if let Err(Failure::Interrupted) = result {
        signals::end_as_by(nix::sys::signal::Signal::SIGINT);
    }
    result
}

/// A copy of an ssh_config that can be read only once. ssh is asked for it several times.
fn from_a_pipe(file: &std::path::Path) -> Result<Option<tempfile::NamedTempFile>, Failure> {
    use std::io::Read;
    use std::os::unix::fs::FileTypeExt;
    const MOST: u64 = 4 << 20;
    let kind = match std::fs::metadata(file) {
        Ok(found) => found.file_type(),
        // Whoever opens it says why that cannot be done.
        Err(_) => return Ok(None),
    };
    if !(kind.is_fifo() || kind.is_socket() || kind.is_char_device())
        || file == std::path::Path::new("/dev/null")
    {
        return Ok(None);
    }
    let cannot =
        |error: std::io::Error| Failure::Usage(format!("-F {}: {}", file.display(), plain(&error)));
    let mut copy = tempfile::Builder::new().prefix("sshpool-config-").tempfile().map_err(cannot)?;
    let mut from = std::fs::File::open(file).map_err(cannot)?.take(MOST + 1);
    if std::io::copy(&mut from, &mut copy).map_err(cannot)? > MOST {
        return Err(Failure::Usage(format!("-F {}: more than {MOST} bytes", file.display())));
    }
    Ok(Some(copy))
}

/// What the user has set.
struct Setup {
    ssh_config: Option<PathBuf>,
    /// The TOML file that was named.
    named: Option<PathBuf>,
    /// Where the TOML file is, or would be.
    file: Option<PathBuf>,
    config: Config,
    agent: bool,
}

impl Setup {
    fn new(
        ssh_config: Option<PathBuf>,
        named: Option<PathBuf>,
        no_agent: bool,
    ) -> Result<Self, Failure> {
        let (file, config) = load(named.clone())?;
        let agent = match std::env::var_os("SSHPOOL_AGENT") {
            None => true,
            Some(value) if value == "on" => true,
            Some(value) if value == "off" => false,
            Some(value) => {
                return Err(Failure::Usage(format!(
                    "environment variable SSHPOOL_AGENT: {value:?} is not valid: expected on or off"
                )));
            }
        };
        Ok(Setup { ssh_config, named, file, config, agent: agent && !no_agent })
    }

    /// The agent, started if it is to be. `Err` says why there is none.
    fn client(&self, start: bool) -> Result<Client, NoAgent> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).into_os_string()
        };
        let arguments = || {
            let mut arguments = Vec::new();
            // An agent's own idea of where the file is may be another one.
            let default = || self.file.as_ref().filter(|file| file.exists());
            if let Some(file) = self.named.as_ref().or_else(default) {
                arguments.extend(["--config".into(), absolute(file)]);
            }
            if let Some(file) = &self.ssh_config {
                arguments.extend(["-F".into(), absolute(file)]);
            }
            arguments
        };
        Client::new(&self.config.pool, start.then(arguments))
    }

    fn has_agent(&self) -> bool {
        self.agent
    }

    /// Who runs the commands: the agent; or a pool in this process, where the user does not want an
    /// agent or where there can be none. `host` is the one to name when that fails.
    async fn way(&self, host: &str, more: bool) -> Result<Way, Failure> {
        if !self.agent {
            return Ok(Way::Pool(self.pool(host, more)?));
        }
        let client = match self.client(true) {
            // The agent has an idea of its own of where ssh is, for those who say nothing of it.
            Ok(client) if std::env::var_os("PATH").is_some() && !client.has_ssh() => {
                return Err(Failure::of(host, &Error::SshNotFound));
            }
            Ok(client) => client.reach().await.map(|()| client),
            Err(no) => Err(no),
        };
        match client {
            Ok(client) => {
                if stdio::is_changed() {
                    let heard = signals::end_on_signals();
                    heard.map_err(|error| {
                        Failure::Output(format!("cannot handle signals: {}", plain(&error)))
                    })?;
                }
                Ok(Way::Agent(Arc::new(client)))
            }
            Err(NoAgent::Elsewhere) => {
                tracing::info!("{}: a pool of this command's own", NoAgent::Elsewhere);
                Ok(Way::Pool(self.pool(host, more)?))
            }
            Err(no) => {
                complain(format_args!(
                    "the connection is not kept for the next command: {no} (--no-agent does without)"
                ));
                Ok(Way::Pool(self.pool(host, more)?))
            }
        }
    }

    fn open(&self, target: &Target, more: bool) -> Result<Session, Failure> {
        let host = self.host(&target.host)?;
        Ok(Session { pool: self.pool(host.name(), more)?, host })
    }

    /// One way for several hosts; there is at least one.
    async fn open_all<'a>(
        &self,
        names: impl Iterator<Item = &'a str>,
        more: bool,
    ) -> Result<(Way, Vec<Host>), Failure> {
        let hosts = names.map(|name| self.host(name)).collect::<Result<Vec<_>, _>>()?;
        Ok((self.way(hosts[0].name(), more).await?, hosts))
    }

    /// What ssh would take. Where the configuration file has a host of that name, it is that one,
    /// with the user and the port that are said here put over its own.
    fn host(&self, text: &str) -> Result<Host, Failure> {
        let host = self.config.host(text);
        let host = match &self.ssh_config {
            Some(file) => host.and_then(|host: Host| host.config_file(file)),
            None => host,
        };
        host.map_err(|error| Failure::Usage(error.to_string()))
    }

    /// What these words name, each once: hosts, ranges and groups.
    fn host_set(&self, words: &[String]) -> Result<HostSet, Failure> {
        let usage = |error: HostSetError| Failure::Usage(error.to_string());
        let mut set = HostSet::new();
        for word in words {
            set.add(&self.config.host_set(word).map_err(usage)?).map_err(usage)?;
        }
        Ok(set)
    }

    /// The hosts among them. A word without any is told as the name that it is not.
    fn hosts(&self, words: &[String]) -> Result<Vec<Host>, Failure> {
        if let Some(empty) = words.iter().find(|word| word.trim_matches([',', ' ']).is_empty()) {
            self.host(empty)?;
            return Err(Failure::Usage(format!("invalid host name {empty:?}: it names no host")));
        }
        self.host_set(words)?.iter().map(|name| self.host(name)).collect()
    }

    /// The pool for it all. `host` is the one to name when that fails. Sessions are opened ahead of
    /// need where more commands come.
    fn pool(&self, host: &str, more: bool) -> Result<Pool, Failure> {
        let config = self.config.pool.clone();
        Pool::new(if more { config } else { PoolConfig { standby_sessions: 0, ..config } })
            .and_then(|pool| pool.close_on_signals().map(|()| pool))
            .map_err(|error| Failure::of(host, &error))
    }
}

impl Session {
    fn failure(&self, error: Error) -> Failure {
        Failure::of(self.host.name(), &error)
    }
}

/// The words of a command, joined by blanks as ssh does.
fn joined(words: &[OsString]) -> OsString {
    words.join(OsStr::new(" "))
}

/// A word that has to be text.
fn text_of<'a>(what: &str, word: &'a OsStr) -> Result<&'a str, Failure> {
    let shown = || crate::host::shortened(&format!("{word:?}"));
    word.to_str()
        .ok_or_else(|| Failure::Usage(format!("{} is not UTF-8, as {what} has to be", shown())))
}

/// The file that was named, or the one in the user's configuration directory if there is one; then
/// the environment.
fn load(named: Option<PathBuf>) -> Result<(Option<PathBuf>, Config), Failure> {
    let must_be_there = named.is_some();
    let file = named.or_else(default_config);
    let usage = |error: config::ConfigError| Failure::Usage(error.to_string());
    let mut config = match &file {
        Some(file) if must_be_there || !matches!(file.try_exists(), Ok(false)) => {
            Config::load(file).map_err(usage)?
        }
        _ => Config::default(),
    };
    config.pool.apply_env().map_err(usage)?;
    Ok((file, config))
}

/// `$XDG_CONFIG_HOME/sshpool/config.toml`, or below `~/.config`.
fn default_config() -> Option<PathBuf> {
    let directory = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".config")))?;
    Some(directory.join("sshpool/config.toml"))
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

impl Failure {
    fn of(host: &str, error: &Error) -> Self {
        Failure::Host { host: host.to_owned(), text: told(error, host), status: status_of(error) }
    }

    /// Tells, if it is the time limit that was reached, what sets that.
    fn limited_by(self, setting: &str) -> Self {
        match self {
            Failure::Host { host, text, status: TIMED_OUT } => {
                Failure::Host { host, text: format!("{text} ({setting})"), status: TIMED_OUT }
            }
            other => other,
        }
    }

    fn of_host(host: &Host, error: &impl Display, status: u8) -> Self {
        let host = host.name().to_owned();
        Failure::Host { text: without_host(error, &host), host, status }
    }
}

fn status_of(error: &Error) -> u8 {
    if matches!(error, Error::TimedOut { .. }) { TIMED_OUT } else { NOT_RUN }
}

fn fail(message: impl Display, status: u8) -> ExitCode {
    complain(message);
    ExitCode::from(status)
}

/// A message without what a terminal or a reader of lines takes for more than letters, whatever
/// names and values are in it. Of one that is too long the beginning and the end are left.
fn one_line(message: &str) -> String {
    const LONGEST: usize = 4000;
    let line = printable(message);
    let place = |nth: usize| line.char_indices().nth(nth).map(|(at, _)| at);
    let last = line.char_indices().rev().nth(LONGEST / 2).map(|(at, _)| at);
    match (place(LONGEST), place(LONGEST / 2), last) {
        (Some(_), Some(head), Some(tail)) => format!("{}…{}", &line[..head], &line[tail..]),
        _ => line,
    }
}

/// How long it is tried to tell what was wrong.
const COMPLAINT: Duration = Duration::from_secs(1);

/// One line on stderr.
fn complain(message: impl Display) {
    // What ends while we end is ended by us.
    if !signals::is_ending() {
        tell(format!("sshpool: {message}\n"));
    }
}

/// Writes to stderr, if that takes it.
fn tell(line: String) {
    use std::io::Write;
    // A pipe that is full and that nobody reads would keep us for ever. When it cannot be written
    // there is nobody left to tell.
    let (written, done) = std::sync::mpsc::channel();
    let write = {
        let line = line.clone();
        move || {
            let _ = std::io::stderr().write_all(line.as_bytes());
            let _ = written.send(());
        }
    };
    match std::thread::Builder::new().spawn(write) {
        Ok(_) => drop(done.recv_timeout(COMPLAINT)),
        Err(_) => drop(std::io::stderr().write_all(line.as_bytes())),
    }
}

/// One object on stdout.
async fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).expect("the reports have text keys and finite numbers");
    print(&text).await
}

/// A line on stdout.
async fn print(text: &str) -> Result<(), Failure> {
    write(format!("{text}\n")).await
}

/// Writes to stdout. Signals are heard meanwhile: whoever is to read may never do so.
async fn write(text: impl Into<Vec<u8>>) -> Result<(), Failure> {
    use tokio::io::AsyncWriteExt;
    let mut stdout = tokio::io::stdout();
    let written = async {
        stdout.write_all(&text.into()).await?;
        stdout.flush().await
    };
    written.await.map_err(|error| cannot_print(&error))
}

fn cannot_read(error: &std::io::Error) -> Failure {
    Failure::Usage(format!("cannot read stdin: {}", plain(error)))
}

fn cannot_print(error: &std::io::Error) -> Failure {
    cannot_write("stdout", error)
}

fn cannot_write(stream: &str, error: &std::io::Error) -> Failure {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Failure::NobodyReads,
        _ => Failure::Output(format!("cannot write to {stream}: {}", plain(error))),
    }
}

/// The error, and what a user of the program can look at that a caller of the library may not have.
fn told(error: &Error, host: &str) -> String {
    let text = without_host(error, host);
    match error {
        // Where one of the files has an address for the host, it is that which cannot be resolved.
        Error::Connect { source, .. }
            if source.kind() == ConnectErrorKind::Name
                && text.contains(&format!(" hostname {host}:")) =>
        {
            format!(
                "{text} (neither [hosts] of the TOML file nor the ssh_config has an address for \"{host}\")"
            )
        }
        _ => text,
    }
}

/// Most errors name their host by themselves; once is enough.
fn without_host(error: &impl Display, host: &str) -> String {
    let text = error.to_string();
    text.strip_prefix(host).and_then(|text| text.strip_prefix(": ")).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    mod delay;
    mod plot;
    mod words;
}
