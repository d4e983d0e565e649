//! Command lines of known callers, and what becomes of single options.

use std::ffi::OsString;

use super::asked;
use crate::dropin::command_line::parse;
use crate::dropin::request::HostRequest;
use crate::host::Host;
use crate::openssh::of_host;
use rstest::rstest;

/// What those programs pass that call ssh most.
#[rstest]
// git
#[case(&["-o", "SendEnv=GIT_PROTOCOL", "git@web1", "git-upload-pack '/x.git'"])]
#[case(&["-p", "2222", "-4", "deploy@web1", "git-receive-pack '/x.git'"])]
// rsync
#[case(&["-l", "deploy", "web1", "rsync", "--server", "--sender", "-vlogDtpre.iLsfxCIvu", ".", "/x"])]
// scp and sftp
#[case(&["-x", "-oPermitLocalCommand=no", "-oClearAllForwardings=yes", "-oRemoteCommand=none", "-oRequestTTY=no", "-s", "--", "web1", "sftp"])]
#[case(&["-oForwardX11 no", "-oPermitLocalCommand no", "-oClearAllForwardings yes", "-o", "ForwardAgent no", "-p", "22", "-l", "x", "-s", "--", "web1", "sftp"])]
// Ansible
#[case(&["-vvv", "-C", "-o", "ControlMaster=auto", "-o", "ControlPersist=60s", "-o", "StrictHostKeyChecking=no", "-o", "Port=22",
    "-o", "IdentityFile=\"/keys/x\"", "-o", "KbdInteractiveAuthentication=no",
    "-o", "PreferredAuthentications=gssapi-with-mic,gssapi-keyex,hostbased,publickey", "-o", "PasswordAuthentication=no",
    "-o", "User=\"root\"", "-o", "ConnectTimeout=10", "-o", "ControlPath=\"/root/.ansible/cp/0123456789\"", "-tt", "web1",
    "/bin/sh -c 'echo ~root && sleep 0'"])]
// Docker
#[case(&["-o", "ConnectTimeout=30", "-T", "-l", "deploy", "-p", "2222", "--", "web1", "docker", "system", "dial-stdio"])]
// A jump host's own
#[case(&["-l", "x", "-W", "[10.0.0.1]:22", "bastion"])]
fn callers_are_understood(#[case] line: &[&str]) {
    let words: Vec<_> = line.iter().map(OsString::from).collect();
    let read = parse(&words).1.expect("it is a line of ssh");
    let host = HostRequest::of(&read, |name| Host::new(name), None).expect("it has a name").host;
    host.unwrap_or_else(|why| panic!("{line:?} is left to plain ssh: {why}"));
}

/// Each of these is of the same connection as without it.
#[rstest]
#[case(&["-2", "web1"])]
#[case(&["-2xa", "-q", "-n", "-y", "-C", "-e", "none", "-T", "web1"])]
#[case(&["-o", "Protocol=2", "web1"])]
#[case(&["-o", "FingerprintHash=md5", "web1"])]
#[case(&["-o", "IgnoreUnknown=UseKeychain", "-o", "UseKeychain=yes", "web1"])]
#[case(&["-oIgnoreUnknown *", "-oUseKeychain yes", "web1"])]
#[case(&["-o", "ControlPath=/tmp/a b/%C", "-o", "ControlPath \"${HOME}/x\"", "web1"])]
#[case(&["-o", "RemoteCommand=echo \"$x\" # y", "web1"])]
#[case(&["-o", "ExitOnForwardFailure=yes", "-o", "StreamLocalBindUnlink=yes", "-o", "PermitRemoteOpen=any", "web1"])]
#[case(&["-o", "UsePrivilegedPort=no", "-o", "CompressionLevel=9", "-o", "EnableSSHKeysign=yes", "web1"])]
#[case(&["-o", "BatchMode=yes", "-o", "BatchMode=no", "web1"])]
fn what_makes_no_difference(#[case] line: &[&str]) {
    let words: Vec<_> = [&["-F", "none"], line].concat().iter().map(OsString::from).collect();
    let plain = ["-F", "none", "web1"].map(OsString::from);
    assert_eq!(asked(&words).expect("it is shared"), asked(&plain).expect("it is shared"));
}

/// Each of these is shared by those who say the same.
#[rstest]
#[case(&["-K", "web1"], "-o gssapiauthentication=yes -o gssapidelegatecredentials=yes")]
#[case(&["-k", "web1"], "-o gssapidelegatecredentials=no")]
#[case(&["-4", "-4", "web1"], "-o addressfamily=inet")]
#[case(&["-o", "KnownHostsCommand=none", "web1"], "-o knownhostscommand=none")]
#[case(&["-o", "Ciphers=aes128-ctr", "-o", "Ciphers=aes256-ctr", "web1"], "-o ciphers=aes128-ctr")]
#[case(&["-o", "IgnoreUnknown=New*", "-o", "NewOption=x", "web1"], "-o ignoreunknown=New* -o newoption=x")]
#[case(&["-o", "SecurityKeyProvider=internal", "-o", "RequiredRSASize=2048", "web1"],
    "-o securitykeyprovider=internal -o requiredrsasize=2048")]
