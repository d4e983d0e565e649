//! One command with much output or much input.

use std::fs::File;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Row;
use crate::lab::Lab;
use crate::support::{milliseconds, pooled};

/// Of what is written or read.
pub const BYTES: u64 = 100_000_000;

pub const NAMES: [&str; 2] = ["sshpool exec", "ssh -F none -S SOCKET"];

/// The two programs in turns: by stdout, then by stdin. The agent is warm, and the master there.
pub fn measure(lab: &Lab, rounds: usize) -> [Vec<Row>; 2] {
    let rows = || {
        let row = |name: &&str| Row { name: (*name).to_owned(), rounds: vec![], missing: None };
        NAMES.iter().map(row).collect::<Vec<_>>()
    };
    let (mut out, mut into) = (rows(), rows());
    let file = lab.path("large");
    File::create(&file).and_then(|file| file.set_len(BYTES)).expect("a file in our directory");
    for _ in 0..=rounds {
        for index in 0..NAMES.len() {
            add(&mut out[index], output(program(lab, index, &[])));
            let stdin = File::open(&file).expect("it was made");
            add(&mut into[index], input(program(lab, index, &["--stdin"]), stdin));
        }
    }
    for row in out.iter_mut().chain(&mut into) {
        // The first round is for getting ready.
        row.rounds = row.rounds.split_off(1.min(row.rounds.len()));
    }
    [out, into]
}

fn add(row: &mut Row, time: Result<f64, String>) {
    match time {
        Ok(time) => row.rounds.push(time),
        Err(why) => row.missing = Some(why),
    }
}

fn program(lab: &Lab, index: usize, options: &[&str]) -> Command {
    if index == 0 {
        let mut command = lab.sshpool();
        command.arg("exec").args(options).args(["h1", "--"]);
        return command;
    }
    let mut command = pooled::command("ssh");
    command.args(["-F", "none", "-S"]).arg(lab.path("bare")).arg("h1");
    command
}

fn output(mut command: Command) -> Result<f64, String> {
    command.arg(format!("head -c {BYTES} /dev/zero")).stdin(Stdio::null());
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(said)?;
    let mut stdout = child.stdout.take().expect("a pipe");
    let mut piece = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        match stdout.read(&mut piece).map_err(said)? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    let status = child.wait().map_err(said)?;
    let time = milliseconds(started);
    if status.success() && bytes == BYTES {
        return Ok(time);
    }
    Err(format!("{status}, {bytes} of {BYTES} bytes"))
}

fn input(mut command: Command, stdin: File) -> Result<f64, String> {
    command.arg("wc -c").stdin(stdin);
    let started = Instant::now();
    let output = command.stderr(Stdio::inherit()).output().map_err(said)?;
    let time = milliseconds(started);
    let counted = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() && counted == BYTES.to_string() {
        return Ok(time);
    }
    Err(format!("{}, {counted} of {BYTES} bytes", output.status))
}

fn said(error: io::Error) -> String {
    error.to_string()
}
