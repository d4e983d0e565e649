//! A distant host that is near: a port of this machine that leads to another one with a delay.
//!
//! It stands by itself, so that benchmarks can use the file too; for that reason its tests are in
//! tests/delay.rs. What is delayed are the bytes, half a round trip each way. The handshake of TCP
//! is not: a connection is there at once, and so a login takes one round trip less than it would
//! over a real distance.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc as blocking};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// How many bytes of one direction of a connection may be under way. With a round trip of 40 ms it
/// lets pass 200 MB a second.
const UNDER_WAY: u32 = 4 << 20;
/// As which a piece counts at least, for what it takes beside its bytes: single bytes must not add
/// up to more than the limit allows for.
const LEAST: u32 = 256;
const MOST_AT_ONCE: usize = 64 << 10;

/// The port. Dropped, it is closed, and so are all connections through it.
pub struct Delay {
    port: u16,
    listener: JoinHandle<()>,
}

impl Delay {
    /// Opens a port of 127.0.0.1 that leads to this host and port, so that an answer takes as much
    /// longer as `round_trip` says. The name is looked up once, here.
    ///
    /// # Errors
    ///
    /// When the name is not known, or the system gives no port or no thread.
    pub async fn start(to: (String, u16), round_trip: Duration) -> io::Result<Delay> {
        let to: Arc<[SocketAddr]> = tokio::net::lookup_host((to.0.as_str(), to.1)).await?.collect();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let listener = tokio::spawn(serve(listener, to, Clock::start(round_trip / 2)?));
        Ok(Delay { port, listener })
    }

    /// The port of 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        // The connections are its own.
        self.listener.abort();
    }
}

/// Tells when the delay is over. A thread, since the timers of tokio count in milliseconds and
/// round up: that would be some of them in each round trip. It ends with the last handle.
#[derive(Clone)]
struct Clock(blocking::Sender<(Instant, oneshot::Sender<()>)>);

impl Clock {
    fn start(delay: Duration) -> io::Result<Self> {
        let (sender, waiting) = blocking::channel::<(Instant, oneshot::Sender<()>)>();
        std::thread::Builder::new().name("delay".to_owned()).spawn(move || {
            // All wait for the same time, and so who came first is due first.
            for (since, wake) in waiting {
                std::thread::sleep((since + delay).saturating_duration_since(Instant::now()));
                // It may wait no longer.
                let _ = wake.send(());
            }
        })?;
        Ok(Clock(sender))
    }

    /// Completes when the delay has passed since now, whenever it is looked at.
    fn begin(&self) -> oneshot::Receiver<()> {
        let (wake, due) = oneshot::channel();
        // The thread is there as long as a handle is.
        let _ = self.0.send((Instant::now(), wake));
        due
    }
}

async fn serve(listener: TcpListener, to: Arc<[SocketAddr]>, clock: Clock) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let (to, clock) = (Arc::clone(&to), clock.clone());
                    connections.spawn(async move {
                        // A server that cannot be reached closes the connection, and a lost
                        // connection is lost on both sides.
                        let _ = connect(client, &to, &clock).await;
                    });
                }
                // Descriptors may be scarce for a moment; the client waits in the queue meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(mut client: TcpStream, to: &[SocketAddr], clock: &Clock) -> io::Result<()> {
    let mut server = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(pass(from_client, to_server, clock), pass(from_server, to_client, clock))?;
    Ok(())
}

/// A piece of a stream. An empty one is its end.
struct Piece {
    due: oneshot::Receiver<()>,
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

/// Passes on what comes, in order, each piece as much later as it came. The end is passed on in the
/// same way.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    clock: &Clock,
) -> io::Result<()> {
    // Unbounded as a channel: the room bounds what is in it.
    let (sender, mut pieces) = mpsc::unbounded_channel::<Piece>();
    let room = Arc::new(Semaphore::new(UNDER_WAY as usize));
    let read = async {
        let sender = sender;
        let mut buffer = vec![0; MOST_AT_ONCE];
        loop {
            let read = from.read(&mut buffer).await?;
            let due = clock.begin();
            let size = u32::try_from(read).unwrap_or(UNDER_WAY).max(LEAST);
            let room =
                Arc::clone(&room).acquire_many_owned(size).await.expect("it is never closed");
            let piece = Piece { due, bytes: buffer[..read].to_vec(), _room: room };
            if sender.send(piece).is_err() || read == 0 {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some(piece) = pieces.recv().await {
            // The clock is there as long as this connection is.
            let _ = piece.due.await;
            match piece.bytes.is_empty() {
                true => to.shutdown().await?,
                false => to.write_all(&piece.bytes).await?,
            }
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}
