//! A network between a test or a benchmark and its server that is slow or fails when it is told to:
//! a port of 127.0.0.1 that leads to the server's.
//!
//! Everything happens on a thread of its own, so that a test may block its own. A verb has taken
//! effect when it returns.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::port::Port;
use super::sshd::Sshd;

/// For a verb. It takes a moment.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is read at once.
const PIECE: usize = 16 << 10;
/// How many pieces of one direction of a connection are under way at most.
const UNDER_WAY: usize = 64;
/// With a throttle so many portions pass in a second.
const PORTIONS: u32 = 20;
/// Where no connection can be accepted, because no descriptor is free perhaps, it is tried again.
const AGAIN: Duration = Duration::from_millis(10);
/// A timer of the runtime is late by as much.
const TICK: Duration = Duration::from_millis(1);

/// How bytes pass. It is asked for each of them at the last moment, also for those that were under
/// way before it was changed.
#[derive(Clone, Copy, Default)]
struct Flow {
    swallows: bool,
    delay: Duration,
    bytes_per_second: Option<u32>,
    /// How often all connections were lost until now.
    losses: u64,
}

#[derive(Clone, Copy)]
enum Verb {
    Reset,
    Refuse,
    Accept,
}

#[derive(Default)]
struct Counters {
    accepted: AtomicUsize,
    open: AtomicUsize,
    spoken: AtomicUsize,
}

/// The port. Dropped, it is closed, and all connections through it are reset.
pub struct Proxy {
    port: u16,
    server: u16,
    flow: watch::Sender<Flow>,
    /// None when it ends.
    verbs: Option<mpsc::UnboundedSender<(Verb, blocking::Sender<()>)>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
    files: TempDir,
}

impl Proxy {
    /// A proxy that passes everything on to this port of 127.0.0.1.
    pub fn to(server: u16) -> Proxy {
        let port = Port::reserve();
        let number = port.number;
        let (flow, flowing) = watch::channel(Flow::default());
        let (verbs, told) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        // Already here: a test may connect at once.
        let listener = listen(number).expect("a port that was reserved is free");
        let thread = std::thread::spawn(move || {
            runtime.block_on(serve(listener, &port, server, flowing, told, counted));
        });
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        Proxy {
            port: number,
            server,
            flow,
            verbs: Some(verbs),
            counters,
            thread: Some(thread),
            files,
        }
    }

