//! What was refused is remembered, not invented: part C of what the field showed. A login that has
//! failed is tried again when somebody may have mended it, and no account sees more failures than
//! its server bears.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rstest::rstest;
use serde_json::json;

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for;
use crate::lab::pooled::{self, PATIENCE, command};

/// A server, and a configuration for it that a test writes.
struct Lab {
    sshd: Arc<Sshd>,
    home: Home,
    files: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let files = tempfile::Builder::new().prefix("refusals-").tempdir().expect("a directory");
        let lab = Lab { sshd: Arc::new(Sshd::builder().start()), home: Home::new(), files };
        let made = run(
            command("ssh-keygen")
                .args(["-q", "-N", "", "-t", "ed25519", "-f"])
                .arg(lab.path("wrong")),
            PATIENCE,
        );
        assert_eq!(made.code(), 0, "{}", made.stderr);
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    /// A configuration in which this server is `h1` and `h2` and so on.
    fn config(&self, more: &str) {
        let (port, user) = (self.sshd.port(), self.sshd.user());
        let known = self.sshd.known_hosts();
        self.write(
            "config",
            &format!(
                "{more}\nHost h*\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentitiesOnly yes\n  \
                 UserKnownHostsFile {}\n  GlobalKnownHostsFile none\n",
                known.display()
            ),
        );
    }

    /// The same, with a key.
    fn config_with_key(&self, key: &Path) {
        self.config(&format!("IdentityFile {}", key.display()));
    }

    fn on(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(["-F".as_ref(), self.path("config").as_os_str()]);
        command.args(args);
        command
    }

    fn exec(&self) -> Ended {
        run(&mut self.on(&["exec", "h1", "--", "true"]), PATIENCE)
    }

    /// Plain ssh in the same place. It is asked only where it succeeds: each failure would count at
    /// a server.
    #[track_caller]
    fn plain_ssh_succeeds(&self) {
        let mut ssh = command("ssh");
        ssh.arg("-F").arg(self.path("config")).args(["-o", "BatchMode=yes", "h1", "true"]);
        let ended = run(&mut ssh, PATIENCE);
        assert_eq!(ended.code(), 0, "{}", ended.stderr);
    }

    /// The command fails for this reason, and an answer from memory says that it is one.
    #[track_caller]
    fn fails(&self, reason: &str) {
        let ended = self.exec();
        assert_eq!(ended.code(), 255, "{}", ended.stderr);
        assert!(ended.stderr.contains(reason), "{}", ended.stderr);
    }

