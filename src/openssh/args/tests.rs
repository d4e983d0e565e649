use rstest::rstest;

use super::*;

fn words(args: Vec<OsString>) -> String {
    args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn plan<'a>(version: &'a SshVersion, socket: &'a Path) -> MasterPlan<'a> {
    MasterPlan {
        socket,
        config_file: Some(Path::new("/etc/other")),
        connect_timeout: Duration::from_millis(1500),
        version,
        proxy: None,
        defaults: &[],
        asks: false,
        tells_ends: false,
        log_level: "INFO",
    }
}

#[test]
fn a_master_carries_what_the_host_says() {
    let version = SshVersion::for_tests(9, 2);
    let host = Host::new("web1")
        .and_then(|host| host.address("10.0.0.7"))
        .and_then(|host| host.port(2222))
        .and_then(|host| host.user("deploy"))
        .and_then(|host| host.identity_file("/keys/100%"))
        .and_then(|host| host.config_file("/etc/other"))
        .and_then(|host| host.option("Compression", "yes"))
        .expect("a valid host");
    let line = words(master(&host, &plan(&version, Path::new("/run/x%/1"))));
    assert!(line.starts_with("-M -N -T -S /run/x%%/1 "), "{line}");
    assert!(
        line.contains(
            " -F /etc/other -o HostName=10.0.0.7 -p 2222 -l deploy \
             -o Compression=yes -o IdentityFile=\"/keys/100%%\" -o IdentitiesOnly=yes -o \
                 ConnectTimeout=2 "
        ),
        "{line}"
    );
    assert!(line.contains(" -o ForkAfterAuthentication=no -o LogVerbose="), "{line}");
    assert!(line.ends_with(" -o SendEnv=* -- web1"), "{line}");
}

#[test]
fn an_old_client_is_not_given_options_that_it_does_not_know() {
    let version = SshVersion::for_tests(8, 4);
    let host = Host::new("web1").expect("a valid host");
    let line = words(master(&host, &plan(&version, Path::new("/s"))));
    assert!(!line.contains("ForkAfterAuthentication") && !line.contains("LogVerbose"), "{line}");
}

#[test]
fn every_client_fails_closed() {
    for line in [
        words(session(
            Path::new("/s"),
            Path::new("/l"),
            &Script::new("true"),
            &Variables::default(),
            false,
        )),
        words(control(Path::new("/s"), "check")),
    ] {
        assert!(
            line.starts_with("-F none -S /s -o ControlMaster=no -o ProxyCommand=false "),
            "{line}"
        );
        assert!(line.contains(" -- sshpool.invalid"), "{line}");
    }
}

#[test]
fn a_command_is_one_argument_behind_the_destination() {
    let args = session(
        Path::new("/s"),
        Path::new("/l"),
        &Script::new("-x 'a  b'"),
        &Variables::default(),
        false,
    );
    assert_eq!(args[args.len() - 3..], ["--", NOWHERE, "-x 'a  b'"]);
}

#[test]
fn a_subsystem_is_asked_for_by_its_name() {
    let sftp = Script::of("sftp".into(), true);
    let line =
        words(session(Path::new("/s"), Path::new("/l"), &sftp, &Variables::default(), false));
    assert!(line.contains(" -s ") && line.ends_with(" -- sshpool.invalid sftp"), "{line}");
}

#[test]
fn a_way_over_a_hop_is_said_to_every_shell_and_comes_before_the_users() {
    let socket = Path::new("/run/a b/100%/s.1");
    let proxy = proxy(Path::new("/usr/bin/ssh"), socket).expect("it can be said");
    assert_eq!(
        proxy,
        "'/usr/bin/ssh' '-F' 'none' '-S' '/run/a b/100%%%%/s.1' '-o' 'ControlMaster=no' \
         '-o' 'ProxyCommand=false' '-o' 'BatchMode=yes' -W '[%h]:%p' -- sshpool.invalid"
    );
    let version = SshVersion::for_tests(9, 2);
    let host = Host::new("web1").and_then(|host| host.option("ProxyJump", "bastion"));
    let plan = MasterPlan { proxy: Some(&proxy), ..plan(&version, socket) };
    let args = words(master(&host.expect("a valid host"), &plan));
    let at = |what: &str| args.find(what).unwrap_or_else(|| panic!("{what}: {args}"));
    assert!(at("ProxyCommand='/usr/bin/ssh'") < at("ProxyJump=bastion"));
}

#[rstest]
#[case("/run/it's")]
#[case("/run/back\\slash")]
#[case("/run/hey!")]
#[case("/run/new\nline")]
fn a_path_that_shells_read_differently_is_said_to_none(#[case] socket: &str) {
    assert_eq!(proxy(Path::new("/usr/bin/ssh"), Path::new(socket)), None);
}

#[rstest]
#[case("bastion", None, "bastion", None)]
#[case("deploy@bastion:2222", Some("deploy"), "bastion", Some("2222"))]
#[case("ssh://deploy@bastion:2222/", Some("deploy"), "bastion", Some("2222"))]
#[case("[fe80::1%eth0]:22", None, "fe80::1%eth0", Some("22"))]
#[case("me@[::1]", Some("me"), "::1", None)]
#[case("a@b@::1", Some("a@b"), "::1", None)]
fn a_hop_is_read_as_ssh_reads_it(
    #[case] written: &str,
    #[case] user: Option<&str>,
    #[case] name: &str,
    #[case] port: Option<&str>,
) {
    assert_eq!(hop(written), Hop { name, user, port });
}
