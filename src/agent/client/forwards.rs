//! Forwards over the agent.

use std::path::PathBuf;

use super::{Client, Frames, NoAgent};
use crate::agent::protocol::{
    self, ForwardInfo, Forwards, Happened, NewForward, Refusal, WhatForwarded, frame,
};
use crate::error::Error;
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
        what: &WhatForwarded<'_>,
    ) -> Result<(ForwardInfo, Forwarded), Error> {
        let new = NewForward::new(host, what, false, self.origin());
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
        what: &WhatForwarded<'_>,
    ) -> Result<ForwardInfo, Error> {
        let new = NewForward::new(host, what, true, self.origin());
        match self.post("/v1/forwards", &new).await {
            Ok(answer) => answer.map_err(|refused| refused.into_error(host)),
            Err(no) => Err(Error::Forward { host: host.name().to_owned(), reason: no.to_string() }),
        }
    }

    /// Where the socket of this host's engine is, whoever asks.
    pub(crate) fn docker_socket(&self, host: &Host) -> Result<PathBuf, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let plain = |text: &str| -> String {
            let one = |c: char| match is_plain(c) {
                true => vec![c],
                // Different names stay different.
                false => format!("+{:x}+", u32::from(c)).chars().collect(),
            };
            text.chars().flat_map(one).collect()
        };
        let user = host.get_user().map(|user| plain(user) + "@").unwrap_or_default();
        let port = host.get_port().map(|port| format!("+{port}")).unwrap_or_default();
        let name = format!("{user}{}{port}", plain(host.name()));
        Ok(self.inner.directory.sockets()?.join(name))
    }

    pub(crate) async fn forwards(&self) -> Result<Vec<ForwardInfo>, NoAgent> {
        Ok(self.get::<Forwards>("/v1/forwards").await?.forwards)
    }

    pub(crate) async fn remove_forward(&self, id: u64) -> Result<Result<(), Refusal>, NoAgent> {
        let removed = self.delete::<serde_json::Value>(&format!("/v1/forwards/{id}")).await?;
        Ok(removed.map(drop))
    }
}