    /// Fails until the pause is one of 30 s: nothing that comes soon after that is due to time.
    #[track_caller]
    fn fails_twice(&self, reason: &str) {
        self.fails(reason);
        let started = Instant::now();
        let mut fresh = 1;
        while fresh < 2 {
            assert!(started.elapsed() < PATIENCE, "the pause after the first failure does not end");
            let ended = self.exec();
            assert!(ended.code() == 255 && ended.stderr.contains(reason), "{}", ended.stderr);
            match ended.stderr.contains("next try in") {
                true => assert!(
                    ended.stderr.contains("\"sshpool warm h1\" tries now)"),
                    "{}",
                    ended.stderr
                ),
                false => fresh += 1,
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    #[track_caller]
    fn succeeds(&self) {
        let ended = self.exec();
        assert_eq!((ended.code(), &*ended.stderr), (0, ""));
    }

    /// Keys that may log in: none, until what it gives is written back.
    fn authorizes_nobody(&self) -> (PathBuf, String) {
        let key = self.sshd.identity_file();
        let authorized = key.parent().and_then(Path::parent).expect("they are in a directory");
        let authorized = authorized.join("server/authorized_keys");
        let text = fs::read_to_string(&authorized).expect("it is there");
        fs::write(&authorized, "").expect("it can be written");
        (authorized, text)
    }

    /// Logins that the server has refused.
    fn refused(&self) -> usize {
        let log = self.sshd.log();
        let failed = log.lines().filter(|line| line.starts_with("Failed publickey for "));
        // Each key that is offered is a line; a login has a port.
        let port = |line: &str| {
            line.split(" port ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned)
        };
        failed.filter_map(port).collect::<BTreeSet<_>>().len()
    }
}

/// Failed logins of an account in ten minutes, at most.
const MOST: usize = 4;

const REFUSED: &str = "authentication failed";

/// What was mended on the server nobody sees. The first pause is short for its sake.
#[test]
fn c1_a_key_that_was_added_on_the_server_works_a_second_later() {
    let lab = Lab::new();
    lab.config_with_key(&lab.sshd.identity_file());
    let (authorized, text) = lab.authorizes_nobody();
    lab.fails(REFUSED);
    fs::write(authorized, text).expect("it can be written");
    lab.plain_ssh_succeeds();
    let mended = Instant::now();
    wait_for("the next try", PATIENCE, || lab.exec().code() == 0);
    assert!(mended.elapsed() < Duration::from_secs(25), "after the first pause, not a later one");
    assert_eq!(lab.refused(), 1);
}

#[derive(Clone, Copy, Debug)]
enum Key {
    /// `ssh-add` into the agent that had been asked.
    IntoTheAgent,
    /// The file that the configuration names has the right key now.
    FileReplaced,
    /// It was not there.
    FileAdded,
    /// The configuration names another file.
    AnotherFile,
    /// A file that the configuration includes does.
    IncludedFile,
}

#[rstest]
#[case::into_the_agent(Key::IntoTheAgent)]
#[case::file_replaced(Key::FileReplaced)]
#[case::file_added(Key::FileAdded)]
#[case::another_file(Key::AnotherFile)]
#[case::c2_included_file(Key::IncludedFile)]
fn c1_a_key_that_was_mended_here_works_at_once(#[case] mended: Key) {
    let lab = Lab::new();
    let (good, wrong, named) = (lab.sshd.identity_file(), lab.path("wrong"), lab.path("named"));
    let mut agent = None;
    match mended {
        Key::IntoTheAgent => {
            let socket = lab.path("agent");
            let started = run(command("ssh-agent").arg("-a").arg(&socket), PATIENCE);
            let pid = started
                .stdout
                .split("SSH_AGENT_PID=")
                .nth(1)
                .and_then(|rest| rest.split(';').next());
            agent = pid.and_then(|pid| pid.parse::<u32>().ok());
            assert!(agent.is_some(), "{}", started.stdout);
            lab.config(&format!(
                "IdentityAgent {}\nIdentitiesOnly no\nIdentityFile none",
                socket.display()
            ));
        }
        Key::FileReplaced => {
            fs::copy(&wrong, &named).expect("a file");
            lab.config_with_key(&named);
        }
        Key::FileAdded => lab.config_with_key(&named),
        Key::AnotherFile => lab.config_with_key(&wrong),
        Key::IncludedFile => {
            lab.write("included", &format!("IdentityFile {}\n", wrong.display()));
            lab.config(&format!("Include {}", lab.path("included").display()));
        }
    }
    lab.fails_twice(if matches!(mended, Key::FileAdded) { "bad identity file" } else { REFUSED });
    match mended {
        Key::IntoTheAgent => {
            let add = run(
                command("ssh-add").arg("-q").arg(&good).env("SSH_AUTH_SOCK", lab.path("agent")),
                PATIENCE,
            );
            assert_eq!(add.code(), 0, "{}", add.stderr);
        }
        Key::FileReplaced | Key::FileAdded => drop(fs::copy(&good, &named).expect("a file")),
        Key::AnotherFile => lab.config_with_key(&good),
        Key::IncludedFile => lab.write("included", &format!("IdentityFile {}\n", good.display())),
    }
    lab.plain_ssh_succeeds();
    lab.succeeds();
    assert!(lab.refused() <= 2);
    agent.into_iter().for_each(pooled::kill);
}

#[derive(Clone, Copy, Debug)]
enum HostKey {
    /// `ssh-keygen -R` on the file that the configuration names.
    Removed,
    /// The right one is added to that file.
    Added,
    /// An included file names another one.
    AnotherFile,
}

#[rstest]
#[case::removed(HostKey::Removed, "the host key has changed")]
#[case::added(HostKey::Added, "the host key is unknown")]
#[case::another_file(HostKey::AnotherFile, "the host key is unknown")]
fn c2_a_host_key_that_was_mended_here_is_accepted_at_once(
    #[case] mended: HostKey,
    #[case] reason: &str,
) {
    let lab = Lab::new();
    let (known, right) =
        (lab.path("known"), fs::read_to_string(lab.sshd.known_hosts()).expect("it is there"));
    let place = format!("[127.0.0.1]:{}", lab.sshd.port());
    let before = match mended {
        HostKey::Removed => {
            let other = fs::read_to_string(lab.path("wrong.pub")).expect("it was made");
            format!("{place} {other}")
        }
        HostKey::Added | HostKey::AnotherFile => String::new(),
    };
    fs::write(&known, before).expect("a file");
    let strict = if matches!(mended, HostKey::Removed) { "accept-new" } else { "yes" };
    lab.write("included", &format!("UserKnownHostsFile {}\n", known.display()));
    lab.config(&format!(
        "Include {}\nIdentityFile {}\nStrictHostKeyChecking {strict}",
        lab.path("included").display(),
        lab.sshd.identity_file().display()
    ));
    lab.fails_twice(reason);
    match mended {
        HostKey::Removed => {
            let removed =
                run(command("ssh-keygen").args(["-R", &place, "-f"]).arg(&known), PATIENCE);
            assert_eq!(removed.code(), 0, "{}", removed.stderr);
        }
        HostKey::Added => fs::write(&known, right).expect("a file"),
        HostKey::AnotherFile => {
            lab.write(
                "included",
                &format!("UserKnownHostsFile {}\n", lab.sshd.known_hosts().display()),
            );
        }
    }
    lab.succeeds();
    lab.plain_ssh_succeeds();
}

#[derive(Clone, Copy, Debug)]
enum Wish {
    Close,
    CloseAll,
    Warm,
    Connect,
}

/// Nobody here sees that it was mended, and the pause is one of 30 s: only who says so has it
/// tried.
#[rstest]
#[case::close(Wish::Close)]
#[case::close_all(Wish::CloseAll)]
#[case::warm(Wish::Warm)]
#[case::connect(Wish::Connect)]
fn c3_who_wants_it_tried_has_it_tried(#[case] wish: Wish) {
    let lab = Lab::new();
    lab.config_with_key(&lab.sshd.identity_file());
    let (authorized, text) = lab.authorizes_nobody();
    lab.fails_twice(REFUSED);
    fs::write(authorized, text).expect("it can be written");
    lab.fails("next try in");
    let ended = match wish {
        Wish::Close => run(&mut lab.on(&["close", "h1"]), PATIENCE),
        Wish::CloseAll => run(&mut lab.on(&["close", "--all"]), PATIENCE),
        Wish::Warm => run(&mut lab.on(&["warm", "h1"]), PATIENCE),
        Wish::Connect => {
            let host = json!({"name": "h1", "ssh_config": lab.path("config")});
            let answer = lab.home.post("/v1/connect", &json!({"host": host, "retry": true})).json();
            assert!(answer["pid"].is_u64(), "{answer}");
            lab.succeeds();
            return;
        }
    };
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    lab.succeeds();
    assert_eq!(lab.refused(), 2);
}

/// The agent's answer has for programs what its message has for people.
#[test]
fn c3_a_remembered_answer_says_when_it_was_tried_and_when_it_will_be() {
    let lab = Lab::new();
    lab.config_with_key(&lab.path("wrong"));
    lab.fails(REFUSED);
    let host = json!({"name": "h1", "ssh_config": lab.path("config")});
    // Its first login is one of its own: nothing is known of the place of a client that says
    // nothing of it.
    let error = || {
        lab.home.post("/v1/exec", &json!({"host": host, "command": "true"})).json()["error"].clone()
    };
    assert!(error()["tried_ms_ago"].is_null());
    // On a slow machine the first pauses may be over by then, and the longer ones are not.
    let error = (0..MOST).map(|_| error()).find(|error| !error["tried_ms_ago"].is_null());
    let error = error.expect("an answer from memory");
    let (ago, next) = (error["tried_ms_ago"].as_u64(), error["next_try_in_ms"].as_u64());
    let (Some(ago), Some(next)) = (ago, next) else { panic!("{error}") };
    assert!(next > 0 && ago < 600_000, "{error}");
    let message = error["message"].as_str().expect("a text");
    assert!(message.ends_with("; \"sshpool warm h1\" tries now)"), "{message}");
}

/// Passes connections on to a server until it has let somebody in, and closes them so much later.
struct Dropper {
    port: u16,
    over: Arc<AtomicBool>,
}

impl Dropper {
    fn start(sshd: Arc<Sshd>, after: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it has one").port();
        let (over, open) =
            (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<TcpStream>>>::default());
        let (stops, watched, to) = (Arc::clone(&over), Arc::clone(&open), sshd.port());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to)))
                else {
                    break;
                };
                for (mut from, mut to) in [
                    (client.try_clone().expect("a handle"), server.try_clone().expect("a handle")),
                    (server.try_clone().expect("a handle"), client.try_clone().expect("a handle")),
                ] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                open.lock().expect("nobody panics").extend([client, server]);
            }
        });
        std::thread::spawn(move || {
            let mut seen = sshd.logins();
            while !stops.load(Ordering::Relaxed) {
                let logins = sshd.logins();
                if logins > seen {
                    seen = logins;
                    std::thread::sleep(after);
                    for stream in watched.lock().expect("nobody panics").drain(..) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Dropper { port, over }
    }
}

/// A server that takes logins and closes each connection a moment later.
#[rstest]
#[case::at_once(0)]
#[case::a_moment_later(20)]
fn c4_a_server_that_drops_what_has_logged_in_sees_few_logins(#[case] after: u64) {
    let lab = Lab::new();
    let dropper = Dropper::start(Arc::clone(&lab.sshd), Duration::from_millis(after));
    lab.config_with_key(&lab.sshd.identity_file());
    let text = fs::read_to_string(lab.path("config")).expect("it is there");
    // The host key is known under the port of the server.
    let known_as = format!("HostKeyAlias [127.0.0.1]:{}\n{text}", lab.sshd.port());
    lab.write(
        "config",
        &format!("Host d1\n  HostName 127.0.0.1\n  Port {}\nHost *\n{known_as}", dropper.port),
    );
    lab.write(
        "config",
        &fs::read_to_string(lab.path("config"))
            .expect("it is there")
            .replace("\nHost h*\n", "\nHost *\n"),
    );
    let started = Instant::now();
    let (mut told, mut ran) = (BTreeSet::new(), 0);
    while started.elapsed() < Duration::from_secs(15) {
        let ended = run(&mut lab.on(&["exec", "d1", "--", "true"]), PATIENCE);
        match ended.code() {
            0 => ran += 1,
            _ => drop(told.insert(ended.stderr)),
        }
    }
    dropper.over.store(true, Ordering::Relaxed);
    let logins = lab.sshd.logins();
    // A command that was quicker than the drop shows that the server is not to be left alone.
    assert!((1..=12 + ran).contains(&logins), "{logins} logins, {ran} commands: {told:?}");
    // It is well again, and somebody says so.
    let ended = run(&mut lab.on(&["warm", "d1"]), PATIENCE);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!(run(&mut lab.on(&["exec", "d1", "--", "true"]), PATIENCE).code(), 0);
}

#[rstest]
#[case::one_after_another("1")]
#[case::at_once("20")]
fn c1_twenty_names_of_one_account_with_a_wrong_key_are_four_failures(#[case] at_once: &str) {
    let lab = Lab::new();
    lab.config_with_key(&lab.path("wrong"));
    let ended = run(&mut lab.on(&["run", "-f", at_once, "-w", "h[1-20]", "--", "true"]), PATIENCE);
    assert_eq!(ended.code(), 255, "{}", ended.stderr);
    assert_eq!(lab.refused(), MOST, "{}", ended.stderr);
    assert!(ended.stderr.contains("too many failed logins: 4 logins to "), "{}", ended.stderr);
    // Who has a good key hears what the matter is, and how to go on.
    lab.config_with_key(&lab.sshd.identity_file());
    lab.fails("one more could get the account locked");
    let ended = run(&mut lab.on(&["warm", "h1"]), PATIENCE);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    lab.succeeds();
    assert_eq!(lab.refused(), MOST);
}

/// Names of one account with a good key are not held back by each other.
#[test]
fn c1_twenty_names_of_one_account_with_a_good_key_all_connect() {
    let lab = Lab::new();
    lab.config_with_key(&lab.sshd.identity_file());
    let ended = run(&mut lab.on(&["run", "-f", "20", "-w", "h[1-20]", "--", "true"]), PATIENCE);
    assert_eq!(ended.code(), 0, "{}", ended.stderr);
    assert_eq!((lab.sshd.logins(), lab.refused()), (20, 0));
}
