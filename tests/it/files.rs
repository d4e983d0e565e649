//! Files of hosts: `files::{read, write, upload, download}` and `sshpool cp`, compared with scp
//! over the same server.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rstest::rstest;
use sshpool::files::{self, FileError, FileErrorKind, Options};
use sshpool::{Error, Host, Pool};
use tempfile::TempDir;

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, run};
use crate::lab::common::proxy::Proxy;
use crate::lab::common::sshd::{Kind, Sshd, kind};
use crate::lab::common::{skip, wait_for};
use crate::lab::pooled::{self, PATIENCE, config, pool};

/// A server, a pool, and a directory on each side.
pub struct Lab {
    pub sshd: Sshd,
    pub home: TempDir,
    /// An ssh_config file in which the account is `lab`.
    pub config: PathBuf,
    /// On the server.
    pub there: String,
}

/// What the server gives the account that copies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Account {
    Shell,
    /// Nothing else but files.
    Sftp,
}
pub use Account::{Sftp, Shell};

impl Lab {
    pub fn new() -> Self {
        Self::of(Sshd::builder().start())
    }

    pub fn with(account: Account) -> Self {
        Self::of(Sshd::builder().start()).as_(account)
    }

    /// The same server, which gives this to whoever copies.
    fn as_(self, account: Account) -> Self {
        match account {
            Shell => self,
            Sftp => self.forced("internal-sftp"),
        }
    }

    /// The same server, where whoever copies has nothing but this command.
    pub fn forced(mut self, command: &str) -> Self {
        let key = self.here("forced-key");
        let mut keygen = pooled::command("ssh-keygen");
        keygen.args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key);
        assert!(keygen.status().expect("it starts").success());
        let public = std::fs::read_to_string(self.here("forced-key.pub")).expect("it was made");
        self.sshd.authorize(&format!("restrict,command=\"{command}\""), &public);
        let config = std::fs::read_to_string(&self.config).expect("the fixture has one");
        let old = self.sshd.identity_file();
        let config = config.replace(&*old.to_string_lossy(), &key.to_string_lossy());
        self.config = self.here("forced-config");
        std::fs::write(&self.config, config).expect("a file");
        self
    }

    pub fn of(sshd: Sshd) -> Self {
        let made = sshd.exec("mktemp -d \"$PWD/files-XXXXXX\"");
        let there = made.stdout.trim().to_owned();
        assert!(there.starts_with('/'), "{made:?}");
        let config = sshd.ssh_config();
        Lab { sshd, home: tempfile::tempdir().expect("a directory"), config, there }
    }

    pub fn host(&self) -> Host {
        pooled::host_of(&self.config)
    }

    pub fn here(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.home.path().join(name.as_ref())
    }

    pub fn there(&self, name: impl AsRef<OsStr>) -> PathBuf {
        Path::new(&self.there).join(name.as_ref())
    }

    /// `sshpool cp` in an environment of its own.
    pub fn command(&self, args: &[&OsStr]) -> Command {
        let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
        command.arg("-F").arg(&self.config).arg("cp").args(args);
        command.env("XDG_RUNTIME_DIR", self.home.path()).current_dir(self.home.path());
        command
    }

    #[track_caller]
    fn cp(&self, args: &[&str]) -> Ended {
        let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
        run(&mut self.command(&args), PATIENCE)
    }

    /// What the server's account sees, by sh.
    #[track_caller]
    pub fn see(&self, command: &str) -> String {
        let ended = self.sshd.exec(&format!("cd '{}' && {command}", self.there));
        assert_eq!(ended.code(), 0, "{command}: {ended:?}");
        ended.stdout
    }

    /// `sshpool cp - lab:NAME`, of which a part has arrived and more may come.
    pub fn half_a_copy(&self, name: &str) -> (Child, ChildStdin) {
        let to = format!("lab:{}/{name}", self.there);
        let mut command = self.command(&["-", &to].map(OsStr::new));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        stdin.write_all(&contents(1 << 20)).expect("it reads");
        let temporary = || self.see("find . -name '.sshpool_*' -size +0");
        wait_for("the copy to be under way", PATIENCE, || !temporary().is_empty());
        (child, stdin)
    }

    /// Nothing is left beside what there is to be.
    #[track_caller]
    fn assert_no_temporaries(&self) {
        assert_eq!(self.see("find . -name '.sshpool_*'"), "");
        let left = std::fs::read_dir(self.home.path()).expect("it is ours").flatten();
        let left = left.filter(|entry| entry.file_name().as_bytes().starts_with(b".sshpool_"));
        assert_eq!(left.count(), 0);
    }
}

