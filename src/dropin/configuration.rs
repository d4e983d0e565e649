//! What the user's ssh_config wants of a session that a shared connection does not give: X11,
//! forwards of ports, a local command, a tunnel.
//!
//! ssh itself knows (`ssh -G`), and asking it takes longer than asking the agent. So the files are
//! looked through first: most have not a word of it. Whether a line counts for this host is for ssh
//! to say.

use std::path::Path;
use std::time::Duration;

use super::{Reason, options};
use crate::openssh::config::{self, Source};

/// Options that make it worth asking.
const OF_INTEREST: &[&str] = &[
    "connecttimeout",
    "dynamicforward",
    "forkafterauthentication",
    "forwardx11",
    "localforward",
    "permitlocalcommand",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "sessiontype",
    "tunnel",
];

/// Whether this option is one of them.
pub(super) fn is_of_interest(option: &str) -> bool {
    OF_INTEREST.iter().any(|known| known.eq_ignore_ascii_case(option))
}

/// Whether the files that ssh reads may have something of it, or are not clear; `named` is the one
/// of `-F`.
pub(super) fn is_worth_asking(named: Option<&Path>) -> bool {
    config::read_here(Source::of(named)).may_set(OF_INTEREST)
}

/// Whether the files that ssh reads may have an option that is wanted, which is asked in small
/// letters.
pub(super) fn may_mention(named: Option<&Path>, wanted: &dyn Fn(&str) -> bool) -> bool {
    config::read_here(Source::of(named)).may_mention(wanted)
}

/// What `ssh -G` says of a session over a shared connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SessionSettings {
    /// `ConnectTimeout`
    pub limit: Option<Duration>,
    pub tty: Option<Tty>,
    pub is_subsystem: bool,
    /// `RemoteCommand`
    pub command: Option<String>,
    /// Its input is empty.
    pub stdin_null: bool,
}

/// `RequestTTY`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tty {
    No,
    /// Where our stdin is one.
    Yes,
    Force,
}

/// The host that `ssh -G` has understood.
pub(super) fn host_of(resolved: &str) -> Option<&str> {
    resolved.lines().find_map(|line| line.strip_prefix("host "))
}

/// Reads what `ssh -G` prints. An error says why it is for plain ssh.
pub(super) fn settings_of(resolved: &str, has_display: bool) -> Result<SessionSettings, Reason> {
    let found = |option: &str| {
        resolved.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix(' '))
    };
    let value = |option| found(option).unwrap_or_default();
    let is_on = |option| !matches!(value(option), "" | "no" | "false" | "none");
    let why = if is_on("forwardx11") && has_display {
        "the ssh_config wants X11 forwarded"
    } else if value("clearallforwardings") != "yes"
        && ["localforward", "remoteforward", "dynamicforward"]
            .iter()
            .any(|option| found(option).is_some())
    {
        "the ssh_config has a forward, which would outlive this command on a shared connection"
    } else if is_on("permitlocalcommand") && is_on("localcommand") {
        "the ssh_config has a local command"
    } else if is_on("tunnel") {
        "the ssh_config has a tunnel"
    } else if value("sessiontype") == "none" {
        "the ssh_config wants no session"
    } else if is_on("forkafterauthentication") {
        "the ssh_config wants it to go on in the background"
    } else {
        return Ok(SessionSettings {
            limit: options::duration(value("connecttimeout")),
            tty: match value("requesttty") {
                "no" | "false" => Some(Tty::No),
                "yes" | "true" => Some(Tty::Yes),
                "force" => Some(Tty::Force),
                _ => None,
            },
            is_subsystem: value("sessiontype") == "subsystem",
            command: found("remotecommand").filter(|command| *command != "none").map(str::to_owned),
            stdin_null: is_on("stdinnull"),
        });
    };
    Err(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("Host *\n  ForwardX11 no\n", true)]
    #[case("Host *\n\tconnectTimeout=3\n", true)]
    #[case("# ForwardX11 yes\n#LocalForward 1 a:2\nHost *\nForwardAgent yes\n", false)]
    // Nothing is there.
    #[case("Include ~/no-such-file-of-sshpool\n", false)]
    #[case("Include no-such-file-of-sshpool\n", false)]
    #[case("Include \"DIR/x.conf\"\n", true)]
    #[case("Include DIR/%h\n", true)]
    #[case("Include DIR/*.conf\n", true)]
    #[case("Include DIR/*.none\n", false)]
    #[case("include = DIR/x.conf\n", true)]
    #[case("Include DIR/y DIR/z.missing\n", false)]
    #[case("Include DIR/x.*\n", true)]
    #[case("Include DIR/loop\n", true)]
    fn files_are_looked_through(#[case] text: &str, #[case] worth_asking: bool) {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let text = text.replace("DIR", directory.path().to_str().expect("it is UTF-8"));
            std::fs::write(directory.path().join(name), text).expect("a file");
        };
        write("x.conf", "Host a\n LocalForward 1 a:2\n");
        write("y", "Host a\n User deploy\n");
        write("loop", "Include DIR/loop\n");
        write("config", text);
        assert_eq!(is_worth_asking(Some(&directory.path().join("config"))), worth_asking);
    }

    #[rstest]
    #[case("connecttimeout none\n", Ok(None))]
    #[case("connecttimeout 10\nforwardx11 no\ntunnel false\n", Ok(Some(10)))]
    #[case("forwardx11 yes\n", Err("wants X11 forwarded"))]
    #[case("clearallforwardings no\nlocalforward 1 [a]:2\n", Err("has a forward"))]
    #[case("clearallforwardings yes\nlocalforward 1 [a]:2\n", Ok(None))]
    #[case("permitlocalcommand yes\nlocalcommand date\n", Err("a local command"))]
    #[case("permitlocalcommand yes\n", Ok(None))]
    #[case("permitlocalcommand no\nlocalcommand date\n", Ok(None))]
    #[case("tunnel point-to-point\n", Err("a tunnel"))]
    #[case("sessiontype none\n", Err("no session"))]
    #[case("sessiontype default\nforkafterauthentication no\n", Ok(None))]
    #[case("forkafterauthentication yes\n", Err("in the background"))]
    fn what_ssh_says(#[case] resolved: &str, #[case] expected: Result<Option<u64>, &str>) {
        match (settings_of(resolved, true), expected) {
            (Ok(settings), Ok(expected)) => {
                assert_eq!(settings.limit.map(|limit| limit.as_secs()), expected);
            }
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn without_a_display_there_is_no_x11_to_forward() {
        assert!(settings_of("forwardx11 yes\n", false).is_ok());
    }
}
