//! What the test server runs on: a container engine, or nothing but sshd itself. Found out once per test
//! binary.

use std::env;
use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::process::{self, Ended};
use super::say;

/// Where the server's files are in the source tree.
pub(super) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sshd").join(name)
}

pub(super) enum Engine {
    Container { program: &'static str, image: String },
    Process { sshd: PathBuf },
}

/// What a server can be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// Debian with many login shells, and Dropbear.
    Login,
    /// Debian with the clients of Docker and Compose, git, rsync and Python.
    Compose,
    /// BusyBox and nothing else.
    BusyBox,
}

/// The Debian of [`Image::Login`] and [`Image::BusyBox`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// With OpenSSH 9.2 and Dropbear 2022.83.
    Bookworm,
    /// With OpenSSH 10.0 and Dropbear 2025.89.
    Trixie,
}

impl Release {
    fn name(self) -> &'static str {
        match self {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        }
    }
}

/// Which one `SSHPOOL_TEST_RELEASE` asks for, here and in `tests/sshd/build`. Panics when it is not one of them.
pub fn release() -> Release {
    match env::var("SSHPOOL_TEST_RELEASE").unwrap_or_default().as_str() {
        "" | "bookworm" => Release::Bookworm,
        "trixie" => Release::Trixie,
        other => panic!("SSHPOOL_TEST_RELEASE is `{other}`; it can be `bookworm` or `trixie`"),
    }
}

impl Image {
    fn name(self) -> &'static str {
        match self {
            Image::Login => "login",
            Image::Compose => "compose",
            Image::BusyBox => "busybox",
        }
    }
}

/// The name of an image, which is built when it is missing. An error says why there is none.
pub(super) fn image(image: Image) -> Result<String, String> {
    static COMPOSE: OnceLock<Result<String, String>> = OnceLock::new();
    static BUSYBOX: OnceLock<Result<String, String>> = OnceLock::new();
    let built = || match container(image)? {
        Engine::Container { image, .. } => Ok(image),
        Engine::Process { .. } => unreachable!("it was to be a container"),
    };
    match (engine(), image) {
        (Engine::Process { .. }, _) => Err(format!("a private sshd process has no {} image", image.name())),
        (Engine::Container { image, .. }, Image::Login) => Ok(image.clone()),
        (_, Image::Compose) => COMPOSE.get_or_init(built).clone(),
        (_, Image::BusyBox) => BUSYBOX.get_or_init(built).clone(),
    }
}

/// The engine of this test binary. Panics with what to install when there is none, or not the one demanded by
/// `SSHPOOL_TEST_SERVER`.
pub(super) fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let demanded = env::var("SSHPOOL_TEST_SERVER").unwrap_or_default();
        let release = release();
        let (engine, remark) = match demanded.as_str() {
            "" => any(),
            "container" => (
                container(Image::Login)
                    .unwrap_or_else(|why| panic!("no container as SSHPOOL_TEST_SERVER demands: {why}")),
                None,
            ),
            "process" => (
                process()
                    .unwrap_or_else(|why| panic!("no sshd process as SSHPOOL_TEST_SERVER demands: {why}")),
                None,
            ),
            other => panic!("SSHPOOL_TEST_SERVER is `{other}`; it can be `container` or `process`"),
        };
        let what = match &engine {
            Engine::Container { program, .. } => format!("{program} container of Debian {}", release.name()),
            Engine::Process { .. } if env::var("SSHPOOL_TEST_RELEASE").is_ok_and(|asked| !asked.is_empty()) => panic!(
                "a private sshd process has the release of this machine, not the one of SSHPOOL_TEST_RELEASE{}",
                remark.map(|remark| format!(" (no container: {remark})")).unwrap_or_default()
            ),
            Engine::Process { .. } => "private sshd process".to_owned(),
        };
        let remark = remark.map(|remark| format!(" ({remark})")).unwrap_or_default();
        say(&format!("test server: {what}{remark}"));
        engine
    })
}

fn any() -> (Engine, Option<String>) {
    match (container(Image::Login), process()) {
        (Ok(container), _) => (container, None),
        (Err(why), Ok(process)) => (process, Some(why)),
        (Err(no_container), Err(no_process)) => {
            panic!("there is no server to test on: {no_container}; {no_process}")
        }
    }
}

/// sshd itself, which is often outside the PATH of those who are not root.
fn process() -> Result<Engine, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("sshd"))
        .find(|file| file.is_file())
        .map(|sshd| Engine::Process { sshd })
        .ok_or_else(|| "no sshd is installed (apt-get install openssh-server)".to_owned())
}

/// A container engine with the image, which is built when it is missing.
fn container(image: Image) -> Result<Engine, String> {
    if cfg!(not(target_os = "linux")) {
        // The server listens on the engine's own loopback, which is inside a virtual machine there.
        return Err("containers serve on Linux only".to_owned());
    }
    let looked = build(&["--look", image.name()]);
    match looked.code() {
        0 => read_answer(&looked),
        4 => built_once(image),
        _ => Err(looked.last_words().to_owned()),
    }
}

/// Builds the image while all other test binaries wait for it. A failure is remembered for the others of the
/// same run (they have the same parent process): each would fail only after a long attempt of its own.
fn built_once(image: Image) -> Result<Engine, String> {
    let name = format!("{}-{}-image.lock", image.name(), release().name());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{} cannot be opened: {error}", path.display()));
    let mut file = Flock::lock(file, FlockArg::LockExclusive)
        .unwrap_or_else(|(_, error)| panic!("{} cannot be locked: {error}", path.display()));

    let mut remembered = String::new();
    // A file that cannot be read remembers nothing.
    let _ = file.read_to_string(&mut remembered);
    let remembered = remembered.split_once('\n').filter(|(run, _)| *run == parent_id().to_string());
    if let Some((_, why)) = remembered {
        return Err(why.to_owned());
    }

    let built = build(&[image.name()]);
    let memory = match built.code() {
        0 => String::new(),
        _ => {
            say(built.stderr.trim_end());
            format!("{}\n{}", parent_id(), built.last_words())
        }
    };
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(memory.as_bytes()))
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    read_answer(&built)
}

/// Bootstrapping a base takes half a minute on a slow machine, and a slow network has to be waited for too.
fn build(arguments: &[&str]) -> Ended {
    process::run(Command::new("sh").arg(source("build")).args(arguments), Duration::from_secs(600))
}

fn read_answer(built: &Ended) -> Result<Engine, String> {
    match (built.code(), built.stdout.trim().split_once(' ')) {
        (0, Some((program, image))) => {
            let program = if program == "podman" { "podman" } else { "docker" };
            Ok(Engine::Container { program, image: image.to_owned() })
        }
        _ => Err(built.last_words().to_owned()),
    }
}