/// Every byte, and what shells and programs could take for something else.
pub fn contents(length: usize) -> Vec<u8> {
    (0..=255).cycle().take(length).collect()
}

#[rstest]
#[tokio::test]
async fn contents_are_written_and_read_whatever_their_length(
    #[values(Shell, Sftp)] account: Account,
) {
    let (lab, pool) = (Lab::with(account), pool(config()));
    let host = lab.host();
    for length in [0, 1, 255, 256, 2047, 2048, 2049, 70_000, 1 << 20] {
        let (path, bytes) = (lab.there(format!("f{length}")), contents(length));
        for _ in 0..2 {
            files::write(&pool, &host, &path, &bytes, &Options::new()).await.expect("written");
        }
        let read = files::read(&pool, &host, &path).await.expect("read");
        assert!(read == bytes, "{length}: {} bytes", read.len());
    }
    lab.assert_no_temporaries();
}

/// Each in its own words: what the error says is what the system does.
#[rstest]
#[tokio::test]
async fn what_cannot_be_written_or_read_is_one_clear_line(#[values(Shell, Sftp)] account: Account) {
    let (lab, pool) = (Lab::with(account), pool(config()));
    let host = lab.host();
    lab.see(
        "mkdir d locked && echo x >locked/f && chmod 0 locked/f && chmod 555 locked && echo >f",
    );
    let is_root = lab.see("id -u") == "0\n";
    for small in [true, false] {
        let bytes = contents(if small { 10 } else { 100_000 });
        let cases = [
            ("d", FileErrorKind::IsDirectory, "Is a directory"),
            ("no/such", FileErrorKind::NotFound, "No such file or directory"),
            ("f/x", FileErrorKind::NotDirectory, "Not a directory"),
            ("locked/new", FileErrorKind::Permission, "Permission denied"),
        ];
        for (name, kind, text) in cases {
            if is_root && kind == FileErrorKind::Permission {
                continue;
            }
            let path = lab.there(name);
            let error = files::write(&pool, &host, &path, &bytes, &Options::new()).await;
            let error = error.expect_err("it cannot be written");
            let told = format!("lab: {}: {text}", path.display());
            assert_eq!((error.kind(), error.to_string()), (Some(kind), told), "{small}");
        }
    }
    let cases = [
        ("d", "Is a directory"),
        ("no", "No such file or directory"),
        ("f/x", "Not a directory"),
        ("locked/f", "Permission denied"),
    ];
    for (name, text) in cases {
        if is_root && text == "Permission denied" {
            continue;
        }
        let path = lab.there(name);
        let error = files::read(&pool, &host, &path).await.expect_err("it cannot be read");
        assert_eq!(error.to_string(), format!("lab: {}: {text}", path.display()));
    }
    lab.assert_no_temporaries();
}

async fn scp(lab: &Lab, args: &[&OsStr]) -> Ended {
    let mut scp = pooled::command("scp");
    scp.arg("-q").arg("-F").arg(&lab.config).args(args);
    run(scp.current_dir(lab.home.path()), PATIENCE)
}

