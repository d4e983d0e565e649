//! Copies to and from accounts that have no shell.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use sshpool::Error;
use sshpool::files::{self, FileError, FileErrorKind, Options};
use tokio::time::timeout;

use crate::files::{Lab, Sftp, contents, make_tree};
use crate::lab::common::proxy::Proxy;
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{self, PATIENCE, config, pool};

/// Where nothing of ours runs, whoever gives up removes what he has begun; a lost connection is
/// told, and the name has its old contents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_over_sftp_that_does_not_end_gives_no_name() {
    let lab = Lab::with(Sftp);
    let proxy = Proxy::before(&lab.sshd);
    let through = std::fs::read_to_string(&lab.config).expect("it is there");
    let through =
        through.replace(&format!("Port {}", lab.sshd.port()), &format!("Port {}", proxy.port()));
    std::fs::write(lab.here("through"), through).expect("a file");
    let (host, pool) = (pooled::host_of(&lab.here("through")), pool(config()));
    std::fs::write(lab.here("big"), contents(8 << 20)).expect("a file");
    make_tree(&lab, "src");
    std::fs::write(lab.here("src/more"), contents(8 << 20)).expect("a file");
    lab.see("echo old >old");
    let options = Options::new().recursive(true);
    let given_up = async |from: &str, to: &str, is_lost: bool| {
        let (moved, enough) = (AtomicU64::new(0), tokio::sync::Notify::new());
        let progress = |_, more| {
            if moved.fetch_add(more, Relaxed) < 1 << 20 && moved.load(Relaxed) >= 1 << 20 {
                if is_lost { proxy.reset() } else { enough.notify_one() }
            }
        };
        let (from, to) = (lab.here(from), lab.there(to));
        let upload = files::Upload::new(&from, &to, &options).expect("it is there");
        let upload = upload.run(&pool, std::slice::from_ref(&host), &progress);
        tokio::select! {
            biased;
            () = enough.notified() => None,
            copied = upload => copied.into_iter().next(),
        }
    };
    let left = || lab.see("find . -name '.sshpool_*'");
    for (from, to) in [("big", "old"), ("big", "new"), ("src", "tree")] {
        assert!(given_up(from, to, false).await.is_none(), "it was given up");
        wait_for_async("it to be removed", PATIENCE, || left().is_empty()).await;
        assert_eq!(lab.see("cat old; ls"), "old\nold\n");
        let lost =
            given_up(from, to, true).await.expect("it has ended").expect_err("it was cut off");
        assert!(matches!(lost, FileError::Run(Error::Lost { .. })), "{lost}");
        assert_eq!(lab.see("cat old; ls"), "old\nold\n");
        lab.see("rm -rf .sshpool_*");
    }
}

/// Modes and groups as a host with a shell gives them, be the copy new or merged.
#[tokio::test]
async fn modes_are_those_of_an_account_with_a_shell() {
    let (shell, sftp) = (Lab::new(), Lab::with(Sftp));
    let shown = async |lab: &Lab| {
        let (pool, host) = (pool(config()), lab.host());
        let sh = |text: &str| {
            let made =
                pooled::command("sh").current_dir(lab.home.path()).args(["-c", text]).status();
            assert!(made.expect("there is a shell").success());
        };
        sh("umask 022; mkdir -p a/ro a/s b/x; echo x >a/ro/f; echo y >a/s/f; chmod 555 a/ro; \
            echo z >b/x/f; echo f >f; chmod 2755 f; touch -d @1000000000 f a/ro");
        lab.see("mkdir merged shared && chmod 2775 shared");
        let recursive = Options::new().recursive(true);
        for (from, to, options) in [
            ("a", "new", recursive),
            ("b/.", "merged", recursive),
            ("a/.", "exact", recursive.preserve(true)),
            ("b", "shared/b", recursive),
            ("f", "special", Options::new().preserve(true)),
            ("f", "given", Options::new().mode(0o4711)),
        ] {
            let to = lab.there(to);
            let copied = files::upload(&pool, &host, lab.here(from), &to, &options).await;
            copied.expect("there is room");
        }
        lab.see(
            "find . -mindepth 1 -printf '%P %M %G\n' | sort; stat -c '%n %Y' special exact/ro; \
            find . -name '.sshpool_*'",
        )
    };
    let (by_shell, by_sftp) = (shown(&shell).await, shown(&sftp).await);
    assert!(by_shell.contains("shared/b/x"), "{by_shell}");
    assert_eq!(by_sftp, by_shell);
    // One that cannot be written to is moved before it is so. What is below it cannot be replaced.
    let (pool, host, recursive) = (pool(config()), sftp.host(), Options::new().recursive(true));
    let (from, to) = (sftp.here("a/."), sftp.there("merged"));
    files::upload(&pool, &host, &from, &to, &recursive).await.expect("there is room");
    let again = files::upload(&pool, &host, &from, &to, &recursive).await;
    let told = again.expect_err("ro/f cannot be replaced");
    assert_eq!(told.kind(), Some(FileErrorKind::Permission), "{told}");
    assert_eq!(
        sftp.see("cat merged/ro/f; stat -c %a merged/ro; find . -name '.sshpool_*'"),
        "x\n555\n"
    );
}

