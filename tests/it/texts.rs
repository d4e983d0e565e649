//! What people are told when a login fails: the line of ssh that names the cause, as plain ssh writes it in the same place, and an advice that
//! fits it. Tests are named after the cases of the list of what the field showed.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::{Value, json};

use crate::lab::agents::Home;
use crate::lab::common::process::{Ended, run};
use crate::lab::common::sshd::{Builder, Sshd};
use crate::lab::pooled::{PATIENCE, command};

/// A server, and an ssh_config of the test's own in which it is `lab`.
struct Lab {
    sshd: Sshd,
    home: Home,
    agent: Option<PathBuf>,
    /// A file of the server's, which goes with it.
    file_there: Option<String>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A test that has failed already must not panic a second time.
        if let Some(file) = self.file_there.take().filter(|_| !std::thread::panicking()) {
            self.sshd.exec(&format!("rm {file}"));
        }
    }
}

impl Lab {
    fn new(builder: Builder) -> Self {
        Lab { sshd: builder.start(), home: Home::new(), agent: None, file_there: None }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("ssh_config")
    }

    /// The address, port and user of the server, for a block of ssh_config.
    fn place(&self) -> String {
        let (port, user) = (self.sshd.port(), self.sshd.user());
        format!("HostName 127.0.0.1\nPort {port}\nUser {user}\n")
    }

    fn key(&self) -> String {
        format!("IdentityFile \"{}\"\nIdentitiesOnly yes\n", self.sshd.identity_file().display())
    }

    fn known(&self) -> String {
        format!(
            "UserKnownHostsFile \"{}\"\nGlobalKnownHostsFile /dev/null\n",
            self.sshd.known_hosts().display()
        )
    }

    /// Another known_hosts file, with this text.
    fn knows(&self, text: &str) -> String {
        let file = self.file("known_hosts", text);
        format!("UserKnownHostsFile \"{}\"\nGlobalKnownHostsFile /dev/null\n", file.display())
    }

    /// What known_hosts has: name, type and key of the server.
    fn host_key(&self) -> String {
        fs::read_to_string(self.sshd.known_hosts()).expect("the fixture has one").trim().to_owned()
    }

    /// The configuration, in which these lines come before the server's place.
    fn says(&self, lines: &str) {
        self.file("ssh_config", &format!("Host lab\n{lines}{}", self.place()));
    }

    fn in_its_place(&self, mut command: Command) -> Command {
        match &self.agent {
            None => command.env_remove("SSH_AUTH_SOCK"),
            Some(socket) => command.env("SSH_AUTH_SOCK", socket),
        };
        command
    }

    /// What plain ssh says.
    #[track_caller]
    fn plain(&self) -> Ended {
        let mut ssh = self.home.in_its_place(command("ssh"), ["-F"]);
        ssh.arg(self.config()).args(["-o", "BatchMode=yes", "lab", "true"]);
        run(&mut self.in_its_place(ssh), PATIENCE)
    }

    #[track_caller]
    fn ours(&self, words: &[&str]) -> Ended {
        let mut ours = self.home.command(["-F"]);
        ours.arg(self.config()).args(words);
        run(&mut self.in_its_place(ours), PATIENCE)
    }

    /// exec cannot connect, and says so in one line that has the line by which plain ssh names the cause, and this advice.
    #[track_caller]
    fn told(&self, telling: &str, advice: &str) -> String {
        let plain = self.plain();
        assert_eq!(plain.code(), 255, "{plain:?}");
        let line = plain.stderr.lines().map(str::trim).find(|line| line.contains(telling));
        let line =
            line.unwrap_or_else(|| panic!("plain ssh does not say {telling:?}: {}", plain.stderr));
        let line = line.trim_start_matches("ssh: ").trim_start_matches("Warning: ");
        let ours = self.ours(&["--no-agent", "exec", "lab", "--", "true"]);
        assert_eq!((ours.code(), &*ours.stdout), (255, ""), "{}", ours.stderr);
        assert!(ours.stderr.starts_with("sshpool: lab: cannot connect: "), "{}", ours.stderr);
        assert_eq!(ours.stderr.lines().count(), 1, "{}", ours.stderr);
        assert!(ours.stderr.contains(line), "{line:?} is not in {}", ours.stderr);
        assert!(ours.stderr.contains(advice) && !ours.stderr.contains("HOST"), "{}", ours.stderr);
        ours.stderr.trim_end().to_owned()
    }

