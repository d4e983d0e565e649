//! Clients of a forward: what they have read when the stream has ended cleanly is all there was.
//!
//! The service is a part of this process, which no fault strikes. The server reaches it, since test
//! servers share the network of this machine. A client asks for so many bytes, and the service ends
//! the stream behind them. A stream that was cut has to look so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sshpool::{Endpoint, Forward, ForwardSpec};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::ends::Ends;
use crate::load::Load;
use crate::random::Random;
use crate::{ROUNDING, STREAMS};

/// Clients at once.
const CLIENTS: usize = 3;
/// How long a stream may take beside what its connection may.
const LONGEST: Duration = Duration::from_secs(30);

/// Serves until it is dropped.
pub struct Service {
    pub port: u16,
    _tasks: JoinSet<()>,
}

impl Service {
    pub async fn start() -> Service {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            loop {
                match listener.accept().await {
                    Ok((client, _)) => drop(clients.spawn(serve(client))),
                    // No descriptor is free: that is one of the faults.
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
                while clients.try_join_next().is_some() {}
            }
        });
        Service { port, _tasks: tasks }
    }
}

/// What is at this place of every stream.
fn piece(at: u64) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 13) as u8
}

async fn serve(mut client: TcpStream) {
    let Ok(length) = client.read_u64().await else { return };
    let mut at = 0;
    while at < length {
        let next = length.min(at + 16 * 1024);
        let bytes: Vec<u8> = (at..next).map(piece).collect();
        if client.write_all(&bytes).await.is_err() {
            return;
        }
        at = next;
    }
    let _ = client.shutdown().await;
}

/// Runs the clients of a round until it stops.
pub async fn run(load: Arc<Load>, forward: Arc<Forward>) -> Ends {
    let Some(Endpoint::Port { port, .. }) = forward.listening() else {
        panic!("it listens at a port");
    };
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(one_after_another(Arc::clone(&load), port, client));
    }
    Ends::of(clients).await
}

/// What is forwarded.
pub fn spec(service: &Service) -> ForwardSpec {
    ForwardSpec::local(&format!("0:127.0.0.1:{}", service.port)).expect("ssh takes it")
}

async fn one_after_another(load: Arc<Load>, port: u16, client: usize) -> Ends {
    let mut seen = Ends::default();
    let config = load.pool.config();
    let patience = config.acquire_timeout + config.connect_timeout + LONGEST + ROUNDING;
    let mut number = 0;
    while !load.stop.load(Ordering::Relaxed) {
        let mut random = Random::of(load.seed, &[STREAMS, client as u64, number]);
        number += 1;
        let length = random.pick(&[0, 1, 1000, 100_000, 3_000_000]);
        let half_closes = random.percent(50);
        let end = match timeout(patience, stream(port, length, half_closes)).await {
            Ok(Ok(end)) => end,
            Ok(Err(wrong)) => {
                seen.failures.push(format!("stream {client}-{number} of {length}: {wrong}"));
                "wrong"
            }
            Err(_) => {
                let wrong = format!("it did not end within {patience:?}");
                seen.failures.push(format!("stream {client}-{number} of {length}: {wrong}"));
                "hung"
            }
        };
        seen.count(end);
        // While a host is left alone after a failure, clients are reset at once.
        sleep(if end == "complete" { random.millis(0, 300) } else { random.millis(100, 500) })
            .await;
    }
    seen
}

async fn stream(port: u16, length: u64, half_closes: bool) -> Result<&'static str, String> {
    let Ok(mut client) = TcpStream::connect(("127.0.0.1", port)).await else {
        // The pool is closed, or no descriptor is free.
        return Ok("not begun");
    };
    if client.write_u64(length).await.is_err() {
        return Ok("reset");
    }
    if half_closes && client.shutdown().await.is_err() {
        return Ok("reset");
    }
    let mut read = Vec::new();
    let ended = client.read_to_end(&mut read).await;
    if let Some(at) = read.iter().zip(0..).position(|(byte, at)| *byte != piece(at)) {
        return Err(format!("another byte at {at}"));
    }
    match ended {
        Ok(_) if read.len() as u64 == length => Ok("complete"),
        Ok(_) => Err(format!("it has ended cleanly behind {} bytes", read.len())),
        Err(_) => Ok("reset"),
    }
}
