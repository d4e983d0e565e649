//! What docs/forwards.md shows is what happens: its console blocks, its unit of systemd and its
//! Rust are run. So is what docs/docker.md says of Docker's own client.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream as StdStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Instant;

use nix::sys::signal::Signal;
use sshpool::{Config, DockerConfig, Endpoint, ForwardEvent, ForwardSpec, Host, Pool, docker};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::forwards::Service;
use crate::lab::agents::Home;
use crate::lab::common::port::Port;
use crate::lab::common::process::{path_with_sshpool, run, wait_until};
use crate::lab::common::sshd::{Image, Kind, Sshd, kind};
use crate::lab::common::{self, wait_for};
use crate::lab::documents::{blocks, matches, section};
use crate::lab::pooled::{PATIENCE, command, config, host, kill, pool, send};
use crate::places::an_agent;

const GUIDE: &str = include_str!("../../docs/forwards.md");
const DOCKER: &str = include_str!("../../docs/docker.md");
/// Of docs/docker.md. Its other sections have tests of their own.
pub const DOCKER_SECTION: &str = "## Docker's own client";

/// The steps of all console blocks: a line, and what it prints.
fn steps(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for line in blocks(text, "console").into_iter().flat_map(str::lines) {
        match line.strip_prefix("$ ") {
            Some(line) => all.push((line.to_owned(), String::new())),
            None => {
                all.last_mut().expect("a block begins with a command").1 += &format!("{line}\n")
            }
        }
    }
    all
}

/// A home where `web1` is this server, and this program is on the PATH.
struct Reader {
    home: Home,
    status: i32,
}

impl Reader {
    fn new(sshd: &Sshd) -> Self {
        let home = Home::new();
        let text = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
        let file = home.path().join("ssh_config");
        std::fs::write(&file, text.replace("Host lab", "Host web1")).expect("a file");
        let host = format!("[hosts.web1]\nssh_config = \"{}\"\n", file.display());
        home.config(&format!("[pool]\nconnect_timeout = \"30s\"\n{host}"));
        Reader { home, status: 0 }
    }

    fn shell(&self, text: &str) -> Command {
        let mut shell = self.home.in_its_place(command("sh"), ["-c", text]);
        shell.env("PATH", path_with_sshpool()).env_remove("DOCKER_HOST");
        shell
    }

    #[track_caller]
    fn follow(&mut self, line: &str, expected: &str) {
        if let Some(expected) = expected.strip_suffix("^C\n") {
            return self.in_the_foreground(line, expected);
        }
        // The status of the step before is there to be printed, as at a prompt.
        let mut shell = self.shell(&format!("exec 2>&1; (exit {})\n{line}", self.status));
        let ended = run(&mut shell, PATIENCE);
        assert!(
            matches(expected, &ended.stdout),
            "$ {line}\n{}instead of\n{expected}",
            ended.stdout
        );
        self.status = ended.code();
    }

    /// What is printed line by line, until Ctrl-C.
    #[track_caller]
    fn in_the_foreground(&mut self, line: &str, expected: &str) {
        let mut shell = self.shell(&format!("exec 2>&1; exec {line}"));
        let mut forward = shell.stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = printed(&mut forward);
        let mut listens_at = None;
        for expected in expected.lines() {
            let what = expected.rsplit(": ").next().expect("a word");
            if expected.contains("connection lost") {
                let status = self.home.status();
                let master = status["connections"][0]["pid"].as_u64().expect("it is connected");
                kill(u32::try_from(master).expect("a pid"));
            } else if let (Some(port), "connected") = (listens_at.take(), what) {
                // A client; what it is told is nobody's business here.
                let _client = StdStream::connect(("127.0.0.1", port)).expect("it listens");
            }
            let line = lines.recv_timeout(PATIENCE).expect("something happens");
            assert!(matches(expected, &line), "{line} instead of {expected}");
            listens_at =
                line.split_once(": listening at ").and_then(|(_, at)| at.parse::<u16>().ok());
        }
        send(forward.id(), Signal::SIGINT);
        let ended = wait_until(&mut forward, Instant::now() + PATIENCE).expect("it ends");
        assert!(!ended.success(), "{ended}");
    }
}

