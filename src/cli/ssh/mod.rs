//! `sshpool ssh`, and this program by the name `ssh`: becomes the real ssh, over a connection of the agent where that is possible.
//!
//! [`words`] reads the command line as ssh does, [`options`] knows what its options are to a shared connection, [`wish`] makes of it the host
//! that the agent is asked for, [`configuration`] looks whether the ssh_config wants what a shared connection has not.
//!
//! Whatever goes wrong on the way, the end is plain ssh with the caller's own words: it fails where ssh fails, and says it as ssh does. The
//! agent is waited for no longer than its login may take, and half of the time that the caller gives a login.

mod configuration;
mod options;
#[cfg(test)]
mod properties;
mod wish;
mod words;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout};

use super::{Failure, NOT_RUN, Setup, complain, fail, stdio};
use crate::error::plain;
use crate::host::Host;
use crate::openssh::{self, Program};
use crate::signals;
use wish::{Why, Wish};
use words::Given;

pub(super) const USAGE: &str = "sshpool [-F FILE] [--config FILE] [--no-agent] [-v] ssh [WHAT SSH TAKES]";
pub(super) const HELP: &str = "Examples:
  sshpool ssh web1
  GIT_SSH_COMMAND='sshpool ssh' git fetch
  rsync -e 'sshpool ssh' -a src/ web1:src/
  ln -s \"$(command -v sshpool)\" /opt/pool/ssh && scp -S /opt/pool/ssh file web1:";

/// Only for the help: what stands behind `ssh` is not read by clap.
#[derive(Debug, Args)]
pub(super) struct Ssh {}

/// The program's own options.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub ssh_config: Option<PathBuf>,
    pub config: Option<PathBuf>,
    pub verbose: bool,
    pub no_agent: bool,
}

/// How long `ssh -G` may take: a configuration can run programs.
const RESOLVING: Duration = Duration::from_secs(5);
/// What the agent may take beyond the time of a login.
const GRACE: Duration = Duration::from_secs(1);

/// Where the word `ssh` stands as a subcommand: with nothing but the program's own options before it.
pub(super) fn place(words: &[OsString]) -> Option<usize> {
    let mut at = 1;
    loop {
        match words.get(at)?.to_str()? {
            "ssh" => return Some(at),
            "--config" => at += 2,
            word if word.starts_with("--") => at += 1,
            // Also behind others of one letter. What stands behind it in the same word is the file, whatever its name ends with.
            word if word.starts_with('-') => at += if word.find('F') == Some(word.len() - 1) { 2 } else { 1 },
            _ => return None,
        }
    }
}

/// Becomes ssh with these words of the caller.
pub(super) fn main(own: Own, words: &[OsString]) -> ExitCode {
    let (given, line) = words::read(words);
    let ssh = Becoming { words, verbose: own.verbose || given.contains(&Given::Flag(b'v')) };
    let line = match line {
        Ok(line) => line,
        // Nothing to do with a host: nothing is read for it.
        Err(why) => return ssh.plain(&[], &why.to_string()),
    };
    let setup = match Setup::new(own.ssh_config, own.config, own.no_agent) {
        Ok(setup) => setup,
        // Without the file it might be somebody else's account. So it is with ssh and its own.
        Err(Failure::Usage(message)) => return fail(message, NOT_RUN),
        Err(_) => return ssh.plain(&[], "the settings cannot be read"),
    };
    let known = |name: &str| {
        let host = setup.config.host(name)?;
        match &setup.ssh_config {
            Some(file) => host.config_file(file),
            None => Ok(host),
        }
    };
    let auth_sock = std::env::var_os("SSH_AUTH_SOCK").map(|path| path.to_string_lossy().into_owned());
    let Wish { host, own, timeout } = match wish::wish(&line, known, auth_sock.as_deref()) {
        Ok(wish) => wish,
        Err(why) => return ssh.plain(&[], &why),
    };
    let more = openssh::of_host(&own);
    let socket = match host {
        _ if !setup.agent => Err("without the agent, as it was asked for".to_owned()),
        Ok(host) => match signals::runtime() {
            Ok(runtime) => {
                let socket = runtime.block_on(connect(&setup, &ssh, &host, &more, timeout));
                runtime.shutdown_background();
                socket
            }
            Err(error) => Err(plain(&error)),
        },
        Err(why) => Err(why),
    };
    match socket {
        Ok(socket) => ssh.over(&socket, &more),
        Err(why) => ssh.plain(&more, &why),
    }
}

/// Has the agent connect, and gives the control socket of the connection, of which a session is held for this process.
async fn connect(
    setup: &Setup,
    ssh: &Becoming<'_>,
    host: &Host,
    more: &[OsString],
    given: Option<Duration>,
) -> Result<PathBuf, Why> {
    let mut limit = given;
    let is_worth_asking = configuration::is_worth_asking(host.get_config_file())
        || host.get_options().any(|(option, _)| configuration::is_of_interest(option));
    if is_worth_asking {
        let program = ssh.program().map_err(|error| error.to_string())?;
        let resolved = program.resolved([more, ssh.words].concat(), Instant::now() + RESOLVING).await;
        let resolved = resolved.ok_or("ssh -G fails")?;
        let has_display = std::env::var_os("DISPLAY").is_some_and(|display| !display.is_empty());
        limit = configuration::look(&resolved, has_display)?.or(limit);
    }
    let client = setup.client(true).map_err(|no| no.to_string())?;
    let patience = client.config().connect_timeout.saturating_add(GRACE);
    // When it cannot connect in this time, ssh may still do it in its own: together it is to be less than twice that.
    let patience = limit.map_or(patience, |limit| patience.min(limit / 2));
    match timeout(patience, client.connect(host, true, false)).await {
        Ok(Ok(connected)) => Ok(connected.control_path),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("the agent has not connected within {patience:?}")),
    }
}

/// The caller's ssh.
struct Becoming<'a> {
    words: &'a [OsString],
    verbose: bool,
}

/// What has become of this process before: its id, and the programs of the name `ssh` that it was, which were not the real one.
const BEEN: &str = "SSHPOOL_SSH";

impl Becoming<'_> {
    fn over(&self, socket: &Path, more: &[OsString]) -> ExitCode {
        self.say(format_args!("ssh goes over {}", socket.display()));
        self.become_it(&[&openssh::over(socket), more])
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
        Program::find_but(|path| been.iter().any(|been| been == path))
            .or_else(|error| if been.is_empty() { Program::at(usual).ok_or(error) } else { Err(error) })
    }

    fn become_it(&self, first: &[&[OsString]]) -> ExitCode {
        let program = match self.program() {
            Ok(program) => program,
            Err(_) => return fail("no ssh is on PATH, other than this program", NOT_RUN),
        };
        let mut been = vec![OsString::from(std::process::id().to_string())];
        been.extend(self::been().into_iter().map(PathBuf::into_os_string));
        been.push(program.path().as_os_str().to_owned());
        let arguments = [&first.concat(), self.words].concat();
        stdio::restore();
        let error = program.become_it(&arguments, &[(BEEN, been.join(":".as_ref()))]);
        fail(format_args!("cannot start {}: {}", program.path().display(), plain(&error)), NOT_RUN)
    }
}

/// The programs that this process was.
fn been() -> Vec<PathBuf> {
    let text = std::env::var_os(BEEN).unwrap_or_default();
    let mut parts = std::env::split_paths(&text);
    match parts.next() {
        Some(pid) if pid == Path::new(&std::process::id().to_string()) => parts.collect(),
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
