//! Running what a client asks for: collected into one answer, or in frames as it comes.
//!
//! A client that goes away has its command ended: the [`Child`] is dropped with whoever reads for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Mutex;

use super::wire::{self, End, Ended, Exec, FRAME_HEADER, Finished, Refusal, Streams, frame};
use crate::child::{Child, ChildStdin};
use crate::command::{Command, Stdin};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::Host;
use crate::public::Pool;
use crate::running::Remote;

/// Output is passed on in pieces of so much at most.
const PIECE: usize = 64 * 1024;

/// A command that was understood.
pub(super) struct Order {
    host: Host,
    command: Command,
    piped: bool,
}

impl Order {
    /// `defaults` has the limits for whom has said none.
    pub(super) fn new(exec: &Exec, host: Host, pool: &Pool, defaults: &PoolConfig) -> Result<Self, String> {
        let command = match (&exec.command, &exec.argv) {
            (Some(text), None) => pool.shell(&host, text),
            (None, Some(words)) => match words.split_first() {
                Some((program, words)) => pool.command(&host, program).args(words),
                None => return Err("argv: it has no program".to_owned()),
            },
            _ => return Err("give either command or argv".to_owned()),
        };
        let mut command = command.envs(exec.env.clone());
        if let Some(directory) = &exec.cwd {
            command = command.current_dir(directory);
        }
        if let Some(input) = exec.input()? {
            command = command.stdin(input);
        }
        let piped = exec.stdin_stream;
        if piped {
            command = command.stdin(Stdin::Piped);
        }
        command = command.max_output(exec.max_output_bytes.unwrap_or(defaults.max_output));
        command = match exec.timeout_ms {
            Some(0) => command.timeout(None),
            Some(ms) => command.timeout(Duration::from_millis(ms)),
            None => command.timeout(defaults.command_timeout),
        };
        Ok(Order { host, command, piped })
    }

    /// Runs it to its end.
    pub(super) async fn output(self) -> Result<Finished, Refusal> {
        match self.command.output().await {
            Ok(output) => Ok(Finished {
                ended: Ended { exit_code: output.status.code() },
                streams: Streams::new(output.stdout, output.stderr),
            }),
            Err(error) => Err(Refusal::of(&error, self.host.name())),
        }
    }

    /// Begins with it. What is called for here and not in [`stream`] goes on beside the answer to the client.
    pub(super) async fn spawn(self) -> (Result<Child, Error>, Host) {
        (self.command.spawn().await, self.host)
    }

    pub(super) fn takes_input(&self) -> bool {
        self.piped
    }
}

/// Passes on what the command writes and what the client sends, until the command has ended or the client is gone.
pub(super) async fn stream(
    child: impl Future<Output = (Result<Child, Error>, Host)>,
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut client = Incoming { from, bytes: Vec::new() };
    let (begun, host) = tokio::select! {
        begun = child => begun,
        // Nothing can be sent yet but the wish to end it.
        gone = client.gone() => return gone,
    };
    let mut to = to;
    let mut child = match begun {
        Ok(child) => child,
        Err(error) => return end(&mut to, &End::Failed(Refusal::of(&error, host.name()))).await,
    };
    wire::write_frame(&mut to, frame::STARTED, b"").await?;
    let stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // Two streams and one connection: each piece is written whole. A tokio mutex: it is held while the client takes its time.
    let writer = Mutex::new(to);
    let done = async {
        tokio::try_join!(pieces(stdout, frame::STDOUT, &writer), pieces(stderr, frame::STDERR, &writer))?;
        // The streams of a command end with it, or before it.
        std::io::Result::Ok(child.wait().await)
    };
    let ended = tokio::select! {
        status = done => Some(status?),
        killed = client.feed(stdin) => {
            killed?;
            None
        }
    };
    let ended = match ended {
        Some(Ok(status)) => End::Ended(Ended { exit_code: status.code() }),
        Some(Err(error)) => End::Failed(Refusal::of(&error, host.name())),
        None => match child.end().await {
            Remote::Ended => End::Ended(Ended { exit_code: None }),
            Remote::MayLiveOn(reason) => {
                let (reason, partial) = (reason.to_string(), Arc::default());
                let error = Error::Lost { host: host.name().to_owned(), reason, partial };
                End::Failed(Refusal::of(&error, host.name()))
            }
        },
    };
    end(&mut writer.into_inner(), &ended).await
}

async fn end(to: &mut (impl AsyncWrite + Unpin), end: &End) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(end).expect("it has text keys");
    wire::write_frame(to, frame::END, &bytes).await?;
    to.shutdown().await
}

async fn pieces(
    from: Option<impl AsyncRead + Unpin>,
    kind: u8,
    to: &Mutex<impl AsyncWrite + Unpin>,
) -> std::io::Result<()> {
    let Some(mut from) = from else { return Ok(()) };
    let mut buffer = vec![0; FRAME_HEADER + PIECE];
    loop {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come from it.
        let read = from.read(&mut buffer[FRAME_HEADER..]).await.unwrap_or(0);
        if read == 0 {
            return Ok(());
        }
        buffer[..FRAME_HEADER].copy_from_slice(&wire::header(kind, read));
        let mut to = to.lock().await;
        to.write_all(&buffer[..FRAME_HEADER + read]).await?;
        to.flush().await?;
    }
}

/// What a client sends.
struct Incoming<R> {
    from: R,
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Completes when the client is gone, or wants the command ended.
    async fn gone(&mut self) -> std::io::Result<()> {
        loop {
            match wire::read_frame(&mut self.from, &mut self.bytes).await? {
                None | Some(frame::KILL) => return Ok(()),
                Some(_) => {}
            }
        }
    }

    /// Passes the input on. Completes when the command is to be ended; a client that is gone is an error.
    async fn feed(&mut self, mut stdin: Option<ChildStdin>) -> std::io::Result<()> {
        loop {
            match wire::read_frame(&mut self.from, &mut self.bytes).await? {
                Some(frame::STDIN) if self.bytes.is_empty() => drop(stdin.take()),
                Some(frame::STDIN) => {
                    if let Some(to) = &mut stdin
                        && to.write_all(&self.bytes).await.is_err()
                    {
                        // A command need not read its input.
                        stdin = None;
                    }
                }
                Some(frame::KILL) => return Ok(()),
                Some(_) => {}
                None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}
