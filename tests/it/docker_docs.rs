//! What docs/docker.md shows of Docker hosts is what happens: the console blocks are
//! run on a project of a real engine, the Rust blocks are parts of this file and run too.
//!
//! The project is not called `shop` on the engine, which may be one that somebody works with, but
//! by a name of the same length; so it is with its port and its image.

use std::error::Error;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use serde_json::Value;
use sshpool::docker::{Compose, ComposeError, Status};
use sshpool::resources::HostResources;
use sshpool::{Host, Pool};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::forward_docs::DOCKER_SECTION;
use crate::lab::common;
use crate::lab::common::process::{path_with_sshpool, run};
use crate::lab::common::sshd::{Image, Kind, Sshd};
use crate::lab::documents::{blocks, matches, section};
use crate::lab::pooled::{PATIENCE, command, config, host, pool};

const GUIDE: &str = include_str!("../../docs/docker.md");

/// Where Compose and Docker's socket are, and a directory for the project.
fn docker_host(name: &str) -> Option<Sshd> {
    let server =
        Sshd::builder().image(Image::Compose).docker_socket().run_option("--hostname=web1");
    // Not on a directory that is in the image: the tmpfs would have its mode.
    server.run_option(&format!("--tmpfs=/srv/{name}:mode=1777")).start_or_skip()
}

