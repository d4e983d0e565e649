//! `sshpool metrics`: statistics of the agent, as Prometheus reads them.

use crate::cli::failure::Failure;
use crate::cli::output::write;
use crate::cli::setup::Setup;

/// Prints what `/metrics` has.
pub(in crate::cli) async fn metrics(setup: &Setup) -> Result<u8, Failure> {
    let text = match setup.client(false) {
        Ok(client) => client.get_bytes("/metrics").await,
        Err(no) => Err(no),
    };
    let text = text.map_err(|no| Failure::Output(no.to_string()))?;
    write(String::from_utf8_lossy(&text).into_owned()).await?;
    Ok(0)
}
