//! The network that fails when it is told to does so, and comes back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rstest::rstest;

use crate::lab::common::proxy::Proxy;
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{self, wait_for};
use crate::lab::pooled;

/// Longer than anything takes that works, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough to see that nothing comes.
const SHORT: Duration = Duration::from_millis(200);

/// Both ends of a connection through a proxy.
struct Ends {
    proxy: Proxy,
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Ends {
    fn new() -> Ends {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let proxy = Proxy::to(listener.local_addr().expect("it has one").port());
        let (client, server) = connect(&proxy, &listener);
        Ends { proxy, listener, client, server }
    }

    /// Sends a line from the client to the server and back.
    #[track_caller]
    fn echo(&mut self) {
        self.client.write_all(b"there\n").expect("it can be written");
        assert_eq!(read(&mut self.server, 6).expect("it arrives"), b"there\n");
        self.server.write_all(b"back\n").expect("it can be written");
        assert_eq!(read(&mut self.client, 5).expect("it arrives"), b"back\n");
    }
}

fn connect(proxy: &Proxy, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).expect("it accepts");
    let (server, _) = listener.accept().expect("it connects");
    for end in [&client, &server] {
        end.set_read_timeout(Some(PATIENCE)).expect("a time");
    }
    (client, server)
}

fn read(from: &mut TcpStream, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes).map(|()| bytes)
}

/// Whether nothing comes for a while, neither bytes nor an end.
fn is_silent(from: &mut TcpStream) -> bool {
    from.set_read_timeout(Some(SHORT)).expect("a time");
    let read = from.read(&mut [0]);
    from.set_read_timeout(Some(PATIENCE)).expect("a time");
    matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[rstest]
fn it_passes_bytes_and_ends_and_counts() {
    let mut ends = Ends::new();
    ends.echo();
    let second = connect(&ends.proxy, &ends.listener);
    assert_eq!((ends.proxy.accepted(), ends.proxy.open()), (2, 2));
    drop(second);
    ends.client.shutdown(std::net::Shutdown::Write).expect("it can be ended");
    assert_eq!(ends.server.read(&mut [0]).expect("an end, and no reset"), 0);
    ends.server.write_all(b"still\n").expect("the other direction is open");
    assert_eq!(read(&mut ends.client, 6).expect("it arrives"), b"still\n");
    ends.server.shutdown(std::net::Shutdown::Write).expect("it can be ended");
    assert_eq!(ends.client.read(&mut [0]).expect("an end, and no reset"), 0);
    wait_for("the end of all connections", PATIENCE, || ends.proxy.open() == 0);
    assert_eq!(ends.proxy.accepted(), 2);
}

#[rstest]
fn what_is_swallowed_arrives_when_the_network_is_back() {
    let mut ends = Ends::new();
    ends.proxy.swallow();
    ends.client.write_all(b"there\n").expect("it can be written");
    ends.server.write_all(b"back\n").expect("it can be written");
    let mut third =
        TcpStream::connect((Ipv4Addr::LOCALHOST, ends.proxy.port())).expect("it is accepted");
    third.write_all(b"new\n").expect("it can be written");
    assert!(is_silent(&mut ends.server) && is_silent(&mut ends.client) && is_silent(&mut third));
    ends.listener.set_nonblocking(true).expect("a mode");
    assert!(ends.listener.accept().is_err(), "a new connection leads nowhere");
    ends.listener.set_nonblocking(false).expect("a mode");

    ends.proxy.pass();
    assert_eq!(read(&mut ends.server, 6).expect("it arrives"), b"there\n");
    assert_eq!(read(&mut ends.client, 5).expect("it arrives"), b"back\n");
    let (mut server, _) = ends.listener.accept().expect("it leads somewhere");
    assert_eq!(read(&mut server, 4).expect("it arrives"), b"new\n");
    ends.echo();
}

/// The end of a connection is swallowed as well.
#[rstest]
fn an_end_is_swallowed_too() {
    let Ends { proxy, listener: _listener, client, mut server } = Ends::new();
    proxy.swallow();
    drop(client);
    assert!(is_silent(&mut server));
    proxy.pass();
    assert_eq!(server.read(&mut [0]).expect("an end, and no reset"), 0);
}

#[rstest]
fn a_reset_is_one_on_both_sides_and_spares_new_connections() {
    let mut ends = Ends::new();
    ends.echo();
    ends.proxy.reset();
    assert_eq!(ends.proxy.open(), 0);
    for end in [&mut ends.client, &mut ends.server] {
        assert_eq!(end.read(&mut [0]).expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
    }
    (ends.client, ends.server) = connect(&ends.proxy, &ends.listener);
    ends.echo();
}

#[rstest]
fn what_is_refused_is_accepted_again_on_the_same_port() {
    let mut ends = Ends::new();
    ends.proxy.refuse();
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, ends.proxy.port()));
    assert_eq!(refused.expect_err("nothing listens").kind(), ErrorKind::ConnectionRefused);
    ends.echo();
    ends.proxy.accept();
    (ends.client, ends.server) = connect(&ends.proxy, &ends.listener);
    ends.echo();
}

