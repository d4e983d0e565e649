//! The support of the tests itself: which container engine they find, and what the programs that
//! they start are not told. Engines are shell scripts here, that fail in one place each.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rstest::rstest;
use tempfile::TempDir;

use crate::lab::common::process::{Ended, command, make_program, outside, path, path_with, run};
use crate::lab::{common, itself};

const PATIENCE: Duration = Duration::from_secs(120);

/// For one call of an engine: longer than a script takes on a busy machine.
const SECONDS: &str = "3";

/// A container engine that has no image, builds every one, and whose containers answer as the
/// supervisor does.
const WORKS: &str = r#"
case $1 in
info) echo "an engine" ;;
image) [ -e "$0.image" ] || { echo "no such image" >&2; exit 1; } ;;
pull) echo "no registry" >&2; exit 1 ;;
import) ;;
build) case $* in *sshpool-test-trial*) ;; *) touch "$0.image" ;; esac ;;
rmi) ;;
run) read -r verb; echo "failed: no such verb" ;;
*) exit 9 ;;
esac
"#;

/// The case of [`WORKS`] by this name does something else.
fn engine_where(name: &str, does: &str) -> String {
    format!("case $1 in {name}) {does} ;; esac\n{WORKS}")
}

/// A directory of these programs. What makes a base of Debian's packages is there too, and makes
/// nothing much.
fn programs(scripts: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let base = ("mmdebstrap", "for last; do :; done; echo packages >\"$last\"\n");
    for (name, text) in scripts.iter().copied().chain([base]) {
        let path = directory.path().join(name);
        let text = format!("#!/bin/sh\necho \"$0 $1\" >>\"${{0%/*}}/calls\"\n{text}");
        make_program(&path, &text);
    }
    directory
}

/// `tests/it/lab/sshd/build`, where these and no others are the engines.
fn build(engines: &Path, image: &str) -> Ended {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lab/sshd/build");
    let mut build = command("sh");
    build
        .arg(script)
        .arg(image)
        .env("PATH", path_with(engines))
        .env("SSHPOOL_TEST_ENGINE_SECONDS", SECONDS);
    run(build.env_remove("SSHPOOL_TEST_RELEASE").env_remove("SSHPOOL_TEST_ENGINE"), PATIENCE)
}

/// What an engine does wrong, and what is said of it.
#[rstest]
#[case("info", "echo 'no daemon' >&2; exit 1", "does not answer: no daemon", "login")]
#[case(
    "info",
    "exec sleep 60",
    "does not answer: `ENGINE info` has not come to an end within 3 s",
    "login"
)]
#[case(
    "info",
    "trap '' TERM; while :; do sleep 1; done",
    "does not answer: `ENGINE info` has not come",
    "login"
)]
#[case(
    "image",
    "exec sleep 60",
    "cannot build and run anything: `ENGINE image` has not come to an end",
    "login"
)]
#[case(
    "import",
    "echo 'no space left' >&2; exit 1",
    "cannot build and run anything: no space left",
    "login"
)]
#[case(
    "build",
    "echo 'cannot clone' >&2; exit 125",
    "cannot build and run anything: cannot clone",
    "login"
)]
#[case(
    "build",
    "echo 'cannot clone' >&2; exit 125",
    "cannot build and run anything: cannot clone",
    "busybox"
)]
#[case(
    "build",
    "exec sleep 60",
    "cannot build and run anything: `ENGINE build` has not come to an end",
    "compose"
)]
#[case("build", "kill -KILL $$", "cannot build and run anything: ", "login")]
#[case(
    "run",
    "echo 'kernel: no overlay' >&2; exit 126",
    "cannot build and run anything: kernel: no overlay",
    "login"
)]
#[case(
    "run",
    "echo 'kernel: no overlay' >&2; exit 126",
    "cannot build and run anything: kernel: no overlay",
    "busybox"
)]
#[case(
    "run",
    "exec sleep 60",
    "cannot build and run anything: `ENGINE run` has not come to an end",
    "login"
)]
#[case(
    "build",
    "case $* in *PACKAGES*) echo 'no fork' >&2; exit 1 ;; esac",
    "cannot build the image: no fork",
    "login"
)]
#[case(
    "run",
    "case $* in */supervise* | */server*) echo 'no mount' >&2; exit 1 ;; esac",
    "cannot run the image: no mount",
    "login"
)]
#[case::does_nothing(
    "*",
    "exit 0",
    "cannot run the image: a container does not answer as",
    "compose"
)]
fn an_engine_that_cannot_is_passed_over_for_the_next_one(
    #[case] place: &str,
    #[case] does: &str,
    #[case] told: &str,
    #[case] image: &str,
) {
    let engines = programs(&[("docker", &engine_where(place, does)), ("podman", WORKS)]);
    let ended = build(engines.path(), image);
    assert!(ended.stdout.starts_with(&format!("podman sshpool-test-{image}:")), "{ended:?}");
    assert_eq!((ended.code(), ended.stdout.lines().count()), (0, 1), "{ended:?}");
    let said = format!(
        "tests/it/lab/sshd/build: docker is passed over, it {}\n",
        told.split(':').next().unwrap()
    );
    assert!(ended.stderr.contains(&said), "{ended:?}");

    // And where there is no other one, the last line says why. (What is waited for once need not be
    // waited for again.)
    if does.contains("sleep") && place != "build" {
        return;
    }
    let broken = engine_where(place, does);
    let engines = programs(&[("docker", &broken), ("podman", &broken)]);
    let ended = build(engines.path(), image);
    assert_eq!((ended.code(), &*ended.stdout), (3, ""), "{ended:?}");
    for engine in ["docker", "podman"] {
        let told = format!("{engine} {}", told.replace("ENGINE", engine));
        assert!(ended.last_words().contains(&told), "{told} is not in {}", ended.last_words());
    }
}