    /// A proxy in front of a test server.
    pub fn before(sshd: &Sshd) -> Proxy {
        Proxy::to(sshd.port())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's ssh_config with the way through this proxy. No other test has a file of this
    /// name, and so whatever was started with it is known by it.
    pub fn ssh_config(&self, sshd: &Sshd) -> PathBuf {
        let config = std::fs::read_to_string(sshd.ssh_config()).expect("the server has one");
        let (direct, through) =
            (format!("Port {}\n", self.server), format!("Port {}\n", self.port));
        assert!(config.contains(&direct), "the server's port is in it: {config}");
        // The key is known under the server's own port.
        let alias = format!("    HostKeyAlias [127.0.0.1]:{}\n", self.server);
        let path = self.files.path().join("ssh_config");
        std::fs::write(&path, config.replace(&direct, &through) + &alias)
            .expect("a file can be written");
        path
    }

    /// Passes everything on: the end of `swallow`, `delay` and `throttle`.
    pub fn pass(&self) {
        self.flow.send_modify(|flow| *flow = Flow { losses: flow.losses, ..Flow::default() });
    }

    /// Passes nothing on in either direction, ends of connections neither. New ones are accepted
    /// and lead nowhere. As in a network that comes back, what was sent meanwhile arrives after a
    /// `pass`.
    pub fn swallow(&self) {
        self.flow.send_modify(|flow| flow.swallows = true);
    }

    /// Passes on so much later, each way, what comes from now on. Connections are there at once.
    pub fn delay(&self, delay: Duration) {
        self.flow.send_modify(|flow| flow.delay = delay);
    }

    /// Forgets all open connections for good: nothing passes on them any more, and the client is not
    /// told. The server is told when the client has gone, or it would keep them for ever.
    pub fn lose(&self) {
        self.flow.send_modify(|flow| flow.losses += 1);
    }

    /// Passes on so much at most, on each connection and each way.
    pub fn throttle(&self, bytes_per_second: u32) {
        self.flow.send_modify(|flow| flow.bytes_per_second = Some(bytes_per_second));
    }

    /// Resets (RST) all open connections, on both sides. New ones are welcome.
    #[track_caller]
    pub fn reset(&self) {
        self.obey(Verb::Reset);
    }

    /// From now on nothing listens on the port. Connections that are open stay.
    #[track_caller]
    pub fn refuse(&self) {
        self.obey(Verb::Refuse);
    }

    /// The end of `refuse`.
    #[track_caller]
    pub fn accept(&self) {
        self.obey(Verb::Accept);
    }

    /// Connections that were ever accepted.
    pub fn accepted(&self) -> usize {
        self.counters.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// Connections whose client has written while everything was swallowed: it knows that it is
    /// connected.
    pub fn spoken(&self) -> usize {
        self.counters.spoken.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn obey(&self, verb: Verb) {
        let (done, answer) = blocking::channel();
        let sent =
            self.verbs.as_ref().expect("it is there until this is dropped").send((verb, done));
        sent.ok().and_then(|()| answer.recv_timeout(PATIENCE).ok()).expect("the proxy obeys");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.verbs.take());
        if let Some(thread) = self.thread.take() {
            // It has panicked, perhaps; then the test has failed already, or does not depend on it.
            let _ = thread.join();
        }
    }
}

fn listen(port: u16) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Dropped alone, it would listen on as long as a process that is just being started has a copy.
fn close(listener: Option<TcpListener>) {
    let _ = listener.map(|listener| shutdown(listener.as_raw_fd(), Shutdown::Both));
}

/// Serves until nobody can tell it anything any more.
async fn serve(
    listener: std::net::TcpListener,
    port: &Port,
    server: u16,
    flow: watch::Receiver<Flow>,
    mut told: mpsc::UnboundedReceiver<(Verb, blocking::Sender<()>)>,
    counters: Arc<Counters>,
) {
    let mut listener = Some(TcpListener::from_std(listener).expect("it does not block"));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // First, lest one that was there is spared by a verb that comes after it.
            accepted = accepted => {
                let Ok((client, _)) = accepted else {
                    sleep(AGAIN).await;
                    continue;
                };
                counters.accepted.fetch_add(1, Ordering::SeqCst);
                // Whatever ends it before its proper end resets it.
                let _ = reset_when_closed(&client, true);
                let open = Open::new(&counters);
                let flow = flow.clone();
                let counters = Arc::clone(&counters);
                connections.spawn(async move {
                    let _open = open;
                    // A connection that fails on one side is reset on the other.
                    let _ = connect(client, server, flow, &counters).await;
                });
            }
            verb = told.recv() => {
                let Some((verb, done)) = verb else { return close(listener) };
                match verb {
                    Verb::Reset => connections.shutdown().await,
                    Verb::Refuse => close(listener.take()),
                    Verb::Accept if listener.is_some() => {}
                    Verb::Accept => {
                        let again = listen(port.number).and_then(TcpListener::from_std);
                        listener = Some(again.expect("the port is reserved"));
                    }
                }
                // Whoever asked may have lost patience.
                let _ = done.send(());
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A connection that is open until this is dropped.
struct Open(Arc<Counters>);

impl Open {
    fn new(counters: &Arc<Counters>) -> Open {
        counters.open.fetch_add(1, Ordering::SeqCst);
        Open(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connect(
    mut client: TcpStream,
    server: u16,
    flow: watch::Receiver<Flow>,
    counters: &Counters,
) -> io::Result<()> {
    let spoken = async {
        if client.readable().await.is_ok() {
            counters.spoken.fetch_add(1, Ordering::SeqCst);
        }
        std::future::pending().await
    };
    let born = flow.borrow().losses;
    let mut passing = flow.clone();
    tokio::select! {
        _ = passes(&mut passing, born) => {}
        () = spoken => {}
    }
    let socket = TcpSocket::new_v4()?;
    reset_when_closed(&socket, true)?;
    let mut server = socket.connect((Ipv4Addr::LOCALHOST, server).into()).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::try_join!(
            pass(from_client, to_server, flow.clone(), born, true),
            pass(from_server, to_client, flow, born, false)
        )?;
    }
    reset_when_closed(&client, false)?;
    reset_when_closed(&server, false)
}

fn reset_when_closed(socket: &impl AsFd, reset: bool) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::Linger, &linger { l_onoff: reset.into(), l_linger: 0 })?)
}

/// Completes when bytes may pass, or with false when the connection is lost.
async fn passes(flow: &mut watch::Receiver<Flow>, born: u64) -> bool {
    let passes = flow.wait_for(|flow| !flow.swallows || flow.losses != born).await;
    match passes.map(|flow| flow.losses == born) {
        Ok(passes) => passes,
        // The proxy is being dropped, and this with it.
        Err(_) => std::future::pending().await,
    }
}

/// Completes at this time, and no later: the last moment is slept through by the whole thread.
async fn until(due: Instant) {
    sleep_until(due - TICK).await;
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
}

/// Passes one direction on, its end too. `born` is how many losses were before the connection;
/// `tells_end` is whether the end of one that is lost is told.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut flow: watch::Receiver<Flow>,
    born: u64,
    tells_end: bool,
) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let read_flow = flow.clone();
    let read = async move {
        let mut buffer = vec![0; PIECE];
        loop {
            let read = from.read(&mut buffer).await;
            let Flow { delay, losses, .. } = *read_flow.borrow();
            // How a connection ends that is lost, nobody learns.
            let read = if losses == born { read? } else { read.unwrap_or(0) };
            let due = Instant::now() + delay;
            // An empty piece is the end.
            if sender.send((due, buffer[..read].to_vec())).await.is_err() || read == 0 {
                return Ok(());
            }
        }
    };
    let write = async move {
        while let Some((due, piece)) = pieces.recv().await {
            until(due).await;
            let mut rest = &piece[..];
            while !rest.is_empty() && passes(&mut flow, born).await {
                let rate = flow.borrow().bytes_per_second;
                let portion = rate
                    .map_or(rest.len(), |rate| rest.len().min((rate / PORTIONS).max(1) as usize));
                to.write_all(&rest[..portion]).await?;
                rest = &rest[portion..];
                if let Some(rate) = rate {
                    sleep(Duration::from_secs_f64(portion as f64 / f64::from(rate))).await;
                }
            }
            if piece.is_empty() && (passes(&mut flow, born).await || tells_end) {
                to.shutdown().await?;
            }
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_: ((), ())| ())
}
