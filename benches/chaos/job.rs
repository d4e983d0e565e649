//! One command of the load: what it does on the server, how it is run, and what has to come of it.

use std::fmt::Write;
use std::process;
use std::sync::LazyLock;
use std::time::Duration;

use sshpool::SessionReuse;

use crate::leftover::{self, Leftover};
use crate::random::Random;

/// How a command goes through the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// `output()`.
    Output,
    /// `exec()`.
    Exec,
    /// `status()`.
    Status,
    /// `spawn()`, then `wait_with_output()`.
    Collected,
    /// `spawn()`, then line for line: one is written, one is read.
    Dialogue,
    /// `spawn()`, a line is read, and the child is dropped.
    Dropped,
    /// `spawn()`, a line is read, and the child is killed and waited for.
    Ended,
}

/// How the command ends that nothing disturbs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Status(i32),
    /// A signal ends it.
    Killed,
    /// It takes longer than it has time.
    TimedOut,
    /// It writes more than it may.
    TooMuch,
}

/// A command.
#[derive(Clone, Debug)]
pub struct Job {
    /// What it writes to the record, and what its processes have in their environment.
    pub id: String,
    pub method: Method,
    pub text: String,
    pub input: Vec<u8>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub end: End,
    pub timeout: Duration,
    pub max_output: Option<usize>,
    /// Its future is dropped after this.
    pub cancel: Option<Duration>,
    /// It leaves a process of this kind behind.
    pub leftover: Option<leftover::Kind>,
}

/// The environment variable of the server's processes that has the id. Another run of this program
/// has another one: a server that is a process sees the processes of all containers, too.
pub static MARK: LazyLock<String> = LazyLock::new(|| format!("SSHPOOL_CHAOS_{}", process::id()));

/// For commands that are in no hurry. `exec` has it from the pool's settings.
pub const TIMEOUT: Duration = Duration::from_secs(8);

/// How many of a hundred commands leave something behind.
const LEAVING: usize = 15;

/// What a command does between its first line in the record and its last.
#[derive(Default)]
struct Body {
    text: String,
    /// Behind which nothing is written any more.
    pause: Option<String>,
    input: Vec<u8>,
    stdout: Vec<u8>,
}

impl Job {
    /// A command that appends its lines to `record`, which the server's shell expands, in a pool
    /// with this setting.
    pub fn draw(random: &mut Random, id: String, record: &str, reuse: SessionReuse) -> Job {
        let method = match random.below(100) {
            0..40 => Method::Output,
            40..58 => Method::Exec,
            58..66 => Method::Status,
            66..80 => Method::Collected,
            80..90 => Method::Dialogue,
            90..95 => Method::Dropped,
            _ => Method::Ended,
        };
        let mut end = match random.below(100) {
            0..60 => End::Status(0),
            60..82 => End::Status(random.pick(&[1, 2, 3, 126, 127, 128, 137, 254, 255, 255])),
            82..87 => End::Killed,
            87..94 => End::TimedOut,
            _ => End::TooMuch,
        };
        // Only some have a timeout or a limit of their own.
        let fits = match end {
            End::TimedOut => method != Method::Exec,
            End::TooMuch => method == Method::Output,
            End::Status(_) | End::Killed => true,
        };
        if !fits || matches!(method, Method::Dropped | Method::Ended) {
            end = End::Status(0);
        }
        let mut stderr = format!("err {id}\n").into_bytes();
        let mut body = body(random, &id, method, end);
        let cancel = random.percent(6).then(|| random.millis(0, 600));
        let timeout = if end == End::TimedOut { random.millis(200, 1500) } else { TIMEOUT };
        let mut lines = vec![
            format!("export {}={id}", *MARK),
            format!("printf '%s\\n' {id} >> {record}"),
            format!("printf '%s\\n' 'err {id}' >&2"),
            body.text,
        ];
        if random.percent(4) {
            // Long text takes other ways to the shell.
            lines.insert(2, format!(": '{}'", "x".repeat(random.between(3000, 60_000))));
        }
        // It is killed in the midst of its output.
        let leftover = (end != End::TooMuch && random.percent(LEAVING))
            .then(|| Leftover::draw(random, &id, reuse));
        if let Some(leftover) = &leftover {
            lines.push(leftover.text.clone());
            body.stdout.extend_from_slice(&leftover.stdout);
            stderr.extend_from_slice(&leftover.stderr);
        }
        lines.extend(body.pause);
        match end {
            End::Status(code) => lines.extend([end_line(&id, record), format!("exit {code}")]),
            End::Killed => lines.extend([end_line(&id, record), "kill -s KILL $$".to_owned()]),
            End::TimedOut => lines.push("sleep 20".to_owned()),
            End::TooMuch => {}
        }
        let text = lines.join(random.pick(&["; ", "; ", "\n"]));
        Job {
            max_output: (end == End::TooMuch).then_some(body.stdout.len()),
            id,
            method,
            text,
            input: body.input,
            stdout: body.stdout,
            stderr,
            end,
            timeout,
            cancel,
            leftover: leftover.map(|leftover| leftover.kind),
        }
    }

