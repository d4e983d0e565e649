mod advice;
mod causes;

use rstest::rstest;

use super::stderr::LINES_KEPT;
use super::*;

#[rstest]
#[case::by_a_key("lab@h: Permission denied (publickey).\n", true)]
#[case::without_one(
    "no such identity: /k: No such file or directory\nlab@h: Permission denied (publickey).\n",
    true
)]
#[case::by_a_host_key("Host key verification failed.\n", true)]
#[case::by_a_key_file("Load key \"/k\": invalid format\n", false)]
#[case::by_nobody("ssh: connect to host h port 1: Connection refused\n", false)]
#[case::by_a_busy_server("kex_exchange_identification: read: Connection reset by peer\n", false)]
fn what_the_server_has_refused_counts(#[case] stderr: &str, #[case] counts: bool) {
    let error = connect_failure(stderr, "it ended");
    assert_eq!(error.is_counted(), counts, "{error}");
}

#[rstest]
#[case("Connection to 127.0.0.1 closed by remote host.\r\n", true)]
#[case("Timeout, server 127.0.0.1 not responding.\r\n", false)]
#[case("kex_exchange_identification: Connection closed by remote host\r\n", false)]
#[case("Connection closed by 127.0.0.1 port 22\r\n", false)]
#[case("", false)]
fn who_has_closed_a_connection_is_told(#[case] stderr: &str, #[case] by_server: bool) {
    assert_eq!(is_closed_by_server(stderr), by_server);
}

#[test]
fn the_way_gets_its_name() {
    let stderr = "Host key verification failed.\r\nkex_exchange_identification: Connection closed \
        by remote host\r\n\
        Connection closed by UNKNOWN port 65535\r\n";
    let error = connect_failure(stderr, "");
    assert!(is_of_the_way(&error), "{error}");
    let named = by_way_of("ProxyJump bastion", error.clone());
    assert!(
        named.to_string().contains(": ProxyJump bastion failed: Host key verification failed. ("),
        "{named}"
    );
    assert_eq!(
        (named.kind(), named.advice(), named.ssh_output()),
        (error.kind(), error.advice(), error.ssh_output())
    );
    let other = connect_failure("lab@h: Permission denied (publickey).\r\n", "");
    assert!(!is_of_the_way(&other));
    assert_eq!(by_way_of("ProxyJump bastion", other.clone()), other);
}

#[rstest]
#[case::post_quantum(
    "** WARNING: connection is not using a post-quantum key exchange algorithm.\r\n** x\r\n",
    None
)]
#[case::banner("Authorized users only: all timed\nsessions are logged\n", None)]
#[case::banner_of_a_device("***\r\nWARNING: go away\r\n***\r\n", None)]
#[case::accepted("Warning: Permanently added 'h' (ED25519) to the list of known hosts.\r\n", None)]
#[case::certificate("Certificate invalid: expired\r\n", None)]
#[case::one_address(
    "ssh: connect to host ::1 port 22: Network is unreachable\r\nWelcome\n",
    Some("ssh: connect to host ::1 port 22: Network is unreachable")
)]
#[case::nothing("", None)]
fn what_a_login_waits_for_is_no_warning_and_no_banner(
    #[case] stderr: &str,
    #[case] expected: Option<&str>,
) {
    assert_eq!(waits_for(stderr, false), expected);
}

#[test]
fn by_a_proxy_its_own_words_may_be_what_is_waited_for() {
    assert_eq!(
        waits_for("log in at https://x\n** WARNING: y\r\n", true),
        Some("log in at https://x")
    );
}

#[test]
fn only_the_last_lines_are_kept() {
    let text: String = (0..1000).map(|n| format!("line {n}\r\n")).collect();
    let error = connect_failure(&text, "");
    assert_eq!(error.ssh_output().len(), LINES_KEPT);
    assert_eq!(error.ssh_output()[LINES_KEPT - 1], "line 999");
}