#[rstest]
#[tokio::test]
async fn modes_and_links_are_as_by_scp(#[values(Shell, Sftp)] account: Account) {
    let lab = Lab::with(account);
    for mode in ["600", "644", "755", "777", "400", "664"] {
        std::fs::write(lab.here("f"), mode).expect("a file");
        let set = pooled::command("chmod").arg(mode).arg(lab.here("f")).status();
        assert!(set.expect("chmod").success());
        for options in [&[][..], &["-p"]] {
            let name = format!("{mode}{}", options.concat());
            lab.see(&format!(
                "for d in scp cp; do mkdir -p $d; for f in old to; do \
                 echo old >$d/$f-{name}; chmod 604 $d/$f-{name}; done; \
                 ln -s to-{name} $d/link-{name}; done"
            ));
            for new in ["new", "old", "link"] {
                let to = |by: &str| format!("lab:{}/{by}/{new}-{name}", lab.there);
                let (by_scp, by_cp) = (to("scp"), to("cp"));
                let args: Vec<&str> = options.iter().copied().chain(["f", &by_scp]).collect();
                let args: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
                assert_eq!(scp(&lab, &args).await.code(), 0);
                let args: Vec<&str> = options.iter().copied().chain(["f", &by_cp]).collect();
                let ended = lab.cp(&args);
                assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{args:?}");
            }
        }
    }
    let shown = |by: &str| {
        lab.see(&format!(
            "cd {by} && for f in *; do stat -c '%A %s %n' $f; cat $f; echo; \
             case $f in *-p) stat -L -c %Y $f ;; esac; done"
        ))
    };
    assert_eq!(shown("cp"), shown("scp"));
    lab.assert_no_temporaries();
}

/// Over a pool in the process: what it keeps is used.
async fn round_trip(pool: &Pool, lab: &Lab, name: &OsStr) {
    let (host, path) = (lab.host(), lab.there(name));
    for length in [100, 10_000] {
        let bytes = contents(length);
        files::write(pool, &host, &path, &bytes, &Options::new()).await.expect("written");
        let read = files::read(pool, &host, &path).await.expect("read");
        assert!(read == bytes, "{name:?}: {} bytes", read.len());
    }
    let copy = lab.here("copy");
    files::download(pool, &host, &path, &copy, &Options::new()).await.expect("downloaded");
    files::upload(pool, &host, &copy, lab.there("back"), &Options::new()).await.expect("uploaded");
    assert_eq!(std::fs::read(&copy).expect("it is there"), contents(10_000));
}

#[rstest]
#[tokio::test]
async fn names_are_bytes(#[values(Shell, Sftp)] account: Account) {
    let (lab, pool) = (Lab::with(account), pool(config()));
    let host = lab.host();
    let names: &[&[u8]] = &[
        b"plain",
        b"a blank",
        b"-rf",
        b"--",
        b"a\nb",
        b"ends\n",
        b"'",
        b"\"",
        b"\\",
        b"!x",
        b"$HOME",
        b"`id`",
        b"*",
        b"?",
        b"[a]",
        b"~",
        b"#",
        b"a;b&c|d",
        b"caf\xe9",
        b"\xff\xfe",
        b"\xe2\x82\xac",
        b"\t",
        b"%s",
        b"\x01\x7f",
        b"sshpool",
        b"a=b",
        b"...",
        b" ",
    ];
    let (others, names): (Vec<_>, Vec<&[u8]>) =
        names.iter().partition(|name| account == Sftp && std::str::from_utf8(name).is_err());
    for name in &names {
        round_trip(&pool, &lab, OsStr::from_bytes(name)).await;
    }
    for name in others {
        let path = lab.there(OsStr::from_bytes(name));
        let written = files::write(&pool, &host, &path, b"x", &Options::new()).await;
        let error = written.expect_err("sftp's client knows only names of UTF-8");
        let told = format!("lab: {path:?}: over sftp only names of UTF-8 are copied");
        assert_eq!(error.to_string(), told);
    }
    let listed = lab.see("find . -type f ! -name back -print0 | od -An -v -tx1 | tr -d ' \\n'");
    let bytes: usize = names.iter().map(|name| name.len() + 3).sum();
    assert_eq!(listed.len(), 2 * bytes, "{listed}");
    for name in names {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(listed.contains(&format!("2e2f{hex}00")), "{name:?}");
    }
    lab.assert_no_temporaries();
}

