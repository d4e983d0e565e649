//! What is written down: of hosts, of connections, and of failed logins.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::host::{Host, HostIdentity, PoolKey};
use crate::policy::ledger::{Account, BUSY, MOST, WINDOW};
use crate::policy::tests::plan::Nature;

/// The books.
#[derive(Default)]
pub(in crate::policy::tests) struct Truth {
    pub hosts: Vec<HostTruth>,
    /// By id; they stay here after their end.
    pub connections: Vec<Facts>,
    pub violations: Vec<String>,
    /// Failed logins that count: when, and of which account.
    pub counted: Vec<Counted>,
    /// When a server last had too many logins at once of an account.
    pub crowded: Vec<(Instant, Account)>,
    pub shutdowns: usize,
    /// What logins depend on.
    pub configuration: u64,
    pub transport_gone: bool,
    /// The pool was closed for good.
    pub closed: bool,
    /// How often something happened.
    pub seen: BTreeMap<&'static str, u64>,
}

/// A failed login that counts.
pub(in crate::policy::tests) struct Counted {
    pub at: Instant,
    pub account: Account,
    /// The server took it and closed the connection, which is forgotten when something has run.
    pub is_dropped: bool,
}

/// One host: what has its own connections.
#[derive(Debug)]
pub(in crate::policy::tests) struct HostTruth {
    pub identity: HostIdentity,
    pub key: PoolKey,
    /// Connections that exist: from the end of their login until they are gone.
    pub there: Vec<usize>,
    pub logins_under_way: usize,
    /// When and to where each login was started.
    pub logins: Vec<(Instant, Option<String>)>,
    pub succeeded: u64,
    pub failed: u64,
    pub failures_in_a_row: u32,
    pub outcome: Outcome,
    /// Logins with a smaller number were under way when the host was closed: what they bring is not
    /// wanted any more.
    pub unwanted_logins: usize,
    /// Connections in a row that ended before a command of a caller had run on them, and the last
    /// of these ends.
    pub fruitless: u32,
    pub last_fruitless: Option<Instant>,
    pub account: Account,
    /// The callers that wait: when the time of each is over.
    pub asking: Vec<Instant>,
    /// When somebody has last got an answer, or gone away.
    pub last_answered: Option<Instant>,
    /// Callers, ever.
    pub asked: u64,
    pub refusals: u64,
    pub last_refusal: Option<Instant>,
    /// A session was given back, be it on a connection that has ended since.
    pub last_given_back: Option<Instant>,
    /// A caller went away: it may have had a session that it never saw.
    pub last_vanished: Option<Instant>,
    /// Somebody asked for it to be closed.
    pub last_closed: Option<Instant>,
}

/// How the last login ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::policy::tests) enum Outcome {
    /// There was none.
    None,
    Succeeded,
    Failed(Failed),
    /// It was closed at the very instant at which its time was over, and only the pool knows which
    /// of them came first.
    Uncertain,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::policy::tests) struct Failed {
    pub at: Instant,
    /// It is not worth trying again soon: surely, and perhaps. The books do not know the jitter of
    /// a pause.
    pub surely_permanent: bool,
    pub perhaps_permanent: bool,
    /// The server had too much to do. Callers may wait for it.
    pub is_busy: bool,
}

/// One connection.
#[derive(Debug)]
pub(in crate::policy::tests) struct Facts {
    pub host: usize,
    pub nature: Nature,
    pub phase: watch::Sender<Phase>,
    pub closing: bool,
    /// Nobody is to get it before it is probed.
    pub suspect: Option<Instant>,
    /// The first instant at which it was not fit for a caller any more.
    pub ended: Option<Instant>,
    /// The pool has a reason to end it other than that nobody uses it.
    pub condemned: bool,
    /// It has ended by itself.
    pub died: bool,
    /// A command of a caller has run on it.
    pub ran: bool,
    pub sessions: usize,
    /// Sessions opened ahead of need that exist and that no caller has.
    pub standbys: usize,
    /// Told when the last session ends. Only a `close` listens.
    pub unused: Arc<Notify>,
    /// It is to serve one caller at a time, and nobody while this is found out.
    pub single: bool,
    pub trying: bool,
    /// The last lease or release.
    pub used: Instant,
    /// The end of the last probe, or of the login.
    pub proven: Instant,
    pub probes: usize,
    pub probing: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy::tests) enum Phase {
    Up,
    /// Dead, but nobody has been told.
    Dead,
    Ended,
}