/// A server that has gone is told, though nothing comes that could be sent to it.
#[test]
fn a_server_that_ends_is_told_while_the_source_is_idle() {
    let lab = Lab::with(Sftp);
    let (child, stdin) = lab.half_a_copy("new");
    lab.sshd.kill_connections();
    let ended = child.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), told.lines().count()), (Some(255), 1), "{told}");
    assert!(told.contains("connection lost"), "{told}");
    drop(stdin);
}

/// As by Ctrl-C.
#[test]
fn a_copy_over_sftp_that_is_interrupted_leaves_nothing() {
    let lab = Lab::with(Sftp);
    lab.see("echo old >old");
    let (mut child, stdin) = lab.half_a_copy("old");
    pooled::send(child.id(), nix::sys::signal::Signal::SIGINT);
    assert_eq!(child.wait().expect("it ends").signal(), Some(2));
    assert_eq!(lab.see("ls -A; cat old"), "old\nold\n", "it was removed before the end");
    drop(stdin);
}

/// sftp writes at places of a file, which a pipe has not.
#[tokio::test]
async fn a_pipe_cannot_be_written_to_and_that_is_said() {
    let (lab, pool) = (Lab::with(Sftp), pool(config()));
    lab.see("mkfifo pipe && { cat pipe >/dev/null & } >/dev/null 2>&1");
    let path = lab.there("pipe");
    let written = files::write(&pool, &lab.host(), &path, "x", &Options::new()).await;
    let told = "not a regular file: its sftp server cannot write to it";
    let error = written.expect_err("it is a pipe");
    assert_eq!(error.to_string(), format!("lab: {}: {told}", path.display()));
    assert_eq!(lab.see("ls -A"), "pipe\n");
}

/// Of OpenSSH's extensions of sftp this server has neither that which replaces a file nor that
/// which puts one on the disk.
#[tokio::test]
async fn a_server_that_cannot_replace_a_file_says_so_and_the_old_one_stays() {
    let lab = Lab::new();
    lab.see(
        "mkdir bin && sed 's/posix-rename@openssh.com/posix-rename@example.com/g; \
         s/fsync@openssh.com/fsync@example.com/g' /usr/lib/openssh/sftp-server >bin/server && \
         chmod 755 bin/server && ! grep -q fsync@openssh.com bin/server && echo old >old",
    );
    let server = format!("{}/bin/server", lab.there);
    let lab = lab.forced(&server);
    let (pool, host) = (pool(config()), lab.host());
    let write = async |name: &str, length: usize| {
        let bytes = contents(length);
        files::write(&pool, &host, lab.there(name), &bytes, &Options::new()).await?;
        assert!(files::read(&pool, &host, lab.there(name)).await? == bytes);
        Ok::<_, FileError>(())
    };
    for length in [10, 1 << 20] {
        write(&format!("new-{length}"), length).await.expect("there is no such name");
        let told = write("old", length).await.expect_err("it is there").to_string();
        let why = "its sftp server cannot replace a file in one step";
        assert_eq!(told, format!("lab: {}/old: {why}", lab.there));
    }
    make_tree(&lab, "src");
    let recursive = Options::new().recursive(true);
    let copied = files::upload(&pool, &host, lab.here("src"), lab.there("tree"), &recursive).await;
    copied.expect("there is no such name");
    assert_eq!(lab.see("cat old; ls -A"), "old\nbin\nnew-10\nnew-1048576\nold\ntree\n");
}