/// Its lines, as they come.
fn printed(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A web server.
fn hello(mut client: StdStream) {
    let mut request: Vec<u8> = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut piece) {
            Ok(read @ 1..) => request.extend(&piece[..read]),
            _ => return,
        }
    }
    let _ = client.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
}

/// Ports that no other test gets as long as these live.
fn free<const N: usize>() -> [Port; N] {
    [(); N].map(|()| Port::reserve())
}

#[test]
fn the_console_blocks_print_what_they_say() {
    if which::which("curl").is_err() {
        return common::skip("there is no curl");
    }
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, hello);
    let ports: [_; 2] = free();
    let [local, dynamic] = ports.each_ref().map(|port| port.number);
    let real = |text: &str| {
        let shown = ["8080", "1080", "localhost:80"];
        let real = [local.to_string(), dynamic.to_string(), format!("localhost:{}", service.port)];
        // In two steps: a port can have the digits of another one.
        let mark = |at: usize| format!("<{at}>");
        let marked = shown
            .iter()
            .enumerate()
            .fold(text.to_owned(), |text, (at, shown)| text.replace(shown, &mark(at)));
        real.iter().enumerate().fold(marked, |text, (at, real)| text.replace(&mark(at), real))
    };
    let mut reader = Reader::new(&sshd);
    let steps = steps(GUIDE);
    assert!(steps.len() > 15);
    for (line, expected) in steps {
        reader.follow(&real(&line), &real(&expected));
    }
}

#[test]
fn the_table_of_the_guide_is_read() {
    let text = blocks(GUIDE, "toml")[0];
    let config = Config::from_toml(text, "docs/forwards.md".as_ref());
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let all: Vec<_> = config.forwards["db1"].iter().map(ForwardSpec::to_string).collect();
    assert_eq!(all, ["-L 5432:localhost:5432", "-R 127.0.0.1:9000:localhost:3000", "-D 1080"]);
}

/// The agent of the unit has the forwards of the file; it logs in with the ssh-agent of the unit's
/// environment.
#[test]
fn the_unit_runs_an_agent_with_the_forwards_of_the_file() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, hello);
    let home = Home::new();
    let keys = an_agent(&[sshd.identity_file()], home.path(), "ssh-agent.sock");
    let text = std::fs::read_to_string(sshd.ssh_config()).expect("the fixture has one");
    let text: String = text
        .lines()
        .filter(|line| !line.contains("IdentityFile") && !line.contains("IdentitiesOnly"))
        .map(|line| format!("{line}\n"))
        .collect();
    let file = home.path().join("ssh_config");
    std::fs::write(&file, text + "    IdentityFile none\n").expect("a file");
    let ports: [_; 1] = free();
    let port = ports[0].number;
    let forward = format!("[[hosts.lab.forward]]\nlocal = \"{port}:localhost:{}\"\n", service.port);
    home.config(&format!("[hosts.lab]\nssh_config = \"{}\"\n{forward}", file.display()));
    let unit = blocks(GUIDE, "ini")[0];
    let words = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let (program, words) = words.split_once(' ').expect("words");
    assert!(program.ends_with("/sshpool"));
    let agent = |with_keys: bool| {
        let mut agent = home.command(words.split(' '));
        if with_keys {
            agent.env("SSH_AUTH_SOCK", &keys.socket);
        }
        let agent = agent.stderr(Stdio::null()).spawn().expect("it starts");
        home.wait_for_the_agent();
        wait_for("it forwards", PATIENCE, || StdStream::connect(("127.0.0.1", port)).is_ok());
        agent
    };
    let heard = || {
        let mut client = StdStream::connect(("127.0.0.1", port)).expect("it listens");
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is open");
        let mut heard = String::new();
        client.read_to_string(&mut heard).map(|_| heard)
    };
    for with_keys in [true, false] {
        let mut agent = agent(with_keys);
        assert_eq!(heard().is_ok_and(|heard| heard.ends_with("hello\n")), with_keys);
        assert_eq!(home.run(["agent", "stop", "--now"]).code(), 0);
        wait_until(&mut agent, Instant::now() + PATIENCE).expect("it ends");
    }
}

