//! What some commands leave behind: a process in the background that writes a line when its
//! command has long ended. Who holds a stream of the command keeps plain ssh waiting, and so its
//! line is the command's own; what the others write goes nowhere. In no case may it come with a
//! later command.
//!
//! Each sleeps for less than a second and then ends, and a command has one at most: there are never
//! many, and none is left soon after the last command.

use sshpool::SessionReuse;

use crate::random::Random;

/// How it is started, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Its streams go elsewhere.
    Redirected,
    /// It holds both streams.
    Writer,
    /// The same, and its line is for stderr.
    WriterOfErrors,
    /// It has left the process group, and its streams go elsewhere.
    Away,
    /// It has left the process group, and holds both streams.
    AwayWriter,
    /// It has left the process group, and holds stdout alone.
    AwayWithStdout,
    /// It starts without streams.
    Closed,
    /// It closes them itself.
    ClosesThem,
}

/// In bash one that has left the group and holds stderr alone cannot be seen (docs/limits.md), and
/// so it is not among them.
const KINDS: [Kind; 8] = [
    Kind::Redirected,
    Kind::Writer,
    Kind::WriterOfErrors,
    Kind::Away,
    Kind::AwayWriter,
    Kind::AwayWithStdout,
    Kind::Closed,
    Kind::ClosesThem,
];

impl Kind {
    /// Of a command in a pool with this setting, whose documented gap it does not fall into.
    fn draw(random: &mut Random, reuse: SessionReuse) -> Kind {
        let kind = random.pick(&KINDS);
        match (kind, reuse) {
            // What has left the group and holds a stream is not seen there, in bash.
            (Kind::AwayWriter | Kind::AwayWithStdout, SessionReuse::Fast) => Kind::Away,
            _ => kind,
        }
    }
}

/// A process that a command leaves behind.
pub struct Leftover {
    pub kind: Kind,
    /// Starts it; another command can follow behind `; ` as well as on the next line.
    pub text: String,
    /// What it adds to the command's own streams.
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Leftover {
    /// One of the command with this id.
    pub fn draw(random: &mut Random, id: &str, reuse: SessionReuse) -> Leftover {
        let kind = Kind::draw(random, reuse);
        let seconds = random.millis(20, 900).as_secs_f64();
        let late = format!("sleep {seconds}; echo late {id}");
        let started = match kind {
            Kind::Redirected => format!("({late}) >/dev/null 2>&1"),
            Kind::Writer => format!("({late})"),
            Kind::WriterOfErrors => format!("({late} >&2)"),
            Kind::Away => format!("setsid sh -c '{late}' >/dev/null 2>&1"),
            Kind::AwayWriter => format!("setsid sh -c '{late}'"),
            Kind::AwayWithStdout => format!("setsid sh -c '{late}' 2>/dev/null"),
            Kind::Closed => format!("({late}) >&- 2>&-"),
            Kind::ClosesThem => format!("(exec >&- 2>&-; {late})"),
        };
        let line = format!("late {id}\n").into_bytes();
        let (stdout, stderr) = match kind {
            Kind::Writer | Kind::AwayWriter | Kind::AwayWithStdout => (line, Vec::new()),
            Kind::WriterOfErrors => (Vec::new(), line),
            Kind::Redirected | Kind::Away | Kind::Closed | Kind::ClosesThem => {
                (Vec::new(), Vec::new())
            }
        };
        Leftover { kind, text: format!("{started} & :"), stdout, stderr }
    }
}
