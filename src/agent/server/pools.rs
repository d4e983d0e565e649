//! The agent's pools: one for each set of settings that clients have, which is one as long as
//! nobody changes a setting.
//!
//! A pool without a connection that nobody uses is let go, and with it its guard process and its
//! directory; what it has counted stays counted.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;

use crate::agent::protocol::{Cause, Refusal, Settings};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::Host;
use crate::openssh::Resolver;
use crate::policy::{Ledger, Stats};
use crate::pool::{ConnectionInfo, Pool};

/// Pools at once: each has a process and a directory of its own.
const MOST_POOLS: usize = 32;

#[derive(Debug)]
pub(super) struct Pools {
    default: PoolConfig,
    /// What ssh has answered, for all of them.
    resolver: Arc<Resolver>,
    /// Failed logins are counted over all pools.
    ledger: Arc<Ledger>,
    /// A std mutex: held to look up or to add a pool, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pools: HashMap<Settings, Pool>,
    /// What those have counted that are gone, by `name:port`.
    gone: BTreeMap<String, Stats>,
    closed: bool,
}

impl Pools {
    pub(super) fn new(default: PoolConfig) -> Self {
        Pools { default, resolver: Arc::default(), ledger: Arc::default(), state: Mutex::default() }
    }

    pub(super) fn default(&self) -> &PoolConfig {
        &self.default
    }

    /// The pool with these settings.
    pub(super) fn get(&self, settings: Option<&Settings>) -> Result<Result<Pool, Error>, Refusal> {
        let config =
            settings.map_or_else(|| self.default.clone(), |settings| settings.over(&self.default));
        let settings = Settings::from(&config);
        let mut state = self.lock();
        if state.closed {
            return Ok(Err(Error::Closed { host: "agent".to_owned() }));
        }
        if let Some(pool) = state.pools.get(&settings) {
            return Ok(Ok(pool.clone()));
        }
        if state.pools.len() >= MOST_POOLS {
            state.sweep();
        }
        if state.pools.len() >= MOST_POOLS {
            let message = format!("more than {MOST_POOLS} different settings at once");
            return Err(Refusal::new(Cause::TooMany, message));
        }
        let pool = Pool::for_others(config, Arc::clone(&self.resolver), Arc::clone(&self.ledger));
        if let Ok(pool) = &pool {
            state.pools.insert(settings, pool.clone());
        }
        Ok(pool)
    }

    fn all(&self) -> Vec<Pool> {
        self.lock().pools.values().cloned().collect()
    }

    /// What all of them have counted.
    pub(super) fn stats(&self) -> Stats {
        let state = self.lock();
        state.gone.values().copied().chain(state.pools.values().map(Pool::stats)).sum()
    }

    /// By `name:port`.
    pub(super) fn stats_by_host(&self) -> BTreeMap<String, Stats> {
        let state = self.lock();
        let mut all = state.gone.clone();
        for pool in state.pools.values() {
            add(&mut all, pool);
        }
        all
    }

    pub(super) fn connections(&self) -> Vec<ConnectionInfo> {
        let mut all: Vec<_> = self.all().iter().flat_map(Pool::connections).collect();
        all.sort_by(|a, b| (&a.host, a.slot).cmp(&(&b.host, b.slot)));
        all
    }

    /// Forgets logins to this host that have failed, in whatever pool.
    pub(super) fn reset(&self, host: &Host) {
        self.all().iter().for_each(|pool| pool.reset(host));
    }

    /// Closes the connections to this host's key, and gives how many there were.
    pub(super) async fn close_host(&self, host: &Host, patience: Duration) -> usize {
        let mut closed = 0;
        // Also what was counted for pools that are gone.
        self.ledger.forget(None, &host.key());
        for pool in self.all() {
            let stats = pool.stats_by_host();
            closed += stats.get(&host.key()).map_or(0, |stats| stats.total_connections);
            pool.close_host_within(host, patience).await;
        }
        closed
    }

    /// Closes all connections, and gives how many there were. The pools go on.
    pub(super) async fn close_hosts(&self, patience: Duration) -> usize {
        let (mut closed, mut closing) = (0, Vec::new());
        for pool in self.all() {
            for (key, stats) in pool.stats_by_host() {
                closed += stats.total_connections;
                let pool = pool.clone();
                closing.push(async move { pool.core().close_host(&key, patience).await });
            }
        }
        join_all(closing).await;
        closed
    }

    /// Lets go of pools that nobody uses, and of what was kept of places that nobody comes from any
    /// more.
    pub(super) fn sweep(&self) {
        self.resolver.sweep();
        self.lock().sweep();
    }

    /// Nothing is begun any more. Completes when nothing of any pool is left.
    pub(super) async fn close(&self, patience: Duration) {
        let pools: Vec<_> = {
            let mut state = self.lock();
            state.closed = true;
            state.pools.values().cloned().collect()
        };
        join_all(pools.iter().map(|pool| pool.close_within(patience))).await;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing below panics half-way through a change.
        self.state.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl State {
    fn sweep(&mut self) {
        let State { pools, gone, .. } = self;
        pools.retain(|_, pool| {
            let stats = pool.stats();
            let used = stats.total_connections + stats.connecting + stats.waiting > 0
                // Its failures are to be remembered, too.
                || pool.core().is_needed()
                || pool.is_shared();
            if !used {
                add(gone, pool);
            }
            used
        });
    }
}

fn add(all: &mut BTreeMap<String, Stats>, pool: &Pool) {
    for (key, stats) in pool.stats_by_host() {
        *all.entry(key.to_string()).or_default() += stats;
    }
}
