//! Files with keys: whether ssh will read them, by what can be seen without a passphrase. Nothing
//! of a key itself is shown.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use crate::text::plain;

const CHECK: &str = "key";

/// So much of a file tells what it is.
const HEAD: u64 = 4096;

/// The files that ssh tries when no configuration names any.
const DEFAULTS: &[&str] =
    &["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa"];

/// What a file is.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Private,
    /// With a passphrase.
    Locked,
    /// Only the agent has the private part.
    Public,
    Other,
}

impl Kind {
    fn of(text: &str) -> Self {
        // In OpenSSH's own format: its name, the length of the cipher's name, and `none`.
        const UNLOCKED: &str = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
        let mut lines = text.lines().map(str::trim).skip_while(|line| line.is_empty());
        let first = lines.next().unwrap_or_default();
        let second = lines.next().unwrap_or_default();
        match first {
            "-----BEGIN OPENSSH PRIVATE KEY-----" if second.starts_with(UNLOCKED) => Kind::Private,
            "-----BEGIN OPENSSH PRIVATE KEY-----" | "-----BEGIN ENCRYPTED PRIVATE KEY-----" => {
                Kind::Locked
            }
            _ if first.starts_with("-----BEGIN ") && first.ends_with(" PRIVATE KEY-----") => {
                if second.contains("ENCRYPTED") {
                    Kind::Locked
                } else {
                    Kind::Private
                }
            }
            "-----BEGIN PRIVATE KEY-----" => Kind::Private,
            _ if first.starts_with("ssh-")
                || first.starts_with("ecdsa-")
                || first.starts_with("sk-") =>
            {
                Kind::Public
            }
            _ => Kind::Other,
        }
    }
}

/// What is to be said of the files that a host is logged in to with. `agent_has_keys`: where the
/// file itself is of no use, the agent may be.
pub(super) fn look(files: &[(String, Option<PathBuf>)], agent_has_keys: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut missing = Vec::new();
    for (name, path) in files {
        match path {
            None => findings.push(Finding::skipped(
                CHECK,
                format!("{name} (what ssh makes of its \"%\" is not looked at)"),
            )),
            Some(path) if is_default(path) && !path.exists() => missing.push(name.as_str()),
            Some(path) => findings.push(of_file(path, agent_has_keys)),
        }
    }
    if findings.is_empty() {
        findings.push(match agent_has_keys {
            true => Finding::ok(CHECK, "no file; the agent has keys"),
            false if files.is_empty() => nothing("no identity file, and no key in an agent"),
            false => {
                nothing(&format!("none of {} is there, and no key in an agent", missing.join(", ")))
            }
        });
    }
    findings
}

fn nothing(what: &str) -> Finding {
    Finding::warning(CHECK, what)
        .why("there is nothing to log in with, unless the server lets everybody in")
        .todo(
            "make a key with `ssh-keygen -t ed25519`, or name one: identity_file in [hosts.NAME], \
               IdentityFile in ssh_config",
        )
}

fn is_default(path: &Path) -> bool {
    let Some(home) = std::env::home_dir() else { return false };
    path.parent() == Some(&home.join(".ssh"))
        && path.file_name().is_some_and(|name| DEFAULTS.iter().any(|default| name == *default))
}

fn of_file(path: &Path, agent_has_keys: bool) -> Finding {
    let shown = path.display();
    let read = || -> std::io::Result<(String, std::fs::Metadata)> {
        let file = File::open(path)?;
        let found = file.metadata()?;
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head)?;
        Ok((String::from_utf8_lossy(&head).into_owned(), found))
    };
    let (text, found) = match read() {
        Ok(found) => found,
        Err(error) => {
            return Finding::failed(CHECK, format!("{shown} cannot be read")).why(plain(&error)).todo(
                match error.kind() {
                    std::io::ErrorKind::NotFound => {
                        "name the right file: identity_file in [hosts.NAME], IdentityFile in ssh_config"
                    }
                    _ => "make it readable for your user, and for nobody else",
                },
            );
        }
    };
    let mode = found.mode() & 0o777;
    let kind = Kind::of(&text);
    // ssh minds only where the file is one's own.
    let is_open = mode & 0o077 != 0 && found.uid() == nix::unistd::geteuid().as_raw();
    match kind {
        Kind::Private | Kind::Locked if is_open => {
            Finding::failed(CHECK, format!("{shown} is too open: its mode is {mode:04o}"))
                .why("others may read it, and ssh takes no such key")
                .todo(format!("chmod 600 {shown}"))
        }
        Kind::Private => Finding::ok(CHECK, format!("{shown}, mode {mode:04o}")),
        Kind::Locked if agent_has_keys => Finding::ok(
            CHECK,
            format!("{shown}, mode {mode:04o}, with a passphrase: the agent has to hold it"),
        ),
        Kind::Locked => Finding::warning(CHECK, format!("{shown} has a passphrase, and no agent holds it"))
            .why("nobody can be asked for it when a connection is made")
            .todo(format!("start an agent and add it once: ssh-add {shown}")),
        Kind::Public if agent_has_keys => {
            Finding::ok(CHECK, format!("{shown}, a public key: its private one has to be in the agent"))
        }
        Kind::Public => Finding::failed(CHECK, format!("{shown} is a public key"))
            .why("ssh needs the private one, or an agent that has it")
            .todo("name the file without .pub"),
        Kind::Other => Finding::failed(CHECK, format!("{shown} is no private key"))
            .why("it does not begin as one does")
            .todo(
                "name the file that `ssh-keygen` wrote, not the one of another program (PuTTY's .ppk: \
                   puttygen -O private-openssh)",
            ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ",
        Kind::Private
    )]
    #[case(
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAA",
        Kind::Locked
    )]
    #[case("-----BEGIN RSA PRIVATE KEY-----\nMIIE", Kind::Private)]
    #[case("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n", Kind::Locked)]
    #[case("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIE", Kind::Locked)]
    #[case("-----BEGIN PRIVATE KEY-----\nMIIE", Kind::Private)]
    #[case("ssh-ed25519 AAAAC3Nz me\n", Kind::Public)]
    #[case("this is not a key\n", Kind::Other)]
    #[case("", Kind::Other)]
    fn a_file_is_known_by_its_beginning(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(Kind::of(text), kind);
    }
}
