//! Running what a client asks for: collected into one answer, in lines of JSON as it comes, or in
//! frames both ways.
//!
//! A client that goes away has its command ended. A client that reads slowly slows its own command
//! and no other: no more is read from the command than the client takes, and that is at most a
//! piece of each stream.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::Running;
use super::lines::Lines;
use super::peer::Peer;
use crate::agent::protocol::{
    self, CommandResult, End, Ended, Exec, FRAME_HEADER, Refusal, What, frame,
};
use crate::command::{ChildStdin, Command, Runner, Stdin};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::error::Remote;
use crate::host::Host;

/// Output is passed on in pieces of so much at most.
pub(super) const PIECE: usize = 64 * 1024;
/// The most that is collected of a stream for one answer.
pub(super) const MOST_OUTPUT: usize = 64 << 20;
/// How long a client may take to read what is on its way to it when its command was ended.
const LAST_WRITES: Duration = Duration::from_secs(10);

/// In which form a client wants what its command writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerFormat {
    Collected,
    Lines,
    Frames,
}

/// A command that was understood.
pub(super) struct CommandRun {
    host: Host,
    command: Command,
    piped: bool,
    /// It counts as one that runs, until all of it is over.
    running: Running,
}

impl CommandRun {
    /// `defaults` has the limits for whom has said none.
    pub(super) fn new(
        exec: &Exec,
        form: AnswerFormat,
        host: Host,
        runner: &dyn Runner,
        defaults: &PoolConfig,
        running: Running,
    ) -> Result<Self, String> {
        let (env, cwd) = (exec.env()?, exec.cwd()?);
        let command = match exec.what()? {
            What::Text(name) if exec.is_subsystem && env.is_empty() && cwd.is_none() => {
                Command::subsystem(runner.shared(), &host, name)
            }
            _ if exec.is_subsystem => {
                let why = "is_subsystem: it has a name (command), and neither argv, env nor cwd";
                return Err(why.to_owned());
            }
            What::Text(text) => runner.shell(&host, text),
            What::Words(words) => match words.split_first() {
                Some((program, words)) => runner.command(&host, program).args(words),
                None => return Err("argv: it has no program".to_owned()),
            },
        };
        let mut command = command.envs(env);
        if let Some(directory) = cwd {
            command = command.current_dir(directory);
        }
        let piped = exec.stdin_stream;
        match exec.input()? {
            Some(_) if piped => return Err("stdin_stream: there is stdin already".to_owned()),
            Some(input) => command = command.stdin(input),
            None if piped && form != AnswerFormat::Frames => {
                return Err(
                    "stdin_stream: it needs a connection that is upgraded to frames".to_owned()
                );
            }
            None if piped => command = command.stdin(Stdin::Piped),
            None => {}
        }
        match exec.max_output_bytes {
            Some(_) if form != AnswerFormat::Collected => {
                return Err("max_output_bytes: it is for answers that have all output".to_owned());
            }
            Some(bytes) if bytes > MOST_OUTPUT => {
                return Err(format!("max_output_bytes: at most {MOST_OUTPUT} are collected"));
            }
            limit => {
                command = command.max_output(limit.unwrap_or(defaults.max_output.min(MOST_OUTPUT)))
            }
        }
        if exec.fresh_session {
            command = command.fresh_session();
        }
        command = match exec.timeout_ms {
            Some(0) => command.timeout(None),
            Some(ms) => command.timeout(Duration::from_millis(ms)),
            None => command.timeout(defaults.command_timeout),
        };
        Ok(CommandRun { host, command, piped, running })
    }

    /// Runs it to its end; the request came at `begun`. `None` where the client is gone.
    pub(super) async fn output(
        self,
        client: &Peer,
        begun: Instant,
    ) -> Option<Result<CommandResult, Refusal>> {
        let output = tokio::select! {
            output = self.command.output() => output,
            () = client.gone() => return None,
        };
        let host = self.host.name();
        Some(match output {
            Ok(output) => Ok(CommandResult::ended(host, output, begun.elapsed())),
            Err(error) => Err(self.running.refusal(&error, &self.host)),
        })
    }

    /// Begins with it, and gives what it writes and how it ends in lines of JSON. `None` where the
    /// client is gone.
    pub(super) async fn lines(
        self,
        client: Peer,
    ) -> Option<Result<impl Stream<Item = Bytes> + Send + use<>, Refusal>> {
        let CommandRun { host, command, running, .. } = self;
        let spawned = tokio::select! {
            spawned = command.spawn_and_read() => spawned,
            () = client.gone() => return None,
        };
        let child = match spawned {
            Ok(child) => child,
            Err(error) => return Some(Err(running.refusal(&error, &host))),
        };
        let lines = Lines::new(child, client, host, running);
        Some(Ok(futures_util::stream::unfold(lines, async |mut lines| {
            let line = lines.next().await?;
            Some((line, lines))
        })))
    }
}

