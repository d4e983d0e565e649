//! `sshpool ssh` with forwards and no session: over the login that is there, and to its caller as
//! plain ssh.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use rstest::rstest;

use crate::lab::agents::Home;
use crate::lab::common::port::Port;
use crate::lab::common::process::{Ended, run, wait_until};
use crate::lab::common::sshd::Sshd;
use crate::lab::common::wait_for;
use crate::lab::pooled::{self, PATIENCE, send};
use crate::ssh::{real_ssh, ssh_of};

/// What somebody at this port says first, after these words to him; nothing where there is nobody.
fn greeting(port: u16, words: &[u8]) -> Vec<u8> {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return Vec::new() };
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let mut said = vec![0; 2];
    match stream.write_all(words).and_then(|()| stream.read_exact(&mut said)) {
        Ok(()) => said,
        Err(_) => Vec::new(),
    }
}

fn is_served(letter: &str, port: u16) -> bool {
    match letter {
        // A client of SOCKS, and one that may come without a name.
        "-D" => greeting(port, &[5, 1, 0]) == [5, 0],
        _ => greeting(port, b"") == b"SS",
    }
}

fn spec(letter: &str, port: u16, to: u16) -> String {
    match letter {
        "-D" => port.to_string(),
        _ => format!("{port}:127.0.0.1:{to}"),
    }
}

/// The real ssh, with the same words.
fn plain(home: &Home, sshd: &Sshd, words: &[&str]) -> Command {
    let mut plain = home.in_its_place(pooled::command(real_ssh()), ["-F"]);
    plain.arg(sshd.ssh_config()).args(words);
    plain
}

fn begin(mut command: Command) -> Child {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it starts")
}

/// How it has ended by this signal, and what it has said.
fn ended_by(mut child: Child, signal: Signal) -> (Option<i32>, String, String) {
    send(child.id(), signal);
    let end = std::time::Instant::now() + PATIENCE;
    let status = wait_until(&mut child, end).expect("it ends");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("a pipe").read_to_string(&mut err).expect("text");
    (status.code(), out, err)
}

#[rstest]
fn without_a_session_they_share_the_login(
    #[values("-L", "-R", "-D")] letter: &str,
    #[values(Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP)] signal: Signal,
) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let port = Port::reserve();
    let spec = spec(letter, port.number, sshd.port());
    let words = ["-N", letter, &spec, "lab"];
    let of_ssh = {
        let child = begin(plain(&home, &sshd, &words));
        wait_for("the forward of ssh", PATIENCE, || is_served(letter, port.number));
        ended_by(child, signal)
    };
    wait_for("its end", PATIENCE, || !port.is_taken());
    let before = sshd.logins();
    assert_eq!(run(&mut ssh_of(&home, &sshd, None, &["lab", "echo hi"]), PATIENCE).stdout, "hi\n");
    let child = begin(ssh_of(&home, &sshd, None, &words));
    wait_for("the forward", PATIENCE, || is_served(letter, port.number));
    let again = run(&mut ssh_of(&home, &sshd, None, &["lab", "echo hi"]), PATIENCE);
    assert_eq!(again.stdout, "hi\n");
    assert_eq!(sshd.logins(), before + 1);
    assert_eq!(ended_by(child, signal), of_ssh);
    wait_for("nobody listens any more", PATIENCE, || !port.is_taken());
    assert_eq!(sshd.logins(), before + 1);
}

/// What ssh says of a port that is taken, it says itself.
#[test]
fn a_forward_that_cannot_be_made_is_that_of_ssh() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let spec = format!("127.0.0.1:{}:127.0.0.1:{}", sshd.port(), sshd.port());
    let words = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", &spec, "lab"];
    let of_ssh = run(&mut plain(&home, &sshd, &words), PATIENCE);
    let ours = run(&mut ssh_of(&home, &sshd, None, &words), PATIENCE);
    let seen = |ended: &Ended| (ended.code(), ended.stdout.clone(), ended.stderr.clone());
    assert_eq!(seen(&ours), seen(&of_ssh));
    assert!(ours.stderr.contains("Address already in use"), "{}", ours.stderr);
}

/// The connection goes, and the forward stays.
#[test]
fn a_forward_outlives_its_connection() {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    let port = Port::reserve();
    let spec = spec("-L", port.number, sshd.port());
    let child = begin(ssh_of(&home, &sshd, None, &["-N", "-L", &spec, "lab"]));
    wait_for("the forward", PATIENCE, || is_served("-L", port.number));
    sshd.kill_connections();
    wait_for("the forward", PATIENCE, || is_served("-L", port.number));
    let (code, out, err) = ended_by(child, Signal::SIGTERM);
    assert_eq!((code, &*out, &*err), (Some(0), "", ""));
}

/// ssh itself clears forwards of the command line, too.
#[rstest]
#[case(&["-o", "ClearAllForwardings=yes"])]
#[case(&["-o", "GatewayPorts=yes"])]
#[case(&["-o", "PermitRemoteOpen=127.0.0.1:1"])]
fn where_forwards_are_others_it_is_plain_ssh(#[case] option: &[&str]) {
    let (sshd, home) = (Sshd::builder().start(), Home::new());
    assert_eq!(run(&mut ssh_of(&home, &sshd, None, &["lab", "true"]), PATIENCE).code(), 0);
    let port = Port::reserve();
    let spec = spec("-L", port.number, sshd.port());
    let words = [option, &["-N", "-L", &spec, "lab"]].concat();
    let logins = sshd.logins();
    let child = begin(ssh_of(&home, &sshd, None, &words));
    wait_for("a login of ssh", PATIENCE, || sshd.logins() == logins + 1);
    ended_by(child, Signal::SIGTERM);
}
