//! Another user of the machine gets nowhere with the agent: neither to it, nor between it and its
//! clients. Where its place cannot be trusted, commands work without it, and say so.

#![cfg(target_os = "linux")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use rstest::rstest;

use crate::lab::agents::{Home, request};
use crate::lab::common::process::{Ended, copy_program, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::{self, wait_for};
use crate::lab::pooled::{self, PATIENCE};

/// Nobody's number.
const STRANGER: u32 = 4711;

/// Runs it as another user, in a thread of its own: for Linux, users belong to threads.
fn as_stranger<R: Send>(act: impl FnOnce() -> R + Send) -> R {
    let become_one = || {
        use nix::libc::{SYS_setgroups, SYS_setresgid, SYS_setresuid, syscall};
        // SAFETY: the system calls take numbers, and change this thread only, which ends with this.
        let done = unsafe {
            [
                syscall(SYS_setgroups, 0, std::ptr::null::<u32>()),
                syscall(SYS_setresgid, STRANGER, STRANGER, STRANGER),
                syscall(SYS_setresuid, STRANGER, STRANGER, STRANGER),
            ]
        };
        assert_eq!(done, [0; 3], "root can be anybody");
    };
    std::thread::scope(|scope| {
        let ran = scope.spawn(|| {
            become_one();
            act()
        });
        ran.join().expect("no panic")
    })
}

fn is_root() -> bool {
    let is = nix::unistd::geteuid().is_root();
    if !is {
        common::skip("only root can be somebody else");
    }
    is
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .expect("it is ours, or we are root");
}

/// The temporary directories are for their makers alone: a stranger is to get as far as the agent's
/// own.
fn open_the_way(home: &Home) {
    mode(home.path(), 0o755);
    mode(&home.runtime(), 0o755);
}

#[test]
fn a_stranger_cannot_get_to_the_agent() {
    if !is_root() {
        return;
    }
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    open_the_way(&home);
    let socket = home.socket();
    let denied = as_stranger(|| {
        let kinds = [
            UnixStream::connect(&socket).map(drop),
            fs::read_dir(home.place()).map(drop),
            fs::File::open(home.place().join("agent.log")).map(drop),
            fs::File::create(home.place().join("new")).map(drop),
            fs::rename(home.place(), home.runtime().join("elsewhere")),
        ];
        kinds.map(|tried| tried.map_err(|error| error.kind()))
    });
    assert_eq!(denied, [Err(io::ErrorKind::PermissionDenied); 5]);
    // The pool's directories are as closed.
    let others: Vec<_> =
        fs::read_dir(home.runtime()).expect("ours").flatten().map(|entry| entry.path()).collect();
    assert!(others.len() > 1, "there is a pool's: {others:?}");
    for directory in &others {
        assert_eq!(
            as_stranger(|| fs::read_dir(directory).map(drop).map_err(|e| e.kind())),
            Err(io::ErrorKind::PermissionDenied)
        );
    }
    for file in fs::read_dir(home.place()).expect("ours").flatten() {
        assert_eq!(file.metadata().expect("it stays").mode() & 0o077, 0, "{:?}", file.path());
    }
}

/// Somebody has opened all of it to everybody: the agent still answers its own user only, and
/// clients do not use it any more.
#[test]
fn a_stranger_who_can_connect_is_turned_away() {
    if !is_root() {
        return;
    }
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    home.exec(&sshd, "true");
    open_the_way(&home);
    mode(&home.place(), 0o777);
    mode(&home.socket(), 0o777);
    let heard = as_stranger(|| {
        let mut stream = UnixStream::connect(home.socket()).expect("it may");
        // It may be closed before.
        let _ = stream.write_all(request("GET", "/v1/status", "", "").as_bytes());
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard);
        heard
    });
    assert_eq!(String::from_utf8_lossy(&heard), "");
    wait_for("a word about it", PATIENCE, || {
        fs::read_to_string(home.place().join("agent.log"))
            .is_ok_and(|log| log.contains("another user was turned away"))
    });
    let alone = home.run_on(&sshd, &["exec", "lab", "echo", "alone"]);
    assert_alone(
        &alone,
        &format!("{} is open to others (mode 0777): chmod 700 {0}", home.place().display()),
    );
    mode(&home.place(), 0o700);
    assert_eq!(home.exec(&sshd, "echo together"), "together\n");
    mode(home.path(), 0o700);
    mode(&home.runtime(), 0o700);
}

