//! Commands as another user of their hosts: the options, and where the password comes from.

use std::io::IsTerminal;
use std::process::Stdio;
use std::sync::Arc;

use clap::Args;
use tokio::process::Command;

use super::ask::Terminal;
use super::failure::Failure;
use crate::agent::protocol::Question;
use crate::command::{Password, Runner, Sudo};
use crate::config::Config;
use crate::pool::signals;
use crate::text::plain;

#[derive(Debug, Args)]
pub(super) struct ByUser {
    /// Run as root, by sudo
    #[arg(long, global = true)]
    sudo: bool,

    /// Run as this user of the host, by sudo
    #[arg(long, value_name = "USER", global = true)]
    sudo_user: Option<String>,

    /// Ask for sudo's password on the terminal, once, and run by sudo. Without this it is what the
    /// password_command in [sudo] of the settings prints, if there is one
    #[arg(short = 'K', long, global = true)]
    ask_sudo_password: bool,
}

impl ByUser {
    /// Who runs the commands as that user.
    pub(super) async fn over(
        &self,
        runner: &dyn Runner,
        config: &Config,
    ) -> Result<Arc<dyn Runner>, Failure> {
        if !self.sudo && self.sudo_user.is_none() && !self.ask_sudo_password {
            return Ok(runner.shared());
        }
        // A signal leaves the terminal as it was, and ends what runs as somebody else.
        signals::end_on_signals().map_err(|error| {
            Failure::Output(format!("cannot handle signals: {}", plain(&error)))
        })?;
        let mut sudo = Sudo::new().reuse(config.sudo.reuse);
        if let Some(user) = &self.sudo_user {
            sudo = sudo.user(user);
        }
        let password = if self.ask_sudo_password {
            Some(ask().await?)
        } else {
            match &config.sudo.password_command {
                Some(words) => Some(told_by(words).await?),
                None => None,
            }
        };
        if let Some(password) = password {
            let password = Password::new(password);
            let password = password.map_err(|error| Failure::Usage(format!("sudo: {error}")))?;
            sudo = sudo.password(password);
        }
        Ok(sudo.over(runner))
    }
}

/// Nobody but root reads the memory of a process that has a password, and it leaves none on the
/// disk when it crashes.
fn close_memory() -> Result<(), Failure> {
    nix::sys::prctl::set_dumpable(false).map_err(|error| {
        Failure::Usage(format!("cannot keep a password from other processes: {error}"))
    })
}

async fn ask() -> Result<Vec<u8>, Failure> {
    close_memory()?;
    let Some(mut terminal) = Terminal::open() else {
        return Err(Failure::Usage(
            "-K asks for the password on a terminal, and there is none: use the password_command \
             in [sudo] of the settings"
                .to_owned(),
        ));
    };
    let question = Question {
        token: String::new(),
        prompt: "sudo's password on the hosts:".to_owned(),
        hint: None,
    };
    let answer = terminal.ask(&question).await;
    answer.map(String::into_bytes).ok_or(Failure::Interrupted)
}

async fn told_by(words: &[String]) -> Result<Vec<u8>, Failure> {
    close_memory()?;
    let name = &words[0];
    let cannot = |why: String| Failure::Usage(format!("sudo.password_command: {name}: {why}"));
    #[expect(clippy::disallowed_methods, reason = "it is the user's program, not ssh")]
    let mut command = Command::new(name);
    // What is piped to us is for the command on the host.
    let stdin = if std::io::stdin().is_terminal() { Stdio::inherit() } else { Stdio::null() };
    command.args(&words[1..]).stdin(stdin).stderr(Stdio::inherit()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| cannot(plain(&error)))?;
    if !output.status.success() {
        return Err(cannot(output.status.to_string()));
    }
    Ok(output.stdout)
}
