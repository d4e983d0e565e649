//! What fails on this machine: no room and no directory for sockets, no descriptors, no processes.
//! The caller hears at once and with the cause, what runs already is not disturbed, and when there
//! is room again it works again.
//!
//! Limits and environment belong to a process, so that each test starts itself once more as one of
//! its own (the *actor*).

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sshpool::{ConnectErrorKind as Kind, Error, Host, Pool, PoolConfig, Stdin};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::lab::common::process::{Ended, copy_program, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{self, PATIENCE, config, host_of, pool, processes_with};
use crate::lab::{common, itself};

const ROLE: &str = "SSHPOOL_TEST_ACTOR";
/// For all that an actor does.
const ACT: Duration = Duration::from_secs(180);
/// What needs nothing of the server is told at once: so long on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(20);

/// The actor's surroundings: `sockets` is its XDG_RUNTIME_DIR and `other` its TMPDIR.
struct Stage {
    sshd: Sshd,
    directory: TempDir,
}

/// In the actor: plays, and ends the process.
fn act<F: Future<Output = ()>>(play: impl FnOnce(Host) -> F) {
    if let Some(ssh_config) = std::env::var_os(ROLE) {
        let host = host_of(ssh_config.as_ref());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(play(host));
        std::process::exit(0);
    }
}

impl Stage {
    fn new() -> Stage {
        let stage = Stage {
            sshd: Sshd::builder().start(),
            directory: tempfile::tempdir().expect("a directory"),
        };
        for name in ["sockets", "other"] {
            fs::create_dir(stage.path(name)).expect("a directory");
        }
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// This very test, as a process of its own.
    fn actor(&self, program: &Path) -> Command {
        let mut command = pooled::command(program);
        itself::only(&mut command, &itself::own_name());
        self.surround(&mut command, &self.sshd.ssh_config());
        command
    }

    fn surround(&self, command: &mut Command, ssh_config: &Path) {
        command.env(ROLE, ssh_config);
        command.env("XDG_RUNTIME_DIR", self.path("sockets")).env("TMPDIR", self.path("other"));
    }

    /// Lets the actor play. What it had run was known by its name: `never` or `once`.
    #[track_caller]
    fn plays(&self, actor: &mut Command) {
        let Ended { status, stdout, stderr } = run(actor, ACT);
        assert!(status.success(), "{stdout}{stderr}");

        assert_eq!(processes_with(&self.directory.path().to_string_lossy()), [""; 0]);
        for name in ["sockets", "other"] {
            let left = fs::read_dir(self.path(name)).into_iter().flatten().flatten();
            let left: Vec<_> = left.map(|file| file.path()).collect();
            assert!(left.is_empty(), "{left:?}");
        }
        let ran = self.sshd.exec("sort ~/ran").stdout;
        assert_eq!(ran.lines().collect::<Vec<_>>(), ["once"], "each ran as often as it says");
    }
}

async fn exec(pool: &Pool, host: &Host, command: &str) -> Result<String, Error> {
    timeout(AT_ONCE, pool.exec(host, command)).await.expect("it is told at once")
}

/// Fails here, and before anything is sent.
async fn fails(pool: &Pool, host: &Host, text: &str) {
    let error = exec(pool, host, "echo never >>~/ran").await.expect_err("it cannot be done");
    assert!(error.never_started());
    let is_ours = match &error {
        Error::Connect { source, .. } => source.kind() == Kind::Local,
        Error::Io { .. } => true,
        _ => false,
    };
    assert!(is_ours && error.to_string().contains(text), "{error}");
}

async fn works(pool: &Pool, host: &Host) {
    let end = tokio::time::Instant::now() + PATIENCE;
    // It was tried in vain a moment ago: the pool may still back off.
    while let Err(error) = exec(pool, host, "true").await {
        assert!(tokio::time::Instant::now() < end, "it does not recover: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A command that runs already and has something to say later.
async fn running(pool: &Pool, host: &Host) -> sshpool::Child {
    let mut child = pool
        .shell(host, "echo on; echo once >>~/ran; sleep 2; echo whole")
        .spawn()
        .await
        .expect("it starts");
    child.stdout.as_mut().expect("not taken").read_exact(&mut [0; 3]).await.expect("it runs");
    child
}

async fn is_whole(running: sshpool::Child) {
    let output = timeout(PATIENCE, running.wait_with_output())
        .await
        .expect("it ends")
        .expect("it is not disturbed");
    assert_eq!(output.stdout, b"whole\n");
}

/// Without standby each command needs what a session needs.
fn without_standby() -> PoolConfig {
    config().standby_sessions(0)
}

/// Takes all places for files that a small file system has.
fn fill(directory: &Path) -> TempDir {
    let filling = tempfile::tempdir_in(directory).expect("there is room for one more");
    for number in 0..10_000 {
        match fs::write(filling.path().join(number.to_string()), "") {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return filling,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{} does not become full", directory.display());
}

#[test]
fn a_full_disk_is_told_and_recovered_from() {
    act(|host| async move {
        let directory = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").expect("it was set"));
        let pool = pool(without_standby());
        let full = fill(&directory);
        fails(&pool, &host, "no directory for control sockets below ").await;
        fails(&pool, &host, "No space left on device (set XDG_RUNTIME_DIR or TMPDIR to another)")
            .await;
        drop(full);
        works(&pool, &host).await;

        let running = running(&pool, &host).await;
        let full = fill(&directory);
        fails(&pool, &host, "lab: cannot start ssh: No space left on device").await;
        is_whole(running).await;
        drop(full);
        works(&pool, &host).await;
        assert_eq!(pool.stats().connects, 1, "the connection was not to blame");

        pool.close_host(&host).await;
        let full = fill(&directory);
        // Of a log, or of the socket: what is left of the connection before goes when it likes.
        fails(&pool, &host, "No space left on device").await;
        drop(full);
        works(&pool, &host).await;

        let full = fill(&directory);
        pool.close().await;
        drop(full);
        assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 0);
    });
    // The file system is the actor's own, and goes with it.
    const MOUNT: &str =
        "mount -t tmpfs -o size=256k,nr_inodes=40,mode=700 none \"$XDG_RUNTIME_DIR\"";
    let stage = Stage::new();
    let namespace = |options: &[&str], script: &str| {
        let mut command = pooled::command("unshare");
        command.args(options).args(["sh", "-c", script, "sh"]);
        stage.surround(&mut command, &stage.sshd.ssh_config());
        command
    };
    let possible = [&["--mount"][..], &["--map-root-user", "--mount"][..]];
    let possible = possible
        .into_iter()
        .find(|options| run(&mut namespace(options, MOUNT), PATIENCE).code() == 0);
    let Some(options) = possible else {
        return common::skip("neither root nor a user namespace may mount a file system here");
    };
    let actor = stage.actor(&itself::program());
    let mut inside = namespace(options, &format!("{MOUNT} && exec \"$@\""));
    inside.arg(actor.get_program()).args(actor.get_args());
    stage.plays(&mut inside);
}

#[test]
fn a_directory_that_vanishes_with_its_parent_is_replaced_elsewhere() {
    act(|host| async move {
        let directory = |name| PathBuf::from(std::env::var_os(name).expect("it was set"));
        let (sockets, other) = (directory("XDG_RUNTIME_DIR"), directory("TMPDIR"));
        let pool = pool(without_standby());
        let lease = pool.acquire(&host).await.expect("a connection");
        let running = running(&pool, &host).await;
        fs::remove_dir_all(&sockets).expect("it is ours");
        let error =
            lease.exec("echo never >>~/ran").await.expect_err("there is no way to this connection");
        assert!(error.never_started());
        assert_eq!(
            error.to_string(),
            "lab: the command was not started: the directory of the control sockets is gone: No such file or directory"
        );
        drop(lease);
        assert_eq!(exec(&pool, &host, "echo two").await.expect("another connection"), "two");
        assert_eq!(fs::read_dir(&other).expect("it is there").count(), 1);
        is_whole(running).await;

        pool.close_host(&host).await;
        fs::remove_dir_all(&other).expect("it is ours");
        fails(&pool, &host, "no directory for control sockets below ").await;
        fs::create_dir(&other).expect("it can be made again");
        works(&pool, &host).await;
        pool.close().await;
    });
    let stage = Stage::new();
    stage.plays(&mut stage.actor(&itself::program()));
}

#[test]
fn too_few_descriptors_are_told_and_recovered_from() {
    act(|host| async move {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        let limit = |limit| setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("it can be set");
        // Less the one that it takes to look.
        let open = || fs::read_dir("/proc/self/fd").expect("there is a /proc").count() as u64 - 1;
        let once = pool(config());
        is_whole(running(&once, &host).await).await;
        once.close().await;
        // A login fails at another point with each of them, until there are enough.
        let mut enough = false;
        for spare in 0..40 {
            let pool = pool(config().standby_sessions(0));
            limit(open() + spare);
            let outcome = exec(&pool, &host, "echo whole").await;
            limit(soft);
            match outcome {
                Ok(text) => {
                    assert_eq!(text, "whole");
                    enough = true;
                }
                Err(error) => {
                    assert!(error.never_started(), "{spare} to spare: {error:?}");
                    assert!(
                        error.to_string().contains("Too many open files"),
                        "{spare} to spare: {error}"
                    );
                    works(&pool, &host).await;
                }
            }
            pool.close().await;
            if enough {
                break;
            }
        }
        assert!(enough, "a login needs fewer than 40");
    });
    let stage = Stage::new();
    stage.plays(&mut stage.actor(&itself::program()));
}

/// Where nobody can look whether a connection has outlived a command, its end is waited for and not
/// guessed.
#[test]
fn c6_without_a_descriptor_a_loss_is_not_taken_for_a_signal() {
    act(|host| async move {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit");
        let limit = |limit| setrlimit(Resource::RLIMIT_NOFILE, limit, hard).expect("it can be set");
        // The first kills the server's process for its connection.
        for (text, expected) in [
            ("kill -s KILL $PPID; sleep 300", None),
            ("kill -s KILL $$", Some(None)),
            ("exit 3", Some(Some(3))),
        ] {
            let pool = pool(without_standby());
            let text = format!("echo on; IFS= read -r line; {text}");
            let mut child =
                pool.shell(&host, text).stdin(Stdin::Piped).spawn().await.expect("it starts");
            child
                .stdout
                .as_mut()
                .expect("not taken")
                .read_exact(&mut [0; 3])
                .await
                .expect("it runs");
            limit(0);
            let mut stdin = child.stdin.take().expect("it was piped");
            stdin.write_all(b"go\n").await.expect("it reads");
            let end = timeout(PATIENCE, child.wait()).await.expect("it ends");
            limit(soft);
            match expected {
                None => assert!(matches!(end, Err(Error::Lost { .. })), "{end:?}"),
                Some(code) => assert_eq!(end.expect("the connection lives").code(), code),
            }
            drop((stdin, child));
            pool.close_within(Duration::ZERO).await;
        }
        let pool = pool(without_standby());
        is_whole(running(&pool, &host).await).await;
        pool.close().await;
    });
    let stage = Stage::new();
    stage.plays(&mut stage.actor(&itself::program()));
}

#[test]
fn too_few_processes_are_told_and_recovered_from() {
    act(|host| async move {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC).expect("there is a limit");
        let limit = |limit| setrlimit(Resource::RLIMIT_NPROC, limit, hard).expect("it can be set");
        let pool = pool(without_standby());
        limit(1);
        fails(
            &pool,
            &host,
            "local failure: cannot start /bin/sh: Resource temporarily unavailable",
        )
        .await;
        limit(soft);
        works(&pool, &host).await;

        let running = running(&pool, &host).await;
        limit(1);
        fails(&pool, &host, "lab: cannot start ssh: Resource temporarily unavailable").await;
        is_whole(running).await;
        limit(soft);
        works(&pool, &host).await;
        assert_eq!(pool.stats().connects, 1, "the connection was not to blame");

        pool.close_host(&host).await;
        limit(1);
        fails(&pool, &host, "Resource temporarily unavailable").await;
        limit(soft);
        works(&pool, &host).await;
        limit(1);
        pool.close().await;
    });
    let stage = Stage::new();
    let id = |arguments: &[&str]| -> u32 {
        run(pooled::command("id").args(arguments), PATIENCE)
            .stdout
            .trim()
            .parse()
            .expect("a number")
    };
    // Nobody limits root.
    if id(&["-u"]) != 0 {
        return stage.plays(&mut stage.actor(&itself::program()));
    }
    let (user, group) = (id(&["-u", "nobody"]), id(&["-g", "nobody"]));
    // What nobody needs, where nobody can read it.
    let home = stage.path("home");
    fs::create_dir(&home).expect("a directory");
    let program = home.join("test");
    copy_program(&itself::program(), &program);
    let mut ssh_config = fs::read_to_string(stage.sshd.ssh_config()).expect("it is there");
    for (file, name) in
        [(stage.sshd.identity_file(), "key"), (stage.sshd.known_hosts(), "known_hosts")]
    {
        ssh_config =
            ssh_config.replace(&*file.to_string_lossy(), &home.join(name).to_string_lossy());
        fs::copy(file, home.join(name)).expect("a file can be copied");
    }
    fs::write(home.join("ssh_config"), ssh_config).expect("a file can be written");
    for path in ["", "key", "known_hosts", "ssh_config", "test"].map(|name| home.join(name)) {
        chown(path, Some(user), Some(group)).expect("root gives files away");
    }
    for path in ["sockets", "other"].map(|name| stage.path(name)) {
        chown(path, Some(user), Some(group)).expect("root gives files away");
    }
    fs::set_permissions(stage.directory.path(), fs::Permissions::from_mode(0o755))
        .expect("it is ours");
    let mut actor = stage.actor(&program);
    actor.env(ROLE, home.join("ssh_config")).current_dir("/").uid(user).gid(group);
    stage.plays(&mut actor);
}