/// It has worked, with one line about why nothing is kept.
#[track_caller]
fn assert_alone(ended: &Ended, why: &str) {
    let told = format!(
        "sshpool: the connection is not kept for the next command: {why} (--no-agent does without)\n"
    );
    assert_eq!((ended.code(), &*ended.stdout, &*ended.stderr), (0, "alone\n", &*told));
}

/// A place below a directory for all, as `/tmp` is.
struct Shared {
    home: Home,
    tmp: PathBuf,
    place: PathBuf,
}

impl Shared {
    fn new() -> Self {
        let home = Home::new();
        let tmp = home.path().join("tmp");
        fs::create_dir(&tmp).expect("a directory");
        mode(&tmp, 0o1777);
        mode(home.path(), 0o755);
        let place = tmp.join(format!("sshpool-{}", nix::unistd::getuid()));
        Shared { home, tmp, place }
    }

    fn exec(&self, sshd: &Sshd) -> Ended {
        let mut command = self.home.on(sshd, &["exec", "lab", "echo", "alone"]);
        run(command.env("XDG_RUNTIME_DIR", "/proc/nonexistent").env("TMPDIR", &self.tmp), PATIENCE)
    }
}

#[rstest]
#[case::readable(0o755)]
#[case::of_a_group(0o770)]
#[case::of_everybody(0o777)]
fn a_directory_that_is_open_is_not_used(#[case] open: u32) {
    let (sshd, shared) = (Sshd::builder().start(), Shared::new());
    fs::create_dir(&shared.place).expect("a directory");
    mode(&shared.place, open);
    let why =
        format!("{} is open to others (mode {open:04o}): chmod 700 {0}", shared.place.display());
    assert_alone(&shared.exec(&sshd), &why);
    assert_eq!(fs::read_dir(&shared.place).expect("ours").count(), 0);
}

#[test]
fn a_directory_of_a_stranger_is_not_used() {
    if !is_root() {
        return;
    }
    let (sshd, shared) = (Sshd::builder().start(), Shared::new());
    let listener = as_stranger(|| {
        fs::DirBuilder::new().mode(0o700).create(&shared.place).expect("everybody may");
        UnixListener::bind(shared.place.join("agent.sock")).expect("it is its own")
    });
    let why = format!("{} belongs to another user (uid {STRANGER})", shared.place.display());
    assert_alone(&shared.exec(&sshd), &why);
    listener.set_nonblocking(true).expect("it is open");
    listener.accept().expect_err("nobody has connected");
    // The client is asked all the same.
    let mut status = shared.home.command(["status"]);
    let status = run(
        status.env("XDG_RUNTIME_DIR", "/proc/nonexistent").env("TMPDIR", &shared.tmp),
        PATIENCE,
    );
    assert_eq!((status.code(), status.stderr), (255, format!("sshpool: {why}\n")));
}

#[rstest]
#[case::to_a_directory_of_ours(false)]
#[case::of_a_stranger(true)]
fn a_link_in_the_place_of_the_directory_is_not_followed(#[case] strange: bool) {
    if strange && !is_root() {
        return;
    }
    let (sshd, shared) = (Sshd::builder().start(), Shared::new());
    let target = shared.home.path().join("target");
    fs::DirBuilder::new().mode(0o700).create(&target).expect("a directory");
    match strange {
        true => as_stranger(|| symlink(&target, &shared.place)),
        false => symlink(&target, &shared.place),
    }
    .expect("everybody may");
    assert_alone(
        &shared.exec(&sshd),
        &format!("{} is not a directory: remove it", shared.place.display()),
    );
    assert_eq!(fs::read_dir(&target).expect("ours").count(), 0);
}