/// Those of a directory, with modes and contents, by find on the server.
fn tree(lab: &Lab, below: &str) -> String {
    lab.see(&format!(
        "cd {below} && find . -type d -printf 'd %m %P\\n' -o -printf '%y %m %P ' -type f \
         -exec cksum {{}} \\; | sort"
    ))
}

/// A directory with what directories have.
pub fn make_tree(lab: &Lab, name: &str) {
    let made = pooled::command("sh")
        .current_dir(lab.home.path())
        .args([
            "-c",
            "umask 022; mkdir \"$1\" && cd \"$1\" || exit; mkdir -p a/b/c empty 'a b'; \
            echo one >a/1; echo two >a/b/2; printf '' >a/b/c/none; head -c 300000 /dev/zero >big; \
            echo x >'a b/-x'; echo y >'a b/it'\\''s'; chmod 755 a/1; chmod 600 a/b/2; \
            ln -s a/1 link; mkdir ro; echo r >ro/f; chmod 444 ro/f; \
            n=$(printf '%0200d' 1); mkdir -p \"$n/$n\"; echo long >\"$n/$n/$n\"",
            "sh",
            name,
        ])
        .status();
    assert!(made.expect("there is a shell").success());
}

#[rstest]
#[tokio::test]
async fn directories_are_as_by_scp(#[values(Shell, Sftp)] account: Account) {
    let lab = Lab::with(account);
    make_tree(&lab, "src");
    lab.see("mkdir into-scp into-cp");
    for (to_scp, to_cp) in [("new-scp", "new-cp"), ("into-scp", "into-cp"), ("new-scp", "new-cp")] {
        let (by_scp, by_cp) =
            (format!("lab:{}/{to_scp}", lab.there), format!("lab:{}/{to_cp}", lab.there));
        let by_scp = scp(&lab, &["-r", "src", &by_scp].map(OsStr::new)).await;
        assert_eq!((by_scp.code(), &*by_scp.stderr), (0, ""));
        let ended = lab.cp(&["-r", "src", &by_cp]);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""));
        assert_eq!(tree(&lab, to_cp), tree(&lab, to_scp));
    }
    assert!(tree(&lab, "into-cp").lines().count() > 12);
    // Back again, new and into what is there.
    for (to_scp, to_cp) in [("back-scp", "back-cp"), ("back-scp", "back-cp")] {
        let from = format!("lab:{}/new-cp", lab.there);
        let by_scp = scp(&lab, &["-r", &from, to_scp].map(OsStr::new)).await;
        assert_eq!((by_scp.code(), &*by_scp.stderr), (0, ""));
        let ended = lab.cp(&["-r", &from, to_cp]);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""));
        let differ = pooled::command("sh")
            .current_dir(lab.home.path())
            .args([
                "-c",
                "for d in \"$@\"; do (cd $d && find . -printf '%y %m %P\\n' | sort); done \
                | sort | uniq -u; diff -r \"$@\"",
                "sh",
                to_scp,
                to_cp,
            ])
            .output()
            .expect("there is a shell");
        assert_eq!(String::from_utf8_lossy(&differ.stdout), "");
    }
    lab.assert_no_temporaries();
}

/// What is there stays, but for the files of the same names.
#[rstest]
#[tokio::test]
async fn a_directory_is_merged_into_one_that_is_there(#[values(Shell, Sftp)] account: Account) {
    let lab = Lab::with(account);
    make_tree(&lab, "src");
    lab.see(
        "mkdir -p to/a/b to/a/d && echo mine >to/a/mine && echo old >to/a/1 && echo k >to/a/d/k",
    );
    let to = format!("lab:{}/to", lab.there);
    let ended = lab.cp(&["-r", "src/.", &to]);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    assert_eq!(lab.see("cat to/a/mine to/a/1 to/a/d/k to/a/b/2"), "mine\none\nk\ntwo\n");
    // A file in the way of a directory, and the other way round: told, and nothing else is lost.
    lab.see("rm -rf to/a/b && echo file >to/a/b && rm to/big && mkdir -p to/big/x");
    let ended = lab.cp(&["-r", "src/.", &to]);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    assert_eq!(lab.see("cat to/a/mine to/a/b; ls to/big"), "mine\nfile\nx\n");
    lab.assert_no_temporaries();
}

