//! The agent's pools: one for each set of settings that clients have, which is one as long as nobody changes a setting.
//!
//! A pool without a connection that nobody uses is let go; what it has counted stays counted.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::future::join_all;

use super::wire::Settings;
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::Host;
use crate::pool::Stats;
use crate::public::{ConnectionInfo, Pool};

#[derive(Debug)]
pub(super) struct Pools {
    default: PoolConfig,
    /// A std mutex: held to look up or to add a pool, never across an await.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pools: HashMap<Settings, Pool>,
    /// What those have counted that are gone.
    gone: Stats,
    closed: bool,
}

impl Pools {
    pub(super) fn new(default: PoolConfig) -> Self {
        Pools { default, state: Mutex::default() }
    }

    pub(super) fn default(&self) -> &PoolConfig {
        &self.default
    }

    /// The pool with these settings.
    pub(super) fn get(&self, settings: Option<&Settings>) -> Result<Pool, Error> {
        let settings = settings.cloned().unwrap_or_else(|| (&self.default).into());
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed { host: "agent".to_owned() });
        }
        if let Some(pool) = state.pools.get(&settings) {
            return Ok(pool.clone());
        }
        let pool = Pool::new(settings.config())?;
        state.pools.insert(settings, pool.clone());
        Ok(pool)
    }

    fn all(&self) -> Vec<Pool> {
        self.lock().pools.values().cloned().collect()
    }

    /// What all of them have counted.
    pub(super) fn stats(&self) -> Stats {
        let state = self.lock();
        let mut all = state.gone;
        for pool in state.pools.values() {
            all += pool.stats();
        }
        all
    }

    /// By `name:port`, of those that are there.
    pub(super) fn stats_by_host(&self) -> std::collections::BTreeMap<String, Stats> {
        let mut all = std::collections::BTreeMap::new();
        for pool in self.all() {
            for (key, stats) in pool.stats_by_host() {
                *all.entry(key.to_string()).or_default() += stats;
            }
        }
        all
    }

    pub(super) fn connections(&self) -> Vec<ConnectionInfo> {
        let mut all: Vec<_> = self.all().iter().flat_map(Pool::connections).collect();
        all.sort_by(|a, b| (&a.host, a.slot).cmp(&(&b.host, b.slot)));
        all
    }

    /// Closes the connections to this host's key, and gives how many there were.
    pub(super) async fn close_host(&self, host: &Host, patience: Duration) -> usize {
        let mut closed = 0;
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

    /// Lets go of pools that nobody uses.
    pub(super) fn sweep(&self) {
        let mut state = self.lock();
        let State { pools, gone, .. } = &mut *state;
        pools.retain(|_, pool| {
            let stats = pool.stats();
            // The default one is likely to be wanted again, and costs nothing as long as it has not connected.
            let used = stats.total_connections + stats.connecting + stats.waiting > 0 || pool.is_shared();
            if !used {
                *gone += stats;
            }
            used
        });
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