/// As `su` without `-` leaves the variable.
#[test]
fn the_runtime_directory_of_somebody_else_is_not_used() {
    if !is_root() {
        return;
    }
    let (sshd, shared) = (Sshd::builder().start(), Shared::new());
    let theirs = shared.home.path().join("theirs");
    fs::DirBuilder::new().mode(0o700).create(&theirs).expect("a directory");
    chown(&theirs, Some(STRANGER), Some(STRANGER)).expect("root may");
    let in_theirs = |args: &[&str]| {
        let mut command = shared.home.on(&sshd, args);
        run(command.env("XDG_RUNTIME_DIR", &theirs).env("TMPDIR", &shared.tmp), PATIENCE)
    };
    let ran = in_theirs(&["exec", "lab", "echo", "in"]);
    assert_eq!((ran.code(), &*ran.stdout, &*ran.stderr), (0, "in\n", ""));
    assert_eq!(fs::read_dir(&theirs).expect("root may").count(), 0);
    assert!(shared.place.join("agent.sock").exists());
    assert_eq!(in_theirs(&["agent", "stop"]).code(), 0);
}

/// It holds the environments of its callers, which other processes of the same user are not to read
/// out of it.
#[test]
fn the_agents_memory_is_not_open_to_other_processes_of_its_user() {
    if !is_root() {
        return;
    }
    let home = Home::new();
    open_the_way(&home);
    let (program, theirs) = (home.path().join("sshpool"), home.path().join("theirs"));
    copy_program(env!("CARGO_BIN_EXE_sshpool").as_ref(), &program);
    fs::DirBuilder::new().mode(0o700).create(&theirs).expect("a directory");
    chown(&theirs, Some(STRANGER), Some(STRANGER)).expect("root may");
    let mut command = home.in_its_place(pooled::command(&program), ["agent"]);
    command.env("XDG_RUNTIME_DIR", &theirs).env("XDG_CONFIG_HOME", &theirs);
    command.current_dir("/").uid(STRANGER).gid(STRANGER);
    let mut agent = command.spawn().expect("it starts");
    let owner_of = |pid: u32| fs::metadata(format!("/proc/{pid}/environ")).expect("it runs").uid();
    wait_for("the agent to listen", PATIENCE, || theirs.join("sshpool/agent.sock").exists());
    let owner = owner_of(agent.id());
    // What a process is like that has not asked for it.
    let mut other = pooled::command("sleep").arg("60").uid(STRANGER).spawn().expect("it starts");
    wait_for("sleep to run as its user", PATIENCE, || owner_of(other.id()) == STRANGER);
    for child in [&mut agent, &mut other] {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    assert_eq!(owner, 0, "the system gives the files of such a process to root");
}

/// What can be in the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Thing {
    File,
    Fifo,
    Directory,
    DeadSocket,
    Link,
    LinkToNothing,
    HardLink,
    StrangersFile,
}

/// Something that must stay as it is.
const PRECIOUS: &str = "a key of ours\n";

fn put(thing: Thing, path: &Path, precious: &Path) {
    match thing {
        Thing::File => fs::write(path, "something"),
        Thing::Fifo => nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600))
            .map_err(Into::into),
        Thing::Directory => fs::create_dir(path),
        Thing::DeadSocket => UnixListener::bind(path).map(drop),
        Thing::Link => symlink(precious, path),
        Thing::LinkToNothing => symlink(precious.with_extension("gone"), path),
        Thing::HardLink => fs::hard_link(precious, path),
        Thing::StrangersFile => {
            fs::write(path, "").and_then(|()| chown(path, Some(STRANGER), None))
        }
    }
    .expect("we may");
}

