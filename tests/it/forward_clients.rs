//! Clients of other people's over a forward: what they make of an answer whose connection is lost
//! in the middle is an error, and the next time it works.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::forwards::{Service, blocking, forwarded, master, port_of};
use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{skip, wait_for};
use crate::lab::pooled::{PATIENCE, command, config, kill, pool};

/// A PostgreSQL server of this test's.
struct Database {
    server: Child,
    port: u16,
    _files: TempDir,
}

impl Database {
    /// `None` where it is not installed.
    fn start() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
        let programs = versions.map(|version| version.path().join("bin")).max()?;
        let files = tempfile::tempdir().expect("a directory");
        // It does not run as root.
        let nobody = User::from_name("nobody").expect("users are known").expect("Debian has it");
        let user = geteuid().is_root().then_some((nobody.uid, nobody.gid));
        if let Some((user, group)) = user {
            nix::unistd::chown(files.path(), Some(user), Some(group)).expect("root may");
        }
        let program = |name: &str| {
            let mut command = command(programs.join(name).to_str().expect("it is text"));
            command.current_dir("/").env("HOME", files.path()).stdout(Stdio::null());
            if let Some((user, group)) = user {
                command.uid(user.as_raw()).gid(group.as_raw());
            }
            command
        };
        let data: PathBuf = files.path().join("data");
        let mut initdb = program("initdb");
        initdb.args(["-A", "trust", "-U", "lab", "--no-sync", "-D"]).arg(&data);
        let made = run(&mut initdb, PATIENCE);
        assert_eq!(made.code(), 0, "{made:?}");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr());
        let port = port.expect("a port").port();
        let mut server = program("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(files.path()).stderr(Stdio::null());
        server.args(["-c", "listen_addresses=127.0.0.1", "-p", &port.to_string()]);
        let server = server.spawn().expect("it starts");
        let database = Database { server, port, _files: files };
        wait_for("the database", PATIENCE, || psql(port, "SELECT 1").status.success());
        Some(database)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The whole of it, at once: it ends its own processes.
        let server = nix::unistd::Pid::from_raw(self.server.id().cast_signed());
        let _ = nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.server.wait();
    }
}

fn psql_command(port: u16, query: &str) -> Command {
    let mut psql = command("psql");
    psql.args(["-X", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", "lab", "-d", "postgres"]);
    psql.args(["-Atqc", query]);
    psql
}

fn psql(port: u16, query: &str) -> Ended {
    run(&mut psql_command(port, query), PATIENCE)
}

/// Starts it, reads a good part of what it prints, and gives how it ends when `cut` has been done.
async fn cut_off(mut command: Command, cut: impl FnOnce()) -> (Option<i32>, String) {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stdout = child.stdout.take().expect("it is piped");
    let (child, mut stdout) = blocking(move || {
        stdout.read_exact(&mut vec![0; 1 << 20]).expect("there is more than that");
        (child, stdout)
    })
    .await;
    cut();
    blocking(move || {
        stdout.read_to_end(&mut Vec::new()).expect("it can be read");
        let ended = child.wait_with_output().expect("it ends");
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_out_of_a_database_is_whole_or_an_error() {
    let Some(database) = Database::start() else { return skip("PostgreSQL is not installed") };
    let (sshd, pool) = (Sshd::builder().start(), pool(config()));
    let service = Service::to(&sshd, database.port);
    let forward = forwarded(&pool, &sshd, &service.spec()).await;
    let port = port_of(&forward);
    let copy = |rows: u64| {
        // Row by row: as a function in FROM, all of them would be made first.
        format!(
            "COPY (SELECT g, md5(g::text) FROM (SELECT generate_series(1, {rows}) g) s) TO STDOUT"
        )
    };
    let whole = copy(100_000);
    let same = async || {
        let (ours, theirs) = (whole.clone(), whole.clone());
        let ours = blocking(move || psql(port, &ours)).await;
        let theirs = psql(database.port, &theirs);
        assert_eq!((ours.code(), ours.stdout.len()), (0, theirs.stdout.len()), "{}", ours.stderr);
        assert!(ours.stdout == theirs.stdout && ours.stdout.lines().count() == 100_000);
    };
    same().await;
    let query = psql_command(port, &copy(2_000_000_000));
    let (code, told) = cut_off(query, || kill(master(&pool))).await;
    assert!(code.is_some_and(|code| code != 0) && !told.is_empty(), "{code:?}: {told}");
    same().await;
    assert_eq!(sshd.logins(), 3, "that of the service, and two of the pool");
    pool.close().await;
}

/// A body of HTTP/1.0 has no other end than that of its connection; this one has none.
fn long_body(mut client: TcpStream) {
    let _ = client.read(&mut [0; 1024]);
    let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
    while client.write_all(&[b'x'; 65_536]).is_ok() {}
}

fn short_body(mut client: TcpStream) {
    let _ = client.read(&mut [0; 1024]);
    let _ = client.write_all(b"HTTP/1.0 200 OK\r\n\r\nall of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_without_a_length_is_whole_or_an_error() {
    let (sshd, pool) = (Sshd::builder().start(), pool(config()));
    let (long, short) = (Service::start(&sshd, long_body), Service::start(&sshd, short_body));
    let curl = |port: u16| {
        let mut curl = command("curl");
        curl.args(["-sS", "--http1.0", "--max-time", "60"]);
        curl.arg(format!("http://127.0.0.1:{port}/"));
        curl
    };
    if command("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return skip("curl is not installed");
    }
    let to_short = forwarded(&pool, &sshd, &short.spec()).await;
    let to_long = forwarded(&pool, &sshd, &long.spec()).await;
    let (short, long) = (port_of(&to_short), port_of(&to_long));
    let whole = async || {
        let got = blocking(move || run(&mut curl(short), PATIENCE)).await;
        assert_eq!((got.code(), &*got.stdout, &*got.stderr), (0, "all of it", ""));
    };
    whole().await;
    let (code, told) = cut_off(curl(long), || kill(master(&pool))).await;
    // CURLE_RECV_ERROR of libcurl-errors(3).
    assert_eq!(code, Some(56), "{told}");
    whole().await;
    pool.close().await;
}
