//! Forwards that stay: what clients of a forward get is what they get over plain ssh, while the
//! connection lives; when it is lost they are reset, and the next client gets the next connection.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use rstest::rstest;
use sshpool::{Endpoint, Error, Forward, ForwardSpec, Pool, Stdin};
use tokio::time::timeout;

use crate::lab::agents::Home;
use crate::lab::common::port::Port;
use crate::lab::common::process::{run, wait_until};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{wait_for, wait_for_async};
use crate::lab::pooled::{PATIENCE, command, config, host, kill, pool};

/// A service of this test's, on a port of the server: plain ssh leads there.
pub struct Service {
    ssh: Child,
    pub port: u16,
}

impl Service {
    /// For each client `serve` is called, in a thread of its own.
    pub fn start(sshd: &Sshd, serve: fn(TcpStream)) -> Service {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let here = listener.local_addr().expect("it has one").port();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                std::thread::spawn(move || serve(client));
            }
        });
        Self::to(sshd, here)
    }

    /// One that listens on this port of this machine.
    pub fn to(sshd: &Sshd, here: u16) -> Service {
        let mut ssh = command("ssh");
        ssh.arg("-F").arg(sshd.ssh_config()).args(["-N", "-R", &format!("0:127.0.0.1:{here}")]);
        let mut ssh = ssh.arg("lab").stderr(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(ssh.stderr.take().expect("a pipe")).lines();
        let port = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("Allocated port ")?.split(' ').next()?.parse().ok());
        Service { ssh, port: port.expect("the server listens") }
    }

    pub fn spec(&self) -> ForwardSpec {
        ForwardSpec::local(&format!("0:127.0.0.1:{}", self.port)).expect("ssh takes it")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}

/// Gives back what comes, to its end, and says how much that was.
fn echo(mut client: TcpStream) {
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes);
    let _ = client.write_all(&bytes);
    let _ = client.write_all(format!("{} bytes", bytes.len()).as_bytes());
}

/// Says something, and then nothing more.
fn endless(mut client: TcpStream) {
    let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nhalf of it");
    let _ = client.read(&mut [0; 1]);
}

/// Ends its own direction, and hears what comes then.
fn first_to_end(mut client: TcpStream) {
    let _ = client.write_all(b"said");
    let _ = client.shutdown(Shutdown::Write);
    let mut bytes = Vec::new();
    let _ = client.read_to_end(&mut bytes);
    HEARD.lock().expect("nobody panics").push(bytes);
}

static HEARD: std::sync::Mutex<Vec<Vec<u8>>> = std::sync::Mutex::new(Vec::new());

pub fn port_of(forward: &Forward) -> u16 {
    match forward.listening() {
        Some(Endpoint::Port { port, .. }) => port,
        other => panic!("no port: {other:?}"),
    }
}

fn client_of(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
    stream
}

/// What a client hears that says this, and how that ended.
fn says(port: u16, bytes: Vec<u8>) -> (Vec<u8>, Result<usize, ErrorKind>) {
    let mut client = client_of(port);
    let mut writer = client.try_clone().expect("a descriptor");
    let writing = std::thread::spawn(move || {
        let _ = writer.write_all(&bytes);
        let _ = writer.shutdown(Shutdown::Write);
    });
    let mut heard = Vec::new();
    let ended = client.read_to_end(&mut heard).map_err(|error| error.kind());
    writing.join().expect("no panic");
    (heard, ended)
}

pub async fn blocking<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> T {
    let done = timeout(PATIENCE, tokio::task::spawn_blocking(task)).await;
    done.expect("it ends").expect("no panic")
}

pub async fn forwarded(pool: &Pool, sshd: &Sshd, spec: &ForwardSpec) -> Forward {
    timeout(PATIENCE, pool.forward(&host(sshd), spec)).await.expect("it ends").expect("it listens")
}

pub fn master(pool: &Pool) -> u32 {
    pool.connections().first().expect("there is a connection").pid
}

