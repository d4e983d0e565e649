//! What holds for any text that ssh, a server or a start-up file may come up with: `diagnosis` and
//! `bootstrap` take it in.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::answer::Answer;
use super::bootstrap::{self, Marker};
use super::diagnosis::{self, SessionLog};
use crate::transport::{Marker as _, Output, Script, Source};

/// What ssh says, and what a server could say in its place.
const SAID: &[&str] = &[
    "lab@web1: Permission denied (publickey).",
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
    "Offending ED25519 key in /k:1",
    "Host key for web1 has changed and you have requested strict checking.",
    "Host key verification failed.",
    "@ WARNING: UNPROTECTED PRIVATE KEY FILE! @",
    "Permissions 0644 for '/k' are too open.",
    "kex_exchange_identification: Connection closed by remote host",
    "Connection closed by UNKNOWN port 65535",
    "ssh: connect to host web1 port 22: Connection refused",
    "Master running (pid=4711)",
    "debug1: mux_client_request_session: master session id: 2",
    "debug2: Received exit status from master 3",
    "mux_client_request_session: session request failed: Session open refused by peer",
    "Control socket connect(/s): Connection refused",
    "kex: algorithm: curve25519-sha256",
    "stricthostkeychecking ask",
    "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m",
    "\u{202e}txt.exe",
    "\u{feff}\u{85}\u{0}\u{7f}",
    "",
    "\r",
];

/// Lines of ssh's, of nobody's, and with what a terminal obeys in between.
fn text() -> impl Strategy<Value = String> {
    let said = (0..SAID.len()).prop_map(|at| SAID[at].to_owned());
    let line = prop_oneof![
        said.clone(),
        any::<String>(),
        (any::<String>(), said, any::<String>())
            .prop_map(|(before, said, after)| before + &said + &after),
    ];
    let end = prop_oneof![Just("\r\n"), Just("\n"), Just("\r"), Just("")];
    vec((line, end), 0..30)
        .prop_map(|lines| lines.into_iter().map(|(line, end)| line + end).collect::<String>())
}