/// What never answers, be it a command or as an sftp server, is not waited for.
#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let lab = Lab::new().forced("exec sleep 300");
    let second = Duration::from_secs(1);
    let (pool, host) =
        (pool(config().connect_timeout(2 * second).command_timeout(2 * second)), lab.host());
    let read = files::read(&pool, &host, "/etc/passwd");
    let told = timeout(PATIENCE, read).await.expect("it ends").expect_err("it never answers");
    assert!(matches!(told, FileError::Run(Error::TimedOut { .. })), "{told}");
    std::fs::write(lab.here("f"), contents(100_000)).expect("a file");
    let (from, to) = (lab.here("f"), lab.there("f"));
    let options = Options::new();
    let sent = files::upload(&pool, &host, &from, &to, &options);
    let told = timeout(PATIENCE, sent).await.expect("it ends").expect_err("it never answers");
    assert_eq!(told.kind(), Some(FileErrorKind::Unsupported), "{told}");
    pool.close().await;
}

/// Without a shell, and without a forced command.
#[tokio::test]
async fn an_account_that_cannot_log_in_has_its_files() {
    let builder = Sshd::builder().login_shell("/usr/sbin/nologin");
    let Some(sshd) = builder.start_or_skip() else { return };
    let (pool, host) = (pool(config()), pooled::host(&sshd));
    let home = tempfile::tempdir().expect("a directory");
    let (from, back) = (home.path().join("f"), home.path().join("back"));
    for length in [10, 100_000] {
        let bytes = contents(length);
        files::write(&pool, &host, "f", &bytes, &Options::new()).await.expect("written");
        assert!(files::read(&pool, &host, "f").await.expect("read") == bytes);
        std::fs::write(&from, &bytes).expect("a file");
        files::upload(&pool, &host, &from, "g", &Options::new()).await.expect("uploaded");
        files::download(&pool, &host, "g", &back, &Options::new()).await.expect("downloaded");
        assert!(std::fs::read(&back).expect("it is there") == bytes);
    }
    let error = files::read(&pool, &host, "no").await.expect_err("it is not there");
    assert_eq!(error.to_string(), "lab: no: No such file or directory");
}

/// An account that runs no commands says so; another shell's answer is no file.
#[tokio::test]
async fn an_account_with_a_forced_command_is_told() {
    let lab = Lab::of(Sshd::builder().force_command("echo hello").start());
    let (pool, host) = (pool(config()), lab.host());
    let small = files::write(&pool, &host, "/tmp/x", "x", &Options::new()).await;
    let large = files::write(&pool, &host, "/tmp/x", contents(10_000), &Options::new()).await;
    let read = files::read(&pool, &host, "/etc/passwd").await.map(|_| ());
    std::fs::write(lab.here("f"), contents(100_000)).expect("a file");
    let sent = files::upload(&pool, &host, lab.here("f"), "/tmp/x", &Options::new()).await;
    let got = files::download(&pool, &host, "/etc/passwd", lab.here("x"), &Options::new()).await;
    for result in [small, large, read, sent.map(|_| ()), got.map(|_| ())] {
        let error = result.expect_err("it is no shell");
        assert_eq!(error.kind(), Some(FileErrorKind::Unsupported), "{error}");
    }
    assert!(!lab.here("x").exists());
}
