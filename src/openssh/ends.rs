//! Servers with few sessions: what tells them, and what their accounts are like.
//!
//! A server may close the connection when a session has ended. The session's end and its output are
//! whole all the same where the server has closed the session's channel before, and the master has
//! written all of its output by then. Only the master sees that, and its log tells: it has the
//! beginning of each channel, the closing by the server and the end of the output, one line each.
//! Such a log would grow without end, so it is cut from time to time.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::trace::DEBUG;
use crate::host::{Host, HostIdentity};

/// What makes a master log that, behind what it logs otherwise.
pub(super) const LOG_VERBOSE: &str =
    ",channels.c:channel_new():*,nchan.c:chan_rcvd_oclose():*,nchan.c:chan_obuf_empty():*";

/// A log of this length is cut.
const LONG: u64 = 256 * 1024;
/// With so many accounts, those before are forgotten.
const MOST_ACCOUNTS: usize = 1000;

/// Whether the server's software opens several sessions on a connection. Where ssh is too old to
/// name the software, it is taken for one that does.
pub(super) fn is_for_several(log: &str) -> bool {
    let named = log.lines().filter_map(|line| line.strip_prefix(DEBUG)).find_map(|line| {
        // At its usual level ssh names the function.
        let line = line.strip_prefix("compat_banner: ").unwrap_or(line);
        line.strip_prefix("no ").unwrap_or(line).strip_prefix("match: ")
    });
    named.is_none_or(|name| {
        let name = name.to_ascii_lowercase();
        name.starts_with("openssh") || name.starts_with("dropbear")
    })
}

/// Whether the server has closed this channel, the last one of its number, and the master has
/// written its output, by the log of the master.
pub(super) fn is_whole(log: &str, channel: u32) -> bool {
    // A client of the master's that comes later can have the number of a session that is gone.
    let begins = format!("channel {channel}: new session ");
    let closed = format!("channel {channel}: rcvd close");
    let written = format!("channel {channel}: obuf empty");
    let (mut is_closed, mut is_written) = (false, false);
    for line in log.lines() {
        let text = line.strip_prefix(DEBUG).or_else(|| line.strip_prefix("debug2: "));
        let text = text.unwrap_or_default();
        if text.starts_with(&begins) {
            (is_closed, is_written) = (false, false);
        }
        is_closed |= text.trim_end() == closed;
        is_written |= text.trim_end() == written;
    }
    is_closed && is_written
}

/// Cuts a log that is long. Whoever reads it then begins at its beginning.
pub(super) fn cut(log: &Path) -> bool {
    let is_long = std::fs::metadata(log).is_ok_and(|file| file.len() > LONG);
    is_long && OpenOptions::new().write(true).open(log).is_ok_and(|file| file.set_len(0).is_ok())
}

/// What accounts are like of servers that may open one session: it cannot be asked again. An
/// account is the number that the master has for it.
#[derive(Debug, Default)]
pub(super) struct Accounts(Mutex<HashMap<HostIdentity, u8>>);

impl Accounts {
    pub(super) fn of(&self, host: &Host) -> Option<u8> {
        self.known().get(host.identity()).copied()
    }

    pub(super) fn insert(&self, host: &Host, account: u8) {
        let mut known = self.known();
        if known.len() >= MOST_ACCOUNTS {
            known.clear();
        }
        known.insert(host.identity().clone(), account);
    }

    fn known(&self) -> MutexGuard<'_, HashMap<HostIdentity, u8>> {
        self.0.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("debug1: match: OpenSSH_9.2p1 Debian-2 pat OpenSSH* compat 0x04000000\r\n", true)]
    #[case("debug1: no match: dropbear_2022.83\r\n", true)]
    #[case("debug1: no match: AsyncSSH_2.24.1\r\n", false)]
    #[case("debug1: no match: tinyssh_noversion IkKhRRVu\r\n", false)]
    #[case("debug1: match: Cisco-1.25 pat Cisco-1.* compat 0x60000000\r\n", false)]
    #[case("debug1: compat_banner: no match: AsyncSSH_2.24.1\r\n", false)]
    #[case("no match: AsyncSSH_2.24.1\r\n", true)]
    #[case("", true)]
    fn software_that_opens_several_sessions_is_known(#[case] log: &str, #[case] expected: bool) {
        assert_eq!(is_for_several(log), expected);
    }

    #[rstest]
    #[case("new session [client-session];rcvd close;obuf empty", true)]
    #[case("new session [client-session];obuf empty;rcvd close", true)]
    #[case("new session [client-session];rcvd close", false)]
    #[case("new session [client-session];obuf empty", false)]
    #[case("rcvd close;obuf empty;new session [client-session]", false)]
    #[case("rcvd close;obuf empty;new mux-control [x]", true)]
    #[case("", false)]
    fn a_session_that_came_to_its_end_is_told(#[case] events: &str, #[case] expected: bool) {
        let log = |channel: u32| -> String {
            let events = events.split_terminator(';');
            events.map(|event| format!("debug2: channel {channel}: {event}\r\n")).collect()
        };
        assert_eq!(is_whole(&log(2), 2), expected);
        assert_eq!(is_whole(&(log(2) + "debug1: channel 12: new session [x]\r\n"), 2), expected);
        assert!(!is_whole(&log(12), 2));
        assert!(!is_whole(&log(2).replace("debug2: ", ""), 2));
    }
}
