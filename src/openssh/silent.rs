//! Accounts that do not answer an echo: a forced command, an appliance. What runs there runs each
//! time that a session is opened, so no session is opened that nobody asked for.
//!
//! A key's own forced command is told by the server with the login. One of the server's
//! (`ForceCommand`) nobody tells: the proof of the first login runs it, once for an account. The
//! pool remembers that, and a file in the state directory does for later processes, by the account
//! and the key of its server. A line of the file holds until somebody removes it.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::ends::Accounts;
use super::program::SshVersion;
use super::trace::DEBUG;
use crate::host::{Host, HostIdentity};

/// So much of the file is read.
const MOST: u64 = 1024 * 1024;

/// What makes a master log, at any level, who the server is, how it has logged in, and what the
/// server says of the key that it has accepted, and nothing else.
pub(super) const LOG_VERBOSE: &str = "compat.c:compat_banner():*,\
    sshconnect.c:verify_host_key():*,sshconnect2.c:ssh_userauth2():*,\
    packet.c:ssh_packet_read_poll_seqnr():*";

/// Whether this ssh can be told to log that.
pub(super) fn is_told(version: &SshVersion) -> bool {
    version.at_least(8, 5)
}

/// The accounts that are known to be silent.
#[derive(Debug)]
pub(super) struct Silent {
    /// A std mutex: held for a look.
    known: Mutex<HashSet<HostIdentity>>,
    /// Where they stand for later processes. None where there is no home directory.
    file: Option<PathBuf>,
    /// What the accounts are like of which that is not known at each login.
    accounts: Arc<Accounts>,
}

impl Silent {
    pub(super) fn new() -> Self {
        Silent { known: Mutex::default(), file: file(), accounts: Arc::default() }
    }

    pub(super) fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.accounts)
    }

    /// Whether this account is known to be silent. `log` is the master's, of a login that has
    /// succeeded.
    pub(super) fn contains(&self, host: &Host, log: &str) -> bool {
        if let Some(is_forced) = host.get_forced_command() {
            return is_forced;
        }
        has_forced_command(log)
            || self.known().contains(host.identity())
            || account(host, log).is_some_and(|account| self.is_in_file(&account))
    }

    /// Remembers it, where the next login would not be told again.
    pub(super) fn insert(&self, host: &Host, log: &str) {
        let is_told = host.get_forced_command().is_some() || has_forced_command(log);
        if is_told || !self.known().insert(host.identity().clone()) {
            return;
        }
        let (Some(file), Some(account)) = (&self.file, account(host, log)) else { return };
        if !self.is_in_file(&account)
            && let Err(error) = append(file, &account)
        {
            let file = file.display();
            tracing::warn!(%error, %file, "cannot remember an account with a forced command");
        }
    }

    fn is_in_file(&self, account: &str) -> bool {
        let Some(file) = &self.file else { return false };
        let mut text = String::new();
        let read = fs::File::open(file).and_then(|file| file.take(MOST).read_to_string(&mut text));
        read.is_ok() && text.lines().any(|line| line == account)
    }

    fn known(&self) -> MutexGuard<'_, HashSet<HostIdentity>> {
        self.known.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// The file of this user.
fn file() -> Option<PathBuf> {
    let absolute =
        |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    Some(state?.join("sshpool").join("forced-commands"))
}

fn append(file: &Path, account: &str) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(file)?;
    // In one piece, so that the lines of two processes do not mix.
    file.write_all(format!("{account}\n").as_bytes())
}

/// The account, and the key of the server that it is an account of. None where ssh did not say
/// which key that is.
fn account(host: &Host, log: &str) -> Option<String> {
    let endpoint = host.login().endpoint.as_ref()?;
    let key = said(log).find_map(|line| line.split_once("Server host key: "))?.1.trim();
    Some(format!("{endpoint} {key}"))
}

/// Whether the server has said of the accepted key that it has a forced command.
fn has_forced_command(log: &str) -> bool {
    key_options(log).is_some_and(|options| options.split_whitespace().any(|word| word == "command"))
}

/// What the server has said last of the key that it has accepted.
fn key_options(log: &str) -> Option<&str> {
    let options =
        said(log).filter_map(|line| line.split_once("Remote: ")?.1.split_once(": key options:"));
    Some(options.last()?.1)
}

/// Whether the server is about to tell of the accepted key: an OpenSSH does so from 7.7 on, a
/// moment behind the login.
pub(super) fn is_about_to_tell(log: &str) -> bool {
    let is_by_key =
        |line: &str| line.contains("Authenticated to ") && line.contains("using \"publickey\"");
    let tells = |line: &str| -> Option<bool> {
        let version = line.split_once("match: OpenSSH_")?.1;
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?) >= (7, 7))
    };
    key_options(log).is_none()
        && log.lines().any(is_by_key)
        && said(log).any(|line| tells(line).unwrap_or(false))
}

fn said(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.starts_with(DEBUG))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("debug1: Remote: /k:1: key options: agent-forwarding command pty\r\n", true)]
    #[case("debug1: packet.c:f():1 (pid=2): Remote: cert: key options: command\r\n", true)]
    #[case("debug1: Remote: /k:1: key options: agent-forwarding pty\r\n", false)]
    #[case("debug1: Remote: /command:1: key options: pty\r\n", false)]
    #[case("Remote: /k:1: key options: command\r\n", false)]
    #[case(
        "debug1: Remote: /k:1: key options: command\ndebug1: Remote: /k:2: key options: pty\n",
        false
    )]
    fn a_forced_command_of_a_key_is_told(#[case] log: &str, #[case] expected: bool) {
        assert_eq!(has_forced_command(log), expected);
    }

    #[rstest]
    #[case("9.2p1 Debian-2", "publickey", "", true)]
    #[case("7.7", "publickey", "", true)]
    #[case("10.0", "publickey", "", true)]
    #[case("7.4", "publickey", "", false)]
    #[case("9.2p1", "password", "", false)]
    #[case("9.2p1", "publickey", "debug1: Remote: /k:1: key options: pty\r\n", false)]
    fn only_an_openssh_that_has_accepted_a_key_tells_of_it(
        #[case] version: &str,
        #[case] method: &str,
        #[case] more: &str,
        #[case] expected: bool,
    ) {
        let log = format!(
            "debug1: compat.c:compat_banner():150 (pid=1): match: OpenSSH_{version} pat OpenSSH* \
             compat 0x04000000\r\nsshconnect2.c:ssh_userauth2():580 (pid=1): Authenticated to h \
             ([::1]:22) using \"{method}\".\r\n{more}"
        );
        assert_eq!(is_about_to_tell(&log), expected);
        assert!(!is_about_to_tell(&log.replace("OpenSSH_", "dropbear_")));
    }
}