/// Fit for a terminal: it stays in its line and does not reorder what stands around it.
fn is_printable(text: &str) -> bool {
    !text.contains(|c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// Gives one piece after the other, and then the end.
struct Pieces(VecDeque<Vec<u8>>);

impl Source for Pieces {
    fn read_now(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Some(piece) = self.0.front_mut() else { return Ok(0) };
        let length = piece.len().min(buf.len());
        buf[..length].copy_from_slice(&piece[..length]);
        piece.drain(..length);
        if piece.is_empty() {
            self.0.pop_front();
        }
        Ok(length)
    }
}

impl AsyncRead for Pieces {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.read_now(buf.initialize_unfilled())?;
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

proptest! {
    #[test]
    fn a_failed_login_is_told_in_one_printable_line(stderr in text(), fallback in any::<String>()) {
        let error = diagnosis::connect_failure(&stderr, &fallback);
        prop_assert!(is_printable(&error.to_string()), "{:?}", error.to_string());
        prop_assert!(error.ssh_output().len() <= 20);
        prop_assert!(error.ssh_output().iter().all(|line| is_printable(line)), "{:?}", error.ssh_output());
    }

    #[test]
    fn the_end_of_a_master_is_told_in_one_printable_line(stderr in text(), fallback in any::<String>()) {
        prop_assert!(is_printable(&diagnosis::master_end(&stderr, &fallback)));
        // Neither gives what is not there.
        if let Some(pid) = diagnosis::check_pid(&stderr) {
            prop_assert!(stderr.contains(&pid.to_string()));
        }
        for option in ["stricthostkeychecking", "hostname"] {
            let answer = Answer::new(&stderr);
            let value = answer.value(option);
            prop_assert!(value.is_none_or(|value| stderr.contains(value) && stderr.contains(option)));
        }
    }

    /// Only what ssh says in so many words lets a command be run again.
    #[test]
    fn a_session_never_started_only_by_an_explicit_word(log in text()) {
        match diagnosis::session_log(&log) {
            SessionLog::StartedAndEnded => prop_assert!(diagnosis::was_opened(&log)),
            SessionLog::Signalled(reason) => prop_assert!(is_printable(&reason), "{reason:?}"),
            SessionLog::Refused(reason) => {
                prop_assert!(!diagnosis::was_opened(&log) && log.contains("session request failed: "));
                prop_assert!(is_printable(&reason), "{reason:?}");
            }
            SessionLog::NotReached(reason) => {
                prop_assert!(!diagnosis::was_opened(&log) && is_printable(&reason), "{reason:?}");
            }
            SessionLog::Unknown(reason) => {
                prop_assert!(!diagnosis::was_opened(&log) && !log.contains("Control socket "));
                prop_assert!(is_printable(&reason), "{reason:?}");
            }
        }
    }

    /// The line counts when it is whole, wherever the pipe has cut the log.
    #[test]
    fn a_status_is_read_when_its_line_is_whole(before in text(), status in 0..256_i32, cut in any::<prop::sample::Index>()) {
        prop_assume!(diagnosis::exit_status(&(before.clone() + "\n")).is_none());
        let line = format!("debug2: Received exit status from master {status}\r\n");
        let log = format!("{before}\n{line}");
        prop_assert_eq!(diagnosis::exit_status(&log), Some(status));
        let start = log.len() - line.len();
        let cut = start + cut.index(line.len());
        prop_assert_eq!(diagnosis::exit_status(&log[..cut]), None);
    }

    #[test]
    fn a_log_of_any_bytes_is_read_within_bounds(bytes in vec(any::<u8>(), 0..1000), times in 0..200_usize, from in 0..3000_u64) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        prop_assert_eq!(diagnosis::read_tail(&path, from), None);
        let whole = bytes.repeat(times);
        std::fs::write(&path, &whole).expect("it is written");
        let tail = diagnosis::read_tail(&path, from).expect("it is there");
        // A byte that is no text becomes a character of three.
        prop_assert!(tail.len() <= 3 * 64 * 1024);
        let start = usize::try_from(from).expect("it is small").max(whole.len().saturating_sub(64 * 1024));
        prop_assert_eq!(&*tail, &*String::from_utf8_lossy(whole.get(start..).unwrap_or_default()));
    }
}

/// The sign that a command has begun, as the other side prints it.
fn sign(group: &str) -> Vec<u8> {
    format!("\x1e{} {group}\n", bootstrap::nonce()).into_bytes()
}

/// What may stand before the sign: anything, and what begins like it.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let whole = sign("").len() - 1;
    let piece = prop_oneof![
        vec(any::<u8>(), 0..40),
        (0..whole).prop_map(|length| sign("")[..length].to_vec()),
        Just(sign("no number")),
        Just(sign(&"no end".repeat(20))[..100].to_vec()),
        Just(sign("99999999999")),
        Just(sign("")),
        Just(b"\x1esshpool-0123456789abcdef 1\n".to_vec()),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Cuts it at these places.
fn pieces<'a>(whole: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
    cuts.extend([0, whole.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &whole[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn exactly_the_sign_is_taken_out(
        before in noise(),
        after in noise(),
        group in 2..=i32::MAX,
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let sign = sign(&group.to_string());
        let whole = [&before[..], &sign, &after].concat();
        let (mut marker, mut output, mut came) = (bootstrap::marker(), Vec::new(), 0);
        for piece in pieces(&whole, &cuts) {
            output.extend_from_slice(piece);
            came += piece.len();
            let there = came >= before.len() + sign.len();
            prop_assert_eq!(marker.take_from(&mut output), there);
            prop_assert_eq!(marker.group().known(), there.then_some(group));
        }
        prop_assert_eq!(output, [before, after].concat());
    }

    /// The same, of what a reader gets, however much it reads at once.
    #[test]
    fn a_reader_gets_everything_but_the_sign(
        before in noise(),
        after in noise(),
        cuts in vec(any::<prop::sample::Index>(), 0..20),
        waits in any::<bool>(),
        has_sign in any::<bool>(),
        length in 1..300_usize,
    ) {
        let sign = if has_sign { sign("4711") } else { Vec::new() };
        let whole = [&before[..], &sign, &after].concat();
        let pieces = pieces(&whole, &cuts).into_iter().filter(|piece| !piece.is_empty());
        let source = Pieces(pieces.map(<[u8]>::to_vec).collect());
        let mut stdout = Output::new(Box::new(source), Some(Box::new(bootstrap::marker())));
        let mut output = Vec::new();
        let keep = |_: &mut Vec<u8>| Ok::<_, ()>(());
        if waits {
            let begun = stdout.begun(&mut output, keep).now_or_never();
            prop_assert_eq!(begun, Some(Ok(has_sign)));
        }
        let mut buffer = vec![0; length];
        loop {
            let read = stdout.read(&mut buffer).now_or_never().expect("pieces are there")?;
            if read == 0 {
                break;
            }
            output.extend_from_slice(&buffer[..read]);
        }
        prop_assert_eq!(stdout.has_begun(), has_sign);
        prop_assert_eq!(output, [before, after].concat());
    }

    /// Where nobody wants the output it is thrown away, and the sign is found all the same.
    #[test]
    fn the_sign_is_found_in_what_is_thrown_away(
        before in noise(),
        group in 2..=i32::MAX,
        cuts in vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let whole = [&before[..], &sign(&group.to_string())].concat();
        let (mut marker, mut output) = (bootstrap::marker(), Vec::new());
        for piece in pieces(&whole, &cuts) {
            output.extend_from_slice(piece);
            if !marker.take_from(&mut output) {
                output.drain(..marker.forget());
                // What may be the beginning of the sign, and no more.
                prop_assert!(output.len() < sign("").len() + Marker::LONGEST, "{} bytes are kept", output.len());
            }
        }
        prop_assert_eq!(marker.group().known(), Some(group));
    }

    #[test]
    fn without_the_sign_everything_is_output(whole in noise(), cuts in vec(any::<prop::sample::Index>(), 0..20)) {
        let (mut marker, mut output) = (bootstrap::marker(), Vec::new());
        for piece in pieces(&whole, &cuts) {
            output.extend_from_slice(piece);
            prop_assert!(!marker.take_from(&mut output));
        }
        prop_assert_eq!((output, marker.group().known()), (whole, None));
    }

    /// A process group has a number above 0, and 0 says that there is none: a server that says
    /// another one is not to choose what is ended.
    #[test]
    fn no_group_is_none_or_everybody(group in i32::MIN..0) {
        let mut output = sign(&group.to_string());
        let before = output.clone();
        prop_assert!(!bootstrap::marker().take_from(&mut output));
        prop_assert_eq!(output, before);
    }

    #[test]
    fn an_account_of_any_words_is_judged(output in vec(any::<u8>(), 0..200)) {
        let text = String::from_utf8_lossy(&output).into_owned();
        prop_assert!(!bootstrap::has_word(&output) || text.contains("sshpool-echo"));
    }
}

/// Runs the bootstrap by the shell that is here, as sshd does.
fn by_the_bootstrap(command: &[u8], input: &[u8]) -> Vec<u8> {
    let mut shell = super::program::command(std::path::Path::new("/bin/sh")).into_std();
    shell.args(["-c", &bootstrap::BOOTSTRAP]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = shell.spawn().expect("there is a shell");
    let mut stdin = child.stdin.take().expect("it was piped");
    let text =
        [bootstrap::line_of(&Script::new(OsStr::from_bytes(command))).as_bytes(), input].concat();
    stdin.write_all(&text).expect("the shell reads");
    drop(stdin);
    child.wait_with_output().expect("it ends").stdout
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a command contains, the shell has it as it was, and the input is the command's to
    /// the byte.
    #[test]
    fn a_command_arrives_as_it_is(
        text in prop_oneof!["[^\0]*".prop_map(String::into_bytes), vec(1..=255_u8, 0..20)],
        times in 1..300_usize,
        input in vec(any::<u8>(), 0..300),
    ) {
        let word = text.repeat(times);
        let mut command = b"printf %s ".to_vec();
        crate::command::escape::escape(&word, &mut command);
        command.extend(b"; cat");
        let mut output = by_the_bootstrap(&command, &input);
        prop_assert!(bootstrap::marker().take_from(&mut output));
        prop_assert_eq!(output, [word, input].concat());
    }
}