    /// `told`, and every other way to connect says the same.
    #[track_caller]
    fn told_by_all(&self, telling: &str, advice: &str) -> String {
        let line = self.told(telling, advice);
        let text = line.strip_prefix("sshpool: lab: ").expect("it names the host");
        for words in [
            &["exec", "lab", "--", "true"][..],
            &["warm", "lab"],
            &["compose", "lab", "ls"],
            &["resources", "lab"],
        ] {
            let ours = self.ours(words);
            assert_eq!(ours.code(), 255, "{words:?}: {}", ours.stderr);
            assert!(ours.stderr.contains(text), "{words:?}: {} instead of {text}", ours.stderr);
        }
        let ours = self.ours(&["run", "-w", "lab", "--json", "--", "true"]);
        let told: Value =
            serde_json::from_str(&ours.stdout).unwrap_or_else(|error| panic!("{error}: {ours:?}"));
        let told = told["error"].as_str().unwrap_or_else(|| panic!("{ours:?}"));
        assert!(is_said(told, text), "{told} instead of {text}");
        let host = json!({"name": "lab", "ssh_config": self.config()});
        let socket = self.agent.as_deref().map(Path::to_string_lossy).unwrap_or_default();
        let body = json!({"host": host, "command": "true", "auth_sock": socket});
        let answer = self.home.post("/v1/exec", &body).json();
        let error = &answer["error"];
        let message = error["message"].as_str().and_then(|message| message.strip_prefix("lab: "));
        assert!(
            message.is_some_and(|message| is_said(message, text)),
            "{answer} instead of {text}"
        );
        let told = error["advice"].as_str().unwrap_or_default().replace("HOST", "lab");
        assert!(told.contains(advice) && text.contains(&told), "{answer}");
        line
    }

    /// What doctor says of the step that failed: why, and what to do.
    #[track_caller]
    fn doctor(&self) -> (Value, String) {
        let ours = self.ours(&["--no-agent", "doctor", "--json", "lab"]);
        assert_eq!(ours.code(), 255, "{ours:?}");
        let report: Value =
            serde_json::from_str(&ours.stdout).unwrap_or_else(|error| panic!("{error}: {ours:?}"));
        let checks = report["checks"].as_array().unwrap_or_else(|| panic!("{report}"));
        let failed = checks.iter().find(|check| check["status"] == "failed");
        (failed.unwrap_or_else(|| panic!("{report}")).clone(), ours.stdout)
    }
}

/// Whether this is the text, behind which a remembered answer says that it is one.
fn is_said(told: &str, text: &str) -> bool {
    let rest = told.strip_prefix(text);
    rest.is_some_and(|rest| {
        rest.is_empty() || rest.starts_with(" (tried ") && rest.ends_with(" tries now)")
    })
}

/// Words by which somebody would be told to trust a key.
const TRUST: [&str; 5] = ["add the key", "add it to", "accept-new", "ssh-keyscan", "ssh-copy-id"];

#[track_caller]
fn does_not_say_to_trust(text: &str) {
    for words in TRUST {
        assert!(!text.contains(words), "{words:?} is in {text}");
    }
}

#[track_caller]
fn keygen<const N: usize>(args: [&str; N]) {
    let made = run(command("ssh-keygen").args(["-q"]).args(args), PATIENCE);
    assert_eq!(made.code(), 0, "{args:?}: {}", made.stderr);
}

// ---- F1: the key is right, and cannot sign ----

