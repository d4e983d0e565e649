//! What a pool has on this machine is for its user alone, and secrets are nowhere where they can be
//! read later: not in logs, not in `{:?}`. That they are in no process list is shown in
//! `accounts.rs`.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use rstest::rstest;
use sshpool::{Error, Stdin};
use tempfile::TempDir;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::{self, wait_for};
use crate::lab::itself;
use crate::lab::pooled::{self, PATIENCE, config, host, pool};

/// What is in it, as `ls` would show it.
fn entries(directory: &Path) -> Vec<(String, u32)> {
    let entries = fs::read_dir(directory).expect("it is there").flatten();
    let shown = entries.filter_map(|entry| {
        // One that has just gone is no matter.
        let found = fs::symlink_metadata(entry.path()).ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), found.mode()))
    });
    shown.collect()
}

/// Runs the program where everything that it makes would be open to all, and looks while a command
/// runs.
#[rstest]
#[case::everybody("XDG_RUNTIME_DIR", 0o000)]
#[case::nobody_but_us("XDG_RUNTIME_DIR", 0o077)]
#[case::in_a_shared_place("TMPDIR", 0o000)]
fn what_there_is_on_this_machine_is_for_its_user_alone(#[case] variable: &str, #[case] mask: u32) {
    let (sshd, home) = (Sshd::builder().start(), tempfile::tempdir().expect("a directory"));
    let shared = variable == "TMPDIR";
    let mode = if shared { 0o1777 } else { 0o700 };
    fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).expect("it is ours");
    let mut program = pooled::command("sh");
    program
        .args([
            "-c",
            &format!("umask {mask:03o}; exec \"$@\""),
            "sh",
            env!("CARGO_BIN_EXE_sshpool"),
            "-F",
        ])
        .arg(sshd.ssh_config())
        .args(["exec", "--stdin", "lab", "echo begun; cat"])
        .env(variable, home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut program = program.spawn().expect("it starts");
    let mut begun = [0; 6];
    std::io::Read::read_exact(program.stdout.as_mut().expect("it was piped"), &mut begun)
        .expect("it begins");

    let made = entries(home.path());
    let [(name, mode)] = &made[..] else { panic!("one directory is expected: {made:?}") };
    assert!(name.starts_with("sshpool-") && mode & 0o7777 == 0o700, "{name} {mode:o}");
    let directory = home.path().join(name);
    assert_eq!(
        fs::metadata(&directory).expect("it is there").uid(),
        nix::unistd::geteuid().as_raw()
    );
    let made = entries(&directory);
    // A socket, the log of its master, and the log of a session.
    assert!(made.len() >= 3, "{made:?}");
    for (name, mode) in &made {
        assert_eq!(mode & 0o7777, 0o600, "{name} {mode:o}");
    }
    let kinds = fs::read_dir(&directory)
        .expect("it is there")
        .flatten()
        .filter_map(|entry| entry.file_type().ok());
    let kinds: Vec<_> = kinds.collect();
    assert!(kinds.iter().any(FileTypeExt::is_socket) && kinds.iter().any(FileTypeExt::is_fifo));

    drop(program.stdin.take());
    assert!(program.wait().expect("it ends").success());
    assert_eq!(entries(home.path()), []);
}

/// Somebody else's directory is not used, whatever root may write to.
#[derive(Clone, Copy, Debug)]
enum Place {
    Strange,
    OpenToAll,
    LinkOfOurs,
    LinkOfSomebody,
}

fn place(place: Place) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("place");
    let target = directory.path().join("target");
    let made = match place {
        Place::Strange => fs::create_dir(&path).and_then(|()| chown(&path, Some(4711), None)),
        Place::OpenToAll => fs::create_dir(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o777))),
        Place::LinkOfOurs => fs::create_dir(&target).and_then(|()| symlink(&target, &path)),
        Place::LinkOfSomebody => fs::create_dir(&target)
            .and_then(|()| symlink(&target, &path))
            .and_then(|()| std::os::unix::fs::lchown(&path, Some(4711), None)),
    };
    made.expect("root may, and we may what is ours");
    directory
}

