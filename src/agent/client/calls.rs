//! What a client asks the agent for a host: a connection, a lease, a command.

use std::io;
use std::sync::Arc;

use tokio::io::{ReadHalf, WriteHalf};

use super::{ATTEMPTS, Client, Frames, NoAgent};
use crate::agent::protocol::{
    self, Connect, Connected, End, Exec, Leased, Masters, Question, Refusal, frame,
};
use crate::command::ExitStatus;
use crate::error::Error;
use crate::host::Host;

impl Client {
    /// A connection to a host, made if it is not there. Nobody is asked anything.
    /// `retry`: what has failed before is forgotten.
    pub(crate) async fn connect(
        &self,
        host: &Host,
        hold: bool,
        retry: bool,
    ) -> Result<Connected, Error> {
        let connect = Connect::new(host, hold, retry, self.origin());
        match self.post("/v1/connect", &connect).await {
            Ok(answer) => answer.map_err(|refused| refused.into_error(host)),
            Err(no) => Err(not_started(host, &no)),
        }
    }

    /// The connections that the next command on a host could run on. With `retire` they are for no
    /// further command.
    pub(crate) async fn masters(
        &self,
        host: &Host,
        retire: bool,
    ) -> Result<Result<Masters, Refusal>, NoAgent> {
        let connect = Connect::new(host, false, false, self.origin());
        self.post(if retire { "/v1/retire" } else { "/v1/check" }, &connect).await
    }

    /// A connection to a host; what ssh wants to know is asked.
    pub(crate) async fn connect_asking(
        &self,
        host: &Host,
        mut ask: impl AsyncFnMut(&Question) -> Option<String>,
    ) -> Result<Connected, Error> {
        let connect = Connect::new(host, false, true, self.origin());
        let frames = match self.frames("/v1/connect", &connect).await {
            Ok(frames) => frames.map_err(|refused| refused.into_error(host))?,
            Err(no) => return Err(not_started(host, &no)),
        };
        let gone = |_| not_started(host, &NoAgent::NoAnswer("it has ended".to_owned()));
        let (mut from, mut to) = tokio::io::split(frames);
        let mut bytes = Vec::new();
        loop {
            match protocol::read_frame(&mut from, &mut bytes).await.map_err(gone)? {
                Some(frame::QUESTION) => {
                    let question: Question = serde_json::from_slice(&bytes)
                        .map_err(|_| gone(io::ErrorKind::InvalidData.into()))?;
                    match ask(&question).await {
                        Some(answer) => {
                            protocol::write_frame(&mut to, frame::ANSWER, answer.as_bytes()).await
                        }
                        None => protocol::write_frame(&mut to, frame::KILL, b"").await,
                    }
                    .map_err(gone)?;
                }
                Some(frame::END) => {
                    if let Ok(connected) = serde_json::from_slice(&bytes) {
                        return Ok(connected);
                    }
                    let refused: Refusal = serde_json::from_slice(&bytes)
                        .map_err(|_| gone(io::ErrorKind::InvalidData.into()))?;
                    return Err(refused.into_error(host));
                }
                Some(_) => {}
                None => return Err(gone(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// A connection to a host that the agent holds for as long as the frames are open, and its
    /// name.
    pub(super) async fn lease_of(&self, host: &Host) -> Result<(String, Frames), Error> {
        let connect = Connect::new(host, false, false, self.origin());
        let mut frames = match self.frames("/v1/lease", &connect).await {
            Ok(frames) => frames.map_err(|refused| refused.into_error(host))?,
            Err(no) => return Err(not_started(host, &no)),
        };
        let mut bytes = Vec::new();
        let gone = || not_started(host, &NoAgent::NoAnswer("it has ended".to_owned()));
        match protocol::read_frame(&mut frames, &mut bytes).await {
            Ok(Some(frame::STARTED)) => {
                let leased: Leased = serde_json::from_slice(&bytes).map_err(|_| gone())?;
                Ok((leased.lease, frames))
            }
            Ok(Some(frame::END)) => match serde_json::from_slice::<Refusal>(&bytes) {
                Ok(refused) => Err(refused.into_error(host)),
                Err(_) => Err(gone()),
            },
            _ => Err(gone()),
        }
    }

    /// The frames of a command that has begun.
    pub(super) async fn begin(
        &self,
        host: &Host,
        exec: &Exec,
    ) -> Result<(ReadHalf<Frames>, WriteHalf<Frames>), Error> {
        let mut left = ATTEMPTS;
        loop {
            left -= 1;
            let frames = match self.frames("/v1/exec", exec).await {
                Ok(frames) => frames.map_err(|refused| refused.into_error(host))?,
                // It may just have been about to.
                Err(no @ NoAgent::Silent(_)) => return Err(lost(host, no.to_string())),
                Err(no) => return Err(not_started(host, &no)),
            };
            let (mut from, to) = tokio::io::split(frames);
            let mut bytes = Vec::new();
            match protocol::read_frame(&mut from, &mut bytes).await {
                Ok(Some(frame::STARTED)) => return Ok((from, to)),
                Ok(Some(frame::END)) => match serde_json::from_slice(&bytes) {
                    // The agent was told to end while the command waited for a connection. The next
                    // one has it.
                    Ok(End::Failed(refused)) if refused.is_leaving() && left > 0 => {}
                    Ok(End::Failed(refused)) => return Err(refused.into_error(host)),
                    // It does not end before it has begun.
                    Ok(End::Ended(_)) | Err(_) => return Err(agent_gone(host)),
                },
                _ => return Err(agent_gone(host)),
            }
        }
    }
}

pub(super) fn ended(bytes: &[u8], host: &Host) -> Result<ExitStatus, Error> {
    match serde_json::from_slice(bytes) {
        Ok(End::Ended(ended)) => Ok(ended.status()),
        Ok(End::Failed(refused)) => Err(refused.into_error(host)),
        Err(_) => Err(agent_gone(host)),
    }
}

pub(super) fn agent_gone(host: &Host) -> Error {
    lost(host, "the agent has ended".to_owned())
}

fn lost(host: &Host, reason: String) -> Error {
    Error::Lost { host: host.name().to_owned(), reason, partial: Arc::default() }
}

fn not_started(host: &Host, no: &NoAgent) -> Error {
    Error::NeverStarted { host: host.name().to_owned(), reason: no.to_string() }
}
