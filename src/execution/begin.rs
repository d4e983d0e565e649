//! Giving a session its command, until the command has begun.

use std::pin::pin;

use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::capture::{Excess, LAST_WORDS, check, feed};
use super::running::Running;
use crate::error::PartialOutput;
use crate::transport::{Script, Session as _, SessionEnd, Streams, Transport};

/// Gives a session its command, and completes when the command has begun, or with the end of a
/// session that has ended before.
pub(super) async fn begun<T: Transport>(
    running: &mut Running<T>,
    script: &Script,
    limit: Option<usize>,
    early: &mut PartialOutput,
) -> Result<Option<SessionEnd>, Excess> {
    let (connection, input_ends) = (running.connection(), running.input_ends());
    let (session, streams) = running.session_and_streams();
    if !session.tells_begin() {
        return Ok(session.opened(&connection).await.err());
    }
    let preface = session.preface(script).into_owned();
    let Streams { stdin, stdout, stderr } = streams;
    let feed = async {
        if let Some(to) = stdin {
            // Where the session has ended, its end tells why.
            feed(to, &preface).await;
        }
        if input_ends {
            // A start-up file that takes the text must not have the shell wait for another.
            drop(stdin.take());
        }
        Ok(())
    };
    let keep = |kept: &mut Vec<u8>, stream| match limit {
        None => {
            kept.clear();
            Ok(())
        }
        Some(_) => check(kept, limit, stream),
    };
    let search = stdout.begun(&mut early.stdout, |kept| keep(kept, "stdout"));
    // A long command is read after the sign that it has begun.
    let mut told = pin!(async { tokio::try_join!(search, feed).map(|(found, ())| found) });
    let read_stderr = async {
        // A pipe does not fail; if it ever does, there is nothing more to come from it.
        while let Ok(1..) = stderr.read_buf(&mut early.stderr).await {
            if let Err(excess) = keep(&mut early.stderr, "stderr") {
                return excess;
            }
        }
        std::future::pending().await
    };
    let work = async {
        let (has_begun, end) = tokio::select! {
            biased;
            told = &mut told => match told? {
                true => return Ok(None),
                false => (false, session.wait(&connection).await),
            },
            // What it has written is read before its end is judged.
            end = session.wait(&connection) => {
                (timeout(LAST_WORDS, told).await.unwrap_or(Ok(false))?, end)
            }
        };
        Ok(if has_begun { None } else { Some(session.not_begun(end, &connection)) })
    };
    tokio::select! {
        biased;
        begun = work => begun,
        excess = read_stderr => Err(excess),
    }
}
