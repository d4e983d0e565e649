//! `sshpool ssh`, and this program by the name `ssh`: becomes the real ssh, over a connection of
//! the agent where that is possible.
//!
//! [`words`] reads the command line as ssh does, [`options`] knows what its options are to a shared
//! connection, [`wish`] makes of it the host that the agent is asked for, [`configuration`] looks
//! whether the ssh_config wants what a shared connection has not. A command that has no terminal is
//! [`attended`]: ssh is our child then, and a signal ends the remote command, too.
//!
//! Whatever goes wrong on the way, the end is plain ssh with the caller's own words: it fails where
//! ssh fails, and says it as ssh does. The agent is waited for no longer than its login may take,
//! and half of the time that the caller gives a login.

mod attended;
mod configuration;
mod form;
mod options;
#[cfg(test)]
mod properties;
mod wish;
mod words;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

use crate::agent::wire::Connected;
use crate::cli::failure::{Failure, NOT_RUN, fail};
use crate::cli::output::{complain, stdio};
use crate::cli::setup::Setup;
use crate::host::{Host, HostError};
use crate::openssh::{self, Program};
use crate::pool::signals;
use crate::text::plain;
use attended::Attended;
use configuration::Wanted;
use form::Form;
use wish::{Why, Wish};
use words::{Given, Line, Unknown, Unread};

pub(in crate::cli) const USAGE: &str =
    "sshpool [-F FILE] [--config FILE] [--no-agent] [-v] ssh [WHAT SSH TAKES]";
pub(in crate::cli) const HELP: &str = "Examples:
  sshpool ssh web1
  GIT_SSH_COMMAND='sshpool ssh' git fetch
  rsync -e 'sshpool ssh' -a src/ web1:src/
  ln -s \"$(command -v sshpool)\" /opt/pool/ssh && scp -S /opt/pool/ssh file web1:";

/// Only for the help: what stands behind `ssh` is not read by clap.
#[derive(Debug, Args)]
pub(in crate::cli) struct Ssh {}

/// The program's own options.
#[derive(Debug, Default)]
pub(in crate::cli) struct Own {
    pub ssh_config: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub verbose: bool,
    pub no_agent: bool,
}

/// How long `ssh -G` may take: a configuration can run programs.
const RESOLVING: Duration = Duration::from_secs(5);
/// How long the agent may take to say which connections it has.
const ANSWER: Duration = Duration::from_secs(5);
/// What the agent may take beyond the time of a login.
const GRACE: Duration = Duration::from_secs(1);

/// Where the word `ssh` stands as a subcommand: with nothing but the program's own options before
/// it.
pub(in crate::cli) fn place(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        match words.get(at)?.to_str()? {
            "ssh" => return Some(at),
            "--config" => at += 2,
            word if word.starts_with("--") => at += 1,
            // Also behind others of one letter. What stands behind it in the same word is the file,
            // whatever its name ends with.
            word if word.starts_with('-') => {
                at += if word.find('F') == Some(word.len() - 1) { 2 } else { 1 }
            }
            _ => return None,
        }
    }
}