/// An ssh-agent that has one key and signs nothing. What it does when it is asked to: say no, or close the connection.
fn agent_that_refuses(lab: &mut Lab, answers: bool) {
    let public =
        fs::read_to_string(lab.sshd.identity_file().with_extension("pub")).expect("it was made");
    let blob = STANDARD.decode(public.split(' ').nth(1).expect("a key").trim()).expect("base64");
    let socket = lab.home.path().join("ssh-agent");
    let listener = UnixListener::bind(&socket).expect("a socket");
    lab.agent = Some(socket);
    // It ends with this process.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let blob = blob.clone();
            std::thread::spawn(move || serve(stream, &blob, answers));
        }
    });
}

/// PROTOCOL.agent: a length, a type, and what belongs to it.
fn serve(mut stream: UnixStream, blob: &[u8], answers: bool) -> Option<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut message).ok()?;
        let string = |bytes: &[u8]| {
            [&u32::try_from(bytes.len()).expect("short").to_be_bytes(), bytes].concat()
        };
        let answer = match message.first()? {
            // SSH_AGENTC_REQUEST_IDENTITIES: one, with its comment.
            11 => [&[12, 0, 0, 0, 1][..], &string(blob), &string(b"kept")].concat(),
            // SSH_AGENTC_SIGN_REQUEST.
            13 if !answers => return None,
            _ => vec![5],
        };
        stream.write_all(&string(&answer)).ok()?;
    }
}

#[rstest]
#[case::refuses(true, "agent refused operation", "unlock it, confirm the request or touch the key")]
#[case::goes_away(false, "communication with agent failed", "ssh-add -l")]
fn f1_an_agent_that_does_not_sign(
    #[case] answers: bool,
    #[case] telling: &str,
    #[case] advice: &str,
) {
    let mut lab = Lab::new(Sshd::builder());
    agent_that_refuses(&mut lab, answers);
    lab.says(&format!("IdentityFile none\n{}", lab.known()));
    let line = lab.told_by_all(telling, advice);
    assert!(line.contains("authentication failed: sign_and_send_pubkey: signing failed"), "{line}");
    let (failed, _) = lab.doctor();
    assert!(failed["why"].as_str().is_some_and(|why| why.contains(telling)), "{failed}");
    assert!(failed["todo"].as_str().is_some_and(|todo| todo.contains(advice)), "{failed}");
}

/// A key without its public half is not looked at before it is to sign.
#[test]
fn f1_no_algorithm_for_the_signature() {
    let lab = Lab::new(Sshd::builder());
    let key = lab.home.path().join("rsa");
    keygen(["-m", "PEM", "-t", "rsa", "-b", "2048", "-N", "", "-f", &key.to_string_lossy()]);
    fs::remove_file(key.with_extension("pub")).expect("it was made");
    let key = format!("IdentityFile \"{}\"\nIdentitiesOnly yes\n", key.display());
    lab.says(&format!("{key}PubkeyAcceptedKeyTypes ssh-ed25519\n{}", lab.known()));
    lab.told("no mutual signature supported", "PubkeyAcceptedAlgorithms");
}

#[test]
fn f1_a_key_that_is_missing() {
    let lab = Lab::new(Sshd::builder());
    lab.says(&format!("IdentityFile /nonexistent/key\nIdentitiesOnly yes\n{}", lab.known()));
    lab.told(
        "no such identity: /nonexistent/key",
        "IdentityFile in ssh_config, or identity_file in [hosts.lab]",
    );
}

// ---- F2: a certificate ----

