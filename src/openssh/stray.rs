//! Ending the remote command of a client that is not one of the pool's sessions: a plain `ssh -S`
//! that another program has started.
//!
//! The process group of such a command is not known: its session prints nothing of its own, and
//! must not. So another session of the same connection looks which processes the server has started
//! for this connection, and ends the one that has the command of the client and is as old as the
//! client. (Each session's process leads a group of its own and is a child of the same sshd.)
//!
//! Where several could be it, or the text of none is that of the command, the client is let go
//! first: the server then closes its end of the pipe that the command writes to. Of the processes
//! of that age the one is ended whose output has no reader any more. Where that cannot be found out
//! (GNU's tail tells), or is not one, none is ended.

use std::ffi::OsString;
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::args;
use super::ending::{judge, script};
use super::program::Program;
use crate::command::escape::escape;
use crate::host::Variables;
use crate::transport::{ENDING, NotEnded, Script};

/// How long it may take to look.
const LOOKS: Duration = Duration::from_secs(3);
/// How much the age of the command may differ from the client's.
const SURE: f64 = 3.0;
/// What ps counts, in seconds.
const GRAIN: f64 = 1.0;

/// A client whose command is to be ended.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub socket: &'a Path,
    /// When it was started.
    pub started: Instant,
    /// What it was asked to run; empty for a shell.
    pub command: &'a str,
}

/// A process that the server has started for the connection.
#[derive(Clone, Debug, PartialEq)]
struct Started {
    group: i32,
    /// Of the process that looks: how much older this one is.
    age: f64,
    line: String,
}

/// Why it was not ended.
#[derive(Debug)]
pub(crate) enum NotDone {
    /// There is no session to look with, for this reason.
    NoSession(String),
    NotFound,
    NotEnded(NotEnded),
}

impl fmt::Display for NotDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotDone::NoSession(why) => write!(f, "no session to end it with: {why}"),
            NotDone::NotFound => {
                f.write_str("it was not found among the processes of the connection")
            }
            NotDone::NotEnded(why) => write!(f, "{why:?}"),
        }
    }
}

/// The groups that could be the client's command.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Found {
    groups: Vec<i32>,
    /// There is one, and it has the text of the command.
    is_sure: bool,
}

impl Found {
    /// The client has to be gone before the right one is known.
    pub(crate) fn is_sure(&self) -> bool {
        self.is_sure
    }
}

impl Client<'_> {
    /// Looks for its command.
    pub(crate) async fn find(&self, program: &Program) -> Result<Found, NotDone> {
        // The session that looks comes as late to its shell as the client's did.
        let age = self.started.elapsed().as_secs_f64();
        let seen = self.ask(program, LOOK, LOOKS).await?;
        let found = choose(&started(&seen), self.command, age);
        if found.groups.is_empty() { Err(NotDone::NotFound) } else { Ok(found) }
    }

    /// Ends its command. Completes when nothing is left of it.
    pub(crate) async fn end(&self, program: &Program, found: &Found) -> Result<(), NotDone> {
        let group = match found.groups[..] {
            [one] if found.is_sure => one,
            _ => match self.abandoned(program, &found.groups).await?[..] {
                [one] => one,
                _ => return Err(NotDone::NotFound),
            },
        };
        let answer = self.ask(program, &script(&[group]), ENDING).await?;
        judge(&answer).map_err(NotDone::NotEnded)
    }

    /// Those of them that write to a pipe without a reader.
    async fn abandoned(&self, program: &Program, groups: &[i32]) -> Result<Vec<i32>, NotDone> {
        let mut text = "for g in".to_owned();
        for group in groups {
            write!(text, " {group}").expect("writing to a String cannot fail");
        }
        // Where the pipe has no reader, SIGPIPE ends tail as soon as it looks, before it writes.
        text.push_str(
            "; do { timeout 0.4 tail -f /dev/null >/proc/$g/fd/1; [ $? -eq 141 ] && echo \
                \"sshpool-abandoned $g\"; } & done 2>/dev/null; \
             wait; exit 0",
        );
        let seen = self.ask(program, &text, LOOKS).await?;
        let named =
            seen.lines().filter_map(|line| line.strip_prefix("sshpool-abandoned ")?.parse().ok());
        Ok(named.filter(|group| groups.contains(group)).collect())
    }

    /// What this script of a POSIX shell writes.
    async fn ask(&self, program: &Program, text: &str, limit: Duration) -> Result<String, NotDone> {
        // Whatever the login shell of the account is.
        let mut command = b"exec /bin/sh -c ".to_vec();
        escape(text.as_bytes(), &mut command);
        let command = Script::new(OsString::from_vec(command));
        let log = Path::new("/dev/null");
        let arguments = args::session(self.socket, log, &command, &Variables::default(), false);
        let call = program.call(arguments, tokio::time::Instant::now() + limit).await;
        match call {
            Ok(finished) if finished.code == Some(0) => Ok(finished.stdout),
            Ok(finished) => {
                Err(NotDone::NoSession(format!("the status of ssh is {:?}", finished.code)))
            }
            Err(error) => Err(NotDone::NoSession(error.to_string())),
        }
    }
}

