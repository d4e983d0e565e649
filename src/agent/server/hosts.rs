//! The hosts that requests are about: as they are named, in the place of whoever asks.

use std::sync::Arc;

use super::Agent;
use crate::agent::protocol::{Cause, HostSpec, KnownHost, Origin, Refusal};
use crate::config::Config;
use crate::error::Error;
use crate::host::place::Needs;
use crate::host::{Host, HostError, Login};
use crate::pool::Pool;
use crate::transport::NotResolved;

/// The names of the configuration file, and what there are connections to.
pub(super) fn hosts(agent: &Agent) -> Result<Vec<KnownHost>, Refusal> {
    let mut all = std::collections::BTreeMap::new();
    for name in config(agent)?.hosts.into_keys() {
        all.insert(name, 0);
    }
    for connection in agent.pools.connections() {
        let name = connection.host.rsplit_once(':').map_or(&*connection.host, |(name, _)| name);
        *all.entry(name.to_owned()).or_default() += 1;
    }
    Ok(all.into_iter().map(|(name, connections)| KnownHost { name, connections }).collect())
}

/// The configuration file as it is now.
pub(super) fn config(agent: &Agent) -> Result<Config, Refusal> {
    let invalid =
        |error: crate::config::ConfigError| Refusal::new(Cause::Invalid, error.to_string());
    match &agent.plan.config_file {
        Some(file) if !matches!(file.try_exists(), Ok(false)) => {
            Config::load(file).map_err(invalid)
        }
        _ => Ok(Config::default()),
    }
}

pub(super) fn host_of(agent: &Agent, spec: HostSpec) -> Result<Host, Refusal> {
    let invalid = |error: crate::host::HostError| Refusal::new(Cause::Invalid, error.to_string());
    match spec {
        HostSpec::Whole(whole) => whole.host().map_err(|why| Refusal::new(Cause::Invalid, why)),
        HostSpec::Name(text) => named(agent, &config(agent)?, &text).map_err(invalid),
    }
}

/// A host by what is written for it.
pub(super) fn named(agent: &Agent, config: &Config, text: &str) -> Result<Host, HostError> {
    let host = config.host(text)?;
    match &agent.plan.ssh_config {
        Some(file) if host.get_config_file().is_none() => host.config_file(file),
        _ => Ok(host),
    }
}

/// The host as the client would reach it from its place, and the pool that has its settings.
pub(super) async fn host(
    agent: &Agent,
    spec: HostSpec,
    origin: Origin,
) -> Result<(Host, Pool), Refusal> {
    let (host, pool) = host_in_place(agent, spec, origin)?;
    let host = resolved(agent, &host, &pool).await?;
    Ok((host, pool))
}

/// The host in the client's place, to be asked for again and again.
pub(super) fn host_in_place(
    agent: &Agent,
    spec: HostSpec,
    origin: Origin,
) -> Result<(Host, Pool), Refusal> {
    let host = host_of(agent, spec)?;
    let standing = origin.place.as_ref().and_then(|place| place.standing.as_ref());
    if standing.is_some_and(|standing| *standing != agent.standing.place) {
        let message = "the agent has another root, other namespaces or other ids than its client";
        return Err(Refusal::new(Cause::Elsewhere, message));
    }
    let pool = agent.pools.get(origin.settings.as_ref())?;
    let pool = pool.map_err(|error| agent.refusal(&error, &host))?;
    let place = origin.place().map_err(|why| Refusal::new(Cause::Invalid, why))?;
    Ok((host.with_login(Login { place: Some(Arc::new(place)), ..Login::default() }), pool))
}

pub(super) async fn resolved(agent: &Agent, host: &Host, pool: &Pool) -> Result<Host, Refusal> {
    match pool.resolve(host).await {
        Ok(host) => Ok(host),
        Err(NotResolved::Needs(Needs { variables, whole })) => {
            let message =
                "more has to be known of the client's place: send it along, with these variables";
            Err(Refusal::new(Cause::Place { variables, whole }, message))
        }
        Err(NotResolved::Failed(source)) => {
            let error = Error::Connect { host: host.name().to_owned(), source };
            Err(agent.refusal(&error, host))
        }
    }
}