/// On every login shell: the account's own is only asked to start sh.
#[rstest]
#[case("/bin/bash")]
#[case("/usr/bin/zsh")]
#[case("/usr/bin/fish")]
#[case("/bin/tcsh")]
#[case("/usr/local/bin/ash")]
#[tokio::test]
async fn every_login_shell_will_do(#[case] shell: &str) {
    let Some(sshd) = Sshd::builder().login_shell(shell).start_or_skip() else { return };
    let (lab, pool) = (Lab::of(sshd), pool(config()));
    for name in ["plain", "it's a \"$HOME\" \\ !x `id`", "a\nb"] {
        round_trip(&pool, &lab, OsStr::new(name)).await;
    }
    make_tree(&lab, "src");
    let options = Options::new().recursive(true);
    let (from, to) = (lab.here("src"), lab.there("dst"));
    files::upload(&pool, &lab.host(), &from, &to, &options).await.expect("uploaded");
    let back = lab.here("back");
    files::download(&pool, &lab.host(), &to, &back, &options).await.expect("downloaded");
    let differ = pooled::command("diff").arg("-r").arg(&from).arg(&back).output();
    assert_eq!(String::from_utf8_lossy(&differ.expect("diff").stdout), "");
    lab.assert_no_temporaries();
}

/// What is small goes to a session in which other commands have run.
#[tokio::test]
async fn what_is_small_takes_one_lane() {
    let (lab, pool) = (Lab::new(), pool(config()));
    let host = lab.host();
    files::write(&pool, &host, lab.there("f"), contents(1024), &Options::new())
        .await
        .expect("once");
    let before = pool.stats();
    for _ in 0..10 {
        files::write(&pool, &host, lab.there("f"), contents(1024), &Options::new())
            .await
            .expect("it");
        files::read(&pool, &host, lab.there("f")).await.expect("it is there");
    }
    assert_eq!(pool.stats().reused_sessions - before.reused_sessions, 20);
}

/// The disk is full in the middle of the contents, of small ones and of large ones.
#[rstest]
#[tokio::test]
async fn a_full_disk_is_told_and_nothing_is_left(#[values(Shell, Sftp)] account: Account) {
    let sshd = Sshd::builder().run_option("--tmpfs=/full:size=256k,mode=1777");
    if !matches!(kind(), Kind::Container(_)) {
        return skip("a process has no disk of its own");
    }
    let (lab, pool) = (Lab::of(sshd.start()).as_(account), pool(config()));
    let host = lab.host();
    files::write(&pool, &host, "/full/old", "old", &Options::new()).await.expect("there is room");
    lab.see("head -c 200000 /dev/zero >/full/much");
    for (path, length) in [("/full/new", 1 << 20), ("/full/old", 1 << 20), ("/full/old", 60_000)] {
        let written = files::write(&pool, &host, path, contents(length), &Options::new()).await;
        let error = written.expect_err("there is no room");
        let told = format!("lab: {path}: No space left on device");
        assert_eq!((error.kind(), error.to_string()), (Some(FileErrorKind::NoSpace), told));
    }
    lab.see("cat /dev/zero >>/full/much 2>/dev/null || true");
    let written = files::write(&pool, &host, "/full/old", contents(1000), &Options::new()).await;
    assert_eq!(written.expect_err("not a byte").kind(), Some(FileErrorKind::NoSpace));
    make_tree(&lab, "src");
    let options = Options::new().recursive(true);
    let copied = files::upload(&pool, &host, lab.here("src"), "/full/tree", &options).await;
    assert_eq!(copied.expect_err("no room").kind(), Some(FileErrorKind::NoSpace));
    assert_eq!(
        lab.see("cat /full/old; ls -A /full"),
        "old\nmuch\nold\n".replacen("old\n", "old", 1)
    );
}

