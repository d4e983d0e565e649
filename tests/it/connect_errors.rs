//! Each cause of a failed login has its kind, with real ssh and a real server, and the caller is
//! told what to do.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rstest::rstest;
use sshpool::{ConnectErrorKind as Kind, Error, Host};

use crate::lab::common::sshd::{Image, Sshd};
use crate::lab::common::{self, wait_for, wait_for_async};
use crate::lab::pooled::{self, config, host, pool};

/// Something that is wrong between us and the server.
#[derive(Clone, Copy, Debug)]
enum Wrong {
    Key,
    HostKeyChanged,
    HostKeyUnknown,
    NothingListens,
    NobodyAnswers,
    NothingRuns,
    Name,
    KeyTooOpen,
    KeyMissing,
    KeyUnreadableAsKey,
    Algorithms,
    OptionUnknown,
    TooManyLogins,
    ConfigMissing,
}

#[rstest]
#[case(Wrong::Key, Kind::Authentication, "Permission denied (")]
#[case(Wrong::HostKeyChanged, Kind::HostKeyChanged, "ssh-keygen -R")]
#[case(Wrong::HostKeyUnknown, Kind::HostKeyUnknown, "host key is known for")]
#[case(Wrong::NothingListens, Kind::Refused, "Connection refused")]
#[case(Wrong::NobodyAnswers, Kind::TimedOut, "no login within 1s")]
#[case(Wrong::NothingRuns, Kind::TimedOut, "logged in, but the server ran no command within 5s")]
#[case(Wrong::Name, Kind::Name, "Could not resolve hostname no-such-host.invalid")]
#[case(Wrong::KeyTooOpen, Kind::KeyFile, "are too open")]
#[case(Wrong::KeyMissing, Kind::KeyFile, "No such file or directory")]
#[case(Wrong::KeyUnreadableAsKey, Kind::KeyFile, "Load key")]
#[case(Wrong::Algorithms, Kind::Algorithms, "no matching key exchange method found")]
#[case(Wrong::OptionUnknown, Kind::BadOption, "nosuchoption")]
#[case(Wrong::TooManyLogins, Kind::ServerBusy, "MaxStartups")]
#[case(Wrong::ConfigMissing, Kind::BadOption, "/nonexistent/ssh_config: No such file")]
#[tokio::test]
async fn every_cause_has_its_kind(#[case] wrong: Wrong, #[case] kind: Kind, #[case] text: &str) {
    let sshd = match wrong {
        Wrong::TooManyLogins => Sshd::builder().max_startups("1:100:1").start(),
        // It never ends, and so the echo never comes.
        Wrong::NothingRuns => Sshd::builder().force_command("sleep 300").start(),
        _ => Sshd::builder().start(),
    };
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key");
    let write_key = |text: &[u8], mode: u32| {
        fs::write(&key, text).expect("the key is written");
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("and given its mode");
    };
    let good_key = fs::read(sshd.identity_file()).expect("the key is there");
    // Without the ssh_config, which names a good key.
    let bare = || {
        Host::new("lab")
            .and_then(|host| host.address("127.0.0.1"))
            .and_then(|host| host.port(sshd.port()))
            .and_then(|host| host.user(sshd.user()))
            .and_then(|host| host.config_file("none"))
            .and_then(|host| {
                host.option("UserKnownHostsFile", sshd.known_hosts().to_string_lossy())
            })
            .expect("a valid host")
    };
    let host = host(&sshd);
    // What holds a login open, or keeps a port.
    let (mut held, mut listener) = (None, None);
    let host = match wrong {
        Wrong::Key => {
            let keygen = common::process::run(
                pooled::command("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(&key),
                Duration::from_secs(20),
            );
            assert_eq!(keygen.code(), 0, "{}", keygen.stderr);
            bare().identity_file(&key)
        }
        Wrong::HostKeyChanged => {
            sshd.change_host_keys();
            Ok(host)
        }
        Wrong::HostKeyUnknown => host
            .option("UserKnownHostsFile", directory.path().join("none").to_string_lossy())
            .and_then(|host| host.option("StrictHostKeyChecking", "yes")),
        Wrong::NothingListens => {
            sshd.kill();
            Ok(host)
        }
        Wrong::NobodyAnswers => {
            // The system accepts the connection, and nobody ever writes to it.
            let bound = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = bound.local_addr().expect("it has one").port();
            listener = Some(bound);
            host.port(port)
        }
        Wrong::Name => host.address("no-such-host.invalid"),
        Wrong::KeyTooOpen => {
            write_key(&good_key, 0o644);
            bare().identity_file(&key)
        }
        Wrong::KeyMissing => bare().identity_file(&key),
        Wrong::KeyUnreadableAsKey => {
            write_key(b"this is not a key\n", 0o600);
            bare().identity_file(&key)
        }
        Wrong::Algorithms => host.option("KexAlgorithms", "diffie-hellman-group1-sha1"),
        Wrong::OptionUnknown => host.option("NoSuchOption", "1"),
        Wrong::TooManyLogins => {
            let mut stream = TcpStream::connect(("127.0.0.1", sshd.port())).expect("it listens");
            // Once it has greeted, it counts as a login that is not finished.
            stream.read_exact(&mut [0; 4]).expect("it greets");
            held = Some(stream);
            Ok(host)
        }
        Wrong::ConfigMissing => {
            Host::new("lab").and_then(|host| host.config_file("/nonexistent/ssh_config"))
        }
        Wrong::NothingRuns => Ok(host),
    }
    .expect("a valid host");

    let patience = match kind {
        // There is a login before it, which takes its time on a busy machine.
        Kind::TimedOut if matches!(wrong, Wrong::NothingRuns) => Duration::from_secs(5),
        Kind::TimedOut => Duration::from_secs(1),
        _ => config().connect_timeout,
    };
    let pool = pool(config().connect_timeout(patience));
    let error = pool.exec(&host, "true").await.expect_err("it cannot connect");
    assert!(error.never_started());
    let Error::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), kind, "{error}");
    let message = error.to_string();
    assert!(message.starts_with("lab: cannot connect: ") && message.contains(text), "{message}");
    assert!(!message.contains('\n'), "{message}");
    // The next caller is told the same at once, and the server is left alone.
    let connections = || sshd.log().matches("Connection from").count();
    let before = connections();
    let again = pool.exec(&host, "true").await.expect_err("it backs off");
    let told = again.to_string();
    assert!(told.starts_with(&message), "{told}");
    // What is wrong with the configuration is known before a login is tried, and is not remembered.
    let tried = usize::from(kind != Kind::BadOption && !matches!(wrong, Wrong::KeyMissing));
    assert_eq!((connections(), pool.stats().failed_connects), (before, tried as u64));
    let Error::Connect { source, .. } = &again else { panic!("{again:?}") };
    assert_eq!(source.tried_ago().is_some(), tried == 1);
    assert_eq!(told.ends_with("; `Pool::reset` tries now)"), tried == 1, "{told}");
    drop((held, listener));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_storm_of_callers_makes_one_failed_login() {
    let sshd = Sshd::builder().option("AuthorizedKeysFile", "none").start();
    let (pool, host) = (pool(config()), host(&sshd));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (pool, host) = (pool.clone(), host.clone());
        tasks.spawn(async move { pool.exec(&host, "true").await });
    }
    for result in tasks.join_all().await {
        let Err(Error::Connect { source, .. }) = &result else { panic!("{result:?}") };
        assert_eq!(source.kind(), Kind::Authentication);
    }
    assert_eq!(sshd.log().matches("Connection from").count(), 1);
    assert_eq!(pool.stats().failed_connects, 1);
    pool.close().await;
}

