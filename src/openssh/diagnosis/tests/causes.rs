//! The kind of a failure, and the line that is quoted for it.

use rstest::rstest;

use super::*;

#[rstest]
#[case::authentication(
    "lab@127.0.0.1: Permission denied (publickey).\r\n",
    Kind::Authentication,
    "lab@127.0.0.1: Permission denied (publickey)."
)]
#[case::authentication_behind_a_banner(
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nSessions are timed \
        out.\nlab@h: Permission denied (publickey).\r\n",
    Kind::Authentication,
    "authentication failed: lab@h: Permission denied (publickey)."
)]
#[case::too_many(
    "Received disconnect from 127.0.0.1 port 22:2: Too many authentication \
        failures\r\nDisconnected from 127.0.0.1 port 22\r\n",
    Kind::Authentication,
    "Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures"
)]
#[case::changed(
    "@@@@\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\nOffending ED25519 key \
        in /k:1\r\n\
     Host key for web1 has changed and you have requested strict checking.\r\nHost key \
     verification failed.\r\n",
    Kind::HostKeyChanged,
    "Offending ED25519 key in /k:1 for web1"
)]
#[case::unknown(
    "No ED25519 host key is known for web1 and you have requested strict checking.\r\nHost key \
        verification failed.\r\n",
    Kind::HostKeyUnknown,
    "No ED25519 host key is known for web1 and you have requested strict checking."
)]
#[case::refused(
    "ssh: connect to host 127.0.0.1 port 9: Connection refused\r\n",
    Kind::Refused,
    "connect to host 127.0.0.1 port 9: Connection refused"
)]
#[case::silent(
    "Connection timed out during banner exchange\r\nConnection to 127.0.0.1 port 9 timed out\r\n",
    Kind::TimedOut,
    "Connection to 127.0.0.1 port 9 timed out"
)]
#[case::no_route(
    "ssh: connect to host 10.0.0.1 port 22: No route to host\r\n",
    Kind::Unreachable,
    "connect to host 10.0.0.1 port 22: No route to host"
)]
#[case::name(
    "ssh: Could not resolve hostname x: Name or service not known\r\n",
    Kind::Name,
    "Could not resolve hostname x: Name or service not known"
)]
#[case::open_key(
    "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @\r\nPermissions 0644 for '/k' are too open.\r\nLoad \
        key \"/k\": bad permissions\r\nlab@h: Permission denied (publickey).\r\n",
    Kind::KeyFile,
    "Permissions 0644 for '/k' are too open."
)]
#[case::no_key(
    "Warning: Identity file nokey not accessible: No such file or directory.\r\nlab@h: Permission \
        denied (publickey).\r\n",
    Kind::KeyFile,
    "Identity file nokey not accessible: No such file or directory."
)]
#[case::algorithms(
    "Unable to negotiate with 127.0.0.1 port 9: no matching key exchange method found. Their \
        offer: x\r\n",
    Kind::Algorithms,
    "Unable to negotiate with 127.0.0.1 port 9: no matching key exchange method found. Their \
        offer: x"
)]
#[case::option(
    "command-line: line 0: Bad configuration option: nosuch\r\n",
    Kind::BadOption,
    "command-line: line 0: Bad configuration option: nosuch"
)]
#[case::busy(
    "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 127.0.0.1 \
        port 9\r\n",
    Kind::ServerBusy,
    "kex_exchange_identification: read: Connection reset by peer"
)]
#[case::no_server(
    "kex_exchange_identification: banner line too long\r\nbanner exchange: Connection to 127.0.0.1 \
        port 9: could not read protocol version\r\n",
    Kind::Other,
    "ssh failed: kex_exchange_identification: banner line too long"
)]
#[case::farewell(
    "Received disconnect from 127.0.0.1 port 9:2: go away\r\nDisconnected from 127.0.0.1 port \
        9\r\n",
    Kind::Other,
    "ssh failed: Received disconnect from 127.0.0.1 port 9:2: go away"
)]
#[case::other("first\r\nsomething new\r\n", Kind::Other, "something new")]
#[case::nothing("", Kind::Other, "it ended with status 255")]
fn each_cause_has_its_kind_and_its_line(
    #[case] stderr: &str,
    #[case] kind: Kind,
    #[case] detail: &str,
) {
    let error = connect_failure(stderr, "it ended with status 255");
    assert_eq!(error.kind(), kind);
    assert!(error.to_string().contains(detail), "{error}");
}