/// Somebody reads all the time, and sees one of the contents, whole.
#[rstest]
#[tokio::test]
async fn whoever_reads_sees_the_old_contents_or_the_new_ones(
    #[values(Shell, Sftp)] account: Account,
) {
    let (lab, pool) = (Lab::with(account), pool(config()));
    let (host, path) = (lab.host(), lab.there("f"));
    let options = Options::new().sync(false);
    let write = async |byte: u8, length: usize| {
        for _ in 0..10 {
            let bytes = vec![byte; length];
            files::write(&pool, &host, &path, bytes, &options).await.expect("written");
        }
    };
    write(b'a', 10).await;
    let read = async {
        for _ in 0..60 {
            let read = files::read(&pool, &host, &path).await.expect("it is always there");
            let is_whole = |(byte, length)| read.len() == length && read.iter().all(|b| *b == byte);
            assert!([(b'a', 10), (b'b', 1000), (b'c', 300_000)].into_iter().any(is_whole));
        }
    };
    tokio::join!(write(b'a', 10), write(b'b', 1000), write(b'c', 300_000), read);
    lab.assert_no_temporaries();
}

#[rstest]
#[tokio::test]
async fn streams_digests_and_many_hosts(#[values(Shell, Sftp)] account: Account) {
    let lab = Lab::with(account);
    let config = std::fs::read_to_string(&lab.config).expect("the fixture has one");
    std::fs::write(lab.here("config"), config.replace("Host lab", "Host web* lab"))
        .expect("a file");
    let cp = |args: &[&str], input: &[u8]| {
        let mut command = pooled::command("sh");
        command.args(["-c", "exec \"$@\" <stdin", "sh", env!("CARGO_BIN_EXE_sshpool")]);
        command.arg("-F").arg(lab.here("config")).arg("cp").args(args);
        command.env("XDG_RUNTIME_DIR", lab.home.path()).current_dir(lab.home.path());
        std::fs::write(lab.here("stdin"), input).expect("a file");
        run(&mut command, PATIENCE)
    };
    let bytes = contents(500_000);
    let to = |name: &str| format!("lab:{}/{name}", lab.there);
    for length in [0, 1, 63, 64, 65, 500_000] {
        let ended = cp(&["-", &to("stream")], &bytes[..length]);
        assert_eq!((ended.code(), &*ended.stderr), (0, ""), "{length}");
        let ended = cp(&[&to("stream"), "back"], b"");
        assert_eq!((ended.code(), &*ended.stderr), (0, ""));
        assert!(
            std::fs::read(lab.here("back")).expect("it is there") == bytes[..length],
            "{length}"
        );
    }
    let ended = cp(&[&to("stream"), "-"], b"");
    assert_eq!((ended.code(), ended.stdout.len()), (0, String::from_utf8_lossy(&bytes).len()));
    // Both ways with a digest, which is what sha256sum says.
    let sum = lab.see("sha256sum <stream");
    let sum = sum.split_once(' ').expect("a digest").0;
    for args in [["back", &to("sum")], [&to("stream"), "again"]] {
        let ended = cp(&[&["--sha256"], &args[..]].concat(), b"");
        assert_eq!((ended.code(), &*ended.stderr), (0, ""));
        assert!(ended.stdout.starts_with(&format!("{sum}  lab:")), "{ended:?}");
    }
    assert_eq!(lab.see("cmp stream sum"), "");
    // One reading, for all of them: a pipe has its contents once.
    let all = |name: &str| format!("web[1-3]:{}/{name}", lab.there);
    let ended = cp(&["-", &all("all")], &bytes);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    assert_eq!(lab.see("cmp stream all"), "");
    let ended = cp(&[&all("all"), "hosts"], b"");
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    for host in ["web1", "web2", "web3"] {
        assert!(
            std::fs::read(lab.here(format!("hosts/{host}/all"))).expect("it is there") == bytes
        );
    }
    // What all have to say is told once.
    for (args, told) in [
        (["back", &all("no/such")], format!("{}/no/such: No such file or directory", lab.there)),
        ([&all("nothing"), "x"], format!("{}/nothing: No such file or directory", lab.there)),
    ] {
        let ended = cp(&args, b"");
        assert_eq!((ended.code(), ended.stderr), (1, format!("sshpool: web[1-3]: {told}\n")));
    }
    let ended = cp(&["absent", &all("x")], b"");
    assert_eq!((ended.code(), &*ended.stderr), (1, "sshpool: absent: No such file or directory\n"));
    lab.assert_no_temporaries();
}