/// What the server sees of a pool whose key is wrong: a login, one more after a second, and none
/// for the next half of a minute, until the key is another file or somebody says that it is worth
/// trying.
#[rstest]
#[tokio::test]
async fn a_wrong_key_is_few_logins_until_something_changes(#[values(false, true)] reset: bool) {
    let sshd = Sshd::builder().start();
    let directory = tempfile::tempdir().expect("a directory");
    let key = directory.path().join("key");
    let generated = pooled::command("ssh-keygen")
        .args(["-q", "-N", "", "-t", "ed25519", "-f"])
        .arg(&key)
        .status();
    assert!(generated.expect("ssh-keygen starts").success());
    // ssh would offer the key that it finds there.
    fs::remove_file(key.with_extension("pub")).expect("it was written");
    let text = fs::read_to_string(sshd.ssh_config()).expect("the configuration");
    let right = sshd.identity_file();
    let text = text.replace(&*right.to_string_lossy(), &key.to_string_lossy());
    fs::write(directory.path().join("config"), text).expect("a file can be written");
    let host =
        pooled::host_of(&directory.path().join("config")).identity_file(&key).expect("valid");
    let pool = pool(config());
    let fails = || async {
        let Err(Error::Connect { source, .. }) = pool.exec(&host, "true").await else {
            panic!("a wrong key")
        };
        assert_eq!(source.kind(), Kind::Authentication);
    };
    let deadline = Instant::now() + Duration::from_secs(6);
    while Instant::now() < deadline {
        fails().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let logins = || sshd.log().matches("Connection from").count();
    assert_eq!(logins(), 2);
    if reset {
        pool.reset(&host);
        fails().await;
    } else {
        fs::copy(&right, &key).expect("a file can be written");
        pool.exec(&host, "true").await.expect("the key is right now");
    }
    assert_eq!(logins(), 3);
    pool.close().await;
}

/// OpenSSH 9.8 and later turn an address away for a while after a failed login, before it says who
/// it is. Here that is the server of Debian trixie, whatever the others are.
#[rstest]
#[tokio::test]
async fn a_penalty_is_told_and_waited_for() {
    let penalties = Sshd::builder()
        .image(Image::Compose)
        .option("PerSourcePenalties", "authfail:6 noauth:6 min:1 max:6");
    let Some(sshd) = penalties.start_or_skip() else { return };
    let (pool, host) = (pool(config()), host(&sshd));
    let stranger = host.clone().user("nobody-here").expect("a valid user");
    let error = pool.exec(&stranger, "true").await.expect_err("there is no such account");
    let Error::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), Kind::Authentication, "{error}");

    wait_for_async("the penalty", pooled::PATIENCE, || sshd.log().contains("penalty")).await;
    let logins = || sshd.log().matches("Connection from").count();
    let dropped = || sshd.log().matches("drop connection ").count();
    let error = pool.exec(&host, "true").await.expect_err("the address is turned away");
    let Error::Connect { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), Kind::ServerBusy, "{error}");
    assert!(error.to_string().contains("PerSourcePenalties"), "{error}");
    // Whoever calls meanwhile is told the same, and the server is asked again at longer and longer
    // intervals.
    let served = async {
        let mut calls = 0;
        while let Err(again) = pool.exec(&host, "true").await {
            assert!(
                matches!(&again, Error::Connect { source, .. } if source.kind() == Kind::ServerBusy),
                "{again}"
            );
            calls += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        calls
    };
    let calls = tokio::time::timeout(pooled::PATIENCE, served).await.expect("the penalty ends");
    assert!(calls > 0 && dropped() < 10, "{calls} calls, {} connections", dropped());
    assert_eq!((logins(), sshd.logins()), (2, 1));
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_new_host_key_is_accepted_and_remembered_unless_the_configuration_says_otherwise() {
    let sshd = Sshd::builder().start();
    let directory = tempfile::tempdir().expect("a directory");
    let known = directory.path().join("known_hosts");
    let host =
        host(&sshd).option("UserKnownHostsFile", known.to_string_lossy()).expect("a valid option");
    let pool = pool(config());
    let strict = host.clone().option("StrictHostKeyChecking", "yes").expect("a valid option");
    let error = pool.exec(&strict, "true").await.expect_err("the key is unknown");
    assert!(
        matches!(&error, Error::Connect { source, .. } if source.kind() == Kind::HostKeyUnknown),
        "{error}"
    );
    pool.exec(&host, "true").await.expect("a new key is accepted");
    wait_for("the key in known_hosts", pooled::PATIENCE, || {
        fs::read_to_string(&known).is_ok_and(|text| text.contains("ssh-ed25519"))
    });
    pool.close().await;
}

/// ssh prints its default and an explicit `ask` alike, and only the first is ours to decide.
#[rstest]
#[tokio::test]
async fn a_configuration_that_asks_about_host_keys_is_respected() {
    let sshd = Sshd::builder().start();
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        let rest = fs::read_to_string(sshd.ssh_config()).expect("it is there");
        let rest = rest.replace("StrictHostKeyChecking accept-new", "");
        let known = directory.path().join(format!("known {name}"));
        let rest = rest.replace(&*sshd.known_hosts().to_string_lossy(), &known.to_string_lossy());
        fs::write(&path, format!("{text}\n{rest}")).expect("a file");
        (pooled::host_of(&path), known)
    };
    let pool = pool(config());
    let (asks, known) = file("asks", "StrictHostKeyChecking ask");
    let error = pool.exec(&asks, "true").await.expect_err("nobody can answer");
    assert!(
        matches!(&error, Error::Connect { source, .. } if source.kind() == Kind::HostKeyUnknown),
        "{error}"
    );
    assert!(!known.exists());
    let (says_nothing, known) = file("says nothing", "");
    pool.exec(&says_nothing, "true").await.expect("a new key is accepted");
    assert!(known.exists());
    pool.close().await;
}