#[case(&["-o", "Tag=x", "web1"], "-o tag=x")]
fn what_is_part_of_the_connection(#[case] line: &[&str], #[case] told: &str) {
    let words: Vec<_> = [&["-F", "none"], line].concat().iter().map(OsString::from).collect();
    let words: Vec<_> = of_host(&asked(&words).expect("it is shared"))
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    assert_eq!(words.join(" "), format!("-F none {told}"));
}

#[rstest]
#[case(&["-N", "web1"])]
#[case(&["-fN", "-L", "1:a:2", "web1"])]
#[case(&["-N", "-L", "1:a:2", "web1", "true"])]
#[case(&["-N", "-L", "1:a", "web1"])]
#[case(&["-N", "-L", "%h:a:2", "web1"])]
#[case(&["-gN", "-L", "1:a:2", "web1"])]
#[case(&["-N", "-R", "0:a:2", "web1"])]
#[case(&["-N", "-L", "0:a:2", "web1"])]
#[case(&["-N", "-L", "1:a:2", "-L", "1:a:2", "web1"])]
#[case(&["-N", "-L", "1:a:2", "-E", "log", "web1"])]
#[case(&["-N", "-L", "1:a:2", "-W", "a:1", "web1"])]
#[case(&["-N", "-L", "1:a:2", "-M", "web1"])]
#[case(&["-O", "cancel", "-L", "1:a:2", "web1"])]
#[case(&["-N", "-O", "check", "-L", "1:a:2", "web1"])]
#[case(&["-R", "1:a:2", "web1"])]
#[case(&["-D", "1080", "web1"])]
#[case(&["-X", "web1"])]
#[case(&["-O", "forward", "web1"])]
#[case(&["-S", "/x", "-O", "check", "web1"])]
#[case(&["-o", "ControlPath=none", "-O", "check", "web1"])]
#[case(&["-G", "web1"])]
#[case(&["-M", "web1"])]
#[case(&["-S", "/x", "web1"])]
#[case(&["-w", "0", "web1"])]
#[case(&["-oProxyCommand=nc %h %p", "web1"])]
#[case(&["-o", "LocalForward=1 a:2", "web1"])]
#[case(&["-A", "-a", "web1"])]
#[case(&["-1", "web1"])]
#[case(&["-o", "UseKeychain=yes", "-o", "IgnoreUnknown=UseKeychain", "web1"])]
#[case(&["-4", "-6", "web1"])]
#[case(&["-o", "KnownHostsCommand=/bin/x", "web1"])]
#[case(&["-o", "Match=all", "web1"])]
#[case(&["web1", "-o", "ControlPath=none"])]
fn what_cannot_be_shared_is_left_to_ssh(#[case] line: &[&str]) {
    let words: Vec<_> = line.iter().map(OsString::from).collect();
    assert_eq!(asked(&words), None);
}

#[test]
fn only_who_forwards_the_same_agent_shares_a_connection() {
    let words = ["-A", "web1"].map(OsString::from);
    let line = parse(&words).1.expect("it is a line of ssh");
    let host = |auth_sock| {
        HostRequest::of(&line, |name| Host::new(name), auth_sock)
            .expect("it has a name")
            .host
            .expect("shared")
    };
    assert_ne!(host(Some("/a")), host(Some("/b")));
    assert_eq!(host(Some("")), Host::new("web1").expect("a name"));
}

/// What the TOML file says of a host counts, but for what the caller says; ssh is told so, also
/// where it is left to it.
#[rstest]
#[case(&["web1"], "-o HostName=10.0.0.7 -p 2222 -l deploy -o ProxyJump=bastion -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
#[case(&["-p", "22", "-l", "x", "web1"], "-o HostName=10.0.0.7 -o ProxyJump=bastion -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
#[case(&["-i", "/etc/passwd", "-J", "b", "x@web1"], "-o HostName=10.0.0.7 -p 2222")]
#[case(&["-o", "ProxyCommand=nc %h %p", "-L", "1:a:2", "web1"], "-o HostName=10.0.0.7 -p 2222 -l deploy -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
#[case(&["-o", "HostName=\"a\" #b", "web1"], "-p 2222 -l deploy -o ProxyJump=bastion -o IdentityFile=\"/k\" -o IdentitiesOnly=yes")]
fn the_toml_file_counts(#[case] line: &[&str], #[case] told: &str) {
    let words: Vec<_> = line.iter().map(OsString::from).collect();
    let read = parse(&words).1.expect("it is a line of ssh");
    let known = |name: &str| {
        Host::new(name)?
            .address("10.0.0.7")?
            .port(2222)?
            .user("deploy")?
            .identity_file("/k")?
            .option("ProxyJump", "bastion")
    };
    let additions = HostRequest::of(&read, known, None).expect("it has a name").additions;
    let words: Vec<_> =
        of_host(&additions).iter().map(|word| word.to_string_lossy().into_owned()).collect();
    assert_eq!(words.join(" "), told);
}