/// The project of the pages.
struct Shop {
    engine: &'static str,
    /// What the pages show, and what it is here.
    names: [(&'static str, String); 3],
    web1: Sshd,
    /// The port of the project. As long as this lives no other test has it (see
    /// tests/it/lab/common/port.rs), nor the name that goes with it.
    _reserved: UdpSocket,
}

impl Shop {
    /// With its file on the host; it is not up.
    fn new() -> Option<Shop> {
        let Kind::Container(engine) = common::sshd::kind() else {
            common::skip("a private sshd process has no Docker");
            return None;
        };
        let mut numbers = (0..10_000).map(|n| (std::process::id() % 1000 * 10 + n) % 10_000);
        let (name, port, reserved) = numbers
            .find_map(|number| {
                let port = u16::try_from(20_000 + number).expect("it is below 30000");
                let reserved = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
                TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
                let name = name(number as usize);
                left(engine, &name).is_empty().then_some((name, port, reserved))
            })
            .expect("some port is free, and some name");
        let web1 = docker_host(&name)?;
        let names = [
            ("shop", name),
            ("8080", port.to_string()),
            ("debian:trixie-slim", web1.image().to_owned()),
        ];
        let shop = Shop { engine, names, web1, _reserved: reserved };
        let file = shop.real("/srv/shop/compose.yaml");
        let text = shop.real(blocks(GUIDE, "yaml")[0]);
        let written = shop.web1.exec(&format!("cat >{file} <<'END'\n{text}END\n"));
        assert_eq!((written.code(), &*written.stderr), (0, ""));
        Some(shop)
    }

    fn name(&self) -> &str {
        &self.names[0].1
    }

    /// What is shown, as it is here.
    fn real(&self, text: &str) -> String {
        self.names.iter().fold(text.to_owned(), |text, (shown, real)| text.replace(shown, real))
    }

    /// What is here, as it is shown.
    fn shown(&self, text: &str) -> String {
        // Compose 2.26 clears a line before it writes one of a log, on a terminal or not.
        let text = text.replace("\x1b[2K", "");
        self.names.iter().fold(text, |text, (shown, real)| text.replace(real, shown))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Nothing is left, unless the test failed.
        for (kind, id) in left(self.engine, self.name()) {
            let force: &[&str] = if kind == "container" { &["--force"] } else { &[] };
            let _ = run(command(self.engine).args([kind, "rm"]).args(force).arg(&id), PATIENCE);
        }
    }
}

/// As long as `shop`, another one for each port, and in no word that is printed.
fn name(number: usize) -> String {
    const LETTERS: &[u8; 22] = b"0123456789bcdfghjkmnpq";
    let letters = [number / 22 / 22, number / 22, number].map(|n| char::from(LETTERS[n % 22]));
    letters.iter().fold("s".to_owned(), |name, letter| format!("{name}{letter}"))
}

/// Containers and networks of a project by their ids, in the order in which they can be removed.
fn left(engine: &str, project: &str) -> Vec<(&'static str, String)> {
    let filter = format!("label=com.docker.compose.project={project}");
    let ids = |kind, args: &[&str]| {
        let listed =
            run(command(engine).args(args).args(["--quiet", "--filter", &filter]), PATIENCE);
        assert_eq!(listed.code(), 0, "{}", listed.stderr);
        listed.stdout.lines().map(|id| (kind, id.to_owned())).collect::<Vec<_>>()
    };
    [ids("container", &["ps", "--all"]), ids("network", &["network", "ls"])].concat()
}

/// A shell whose `sshpool` has a configuration file with the hosts of the pages.
struct Prompt {
    home: TempDir,
    status: i32,
}

impl Prompt {
    fn new(hosts: &[(&str, &Sshd)]) -> Prompt {
        let home = tempfile::tempdir().expect("a directory");
        // Nobody listens on the first port.
        let mut config = "pool.connect_timeout = \"30s\"\n\
             [hosts.db1]\naddress = \"127.0.0.1\"\nport = 1\nssh_config = \"none\"\n"
            .to_owned();
        for (name, sshd) in hosts {
            config += &format!(
                "[hosts.{name}]\naddress = \"127.0.0.1\"\nport = {}\nuser = {:?}\nidentity_file = {:?}\nssh_config = \"none\"\n\
                 [hosts.{name}.options]\nUserKnownHostsFile = {:?}\nGlobalKnownHostsFile = \"none\"\n",
                sshd.port(),
                sshd.user(),
                sshd.identity_file(),
                sshd.known_hosts(),
            );
        }
        let directory = home.path().join("sshpool");
        std::fs::create_dir(&directory).expect("a directory in a new directory");
        std::fs::write(directory.join("config.toml"), config).expect("a file in a new directory");
        Prompt { home, status: 0 }
    }

    /// What is written to stdout and stderr, as on a terminal.
    fn run(&mut self, line: &str) -> String {
        // The status of the line before is there to be printed.
        let mut shell = command("sh");
        shell
            .args(["-c", &format!("exec 2>&1; (exit {})\n{line}", self.status)])
            .env("PATH", path_with_sshpool());
        shell.env("XDG_CONFIG_HOME", self.home.path()).env("XDG_RUNTIME_DIR", self.home.path());
        let ended = run(&mut shell, PATIENCE);
        self.status = ended.code();
        ended.stdout
    }

    /// Runs the lines of a block and compares what they print with what the block says.
    fn follow(&mut self, shop: &Shop, block: &str) {
        let mut steps: Vec<(&str, String)> = Vec::new();
        for line in block.lines() {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(line), _) => steps.push((line, String::new())),
                (None, Some((_, output))) => *output += &format!("{line}\n"),
                (None, None) => panic!("a block begins with a command: {line}"),
            }
        }
        for (line, expected) in steps {
            let (real, status) = (shop.real(line), self.status);
            // What looks may come before a job has ended, or before a health check.
            let looks = [" ls", " ps ", " logs "].iter().any(|word| line.contains(word));
            let deadline = Instant::now() + PATIENCE;
            loop {
                self.status = status;
                let actual = shop.shown(&only_ours(line, &self.run(&real), shop.name()));
                if agrees(line, &expected, &actual) {
                    break;
                }
                let again = looks && Instant::now() < deadline;
                assert!(again, "$ {line}\n{actual}instead of\n{expected}");
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

/// Without the other projects that the engine has.
fn only_ours(line: &str, output: &str, name: &str) -> String {
    if !line.contains(" ls") {
        return output.to_owned();
    }
    let Ok(mut answers) = serde_json::from_str::<Value>(output) else {
        let (ours, heading) = (format!("{name} "), "PROJECT ");
        let ours = output.lines().filter(|line| {
            line.starts_with(&ours) || line.starts_with(heading) || line.starts_with("sshpool: ")
        });
        return ours.map(|line| format!("{line}\n")).collect();
    };
    for answer in answers.as_array_mut().into_iter().flatten() {
        if let Some(projects) = answer["projects"].as_array_mut() {
            projects.retain(|project| project["name"] == name);
        }
    }
    answers.to_string()
}

fn agrees(line: &str, expected: &str, actual: &str) -> bool {
    if !line.contains(" ls") {
        return matches(expected, actual);
    }
    // Values have no order of their names, and columns are as wide as the rows that were left out
    // ask for.
    match (serde_json::from_str::<Value>(expected), serde_json::from_str::<Value>(actual)) {
        (Ok(expected), Ok(actual)) => expected == actual,
        _ => {
            let words = |text: &str| {
                text.lines()
                    .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
                    .collect()
            };
            let (expected, actual): (String, String) = (words(expected), words(actual));
            matches(&expected, &actual)
        }
    }
}

#[test]
fn the_console_blocks_of_the_guide_print_what_it_says() {
    let Some(shop) = Shop::new() else { return };
    let compose = || Sshd::builder().image(Image::Compose);
    let no_docker = Sshd::builder().start();
    let no_plugin =
        compose().docker_socket().run_option("--tmpfs=/usr/libexec/docker/cli-plugins").start();
    let no_permission = compose().docker_socket().run_option("--env=KEEP_OUT=yes").start();
    let no_daemon = compose().start();
    let mut prompt = Prompt::new(&[
        ("web1", &shop.web1),
        ("web2", &no_docker),
        ("web3", &no_plugin),
        ("web4", &no_permission),
        ("web5", &no_daemon),
    ]);
    // The section of Docker's own client has a test in `forward_docs`.
    let text = GUIDE.replace(section(GUIDE, DOCKER_SECTION), "");
    for block in blocks(&text, "console") {
        prompt.follow(&shop, block);
    }
    assert_eq!(left(shop.engine, shop.name()), [], "it is down at the end");
}

/// Numbers differ, but the tables have these columns and the objects these names.
#[test]
fn resources_have_the_form_that_the_guide_shows() {
    let shown = blocks(GUIDE, "text");
    let [tables, json] = shown[..] else { panic!("one block of tables, one of JSON") };
    let sshd = Sshd::builder().start();
    let mut prompt = Prompt::new(&[("web1", &sshd)]);
    let cells = |line: &str| line.split("  ").filter(|cell| !cell.is_empty()).count();
    let form = |text: &str| -> Vec<String> {
        let tables = text.trim_end().split("\n\n");
        let heading = |table: &str| {
            let (heading, rows) = table.split_once('\n').expect("a heading and rows");
            assert!(rows.lines().all(|row| cells(row) == cells(heading)), "{table}");
            heading.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        tables.map(heading).collect()
    };
    assert_eq!(form(tables), form(&prompt.run("sshpool resources web1")));

    let names = |text: &str| {
        let answers: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let names = |value: &Value| value.as_object().expect("an object").keys().cloned().collect();
        let answer = &answers[0];
        [answer, &answer["load_average"], &answer["memory"], &answer["disks"][0]].map(names)
    };
    let expected: [Vec<String>; 4] = names(json);
    assert_eq!(expected, names(&prompt.run("sshpool resources web1 --json")));
}

// ---- the Rust blocks: whatever the pages show is here, too ----

/// `shop` and its file have other names here.
#[test]
fn the_rust_blocks_are_parts_of_this_file() {
    let trimmed =
        |text: &str| text.lines().map(|line| line.trim().to_owned() + "\n").collect::<String>();
    let own = trimmed(include_str!("docker_docs.rs"));
    let text = GUIDE.replace(section(GUIDE, DOCKER_SECTION), "");
    for block in blocks(&text, "rust") {
        let block = block.replace("\"/srv/shop/compose.yaml\"", "file").replace("\"shop\"", "shop");
        assert!(own.contains(&trimmed(&block)), "this is not here:\n{block}");
    }
}

type Ends = Result<(), Box<dyn Error>>;

async fn looking(pool: Pool, web1: Host, shop: &str) -> Ends {
    let compose = Compose::new(&pool, &web1);
    for project in compose.list_projects(true).await? {
        println!("{} is {} ({})", project.name, project.status, project.detail);
    }
    let found = compose.project_status(shop).await?;
    for service in &found.services {
        let health = service.health.as_deref().unwrap_or("no health check");
        println!("{}: {}, {health}", service.name, service.state);
        for port in &service.publishers {
            println!("    {} on {:?}", port.target_port, port.published_port);
        }
    }
    assert_eq!((found.status, found.services.len()), (Status::Partial, 3));
    Ok(())
}

async fn acting(compose: Compose, shop: &str, file: &str) -> Ends {
    compose.up(shop)?.file(file).option("--remove-orphans").output().await?;
    compose.restart(shop)?.service("web")?.timeout(Duration::from_secs(60)).output().await?;
    let sorted = compose.exec(shop, "web", ["sort"])?.stdin("two\none\n").output().await?;
    let top = compose.action(shop, "top")?.args(["web"]).output().await?;
    assert_eq!(sorted.stdout, b"one\ntwo\n");
    assert!(String::from_utf8_lossy(&top.stdout).contains("sleep infinity"));
    Ok(())
}

async fn following(compose: Compose, shop: &str) -> Ends {
    let mut log = compose.logs(shop, true)?.service("web")?.option("--tail=100").spawn().await?;
    let mut lines = BufReader::new(log.stdout.take().expect("not taken yet")).lines();
    while let Some(line) = lines.next_line().await? {
        println!("{line}");
        if line.ends_with("listening") {
            break;
        }
    }
    drop(log);
    Ok(())
}

async fn happening(compose: Compose, shop: &str) -> Ends {
    let mut events = compose.events(shop)?.stream().await?;
    while let Some(event) = events.next().await? {
        println!("{event}");
        if event.contains("\"action\":\"start\"") {
            break;
        }
    }
    drop(events);
    Ok(())
}

async fn failing(compose: Compose, shop: &str) -> Ends {
    match compose.restart(shop)?.output().await {
        Ok(_) => println!("restarted"),
        Err(ComposeError::NoProject { project, .. }) => {
            println!("{project} is not there: bring it up first")
        }
        Err(ComposeError::Permission { host, .. }) => {
            println!("{host}: the account may not use Docker")
        }
        Err(ComposeError::Run(error)) if error.never_started() => println!("not run: {error}"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

async fn many_hosts(pool: Pool, hosts: Vec<Host>) -> Ends {
    let width = NonZeroUsize::new(16).expect("not 0");
    let answers = sshpool::on_each(&hosts, width, |host| HostResources::of(&pool, host)).await;
    for (host, answer) in hosts.iter().zip(answers) {
        match answer {
            Ok(found) => {
                let used = found.memory.and_then(|memory| memory.used_percent);
                println!("{}: {used:?} % of the memory is used", host.name());
                for disk in found.disks.iter().flatten() {
                    println!("    {}: {} bytes left", disk.mount, disk.available_bytes);
                }
            }
            Err(error) => println!("{error}"),
        }
    }
    Ok(())
}

/// Not run: it starts what is stopped, whosever it is.
#[expect(dead_code, reason = "it is there to be compiled")]
async fn starting_what_is_stopped(pool: Pool, web1: Host) -> Ends {
    use sshpool::docker::{Compose, Status};

    let compose = Compose::new(&pool, &web1);
    for project in compose.list_projects(true).await? {
        if project.status == Status::Stopped {
            compose.start(&project.name)?.output().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_rust_blocks_do_what_they_are_shown_for() {
    let Some(shop) = Shop::new() else { return };
    let (pool, web1) = (pool(config()), host(&shop.web1));
    let (name, file) = (shop.name(), shop.real("/srv/shop/compose.yaml"));
    let compose = Compose::new(&pool, &web1);
    acting(compose.clone(), name, &file).await.expect("it works");
    let deadline = Instant::now() + PATIENCE;
    while compose.project_status(name).await.expect("an answer").status != Status::Partial {
        assert!(Instant::now() < deadline, "the job does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    looking(pool.clone(), web1.clone(), name).await.expect("it works");
    following(compose.clone(), name).await.expect("it works");
    // What happens is told to those who listen already.
    let again = async {
        loop {
            compose.restart(name).expect("a name").output().await.expect("it restarts");
        }
    };
    tokio::select! {
        ended = happening(compose.clone(), name) => ended.expect("it works"),
        () = again => {}
    }
    many_hosts(pool.clone(), vec![web1]).await.expect("it works");
    compose.down(name).expect("a name").output().await.expect("it goes down");
    failing(compose, name).await.expect("it works");
    pool.close().await;
}