/// Writes a line for each process that leads a session and has the same parent as this shell:
/// `sshpool-started PID START LINE`, with the time of its start in ticks; and before them the ticks
/// in a second. Where there is no /proc ps tells ages instead.
const LOOK: &str = r#"LC_ALL=C; export LC_ALL
if [ -r /proc/self/stat ]; then
echo "sshpool-ticks $$ $(getconf CLK_TCK 2>/dev/null || echo 100)"
for d in /proc/[0-9]*; do
read -r s 2>/dev/null <$d/stat || continue
p=${d#/proc/}
set -- ${s##*) }
if [ "$2" = "$PPID" ] && [ "$4" = "$p" ]; then
shift 19
echo "sshpool-started $p $1 $(tr '\000\012' ' \177' 2>/dev/null <$d/cmdline)"
fi
done 2>/dev/null
else
echo "sshpool-ages $$"
ps -A -o pid= -o ppid= -o etime= -o args= | while read -r p q e l; do
[ "$q" = "$PPID" ] && echo "sshpool-started $p $e $l"
done
fi
exit 0"#;

/// Reads what [`LOOK`] has written, without the process that looked.
fn started(seen: &str) -> Vec<Started> {
    let mut lines = seen.lines().skip_while(|line| {
        !line.starts_with("sshpool-ticks ") && !line.starts_with("sshpool-ages ")
    });
    let Some(first) = lines.next() else { return Vec::new() };
    let mut words = first.split(' ');
    let has_ticks = words.next() == Some("sshpool-ticks");
    let own = words.next().unwrap_or_default();
    let ticks: f64 =
        words.next().and_then(|text| text.parse().ok()).filter(|n| *n > 0.0).unwrap_or(100.0);
    let all = lines.filter_map(|line| {
        let mut parts = line.strip_prefix("sshpool-started ")?.splitn(3, ' ');
        let (pid, time, line) = (parts.next()?, parts.next()?, parts.next().unwrap_or_default());
        let time = if has_ticks { -time.parse::<f64>().ok()? / ticks } else { elapsed(time)? };
        Some((pid.to_owned(), time, line.trim_end().to_owned()))
    });
    let all: Vec<_> = all.collect();
    let Some(zero) = all.iter().find(|(pid, ..)| pid == own).map(|(_, time, _)| *time) else {
        return Vec::new();
    };
    let others = all.into_iter().filter(|(pid, ..)| pid != own);
    others
        .filter_map(|(pid, time, line)| {
            let group = pid.parse().ok().filter(|pid| *pid > 1)?;
            Some(Started { group, age: time - zero, line })
        })
        .collect()
}

/// `[[days-]hours:]minutes:seconds`
fn elapsed(text: &str) -> Option<f64> {
    let (days, rest) = text.split_once('-').unwrap_or(("0", text));
    let mut seconds = days.parse::<f64>().ok()? * 24.0;
    let parts: Vec<f64> = rest.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
    for (place, unit) in (0..3).rev().zip([1.0, 60.0, 60.0]) {
        // Hours can be missing.
        let part =
            parts.len().checked_sub(place + 1).and_then(|at| parts.get(at)).copied().unwrap_or(0.0);
        seconds = seconds * unit + part;
    }
    Some(seconds)
}

/// The groups that could be the client's command: those of its age with its text, or where there
/// are none all of its age that are no sessions of a pool.
fn choose(all: &[Started], command: &str, age: f64) -> Found {
    let wanted = plainly(command);
    let last = replaced(&wanted);
    let has_text = |one: &Started| {
        let line = plainly(&one.line);
        match &*wanted {
            // A login shell.
            "" => line.starts_with('-') && !line.contains(" -c "),
            text => line == text || line.ends_with(&format!(" -c {text}")) || line == last,
        }
    };
    let of_age: Vec<_> = all.iter().filter(|one| (one.age - age).abs() <= SURE + GRAIN).collect();
    let groups = |is_it: &dyn Fn(&Started) -> bool| -> Vec<i32> {
        of_age.iter().filter(|one| is_it(one)).map(|one| one.group).collect()
    };
    let same = groups(&has_text);
    if same.is_empty() {
        return Found { groups: groups(&|one| !one.line.contains("sshpool-")), is_sure: false };
    }
    Found { is_sure: same.len() == 1, groups: same }
}

/// A text as a process list has it: a shell has taken its quotes, and lines are one.
fn plainly(text: &str) -> String {
    let text: String = text.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
    let words: Vec<&str> = text
        .split(|c: char| c.is_ascii_whitespace() || c == '\x7f')
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ")
}

/// What a shell is replaced by that has nothing more to do behind a simple command, the last one of
/// a list.
fn replaced(text: &str) -> String {
    let is_assignment = |word: &&str| {
        let name = word.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let last = text.rsplit([';', '&', '|']).next().unwrap_or_default().trim_start();
    let words = last.split(' ').skip_while(|word| *word == "exec" || is_assignment(word));
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SEEN: &str = "motd\nsshpool-ticks 40 100\n\
        sshpool-started 10 1000 bash -c IFS= read -r sshpool && case $sshpool in sshpool-0123*) \n\
        sshpool-started 20 5000 sleep 43 \n\
        sshpool-started 21 5050 sleep 43\n\
        sshpool-started 22 6000 sleep 45\n\
        sshpool-started 23 6500 sh -c sleep 46\n\
        sshpool-started 30 7000 bash -c sleep 44; true\n\
        sshpool-started 31 7100 -bash\n\
        sshpool-started 40 9000 /bin/sh -c LC_ALL=C; export LC_ALL\n";

    #[rstest]
    // Two of them, of which one is somebody else's.
    #[case("sleep 43", 40.0, &[20, 21], false)]
    #[case("sleep 43", 10.0, &[], false)]
    #[case("sleep 45", 30.1, &[22], true)]
    #[case("exec sleep 45", 30.1, &[22], true)]
    #[case("echo x; exec sleep 45", 30.1, &[22], true)]
    #[case("cd / && A=1 B='x' sleep  '45'", 30.1, &[22], true)]
    #[case("sh -c 'sleep 46'", 25.1, &[23], true)]
    // Whatever that expands to.
    #[case("sleep $x", 30.1, &[22], false)]
    #[case("sleep 44; true", 20.1, &[30], true)]
    #[case("", 19.0, &[31], true)]
    // Sessions of a pool are nobody's.
    #[case("true", 80.0, &[], false)]
    #[case("true", 0.0, &[], false)]
    fn those_that_could_be_it(
        #[case] command: &str,
        #[case] age: f64,
        #[case] groups: &[i32],
        #[case] is_sure: bool,
    ) {
        let all = started(SEEN);
        assert_eq!(all.len(), 7, "{all:?}");
        assert_eq!(choose(&all, command, age), Found { groups: groups.to_vec(), is_sure });
    }

    #[test]
    fn lines_of_a_command_are_one() {
        let seen = "sshpool-ticks 2 100\nsshpool-started 9 100 bash -c a\x7fb \nsshpool-started 2 \
            200 sh\n";
        assert!(choose(&started(seen), "a\nb\n", 1.0).is_sure);
    }

    #[rstest]
    #[case("00:07", 7.0)]
    #[case("02:07", 127.0)]
    #[case("01:02:07", 3727.0)]
    #[case("1-01:02:07", 90127.0)]
    fn ages_of_ps(#[case] text: &str, #[case] seconds: f64) {
        assert_eq!(elapsed(text), Some(seconds));
    }

    #[rstest]
    #[case("")]
    #[case("sshpool-ticks 2 0\n")]
    #[case("sshpool-ages 2\nsshpool-started x y\n")]
    #[case("sshpool-ticks 2 100\nsshpool-started -1 100 sleep 43\nsshpool-started 2 200 sh\n")]
    fn what_is_not_understood_names_nobody(#[case] seen: &str) {
        assert_eq!(choose(&started(seen), "sleep 43", 1.0), Found::default());
    }
}
