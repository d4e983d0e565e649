//! Asking at the terminal what ssh wants to know; and the program that ssh starts to ask.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard};

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::agent::protocol::Question;
use crate::text::printable;

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

    /// Whether the answer is yes.
    pub(super) async fn agrees(&mut self, prompt: String) -> bool {
        let (token, hint) = (String::new(), Some("confirm".to_owned()));
        let answer = self.ask(&Question { token, prompt, hint }).await.unwrap_or_default();
        matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }

    /// The answer, without its line break; `None` where there is none.
    pub(super) async fn ask(&mut self, question: &Question) -> Option<String> {
        let mut tty = self.0.try_clone().ok()?;
        // A question can have several lines.
        let lines: Vec<_> = question.prompt.trim().lines().map(printable).collect();
        let prompt = lines.join("\n");
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
            drop(hidden);
            match read {
                Ok(0) | Err(_) => None,
                Ok(_) => Some(line.trim_end_matches(['\n', '\r']).to_owned()),
            }
        });
        answer.await.ok().flatten()
    }
}

/// A terminal that does not show what is typed, and how it was before. A std mutex: held to change
/// it.
static HIDDEN: Mutex<Option<(File, Termios)>> = Mutex::new(None);

/// As long as this is there nothing is shown.
struct Hidden;

impl Hidden {
    fn new(tty: &File) -> Option<Self> {
        let before = tcgetattr(tty.as_fd()).ok()?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        let kept = tty.try_clone().ok()?;
        *hidden() = Some((kept, before));
        let this = Hidden;
        tcsetattr(tty.as_fd(), SetArg::TCSAFLUSH, &quiet).ok().map(|()| this)
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        show_again();
    }
}

/// Leaves the terminal as it was, also where a signal ends the program in the middle of an answer.
pub(super) fn show_again() {
    if let Some((mut tty, before)) = hidden().take() {
        let _ = tcsetattr(tty.as_fd(), SetArg::TCSANOW, &before);
        // The line break that was typed was not shown, either.
        let _ = writeln!(tty);
    }
}

fn hidden() -> MutexGuard<'static, Option<(File, Termios)>> {
    // Nothing panics half-way through a change.
    HIDDEN.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// What ssh starts to ask: gives the question to the agent, and the answer to ssh.
pub(super) fn askpass(prompt: String) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime
        .ok()
        .and_then(|runtime| runtime.block_on(crate::agent::client::request::pass_on(prompt)));
    match answer {
        Some(answer) => {
            let written = std::io::stdout().write_all(format!("{answer}\n").as_bytes());
            if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        None => ExitCode::FAILURE,
    }
}
