//! The agent's client as a runner of commands.

use std::io::Cursor;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::calls::{agent_gone, ended};
use super::{Client, Frames};
use crate::agent::protocol::{self, Exec, FRAME_HEADER, frame};
use crate::command::{Child, ChildEnds, ExitStatus, Output, Pending, Request, Runner, Stdin};
use crate::config::PoolConfig;
use crate::error::{Error, PartialOutput, Remote};
use crate::host::Host;

/// Input is passed on in pieces of so much at most.
const PIECE: usize = 64 * 1024;
/// What is kept of each stream between us and the agent.
const RELAY: usize = 256 * 1024;

impl Runner for Client {
    fn shared(&self) -> Arc<dyn Runner> {
        Arc::new(self.clone())
    }

    fn output(&self, request: Request) -> Pending<'_, Output> {
        Box::pin(self.run(request, None))
    }

    fn status(&self, request: Request) -> Pending<'_, ExitStatus> {
        Box::pin(self.run_silently(request, None))
    }

    fn spawn(&self, request: Request) -> Pending<'_, Child> {
        Box::pin(self.start(request, None, None))
    }

    fn lease(&self, host: &Host) -> Pending<'_, Arc<dyn Runner>> {
        let (client, host) = (self.clone(), host.clone());
        Box::pin(async move {
            let (name, frames) = client.lease_of(&host).await?;
            Ok(Arc::new(Lease {
                client,
                held: Arc::new(Held { name, _frames: Mutex::new(frames) }),
            }) as _)
        })
    }

    fn has_shell(&self, host: &Host) -> Pending<'_, bool> {
        let host = host.clone();
        Box::pin(async move { Ok(!self.connect(&host, false, false).await?.forced) })
    }

    fn defaults(&self) -> PoolConfig {
        self.config().clone()
    }
}

/// A connection that the agent holds for us.
#[derive(Clone)]
struct Lease {
    client: Client,
    held: Arc<Held>,
}

struct Held {
    name: String,
    /// The agent gives the connection back when they are closed. Nobody reads them; the mutex
    /// makes a handle usable from all threads.
    _frames: Mutex<Frames>,
}

impl Runner for Lease {
    fn shared(&self) -> Arc<dyn Runner> {
        Arc::new(self.clone())
    }

    fn output(&self, request: Request) -> Pending<'_, Output> {
        Box::pin(self.client.run(request, Some(&self.held.name)))
    }

    fn status(&self, request: Request) -> Pending<'_, ExitStatus> {
        Box::pin(self.client.run_silently(request, Some(&self.held.name)))
    }

    fn spawn(&self, request: Request) -> Pending<'_, Child> {
        Box::pin(self.client.start(request, None, Some(&self.held.name)))
    }

    fn lease(&self, _: &Host) -> Pending<'_, Arc<dyn Runner>> {
        Box::pin(async { Ok(self.shared()) })
    }

    fn defaults(&self) -> PoolConfig {
        self.client.config().clone()
    }
}

impl Client {
    /// What the agent is asked for.
    fn exec(&self, request: &Request, default: Option<Duration>, lease: Option<&str>) -> Exec {
        let Request { host, text, stdin, timeout, .. } = request;
        let reads = *stdin != Stdin::Empty;
        let mut exec = Exec::new(host, text.clone(), reads, timeout.or(default), self.origin());
        exec.is_subsystem = request.is_subsystem;
        exec.over(lease, request.fresh_session)
    }

    /// Runs a command to its end. What it writes is thrown away.
    async fn run_silently(
        &self,
        request: Request,
        lease: Option<&str>,
    ) -> Result<ExitStatus, Error> {
        let default = Some(self.config().command_timeout);
        let mut child = self.start(request, default, lease).await?;
        const NEW: &str = "nobody has taken it";
        let (mut stdout, mut stderr) =
            (child.stdout.take().expect(NEW), child.stderr.take().expect(NEW));
        let (mut out, mut err) = (tokio::io::sink(), tokio::io::sink());
        // It does not fail; if it ever does, there is nothing more to come.
        let _ = tokio::join!(
            tokio::io::copy(&mut stdout, &mut out),
            tokio::io::copy(&mut stderr, &mut err),
        );
        child.wait().await
    }

    /// Begins with a command, whose input is in the request or comes from the child's stdin.
    async fn start(
        &self,
        request: Request,
        default: Option<Duration>,
        lease: Option<&str>,
    ) -> Result<Child, Error> {
        let exec = self.exec(&request, default, lease);
        let (from, to) = self.begin(&request.host, &exec).await?;
        let pipe = || tokio::io::duplex(RELAY);
        let (ours, stdin) = (request.stdin == Stdin::Piped).then(pipe).unzip();
        let ((out, stdout), (err, stderr)) = (pipe(), pipe());
        let (child, ends) = Child::new(&request.host, ours, out, err);
        let ends = Ends { stdin, stdout, stderr, child: ends };
        let host = Host::clone(&request.host);
        tokio::spawn(relay(ends, request.stdin, from, to, host));
        Ok(child)
    }

