//! The network between the pool and the server: a TCP proxy that can lose, delay and cut.
//!
//! Unlike the one of the tests it goes on where this process has no descriptor free, and it can
//! forget connections for good.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

/// A listener that cannot accept (no free descriptors, say) tries again after this.
const AGAIN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Nothing gets through. TCP sends it again, so that it comes when this is over.
    swallows: bool,
    delay: Duration,
    /// How often all connections were reset until now.
    resets: u64,
    /// How often all connections were forgotten until now: such a one stays, and nothing gets
    /// through it any more.
    losses: u64,
}

/// On a thread of its own: what goes on in this program is not to be a part of the network.
pub struct Proxy {
    port: u16,
    weather: watch::Sender<Weather>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Proxy {
    /// A proxy on 127.0.0.1 to a port there.
    pub fn start(to: u16) -> Proxy {
        let (weather, seen) = watch::channel(Weather::default());
        let (stop, stopped) = oneshot::channel::<()>();
        let (port, started) = std::sync::mpsc::channel();
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
                port.send(listener.local_addr().expect("a bound socket has an address").port())
                    .expect("somebody waits");
                tokio::select! {
                    () = accept(&listener, to, &seen) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(run).expect("a thread");
        let port = started.recv().expect("the proxy starts");
        Proxy { port, weather, stop: Some(stop), thread: Some(thread) }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn swallow(&self, swallows: bool) {
        self.weather.send_modify(|weather| weather.swallows = swallows);
    }

    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    pub fn reset(&self) {
        self.weather.send_modify(|weather| weather.resets += 1);
    }

    pub fn lose(&self) {
        self.weather.send_modify(|weather| weather.losses += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: &TcpListener, to: u16, weather: &watch::Receiver<Weather>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => drop(tokio::spawn(serve(client, to, weather.clone()))),
            Err(_) => sleep(AGAIN).await,
        }
    }
}

async fn serve(mut client: TcpStream, to: u16, mut weather: watch::Receiver<Weather>) {
    let born = *weather.borrow();
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", to)).await else {
        // Nobody is there: a client that came to the server itself would be refused.
        let _ = client.set_zero_linger();
        return;
    };
    // ssh wants its small packets at once, and so they go on.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (there, back) = (weather.clone(), weather.clone());
    let both = async {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        tokio::join!(
            pipe(from_client, to_server, there, born, true),
            pipe(from_server, to_client, back, born, false)
        )
    };
    let was_reset = tokio::select! {
        _ = both => false,
        changed = weather.wait_for(|now| now.resets != born.resets) => changed.is_ok(),
    };
    if was_reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// One direction. `tells_end`: of a connection that was lost the end is told too, or the server
/// would keep it for ever.
async fn pipe(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut weather: watch::Receiver<Weather>,
    born: Weather,
    tells_end: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut lost = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let now = weather.wait_for(|now| !now.swallows || now.losses != born.losses).await;
        // The sender is gone when the proxy ends.
        let Ok(now) = now.map(|now| *now) else { break };
        lost |= now.losses != born.losses;
        if lost {
            continue;
        }
        if !now.delay.is_zero() {
            sleep(now.delay).await;
        }
        to.write_all(&buffer[..read]).await?;
    }
    if !lost || tells_end {
        to.shutdown().await?;
    }
    Ok(())
}