/// They can be left from a time when the directory was open to others.
#[rstest]
fn what_is_no_plain_file_of_ours_is_not_written_to(
    #[values("agent.lock", "start.lock", "agent.log")] name: &str,
    #[values(
        Thing::Fifo,
        Thing::Directory,
        Thing::DeadSocket,
        Thing::Link,
        Thing::LinkToNothing,
        Thing::HardLink,
        Thing::StrangersFile
    )]
    thing: Thing,
) {
    if thing == Thing::StrangersFile && !is_root() {
        return;
    }
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let (path, precious) = (home.place().join(name), home.path().join("precious"));
    fs::write(&precious, PRECIOUS).expect("a file");
    fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    put(thing, &path, &precious);
    let ended = home.run_on(&sshd, &["exec", "lab", "echo", "alone"]);
    let why = format!(
        "the agent could not be started: {} is not a plain file of ours: remove it",
        path.display()
    );
    assert_alone(&ended, &why);
    assert_eq!(fs::read_to_string(&precious).expect("it is there"), PRECIOUS);
    assert!(!precious.with_extension("gone").exists());
    match thing {
        Thing::Directory => fs::remove_dir(&path),
        _ => fs::remove_file(&path),
    }
    .expect("ours");
    assert_eq!(home.exec(&sshd, "echo together"), "together\n");
}

#[rstest]
#[case::file(Thing::File)]
#[case::fifo(Thing::Fifo)]
#[case::a_dead_agents(Thing::DeadSocket)]
#[case::link(Thing::Link)]
#[case::link_to_nothing(Thing::LinkToNothing)]
#[case::hard_link(Thing::HardLink)]
fn what_is_in_the_place_of_the_socket_gives_way(#[case] thing: Thing) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let precious = home.path().join("precious");
    fs::write(&precious, PRECIOUS).expect("a file");
    fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    put(thing, &home.socket(), &precious);
    assert_eq!(home.run(["status"]).stdout, "no agent runs\n");
    assert_eq!(home.exec(&sshd, "echo together"), "together\n");
    assert_eq!(home.exec(&sshd, "echo again"), "again\n");
    assert_eq!(
        (sshd.logins(), fs::read_to_string(&precious).expect("it is there")),
        (1, PRECIOUS.to_owned())
    );
}

#[test]
fn a_directory_in_the_place_of_the_socket_is_told() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    fs::create_dir(home.socket()).expect("a directory");
    let ended = home.run_on(&sshd, &["exec", "lab", "echo", "alone"]);
    assert_alone(
        &ended,
        &format!(
            "the agent could not be started: cannot remove {}: Is a directory",
            home.socket().display()
        ),
    );
    fs::remove_dir(home.socket()).expect("ours");
}

/// However it got there: a process of somebody else listens at our socket. It is not talked to.
#[test]
fn a_socket_of_a_stranger_is_not_talked_to() {
    if !is_root() {
        return;
    }
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    fs::DirBuilder::new().mode(0o700).create(home.place()).expect("a directory");
    let handle = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .expect("a socket");
    let address = UnixAddr::new(&home.socket()).expect("a short path");
    bind(std::os::fd::AsRawFd::as_raw_fd(&handle), &address).expect("a name");
    as_stranger(|| listen(&handle, Backlog::new(8).expect("few"))).expect("it may");
    let listener = UnixListener::from(handle);
    let ended = home.run_on(&sshd, &["exec", "lab", "echo", "alone"]);
    assert_alone(&ended, "another user's process is at the agent's socket");
    let (mut client, _) = listener.accept().expect("one has connected");
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("it is open");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("it is closed");
    assert_eq!(String::from_utf8_lossy(&heard), "", "nothing was said to it");
    fs::remove_file(home.socket()).expect("ours");
}