/// A login that is refused at once, once there is a directory for its socket.
fn tried(variable: &str, value: &Path, other: &Path) -> (Option<i32>, String) {
    let mut program = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    // Port 1 of an address that nothing listens on.
    program.args(["-v", "-F", "none", "exec", "127.99.99.99:1", "true"]);
    program
        .env("XDG_CONFIG_HOME", other)
        .env("XDG_RUNTIME_DIR", "/proc/nonexistent")
        .env("TMPDIR", other);
    let ended = common::process::run(program.env(variable, value), PATIENCE);
    (ended.status.code(), ended.stderr)
}

#[rstest]
#[case::strange(Place::Strange, false)]
#[case::open_to_all(Place::OpenToAll, false)]
#[case::link_of_ours(Place::LinkOfOurs, true)]
#[case::link_of_somebody(Place::LinkOfSomebody, false)]
fn sockets_are_not_put_where_somebody_else_can_exchange_them(
    #[case] kind: Place,
    #[case] runtime_is_used: bool,
) {
    if !nix::unistd::geteuid().is_root() && matches!(kind, Place::Strange | Place::LinkOfSomebody) {
        return common::skip("only root can give a directory to somebody else");
    }
    let (directory, other) = (place(kind), tempfile::tempdir().expect("a directory"));
    let path = directory.path().join("place");
    // What is used is changed, and cannot have been in 1970.
    let forget = |path: &Path| {
        let directory = fs::File::open(path).expect("it is there");
        directory.set_modified(SystemTime::UNIX_EPOCH).expect("it is ours, or we are root");
    };
    let is_used = |path: &Path| fs::metadata(path).expect("it is there").mtime() != 0;
    forget(&path);
    forget(other.path());
    let (code, stderr) = tried("XDG_RUNTIME_DIR", &path, other.path());
    assert!(code == Some(255) && stderr.contains("Connection refused"), "{stderr}");
    assert_eq!((is_used(&path), is_used(other.path())), (runtime_is_used, !runtime_is_used));

    // There is nothing else to fall back to.
    forget(&path);
    let (code, stderr) = tried("TMPDIR", &path, other.path());
    assert_eq!(code, Some(255));
    match kind {
        Place::Strange | Place::LinkOfSomebody => {
            assert!(
                stderr.contains("place belongs to user 4711, who could put other control sockets"),
                "{stderr}"
            );
            assert!(
                stderr.contains("set XDG_RUNTIME_DIR or TMPDIR") && !is_used(&path),
                "{stderr}"
            );
        }
        Place::OpenToAll => {
            assert!(
                stderr.contains("sticky bit") && stderr.contains("Connection refused"),
                "{stderr}"
            );
        }
        Place::LinkOfOurs => {
            assert!(
                !stderr.contains("sticky bit") && stderr.contains("Connection refused"),
                "{stderr}"
            );
        }
    }
}