#[rstest]
fn a_delay_holds_both_ways() {
    let mut ends = Ends::new();
    ends.proxy.delay(SHORT);
    let start = Instant::now();
    ends.echo();
    assert!(start.elapsed() >= 2 * SHORT, "{:?}", start.elapsed());
    ends.proxy.pass();
    ends.echo();
}

#[rstest]
fn delayed_pieces_do_not_wait_for_each_other() {
    let mut ends = Ends::new();
    ends.proxy.delay(SHORT);
    let start = Instant::now();
    for piece in 0..20 {
        ends.client.write_all(&[piece]).expect("it can be written");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(read(&mut ends.server, 20).expect("it arrives"), (0..20).collect::<Vec<u8>>());
    assert!((SHORT..20 * SHORT).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[rstest]
fn much_comes_whole_and_in_order() {
    let Ends { proxy, mut client, mut server, .. } = Ends::new();
    proxy.delay(Duration::from_millis(20));
    let sent: Vec<u8> = (0..12u32 << 20).map(|at| (at / 7 % 251) as u8).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| client.write_all(&sent).expect("it can be written"));
        assert!(read(&mut server, sent.len()).expect("it arrives") == sent);
    });
}

#[rstest]
fn lost_connections_stay_silent_and_only_the_server_learns_of_their_end() {
    let mut ends = Ends::new();
    ends.echo();
    ends.proxy.lose();
    ends.client.write_all(b"there\n").expect("it can be written");
    ends.server.write_all(b"back\n").expect("it can be written");
    assert!(is_silent(&mut ends.server) && is_silent(&mut ends.client));
    let (client, mut server) = connect(&ends.proxy, &ends.listener);
    (&client).write_all(b"new\n").expect("it can be written");
    assert_eq!(read(&mut server, 4).expect("it arrives"), b"new\n");
    // What passes again does not pass on those.
    ends.proxy.pass();
    assert!(is_silent(&mut ends.client));
    drop(ends.client);
    assert_eq!(ends.server.read(&mut [0]).expect("an end, and no reset"), 0);
}

#[rstest]
fn a_throttle_lets_pass_so_much_in_a_second() {
    let mut ends = Ends::new();
    ends.proxy.throttle(10_000);
    let start = Instant::now();
    ends.client.write_all(&[7; 5_000]).expect("it can be written");
    assert_eq!(read(&mut ends.server, 5_000).expect("it arrives"), [7; 5_000]);
    // The last portion is there before its time is over.
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
    // So slow that it would never end; with the throttle taken away, what is under way arrives.
    ends.proxy.throttle(1);
    ends.client.write_all(&[8; 500]).expect("it can be written");
    ends.proxy.pass();
    assert_eq!(read(&mut ends.server, 500).expect("it arrives"), [8; 500]);
}

#[rstest]
fn dropped_it_closes_everything() {
    let Ends { proxy, listener, mut client, mut server } = Ends::new();
    let port = proxy.port();
    drop(proxy);
    for end in [&mut client, &mut server] {
        assert_eq!(end.read(&mut [0]).expect_err("it is reset").kind(), ErrorKind::ConnectionReset);
    }
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, port));
    assert_eq!(refused.expect_err("nothing listens").kind(), ErrorKind::ConnectionRefused);
    drop(listener);
}

#[rstest]
fn ssh_goes_through_it() {
    let sshd = Sshd::builder().start();
    let proxy = Proxy::before(&sshd);
    let mut ssh = pooled::command("ssh");
    ssh.arg("-F").arg(proxy.ssh_config(&sshd)).args([
        "-o",
        "BatchMode=yes",
        "--",
        "lab",
        "echo through",
    ]);
    let ended = common::process::run(&mut ssh, PATIENCE);
    // The server's key is known: there is nothing to remark on.
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "through\n", ""));
    assert_eq!(proxy.accepted(), 1);
}
