//! A host's engine at a socket here: the local docker does over it what it does on the host.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use rstest::rstest;
use sshpool::DockerConfig;
use sshpool::docker::{Engine, EngineError, engine};
use tokio::time::timeout;

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::{Builder, Image, Kind, Sshd, kind};
use crate::lab::common::{self, wait_for};
use crate::lab::pooled::{PATIENCE, command, config, host, kill, pool};

/// What the server allows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Allowed {
    Sockets,
    /// Each client then has a `docker system dial-stdio`.
    Commands,
}

/// A host with the engine of this machine, which the local docker uses as well.
struct Lab {
    sshd: Sshd,
    home: Home,
}

fn builder() -> Option<Builder> {
    match kind() {
        Kind::Container("docker") => Some(Sshd::builder().image(Image::Compose).docker_socket()),
        _ => {
            common::skip("there is no engine of Docker's with a socket for test servers");
            None
        }
    }
}

impl Lab {
    fn new(allowed: Allowed) -> Option<Lab> {
        let builder = match allowed {
            Allowed::Sockets => builder()?,
            Allowed::Commands => builder()?.option("AllowStreamLocalForwarding", "no"),
        };
        Some(Lab { sshd: builder.start(), home: Home::new() })
    }

    /// `sshpool docker lab …`
    fn docker(&self, args: &[&str]) -> Command {
        self.home.on(&self.sshd, &[&["docker", "lab"], args].concat())
    }

    fn ran(&self, args: &[&str]) -> Ended {
        run(&mut self.docker(args), PATIENCE)
    }

    /// The local docker without us.
    fn plain(&self, args: &[&str]) -> Ended {
        run(self.home.in_its_place(command("docker"), args).env_remove("DOCKER_HOST"), PATIENCE)
    }

    /// A name for a container or an image of this test.
    fn name(what: &str) -> String {
        format!("sshpool-socket-{what}-{}", std::process::id())
    }
}

/// A container that is removed at the end.
struct Container<'a>(&'a Lab, String);

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let Container(lab, name) = self;
        lab.plain(&["rm", "--force", "--volumes", name]);
    }
}

fn fed(mut docker: Command, input: &[u8]) -> (i32, Vec<u8>) {
    let mut child = docker
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("no panic");
    (output.status.code().expect("it exits"), output.stdout)
}

#[rstest]
#[case(Allowed::Sockets)]
#[case(Allowed::Commands)]
fn the_local_docker_does_what_it_does_there(#[case] allowed: Allowed) {
    let Some(lab) = Lab::new(allowed) else { return };
    let image = lab.sshd.image().to_owned();
    for args in [
        &["version", "--format", "{{json .Server.Version}}"][..],
        &["image", "inspect", "--format", "{{.Id}}", &image],
        &["no-such-command"],
        &["inspect", "nothing-of-this-name"],
    ] {
        let (ours, plain) = (lab.ran(args), lab.plain(args));
        let seen = |ended: &Ended| (ended.code(), ended.stdout.clone(), ended.stderr.clone());
        assert_eq!(seen(&ours), seen(&plain), "{args:?}");
    }
    // A stream whose direction to the container ends first.
    let name = Lab::name(&format!("cat-{allowed:?}").to_lowercase());
    let container = Container(&lab, name.clone());
    let input: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
    let cat = ["run", "--rm", "-i", "--network=none", "--entrypoint=cat", "--name", &name, &image];
    let (code, output) = fed(lab.docker(&cat), &input);
    assert!((code, &output) == (0, &input), "{code}, {} bytes", output.len());
    drop(container);
    // What it has said is followed to its end, and its status is that of docker.
    let name = Lab::name(&format!("logs-{allowed:?}").to_lowercase());
    let container = Container(&lab, name.clone());
    let text = "for i in 1 2 3; do echo $i; sleep 0.2; done; exit 7";
    let begun = lab.ran(&[
        "run",
        "-d",
        "--network=none",
        "--entrypoint=sh",
        "--name",
        &name,
        &image,
        "-c",
        text,
    ]);
    assert_eq!((begun.code(), &*begun.stderr), (0, ""));
    let logs = lab.ran(&["logs", "-f", &name]);
    assert_eq!((logs.code(), &*logs.stdout), (0, "1\n2\n3\n"));
    assert_eq!(lab.ran(&["wait", &name]).stdout, "7\n");
    drop(container);
    assert_eq!(lab.sshd.logins(), 1);
}

/// A terminal, as far as the container.
#[test]
fn a_terminal_goes_as_far_as_the_container() {
    let Some(lab) = Lab::new(Allowed::Sockets) else { return };
    let name = Lab::name("tty");
    let container = Container(&lab, name.clone());
    let image = lab.sshd.image().to_owned();
    let begun = lab.ran(&[
        "run",
        "-d",
        "--network=none",
        "--entrypoint=sleep",
        "--name",
        &name,
        &image,
        "60",
    ]);
    assert_eq!((begun.code(), &*begun.stderr), (0, ""));
    let config = lab.sshd.ssh_config();
    let line = format!(
        "'{}' -F '{}' docker lab exec -it {name} sh -c 'tty; exit 5'",
        env!("CARGO_BIN_EXE_sshpool"),
        config.display()
    );
    let args = ["-qec", &line, "/dev/null"];
    let mut script = lab.home.in_its_place(command("script"), args);
    let ended = run(script.stdin(Stdio::null()), PATIENCE);
    assert!(ended.stdout.contains("/dev/pts/"), "{ended:?}");
    assert_eq!(ended.code(), 5, "{ended:?}");
    drop(container);
}

