//! A refresh of a dashboard: the list of projects, the status of each of five, and the resources of
//! the host, seven commands in all. `cargo bench --bench dashboard [-- ROUNDS]`; needs a Docker
//! engine for the test server.
//!
//! The same commands run over the pool (warm: no login, which is asserted) and by plain ssh with a
//! login each, one after another as a program without a pool does, and all at once. They take
//! turns. The bound is a tenth of the first. First on loopback itself, where client, server and
//! engine share the processors, then through a proxy that makes a round trip take 40 ms.

#[expect(dead_code, unused_imports, reason = "shared with others, which use more of it")]
mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use sshpool::docker::{Compose, ComposeError, Project, ProjectStatus};
use sshpool::resources::HostResources;
use sshpool::{Host, Pool};
use support::common::process::{outside, run};
use support::common::sshd::{Image, Kind, Sshd};
use support::stats::Spread;
use support::{distant, milliseconds, pooled, rounds};
use tokio::io::AsyncWriteExt;

const PROJECTS: usize = 5;
/// Of the host that is far away.
const ROUND_TRIP: Duration = Duration::from_millis(40);

fn main() {
    let rounds = rounds(11);
    let Some(sshd) = Sshd::builder().image(Image::Compose).docker_socket().start_or_skip() else {
        return;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let _containers = containers(&sshd);
        measure(&sshd, sshd.port(), rounds).await;
        println!("with a round trip of {ROUND_TRIP:?}:");
        let proxy = distant(sshd.port(), ROUND_TRIP);
        measure(&sshd, proxy.port(), rounds).await;
    });
}

/// Containers of the benchmark, removed when it ends.
struct Containers(&'static str, Vec<String>);

impl Drop for Containers {
    fn drop(&mut self) {
        let _ = run(outside(self.0).args(["rm", "--force"]).args(&self.1), pooled::PATIENCE);
    }
}

/// Two services each; made of labels alone, which are all that `ls` and `ps` look at.
fn containers(sshd: &Sshd) -> Containers {
    let Kind::Container(engine) = sshd.kind() else { panic!("the server is a container") };
    let mut ids = Vec::new();
    for project in 0..PROJECTS {
        for service in ["web", "db"] {
            let label =
                |name: &str, value: &str| format!("--label=com.docker.compose.{name}={value}");
            let mut command = outside(engine);
            command.args(["run", "--detach", "--entrypoint", "sleep"]).args([
                label("project", &format!("sshpool-bench-{}-{project}", std::process::id())),
                label("service", service),
                label("config-hash", "0"),
                label("container-number", "1"),
                label("oneoff", "False"),
                label("project.config_files", "/srv/compose.yaml"),
            ]);
            let ended = run(command.args([sshd.image(), "600"]), pooled::PATIENCE);
            assert_eq!(ended.code(), 0, "{}", ended.stderr);
            ids.push(ended.stdout.trim().to_owned());
        }
    }
    Containers(engine, ids)
}

async fn measure(sshd: &Sshd, port: u16, rounds: usize) {
    let host = pooled::host(sshd).port(port).expect("a valid port");
    let pool = pooled::pool(pooled::config());
    let names = refresh(&pool, &host, &[]).await;
    assert_eq!(names.len(), PROJECTS);
    let (mut pooled, mut one_by_one, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = sshd.logins();
        let started = Instant::now();
        refresh(&pool, &host, &names).await;
        pooled.push(milliseconds(started));
        assert_eq!(sshd.logins(), before, "a refresh makes no login");

        let started = Instant::now();
        for command in commands(&names) {
            cold(sshd, port, &command).await;
        }
        one_by_one.push(milliseconds(started));
        let started = Instant::now();
        join_all(commands(&names).iter().map(|command| cold(sshd, port, command))).await;
        at_once.push(milliseconds(started));
        assert_eq!(sshd.logins(), before + 2 * (PROJECTS + 2));
    }
    println!("{rounds} refreshes each way, {} commands each", PROJECTS + 2);
    let [pooled, one_by_one, at_once] =
        [pooled, one_by_one, at_once].map(|times| Spread::of(&times).expect("there is a round"));
    for (name, Spread { median, least, greatest }) in
        [("pool", pooled), ("cold ssh, one by one", one_by_one), ("cold ssh, all at once", at_once)]
    {
        println!(
            "{name:<22} median {median:>7.0} ms, from {least:.0} to {greatest:.0}; the pool takes {:.3} of it",
            pooled.median / median
        );
    }
    pool.close().await;
}

/// As examples/dashboard.rs does it: with the names of the last time.
async fn refresh(pool: &Pool, host: &Host, known: &[String]) -> Vec<String> {
    let compose = Compose::new(pool, host);
    let (resources, projects) = join(HostResources::of(pool, host), compose.overview(known)).await;
    assert!(resources.expect("an answer").memory.is_some());
    let projects =
        projects.expect("a list").into_iter().filter(|(project, _)| is_ours(&project.name));
    let name = |(project, status): (Project, Result<ProjectStatus, ComposeError>)| {
        assert_eq!(status.expect("an answer").services.len(), 2);
        project.name
    };
    projects.map(name).collect()
}

fn is_ours(name: &str) -> bool {
    name.starts_with(&format!("sshpool-bench-{}-", std::process::id()))
}

/// A command and its input.
fn commands(names: &[String]) -> Vec<(String, &'static str)> {
    let mut commands = vec![("docker compose ls --format json --all".to_owned(), "")];
    commands.extend(
        names.iter().map(|name| (format!("docker compose -p {name} ps --all --format json"), "")),
    );
    commands.push(("sh".to_owned(), include_str!("../src/resources/probe.sh")));
    commands
}

async fn cold(sshd: &Sshd, port: u16, (command, input): &(String, &'static str)) {
    let mut ssh = pooled::command("ssh");
    ssh.arg("-F").arg(sshd.ssh_config()).args([
        "-p",
        &port.to_string(),
        "-o",
        "BatchMode=yes",
        "lab",
        command,
    ]);
    ssh.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child =
        tokio::process::Command::from(ssh).stdout(Stdio::piped()).spawn().expect("ssh starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let feed = async {
        stdin.write_all(input.as_bytes()).await.expect("it reads");
        drop(stdin);
    };
    let ((), output) = join(feed, child.wait_with_output()).await;
    let output = output.expect("it ends");
    assert!(output.status.success() && !output.stdout.is_empty(), "{command}: {output:?}");
}