    /// Whether a word is the id of some command: the round, the caller and a number.
    pub fn is_id(word: &str) -> bool {
        let mut parts = word.strip_prefix('r').unwrap_or_default().split('-');
        let is_number =
            |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty();
        parts.clone().count() == 3 && parts.all(is_number)
    }

    /// Whether the last line in the record is written by one that nothing disturbs.
    pub fn says_end(&self) -> bool {
        matches!(self.end, End::Status(_) | End::Killed)
    }

    /// The lines of a dialogue, as they are written.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.input.split_inclusive(|&byte| byte == b'\n')
    }
}

fn end_line(id: &str, record: &str) -> String {
    format!("printf '%s\\n' '{id} end' >> {record}")
}

fn body(random: &mut Random, id: &str, method: Method, end: End) -> Body {
    if method == Method::Dialogue && matches!(end, End::Status(_) | End::Killed) {
        return dialogue(random, id);
    }
    if end == End::TooMuch {
        let wanted = random.between(1, 50_000);
        let mut stdout = counted(id, wanted / id.len() + 2);
        stdout.truncate(wanted);
        return Body { text: format!("seq -f '{id} %.0f' 1 400000"), stdout, ..Body::default() };
    }
    if matches!(method, Method::Dropped | Method::Ended) {
        let seconds = random.pick(&["0.1", "1", "20"]);
        let (text, stdout) = said(id);
        let pause = Some(format!("sleep {seconds}"));
        return Body { text, pause, stdout, ..Body::default() };
    }
    match random.below(10) {
        0..5 => {
            let (text, stdout) = said(id);
            Body { text, stdout, ..Body::default() }
        }
        5 | 6 => {
            let input = bytes(random);
            // What `exec` gives is text, and it gives no input.
            match method {
                Method::Exec | Method::Dialogue => {
                    let (text, stdout) = said(id);
                    Body { text: format!("cat; {text}"), stdout, ..Body::default() }
                }
                _ => Body { text: "cat".to_owned(), stdout: input.clone(), input, pause: None },
            }
        }
        7 => {
            let lines = random.between(1, 20_000);
            Body {
                text: format!("seq -f '{id} %.0f' 1 {lines}"),
                stdout: counted(id, lines),
                ..Body::default()
            }
        }
        _ => {
            let (text, stdout) = said(id);
            let pause = Some(format!("sleep {}", random.millis(10, 900).as_secs_f64()));
            Body { text, pause, stdout, ..Body::default() }
        }
    }
}

fn dialogue(random: &mut Random, id: &str) -> Body {
    let mut body = Body::default();
    let text = format!("while IFS= read -r line; do printf '%s %s\\n' {id} \"$line\"; done");
    body.text = text;
    for number in 0..random.between(0, 20) {
        let line = format!("{number} {:x}\n", random.next());
        body.input.extend_from_slice(line.as_bytes());
        body.stdout.extend_from_slice(format!("{id} {line}").as_bytes());
    }
    body
}

fn said(id: &str) -> (String, Vec<u8>) {
    (format!("printf '%s\\n' 'out {id}'"), format!("out {id}\n").into_bytes())
}

/// What `seq -f` prints.
fn counted(id: &str, lines: usize) -> Vec<u8> {
    let mut text = String::new();
    for number in 1..=lines {
        writeln!(text, "{id} {number}").expect("a String takes everything");
    }
    text.into_bytes()
}

/// Any bytes: few mostly, now and then more than pipes and windows hold.
fn bytes(random: &mut Random) -> Vec<u8> {
    let length = random.pick(&[0, 1, 100, 4096, 70_000, 400_000]);
    let length = random.between(0, length);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
