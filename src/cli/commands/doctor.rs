//! `sshpool doctor`: finds out what is wrong with a host, and prints it.

use std::io;

use clap::Args;
use tokio::sync::mpsc;

use crate::cli::args::Target;
use crate::cli::failure::{Failure, NOT_RUN, TIMED_OUT};
use crate::cli::output::colour::{self, DIM, GREEN, RED, YELLOW, paint};
use crate::cli::output::{print_json, write};
use crate::cli::setup::Setup;
use crate::doctor::{Finding, Report, Sources, Status, Verdict, duration_text};
use crate::pool::signals;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sshpool doctor web1                    what works, what does not, and what to do about it
  sshpool doctor deploy@192.0.2.7:2222   a host that is in no file
  sshpool doctor --json web1 | jq '.checks[] | select(.status == \"failed\")'
  SSH_POOL_CONNECTION_TIMEOUT_MS=30000 sshpool doctor web1    with more patience")]
pub(in crate::cli) struct Doctor {
    /// Print one JSON object at the end instead of a line for each thing that was looked at
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    target: Target,
}

impl Doctor {
    pub(in crate::cli) async fn run(&self, setup: &Setup) -> Result<u8, Failure> {
        let host = setup.host(&self.target.host)?;
        let doctor = crate::doctor::Doctor::new(&setup.config.pool)
            .and_then(|doctor| doctor.close_on_signals().map(|()| doctor))
            .map_err(|error| Failure::of(host.name(), &error))?;
        let sources = Sources {
            file: setup.file.as_deref(),
            has_host: setup.config.hosts.contains_key(host.name()),
            names_ssh_config: setup.ssh_config.is_some(),
        };
        // At once, and beside the examination: a slow reader does not change what is measured.
        let (sender, found) = mpsc::unbounded_channel();
        let examined = async {
            let mut observe = move |finding: &Finding| drop(sender.send(finding.clone()));
            Ok(doctor.examine(&host, &sources, &mut observe).await)
        };
        let examined = tokio::try_join!(examined, self.show(found));
        doctor.close().await;
        let (report, ()) = examined?;
        unless_ending().await;
        if self.json {
            print_json(&report).await?;
        } else {
            write(conclusion(&report, colour::wanted(&io::stdout()))).await?;
        }
        Ok(match report.verdict {
            Verdict::Works => 0,
            Verdict::TimedOut => TIMED_OUT,
            Verdict::Fails => NOT_RUN,
        })
    }

    async fn show(&self, mut found: mpsc::UnboundedReceiver<Finding>) -> Result<(), Failure> {
        let colours = colour::wanted(&io::stdout());
        while let Some(finding) = found.recv().await {
            unless_ending().await;
            if !self.json {
                write(lines(&finding, colours)).await?;
            }
        }
        Ok(())
    }
}

/// A signal closes the pool, and that is all that would be found then. The handler ends the
/// process.
async fn unless_ending() {
    if signals::is_ending() {
        std::future::pending::<()>().await;
    }
}

/// The last line.
fn conclusion(report: &Report, colours: bool) -> String {
    let (style, text) = match (report.verdict, report.has_advice()) {
        (Verdict::Works, _) if report.facts.account == Some("silent") => {
            (YELLOW, "logged in; whether commands can run was not tried, since no shell answers")
        }
        (Verdict::Works, false) => (GREEN, "commands can run"),
        (Verdict::Works, true) => (YELLOW, "commands can run; see what is not as it should be"),
        (Verdict::TimedOut | Verdict::Fails, _) => (RED, "no command can run"),
    };
    format!("{}\n", paint(style, format_args!("{}: {text}", report.host), colours))
}

/// As wide as the longest name of a check, and as a time.
const CHECKS: usize = "known_hosts".len();
const TIMES: usize = "1234 ms".len();

/// The lines of a finding, with a mark, in columns that are the same for all.
fn lines(finding: &Finding, colours: bool) -> String {
    let (mark, style) = match finding.status {
        Status::Ok => ("ok", GREEN),
        Status::Warning => ("warning", YELLOW),
        Status::Failed => ("failed", RED),
        Status::Skipped => ("-", DIM),
    };
    let mark = paint(style, format_args!("{mark:<7}"), colours);
    let Finding { check, what, why, todo, elapsed, .. } = finding;
    let time = elapsed.map(duration_text).unwrap_or_default();
    let mut lines = format!("{mark}  {check:<CHECKS$}  {time:>TIMES$}  {what}\n");
    let indent = " ".repeat(7 + 2 + CHECKS + 2 + TIMES + 2);
    for (word, text) in [("why: ", why), ("do:  ", todo)] {
        if let Some(text) = text {
            lines += &format!("{indent}{}{text}\n", paint(DIM, word, colours));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_finding_has_a_mark_and_what_to_do() {
        let ok = Finding::ok("ssh", "9.2").took(Duration::from_millis(6));
        assert_eq!(lines(&ok, false), "ok       ssh           6.0 ms  9.2\n");
        assert!(lines(&ok, true).starts_with("\x1b[32mok     \x1b[0m  ssh "));
        let failed = Finding::failed("login", "no\nway").why("because").todo("this");
        let indent = " ".repeat(31);
        let expected = format!(
            "failed   login                 no way\n{indent}why: because\n{indent}do:  this\n"
        );
        assert_eq!(lines(&failed, false), expected);
    }
}