/// The connection is lost in the middle of the contents: the name has its old contents, and when
/// the server has noticed, too, nothing is left beside it.
#[tokio::test]
async fn a_copy_that_is_cut_off_leaves_nothing() {
    let lab = Lab::new();
    let proxy = Proxy::before(&lab.sshd);
    let host = pooled::host_of(&proxy.ssh_config(&lab.sshd));
    let pool = pool(config());
    std::fs::write(lab.here("big"), contents(8 << 20)).expect("a file");
    make_tree(&lab, "src");
    std::fs::write(lab.here("src/more"), contents(8 << 20)).expect("a file");
    std::fs::write(lab.here("got"), "old").expect("a file");
    lab.see("echo old >old && head -c 8000000 /dev/zero >far && mkdir dir && cp far dir/far");
    // At several places, wherever that is in the contents.
    for bytes in [1 << 10, 1 << 20, 4 << 20] {
        for (from, to) in [("big", "old"), ("big", "new"), ("src", "tree")] {
            let moved = AtomicU64::new(0);
            let progress = |_, more| {
                // The first time only: what is lost does not come to an end.
                if moved.fetch_add(more, Relaxed) < bytes && moved.load(Relaxed) >= bytes {
                    proxy.reset();
                }
            };
            let options = Options::new().recursive(true);
            let to = lab.there(to);
            let upload = files::Upload::new(&lab.here(from), &to, &options).expect("it is there");
            let copied = upload.run(&pool, std::slice::from_ref(&host), &progress).await;
            let error = copied.into_iter().next().expect("one").expect_err("it was cut off");
            assert!(matches!(error, FileError::Run(Error::Lost { .. })), "{error}");
        }
        for (from, to) in [("far", "got"), ("far", "gone"), ("dir", "gone-dir")] {
            let moved = AtomicU64::new(0);
            let progress = |more| {
                if moved.fetch_add(more, Relaxed) < bytes && moved.load(Relaxed) >= bytes {
                    proxy.reset();
                }
            };
            let options = Options::new().recursive(true);
            let from = lab.there(from);
            let begun = files::Download::begin(&pool, &host, &from, &options).await.expect("begun");
            let error = begun.save(&lab.here(to), &progress).await.expect_err("it was cut off");
            assert!(matches!(error, FileError::Run(Error::Lost { .. })), "{error}");
        }
    }
    let left = || lab.see("find . -name '.sshpool_*'");
    wait_for("the server's side to notice", PATIENCE, || left().is_empty());
    assert_eq!(lab.see("cat old; ls"), "old\ndir\nfar\nold\n");
    assert_eq!(std::fs::read_to_string(lab.here("got")).expect("it is there"), "old");
    assert!(!lab.here("gone").exists() && !lab.here("gone-dir").exists());
    lab.assert_no_temporaries();
}

/// The same when whoever copies is killed.
#[test]
fn a_copy_whose_client_is_killed_leaves_nothing_there() {
    let lab = Lab::new();
    lab.see("echo old >old");
    let (mut child, stdin) = lab.half_a_copy("old");
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    wait_for("the server's side to notice", PATIENCE, || lab.see("ls -A") == "old\n");
    assert_eq!(lab.see("cat old"), "old\n");
    drop(stdin);
}

