//! What the test server runs on: a container engine, or nothing but sshd itself. Found out once per
//! test binary.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::process::{self, Ended};
use super::say;

/// Where the server's files are in the source tree.
pub(super) fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lab/sshd").join(name)
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

/// Which one `SSHPOOL_TEST_RELEASE` asks for, here and in `tests/it/lab/sshd/build`. Panics when it is not
/// one of them.
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
        (Engine::Process { .. }, _) => {
            Err(format!("a private sshd process has no {} image", image.name()))
        }
        (Engine::Container { image, .. }, Image::Login) => Ok(image.clone()),
        (_, Image::Compose) => COMPOSE.get_or_init(built).clone(),
        (_, Image::BusyBox) => BUSYBOX.get_or_init(built).clone(),
    }
}

/// The engine of this test binary. Panics with what to install when there is none, or not the one
/// demanded by `SSHPOOL_TEST_SERVER`.
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
    let path = process::path();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join("sshd"))
        .find(|file| file.is_file())
        .map(|sshd| Engine::Process { sshd })
        .ok_or_else(|| "no sshd is installed (apt-get install openssh-server)".to_owned())
}

/// A container engine that has the image, built where it was missing, and can run it. It is found
/// out once for all binaries that one process starts, while all others wait for it: an attempt that
/// fails may take long.
fn container(image: Image) -> Result<Engine, String> {
    if cfg!(not(target_os = "linux")) {
        // The server listens on the engine's own loopback, which is inside a virtual machine there.
        return Err("containers serve on Linux only".to_owned());
    }
    let name = format!("{}-{}-image.lock", image.name(), release().name());
    // Tests of this here remember nothing for others.
    let directory = env::var_os("SSHPOOL_TEST_ENGINE_MEMORY");
    let path =
        Path::new(directory.as_deref().unwrap_or(env!("CARGO_TARGET_TMPDIR").as_ref())).join(name);
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
    let run = this_run();
    let is_recent = || {
        let age = file.metadata().and_then(|file| file.modified()).map(|time| time.elapsed());
        matches!(age, Ok(Ok(age)) if age < REMEMBERED)
    };
    if let Some((_, answer)) =
        remembered.split_once('\n').filter(|(of, _)| *of == run && is_recent())
    {
        return read_answer(answer);
    }
    let built = build(image);
    say(built.stderr.trim_end());
    let answer = if built.code() == 0 { built.stdout.trim() } else { built.last_words() };
    let memory = format!("{run}\n{}{answer}", if built.code() == 0 { "" } else { FAILED });
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(memory.as_bytes()))
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()));
    read_answer(&memory[run.len() + 1..])
}

/// Whoever starts test binaries by hand has one shell for long, and may mend an engine meanwhile.
const REMEMBERED: Duration = Duration::from_secs(1800);

/// Before the reason why there is no image, where it is remembered.
const FAILED: &str = "failed: ";

/// The process that has started this test binary, and what decides which engine there is.
fn this_run() -> String {
    let parent = parent_id();
    let stat = fs::read_to_string(format!("/proc/{parent}/stat")).unwrap_or_default();
    let started =
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).unwrap_or_default();
    let mut run = format!("{parent} {started}");
    let names = ["PATH", "DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "SSHPOOL_TEST_ENGINE"];
    for name in names.into_iter().chain(["SSHPOOL_TEST_BASE", "SSHPOOL_TEST_TRIXIE_BASE"]) {
        run += &format!(" {:?}", env::var_os(name).unwrap_or_default());
    }
    run
}

/// Bootstrapping a base takes half a minute on a slow machine, and a slow network has to be waited
/// for too. The script has deadlines of its own for each engine; this one is for what nobody has
/// thought of.
fn build(image: Image) -> Ended {
    let mut build = process::outside("sh");
    process::run(build.arg(source("build")).arg(image.name()), Duration::from_secs(1800))
}

fn read_answer(answer: &str) -> Result<Engine, String> {
    match (answer.strip_prefix(FAILED), answer.split_once(' ')) {
        (None, Some((program, image))) => {
            Ok(Engine::Container { program: program.to_owned().leak(), image: image.to_owned() })
        }
        (why, _) => Err(why.unwrap_or("it is not known why there is no image").to_owned()),
    }
}