/// A server with a certificate, signed with these options, and a configuration that trusts who signed it.
fn certified(options: &[&str]) -> Lab {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Where the server runs, which may be a container. It has no certificate when it starts, and says so in its log.
    let there = format!("/tmp/sshpool-test-{}-{number}-cert.pub", std::process::id());
    let mut lab = Lab::new(Sshd::builder().option("HostCertificate", &there));
    let path = |name: &str| lab.home.path().join(name).to_string_lossy().into_owned();
    let (authority, key) = (path("ca"), path("host.pub"));
    keygen(["-t", "ed25519", "-N", "", "-f", &authority]);
    let host_key = lab.host_key();
    lab.file("host.pub", host_key.split_once(' ').expect("a name").1);
    let mut sign = command("ssh-keygen");
    sign.args(["-q", "-s", &authority, "-I", "lab"]).args(options).arg(&key);
    assert_eq!(run(&mut sign, PATIENCE).code(), 0);
    let certificate = fs::read_to_string(path("host-cert.pub")).expect("it was signed");
    assert_eq!(lab.sshd.exec(&format!("echo '{}' >{there}", certificate.trim())).code(), 0);
    // It is read again for each connection.
    lab.file_there = Some(there);
    lab.sshd.restart();
    let authority = fs::read_to_string(path("ca.pub")).expect("it was made");
    let known = lab.knows(&format!("@cert-authority * {authority}"));
    lab.says(&format!("{}StrictHostKeyChecking yes\n{known}", lab.key()));
    lab
}

#[rstest]
#[case::expired(&["-h", "-n", "127.0.0.1", "-V", "20200101:20200102"], "Certificate invalid: expired", "needs a new certificate")]
#[case::early(&["-h", "-n", "127.0.0.1", "-V", "20400101:20400102"], "Certificate invalid: not yet valid", "clocks")]
#[case::name(&["-h", "-n", "other.example"], "Certificate invalid: name is not a listed principal", "HostKeyAlias")]
fn f2_a_certificate_that_is_not_valid(
    #[case] options: &[&str],
    #[case] telling: &str,
    #[case] advice: &str,
) {
    let lab = certified(options);
    let line = lab.told_by_all(telling, advice);
    assert!(line.contains("the host's certificate is not valid: Certificate"), "{line}");
    does_not_say_to_trust(&line);
    let (failed, report) = lab.doctor();
    assert!(failed["why"].as_str().is_some_and(|why| why.contains(telling)), "{failed}");
    assert!(failed["todo"].as_str().is_some_and(|todo| todo.contains(advice)), "{failed}");
    does_not_say_to_trust(&report);
}

#[test]
fn f2_a_certificate_of_the_user_that_has_expired() {
    let lab = Lab::new(Sshd::builder());
    let path = |name: &str| lab.home.path().join(name).to_string_lossy().into_owned();
    let (authority, key) = (path("ca"), path("key"));
    for key in [&authority, &key] {
        keygen(["-t", "ed25519", "-N", "", "-f", key]);
    }
    keygen([
        "-s",
        &authority,
        "-I",
        "me",
        "-n",
        lab.sshd.user(),
        "-V",
        "20200101:20200102",
        &format!("{key}.pub"),
    ]);
    lab.says(&format!("IdentityFile \"{key}\"\nIdentitiesOnly yes\n{}", lab.known()));
    does_not_say_to_trust(&lab.told("Permission denied (publickey)", "check user and key"));
    let (failed, report) = lab.doctor();
    assert!(failed["todo"].as_str().is_some_and(|todo| todo.contains("ssh-keygen -L")), "{failed}");
    does_not_say_to_trust(&report);
}

// ---- F3: a revoked key ----

#[rstest]
#[case::marked("is marked as revoked", "the host key is revoked: ", "somebody else")]
#[case::by_file(" revoked by file ", "the host key is revoked: ", "somebody else")]
#[case::by_a_file_that_is_missing(
    " in revoked keys file ",
    "bad ssh configuration: ",
    "RevokedHostKeys"
)]
fn f3_a_revoked_key(
    #[case] telling: &str,
    #[case] label: &str,
    #[case] advice: &str,
    #[values("ask", "accept-new")] strict: &str,
) {
    let lab = Lab::new(Sshd::builder());
    let host_key = lab.host_key();
    let revoked = lab.home.path().join("revoked");
    let lines = match telling {
        "is marked as revoked" => lab.knows(&format!("@revoked {host_key}\n")),
        _ => format!("RevokedHostKeys \"{}\"\n{}", revoked.display(), lab.known()),
    };
    if telling == " revoked by file " {
        fs::write(&revoked, host_key.split_once(' ').expect("a name").1.to_owned() + "\n")
            .expect("a file");
    }
    lab.says(&format!("{}StrictHostKeyChecking {strict}\n{lines}", lab.key()));
    let line = match strict {
        "ask" => lab.told_by_all(telling, advice),
        _ => lab.told(telling, advice),
    };
    assert!(line.contains(label), "{line}");
    does_not_say_to_trust(&line);
    let (failed, report) = lab.doctor();
    assert!(failed["todo"].as_str().is_some_and(|todo| todo.contains(advice)), "{failed}");
    does_not_say_to_trust(&report);
}