/// Passes on what the command writes and what the client sends, until the command has ended.
pub(super) async fn stream(
    order: CommandRun,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    client: &Peer,
) -> std::io::Result<()> {
    let CommandRun { host, command, piped, running } = order;
    if client.is_gone() {
        // It has given up waiting for us, and takes it that nothing was begun.
        return Ok(());
    }
    let spawned = tokio::select! {
        spawned = command.spawn_and_read() => spawned,
        // Nobody is left to be told.
        () = client.gone() => return Ok(()),
    };
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return end(&mut to, &End::Failed(running.refusal(&error, &host))).await,
    };
    protocol::write_frame(&mut to, frame::STARTED, b"").await?;
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Two streams and one connection: each frame is written whole. A tokio mutex: it is held while
    // the client takes its time.
    let writer = Mutex::new(to);
    let (stop, stopped) = watch::channel(false);
    let mut output = pin!(async {
        tokio::try_join!(
            pieces(stdout, frame::STDOUT, &writer, stopped.clone()),
            pieces(stderr, frame::STDERR, &writer, stopped.clone()),
        )
    });
    let mut is_written = false;
    let outcome = {
        let whole = async {
            let written = output.as_mut().await;
            is_written = true;
            written.map_err(|_| EndReason::End)?;
            // The streams of a command end with it, or before it.
            Ok(child.wait().await)
        };
        tokio::select! {
            status = whole => status,
            wish = feed(&mut from, stdin, piped) => Err(wish),
            () = client.gone() => Err(EndReason::End),
        }
    };
    let ended = match outcome {
        Ok(Ok(status)) => End::Ended(Ended { exit_code: status.code() }),
        Ok(Err(error)) => End::Failed(running.refusal_of_streamed(&error, &host)),
        Err(wish) => {
            // The frame that is on its way is the last one.
            stop.send_replace(true);
            let rest = async { if is_written { Ok(()) } else { output.await.map(|_| ()) } };
            let (remote, rest) = tokio::join!(child.end(), timeout(LAST_WRITES, rest));
            rest.unwrap_or_else(|late| Err(late.into()))?;
            match (wish, remote) {
                (EndReason::Invalid(why), _) => End::Failed(Refusal::in_a_frame(why)),
                (EndReason::End, Remote::Ended) => End::Ended(Ended { exit_code: None }),
                (EndReason::End, Remote::MayLiveOn(reason)) => {
                    let (reason, partial) = (reason.to_string(), Arc::default());
                    let error = Error::Lost { host: host.name().to_owned(), reason, partial };
                    End::Failed(running.refusal_of_streamed(&error, &host))
                }
            }
        }
    };
    end(&mut *writer.lock().await, &ended).await?;
    // All of it is over but for the client's reading. One that still sends input would not get to
    // that if it was cut off.
    drop(running);
    let mut rest = vec![0; PIECE];
    let sent = async { while let Ok(1..) = from.read(&mut rest).await {} };
    let _ = timeout(LAST_WRITES, sent).await;
    Ok(())
}

async fn end(to: &mut (impl AsyncWrite + Unpin), end: &End) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(end).expect("it has text keys");
    protocol::write_frame(to, frame::END, &bytes).await?;
    to.shutdown().await
}

/// Passes one stream on, in frames, to its end or until it is told to stop.
async fn pieces(
    from: Option<impl AsyncRead + Unpin>,
    kind: u8,
    to: &Mutex<impl AsyncWrite + Unpin>,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; FRAME_HEADER + PIECE];
    loop {
        let read = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            // A pipe of ours does not fail to be read; if it does, there is nothing more to come
            // from it.
            read = from.read(&mut buffer[FRAME_HEADER..]) => read.unwrap_or(0),
        };
        if read == 0 {
            return Ok(());
        }
        buffer[..FRAME_HEADER].copy_from_slice(&protocol::header(kind, read));
        let mut to = to.lock().await;
        to.write_all(&buffer[..FRAME_HEADER + read]).await?;
        to.flush().await?;
    }
}

/// Why a command is ended before its end.
enum EndReason {
    /// The client wants it to, or is gone.
    End,
    /// The client has sent what is no frame for this.
    Invalid(String),
}

/// Passes the input on, however long a frame of it is, until the command is to be ended.
async fn feed(
    mut from: impl AsyncRead + Unpin,
    mut stdin: Option<ChildStdin>,
    piped: bool,
) -> EndReason {
    let mut buffer = vec![0; PIECE];
    loop {
        let mut header = [0; FRAME_HEADER];
        if from.read_exact(&mut header).await.is_err() {
            return EndReason::End;
        }
        let [kind, _, _, _, length @ ..] = header;
        let mut length = u32::from_be_bytes(length) as usize;
        match kind {
            frame::STDIN if !piped => {
                return EndReason::Invalid(
                    "a frame of input, but no stdin_stream in the request".to_owned(),
                );
            }
            frame::STDIN if length == 0 => drop(stdin.take()),
            frame::STDIN => {
                while length > 0 {
                    let most = length.min(PIECE);
                    let Ok(read @ 1..) = from.read(&mut buffer[..most]).await else {
                        return EndReason::End;
                    };
                    length -= read;
                    if let Some(to) = &mut stdin
                        && to.write_all(&buffer[..read]).await.is_err()
                    {
                        // A command need not read its input.
                        stdin = None;
                    }
                }
            }
            frame::KILL if length == 0 => return EndReason::End,
            frame::KILL => return EndReason::Invalid("a frame of kind 5 has no bytes".to_owned()),
            kind => {
                return EndReason::Invalid(format!("a frame of kind {kind} is not for a command"));
            }
        }
    }
}