#[test]
fn an_engine_that_works_is_asked_for_no_more_than_it_takes() {
    let engines = programs(&[("docker", WORKS), ("podman", WORKS)]);
    let first = build(engines.path(), "login");
    assert!(first.stdout.starts_with("docker sshpool-test-login:bookworm-"), "{first:?}");
    fs::remove_file(engines.path().join("calls")).expect("it was written");
    let again = build(engines.path(), "login");
    assert_eq!((&again.stdout, &*again.stderr), (&first.stdout, ""));
    let calls = fs::read_to_string(engines.path().join("calls")).expect("it was written");
    let calls: Vec<_> = calls.lines().filter_map(|line| line.rsplit('/').next()).collect();
    assert_eq!(calls, ["docker info", "docker image", "docker image", "docker run"]);
}

#[test]
fn the_engines_are_tried_in_the_order_that_is_asked_for() {
    let engines = programs(&[("docker", WORKS), ("podman", &engine_where("run", "exit 1"))]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lab/sshd/build");
    for (asked, code) in
        [("podman docker", 0), ("podman", 3), ("docker", 0), ("nothing-like-that docker", 0)]
    {
        let mut build = command("sh");
        build.arg(&script).env("PATH", path_with(engines.path())).env("SSHPOOL_TEST_ENGINE", asked);
        let ended = run(build.env_remove("SSHPOOL_TEST_RELEASE"), PATIENCE);
        assert_eq!(
            (ended.code(), ended.stdout.starts_with("docker ")),
            (code, code == 0),
            "{asked}: {ended:?}"
        );
    }
}

// ---- the same, as a test binary sees it ----

/// Set in the environment of this very program when it is to say what the test server is.
const ROLE: &str = "SSHPOOL_TEST_TELL_THE_SERVER";

#[test]
fn what_the_server_is_in_this_environment() {
    if std::env::var_os(ROLE).is_some() {
        println!("the server is {:?}", common::sshd::kind());
    }
}

/// A test binary, with these engines and one demand.
fn server(engines: &TempDir, demanded: &str) -> Ended {
    let mut test = command(itself::program());
    itself::only(&mut test, "support::what_the_server_is_in_this_environment").env(ROLE, "1");
    test.env("PATH", path_with(engines.path())).env("SSHPOOL_TEST_SERVER", demanded);
    test.env("SSHPOOL_TEST_ENGINE_SECONDS", SECONDS).env_remove("SSHPOOL_TEST_RELEASE");
    test.env("SSHPOOL_TEST_ENGINE_MEMORY", engines.path()).env_remove("SSHPOOL_TEST_ENGINE");
    run(&mut test, PATIENCE)
}

fn sshd_is_there() -> bool {
    let found =
        which::which_in("sshd", Some(format!("{}:/usr/sbin", path().to_string_lossy())), "/")
            .is_ok();
    if !found {
        common::skip("there is no sshd");
    }
    found
}

#[test]
fn without_an_engine_that_works_the_server_is_a_process() {
    let broken = engine_where("build", "echo 'no such syscall' >&2; exit 125");
    let engines =
        programs(&[("docker", &engine_where("info", "exec sleep 60")), ("podman", &broken)]);
    if sshd_is_there() {
        let ended = server(&engines, "");
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains("the server is Process"), "{ended:?}");
        let why = "test server: private sshd process (tests/it/lab/sshd/build: no container engine works here (docker ";
        assert!(
            ended.stderr.contains(why) && ended.stderr.contains("no such syscall"),
            "{ended:?}"
        );

        // Others of the same run do not try again.
        fs::remove_file(engines.path().join("calls")).expect("it was written");
        assert!(server(&engines, "").stdout.contains("the server is Process"));
        assert!(!engines.path().join("calls").exists());
    }
    let ended = server(&engines, "container");
    assert_ne!(ended.code(), 0, "{ended:?}");
    assert!(ended.stderr.contains("no container as SSHPOOL_TEST_SERVER demands: "), "{ended:?}");
}