/// A forward of plain ssh, to compare with.
fn plain_forward(sshd: &Sshd, to: u16) -> (Child, u16) {
    let reserved = Port::reserve();
    let port = reserved.number;
    let mut ssh = command("ssh");
    ssh.arg("-F").arg(sshd.ssh_config()).arg("-N");
    let spec = format!("{port}:127.0.0.1:{to}");
    let ssh = ssh.args(["-L", &spec, "lab"]).spawn().expect("it starts");
    wait_for("plain ssh listens", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_ok());
    (ssh, port)
}

#[rstest]
#[case::nothing(0)]
#[case::a_byte(1)]
#[case::megabytes(3_000_000)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_and_ends_are_those_of_plain_ssh(#[case] size: usize) {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, echo);
    let (mut plain, plain_port) = plain_forward(&sshd, service.port);
    let pool = pool(config());
    let logins = sshd.logins();
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    assert_eq!(sshd.logins(), logins, "it listens without a login");
    let bytes: Vec<u8> = (0..=255).cycle().take(size).collect();
    let port = port_of(&forward);
    let (given, compared) = (bytes.clone(), bytes);
    let ours = blocking(move || says(port, given)).await;
    let theirs = blocking(move || says(plain_port, compared)).await;
    assert!(ours == theirs, "{} bytes, {:?}, {:?}", ours.0.len(), ours.1, theirs.1);
    assert!(ours.0.ends_with(format!("{size} bytes").as_bytes()), "all has arrived");
    assert_eq!(sshd.logins(), logins + 1);
    // Eight at once need no other login, and no session.
    let all = (0..8).map(|_| blocking(move || says(port, vec![7; 100_000])));
    for (heard, ended) in futures_util::future::join_all(all).await {
        assert_eq!((heard.len(), ended), (100_012, Ok(100_012)));
    }
    assert_eq!(sshd.logins(), logins + 1);
    wait_for_async("all are gone", PATIENCE, || forward.status().open == 0).await;
    let status = forward.status();
    assert_eq!((status.total, status.failed, status.last_error), (9, 0, None));
    plain.kill().expect("it runs");
    plain.wait().expect("it ends");
    pool.close().await;
}

/// The end of one direction is none of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_direction_ends_by_itself() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, first_to_end);
    let pool = pool(config());
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    let port = port_of(&forward);
    blocking(move || {
        let mut client = client_of(port);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("it ends cleanly");
        assert_eq!(heard, b"said");
        // The host has ended its direction, and still hears.
        client.write_all(b"and back").expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        wait_for("it is heard", PATIENCE, || {
            HEARD.lock().expect("nobody panics").contains(&b"and back".to_vec())
        });
    })
    .await;
    wait_for_async("the client is gone", PATIENCE, || forward.status().open == 0).await;
    pool.close().await;
}

/// A client that goes on saying something to a service that is gone is let go, as by plain ssh.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_a_service_that_has_closed_is_let_go() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, |mut client| drop(client.write_all(b"bye")));
    let pool = pool(config());
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    let port = port_of(&forward);
    let client = blocking(move || {
        let mut client = client_of(port);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("it ends cleanly");
        assert_eq!(heard, b"bye");
        client
    })
    .await;
    wait_for_async("it is let go", PATIENCE, || {
        let _ = (&client).write_all(b"still here");
        forward.status().open == 0
    })
    .await;
    pool.close().await;
}

#[derive(Debug, PartialEq)]
enum Loss {
    MasterKilled,
    ServerKills,
    ForwardDropped,
    PoolClosed,
}