// ---- F4: somebody has to be asked ----

#[test]
fn f4_a_server_that_wants_a_password() {
    let lab = Lab::new(
        Sshd::builder()
            .option("PubkeyAuthentication", "no")
            .option("PasswordAuthentication", "yes"),
    );
    lab.says(&format!("{}{}", lab.key(), lab.known()));
    lab.told_by_all("Permission denied (password)", "`sshpool warm lab`");
    let (failed, _) = lab.doctor();
    assert!(
        failed["todo"].as_str().is_some_and(|todo| todo.contains("`sshpool warm lab`")),
        "{failed}"
    );
}

#[test]
fn f4_a_server_that_wants_a_password_behind_a_key() {
    let builder = Sshd::builder().option("AuthenticationMethods", "publickey,password");
    let lab = Lab::new(builder.option("PasswordAuthentication", "yes"));
    lab.says(&format!("{}{}", lab.key(), lab.known()));
    lab.told(
        "Permission denied (password)",
        "the server wants to ask for a password or a code: `sshpool warm lab`",
    );
}

#[test]
fn f4_a_server_that_takes_keys_or_a_password() {
    let lab = Lab::new(Sshd::builder().option("PasswordAuthentication", "yes"));
    lab.says(&format!("IdentityFile none\n{}", lab.known()));
    lab.told(
        "Permission denied (publickey,password)",
        "check user and key with `ssh -v`; for a passphrase, a password or a code: `sshpool warm lab`",
    );
}

#[test]
fn f4_an_unknown_key_that_is_to_be_asked_about() {
    let lab = Lab::new(Sshd::builder());
    lab.says(&format!("{}StrictHostKeyChecking ask\n{}", lab.key(), lab.knows("")));
    lab.told_by_all("Host key verification failed", "`sshpool warm lab`");
    let (failed, _) = lab.doctor();
    assert!(
        failed["todo"].as_str().is_some_and(|todo| todo.contains("`sshpool warm lab`")),
        "{failed}"
    );
    // Where the configuration wants known keys only, it does not help to be asked.
    lab.says(&format!("{}StrictHostKeyChecking yes\n{}", lab.key(), lab.knows("")));
    let line = lab.told("host key is known for", "add the key to known_hosts first");
    assert!(!line.contains("sshpool warm"), "{line}");
}

// ---- F5: a jump host ----

/// `lab` lies behind `hop`, which is the same server with these lines of its own.
fn behind(lab: &Lab, hop: &str, target: &str) {
    let both = format!("{}{}", lab.key(), lab.known());
    lab.file(
        "ssh_config",
        &format!(
            "Host hop\n{hop}{both}{}\nHost lab\nProxyJump hop\n{target}{both}{}",
            lab.place(),
            lab.place()
        ),
    );
}

