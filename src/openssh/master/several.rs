//! How many sessions the server opens on one connection, found out by opening them.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::closing::BEGINNING;
use super::{Account, Master};
use crate::host::Variables;
use crate::openssh::bootstrap;
use crate::openssh::examine::Limit;
use crate::openssh::session::Session;
use crate::transport::{
    Input, NotOpened, Script, Session as _, SessionEnd, Sessions, Streams, Trial,
};

/// How long a server has for another session and the end of it, at least.
const SHORTEST_TRIAL: Duration = Duration::from_secs(2);
/// How long a connection has to outlive a session.
const BEHIND: Duration = Duration::from_millis(300);
/// How long the end of a connection is waited for, once something of it was heard.
const DYING: Duration = Duration::from_secs(1);

impl Master {
    /// Opens a session beside this one or one of its own, and when it has ended another one. An
    /// account in which nothing of ours is to run is taken for that of a server which opens one.
    pub(crate) async fn try_another(&self, beside: Option<&mut Session>) -> Trial {
        if self.is_silent() {
            return Trial::Refuses;
        }
        let limit = self.last_echo().map_or(SHORTEST_TRIAL, |took| SHORTEST_TRIAL.max(took * 8));
        let mut own = None;
        if beside.is_none() {
            match timeout(limit, self.waits()).await {
                Ok(Ok(waits)) => own = Some(waits),
                Ok(Err(end)) => return self.failed(end).await,
                Err(_) => return Trial::Fails,
            }
        }
        let others = timeout(limit, self.two_others()).await;
        // A server that is slow is so over that one, too.
        let still_answers = timeout(limit, async {
            match (beside, own) {
                (Some(beside), _) => beside.answers(self).await,
                (None, Some((mut session, streams))) => {
                    // It ends with its input.
                    drop(streams);
                    whole(session.wait(self).await).is_ok()
                }
                (None, None) => false,
            }
        });
        match others {
            Ok(Ok(())) => {
                self.set_sessions(Sessions::Several);
                Trial::Opens
            }
            Ok(Err(end)) => self.failed(end).await,
            Err(_) if still_answers.await.unwrap_or(false) => Trial::Refuses,
            Err(_) => Trial::Fails,
        }
    }

    /// `Err` says how a session ended that did not as it was to.
    async fn two_others(&self) -> Result<(), SessionEnd> {
        self.echo_ends().await?;
        // A server that ends the connection with a session does so a little later.
        if timeout(BEHIND, self.ended()).await.is_ok() {
            return Err(SessionEnd::NotReached("the connection has ended".to_owned()));
        }
        // One that opens two may have the first one for a moment longer.
        match self.echo_ends().await {
            Err(SessionEnd::Refused(_)) => {
                sleep(BEGINNING).await;
                self.echo_ends().await
            }
            end => end,
        }
    }

    async fn failed(&self, end: SessionEnd) -> Trial {
        match end {
            SessionEnd::Refused(_) => Trial::Refuses,
            _ if timeout(DYING, self.ended()).await.is_ok() => Trial::Ends,
            _ => Trial::Fails,
        }
    }

    /// A session that waits for input and does nothing.
    async fn waits(&self) -> Result<(Session, Streams), SessionEnd> {
        let mut session =
            self.idle_session().map_err(|why| SessionEnd::NotReached(why.to_string()))?;
        // Taken before it is waited for, which would close the input.
        let streams = session.take_streams();
        session.opened(self).await.map(|()| (session, streams))
    }

    fn idle_session(&self) -> Result<Session, NotOpened> {
        match self.account() {
            Account::Posix => self.bootstrap(Input::Piped, ""),
            _ => {
                let reads = Script::new("cat >/dev/null");
                self.spawn(&reads, Input::Piped, "", None, &Variables::default())
            }
        }
    }

    /// How many sessions the server opens on this connection at once, found out by opening them one
    /// after another up to so many. They wait for input and do nothing, and they end with it.
    /// `others` says how many wait in standby.
    ///
    /// `None` where what runs in a session is not ours to choose. `Err` says what else came in
    /// between.
    pub(crate) async fn most_sessions(
        &self,
        most: usize,
        others: impl Fn() -> usize,
    ) -> Option<Result<Limit, String>> {
        if self.sessions() == Sessions::One {
            return Some(Ok(Limit::Is(1)));
        }
        let mut opened = Vec::new();
        let mut refused = false;
        while opened.len() + others() < most {
            if self.is_silent() {
                return None;
            }
            match self.waits().await {
                Ok(waits) => {
                    opened.push(waits);
                    refused = false;
                }
                // The server may not have noticed yet that a command before has ended.
                Err(SessionEnd::Refused(_)) if !refused => {
                    refused = true;
                    sleep(BEGINNING).await;
                }
                Err(SessionEnd::Refused(_)) => return Some(Ok(Limit::Is(opened.len() + others()))),
                Err(end) => return Some(Err(format!("{end:?}"))),
            }
        }
        Some(Ok(Limit::AtLeast(opened.len() + others())))
    }

    /// Runs a session that prints a word. `Err` says how it ended where it did not by itself.
    pub(super) async fn echo_ends(&self) -> Result<(), SessionEnd> {
        let input = Input::Bytes(b"");
        let mut session = self
            .spawn(&Script::new(bootstrap::echo()), input, "", None, &Variables::default())
            .map_err(|why| SessionEnd::NotReached(why.to_string()))?;
        // What it writes says nothing that its end does not say. A pipe does not fail.
        let Streams { mut stdout, mut stderr, .. } = session.take_streams();
        let (mut out, mut err) = (tokio::io::sink(), tokio::io::sink());
        let read = async {
            tokio::join!(
                tokio::io::copy(&mut stdout, &mut out),
                tokio::io::copy(&mut stderr, &mut err)
            )
        };
        let (_, end) = tokio::join!(read, session.wait(self));
        whole(end)
    }
}

/// Whether a session of ours has ended by itself.
fn whole(end: SessionEnd) -> Result<(), SessionEnd> {
    match end {
        SessionEnd::Exited(_) | SessionEnd::Killed | SessionEnd::NotBegun => Ok(()),
        end => Err(end),
    }
}
