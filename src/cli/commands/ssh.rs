//! `sshpool ssh`, and this program by the name `ssh`: becomes the real ssh, over a connection of
//! the agent where that is possible.

use std::ffi::OsString;
use std::fmt::Display;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::cli::failure::{Failure, NOT_RUN, fail};
use crate::cli::output::complain;
use crate::cli::setup::Setup;
use crate::dropin::{
    Ending, Forwarding, Invocation, Plain, Question, RealSsh, Request, Route, Settings, Shared,
};
use crate::pool::signals;
use crate::text::plain;

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
    let inherited = inherited();
    let Own { ssh_config, config, verbose, no_agent } = own;
    let invocation = Invocation::parse(words, ssh_config.as_deref());
    let caller = Caller { words, verbose: verbose || invocation.is_verbose() };
    if let Some(plain) = invocation.without_host() {
        return caller.plain(plain);
    }
    let setup = match Setup::new(ssh_config.clone(), config, no_agent) {
        Ok(setup) => setup,
        // Without the file it might be somebody else's account. So it is with ssh and its own.
        Err(Failure::Usage(message)) => return fail(message, NOT_RUN),
        Err(_) => return caller.plain(invocation.plain("the settings cannot be read")),
    };
    let auth_sock = std::env::var_os("SSH_AUTH_SOCK");
    let auth_sock = auth_sock.as_ref().map(|path| path.to_string_lossy());
    let settings = Settings {
        config: &setup.config,
        agent: setup.has_agent(),
        auth_sock: auth_sock.as_deref(),
    };
    match invocation.route(&settings) {
        Route::Plain(plain) => caller.plain(plain),
        Route::Unclear(unclear) => caller.plain(match signals::runtime() {
            Ok(runtime) => {
                let plain = runtime.block_on(unclear.settle());
                runtime.shutdown_background();
                plain
            }
            Err(_) => unclear.unsettled(),
        }),
        Route::Agent(request) => match (request.question(), request.forwards()) {
            (Some(question), _) => caller.ask(&setup, *request, question),
            (None, Some(forwarding)) => caller.forward(&setup, *request, &forwarding),
            (None, None) => caller.connect(&setup, *request, inherited),
        },
    }
}

/// Who calls ssh.
struct Caller<'a> {
    words: &'a [OsString],
    verbose: bool,
}

impl Caller<'_> {
    fn ask(&self, setup: &Setup, request: Request<'_>, question: Question) -> ExitCode {
        let runtime = match signals::runtime() {
            Ok(runtime) => runtime,
            Err(error) => return self.plain(request.plain(plain(&error))),
        };
        // No agent is started for it. Where there is no connection ssh says so in its own words.
        let masters = match setup.client(false) {
            Ok(client) => runtime.block_on(request.masters(question, &client)),
            Err(no) => Err(no.to_string()),
        };
        runtime.shutdown_background();
        match masters {
            Ok(masters) => {
                // Nobody may be there to read it, and the status says the same.
                let _ = std::io::stderr().write_all(question.answer(&masters).as_bytes());
                ExitCode::SUCCESS
            }
            Err(reason) => self.plain(request.plain(reason)),
        }
    }

    fn forward(&self, setup: &Setup, request: Request<'_>, forwarding: &Forwarding) -> ExitCode {
        let runtime = match signals::runtime() {
            Ok(runtime) => runtime,
            Err(error) => return self.plain(request.plain(plain(&error))),
        };
        let forwards = match setup.client(true) {
            Ok(client) => runtime.block_on(request.forward(forwarding, &client)),
            Err(no) => Err(no.to_string()),
        };
        let forwards = match forwards {
            Ok(forwards) => forwards,
            Err(reason) => {
                runtime.shutdown_background();
                return self.plain(request.plain(reason));
            }
        };
        self.say("the agent forwards");
        let code = runtime.block_on(forwards.ended());
        runtime.shutdown_background();
        ExitCode::from(code)
    }

    fn connect(&self, setup: &Setup, request: Request<'_>, inherited: Vec<OwnedFd>) -> ExitCode {
        let runtime = match signals::runtime() {
            Ok(runtime) => runtime,
            Err(error) => return self.plain(request.plain(plain(&error))),
        };
        let shared = match setup.client(true) {
            Ok(client) => runtime.block_on(request.connect(&client)),
            Err(no) => Err(no.to_string()),
        };
        let shared = match shared {
            Ok(shared) => shared,
            Err(reason) => {
                runtime.shutdown_background();
                return self.plain(request.plain(reason));
            }
        };
        self.say(format_args!("ssh goes over {}", shared.socket.display()));
        if !shared.is_supervised() {
            runtime.shutdown_background();
            return become_ssh(&shared.arguments());
        }
        drop(inherited);
        let code = supervise(&runtime, &shared);
        runtime.shutdown_background();
        code
    }

    fn plain(&self, plain: Plain) -> ExitCode {
        self.say(format_args!("plain ssh: {}", plain.reason));
        become_ssh(&[&plain.arguments, self.words].concat())
    }

    fn say(&self, words: impl Display) {
        if self.verbose {
            complain(words);
        }
    }
}

fn supervise(runtime: &tokio::runtime::Runtime, shared: &Shared) -> ExitCode {
    let Ok(ssh) = RealSsh::find() else { return no_ssh() };
    match runtime.block_on(shared.supervise(&ssh)) {
        Ok(Ending::Exited(code)) => ExitCode::from(code),
        // As ssh says it.
        Ok(Ending::Interrupted) => ExitCode::from(NOT_RUN),
        Ok(Ending::Killed(signal)) => signals::end_as_by(signal),
        Err(error) => cannot_start(&ssh, &error),
    }
}

fn become_ssh(arguments: &[OsString]) -> ExitCode {
    let Ok(ssh) = RealSsh::find() else { return no_ssh() };
    let error = ssh.exec(arguments);
    cannot_start(&ssh, &error)
}

fn no_ssh() -> ExitCode {
    fail("no ssh is on PATH, other than this program", NOT_RUN)
}

fn cannot_start(ssh: &RealSsh, error: &std::io::Error) -> ExitCode {
    fail(format_args!("cannot start {}: {}", ssh.path().display(), plain(error)), NOT_RUN)
}

/// The descriptors beyond the standard ones that this process was started with. ssh closes them at
/// its start, and whoever waits for their ends waits for us.
fn inherited() -> Vec<OwnedFd> {
    let Ok(listed) = std::fs::read_dir("/dev/fd") else { return Vec::new() };
    let numbers: Vec<RawFd> =
        listed.flatten().filter_map(|file| file.file_name().to_str()?.parse().ok()).collect();
    let is_open = |number: &RawFd| {
        // SAFETY: it looks at a number, which need not be a descriptor.
        *number > 2 && unsafe { nix::libc::fcntl(*number, nix::libc::F_GETFD) } >= 0
    };
    // That of the list itself is closed by now.
    // SAFETY: nothing was opened by this process before, so these are nobody else's.
    numbers
        .into_iter()
        .filter(is_open)
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
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
