//! Ending remote commands: their process groups get TERM, and KILL when that was not enough.
//!
//! Ending the local ssh does not do it: a remote command that neither reads nor writes would not
//! notice. So a small script signals the groups from another session of the same account, waits
//! there until they are gone, and says what it saw. One session is enough for any number of groups.

use std::fmt::Write;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::bootstrap;
use super::master::Master;
use super::session::Session;
use crate::transport::{
    ENDING, Input, NotEnded, Script, Session as _, SessionEnd, Sessions, Streams,
};

/// What the script has to say: nothing is left, some of it is somebody else's, it is still there.
const GONE: &str = "sshpool-gone";
const DENIED: &str = "sshpool-denied";
const LEFT: &str = "sshpool-left";

/// More than any start-up file writes.
const MOST_NOISE: usize = 1024 * 1024;
/// How long a session may take until its shell has begun with the script. It takes a round trip or
/// three, and what start-up files take.
const BEGINS: Duration = Duration::from_millis(1500);

impl Master {
    /// Ends these process groups. Completes when nothing is left of them. Takes a session in
    /// standby where there is one.
    pub(crate) async fn end_groups(
        &self,
        standby: Option<Session>,
        groups: &[i32],
    ) -> Result<(), NotEnded> {
        let script = Script::new(script(groups));
        let is_only = standby.is_some() && self.sessions() != Sessions::Several;
        if let Some(mut session) = standby {
            match self.answer(&mut session, &script).await.and_then(|answer| judge(&answer)) {
                // It had ended just now, and another one does it. Where one that is there hears
                // nothing, another one would not, either.
                Err(NotEnded::Refused | NotEnded::NotHere(_))
                    if !session.is_there() && !is_only => {}
                outcome => return outcome,
            }
        }
        let mut session = self
            .bootstrap(Input::Bytes(b""), bootstrap::line_of(&script))
            .map_err(|why| NotEnded::NotHere(why.to_string()))?;
        judge(&self.answer(&mut session, &script).await?)
    }

    /// What the script writes in this session.
    async fn answer(&self, session: &mut Session, script: &Script) -> Result<String, NotEnded> {
        // One that has run commands runs this one as well; it ends with it.
        let in_lane = session.in_lane(script);
        let is_in_lane = in_lane.is_some();
        let line = match is_in_lane {
            true => session.preface(script).into_owned(),
            false => bootstrap::line_of(script).as_bytes().to_vec(),
        };
        let Streams { stdin, mut stdout, mut stderr } =
            in_lane.unwrap_or_else(|| session.take_streams());
        let mut output = Vec::new();
        let begun = async {
            if let Some(mut stdin) = stdin {
                // Where the session has ended, its end tells why.
                let _ = stdin.write_all(&line).await;
            }
            let is_too_much = |noise: &mut Vec<u8>| match noise.len() < MOST_NOISE {
                true => Ok(()),
                false => Err(()),
            };
            stdout.begun(&mut output, is_too_much).await
        };
        let silent = || NotEnded::NotHere(format!("the server has not answered within {BEGINS:?}"));
        // Where it has not begun its end says why.
        let _ = timeout(BEGINS, begun).await.map_err(|_| silent())?;
        let rest = async {
            // A pipe does not fail; if it ever does, the word is missing, and that is the answer.
            let mut stdout = stdout.take(MOST_NOISE as u64);
            let (mut sink, rest) = (tokio::io::sink(), stdout.read_to_end(&mut output));
            if is_in_lane {
                // Its end is told on both streams.
                let _ = tokio::join!(rest, tokio::io::copy(&mut stderr, &mut sink));
            } else {
                let _ = rest.await;
            }
            session.wait(self).await
        };
        match timeout(ENDING, rest)
            .await
            .map_err(|_| NotEnded::NotHere(format!("no answer within {ENDING:?}")))?
        {
            SessionEnd::Refused(_) => Err(NotEnded::Refused),
            SessionEnd::Lost(reason)
            | SessionEnd::NotReached(reason)
            | SessionEnd::ClientKilled(reason) => Err(NotEnded::NotHere(reason)),
            SessionEnd::Exited(_) | SessionEnd::Killed | SessionEnd::NotBegun => {
                Ok(String::from_utf8_lossy(&output).into_owned())
            }
        }
    }
}

pub(super) fn judge(answer: &str) -> Result<(), NotEnded> {
    let has = |word| answer.lines().any(|line| line.trim() == word);
    if has(GONE) {
        Ok(())
    } else if has(DENIED) {
        Err(NotEnded::StillThere("some of its processes belong to another user"))
    } else if has(LEFT) {
        Err(NotEnded::StillThere("its processes were still there after KILL"))
    } else {
        Err(NotEnded::NotHere("the account's shell ended before it could signal".to_owned()))
    }
}

/// Signals the groups, waits, and says what is left.
///
/// `kill -TERM -PID` is the form that every sh understands (test
/// `groups_are_ended_by_every_shell`). A process that is stopped takes its TERM when it goes on. A
/// zombie, which some containers never reap, is nothing that lives; where there is a /proc it
/// tells. A sleep that knows whole seconds only sleeps them.
pub(super) fn script(groups: &[i32]) -> String {
    let groups = groups.iter().fold(String::new(), |mut text, group| {
        write!(text, " {group}").expect("writing to a String cannot fail");
        text
    });
    format!(
        "LC_ALL=C; export LC_ALL; \
         each() {{ for g in{groups}; do kill -$1 -$g; done; }}; \
         there() {{ for g in{groups}; do kill -0 -$g && lives $g && return 0; done 2>/dev/null; return 1; }}; \
         lives() {{ [ ! -r /proc/self/stat ] || cat /proc/[0-9]*/stat | grep \") [^ZX] [0-9]* $1 \" >/dev/null; }}; \
         each TERM 2>/dev/null; each CONT 2>/dev/null; \
         n=0; for t in 0.01 0.02 0.05 0.1 0.2 0.4 0.6 0.6; do there || break; [ $n -lt 2 ] || break; \
         sleep $t 2>/dev/null || {{ n=$((n+1)); sleep 1; }}; done; \
         if there; then each KILL 2>/dev/null; \
         for t in 0.01 0.05 0.1 0.1; do there || break; sleep $t 2>/dev/null || sleep 1; done; fi; \
         if there; then echo {LEFT}; elif each 0 2>&1 | grep -i permitted >/dev/null; then echo {DENIED}; else echo {GONE}; fi"
    )
}