/// What a client has read must not look complete.
#[rstest]
#[case(Loss::MasterKilled)]
#[case(Loss::ServerKills)]
#[case(Loss::ForwardDropped)]
#[case(Loss::PoolClosed)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_connection_is_lost_is_reset(#[case] loss: Loss) {
    let sshd = Sshd::builder().start();
    let pool = pool(config());
    let service = Service::start(&sshd, endless);
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    let port = port_of(&forward);
    let mut client = blocking(move || {
        let mut client = client_of(port);
        let mut start = [0; 29];
        client.read_exact(&mut start).expect("it has begun");
        client
    })
    .await;
    let mut kept = Some(forward);
    match loss {
        Loss::MasterKilled => kill(master(&pool)),
        Loss::ServerKills => sshd.kill_connections(),
        Loss::ForwardDropped => drop(kept.take()),
        Loss::PoolClosed => pool.close_within(Duration::ZERO).await,
    }
    let ended =
        blocking(move || client.read_to_end(&mut Vec::new()).map_err(|error| error.kind())).await;
    assert_eq!(ended, Err(ErrorKind::ConnectionReset), "{loss:?}");
    match loss {
        Loss::ForwardDropped | Loss::PoolClosed => {
            wait_for_async("it does not listen any more", PATIENCE, || {
                TcpStream::connect(("127.0.0.1", port)).is_err()
            })
            .await;
        }
        Loss::MasterKilled => {
            let again = blocking(move || {
                let mut start = [0; 29];
                client_of(port).read_exact(&mut start).map_err(|error| error.kind())
            });
            assert_eq!(again.await, Ok(()), "the next one gets the next connection");
            let status = kept.as_ref().expect("it is there").status();
            assert!(status.failed == 1 && status.last_error.is_some(), "{status:?}");
        }
        Loss::ServerKills => {}
    }
    pool.close().await;
}

/// What a client says when the host has ended its own direction may be lost as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_still_speaks_is_reset_where_its_connection_is_lost() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, |mut client| {
        let _ = client.write_all(b"said");
        let _ = client.shutdown(Shutdown::Write);
        let _ = client.read(&mut [0; 1]);
        std::thread::sleep(PATIENCE);
    });
    let pool = pool(config());
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    let port = port_of(&forward);
    let mut client = blocking(move || {
        let mut client = client_of(port);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).expect("it ends cleanly");
        assert_eq!(heard, b"said");
        client
    })
    .await;
    kill(master(&pool));
    wait_for_async("it is told as lost", PATIENCE, || forward.status().failed == 1).await;
    wait_for_async("it cannot say more", PATIENCE, || client.write_all(b"more").is_err()).await;
    pool.close().await;
}

/// After the end of its pool nothing listens, at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_closed_listens_nowhere() {
    let sshd = Sshd::builder().start();
    let pool = pool(config());
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("s");
    let spec = ForwardSpec::sockets(&path, "/nosuch/socket");
    let _forward = forwarded(&pool, &sshd, &spec).await;
    pool.close().await;
    assert!(!path.exists(), "its socket is gone");
    let late = pool.forward(&host(&sshd), &spec).await.expect_err("it is closed");
    assert!(matches!(late, Error::Closed { .. }), "{late}");
    assert!(!path.exists(), "and is not made again");
}