/// The second would take the place of the first.
#[test]
fn two_files_do_not_get_one_name() {
    let lab = Lab::new();
    lab.see("mkdir a b to && echo a >a/f && echo b >b/f");
    for name in ["a", "b"] {
        std::fs::create_dir(lab.here(name)).expect("a directory");
        std::fs::write(lab.here(name).join("f"), name).expect("a file");
    }
    let there = |name: &str| format!("lab:{}/{name}", lab.there);
    for args in [["a/f", "b/f", &there("to")], [&there("a/f"), &there("b/f"), "a"]] {
        let ended = lab.cp(&args);
        let told = "sshpool: several of these would be f, each in the place of the one before: \
                    copy them to names of their own\n";
        assert_eq!((ended.code(), &*ended.stderr), (2, told));
    }
    assert_eq!(lab.see("ls to"), "");
    assert_eq!(std::fs::read(lab.here("a/f")).expect("it is there"), b"a");
    let ended = lab.cp(&["-r", "a/.", "b/.", &there("to")]);
    assert_eq!((ended.code(), &*ended.stderr), (0, ""));
}

/// Over the agent: `PUT` and `GET /v1/file`, with names of any bytes; over sftp they are UTF-8.
#[rstest]
#[case(Shell, "a%20%ff%0ab")]
#[case(Sftp, "a%20%c3%a9%0ab")]
fn the_agent_writes_and_reads_files(#[case] account: Account, #[case] odd: &str) {
    let (lab, home) = (Lab::with(account), Home::new());
    home.config(&format!("[hosts.lab]\nssh_config = \"{}\"\n", lab.config.display()));
    home.exec(&lab.sshd, "true");
    let path = |name: &str| format!("/v1/file?host=lab&path={}/{name}", lab.there);
    for length in [0, 5, 1 << 20] {
        let body = "a\u{e9}\n".repeat(length / 4);
        let sum = "sha256=true&mode=640";
        let put = home.ask("PUT", &format!("{}&{sum}", path(odd)), "", &body);
        assert_eq!((put.status, put.json()["bytes"].as_u64()), (200, Some(body.len() as u64)));
        let seen = lab.see("for f in a*; do stat -c %a \"$f\"; sha256sum <\"$f\"; done");
        let digest = put.json()["sha256"].as_str().expect("it was asked for").to_owned();
        assert_eq!(seen, format!("640\n{digest}  -\n"));
        let got = home.ask("GET", &path(odd), "", "");
        assert_eq!((got.status, got.text()), (200, body));
    }
    for (method, name, status, cause) in [
        ("GET", "no", 404, "not_found"),
        ("PUT", "no/such", 404, "not_found"),
        ("GET", "", 409, "is_directory"),
        ("PUT", "", 409, "is_directory"),
    ] {
        let answer = home.ask(method, &path(name), "", "x");
        assert_eq!((answer.status, &*answer.kind()), (status, "file"), "{}", answer.text());
        assert_eq!(answer.json()["error"]["file_cause"], cause);
    }
    let wrong = home.ask("GET", "/v1/file?host=lab", "", "");
    assert_eq!((wrong.status, &*wrong.kind()), (400, "invalid"));
    // A body that is cut off changes nothing.
    lab.see("rm a*; echo old >old");
    let mut client = home.connect();
    let head = format!("PUT {} HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n", path("old"));
    client.write_all(head.as_bytes()).expect("it reads");
    client.write_all(&[b'x'; 50_000]).expect("it reads");
    let temporary = || lab.see("find . -name '.sshpool_*' -size +0");
    wait_for("the copy to be under way", PATIENCE, || !temporary().is_empty());
    drop(client);
    wait_for("the end of the copy", PATIENCE, || lab.see("ls -A") == "old\n");
    assert_eq!(lab.see("cat old"), "old\n");
    wait_for("the end of all commands", PATIENCE, || home.status()["agent"]["commands"] == 0);
}
