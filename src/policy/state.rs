//! The state of one pool key: its slots and its tenants. Plain data and plain functions: no locks,
//! no tasks, no clock.
//!
//! A tenant is one identity of the key: callers who may share connections with each other, and with
//! nobody else. Each has a queue and a last failure of its own. The slots belong to the key:
//! `max_connections` holds for all tenants together.
//!
//! After every change the owner calls [`KeyState::settle`], which is the only place that decides.
//! It gives free sessions to waiters, first come first served; starts as many logins as the queues
//! need; and turns away those who cannot be served. So nothing is forgotten as long as every change
//! is followed by a `settle`, and that is what `Cell::update` is for.

mod callers;
mod facts;
mod fruitless;
mod leases;
mod pace;
mod sessions;
mod settle;
mod slot;
mod standby;
mod task;
mod tenant;
mod transition;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::cell::Lease;
use super::ledger::{Ledger, Place, Wake};
use super::standby::Standby;
use super::{Stats, Transport};
use crate::config::PoolConfig;
use crate::error::Error;
use crate::host::{Caller, Host, HostIdentity, PoolKey, Variables};
use crate::transport::Sessions;
pub(crate) use facts::Facts;
use sessions::Server;
use slot::{Ready, SlotState};
use tenant::{Tenant, TenantId};

/// How long commands may still run on a connection that the pool closes though it may still work.
/// Such a connection was idle, but another process may use its socket; or it has failed a check or
/// one command, and its other commands may succeed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The place of a waiter in the order in which all of a key have come.
type Ticket = u64;

pub(super) struct Waiter<T: Transport> {
    /// Gets the lease or the refusal. A lease that finds no receiver is dropped there, and so given
    /// back.
    sender: oneshot::Sender<Result<Lease<T>, Error>>,
    deadline: Instant,
    ticket: Ticket,
    /// When it came.
    since: Instant,
    /// The variables that its session sends to the server.
    variables: Arc<Variables>,
    caller: Caller,
}

/// One session on one connection, counted; to be wrapped into a [`Lease`] at once.
pub(super) struct Grant<C> {
    pub slot: usize,
    pub generation: u64,
    pub connection: Arc<C>,
    /// When it was given.
    pub since: Instant,
    /// For how long nothing was heard of the connection.
    pub silent_for: Duration,
}

/// What the owner has to do after a `settle`, outside the lock.
pub(super) enum Action<T: Transport> {
    Grant(oneshot::Sender<Result<Lease<T>, Error>>, Grant<T::Connection>),
    Refuse(oneshot::Sender<Result<Lease<T>, Error>>, Error),
    Connect {
        slot: usize,
        host: Box<Host>,
        place: Place,
        /// What is known of its server.
        sessions: Sessions,
        retired: mpsc::UnboundedReceiver<Duration>,
    },
    /// Open sessions ahead of need.
    Standby {
        slot: usize,
        generation: u64,
        connection: Arc<T::Connection>,
        count: usize,
        variables: Arc<Variables>,
    },
    /// Find out whether the server opens another session on this connection.
    Try {
        slot: usize,
        generation: u64,
        connection: Arc<T::Connection>,
        identity: HostIdentity,
    },
    /// Sessions that nobody needs any more, to be dropped.
    Discard(Vec<Standby<T::Connection>>),
    /// Settle again at this instant: a caller waits for a pause or a rest to end.
    SettleAt(Instant),
}

pub(super) struct KeyState<T: Transport> {
    key: PoolKey,
    slots: Vec<SlotState<T::Connection>>,
    /// In boxes: a node has room for eleven, and most hosts have one.
    tenants: BTreeMap<TenantId, Box<Tenant<T>>>,
    by_identity: HashMap<HostIdentity, TenantId>,
    /// Servers of which something was learned.
    servers: HashMap<HostIdentity, Server>,
    /// The tenants that have callers in their queues.
    queued: BTreeSet<TenantId>,
    /// A caller has left its queue unserved.
    has_left: bool,
    /// Tenants that may have become needless.
    quiet: Vec<TenantId>,
    /// When there are this many tenants, the state looks for those that it can forget.
    crowd: usize,
    /// Whether some connection makes room for another tenant.
    yielding: bool,
    closed: bool,
    next_tenant: TenantId,
    next_ticket: Ticket,
    next_generation: u64,
    /// How many connections were closed, ever.
    closings: u64,
    /// The slot where sessions in standby are to be opened, unless a caller needs its connection.
    refill: Option<usize>,
    discarded: Vec<Standby<T::Connection>>,
    /// The earliest `SettleAt` that was asked for and has not come.
    alarm: Option<Instant>,
    ledger: Arc<Ledger>,
    /// The cell of this key, which the ledger wakes when there may be a place for a login.
    waits: Weak<dyn Wake>,
    /// The last connections that ended young while a caller had a lease. Whether its command ran is
    /// not known yet.
    doubts: VecDeque<(u64, TenantId)>,
    /// Counters only. The gauges are computed when the statistics are asked for.
    counters: Stats,
}

impl<T: Transport> KeyState<T> {
    pub(super) fn new(
        key: PoolKey,
        config: &PoolConfig,
        ledger: Arc<Ledger>,
        waits: Weak<dyn Wake>,
    ) -> Self {
        KeyState {
            key,
            slots: (0..config.max_connections).map(|_| SlotState::Empty).collect(),
            tenants: BTreeMap::new(),
            by_identity: HashMap::new(),
            servers: HashMap::new(),
            queued: BTreeSet::new(),
            has_left: false,
            quiet: Vec::new(),
            crowd: 0,
            yielding: false,
            closed: false,
            next_tenant: 0,
            next_ticket: 0,
            next_generation: 0,
            closings: 0,
            refill: None,
            discarded: Vec::new(),
            alarm: None,
            ledger,
            waits,
            doubts: VecDeque::new(),
            counters: Stats::default(),
        }
    }

    /// The alarm of this instant has rung or was lost.
    pub(super) fn forget_alarm(&mut self, instant: Instant) {
        self.alarm = self.alarm.filter(|alarm| *alarm != instant);
    }

    pub(super) fn counters(&mut self) -> &mut Stats {
        &mut self.counters
    }

    fn ready_ones(&self) -> impl Iterator<Item = (usize, &Ready<T::Connection>)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            SlotState::Ready(ready) => Some((index, ready)),
            _ => None,
        })
    }

    fn ready(&mut self, slot: usize, generation: u64) -> Option<&mut Ready<T::Connection>> {
        match &mut self.slots[slot] {
            SlotState::Ready(ready) if ready.generation == generation => Some(ready),
            _ => None,
        }
    }
}