#[rstest]
#[case::ended(
    "debug1: mux_client_request_session: master session id: 2\r\ndebug2: Control master terminated \
        unexpectedly\r\n",
    SessionLog::StartedAndEnded
)]
#[case::signalled(
    "debug1: mux_client_request_session: master session id: 2\r\ndebug2: Exiting on signal: \
        Terminated\r\n",
    SessionLog::Signalled("Exiting on signal: Terminated".into())
)]
#[case::refused(
    "debug2: mux_client_hello_exchange: master version 4\r\nmux_client_request_session: session \
        request failed: Session open refused by peer\r\n",
    SessionLog::Refused("session request failed: Session open refused by peer".into())
)]
#[case::missing(
    "debug1: Control socket \"P\" does not exist\r\n",
    SessionLog::NotReached("Control socket \"P\" does not exist".into())
)]
#[case::stale(
    "Control socket connect(P): Connection refused\r\n",
    SessionLog::NotReached("Control socket connect(P): Connection refused".into())
)]
#[case::killed_before_hello(
    "debug1: mux_client_hello_exchange: read packet failed\r\nmuxclient: master hello exchange \
        failed\r\n",
    SessionLog::NotReached("muxclient: master hello exchange failed".into())
)]
#[case::killed_after_the_request(
    "debug2: mux_client_hello_exchange: master version 4\r\nmux_client_request_session: read from \
        master failed: Broken pipe\r\n",
    SessionLog::Unknown("read from master failed: Broken pipe".into())
)]
#[case::empty("", SessionLog::Unknown("ssh left no word in its log".into()))]
fn a_session_log_is_read(#[case] log: &str, #[case] expected: SessionLog) {
    assert_eq!(session_log(log), expected);
    assert_eq!(exit_status(log), None);
}

#[rstest]
#[case("debug2: Received exit status from master 255\r\n", Some(255))]
#[case("debug1: x\r\ndebug2: Received exit status from master 0\r\ndebug1: y\r\n", Some(0))]
#[case("debug2: Received exit status from master 25", None)]
fn the_log_has_the_status_as_soon_as_its_line_is_whole(
    #[case] log: &str,
    #[case] status: Option<i32>,
) {
    assert_eq!(exit_status(log), status);
}

#[test]
fn the_key_exchange_is_read() {
    let text = "debug1: kex: algorithm: curve25519-sha256\r\ndebug1: kex: host key algorithm: \
        ssh-ed25519\r\n";
    assert_eq!(kex_algorithm(text).as_deref(), Some("curve25519-sha256"));
    assert_eq!(kex_algorithm(""), None);
}

#[rstest]
#[case("Master running (pid=123)\r\n", Some(123))]
#[case("Control socket connect(P): Connection refused\r\n", None)]
fn the_master_says_its_pid(#[case] stderr: &str, #[case] pid: Option<u32>) {
    assert_eq!(check_pid(stderr), pid);
}

#[rstest]
#[case(
    "packet.c:ssh_packet_read_poll_seqnr():1751 (pid=25810): Received disconnect\r\n",
    "Received disconnect\r\n"
)]
#[case("debug1: compat.c:compat_banner():150 (pid=1): match: x\n", "debug1: match: x\n")]
#[case("sshconnect2.c:ssh_userauth2():580 (pid=1): Authenticated to h.\n", "Authenticated to h.\n")]
#[case("debug1: Remote: a.c:b():1 (pid=2): x\n", "debug1: Remote: a.c:b():1 (pid=2): x\n")]
#[case(
    "lab@web1: Permission denied (publickey): x\n",
    "lab@web1: Permission denied (publickey): x\n"
)]
fn the_place_in_the_source_of_ssh_is_taken_out(#[case] line: &str, #[case] expected: &str) {
    assert_eq!(without_places(&format!("{line}{line}")), format!("{expected}{expected}"));
}
