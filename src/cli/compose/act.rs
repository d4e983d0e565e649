//! Actions: on one host every byte as it comes, on several in lines with their host before them.

use std::num::NonZeroUsize;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use super::{FAILED, failure};
use crate::cli::ask::Terminal;
use crate::cli::failure::{Failure, cannot_write};
use crate::cli::output::complain;
use crate::cli::relay::{exit_code, killed, relay};
use crate::cli::run::Lines;
use crate::docker::{Action, ComposeError};
use crate::fleet::Each;
use crate::host::Host;
use crate::host::set::fold;

/// How many hosts have an action at once. One that is followed has to have all of them.
const WIDTH: NonZeroUsize = NonZeroUsize::new(16).expect("it is not 0");
/// How much of the end of stderr is kept, to say why it failed.
const LAST_WORDS: usize = 64 * 1024;

/// Runs them, and gives the status to end with.
pub(super) async fn act(actions: &[(&Host, Action)], yes: bool) -> Result<u8, Failure> {
    if let [(host, action)] = actions {
        return on_one(host, action).await;
    }
    if !yes && !actions.iter().all(|(_, action)| action.only_looks()) && !is_wanted(actions).await?
    {
        complain("nothing was done");
        return Ok(FAILED);
    }
    let goes_on = actions.iter().any(|(_, action)| action.goes_on());
    let width = NonZeroUsize::new(actions.len()).filter(|_| goes_on).unwrap_or(WIDTH);
    let place = Mutex::new(());
    let mut each = Each::new(actions, width, |(host, action)| in_lines(host, action, &place));
    let mut worst = 0;
    while let Some(((host, _), status)) = each.next().await {
        match status {
            Ok(status) => worst = worst.max(status),
            Err(Failure::Host { text, status, .. }) => {
                complain(format_args!("{}: {text}", host.name()));
                worst = worst.max(status);
            }
            // Nobody reads, for one: the others are ended with this.
            Err(other) => return Err(other),
        }
    }
    Ok(worst)
}

async fn on_one(host: &Host, action: &Action) -> Result<u8, Failure> {
    let failure = |error: ComposeError| failure(host, &error);
    let child = action.spawn().await.map_err(failure)?;
    let relayed = relay(child, host.name(), usize::MAX).await;
    let relayed = relayed.map_err(|failure| failure.limited_by("--timeout"))?;
    let status = relayed.exit_code(host.name());
    match action.verdict(relayed.status, relayed.no_stdout, &relayed.last_words).await {
        // Its own words are there to be read already.
        Ok(()) | Err(ComposeError::Failed { .. }) => Ok(status),
        Err(error) => {
            Err(Failure::of_host(host, &error, if status == 0 { FAILED } else { status }))
        }
    }
}

/// Says what would be done, and asks whether it is to be.
async fn is_wanted(actions: &[(&Host, Action)]) -> Result<bool, Failure> {
    let Some(mut terminal) = Terminal::open() else {
        let what = actions.first().map(|(_, action)| action.told()).unwrap_or_default();
        let hosts = fold(actions.iter().map(|(host, _)| host.name()));
        let count = actions.len();
        return Err(Failure::Usage(format!(
            "{what} on {count} hosts ({hosts}): --yes does it, and there is no terminal to ask on"
        )));
    };
    let lines =
        actions.iter().map(|(host, action)| format!("{}: {}\n", host.name(), action.told()));
    let prompt = format!("{}Do this on {} hosts? [y/N]", lines.collect::<String>(), actions.len());
    Ok(terminal.agrees(prompt).await)
}

/// Passes on what it says, in whole lines; nothing of another host gets into one.
async fn in_lines(host: &Host, action: &Action, place: &Mutex<()>) -> Result<u8, Failure> {
    let failed = |error: &ComposeError| failure(host, error);
    let mut child = action.spawn().await.map_err(|error| failed(&error))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let copied = tokio::try_join!(
        copy(stdout, host, tokio::io::stdout(), "stdout", place),
        copy(stderr, host, tokio::io::stderr(), "stderr", place),
    );
    let (out, last_words) = match copied {
        Ok(copied) => copied,
        Err(failure) => {
            child.end().await;
            return Err(failure);
        }
    };
    let status = child.wait().await;
    let status =
        status.map_err(|error| Failure::of(host.name(), &error).limited_by("--timeout"))?;
    let code = exit_code(status);
    let text = match action.verdict(status, out.is_empty(), &last_words).await {
        Ok(()) => return Ok(code),
        // Which of the hosts it was is to be seen at the end, too.
        Err(ComposeError::Failed { .. }) => {
            killed(status).unwrap_or_else(|| format!("{} ended with {code}", action.told()))
        }
        Err(error) => match failed(&error) {
            Failure::Host { text, .. } => text,
            other => return Err(other),
        },
    };
    let status = if code == 0 { FAILED } else { code };
    Err(Failure::Host { host: host.name().to_owned(), text, status })
}

/// Copies to the end in whole lines, and gives the last that was copied.
async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    host: &Host,
    mut to: impl AsyncWrite + Unpin,
    stream: &'static str,
    place: &Mutex<()>,
) -> Result<Vec<u8>, Failure> {
    let (mut lines, mut last) = (Lines::new(host.name(), None), Vec::new());
    let Some(mut from) = from else { return Ok(last) };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come.
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let whole = if read == 0 { lines.finish() } else { lines.take(&buffer[..read]) };
        if !whole.is_empty() {
            let _turn = place.lock().await;
            let written = async {
                to.write_all(&whole).await?;
                to.flush().await
            };
            written.await.map_err(|error| cannot_write(stream, &error))?;
        }
        if read == 0 {
            return Ok(last);
        }
        last.extend_from_slice(&buffer[..read]);
        last.drain(..last.len().saturating_sub(LAST_WORDS));
    }
}
