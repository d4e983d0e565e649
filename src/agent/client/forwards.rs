//! Forwards over the agent.

use super::{Client, Frames, NoAgent};
use crate::agent::protocol::{self, ForwardInfo, Forwards, Happened, NewForward, Refusal, frame};
use crate::error::Error;
use crate::forward::ForwardSpec;
use crate::host::Host;

/// A forward of the agent's that ends with this.
#[derive(Debug)]
pub(crate) struct Forwarded {
    frames: Frames,
    bytes: Vec<u8>,
}

impl Forwarded {
    /// The next thing that happens; none at its end. Not cancel safe.
    pub(crate) async fn next(&mut self) -> Option<Happened> {
        match protocol::read_frame(&mut self.frames, &mut self.bytes).await {
            Ok(Some(frame::STDOUT)) => serde_json::from_slice(&self.bytes).ok(),
            _ => None,
        }
    }
}

impl Client {
    /// Forwards for as long as what this gives is there.
    pub(crate) async fn forward(
        &self,
        host: &Host,
        spec: &ForwardSpec,
    ) -> Result<(ForwardInfo, Forwarded), Error> {
        let new = NewForward::new(host, spec, false, self.origin());
        let refused = |refused: Refusal| refused.into_error(host);
        let failed =
            |no: NoAgent| Error::Forward { host: host.name().to_owned(), reason: no.to_string() };
        let mut frames =
            self.frames("/v1/forwards", &new).await.map_err(failed)?.map_err(refused)?;
        let gone = || failed(NoAgent::NoAnswer("it has ended".to_owned()));
        let mut bytes = Vec::new();
        match protocol::read_frame(&mut frames, &mut bytes).await {
            Ok(Some(frame::STARTED)) => {
                let info = serde_json::from_slice(&bytes).map_err(|_| gone())?;
                Ok((info, Forwarded { frames, bytes }))
            }
            _ => Err(gone()),
        }
    }

    /// Forwards until it is removed.
    pub(crate) async fn keep_forward(
        &self,
        host: &Host,
        spec: &ForwardSpec,
    ) -> Result<ForwardInfo, Error> {
        let new = NewForward::new(host, spec, true, self.origin());
        match self.post("/v1/forwards", &new).await {
            Ok(answer) => answer.map_err(|refused| refused.into_error(host)),
            Err(no) => Err(Error::Forward { host: host.name().to_owned(), reason: no.to_string() }),
        }
    }

    pub(crate) async fn forwards(&self) -> Result<Vec<ForwardInfo>, NoAgent> {
        Ok(self.get::<Forwards>("/v1/forwards").await?.forwards)
    }

    pub(crate) async fn remove_forward(&self, id: u64) -> Result<Result<(), Refusal>, NoAgent> {
        let removed = self.delete::<serde_json::Value>(&format!("/v1/forwards/{id}")).await?;
        Ok(removed.map(drop))
    }
}
