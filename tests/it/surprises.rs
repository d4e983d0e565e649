//! A user's ssh_config with surprises for every host. What makes a pool's connections work is not
//! theirs to decide: commands run as they were given, over one login, and nothing else is opened,
//! run or left behind.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use rstest::rstest;
use sshpool::Lease;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for_async;
use crate::lab::pooled::{PATIENCE, config, host_of, is_alive, pool, processes_with};

/// Where a surprise would leave its traces.
struct Traces {
    directory: TempDir,
    /// For forwards: free, and to stay so.
    ports: [u16; 3],
}

impl Traces {
    fn new() -> Self {
        // All at once, so that they are different ones.
        let held = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let ports = held.each_ref().map(|held| held.local_addr().expect("it has one").port());
        Traces { directory: tempfile::tempdir().expect("a directory"), ports }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The user's configuration with these lines for every host, before everything else.
    fn config(&self, sshd: &Sshd, lines: &str) -> PathBuf {
        let [local, remote, dynamic] = self.ports.map(|port| port.to_string());
        let lines = lines
            .replace("DIRECTORY", &self.directory.path().to_string_lossy())
            .replace("LOCAL", &local)
            .replace("REMOTE", &remote)
            .replace("DYNAMIC", &dynamic);
        let path = self.path("config");
        let rest = fs::read_to_string(sshd.ssh_config()).expect("it is there");
        fs::write(&path, format!("Host *\n{lines}\n{rest}")).expect("it is written");
        path
    }

    fn assert_none(&self) {
        let names = fs::read_dir(self.directory.path()).expect("it is there").flatten();
        let names: Vec<_> =
            names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["config"]);
        // What listens on them keeps them from us.
        for port in self.ports {
            TcpListener::bind(("127.0.0.1", port)).expect("no forward was opened");
        }
    }
}

/// The parent of a process.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The directory of the control sockets, by the command line of a master.
fn sockets_of(lease: &Lease) -> String {
    let line = fs::read(format!("/proc/{}/cmdline", lease.master_pid())).expect("it runs");
    let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
    let at = words.iter().position(|word| word == "-S").expect("it has a socket");
    words[at + 1].rsplit_once('/').expect("a path").0.to_owned()
}

const REMOTE_COMMAND: &str = "RemoteCommand touch ~/surprise; echo surprise\n";
const TTY: &str = "RequestTTY force\n";
const MASTERS: &str = "ControlMaster auto\nControlPath DIRECTORY/%C\nControlPersist yes\n";
const QUIET: &str = "LogLevel QUIET\n";
const FORWARDS: &str =
    "LocalForward LOCAL 127.0.0.1:9\nRemoteForward REMOTE 127.0.0.1:9\nDynamicForward DYNAMIC\n";
const TUNNEL: &str = "Tunnel yes\nExitOnForwardFailure yes\n";
const LOCAL_COMMAND: &str = "PermitLocalCommand yes\nLocalCommand touch DIRECTORY/local\n";
const BACKGROUND: &str = "ForkAfterAuthentication yes\nStdinNull yes\nSessionType none\n";
const ENVIRONMENT: &str =
    "SendEnv *\nSetEnv LANG=surprise\nForwardAgent yes\nForwardX11 yes\nForwardX11Trusted yes\n";
const PATIENT: &str = "ConnectTimeout 0\nConnectionAttempts 5\nServerAliveInterval 0\nBatchMode no\nVisualHostKey yes\nEscapeChar none\n";

#[rstest]
#[case::remote_command(&[REMOTE_COMMAND])]
#[case::tty(&[TTY])]
#[case::tty_and_command(&[TTY, REMOTE_COMMAND])]
#[case::control_master(&["ControlMaster auto\n"])]
#[case::control_path(&["ControlPath DIRECTORY/%C\n"])]
#[case::control_persist(&["ControlPersist yes\n"])]
#[case::masters(&[MASTERS])]
#[case::quiet(&[QUIET])]
#[case::forwards(&[FORWARDS])]
#[case::forwards_that_must_work(&[FORWARDS, "ExitOnForwardFailure yes\nGatewayPorts yes\n"])]
#[case::a_tunnel(&[TUNNEL])]
#[case::local_command(&[LOCAL_COMMAND])]
#[case::background(&[BACKGROUND])]
#[case::environment(&[ENVIRONMENT])]
#[case::patient(&[PATIENT])]
#[case::all(&[REMOTE_COMMAND, TTY, MASTERS, QUIET, FORWARDS, TUNNEL, LOCAL_COMMAND, BACKGROUND, ENVIRONMENT, PATIENT])]
#[tokio::test]
async fn a_users_surprises_are_none_to_the_pool(
    #[case] lines: &[&str],
    #[values(0, 2)] standby_sessions: usize,
) {
    let (sshd, traces) = (Sshd::builder().start(), Traces::new());
    let (config_file, settings) =
        (traces.config(&sshd, &lines.concat()), config().standby_sessions(standby_sessions));
    let (pool, host) = (pool(settings), host_of(&config_file));
    let lease =
        timeout(PATIENCE, pool.acquire(&host)).await.expect("in time").expect("it connects");
    let (master, sockets) = (lease.master_pid(), sockets_of(&lease));
    drop(lease);

    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let text = "echo out; echo err >&2; [ -t 0 ] || [ -t 1 ] || echo \"$LANG\"; exit 3";
    // The environment is the user's to decide about, and as it is with plain ssh.
    let out = format!("out\n{}\n", if lines.contains(&ENVIRONMENT) { "surprise" } else { "" });
    for _ in 0..3 {
        let output = pool.shell(&host, text).output().await.expect("it runs");
        let parts = (output.status.code(), &*output.stdout, &*output.stderr);
        assert_eq!(parts, (Some(3), out.as_bytes(), &b"err\n"[..]));
        let output = pool.shell(&host, "cat").stdin(bytes.clone()).output().await.expect("it runs");
        assert!(output.stdout == bytes && output.stderr.is_empty(), "not a byte is changed");
        wait_for_async("the sessions in standby", PATIENCE, || {
            pool.stats().standby_sessions == standby_sessions
        })
        .await;
    }
    let killed = pool.shell(&host, "kill -9 $$").output().await.expect("it runs");
    assert_eq!(killed.status.code(), None);

    // The master is our child still, and nothing that was not asked for is there.
    assert!(is_alive(master) && parent(master) == Some(std::process::id()));
    assert_eq!((sshd.logins(), pool.stats().total_connections), (1, 1));
    assert_eq!(sshd.exec("ls ~").stdout, "");
    traces.assert_none();
    pool.close().await;
    assert!(!is_alive(master) && !fs::exists(&sockets).expect("it can be looked at"));
    assert_eq!(
        (processes_with(&sockets), processes_with(&config_file.to_string_lossy())),
        (vec![], vec![])
    );
    traces.assert_none();
}
