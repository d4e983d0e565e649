//! The delay. Not in its file: benchmarks that use that would have its tests too.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cli::delay::Delay;

const ROUND_TRIP: Duration = Duration::from_millis(80);
/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(30);

async fn delayed() -> (Delay, TcpListener) {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("it has one").port();
    let delay = Delay::start(("127.0.0.1".to_owned(), port), ROUND_TRIP).await.expect("a port");
    (delay, server)
}

/// Both ends of a connection through it.
async fn ends(delay: &Delay, server: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(("127.0.0.1", delay.port())).await.expect("it listens");
    let (server, _) = server.accept().await.expect("somebody comes");
    (client, server)
}

async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut buffer)).await;
    read.expect("it comes in time").expect("it comes");
    buffer
}

async fn is_at_its_end(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await;
    matches!(read.expect("it ends in time"), Ok(0) | Err(_))
}

#[tokio::test]
async fn each_direction_takes_half_a_round_trip() {
    let (delay, server) = delayed().await;
    let (mut client, mut server) = ends(&delay, &server).await;
    let started = Instant::now();
    client.write_all(b"ping").await.expect("it is connected");
    assert_eq!(read(&mut server, 4).await, b"ping");
    assert!(started.elapsed() >= ROUND_TRIP / 2, "{:?}", started.elapsed());
    server.write_all(b"pong").await.expect("it is connected");
    assert_eq!(read(&mut client, 4).await, b"pong");
    assert!(started.elapsed() >= ROUND_TRIP, "{:?}", started.elapsed());
}

#[tokio::test]
async fn pieces_do_not_wait_for_each_other() {
    let (delay, server) = delayed().await;
    let (mut client, mut server) = ends(&delay, &server).await;
    let started = Instant::now();
    let write = async {
        for piece in 0..20 {
            client.write_all(&[piece]).await.expect("it is connected");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (bytes, ()) = tokio::join!(read(&mut server, 20), write);
    assert_eq!(bytes, (0..20).collect::<Vec<u8>>());
    // One after another they would take twenty times as long as one does.
    assert!(started.elapsed() < ROUND_TRIP / 2 * 20, "{:?}", started.elapsed());
}

#[tokio::test]
async fn much_comes_whole_and_in_order() {
    let (delay, server) = delayed().await;
    let (mut client, mut server) = ends(&delay, &server).await;
    let sent: Vec<u8> = (0..12u32 << 20).map(|at| (at / 7 % 251) as u8).collect();
    let write = async {
        client.write_all(&sent).await.expect("it is connected");
        client.shutdown().await.expect("it is connected");
    };
    let mut received = Vec::new();
    let (result, ()) = tokio::join!(server.read_to_end(&mut received), write);
    result.expect("it comes");
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[tokio::test]
async fn an_end_comes_with_the_same_delay_and_leaves_the_other_direction_open() {
    let (delay, server) = delayed().await;
    let (mut client, mut server) = ends(&delay, &server).await;
    let started = Instant::now();
    client.write_all(b"last").await.expect("it is connected");
    client.shutdown().await.expect("it is connected");
    assert_eq!(read(&mut server, 4).await, b"last");
    assert!(is_at_its_end(&mut server).await);
    assert!(started.elapsed() >= ROUND_TRIP / 2, "{:?}", started.elapsed());
    server.write_all(b"answer").await.expect("this direction is open");
    assert_eq!(read(&mut client, 6).await, b"answer");
    drop(server);
    assert!(is_at_its_end(&mut client).await);
}

#[tokio::test]
async fn a_sender_waits_when_nobody_reads() {
    let (delay, server) = delayed().await;
    let (client, _server) = ends(&delay, &server).await;
    let mut written = 0;
    // What is under way, and what the kernel keeps for four ends; it is far from everything.
    let everything = 256 << 20;
    while written < everything {
        let piece = [0; 64 << 10];
        let writable = tokio::time::timeout(Duration::from_millis(500), client.writable()).await;
        let Ok(writable) = writable else { break };
        writable.expect("it is connected");
        written += client.try_write(&piece).unwrap_or(0);
    }
    assert!(written < everything, "{written} bytes are under way");
}

#[tokio::test]
async fn dropped_it_ends_all_connections_and_listens_no_more() {
    let (delay, server) = delayed().await;
    let (mut client, mut server) = ends(&delay, &server).await;
    let port = delay.port();
    drop(delay);
    assert!(is_at_its_end(&mut client).await && is_at_its_end(&mut server).await);
    let refused = TcpStream::connect(("127.0.0.1", port)).await.expect_err("nobody listens");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_server_that_is_not_there_closes_the_connection() {
    let (delay, server) = delayed().await;
    drop(server);
    let mut client = TcpStream::connect(("127.0.0.1", delay.port())).await.expect("it listens");
    assert!(is_at_its_end(&mut client).await);
}

#[tokio::test]
async fn a_name_that_is_not_known_is_an_error_of_the_start() {
    let unknown = ("sshpool.invalid".to_owned(), 22);
    assert!(Delay::start(unknown, ROUND_TRIP).await.is_err());
}