/// Plain ssh accepts such a client and closes it, too; here it is told why.
#[rstest]
#[case::nobody_listens(&[], "127.0.0.1:1", "refused")]
#[case::no_such_socket(&[], "/nosuch/socket", "open failed")]
#[case::forwarding_is_off(&[("AllowTcpForwarding", "no")], "127.0.0.1:22", "prohibited")]
#[case::of_sockets(&[("AllowStreamLocalForwarding", "no")], "/nosuch/socket", "open failed")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_the_server_refuses_is_reset_and_told(
    #[case] options: &[(&str, &str)],
    #[case] target: &str,
    #[case] expected: &str,
) {
    let sshd =
        options.iter().fold(Sshd::builder(), |sshd, (key, value)| sshd.option(key, value)).start();
    let pool = pool(config());
    let spec = ForwardSpec::local(&format!("0:{target}")).expect("ssh takes it");
    let forward = forwarded(&pool, &sshd, &spec).await;
    let port = port_of(&forward);
    let (heard, ended) = blocking(move || says(port, Vec::new())).await;
    assert_eq!((&*heard, ended), (&b""[..], Err(ErrorKind::ConnectionReset)));
    let status = forward.status();
    assert!(status.last_error.as_ref().is_some_and(|why| why.contains(expected)), "{status:?}");
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_waits_for_a_login_that_fails_is_reset() {
    let sshd = Sshd::builder().start();
    let pool = pool(config());
    let spec = ForwardSpec::local("0:127.0.0.1:22").expect("ssh takes it");
    let nobody = host(&sshd).user("nobody-here").expect("a name");
    let forward = pool.forward(&nobody, &spec).await.expect("it listens");
    let port = port_of(&forward);
    let (_, ended) = blocking(move || says(port, Vec::new())).await;
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    let status = forward.status();
    let why = status.last_error.as_deref().unwrap_or_default();
    assert!(why.contains("authentication"), "{status:?}");
    pool.close().await;
}

/// With one session for each connection a forward and a command share one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_takes_no_session() {
    let sshd = Sshd::builder().max_sessions(1).start();
    let service = Service::start(&sshd, endless);
    let pool = pool(config().sessions_per_connection(1).max_connections(1));
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    let port = port_of(&forward);
    let logins = sshd.logins();
    let client = blocking(move || {
        let mut client = client_of(port);
        client.read_exact(&mut [0; 29]).expect("it has begun");
        client
    })
    .await;
    let ran = timeout(PATIENCE, pool.exec(&host(&sshd), "echo here")).await.expect("it ends");
    assert_eq!(ran.expect("it runs"), "here");
    assert_eq!((sshd.logins(), forward.status().open), (logins + 1, 1));
    drop(client);
    // Nor does it need one: beside a command that takes the only one.
    let reads = pool.shell(&host(&sshd), "cat").stdin(Stdin::Piped).spawn();
    let mut reads = timeout(PATIENCE, reads).await.expect("it ends").expect("it runs");
    let client = blocking(move || {
        let mut client = client_of(port);
        client.read_exact(&mut [0; 29]).expect("it has begun");
        client
    });
    drop(client.await);
    drop(reads.stdin.take());
    let ended = timeout(PATIENCE, reads.wait()).await.expect("it ends").expect("it has a status");
    assert!(ended.success());
    assert_eq!(sshd.logins(), logins + 1);
    pool.close().await;
}

/// A forward in use holds its connection, an unused one does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_forward_in_use_holds_its_connection() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, endless);
    let pool = pool(config().idle_timeout(Duration::from_millis(300)));
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    let port = port_of(&forward);
    let mut client = blocking(move || client_of(port)).await;
    let connected = || pool.stats().total_connections == 1;
    wait_for_async("it is connected", PATIENCE, connected).await;
    let first = master(&pool);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(master(&pool), first, "it has been held");
    assert_eq!(pool.stats().active_connections, 1);
    client.write_all(b"x").expect("it is open");
    drop(client);
    wait_for_async("nothing holds it", PATIENCE, || pool.stats().total_connections == 0).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_is_for_its_user_alone_and_gone_with_the_forward() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, echo);
    let pool = pool(config());
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("a b:c.sock");
    let spec = ForwardSpec::local(&format!(
        "{}:127.0.0.1:{}",
        path.display().to_string().replace(':', "\\:"),
        service.port
    ));
    let spec = spec.expect("ssh takes it");
    let forward = forwarded(&pool, &sshd, &spec).await;
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let at = path.clone();
    let heard = blocking(move || {
        let mut client = UnixStream::connect(at).expect("it listens");
        client.write_all(b"over a socket").expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        let mut heard = String::new();
        client.read_to_string(&mut heard).expect("it ends");
        heard
    })
    .await;
    assert_eq!(heard, "over a socket13 bytes");
    let taken = pool.forward(&host(&sshd), &spec).await.expect_err("something is there");
    assert!(
        matches!(&taken, Error::Forward { reason, .. } if reason.contains("there already")),
        "{taken}"
    );
    drop(forward);
    wait_for_async("it is gone", PATIENCE, || !path.exists()).await;
    // A file of somebody else's stays, during and after.
    std::fs::write(&path, "mine").expect("the directory is ours");
    assert!(pool.forward(&host(&sshd), &spec).await.is_err());
    pool.close().await;
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "mine");
    let left: Vec<_> = std::fs::read_dir(place.path()).expect("it is there").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