impl Truth {
    pub(in crate::policy::tests) fn saw(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    pub(in crate::policy::tests) fn host(&mut self, host: &Host) -> &mut HostTruth {
        let index = self.index(host);
        &mut self.hosts[index]
    }

    pub(super) fn index(&mut self, host: &Host) -> usize {
        let known = self.hosts.iter().position(|known| known.identity == *host.identity());
        known.unwrap_or_else(|| {
            self.hosts.push(HostTruth::new(host));
            self.hosts.len() - 1
        })
    }

    pub(super) fn counts(&mut self, account: Account, is_dropped: bool) {
        let now = Instant::now();
        self.counted.push(Counted { at: now, account: account.clone(), is_dropped });
        let mut of_account = self.counted.iter().rev().filter(|counted| counted.account == account);
        if of_account.nth(MOST).is_some_and(|counted| now < counted.at + WINDOW) {
            self.violations
                .push(format!("more than {MOST} failed logins to {account} in {WINDOW:?}"));
        }
    }

    /// So many failures of accounts of this key, or so little room on their servers, that a login
    /// may have to wait, with so many under way.
    pub(in crate::policy::tests) fn is_used_up(&self, key: &PoolKey, under_way: usize) -> bool {
        let now = Instant::now();
        let of_key: Vec<&Account> =
            self.hosts.iter().filter(|host| host.key == *key).map(|host| &host.account).collect();
        let counted = self.counted.iter().filter(|counted| of_key.contains(&&counted.account));
        let logs_in = |account: &Account| {
            self.hosts.iter().any(|host| host.account == *account && host.logins_under_way > 0)
        };
        let crowded = self
            .crowded
            .iter()
            .any(|(at, account)| now < *at + BUSY && of_key.contains(&account) && logs_in(account));
        counted.count() + under_way >= MOST || crowded
    }

    /// Connections that exist.
    pub(in crate::policy::tests) fn there(&self) -> usize {
        self.hosts.iter().map(|host| host.there.len()).sum()
    }

    pub(in crate::policy::tests) fn there_of(&self, key: &PoolKey) -> Vec<usize> {
        let hosts = self.hosts.iter().filter(|host| host.key == *key);
        hosts.flat_map(|host| host.there.iter().copied()).collect()
    }

    pub(in crate::policy::tests) fn logins_under_way(&self) -> usize {
        self.hosts.iter().map(|host| host.logins_under_way).sum()
    }

    pub(in crate::policy::tests) fn logins(
        &self,
    ) -> impl Iterator<Item = &(Instant, Option<String>)> {
        self.hosts.iter().flat_map(|host| &host.logins)
    }
}

impl HostTruth {
    fn new(host: &Host) -> Self {
        HostTruth {
            identity: host.identity().clone(),
            key: host.key(),
            there: Vec::new(),
            logins_under_way: 0,
            logins: Vec::new(),
            succeeded: 0,
            failed: 0,
            failures_in_a_row: 0,
            outcome: Outcome::None,
            unwanted_logins: 0,
            fruitless: 0,
            last_fruitless: None,
            account: Account::of(host),
            asking: Vec::new(),
            last_answered: None,
            asked: 0,
            refusals: 0,
            last_refusal: None,
            last_given_back: None,
            last_vanished: None,
            last_closed: None,
        }
    }
}

impl HostTruth {
    /// What has failed may be tried at once.
    pub(in crate::policy::tests) fn forgets_failures(&mut self) {
        if let Outcome::Failed(_) = self.outcome {
            self.outcome = Outcome::None;
        }
    }
}

impl Facts {
    pub(in crate::policy::tests) fn was_ended_by_server(&self) -> bool {
        self.died && self.nature.by_server
    }

    pub(in crate::policy::tests) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }
}
