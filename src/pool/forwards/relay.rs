//! The bytes of one client, between its connection and the way to the host: a private socket of a
//! master's, or a command.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

use super::Shared;
use super::client::{Client, Halves};
use crate::command::Child;
use crate::openssh::{Entered, LogSince, OpenSsh};
use crate::policy::Lease;
use crate::text::printable;

/// What is kept of the words of a command.
const MOST_SAID: u64 = 4096;
/// What is read at once.
const PIECE: usize = 64 * 1024;

/// Passes bytes over a private socket of a master's until both sides have ended; `Err` says why the
/// client is to be reset.
pub(super) async fn over_a_master(
    client: &mut Client,
    entered: &mut Entered,
    lease: &Lease<OpenSsh>,
    shared: &Shared,
) -> Result<(), Broken> {
    // Of another registration: the readiness of the socket itself is the writer's.
    let closed = entered.stream.as_fd().try_clone_to_owned().map_err(Broken::Here)?;
    let Entered { stream, log } = entered;
    let (from, to) = stream.split();
    pass(client, (from, to), is_closed(closed), &Way::Master { lease, log }, shared).await
}

/// The same over a command, which has a connection to the target for its standard streams.
pub(super) async fn over_a_command(
    client: &mut Client,
    mut child: Child,
    shared: &Shared,
) -> Result<(), Broken> {
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let (Some(to), Some(from)) = (stdin, stdout) else {
        return Err(Broken::Lost("the command has no streams".to_owned()));
    };
    let child = Mutex::new(child);
    let passed =
        pass(client, (from, to), std::future::pending(), &Way::Command(&child), shared).await;
    if passed.is_err() {
        child.into_inner().end().await;
    }
    passed
}

/// What leads to the host.
enum Way<'a> {
    Master { lease: &'a Lease<OpenSsh>, log: &'a LogSince },
    Command(&'a Mutex<Child>),
}

impl Way<'_> {
    /// Something came over it: if it is lost now, another login is worth a try.
    fn works(&self) {
        if let Way::Master { lease, .. } = self {
            lease.connection().ran();
            lease.ran();
        }
    }

    /// Whether the end behind so many bytes is the target's.
    async fn has_ended(&self, came: u64) -> Result<(), Broken> {
        match self {
            Way::Master { lease, log } => {
                lease.connection().outlived().await.map_err(Broken::Lost)?;
                // An end without a byte can be a refusal.
                match log.refusal() {
                    Some(reason) if came == 0 => Err(Broken::Refused(reason)),
                    _ => Ok(()),
                }
            }
            Way::Command(child) => {
                let mut said = Vec::new();
                let mut child = child.lock().await;
                if let Some(stderr) = &mut child.stderr {
                    // What it said before its streams broke is all there is.
                    let _ = stderr.take(MOST_SAID).read_to_end(&mut said).await;
                }
                let status = child.wait().await;
                let status = status.map_err(|error| Broken::Lost(error.to_string()))?;
                if status.success() {
                    return Ok(());
                }
                let said = String::from_utf8_lossy(&said);
                let last = said.trim().lines().last().unwrap_or("it says nothing");
                let why = format!("the command has failed ({status}): {}", printable(last));
                Err(if came == 0 { Broken::Refused(why) } else { Broken::Lost(why) })
            }
        }
    }
}

/// Why a client is reset.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client itself has gone: nobody is there to hear of it.
    Client,
    /// The server could not connect to the target.
    Refused(String),
    /// The connection is gone.
    Lost(String),
    /// Something is missing on this machine.
    Here(io::Error),
}

async fn pass(
    client: &mut Client,
    host: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    closed: impl Future<Output = io::Result<()>>,
    way: &Way<'_>,
    shared: &Shared,
) -> Result<(), Broken> {
    match client.halves() {
        Halves::Tcp(read, write) => both((read, write), host, closed, way, shared).await,
        Halves::Unix(read, write) => both((read, write), host, closed, way, shared).await,
    }
}

/// `closed` completes when the host neither reads nor writes any more.
async fn both(
    (mut from_client, mut to_client): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    (mut from_host, mut to_host): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    closed: impl Future<Output = io::Result<()>>,
    way: &Way<'_>,
    shared: &Shared,
) -> Result<(), Broken> {
    let up = async move {
        let passed = match pump(&mut from_client, &mut to_host, &shared.sent, || ()).await {
            Ok(_) => {
                // Who has closed it hears of no end.
                let _ = to_host.shutdown().await;
                Ok(())
            }
            Err(Pump::Read(_)) => Err(Broken::Client),
            // The host takes no more; what it says is still read.
            Err(Pump::Write) => Ok(()),
        };
        // A pipe is closed by nothing else.
        drop(to_host);
        passed
    };
    let down = async {
        let works = || way.works();
        let came = match pump(&mut from_host, &mut to_client, &shared.received, works).await {
            Ok(came) => came,
            // As an end: a master that is lost closes its sockets, too.
            Err(Pump::Read(came)) => came,
            Err(Pump::Write) => return Err(Broken::Client),
        };
        way.has_ended(came).await?;
        to_client.shutdown().await.map_err(|_| Broken::Client)?;
        Ok(came)
    };
    tokio::pin!(up, down);
    tokio::select! {
        passed = &mut up => {
            passed?;
            down.await.map(drop)
        }
        passed = &mut down => {
            let came = passed?;
            // The client may have more to say, as long as somebody is there to hear it. What it has
            // said to a connection that is lost by now has not arrived.
            tokio::select! {
                passed = &mut up => passed?,
                gone = closed => gone.map_err(Broken::Here)?,
            }
            // Nothing is refused any more.
            way.has_ended(came.max(1)).await
        }
    }
}

/// Which side has failed.
enum Pump {
    /// Behind so many bytes.
    Read(u64),
    Write,
}

/// To the end of `from`. Gives how many bytes that was; `first` is called behind the first ones.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &AtomicU64,
    first: impl FnOnce(),
) -> Result<u64, Pump> {
    let mut first = Some(first);
    let mut buffer = vec![0; PIECE];
    let mut came = 0;
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| Pump::Read(came))?;
        if read == 0 {
            return Ok(came);
        }
        came += read as u64;
        if let Some(first) = first.take() {
            first();
        }
        to.write_all(&buffer[..read]).await.map_err(|_| Pump::Write)?;
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Completes when the master has closed this socket in both directions.
async fn is_closed(socket: OwnedFd) -> io::Result<()> {
    let socket = std::os::unix::net::UnixStream::from(socket);
    let socket = UnixStream::from_std(socket)?;
    while !socket.ready(Interest::WRITABLE).await?.is_write_closed() {
        // That it can be written to is no news: the next change is waited for.
        let changed = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = socket.try_io(Interest::WRITABLE, changed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_closed_when_both_directions_are() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let socket = ours.as_fd().try_clone_to_owned().expect("a descriptor");
        let closed = tokio::spawn(is_closed(socket));
        let theirs = theirs.into_std().expect("it is ours");
        theirs.shutdown(std::net::Shutdown::Write).expect("it is open");
        // The end of one direction is seen.
        let mut ours = ours;
        assert_eq!(ours.read(&mut [0; 1]).await.expect("an end"), 0);
        tokio::task::yield_now().await;
        assert!(!closed.is_finished(), "it can still be written to");
        drop(theirs);
        closed.await.expect("no panic").expect("it is looked at");
    }
}