/// The configuration is read before the login, and can run programs.
#[rstest]
#[tokio::test]
async fn a_program_of_the_configuration_has_no_more_time_than_the_login() {
    let sshd = Sshd::builder().start();
    let directory = tempfile::tempdir().expect("a directory");
    let mark = format!("300.{}", sshd.port());
    let with = |program: &str| {
        let path = directory.path().join(program.replace(['/', ' ', '(', ')', '&', ';', '"'], "_"));
        let rest = fs::read_to_string(sshd.ssh_config()).expect("it is there");
        fs::write(
            &path,
            format!("Match originalhost lab exec \"{program}\"\n    Compression yes\n{rest}"),
        )
        .expect("a file");
        pooled::host_of(&path)
    };
    let settings = config().connect_timeout(Duration::from_secs(3));
    let pool = pool(settings);
    // What it leaves in the background is nobody's affair, even if it holds ssh's own outputs.
    pool.exec(&with("(sleep 5 &) ; true"), "true").await.expect("it works as with ssh");
    let error = pool.exec(&with(&format!("sleep {mark}")), "true").await.expect_err("it hangs");
    assert!(
        matches!(&error, Error::Connect { source, .. } if source.kind() == Kind::TimedOut),
        "{error}"
    );
    wait_for("the end of the program", pooled::PATIENCE, || {
        pooled::processes_with(&mark).is_empty()
    });
    pool.close().await;
}

