//! The same programs over each runner: a pool, the client of an agent, and a runner of this test's
//! own that has no connection at all.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sshpool::agent::Client;
use sshpool::docker::Compose;
use sshpool::resources::HostResources;
use sshpool::{
    Child, Error, ExitStatus, Host, Output, PartialOutput, Pending, Remote, Request, Runner, Stdin,
    on_each,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::lab::agents::Home;
use crate::lab::common::sshd::Sshd;
use crate::lab::itself;
use crate::lab::pooled::{self, PATIENCE, config, pool};

/// Ten programs that know nothing of who runs their commands.
async fn programs(runner: &dyn Runner, host: &Host) {
    exec(runner, host).await;
    stream(runner, host).await;
    stdin(runner, host).await;
    timeouts(runner, host).await;
    cancel(runner, host).await;
    error_kinds(runner, host).await;
    compose(runner, host).await;
    resources(runner, host).await;
    fleet(runner, host).await;
    lease(runner, host).await;
}

async fn text(runner: &dyn Runner, host: &Host, command: &str) -> String {
    let output = runner.shell(host, command).output().await.expect("it runs");
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).expect("it is text").trim().to_owned()
}

async fn exec(runner: &dyn Runner, host: &Host) {
    let command = runner.command(host, "printf").arg("%s|%s").args(["it's", "$HOME"]);
    let output = command.env("A", "b").current_dir("/").output().await.expect("it runs");
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"it's|$HOME"[..]));
    let output = runner.shell(host, "echo out; echo err >&2; exit 255").output().await;
    let output = output.expect("255 is a status as any other");
    assert_eq!(output.status.code(), Some(255));
    assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(runner.shell(host, "exit 3").status().await.expect("it runs").code(), Some(3));
}

async fn stream(runner: &dyn Runner, host: &Host) {
    let mut child =
        runner.shell(host, "echo one; read x; echo \"$x\"").stdin(Stdin::Piped).spawn().await;
    let child = child.as_mut().expect("it begins");
    let mut stdout = child.stdout.take().expect("it has one");
    let mut read = vec![0; 4];
    stdout.read_exact(&mut read).await.expect("it writes before it reads");
    assert_eq!(read, b"one\n");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"two\n").await.expect("it reads");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).await.expect("it is text");
    assert_eq!(rest, "two\n");
    assert!(child.wait().await.expect("it ends").success());
    assert!(child.wait().await.expect("and says so again").success());
}

async fn stdin(runner: &dyn Runner, host: &Host) {
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let output = runner.shell(host, "cat").stdin(bytes.clone()).output().await.expect("it runs");
    assert!(output.stdout == bytes, "{} bytes", output.stdout.len());
    let piped = runner.shell(host, "cat").stdin(Stdin::Piped).output().await;
    assert!(matches!(piped, Err(Error::InvalidCommand { .. })), "{piped:?}");
}

async fn timeouts(runner: &dyn Runner, host: &Host) {
    let command = runner.shell(host, "echo begun; exec sleep 60").timeout(Duration::from_secs(1));
    match command.output().await {
        Err(Error::TimedOut { after, partial, .. }) => {
            assert_eq!((after, &*partial.stdout), (Duration::from_secs(1), &b"begun\n"[..]));
        }
        other => panic!("{other:?}"),
    }
}

/// A command whose child is dropped is ended on its host.
async fn cancel(runner: &dyn Runner, host: &Host) {
    let mut child = runner.shell(host, "echo $$; exec sleep 60").spawn().await.expect("it begins");
    let mut pid = String::new();
    let mut stdout = child.stdout.take().expect("it has one");
    while !pid.ends_with('\n') {
        pid.push(char::from(stdout.read_u8().await.expect("it writes its id")));
    }
    let is_there = format!("kill -0 {} 2>/dev/null && echo there || echo gone", pid.trim());
    assert_eq!(text(runner, host, &is_there).await, "there");
    drop(child);
    let gone = async { while text(runner, host, &is_there).await != "gone" {} };
    timeout(PATIENCE, gone).await.expect("it is ended");
}