#[test]
fn a_broken_engine_does_not_hide_one_that_works() {
    for (docker, podman) in [(WORKS, "exit 1"), ("exit 1", WORKS), ("exec sleep 60", WORKS)] {
        let engines = programs(&[("docker", docker), ("podman", podman)]);
        let works = if docker == WORKS { "docker" } else { "podman" };
        for demanded in ["", "container"] {
            let ended = server(&engines, demanded);
            let told = format!("the server is Container({works:?})");
            assert!(ended.code() == 0 && ended.stdout.contains(&told), "{ended:?}");
        }
    }
}

// ---- what programs are not told ----

/// Runs a test of this binary in another environment.
fn again(test: &str, change: impl FnOnce(&mut Command)) -> Ended {
    let mut own = outside(itself::program());
    change(itself::only(&mut own, test));
    run(&mut own, PATIENCE)
}

#[test]
fn programs_have_an_environment_of_the_tests_own() {
    let ended = run(command("env").env("MINE", "1"), PATIENCE);
    let names: Vec<_> =
        ended.stdout.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for name in [
        "SSH_AUTH_SOCK",
        "SSH_POOL_MAX_CONNECTIONS",
        "SSHPOOL_AGENT",
        "LC_ALL",
        "NO_COLOR",
        "COLUMNS",
    ] {
        assert!(!names.contains(&name), "{name}");
    }
    for line in ["HOME=", "LANG=C.UTF-8", "MINE=1", "SHELL=/bin/sh", "TERM=xterm"] {
        assert!(
            ended.stdout.lines().any(|found| found.starts_with(line)),
            "{line}: {}",
            ended.stdout
        );
    }
    let home =
        ended.stdout.lines().find_map(|line| line.strip_prefix("HOME=")).expect("it was found");
    assert!(fs::read_dir(home).expect("it is a directory").next().is_none(), "{home} is not empty");
}

#[test]
fn programs_have_it_whatever_the_tests_have() {
    let ended = again("support::programs_have_an_environment_of_the_tests_own", |command| {
        for name in [
            "SSH_AUTH_SOCK",
            "SSH_POOL_MAX_CONNECTIONS",
            "SSHPOOL_AGENT",
            "XDG_CONFIG_HOME",
            "NO_COLOR",
        ] {
            command.env(name, "/proc/nonexistent");
        }
        command
            .env("LC_ALL", "de_DE.UTF-8")
            .env("COLUMNS", "20")
            .env("TERM", "dumb")
            .env_remove("HOME");
    });
    itself::assert_passed(&ended);
}

/// An sshpool that somebody has put in the place of ssh is no plain ssh.
#[test]
fn ssh_is_the_real_one() {
    let shim = tempfile::tempdir().expect("a directory");
    fs::write(shim.path().join("sshpool"), "").expect("a file");
    std::os::unix::fs::symlink("sshpool", shim.path().join("ssh")).expect("a link");
    let ended = again("support::the_path_has_no_shim", |command| {
        command.env("PATH", path_with(shim.path())).env(ROLE, shim.path());
    });
    itself::assert_passed(&ended);
}

#[test]
fn the_path_has_no_shim() {
    if let Some(shim) = std::env::var_os(ROLE) {
        assert!(std::env::split_paths(&path()).all(|directory| directory != shim));
    }
}

/// Signals that are ignored or blocked for the tests are not for what they start: see
/// [`signals_have_their_defaults`].
#[rstest]
#[case::ignored("trap '' INT HUP QUIT TERM USR1")]
#[case::none(":")]
fn what_the_tests_ignore_nobody_else_does(#[case] before: &str) {
    let mut shell = outside("sh");
    shell.args(["-c", &format!("{before}; exec \"$0\" \"$@\"")]).arg(itself::program());
    let test = "support::signals_have_their_defaults";
    itself::assert_passed(&run(itself::only(&mut shell, test), PATIENCE));
}

#[test]
fn signals_have_their_defaults() {
    for mut cat in [command("cat"), outside("cat")] {
        let ended = run(cat.arg("/proc/self/status"), Duration::from_secs(20));
        for line in ["SigIgn:", "SigBlk:"] {
            let found = ended
                .stdout
                .lines()
                .find_map(|found| found.strip_prefix(line))
                .expect("it is there");
            let found = u64::from_str_radix(found.trim(), 16).expect("a number");
            // Those behind the 31 with a name are the C library's.
            assert_eq!(found & 0x7fff_ffff, 0, "{line} {found:x}");
        }
    }
}

/// A deadline is kept, so that the whole test is over in a time that can be waited for.
#[test]
fn an_engine_that_hangs_takes_no_longer_than_its_deadlines() {
    let engines = programs(&[("docker", "exec sleep 600"), ("podman", "exec sleep 600")]);
    let started = Instant::now();
    assert_eq!(build(engines.path(), "login").code(), 3);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