#[rstest]
#[tokio::test]
async fn a_key_may_have_any_name() {
    let sshd = Sshd::builder().start();
    let directory = tempfile::tempdir().expect("a directory");
    for name in ["100%", "a b", "%h", "it's", "~x"] {
        let key = directory.path().join(name);
        fs::copy(sshd.identity_file(), &key).expect("it is copied, with its mode");
        let host = Host::new("127.0.0.1")
            .and_then(|host| host.port(sshd.port()))
            .and_then(|host| host.user(sshd.user()))
            .and_then(|host| host.config_file("none"))
            .and_then(|host| host.identity_file(&key))
            .and_then(|host| {
                host.option("UserKnownHostsFile", sshd.known_hosts().to_string_lossy())
            })
            .expect("a valid host");
        let pool = pool(config());
        pool.exec(&host, "true").await.unwrap_or_else(|error| panic!("{name}: {error}"));
        pool.close().await;
    }
}

#[rstest]
#[case("false", "ProxyCommand false failed: ")]
#[case("no-such-program", "not found")]
#[tokio::test]
async fn a_proxy_that_fails_is_not_a_busy_server(#[case] program: &str, #[case] text: &str) {
    let sshd = Sshd::builder().start();
    let host = host(&sshd).option("ProxyCommand", program).expect("a valid option");
    let pool = pool(config());
    let error = pool.exec(&host, "true").await.expect_err("there is no way");
    assert!(
        matches!(&error, Error::Connect { source, .. } if source.kind() == Kind::Other),
        "{error}"
    );
    assert!(error.to_string().contains(text), "{error}");
    pool.close().await;
}