/// The host listens where the first connection did, on each one after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_host_listens_at_is_made_again() {
    let sshd = Sshd::builder().start();
    let here = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let at = here.local_addr().expect("it has one").port();
    std::thread::spawn(move || here.incoming().flatten().for_each(echo));
    let pool = pool(config());
    let spec = ForwardSpec::remote(&format!("0:127.0.0.1:{at}")).expect("ssh takes it");
    let forward = forwarded(&pool, &sshd, &spec).await;
    let port = port_of(&forward);
    assert!(port > 0, "the port that the server has chosen");
    let reaches = || {
        // That somebody listens shows in the list of the server's sockets.
        let hex = format!(":{port:04X}");
        let found = sshd.exec("cat /proc/net/tcp");
        found.stdout.lines().any(|line| line.contains(&hex) && line.contains(" 0A "))
    };
    assert!(reaches(), "it listens");
    kill(master(&pool));
    wait_for_async("it is lost", PATIENCE, || forward.listening().is_none()).await;
    wait_for_async("it is made again", PATIENCE, || forward.listening().is_some()).await;
    assert_eq!(port_of(&forward), port);
    assert!(reaches(), "it listens again");
    drop(forward);
    wait_for_async("it is taken away", PATIENCE, || !reaches()).await;
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_does_not_listen_at_is_an_error() {
    let sshd = Sshd::builder().start();
    let pool = pool(config());
    let spec = ForwardSpec::remote(&format!("{}:127.0.0.1:1", 22)).expect("ssh takes it");
    let error = pool.forward(&host(&sshd), &spec).await.expect_err("nobody may listen there");
    let told = error.to_string();
    assert!(
        told.contains("cannot forward: -R 22:127.0.0.1:1: remote port forwarding failed"),
        "{told}"
    );
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_socks_name_their_target() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, echo);
    let pool = pool(config());
    let reserved = Port::reserve();
    let port = reserved.number;
    let spec = ForwardSpec::dynamic(&port.to_string()).expect("ssh takes it");
    let _forward = forwarded(&pool, &sshd, &spec).await;
    let target = service.port.to_be_bytes();
    let heard = blocking(move || {
        let mut client = client_of(port);
        client.write_all(&[5, 1, 0]).expect("it is open");
        client.read_exact(&mut [0; 2]).expect("a greeting");
        client.write_all(&[&[5, 1, 0, 1, 127, 0, 0, 1], &target[..]].concat()).expect("it is open");
        let mut answer = [0; 10];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[1], 0, "it is connected");
        client.write_all(b"socks").expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        let mut heard = String::new();
        client.read_to_string(&mut heard).expect("it ends");
        heard
    })
    .await;
    assert_eq!(heard, "socks5 bytes");
    pool.close().await;
}

/// As `ssh -G` reads it: what it takes is taken, and means the same.
#[rstest]
fn a_spec_is_read_as_ssh_reads_it(
    #[values("-L", "-R", "-D")] flag: &str,
    #[values(
        "8080:localhost:80",
        "8080:[::1]:80",
        "*:8080:db:5432",
        ":8080:db:5432",
        "[::1]:8080:db:5432",
        "8080:/run/d.sock",
        "127.0.0.1:8080:/run/d.sock",
        "/a/b:db:80",
        "/a/b:/c/d",
        "[/a:b]:/c",
        "/a\\:b:/c",
        "8080",
        "localhost:8080",
        "8080:80",
        "8080:db:99999",
        "a:b:c:d:e",
        "[::1:80:db:80",
        "[::1]80:db:80",
        "80:db:0",
        "/x\\",
        "",
        ":",
        "a",
        "1:2:3:4",
        "x:1:/p",
        "1:/p:2",
        "/p:1",
        "1:x:",
        " 8080:db:80"
    )]
    text: &str,
) {
    let mut ssh = command("ssh");
    ssh.args(["-F", "none", "-G", flag, text, "h"]);
    let ended = run(&mut ssh, PATIENCE);
    let keyword = match flag {
        "-L" => "localforward ",
        "-R" => "remoteforward ",
        _ => "dynamicforward ",
    };
    let theirs = ended.stdout.lines().find_map(|line| line.strip_prefix(keyword));
    let ours = format!("{flag} {text}").parse::<ForwardSpec>();
    // With -D ssh passes over a path that stands in the place of a target.
    let theirs = theirs.filter(|_| flag != "-D" || !text.contains(":/"));
    let said = ours.as_ref().map(in_its_words).ok();
    assert_eq!(said.as_deref(), theirs, "{ours:?}");
}