async fn error_kinds(runner: &dyn Runner, host: &Host) {
    let killed = runner.shell(host, "kill -9 $$; sleep 60").output().await.expect("it runs");
    assert_eq!(killed.status.code(), None);
    let nul = runner.command(host, "a\0b").output().await;
    assert!(matches!(nul, Err(Error::InvalidCommand { .. })), "{nul:?}");
    let long = runner.shell(host, "printf 1234567890; exec sleep 60").max_output(4).output().await;
    match long {
        Err(Error::OutputLimit { stream, limit, partial, .. }) => {
            assert_eq!((stream, limit, &*partial.stdout), ("stdout", 4, &b"1234"[..]));
        }
        other => panic!("{other:?}"),
    }
}

/// Where Docker's client and engine are there it lists projects, and says why not elsewhere.
async fn compose(runner: &dyn Runner, host: &Host) {
    let plain = runner.shell(host, "docker compose ls --format json").output().await;
    let works = plain.expect("it runs").status.success();
    let listed = Compose::new(runner, host).list_projects(false).await;
    assert_eq!(listed.is_ok(), works, "{listed:?}");
}

async fn resources(runner: &dyn Runner, host: &Host) {
    let found = HostResources::of(runner, host).await.expect("it has a shell");
    assert_eq!(found.hostname, Some(text(runner, host, "uname -n").await));
    assert!(found.cpu_count.is_some_and(|count| count > 0), "{found:?}");
}

async fn fleet(runner: &dyn Runner, host: &Host) {
    let hosts = vec![host.clone(); 3];
    let two = 2.try_into().expect("it is not 0");
    let outputs = on_each(&hosts, two, |host| runner.shell(host, "echo here").output()).await;
    let outputs: Vec<_> =
        outputs.into_iter().map(|output| output.expect("it runs").stdout).collect();
    assert_eq!(outputs, vec![b"here\n".to_vec(); 3]);
}

async fn lease(runner: &dyn Runner, host: &Host) {
    let lease = runner.lease(host).await.expect("there is a connection");
    // What sshd tells of the connection is the same for all commands of a lease.
    let connection = "echo $SSH_CONNECTION";
    let first = text(&*lease, host, connection).await;
    assert_eq!(text(&*lease, host, connection).await, first);
    let again = lease.lease(host).await.expect("it has its connection");
    drop(lease);
    assert_eq!(text(&*again, host, connection).await, first);
}

#[tokio::test]
async fn ten_programs_run_over_a_pool() {
    let sshd = Sshd::builder().start();
    programs(&pool(config()), &pooled::host(&sshd)).await;
}

#[tokio::test]
async fn ten_programs_run_over_a_runner_without_connections() {
    programs(&Local, &Host::new("here").expect("a name")).await;
}

/// The agent is found by the environment of a process: this one is run in that of its clients.
#[test]
fn ten_programs_run_over_the_agent() {
    const FILE: &str = "SSHPOOL_TEST_SSH_CONFIG";
    if let Some(file) = std::env::var_os(FILE) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let host = pooled::host_of(file.as_ref());
            programs(&Client::find().await.expect("it runs"), &host).await;
            held_as_long_as_its_lease(&host).await;
        });
        return;
    }
    let (home, sshd) = (Home::new(), Sshd::builder().start());
    // Somebody's command starts it.
    home.exec(&sshd, "true");
    let mut test = home.in_its_place(pooled::command(itself::program()), [""; 0]);
    itself::only(&mut test, &itself::own_name()).env(FILE, sshd.ssh_config());
    let ended = crate::lab::common::process::run(&mut test, 10 * PATIENCE);
    itself::assert_passed(&ended);
    assert_eq!(home.status()["agent"]["commands"], 0, "leases are given back");
}

/// A lease takes one of its connection's sessions until its last handle is dropped.
async fn held_as_long_as_its_lease(host: &Host) {
    let mut config = config();
    (config.max_connections, config.sessions_per_connection) = (1, 1);
    config.acquire_timeout = Duration::ZERO;
    let client = Client::find_with(&config).await.expect("it runs");
    let lease = client.lease(host).await.expect("there is a connection");
    let queued = client.shell(host, "true").output().await;
    assert!(matches!(queued, Err(Error::Exhausted { .. })), "{queued:?}");
    assert_eq!(text(&*lease, host, "echo here").await, "here");
    drop(lease);
    let free = async {
        while client.shell(host, "true").output().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, free).await.expect("it is given back");
}