/// With all that it is to be made of.
#[test]
fn an_image_is_built_from_files_of_this_side() {
    let Some(lab) = Lab::new(Allowed::Sockets) else { return };
    let files = tempfile::tempdir().expect("a directory");
    let big: Vec<u8> =
        (0..50_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(files.path().join("big"), big).expect("there is room");
    std::fs::write(files.path().join("Dockerfile"), "FROM scratch\nCOPY big /big\n")
        .expect("there is room");
    let name = Lab::name("built");
    let place = files.path().display().to_string();
    let built = lab.ran(&["build", "-q", "-t", &name, &place]);
    assert_eq!(built.code(), 0, "{}", built.stderr);
    let size = lab.plain(&["image", "inspect", "--format", "{{.Size}}", &name]);
    lab.plain(&["image", "rm", &name]);
    assert_eq!(size.stdout, "50000000\n");
    assert_eq!(lab.sshd.logins(), 1);
}

#[test]
fn the_socket_of_docker_env_stays_where_it_is() {
    let Some(lab) = Lab::new(Allowed::Sockets) else { return };
    let first = lab.home.run_on(&lab.sshd, &["docker-env", "lab"]);
    assert_eq!((first.code(), &*first.stderr), (0, ""));
    let url = lab.home.run_on(&lab.sshd, &["docker-env", "--url", "lab"]);
    assert_eq!(first.stdout, format!("export DOCKER_HOST={}", url.stdout));
    let path = url.stdout.trim().strip_prefix("unix://").expect("a socket").to_owned();
    assert_eq!(lab.home.run(["forward", "ls"]).stdout.lines().count(), 2, "one for both");
    let version = |path: &str| {
        let mut docker = lab
            .home
            .in_its_place(command("docker"), ["version", "--format", "{{.Server.Version}}"]);
        run(docker.env("DOCKER_HOST", format!("unix://{path}")), PATIENCE)
    };
    let seen = version(&path);
    assert_eq!((seen.code(), &*seen.stderr), (0, ""));
    // Its connection is gone; the socket is not.
    let status = lab.home.status();
    let master = status["connections"][0]["pid"].as_u64().expect("it is connected");
    kill(u32::try_from(master).expect("a pid"));
    assert_eq!(version(&path).code(), 0);
    // Nor is it left behind.
    let agent = lab.home.pid();
    kill(agent);
    wait_for("it is gone with the agent", PATIENCE, || !std::path::Path::new(&path).exists());
    let again = lab.home.run_on(&lab.sshd, &["docker-env", "--url", "lab"]);
    assert_eq!(again.stdout, url.stdout, "at the same place");
    assert_eq!(version(&path).code(), 0);
}

#[test]
fn without_the_agent_nothing_is_kept() {
    let Some(lab) = Lab::new(Allowed::Sockets) else { return };
    let plain = lab.plain(&["version", "--format", "{{.Server.Version}}"]);
    let args = ["--no-agent", "docker", "lab", "version", "--format", "{{.Server.Version}}"];
    let ended = lab.home.run_on(&lab.sshd, &args);
    assert_eq!((ended.code(), ended.stdout), (0, plain.stdout));
    let refused = lab.home.run_on(&lab.sshd, &["--no-agent", "docker-env", "lab"]);
    assert_eq!(refused.code(), 2);
    assert!(refused.stderr.contains("docker-env needs the agent"), "{}", refused.stderr);
}

/// One line says what is missing.
#[test]
fn an_engine_that_cannot_be_used_is_told() {
    let Some(builder) = builder() else { return };
    let sshd = builder.run_option("--env=KEEP_OUT=yes").start();
    let home = Home::new();
    let ended = home.run_on(&sshd, &["docker", "lab", "ps"]);
    assert_eq!(ended.code(), 255);
    assert!(
        ended.stderr.contains("lab: no permission for /var/run/docker.sock"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
    let without = Sshd::builder().start();
    let ended = home.run_on(&without, &["docker", "lab", "ps"]);
    assert_eq!(ended.code(), 255);
    let told =
        ended.stderr.contains("lab: no engine was found") || ended.stderr.contains("no permission");
    assert!(told, "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_has_it_too() {
    let Some(builder) = builder() else { return };
    let sshd = builder.start();
    let (pool, host) = (pool(config()), host(&sshd));
    let docker = DockerConfig::new();
    let found = timeout(PATIENCE, Engine::find(&pool, &host, &docker)).await.expect("it ends");
    let found = found.expect("there is one");
    assert_eq!(found.socket(), Some("/var/run/docker.sock".as_ref()));
    let led = timeout(PATIENCE, engine(&pool, &host, &docker)).await.expect("it ends");
    let led = led.expect("it answers");
    let path = led.path().to_owned();
    assert_eq!(led.docker_host(), format!("unix://{}", path.display()));
    let answer = timeout(
        PATIENCE,
        tokio::task::spawn_blocking(move || {
            let mut stream = UnixStream::connect(path).expect("it listens");
            stream.write_all(b"GET /version HTTP/1.0\r\nHost: docker\r\n\r\n").expect("it is open");
            stream.shutdown(Shutdown::Write).expect("it is open");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("it ends");
            answer
        }),
    );
    let answer = answer.await.expect("it ends").expect("no panic");
    assert!(answer.contains("\"ApiVersion\""), "{answer}");
    let path = led.path().to_owned();
    drop(led);
    common::wait_for_async("it is gone", PATIENCE, || !path.exists()).await;
    let elsewhere = docker.host("unix:///nosuch/engine.sock").expect("it is right");
    let missing = engine(&pool, &host, &elsewhere).await.expect_err("there is none");
    assert!(
        matches!(&missing, EngineError::NotFound { tried, .. } if tried.contains("/nosuch/engine.sock")),
        "{missing}"
    );
    pool.close_within(Duration::ZERO).await;
}