/// Becomes ssh with these words of the caller.
pub(in crate::cli) fn main(own: Own, words: &[OsString]) -> ExitCode {
    let inherited = attended::inherited();
    let (given, line) = words::read(words);
    let ssh = Becoming {
        words,
        // It comes before what the caller says, and of several files ssh takes the last one.
        file: own
            .ssh_config
            .iter()
            .flat_map(|file| ["-F".into(), file.clone().into_os_string()])
            .collect(),
        verbose: own.verbose || given.contains(&Given::Flag(b'v')),
    };
    if let Err(why @ (Unread::NoDestination | Unread::NoValue(_))) = line {
        // Nothing to do with a host: nothing is read for it.
        return ssh.plain(&ssh.file, &why.to_string());
    }
    let setup = match Setup::new(own.ssh_config, own.config, own.no_agent) {
        Ok(setup) => setup,
        // Without the file it might be somebody else's account. So it is with ssh and its own.
        Err(Failure::Usage(message)) => return fail(message, NOT_RUN),
        Err(_) => return ssh.plain(&ssh.file, "the settings cannot be read"),
    };
    let line = match line {
        Ok(line) => line,
        Err(why) => return ssh.plain(&facts_of_unread(&setup, &ssh), &why.to_string()),
    };
    let auth_sock =
        std::env::var_os("SSH_AUTH_SOCK").map(|path| path.to_string_lossy().into_owned());
    let Wish { host, own, timeout } =
        match wish::wish(&line, |name| known(&setup, name), auth_sock.as_deref()) {
            Ok(wish) => wish,
            Err(why) => return ssh.plain(&ssh.file, &why),
        };
    let more = openssh::of_host(&own);
    let host = match host {
        _ if !setup.agent => Err("without the agent, as it was asked for".to_owned()),
        host => host,
    };
    let host = match host {
        Ok(host) => host,
        Err(why) => return ssh.plain(&more, &why),
    };
    let runtime = match signals::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return ssh.plain(&more, &plain(&error)),
    };
    if let Some(asked) = Asked::of(&line) {
        let masters = runtime.block_on(asked.answer(&setup, &host));
        runtime.shutdown_background();
        return match masters {
            Ok(pids) if !pids.is_empty() => {
                asked.say(&pids);
                ExitCode::SUCCESS
            }
            // Where there is none ssh says so in its own words.
            Ok(_) => ssh.plain(&more, "the agent has no such connection"),
            Err(why) => ssh.plain(&more, &why),
        };
    }
    let over = match runtime.block_on(connect(&setup, &ssh, &host, &more, timeout)) {
        Ok(over) => over,
        Err(why) => {
            runtime.shutdown_background();
            return ssh.plain(&more, &why);
        }
    };
    let socket = over.socket.control_path();
    let command = Form::of(&line, over.wanted).command_without_terminal();
    match command {
        None => {
            runtime.shutdown_background();
            ssh.over(&socket, &more)
        }
        Some(command) => {
            let has_log = line
                .given
                .iter()
                .any(|given| matches!(given, Given::Value(b'E', _) | Given::Flag(b'y')));
            // What is forced is not to run once more, only because it is to be ended.
            let ends = !over.socket.forced;
            let attended = Attended { socket: &socket, command: &command, ends, has_log };
            ssh.attended(runtime, inherited, &attended, &more)
        }
    }
}

/// The host of this name as the TOML file and the program's own options have it.
fn known(setup: &Setup, name: &str) -> Result<Host, HostError> {
    let host = setup.config.host(name)?;
    match &setup.ssh_config {
        Some(file) => host.config_file(file),
        None => Ok(host),
    }
}

/// What ssh is to be told of the host of a line with a letter that is not known. Whether that
/// letter has a value decides which word is the host, and ssh knows it: it is asked where the TOML
/// file says something of one of them.
fn facts_of_unread(setup: &Setup, ssh: &Becoming<'_>) -> Vec<OsString> {
    let readings: Vec<_> = [Unknown::Flag, Unknown::Value]
        .into_iter()
        .filter_map(|unknown| {
            let line = words::read_with(ssh.words, unknown).1.ok()?;
            let own = wish::wish(&line, |name| known(setup, name), None).ok()?.own;
            Some((own.name().to_owned(), openssh::of_host(&own)))
        })
        .collect();
    if readings.iter().all(|(_, facts)| facts.is_empty() || *facts == ssh.file) {
        return ssh.file.clone();
    }
    let (Ok(program), Ok(runtime)) = (ssh.program(), signals::runtime()) else {
        return ssh.file.clone();
    };
    let asked = [&ssh.file[..], ssh.words].concat();
    let resolved = runtime.block_on(program.resolved(asked, Instant::now() + RESOLVING));
    runtime.shutdown_background();
    let host = resolved.as_deref().and_then(configuration::host_of);
    let facts = readings
        .into_iter()
        .find(|(name, _)| host.is_some_and(|host| host.eq_ignore_ascii_case(name)));
    facts.map_or_else(|| ssh.file.clone(), |(_, facts)| facts)
}