/// Runs commands by the shell of this machine.
#[derive(Clone)]
struct Local;

impl Local {
    fn start(request: &Request) -> (tokio::process::Child, u32) {
        let mut command = tokio::process::Command::from(pooled::command("/bin/sh"));
        command.arg("-c").arg(&request.text).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("there is a shell");
        let pid = child.id().expect("it runs");
        (child, pid)
    }

    fn end(group: u32) {
        let group = nix::unistd::Pid::from_raw(group.cast_signed());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
    }
}

fn status(status: std::process::ExitStatus) -> ExitStatus {
    status.code().map_or_else(ExitStatus::killed, ExitStatus::exited)
}

impl Runner for Local {
    fn shared(&self) -> Arc<dyn Runner> {
        Arc::new(self.clone())
    }

    fn output(&self, request: Request) -> Pending<'_, Output> {
        Box::pin(async move {
            let host = request.host.name().to_owned();
            let input = match &request.stdin {
                Stdin::Empty => Vec::new(),
                Stdin::Bytes(bytes) => bytes.to_vec(),
                _ => {
                    let reason = "a piped stdin needs spawn".to_owned();
                    return Err(Error::InvalidCommand { host, reason });
                }
            };
            let (mut child, group) = Self::start(&request);
            let (mut stdin, mut stdout, mut stderr) =
                (child.stdin.take(), child.stdout.take(), child.stderr.take());
            let mut partial = PartialOutput::default();
            let limit = request.max_output.unwrap_or(usize::MAX);
            let PartialOutput { stdout: out, stderr: err } = &mut partial;
            let feed = async {
                let _ = stdin.as_mut().expect("piped").write_all(&input).await;
                drop(stdin.take());
                Ok(())
            };
            let read = async {
                let stdout = stdout.as_mut().expect("piped");
                while stdout.read_buf(out).await.expect("a pipe") > 0 {
                    if out.len() > limit {
                        out.truncate(limit);
                        return Err(());
                    }
                }
                Ok(())
            };
            let errors = async {
                stderr.as_mut().expect("piped").read_to_end(err).await.expect("a pipe");
                Ok(())
            };
            let run = async { tokio::try_join!(read, errors, feed).map(|_| ()) };
            let after = request.timeout.or(None).unwrap_or(PATIENCE);
            let remote = Remote::Ended;
            match timeout(after, run).await {
                Ok(Ok(())) => {
                    let ended = child.wait().await.expect("it was started here");
                    let PartialOutput { stdout, stderr } = partial;
                    Ok(Output { status: status(ended), stdout, stderr })
                }
                Ok(Err(())) => {
                    Self::end(group);
                    let partial = Arc::new(partial);
                    Err(Error::OutputLimit { host, stream: "stdout", limit, remote, partial })
                }
                Err(_) => {
                    Self::end(group);
                    Err(Error::TimedOut { host, after, remote, partial: Arc::new(partial) })
                }
            }
        })
    }

    fn status(&self, request: Request) -> Pending<'_, ExitStatus> {
        Box::pin(async move { Ok(self.output(request).await?.status) })
    }

    fn spawn(&self, request: Request) -> Pending<'_, Child> {
        Box::pin(async move {
            let (mut process, group) = Self::start(&request);
            let stdin = process.stdin.take().filter(|_| request.stdin == Stdin::Piped);
            let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
            let (child, mut ends) =
                Child::new(&request.host, stdin, stdout.expect("piped"), stderr.expect("piped"));
            tokio::spawn(async move {
                let ended = tokio::select! {
                    ended = process.wait() => status(ended.expect("it was started here")),
                    () = ends.stopped() => {
                        Self::end(group);
                        ExitStatus::killed()
                    }
                };
                ends.ended(Ok(ended), Remote::Ended);
            });
            Ok(child)
        })
    }

    fn lease(&self, _: &Host) -> Pending<'_, Arc<dyn Runner>> {
        Box::pin(async { Ok(self.shared()) })
    }
}