/// What the guide says of plain ssh: its client cannot tell the loss of the connection from an end.
#[test]
fn a_client_of_plain_ssh_sees_an_end() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, |mut client| {
        let _ = client.write_all(b"half of it");
        let _ = client.read(&mut [0; 1]);
    });
    let ports: [_; 1] = free();
    let port = ports[0].number;
    let mut ssh = command("ssh");
    ssh.arg("-F").arg(sshd.ssh_config()).arg("-N");
    ssh.args(["-L", &format!("{port}:127.0.0.1:{}", service.port), "lab"]).stderr(Stdio::null());
    let mut ssh = ssh.spawn().expect("it starts");
    let mut client = None;
    wait_for("plain ssh listens", PATIENCE, || {
        client = StdStream::connect(("127.0.0.1", port)).ok();
        client.is_some()
    });
    let mut client = client.expect("it is there");
    client.set_read_timeout(Some(PATIENCE)).expect("it is open");
    client.read_exact(&mut [0; 10]).expect("it has begun");
    sshd.kill_connections();
    assert_eq!(client.read_to_end(&mut Vec::new()).expect("no reset"), 0);
    wait_until(&mut ssh, Instant::now() + PATIENCE).expect("it ends with its connection");
    assert!(StdStream::connect(("127.0.0.1", port)).is_err(), "and so does its listener");
}

// ---- the Rust block: what the guide shows is here, too ----

#[test]
fn the_rust_blocks_are_parts_of_this_file() {
    let trimmed =
        |text: &str| text.lines().map(|line| line.trim().to_owned() + "\n").collect::<String>();
    let own = trimmed(include_str!("forward_docs.rs"));
    for block in [blocks(GUIDE, "rust"), blocks(section(DOCKER, DOCKER_SECTION), "rust")].concat() {
        let block = block.replace("\"0:localhost:80\"", "target");
        assert!(own.contains(&trimmed(&block)), "this is not here:\n{block}");
    }
}

async fn forwarding(pool: Pool, web1: Host, target: &str) -> Result<(), Box<dyn Error>> {
    let spec = ForwardSpec::local(target)?;
    let forward = pool.forward(&web1, &spec).await?;
    let Some(Endpoint::Port { port, .. }) = forward.listening() else { return Ok(()) };
    let mut events = forward.events();
    let mut client = TcpStream::connect(("localhost", port)).await?;
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    if let Some(ForwardEvent::Connected) = events.next().await {
        println!("somebody has come");
    }
    let status = forward.status();
    println!("{}: {} of {} clients are there", status.spec, status.open, status.total);
    forward.end().await;
    assert_eq!((status.total, status.failed), (1, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_block_runs() {
    let sshd = Sshd::builder().start();
    let service = Service::start(&sshd, hello);
    let (pool, target) = (pool(config()), format!("0:localhost:{}", service.port));
    let done = timeout(PATIENCE, forwarding(pool.clone(), host(&sshd), &target));
    done.await.expect("it ends").expect("it does what it says");
    pool.close().await;
}

// ---- docs/docker.md ----

#[test]
fn dockers_own_client_prints_what_the_guide_says() {
    let Kind::Container("docker") = kind() else {
        return common::skip("there is no engine of Docker's with a socket for test servers");
    };
    let sshd = Sshd::builder().image(Image::Compose).docker_socket().start();
    let mut reader = Reader::new(&sshd);
    let config = reader.home.path().join("docker");
    // The context that is made is of this test alone.
    std::fs::create_dir(&config).expect("a directory");
    let told = format!("export DOCKER_CONFIG='{}'\n", config.display());
    for (line, expected) in steps(section(DOCKER, DOCKER_SECTION)) {
        reader.follow(&format!("{told}{line}"), &expected);
    }
}

async fn on_an_engine(pool: Pool, web1: Host) -> Result<(), Box<dyn Error>> {
    let socket = docker::engine(&pool, &web1, &DockerConfig::new()).await?;
    println!("DOCKER_HOST={}", socket.docker_host());
    assert!(socket.path().exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rust_block_of_an_engine_runs() {
    let Kind::Container("docker") = kind() else {
        return common::skip("there is no engine of Docker's with a socket for test servers");
    };
    let sshd = Sshd::builder().image(Image::Compose).docker_socket().start();
    let pool = pool(config());
    let done = timeout(PATIENCE, on_an_engine(pool.clone(), host(&sshd)));
    done.await.expect("it ends").expect("it does what it says");
    pool.close().await;
}