/// A question to the master of a connection (`-O`) that the agent can answer.
#[derive(Clone, Copy)]
enum Asked {
    Check,
    Stop,
    Exit,
}

impl Asked {
    fn of(line: &Line<'_>) -> Option<Self> {
        let mut asked = line.given.iter().filter_map(|given| match given {
            Given::Value(b'O', what) => Some(what),
            _ => None,
        });
        match (asked.next()?.to_str()?, asked.next()) {
            ("check", None) => Some(Asked::Check),
            ("stop", None) => Some(Asked::Stop),
            ("exit", None) => Some(Asked::Exit),
            _ => None,
        }
    }

    /// The connections that the caller's next command would use. No agent is started for it.
    async fn answer(self, setup: &Setup, host: &Host) -> Result<Vec<u32>, Why> {
        let client = setup.client(false).map_err(|no| no.to_string())?;
        let retire = !matches!(self, Asked::Check);
        match timeout(ANSWER, client.masters(host, retire)).await {
            Ok(Ok(Ok(masters))) => Ok(masters.pids),
            Ok(Ok(Err(refused))) => Err(refused.error.message),
            Ok(Err(no)) => Err(no.to_string()),
            Err(_) => Err(format!("the agent has not answered within {ANSWER:?}")),
        }
    }

    /// As ssh says it.
    fn say(self, pids: &[u32]) {
        let text = match self {
            Asked::Check => format!("Master running (pid={})\r\n", pids.first().unwrap_or(&0)),
            Asked::Stop => "Stop listening request sent.\r\n".to_owned(),
            Asked::Exit => "Exit request sent.\r\n".to_owned(),
        };
        // Nobody may be there to read it, and the status says the same.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// A connection of the agent, and what ssh's configuration wants of a session on it.
struct Over {
    socket: Connected,
    wanted: Wanted,
}

/// Has the agent connect, and gives the connection, of which a session is held for this process.
async fn connect(
    setup: &Setup,
    ssh: &Becoming<'_>,
    host: &Host,
    more: &[OsString],
    given: Option<Duration>,
) -> Result<Over, Why> {
    let mut wanted = Wanted { limit: given, ..Wanted::default() };
    let is_worth_asking = configuration::is_worth_asking(host.get_config_file())
        || host.get_options().any(|(option, _)| configuration::is_of_interest(option));
    if is_worth_asking {
        let program = ssh.program().map_err(|error| error.to_string())?;
        let resolved =
            program.resolved([more, ssh.words].concat(), Instant::now() + RESOLVING).await;
        let resolved = resolved.ok_or("ssh -G fails")?;
        let has_display = std::env::var_os("DISPLAY").is_some_and(|display| !display.is_empty());
        wanted = configuration::look(&resolved, has_display)?;
        wanted.limit = wanted.limit.or(given);
    }
    let client = setup.client(true).map_err(|no| no.to_string())?;
    let patience = client.config().connect_timeout.saturating_add(GRACE);
    // When it cannot connect in this time, ssh may still do it in its own: together it is to be
    // less than twice that.
    let patience = wanted.limit.map_or(patience, |limit| patience.min(limit / 2));
    match timeout(patience, client.connect(host, true, false)).await {
        Ok(Ok(socket)) => Ok(Over { socket, wanted }),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the agent has not connected within {patience:?}")),
    }
}

/// The caller's ssh.
struct Becoming<'a> {
    words: &'a [OsString],
    /// `-F FILE`, where this program was given one.
    file: Vec<OsString>,
    verbose: bool,
}

/// What has become of this process before: its id, and the programs of the name `ssh` that it was,
/// which were not the real one. A child that is ssh for this process has the id of this one with
/// [`CHILD`] before it.
const BEEN: &str = "SSHPOOL_SSH";
const CHILD: &str = "child-of-";

impl Becoming<'_> {
    fn over(&self, socket: &Path, more: &[OsString]) -> ExitCode {
        self.say(format_args!("ssh goes over {}", socket.display()));
        self.become_it(&[&openssh::over(socket), more])
    }