/// What `ssh -G` prints of a forward.
fn in_its_words(spec: &ForwardSpec) -> String {
    let end = |end: &Endpoint, listens: bool| match end {
        Endpoint::Port { host: None, port } => port.to_string(),
        Endpoint::Port { host: Some(host), port } => match (listens, &**host) {
            (true, "*") => format!("[*]:{port}"),
            (_, host) => format!("[{host}]:{port}"),
        },
        Endpoint::Socket(path) => path.display().to_string(),
    };
    let listen = end(spec.listen(), true);
    match (spec.target(), spec.direction()) {
        (Some(target), _) => format!("{listen} {}", end(target, false)),
        (None, sshpool::Direction::Remote) => format!("{listen} [socks]:0"),
        (None, _) => listen,
    }
}

// ---- the program ----

/// `sshpool forward` until it listens; and where.
/// Nobody reads what it says afterwards, which is no reason to end.
fn in_the_foreground(home: &Home, sshd: &Sshd, args: &[&str]) -> (Child, String) {
    let mut forward = home.on(sshd, &[&["forward", "lab"], args].concat());
    let mut forward = forward.stdout(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(forward.stdout.take().expect("a pipe")).lines();
    let line = lines.next().expect("it listens").expect("it is text");
    let at = line.rsplit(' ').next().expect("a word").to_owned();
    (forward, at)
}

#[rstest]
#[case::over_the_agent(true)]
#[case::by_itself(false)]
fn a_forward_lasts_as_long_as_its_program(#[case] agent: bool) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let service = Service::start(&sshd, echo);
    let args = ["-L", &format!("./x.sock:127.0.0.1:{}", service.port)];
    let args = if agent { args.to_vec() } else { [&["--no-agent"][..], &args].concat() };
    let (mut forward, at) = in_the_foreground(&home, &sshd, &args);
    assert!(Path::new(&at).is_absolute(), "{at}");
    let mut client = UnixStream::connect(&at).expect("it listens");
    client.write_all(b"hi").expect("it is open");
    client.shutdown(Shutdown::Write).expect("it is open");
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("it ends");
    assert_eq!(heard, "hi2 bytes");
    kill(forward.id());
    wait_until(&mut forward, std::time::Instant::now() + PATIENCE).expect("it ends");
    wait_for("the socket is gone", PATIENCE, || !Path::new(&at).exists());
    if agent {
        assert_eq!(home.run(["forward", "ls"]).stdout, "no forwards\n");
        home.run(["agent", "stop", "--now"]);
    }
    home.assert_nothing_is_left();
}

/// Nobody is left to say it, and what it has read must not look complete all the same.
#[rstest]
#[case::the_agent(true)]
#[case::the_program(false)]
fn a_client_of_a_process_that_is_killed_is_reset(#[case] agent: bool) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let service = Service::start(&sshd, endless);
    let args = ["-L", &format!("0:127.0.0.1:{}", service.port)];
    let args = if agent { args.to_vec() } else { [&["--no-agent"][..], &args].concat() };
    let (mut forward, at) = in_the_foreground(&home, &sshd, &args);
    let mut client = client_of(at.parse().expect("a port"));
    client.read_exact(&mut [0; 29]).expect("it has begun");
    kill(if agent { home.pid() } else { forward.id() });
    let ended = client.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    wait_until(&mut forward, std::time::Instant::now() + PATIENCE).expect("it ends");
    // The socket of an agent that was killed is the next one's.
    home.exec(&sshd, "true");
}

#[test]
fn a_kept_forward_stays_until_it_is_removed() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.config("[agent]\nidle_timeout = \"500ms\"\n[pool]\nidle_timeout = \"300ms\"\n");
    let service = Service::start(&sshd, echo);
    let spec = format!("0:127.0.0.1:{}", service.port);
    let kept = home.run_on(&sshd, &["forward", "--keep", "--json", "lab", "-L", &spec]);
    assert_eq!((kept.code(), &*kept.stderr), (0, ""));
    let kept: serde_json::Value = serde_json::from_str(&kept.stdout).expect("it is JSON");
    let port: u16 = kept["listening"].as_str().and_then(|at| at.parse().ok()).expect("a port");
    let (heard, _) = says(port, b"kept".to_vec());
    assert_eq!(heard, b"kept4 bytes");
    let pid = home.pid();
    // Longer than an agent lives that nobody needs.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(home.pid(), pid, "it keeps the agent");
    assert_eq!(says(port, Vec::new()).0, b"0 bytes", "over another connection by now");
    let listed = home.run(["forward", "ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).expect("it is JSON");
    assert_eq!(
        (&listed[0]["id"], &listed[0]["total"], &listed[0]["kept"]),
        (&kept["id"], &2.into(), &true.into())
    );
    let id = kept["id"].to_string();
    assert_eq!(home.run(["forward", "rm", &id]).code(), 0);
    wait_for("it does not listen", PATIENCE, || TcpStream::connect(("127.0.0.1", port)).is_err());
    let again = home.run(["forward", "rm", &id]);
    assert_eq!(
        (again.code(), &*again.stderr),
        (2, &*format!("sshpool: there is no forward {id} (any more)\n"))
    );
    wait_for("the agent leaves", PATIENCE, || !home.socket().exists());
}

/// A forward of the file is there with the agent, and no login is.
#[test]
fn forwards_of_the_file_begin_with_the_agent() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let service = Service::start(&sshd, echo);
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("s");
    home.config(&format!(
        "[hosts.lab]\nssh_config = {:?}\n[[hosts.lab.forward]]\nlocal = \"{}:127.0.0.1:{}\"\n",
        sshd.ssh_config(),
        path.display(),
        service.port
    ));
    let logins = sshd.logins();
    let mut agent = home.command(["agent"]).stderr(Stdio::piped()).spawn().expect("it starts");
    wait_for("it listens", PATIENCE, || path.exists());
    home.wait_for_the_agent();
    assert_eq!(sshd.logins(), logins);
    let mut client = UnixStream::connect(&path).expect("it listens");
    client.shutdown(Shutdown::Write).expect("it is open");
    let mut heard = String::new();
    client.read_to_string(&mut heard).expect("it ends");
    assert_eq!((&*heard, sshd.logins()), ("0 bytes", logins + 1));
    kill(agent.id());
    wait_until(&mut agent, std::time::Instant::now() + PATIENCE).expect("it ends");
    wait_for("the socket is gone, also after kill -9", PATIENCE, || !path.exists());
    // The agent's own is the next one's.
    home.exec(&sshd, "true");
}

#[rstest]
#[case::no_forward(&["forward", "lab"], 2, "required arguments")]
#[case::no_spec(&["forward", "lab", "-L", "8080"], 2, "\"8080\": there is nothing to connect to")]
#[case::a_port_that_is_taken(&["forward", "lab", "-L", "TAKEN:a:1"], 255, "cannot listen at")]
#[case::no_directory(&["forward", "lab", "-L", "/nosuch/s:a:1"], 255, "/nosuch/s: No such file")]
fn what_cannot_be_forwarded_is_told(#[case] args: &[&str], #[case] code: i32, #[case] told: &str) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("it has one").port().to_string();
    let args: Vec<String> = args.iter().map(|arg| arg.replace("TAKEN", &port)).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ended = home.run_on(&sshd, &args);
    assert_eq!(ended.code(), code, "{}", ended.stderr);
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
}