/// What is moved away before it is removed goes nowhere but to a new directory: in a shared place
/// its name can be known beforehand.
#[rstest]
#[case::a_link(true)]
#[case::a_directory(false)]
fn nothing_is_moved_to_where_somebody_else_wants_it(#[case] link: bool) {
    let (home, victim) =
        (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    // It accepts, and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let mut program = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
    program
        .args(["-F", "none", "exec", &format!("127.0.0.1:{port}"), "true"])
        .env("XDG_CONFIG_HOME", home.path());
    program.env("XDG_RUNTIME_DIR", home.path()).env("SSH_POOL_CONNECTION_TIMEOUT_MS", "60000");
    let mut program = program.stderr(Stdio::null()).spawn().expect("it starts");
    let _login = listener.accept().expect("a login begins");
    let [(name, _)] = &entries(home.path())[..] else { panic!("one directory is expected") };
    let planted = home.path().join(format!("{name}.gone"));
    match link {
        true => symlink(victim.path(), &planted).expect("a link"),
        false => fs::create_dir(&planted).expect("a directory"),
    }
    program.kill().and_then(|()| program.wait()).expect("it is ours");
    wait_for("the end of the directory", PATIENCE, || {
        !fs::exists(home.path().join(name)).unwrap_or(true)
    });
    wait_for("the end of the guard", PATIENCE, || pooled::processes_with(name).is_empty());
    assert_eq!(entries(victim.path()), []);
    let left: Vec<_> = entries(home.path()).into_iter().map(|(left, _)| left).collect();
    assert_eq!(left, [format!("{name}.gone")], "what is not ours stays");
    assert!(link || entries(&planted).is_empty());
}

/// All that is logged in this process, at every level.
fn logged() -> String {
    static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    #[derive(Clone)]
    struct Collector(Arc<Mutex<Vec<u8>>>);
    impl Write for Collector {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = LOG.get_or_init(|| {
        let collector = Collector(Arc::default());
        let log = Arc::clone(&collector.0);
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
            .with_writer(move || collector.clone())
            .init();
        log
    });
    String::from_utf8_lossy(&log.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
}

/// In every way in which a command can end, on an account where it is written to a shell and on one
/// where it is an argument.
#[rstest]
#[case::a_shell(None)]
// What it answers to the probe is no answer.
#[case::an_argument(Some(
    "case $SSH_ORIGINAL_COMMAND in *sshpool*) exit 1 ;; esac; eval \"$SSH_ORIGINAL_COMMAND\""
))]
#[tokio::test]
async fn secrets_are_in_no_log_and_in_no_debug_output(#[case] forced: Option<&str>) {
    // A process has one log, and other tests would fill it.
    if !itself::is_alone() {
        return;
    }
    logged();
    let sshd = match forced {
        Some(command) => Sshd::builder().force_command(command),
        None => Sshd::builder(),
    };
    let sshd = sshd.start();
    let (pool, host) = (pool(config().standby_sessions(2)), host(&sshd));
    let secret = format!("secret{}", sshd.port());
    let mut shown = Vec::new();
    for end in ["exit 0", "exit 7", "exit 255", "kill -9 $$", "sleep 60", "yes", "\0"] {
        let command = pool
            .shell(&host, format!(": {secret}; cat >/dev/null; {end}; :"))
            .arg(&secret)
            .env("TOKEN", &secret)
            .stdin(secret.clone())
            .timeout(Duration::from_secs(1))
            .max_output(100);
        shown.push(format!("{command:?} {command:#?}"));
        assert!(
            shown[shown.len() - 1].contains("TOKEN"),
            "a name says what it is about: {shown:?}"
        );
        shown.push(format!("{:?}", command.clone().status().await));
        shown.push(format!("{:?}", command.output().await));
    }
    shown.push(format!("{:?}", pool.exec(&host, &format!(": {secret}; exit 3")).await));
    shown.push(format!("{:?}", pool.shell(&host, &*secret).stdin(Stdin::Piped).output().await));
    let wrong =
        pool.shell(&host, "true").env("NOT A NAME", &secret).env("NUL", format!("{secret}\0"));
    shown.push(format!("{:?}", wrong.output().await));

    let command =
        pool.shell(&host, format!(": {secret}; echo begun; cat; sleep 60")).env("TOKEN", &secret);
    let mut child = command.stdin(secret.clone()).spawn().await.expect("it starts");
    shown.push(format!("{child:?} {pool:?} {host:?}"));
    assert_eq!(pool.stats().plain_connections > 0, forced.is_some());
    let lease = pool.acquire(&host).await.expect("there is a connection");
    shown.push(format!("{lease:?} {:?}", lease.shell(&*secret)));
    drop(lease);
    // The output is what the command itself shows.
    drop((child.stdout.take(), child.stderr.take()));
    sshd.kill_connections();
    let lost = child.wait().await.expect_err("the connection is lost");
    assert!(matches!(lost, Error::Lost { .. }), "{lost:?}");
    shown.push(format!("{lost:?} {child:?}"));
    pool.close().await;

    wait_for("the end of the pool in the log", PATIENCE, || logged().contains("master ended"));
    for text in shown.iter().chain([&logged()]) {
        assert!(!text.contains(&secret), "{text}");
    }
    assert!(logged().contains("DEBUG") && logged().contains("connected"));
}