    /// The same, as a child of ours.
    fn attended(
        &self,
        runtime: Runtime,
        inherited: Vec<OwnedFd>,
        attended: &Attended<'_>,
        more: &[OsString],
    ) -> ExitCode {
        self.say(format_args!("ssh goes over {}", attended.socket.display()));
        let Ok(program) = self.program() else {
            return self.become_it(&[&openssh::over(attended.socket), more]);
        };
        let entered = runtime.enter();
        let log = attended.log();
        drop(entered);
        let arguments =
            [&openssh::over(attended.socket), &log.arguments()[..], more, self.words].concat();
        stdio::restore();
        drop(inherited);
        let code = runtime.block_on(attended.run(
            &program,
            &arguments,
            &Self::environment(&program, CHILD),
            log,
        ));
        runtime.shutdown_background();
        match code {
            Ok(code) => code,
            Err(error) => fail(
                format_args!("cannot start {}: {}", program.path().display(), plain(&error)),
                NOT_RUN,
            ),
        }
    }

    fn plain(&self, more: &[OsString], why: &str) -> ExitCode {
        self.say(format_args!("plain ssh: {why}"));
        self.become_it(&[more])
    }

    fn say(&self, words: std::fmt::Arguments<'_>) {
        if self.verbose {
            complain(words);
        }
    }

    /// The ssh on PATH that is not this program, nor a copy of it that this process was before.
    fn program(&self) -> Result<Program, which::Error> {
        let been = been();
        let usual = Path::new("/usr/bin/ssh");
        Program::find_but(|path| been.iter().any(|been| been == path)).or_else(|error| {
            if been.is_empty() { Program::at(usual).ok_or(error) } else { Err(error) }
        })
    }

    /// What the real ssh has in its environment beyond ours.
    fn environment(program: &Program, before: &str) -> [(&'static str, OsString); 1] {
        let mut been = vec![OsString::from(format!("{before}{}", std::process::id()))];
        been.extend(self::been().into_iter().map(PathBuf::into_os_string));
        been.push(program.path().as_os_str().to_owned());
        [(BEEN, been.join(":".as_ref()))]
    }

    fn become_it(&self, first: &[&[OsString]]) -> ExitCode {
        let program = match self.program() {
            Ok(program) => program,
            Err(_) => return fail("no ssh is on PATH, other than this program", NOT_RUN),
        };
        let arguments = [&first.concat(), self.words].concat();
        stdio::restore();
        let error = program.become_it(&arguments, &Self::environment(&program, ""));
        fail(format_args!("cannot start {}: {}", program.path().display(), plain(&error)), NOT_RUN)
    }
}

/// The programs that this process was.
fn been() -> Vec<PathBuf> {
    let text = std::env::var_os(BEEN).unwrap_or_default();
    let mut parts = std::env::split_paths(&text);
    let own =
        [std::process::id().to_string(), format!("{CHILD}{}", std::os::unix::process::parent_id())];
    match parts.next() {
        Some(id) if own.iter().any(|own| id == Path::new(own)) => parts.collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("sshpool ssh -v web1", Some(1))]
    #[case("sshpool -F ssh ssh web1", Some(3))]
    #[case("sshpool -vF ssh ssh web1", Some(3))]
    #[case("sshpool -F/etc/F ssh web1", Some(2))]
    #[case("sshpool -vF=F ssh web1", Some(2))]
    #[case("sshpool --no-agent -vv --config=x ssh", Some(4))]
    #[case("sshpool exec ssh", None)]
    #[case("sshpool help ssh", None)]
    #[case("sshpool -F", None)]
    #[case("sshpool", None)]
    fn the_place_of_ssh(#[case] line: &str, #[case] expected: Option<usize>) {
        assert_eq!(place(&line.split(' ').map(OsString::from).collect::<Vec<_>>()), expected);
    }
}
