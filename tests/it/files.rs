//! Files of hosts: `files::{read, write, upload, download}` and `sshpool cp`, compared with scp over
//! the same server.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sshpool::files::{self, FileErrorKind, Options};
use sshpool::{Host, Pool};
use tempfile::TempDir;

use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::pooled::{self, PATIENCE, config, pool};

/// A server, a pool, and a directory on each side.
struct Lab {
    sshd: Sshd,
    home: TempDir,
    /// On the server.
    there: String,
}

impl Lab {
    fn new() -> Self {
        Self::of(Sshd::builder().start())
    }

    fn of(sshd: Sshd) -> Self {
        let made = sshd.exec("mktemp -d \"$PWD/files-XXXXXX\"");
        let there = made.stdout.trim().to_owned();
        assert!(there.starts_with('/'), "{made:?}");
        Lab { sshd, home: tempfile::tempdir().expect("a directory"), there }
    }

    fn host(&self) -> Host {
        pooled::host(&self.sshd)
    }

    fn here(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.home.path().join(name.as_ref())
    }

    fn there(&self, name: impl AsRef<OsStr>) -> PathBuf {
        Path::new(&self.there).join(name.as_ref())
    }

    /// `sshpool cp` in an environment of its own.
    fn command(&self, args: &[&OsStr]) -> Command {
        let mut command = pooled::command(env!("CARGO_BIN_EXE_sshpool"));
        command.arg("-F").arg(self.sshd.ssh_config()).arg("cp").args(args);
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
    fn see(&self, command: &str) -> String {
        let ended = self.sshd.exec(&format!("cd '{}' && {command}", self.there));
        assert_eq!(ended.code(), 0, "{command}: {ended:?}");
        ended.stdout
    }

    /// Nothing is left beside what there is to be.
    #[track_caller]
    fn assert_no_temporaries(&self) {
        assert_eq!(self.see("find . -name '.sshpool-*'"), "");
        let left = std::fs::read_dir(self.home.path()).expect("it is ours").flatten();
        let left = left.filter(|entry| entry.file_name().as_bytes().starts_with(b".sshpool-"));
        assert_eq!(left.count(), 0);
    }
}

/// Every byte, and what shells and programs could take for something else.
fn contents(length: usize) -> Vec<u8> {
    (0..=255).cycle().take(length).collect()
}

#[tokio::test]
async fn contents_are_written_and_read_whatever_their_length() {
    let (lab, pool) = (Lab::new(), pool(config()));
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
#[tokio::test]
async fn what_cannot_be_written_or_read_is_one_clear_line() {
    let (lab, pool) = (Lab::new(), pool(config()));
    let host = lab.host();
    lab.see("mkdir d locked && echo x >locked/f && chmod 0 locked/f && chmod 555 locked && echo >f");
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
    scp.arg("-q").arg("-F").arg(lab.sshd.ssh_config()).args(args);
    run(scp.current_dir(lab.home.path()), PATIENCE)
}

#[tokio::test]
async fn modes_and_links_are_as_by_scp() {
    let lab = Lab::new();
    for mode in ["600", "644", "755", "777", "400", "664"] {
        std::fs::write(lab.here("f"), mode).expect("a file");
        let set = pooled::command("chmod").arg(mode).arg(lab.here("f")).status();
        assert!(set.expect("chmod").success());
        for options in [&[][..], &["-p"]] {
            let name = format!("{mode}{}", options.concat());
            lab.see(&format!(
                "for d in scp cp; do mkdir -p $d; echo old >$d/old-{name}; \
                 chmod 604 $d/old-{name}; ln -s old-{name} $d/link-{name}; done"
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
             case $f in *-p) stat -c %Y $f ;; esac; done"
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

#[tokio::test]
async fn names_are_bytes() {
    let (lab, pool) = (Lab::new(), pool(config()));
    let names: &[&[u8]] = &[
        b"plain", b"a blank", b"-rf", b"--", b"a\nb", b"ends\n", b"'", b"\"", b"\\", b"!x", b"$HOME",
        b"`id`", b"*", b"?", b"[a]", b"~", b"#", b"a;b&c|d", b"caf\xe9", b"\xff\xfe", b"\xe2\x82\xac",
        b"\t", b"%s", b"\x01\x7f", b"sshpool", b"a=b", b"...", b" ",
    ];
    for name in names {
        round_trip(&pool, &lab, OsStr::from_bytes(name)).await;
    }
    let listed = lab.see("find . -type f ! -name back | sort | od -An -tx1 | tr -d ' \\n'");
    let mut expected: Vec<Vec<u8>> =
        names.iter().map(|name| [&b"./"[..], name, b"\n"].concat()).collect();
    expected.sort();
    let all = lab.see("find . -type f ! -name back | wc -c");
    let bytes: usize = expected.iter().map(Vec::len).sum();
    assert_eq!(all.trim().parse(), Ok(bytes), "{listed}");
    for name in names {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(listed.contains(&format!("2e2f{hex}0a")), "{name:?}");
    }
    lab.assert_no_temporaries();
}