#[rstest]
#[case::user(
    "User nobody-here\n",
    "nobody-here@127.0.0.1: Permission denied (publickey)",
    "check user and key"
)]
#[case::unknown(
    "StrictHostKeyChecking yes\nUserKnownHostsFile /dev/null\n",
    "host key is known for [127.0.0.1]:",
    "add the key to known_hosts"
)]
#[case::unknown_and_asked(
    "StrictHostKeyChecking ask\nUserKnownHostsFile /dev/null\n",
    "Host key verification failed",
    "`sshpool warm lab`"
)]
#[case::name(
    "HostName no-such-host.invalid\n",
    "Could not resolve hostname no-such-host.invalid",
    ""
)]
#[case::port("Port 1\n", "connect to host 127.0.0.1 port 1: Connection refused", "")]
fn f5_a_jump_host_that_does_not_let_us_in(
    #[case] hop: &str,
    #[case] telling: &str,
    #[case] advice: &str,
) {
    let lab = Lab::new(Sshd::builder());
    behind(&lab, hop, "");
    let line = lab.told(telling, advice);
    assert!(line.contains(": ProxyJump hop failed: "), "{line}");
    let (failed, _) = lab.doctor();
    assert!(failed["why"].as_str().is_some_and(|why| why.contains(telling)), "{failed}");
    assert!(
        failed["todo"]
            .as_str()
            .is_some_and(|todo| todo.contains(advice) && todo.contains("sshpool doctor")),
        "{failed}"
    );
}

#[test]
fn f5_a_jump_host_that_does_not_forward() {
    let lab = Lab::new(Sshd::builder().option("AllowTcpForwarding", "no"));
    behind(&lab, "", "");
    let line = lab.told_by_all("administratively prohibited: open failed", "AllowTcpForwarding");
    assert!(line.contains(": ProxyJump hop failed: channel "), "{line}");
}

#[test]
fn f5_a_jump_host_that_cannot_reach_the_host() {
    let lab = Lab::new(Sshd::builder());
    behind(&lab, "", "Port 1\n");
    let line = lab.told("connect failed: Connection refused", "");
    assert!(line.contains("connection refused: ProxyJump hop failed: channel "), "{line}");
}

// ---- F6: a warning is no reason ----

#[rstest]
#[case::post_quantum("** WARNING: connection is not using a post-quantum key exchange algorithm.")]
#[case::later("** This session may be vulnerable to \\\"store now, decrypt later\\\" attacks.")]
#[case::accepted("Warning: Permanently added 'lab' (ED25519) to the list of known hosts.")]
fn f6_a_warning_before_a_hang_is_not_the_reason(#[case] line: &str) {
    let lab = Lab::new(Sshd::builder());
    let program = lab.file("proxy", &format!("printf '%s\\r\\n' \"{line}\" >&2\nexec sleep 60\n"));
    lab.says(&format!("ProxyCommand sh {}\n{}{}", program.display(), lab.key(), lab.known()));
    let mut ours = lab.home.command(["-F"]);
    ours.arg(lab.config()).args(["--no-agent", "exec", "lab", "--", "true"]);
    let ours = run(ours.env("SSH_POOL_CONNECTION_TIMEOUT_MS", "3000"), PATIENCE);
    assert!(
        ours.stderr.contains("cannot connect: timed out: no login within 3s"),
        "{}",
        ours.stderr
    );
    assert!(
        !ours.stderr.contains("last word") && !ours.stderr.contains(&line[..12]),
        "{}",
        ours.stderr
    );
}

#[test]
fn f6_the_servers_banner_is_not_the_reason() {
    let lab =
        Lab::new(Sshd::builder().option("Banner", "/etc/os-release").force_command("sleep 60"));
    lab.says(&format!("{}{}", lab.key(), lab.known()));
    let mut ours = lab.home.command(["-F"]);
    ours.arg(lab.config()).args(["--no-agent", "exec", "lab", "--", "true"]);
    let ours = run(ours.env("SSH_POOL_CONNECTION_TIMEOUT_MS", "5000"), PATIENCE);
    let stage = "timed out: logged in, but the server ran no command within 5s";
    assert!(ours.stderr.contains(stage), "{}", ours.stderr);
    assert!(!ours.stderr.contains("last word") && !ours.stderr.contains("http"), "{}", ours.stderr);
}

#[test]
fn f6_a_banner_is_not_the_reason_of_a_refusal() {
    let lab = Lab::new(Sshd::builder().option("Banner", "/etc/os-release"));
    lab.says(&format!("IdentityFile none\n{}", lab.known()));
    lab.told("Permission denied (publickey)", "check user and key");
}

