//! Asking at the terminal what ssh wants to know; and the program that ssh starts to ask.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::agent::wire::Question;
use crate::error::printable;

/// The terminal that this program was started from.
pub(super) struct Terminal(File);

impl Terminal {
    /// `None` where nobody is there.
    pub(super) fn open() -> Option<Self> {
        // Somebody who has redirected all of it does not look.
        use std::io::IsTerminal;
        if !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal() {
            return None;
        }
        OpenOptions::new().read(true).write(true).open("/dev/tty").ok().map(Terminal)
    }

    /// The answer, without its line break; `None` where there is none.
    pub(super) async fn ask(&mut self, question: &Question) -> Option<String> {
        let mut tty = self.0.try_clone().ok()?;
        let prompt = printable(&question.prompt);
        let hint = question.hint.clone();
        let answer = tokio::task::spawn_blocking(move || {
            if hint.as_deref() == Some("none") {
                // Something is to be done, not to be said.
                let _ = writeln!(tty, "{prompt}");
                return Some(String::new());
            }
            write!(tty, "{prompt} ").ok()?;
            tty.flush().ok()?;
            let shown = hint.as_deref() == Some("confirm") || prompt.contains("yes/no");
            let hidden = if shown { None } else { Hidden::new(&tty) };
            let mut line = String::new();
            let read = BufReader::new(&tty).read_line(&mut line);
            if hidden.is_some() {
                let _ = writeln!(&tty);
            }
            drop(hidden);
            match read {
                Ok(0) | Err(_) => None,
                Ok(_) => Some(line.trim_end_matches(['\n', '\r']).to_owned()),
            }
        });
        answer.await.ok().flatten()
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Hidden<'a> {
    tty: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(tty: &'a File) -> Option<Self> {
        let before = tcgetattr(tty.as_fd()).ok()?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(tty.as_fd(), SetArg::TCSAFLUSH, &quiet).ok()?;
        Some(Hidden { tty, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.tty.as_fd(), SetArg::TCSANOW, &self.before);
    }
}

/// What ssh starts to ask: gives the question to the agent, and the answer to ssh.
pub(super) fn askpass(prompt: String) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.ok().and_then(|runtime| runtime.block_on(crate::agent::client::pass_on(prompt)));
    match answer {
        Some(answer) => {
            let written = std::io::stdout().write_all(format!("{answer}\n").as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        None => ExitCode::FAILURE,
    }
}
