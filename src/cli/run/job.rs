//! The command on one host: started, its output passed on, its end judged and told.

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::choice::Target;
use super::folding::Folding;
use super::lines::Lines;
use super::outcome::End;
use super::report::report;
use super::screen::{Screen, To};
use super::state::State;
use crate::cli::failure::Failure;
use crate::cli::relay::LAST_WRITES;
use crate::command::Stdin;
use crate::command::{Child, Runner};
use crate::error::Error;
use crate::pool::signals;
use crate::text::plain;

/// What is the same for all hosts.
pub(super) struct Job<'a> {
    pub text: OsString,
    pub timeout: Option<Duration>,
    pub input: &'a Stdin,
    pub runner: &'a dyn Runner,
    pub screen: &'a Screen,
    pub state: &'a State,
    /// All that runs is to be ended.
    pub stop: &'a watch::Sender<bool>,
    pub stopped: watch::Receiver<bool>,
    pub style: Style<'a>,
}

/// What becomes of the output.
pub(super) enum Style<'a> {
    /// Shown line by line, as it comes; on stdout and on stderr with colours or without.
    Lines {
        colors: (bool, bool),
    },
    Fold(Folding),
    Json,
    /// Written into files of this directory.
    Files(&'a Path),
}

/// Where one stream of one host goes.
enum Sink<'a> {
    Lines { lines: Lines, to: To, screen: &'a Screen },
    Memory { bytes: Vec<u8>, limit: usize },
    File { file: tokio::fs::File, name: String },
}

/// Why a stream is not read to its end.
enum Stopped {
    Limit {
        stream: &'static str,
        limit: usize,
    },
    File(String),
    /// The whole run is over.
    Fatal(Failure),
}

impl Job<'_> {
    /// Whether it succeeded; an error when there is no use in going on with any host.
    pub(super) async fn run(&self, target: &Target) -> Result<bool, Failure> {
        self.state.begin(target.place);
        let begun = Instant::now();
        let mut sinks = None;
        let end = match self.sinks(target).await {
            Ok(made) => self.work(target, sinks.insert(made)).await,
            Err(reason) => Ok(End::NotWritten(reason)),
        };
        if signals::is_ending() {
            // It was cut off by us, and nobody is to be told.
            std::future::pending::<()>().await;
        }
        let told = match end {
            Ok(end) => self.tell(target, end, sinks, begun.elapsed()).await,
            Err(fatal) => Err(fatal),
        };
        if told.is_err() {
            self.stop.send_replace(true);
        }
        told
    }

    async fn work(
        &self,
        target: &Target,
        sinks: &mut (Sink<'_>, Sink<'_>),
    ) -> Result<End, Failure> {
        let mut stopped = self.stopped.clone();
        let command = super::command(self.runner, &target.host, &self.text);
        let command = command.timeout(self.timeout).stdin(self.input.clone());
        let mut child = tokio::select! {
            child = command.spawn_and_read() => match child {
                Ok(child) => child,
                Err(error) => return Ok(End::Failed(error)),
            },
            _ = stopped.wait_for(|stop| *stop) => return Ok(End::Stopped),
        };
        let end = tokio::select! {
            end = relay(&mut child, sinks) => end,
            _ = stopped.wait_for(|stop| *stop) => Ok(End::Stopped),
        };
        let unfinished = match end {
            Ok(End::Stopped) => None,
            Ok(end) => return Ok(end),
            Err(unfinished) => Some(unfinished),
        };
        let remote = child.end().await;
        Ok(match unfinished {
            None => End::Stopped,
            Some(Stopped::Limit { stream, limit }) => {
                let host = target.host.name().to_owned();
                End::Failed(Error::OutputLimit {
                    host,
                    stream,
                    limit,
                    remote,
                    partial: Arc::default(),
                })
            }
            Some(Stopped::File(reason)) => End::NotWritten(format!("{reason}{remote}")),
            Some(Stopped::Fatal(fatal)) => return Err(fatal),
        })
    }

    async fn sinks(&self, target: &Target) -> Result<(Sink<'_>, Sink<'_>), String> {
        let lines = |to, color: bool| Sink::Lines {
            lines: Lines::new(&target.label, color.then_some(target.place)),
            to,
            screen: self.screen,
        };
        let memory =
            || Sink::Memory { bytes: Vec::new(), limit: self.runner.defaults().max_output };
        Ok(match &self.style {
            Style::Lines { colors } => (lines(To::Stdout, colors.0), lines(To::Stderr, colors.1)),
            Style::Fold(_) | Style::Json => (memory(), memory()),
            Style::Files(directory) => {
                let name = file_name(&target.label);
                (
                    file(directory, &format!("{name}.stdout")).await?,
                    file(directory, &format!("{name}.stderr")).await?,
                )
            }
        })
    }

    /// Shows what is left to be shown, and whether it succeeded.
    async fn tell(
        &self,
        target: &Target,
        mut end: End,
        sinks: Option<(Sink<'_>, Sink<'_>)>,
        elapsed: Duration,
    ) -> Result<bool, Failure> {
        let mut output = (Vec::new(), Vec::new());
        if let Some((out, err)) = sinks {
            let cut_off = !matches!(end, End::Ended(_));
            for (sink, output) in [(out, &mut output.0), (err, &mut output.1)] {
                let finish = sink.finish();
                // Whoever is to read the rest may not do so, and that holds up no end that we have
                // made.
                let finished = if cut_off {
                    timeout(LAST_WRITES, finish).await.unwrap_or(Ok(Vec::new()))
                } else {
                    finish.await
                };
                match finished {
                    Ok(bytes) => *output = bytes,
                    Err(Stopped::Fatal(fatal)) => return Err(fatal),
                    Err(Stopped::File(reason)) => end = End::NotWritten(reason),
                    Err(Stopped::Limit { .. }) => {}
                }
            }
        }
        let cause = end.cause();
        let success = cause.is_none();
        let json = matches!(self.style, Style::Json);
        if json {
            let (stdout, stderr) = std::mem::take(&mut output);
            let line = report(target, &end, stdout, stderr, elapsed);
            self.screen.show(To::Stdout, &line).await?;
        } else if !matches!(end, End::Stopped)
            && let Some(error) = end.error(&target.host)
        {
            self.screen.complain(&format!("{}: {error}", target.label)).await;
        }
        if let Style::Fold(folding) = &self.style {
            folding.add(target.place, output.0, output.1);
        }
        self.state.end(target.place, cause);
        Ok(success)
    }
}