// ---- F7: too many keys ----

#[rstest]
#[case::of_a_configuration(1, 3)]
#[case::a_key_more(2, 4)]
fn f7_too_many_keys(#[case] tries: u32, #[case] keys: u32) {
    let lab = Lab::new(Sshd::builder().option("MaxAuthTries", &tries.to_string()));
    let mut lines = String::new();
    for number in 0..keys {
        let key = lab.home.path().join(format!("key{number}"));
        keygen(["-t", "ed25519", "-N", "", "-f", &key.to_string_lossy()]);
        lines += &format!("IdentityFile \"{}\"\n", key.display());
    }
    lab.says(&format!("{lines}{}", lab.known()));
    let line = lab.told_by_all("Too many authentication failures", "IdentitiesOnly yes");
    assert!(line.contains("authentication failed: Received disconnect from"), "{line}");
    let (failed, _) = lab.doctor();
    assert!(
        failed["todo"].as_str().is_some_and(|todo| todo.contains("IdentitiesOnly")),
        "{failed}"
    );
}

#[test]
fn f7_too_many_keys_behind_a_banner() {
    let lab =
        Lab::new(Sshd::builder().option("MaxAuthTries", "1").option("Banner", "/etc/os-release"));
    let keys = ["a", "b", "c"].map(|name| lab.home.path().join(name));
    for key in &keys {
        keygen(["-t", "ed25519", "-N", "", "-f", &key.to_string_lossy()]);
    }
    let lines = keys.map(|key| format!("IdentityFile \"{}\"\n", key.display())).concat();
    lab.says(&format!("{lines}{}", lab.known()));
    lab.told("Too many authentication failures", "IdentitiesOnly yes");
}

// ---- B5: a configuration with a mistake ----

#[rstest]
#[case("Port abc", "line 2: Bad port 'abc'")]
#[case("Port 99999", "line 2: Bad port '99999'")]
#[case("Ciphers nosuch", "line 2: Bad SSH2 cipher spec 'nosuch'")]
#[case("KexAlgorithms nosuch", "line 2: Bad SSH2 KexAlgorithms 'nosuch'")]
#[case("Match foo", "line 2: Bad Match condition")]
#[case("IdentityFile \"abc", "line 2: ")]
#[case("User a b", "line 2: ")]
#[case("NoSuchOption 1", "line 2: Bad configuration option: nosuchoption")]
#[case("StrictHostKeyChecking maybe", "line 2: ")]
#[case("Ciphers nosuch\nPort abc", "line 2: Bad SSH2 cipher spec 'nosuch'")]
fn b5_the_line_of_the_configuration_is_named(#[case] lines: &str, #[case] telling: &str) {
    let lab = Lab::new(Sshd::builder());
    lab.says(&format!("{lines}\n{}{}", lab.key(), lab.known()));
    let line = lab.told(telling, "");
    assert!(line.contains("bad ssh configuration: ") && !line.contains("terminating"), "{line}");
    assert!(line.contains(&*lab.config().to_string_lossy()), "{line}");
    let value = lines.lines().next().and_then(|line| line.split(' ').next_back());
    let value = value.expect("there is one").trim_matches('"').to_lowercase();
    // ssh says of a quote that has no end where it is, and of words too many to what they belong.
    if !lines.starts_with("Identity") && !lines.starts_with("User") && !lines.starts_with("NoSuch")
    {
        assert!(line.contains(&value), "{line}");
    }
    let (failed, _) = lab.doctor();
    assert!(failed["why"].as_str().is_some_and(|why| why.contains(telling)), "{failed}");
}

#[test]
fn b5_a_variable_that_is_not_set_is_named() {
    let lab = Lab::new(Sshd::builder());
    lab.says(&format!("UserKnownHostsFile ${{NO_SUCH_VARIABLE}}/known\n{}", lab.key()));
    lab.told("env var ${NO_SUCH_VARIABLE} has no value", "set the variable");
}
