//! What somebody is told to do about a failure.

use rstest::rstest;

use super::*;

/// Each is followed by the lines that ssh writes behind it; the first line of the expected is a
/// piece of the detail, the second one of the advice, or `-` where there is none.
#[rstest]
#[case::f1_agent_refused(
    "sign_and_send_pubkey: signing failed for ED25519 \"me@x\" from agent: agent refused \
        operation\r\nlab@h: Permission denied (publickey).\r\n",
    Kind::Authentication,
    "signing failed for ED25519 \"me@x\" from agent: agent refused operation",
    "unlock it, confirm"
)]
#[case::f1_agent_refused_7_6(
    "sign_and_send_pubkey: signing failed: agent refused operation\r\nPermission denied \
        (publickey).\r\n",
    Kind::Authentication,
    "signing failed: agent refused operation",
    "unlock it, confirm"
)]
#[case::f1_agent_gone(
    "sign_and_send_pubkey: signing failed for RSA \"k\" from agent: communication with agent \
        failed\r\nlab@h: Permission denied (publickey).\r\n",
    Kind::Authentication,
    "communication with agent failed",
    "ssh-add -l"
)]
#[case::f1_no_device(
    "sign_and_send_pubkey: signing failed for ED25519-SK \"/k\": device not found\r\nlab@h: \
        Permission denied (publickey,password).\r\n",
    Kind::Authentication,
    "device not found",
    "plug in the security key"
)]
#[case::f1_no_pin(
    "sign_and_send_pubkey: signing failed for ECDSA-SK \"/k\": incorrect passphrase supplied to \
        decrypt private key\r\nlab@h: Permission denied (publickey).\r\n",
    Kind::Authentication,
    "incorrect passphrase",
    "PIN: `sshpool warm HOST`"
)]
#[case::f1_other(
    "sign_and_send_pubkey: signing failed for ED25519-SK \"/k\": invalid format\r\nlab@h: \
        Permission denied (publickey).\r\n",
    Kind::Authentication,
    "invalid format",
    "touch it"
)]
#[case::f1_no_mutual(
    "sign_and_send_pubkey: no mutual signature supported\r\nlab@h: Permission denied \
        (publickey).\r\n",
    Kind::Authentication,
    "no mutual signature supported",
    "PubkeyAcceptedAlgorithms"
)]
#[case::f1_wrong_signature(
    "agent key RSA SHA256:x returned incorrect signature type\r\nlab@h: Permission denied \
        (publickey).\r\n",
    Kind::Authentication,
    "agent key RSA SHA256:x returned incorrect signature type",
    "PubkeyAcceptedAlgorithms"
)]
#[case::f2_expired(
    "Certificate invalid: expired\r\nNo ED25519 host key is known for h and you have requested \
        strict checking.\r\nHost key verification failed.\r\n",
    Kind::HostCertificate,
    "Certificate invalid: expired",
    "new certificate"
)]
#[case::f2_principal(
    "Certificate invalid: name is not a listed principal\r\nHost key verification failed.\r\n",
    Kind::HostCertificate,
    "name is not a listed principal",
    "HostKeyAlias"
)]
#[case::f2_early(
    "Certificate invalid: not yet valid\r\nHost key verification failed.\r\n",
    Kind::HostCertificate,
    "not yet valid",
    "clocks"
)]
#[case::f2_wrong_type(
    "Certificate invalid: not a host certificate\r\nHost key verification failed.\r\n",
    Kind::HostCertificate,
    "not a host certificate",
    "another certificate"
)]
#[case::f2_critical_option(
    "Certificate for h contains unsupported critical options(s)\r\nHost key verification \
        failed.\r\n",
    Kind::HostCertificate,
    "unsupported critical options",
    "another certificate"
)]
#[case::f2_but_the_key_is_known(
    "Certificate invalid: expired\r\nConnection closed by 127.0.0.1 port 22\r\n",
    Kind::Other,
    "ssh failed: Connection closed by 127.0.0.1 port 22",
    "-"
)]
#[case::f2_but_the_key_is_known_and_we_are_not(
    "Certificate invalid: expired\r\nlab@h: Permission denied (publickey).\r\n",
    Kind::Authentication,
    "Permission denied",
    "check user and key"
)]
#[case::f3_marked(
    "@@@\r\n@       WARNING: REVOKED HOST KEY DETECTED!               @\r\n@@@\r\nThe ED25519 host \
        key for h is marked as revoked.\r\n\
     This could mean that a stolen key is being used to\r\nimpersonate this host.\r\nED25519 host \
     key for h was revoked and you have requested strict checking.\r\n\
     Host key verification failed.\r\n",
    Kind::HostKeyRevoked,
    "The ED25519 host key for h is marked as revoked.",
    "somebody else"
)]
#[case::f3_by_file(
    "Host key ED25519 SHA256:x revoked by file /r\r\nHost key verification failed.\r\n",
    Kind::HostKeyRevoked,
    "Host key ED25519 SHA256:x revoked by file /r",
    "somebody else"
)]
#[case::f3_no_file(
    "Error checking host key ED25519 SHA256:x in revoked keys file /r: No such file or \
        directory\r\nHost key verification failed.\r\n",
    Kind::BadOption,
    "in revoked keys file /r: No such file or directory",
    "RevokedHostKeys"
)]
#[case::f4_keyboard(
    "lab@h: Permission denied (keyboard-interactive).\r\n",
    Kind::Authentication,
    "(keyboard-interactive)",
    "`sshpool warm HOST`"
)]
#[case::f4_password(
    "lab@h: Permission denied (password,keyboard-interactive).\r\n",
    Kind::Authentication,
    "(password,",
    "wants to ask for a password"
)]
#[case::f4_neither(
    "lab@h: Permission denied (gssapi-with-mic).\r\n",
    Kind::Authentication,
    "(gssapi-with-mic)",
    "check user and key"
)]
#[case::f4_asks(
    "Host key verification failed.\r\n",
    Kind::HostKeyUnknown,
    "Host key verification failed.",
    "`sshpool warm HOST`"
)]
#[case::f4_strict(
    "No RSA host key is known for h and you have requested strict checking.\r\nHost key \
        verification failed.\r\n",
    Kind::HostKeyUnknown,
    "No RSA host key is known for h",
    "add the key to known_hosts"
)]
#[case::f5_refused(
    "bob@bastion: Permission denied (publickey).\r\nkex_exchange_identification: Connection closed \
        by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
    Kind::Authentication,
    "the jump host or ProxyCommand failed: bob@bastion: Permission denied (publickey).",
    "check user and key"
)]
#[case::f5_refused_7_6(
    "bob@bastion: Permission denied (password).\r\nssh_exchange_identification: Connection closed \
        by remote host\r\n",
    Kind::Authentication,
    "the jump host or ProxyCommand failed: bob@bastion: Permission denied (password).",
    "`sshpool warm HOST`"
)]
#[case::f5_unknown(
    "No ED25519 host key is known for bastion and you have requested strict checking.\r\nHost key \
        verification failed.\r\n\
     kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN \
     port 65535\r\n",
    Kind::HostKeyUnknown,
    "failed: No ED25519 host key is known for bastion",
    "add the key"
)]
#[case::f5_prohibited(
    "channel 0: open failed: administratively prohibited: open failed\r\nstdio forwarding \
        failed\r\n\
     kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN \
     port 65535\r\n",
    Kind::Other,
    "failed: channel 0: open failed: administratively prohibited: open failed",
    "AllowTcpForwarding"
)]
#[case::f5_nothing_listens(
    "channel 0: open failed: connect failed: Connection refused\r\nstdio forwarding failed\r\n\
     kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN \
     port 65535\r\n",
    Kind::Refused,
    "failed: channel 0: open failed: connect failed: Connection refused",
    "-"
)]
#[case::f5_no_name(
    "channel 0: open failed: connect failed: Name or service not known\r\nstdio forwarding \
        failed\r\n\
     kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN \
     port 65535\r\n",
    Kind::Name,
    "connect failed: Name or service not known",
    "-"
)]
#[case::f5_dropped(
    "kex_exchange_identification: read: Connection reset by peer\r\nConnection reset by 10.0.0.1 \
        port 22\r\n\
     kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN \
     port 65535\r\n",
    Kind::ServerBusy,
    "failed: kex_exchange_identification: read: Connection reset by peer",
    "MaxStartups"
)]
#[case::f5_a_program(
    "/bin/bash: line 1: nosuch: command not found\nkex_exchange_identification: Connection closed \
        by remote host\r\nConnection closed by UNKNOWN port 65535\r\n",
    Kind::Other,
    "failed: /bin/bash: line 1: nosuch: command not found",
    "-"
)]
#[case::f5_beyond_it(
    "Unable to negotiate with UNKNOWN port 65535: no matching cipher found. Their offer: x\r\n",
    Kind::Algorithms,
    "no matching cipher found",
    "-"
)]
#[case::f6_no_reason(
    "** WARNING: connection is not using a post-quantum key exchange algorithm.\r\n** This session \
        may be vulnerable to \"store now, decrypt later\" attacks.\r\n\
     ** The server may need to be upgraded. See https://openssh.com/pq.html\r\n",
    Kind::Other,
    "it ended with status 255",
    "-"
)]
#[case::f6_behind_the_reason(
    "something new\r\nWarning: Permanently added 'h' (ED25519) to the list of known hosts.\r\n** \
        something later\r\n",
    Kind::Other,
    "something new",
    "-"
)]
#[case::f7_too_many(
    "Welcome: your session timed out.\nReceived disconnect from 127.0.0.1 port 22:2: Too many \
        authentication failures\r\nDisconnected from 127.0.0.1 port 22\r\n",
    Kind::Authentication,
    "Too many authentication failures",
    "IdentitiesOnly"
)]
#[case::b5_port(
    "/c line 2: Bad port 'abc'.\r\n/c: terminating, 1 bad configuration options\r\n",
    Kind::BadOption,
    "bad ssh configuration: /c line 2: Bad port 'abc'.",
    "-"
)]
#[case::b5_the_first_of_them(
    "/c line 1: Bad port 'abc'.\r\n/c line 2: Bad SSH2 cipher spec 'nosuch'.\r\n/c: line 3: Bad \
        configuration option: foo\r\n/c: terminating, 3 bad configuration options\r\n",
    Kind::BadOption,
    "/c line 1: Bad port 'abc'.",
    "-"
)]
#[case::b5_match(
    "Unsupported Match attribute foo\r\n/c line 2: Bad Match condition\r\n/c: terminating, 1 bad \
        configuration options\r\n",
    Kind::BadOption,
    "/c line 2: Bad Match condition (Unsupported Match attribute foo)",
    "-"
)]
#[case::b5_at_once(
    "/c line 2: bad port number in permitremoteopen\r\n",
    Kind::BadOption,
    "/c line 2: bad port number",
    "-"
)]
#[case::b5_variable(
    "vdollar_percent_expand: env var ${NOSUCH} has no value\r\ninvalid environment variable \
        expansion\r\n",
    Kind::BadOption,
    "env var ${NOSUCH} has no value",
    "set the variable"
)]
#[case::without_carriage_returns(
    "Certificate invalid: expired\nHost key verification failed.\n",
    Kind::HostCertificate,
    "Certificate invalid: expired",
    "new certificate"
)]
fn the_line_with_the_cause_is_quoted_and_the_advice_fits(
    #[case] stderr: &str,
    #[case] kind: Kind,
    #[case] detail: &str,
    #[case] advice: &str,
) {
    let error = connect_failure(stderr, "it ended with status 255");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(detail), "{error}");
    match advice {
        "-" => assert_eq!(error.advice(), None, "{error}"),
        _ => assert!(error.advice().is_some_and(|told| told.contains(advice)), "{error}"),
    }
    assert!(!error.told_of("web1").contains("HOST"), "{}", error.told_of("web1"));
}