/// Passes the command's output on until it has ended.
async fn relay(child: &mut Child, sinks: &mut (Sink<'_>, Sink<'_>)) -> Result<End, Stopped> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let copies = async {
        tokio::try_join!(copy(stdout, &mut sinks.0, "stdout"), copy(stderr, &mut sinks.1, "stderr"))
    };
    let mut copies = pin!(copies);
    let end = tokio::select! {
        copied = &mut copies => {
            copied?;
            child.wait().await
        }
        end = child.wait() => {
            match end {
                // However slow the reader is, all of it is the command's.
                Ok(_) => drop(copies.await?),
                Err(_) => drop(timeout(LAST_WRITES, copies).await),
            }
            end
        }
    };
    Ok(end.map_or_else(End::Failed, End::Ended))
}

async fn copy(
    from: Option<impl AsyncRead + Unpin>,
    to: &mut Sink<'_>,
    stream: &'static str,
) -> Result<(), Stopped> {
    let Some(mut from) = from else { return Ok(()) };
    // With the hosts before its lines it still fits into one write of tokio's stdout: what is begun
    // is written whole, whatever is dropped.
    let mut buffer = vec![0; 16 * 1024];
    loop {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come from
        // it.
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return Ok(());
        }
        to.take(&buffer[..read], stream).await?;
    }
}

impl Sink<'_> {
    async fn take(&mut self, bytes: &[u8], stream: &'static str) -> Result<(), Stopped> {
        match self {
            Sink::Lines { lines, to, screen } => show(screen, *to, &lines.take(bytes)).await,
            Sink::Memory { bytes: all, limit } => {
                let kept = bytes.len().min(*limit - all.len());
                all.extend_from_slice(&bytes[..kept]);
                if kept < bytes.len() {
                    Err(Stopped::Limit { stream, limit: *limit })
                } else {
                    Ok(())
                }
            }
            Sink::File { file, name } => {
                file.write_all(bytes).await.map_err(|error| not_written(name, &error))
            }
        }
    }

    /// Writes what is left, and gives what was kept.
    async fn finish(self) -> Result<Vec<u8>, Stopped> {
        match self {
            Sink::Lines { mut lines, to, screen } => {
                show(screen, to, &lines.finish()).await?;
                Ok(Vec::new())
            }
            Sink::Memory { bytes, .. } => Ok(bytes),
            Sink::File { mut file, name } => match file.flush().await {
                Ok(()) => Ok(Vec::new()),
                Err(error) => Err(not_written(&name, &error)),
            },
        }
    }
}

async fn show(screen: &Screen, to: To, lines: &[u8]) -> Result<(), Stopped> {
    screen.show(to, lines).await.map_err(Stopped::Fatal)
}

fn not_written(name: &str, error: &std::io::Error) -> Stopped {
    Stopped::File(format!("cannot write {name}: {}", plain(error)))
}

/// What a host is called by as a file: by its name, but for a `/` in it. No two hosts have the
/// same.
fn file_name(label: &str) -> Cow<'_, str> {
    if ["/", "%2F", "%25"].iter().any(|special| label.contains(special)) {
        label.replace('%', "%25").replace('/', "%2F").into()
    } else {
        label.into()
    }
}

/// A new file in the place of one that may be there. What stands there is taken away and never
/// written into: it may be a link to elsewhere. No name leads out of the directory: see
/// [`file_name`].
async fn file<'a>(directory: &Path, name: &str) -> Result<Sink<'a>, String> {
    let path = directory.join(name);
    let name = path.display().to_string();
    let cannot = |error| format!("cannot write {name}: {}", plain(&error));
    match tokio::fs::remove_file(&path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(&path).await;
    let file = file.map_err(cannot)?;
    Ok(Sink::File { file, name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("web1", "web1")]
    #[case("deploy@[fe80::1%eth0]:22", "deploy@[fe80::1%eth0]:22")]
    #[case("a/b", "a%2Fb")]
    #[case("../../etc/passwd", "..%2F..%2Fetc%2Fpasswd")]
    #[case("a%2Fb", "a%252Fb")]
    #[case("ssh://a%20b@h1", "ssh:%2F%2Fa%2520b@h1")]
    fn b8_a_host_is_a_file_of_the_directory(#[case] label: &str, #[case] expected: &str) {
        assert_eq!(file_name(label), expected);
    }
}