    /// Runs a command to its end. `limit` is for each stream.
    async fn run(&self, request: Request, lease: Option<&str>) -> Result<Output, Error> {
        let limit = request.max_output.unwrap_or(self.config().max_output);
        let exec = self.exec(&request, Some(self.config().command_timeout), lease);
        let host = &*request.host;
        let input = request.stdin.bytes(host)?;
        let (mut from, mut to) = self.begin(host, &exec).await?;
        let mut output = PartialOutput::default();
        let (mut bytes, mut excess) = (Vec::new(), None);
        let read = async {
            loop {
                let read = protocol::read_frame(&mut from, &mut bytes).await;
                let (into, stream) = match read {
                    Ok(Some(frame::STDOUT)) => (&mut output.stdout, "stdout"),
                    Ok(Some(frame::STDERR)) => (&mut output.stderr, "stderr"),
                    Ok(Some(frame::END)) => break Ok(ended(&bytes, host)),
                    Ok(Some(_)) => continue,
                    Ok(None) | Err(_) => break Ok(Err(agent_gone(host))),
                };
                let room = limit - into.len();
                into.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if bytes.len() > room {
                    break Err(stream);
                }
            }
        };
        let feed = async {
            feed(&mut to, Some(Cursor::new(input)), exec.stdin_stream).await;
            std::future::pending().await
        };
        let result = tokio::select! {
            result = read => result,
            result = feed => result,
        };
        let result = match result {
            Ok(result) => result,
            Err(stream) => {
                excess = Some(stream);
                let _ = to.shutdown().await;
                loop {
                    match protocol::read_frame(&mut from, &mut bytes).await {
                        Ok(Some(frame::END)) => break ended(&bytes, host),
                        Ok(Some(_)) => {}
                        Ok(None) | Err(_) => break Err(agent_gone(host)),
                    }
                }
            }
        };
        if let Some(stream) = excess {
            let (host, remote) = (host.name().to_owned(), remote_of(&result));
            let partial = Arc::new(output);
            return Err(Error::OutputLimit { host, stream, limit, remote, partial });
        }
        Output::of(result, output)
    }
}

/// The other sides of what a child has.
struct Ends {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    stderr: DuplexStream,
    child: ChildEnds,
}

/// What is left of a command that the agent has run for us.
fn remote_of(result: &Result<ExitStatus, Error>) -> Remote {
    match result {
        Err(Error::TimedOut { remote, .. } | Error::OutputLimit { remote, .. }) => remote.clone(),
        Err(Error::Lost { reason, .. }) => Remote::MayLiveOn(reason.as_str().into()),
        _ => Remote::Ended,
    }
}

/// Passes input on in frames, and its end.
async fn feed(to: &mut WriteHalf<Frames>, from: Option<impl AsyncRead + Unpin>, wanted: bool) {
    let (Some(mut from), true) = (from, wanted) else { return };
    let mut buffer = vec![0; FRAME_HEADER + PIECE];
    loop {
        // A pipe of ours does not fail to be read; if it does, there is nothing more to come from
        // it.
        let read = from.read(&mut buffer[FRAME_HEADER..]).await.unwrap_or(0);
        buffer[..FRAME_HEADER].copy_from_slice(&protocol::header(frame::STDIN, read));
        let sent = async {
            to.write_all(&buffer[..FRAME_HEADER + read]).await?;
            to.flush().await
        };
        // Where the agent is gone, whoever reads from it will tell.
        if sent.await.is_err() || read == 0 {
            return;
        }
    }
}

/// Passes the frames of a command on to its streams, and its input to the agent.
async fn relay(
    ends: Ends,
    input: Stdin,
    mut from: ReadHalf<Frames>,
    mut to: WriteHalf<Frames>,
    host: Host,
) {
    let (killed, mut kill) = watch::channel(false);
    let Ends { stdin, mut stdout, mut stderr, mut child } = ends;
    let incoming = async {
        let mut bytes = Vec::new();
        loop {
            match protocol::read_frame(&mut from, &mut bytes).await {
                // A stream that nobody reads any more is read for nobody, and that of a command
                // that is to be ended, too.
                Ok(Some(frame::STDOUT)) => tokio::select! {
                    _ = stdout.write_all(&bytes) => {}
                    _ = kill.wait_for(|killed| *killed) => {}
                },
                Ok(Some(frame::STDERR)) => tokio::select! {
                    _ = stderr.write_all(&bytes) => {}
                    _ = kill.wait_for(|killed| *killed) => {}
                },
                Ok(Some(frame::END)) => break ended(&bytes, &host),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break Err(agent_gone(&host)),
            }
        }
    };
    let mut incoming = pin!(incoming);
    let outgoing = async {
        match (stdin, input) {
            (Some(stdin), _) => feed(&mut to, Some(stdin), true).await,
            (None, Stdin::Bytes(bytes)) => feed(&mut to, Some(Cursor::new(bytes)), true).await,
            (None, _) => {}
        }
        // The connection stays: its end would be that of the command.
        std::future::pending::<()>().await;
    };
    let result = tokio::select! {
        result = &mut incoming => Some(result),
        () = outgoing => None,
        () = child.stopped() => None,
    };
    let result = match result {
        Some(result) => result,
        None => {
            killed.send_replace(true);
            // There may be half a frame of input on its way, after which no other can be sent.
            // Where the agent is gone, that is the answer.
            let _ = to.shutdown().await;
            incoming.await
        }
    };
    let remote = remote_of(&result);
    child.ended(result, remote);
}
